"""Batches hold what the samples say, whoever makes them."""

import numpy as np
import pytest

import config
import source_pascal_voc
import ssd_utils
import training_data

PRESET = ssd_utils.get_preset("vgg300")
CLASSES = ("disc", "square")


@pytest.fixture(scope="module")
def samples(shapes):
    return source_pascal_voc.load(str(shapes), "train", CLASSES)


def batches(samples, jobs, workers, **settings):
    """All batches of some jobs as lists of copied arrays."""
    settings = config.TrainingSettings(data="", train="", batch_size=4, **settings)
    with training_data.make_queue(samples, PRESET, settings, workers=workers) as queue:
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


def test_epochs_augment_anew(samples):
    first, second = (batches(samples[:1], [(epoch, 0)], workers=0)[0]["images"] for epoch in (0, 1))
    assert (first != second).any()


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
    """A disc of 30 pixels in 120×90 overlaps no anchor by half unless bipartite matching gives it one."""
    jobs = [(0, index) for index in range(len(samples))]
    both = [batches(samples, jobs, 0, augmentation="none", matching=how) for how in ("bipartite", "threshold")]
    positives = [sum((batch["class_targets"] > 0).sum() for batch in made) for made in both]
    assert positives[0] >= positives[1]
    assert all((batch["class_targets"] > 0).any(axis=1).all() for batch in both[0])
