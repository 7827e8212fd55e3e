"""The folder that infer.py writes into: what lies there, what of it is an earlier call's and may go, what is not."""

import contextlib
import functools
import os
import shutil

from results import detection_files
from structures import UserError
from system import files

UNFINISHED = ".infer_unfinished"


def check(folder, overwrite, inputs):
    """Make an output folder, or look an old one over -> the paths of earlier results, which overwrite allows to remove.

    inputs: all paths that are read. Raises UserError if one of them is in the way, something that no earlier call
    wrote, or earlier results without overwrite.
    """
    with _writing_to(folder):
        os.makedirs(folder, exist_ok=True)
        old, ours = _in_the_way(folder), _holds_results(folder)
        inputs = {place for path in inputs for place in _places(path)}
        for place in old:
            if not ours or _holds_any(place, inputs):
                raise UserError(f"--output {folder}: {place} lies where results would go; choose another folder")
        if old and not overwrite:
            raise UserError(f"--output {folder}: holds results already; choose another, or --overwrite replaces them")
        files.check_folder_writable(folder)
    return old


def remove(folder, paths):
    """Remove earlier results, of `check`."""
    with _writing_to(folder):
        for path in paths:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


@contextlib.contextmanager
def _writing_to(folder):
    try:
        yield
    except OSError as error:
        raise UserError(f"--output {folder}: cannot be written ({error.strerror})") from None


def _in_the_way(folder):
    """What lies in an output folder under the names that results get: a list of paths."""
    ours = ("images", detection_files.YOLO_FOLDER, detection_files.JSON_NAME, detection_files.COCO_NAME)
    names = [name for name in ours if os.path.lexists(os.path.join(folder, name))]
    names += sorted(name for name in os.listdir(folder) if name.startswith(detection_files.COMP4_PREFIX))
    return [os.path.join(folder, name) for name in names]


def _holds_results(folder):
    """Whether an earlier call wrote into a folder; else an images/ or labels/ there is the user's own."""
    if os.path.exists(os.path.join(folder, UNFINISHED)):
        return True
    return detection_files.is_detections(os.path.join(folder, detection_files.JSON_NAME))


def drawn_before(folder):
    """Real paths of the folders where an earlier call's drawn copies are, which are no pictures to detect in."""
    places = (folder, os.path.join(folder, "images")) if _holds_results(folder) else ()
    return {os.path.realpath(place) for place in places}


def _places(path):
    """Where a path lies and, if it is a link, where it leads, as real paths."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.realpath(path), os.path.join(_real_folder(parent), name)


@functools.cache
def _real_folder(path):
    return os.path.realpath(path)


def _holds_any(place, real_paths):
    """Whether a file or folder is one of some paths (a set), or holds one."""
    real = os.path.realpath(place)
    inside = real + os.sep
    return real in real_paths or (os.path.isdir(real) and any(path.startswith(inside) for path in real_paths))


@contextlib.contextmanager
def unfinished(folder):
    """While open, a mark in the folder tells that what is there are results, though detections.json comes last.

    The mark of a killed or failed call stays with its drawn copies, so that --overwrite knows them.
    """
    mark = os.path.join(folder, UNFINISHED)
    with open(mark, "w", encoding="ascii"):
        pass
    try:
        yield
    finally:
        if not _in_the_way(folder) or detection_files.is_detections(os.path.join(folder, detection_files.JSON_NAME)):
            os.remove(mark)
