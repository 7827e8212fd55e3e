"""Ctrl-C while a program starts: in the imports of its own modules, and in that of TensorFlow, which takes long."""

import os
import signal
import subprocess
import sys

import pytest

from programs import ROOT, TINY, fresh_environment
from system import cli, environment, signals

PROGRAMS = [*(f"{name}.py" for name in environment.PROGRAMS), "recipes/bccd.py", "toy_road"]
PRESSED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
ACKNOWLEDGED = "\nCtrl-C: stopping after this step; press it again to stop now and lose what is not saved\n"
# What train.py and others need of it until they look at the request
TENSORFLOW = PRESSED + "class logging:\n    ERROR = 0\n    set_verbosity = print\n"


def start(words, folder, modules, **options):
    """Run a Python in which modules, {path: text}, stand in the place of real ones; returns the CompletedProcess."""
    for name, text in modules.items():
        path = folder / "modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    settings = {"cwd": ROOT, "env": fresh_environment(PYTHONPATH=str(folder / "modules")), "timeout": 300}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **settings, **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_in_the_imports_of_a_program_is_one_line(program, tmp_path):
    where = ["-m", program] if program == "toy_road" else [program]
    done = start(where, tmp_path, {"numpy/__init__.py": PRESSED + "import time\ntime.sleep(60)\n"})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    """As of a program in the background of a shell."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    done = start(["train.py", "--help"], tmp_path, {"numpy/__init__.py": PRESSED + "raise SystemExit(7)"}, **ignore)
    assert (done.returncode, done.stderr) == (7, "")


def test_ctrl_c_of_who_imports_a_program_is_its_own(tmp_path):
    code = f"import signal, sys\nsys.path.insert(0, {str(ROOT)!r})\nimport train, recipe\n"
    code += "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    (tmp_path / "host.py").write_text(code, "utf-8")
    for where in (["-c", code], [str(tmp_path / "host.py")]):
        done = start(where, tmp_path, {"recipe.py": "import system.environment"})
        assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_runs_is_interrupted_by_an_exception(capsys):
    """And no longer ended at once."""
    received = []

    def main():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            received.append(True)

    signals.end_at_interrupt()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(SystemExit):
        cli.run(main)
    assert received == [True]


@pytest.fixture
def tensorflow():
    """A package in the place of TensorFlow, during whose import Ctrl-C is pressed."""
    name = "tensorflow/compat/v1.py"
    return {"tensorflow/__init__.py": "", "tensorflow/compat/__init__.py": "", name: TENSORFLOW}


def commands(shapes, folder):
    """{name: words of programs that import TensorFlow}."""
    model, picture = folder / "model.pb", next((shapes / "JPEGImages").iterdir())
    model.write_bytes(b"")
    training = ["train.py", "--data", shapes, "--train", "train", *TINY, "--run", folder / "run"]
    return {
        "train": training,
        "find the rate": [*training, "--find-rate"],
        "infer": ["infer.py", model, picture, "--output", folder / "found"],
        "film": ["process_video.py", model, shapes / "JPEGImages", folder / "film.mp4"],
    }


@pytest.mark.parametrize("name", ["train", "find the rate", "infer", "film"])
def test_ctrl_c_while_tensorflow_is_imported_is_acknowledged_and_heeded(name, shapes, tensorflow, tmp_path):
    done = start(list(map(str, commands(shapes, tmp_path)[name])), tmp_path, tensorflow)
    assert done.returncode == 130 and done.stderr.endswith(ACKNOWLEDGED + "interrupted\n"), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["model.pb", "modules"]


def test_an_interrupted_import_of_tensorflow_shows_none_of_its_messages(tensorflow, tmp_path):
    """They explain a failure."""
    tensorflow["tensorflow/__init__.py"] = "import os\nos.write(2, b'no GPU is found\\n')\n"
    program = ["-c", "from system import cli, tensorflow_loading as loading; cli.run(loading.import_tensorflow)"]
    done = start(program, tmp_path, tensorflow)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    tensorflow["tensorflow/compat/v1.py"] = "import no_such_module"
    done = start(program, tmp_path, tensorflow)
    assert done.returncode == 1 and done.stderr.startswith("no GPU is found\nTraceback")
