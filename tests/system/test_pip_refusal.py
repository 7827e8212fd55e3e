"""`pip install .` says what to do instead."""

import subprocess
import sys

import pytest

from programs import ROOT
from system import pip_refusal


@pytest.mark.parametrize("how", [["."], ["-e", "."], ["--no-build-isolation", "."]], ids=" ".join)
def test_pip_installs_nothing_and_shows_the_command(how, tmp_path):
    # Without an index: it fails before it looks for anything. Were it to install, then into the empty folder
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--target", tmp_path / "site", *how]
    done = subprocess.run(pip, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Successfully" not in done.stdout
    assert not (tmp_path / "site").exists()
    shown = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "make .venv/.installed" in line]
    assert shown == [pip_refusal.MESSAGE]


def test_make_knows_the_command():
    done = subprocess.run(["make", "-n", ".venv/.installed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
