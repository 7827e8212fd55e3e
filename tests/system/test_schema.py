"""What is wrong with a value is said with its place; what is right passes."""

import dataclasses
import math

import pytest

from structures import UserError
from system import schema
from system.schema import Limits


@dataclasses.dataclass
class Inner:
    size: float = 1.0


@dataclasses.dataclass
class Outer:
    step: int
    name: str = ""
    inner: Inner | None = None
    pairs: tuple[float, float] = (0.0, 1.0)
    rows: list[dict[str, float | None]] = dataclasses.field(default_factory=list)
    kind: str | Inner = ""
    loose: int | None = None
    seed: int = 0
    whole: int = 0


LIMITS = {
    "step": Limits(0, 99),
    "kind": Limits(choices=("a", "b")),
    "size": Limits(0),
    "rows": Limits(length=(0, 2)),
    "loose": Limits(0),
    "seed": Limits(0, 2**63 - 1),
}


@pytest.mark.parametrize(
    "value",
    [
        {"step": 0},
        {"step": 99, "name": "é", "inner": None, "pairs": [1, 2.5], "rows": [{}, {"a": None, "b": 2}], "kind": "b"},
        {"step": 1, "inner": {}, "pairs": (1, 2), "kind": {"size": 3}},
        {"step": 1, "loose": 2**53, "seed": 2**63 - 1, "whole": -(2**53)},
    ],
)
def test_what_fits_passes(value):
    schema.check("f.json", value, Outer, LIMITS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"it holds \[\], not an object"),
        ({}, "'step' is missing"),
        ({"step": 1, "color": 2}, "'color' is unknown"),
        ({"step": -1}, "'step' is -1, not a whole number from 0 to 99"),
        ({"step": True}, "'step' is True, not a whole number"),
        ({"step": 1.0}, "'step' is 1.0, not a whole number"),
        ({"step": 10**400}, "'step' is 1000"),
        (
            {"step": 1, "loose": 2**53 + 1},
            "'loose' is 9007199254740993, not a whole number from 0 to 9007199254740992;",
        ),
        (
            {"step": 1, "seed": 2**63},
            "'seed' is 9223372036854775808, not a whole number from 0 to 9223372036854775807;",
        ),
        ({"step": 1, "whole": -(2**53) - 1}, "'whole' is -9.*, not a whole number from -9007199254740992 to 9007"),
        ({"step": 1, "name": 5}, "'name' is 5, not a string"),
        ({"step": 1, "inner": 5}, "'inner' is 5, not an object or null"),
        ({"step": 1, "inner": {"size": -1}}, r"'inner\.size' is -1, not a number from 0;"),
        ({"step": 1, "inner": {"size": math.nan}}, r"'inner\.size' is nan"),
        ({"step": 1, "inner": {"size": 10**400}}, r"'inner\.size' is 1000"),
        ({"step": 1, "pairs": [1]}, r"'pairs' is \[1\], not of 2 entries"),
        ({"step": 1, "pairs": [1, "2"]}, r"'pairs\[1\]' is '2', not a number"),
        ({"step": 1, "rows": [{}, {}, {}]}, "'rows' is .*, not of 0 to 2 entries"),
        ({"step": 1, "rows": [{"a": []}]}, r"'rows\[0\]\.a' is \[\], not a number or null"),
        ({"step": 1, "kind": "c"}, "'kind' is 'c', not one of a, b"),
        ({"step": 1, "kind": {"size": "x"}}, r"'kind\.size' is 'x', not a number"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(value, message):
    with pytest.raises(UserError, match=f"^f.json: {message}") as raised:
        schema.check("f.json", value, Outer, LIMITS)
    assert str(raised.value).endswith("; correct the file") and "\n" not in str(raised.value)


def test_a_value_as_deep_as_json_can_be_is_shown():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UserError, match="'step' is a list, not a whole number"):
        schema.check("f.json", {"step": deep}, Outer)
