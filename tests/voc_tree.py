"""Small data sets in Pascal VOC layout for tests."""

import hashlib
import pathlib
from xml.sax.saxutils import escape

import numpy as np

from media import images


def voc_xml(width, height, objects):
    """Text of an annotation. objects: (name, (xmin, ymin, xmax, ymax)[, difficult]), pixels, 1-based, inclusive."""
    parts = [f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for name, box, *difficult in objects:
        corners = "".join(
            f"<{corner}>{value}</{corner}>" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        parts.append(
            f"<object><name>{escape(name)}</name><difficult>{int(any(difficult))}</difficult>"
            f"<bndbox>{corners}</bndbox></object>"
        )
    return "".join(parts) + "</annotation>"


def write_voc(root, pictures, splits=None, suffix=".jpg"):
    """Write a VOC-layout folder and return its path.

    pictures: {id: (picture, objects)}; a picture is uint8 RGB [H,W,3], or (width, height) of a gray one; objects are as
    for voc_xml.
    splits: {name: ids}; by default one split 'trainval' with all.
    """
    root = pathlib.Path(root)
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for image_id, (picture, objects) in pictures.items():
        if isinstance(picture, tuple):
            picture = np.full((picture[1], picture[0], 3), 128, np.uint8)
        images.write(root / "JPEGImages" / f"{image_id}{suffix}", picture)
        height, width = picture.shape[:2]
        (root / "Annotations" / f"{image_id}.xml").write_text(voc_xml(width, height, objects), "utf-8")
    for name, ids in (splits or {"trainval": list(pictures)}).items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids), "utf-8")
    return root


def fingerprint(root):
    """{path: digest of its content} of all files below a folder."""
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*") if path.is_file()}
