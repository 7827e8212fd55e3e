"""Importing this module ends a program with one line where the packages of requirements.txt are not there.

So does Ctrl-C from here on, until `cli.run` takes over. It is the first import of every program, ahead of all that
imports such a package or takes long, and needs the standard library only. Its section of imports is named in
pyproject.toml, so that sorting keeps it first.
"""

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence

from system import signals

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# What requirements.txt brings, by the names of the modules
PACKAGES = ("numpy", "cv2", "tensorflow", "tqdm", "matplotlib", "PIL", "yaml", "av", "h5py")
# Of the files in ROOT; others are the user's own, which may import a program
PROGRAMS = (
    *("average_precision", "benchmark_model", "check_dataset", "convert_dataset", "demo", "export_model", "infer"),
    *("infer_many", "pretrained", "process_video", "train"),
)


def missing(packages: Sequence[str] = PACKAGES) -> list[str]:
    """The packages that this Python does not have. None is imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def remedy(root: str, prefix: str) -> str:
    """The command that brings the packages. root: the project's folder; prefix: sys.prefix of this Python.

    The environment is root/.venv, of the Makefile: finished if it holds the file .installed.
    """
    folder = os.path.join(root, ".venv")
    here = os.path.realpath(root) == os.path.realpath(os.curdir)
    make = "make" if here else f"make -C {shlex.quote(root)}"
    activate = f"source {shlex.quote('.venv/bin/activate' if here else os.path.join(folder, 'bin', 'activate'))}"
    if not os.path.exists(os.path.join(folder, ".installed")):
        return f"{make} .venv/.installed && {activate}"
    if os.path.realpath(prefix) != os.path.realpath(folder):
        return activate
    return f"python -m pip install -r {shlex.quote(os.path.relpath(os.path.join(root, 'requirements.txt')))}"


def is_program() -> bool:
    """Whether a program of the project was started, and not something else that imports its module."""
    started = getattr(sys.modules["__main__"], "__file__", None)  # None in a notebook
    folder, name = os.path.split(os.path.realpath(started or os.devnull))
    if folder == ROOT:
        return os.path.splitext(name)[0] in PROGRAMS
    return folder in (os.path.join(ROOT, "recipes"), os.path.join(ROOT, "toy_road"))


def prepare() -> None:
    """Have Ctrl-C end a program with one line, and require its packages.

    Does nothing where a program's module is imported by something else: Ctrl-C is its own, and the peer of a benchmark
    has fewer packages.
    """
    if is_program():
        signals.end_at_interrupt()
        stop_without(PACKAGES)


def stop_without(packages: Sequence[str], command: str | None = None) -> None:
    """Exit with code 1 and a line on stderr unless all packages are there.

    command: what brings them, by default `remedy`.
    """
    if lacking := missing(packages):
        command = command or remedy(ROOT, sys.prefix)
        sys.exit(f"error: {sys.executable} has no {', '.join(lacking)}; first run: {command}")


prepare()
