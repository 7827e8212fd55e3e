"""Lines and zones as users write them."""

import argparse
import json

import numpy as np
import pytest

from structures import UserError
from tracking import places


def test_a_line_in_fractions_or_pixels():
    line = places.parse_line("0.1,0.5,0.9,0.5")
    np.testing.assert_allclose(line.in_pixels(200, 100).points, [[20, 50], [180, 50]])
    line = places.parse_line("0,0.5,1,0.5")  # from edge to edge
    np.testing.assert_array_equal(line.in_pixels(200, 100).points, [[0, 50], [200, 50]])
    line = places.parse_line("gate=20,50.5,180,100")
    assert (line.name, line.is_line) == ("gate", True)
    np.testing.assert_array_equal(line.in_pixels(200, 100).points, [[20, 50.5], [180, 100]])
    with pytest.raises(UserError, match=r"--line gate=20,50\.5,180,100: reaches out .*150×100"):
        line.in_pixels(150, 100)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "1,2,1,2", "-1,2,3,4", "1,2,nan,4", "1,2,3,4,5", "a=b=1,2"])
def test_what_is_no_line(text):
    with pytest.raises(argparse.ArgumentTypeError, match="x1,y1,x2,y2"):
        places.parse_line(text)


@pytest.mark.parametrize("text", ["0.1,0.2,0.5,300", "a=0,0.5,1280,0.5", "5,1,0.25,1"])
def test_pixels_are_not_mixed_with_fractions(text):
    """As pixels, the line would be in the outermost column, and count nothing."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' mixes pixels with fractions"):
        places.parse_line(text)


def read(tmp_path, content):
    path = tmp_path / "zones.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return places.read_zones(str(path))


TRIANGLE = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]


def test_zones_of_a_file(tmp_path):
    a, b = read(tmp_path, {"yard": TRIANGLE, "gate": [*TRIANGLE, TRIANGLE[0]]})  # closed is the same
    assert (a.name, b.name, a.is_line) == ("yard", "gate", False)
    np.testing.assert_array_equal(a.points, b.points)
    (c,) = read(tmp_path, [TRIANGLE])
    assert c.name == "" and len(c.points) == 3
    shapes = [
        {"label": "yard", "points": [[10, 10], [90, 10], [50, 90]], "shape_type": "polygon"},
        {"label": "car", "points": [[10, 10], [90, 20]], "shape_type": "rectangle"},
    ]
    (d,) = read(tmp_path, {"shapes": shapes, "imageWidth": 100, "imageHeight": 100})
    np.testing.assert_array_equal(d.in_pixels(100, 100).points, a.in_pixels(100, 100).points)


BAD_CORNERS = (
    3,
    [[0, 0], [1, 1]],
    [[0, 0], [1, 1], "x"],
    [[0, 0, 1]] * 3,
    [[0, 0], [0, 0], [1, 1]],
    [[0, 0], [1, None]],
    [[0, 0], [1, 1], [10**400, 0]],
)


@pytest.mark.parametrize(
    "content",
    ["{", "3", '"car"', "[" * 100_000, [], {}, {"shapes": []}, {"shapes": [3]}, *({"a": one} for one in BAD_CORNERS)],
)
def test_what_is_no_zone(tmp_path, content):
    with pytest.raises(UserError, match=r"--zone .*zones\.json: is not") as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_names(tmp_path):
    given = [places.parse_line("0,0,1,1"), places.parse_line("b=0,0,1,1"), *read(tmp_path, [TRIANGLE, TRIANGLE])]
    assert [place.name for place in places.named(given)] == ["line 1", "b", "zone 1", "zone 2"]
    with pytest.raises(UserError, match=r"'b'.*its own"):
        places.named([*given, given[1]])
