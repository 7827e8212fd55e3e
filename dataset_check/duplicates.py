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
FIRST_COMPARED = 64  # pictures among which one is looked for that is like another; then among twice as many, and so on


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
    if not pictures:
        return
    tiny, contents = _Tiny(pictures), _numbered([one.digest for one in pictures])
    apart, groups = _apart(pictures, conflicts(scan.splits)), _numbered([one.splits for one in pictures])
    kinds = {"near-duplicate-across-splits": apart, **({"near-duplicate": ~apart} if within_splits else {})}
    found = [(kind, _Pairs(tiny, contents, groups, wanted)) for kind, wanted in kinds.items()]
    for place in range(len(pictures)):
        for kind, pairs in found:
            for one, two in pairs.of(place):
                one, two = pictures[one], pictures[two]
                yield Finding(kind, two.image_path, _copy_of(two, "like", one), two, other=one)


def _apart(pictures, conflicting):
    """bool [G,G]: whether pictures of each two of the groups, those in the same splits, are in splits that conflict."""
    groups = list(dict.fromkeys(picture.splits for picture in pictures))
    pairs = [[any(pair in conflicting for pair in itertools.product(a, b)) for b in groups] for a in groups]
    return np.array(pairs, bool)


def _numbered(values):
    """int array: equal values get equal numbers, from 0 in the order of their first appearance."""
    numbers = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)


def _copy_of(picture, relation, other):
    """The detail of a finding: 'in train; the same as a.jpg in test'."""
    name = os.path.basename(other.image_path)
    return f"in {', '.join(picture.splits)}; {relation} {name} in {', '.join(other.splits)}"


class _Tiny:
    """The tiny copies of pictures, which are alike if they differ by SAME_SIGNATURE or less on average.

    order: the pictures by brightness; ends: for each place in it the first one that is too bright to be alike.
    """

    def __init__(self, pictures):
        self._pixels = np.stack([scanning.pixels(one.signature) for one in pictures])
        self._parts = self._pixels.reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)
        # The mean difference is at least the difference of the means. So compare only those near in the order of
        # brightness, by the means of 4 × 4 parts, and pixel by pixel only what is left
        means = self._pixels.mean(axis=1)
        self.order = np.argsort(means, kind="stable")
        self.ends = np.searchsorted(means[self.order], means[self.order] + SAME_SIGNATURE, "right")

    def alike(self, index, others):
        """Those of some pictures that are like another one. index, others: int, int array."""
        for copies in (self._parts, self._pixels):
            others = others[np.abs(copies[others] - copies[index]).mean(axis=1) <= SAME_SIGNATURE]
        return others


class _Pairs:
    """The pairs of pictures that are alike, of some groups, in which a picture is the later one at most once.

    Of pictures that are all alike, each is in very many pairs; those that would come to nothing are not compared.
    """

    def __init__(self, tiny, contents, groups, wanted):
        """contents: a number of what each file holds; groups: the group of each picture; wanted: bool [G,G]."""
        self._tiny, self._contents, self._groups = tiny, contents, groups
        self._reported = np.zeros(len(groups), bool)
        # Of each group, the places in the order of brightness of the pictures that its own are compared with
        self._places = [np.flatnonzero(row[groups[tiny.order]]) for row in wanted]
        self._left = list(self._places)  # without most of those that are reported

    def of(self, place):
        """Yield (earlier, later) for pairs of the picture at a place with brighter ones. Call it with rising places."""
        index = self._tiny.order[place]
        later = self._tiny.alike(index, self._unreported(place, index))
        self._reported[later] = True
        yield from ((index, other) for other in later)
        if not self._reported[index] and (earlier := self._first_earlier(place, index)) is not None:
            self._reported[index] = True
            yield earlier, index

    def _unreported(self, place, index):
        """The pictures that may be like that at a place, come after it and are not reported."""
        group = self._groups[index]
        left = self._left[group]
        left = left[np.searchsorted(left, place, "right") :]
        others = self._tiny.order[left[: np.searchsorted(left, self._tiny.ends[place])]]
        rest = others[~self._reported[others]]
        if len(others) - len(rest) > len(left) / 8:  # seldom enough, and all the others are passed over fast
            left = left[~self._reported[self._tiny.order[left]]]
        self._left[group] = left
        return self._of_other_content(index, rest[rest > index])

    def _first_earlier(self, place, index):
        """The first picture, in the order of brightness, that is like that at a place and comes before it, or None."""
        places = self._places[self._groups[index]]
        start, end = np.searchsorted(places, (place + 1, self._tiny.ends[place]))
        others = self._tiny.order[places[start:end]]
        others = self._of_other_content(index, others[others < index])
        size = FIRST_COMPARED
        while len(others):
            if len(found := self._tiny.alike(index, others[:size])):
                return found[0]
            others, size = others[size:], 2 * size
        return None

    def _of_other_content(self, index, others):
        return others[self._contents[others] != self._contents[index]]
