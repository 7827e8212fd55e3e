"""What a user has in a folder and below it, without what file managers and disks leave there."""

import collections
import os
from collections.abc import Callable, Iterator

from system.file_names import Path

# What file managers, archives and network disks leave among a user's files; names in lower case
LEFTOVERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"}


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
