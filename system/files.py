"""Files that appear under their names whole or not at all, and text and JSON read with clear errors."""

import collections
import contextlib
import errno
import itertools
import json
import os
import re

from structures import UserError

_numbers = itertools.count()  # tell the temporary files of a process apart


class UnwritableFile(UserError, OSError):
    """A file that cannot be written; `errno` and `strerror` say why, for callers who have a remedy of their own."""

    def __str__(self):
        return self.args[0]  # not OSError's own, which is made of errno and strerror


def temporary_beside(path):
    """A name in the folder of a file under which to write it, until `publish` gives it its own."""
    # Without the file's own name, which may be as long as a name can be
    return os.path.join(os.path.dirname(os.path.abspath(path)), f".{os.getpid()}-{next(_numbers)}.tmp")


def publish(temporary, path, durable=True):
    """Give a complete file or folder its name, in place of an older one. Raises OSError.

    durable: its content is on the disk before, so that a power cut leaves the old one or the new one, not an empty one.
    """
    if durable:
        flush(temporary)
    os.replace(temporary, path)


def flush(path):
    """Have the disk hold a file, or every file of a folder and its list of them. Raises OSError."""
    is_folder = os.path.isdir(path)
    for one in [*(os.path.join(path, name) for name in (os.listdir(path) if is_folder else ())), path]:
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class PendingFile:
    """A file that takes its name at `commit`; until then nobody sees it.

    binary: bytes instead of text.
    durable: as in `publish`.
    All that writes raises UnwritableFile if the place cannot be written or the disk is full.
    """

    def __init__(self, path, binary=False, durable=True):
        self._failure, self._durable = None, durable
        self._path, self._temporary = path, temporary_beside(path)
        # surrogateescape: a file name that is not UTF-8 goes out as it came in
        text = {} if binary else {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
        try:
            os.makedirs(os.path.dirname(self._temporary), exist_ok=True)
            self._file = open(self._temporary, "wb" if binary else "w", **text)  # noqa: SIM115
        except OSError as error:
            raise _unwritable(path, error) from None

    def write(self, content):
        """Add text, or bytes."""
        try:
            self._file.write(content)
        except OSError as error:
            self._failure = error
            raise _unwritable(self._path, error) from None

    def commit(self):
        """Put the file in its place. On failure, also of an earlier `write`, nothing is left behind."""
        try:
            if self._failure:
                raise self._failure
            self._file.close()
            publish(self._temporary, self._path, self._durable)
        except OSError as error:
            self.discard()
            raise _unwritable(self._path, error) from None

    def discard(self):
        """Leave nothing behind."""
        with contextlib.suppress(OSError):  # the disk that filled up refuses the last flush too
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._temporary)


def is_pending(name):
    """Whether a file's name is that of a PendingFile, of this process or of one that was killed."""
    return re.fullmatch(r"\.\d+-\d+\.tmp", name) is not None


def _unwritable(path, error):
    """UnwritableFile of an OSError, which from a write or a flush does not know its file."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space or choose another place" if full else "choose another place"
    unwritable = UnwritableFile(f"{path}: cannot be written ({error.strerror}), {remedy}")
    unwritable.errno, unwritable.strerror = error.errno, error.strerror
    return unwritable


def reason(error):
    """Why something failed, in a line, of an OSError or one of TensorFlow's errors."""
    lines = [getattr(error, "strerror", None), *str(error).splitlines(), type(error).__name__]
    return next(line for line in lines if line)


def write(path, content, durable=True):
    """Write text or bytes as a file that is never seen half written. Raises UnwritableFile.

    durable: as in `publish`.
    """
    file = PendingFile(path, isinstance(content, bytes), durable)
    try:
        file.write(content)
    except UnwritableFile:
        file.discard()
        raise
    file.commit()


def write_json(path, data):
    """Write `data` as an indented JSON file that is never seen half written. NaN is refused (ValueError)."""
    write(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def check_writable(path):
    """Raise UnwritableFile unless a file can be written at `path`; an old file there stays, a new one is not left.

    Folders that do not exist yet would be made in the nearest one above them that does, so that one is tried.
    """
    try:
        if os.path.exists(path):
            with open(path, "ab"):
                return
        check_folder_writable(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise _unwritable(path, error) from None


def check_folder_writable(folder):
    """Raise UnwritableFile unless files can be made in a folder, or in the nearest one above it that exists."""
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    probe = temporary_beside(os.path.join(existing, "file"))
    try:
        with open(probe, "xb"):
            os.remove(probe)
    except OSError as error:
        raise _unwritable(folder, error) from None


def walk(folder, passed_over=()):
    """Yield (folder, names of the files in it) of a folder and all below it, in the order of their names.

    Then those that links to folders lead to. Each real folder comes once, and under its own name if that lies below.
    passed_over: real paths of folders below it to leave out.
    """
    seen, tops = set(passed_over) - {os.path.realpath(folder)}, collections.deque([folder])
    while tops:
        links = []
        for parent, folders, names in os.walk(tops.popleft()):
            if (real := os.path.realpath(parent)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            links += [path for path in (os.path.join(parent, name) for name in folders) if os.path.islink(path)]
            yield parent, sorted(names)
        tops += links


def safe_names(texts):
    """Different texts as parts of file names that are good on any disk and in links, all different."""
    names = []
    for text in texts:
        name = re.sub(r"[^\w.-]", "_", text)
        while name.lower() in {other.lower() for other in names}:  # some disks do not tell A from a
            name += "_"
        names.append(name)
    return names


def read_text(path):
    """Read text in UTF-8, with or without byte order mark. Raises UserError if it is missing or of another kind."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not a text file in UTF-8; save it as one") from None


def read_json(path):
    """Read a JSON object. Raises UserError if it is missing or damaged."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object")
    return value
