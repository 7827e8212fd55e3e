"""Draw the annotations of a data set into a folder, for a look at all of them in a viewer."""

import os

import cv2
import numpy as np
from tqdm import tqdm

from dataset_check import drawn_folder
from media import images, visualization
from structures import UserError
from system import cli, file_names, flag_rules, wording, write_errors

LONGEST_SIDE = 1280  # pixels; larger pictures are drawn smaller
QUALITY = 85
MOST = 1000  # pictures of a split, by default


def check_folder(folder, data, others=()):
    """As flag_rules.check_new_folder for --draw, but a folder with nothing but an earlier call's drawings will do too.

    others: paths of files that may be there as well, because this call replaces them.
    """
    flag_rules.check_new_folder("--draw", folder, data, may_replace=drawn_folder.holds_drawings(folder, others))


def write(scan, folder, limit, progress=False):
    """Draw the pictures of a Scan with their boxes and names -> (number drawn, number skipped).

    folder: gets SPLIT/PICTURE.jpg once all are drawn, in place of an earlier call's, and stays as it was otherwise;
        nothing else in it is changed.
    limit: at most this many pictures of each split, drawn at random, the same ones every time; None for MOST, and a
        warning where there are more.
    A picture that cannot be read is skipped with a warning. Boxes without area are not drawn. Raises UserError if the
    folder cannot be written.
    """
    try:
        with drawn_folder.replacing(folder) as pending:
            counts = _write(scan, pending, limit or MOST, progress)
    except OSError as error:
        raise UserError(f"--draw {write_errors.unwritable(folder, error)}") from None
    for split in scan.splits:
        if limit is None and (count := len(split.listed_of)) > MOST:
            pictures = wording.plural(MOST, "picture")
            cli.warn(f"--draw {folder}: {pictures} of the {count:,} of {split.name}; --draw-limit N draws more")
    return counts[True], counts[False]


def _write(scan, folder, limit, progress):
    """Draw into a folder -> {whether it was drawn: number of pictures}."""
    names = sorted({item.name for one in scan.pictures if one.readable for item in one.annotation.objects})
    picture_of, counts = scan.picture_of, {True: 0, False: 0}
    for split in scan.splits:
        keys = list(split.listed_of)
        chosen = sorted(np.random.default_rng(0).permutation(len(keys))[:limit])
        pictures = [picture_of[keys[index]] for index in chosen]
        paths = file_names.safe_names(_short(one, scan.data) for one in pictures)
        folder_of_split = os.path.join(folder, *file_names.safe_names([split.name]))
        for one, name in tqdm(list(zip(pictures, paths, strict=True)), split.name, leave=False, disable=not progress):
            counts[_draw(one, os.path.join(folder_of_split, f"{name}.jpg"), names)] += 1
    return counts


def _short(picture, data):
    """What tells a picture from the others of its split: its file's name with the folders below the data set's.

    Without the dots of a path out of the data set, which is perhaps a file: they would make a hidden name.
    """
    return os.path.splitext(os.path.relpath(picture.place, data))[0].lstrip("./")


def _draw(picture, path, names):
    """Draw a Picture. Returns whether that was possible; if not, a line has said why."""
    reason = "no such picture" if picture.image_path is None else picture.problem or picture.annotation_problem
    if reason is None:
        try:
            image = images.read(picture.image_path, exif=picture.exif, gray16=images.STRETCH)
        except images.ImageError as error:  # gone since it was checked
            reason = error.reason
    if reason is not None:
        cli.warn(f"not drawn: {picture.image_path or picture.place}: {reason}")
        return False
    scale = min(1, LONGEST_SIDE / max(picture.size))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    shown = [item for item in picture.annotation.objects if _has_area(item.edges_px)]
    boxes = np.array([item.edges_px for item in shown]).reshape(-1, 4) * scale
    labels = [names.index(item.name) for item in shown]
    try:
        images.write(path, visualization.draw_objects(image, boxes, labels, names), QUALITY)
    except images.UnwritableImage as error:
        cli.warn(f"not drawn: {picture.image_path}: {str(error).removeprefix(f'{path}: ')}")
        return False
    return True


def _has_area(edges):
    return edges[2] > edges[0] and edges[3] > edges[1]
