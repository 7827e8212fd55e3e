"""Write a cleaned copy of a data set in its own format and folders. The original is never changed."""

import os
import shutil

from tqdm import tqdm

import sources
from dataset_check import checks, duplicates
from dataset_check.defects import DEFECTS
from formats import fixed_copy
from media import images
from structures import UserError
from system import atomic, files, flag_rules, wording, write_errors

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
CLIPPED_PX = 1e-3  # what a box may reach out of its picture by rounding


def write_copy(scan, findings, target, progress=False):
    """Write a copy of the splits of a Scan without the defects that --fix corrects. Returns the changes, lines of text.

    Also writes the changes to TARGET/changes.txt. The folder appears when it is complete. Raises UserError if the
    target cannot be written, or a split would have no pictures or objects left.
    """
    flag_rules.check_new_folder("--fix", target, scan.data)
    leaving = left_out(findings)
    _require_rest(scan, leaving, target)
    changes = [
        f"{finding.path}: left out: {DEFECTS[finding.defect].title}"
        + (f" ({finding.detail})" if finding.detail else "")
        for finding in leaving.values()
    ]
    try:
        with atomic.pending_folder(target) as folder:
            changes += _write(scan, leaving, folder, progress)
            files.write(os.path.join(folder, "changes.txt"), "".join(f"{line}\n" for line in changes))
    except OSError as error:
        raise UserError(f"--fix {write_errors.unwritable(target, error)}") from None
    return changes


def left_out(findings):
    """{key: Finding} of the pictures that --fix leaves out of all lists, with the most serious reason."""
    leaving = {}
    for finding in findings:
        if finding.defect in LEAVES or (finding.defect == "in-two-splits" and finding.other is not None):
            leaving.setdefault(finding.picture.key, finding)
    return leaving


def _require_rest(scan, leaving, target):
    """Raise UserError if a split would lose all pictures, all objects, or most of them for being in fractions."""
    picture_of, conflicting = scan.picture_of, duplicates.conflicts(scan.splits)
    for split in scan.splits:
        pictures = [picture_of[key] for key in split.listed_of]
        elsewhere = [one for one in pictures if split.name in duplicates.lost_splits(one, conflicting)]
        gone = {one.key for one in elsewhere} | leaving.keys()
        kept = [one for one in pictures if one.key not in gone]
        objects = [item for one in pictures if one.annotation for item in one.annotation.objects]
        boxes = (
            mend_box(item.edges_px, one.size, scan.first_pixel)[0] for one in kept for item in one.annotation.objects
        )
        lost = [leaving[one.key] for one in pictures if one.key in leaving]
        fractions = sum(finding.count for finding in lost if finding.defect == "fractions")
        what = "no pictures" if not kept else "no objects" if objects and all(box is None for box in boxes) else None
        if not what and 2 * fractions > len(objects):
            what = f"{len(objects) - fractions:,} of {wording.plural(len(objects), 'object')}"
        if pictures and what:
            first = f": {len(lost)} would be left out, the first for {DEFECTS[lost[0].defect].title}" if lost else ""
            detail = f" ({lost[0].path}: {lost[0].detail})" if lost else ""
            if elsewhere:
                both = wording.plural(len(elsewhere), "picture")
                detail += f"; {both} would be left to another split, the first is {elsewhere[0].place}"
            raise UserError(
                f"--fix {target}: the split {split.name} would have {what} left{first}{detail}; correct that first"
            )


def _write(scan, leaving, folder, progress):
    """Write all but the list of changes into a folder. Returns the changes."""
    changes, kept = [], {}
    for picture in tqdm(scan.pictures, "correcting", unit="img", leave=False, disable=not progress):
        if picture.key not in leaving:
            edit, corrections = _mend(picture, scan.first_pixel)
            changes += [f"{picture.annotation_path}: {change}" for change in corrections]
            kept[picture.key] = picture, edit
    splits, removed = _kept_splits(scan, kept)
    copy = fixed_copy.FixedCopy(scan.data, _root(scan), folder, splits)
    pictures = [picture for picture, _ in kept.values()]
    for picture in tqdm(pictures, "copying", unit="img", leave=False, disable=not progress):
        changes += _copy_picture(copy, picture)
    sources.write_fixed(copy, scan.format)
    return changes + removed


def _root(scan):
    """The folder that has all files of a data set."""
    paths = [scan.data if os.path.isdir(scan.data) else os.path.dirname(scan.data)]
    for split in scan.splits:
        paths += [path for path in (split.list_path, *{one.owner for one in split.pictures}) if path]
    paths += [os.path.dirname(one.image_path) for one in scan.pictures if one.image_path]
    return os.path.commonpath([os.path.abspath(path) for path in paths])


def _kept_splits(scan, kept):
    """(list of fixed_copy.KeptSplit, changes). kept: {key: (Picture, its Edit or None)} of what stays."""
    conflicting, found, changes = duplicates.conflicts(scan.splits), [], []
    for split in scan.splits:
        pictures = []
        for key, listed in split.listed_of.items():
            if key not in kept:
                continue
            picture, edit = kept[key]
            if split.name in duplicates.lost_splits(picture, conflicting):
                name = os.path.basename(picture.image_path)
                changes.append(f"{split.where}: {name} removed, it is in another split too")
            else:
                pictures.append(fixed_copy.Kept(listed, edit, _suffix(picture)))
        if len(split.pictures) > len(split.listed_of):
            changes.append(f"{split.where}: each picture listed once")
            changes += _own_annotations(split)
        found.append(fixed_copy.KeptSplit(split, pictures))
    return found, changes


def _own_annotations(split):
    """The changes where a picture that is listed twice has other annotations each time, as in a table or COCO file."""
    first_of = split.listed_of
    again = [(one, first_of[split.home, one.id, one.owner]) for one in split.pictures]
    return [
        f"{one.annotation_path}: left out, with its objects: the picture is that of {first.annotation_path}"
        for one, first in again
        if one.annotation_path != first.annotation_path
    ]


def _suffix(picture):
    """The suffix of a picture in the copy: a rotated one is written anew."""
    suffix = os.path.splitext(picture.image_path)[1]
    return suffix if picture.orientation == 1 or suffix.lower() in images.WRITABLE else ".png"


def _copy_picture(copy, picture):
    """Copy a picture, upright. Returns the changes."""
    path = copy.place(os.path.splitext(picture.image_path)[0] + _suffix(picture))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if picture.orientation == 1:
        shutil.copyfile(picture.image_path, path)
        return []
    images.write(path, images.read(picture.image_path, exif=picture.exif))
    done = "applied to the pixels" if picture.exif else "removed, the boxes fit without it"
    return [f"{picture.image_path}: EXIF orientation {picture.orientation} {done}"]


def _mend(picture, first_pixel):
    """(fixed_copy.Edit of a picture's annotation or None, the changes)."""
    size, objects, changes, boxes, seen = picture.size, picture.annotation.objects, [], [], set()
    scale = tuple(now / then for now, then in zip(size, picture.stated_size, strict=True)) if picture.resized else None
    if scale:
        changes.append("size {}x{} corrected to {}x{}, boxes scaled".format(*picture.stated_size, *size))
    for index, item in enumerate(objects):
        after, reason = mend_box(item.edges_px, size, first_pixel)
        if after is not None and (item.name, after) in seen:
            after, reason = None, "repeated"
        seen.add((item.name, after))
        boxes.append(after if after is None or reason or scale else fixed_copy.KEEP)
        if after is None or reason:
            name = checks.object_name(index, item, first_pixel)
            changes.append(f"{name} dropped: {reason}" if after is None else f"{name} {reason}")
    if not changes:
        return None, []
    return fixed_copy.Edit(boxes, size, scale), changes


def mend_box(edges_px, size, first_pixel=0):
    """Correct a box. Returns (the new edges, or None to drop the box; what was done or why it is dropped).

    edges_px: (xmin, ymin, xmax, ymax), continuous, in pixels; returned as they are if nothing is wrong with them.
    size: (width, height) of the picture in pixels.
    first_pixel: as in Scan; a format that counts from 1 takes a box of one pixel for an empty one.
    """
    (xmin, ymin, xmax, ymax), done = edges_px, []
    if xmin == xmax or ymin == ymax:
        return None, "empty"
    if xmin > xmax or ymin > ymax:
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
        done.append("corners swapped")
    clipped = max(xmin, 0), max(ymin, 0), min(xmax, size[0]), min(ymax, size[1])
    if clipped[2] - clipped[0] <= first_pixel or clipped[3] - clipped[1] <= first_pixel:
        return None, "outside"
    if max(abs(a - b) for a, b in zip(clipped, (xmin, ymin, xmax, ymax), strict=True)) > CLIPPED_PX:
        done.append("clipped")
    return (clipped, " and ".join(done)) if done else (edges_px, "")
