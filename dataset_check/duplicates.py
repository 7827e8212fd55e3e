"""Pictures that a data set has more than once: listed twice, in two splits, copied, or almost the same.

Splits conflict if they should have no picture in common, such as train and test.
"""

import collections
import itertools
import os

import numpy as np

from dataset_check import scanning
from dataset_check.defects import Finding

SAME_SIGNATURE = 3.0  # mean difference of gray levels, of 255, up to which pictures are near-duplicates


def side(split_name):
    """What a split is for: 0 training, 2 testing, 1 anything else, such as val."""
    name = split_name.rpartition(":")[2].lower()
    return 0 if "train" in name else 2 if "test" in name else 1


def conflicts(splits):
    """The pairs of split names that conflict, a set with both orders of each pair.

    Splits of one folder do not conflict if one holds the other by design: trainval holds val, train holds train_small.
    Splits of two folders conflict if they are for different purposes (`side`).
    """
    ids = {split.name: frozenset(split.ids) for split in splits}
    found = set()
    for one, two in itertools.permutations(splits, 2):
        if one.home != two.home:
            apart = side(one.name) != side(two.name)
        else:
            a, b = (split.name.rpartition(":")[2] for split in (one, two))  # without the year
            related = a in b or b in a or "all" in (a, b)
            nested = ids[one.name] <= ids[two.name] or ids[two.name] <= ids[one.name]
            apart = not (related and nested)
        if apart:
            found.add((one.name, two.name))
    return found


def lost_splits(picture, conflicting):
    """The set of splits that a picture must leave: of two that conflict, the one for training. conflicting: a set."""
    lost = set()
    for one, two in itertools.combinations(picture.splits, 2):
        if (one, two) in conflicting:
            lost.add(one if side(one) < side(two) else two)
    return lost


def check_lists(scan):
    """Yield a Finding for each id that is twice in a list, or in the lists of two splits that conflict."""
    conflicting, picture_of = conflicts(scan.splits), scan.picture_of
    for split in scan.splits:
        counts = collections.Counter(split.ids)
        for key, one in split.listed_of.items():
            if counts[one.id] > 1:
                detail = f"{one.id} is listed {counts[one.id]} times"
                yield Finding("listed-twice", split.where, detail, picture_of[key])
    for picture in scan.pictures:
        if lost_splits(picture, conflicting):
            detail = f"listed in {', '.join(picture.splits)}"
            yield Finding("in-two-splits", picture.image_path or picture.annotation_path, detail, picture)


def check_duplicates(scan):
    """Yield a Finding for each copy of a file. The original is the one with the highest `side`, then most objects."""
    conflicting, groups = conflicts(scan.splits), collections.defaultdict(list)
    for picture in scan.pictures:
        if picture.readable and picture.damage is None:
            groups[picture.digest].append(picture)
    for group in groups.values():
        kept = max(group, key=lambda one: (max(map(side, one.splits)), len(one.annotation.objects)))
        for other in group:
            if other is not kept:
                crossing = any(pair in conflicting for pair in itertools.product(other.splits, kept.splits))
                kind = "duplicate-across-splits" if crossing else "duplicate"
                if other.image_path == kept.image_path:  # files of two splits annotate it
                    if not crossing:  # as trainval holds train
                        continue
                    kind = "in-two-splits"
                yield Finding(kind, other.image_path, _copy_of(other, "the same as", kept), other, other=kept)


def check_near_duplicates(scan, within_splits=False):
    """Yield a Finding for each picture that looks like another at 16 × 16 pixels: shrunk, recompressed, the next frame.

    Of two pictures in conflicting splits, the one for training is reported. within_splits: report all other pairs too.
    Each picture is reported once, however many others it is like: pictures of a fixed camera are all alike.
    """
    pictures = sorted((one for one in scan.pictures if one.readable), key=lambda one: -max(map(side, one.splits)))
    apart, contents = _apart(pictures, conflicts(scan.splits)), _numbered([one.digest for one in pictures])
    kinds = {"near-duplicate-across-splits": True, **({"near-duplicate": False} if within_splits else {})}
    reported = {kind: np.zeros(len(pictures), bool) for kind in kinds}
    for index, near in _alike(pictures):
        near = near[contents[near] != contents[index]]
        for kind, crossing in kinds.items():
            for one, two in _unreported(index, near[apart(index, near) == crossing], reported[kind]):
                one, two = pictures[one], pictures[two]
                yield Finding(kind, two.image_path, _copy_of(two, "like", one), two, other=one)


def _apart(pictures, conflicting):
    """Callable (index, indices) -> bool array: whether a picture and each of others are in splits that conflict."""
    groups = list(dict.fromkeys(picture.splits for picture in pictures))
    pairs = [[any(pair in conflicting for pair in itertools.product(a, b)) for b in groups] for a in groups]
    table, group = np.array(pairs, bool), _numbered([picture.splits for picture in pictures])
    return lambda index, indices: table[group[index], group[indices]]


def _numbered(values):
    """int array: equal values get equal numbers, from 0 in the order of their first appearance."""
    numbers = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)


def _unreported(index, near, reported):
    """Yield (earlier, later) for the pairs of `index` with each of `near`, if `later` is not reported yet.

    reported: bool array, updated.
    """
    later = near[near > index]
    later = later[~reported[later]]
    reported[later] = True
    yield from ((index, other) for other in later)
    if not reported[index] and (near < index).any():
        reported[index] = True
        yield near[near < index][0], index


def _copy_of(picture, relation, other):
    """The detail of a finding: 'in train; the same as a.jpg in test'."""
    name = os.path.basename(other.image_path)
    return f"in {', '.join(picture.splits)}; {relation} {name} in {', '.join(other.splits)}"


def _alike(pictures):
    """Yield (index, array of indices) of pictures whose tiny copies differ by SAME_SIGNATURE or less on average.

    Each pair comes once.
    """
    if not pictures:
        return
    tiny = np.stack([scanning.pixels(one.signature) for one in pictures])
    # The mean difference is at least the difference of the means. So sort by the mean of the whole picture, compare
    # those near in this order by the means of 4 × 4 parts, and pixel by pixel only what is left
    parts = tiny.reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)
    order = np.argsort(tiny.mean(axis=1), kind="stable")
    means = tiny.mean(axis=1)[order]
    ends = np.searchsorted(means, means + SAME_SIGNATURE, "right")
    for place, index in enumerate(order):
        near = order[place + 1 : ends[place]]
        near = near[np.abs(parts[near] - parts[index]).mean(axis=1) <= SAME_SIGNATURE]
        near = near[np.abs(tiny[near] - tiny[index]).mean(axis=1) <= SAME_SIGNATURE]
        yield index, near
