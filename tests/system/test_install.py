"""What is shown of pip's work."""

import subprocess
import sys

from programs import ROOT
from system import install

# As pip 23.2 writes to a pipe
LINES = """Looking in indexes: https://pypi.org/simple
Collecting tqdm>=4.66 (from -r requirements.txt (line 6))
  Obtaining dependency information for tqdm>=4.66 from https://files.pythonhosted.org/packages/a/tqdm.whl.metadata
  Downloading tqdm-4.70.1-py3-none-any.whl.metadata (57 kB)
Collecting tensorflow<2.22,>=2.16
  Downloading tensorflow-2.21.0-cp311-cp311-manylinux_2_17_x86_64.whl (645.0 MB)
Requirement already satisfied: pip in ./lib
Collecting pyyaml
  Using cached pyyaml-6.0.4-cp311-cp311-manylinux2014_x86_64.whl (828 kB)
Installing collected packages: tqdm, pyyaml, tensorflow
Successfully installed pyyaml-6.0.4 tensorflow-2.21.0 tqdm-4.70.1
""".splitlines()


def test_steps_name_what_takes_time():
    assert list(install.steps(LINES)) == [
        "looking up tqdm>=4.66",
        "looking up tensorflow<2.22,>=2.16",
        "package 1: downloading tensorflow-2.21.0, 645.0 MB",
        "looking up pyyaml",
        "unpacking tqdm, pyyaml, tensorflow",
    ]


def test_a_terminal_shows_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    install.show(["looking up a", "x" * 200])
    out = capsys.readouterr().out
    assert "\n" not in out and out.endswith("\r\033[K")
    assert "x" * 78 in out and "x" * 79 not in out  # a longer line would wrap


def run_install(path):
    command = [sys.executable, "-m", "system.install", path]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_what_is_there_is_not_fetched(tmp_path):
    (tmp_path / "some.txt").write_text("pip\n", "utf-8")
    done = run_install(tmp_path / "some.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "installed"


def test_a_failure_is_pips(tmp_path):
    (tmp_path / "some.txt").write_text("--no-index\nno_such_package_here\n", "utf-8")
    done = run_install(tmp_path / "some.txt")
    assert done.returncode == 1
    assert "no_such_package_here" in done.stderr
    assert "installed\n" not in done.stdout
