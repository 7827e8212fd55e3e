"""Whether what a JSON file holds has the types and ranges that its reader relies on.

A schema is a type hint as Python has it: `float` (also a whole number), `int`, `str`, `bool`, `None`, `list[int]`,
`tuple[float, ...]`, `dict[str, float]`, `int | None`, `dict` and `list` of anything, or a dataclass, of which a JSON
object has some of the fields and those without default. `limits` has more to say of fields by their names.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from structures import UserError
from system.wording import shorten

LARGEST_WHOLE = 1 << 53  # to which a float, as other programs read numbers, is exact
# Of random numbers: the time in nanoseconds is a usual one, and only this project reads it
LARGEST_SEED = (1 << 63) - 1


class Limits(NamedTuple):
    """What values of a field may be.

    low, high: of each number in it. length: of the outermost list or object, least and most. choices: texts, or None
    for any.
    """

    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    length: tuple[int, int] = (0, 10_000_000)
    choices: Collection[str] | None = None


ANY = Limits()


def check(
    path: str,
    value: Any,
    hint: Any,
    limits: Mapping[str, Limits] | None = None,
    remedy: str = "correct the file",
    own: Limits = ANY,
) -> None:
    """Raise UserError, one line that names the file and the value, unless `value` is what `hint` and `limits` say.

    path: of the file, perhaps with a place in it. limits: by name of a field, of dataclasses at any depth. remedy: what
    the user can do. own: of the value itself.
    """
    if wrong := mismatch(value, hint, limits or {}, own):
        raise UserError(f"{path}: {wrong}; {remedy}")


def mismatch(value: Any, hint: Any, limits: Mapping[str, Limits], own: Limits = ANY, where: str = "") -> str | None:
    """What is wrong with a value, as "'epoch' is -3, not a whole number from 0"; None if nothing is.

    own: the Limits of this value; where: its place in the file.
    """
    if dataclasses.is_dataclass(hint):
        return _fields_mismatch(value, hint, limits, where)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        wrong = [mismatch(value, one, limits, own, where) for one in inner]
        if None in wrong:
            return None
        fitting = [text for text, one in zip(wrong, inner, strict=True) if _is_kind(value, one)]
        return fitting[0] if fitting else _says(value, _wanted(hint, own, value), where)
    if not _is_kind(value, hint):
        return _says(value, _wanted(hint, own, value), where)
    if isinstance(value, list | tuple | dict) and not own.length[0] <= len(value) <= own.length[1]:
        least, most = own.length
        entries = f"{least}" if least == most else f"{least} to {most}"
        return _says(value, f"of {entries} entries", where)
    if isinstance(value, list | tuple) and inner:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis or origin is list else inner
        if len(kinds) != len(value):
            return _says(value, f"of {len(kinds)} entries", where)
        return _first(value, kinds, limits, own, where)
    if isinstance(value, dict) and inner:
        return _first_of_dict(value, inner[1], limits, own, where)
    if not isinstance(value, list | tuple | dict) and not _is_within(value, own):
        return _says(value, _wanted(hint, own, value), where)
    return None


def _first(values, kinds, limits, own, where):
    """The first mismatch of a list."""
    inside = own._replace(length=ANY.length)
    wrong = (
        mismatch(one, kind, limits, inside, f"{where}[{index}]")
        for index, (one, kind) in enumerate(zip(values, kinds, strict=True))
    )
    return next((one for one in wrong if one), None)


def _first_of_dict(values, kind, limits, own, where):
    """The first mismatch of an object whose values are all of a kind."""
    inside = own._replace(length=ANY.length)
    wrong = (mismatch(one, kind, limits, inside, _place(where, name)) for name, one in values.items())
    return next((one for one in wrong if one), None)


def _fields_mismatch(value, hint, limits, where):
    """`mismatch` for the fields of a dataclass."""
    if not isinstance(value, dict):
        return _says(value, "an object", where)
    hints, fields = typing.get_type_hints(hint), {field.name: field for field in dataclasses.fields(hint)}
    if unknown := sorted(value.keys() - fields.keys()):
        return f"{_place(where, unknown[0])!r} is unknown"
    for name, field in fields.items():
        if name in value:
            wrong = mismatch(value[name], hints[name], limits, limits.get(name, ANY), _place(where, name))
            if wrong:
                return wrong
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            return f"{_place(where, name)!r} is missing"
    return None


def _place(where, name):
    return f"{where}.{name}" if where else str(name)


def _is_kind(value, hint):
    """Whether a value is of the outermost type of a hint."""
    kind = typing.get_origin(hint) or hint
    if kind is Any:
        return True
    if dataclasses.is_dataclass(kind):
        return type(value) is dict
    if kind is float:
        return type(value) in (int, float)
    if kind in (None, types.NoneType):
        return value is None
    if kind in (list, tuple):
        return isinstance(value, list | tuple)
    return type(value) is kind  # a bool is an int


def _is_within(value, own):
    """Whether a number or text is within limits; NaN is not, nor is a whole number that a float cannot hold.

    Where the limits of a whole number themselves are beyond what a float holds, they decide.
    """
    if type(value) is str:
        return own.choices is None or value in own.choices
    low, high = _whole_bounds(own) if type(value) is int else (own.low, own.high)
    return type(value) not in (int, float) or low <= value <= high


def _whole_bounds(own):
    """(least, most) that a whole number may be within limits."""
    low = -LARGEST_WHOLE if own.low == ANY.low else own.low
    return low, LARGEST_WHOLE if own.high == ANY.high else own.high


def _wanted(hint, own, value):
    """What a value should be, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_wanted(one, own, value) for one in inner))
    kind = origin or hint
    if kind is str and own.choices is not None:
        return f"one of {', '.join(own.choices)}"
    if kind in (int, float):
        return f"a {'whole ' if kind is int else ''}number{_range(own, value)}"
    names = {str: "a string", bool: "true or false", list: "a list", tuple: "a list", dict: "an object"}
    return names.get(kind, "null" if kind in (None, types.NoneType) else "an object")


def _range(own, value):
    """The range that a number should be in, in words: what all whole numbers keep to only where the value does not."""
    low, high = own.low, own.high
    if type(value) is int and abs(value) > LARGEST_WHOLE:
        low, high = _whole_bounds(own)
    return "".join(
        f" {word} {bound if isinstance(bound, int) else f'{bound:g}'}"
        for word, bound, any_bound in (("from", low, ANY.low), ("to", high, ANY.high))
        if bound != any_bound
    )


def _says(value, wanted, where):
    return f"{where!r} is {shorten(value)}, not {wanted}" if where else f"it holds {shorten(value)}, not {wanted}"
