"""Write a cleaned copy of a data set of XML files, in the same folders. The original is never changed."""

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
    "fractions",
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
    has no splits. Raises UserError if the target cannot be written, or a split would have no pictures or objects left.
    """
    check_target(target, scan.data)
    leaving = {}
    for finding in findings:
        if finding.defect in LEAVES:
            leaving.setdefault((finding.picture.folder, finding.picture.id), finding)
    _require_rest(scan, leaving, target)
    changes = [
        f"{finding.path}: left out: {DEFECTS[finding.defect].title}"
        + (f" ({finding.detail})" if finding.detail else "")
        for finding in leaving.values()
    ]
    try:
        for picture in tqdm(scan.pictures, "copying", unit="img", leave=False, disable=not progress):
            if (picture.folder, picture.id) not in leaving:
                changes += _copy_picture(scan, picture, target)
        changes += _write_lists(scan, leaving, target)
        files.write(os.path.join(target, "changes.txt"), "".join(f"{line}\n" for line in changes))
    except OSError as error:
        raise UserError(f"--fix {target}: {files.reason(error)}; free space or choose another place") from None
    return changes


def _require_rest(scan, leaving, target):
    """Raise UserError if the copy of a split would have lost all its pictures, or all its objects."""
    picture_of = scan.picture_of
    for split in scan.splits:
        pictures = [picture_of[split.folder, image_id] for image_id in dict.fromkeys(split.ids)]
        kept = [one for one in pictures if (one.folder, one.id) not in leaving]
        objects = [item for one in pictures if one.annotation for item in one.annotation.objects]
        boxes = (mend_box(item[1:5], one.size)[0] for one in kept for item in one.annotation.objects)
        what = "pictures" if not kept else "objects" if objects and all(box is None for box in boxes) else None
        if pictures and what:
            lost = [leaving[one.folder, one.id] for one in pictures if (one.folder, one.id) in leaving]
            first = f": {len(lost)} would be left out, the first for {DEFECTS[lost[0].defect].title}" if lost else ""
            detail = f" ({lost[0].path}: {lost[0].detail})" if lost else ""
            raise UserError(
                f"--fix {target}: the split {split.name} would have no {what} left{first}{detail}; correct that first"
            )


def _place_in_copy(scan, path, target):
    """Where a file or folder of the original belongs in the copy."""
    return os.path.join(target, os.path.relpath(path, scan.data))


def _write_lists(scan, leaving, target):
    """Write the lists of the copy's splits. Returns the changes."""
    changes = []
    conflicting, picture_of = duplicates.conflicts(scan.splits), scan.picture_of
    for split in scan.splits:
        if split.list_path is None:
            continue
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
        files.write(_place_in_copy(scan, split.list_path, target), "".join(f"{image_id}\n" for image_id in kept))
    return changes


def _copy_picture(scan, picture, target):
    """Copy a picture and its annotation, corrected. Returns the changes."""
    image_path, annotation_path = (
        _place_in_copy(scan, path, target) for path in (picture.image_path, picture.annotation_path)
    )
    for path in (image_path, annotation_path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    changes = []
    if picture.orientation != 1:
        stem, suffix = os.path.splitext(image_path)
        upright = images.read(picture.image_path, exif=picture.exif)
        images.write(image_path if suffix.lower() in images.WRITABLE else stem + ".png", upright)
        done = "applied to the pixels" if picture.exif else "removed, the boxes fit without it"
        changes.append(f"{picture.image_path}: EXIF orientation {picture.orientation} {done}")
    else:
        shutil.copyfile(picture.image_path, image_path)
    if not os.path.exists(picture.annotation_path):  # background
        return changes
    root = source_pascal_voc.read_xml(picture.annotation_path)
    corrections = _mend(picture, root)
    if not corrections:
        shutil.copyfile(picture.annotation_path, annotation_path)
    else:
        files.write(annotation_path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    return changes + [f"{picture.annotation_path}: {change}" for change in corrections]


def _mend(picture, root):
    """Correct the size and the boxes in an annotation's XML, in place. Returns the changes."""
    changes, size = [], picture.size
    if picture.resized:
        changes.append("size {}x{} corrected to {}x{}, boxes scaled".format(*picture.annotation.stated_size, *size))
        for name, value in zip(("width", "height"), size, strict=True):
            root.find("size").find(name).text = str(value)
    seen = set()
    for index, (node, item) in enumerate(zip(root.findall("object"), picture.annotation.objects, strict=True)):
        before, name = item[1:5], checks.object_name(index, item)
        after, reason = mend_box(before, size)
        if after is not None and (item.name, after) in seen:
            after, reason = None, "repeated"
        seen.add((item.name, after))
        if after is None:
            root.remove(node)
            changes.append(f"{name} dropped: {reason}")
        elif after != before or picture.resized:
            _set_box(node, after)
            if reason:
                changes.append(f"{name} {reason}")
    return changes


def _set_box(node, corners):
    """Give an <object> a <bndbox>, in place of a rotated box or polygon too."""
    for shape in ("robndbox", "polygon"):
        if node.find("bndbox") is None and node.find(shape) is not None:
            node.remove(node.find(shape))
    box = node.find("bndbox")
    if box is None or box.find("xmin") is None:
        box = ElementTree.SubElement(node, "bndbox") if box is None else box
        box[:] = [ElementTree.Element(corner) for corner in source_pascal_voc.CORNERS]
    for corner, value in zip(source_pascal_voc.CORNERS, corners, strict=True):
        box.find(corner).text = f"{value:.3f}".rstrip("0").rstrip(".")


def mend_box(corners, size):
    """Correct a box. Returns (the new corners, or None to drop the box; what was done or why it is dropped).

    corners: (xmin, ymin, xmax, ymax) in pixels, 1-based and inclusive.
    size: (width, height) of the picture in pixels.
    """
    (xmin, ymin, xmax, ymax), done = corners, []
    if xmin == xmax or ymin == ymax:
        return None, "empty"
    if xmin > xmax or ymin > ymax:
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
        done.append("corners swapped")
    clipped = max(xmin, 1), max(ymin, 1), min(xmax, size[0]), min(ymax, size[1])
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, "outside"
    if clipped != (xmin, ymin, xmax, ymax):
        done.append("clipped")
    return clipped, " and ".join(done)
