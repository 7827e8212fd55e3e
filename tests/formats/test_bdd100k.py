"""BDD100K's files: what the attributes of an object say."""

import json

import numpy as np

from formats import bdd100k
from media import images


def test_attributes_of_objects(tmp_path):
    """A crowd is difficult too, something that is cut is not; what is not true is not set."""
    images.write(tmp_path / "images" / "100k" / "val" / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    attributes = [{"crowd": True}, {"truncated": True}, {"crowd": False, "truncated": "yes"}, None]
    labels = [
        {"category": "car", "box2d": {"x1": 5 + at, "y1": 5, "x2": 40, "y2": 40}, "attributes": one}
        for at, one in enumerate(attributes)
    ]
    path = tmp_path / "labels" / "det_20" / "det_val.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"name": "a.jpg", "labels": labels}]))
    (entry,) = bdd100k.find(tmp_path, "val")
    written = bdd100k.reader(tmp_path)(entry).objects
    assert [one.truncated for one in written] == [False, True, False, False]
    (sample,) = bdd100k.load(tmp_path, "val", ("car",))
    assert sample.crowd.tolist() == sample.difficult.tolist() == [True, False, False, False]
