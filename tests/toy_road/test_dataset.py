"""The toy road: its promised difficulty, exact boxes, painter's order, the files on disk, the drive."""

import dataclasses
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import psutil
import pytest

from structures import UserError
from toy_road import dataset as toy
from toy_road import drawing, models

ROOT = pathlib.Path(toy.__file__).parents[1]
TEST_SIZE = inspect.signature(toy.write_dataset).parameters["test"].default


@pytest.fixture(scope="module")
def test_split():
    """The objects of every picture of the default test split."""
    return [toy.generate_scene(0, index, "test")[1] for index in range(TEST_SIZE)]


def heights(objects):
    return np.array([item.box_px[3] - item.box_px[1] for item in objects])


def test_the_test_split_is_as_hard_as_promised(test_split):
    assert TEST_SIZE >= 300
    objects = [item for scene in test_split for item in scene]
    per_class = np.bincount([item.label for item in objects], minlength=len(toy.CLASSES))
    adverse = [toy.draw_conditions(0, "test", index).adverse for index in range(TEST_SIZE)]
    assert len(toy.CLASSES) >= 4 and per_class.min() >= 100
    assert len(objects) / TEST_SIZE >= 4
    assert np.mean(heights(objects) < 0.15 * toy.HEIGHT) >= 0.25
    assert np.mean([item.occluded > toy.OCCLUDED for item in objects]) >= 0.20
    assert np.mean(adverse) >= 0.25


def test_every_object_is_large_and_visible_enough(test_split):
    for item in (item for scene in test_split for item in scene):
        x0, y0, x1, y1 = item.box_px
        assert min(x0, y0) >= 0 and x1 <= toy.WIDTH and y1 <= toy.HEIGHT
        assert x1 - x0 >= toy.MIN_WIDTH and y1 - y0 >= toy.MIN_HEIGHT
        assert 0 <= item.occluded <= toy.MAX_OCCLUDED and not item.difficult


def test_pictures_depend_on_seed_split_and_index_alone():
    image, objects = toy.generate_scene(3, 7, "train")
    again, objects_again = toy.generate_scene(3, 7, "train")
    assert image.shape == (toy.HEIGHT, toy.WIDTH, 3) and image.dtype == np.uint8
    assert np.array_equal(image, again) and objects == objects_again
    for other in ((3, 7, "test"), (3, 8, "train"), (4, 7, "train")):
        assert not np.array_equal(image, toy.generate_scene(*other)[0])
        assert toy.make_scene(*other)[0].camera != toy.make_scene(3, 7, "train")[0].camera


def clear_scene(index):
    """A scene of fine weather, and an accept function as in generate_scene."""
    scene, _ = toy.make_scene(1, index, "train")
    scene = dataclasses.replace(scene, conditions=toy.Conditions(noise=0.0), light=drawing.LIGHTS["day"])
    return scene, lambda sight: sight.thing.label is None or toy.fair(sight)


def draw_clear(scene, accept):
    return toy.render(scene, accept, np.random.default_rng(0))


def solid_box(pixels):
    """The bounding box of a mask without its slivers: of the pixels near the middle of a full 3x3 square."""
    height, width = pixels.shape
    padded = np.pad(pixels, 1, mode="edge")
    full = np.all([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    padded = np.pad(full, 2)
    near = np.any([padded[y : y + height, x : x + width] for y in range(5) for x in range(5)], axis=0)
    rows, columns = np.nonzero(pixels & near)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("index", range(8))
def test_boxes_enclose_exactly_the_pixels_that_an_object_colours(index):
    """Recolour one object: the pixels that change have the bounding box of its annotation, to a pixel of blending."""
    scene, accept = clear_scene(index)
    image, sights = draw_clear(scene, accept)
    checked = 0
    for sight in sights:
        if sight.thing.label is None:
            continue
        palette = sight.thing.palette
        sight.thing.palette = {slot: drawing.Shine(255, 0, 255) for slot in palette} | {"shadow": (40, 42, 46)}
        magenta, _ = draw_clear(scene, accept)
        sight.thing.palette = {slot: drawing.Shine(0, 255, 0) for slot in palette} | {"shadow": (40, 42, 46)}
        green, _ = draw_clear(scene, accept)
        sight.thing.palette = palette
        changed = np.abs(magenta.astype(int) - green)[:, :, 1] > 100
        np.testing.assert_allclose(toy.road_object(sight).box_px, solid_box(changed), atol=1)
        checked += 1
    assert checked and np.array_equal(image, draw_clear(scene, accept)[0])


def a_car(z, x=0.0, **place):
    return toy.car(np.random.default_rng(0), "saloon", x=x, z=z, **place)


def test_size_falls_with_distance():
    camera = drawing.Camera()
    near, far = (drawing.see(camera, a_car(z + 2.2)) for z in (8.0, 16.0))
    assert near.full_box[3] - near.full_box[1] == pytest.approx(2 * (far.full_box[3] - far.full_box[1]), rel=0.05)


def test_nearer_things_hide_farther_ones():
    cars = [a_car(24.0, x=1.2), a_car(12.0)]
    near, far = drawing.sightings(drawing.Camera(), cars, lambda sight: True)
    assert near.thing is cars[1] and near.occluded == 0
    assert 0.2 < far.occluded < 0.9
    whole = drawing.see(drawing.Camera(), cars[0])
    assert far.visible_box[0] > whole.visible_box[0] and far.visible_box[2] == whole.visible_box[2]


def test_someone_beside_a_long_bus_is_in_front_of_its_side():
    rng = np.random.default_rng(0)
    bus = toy.bus(rng, x=-3.3, z=11)
    inside = toy.pedestrian(rng, models.walker(0), x=-1.4, z=13)
    outside = toy.pedestrian(rng, models.walker(0), x=-5.4, z=8)
    assert drawing.front_to_back([outside, bus, inside]) == [inside, bus, outside]


def test_refused_things_hide_nothing():
    cars = [a_car(24.0, x=1.2), a_car(12.0)]
    (only,) = drawing.sightings(drawing.Camera(), cars, lambda sight: sight.thing is not cars[1])
    assert only.thing is cars[0] and only.occluded == 0


@pytest.mark.parametrize("z", [-4.0, -1.5, 0.0, 1.5, 3.0])
def test_a_passing_car_is_cut_at_the_near_plane(z):
    sight = drawing.see(drawing.Camera(), a_car(z, x=-2.4))
    if z < 1.0:  # what is left of it lies beside the picture
        assert sight is None
    else:
        assert toy.road_object(sight).truncated


def read_annotation(path):
    root = ET.parse(path).getroot()
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["480", "360"]
    return [
        (item.findtext("name"), *(int(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")))
        for item in root.iter("object")
    ]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_link_to_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "road").symlink_to(tmp_path / "big")
    assert toy.write_dataset(tmp_path / "road", train=1, test=1, workers=0)
    assert (tmp_path / "road").is_symlink() and (tmp_path / "big" / "VOC2007" / "JPEGImages").is_dir()


def test_a_mount_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(toy.os.path, "ismount", lambda path: str(path) == str(tmp_path / "volume"))
    (tmp_path / "volume").mkdir()
    with pytest.raises(UserError, match=r"--output .*volume: is a mount"):
        toy.write_dataset(tmp_path / "volume", train=1, test=1, workers=0)


def test_the_folder_is_a_vocdevkit_and_the_same_from_any_number_of_processes(tmp_path):
    assert toy.write_dataset(tmp_path / "serial", train=18, test=3, seed=5, workers=0)
    assert toy.write_dataset(tmp_path / "parallel", train=18, test=3, seed=5, workers=2)
    files = contents(tmp_path / "serial")
    assert files == contents(tmp_path / "parallel")
    voc = tmp_path / "serial" / "VOC2007"
    ids = {split: (voc / f"ImageSets/Main/{split}.txt").read_text().split() for split in ("train", "trainval", "test")}
    assert len(ids["train"]) == 18 and ids["trainval"] == ids["train"] and len(ids["test"]) == 3
    stems = sorted(ids["train"] + ids["test"])
    assert [path.stem for path in sorted((voc / "JPEGImages").iterdir())] == stems
    assert [path.stem for path in sorted((voc / "Annotations").iterdir())] == stems
    image, objects = toy.generate_scene(5, 2, "test")
    written = cv2.imread(str(voc / f"JPEGImages/{ids['test'][2]}.jpg"))[:, :, ::-1]
    assert np.abs(written.astype(int) - image).mean() < 6
    expected = [(toy.CLASSES[o.label], o.box_px[0] + 1, o.box_px[1] + 1, *o.box_px[2:]) for o in objects]
    assert read_annotation(voc / f"Annotations/{ids['test'][2]}.xml") == expected


def test_an_existing_folder_is_kept_or_refused(tmp_path):
    target = tmp_path / "road"
    assert toy.write_dataset(target, train=1, test=1, workers=0)
    before = contents(target)
    assert not toy.write_dataset(target, train=1, test=1, workers=0)
    with pytest.raises(UserError, match="another toy road"):
        toy.write_dataset(target, train=1, test=1, seed=1, workers=0)
    assert contents(target) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="not empty"):
        toy.write_dataset(tmp_path / "mine", train=1, test=1, workers=0)
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(UserError, match="in the way"):
        toy.write_dataset(tmp_path / "new", train=1, test=1, workers=0)


def run_program(*flags, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "toy_road", *map(str, flags)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


@pytest.mark.parametrize("flags", [("--train", "0"), ("--seed", "x"), ("--sed", "1"), ("--workers", "-1")])
def test_wrong_flags_give_one_line_and_exit_code_1(tmp_path, flags):
    process = run_program("--output", tmp_path / "road", *flags)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and len(errors.splitlines()) == 1 and flags[0] in errors
    assert not (tmp_path / "road").exists()


def start_writing(folder, when, **kwargs):
    """The program at work, once when() holds."""
    process = run_program("--output", folder, "--train", 5000, "--workers", 2, **kwargs)
    deadline = time.monotonic() + 60
    while not when(process):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("moment", ["workers start", "pictures appear"])
def test_ctrl_c_leaves_nothing_behind(tmp_path, moment):
    pictures = tmp_path / "road.partial" / "VOC2007" / "JPEGImages"

    def reached(process):
        if moment == "workers start":
            return len(psutil.Process(process.pid).children()) >= 2
        return pictures.is_dir() and any(pictures.iterdir())

    process = start_writing(tmp_path / "road", reached, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    assert not any(tmp_path.iterdir())


def test_workers_end_with_a_killed_parent(tmp_path):
    process = start_writing(tmp_path / "road", lambda p: len(psutil.Process(p.pid).children()) >= 3)
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=30)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_the_drive_approaches_overtakes_and_changes_its_lights():
    frames = list(toy.drive_frames(0, 40, rate=4.0))
    assert all(image.shape == (toy.HEIGHT, toy.WIDTH, 3) for image, _ in frames)
    labels = {item.label for _, objects in frames for item in objects if not item.difficult}
    assert labels == set(range(len(toy.CLASSES)))
    gone = np.array([toy._camera_z(t) for t in np.arange(0, 10, 0.25)])
    assert np.all(np.diff(gone) >= 0) and 60 < gone[-1] < toy.CROSSINGS[1]
    lights = [[o.box_px[3] - o.box_px[1] for o in objects if o.label == toy.TRAFFIC_LIGHT] for _, objects in frames]
    assert max(lights[8]) > 1.5 * max(lights[0])
    assert np.array_equal(frames[3][0], next(f for i, (f, _) in enumerate(toy.drive_frames(0, 4, 4.0)) if i == 3))


def test_the_drives_lights_turn_green_then_red():
    red, green = np.array((255, 48, 40)), np.array((64, 255, 130))
    frames = list(toy.drive_frames(0, 40, rate=4.0))

    def shows(frame, colour):
        image, objects = frames[frame]
        boxes = [o.box_px for o in objects if o.label == toy.TRAFFIC_LIGHT and not o.difficult]
        lights = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]
        return any((np.abs(light.astype(int) - colour).max(axis=2) < 60).sum() > 20 for light in lights)

    assert shows(10, green) and not shows(10, red)
    assert shows(36, red) and not shows(36, green)


def test_a_drive_is_a_video_with_its_ground_truth(tmp_path):
    path = tmp_path / "films" / "drive.mp4"
    truth_path = toy.write_drive(path, seed=1, frames=12, rate=25.0)
    truth = json.loads(pathlib.Path(truth_path).read_text())
    assert truth["class_names"] == list(toy.CLASSES) and (truth["width"], truth["height"]) == (480, 360)
    video = cv2.VideoCapture(str(path))
    decoded = []
    while (frame := video.read())[0]:
        decoded.append(frame[1][:, :, ::-1])
    assert len(decoded) == len(truth["frames"]) == 12 and video.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    image, objects = list(toy.drive_frames(1, 12))[-1]
    assert np.abs(decoded[-1].astype(int) - image).mean() < 8
    assert [tuple(item["box"]) for item in truth["frames"][-1]["objects"]] == [item.box_px for item in objects]
