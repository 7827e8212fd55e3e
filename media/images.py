"""Read a picture file as uint8 RGB [H,W,3], or fail with a clear error; write JPEG and PNG.

OpenCV, which is fast, decodes JPEG and PNG without transparency: most data sets have only these. Pillow decodes
everything else; it knows transparency and rejects truncated files. EXIF orientation is read and applied here only, so
`header` and `read` cannot disagree.
"""

import argparse
import contextlib
import errno
import functools
import hashlib
import importlib.util
import io
import itertools
import os
import pathlib
import struct
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from PIL import Image

from media import decoder_messages
from structures import UserError
from system import files, wording, write_errors
from system.file_names import Path

READING = 1  # to be raised with every change of what `read` returns: a cache on disk outlives this program
# 179 million, which is Pillow's limit too: no camera writes more, and decoded they take 537 MB.
MAX_PIXELS = 178_956_970
# What decoding may take, in bytes, and in pixels times scans of a JPEG (4 to 8 seconds a thousand million): a file of a
# few bytes can ask for any amount. A camera's progressive JPEG has about 10 scans
MAX_MEMORY, MAX_SCANS, MAX_SCANNED = 1_400_000_000, 200, 2_200_000_000
# Bytes for a pixel that decoding takes at its peak, with what `read` makes of it, by Pillow's name of the format
MEMORY = {"WEBP": 25, "AVIF": 18, "HEIF": 18, "JPEG2000": 26}
USUAL_MEMORY, PROGRESSIVE_MEMORY, DEEP_MEMORY, WIDE_MEMORY = 7.8, 9.5, 18, 26
STRIP = 1 << 22  # pixels that are converted at once
MAX_BYTES = 640_000_000  # of a file: one with so many pixels that are not compressed
# Suffixes of picture files, the most likely first.
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".jp2",
    ".avif",
    ".ppm",
    ".pgm",
    ".jfif",
    ".jpe",
)
HEIF_SUFFIXES = (".heic", ".heif")  # of the pictures that telephones take
if importlib.util.find_spec("pillow_heif"):
    SUFFIXES += HEIF_SUFFIXES
# Of pictures that are not read; messages name those that a data set has
UNREAD_SUFFIXES = (
    *(suffix for suffix in HEIF_SUFFIXES if suffix not in SUFFIXES),
    *(".jxl", ".svg", ".psd", ".tga", ".pcx", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".raw", ".dcm", ".npy"),
)
WRITABLE = (".jpg", ".jpeg", ".png")  # by `write`
# Not all that Pillow opens: for EPS it starts Ghostscript.
PILLOW_FORMATS = ("AVIF", "BMP", "GIF", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
# A JPEG's size is in its first kilobytes unless a large EXIF block comes before it.
HEADER_BYTES = 16384
# Segments before the first scan that say nothing about size and orientation: tables, applications' data, comments
SKIPPED_MARKERS = frozenset((0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE))
NOT_AN_IMAGE = "not an image, or of a kind that cannot be read"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")  # that follow 4 bytes and "ftyp"
A_HEIF = "a HEIC picture, which needs the package pillow-heif (pip install pillow-heif)"
TRUNCATED = "truncated: the file ends before the picture does"

_REDUCED = {  # together with IMREAD_COLOR_RGB these decode to RGB too
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_UPRIGHT: dict[
    int, Callable[[np.ndarray], np.ndarray]
] = {  # EXIF 2.3, tag 0x0112: orientation -> how to turn the stored picture upright
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.flip(image, -1),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

# ImageError reports what the decoders would print about a bad file.
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)  # silent; the first is OpenCV 4's
warnings.filterwarnings("ignore", module=r"PIL\.")


FULL, STRETCH = "full", "stretch"  # values of gray16, besides LOW-HIGH
STRETCHED_PERCENTILES = (0.1, 99.9)  # of a picture's samples: a dead pixel must not set the range
DEEP_TO_OPEN = 4  # pictures, for a look at their 16-bit samples
FEW_LEVELS = 64  # of 256; a 16-bit picture with fewer after its upper 8 bits are taken is hardly seen


class ImageError(UserError):
    """A picture that cannot be read.

    path: of the file.
    reason: in a few words.

    Both remain the exception's arguments, so that a worker process can send it pickled.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(str(path), reason)
        self.path, self.reason = str(path), reason

    def __str__(self):
        return f"cannot read {self.path}: {self.reason}; replace the file or leave it out"


class UnwritableImage(UserError):
    """A picture whose own size or name prevents writing; others can be written to the same place."""


class _Header(NamedTuple):
    """What a file says before it is decoded.

    kind: 'jpeg', 'png' or 'other'.
    width, height: as stored, not rotated.
    orientation: EXIF's, 1 to 8.
    scan: byte offset of a JPEG's first scan.
    deep: whether it is a PNG with 16 bits a sample.
    memory: bytes for a pixel that decoding takes at its peak.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    transparent: bool = False
    scan: int = 0
    deep: bool = False
    memory: float = USUAL_MEMORY


def read(path: Path, exif: bool = True, reduce: int = 1, gray16: str = FULL) -> np.ndarray:
    """Decode a picture to uint8 RGB [H,W,3], contiguous.

    exif: apply its EXIF orientation, as viewers do.
    reduce: 1, 2, 4 or 8; a JPEG is decoded to 1/reduce of its size (rounded up), which is several times faster.
        Other formats ignore it, so check the shape.
    gray16: of the 16 bits of a sample, 'full' takes the upper 8; 'stretch' spreads the samples that the picture has,
        but for the outermost thousandth, over 0..255; LOW-HIGH, such as '2000-4040', spreads these.

    Transparent pictures are laid over white, as a viewer shows them. The first frame of an animation is read. TIFF's
    own orientation is always applied.
    Raises ImageError.
    """
    data = _content(path)
    header = _inspect(path, data)
    _refuse_size(path, header)
    _refuse_work(path, header, data)
    if header.kind == "jpeg" and data.rfind(JPEG_END, header.scan) < 0:
        raise ImageError(path, TRUNCATED)
    if header.kind == "jpeg":
        image = _decode_cv2(path, data, _REDUCED[reduce])
    elif header.deep and gray16 != FULL and not header.transparent:
        image = spread(_decode_cv2(path, data, cv2.IMREAD_ANYDEPTH), gray16)
    elif header.kind == "png" and not header.transparent:
        image = _decode_cv2(path, data)
    else:
        image = _decode_pillow(path, data, gray16)
    if exif and header.orientation != 1:
        image = _UPRIGHT[header.orientation](image)
    return np.ascontiguousarray(image)


def is_jpeg(path: Path) -> bool:
    """Whether a file is read as a JPEG, which alone can be decoded smaller; False if it cannot be read."""
    try:
        return _content(path, len(JPEG_START)) == JPEG_START
    except ImageError:
        return False


def decoders() -> str:
    """A text that changes whenever `read` may return other pixels for the same file."""
    build = hashlib.blake2b(cv2.getBuildInformation().encode(), digest_size=8).hexdigest()  # with libjpeg's version
    return f"{READING} OpenCV {cv2.__version__} {build} Pillow {PIL.__version__}"


def gray16_choice(text: str) -> str:
    """An argument type: 'full', 'stretch' or LOW-HIGH, as in `read`."""
    low, dash, high = text.partition("-")
    is_range = dash and low.isdecimal() and high.isdecimal() and int(low) < int(high) <= 65535
    if text not in (FULL, STRETCH) and not is_range:
        raise argparse.ArgumentTypeError(f"{text!r} is neither full, stretch nor LOW-HIGH, such as 2000-4040")
    return text


def spread(values: np.ndarray, gray16: str) -> np.ndarray:
    """16-bit samples, uint16 of any shape -> uint8. gray16: as in `read`."""
    if gray16 == FULL:
        return (values >> 8).astype(np.uint8)
    if gray16 == STRETCH:
        low, high = np.percentile(values, STRETCHED_PERCENTILES)
    else:
        low, high = map(float, gray16.split("-"))
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def sixteen_bits(path: Path) -> tuple[int, int] | None:
    """The lowest and highest sample of a picture with 16 bits a sample; None for any other. Raises ImageError."""
    data = _content(path)
    header = _inspect(path, data)
    _refuse_size(path, header)
    _refuse_work(path, header, data)
    if header.deep:
        values = _decode_cv2(path, data, cv2.IMREAD_ANYDEPTH)
    elif header.kind == "other":
        with _pillow(path, data) as picture:
            if not picture.mode.startswith("I"):
                return None
            values = _load(path, picture, np.asarray)
    else:
        return None
    return int(values.min()), int(values.max())


def uses_few_levels(levels: tuple[int, int] | None) -> bool:
    """Whether a picture loses most of its contrast if the upper 8 of its 16 bits are taken. levels: `sixteen_bits`."""
    return levels is not None and (levels[1] >> 8) - (levels[0] >> 8) < FEW_LEVELS


def note_on_levels(paths: Iterable[Path]) -> str | None:
    """What the first few pictures that are no JPEGs lose if the upper 8 of their 16 bits are taken; None if nothing."""
    deep = (path for path in paths if not str(path).lower().endswith((".jpg", ".jpeg")))
    for path in itertools.islice(deep, DEEP_TO_OPEN):
        with contextlib.suppress(ImageError):
            if uses_few_levels(levels := sixteen_bits(path)):
                used = (levels[1] >> 8) - (levels[0] >> 8) + 1
                return (
                    f"{path} has 16 bits per sample and uses {used} of 256 gray levels ({levels[0]} to {levels[1]} of "
                    "65535)"
                )
    return None


def folder_is_gone(path: Path) -> bool:
    """Whether the folder of a file is missing too: a disk or share was disconnected, or the data were moved."""
    return not os.path.isdir(os.path.dirname(os.path.abspath(path)))


def suffix_of(path: Path) -> str:
    """The suffix of a file if pictures are found by it, else the usual one of what it holds. Raises ImageError."""
    own = os.path.splitext(path)[1]
    if own.lower() in SUFFIXES:
        return own
    data = _content(path)
    if data.startswith((JPEG_START, PNG_START)):
        return ".jpg" if data.startswith(JPEG_START) else ".png"
    with _pillow(path, data) as picture:
        return {"JPEG2000": ".jp2", "PPM": ".ppm", "HEIF": ".heic"}.get(picture.format, f".{picture.format.lower()}")


def header(path: Path) -> tuple[int, int, int]:
    """(width, height, EXIF orientation) without decoding; the size is that of read(path, exif=False).

    Does not notice every truncated JPEG. Raises ImageError.
    """
    data = _content(path, HEADER_BYTES)
    found = _inspect_jpeg(data) if data.startswith(JPEG_START) else None
    if found is None:
        found = _inspect(path, _content(path))
    _refuse_size(path, found)
    return found.width, found.height, found.orientation


def unread_suffix(name: str) -> str:
    """The end of a message about a picture that is not read because of its suffix."""
    suffix = os.path.splitext(name)[1]
    if suffix.lower() in HEIF_SUFFIXES:
        return ", which needs the package pillow-heif: pip install pillow-heif, or save it as JPEG"
    return f", and files called {suffix or 'without a suffix'} are not read; save it as JPEG or PNG"


def write(path: Path, image_rgb: np.ndarray, quality: int = 95) -> None:
    """Write uint8 RGB [H,W,3] as JPEG or PNG, by the suffix; the file appears complete or not at all.

    quality: of a JPEG, 0 to 100.
    Raises UserError if the suffix is another one or the file cannot be written; its subclass UnwritableImage if only
    this picture cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise UserError(f"{path}: cannot be written; choose a name that ends in .jpg or .png")
    done, encoded = cv2.imencode(
        path.suffix.lower(), cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        height, width = image_rgb.shape[:2]
        raise UnwritableImage(f"{path}: cannot be written ({width}x{height} is too large for this format)")
    try:
        files.write(path, encoded.tobytes(), durable=False)  # thousands are drawn, and can be drawn again
    except write_errors.UnwritableFile as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UnwritableImage(f"{path}: cannot be written ({error.strerror}); shorten its name") from None
        raise


def _content(path, size=-1):
    """The bytes of a file, or its first `size`. Raises ImageError if it cannot be read or is empty."""
    try:
        if size < 0:
            data = files.read_regular(path, MAX_BYTES)
        else:  # for a hundred thousand headers: Python's file objects take half of the time
            descriptor = files.regular_descriptor(path)
            try:
                data = os.read(descriptor, size)
            finally:
                os.close(descriptor)
    except OSError as error:
        reason = wording.reason(error)
        raise ImageError(path, reason[:1].lower() + reason[1:]) from None
    if not data:
        raise ImageError(path, "the file is empty")
    return data


def _inspect(path, data):
    """The _Header of a file, from its bytes. Raises ImageError."""
    if data.startswith(JPEG_START):
        found = _inspect_jpeg(data)
    elif data.startswith(PNG_START):
        found = _inspect_png(data)
    else:
        found = _inspect_other(path, data)
    if found is None:
        raise ImageError(path, TRUNCATED)
    return found


def _refuse_size(path, found):
    """Raise ImageError for a _Header without pixels, or with more than MAX_PIXELS."""
    if not 0 < found.width * found.height <= MAX_PIXELS:
        size = f"{found.width}x{found.height} pixels"
        raise ImageError(path, f"{size}, but 1 to {MAX_PIXELS // 10**6} million can be read")


def _refuse_work(path, found, data):
    """Raise ImageError for a _Header whose picture takes too much memory or time to decode. data: of the whole file."""
    size = f"{found.width}x{found.height} pixels"
    needed = found.width * found.height * found.memory
    if needed > MAX_MEMORY:
        limit = f"more than {MAX_MEMORY / 1e9:g}"
        raise ImageError(path, f"{size} of this kind take {needed / 1e9:.1f} GB to decode, {limit}; save it as JPEG")
    if found.kind == "jpeg":
        # A scan's data has no 0xFF before another byte than 0, but for the marks between scans
        end = data.find(JPEG_END, found.scan)
        scans = 1 + data.count(b"\xff\xda", found.scan, len(data) if end < 0 else end)
        if scans > MAX_SCANS or scans * found.width * found.height > MAX_SCANNED:
            raise ImageError(path, f"{size} in {scans} scans, which takes too long to decode; save it again")


def _inspect_jpeg(data):
    """The _Header of a JPEG, or None if it ends before its size and first scan.

    Walks the segments (ITU T.81, annex B) up to the first scan, so that the end mark of a thumbnail inside EXIF is not
    mistaken for the picture's. Decoders do not detect truncation reliably: OpenCV before 5.0 silently fills the
    missing part with gray.
    """
    width = height = None
    orientation, at, end, progressive = 1, 2, len(data), False
    while True:
        while at + 4 <= end and data[at] == 0xFF and data[at + 1] in SKIPPED_MARKERS:
            at += 2 + (data[at + 2] << 8 | data[at + 3])
        at = data.find(b"\xff", at)
        while 0 <= at < end and data[at] == 0xFF:
            at += 1
        if not 0 <= at < end - 2:
            return None
        marker, body = data[at], at + 3
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 1
            continue
        if marker == 0xDA or marker == 0xD9:
            break
        length = data[at + 1] << 8 | data[at + 2]
        if marker == 0xE1 and data[body : body + 6] == b"Exif\0\0":
            orientation = _orientation(data[body : at + 1 + length])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and body + 5 <= end:
            height, width = struct.unpack(">HH", data[body + 1 : body + 5])
            progressive = marker not in (0xC0, 0xC1)
        at += 1 + length
    if width is None:
        return None
    memory = PROGRESSIVE_MEMORY if progressive else USUAL_MEMORY
    return _Header("jpeg", width, height, orientation, scan=at, memory=memory)


def _inspect_png(data):
    """The _Header of a PNG, or None if it ends before its last chunk, IEND."""
    if len(data) < 33:
        return None
    width, height, depth, color_type = struct.unpack(">IIBB", data[16:26])
    orientation, transparent = 1, color_type in (4, 6)
    at = 33
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        elif name == b"tRNS":
            transparent = True
        elif name == b"IEND":
            memory = DEEP_MEMORY if depth == 16 else USUAL_MEMORY
            return _Header("png", width, height, orientation, transparent, deep=depth == 16, memory=memory)
        at += 12 + length
    return None


def _inspect_other(path, data):
    """The _Header of any other format, from Pillow."""
    with _pillow(path, data) as picture:
        exif = picture.info.get("exif")
        memory = WIDE_MEMORY if picture.mode[0] in "IF" else MEMORY.get(picture.format, USUAL_MEMORY)
        return _Header("other", *picture.size, _orientation(exif) if exif else 1, memory=memory)


def _orientation(exif):
    """EXIF orientation 1..8 from the bytes of an EXIF block; 1 if it is missing or invalid."""
    tags = Image.Exif()
    try:
        tags.load(bytes(exif))
        found = tags.get(0x0112)
    except Exception:  # any kind: cameras write all sorts of broken EXIF
        return 1
    return found if found in _UPRIGHT else 1


def _decode_cv2(path, data, more=0):
    """uint8 RGB [H,W,3], not rotated. OpenCV scales 16 bits and converts gray, palette and CMYK to RGB.

    more: flags, _REDUCED or IMREAD_ANYDEPTH, with which 16 bits are uint16.
    """
    try:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | more
        with decoder_messages.silenced():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(path, "damaged: it begins like a picture but cannot be decoded")
    return image


@functools.cache
def _pillow_formats():
    """The PILLOW_FORMATS that this Pillow was built with; it fails on an unknown name."""
    Image.init()
    known = list(PILLOW_FORMATS)
    if ".heic" in SUFFIXES:
        importlib.import_module("pillow_heif").register_heif_opener()
        known.append("HEIF")
    return [name for name in known if name in Image.OPEN]


def _pillow(path, data):
    """The picture as Pillow opens it, not yet decoded. Raises ImageError."""
    try:
        return Image.open(io.BytesIO(data), formats=_pillow_formats())
    except Image.DecompressionBombError:
        raise ImageError(path, f"more than {MAX_PIXELS // 10**6} million pixels") from None
    except Exception:  # any kind: Pillow's readers raise whatever their parsing runs into
        is_heif = data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS  # a telephone's, perhaps renamed to .jpg
        raise ImageError(path, A_HEIF if is_heif and HEIF_SUFFIXES[0] not in SUFFIXES else NOT_AN_IMAGE) from None


def _decode_pillow(path, data, gray16=FULL):
    """uint8 RGB [H,W,3], not rotated; transparent pictures over white. gray16: as in `read`."""
    with _pillow(path, data) as picture:
        return _load(path, picture, lambda decoded: _to_rgb(decoded, gray16))


def from_pillow(picture: Image.Image, gray16: str = FULL) -> np.ndarray:
    """A picture of Pillow -> uint8 RGB [H,W,3], as `read` gives it for its file without EXIF. gray16: as in `read`.

    Raises ImageError if its file is damaged.
    """
    name = getattr(picture, "filename", "") or f"a picture of Pillow, {picture.width}x{picture.height}"
    return _load(name, picture, lambda decoded: _to_rgb(decoded, gray16))


def _to_rgb(picture, gray16):
    """A decoded picture of Pillow -> uint8 RGB [H,W,3]; transparent ones over white. gray16: as in `read`."""
    if picture.mode[0] in "IF":  # 'I', 'I;16', 'I;16B', 'F'
        picture = _from_16_bits(picture, gray16)
    width, height = picture.size
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):  # in strips, since each step makes a copy of up to 4 bytes a pixel
        strip = picture.crop((0, top, width, min(top + rows, height)))
        if picture.mode.lower().endswith("a") or "transparency" in picture.info:
            over = Image.new("RGBA", strip.size, "white")
            over.alpha_composite(strip.convert("RGBA"))
            strip = over
        image[top : top + rows] = strip.convert("RGB")
    return image


def _load(path, picture, convert):
    """convert(picture) for one that Pillow has opened, once it is decoded. Raises ImageError."""
    try:
        with decoder_messages.silenced():
            picture.load()
        return convert(picture)
    except Exception as error:  # any kind, as above
        message = wording.reason(error)
        reason = TRUNCATED if "truncated" in message.lower() else f"damaged: {message}"
        raise ImageError(path, reason) from None


def _from_16_bits(picture, gray16):
    """Pillow's 16-bit gray -> 8-bit gray; its own conversion clips at 255. Raises ValueError for wider samples."""
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its samples are not whole numbers of 8 or 16 bits")
    return Image.fromarray(spread(values.astype(np.uint16), gray16))
