"""KITTI's label files: what is truncated, and by how much."""

import numpy as np

import sources
from media import images


def test_what_is_cut_by_however_little_is_truncated(tmp_path):
    images.write(tmp_path / "training" / "image_2" / "a.png", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "training" / "label_2").mkdir()
    lines = [f"Car {share} 0 0 5 5 40 40 0 0 0 0 0 0 0\n" for share in ("0.00", "0.01", "1.00", "-1")]
    (tmp_path / "training" / "label_2" / "a.txt").write_text("".join(lines))
    (split,) = sources.split_names(tmp_path)
    (entry,) = sources.find(tmp_path, split)
    found = sources.reader(tmp_path, split)(entry).objects
    assert [one.truncated for one in found] == [False, True, True, False]
