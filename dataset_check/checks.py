"""What can be wrong with a data set: a scan of it -> findings, and the numbers of its ground truth.

Pure functions; nothing here opens a file. `quick_notes` is the part that train.py runs by itself.
"""

import collections
import itertools
import os
from typing import NamedTuple

import numpy as np

import source_pascal_voc
import ssd_utils
from dataset_check import anchor_advisor, scanning
from media import images
from system import wording

TINY = 8  # pixels of the input, side of a square of the box's area: one cell of the finest feature map
OUTSIDE_TOLERANCE = 1  # pixels: annotations that count from 0 are off by one everywhere
RARE, RARE_SHARE = 10, 0.05  # objects, and in relation to the most frequent class
HINT, SIMILAR = 0.6, 0.75  # difflib's ratio of names: for a hint; to suspect a slip of the pen
SIMILAR_TIMES = 5  # ... of a name that is this many times as frequent
SAME_SIGNATURE = 3.0  # mean difference of gray levels, of 255, up to which pictures are near-duplicates


class Defect(NamedTuple):
    """A kind of finding. grave: it stops a training or spoils its result; fixed: --fix mends it."""

    title: str
    training: str  # what train.py does
    fix: str  # what --fix does
    grave: bool = False
    fixed: bool = True


# The gravest first: the order of every report.
DEFECTS = {
    "missing-picture": Defect("listed, but there is no such picture", "refuses", "takes it off the list", True),
    "missing-annotation": Defect("no annotation", "refuses", "takes it off the list", True),
    "bad-annotation": Defect("annotation cannot be read", "refuses", "takes it off the list", True),
    "listed-twice": Defect("listed twice", "refuses", "lists it once", True),
    "unreadable": Defect(
        "picture cannot be read", "refuses, or goes on without it with a message", "takes it off the list", True
    ),
    "truncated": Defect("truncated picture", "goes on without it, with a message", "takes it off the list", True),
    "damaged": Defect(
        "damaged picture, a part is made up by the decoder", "learns from it", "takes it off the list", True
    ),
    "in-two-splits": Defect(
        "listed in two splits", "learns what it is tested on", "takes it off the training side", True
    ),
    "duplicate-across-splits": Defect(
        "same picture in two splits", "learns what it is tested on", "takes it off the training side", True
    ),
    "near-duplicate-across-splits": Defect(
        "almost the same picture in two splits", "learns what it is tested on", "leaves it", True, False
    ),
    "unknown-class": Defect("class not in --classes", "refuses, or --other-classes ignore", "leaves it", True, False),
    "similar-class": Defect("class name like another, misspelt?", "takes it for a class", "leaves it", True, False),
    "size": Defect("annotation states another size than the file's", "takes the file's size", "corrects it", True),
    "inverted-box": Defect("inverted box", "drops it, with a message", "swaps its corners"),
    "empty-box": Defect("empty box", "drops it, with a message", "drops it"),
    "outside-box": Defect("box outside the picture", "drops it, with a message", "drops it"),
    "reaching-box": Defect("box reaches out of the picture", "clips it", "clips it"),
    "repeated-box": Defect("the same box twice", "learns it twice", "drops the second"),
    "duplicate": Defect("same picture twice in a split", "learns it twice", "keeps the one with more objects"),
    "near-duplicate": Defect("almost the same picture in a split", "learns from both", "leaves it", False, False),
    "exif": Defect("rotated by EXIF", "turns it if its annotation was made so", "turns the pixels for good"),
    "tiny-box": Defect("tiny box at the input's size", "learns it, will hardly find it", "leaves it", False, False),
    "rare-class": Defect("rare class", "learns it badly", "leaves it", False, False),
    "no-objects": Defect("no objects", "takes it as background, adds little", "leaves it", False, False),
    "grayscale": Defect("gray picture", "learns from it", "leaves it", False, False),
    "unlisted": Defect("picture that no split lists", "does not see it", "leaves it out"),
}


class Finding(NamedTuple):
    """A defect of a file. picture: the scanning.Picture or None; objects: indices in its annotation.

    other: the Picture that it is a copy of.
    """

    defect: str
    path: str
    detail: str
    picture: scanning.Picture | None = None
    objects: tuple = ()
    other: scanning.Picture | None = None

    @property
    def count(self):
        """Boxes that have the defect, or 1."""
        return len(self.objects) or 1


def check(scan, preset, class_names=None, near_duplicates=False):
    """All findings of a Scan, the gravest first. class_names: what --classes says, or None."""
    found = [
        *check_files(scan),
        *check_lists(scan),
        *check_duplicates(scan),
        *check_near_duplicates(scan, near_duplicates),
        *check_boxes(scan, preset.input_size),
        *check_classes(scan, class_names),
    ]
    order = list(DEFECTS)
    return sorted(found, key=lambda finding: order.index(finding.defect))  # stable: files stay in order


def check_files(scan):
    """Pictures and annotations that are missing, unreadable or odd; one defect a file at most of those that stop."""
    for picture in scan.pictures:
        path = picture.image_path or f"{picture.folder}/JPEGImages/{picture.id}.*"
        if picture.image_path is None:
            yield Finding("missing-picture", path, f"listed in {', '.join(picture.splits)}", picture)
        elif picture.problem is not None:
            kind = "truncated" if picture.problem == images.TRUNCATED else "unreadable"
            yield Finding(kind, path, picture.problem, picture)
        elif picture.damage is not None:
            yield Finding("damaged", path, picture.damage, picture)
        if picture.annotation is None:
            kind = "missing-annotation" if picture.annotation_missing else "bad-annotation"
            yield Finding(kind, picture.annotation_path, picture.annotation_problem, picture)
        elif not picture.annotation.objects:
            yield Finding("no-objects", picture.annotation_path, "", picture)
        if picture.readable:
            yield from _check_odd(picture)
    for path in scan.unlisted:
        yield Finding("unlisted", path, "")


def _check_odd(picture):
    """A readable picture that is gray or turned, or whose annotation states another size."""
    if picture.gray:
        yield Finding("grayscale", picture.image_path, "", picture)
    if picture.orientation != 1:
        drawn = "turned" if picture.exif else "stored"
        detail = f"orientation {picture.orientation}; its boxes count as drawn on the picture as {drawn}"
        yield Finding("exif", picture.image_path, detail, picture)
    stated = (picture.annotation.width, picture.annotation.height)
    if None not in stated and stated != picture.size:
        detail = "states {}x{}, the file has {}x{}".format(*stated, *picture.size)
        if drawn_on_stated_size(picture):
            detail += "; its boxes fit the stated size: the picture was resized after it was annotated"
        yield Finding("size", picture.annotation_path, detail, picture)


def drawn_on_stated_size(picture):
    """Whether the boxes fit the size that the annotation states, of equal shape, and not that of the file."""
    stated, objects = (picture.annotation.width, picture.annotation.height), picture.annotation.objects
    if None in stated or not objects or abs(stated[0] * picture.size[1] / (stated[1] * picture.size[0]) - 1) > 0.02:
        return False
    reach = max(item.xmax for item in objects), max(item.ymax for item in objects)
    within = all(far <= side + OUTSIDE_TOLERANCE for far, side in zip(reach, stated, strict=True))
    return within and any(far > side + OUTSIDE_TOLERANCE for far, side in zip(reach, picture.size, strict=True))


def side(split_name):
    """0 for a split to train on, 2 for one to test on, 1 for any other, such as val."""
    name = split_name.rpartition(":")[2].lower()
    return 0 if "train" in name else 2 if "test" in name else 1


def conflicts(splits):
    """Pairs of split names, a set of both orders, that should have no picture in common.

    Not those of which one is a part of the other by design, or all of it: trainval holds train and val, train_small is
    of train. Splits of two folders conflict if they are of two sides.
    """
    ids = {split.name: frozenset(split.ids) for split in splits}
    found = set()
    for one, two in itertools.permutations(splits, 2):
        if one.folder != two.folder:
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
    """Splits of a picture that it must leave, since another split it is in is nearer to the test: a set."""
    lost = set()
    for one, two in itertools.combinations(picture.splits, 2):
        if (one, two) in conflicting:
            lost.add(one if side(one) < side(two) else two)
    return lost


def check_lists(scan):
    """Ids that stand twice in a list, or in two lists that should have none in common."""
    conflicting = conflicts(scan.splits)
    picture_of = {(picture.folder, picture.id): picture for picture in scan.pictures}
    for split in scan.splits:
        for image_id, count in collections.Counter(split.ids).items():
            if count > 1:
                detail = f"{image_id} stands there {count} times"
                yield Finding("listed-twice", split.path, detail, picture_of[split.folder, image_id])
    for picture in scan.pictures:
        if lost_splits(picture, conflicting):
            detail = f"listed in {', '.join(picture.splits)}"
            yield Finding("in-two-splits", picture.image_path or picture.annotation_path, detail, picture)


def check_duplicates(scan):
    """Files of equal content. Of each group the one nearest to the test is right, then the one with most objects."""
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
                yield Finding(kind, other.image_path, _copy_of(other, "the same as", kept), other, other=kept)


def check_near_duplicates(scan, within_splits=False):
    """Pictures that look like another at 16 × 16 pixels: shrunk, compressed again, or neighbours in a film.

    Those of two splits that should have none in common, the one on the training side; within_splits: all others too.
    Each is told of once, however many are like it: of a camera that stands still they all are.
    """
    pictures = sorted((one for one in scan.pictures if one.readable), key=lambda one: -max(map(side, one.splits)))
    apart, contents = _apart(pictures, conflicts(scan.splits)), _numbered([one.digest for one in pictures])
    kinds = {"near-duplicate-across-splits": True, **({"near-duplicate": False} if within_splits else {})}
    told = {kind: np.zeros(len(pictures), bool) for kind in kinds}
    for index, near in _alike(pictures):
        near = near[contents[near] != contents[index]]
        for kind, crossing in kinds.items():
            for one, two in _untold(index, near[apart(index, near) == crossing], told[kind]):
                one, two = pictures[one], pictures[two]
                yield Finding(kind, two.image_path, _copy_of(two, "like", one), two, other=one)


def _apart(pictures, conflicting):
    """Callable (index, indices) -> bool array: whether pictures are in splits that should have none in common."""
    groups = list(dict.fromkeys(picture.splits for picture in pictures))
    pairs = [[any(pair in conflicting for pair in itertools.product(a, b)) for b in groups] for a in groups]
    table, group = np.array(pairs, bool), _numbered([picture.splits for picture in pictures])
    return lambda index, indices: table[group[index], group[indices]]


def _numbered(values):
    """int array: the number of each value, in the order of their first appearance."""
    numbers = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)


def _untold(index, near, told):
    """Of the pairs of `index` and each of `near` those whose later one is new to `told`, which is updated."""
    later = near[near > index]
    later = later[~told[later]]
    told[later] = True
    yield from ((index, other) for other in later)
    if not told[index] and (near < index).any():
        told[index] = True
        yield near[near < index][0], index


def _copy_of(picture, relation, other):
    name = os.path.basename(other.image_path)
    return f"in {', '.join(picture.splits)}; {relation} {name} in {', '.join(other.splits)}"


def _alike(pictures):
    """Yield (index, array of indices) of pictures whose tiny copies differ by SAME_SIGNATURE or less on average.

    Each pair is there once.
    """
    if not pictures:
        return
    tiny = np.stack([scanning.pixels(one.signature) for one in pictures])
    # A mean difference is at least the difference of the means: of the whole for sorting, of 4 × 4 parts for sieving
    parts = tiny.reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)
    order = np.argsort(tiny.mean(axis=1), kind="stable")
    means = tiny.mean(axis=1)[order]
    ends = np.searchsorted(means, means + SAME_SIGNATURE, "right")
    for place, index in enumerate(order):
        near = order[place + 1 : ends[place]]
        near = near[np.abs(parts[near] - parts[index]).mean(axis=1) <= SAME_SIGNATURE]
        near = near[np.abs(tiny[near] - tiny[index]).mean(axis=1) <= SAME_SIGNATURE]
        yield index, near


def check_boxes(scan, input_size):
    """Boxes that are empty, inverted, outside, reaching out, tiny in an input of that many pixels, or repeated."""
    for picture in scan.pictures:
        if not picture.readable:
            continue
        of_kind, seen = collections.defaultdict(list), set()
        for index, item in enumerate(picture.annotation.objects):
            kind = "repeated-box" if item[:5] in seen else box_defect(item, picture.size, input_size)
            seen.add(item[:5])
            of_kind[kind].append(index)
        of_kind.pop(None, None)
        for kind, indices in of_kind.items():
            yield Finding(kind, picture.annotation_path, _objects(picture, indices), picture, tuple(indices))


def box_defect(item, size, input_size):
    """The defect of an AnnotatedObject in a picture of (width, height), or None."""
    if item.xmin == item.xmax or item.ymin == item.ymax:
        return "empty-box"
    if item.xmin > item.xmax or item.ymin > item.ymax:
        return "inverted-box"
    edges = np.array(item.edges_px)
    inside = edges.clip(0, size * 2)
    across, down = inside[2] - inside[0], inside[3] - inside[1]
    if across <= 0 or down <= 0:
        return "outside-box"
    if np.abs(edges - inside).max() > OUTSIDE_TOLERANCE:
        return "reaching-box"
    if input_size * np.sqrt(across / size[0] * down / size[1]) < TINY:
        return "tiny-box"
    return None


def _objects(picture, indices):
    """'object 3 (dog 7,7,7,7), …' for some objects of a picture, numbered from 1 as errors do."""
    items = [(index + 1, picture.annotation.objects[index]) for index in indices[:3]]
    more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
    numbers = ("object {} ({} {:g},{:g},{:g},{:g})".format(number, *item[:5]) for number, item in items)
    return ", ".join(numbers) + more


def check_classes(scan, class_names=None):
    """Names that are unknown, like another, or rare. A finding names the first annotation that has the name."""
    counts, first, where = collections.Counter(), {}, collections.defaultdict(set)
    for picture in scan.pictures:
        for item in picture.annotation.objects if picture.annotation else ():
            counts[item.name] += 1
            first.setdefault(item.name, picture)
            where[item.name].add(picture.annotation_path)
    known = list(class_names or counts)
    for name, count in sorted(counts.items()):
        files = f"{name!r}: {wording.plural(count, 'object')} in {wording.plural(len(where[name]), 'file')}"
        path, picture = first[name].annotation_path, first[name]
        objects = tuple(at for at, item in enumerate(picture.annotation.objects) if item.name == name)
        if class_names and name not in known:
            near = wording.nearest(name, known, HINT)
            yield Finding("unknown-class", path, files + (f"; nearest: {near!r}" if near else ""), picture)
        elif not class_names and (near := _meant(name, counts)):
            detail = f"{files}; nearest: {near!r} ({counts[near]})"
            yield Finding("similar-class", path, detail, picture, objects[:1])
        elif is_rare(count, counts):
            yield Finding("rare-class", path, files, picture)
    for name in known:
        if name not in counts:
            yield Finding("rare-class", scan.data, f"{name!r}: not a single object")


def _meant(name, counts):
    """The far more frequent name that a name is probably a slip of, or None; Pascal VOC's names are no slips."""
    frequent = [other for other, count in counts.items() if count >= SIMILAR_TIMES * counts[name]]
    near = wording.nearest(name, frequent, SIMILAR)
    if not near or name in source_pascal_voc.CLASSES:
        return None
    return near if abs(len(wording.plain(near)) - len(wording.plain(name))) <= 1 else None


def is_rare(count, counts):
    """Whether a class of that many objects is rare beside the others, {name: count}."""
    return count < RARE and count < RARE_SHARE * max(counts.values())


def count_objects(scan):
    """{class: {split: objects}}, the most frequent class first; only of pictures that can be read."""
    table = collections.defaultdict(lambda: dict.fromkeys((split.name for split in scan.splits), 0))
    for picture in scan.pictures:
        for item in picture.annotation.objects if picture.readable else ():
            for split in picture.splits:
                table[item.name][split] += 1
    return dict(sorted(table.items(), key=lambda row: -sum(row[1].values())))


class GroundTruth(NamedTuple):
    """Boxes as training sees them. boxes: float64 [N,4] in 0..1; labels: int [N]; names: of the labels."""

    boxes: np.ndarray
    labels: np.ndarray
    names: tuple
    splits: tuple


def ground_truth(scan, class_names=None):
    """The usable boxes of the splits to train on, or of all if there is none: GroundTruth.

    Clipped; empty, inverted and outside ones and classes beside class_names left out, as train.py does.
    """
    splits = tuple(split.name for split in scan.splits if side(split.name) == 0)
    splits = splits or tuple(split.name for split in scan.splits)
    found, labels, names = [], [], {name: label for label, name in enumerate(class_names or ())}
    for picture in scan.pictures:
        if not picture.readable or not set(picture.splits) & set(splits):
            continue
        width, height = picture.size
        for item in picture.annotation.objects:
            if item.name not in names and class_names:
                continue
            edges = (np.array(item.edges_px) / (width, height, width, height)).clip(0, 1)
            if item.has_area and (edges[2:] > edges[:2]).all():
                found.append(edges)
                labels.append(names.setdefault(item.name, len(names)))
    return GroundTruth(np.array(found, np.float64).reshape(-1, 4), np.array(labels, int), tuple(names), splits)


def quick_notes(samples, valid, class_names, preset):
    """What the user should know before a training: a few lines, none for clean data. Opens no file.

    samples, valid: lists of Sample to train on and to validate with.
    """
    notes = []
    shared = {sample.image_path for sample in samples} & {sample.image_path for sample in valid}
    if shared:
        both = wording.plural(len(shared), "picture")
        notes.append(f"{both} in both --train and --valid, the first is {min(shared)}")
    boxes = np.concatenate([sample.boxes for sample in samples])
    labels = np.concatenate([sample.labels for sample in samples])
    counts = {name: int((labels == label).sum()) for label, name in enumerate(class_names)}
    if rare := [f"{name} ({count})" for name, count in counts.items() if not count or is_rare(count, counts)]:
        notes.append("few objects to learn from: " + _some(rare))
    without = sum(not len(sample.boxes) for sample in samples)
    if without > len(samples) / 2:
        notes.append(f"{without} of {len(samples)} pictures have no objects, they add little")
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * preset.input_size
    if (tiny := int((sides < TINY).sum())) > len(boxes) / 20:
        notes.append(
            f"{tiny} of {len(boxes)} objects are smaller than {TINY} pixels at the input's size, too small to be found"
        )
    notes += _quick_matchable(preset, boxes, labels, class_names)
    return notes


def _quick_matchable(preset, boxes, labels, class_names):
    """A line if the anchors match less than half of all objects, or of some classes."""
    table = anchor_advisor.matchable(preset, boxes, labels, class_names)
    low = [
        f"{name} {hits / total:.0%}"
        for name, sizes in table.items()
        for hits, total in [sizes[anchor_advisor.ALL]]
        if total >= RARE and hits < total / 2
    ]
    if not low:
        return []
    return [
        f"anchors overlap few objects by IoU {ssd_utils.MATCH_IOU:g}: {_some(low)}; "
        "check_dataset.py --anchors FILE proposes others, train.py --anchors FILE takes them"
    ]


def _some(items, limit=5):
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
