"""Parts of the HTML pages that programs write, which open without a server: only charts are files beside the page."""

import base64
import html
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

PICTURE = 260  # pixels of a small picture's longer side
QUALITY = 80  # of its JPEG: about 12 kB
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #222;
  background: #fff; }
h2 { margin-top: 2em; } h3 { margin: 1.6em 0 .3em; }
table { border-collapse: collapse; margin: .6em 0; } td, th { padding: .25em .8em .25em 0; text-align: left;
  border-bottom: 1px solid #ddd; } td.n, th.n { text-align: right; }
.grave, .grave a { color: #b00020; font-weight: 600; } .muted { color: #666; } .good { color: #0a7a2f; }
.row { display: flex; flex-wrap: wrap; gap: 12px; } figure { margin: 0; width: 264px; } figure.pair { width: 540px; }
img.chart { max-width: 100%; }
figure img { max-width: 262px; border: 1px solid #ccc; } figcaption { font-size: 12px; overflow-wrap: anywhere; }
.none { width: 260px; height: 120px; background: #eee; color: #777; display: flex; align-items: center;
  justify-content: center; } li { overflow-wrap: anywhere; } svg text { font-size: 11px; fill: #555; }
"""


def page(title: str, heading: str, parts: Iterable[str]) -> str:
    """A complete page. title, heading: plain text; parts: HTML."""
    start = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(heading)}</h1>",
    ]
    return "\n".join([*start, *parts]) + "</html>\n"


def escape(words: str) -> str:
    """Escape plain text for HTML; bytes of a file name that are not UTF-8 become question marks."""
    return html.escape(words.encode("utf-8", "replace").decode())


class Html(str):
    """A cell of a table that is HTML already."""


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text and Html. The first row is the head; all columns but the first are aligned right."""
    head, *body = rows
    lines = ["<table><tr>" + "".join(f"<th{_n(at)}>{_cell(cell)}</th>" for at, cell in enumerate(head))]
    lines += ["<tr>" + "".join(f"<td{_n(at)}>{_cell(cell)}</td>" for at, cell in enumerate(row)) for row in body]
    return "\n".join(lines) + "</table>"


def _cell(content):
    return content if isinstance(content, Html) else escape(content)


def _n(column):
    return " class=n" if column else ""


def picture(image: np.ndarray | None) -> str:
    """A small picture, uint8 RGB [H,W,3], embedded in the page; None gives a note that it cannot be shown."""
    if image is None:
        return "<div class=none>cannot be shown</div>"
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}'>"


def chart(name: str, words: str) -> str:
    """A picture that lies beside the page. words: what it shows."""
    return f"<p><img class=chart loading=lazy alt='{escape(words)}' src='{name}'></p>"


def figure(pictures: Iterable[str], caption: str, pair: bool = False) -> str:
    """Pictures (HTML from `picture`) above a caption (HTML). pair: wide enough for two."""
    return f"<figure{' class=pair' if pair else ''}>{' '.join(pictures)}<figcaption>{caption}</figcaption></figure>"
