"""Pieces of text that messages and names are made of."""

import pytest

from system import wording


def test_stem():
    assert [wording.stem(path) for path in ("a.jpg", "some/folder/a.b.jpg", "a")] == ["a", "a.b", "a"]


def test_shorten_keeps_short_values_and_cuts_long_ones():
    assert wording.shorten("dog") == "'dog'"
    assert len(wording.shorten("x" * 1000)) == 40


@pytest.mark.parametrize(("count", "text"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (1234, "1,234 boxes")])
def test_plural(count, text):
    assert wording.plural(count, "box") == text


def test_table():
    assert wording.table(("a", "b"), [("x", 1), ("y", 2.5)]) == "| a | b |\n| --- | --- |\n| x | 1 |\n| y | 2.5 |"


def test_a_name_that_looks_the_same():
    assert wording.nearest_hint("e\u0301", ["\xe9", "dog"]) == " (nearest: '\xe9', in another form of Unicode)"
    assert wording.nearest_hint("dogs", ["\xe9", "dog"]) == " (nearest: 'dog')"


@pytest.mark.parametrize(
    ("name", "near"), [("Dog", "dog"), ("traffic light", "traffic_light"), ("dgo", "dog"), ("aeroplane", None)]
)
def test_nearest_ignores_capitals_and_signs(name, near):
    assert wording.nearest(name, ["cat", "dog", "traffic_light"]) == near
    assert wording.nearest_hint(name, ["cat", "dog", "traffic_light"]) == (f" (nearest: {near!r})" if near else "")


@pytest.mark.parametrize(
    ("value", "text"), [(12, "12"), (12.0, "12"), (100, "100"), (0.5, "0.5"), (1 / 3, "0.333"), (-1e-9, "0")]
)
def test_number(value, text):
    assert wording.number(value) == text
    assert wording.number(1 / 3, 8) == "0.33333333" and wording.number(120, 0) == "120"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("a line\nand another"), "a line"),
        (OSError(), "OSError"),  # without a message
        (RuntimeError("Exception from a.cpp:84:\nCheck 'm' failed at b.cpp:9:\nno weights!\n\n"), "no weights!"),
        (RuntimeError("Graph execution error:\n"), "Graph execution error"),  # nothing is announced
        (RuntimeError("\n  \n\tno weights\n"), "no weights"),
        (RuntimeError(" \n:\n"), "RuntimeError"),
    ],
)
def test_reason_is_one_line(error, expected):
    assert wording.reason(error) == expected
