"""Batches contain what the samples say, with any number of workers."""

import dataclasses
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image

import config
import detector
import programs
import source_pascal_voc
import ssd_utils
import training_data
import transforms
from media import images, picture_cache
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import data_queue, shared_arrays
from training import caching

PRESET = ssd_utils.get_preset("vgg300")
CLASSES = ("disc", "square")


@pytest.fixture(scope="module")
def samples(shapes):
    return source_pascal_voc.load(str(shapes), "train", CLASSES)


def batches(samples, jobs, workers, pictures=None, **settings):
    """All batches of some jobs as lists of copied arrays."""
    settings = TrainingSettings(data="", train="", batch_size=4, **settings)
    with training_data.make_queue(samples, PRESET, settings, workers=workers, cache=pictures) as queue:
        made = []
        for batch in queue.batches(jobs):
            made.append({name: array.copy() for name, array in batch.arrays.items()})
            batch.release()
    return made


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_batches_do_not_depend_on_the_number_of_workers(samples):
    jobs = training_data.epoch_jobs(len(samples), seed=3, epoch=1)
    serial = batches(samples, jobs, workers=0, seed=3)
    assert [len(batch["images"]) for batch in serial] == [4, 4, 4, 4, 2]
    assert_equal(serial, batches(samples, jobs, workers=2, seed=3))


def test_the_middle_of_an_epoch_continues_it(samples):
    whole = batches(samples, training_data.epoch_jobs(len(samples), 0, 2), workers=0)
    rest = batches(samples, training_data.epoch_jobs(len(samples), 0, 2, first=8), workers=0)
    assert_equal(whole[2:], rest)


def test_every_epoch_has_every_sample_in_another_order():
    orders = [[index for _, index in training_data.epoch_jobs(50, 0, epoch)] for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_the_first_images_are_those_of_the_first_batches(samples):
    settings = TrainingSettings(data="", train="", seed=3)
    jobs = training_data.epoch_jobs(len(samples), seed=3, epoch=0)
    expected = np.concatenate([batch["images"] for batch in batches(samples, jobs, workers=0, seed=3)])
    for count, found in ((6, 6), (1000, len(samples))):
        np.testing.assert_array_equal(training_data.first_images(samples, PRESET, settings, count), expected[:found])


def test_epochs_augment_anew(samples):
    first, second = (batches(samples[:1], [(epoch, 0)], workers=0)[0]["images"] for epoch in (0, 1))
    assert (first != second).any()


def test_a_limit_takes_the_same_samples_every_time(samples):
    few, more = ([one.id for one in training_data.limited(samples, limit)] for limit in (5, 9))
    assert len(few) == 5 and len(more) == 9
    assert set(few) < set(more) and more == sorted(more)  # in their order, and nested
    assert few != [one.id for one in samples[:5]]
    assert training_data.limited(samples, 5)[0] is next(one for one in samples if one.id == few[0])
    for limit in (None, len(samples), 1000):
        assert [one.id for one in training_data.limited(samples, limit)] == [one.id for one in samples]


def test_seeds_augment_differently(samples):
    first, second = (batches(samples[:1], [(0, 0)], workers=0, seed=seed)[0]["images"] for seed in (0, 1))
    assert (first != second).any()


def test_repeated_samples_are_augmented_differently(samples):
    first, second = batches(samples[:1] * 2, [(0, 0), (0, 1)], workers=0)[0]["images"]
    assert (first != second).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_made_is_named(samples, workers):
    broken = dataclasses.replace(samples[1], boxes=np.zeros((2, 3), np.float32))
    with pytest.raises(data_queue.WorkerError) as caught:
        batches([samples[0], broken], [(6, 0), (6, 1)], workers)
    start = f"making the sample of {broken.image_path} for epoch 7 failed: "
    assert str(caught.value).startswith(start)


def test_pictures_that_all_fail_end_the_work(samples, tmp_path, monkeypatch, capsys):
    """Their folder exists, but nothing in it can be read any more, as on a failing disk. Each is named once."""
    monkeypatch.setattr(training_data, "_in_a_row", 0)
    monkeypatch.setattr(training_data, "_warned", set())
    (tmp_path / "broken.png").touch()
    broken = [dataclasses.replace(samples[0], image_path=str(tmp_path / "broken.png"))]
    few = [(0, 0)] * (training_data.MOST_UNREADABLE_IN_A_ROW - 1)
    assert all(not batch["class_targets"].any() for batch in batches(broken, few, 0))
    good_again = [(0, 1), *few]
    assert len(batches([*broken, samples[0]], good_again, 0)) > 0
    assert capsys.readouterr().err.count("training continues without") == 1
    with pytest.raises(data_queue.WorkerError, match=r"50 pictures .*broken\.png"):
        batches(broken, [(0, 0)], 0)


def objects(*labels):
    """A stand-in for samples that hold these objects."""
    return [types.SimpleNamespace(labels=np.array(some, np.int32)) for some in labels]


def test_automatic_class_weights():
    samples = objects([0] * 60, [], [0] * 40 + [1], [3] * 4)
    weights = training_data.class_weights("auto", ("a", "b", "c", "d"), samples)
    scale = 105 / (10 + 1 + 2)
    assert weights == pytest.approx((scale / 10, scale, 1, scale / 2), rel=1e-12)
    assert 100 * weights[0] + weights[1] + 4 * weights[3] == pytest.approx(105)  # 1 on average
    assert training_data.class_weights("auto", ("a", "b", "c", "d"), samples * 3) == pytest.approx(weights)
    assert training_data.class_weights("auto", ("a", "b"), objects([0] * 10_000, [1]))[1] == 10
    assert training_data.class_weights("auto", ("a",), objects([])) == (1,)


def test_given_class_weights():
    assert training_data.class_weights(("dog=2.5", "cat=0.5"), ("cat", "cow", "dog")) == (0.5, 1, 2.5)
    assert training_data.class_weights(None, ("cat",)) is None
    for pairs, named in [
        (("cow=1",), "--class-weights cow=1: .*'cow'.* cat$"),
        (("cat=1", "cat=2"), "--class-weights cat=2: 'cat' .*twice"),
        *[((f"cat={text}",), f"--class-weights cat={text}: {text!r} .* 0$") for text in ("0", "-1", "nan", "inf", "x")],
    ]:
        with pytest.raises(UserError, match=named):
            training_data.class_weights(pairs, ("cat",))


def test_targets_decode_to_the_ground_truth(samples):
    jobs = [(0, index) for index in range(4)]
    batch = batches(samples, jobs, workers=0, augmentation="none")[0]
    anchors = ssd_utils.make_anchors(PRESET)
    for row, (_, index) in enumerate(jobs):
        positive = np.flatnonzero(batch["class_targets"][row])
        assert len(positive) >= 1
        assert set(batch["class_targets"][row][positive]) == {samples[index].labels[0] + 1}
        decoded = ssd_utils.decode_boxes(batch["offset_targets"][row][positive], anchors[positive])
        np.testing.assert_allclose(decoded, np.tile(samples[index].boxes, (len(positive), 1)), atol=1e-3)
        assert not batch["offset_targets"][row][batch["class_targets"][row] == 0].any()


def test_threshold_matching_leaves_some_objects_out(samples):
    """A line across the picture overlaps no anchor by half: bipartite matching alone gives it one."""
    line = dataclasses.replace(
        samples[0], boxes=np.float32([[0.1, 0.5, 0.9, 0.51]]), labels=np.zeros(1, np.int32), difficult=np.zeros(1, bool)
    )
    positives = {}
    for how in ("bipartite", "threshold"):
        (batch,) = batches([line], [(0, 0)], 0, augmentation="none", matching=how)
        positives[how] = int((batch["class_targets"] > 0).sum())
    assert positives == {"bipartite": 1, "threshold": 0}


def test_workers_keep_the_memory_of_pictures():
    """Memory that is returned and requested again costs page faults: 700 for a picture of 3 MB."""
    script = """
import resource, sys
import numpy as np
import training_data
if sys.argv[1] == "prepared":
    training_data.prepare_worker()
for _ in range(3):
    [np.ones(3_000_000, np.uint8) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [np.ones(3_000_000, np.uint8) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for way in ("prepared", "as it is"):
        done = subprocess.run(
            [sys.executable, "-c", script, way], capture_output=True, text=True, check=True, cwd=programs.ROOT
        )
        faults[way] = int(done.stdout)
    assert faults["prepared"] < faults["as it is"] / 2


# The cache of decoded pictures


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Samples whose pictures need every kind of entry: decoded whole and smaller, turned by EXIF, no JPEG, too small.

    Two share a picture; one picture cannot be read.
    """
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    sizes = [(1300, 1100), (640, 480), (500, 375), (375, 500), (320, 310), (90, 70), (640, 660), (400, 300)]
    made = []
    for number, (width, height) in enumerate(sizes):
        path, turned = folder / f"{number}.{'png' if number == 6 else 'jpg'}", number == 3
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = (height, width) if turned else (width, height)
        coarse.resize(stored, Image.Resampling.BICUBIC).save(path, **({"exif": exif} if turned else {}))
        low = rng.uniform(0, 0.5, (3, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (3, 2))], axis=1).astype(np.float32)
        labels, difficult = rng.integers(0, 2, 3).astype(np.int32), np.zeros(3, bool)
        made.append(Sample(str(number), str(path), boxes, labels, difficult, width, height, exif=turned))
    (folder / "7.jpg").write_bytes((folder / "7.jpg").read_bytes()[:300])
    time.sleep(picture_cache.RECENT_NS / 1e9)  # younger files are not kept
    return [*made, made[1]]


def jobs_of(samples, epochs):
    return [job for epoch in epochs for job in training_data.epoch_jobs(len(samples), 0, epoch)]


def refuse_to_decode(*source):
    if not source[0].endswith("7.jpg"):
        raise AssertionError(f"{source} is decoded again")
    raise images.ImageError(source[0], "broken")


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("augmentation", transforms.AUGMENTATIONS)
def test_batches_are_the_same_with_a_cache(photographs, augmentation, kind, tmp_path, monkeypatch, capfd):
    """Bit by bit, in the epochs that fill it, when all is in it, and with another number of workers.

    Workers, which take seconds to start, fill it with one augmentation: they share the cache whatever is made of it.
    """
    workers = 2 if augmentation == "full" else 0
    jobs = jobs_of(photographs, range(4))
    more = {"augmentation": augmentation, "cache": kind, "cache_dir": str(tmp_path)}
    plain = batches(photographs, jobs, 0, None, **more)
    assert sum(int((batch["images"] != 0).any(axis=(1, 2, 3)).sum()) for batch in plain) == 4 * 8  # one is broken
    settings = TrainingSettings(data="", train="", **more)
    with caching.opened(photographs, PRESET, settings) as cache:
        assert_equal(plain, batches(photographs, jobs, workers, cache, **more))
        monkeypatch.setattr(images, "read", refuse_to_decode)
        assert_equal(plain, batches(photographs, jobs, 0, cache, **more))
    assert not workers or "7.jpg" in capfd.readouterr().err  # this process has said it before
    if kind == "disk":
        with caching.opened(photographs, PRESET, settings) as cache:
            assert_equal(plain, batches(photographs, jobs, 0, cache, **more))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cache_of_pictures_with_16_bits_knows_how_they_are_spread(photographs, kind, tmp_path, monkeypatch):
    """Also if another training has spread them in another way."""
    path = str(tmp_path / "deep.png")
    Image.fromarray(np.random.default_rng(0).integers(2000, 4000, (330, 310), dtype=np.uint16)).save(path)
    deep = [dataclasses.replace(photographs[0], image_path=path, width=310, height=330)]
    monkeypatch.setattr(picture_cache, "RECENT_NS", 0)  # it was just written
    settings = TrainingSettings(data="", train="", augmentation="none", cache=kind, cache_dir=str(tmp_path / "c"))
    seen = []
    for gray16 in ("2000-4000", images.FULL):
        preset = dataclasses.replace(PRESET, gray16=gray16)
        plain = training_data.first_images(deep, preset, settings, 1)
        for _ in range(2):
            with caching.opened(deep, preset, settings) as cache:
                queue = training_data.make_queue(deep, preset, settings, workers=0, cache=cache)
                for batch in queue.batches([(0, 0)] * 2):
                    np.testing.assert_array_equal(batch.arrays["images"], np.repeat(plain, 2, axis=0))
                queue.close()
        seen.append(plain)
    assert (seen[0] != seen[1]).any()


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_batches_are_the_same_with_a_cache_that_is_too_small(photographs, kind, tmp_path):
    jobs = jobs_of(photographs, range(3))
    more = {"augmentation": "full", "cache": kind, "cache_dir": str(tmp_path), "cache_gb": 0.002}
    plain = batches(photographs, jobs, 0, None, **more)
    with caching.opened(photographs, PRESET, TrainingSettings(data="", train="", **more)) as cache:
        assert_equal(plain, batches(photographs, jobs, 2, cache, **more))
        assert_equal(plain, batches(photographs, jobs, 0, cache, **more))


@pytest.mark.parametrize(
    ("names", "epochs", "cut"), [([*transforms.AUGMENTATIONS], 60, {}), (["none"], 7, {"tiles": (3, 2)})], ids=str
)
def test_what_a_cache_may_take_is_what_it_takes_at_most(photographs, names, epochs, cut):
    """By filling one until all sizes were drawn."""
    samples = photographs[:3]
    for augmentation in names:
        settings = TrainingSettings(data="", train="", augmentation=augmentation, cache="ram", **cut)
        pictures, needed = training_data.cached_bytes(samples * 2, PRESET, settings)
        assert len(pictures) == 3
        store = shared_arrays.MemoryStore(3, [1 << 30] * len(needed))
        cache = picture_cache.PictureCache(pictures, list(needed), store)
        jobs = jobs_of(samples, range(epochs))
        batches(samples, jobs, 0, cache, augmentation=augmentation, **cut)
        assert store.used == sum(needed.values()), augmentation
        cache.close()


@pytest.mark.parametrize(("jpeg", "kinds"), [(True, {4: (450, 300), 1: (1800, 1200)}), (False, {1: (1800, 1200)})])
def test_a_cache_of_tiles_foresees_the_sizes_that_views_have(jpeg, kinds, monkeypatch):
    """The whole of a JPEG is decoded smaller, a tile of a fourth of its width is not, and no other size is needed."""
    monkeypatch.setattr(images, "is_jpeg", lambda path: jpeg)
    corners = np.arange(4, dtype=np.float32)[:, None] / 4 + np.float32([0.1, 0, 0.15, 0])
    sample = Sample("a", "a", corners + np.float32([0, 0.4, 0, 0.6]), np.zeros(4, int), np.zeros(4, bool), 1800, 1200)
    settings = TrainingSettings("", "", augmentation="none", tiles=(4, 1))
    item = training_data.make_item([sample], PRESET, settings)
    assert {item.plan((epoch, 0))[0].max_reduce for epoch in range(10)} == {1, 4}
    _, needed = training_data.cached_bytes([sample], PRESET, settings)
    assert needed == {str(one): shared_arrays.block_bytes(high, wide) for one, (wide, high) in kinds.items()}
    assert list(needed) == [str(one) for one in kinds]  # those that save the most time for a byte first


# Tiles

TILES = {"tiles": (3, 2), "overlap": 0.3}


def test_a_tile_is_the_one_that_a_detector_looks_at(samples):
    """Without an augmentation: pixel by pixel. In as many epochs as views have objects, all of these are seen."""
    settings = TrainingSettings("", "", augmentation="none", **TILES)
    boxes = np.array([[0, 0, 1, 1], [0.3, 0.3, 0.7, 0.7], [0.02, 0.8, 0.06, 0.9]], np.float32)
    sample = dataclasses.replace(samples[0], boxes=boxes, labels=np.array([0, 1, 0], np.int32))
    item = training_data.make_item([sample], PRESET, settings)
    description = config.ModelDescription(PRESET, CLASSES)
    looks = detector.Detector(None, description, precision="", threshold=0, batch_size=1, cut=settings.cut)
    prepared, seen = looks.prepare(images.read(sample.image_path)), []
    for epoch in range(4):
        plan, matches = item.plan((epoch, 0))
        view = item.view((epoch, 0))
        seen.append(view.number)
        np.testing.assert_array_equal(item.render((epoch, 0), plan), prepared[view.number])
        np.testing.assert_allclose(plan.boxes, view.boxes, atol=1e-6)
        np.testing.assert_array_equal(plan.labels, sample.labels[view.kept])
        assert (matches >= 0).any()
    assert sorted(seen) == [0, 2, 4, 5]  # a tile shows less than 0.3 of the first object, two have enough of the second


def test_batches_of_tiles_depend_on_epoch_and_picture_alone(samples):
    """Not on the workers, nor on where an epoch goes on, nor on which picture another rank makes."""
    jobs = training_data.epoch_jobs(len(samples), seed=3, epoch=5)
    more = {"seed": 3, **TILES}
    serial = batches(samples, jobs, workers=0, **more)
    assert_equal(serial, batches(samples, jobs, workers=2, **more))
    assert_equal(serial[2:], batches(samples, jobs[8:], workers=0, **more))
    every_second = batches(samples, jobs[1::2], workers=0, **more)
    np.testing.assert_array_equal(every_second[0]["images"][:2], serial[0]["images"][1::2])
    plain = batches(samples, jobs, workers=0, seed=3)
    assert any((a["images"] != b["images"]).any() for a, b in zip(serial, plain, strict=True))


@pytest.mark.parametrize(("kind", "augmentation"), [("ram", "full"), ("disk", "none")])
def test_batches_of_tiles_are_the_same_with_a_cache(photographs, augmentation, kind, tmp_path, monkeypatch):
    jobs = jobs_of(photographs, range(2))
    more = {"augmentation": augmentation, "cache": kind, "cache_dir": str(tmp_path), **TILES}
    plain = batches(photographs, jobs, 0, None, **more)
    with caching.opened(photographs, PRESET, TrainingSettings(data="", train="", **more)) as cache:
        assert_equal(plain, batches(photographs, jobs, 0, cache, **more))
        monkeypatch.setattr(images, "read", refuse_to_decode)
        assert_equal(plain, batches(photographs, jobs, 0, cache, **more))


def test_pictures_that_match_nothing_are_redrawn():
    """Against the loop of the article's code: augment until an anchor matches, at most 50 times."""
    small = np.array([[0.4, 0.4, 0.46, 0.43]], np.float32)
    sample = Sample("a", "a.png", small, np.zeros(1, np.int32), np.zeros(1, bool), 500, 400)
    empty = dataclasses.replace(sample, boxes=small[:0], labels=np.zeros(0, np.int32), difficult=np.zeros(0, bool))
    preset, chosen = ssd_utils.get_preset("vgg300"), {"data": "", "train": "", "matching": "threshold"}
    keep, redraw = (
        training_data.make_item([sample, empty], preset, TrainingSettings(**chosen, unmatched=way))
        for way in ("keep", "redraw")
    )
    drawn = []
    for epoch in range(40):
        rng, count, plan = np.random.default_rng([0, epoch, 0]), 0, None
        while plan is None or (count < 50 and not len(set(matches.tolist()) - {-1})):  # noqa: F821
            plan = redraw.transform.plan(500, 400, small, sample.labels, rng)
            matches = ssd_utils.match_anchors(redraw.anchors, plan.boxes, bipartite=False)
            count += 1
        drawn.append(count)
        found, found_matches = redraw.plan((epoch, 0))
        assert found.choices == plan.choices and (found_matches == matches).all()
        if count == 1:
            assert keep.plan((epoch, 0))[0].choices == plan.choices
        else:
            assert (keep.plan((epoch, 0))[1] < 0).all()
    assert 1 in drawn and max(drawn) > 3
    assert redraw.plan((0, 1))[0].choices == keep.plan((0, 1))[0].choices  # without objects there is nothing to match


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Samples with more pixels than the input: where they are only resized, that is the first step in each epoch."""
    folder = programs.write_shapes(tmp_path_factory.mktemp("large"), {"train": 4}, size=(400, 310))
    return source_pascal_voc.load(str(folder), "train", CLASSES)


FLIPPED = dataclasses.replace(transforms.AUGMENTATIONS["light"], vertical_flip_probability=0.5)


@pytest.mark.parametrize("augmentation", ["light", "none", FLIPPED], ids=["light", "none", "flipped"])
def test_targets_of_whole_pictures_are_kept(large, augmentation):
    """Every epoch has the targets and pixels of the plan, those that were kept and those that were not."""
    item = training_data.make_item(large, PRESET, TrainingSettings("", "", augmentation=augmentation))
    rows = {field.name: np.ones(field.shape, field.dtype) for field in training_data._fields(PRESET)}
    for job in [(epoch, index) for epoch in range(6) for index in range(4)]:
        item(job, rows)
        plan, matches = item.plan(job)
        targets = ssd_utils.encode_targets(item.anchors, plan.boxes, plan.labels, matches, PRESET.variances)
        for name, expected in zip(("class_targets", "offset_targets"), targets, strict=True):
            np.testing.assert_array_equal(rows[name], expected)
        np.testing.assert_array_equal(rows["images"], item.render(job, plan))
    ways = [(0, mirror, flip) for mirror in (False, True) for flip in (False, True)]
    assert any(item._kept.fill(way, (rows["class_targets"], rows["offset_targets"])) for way in ways)


def test_a_redrawn_picture_that_is_only_resized_has_the_targets_of_what_it_shows(large):
    """An object that an anchor matches only in the mirror, so that where the first draw has none, another follows."""
    box = np.float32([[0.511, 0.293, 0.608, 0.346]])
    sample = dataclasses.replace(large[0], boxes=box, labels=np.zeros(1, np.int32), difficult=np.zeros(1, bool))
    settings = TrainingSettings("", "", augmentation="light", matching="threshold", unmatched="redraw")
    item = training_data.make_item([sample], PRESET, settings)
    rows = {field.name: np.ones(field.shape, field.dtype) for field in training_data._fields(PRESET)}
    draws = [np.random.default_rng([0, epoch, 0]) for epoch in range(6)]
    first = [transforms.draw_choices(item.transform.augmentation, box, rng).mirror for rng in draws]
    assert set(first) == {False, True}
    for epoch in range(6):
        item((epoch, 0), rows)
        plan, matches = item.plan((epoch, 0))
        assert plan.choices.mirror and (matches >= 0).any()
        assert rows["class_targets"].any()
        np.testing.assert_array_equal(rows["images"], item.render((epoch, 0), plan))


def test_kept_targets_have_a_limit():
    classes, offsets = np.array([0, 2, 0, 1], np.int32), np.arange(16, dtype=np.float32).reshape(4, 4)
    offsets[classes == 0] = 0
    out = np.ones(4, np.int32), np.ones((4, 4), np.float32)
    kept = training_data.KeptTargets(limit=2500)
    for key in range(4):
        kept.keep(key, (classes * (key + 1), offsets))
    assert [kept.fill(key, out) for key in range(4)] == [True, True, True, False]
    assert kept.fill(2, out)
    np.testing.assert_array_equal(out[0], classes * 3)
    np.testing.assert_array_equal(out[1], offsets)
