"""Words drawn into pictures, in a font that has their letters."""

import functools
import os
import unicodedata

import numpy as np

from system import cli

SMALLEST_FONT = 11
UNDRAWABLE = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control, surrogate, separators of lines
MOST_LETTERS = 300  # of a word: a longer one is wider than any picture, and takes memory


def caption(text: str, width: int) -> np.ndarray:
    """A line of white text on black, uint8 RGB [H,width,3], cut where it is too long; H depends on the width only."""
    line = tab(text, max(SMALLEST_FONT, round(width / 36)), (0, 0, 0))[:, :width]
    return np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)))


def drawable(text: str) -> str:
    """A text in one line that can be drawn and encoded: � stands for control characters and lone surrogates."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in UNDRAWABLE else c for c in text)


@functools.lru_cache(maxsize=512)
def tab(text: str, size: int, color: tuple[int, int, int]) -> np.ndarray:
    """A word on its color, uint8 RGB [H,W,3], in letters of `size` pixels; H depends on the size only."""
    from PIL import Image, ImageDraw

    text = drawable(text[:MOST_LETTERS])
    font, pad = _font(_font_path(text), size), max(2, size // 5)
    ascent, descent = font.getmetrics()
    tab = Image.new("RGB", (max(1, round(font.getlength(text))) + 2 * pad, ascent + descent), color)
    dark = np.dot(color, (0.299, 0.587, 0.114)) < 120  # luma of BT.601
    ImageDraw.Draw(tab).text((pad, 0), text, fill="white" if dark else "black", font=font)
    return np.asarray(tab)


@functools.lru_cache(maxsize=32)
def _font(path, size):
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=512)
def _font_path(text):
    """A font that has the letters of a text: DejaVu Sans Bold, which comes with matplotlib, or a font of the system."""
    import matplotlib

    usual = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
    if _has_letters(usual, text):
        return usual
    from matplotlib import font_manager  # takes seconds the first time on a machine: it reads all fonts

    # "Last Resort" shows every letter as a frame
    fonts = [font for font in font_manager.fontManager.ttflist if not font.name.startswith("Last Resort")]
    fonts.sort(key=lambda font: (font.style != "normal", font.fname))
    found = next((font.fname for font in fonts if _has_letters(font.fname, text)), None)
    if found is None:
        cli.warn(
            f"no installed font has the characters of {text!r}; install one that does (for CJK on Debian: "
            "fonts-noto-cjk)"
        )
    return found or usual


def _has_letters(path, text):
    from matplotlib import ft2font

    try:
        font = ft2font.FT2Font(path)
    except (OSError, RuntimeError):  # missing, or not a font that FreeType can read
        return False
    return all(font.get_char_index(ord(letter)) for letter in text)
