"""Importing this module ends a program with one line where the packages of requirements.txt are not there.

It is the first import of every program, ahead of all that imports such a package, and itself imports the standard
library only. Its section of imports is named in pyproject.toml, so that sorting keeps it first.
"""

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# What requirements.txt brings, by the names of the modules
PACKAGES = ("numpy", "cv2", "tensorflow", "tqdm", "matplotlib", "PIL", "yaml", "av", "h5py")


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


def require() -> None:
    """Exit with code 1 and a line on stderr that names the command to run, unless all packages are there.

    Does nothing where a program's module is imported by something else: the peer of a benchmark has fewer packages.
    """
    started = os.path.realpath(getattr(sys.modules["__main__"], "__file__", None) or "")
    if os.path.dirname(started) not in (ROOT, os.path.join(ROOT, "recipes"), os.path.join(ROOT, "toy_road")):
        return
    stop_without(PACKAGES)


def stop_without(packages: Sequence[str], command: str | None = None) -> None:
    """Exit with code 1 and a line on stderr unless all packages are there.

    command: what brings them, by default `remedy`.
    """
    if lacking := missing(packages):
        command = command or remedy(ROOT, sys.prefix)
        sys.exit(f"error: {sys.executable} has no {', '.join(lacking)}; first run: {command}")


require()
