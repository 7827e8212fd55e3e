"""Importing this module imports TensorFlow without its start-up messages, as the programs do.

It is the first import of the modules that a user's own program may import first, ahead of their `import tensorflow`.
"""

import sys

from system import tensorflow_loading

if "tensorflow" not in sys.modules:
    tensorflow_loading.import_tensorflow()
