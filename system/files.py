"""Write files that appear complete or not at all, and read text and JSON with clear errors."""

import codecs
import collections
import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TextIO

from structures import UserError

Path = str | os.PathLike

CACHE_VARIABLE = "SSD_TENSORFLOW_CACHE"  # environment variable that names another cache folder
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)  # errno of a full disk and of a used-up quota
# What file managers, archives and network disks leave among a user's files; names in lower case
LEFTOVERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"}
LARGEST_TEXT = 4 << 30  # bytes; instances_train2017.json of COCO has 0.45 GB
_numbers = itertools.count()  # distinguish the temporary files of a process


class UnwritableFile(UserError, OSError):
    """A file that cannot be written; `errno` and `strerror` say why, for callers with a remedy of their own."""

    def __str__(self):
        return self.args[0]  # OSError would build a message from errno and strerror


def cache_folder() -> str:
    """The absolute path of the folder for what can be made or downloaded again; it may not exist yet."""
    home = os.path.join(os.path.expanduser("~"), ".cache", "ssd-tensorflow")
    return os.path.abspath(os.environ.get(CACHE_VARIABLE) or home)


def temporary_beside(path: Path) -> str:
    """A name in the folder of a file, under which it is written until `publish` renames it."""
    # It does not contain the file's own name, which may be as long as a name can be
    return os.path.join(os.path.dirname(os.path.abspath(path)), f".{os.getpid()}-{next(_numbers)}.tmp")


def publish(temporary: Path, path: Path, durable: bool = True) -> None:
    """Rename a complete file or folder to `path`, replacing an older one. Raises OSError.

    durable: flush its content to disk first, so that a power cut leaves the old or the new one, not an empty one.
    """
    if durable:
        flush(temporary)
    os.replace(temporary, path)


def flush(path: Path) -> None:
    """Flush a file to disk, or a folder and every file in it. Raises OSError."""
    is_folder = os.path.isdir(path)
    for one in [*(os.path.join(path, name) for name in (os.listdir(path) if is_folder else ())), path]:
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
        # surrogateescape writes a file name that is not UTF-8 as it was read
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
        try:
            os.makedirs(os.path.dirname(self._temporary), exist_ok=True)
            self._file = open(self._temporary, "wb" if binary else "w", **text)  # noqa: SIM115
        except OSError as error:
            raise _unwritable(path, error) from None

    def write(self, content: str | bytes) -> None:
        """Append text, or bytes if the file is binary."""
        try:
            self._file.write(content)
        except OSError as error:
            self._failure = error
            raise _unwritable(self._path, error) from None

    def commit(self) -> None:
        """Publish the file. If this or an earlier `write` fails, nothing is left behind."""
        try:
            if self._failure:
                raise self._failure
            self._file.close()
            publish(self._temporary, self._path, self._durable)
        except OSError as error:
            self.discard()
            raise _unwritable(self._path, error) from None

    def discard(self) -> None:
        """Remove the file unless it is published."""
        with contextlib.suppress(OSError):  # a full disk refuses the last flush too
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._temporary)


@contextlib.contextmanager
def pending_folder(path: Path) -> Iterator[str]:
    """Context manager: a folder to fill, which appears as `path` when the block ends, and not at all if it fails.

    path: a folder that does not exist, or an empty one. Raises OSError if it cannot be created.
    """
    temporary = temporary_beside(path)
    os.makedirs(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_pending(name: str) -> bool:
    """Whether a file name is that of a PendingFile, of this process or of one that was killed."""
    return re.fullmatch(r"\.\d+-\d+\.tmp", name) is not None


def _unwritable(path, error):
    """The UnwritableFile for an OSError, which does not name its file if it comes from a write or a flush."""
    full = error.errno in DISK_IS_FULL
    remedy = "free some space or choose another place" if full else "choose another place"
    unwritable = UnwritableFile(f"{path}: cannot be written ({error.strerror}), {remedy}")
    unwritable.errno, unwritable.strerror = error.errno, error.strerror
    return unwritable


def reason(error: Exception) -> str:
    """One line that says why something failed, from any exception."""
    lines = [getattr(error, "strerror", None), *str(error).splitlines(), type(error).__name__]
    return next(line for line in lines if line)


def write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write text or bytes to a file that appears complete or not at all. Raises UnwritableFile.

    durable: as in `publish`.
    """
    file = PendingFile(path, isinstance(content, bytes), durable)
    try:
        file.write(content)
    except UnwritableFile:
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
        raise _unwritable(path, error) from None


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
        raise _unwritable(folder, error) from None


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read bytes. Raises OSError, also for anything else.

    A named pipe would wait for ever for someone who writes into it, /dev/zero fills all memory, and what is there may
    be a link to either.
    """
    return os.fdopen(regular_descriptor(path), "rb")


def open_text(path: Path, errors: str = "strict", newline: str | None = None) -> TextIO:
    """Open a regular file to read text in UTF-8; errors, newline: as of Python's `open`. Raises OSError."""
    return io.TextIOWrapper(open_regular(path), encoding="utf-8", errors=errors, newline=newline)


def check_regular(path: Path) -> None:
    """Raise OSError unless a path is that of a regular file, for libraries that open it themselves."""
    _check_regular(os.stat(path).st_mode)


def regular_descriptor(path: Path) -> int:
    """A descriptor of a regular file, open to read; otherwise as `open_regular`. Python's file objects are slower."""
    _check_regular(os.stat(path).st_mode)  # before it is opened, which alone can change a device
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor).st_mode)  # what was opened may be another file by now
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(mode):
    """Raise OSError unless a mode is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(errno.EINVAL, f"{kind}, not a file")


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


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's data: `.ipynb_checkpoints`, `._a.jpg`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def visible(folder: Path, suffix: str = "") -> list[str]:
    """The names of the files and folders in a folder, sorted, without hidden ones; [] if there is no such folder.

    suffix: in lower case, of the names wanted; quick also in a folder of 100,000 others.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.lower().endswith(suffix) and not is_hidden(name))


def visible_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones; [] if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk(folder: Path, passed_over: Iterable[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, names of the files in it) for a folder and all folders below it, sorted by name.

    Hidden files and folders (`is_hidden`) are left out. Folders that are links follow at the end. Each real folder is
    yielded once, by its own name if it lies below `folder`.
    passed_over: real paths of folders to skip.
    """
    seen, tops = set(passed_over) - {os.path.realpath(folder)}, collections.deque([os.fspath(folder)])
    while tops:
        links = []
        for parent, folders, names in os.walk(tops.popleft()):
            if (real := os.path.realpath(parent)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            links += [path for path in (os.path.join(parent, name) for name in folders) if os.path.islink(path)]
            yield parent, sorted(name for name in names if not is_hidden(name))
        tops += links


def safe_names(texts: Iterable[str]) -> list[str]:
    """A different file name part for each of different texts, valid on any disk and in links."""
    names: list[str] = []
    for text in texts:
        name = re.sub(r"[^\w.-]", "_", text)
        while name.lower() in {other.lower() for other in names}:  # some disks ignore case
            name += "_"
        names.append(name)
    return names


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
