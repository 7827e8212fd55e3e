"""Write a cleaned copy of a data set in Pascal VOC layout. The original is never changed."""

import os
import pathlib
import shutil
import xml.etree.ElementTree as ElementTree

from tqdm import tqdm

import source_pascal_voc
from dataset_check import checks, duplicates
from dataset_check.defects import DEFECTS
from media import images
from structures import UserError
from system import files

# Defects whose picture is removed from all lists
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
    """Raise UserError unless the folder for the copy is new or empty, and neither in nor around the original."""
    new, old = pathlib.Path(target).resolve(), pathlib.Path(data).resolve()
    if new == old or old in new.parents or new in old.parents:
        raise UserError(f"--fix {target}: it is inside --data {data} or contains it; choose another place")
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise UserError(f"--fix {target}: it exists and is not an empty folder; choose another name")


def write_copy(scan, findings, target, progress=False):
    """Write a copy of the splits of a Scan without the defects that --fix corrects. Returns the changes, lines of text.

    Also writes the changes to TARGET/changes.txt. The lists of splits are written last, so that an interrupted copy
    has no splits. Raises UserError if the target cannot be written.
    """
    check_target(target, scan.data)
    leaving = {}
    for finding in findings:
        if finding.defect in LEAVES:
            leaving.setdefault((finding.picture.folder, finding.picture.id), finding)
    changes = [
        f"{finding.path}: left out: {DEFECTS[finding.defect].title}"
        + (f" ({finding.detail})" if finding.detail else "")
        for finding in leaving.values()
    ]
    try:
        for picture in tqdm(scan.pictures, "copying", unit="img", leave=False, disable=not progress):
            if (picture.folder, picture.id) not in leaving:
                changes += _copy_picture(picture, _place_in_copy(scan, picture.folder, target))
        changes += _write_lists(scan, leaving, target)
        files.write(os.path.join(target, "changes.txt"), "".join(f"{line}\n" for line in changes))
    except OSError as error:
        raise UserError(f"--fix {target}: {files.reason(error)}; free space or choose another place") from None
    return changes


def _place_in_copy(scan, path, target):
    """Where a file or folder of the original belongs in the copy."""
    return os.path.join(target, os.path.relpath(path, scan.data))


def _write_lists(scan, leaving, target):
    """Write the lists of the copy's splits. Returns the changes."""
    changes = []
    conflicting, picture_of = duplicates.conflicts(scan.splits), scan.picture_of
    for split in scan.splits:
        kept = []
        for image_id in dict.fromkeys(split.ids):
            if (split.folder, image_id) in leaving:
                continue
            if split.name in duplicates.lost_splits(picture_of[split.folder, image_id], conflicting):
                name = os.path.basename(picture_of[split.folder, image_id].image_path)
                changes.append(f"{split.path}: {name} removed, it is in another split too")
            else:
                kept.append(image_id)
        if len(split.ids) > len(set(split.ids)):
            changes.append(f"{split.path}: each picture listed once")
        if not kept:
            changes.append(f"{split.path}: it has no pictures left")
        files.write(_place_in_copy(scan, split.path, target), "".join(f"{image_id}\n" for image_id in kept))
    return changes


def _copy_picture(picture, folder):
    """Copy a picture and its annotation, corrected. Returns the changes."""
    for part in ("JPEGImages", "Annotations"):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    changes, name = [], os.path.basename(picture.image_path)
    if picture.orientation != 1:
        if os.path.splitext(name)[1].lower() not in images.WRITABLE:
            name = os.path.splitext(name)[0] + ".png"
        upright = images.read(picture.image_path, exif=picture.exif)
        images.write(os.path.join(folder, "JPEGImages", name), upright)
        done = "applied to the pixels" if picture.exif else "removed, the boxes fit without it"
        changes.append(f"{picture.image_path}: EXIF orientation {picture.orientation} {done}")
    else:
        shutil.copyfile(picture.image_path, os.path.join(folder, "JPEGImages", name))
    target = os.path.join(folder, "Annotations", os.path.basename(picture.annotation_path))
    root = ElementTree.parse(picture.annotation_path).getroot()
    corrections = _mend(picture, root)
    if not corrections:
        shutil.copyfile(picture.annotation_path, target)
    else:
        files.write(target, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    return changes + [f"{picture.annotation_path}: {change}" for change in corrections]


def _mend(picture, root):
    """Correct the size and the boxes in an annotation's XML, in place. Returns the changes."""
    changes = []
    stated, size = picture.annotation.stated_size, picture.size
    if None not in stated and stated != size:
        changes.append("size {}x{} corrected to {}x{}".format(*stated, *size))
        for name, value in zip(("width", "height"), size, strict=True):
            root.find("size").find(name).text = str(value)
    scale = (1, 1)
    if checks.drawn_on_stated_size(picture):
        scale = size[0] / stated[0], size[1] / stated[1]
        changes.append("boxes scaled to it")
    seen = set()
    for index, (node, item) in enumerate(zip(root.findall("object"), picture.annotation.objects, strict=True)):
        before, name = item[1:5], checks.object_name(index, item)
        after, reason = mend_box(before, size, scale)
        if after is not None and (item.name, after) in seen:
            after, reason = None, "repeated"
        seen.add((item.name, after))
        if after is None:
            root.remove(node)
            changes.append(f"{name} dropped: {reason}")
        elif after != before:
            for corner, value in zip(source_pascal_voc.CORNERS, after, strict=True):
                node.find("bndbox").find(corner).text = f"{value:.3f}".rstrip("0").rstrip(".")
            if reason:
                changes.append(f"{name} {reason}")
    return changes


def mend_box(corners, size, scale=(1, 1)):
    """Correct a box. Returns (the new corners, or None to drop the box; what was done or why it is dropped).

    corners: (xmin, ymin, xmax, ymax) in pixels, 1-based and inclusive.
    size: (width, height) of the picture in pixels.
    scale: (x, y), factors from the size that the box was drawn on to the picture's.
    """
    (xmin, ymin, xmax, ymax), done = corners, []
    if xmin == xmax or ymin == ymax:
        return None, "empty"
    if xmin > xmax or ymin > ymax:
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
        done.append("corners swapped")
    if scale != (1, 1):
        xmin, xmax, ymin, ymax = (xmin - 1) * scale[0] + 1, xmax * scale[0], (ymin - 1) * scale[1] + 1, ymax * scale[1]
    clipped = max(xmin, 1), max(ymin, 1), min(xmax, size[0]), min(ymax, size[1])
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, "outside"
    if clipped != (xmin, ymin, xmax, ymax):
        done.append("clipped")
    return clipped, " and ".join(done)
