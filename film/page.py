"""The page of --serve: the annotated picture as it is made, rates, counts, and classes to tick.

It is bound to this machine unless the user names another address; then it wants a token, which the printed address has.
It answers the few paths below and reads no file.
"""

import http.server
import json
import secrets
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

import cv2

from film.frames import Frame, words
from film.legend import Presence
from media.class_colors import class_colors
from structures import UserError
from system import wording

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
MOST_VIEWERS = 8  # pictures that are sent at once
QUALITY = 80  # of the JPEGs
WAIT = 1.0  # seconds after which a viewer gets the old picture again: browsers show none before the second
LONGEST_BODY = 65536  # bytes of a request

HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>process_video.py</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="style?{query}"></head>
<body><main><img id="picture" src="picture?{query}" alt="the annotated picture"></main>
<aside><h1 id="source"></h1><p id="rates">waiting for the first frame</p><table><tbody id="classes"></tbody></table>
<ul id="counts"></ul></aside><script src="script?{query}"></script></body></html>
"""
STYLE = """
body { margin: 0; display: flex; flex-wrap: wrap; background: #16181c; color: #e8e8e8; font: 16px/1.4 sans-serif; }
main { flex: 3 1 480px; } main img { width: 100%; max-height: 100vh; object-fit: contain; display: block; }
aside { flex: 1 1 260px; padding: 12px 20px; box-sizing: border-box; }
h1 { font-size: 18px; margin: 0; overflow-wrap: anywhere; } table { border-collapse: collapse; width: 100%; }
td { padding: 3px 6px; } td.number { text-align: right; }
.swatch { display: inline-block; width: 12px; height: 12px; margin: 0 4px; }
label { cursor: pointer; } ul { padding-left: 18px; }
"""
SCRIPT = """
"use strict";
const query = location.search, rows = new Map();
function element(kind, parent, text) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function row(one) {
  const line = element("tr", document.getElementById("classes")), label = element("label", element("td", line));
  const box = element("input", label), swatch = element("span", label);
  box.type = "checkbox"; box.checked = one.shown;
  box.addEventListener("change", () => fetch("classes" + query, {method: "POST",
    headers: {"Content-Type": "application/json"}, body: JSON.stringify({name: one.name, shown: box.checked})}));
  swatch.className = "swatch"; swatch.style.background = one.color;
  element("span", label, " " + one.name);
  const number = element("td", line);
  number.className = "number";
  rows.set(one.name, {box, number});
}
async function update() {
  try {
    const state = await (await fetch("state" + query)).json();
    document.getElementById("source").textContent = state.source;
    document.getElementById("rates").textContent = state.rates;
    for (const one of state.classes) {
      if (!rows.has(one.name)) row(one);
      rows.get(one.name).number.textContent = one.count;
    }
    const counts = document.getElementById("counts");
    counts.replaceChildren();
    for (const text of state.counts) element("li", counts, text);
  } catch { document.getElementById("rates").textContent = "the program has ended"; }
  setTimeout(update, 500);
}
update();
"""


def parse_address(text: str) -> tuple[str, int]:
    """An argument type: PORT or HOST:PORT -> (host, port). Raises ValueError."""
    host, _, port = text.rpartition(":")
    number = int(port)
    if not 0 <= number < 65536:
        raise ValueError
    return host.strip("[]") or THIS_MACHINE[0], number


class Page:
    """The page of one video, served from when it is made until `close`.

    address: what to open in a browser. hidden: labels that are not to be drawn, as the user ticked.
    """

    def __init__(self, address: tuple[str, int], source: str, class_names: Sequence[str]) -> None:
        """address: host and port; port 0 takes a free one. Raises UserError if it cannot be bound."""
        host, port = address
        self.token = None if host in THIS_MACHINE else secrets.token_urlsafe(16)
        self.hidden: set[int] = set()
        self._source, self._class_names = source, list(class_names)
        self._colors = ["#" + bytes(color).hex() for color in class_colors(class_names)]
        self._presence, self._counts, self._frames = Presence(), [], 0
        self._changed = threading.Condition()
        self._picture, self._ended = b"", False
        self._viewers = 0
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--serve {host}:{port}: cannot be bound ({wording.reason(error)}); give another port"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.server_address[1]}/" + (
            f"?token={self.token}" if self.token else ""
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def add(self, frame: Frame) -> None:
        """Show a frame with its drawings."""
        found = frame.detections
        assert found is not None
        with self._changed:
            self._presence.note(frame.time, found, frame.tracks.ids if frame.tracks else None)
            self._counts = [words(count) for count in frame.tracks.counts] if frame.tracks else []
            self._frames += 1
            watched = self._viewers > 0 or not self._picture
        if watched:
            picture = cv2.imencode(".jpg", frame.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            with self._changed:
                self._picture = picture
                self._changed.notify_all()

    def state(self) -> dict[str, Any]:
        """What the page shows beside the picture."""
        with self._changed:
            now, classes = self._presence, []
            for label in now.labels:
                total = "" if now.so_far is None else f", {now.so_far[label]} so far"
                classes.append(
                    {
                        "name": self._class_names[label],
                        "color": self._colors[label],
                        "count": f"{now.here[label]} now{total}",
                        "shown": label not in self.hidden,
                    }
                )
            rates = f"{now.speed:.1f} frames/s, {self._frames} so far" if now.speed else "waiting for the first frames"
            return {"source": self._source, "rates": rates, "classes": classes, "counts": list(self._counts)}

    def tick(self, name: str, shown: bool) -> bool:
        """Draw a class or not -> whether there is one of that name."""
        if name not in self._class_names:
            return False
        label = self._class_names.index(name)
        self.hidden = self.hidden - {label} if shown else self.hidden | {label}
        return True

    def pictures(self):
        """Yield JPEGs, each the newest one, until the page is closed; None if too many watch."""
        with self._changed:
            if self._viewers >= MOST_VIEWERS:
                yield None
                return
            self._viewers += 1
        try:
            last = None
            while not self._ended:
                with self._changed:
                    self._changed.wait_for(lambda: self._picture is not last or self._ended, WAIT)  # noqa: B023
                    last = self._picture
                if last:
                    yield last
        finally:
            with self._changed:
                self._viewers -= 1

    def close(self) -> None:
        """End the page."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address, page):
        self.page = page
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request, client_address):
        """A viewer that goes away is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        page, path = self.server.page, self._allowed()
        if path is None:
            return
        query = urllib.parse.urlencode({"token": page.token}) if page.token else ""
        fixed = {
            "/": ("text/html; charset=utf-8", HTML.replace("{query}", query)),
            "/style": ("text/css; charset=utf-8", STYLE),
            "/script": ("text/javascript; charset=utf-8", SCRIPT),
        }
        if path == "/picture":
            self._send_pictures(page)
        elif path == "/state":
            self._send(200, "application/json", json.dumps(page.state()))
        elif path in fixed:
            self._send(200, *fixed[path])
        else:
            self._send(404, "text/plain", "no such page")

    def do_POST(self):
        page, path = self.server.page, self._allowed()
        if path is None:
            return
        try:
            length = int(self.headers.get("Content-Length", 0))
            # A page of another origin cannot send this type without asking first, which is not answered
            is_json = self.headers.get_content_type() == "application/json"
            if path != "/classes" or not is_json or not 0 <= length <= LONGEST_BODY:  # a negative one reads for ever
                raise ValueError
            wanted = json.loads(self.rfile.read(length))
            known = page.tick(wanted["name"], bool(wanted["shown"]))
        except (ValueError, TypeError, KeyError, RecursionError):  # the last of thousands of brackets
            known = False
        self.close_connection = not known
        self._send(200 if known else 400, "application/json", "{}")

    def _allowed(self):
        """The path of the request, or None after it was refused."""
        page = self.server.page
        try:
            parts = urllib.parse.urlsplit(self.path)
            given = urllib.parse.parse_qs(parts.query).get("token", [""])[0]
            host = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:  # a bracket that is not closed, very many parameters
            self._refuse("open the page by the address that was printed")
            return None
        if page.token is None and host not in THIS_MACHINE:  # a name of somebody else's that leads here
            self._refuse("open the page by the address that was printed")
        elif page.token is not None and not secrets.compare_digest(given.encode(), page.token.encode()):
            self._refuse("the token of the address that was printed is missing")
        else:
            return parts.path
        return None

    def _refuse(self, reason):
        self.close_connection = True
        self._send(403, "text/plain", reason)

    def _send(self, code, kind, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self._safe_headers()
        self.end_headers()
        self.wfile.write(body)

    def _safe_headers(self):
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")

    def _send_pictures(self, page):
        """MJPEG: pictures in one answer that does not end."""
        self.close_connection = True
        pictures = page.pictures()
        first = next(pictures, None)
        if first is None:
            self._send(503, "text/plain", "too many viewers")
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self._safe_headers()
        self.end_headers()
        try:
            self.wfile.write(b"--frame\r\n")
            while first is not None:
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(first)}\r\n\r\n"
                # A browser shows a picture once it has the line that ends it
                self.wfile.write(head.encode() + first + b"\r\n--frame\r\n")
                first = next(pictures, None)
        except OSError:  # the viewer is gone
            pass
        finally:
            pictures.close()

    def log_message(self, *_):
        pass
