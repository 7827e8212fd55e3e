"""The page of --serve, by its answers: who may see it, what it shows, what can be ticked."""

import http.client
import json
import shutil
import subprocess
import threading
import urllib.parse

import cv2
import numpy as np
import pytest

from film import page
from film.frames import Frame
from film.legend import Presence
from media import images
from structures import Detections, UserError

NAMES = ("car", "<b>bus</b>")


def frame(index, *labels):
    boxes = np.array([[0, 0, 8, 8]] * len(labels), np.float32).reshape(-1, 4)
    found = Detections(boxes, np.full(len(labels), 0.8, np.float32), np.array(labels, np.int32))
    return Frame(index, index / 10, np.full((48, 64, 3), 5 * index, np.uint8), None, found)


@pytest.fixture
def served():
    """Makes Pages, closed at the end."""
    pages = []

    def serve(host="127.0.0.1", source="film.mp4"):
        pages.append(page.Page((host, 0), source, NAMES))
        return pages[-1]

    yield serve
    for one in pages:
        one.close()


def ask(one, path, method="GET", body=None, **headers):
    """(status, headers, body) of an answer."""
    parts = urllib.parse.urlsplit(one.address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_page_and_its_parts(served):
    one = served()
    for path, kind in (("/", "text/html"), ("/style?", "text/css"), ("/script?", "text/javascript")):
        status, headers, body = ask(one, path)
        assert status == 200 and headers["Content-Type"].startswith(kind) and len(body) > 100
        assert "default-src 'self'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/film/page.py", "/script/x", "/film.mp4", "//etc/passwd"])
def test_no_file_is_served(served, path):
    assert ask(served(), path)[0] == 404


def test_what_it_shows_beside_the_picture(served):
    one = served(source="rtsp://camera/front")
    assert json.loads(ask(one, "/state")[2])["classes"] == []
    for index in range(3):
        one.add(frame(index, 0, 0, 1) if index < 2 else frame(index, 1))
    state = json.loads(ask(one, "/state")[2])
    assert state["source"] == "rtsp://camera/front"
    assert [(row["name"], row["count"], row["shown"]) for row in state["classes"]] == [
        ("car", "0 now", True),
        ("<b>bus</b>", "1 now", True),
    ]
    assert state["rates"].endswith("3 so far") and state["counts"] == []


def test_a_track_is_counted_in_its_latest_class():
    """The class of a track is that of most scores, which may change."""
    presence, counts = Presence(), []
    for labels, ids in (([0], [7]), ([0, 1], [7, 8]), ([1, 1], [7, 8]), ([], []), ([1], [7])):
        presence.note(0.0, frame(0, *labels).detections, np.array(ids, np.int64))
        counts.append(presence.so_far)
    assert counts == [{0: 1}, {0: 1, 1: 1}, *[{0: 0, 1: 2}] * 3]
    assert presence.labels == [0, 1]  # the page goes on to show both


def test_classes_are_ticked(served):
    one = served()
    tick = {"method": "POST", "Content_Type": "application/json"}
    assert ask(one, "/classes", body='{"name": "car", "shown": false}', **tick)[0] == 200 and one.hidden == {0}
    one.add(frame(0, 0))
    assert json.loads(ask(one, "/state")[2])["classes"][0]["shown"] is False
    assert ask(one, "/classes", body='{"name": "car", "shown": true}', **tick)[0] == 200 and one.hidden == set()
    for body in ('{"name": "tram", "shown": false}', "{", "[]", '{"name": []}', "[" * 60_000):
        assert ask(one, "/classes", body=body, **tick)[0] == 400
    for length in ("-1", "65537"):  # the answer does not wait for what the body says
        assert ask(one, "/classes", body="{}", Content_Length=length, **tick)[0] == 400
    # What a form of another origin can send without asking
    assert ask(one, "/classes", "POST", '{"name": "car", "shown": false}', Content_Type="text/plain")[0] == 400
    assert one.hidden == set()


def test_another_name_for_this_machine_is_refused(served):
    """A page elsewhere whose name leads to 127.0.0.1 (DNS rebinding)."""
    one = served()
    assert ask(one, "/state", Host="evil.example")[0] == 403
    assert ask(one, "/state", Host="localhost:80")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_that_is_none_is_refused(served, host):
    one = served(host)
    assert ask(one, "/state", Host="[::1")[0] == 403
    assert ask(one, "ftp://[x/state")[0] == 403


def test_the_world_needs_the_token(served):
    one = served("0.0.0.0")
    assert one.token and len(one.token) >= 20 and one.token in one.address
    for path in (
        "/",
        "/state",
        "/picture",
        "/state?token=",
        "/state?token=x",
        f"/state?token={one.token}x",
        "/state?token=é",
    ):
        assert ask(one, urllib.parse.quote(path, "/?="))[0] == 403
    assert ask(one, "/classes", "POST", '{"name": "car", "shown": false}', Content_Type="application/json")[0] == 403
    status, _, body = ask(one, f"/?token={one.token}", Host="camera.example")
    assert status == 200 and body.decode().count(f"token={one.token}") == 3  # of its picture, style and script
    assert served().token is None


def read_pictures(one, count, started=None):
    """The gray levels of the first pictures of a viewer."""
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(one.address).port, timeout=10)
    connection.request("GET", "/picture")
    answer = connection.getresponse()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
    levels = []
    assert answer.readline() == b"--frame\r\n"
    while len(levels) < count:
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().split(b":")[1])
        answer.readline()
        picture = cv2.imdecode(np.frombuffer(answer.read(length), np.uint8), cv2.IMREAD_COLOR)
        levels.append(round(float(picture.mean() / 5)))
        assert (answer.readline(), answer.readline()) == (b"\r\n", b"--frame\r\n")
        if started:
            started.set()
    connection.close()
    return levels


def test_a_viewer_sees_the_newest_picture(served):
    one, levels, started = served(), [], threading.Event()
    one.add(frame(1))
    viewer = threading.Thread(target=lambda: levels.extend(read_pictures(one, 3, started)))
    viewer.start()
    assert started.wait(10)
    index = 2
    while viewer.is_alive():
        one.add(frame(min(index, 50)))
        index += 1
        viewer.join(0.01)
    assert levels[0] == 1 and len(levels) == 3 and levels == sorted(set(levels))


def test_viewers_are_bounded(served, monkeypatch):
    monkeypatch.setattr(page, "MOST_VIEWERS", 0)
    assert ask(served(), "/picture")[0] == 503


def test_a_port_that_is_taken(served):
    port = urllib.parse.urlsplit(served().address).port
    with pytest.raises(UserError, match=rf"--serve 127\.0\.0\.1:{port}: .*another port"):
        page.Page(("127.0.0.1", port), "film.mp4", NAMES)


@pytest.mark.parametrize(
    ("text", "expected"), [("8080", ("127.0.0.1", 8080)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:9", ("::1", 9))]
)
def test_addresses(text, expected):
    assert page.parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "x", "70000", "-1", "host:", "8080.5"])
def test_no_addresses(text):
    with pytest.raises(ValueError):
        page.parse_address(text)


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_in_a_browser(served, tmp_path):
    """The picture and the table are there, and names are text, not HTML."""
    one = served()
    one.add(frame(40, 0, 1, 1))
    one.tick("car", False)
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    quiet += ["--no-first-run", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = tmp_path / "page.png"
    wanted = ["--window-size=800,300", "--timeout=5000", f"--screenshot={shot}", "--dump-dom", one.address]
    done = subprocess.run([CHROMIUM, *quiet, *wanted], capture_output=True, text=True, timeout=120, check=True)
    assert "&lt;b&gt;bus&lt;/b&gt;" in done.stdout and "2 now" in done.stdout and "<b>" not in done.stdout
    picture = images.read(shot)
    assert (np.abs(picture[20:200, 80:440].astype(int) - 200) < 4).all(axis=2).mean() > 0.9
