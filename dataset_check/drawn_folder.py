"""The folder of drawings: which files in it are the program's own, and new ones in place of these, all or nothing."""

import contextlib
import os

from structures import UserError
from system import atomic, files

MARK = ".drawn_by_check_dataset"  # a file in the folder: the hash and the path of each drawing, which may be replaced


def holds_drawings(folder, others=()):
    """Whether a folder holds an earlier call's drawings and nothing else, but perhaps files at the paths `others`."""
    if not _is_file(os.path.join(folder, MARK)):
        return False
    top = os.path.realpath(folder)
    places = [os.path.join(os.path.realpath(os.path.dirname(other)), os.path.basename(other)) for other in others]
    try:
        drawn = _drawn(folder)
    except OSError:  # perhaps somebody else's
        return False
    allowed = {MARK, *(path for _, path in drawn), *(os.path.relpath(place, top) for place in places)}
    return allowed.issuperset(_found(folder))


@contextlib.contextmanager
def replacing(folder):
    """Context manager: an empty folder to draw into; at the end its files take the place of an earlier call's drawings.

    Nothing else in `folder` is changed; it is made if it is missing, and may be a mount, a link to a folder or the
    current one. If anything fails, all is as it was. Raises OSError, and UserError where something else has the place
    of a drawing.
    """
    is_new = not os.path.lexists(folder)
    os.makedirs(folder, exist_ok=True)
    try:
        with atomic.temporary_folder(os.path.join(folder, MARK)) as temporary:  # in it: a mount is a disk of its own
            new = os.path.join(temporary, "new")
            os.mkdir(new)
            yield new
            _replace(folder, temporary, new)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # something else is in it
                os.rmdir(folder)
        raise


def _replace(folder, temporary, new):
    """Exchange the drawings of an earlier call in a folder for those in `new`; `temporary`: what new is in."""
    earlier, later = _drawn(folder), {(files.digest(os.path.join(new, path)).hex(), path) for path in _found(new)}
    either, mark, old = (os.path.join(temporary, name) for name in ("either", "mark", "old"))
    for path, listed in ((either, earlier | later), (mark, later)):
        files.write(path, "".join(f"{digest}  {name}\n" for digest, name in sorted(listed)), durable=False)
    os.sync()  # perhaps thousands of files
    place, was_marked = os.path.join(folder, MARK), os.path.lexists(os.path.join(folder, MARK))
    moves = [(folder, old, path) for _, path in sorted(earlier)] + [(new, folder, path) for _, path in sorted(later)]
    done = []
    try:
        atomic.publish(either, place)  # whoever is killed from here on leaves nothing unlisted
        for move in moves:
            _move(*move, done)
        atomic.publish(mark, place)
    except BaseException:
        for source, target, path in reversed(done):
            with contextlib.suppress(OSError):
                os.replace(os.path.join(target, path), os.path.join(source, path))
        if not was_marked:
            with contextlib.suppress(FileNotFoundError):
                os.remove(place)
        raise
    finally:
        for name in {os.path.dirname(path) for _, path in earlier | later}:
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(os.path.join(folder, name))


def _move(source, target, path, done):
    """Move the file at a path from one folder to another, and note that in `done`."""
    place = os.path.join(target, path)
    if os.path.lexists(place):
        raise UserError(f"--draw: {place}: exists, and no earlier call has drawn it; choose another place")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    done.append((source, target, path))  # first: Ctrl-C may come in between
    os.replace(os.path.join(source, path), place)


def _drawn(folder):
    """{(hash, path)} of the files in a folder that the mark lists and nobody has changed since."""
    mark = os.path.join(folder, MARK)
    if not _is_file(mark):
        return set()
    lines = files.read_regular(mark).decode("utf-8", "replace").split("\n")
    listed = {(digest, path) for digest, _, path in (line.partition("  ") for line in lines)}
    names = {path for _, path in listed}
    places = {path: os.path.join(folder, path) for path in _found(folder) if path in names}  # none outside of it
    found = {(files.digest(place).hex(), path) for path, place in places.items() if _is_file(place)}
    return found & listed


def _found(folder):
    """The path, from a folder, of each file in it and below, and of each link to a folder; none of a killed call's."""
    for parent, below, names in os.walk(folder):
        below[:] = [name for name in below if not atomic.is_pending(name)]
        links = [name for name in below if os.path.islink(os.path.join(parent, name))]
        for name in (*names, *links):
            yield os.path.relpath(os.path.join(parent, name), folder)


def _is_file(path):
    return os.path.isfile(path) and not os.path.islink(path)
