"""Write a whole file, and read bytes, text and JSON with clear errors."""

import codecs
import contextlib
import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

from structures import UserError
from system import atomic, write_errors
from system.file_names import Path

LARGEST_TEXT = 4 << 30  # bytes; instances_train2017.json of COCO has 0.45 GB


def write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write text or bytes to a file that appears complete or not at all. Raises UnwritableFile.

    durable: as in `atomic.publish`.
    """
    file = atomic.PendingFile(path, isinstance(content, bytes), durable)
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
    probe = atomic.temporary_beside(os.path.join(existing, "file"))
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


def split_lines(text: str) -> list[str]:
    """The lines of a text, without their ends: unlike str.splitlines, U+2028 and the like in a name end none."""
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines of a list; without blank lines, comments (#) and spaces around a line.

    Raises UserError as `read_text` does.
    """
    lines = enumerate(map(str.strip, split_lines(read_text(path))), start=1)
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
