"""Check a data set: a scan of it -> findings, and its boxes as training sees them.

Pure functions; nothing here opens a file.
"""

import collections
from typing import NamedTuple

import numpy as np

import source_pascal_voc
from dataset_check import duplicates
from dataset_check.defects import DEFECTS, Finding
from formats import annotations, class_lists
from media import images
from system import wording

TINY = 8  # pixels of the input, square root of the box's area: one cell of the finest feature map
RARE, RARE_SHARE = (
    10,
    0.05,
)  # a rare class has fewer objects than both: this number, and this share of the most frequent class's
HINT, SIMILAR = 0.6, 0.75  # difflib's ratio of two names: to name one as a hint; to suspect a typing error
SIMILAR_TIMES = 5  # ... if the other name is this many times as frequent


def check(scan, preset, class_names=None, near_duplicates=False):
    """All findings of a Scan, a list, the most serious first.

    preset: its input size decides which boxes are tiny.
    class_names: of --classes, or None.
    near_duplicates: report pictures of one split that are almost the same too.
    """
    found = [
        *check_files(scan),
        *duplicates.check_lists(scan),
        *duplicates.check_duplicates(scan),
        *duplicates.check_near_duplicates(scan, near_duplicates),
        *check_boxes(scan, preset.mean_side),
        *check_classes(scan, class_names),
    ]
    order = list(DEFECTS)
    return sorted(found, key=lambda finding: order.index(finding.defect))  # stable: files stay in order


def check_files(scan):
    """Yield a Finding for each picture or annotation that is missing, unreadable, damaged, odd or not listed."""
    for picture in scan.pictures:
        path = picture.image_path or picture.place
        if picture.image_path is None:
            remedy = picture.problem or (
                f", but it is listed in {', '.join(picture.splits)}; add the file or remove its line"
            )
            yield Finding("missing-picture", path, f"no such picture{remedy}", picture)
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
        if picture.annotation is not None and picture.annotation.left_out:
            yield Finding(
                "no-area", picture.annotation_path, f"{len(picture.annotation.left_out)} of its shapes", picture
            )
        if picture.readable:
            yield from _check_odd(picture)
    for split in scan.splits:
        if not split.pictures:
            yield Finding("empty-split", split.where, f"{split.name} lists no pictures")
    for path in scan.unlisted:
        yield Finding("unlisted", path, "")


def _check_odd(picture):
    """Yield the findings of a readable picture: gray, rotated by EXIF, or of another size than stated."""
    if picture.gray and picture.levels is None:  # 16 bits are of a thermal camera, which has no colors
        yield Finding("grayscale", picture.image_path, "", picture)
    if picture.orientation != 1:
        drawn = "rotated" if picture.exif else "stored"
        detail = f"orientation {picture.orientation}; the boxes fit the picture as {drawn}"
        yield Finding("exif", picture.image_path, detail, picture)
    if images.uses_few_levels(picture.levels):
        low, high = picture.levels
        detail = f"samples {low} to {high}, {(high >> 8) - (low >> 8) + 1} of 256 gray levels after the upper 8 bits"
        yield Finding("few-levels", picture.image_path, f"{detail}; train with --gray16 stretch", picture)
    stated = picture.stated_size
    if None not in stated and stated != picture.size:
        detail = "states {}x{}, the picture has {}x{}".format(*stated, *picture.size)
        if picture.resized:
            yield Finding("resized", picture.annotation_path, f"{detail}; the boxes fit the stated size", picture)
        else:
            other = (
                "has another shape" if not annotations.is_same_shape(picture.size, stated) else "does not fit the boxes"
            )
            yield Finding("size", picture.annotation_path, f"{detail}; the stated size {other}", picture)


def in_fractions(scan):
    """The keys of the readable pictures with boxes in fractions of the picture where pixels are needed, a set.

    A box around all of a picture looks like one of a pixel: it counts where most boxes of its split are in fractions,
    which is where train.py stops.
    """
    written = {
        picture.key: [as_written(item, scan.first_pixel) for item in picture.annotation.objects]
        for picture in scan.pictures
        if picture.readable and picture.annotation.objects
    }
    looks = {key: list(map(annotations.are_fractions, boxes)) for key, boxes in written.items()}
    found = {key for key, own in looks.items() if all(own)}
    for split in scan.splits:
        listed = [key for key in split.listed_of if key in written]
        if 2 * sum(sum(looks[key]) for key in listed) > sum(len(looks[key]) for key in listed):
            found |= {key for key in listed if all(map(annotations.may_be_fractions, written[key]))}
    return found


def as_written(item, first_pixel):
    """(xmin, ymin, xmax, ymax) of a Written as the file has them. first_pixel: as in Scan."""
    return annotations.to_inclusive(item.edges_px) if first_pixel else item.edges_px


def check_boxes(scan, mean_side):
    """Yield a Finding for each picture and defect of its boxes. mean_side: of the preset; decides which are tiny."""
    fractions = in_fractions(scan)
    for picture in scan.pictures:
        if not picture.readable:
            continue
        if picture.key in fractions:
            detail = (
                "the coordinates look like fractions of the picture, and must be pixels: multiply x by its width and "
                "y by its height"
            )
            indices = tuple(range(len(picture.annotation.objects)))
            yield Finding("fractions", picture.annotation_path, detail, picture, indices)
            continue
        of_kind, seen = collections.defaultdict(list), set()
        for index, item in enumerate(picture.annotation.objects):
            kind = "repeated-box" if item[:2] in seen else box_defect(item.edges_px, picture.size, mean_side)
            seen.add(item[:2])
            of_kind[kind].append(index)
        of_kind.pop(None, None)
        if shaped := [at for at, item in enumerate(picture.annotation.objects) if item.shape != "box"]:
            of_kind["shape"] = shaped
        for kind, indices in of_kind.items():
            names = [object_name(index, picture.annotation.objects[index], scan.first_pixel) for index in indices]
            yield Finding(kind, picture.annotation_path, some(names, 3), picture, tuple(indices))


def box_defect(edges_px, size, mean_side):
    """The defect of a box (xmin, ymin, xmax, ymax) in a picture, a key of DEFECTS, or None.

    size: (width, height) of the picture; mean_side: of the network's preset. In pixels.
    """
    xmin, ymin, xmax, ymax = edges_px
    if xmin == xmax or ymin == ymax:
        return "empty-box"
    if xmin > xmax or ymin > ymax:
        return "inverted-box"
    edges = np.array(edges_px)
    inside = edges.clip(0, size * 2)
    across, down = inside[2] - inside[0], inside[3] - inside[1]
    if across <= 0 or down <= 0:
        return "outside-box"
    if np.abs(edges - inside).max() > annotations.OUTSIDE_TOLERANCE:
        return "reaching-box"
    if mean_side * np.sqrt(across / size[0] * down / size[1]) < TINY:
        return "tiny-box"
    return None


def object_name(index, item, first_pixel):
    """'object 3 (dog 7,7,7,7)' for a Written and its index, numbered from 1 as in error messages."""
    corners = ",".join(wording.number(value) for value in as_written(item, first_pixel))
    return f"object {index + 1} ({item.name} {corners})"


def check_classes(scan, class_names=None):
    """Yield a Finding for each class name that is unknown, similar to another, or rare.

    class_names: of --classes, or None. Each Finding names the first annotation with that name.
    """
    counts, first, where = collections.Counter(), {}, collections.defaultdict(set)
    for picture in scan.pictures:
        for item in picture.annotation.objects if picture.annotation else ():
            counts[item.name] += 1
            first.setdefault(item.name, picture)
            where[item.name].add(picture.annotation_path)
    known, forms = list(class_names or counts), collections.Counter(map(class_lists.one_form, counts))
    for name, count in sorted(counts.items()):
        files = f"{name!r}: {wording.plural(count, 'object')} in {wording.plural(len(where[name]), 'file')}"
        path, picture = first[name].annotation_path, first[name]
        objects = tuple(at for at, item in enumerate(picture.annotation.objects) if item.name == name)
        if class_names and name not in known:
            near = wording.nearest(name, known, HINT)
            yield Finding("unknown-class", path, files + (f"; nearest: {near!r}" if near else ""), picture)
        elif not class_names and class_lists.is_background(name):
            way_out = "rename it, or leave its objects out with --classes (all others) --other-classes ignore"
            yield Finding("refused-class", path, f"{files}; the network has this class itself: {way_out}", picture)
        elif not class_names and (unfit := class_lists.unfit(name)):
            detail = f"{files}; it contains {unfit}, and result files are named after classes: rename it"
            yield Finding("refused-class", path, detail, picture)
        elif not class_names and forms[class_lists.one_form(name)] > 1:
            yield Finding("refused-class", path, f"{files}; the name is there in {class_lists.TWO_FORMS}", picture)
        elif not class_names and (near := _meant(name, counts)):
            detail = f"{files}; nearest: {near!r} ({counts[near]})"
            yield Finding("similar-class", path, detail, picture, objects[:1])
        elif is_rare(count, counts):
            yield Finding("rare-class", path, files, picture)
    for name in known:
        if name not in counts:
            yield Finding("rare-class", scan.data, f"{name!r}: no objects")


def _meant(name, counts):
    """The much more frequent name that a name is probably a misspelling of, or None; Pascal VOC's names are right."""
    frequent = [other for other, count in counts.items() if count >= SIMILAR_TIMES * counts[name]]
    near = wording.nearest(name, frequent, SIMILAR)
    if not near or name in source_pascal_voc.CLASSES:
        return None
    return near if abs(len(wording.plain(near)) - len(wording.plain(name))) <= 1 else None


def is_rare(count, counts):
    """Whether a class with `count` objects is rare. counts: {name: objects} of all classes."""
    return count < RARE and count < RARE_SHARE * max(counts.values())


def count_objects(scan):
    """{class: {split: objects}} of the readable pictures, the most frequent class first."""
    table = collections.defaultdict(lambda: dict.fromkeys((split.name for split in scan.splits), 0))
    for picture in scan.pictures:
        for item in picture.annotation.objects if picture.readable else ():
            for split in picture.splits:
                table[item.name][split] += 1
    return dict(sorted(table.items(), key=lambda row: -sum(row[1].values())))


class GroundTruth(NamedTuple):
    """Boxes as training sees them.

    boxes: float64 [N,4] (xmin, ymin, xmax, ymax) in 0..1.
    labels: int [N], indices into names.
    names: the classes.
    splits: names of the splits that the boxes are from.
    """

    boxes: np.ndarray
    labels: np.ndarray
    names: tuple
    splits: tuple


def ground_truth(scan, findings, class_names=None):
    """The GroundTruth of the training splits, or of all splits if none is for training. findings: of `check`.

    As in train.py, boxes are clipped; those without area, crowd regions and those of classes not in class_names are
    left out. So are those in fractions where pixels are needed.
    """
    fractions = {finding.picture.key for finding in findings if finding.defect == "fractions"}
    splits = tuple(split.name for split in scan.splits if duplicates.side(split.name) == 0)
    splits = splits or tuple(split.name for split in scan.splits)
    found, labels, names = [], [], {name: label for label, name in enumerate(class_names or ())}
    for picture in scan.pictures:
        if not picture.readable or picture.key in fractions or not set(picture.splits) & set(splits):
            continue
        width, height = picture.size
        for item in picture.annotation.objects:
            if item.crowd or (item.name not in names and class_names):
                continue
            edges = (np.array(item.edges_px) / (width, height, width, height)).clip(0, 1)
            if (edges[2:] > edges[:2]).all():
                found.append(edges)
                labels.append(names.setdefault(item.name, len(names)))
    return GroundTruth(np.array(found, np.float64).reshape(-1, 4), np.array(labels, int), tuple(names), splits)


def some(items, limit=5):
    """The first of some texts: 'a, b and 3 more'."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
