"""A cleaned copy of a data set in Pascal VOC layout. The original is only read."""

import os
import pathlib
import shutil
import xml.etree.ElementTree as ElementTree

from tqdm import tqdm

from dataset_check import checks
from media import images
from structures import UserError
from system import files

CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Findings whose picture leaves all lists
LEAVES = {
    "missing-picture",
    "missing-annotation",
    "bad-annotation",
    "unreadable",
    "truncated",
    "damaged",
    "duplicate",
    "duplicate-across-splits",
}


def check_target(target, data):
    """Raise UserError unless a folder for the copy is missing or empty, and apart from the original."""
    new, old = pathlib.Path(target).resolve(), pathlib.Path(data).resolve()
    if new == old or old in new.parents or new in old.parents:
        raise UserError(f"--fix {target}: lies within --data {data} or around it; choose another place")
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise UserError(f"--fix {target}: exists already and is not an empty folder; choose another name")


def write_copy(scan, findings, target, progress=False):
    """Write a copy of the splits of a Scan without what --fix mends. Returns a list of changes, lines of text.

    The lists are written last: a copy that broke off has no splits. Also writes TARGET/changes.txt. Raises UserError
    if the target cannot be written.
    """
    check_target(target, scan.data)
    leaving = {}
    for finding in findings:
        if finding.defect in LEAVES:
            leaving.setdefault((finding.picture.folder, finding.picture.id), finding)
    changes = [
        f"{finding.path}: left out, {checks.DEFECTS[finding.defect].title}"
        + (f" ({finding.detail})" if finding.detail else "")
        for finding in leaving.values()
    ]
    try:
        for picture in tqdm(scan.pictures, "copying", unit="img", leave=False, disable=not progress):
            if (picture.folder, picture.id) not in leaving:
                changes += _copy_picture(picture, _counterpart(scan, picture.folder, target))
        changes += _write_lists(scan, leaving, target)
        files.write(os.path.join(target, "changes.txt"), "".join(f"{line}\n" for line in changes))
    except OSError as error:
        raise UserError(f"--fix {target}: {files.reason(error)}; free space or choose another place") from None
    return changes


def _counterpart(scan, folder, target):
    """The folder of the copy for a folder of the original: TARGET itself, or TARGET/VOC2007."""
    return os.path.join(target, os.path.relpath(folder, scan.data))


def _write_lists(scan, leaving, target):
    """Write ImageSets/Main of the copy. Returns changes."""
    changes = []
    conflicting = checks.conflicts(scan.splits)
    picture_of = {(picture.folder, picture.id): picture for picture in scan.pictures}
    for split in scan.splits:
        kept = []
        for image_id in dict.fromkeys(split.ids):
            if (split.folder, image_id) in leaving:
                continue
            if split.name in checks.lost_splits(picture_of[split.folder, image_id], conflicting):
                name = os.path.basename(picture_of[split.folder, image_id].image_path)
                changes.append(f"{split.path}: {name} taken off, it is in another split too")
            else:
                kept.append(image_id)
        if len(split.ids) > len(set(split.ids)):
            changes.append(f"{split.path}: each picture listed once")
        if not kept:
            changes.append(f"{split.path}: nothing is left on it")
        path = os.path.join(_counterpart(scan, split.folder, target), "ImageSets", "Main", os.path.basename(split.path))
        files.write(path, "".join(f"{image_id}\n" for image_id in kept))
    return changes


def _copy_picture(picture, folder):
    """Copy one picture and its annotation, mended. Returns changes."""
    for part in ("JPEGImages", "Annotations"):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    changes, name = [], os.path.basename(picture.image_path)
    if picture.orientation != 1:
        if os.path.splitext(name)[1].lower() not in images.WRITABLE:
            name = os.path.splitext(name)[0] + ".png"
        upright = images.read(picture.image_path, exif=picture.exif)
        images.write(os.path.join(folder, "JPEGImages", name), upright)
        changes.append(f"{picture.image_path}: EXIF orientation {picture.orientation} taken into the pixels")
        if not picture.exif:
            changes[-1] = f"{picture.image_path}: EXIF orientation {picture.orientation} removed, the boxes fit without"
    else:
        shutil.copyfile(picture.image_path, os.path.join(folder, "JPEGImages", name))
    target = os.path.join(folder, "Annotations", os.path.basename(picture.annotation_path))
    root = ElementTree.parse(picture.annotation_path).getroot()
    mended = _mend(picture, root)
    if not mended:
        shutil.copyfile(picture.annotation_path, target)
    else:
        files.write(target, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    return changes + [f"{picture.annotation_path}: {change}" for change in mended]


def _mend(picture, root):
    """Correct the size and the boxes of an annotation's XML in place. Returns what was changed."""
    changes = []
    stated, size = (picture.annotation.width, picture.annotation.height), picture.size
    if None not in stated and stated != size:
        changes.append("size {}x{} corrected to {}x{}".format(*stated, *size))
        for name, value in zip(("width", "height"), size, strict=True):
            root.find("size").find(name).text = str(value)
    scale = (1, 1)
    if checks.drawn_on_stated_size(picture):
        scale = size[0] / stated[0], size[1] / stated[1]
        changes.append("boxes scaled with it")
    seen = set()
    for number, node in enumerate(root.findall("object"), start=1):
        item = picture.annotation.objects[number - 1]
        before = item[1:5]
        after, reason = mend_box(before, size, scale)
        if after is not None and (item.name, after) in seen:
            after, reason = None, "repeated"
        seen.add((item.name, after))
        if after is None:
            root.remove(node)
            changes.append("object {} ({} {:g},{:g},{:g},{:g}) dropped: {}".format(number, *item[:5], reason))
        elif after != before:
            for name, value in zip(CORNERS, after, strict=True):
                node.find("bndbox").find(name).text = f"{value:.3f}".rstrip("0").rstrip(".")
            if reason:
                changes.append("object {} ({} {:g},{:g},{:g},{:g}) {}".format(number, *item[:5], reason))
    return changes


def mend_box(corners, size, scale=(1, 1)):
    """Corners (xmin, ymin, xmax, ymax), 1-based and inclusive -> (corners or None to drop them, what was done).

    size: (width, height) of the picture; scale: factors along x and y from the size that the boxes were drawn on.
    """
    (xmin, ymin, xmax, ymax), done = corners, []
    if xmin == xmax or ymin == ymax:
        return None, "empty"
    if xmin > xmax or ymin > ymax:
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
        done.append("turned round")
    if scale != (1, 1):
        xmin, xmax, ymin, ymax = (xmin - 1) * scale[0] + 1, xmax * scale[0], (ymin - 1) * scale[1] + 1, ymax * scale[1]
    clipped = max(xmin, 1), max(ymin, 1), min(xmax, size[0]), min(ymax, size[1])
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, "outside"
    if clipped != (xmin, ymin, xmax, ymax):
        done.append("clipped")
    return clipped, " and ".join(done)
