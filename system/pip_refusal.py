"""Makes `pip install` of this repository fail with the command to use instead: it is cloned and run, not installed.

pyproject.toml names this module as the build backend (PEP 517, PEP 660). pip calls its hooks before it fetches
anything, and shows what they print in a frame of its own. They need the standard library only.
"""

import sys

MESSAGE = (
    "error: ssd-tensorflow is run from its clone and cannot be installed; in the folder of the clone run: "
    "make .venv/.installed && source .venv/bin/activate (or, in an environment of your own: "
    "pip install -r requirements.txt)"
)


def _refuse(*_, **__):
    sys.exit(MESSAGE)


# pip asks the first three before it builds, other tools the last three at once
get_requires_for_build_wheel = get_requires_for_build_editable = get_requires_for_build_sdist = _refuse
build_wheel = build_editable = build_sdist = _refuse
