"""--valid-share: each class by its share, copies on one side, the same pictures every time."""

import collections
import dataclasses
import os

import numpy as np
import pytest

from formats import division
from structures import Sample, UserError


def make(tmp_path, labels_of, contents=None):
    """Samples of files with the labels given: {name: labels}. contents: {name: bytes}, by default all different."""
    samples = []
    for name, labels in labels_of.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((contents or {}).get(name, os.fsencode(name)))
        count = len(labels)
        boxes, difficult = np.tile(np.float32([0, 0, 1, 1]), (count, 1)), np.zeros(count, bool)
        samples.append(Sample(name, str(path), boxes, np.array(labels, np.int32), difficult, 10, 10))
    return samples


def objects(samples, names, data):
    """Counter of labels of the pictures with some names."""
    chosen = [one for one in samples if division.picture_name(one.image_path, data) in set(names)]
    return collections.Counter(label for one in chosen for label in one.labels.tolist())


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_each_class_is_divided_by_the_share(tmp_path, share):
    rng = np.random.default_rng(0)
    frequency = [0.6, 0.25, 0.1, 0.05]
    labels = {f"{at:04d}.jpg": rng.choice(4, int(rng.integers(0, 5)), p=frequency).tolist() for at in range(400)}
    samples = make(tmp_path, labels)
    found = division.divide(samples, share, tmp_path)
    assert set(found.train) | set(found.valid) == labels.keys() and not set(found.train) & set(found.valid)
    assert len(found.valid) == pytest.approx(share * 400, abs=12)
    valid, all_objects = objects(samples, found.valid, tmp_path), objects(samples, labels, tmp_path)
    for label in range(4):
        assert valid[label] == pytest.approx(share * all_objects[label], abs=3)
    background = {name for name, own in labels.items() if not own}
    assert len(background & set(found.valid)) == pytest.approx(share * len(background), abs=2)


def test_one_class_by_hand(tmp_path):
    """Ten pictures with one object each: the two of the highest hashes are for validation."""
    labels = {f"{at}.jpg": [0] for at in range(10)}
    found = division.divide(make(tmp_path, labels), 0.2, tmp_path)
    by_hash = sorted(labels, key=division._hash)
    assert len(found.valid) == 2 and found.train == [name for name in labels if name not in found.valid]
    assert set(found.valid) <= set(by_hash[6:])


def test_the_division_is_of_the_pictures_and_not_of_their_place_or_order(tmp_path):
    labels = {f"a/{at}.jpg": [at % 3] for at in range(30)}
    first = division.divide(make(tmp_path / "one", labels), 0.3, tmp_path / "one")
    backwards = dict(reversed(list(labels.items())))
    second = division.divide(make(tmp_path / "two", backwards), 0.3, tmp_path / "two")
    assert set(first.valid) == set(second.valid) and first.valid == second.valid[::-1]
    assert all(name.startswith("a/") for name in first.valid)
    assert first.valid == sorted(first.valid, key=lambda name: int(name[2:-4]))  # in the order of the samples


def test_copies_stay_on_one_side(tmp_path):
    labels = {f"{at:02d}.jpg": [0] for at in range(40)}
    contents = {f"{at:02d}.jpg": f"{at % 20:02d}".encode() for at in range(40)}  # all of one size
    found = division.divide(make(tmp_path, labels, contents), 0.3, tmp_path)
    assert len(found.valid) == 12
    for side in found:
        assert {contents[name] for name in side} & {contents[name] for name in set(labels) - set(side)} == set()


def test_difficult_objects_do_not_count(tmp_path):
    samples = make(tmp_path, {f"{at}.jpg": [0] for at in range(8)})
    hard = [dataclasses.replace(one, difficult=np.ones(1, bool)) for one in samples]
    with pytest.raises(UserError, match=r"--valid-share 0\.3: no picture has an object that counts"):
        division.divide(hard, 0.3, tmp_path)
    mixed = division.divide([*samples[:4], *hard[4:]], 0.25, tmp_path)
    assert sum(name < "4" for name in mixed.valid) == 1


def test_a_tie_of_objects_goes_to_the_side_that_lacks_pictures(tmp_path):
    """And a tie of both to training. Three of eight pictures show a class of its own, two of training."""
    rare, common = [f"{at}.jpg" for at in range(3)], [f"{at}.jpg" for at in range(3, 8)]
    samples = make(tmp_path, {name: [int(name in common)] for name in rare + common})
    found = division.divide(samples, 0.5, tmp_path)
    assert len(set(rare) & set(found.train)) == 2
    assert len(set(common) & set(found.train)) == 2


def test_a_tie_is_one_where_floats_have_none(tmp_path):
    """After 18 of 45 objects both sides need 13.5, which 0.3 * 45 and 0.7 * 45 - 18 are not."""
    *single, last = sorted((f"{at}.jpg" for at in range(19)), key=division._hash)
    samples = make(tmp_path, {**{name: [0] for name in single}, last: [0] * 27})
    assert division.divide(samples, 0.3, tmp_path).valid == [last]  # training has more pictures than its share


def test_copies_count_as_several_pictures(tmp_path):
    """A side that got a picture and its copy lacks fewer pictures than one with a picture of as many objects."""
    first, copy, second, *common = sorted((f"{at}.jpg" for at in range(8)), key=division._hash)
    labels = {first: [0], copy: [0], second: [0, 0], **{name: [1] for name in common}}
    samples = make(tmp_path, labels, {first: b"same", copy: b"same"})
    found = division.divide(samples, 0.5, tmp_path)
    assert {first, copy} <= set(found.train) and second in found.valid
    assert len(found.train) == len(found.valid) == 4


def test_a_data_set_may_be_a_file(tmp_path):
    """Names are then below its folder."""
    (tmp_path / "train.csv").touch()
    (sample,) = make(tmp_path, {"pictures/a.jpg": [0]})
    assert division.picture_name(sample.image_path, tmp_path / "train.csv") == "pictures/a.jpg"


@pytest.mark.parametrize("labels", [{"a.jpg": [0, 0]}, {"a.jpg": [0], "b.jpg": []}])
def test_a_side_without_objects_is_refused(tmp_path, labels):
    with pytest.raises(
        UserError, match=r"--valid-share 0\.2: 0 of .* would be for validation, without any object"
    ) as error:
        division.divide(make(tmp_path, labels), 0.2, tmp_path)
    assert "\n" not in str(error.value)


def test_it_is_remembered(tmp_path):
    samples = make(tmp_path / "data", {f"{at}.jpg": [0] for at in range(10)})
    found = division.divide(samples, 0.3, tmp_path / "data")
    assert division.read(tmp_path / "division.json") is None
    found.write(tmp_path / "division.json")
    assert division.read(tmp_path / "division.json") == found
    more = make(tmp_path / "data", {"new.jpg": [0]})
    train, valid = found.apply([*more, *samples], tmp_path / "data")
    assert [one.id for one in train] == found.train and [one.id for one in valid] == found.valid
    with pytest.raises(UserError, match=r"0\.jpg, which the run's --valid-share used, is missing; restore it"):
        found.apply(samples[1:], tmp_path / "data")
    for damaged in ("{}", '{"train": [], "valid": [1]}', "["):
        (tmp_path / "division.json").write_text(damaged)
        with pytest.raises(UserError, match=r"division\.json: "):
            division.read(tmp_path / "division.json")


def test_names_that_are_not_utf8(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    samples = make(tmp_path, {name: [0], **{f"{at}.jpg": [0] for at in range(9)}})
    found = division.divide(samples, 0.3, tmp_path)
    found.write(tmp_path / "division.json")
    assert division.read(tmp_path / "division.json") == found and name in [*found.train, *found.valid]


def test_no_objects_at_all(tmp_path):
    with pytest.raises(UserError, match=r"--valid-share 0\.5: no picture has an object that counts; check --train"):
        division.divide(make(tmp_path, {"a.jpg": [], "b.jpg": []}), 0.5, tmp_path)
