"""The folder that infer.py writes into: which of its files are earlier results, that --overwrite may replace."""

import contextlib
import functools
import os
import shutil

from results import detection_files, detections_json
from structures import UserError
from system import files, folder_tree, locks, write_errors

UNFINISHED = ".infer_unfinished"
DRAWN = "images"  # the folder of the drawn copies
CROPS = "crops"  # the folder of the pieces that --crops cuts out
DRAWN_MARK = ".drawn_by_infer"  # in those two: what is in them is no picture of the user's own
PREDICTIONS = "predictions"  # the folder of --dump-predictions


def check(folder, overwrite, inputs):
    """Check an output folder, which need not exist. Returns the paths of earlier results, which `remove` takes.

    inputs: all paths that are read. Raises UserError if in the place of results there is an input, something that no
    earlier call wrote, or earlier results without `overwrite`.
    """
    if not folder:
        raise UserError("--output: is empty; give the name of a folder, or check the variable that it comes from")
    with _writing_to(folder):
        old, ours = _in_the_way(folder), holds_results(folder)
        inputs = {place for path in inputs for place in _places(path)}
        for place in old:
            if not ours or _holds_any(place, inputs):
                raise UserError(f"--output {folder}: {place} is in the way of the results; choose another folder")
        if old and not overwrite:
            raise UserError(
                f"--output {folder}: already holds results; choose another folder, or replace them with --overwrite"
            )
        files.check_folder_writable(folder)
    return old


def remove(folder, paths):
    """Remove earlier results, as found by `check`."""
    with _writing_to(folder):
        for path in paths:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


@contextlib.contextmanager
def _writing_to(folder):
    try:
        yield
    except OSError as error:
        raise UserError(f"--output {write_errors.unwritable(folder, error)}") from None


def _in_the_way(folder):
    """What an output folder holds under the names that results get: a list of paths."""
    names = sorted(os.listdir(folder)) if os.path.lexists(folder) else []
    ours = [name for name in names if name in (DRAWN, CROPS, PREDICTIONS)]
    for module in detection_files.FORMATS.values():
        ours += filter(module.owns, names)
    return [os.path.join(folder, name) for name in ours]


def is_finished(folder):
    """Whether a folder has a detections.json of infer.py, which is written last."""
    return detections_json.is_ours(os.path.join(folder, detections_json.NAME))


def holds_results(folder):
    """Whether an earlier call wrote into a folder; if not, an images/ or labels/ in it is the user's own."""
    return os.path.exists(os.path.join(folder, UNFINISHED)) or is_finished(folder)


def mark_drawn(folder):
    """Make the folder of the drawn copies or of the crops if it is missing, and mark it as such."""
    os.makedirs(folder, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(os.path.join(folder, DRAWN_MARK), "x"):
        pass


def is_drawn(folder):
    """Whether a folder is marked as one of drawn copies or crops; one that cannot be looked into is not."""
    return os.path.lexists(os.path.join(folder, DRAWN_MARK))


def walk(folder, drawn):
    """As `folder_tree.walk` without the marked folders below, wherever they are; these go into the list `drawn`."""

    def is_passed_over(path):
        if marked := is_drawn(path):
            drawn.append(path)
        return marked

    return folder_tree.walk(folder, is_passed_over)


def note_on_drawn(folder):
    """The line that says that a marked folder was passed over."""
    return f"{folder}: drawn by an earlier infer.py, not searched; name it to detect in it"


def discard(folder):
    """Remove the results of this call, and the folder if that can be: not with something else in it, nor as a link."""
    with _writing_to(folder):
        remove(folder, _in_the_way(folder))
    with contextlib.suppress(OSError):  # a link, a mount, the current folder, or not empty
        os.rmdir(folder)


def _places(path):
    """The real paths of a path and, if it is a link, of the link itself."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.realpath(path), os.path.join(_real_folder(parent), name)


@functools.cache
def _real_folder(path):
    return os.path.realpath(path)


def _holds_any(place, real_paths):
    """Whether a file or folder is one of some real paths (a set), or contains one."""
    real = os.path.realpath(place)
    inside = real + os.sep
    return real in real_paths or (os.path.isdir(real) and any(path.startswith(inside) for path in real_paths))


@contextlib.contextmanager
def unfinished(folder):
    """While open, a file in the folder marks its content as results, since detections.json is written only at the end.

    The folder is made if it is missing. The mark of a killed or failed call stays beside its drawn copies, so that
    --overwrite recognizes them. Raises UserError if another process is writing into the folder.
    """
    mark = os.path.join(folder, UNFINISHED)
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(folder, exist_ok=True)
            stack.enter_context(locks.locked(mark))
        except BlockingIOError:
            raise UserError(
                f"--output {folder}: another infer.py is writing there; wait for it, or choose another folder"
            ) from None
        except OSError as error:
            raise UserError(f"--output {write_errors.unwritable(folder, error)}") from None
        try:
            yield
        finally:
            if not _in_the_way(folder) or is_finished(folder):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(mark)
