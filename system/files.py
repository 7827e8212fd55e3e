"""Write files that appear complete or not at all, and read text and JSON with clear errors."""

import codecs
import collections
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
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TextIO

from structures import UserError

Path = str | os.PathLike

CACHE_VARIABLE = "SSD_TENSORFLOW_CACHE"  # environment variable that names another cache folder
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)  # errno of a full disk and of a used-up quota
# Why a file cannot be written, with what helps. TensorFlow's messages have the system's text for one of these in them
REMEDIES = {
    **dict.fromkeys(DISK_IS_FULL, "free some space or choose another place"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another place",
    errno.EROFS: "choose a place that can be written",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "correct the permissions or choose another place"),
    errno.EIO: "check the disk or choose another place",
}
# What file managers, archives and network disks leave among a user's files; names in lower case
LEFTOVERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"}
LONGEST_NAME = 200  # bytes that a text gives to a file name, to which callers add; most disks take 255
LARGEST_TEXT = 4 << 30  # bytes; instances_train2017.json of COCO has 0.45 GB
_numbers = itertools.count()  # distinguish the temporary files of a process
UNENCODABLE = "file_name"  # what `open` does with text that has no UTF-8


def _encode_rest(error):
    """Write a file name that is not UTF-8 as it was read, and a lone surrogate of another origin as \\udc00."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(UNENCODABLE, _encode_rest)


class UnwritableFile(UserError, OSError):
    """A file that cannot be written; `errno` and `strerror` say why, for callers with a remedy of their own."""

    def __str__(self):
        return self.args[0]  # OSError would build a message from errno and strerror


def cache_folder() -> str:
    """The absolute path of the folder for what can be made or downloaded again; it may not exist yet."""
    home = os.path.join(os.path.expanduser("~"), ".cache", "ssd-tensorflow")
    return os.path.abspath(os.environ.get(CACHE_VARIABLE) or home)


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
    """Remove a temporary file or folder, unless a process in another container holds it (`_hold`)."""
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if stat.S_ISDIR(mode) else os.remove(path)
            finally:
                os.close(descriptor)


def _hold(descriptor):
    """Lock what is being written, as long as its descriptor is open; some network disks have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


@contextlib.contextmanager
def locked(path: Path, warn: Callable[[str], object] = lambda reason: None) -> Iterator[None]:
    """Context manager: no other process is in such a block for the same path, at which an empty file is made.

    A file that is there is not emptied, and a link is replaced, not followed. warn: told where the disk has no locks,
    so that nothing keeps others out. Raises BlockingIOError if another process holds the lock, other OSErrors where no
    file can be made.
    """
    descriptor = _open_lock(path, warn)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(path, warn):
    """The locked descriptor of the regular file at a path."""
    while True:
        if os.path.islink(path):
            os.remove(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:  # who held the lock has removed the file
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:  # some network disks have no locks
            warn(f"cannot be locked ({reason(error)}); do not let two processes write there at once")
            return descriptor
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
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": UNENCODABLE, "newline": "\n"}
        try:
            make_folders(os.path.dirname(self._temporary))
            self._file = open(self._temporary, "xb" if binary else "x", **text)  # noqa: SIM115
        except OSError as error:
            raise unwritable(path, error) from None
        _hold(self._file.fileno())

    def write(self, content: str | bytes) -> None:
        """Append text, or bytes if the file is binary."""
        try:
            self._file.write(content)
        except OSError as error:
            self._failure = error
            raise unwritable(self._path, error) from None

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
            raise unwritable(self._path, error) from None

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
        _hold(held)
        yield temporary
    finally:
        os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def move_all(source: Path, target: Path) -> None:
    """Move what is in one folder into another of the same disk, in place of what has its names there. Raises OSError.

    All is flushed to disk first, so that the moves follow each other at once. If one fails, or Ctrl-C comes between
    two, what was there before is there again.
    """
    flush(source)
    with temporary_folder(os.path.join(target, "any")) as earlier:
        moves = [tuple(os.path.join(one, name) for one in (source, target, earlier)) for name in os.listdir(source)]
        try:
            for new, path, old in moves:
                _put_aside(path, old)
                os.replace(new, path)
        except BaseException:
            for new, path, old in moves:
                with contextlib.suppress(OSError):
                    if not os.path.lexists(new):
                        os.replace(path, new)
                    if os.path.lexists(old):
                        os.replace(old, path)
            raise
    _flush_one(os.path.abspath(target))


def _put_aside(path, place):
    """Keep what is at a path, if anything, at another; a file is at both, so that a kill leaves the old or the new one.

    Folders have to go, and so do links, whose place no folder can take.
    """
    if os.path.islink(path) or os.path.isdir(path):
        os.replace(path, place)
    elif os.path.exists(path):
        try:
            os.link(path, place)
        except OSError:  # some disks have no links
            shutil.copyfile(path, place)


def is_pending(name: str) -> bool:
    """Whether a file name is that of a PendingFile, of this process or of one that was killed."""
    return re.fullmatch(r"\.\d+-\d+\.tmp", name) is not None


def unwritable(path: Path, error: Exception, saved: str = "") -> UnwritableFile:
    """The UnwritableFile for what happened while a file or folder was written: its name, the reason, and what helps.

    error: an OSError, which does not name its file if it comes from a write or a flush, or an error of TensorFlow or
    FFmpeg. saved: what is safe all the same, in words.
    """
    number, why = _reason_of_writing(error)
    remedy = REMEDIES.get(number, "choose another place")
    found = UnwritableFile(f"{path}: cannot be written ({why}){f'; {saved}' if saved else ''}; {remedy}")
    found.errno, found.strerror = number, why
    return found


def is_about_writing(error: Exception) -> bool:
    """Whether an error of whatever library says that the disk is full, read-only or the like."""
    return _reason_of_writing(error)[0] in REMEDIES


def _reason_of_writing(error):
    """(errno or None, its words) of an error."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in REMEDIES:
        return number, os.strerror(number)
    text = str(error)
    known = next((one for one in REMEDIES if os.strerror(one) in text), None)
    return (known, os.strerror(known)) if known else (number, reason(error))


def reason(error: Exception) -> str:
    """One line that says why something failed, from any exception.

    A line that ends in a colon only announces the next: OpenVINO's errors begin with some, and so do TensorFlow's.
    """
    lines = [getattr(error, "strerror", None), *str(error).splitlines(), type(error).__name__]
    return next(line for line in lines if line and not line.rstrip().endswith(":"))


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
        raise unwritable(path, error) from None


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
        raise unwritable(folder, error) from None


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


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder and below. Raises OSError."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(path) for name in names)


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


def walk(folder: Path, passed_over: Callable[[str], bool] = lambda _: False) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, names of the files in it) for a folder and all folders below it, sorted by name.

    Hidden files and folders (`is_hidden`) are left out. Folders that are links follow at the end. Each real folder is
    yielded once, by its own name if it lies below `folder`.
    passed_over: whether to skip a folder below it, by its path.
    """
    seen, own, tops = set[str](), os.path.realpath(folder), collections.deque([os.fspath(folder)])
    while tops:
        links = []
        for parent, folders, names in os.walk(tops.popleft()):
            met = (real := os.path.realpath(parent)) in seen
            seen.add(real)
            if met or (real != own and passed_over(parent)):
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            links += [path for path in (os.path.join(parent, name) for name in folders) if os.path.islink(path)]
            yield parent, sorted(name for name in names if not is_hidden(name))
        tops += links


def safe_names(texts: Iterable[str]) -> list[str]:
    """A different file name part for each of different texts, valid on any disk and in links."""
    names: list[str] = []
    taken: set[str] = set()  # in lower case: some disks ignore case
    for text in texts:
        name = re.sub(r"[^\w.-]", "_", text)
        if len(name.encode()) > LONGEST_NAME:
            name = _shortened(name)
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names.append(name)
    return names


def _shortened(name):
    """A long name's beginning and end, which often has a number, and between them what differs for each name."""
    start, end = (part.decode("utf-8", "ignore") for part in (name.encode()[:100], name.encode()[-80:]))
    return f"{start}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}-{end}"


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
