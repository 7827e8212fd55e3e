"""Importing this module imports TensorFlow without its start-up messages, as `cli.import_tensorflow` does.

It is the first import of the modules that a user's own program may import first, ahead of their `import tensorflow`.
"""

import sys

from system import cli

if "tensorflow" not in sys.modules:
    cli.import_tensorflow()
