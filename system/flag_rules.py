"""Flags that belong together, or to the files that a program reads."""

import argparse
import os
from collections.abc import Iterable, Mapping

from structures import UserError


def refuse_given(flags: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Raise UserError if a flag was given that has no meaning in this call. names: of attributes; None: not given."""
    for name in names:
        if getattr(flags, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")


def set_absent(flags: argparse.Namespace, defaults: Mapping[str, object]) -> None:
    """Give flags that were not given, which are None, their defaults: {attribute: value}."""
    for name, default in defaults.items():
        if getattr(flags, name) is None:
            setattr(flags, name, default)


def refuse_to_replace(flag: str, path: str | None, read: Iterable[str]) -> None:
    """Raise UserError if the file that a flag writes is one that the program reads. path: None without the flag."""
    if path is not None and os.path.realpath(path) in map(os.path.realpath, read):
        raise UserError(f"{flag} {path}: would replace what is read; give another name")


def check_new_folder(flag: str, path: str, data: str, may_replace: bool = False) -> None:
    """Raise UserError unless the folder of a flag is new or empty, and neither in nor around the data set.

    may_replace: whether what it holds is the program's own, and will be replaced.
    """
    new, old = os.path.realpath(path), os.path.realpath(data)
    if os.path.commonpath([new, old]) in (new, old):
        raise UserError(f"{flag} {path}: it is inside --data {data} or contains it; choose another place")
    if os.path.exists(path) and not may_replace and (not os.path.isdir(path) or os.listdir(path)):
        raise UserError(f"{flag} {path}: it exists and is not an empty folder; choose another name")
