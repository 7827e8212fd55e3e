"""Write files that appear complete or not at all, and read text and JSON with clear errors."""

import codecs
import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

from structures import UserError
from system import locks, write_errors
from system.file_names import UNENCODABLE, Path

LARGEST_TEXT = 4 << 30  # bytes; instances_train2017.json of COCO has 0.45 GB
_numbers = itertools.count()  # distinguish the temporary files of a process


def temporary_beside(path: Path) -> str:
    """A name in the folder of a file, under which it is written until `publish` renames it; nothing has it yet.

    The first call for a folder removes what processes that are gone left in it under such names.
    """
    folder = os.path.dirname(os.path.abspath(path))
    _remove_abandoned(folder)
    while True:
        # It does not contain the file's own name, which may be as long as a name can be
        name = os.path.join(folder, f".{os.getpid()}-{next(_numbers)}.tmp")
        if not os.path.lexists(name):  # of an earlier process with this number, or a planted link
            return name


@functools.cache
def _remove_abandoned(folder):
    """Remove the temporary files and folders of killed processes from a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_pending(entry.name) and not _is_alive(int(entry.name[1:].partition("-")[0])):
                _remove_unlocked(entry.path)


def _is_alive(process):
    """Whether there is a process of that number on this machine, or in this container."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove_unlocked(path):
    """Remove a temporary file or folder, unless a process in another container holds it (`locks.hold`)."""
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if stat.S_ISDIR(mode) else os.remove(path)
            finally:
                os.close(descriptor)


def publish(temporary: Path, path: Path, durable: bool = True) -> None:
    """Rename a complete file or folder to `path`, replacing an older one. Raises OSError.

    durable: flush its content to disk first and the folder's entry afterwards, so that a power cut leaves the old or
    the new one, not an empty one, and what is written later is not there without it.
    """
    if durable:
        flush(temporary)
    os.replace(temporary, path)
    if durable:
        _flush_one(os.path.dirname(os.path.abspath(path)))


def flush(path: Path) -> None:
    """Flush a file to disk, or a folder and all that is in it and below. Raises OSError."""
    if not os.path.isdir(path):
        _flush_one(path)
    for parent, _, names in os.walk(path, topdown=False):  # of a file it yields nothing
        for one in (*(os.path.join(parent, name) for name in names), parent):
            _flush_one(one)


def _flush_one(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, and flush their entries. Raises OSError."""
    missing = []
    above = os.path.abspath(path)
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for one in missing:
        _flush_one(os.path.dirname(one))


class PendingFile:
    """A file that appears under its name at `commit`.

    binary: bytes instead of text.
    durable: as in `publish`.
    Creating, writing and committing raise UnwritableFile if the place cannot be written or the disk is full.
    """

    def __init__(self, path: Path, binary: bool = False, durable: bool = True):
        self._failure: OSError | None = None
        self._durable = durable
        self._path, self._temporary = path, temporary_beside(path)
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": UNENCODABLE, "newline": "\n"}
        try:
            make_folders(os.path.dirname(self._temporary))
            self._file = open(self._temporary, "xb" if binary else "x", **text)  # noqa: SIM115
        except OSError as error:
            raise write_errors.unwritable(path, error) from None
        locks.hold(self._file.fileno())

    def write(self, content: str | bytes) -> None:
        """Append text, or bytes if the file is binary."""
        try:
            self._file.write(content)
        except OSError as error:
            self._failure = error
            raise write_errors.unwritable(self._path, error) from None

    def commit(self, path: Path | None = None) -> None:
        """Publish the file, under another name of the same folder if `path` is given.

        If this or an earlier `write` fails, nothing is left behind.
        """
        try:
            if self._failure:
                raise self._failure
            self._file.close()
            publish(self._temporary, path or self._path, self._durable)
        except OSError as error:
            self.discard()
            raise write_errors.unwritable(self._path, error) from None

    def discard(self) -> None:
        """Remove the file unless it is published."""
        with contextlib.suppress(OSError):  # a full disk refuses the last flush too
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._temporary)


@contextlib.contextmanager
def pending_folder(path: Path) -> Iterator[str]:
    """Context manager: a folder to fill, which appears as `path` when the block ends, and not at all if it fails.

    path: a folder that does not exist, or an empty one. It may hold thousands of files, so all that the machine still
    has to write is flushed to disk at once. Raises OSError if it cannot be created.
    """
    with temporary_folder(path) as temporary:
        yield temporary
        os.sync()
        os.replace(temporary, path)
        _flush_one(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[str]:
    """Context manager: a new folder beside `path`, removed at the end. Raises OSError if it cannot be created."""
    temporary = temporary_beside(path)
    os.makedirs(temporary)
    held = os.open(temporary, os.O_RDONLY)
    try:
        locks.hold(held)
        yield temporary
    finally:
        os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def is_pending(name: str) -> bool:
    """Whether a file name is that of a PendingFile, of this process or of one that was killed."""
    return re.fullmatch(r"\.\d+-\d+\.tmp", name) is not None


def write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write text or bytes to a file that appears complete or not at all. Raises UnwritableFile.

    durable: as in `publish`.
    """
    file = PendingFile(path, isinstance(content, bytes), durable)
    try:
        file.write(content)
    except write_errors.UnwritableFile:
        file.discard()
        raise
    file.commit()


def write_json(path: Path, data: object) -> None:
    """Write `data` as indented JSON; as `write`. Raises ValueError for NaN and infinity, which JSON does not have."""
    write(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Raise UnwritableFile unless a file can be written at `path`. An old file there stays, and no new one is left.

    Missing folders would be created in the nearest existing one above them, so that one is tried.
    """
    try:
        if os.path.exists(path):
            with open(path, "ab"):
                return
        check_folder_writable(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise write_errors.unwritable(path, error) from None


def check_folder_writable(folder: Path) -> None:
    """Raise UnwritableFile unless files can be created in a folder, or in the nearest existing one above it."""
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    probe = temporary_beside(os.path.join(existing, "file"))
    try:
        with open(probe, "xb"):
            os.remove(probe)
    except OSError as error:
        raise write_errors.unwritable(folder, error) from None


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read bytes. Raises OSError, also for anything else.

    A named pipe would wait for ever for someone who writes into it, /dev/zero fills all memory, and what is there may
    be a link to either.
    """
    return os.fdopen(regular_descriptor(path), "rb")


def open_text(path: Path, errors: str = "strict", newline: str | None = None) -> TextIO:
    """Open a regular file to read text in UTF-8, with or without a byte order mark. Raises OSError.

    errors, newline: as of Python's `open`.
    """
    return io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", errors=errors, newline=newline)


def check_regular(path: Path) -> None:
    """Raise OSError unless a path is that of a regular file, for libraries that open it themselves."""
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise OSError(errno.EINVAL, f"{kind}, not a file")


def regular_descriptor(path: Path) -> int:
    """A descriptor of a regular file, open to read; otherwise as `open_regular`. Python's file objects are slower."""
    check_regular(path)  # before it is opened, which alone can change a device
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def read_regular(path: Path, largest: int | None = None) -> bytes:
    """The bytes of a regular file. Raises OSError, also if it has more than `largest` bytes."""
    with open_regular(path) as file:
        if largest is not None and os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest / 1e6:,.0f} MB")
        return file.read()


def digest(path: Path, algorithm: str | None = None) -> bytes:
    """A hash of a file's bytes: equal for copies of a file.

    algorithm: of hashlib; None for 16 bytes of BLAKE2b. Raises OSError.
    """
    found = hashlib.new(algorithm, usedforsecurity=False) if algorithm else hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:  # hashlib.file_digest came with Python 3.11
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.digest()


def read_text(path: Path) -> str:
    """Read text in UTF-8, or in UTF-16 with a byte order mark, as Windows writes it.

    Raises UserError if the file is missing or in another encoding.
    """
    content = _read_bytes(path)
    try:
        return decode(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def _read_bytes(path):
    """The bytes of a file. Raises UserError."""
    try:
        return read_regular(path, LARGEST_TEXT)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def decode(content: bytes) -> str:
    """Text of UTF-8 with or without a byte order mark, or of UTF-16 with one. Raises UnicodeDecodeError.

    Zero bytes are no text: they are those of UTF-16 without its mark, or of another file.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(content) % 2 == 0
    if not wide and (at := content.find(0)) >= 0:
        raise UnicodeDecodeError("utf-8", content, at, at + 1, "a zero byte")
    return content.decode("utf-16" if wide else "utf-8-sig")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines of a list; without blank lines, comments (#) and spaces around a line.

    Raises UserError as `read_text` does.
    """
    lines = enumerate(map(str.strip, read_text(path).splitlines()), start=1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def read_json(
    path: Path, outermost: type | tuple[type, ...] = dict, shorten: Callable[[bytes], bytes] | None = None
) -> Any:
    """Read a JSON object, a list if `outermost` is list, or either. Raises UserError if the file is missing or damaged.

    shorten: leaves out of a file's bytes what the caller does not need; nobody checks that part then.
    """
    if shorten:
        with contextlib.suppress(ValueError, RecursionError):  # then the whole file says what is wrong, and where
            return _of_type(path, json.loads(decode(shorten(_read_bytes(path)))), outermost)
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); correct the file, or export it again") from None
    return _of_type(path, value, outermost)


def _of_type(path, value, outermost):
    if not isinstance(value, outermost):
        kind = {dict: "object", list: "list"}.get(outermost, "object or list")
        raise UserError(f"{path}: holds no JSON {kind}")
    return value
