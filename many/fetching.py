"""The bytes of pictures that are not files of this machine: in tars, or wherever fsspec reads."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import IO, Any

from many.inputs import Entry, import_fsspec, is_remote, open_file
from media import images
from structures import UserError
from system import wording

Content = bytes | UserError  # or why they cannot be had


class Fetcher:
    """Fetches pictures, and those far away that come next while the caller is busy with these."""

    def __init__(self, thread: futures.Executor):
        self._thread = thread
        self._kept: dict[Entry, Content] = {}
        self._asked: Sequence[Entry] = ()
        self._answer: futures.Future[list[Content]] | None = None

    def contents(self, entries: Sequence[Entry], following: Sequence[Entry] = ()) -> list[Content]:
        """Like `contents`, which also says what it raises. following: pictures that are probably wanted next."""
        had = self._kept | self._answered()
        missing = [entry for entry in entries if entry not in had]
        had |= zip(missing, contents(missing), strict=True)
        self._kept = {entry: had[entry] for entry in following if entry in had}
        self._asked = [entry for entry in following if is_remote(entry.address) and entry not in had]
        if self._asked:
            self._answer = self._thread.submit(contents, self._asked)
        return [had[entry] for entry in entries]

    def _answered(self):
        answer, self._answer = self._answer, None
        try:
            return dict(zip(self._asked, answer.result(), strict=True)) if answer else {}
        except Exception:  # they are fetched again when they are wanted, and what is raised then counts
            return {}


@contextlib.contextmanager
def open_fetcher() -> Iterator[Fetcher]:
    """Context manager: a Fetcher with a thread of its own, which ends with the block."""
    with futures.ThreadPoolExecutor(1, "fetcher") as thread:
        yield Fetcher(thread)


def contents(entries: Sequence[Entry]) -> list[Content]:
    """The bytes of pictures, in their order, or why those of one cannot be had. Remote ones are fetched all at once.

    Of a picture no more than images.MAX_BYTES are asked for; a web server without ranges sends all of it. Raises
    UserError if what opens an address is not installed.
    """
    found: list[Any] = [None] * len(entries)
    with contextlib.ExitStack() as stack:
        opened: dict[str, IO[bytes]] = {}  # one tar has many pictures
        for place, entry in enumerate(entries):
            if entry.size > images.MAX_BYTES:
                found[place] = _too_large(entry)
            elif not is_remote(entry.address):
                found[place] = _local(entry, opened, stack)
    remote = [place for place, content in enumerate(found) if content is None]
    for place, content in zip(remote, _fetched([entries[place] for place in remote]), strict=True):
        found[place] = content
    return found


def _local(entry, opened, stack):
    try:
        if entry.address not in opened:
            opened[entry.address] = stack.enter_context(open_file(entry.address))
        opened[entry.address].seek(entry.start)
        return _checked(entry, opened[entry.address].read(entry.size))
    except UserError as error:
        return error
    except OSError as error:
        return _unreadable(entry, wording.reason(error))


def _fetched(entries):
    """Bytes, or errors, of remote entries: many requests at once, for one after another would be slow."""
    found, systems = [None] * len(entries), {}
    for place, entry in enumerate(entries):
        try:
            system, path = import_fsspec().core.url_to_fs(entry.address)
            systems.setdefault(id(system), (system, []))[1].append((place, path, *_range(entry)))
        except ImportError as error:
            raise _unreadable(entry, wording.reason(error)) from None
        except (OSError, ValueError) as error:
            found[place] = _unreadable(entry, wording.reason(error))
    for system, wanted in systems.values():
        places, paths, starts, ends = map(list, zip(*wanted, strict=True))
        for place, answer in zip(places, system.cat_ranges(paths, starts, ends, on_error="return"), strict=True):
            found[place] = _checked(entries[place], answer)
    return found


def _range(entry):
    """(start, end) of its bytes. How many a whole file has is not known: one more than can be read is enough."""
    return entry.start, entry.start + (entry.size if entry.size >= 0 else images.MAX_BYTES + 1)


def _checked(entry, answer):
    if isinstance(answer, Exception):
        return _unreadable(entry, wording.reason(answer))
    if entry.size < 0:
        return answer if len(answer) <= images.MAX_BYTES else _too_large(entry)
    if len(answer) != entry.size:  # a server that knows no ranges sends the whole tar
        return _unreadable(entry, f"{len(answer):,} bytes for the {entry.size:,} from {entry.start:,} on")
    return answer


def _too_large(entry):
    return _unreadable(entry, f"larger than {images.MAX_BYTES / 1e6:,.0f} MB")


def _unreadable(entry, reason):
    return UserError(f"{entry.address}: cannot be read ({reason})")
