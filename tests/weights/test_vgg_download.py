"""`--vgg-weights auto` against a local server: resumed, verified, and with clear errors."""

import contextlib
import fcntl
import hashlib
import http.server
import os
import socketserver
import threading

import numpy as np
import pytest

import programs
from structures import UserError
from system import files
from weights import vgg_download

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves `content`; closes each connection after `break_after` bytes; notes the Range of each request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.missing, self.break_after, self.asked = CONTENT, True, False, None, []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        body = self.server.content[start:]
        if self.server.missing or not body:
            self.send_error(404 if self.server.missing else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.break_after])

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    with run_server() as server:
        monkeypatch.setattr(vgg_download, "URL", f"http://127.0.0.1:{server.server_address[1]}/vgg.h5")
        monkeypatch.setattr(vgg_download, "MD5", hashlib.md5(CONTENT).hexdigest())
        monkeypatch.setattr(vgg_download, "CHUNK", 1000)
        monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
        yield server


@contextlib.contextmanager
def run_server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def part(tmp_path):
    return tmp_path / "cache" / (vgg_download.NAME + ".part")


def fails(message):
    with pytest.raises(UserError, match=message) as error:
        vgg_download.fetch()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fetched_once(server, tmp_path):
    path = vgg_download.fetch()
    assert path == str(tmp_path / "cache" / vgg_download.NAME)
    assert read(path) == CONTENT
    assert vgg_download.fetch() == path
    assert server.asked == [None]
    assert os.listdir(tmp_path / "cache") == [vgg_download.NAME]


def test_a_broken_connection_is_taken_up_again(server):
    server.break_after = 120_000
    assert read(vgg_download.fetch()) == CONTENT
    assert server.asked == [None, "bytes=120000-", "bytes=240000-"]


def test_the_next_call_goes_on(server, tmp_path):
    server.break_after = 50_000
    told = fails("vgg.h5 .* 0 MB .*closed.*same command")
    assert vgg_download.cached_path() in told
    assert part(tmp_path).read_bytes() == CONTENT[:150_000]
    server.break_after = None
    assert read(vgg_download.fetch()) == CONTENT
    assert server.asked[-1] == "bytes=150000-"


def test_a_server_without_ranges(server, tmp_path):
    server.ranges = False
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT[:1000])
    assert read(vgg_download.fetch()) == CONTENT


def test_a_whole_part_needs_no_bytes(server, tmp_path):
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT)
    assert read(vgg_download.fetch()) == CONTENT


def test_a_stop_keeps_what_has_arrived(server, tmp_path):
    chunks = iter([None] * 20)

    def check_stop():
        if next(chunks, "end") == "end":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vgg_download.fetch(check_stop)
    assert part(tmp_path).read_bytes() == CONTENT[:21_000]
    assert read(vgg_download.fetch()) == CONTENT


def test_a_wrong_file_is_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    fails(f"vgg.h5 .*{vgg_download.MD5}")
    assert part(tmp_path).read_bytes() == b""
    assert not os.path.exists(vgg_download.cached_path())


def test_a_damaged_cache_is_told(server, tmp_path):
    path = vgg_download.fetch()
    with open(path, "ab") as file:
        file.write(b"x")
    assert path in fails(f"{vgg_download.MD5}.*delete")


def test_offline(server, monkeypatch):
    """The message says where to put the file."""
    monkeypatch.setattr(vgg_download, "URL", "http://127.0.0.1:9/vgg.h5")
    told = fails(f"http://127.0.0.1:9/vgg.h5 .*{vgg_download.cached_path()}, .*another file, or none")
    assert vgg_download.cached_path() in told


def test_a_missing_page(server):
    server.missing = True
    fails("vgg.h5 .*Not Found")


def test_two_processes(server, tmp_path):
    part(tmp_path).parent.mkdir()
    with open(part(tmp_path), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fails("another process")


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    fails(f"written .*{files.CACHE_VARIABLE}")


def test_default_place(monkeypatch):
    monkeypatch.delenv(files.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert vgg_download.cached_path() == f"/home/someone/.cache/ssd-tensorflow/{vgg_download.NAME}"


def test_train_takes_it_from_the_cache_by_default(tmp_path, monkeypatch):
    """At width 1. The file there is not the right one: it is refused before a run is made, and nothing is fetched."""
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))
    (tmp_path / vgg_download.NAME).write_bytes(b"spoilt")
    data = programs.write_shapes(tmp_path / "data", {"train": 2})
    flags = ("--data", data, "--train", "train", "--classes", programs.CLASSES, "--batch-size", "1", "--workers", "1")
    assert vgg_download.MD5 in programs.error_of("train.py", *flags, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
