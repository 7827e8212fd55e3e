"""labelme's files: what becomes of shapes that are no boxes."""

import json

import numpy as np
import pytest

import sources
from media import images


@pytest.mark.parametrize(
    ("kind", "said"),
    [("rotation", "1 rotated box: the upright box"), ("polygon", "1 polygon: the box"), ("rectangle", "")],
)
def test_what_is_said_of_a_shape(tmp_path, capsys, kind, said):
    images.write(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    points = [[10, 20], [40, 5], [50, 25], [20, 40]] if kind != "rectangle" else [[10, 5], [50, 40]]
    shape = {"label": "kite", "shape_type": kind, "points": points}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape], "imageWidth": 80, "imageHeight": 60}))
    (sample,) = sources.load(tmp_path, "all", ("kite",))
    np.testing.assert_allclose(sample.boxes_px, [[10, 5, 50, 40]], rtol=1e-6)
    warning = capsys.readouterr().err
    assert said in warning and bool(said) == bool(warning)
