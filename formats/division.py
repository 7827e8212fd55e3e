"""Divide the pictures of a split that has no counterpart: some for training, a share for validation (--valid-share).

The division depends only on the pictures: on the paths below the data set's folder, on the classes of their objects,
and on which files are copies of each other. It does not depend on --seed, so that trainings with different seeds have
the same validation pictures.
"""

import collections
import fractions
import hashlib
import os
from typing import NamedTuple

import numpy as np

from structures import UserError
from system import files, wording

TRAIN, VALID = 0, 1
FINEST = 1_000_000  # the largest denominator of a share: 0.3333333 is a third


class Division(NamedTuple):
    """The names of the pictures on each side, lists. A name is `picture_name`."""

    train: list
    valid: list

    def write(self, path):
        """Write a JSON file, which `read` reads."""
        files.write_json(path, self._asdict())

    def apply(self, samples, data):
        """(samples for training, samples for validation); others are left out, as files that were added later are.

        Raises UserError if a picture of the division is not among the samples.
        """
        of_name = {picture_name(one.image_path, data): one for one in samples}
        for name in (*self.train, *self.valid):
            if name not in of_name:
                raise UserError(f"--data {data}: {name}, which the run's --valid-share used, is missing; restore it")
        known = set(self.train), set(self.valid)
        return tuple([one for name, one in of_name.items() if name in side] for side in known)


def read(path):
    """The Division in a file; None if there is no such file. Raises UserError if it is damaged."""
    if not os.path.isfile(path):
        return None
    content = files.read_json(path)
    sides = [content.get(name) for name in Division._fields]
    if not all(isinstance(side, list) and all(isinstance(name, str) for name in side) for side in sides):
        raise UserError(f"{path}: damaged; restore it, or train again")
    return Division(*sides)


def picture_name(image_path, data):
    """What a division calls a picture: its path below the data set's folder, with slashes."""
    root = data if os.path.isdir(data) else os.path.dirname(data)
    return os.path.relpath(image_path, root).replace(os.sep, "/")


def divide(samples, share, data):
    """Divide Samples -> Division, in their order. share: of the pictures and objects for validation, 0 to 1.

    Each class is divided by that share, as far as whole pictures can be (iterative stratification, Sechidis and others
    2011, "On the stratification of multi-label data"); within a class a hash of the pictures' names decides. Copies of
    a picture stay on one side. Difficult objects and crowd regions do not count.
    Raises UserError if there is no object, or one side would have none.
    """
    names = [picture_name(one.image_path, data) for one in samples]
    groups = _copies(samples)
    groups.sort(key=lambda group: min(_hash(names[index]) for index in group))
    counts = _count_objects(samples, groups)
    if not counts[:, :-1].any():
        raise UserError(f"--valid-share {share:g}: no picture has an object that counts; check --train and --classes")
    sides = _stratify(counts, np.array([len(group) for group in groups]), share)
    side_of = {index: side for group, side in zip(groups, sides, strict=True) for index in group}
    found = Division(*([name for at, name in enumerate(names) if side_of[at] == side] for side in (TRAIN, VALID)))
    for side, what in ((TRAIN, "training"), (VALID, "validation")):
        if not counts[sides == side, :-1].any():
            raise UserError(
                f"--valid-share {share:g}: {len(found[side])} of {wording.plural(len(samples), 'picture')} would "
                f"be for {what}, without any object; choose another share, or add pictures"
            )
    return found


def _copies(samples):
    """Lists of indices of samples whose files have the same bytes; most lists have one. Opens files of one size."""
    of_size, groups = collections.defaultdict(list), []
    for index, sample in enumerate(samples):
        of_size[os.path.getsize(sample.image_path)].append(index)
    for indices in of_size.values():
        of_digest = collections.defaultdict(list)
        for index in indices:
            of_digest[files.digest(samples[index].image_path) if len(indices) > 1 else b""].append(index)
        groups += of_digest.values()
    return groups


def _hash(name):
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _count_objects(samples, groups):
    """Objects by group and class, int [G,C+1]; the last column counts the pictures without objects."""
    classes = 1 + max((int(one.labels.max(initial=-1)) for one in samples), default=-1)
    counts = np.zeros((len(groups), classes + 1), np.int64)
    for row, group in zip(counts, groups, strict=True):
        for sample in (samples[index] for index in group):
            labels = sample.labels[~sample.difficult]  # crowd regions are difficult too
            np.add.at(row, labels if len(labels) else [classes], 1)
    return counts


def _stratify(counts, sizes, share):
    """The side of each group, int [G]. counts: as of `_count_objects`; sizes: pictures of each group, [G].

    Takes the class with the fewest objects left, gives its groups in turn to the side that needs more of that class,
    and goes on with the next class.
    """
    # Whole numbers, in units of 1 / share.denominator: ties must be ties, and float64 has no 0.3
    valid = fractions.Fraction(str(share)).limit_denominator(FINEST)
    shares, unit = np.array([valid.denominator - valid.numerator, valid.numerator]), valid.denominator
    need, pictures = np.outer(shares, counts.sum(axis=0)), shares * sizes.sum()
    left, sides = counts.sum(axis=0), np.full(len(counts), -1)
    while (sides < 0).any():
        label = int(np.where(left > 0, left, left.max() + 1).argmin())
        for group in np.flatnonzero((sides < 0) & (counts[:, label] > 0)):
            by_need = need[VALID, label] - need[TRAIN, label] or pictures[VALID] - pictures[TRAIN]
            side = VALID if by_need > 0 else TRAIN
            sides[group] = side
            need[side] -= unit * counts[group]
            pictures[side] -= unit * sizes[group]
            left -= counts[group]
    return sides
