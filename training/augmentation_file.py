"""The file of `--augmentation FILE`: every number of the augmentation, in JSON.

It holds fields of `transforms.Augmentation` and "base", the name of the augmentation that has the others (default:
full): {"base": "light", "expand": 2, "expand_probability": 0.3}. Imports no TensorFlow.
"""

import dataclasses
from typing import Any

import transforms
from structures import UserError
from system import files
from system.wording import shorten

BASE = "base"


def read(path: str) -> transforms.Augmentation:
    """The Augmentation that a file describes. Raises UserError that names the file and what is wrong in it."""
    values = files.read_json(path)
    base = values.pop(BASE, "full")
    if base not in list(transforms.AUGMENTATIONS):  # a list cannot be looked up in a dict
        raise _wrong(path, BASE, base, f"be one of {', '.join(transforms.AUGMENTATIONS)}")
    chosen = transforms.AUGMENTATIONS[base]
    known = dataclasses.asdict(transforms.Augmentation())  # not those of the base, where numbers may happen to be whole
    if unknown := sorted(values.keys() - known.keys()):
        raise UserError(f"{path}: {unknown[0]!r} is unknown; the names are {', '.join([BASE, *known])}")
    changes: dict[str, Any] = {}
    for name, value in values.items():
        must = _requirement(name, value, known[name])
        if must:
            raise _wrong(path, name, value, must)
        changes[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(chosen, **changes)


def _wrong(path, name, value, must):
    return UserError(f"{path}: {name!r} is {shorten(value)}; it must {must}")


def _requirement(name, value, example):
    """What a value must be, None if it is. example: a good one."""
    if isinstance(example, bool):
        return None if isinstance(value, bool) else "be true or false"
    if not isinstance(example, tuple):
        return None if _in_range(name, value, example) else f"be {_range(name, example)}"
    length = transforms.LENGTHS.get(name)
    if not isinstance(value, list) or not value or length not in (None, len(value)):
        return f"be a list of {length or 'one or more'} entries"
    if name == "interpolations":
        good = all(isinstance(one, str) and one in transforms.INTERPOLATIONS for one in value)
        return None if good else f"have names of {', '.join(transforms.INTERPOLATIONS)}"
    if not all(_in_range(name, one, example[0]) for one in value):
        return f"have entries that are {_range(name, example[0])}"
    if length and value[0] > value[1]:
        return "have the smaller number first"
    if name == "crop_ratio" and not value[0] <= 1 <= value[1]:
        return "have 1 between its two numbers"
    return None


def _in_range(name, value, example):
    kinds = int if isinstance(example, int) else (int, float)
    low, high = transforms.RANGES.get(name, (0, 1))
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return number and low <= value <= high


def _range(name, example):
    low, high = transforms.RANGES.get(name, (0, 1))
    return f"a {'whole ' if isinstance(example, int) else ''}number from {low} to {high}"
