"""The drive: the camera's way, the traffic lights, the video and its ground truth."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from structures import UserError
from toy_road import __main__ as program
from toy_road import drawing, drive, town
from tracking import mot_file


def test_the_drive_approaches_overtakes_and_changes_its_lights():
    frames = list(drive.drive_frames(0, 40, rate=4.0))
    assert all(image.shape == (drawing.HEIGHT, drawing.WIDTH, 3) for image, _ in frames)
    labels = {item.label for _, objects in frames for item in objects if not item.difficult}
    assert labels == set(range(len(town.CLASSES)))
    way = np.array([drive.camera_z(t) for t in np.arange(0, 10, 0.25)])
    assert np.all(np.diff(way) >= 0) and 60 < way[-1] < drive.CROSSINGS[1]
    lights = [[o.box_px[3] - o.box_px[1] for o in objects if o.label == town.TRAFFIC_LIGHT] for _, objects in frames]
    assert max(lights[8]) > 1.5 * max(lights[0])
    assert np.array_equal(frames[3][0], next(f for i, (f, _) in enumerate(drive.drive_frames(0, 4, 4.0)) if i == 3))


def test_the_drives_lights_turn_green_then_red():
    red, green = np.array((255, 48, 40)), np.array((64, 255, 130))
    frames = list(drive.drive_frames(0, 40, rate=4.0))

    def shows(frame, color):
        image, objects = frames[frame]
        boxes = [o.box_px for o in objects if o.label == town.TRAFFIC_LIGHT and not o.difficult]
        lights = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]
        return any((np.abs(light.astype(int) - color).max(axis=2) < 60).sum() > 20 for light in lights)

    assert shows(10, green) and not shows(10, red)
    assert shows(36, red) and not shows(36, green)


def test_a_drive_of_more_pixels_has_the_same_objects_and_more(tmp_path):
    truths = [
        json.loads(drive.write_drive(tmp_path / f"{detail}.mp4", frames=3, rate=1.0, detail=detail).read_text())
        for detail in (1, 2)
    ]
    assert (truths[1]["width"], truths[1]["height"]) == (960, 720)
    assert cv2.VideoCapture(str(tmp_path / "2.mp4")).read()[1].shape == (720, 960, 3)
    for coarse, fine in zip(*(truth["frames"] for truth in truths), strict=True):
        coarse, fine = ({one["id"]: one for one in frame["objects"]} for frame in (coarse, fine))
        counted = [key for key, one in coarse.items() if not one["difficult"]]
        assert counted and len(fine) >= len(coarse)
        for key in counted:
            np.testing.assert_allclose(np.array(fine[key]["box"]) / 2, coarse[key]["box"], atol=2)


def test_a_wide_angle_shows_more_and_all_of_it_smaller():
    """And the road from the hood on."""
    frames = [next(drive.drive_frames(0, 1, focal=focal)) for focal in (430.0, 170.0)]
    normal, wide = ({one.id: one for one in objects} for _, objects in frames)
    assert wide.keys() - normal.keys()
    whole = [key for key, one in normal.items() if not one.difficult and not one.truncated]
    assert whole
    for key in whole:
        sizes = [np.subtract(one.box_px[2:], one.box_px[:2]) for one in (normal[key], wide[key])]
        np.testing.assert_allclose(sizes[1], sizes[0] * 170 / 430, atol=4)
    below_hood = frames[1][0][325, 200:280].astype(int)  # gray, where grass would be green
    assert np.all(np.ptp(below_hood, axis=1) < 30)


def test_a_drive_is_a_video_with_its_ground_truth(tmp_path):
    path = tmp_path / "films" / "drive.mp4"
    truth_path = drive.write_drive(path, seed=1, frames=12, rate=25.0)
    truth = json.loads(pathlib.Path(truth_path).read_text())
    assert truth["class_names"] == list(town.CLASSES) and (truth["width"], truth["height"]) == (480, 360)
    video = cv2.VideoCapture(str(path))
    decoded = []
    while (frame := video.read())[0]:
        decoded.append(frame[1][:, :, ::-1])
    assert len(decoded) == len(truth["frames"]) == 12 and video.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    image, objects = list(drive.drive_frames(1, 12))[-1]
    assert np.abs(decoded[-1].astype(int) - image).mean() < 8
    assert [tuple(item["box"]) for item in truth["frames"][-1]["objects"]] == [item.box_px for item in objects]
    tracks = mot_file.read(str(path.with_suffix(".gt.txt")))
    assert tracks.class_names == list(town.CLASSES)
    for index, frame in enumerate(truth["frames"]):
        expected = [(item["id"], item["class"], item["box"], not item["difficult"]) for item in frame["objects"]]
        found = zip(*(part.tolist() for part in tracks.frames[index]), strict=True)
        assert [(key, town.CLASSES[label], box, counts) for key, label, box, counts in found] == expected


def test_a_drive_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "/proc/none"):
        with pytest.raises(UserError, match=rf"^{folder}.*cannot be written"):
            drive.write_drive(f"{folder}/drive.mp4", frames=1)


def test_objects_of_a_drive_keep_their_identities():
    """An id has one class, is in a frame once, and moves by less than half its size in a twenty-fifth of a second."""
    kinds, before = {}, {}
    for _, objects in drive.drive_frames(0, 12):
        assert len({item.id for item in objects}) == len(objects) and all(item.id > 0 for item in objects)
        for item in objects:
            assert kinds.setdefault(item.id, item.label) == item.label
            low, high = np.array(item.box_px[:2]), np.array(item.box_px[2:])
            if item.id in before and item.occluded == 0 and not item.truncated:
                assert (np.abs((low + high) / 2 - before[item.id]) <= (high - low) / 2 + 1).all()
            before.pop(item.id, None)
            if item.occluded == 0 and not item.truncated:
                before[item.id] = (low + high) / 2
    assert len(kinds) > 10


def test_a_drive_of_another_format_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(UserError, match=r"^--drive: .*drive.avi.*\.mp4"):
        program.main(["--output", str(tmp_path / "data"), "--drive", str(tmp_path / "drive.avi")])
    assert not any(tmp_path.iterdir())
