"""Published files from a local server: resumed, verified, and with clear errors; here that of `--vgg-weights auto`."""

import dataclasses
import errno
import fcntl
import hashlib
import os
import resource
import urllib.error

import numpy as np
import pytest

import file_server
import programs
from structures import UserError
from system import own_folders
from weights import download

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server(tmp_path, monkeypatch):
    with file_server.run(CONTENT) as server:
        point_to(monkeypatch, server.url("vgg.h5"))
        monkeypatch.setattr(download, "CHUNK", 1000)
        monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path / "cache"))
        yield server


def point_to(monkeypatch, url):
    here = dataclasses.replace(download.VGG16, url=url, digest=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setattr(download, "VGG16", here)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def part(tmp_path):
    return tmp_path / "cache" / (download.VGG16.name + ".part")


def fails(message):
    with pytest.raises(UserError, match=message) as error:
        download.fetch(download.VGG16)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fetched_once(server, tmp_path):
    path = download.fetch(download.VGG16)
    assert path == str(tmp_path / "cache" / download.VGG16.name)
    assert read(path) == CONTENT
    assert download.fetch(download.VGG16) == path
    assert server.asked == [None]
    assert os.listdir(tmp_path / "cache") == [download.VGG16.name]


def test_a_broken_connection_is_taken_up_again(server):
    server.break_after = 120_000
    assert read(download.fetch(download.VGG16)) == CONTENT
    assert server.asked == [None, "bytes=120000-", "bytes=240000-"]


def test_the_next_call_goes_on(server, tmp_path):
    server.break_after = 50_000
    told = fails("vgg.h5 .* 0 MB .*closed.*same command")
    assert download.VGG16.path in told
    assert part(tmp_path).read_bytes() == CONTENT[:150_000]
    server.break_after = None
    assert read(download.fetch(download.VGG16)) == CONTENT
    assert server.asked[-1] == "bytes=150000-"


def test_a_server_without_ranges(server, tmp_path):
    server.ranges = False
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT[:1000])
    assert read(download.fetch(download.VGG16)) == CONTENT


def test_a_server_without_ranges_and_a_short_file(server, tmp_path, monkeypatch):
    """So short that nothing is written to disk before the end."""
    server.ranges, server.content = False, CONTENT[:100]
    digest = hashlib.md5(server.content).hexdigest()
    monkeypatch.setattr(download, "VGG16", dataclasses.replace(download.VGG16, digest=digest))
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT[:50])
    assert read(download.fetch(download.VGG16)) == server.content


def test_a_folder_in_the_place_of_the_file(server, tmp_path):
    (tmp_path / "cache" / download.VGG16.name).mkdir(parents=True)
    fails(rf"^--vgg-weights auto: .*{download.VGG16.name} cannot be read \(Is a directory\); delete it")


def test_a_disk_without_locks(server, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert read(download.fetch(download.VGG16)) == CONTENT
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_a_whole_part_needs_no_bytes(server, tmp_path):
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT)
    assert read(download.fetch(download.VGG16)) == CONTENT


def test_a_stop_keeps_what_has_arrived(server, tmp_path):
    chunks = iter([None] * 20)

    def check_stop():
        if next(chunks, "end") == "end":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(download.VGG16, check_stop)
    assert part(tmp_path).read_bytes() == CONTENT[:21_000]
    assert read(download.fetch(download.VGG16)) == CONTENT


def test_a_wrong_file_is_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    fails(f"vgg.h5 .*{download.VGG16.digest}")
    assert part(tmp_path).read_bytes() == b""
    assert not os.path.exists(download.VGG16.path)


def test_a_damaged_cache_is_told(server, tmp_path):
    path = download.fetch(download.VGG16)
    with open(path, "ab") as file:
        file.write(b"x")
    assert path in fails(f"{download.VGG16.digest}.*delete")


def test_offline(server, monkeypatch):
    """The message says where to put the file."""
    point_to(monkeypatch, "http://127.0.0.1:9/vgg.h5")
    told = fails(f"http://127.0.0.1:9/vgg.h5 .*{download.VGG16.path}, .*another file, or none")
    assert download.VGG16.path in told


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
    monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    fails(f"written .*{own_folders.CACHE_VARIABLE}")


def test_a_full_disk_is_no_broken_connection(server, tmp_path):
    """The message names the file, nothing is asked for again, and what has arrived is kept."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        told = fails(rf"\.part cannot be written \(File too large\); set {own_folders.CACHE_VARIABLE}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "interrupted" not in told and server.asked == [None]
    assert part(tmp_path).read_bytes() == CONTENT[:100_000]
    assert read(download.fetch(download.VGG16)) == CONTENT


def test_a_firewall_is_not_a_disk(server, monkeypatch):
    def refused(*_, **__):
        raise urllib.error.URLError(PermissionError(errno.EACCES, "Permission denied"))

    monkeypatch.setattr(download.urllib.request, "urlopen", refused)
    fails(r"vgg.h5 cannot be downloaded \(.*Permission denied\)")


def test_default_place(monkeypatch):
    monkeypatch.delenv(own_folders.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert download.VGG16.path == f"/home/someone/.cache/ssd-tensorflow/{download.VGG16.name}"


def test_train_takes_it_from_the_cache_by_default(tmp_path, monkeypatch):
    """At width 1. The file there is not the right one: it is refused before a run is made, and nothing is fetched."""
    monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path))
    (tmp_path / download.VGG16.name).write_bytes(b"spoilt")
    data = programs.write_shapes(tmp_path / "data", {"train": 2})
    flags = ("--data", data, "--train", "train", "--classes", programs.CLASSES, "--batch-size", "1", "--workers", "1")
    assert download.VGG16.digest in programs.error_of("train.py", *flags, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
