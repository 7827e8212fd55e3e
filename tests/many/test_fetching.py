"""The bytes of pictures in tars and far away."""

import functools
import http.server
import pathlib
import re
import tarfile
import threading

import numpy as np
import pytest

from many import detecting, fetching, inputs
from many.fetching import Fetcher
from many.inputs import Entry
from media import images
from structures import UserError


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one of them below."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for number, name in enumerate(("b.png", "more/a.jpg")):
        images.write(str(tmp_path / "pictures" / name), np.full((4, 5, 3), 40 * number, np.uint8))
    return tmp_path / "pictures"


@pytest.fixture
def tar(folder, tmp_path):
    """An uncompressed tar of them."""
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("b.png", "more/a.jpg"):
            file.add(folder / name, name)
    return tmp_path / "a.tar"


@pytest.fixture
def remote(monkeypatch):
    """20 files far away, as entries, and the calls that fetch them: (whether in this thread, paths, ends)."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    entries = []
    for number in range(20):
        memory.pipe(f"/far/{number}.png", b"%04d" % number)
        entries.append(Entry(str(number), f"memory://far/{number}.png"))
    calls, fetch = [], type(memory).cat_ranges

    def cat_ranges(self, paths, starts, ends, **more):
        calls.append((threading.current_thread() is threading.main_thread(), list(paths), list(ends)))
        return fetch(self, paths, starts, ends, **more)

    monkeypatch.setattr(type(memory), "cat_ranges", cat_ranges)
    return entries, calls


@pytest.fixture
def serve():
    """Function (folder, whether it knows of ranges) -> address of a web server."""
    pytest.importorskip("aiohttp")
    servers = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        ranges = True

        def do_GET(self):
            wanted = self.ranges and re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            path = pathlib.Path(self.translate_path(self.path))
            if not wanted or not path.is_file():
                super().do_GET()
                return
            part = path.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_):
            pass

    def start(root, ranges):
        handler = functools.partial(type("Ranges", (Handler,), {"ranges": ranges}), directory=str(root))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def names(paths):
    return [path.rpartition("/")[2].partition(".")[0] for path in paths]


def test_a_picture_in_a_tar_is_read_as_a_file(tar):
    with detecting._as_files(list(inputs.read(str(tar))), Fetcher(None)) as paths:
        assert [images.read(path).mean() for path in paths] == [0, 40]


def test_what_comes_next_is_fetched_meanwhile(remote):
    entries, calls = remote
    with fetching.open_fetcher() as fetcher:
        for start in (0, 8, 16):
            found = fetcher.contents(entries[start : start + 8], entries[start + 8 : start + 16])
            assert found == [b"%04d" % number for number in range(start, min(start + 8, 20))]
    assert [(here, names(paths)) for here, paths, _ in calls] == [
        (True, list(map(str, range(8)))),
        (False, list(map(str, range(8, 16)))),
        (False, list(map(str, range(16, 20)))),
    ]


def test_what_was_fetched_for_later_is_kept_for_later(remote):
    """The next group may be smaller, or another."""
    entries, calls = remote
    with fetching.open_fetcher() as fetcher:
        fetcher.contents(entries[:8], entries[8:16])
        assert fetcher.contents(entries[8:10], entries[10:18]) == [b"0008", b"0009"]
        assert fetcher.contents(entries[10:12]) == [b"0010", b"0011"]
        assert fetcher.contents(entries[12:13]) == [b"0012"]  # which nobody announced again
    fetched = [names(paths) for _, paths, _ in calls]
    assert fetched[2:] == [["16", "17"], ["12"]]


def test_an_error_meanwhile_counts_when_the_picture_is_wanted(remote, monkeypatch):
    entries, _ = remote
    errors = [RuntimeError("the network is gone"), RuntimeError("still")]

    def fails(wanted, fetch=fetching.contents):
        if wanted == entries[8:9] and errors:
            raise errors.pop()
        return fetch(wanted)

    monkeypatch.setattr(fetching, "contents", fails)
    with fetching.open_fetcher() as fetcher:
        fetcher.contents(entries[:1], entries[8:9])
        with pytest.raises(RuntimeError, match="the network is gone"):
            fetcher.contents(entries[8:9])
        assert fetcher.contents(entries[8:9]) == [b"0008"]


@pytest.mark.parametrize("ranges", [True, False])
def test_pictures_on_a_web_server(ranges, folder, tar, serve):
    """One that does not know of ranges sends a whole tar, which is no picture."""
    url = serve(tar.parent, ranges)
    members = [one._replace(address=f"{url}/a.tar") for one in inputs.read(str(tar))]
    wanted = [Entry("whole", f"{url}/pictures/b.png"), Entry("gone", f"{url}/gone.png"), *members]
    with fetching.open_fetcher() as fetcher:
        fetcher.contents([], wanted)
        whole, gone, *parts = fetcher.contents(wanted)
    pictures = [(folder / name).read_bytes() for name in ("b.png", "more/a.jpg")]
    assert whole == pictures[0]
    assert isinstance(gone, UserError) and str(gone).startswith(f"{url}/gone.png: cannot be read")
    if ranges:
        assert parts == pictures
    else:
        size = tar.stat().st_size
        assert (
            str(parts[0])
            == f"{url}/a.tar: cannot be read ({size:,} bytes for the {members[0].size} from {members[0].start:,} on)"
        )


def test_no_more_is_read_of_a_picture_than_can_be_decoded(remote, tar, monkeypatch):
    entries, calls = remote
    monkeypatch.setattr(images, "MAX_BYTES", 3_000_000)
    large = Entry("large", str(tar), 0, 3_000_001)
    assert str(fetching.contents([large])[0]) == f"{tar}: cannot be read (larger than 3 MB)"
    monkeypatch.setattr(images, "MAX_BYTES", 3)  # each has 4
    (found,) = fetching.contents(entries[:1])
    assert isinstance(found, UserError) and "larger than" in str(found)
    assert calls[-1][2] == [4]
    monkeypatch.setattr(images, "MAX_BYTES", 4)
    assert fetching.contents(entries[:1]) == [b"0000"]


def test_an_address_that_cannot_be_read_is_a_row(tmp_path):
    entries = [Entry("a", str(tmp_path / "gone.tar"), 0, 10), Entry("b", str(tmp_path / "b.jpg"))]
    with detecting._as_files(entries, Fetcher(None)) as paths:
        assert isinstance(paths[0], UserError) and paths[1] == entries[1].address


def test_a_tar_is_opened_once_for_many_pictures(folder, tar, monkeypatch):
    found = list(inputs.read(str(tar)))
    opened, open_file = [], inputs.open_file
    monkeypatch.setattr(fetching, "open_file", lambda address: opened.append(address) or open_file(address))
    pictures = [(folder / name).read_bytes() for name in ("b.png", "more/a.jpg")]
    assert fetching.contents([*found, found[0]]) == [*pictures, pictures[0]]
    assert opened == [str(tar)]


def test_remote_pictures_are_fetched_at_once(folder, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    content = [(folder / name).read_bytes() for name in ("b.png", "more/a.jpg")]
    memory.pipe("/test/two", b"".join(content))
    memory.pipe("/test/b.png", content[0])
    calls, fetch = [], type(memory).cat_ranges
    monkeypatch.setattr(type(memory), "cat_ranges", lambda *args, **more: calls.append(1) or fetch(*args, **more))
    entries = [
        Entry("whole", "memory://test/b.png"),
        Entry("gone", "memory://test/gone.png"),
        Entry("second", "memory://test/two", len(content[0]), len(content[1])),
        Entry("local", str(folder / "b.png"), 0, 10),
        Entry("first", "memory://test/two", 0, len(content[0])),
        Entry("nonsense", "nonsense://test/b.png"),
    ]
    whole, gone, second, local, first, nonsense = fetching.contents(entries)
    assert (whole, second, local, first) == (content[0], content[1], content[0][:10], content[0])
    assert calls == [1]
    assert str(gone).startswith("memory://test/gone.png: cannot be read") and isinstance(gone, UserError)
    assert str(nonsense).startswith("nonsense://test/b.png: cannot be read")


def test_what_opens_an_address_must_be_installed(monkeypatch):
    """Or else every picture would be unreadable."""
    fsspec = pytest.importorskip("fsspec")

    def needs(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", needs)
    with pytest.raises(UserError, match=r"^s3://b/c.png: cannot be read \(Install s3fs to access S3\)$"):
        fetching.contents([Entry("a", "s3://b/c.png")])
