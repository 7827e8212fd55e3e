"""Pictures of the toy road: their promised difficulty, exact boxes and painter's order."""

import dataclasses
import inspect

import cv2
import numpy as np
import pytest

from toy_road import dataset, drawing, models, scenes, town

TEST_SIZE = inspect.signature(dataset.write_dataset).parameters["test"].default


@pytest.fixture(scope="module")
def test_split():
    """The objects of every picture of the default test split."""
    return [scenes.generate_scene(0, index, "test")[1] for index in range(TEST_SIZE)]


def heights(objects):
    return np.array([item.box_px[3] - item.box_px[1] for item in objects])


def test_the_test_split_is_as_hard_as_promised(test_split):
    assert TEST_SIZE >= 300
    objects = [item for scene in test_split for item in scene]
    per_class = np.bincount([item.label for item in objects], minlength=len(town.CLASSES))
    conditions = [scenes.draw_conditions(0, "test", index) for index in range(TEST_SIZE)]
    assert len(town.CLASSES) >= 4 and per_class.min() >= 100
    assert len(objects) / TEST_SIZE >= 4
    assert np.mean(heights(objects) < 0.15 * drawing.HEIGHT) >= 0.25
    assert np.mean([item.occluded > scenes.OCCLUDED for item in objects]) >= 0.20
    assert np.mean([one.time == "night" or one.rain or bool(one.blur) for one in conditions]) >= 0.25


def test_every_object_is_large_and_visible_enough(test_split):
    for item in (item for scene in test_split for item in scene):
        x0, y0, x1, y1 = item.box_px
        assert min(x0, y0) >= 0 and x1 <= drawing.WIDTH and y1 <= drawing.HEIGHT
        assert x1 - x0 >= scenes.MIN_WIDTH and y1 - y0 >= scenes.MIN_HEIGHT
        assert 0 <= item.occluded <= scenes.MAX_OCCLUDED and not item.difficult


def test_pictures_depend_on_seed_split_and_index_alone():
    image, objects = scenes.generate_scene(3, 7, "train")
    again, objects_again = scenes.generate_scene(3, 7, "train")
    assert image.shape == (drawing.HEIGHT, drawing.WIDTH, 3) and image.dtype == np.uint8
    assert np.array_equal(image, again) and objects == objects_again
    for other in ((3, 7, "test"), (3, 8, "train"), (4, 7, "train")):
        assert not np.array_equal(image, scenes.generate_scene(*other)[0])
        assert scenes.make_scene(*other)[0].camera != scenes.make_scene(3, 7, "train")[0].camera


def clear_scene(index):
    """A scene in clear weather, and an accept function as in generate_scene."""
    scene, _ = scenes.make_scene(1, index, "train")
    scene = dataclasses.replace(scene, conditions=scenes.Conditions(noise=0.0), light=drawing.LIGHTS["day"])
    return scene, lambda sight: sight.thing.label is None or scenes.fair(sight)


def draw_clear(scene, accept):
    return scenes.render(scene, accept, np.random.default_rng(0))


def solid_box(pixels):
    """The bounding box of a mask without its slivers: of the pixels near the center of a full 3x3 square."""
    height, width = pixels.shape
    padded = np.pad(pixels, 1, mode="edge")
    full = np.all([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    padded = np.pad(full, 2)
    near = np.any([padded[y : y + height, x : x + width] for y in range(5) for x in range(5)], axis=0)
    rows, columns = np.nonzero(pixels & near)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("index", range(8))
def test_boxes_enclose_exactly_the_pixels_that_an_object_colors(index):
    """Change an object's color: the box of the pixels that change is that of its annotation, to a pixel of blending."""
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
        np.testing.assert_allclose(scenes.road_object(sight).box_px, solid_box(changed), atol=1)
        checked += 1
    assert checked and np.array_equal(image, draw_clear(scene, accept)[0])


def a_car(z, x=0.0, **place):
    return town.car(np.random.default_rng(0), "sedan", x=x, z=z, **place)


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
    bus = town.bus(rng, x=-3.3, z=11)
    inside = town.pedestrian(rng, models.walker(0), x=-1.4, z=13)
    outside = town.pedestrian(rng, models.walker(0), x=-5.4, z=8)
    assert drawing.front_to_back([outside, bus, inside]) == [inside, bus, outside]


def test_refused_things_hide_nothing():
    cars = [a_car(24.0, x=1.2), a_car(12.0)]
    (only,) = drawing.sightings(drawing.Camera(), cars, lambda sight: sight.thing is not cars[1])
    assert only.thing is cars[0] and only.occluded == 0


@pytest.mark.parametrize("z", [-4.0, -1.5, 0.0, 1.5, 3.0])
def test_a_passing_car_is_cut_at_the_near_plane(z):
    sight = drawing.see(drawing.Camera(), a_car(z, x=-2.4))
    if z < 1.0:  # the rest of it is outside the picture
        assert sight is None
    else:
        assert scenes.road_object(sight).truncated


@pytest.mark.parametrize("index", range(0, 20, 2))  # all weathers
def test_more_detail_shows_the_same_scene(index):
    scene, _ = scenes.make_scene(1, index, "train")
    scene.conditions = dataclasses.replace(scene.conditions, noise=0.0)
    fine = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, detail=3))
    (image, sights), (large, more) = (
        scenes.render(one, lambda sight: True, np.random.default_rng(0)) for one in (scene, fine)
    )
    assert large.shape == (3 * drawing.HEIGHT, 3 * drawing.WIDTH, 3)
    small = cv2.resize(large, (drawing.WIDTH, drawing.HEIGHT), interpolation=cv2.INTER_AREA)
    # Streaks of rain fall elsewhere
    assert np.abs(small.astype(int) - image).mean() < (9 if scene.conditions.rain else 3)
    things = {id(sight.thing): scenes.road_object(sight) for sight in sights if sight.thing.label is not None}
    compared = [
        (things.get(id(sight.thing)), scenes.road_object(sight)) for sight in more if sight.thing.label is not None
    ]
    fair = [pair for pair in compared if pair[0] and not pair[0].difficult]
    assert len(fair) >= 2
    for coarse, exact in fair:
        # Slivers of less than three pixels do not widen a box, of whatever size they are
        np.testing.assert_allclose(np.array(exact.box_px) / 3, coarse.box_px, atol=4)
    # Whether an object counts changes only where it is at a limit
    assert np.mean([coarse.difficult == exact.difficult for coarse, exact in compared if coarse]) > 0.8
