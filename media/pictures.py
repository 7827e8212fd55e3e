"""A picture in any form that a Python program has it in -> uint8 RGB [H,W,3], or one line that says what is unclear.

Taken are paths, pictures of Pillow, and arrays (also what NumPy can make an array of, such as tensors in main memory):
    uint8, and other whole numbers in 0..255     as they are
    uint16 with values above 255, or all 0       as pictures of 16 bits are read
    floats from 0 to 1, or else in 2..255        times 255, or as they are; rounded
of shape [H,W] or [H,W,1] gray, [H,W,3] RGB, [H,W,4] RGB with opacity, which is laid over white as in files.
Nothing in an array tells BGR from RGB, so it is taken as RGB.
"""

import glob
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from media import images
from structures import UserError
from system import wording

Picture = str | os.PathLike | np.ndarray | Image.Image
CHANNELS = (1, 3, 4)


def is_one(pictures: Any) -> bool:
    """Whether `pictures` is one picture; otherwise it is several: an array with a further axis in front, or a list."""
    if isinstance(pictures, str | bytes | os.PathLike | Image.Image):
        return True
    if _is_array(pictures):
        return len(np.shape(pictures)) != 4
    return not isinstance(pictures, Iterable)


def as_rgb(picture: Picture, gray16: str = images.FULL, name: str = "image") -> np.ndarray:
    """A picture -> uint8 RGB [H,W,3], contiguous.

    gray16: how 16 bits become 8, as in `images.read`. name: of the picture, for messages.
    A file's EXIF orientation is applied, a Pillow picture stays as it is. Raises UserError.
    """
    if isinstance(picture, str | os.PathLike):
        return _read(os.fspath(picture), gray16)
    if isinstance(picture, Image.Image):
        return images.from_pillow(picture, gray16)
    if not _is_array(picture):
        raise UserError(
            f"{name}: {type(picture).__name__} is not a picture; give a path, an array [height,width,3] or a Pillow "
            "image"
        )
    try:
        array = np.asarray(picture)
    except Exception as error:  # any kind: a tensor on a GPU, an array of another library
        raise UserError(f"{name}: NumPy cannot read this {type(picture).__name__} ({wording.reason(error)})") from None
    name = f"{name}, {array.dtype} of shape {list(array.shape)}"
    array = _in_8_bits(_with_channels(array, name), gray16, name)
    if array.shape[2] == 4:
        return images.from_pillow(Image.fromarray(np.ascontiguousarray(array)))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _is_array(value):
    return isinstance(value, np.ndarray) or hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def _read(path, gray16):
    """The picture of a file. Raises UserError."""
    if "://" in path:
        raise UserError(f"{path}: is an address; download the picture and give the file")
    if os.path.isdir(path):
        listing = f"sorted(pathlib.Path({path!r}).glob('*.jpg'))"
        raise UserError(f"{path}: is a folder; give the pictures in it, such as {listing}")
    if not os.path.exists(path):
        more = f"a pattern is spelled glob.glob({path!r})" if glob.has_magic(path) else _where(path)
        raise UserError(f"{path}: no such picture; {more}")
    return images.read(path, gray16=gray16)


def _where(path):
    """What to check about a path that does not exist."""
    if os.path.isabs(path):
        return "check the path"
    return f"the path begins in the current folder, {pathlib.Path.cwd()}"


def _with_channels(array, name):
    """[H,W] or [H,W,channels] -> [H,W,channels]. Raises UserError for other shapes."""
    if array.dtype == object:
        raise UserError(f"{name}: holds Python objects, not numbers; give pictures of different sizes as a list")
    shape = array.shape
    if len(shape) == 2 and array.size:
        return array[:, :, None]
    if len(shape) == 3 and shape[2] in CHANNELS and array.size:
        return array
    if len(shape) == 3 and shape[0] in CHANNELS:
        raise UserError(f"{name}: the channels come first; give [height,width,channels], as .transpose(1, 2, 0) does")
    raise UserError(f"{name}: is not a picture; give [height,width,3] in RGB, or [height,width] in gray")


def _in_8_bits(array, gray16, name):
    """Any numbers -> uint8 of the same shape. Raises UserError where it is unclear what is black and what is white."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "uif":
        raise UserError(f"{name}: not a type for pictures; give uint8 from 0 to 255")
    low, high = float(array.min()), float(array.max())
    found = f"{name}, values from {low:g} to {high:g}"
    if array.dtype == np.uint16:
        if 0 < high <= 255:  # black is black in both
            raise UserError(f"{found}: 16 bits, or 8? For 8 give .astype('uint8'), for 16 (array >> 8).astype('uint8')")
        return images.spread(array, gray16)
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise UserError(f"{found}: give pixels from 0 to 255, or floats from 0 to 1, before any mean is subtracted")
    if array.dtype.kind != "f":
        return array.astype(np.uint8)
    if 1 < high < 2:  # a picture of 0..1 that was resized or sharpened, more likely than one that is all but black
        raise UserError(f"{found}: a little above 1; give .clip(0, 1), or uint8 from 0 to 255")
    return np.rint(array * (255 if high <= 1 else 1)).astype(np.uint8)
