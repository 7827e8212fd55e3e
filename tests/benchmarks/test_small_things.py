"""benchmarks/small_things.py: its drives are a data set that train.py reads, and what it counts is right."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import small_things

import sources
from structures import Detections, UserError
from system import chain
from toy_road import drive
from toy_road.drawing import HEIGHT, WIDTH
from toy_road.scenes import RoadObject
from toy_road.town import CLASSES

SEEN = [((10, 20, 14, 26), 0.0), ((10, 20, 13, 90), 0.0), ((100, 50, 180, 120), 0.9), ((200, 50, 280, 230), 0.1)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with drives of two black frames each, of which a small and a hidden object are not to be learned."""

    def drive_frames(seed, frames, rate, detail, focal):
        assert (frames, rate, detail, focal) == (42, pytest.approx(25 / 6), 2, small_things.FOCAL)
        for _ in range(2):
            objects = [RoadObject(seed % 4, box, occluded, False) for box, occluded in SEEN]
            yield np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8), objects

    monkeypatch.setattr(drive, "drive_frames", drive_frames)
    monkeypatch.setattr(small_things, "_pool", lambda: ThreadPoolExecutor(1))
    small_things.write_drives(str(tmp_path / "data"), 3, 2)
    return tmp_path


def test_drives_are_a_data_set(root):
    data = str(root / "data")
    for split, boxes, pictures in (("train", [SEEN[0][0], SEEN[3][0]], 6), ("test", [box for box, _ in SEEN], 2)):
        samples = sources.load(data, split, CLASSES)
        paths, truth = small_things.read_split(data, split)
        assert len(samples) == len(paths) == len(truth) == pictures
        for sample, path, (labels, boxes_px, counts) in zip(samples, paths, truth, strict=True):
            assert sample.image_path == path and (sample.width, sample.height) == (2 * WIDTH, 2 * HEIGHT)
            assert sample.labels.tolist() == labels.tolist()
            np.testing.assert_array_equal(boxes_px, boxes)
            assert counts.tolist() == [box != SEEN[2][0] for box in boxes]
            np.testing.assert_allclose(sample.boxes_px, boxes, atol=1e-3)
    small_things.write_drives(data, 3, 2)
    for others in ((4, 2), (3, 1)):
        with pytest.raises(UserError, match="--root"):
            small_things.write_drives(data, *others)


def test_found_objects_by_height():
    boxes = np.array([[0, 0, 9, 7], [0, 100, 20, 110], [50, 100, 80, 125], [100, 0, 200, 100]], float)
    hidden = (3, (300, 0, 330, 90), False)
    truth = [
        small_things.Truth.of([*zip((0, 1, 0, 2), boxes, [True] * 4, strict=True), hidden]),
        small_things.Truth.of([]),
    ]
    rows = [
        ((300, 0, 330, 88), 3),  # hidden
        ((0, 1, 9, 7), 0),  # the first
        ((0, 100, 20, 110), 0),  # another class
        ((50, 100, 80, 125), 0),  # the third
        ((51, 100, 80, 125), 0),  # again
        ((100, 0, 200, 49), 2),  # too little
    ]
    first = Detections(
        np.array([box for box, _ in rows], np.float32),
        np.linspace(0.9, 0.6, 6, dtype=np.float32),
        np.array([label for _, label in rows], np.int32),
    )
    assert small_things.count(truth, [first, Detections.empty()], HEIGHT) == {
        "objects": [1, 1, 1, 1],
        "found": [1, 0, 1, 0],
        "false": 3,
    }
    assert small_things.count(truth, [Detections.empty(), first], HEIGHT)["false"] == 6
    classes = small_things.count_classes(truth, [first, Detections.empty()], HEIGHT)
    assert [classes[name]["objects"] for name in CLASSES] == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert [classes[name]["found"] for name in CLASSES] == [[1, 0, 1, 0], [0] * 4, [0] * 4, [0] * 4]
    assert [classes[name]["false"] for name in CLASSES] == [2, 0, 1, 0]  # the traffic light is hidden


def test_both_trainings_differ_in_the_tiles_alone(root, monkeypatch, capsys):
    called, looked = [], []
    monkeypatch.setattr(chain, "call", lambda *words: called.append([str(word) for word in words]))

    def detect(run, pictures, cut):
        looked.append((Path(run).name, cut))
        found = Detections(np.array([SEEN[3][0]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
        return [found] * len(pictures), 1.0

    monkeypatch.setattr(small_things, "_detect", detect)
    small_things.main(["--root", str(root), "--drives", "3", "--detail", "2", "--steps", "5", "--tiles", "4x3"])
    whole, tiled = (
        [word.replace(name, "NAME") for word in one] for one, name in zip(called, ("whole", "tiles"), strict=True)
    )
    flags = [word for word in tiled if word.startswith("--")]
    assert len(set(flags)) == len(flags)
    position = tiled.index("--NAME")
    assert tiled[position : position + 2] == ["--NAME", "4x3"] and tiled[:position] == whole
    assert looked == [(run, cut) for run in ("whole", "tiles") for cut in (None, (4, 3))]
    written = json.loads((root / "small_things.json").read_text("utf-8"))
    assert [row["found"] for row in written["rows"]] == [[0, 0, 0, 2]] * 4
    assert "| 4x3 tiles too | whole pictures | 0 of 2 | 0 of 0 | 0 of 0 | 2 of 4 | 0 | 1.0 |" in capsys.readouterr().out


def test_an_interrupt_does_not_wait_until_all_drives_are_drawn():
    with pytest.raises(KeyboardInterrupt), small_things._pool() as pool:
        drawn = [pool.submit(time.sleep, 0.05) for _ in range(200)]
        raise KeyboardInterrupt
    assert drawn[-1].cancelled()
