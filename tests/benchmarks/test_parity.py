"""benchmarks/parity.py refuses wrong flags before it compares anything; these tests need no peers."""

import subprocess
import sys

import pytest

from programs import ROOT

# The peers' packages, and what is written with them, are replaced: they have an environment of their own
PARSE = """
import sys
from unittest import mock
sys.path.insert(0, "benchmarks")
import bench_environment
bench_environment.require_peers = lambda: None
peers = ("torch", "torchvision", "safetensors", "safetensors.torch", "parity_peers", "parity_vgg", "parity_coco")
sys.modules.update({name: mock.MagicMock() for name in (*peers, "detector")})
from system import cli, tensorflow_loading
tensorflow_loading.import_tensorflow = lambda: None
import parity
cli.run(lambda: parity._parse(sys.argv[1:]))
"""


@pytest.mark.parametrize("flag", ["--output", "--rows"])
def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path, flag):
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", PARSE, flag]
    for path, code in ((tmp_path / "new" / "a", 0), (tmp_path / "file" / "a", 1)):
        done = subprocess.run([*command, str(path)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert done.stderr.startswith(f"error: {flag}: ") and len(done.stderr.splitlines()) == 1
