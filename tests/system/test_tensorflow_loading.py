"""TensorFlow as the programs import it."""

import os
import subprocess
import sys

import pytest

from programs import ROOT


@pytest.mark.parametrize(("wish", "found"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_programs_use_onednn_unless_told_otherwise(wish, found):
    program = "import os; from system import tensorflow_loading; tensorflow_loading.import_tensorflow(); "
    program += "print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    settings = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"} | wish
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.stdout.strip() == found, done.stderr
