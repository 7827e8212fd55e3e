"""Which pictures there are: a folder, a list of addresses (text, CSV, Parquet) or tars, read one by one.

Addresses are files of this machine or whatever fsspec knows (s3://, gs://, https://).
"""

import contextlib
import csv
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from many import parquet
from media import images
from results import result_folder
from structures import UserError
from system import wording

TAR = ".tar"
LISTS = (".txt", ".csv", ".parquet")


class Entry(NamedTuple):
    """A picture.

    id: in the output. address: of its file. start, size: its bytes in that file; size -1 for the whole file.
    """

    id: str
    address: str
    start: int = 0
    size: int = -1


def read(source: str) -> Iterator[Entry]:
    """Yield the pictures of INPUT, in an order that is the same every time.

    A folder has pictures, or tars of them; a list has an address a line or, in CSV and Parquet, a column `path` and
    perhaps a column `id`; relative ones begin at the list. Raises UserError for what cannot be read, or is empty.
    """
    suffix = os.path.splitext(source)[1].lower()
    if suffix in LISTS:
        found = {".txt": _of_text, ".csv": _of_csv, ".parquet": _of_parquet}[suffix](source)
    elif suffix == TAR:
        found = _of_tar(source)
    else:
        found = _of_folder(source)
    empty = True
    for entry in found:
        empty = False
        yield entry
    if empty:
        raise UserError(f"{source}: no pictures in it ({', '.join(images.SUFFIXES)})")


def fingerprint(source: str) -> str:
    """What shows that pictures have come to INPUT or left it: a hash of a list, of the names in a folder or of a size.

    Of a tar, and of those of a folder on this machine, the size counts. Raises UserError as `read`.
    """
    suffix, digest = os.path.splitext(source)[1].lower(), hashlib.sha256()
    if suffix in LISTS:
        with open_file(source) as file:
            for block in iter(lambda: file.read(2**20), b""):
                digest.update(block)
        return digest.hexdigest()
    if suffix == TAR:
        return str(_size(source))
    for name, is_tar in _names_that_count(source, []):
        size = _size(_join(source, name)) if is_tar and not is_remote(source) else ""
        digest.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _size(address):
    """Of a file, in bytes; None if its server does not say."""
    with open_file(address) as file, contextlib.suppress(OSError, ValueError):
        return file.seek(0, os.SEEK_END)


def is_remote(address: str) -> bool:
    """Whether fsspec must open an address."""
    return "://" in address


def open_file(address: str) -> IO[bytes]:
    """A file of this machine or elsewhere, open for reading. Raises UserError."""
    try:
        if not is_remote(address):
            return open(address, "rb")
        return import_fsspec().open(address, "rb").open()
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{address}: cannot be read ({wording.reason(error)})") from None


def import_fsspec() -> Any:
    """The package that opens addresses. Raises UserError if it is not installed."""
    try:
        import fsspec
    except ImportError:
        raise UserError("addresses need fsspec: pip install -r requirements-scale.txt") from None
    return fsspec


def _of_folder(source):
    drawn: list[str] = []
    found = _names_that_count(source, drawn)
    for folder in drawn:
        print(result_folder.note_on_drawn(folder))
    for name, is_tar in found:
        if is_tar:
            yield from _of_tar(_join(source, name), name)
        else:
            yield Entry(name, _join(source, name))


def _names_that_count(source, drawn):
    """(name, whether it is a tar) of the tars in a folder, or of its pictures where there is no tar.

    drawn: a list, to which the folders are added that infer.py has drawn, which are left out.
    """
    names = _names_below(source, drawn)
    tars = [name for name in names if name.lower().endswith(TAR)]
    return [(name, True) for name in tars] or [
        (name, False) for name in names if name.lower().endswith(images.SUFFIXES)
    ]


def _join(folder, name):
    return f"{folder.rstrip('/')}/{name}"


def _names_below(source, drawn):
    """Names of all files in a folder and below it, sorted, but for those in folders that infer.py has drawn."""
    if is_remote(source):
        try:
            system, root = import_fsspec().core.url_to_fs(source)
            names = sorted(os.path.relpath(path, root) for path in system.find(root))
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"{source}: cannot be listed ({wording.reason(error)})") from None
        marked = [folder for folder, name in map(os.path.split, names) if folder and name == result_folder.DRAWN_MARK]
        drawn += (_join(source, folder) for folder in marked)
        inside = tuple(f"{folder}/" for folder in marked)
        return [name for name in names if not name.startswith(inside)]
    if not os.path.isdir(source):
        raise UserError(f"{source}: no such folder, list ({', '.join(LISTS)}) or tar")
    below = (os.path.join(parent, name) for parent, names in result_folder.walk(source, drawn) for name in names)
    return sorted(os.path.relpath(path, source) for path in below)


def _of_text(source):
    with open_file(source) as file:
        for line in io.TextIOWrapper(file, "utf-8-sig", "surrogateescape"):
            if address := line.strip():
                yield _listed(source, address, address)


def _of_csv(source):
    with open_file(source) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        try:
            if "path" not in (rows.fieldnames or ()):
                raise UserError(f"{source}: has no column path")
            for row in rows:
                yield _of_row(source, rows.line_num, row)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{source}: after line {rows.line_num}: {error}; save it as CSV in UTF-8") from None


def _of_parquet(source):
    with open_file(source) as file:
        for number, row in enumerate(parquet.read_columns(source, file, ("path", "id")), 1):
            if "path" not in row:
                raise UserError(f"{source}: has no column path")
            yield _of_row(source, number, row)


def _of_row(source, number, row):
    """The entry of a row of a table. number: of the row."""
    path, name = row["path"], row.get("id")
    if not path or not isinstance(path, str):
        raise UserError(f"{source}: row {number} has no path; remove it, or fill it in")
    return _listed(source, path, path if name in (None, "") else str(name))  # 0 is an id


def _listed(source, address, name):
    """The entry of a list: a picture file, whose address may be relative to the list's folder."""
    if not is_remote(address) and not os.path.isabs(address):
        address = _join(os.path.dirname(source) or ".", address)
    return Entry(name, address)


def _of_tar(source, name=None):
    """The pictures in an uncompressed tar, by their places in it."""
    name = name or os.path.basename(source)
    try:
        with open_file(source) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith(images.SUFFIXES):
                    yield Entry(f"{name}/{member.name}", source, member.offset_data, member.size)
                tar.members = []  # tarfile would keep them all
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{source}: is not an uncompressed tar ({wording.reason(error)})") from None
