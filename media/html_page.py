"""Parts of the HTML pages that programs write: one file that needs no other, opened without a server."""

import base64
import html

import cv2

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


def page(title, heading, parts):
    """A whole page. title, heading: plain text; parts: HTML."""
    start = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(heading)}</h1>",
    ]
    return "\n".join([*start, *parts]) + "</html>\n"


def escape(words):
    """Plain text for HTML; a file name that is not UTF-8 is shown with marks in place of what cannot be."""
    return html.escape(words.encode("utf-8", "replace").decode())


def table(rows):
    """Rows of plain texts, the first of them the head; all columns but the first to the right."""
    head, *body = rows
    lines = ["<table><tr>" + "".join(f"<th{_n(at)}>{escape(cell)}</th>" for at, cell in enumerate(head))]
    lines += ["<tr>" + "".join(f"<td{_n(at)}>{escape(cell)}</td>" for at, cell in enumerate(row)) for row in body]
    return "\n".join(lines) + "</table>"


def _n(column):
    return " class=n" if column else ""


def picture(image):
    """A small picture, uint8 RGB [H,W,3], inside the page; None says that it cannot be shown."""
    if image is None:
        return "<div class=none>cannot be shown</div>"
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(encoded).decode()}'>"


def figure(pictures, caption, pair=False):
    """Pictures (HTML of `picture`) over a caption (HTML)."""
    return f"<figure{' class=pair' if pair else ''}>{' '.join(pictures)}<figcaption>{caption}</figcaption></figure>"
