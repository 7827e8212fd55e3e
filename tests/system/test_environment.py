"""Every program without its packages, in a Python that has only the standard library."""

import os
import re
import subprocess
import sys
import types

import pytest

import test_rooms
from programs import ROOT
from system import environment

FILES = sorted(path.name for path in ROOT.glob("*.py") if 'if __name__ == "__main__"' in path.read_text("utf-8"))
RECIPES = sorted(
    f"recipes/{path.name}"
    for path in (ROOT / "recipes").glob("*.py")
    if 'if __name__ == "__main__"' in path.read_text("utf-8")
)


BENCHMARKS = [f"benchmarks/{name}.py" for name in ("bench", "gpu", "learning", "parity")]


@pytest.mark.parametrize("program", [*FILES, *RECIPES, *BENCHMARKS, "toy_road"])
def test_a_program_without_its_packages_names_the_command_that_brings_them(program):
    where = ["-m", program] if program == "toy_road" else [program]
    # Without site neither the environment's nor the system's packages are found
    done = subprocess.run([sys.executable, "-E", "-S", *where], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    line = done.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith("error: ") and "cv2" in line and ".venv" in line


def test_others_may_import_a_program_with_fewer_packages():
    code = "import sys; sys.modules['av'] = None; import average_precision, pretrained"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("started", "is_program"),
    [
        ("train.py", True),
        ("recipes/bccd.py", True),
        ("toy_road/__main__.py", True),
        ("mine.py", False),
        ("tests/program_server.py", False),
        (None, False),
    ],
)
def test_programs_are_told_from_other_files(started, is_program, monkeypatch):
    main = types.SimpleNamespace(**({"__file__": str(ROOT / started)} if started else {}))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(ROOT / "docs")
    assert environment.is_program() == is_program


def test_packages_of_another_environment_are_named_with_its_command():
    with pytest.raises(SystemExit, match=r"^error: .* has no no_such_peer; first run: make parity$"):
        environment.stop_without(("sys", "no_such_peer"), "make parity")


def test_all_programs_are_tried():
    assert {"train.py", "infer.py", "average_precision.py", "demo.py"} <= set(FILES)
    assert "recipes/bccd.py" in RECIPES
    assert [f"{name}.py" for name in environment.PROGRAMS] == FILES


def test_the_packages_are_those_that_modules_import():
    used = {
        one.module.split(".")[0]
        for path in test_rooms.MODULES.values()
        for one in test_rooms.imports(path.read_text("utf-8"))
    }
    ours = {name.split(".")[0] for name in test_rooms.MODULES} | {path.parent.name for path in ROOT.glob("*/*.py")}
    others = {"pillow_heif", "google", "pyarrow", "fsspec"}  # is optional; comes with TensorFlow; come with Ray
    for name in ("requirements-export.txt", "requirements-scale.txt"):
        others |= set(re.findall(r"^(\w+)[>=\[]", (ROOT / name).read_text("utf-8"), re.MULTILINE))
    assert set(environment.PACKAGES) == used - ours - others - set(sys.stdlib_module_names) - {"torch", "?", ""}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with nothing but requirements.txt, which is the current one."""
    (tmp_path / "requirements.txt").write_text("numpy\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_an_environment_it_is_made(project):
    assert environment.remedy(str(project), "/usr") == "make .venv/.installed && source .venv/bin/activate"


def test_an_unfinished_environment_is_finished(project):
    (project / ".venv").mkdir()
    remedy = environment.remedy(str(project), str(project / ".venv"))
    assert remedy == "make .venv/.installed && source .venv/bin/activate"


def test_a_finished_environment_is_activated(project):
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()
    assert environment.remedy(str(project), "/usr") == "source .venv/bin/activate"
    # In it, and still something is missing
    inside = environment.remedy(str(project), str(project / ".venv"))
    assert inside == "python -m pip install -r requirements.txt"


def test_commands_work_from_another_folder(project, monkeypatch):
    (project / "else where").mkdir()
    monkeypatch.chdir(project / "else where")
    remedy = environment.remedy(str(project), "/usr")
    assert remedy == f"make -C {project} .venv/.installed && source {project}/.venv/bin/activate"
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()
    remedy = environment.remedy(str(project), str(project / ".venv"))
    assert os.path.exists(remedy.rpartition(" ")[2])
