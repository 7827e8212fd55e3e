"""The folders of the project itself: its code, and what can be made or downloaded again."""

import os

# Of the project. Not from system.environment, which only programs import: parts of the project need fewer packages
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE_VARIABLE = "SSD_TENSORFLOW_CACHE"  # environment variable that names another cache folder


def cache_folder() -> str:
    """The absolute path of the folder for what can be made or downloaded again; it may not exist yet."""
    home = os.path.join(os.path.expanduser("~"), ".cache", "ssd-tensorflow")
    return os.path.abspath(os.environ.get(CACHE_VARIABLE) or home)
