"""Pictures for people: boxes with labels drawn into photographs, precision-recall curves, learning curves."""

import functools
import itertools
import math
import os
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from media import marks
from structures import Detections, Sample
from system import cli, files
from system.files import Path
from system.wording import plural

Color = tuple[int, int, int]  # RGB, 0 to 255

SHOW_THRESHOLD = 0.5  # default for the lowest score that is shown to people
CLOSE = 8  # largest loss / smallest: below that, a scale of 1, 2, 3, 5, 10 has too few ticks
MOST_SHOWN = 50  # default for the most boxes of a picture that are drawn: more hide it

# Forty colors far apart in CIE Lab (greedy farthest-point choice among vivid colors of middle lightness), the most
# vivid first.
PALETTE_HEX = (
    "00c3ff ff5a1e 3cff3c ff3cff ffe100 ff2846 0069ff 2dffc3 ff9669 a5e100 873cff ff87e1 1ea51e c3a5ff ff00a5 "
    "00875a c3f087 a53cc3 d2960f 0078d2 0fe1e1 ff7800 2dff78 c33c1e f0d278 ff7887 87a500 875aa5 a5692d 5a963c "
    "d20069 78d296 4bd200 8769e1 69e178 c32d96 b44b4b 78781e b44b78 ff5af0"
)
PALETTE = tuple(tuple(bytes.fromhex(code)) for code in PALETTE_HEX.split())
# These keep their color whatever other classes there are; the first are the most common on roads.
KNOWN_CLASSES = (
    "car",
    "person",
    "bicycle",
    "motorbike",
    "bus",
    "train",
    "truck",
    "dog",
    "cat",
    "bird",
    "horse",
    "aeroplane",
    "boat",
    "bottle",
    "chair",
    "cow",
    "diningtable",
    "pottedplant",
    "sheep",
    "sofa",
    "tvmonitor",
    "pedestrian",
    "traffic_light",
)
# Sizes as parts of the square root of the image's area: 2 and 21 pixels at 1280 × 720.
LINE_PART, FONT_PART = 1 / 400, 1 / 46
SMALLEST_FONT = 11
LATER_PLACE = 0.15  # for each place that a label is not put in, as much of it may lie on other boxes
UNDRAWABLE = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control, surrogate, separators of lines
MOST_LETTERS = 300  # of a word: a longer one is wider than any picture, and takes memory
UNLIKE = 70  # distance in CIE Lab: two purples are 40 apart, red and orange 60


def class_colors(class_names: Iterable[str]) -> list[Color]:
    """One RGB tuple per class, all different up to 40 classes.

    Names in KNOWN_CLASSES have fixed colors. For other names a checksum chooses; if that color is taken or similar to
    a taken one, the next dissimilar one is used, or else the most dissimilar.
    """
    return _class_colors(tuple(class_names))


@functools.lru_cache(maxsize=16)
def _class_colors(class_names):
    slots = {name: KNOWN_CLASSES.index(name) for name in class_names if name in KNOWN_CLASSES}
    for name in sorted(set(class_names) - set(slots)):
        slots[name] = _free_slot(zlib.crc32(name.encode("utf-8", "surrogatepass")), list(slots.values()))
    return [PALETTE[slots[name]] for name in class_names]


def _free_slot(start, taken):
    """The first index of PALETTE from `start` on, cyclic, whose color is unlike those taken, or the most unlike."""
    order = (np.arange(len(PALETTE)) + start) % len(PALETTE)
    distances = _palette_distances()[order][:, taken].min(axis=1, initial=np.inf)
    return int(order[np.minimum(distances, UNLIKE).argmax()])


@functools.cache
def _palette_distances():
    """float32 [colors, colors], in CIE Lab."""
    lab = cv2.cvtColor(np.float32([PALETTE]) / 255, cv2.COLOR_RGB2LAB)[0]
    return np.linalg.norm(lab[:, None] - lab, axis=-1)


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    gt: Sample | None = None,
    legend: Sequence[tuple[str, Color | None]] = (),
) -> np.ndarray:
    """A copy of an image with a box and a label, 'car 0.93', for each detection; the best are on top.

    image: uint8 RGB [H,W,3] of any size.
    detections: their labels index class_names.
    gt: a sample whose ground truth is drawn below them in dashed white.
    legend: lines of text in the upper left corner, (text, a color that is shown before it or None).
    """
    words = [
        (class_names[label], f"{score:.2f}") for label, score in zip(detections.labels, detections.scores, strict=True)
    ]
    return _draw(image, detections.boxes_px, detections.labels, words, class_names, gt, legend=legend)


def draw_tracks(
    image: np.ndarray,
    detections: Detections,
    ids: Sequence[int],
    trails: Sequence[np.ndarray],
    class_names: Sequence[str],
    carried: Sequence[bool],
    places: Sequence[tuple[np.ndarray, str]] = (),
    legend: Sequence[tuple[str, Color | None]] = (),
) -> np.ndarray:
    """A copy of an image with a box, a label, 'car 12 0.93', and a trail, which widens to its end, for each track.

    image, detections, class_names, legend: as of `draw_detections`. ids: [N]. trails: N arrays [K,2] of pixels (x, y),
    from the oldest on. carried: [N]: the score of a track that was not detected is of another frame, and left out.
    places: lines and zones with a text each, as (points [2,2] or [N,2] in pixels, text).
    """
    words = [
        (class_names[label], str(key), *([] if guessed else [f"{score:.2f}"]))
        for label, key, score, guessed in zip(detections.labels, ids, detections.scores, carried, strict=True)
    ]
    return _draw(
        image, detections.boxes_px, detections.labels, words, class_names, trails=trails, places=places, legend=legend
    )


def draw_objects(
    image: np.ndarray, boxes_px: ArrayLike, labels: Sequence[int], class_names: Sequence[str]
) -> np.ndarray:
    """A copy of an image with a box and the name of its class for each object.

    image: uint8 RGB [H,W,3] of any size; boxes_px: [N,4] (xmin, ymin, xmax, ymax) in its pixels; labels: [N], indices
    into class_names.
    """
    return _draw(image, boxes_px, labels, [(class_names[label],) for label in labels], class_names)


def _draw(image, boxes_px, labels, words, class_names, gt=None, trails=(), places=(), legend=()):
    """A copy of an image with boxes; words: for each the parts of its label. The first boxes are on top.

    trails: for none of the boxes, or for each a way [K,2], drawn below all boxes, as `places` are.
    """
    canvas = np.array(image, order="C")
    line, font = sizes(canvas)
    for points, _ in places:
        (marks.draw_line if len(points) == 2 else marks.draw_zone)(canvas, points, line)
    if gt is not None:
        for box in gt.boxes_px:
            draw_dashed(canvas, box, line)
    colors = class_colors(class_names)
    for trail, label in zip(trails, labels, strict=bool(trails)):
        _draw_trail(canvas, trail, line, colors[label])
    for box, label in zip(boxes_px[::-1], labels[::-1], strict=True):
        draw_box(canvas, box, line, colors[label])
    tabs = _Tabs(canvas, line)
    panel = _legend(legend, font)[: len(canvas), : canvas.shape[1]]
    tabs.keep_free(panel.shape[1], len(panel))
    strips = [_strip(points, font) for points, _ in places if len(points) == 2]
    tabs.avoid(np.concatenate([np.zeros((0, 4)), *strips]))
    for points, text in places:
        for box in _spots(points, font):
            if tabs.draw(box, (text,), font, marks.COLOR):
                break
    tabs.avoid(boxes_px)  # from here on: the texts of places stay where they are while objects pass
    for box, label, text in zip(boxes_px, labels, words, strict=True):
        tabs.draw(box, text, font, colors[label])
    below = canvas[: len(panel), : panel.shape[1]]
    below[:] = np.maximum(below // 3, panel)
    return canvas


def _spots(points, size):
    """Boxes beside which the text of a place may stand, the best first: a line's first end, its other end, all of it.

    size: of the letters in pixels; an end is taken for so wide that a text beside it leaves the line visible.
    """
    whole = np.concatenate([points.min(axis=0), points.max(axis=0)])
    if len(points) > 2:
        return [whole]
    across, down = np.abs(points[1] - points[0])
    # A steep line's text begins right of it or ends left of it: the box of an end has its sides exchanged
    half = np.array([size / 2 if across > down else -size / 2, size / 2])
    return [*(np.concatenate([end - half, end + half]) for end in points), whole]


def _strip(points, size):
    """Boxes [N,4], `size` pixels wide and high, along a line [2,2]: so many that a text on a few costs much."""
    centers = np.linspace(*points, math.ceil(4 * math.dist(*points) / size) + 1)
    return np.concatenate([centers - size / 2, centers + size / 2], axis=1)


def sizes(image: np.ndarray) -> tuple[int, int]:
    """Pixels of lines and of letters that suit an image [H,W,3]."""
    scale = np.sqrt(image.shape[0] * image.shape[1])
    return max(2, round(scale * LINE_PART)), max(SMALLEST_FONT, round(scale * FONT_PART))


def _legend(lines, size):
    """Lines of (text, color or None), in letters of `size` pixels, on black: uint8 RGB [H,W,3]."""
    rows = [_tab(text, size, (0, 0, 0)) for text, _ in lines]
    height, left = max(map(len, rows), default=0), 0
    if any(color is not None for _, color in lines):
        left = height
    panel = np.zeros((height * len(rows), max((row.shape[1] for row in rows), default=0) + left, 3), np.uint8)
    for index, (row, (_, color)) in enumerate(zip(rows, lines, strict=True)):
        strip = panel[index * height : (index + 1) * height]
        strip[:, (0 if color is None else left) :][:, : row.shape[1]] = row
        if color is not None:
            strip[height // 4 : height - height // 4, height // 4 : height - height // 4] = color
    return panel


def _draw_trail(canvas, trail, line, color):
    """Draw a way [K,2] in pixels, from a thin start to an end that is as wide as a box's line."""
    points = np.rint(np.asarray(trail) * 16).astype(np.int32)  # sixteenths of a pixel
    for width, start, end in _trail_widths(len(points) - 1, line):
        cv2.polylines(canvas, [points[start : end + 1]], False, color, width, cv2.LINE_AA, 4)


@functools.lru_cache(maxsize=512)
def _trail_widths(parts, line):
    """[(width, first, end)]: which of the straight parts of a way are so many pixels wide."""
    widths = np.maximum(1, np.rint(line * np.arange(1, parts + 1) / max(parts, 1)))
    ends = np.searchsorted(widths, np.arange(1, line + 2)).tolist()
    return [(width, *between) for width, between in enumerate(itertools.pairwise(ends), 1) if between[0] < between[1]]


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of an image inside a box (xmin, ymin, xmax, ymax), continuous edges in pixels: at least one pixel."""
    height, width = image.shape[:2]
    x0, y0 = (int(min(max(edge, 0), side - 1)) for edge, side in zip(box[:2], (width, height), strict=True))
    x1, y1 = (math.ceil(min(edge, side)) for edge, side in zip(box[2:], (width, height), strict=True))
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def _edges(canvas, box, width):
    """Slices (rows, columns) of the four sides of a box: strips `width` thick along the inside of its edges.

    The box is clipped to the image first. Order: top, bottom, left, right.
    """
    height_px, width_px = canvas.shape[:2]
    limit = (width_px, height_px, width_px, height_px)
    x0, y0, x1, y1 = (int(edge) for edge in np.rint(np.clip(box, 0, limit)))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    across, down = min(width, x1 - x0), min(width, y1 - y0)
    return (
        (slice(y0, y0 + down), slice(x0, x1)),
        (slice(y1 - down, y1), slice(x0, x1)),
        (slice(y0, y1), slice(x0, x0 + across)),
        (slice(y0, y1), slice(x1 - across, x1)),
    )


def draw_box(canvas: np.ndarray, box: np.ndarray, line: int, color: Color) -> None:
    """Draw the outline of a box, `line` pixels wide, with a dark seam inside that shows on backgrounds of its color.

    canvas: uint8 RGB [H,W,3], changed in place; box: (xmin, ymin, xmax, ymax) in pixels.
    """
    seam = max(1, line // 3)
    for rows, columns in _edges(canvas, box, line + seam):
        canvas[rows, columns] //= 2
    for rows, columns in _edges(canvas, box, line):
        canvas[rows, columns] = color


def draw_dashed(canvas: np.ndarray, box: np.ndarray, line: int) -> None:
    """Draw a thin outline of black and white dashes, which shows on any background; arguments as of `draw_box`."""
    dash = 4 * line
    for side, (rows, columns) in enumerate(_edges(canvas, box, max(1, line // 2))):
        strip, horizontal = canvas[rows, columns], side < 2
        along = np.arange(strip.shape[1 if horizontal else 0]) // dash % 2 == 0
        shade = np.where(along, 255, 0).astype(np.uint8)[:, None]
        strip[:] = shade[None] if horizontal else shade[:, None]


def caption(text: str, width: int) -> np.ndarray:
    """A line of white text on black, uint8 RGB [H,width,3], cut where it is too long; H depends on the width only."""
    line = _tab(text, max(SMALLEST_FONT, round(width / 36)), (0, 0, 0))[:, :width]
    return np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)))


class _Tabs:
    """Draws the labels of one image on filled tabs that do not overlap."""

    def __init__(self, canvas, line):
        self._canvas, self._line = canvas, line
        self._boxes = np.zeros((0, 4))
        self._taken = np.zeros((0, 4), int)

    def avoid(self, boxes):
        """Cover boxes [N,4] of other objects only where no better place is free."""
        self._boxes = np.asarray(boxes, np.float64).reshape(-1, 4)

    def keep_free(self, width, height):
        """Put no tab into the upper left corner."""
        if width and height:
            self._taken = np.append(self._taken, [[0, 0, width, height]], axis=0)

    def draw(self, box, words, font_size, color):
        """Draw a tab with `words` in a free place next to the box, or with the first word if there is less space.

        Draws nothing, and returns False, if other labels leave no space (the color still shows the class) or the image
        is too small.
        """
        parts = [_tab(word, font_size, color) for word in words]
        while parts:
            height, width = len(parts[0]), sum(part.shape[1] for part in parts)
            place = self._place(box, width, height)
            if place is not None:
                break
            parts.pop()
        if parts:
            x, y = place
            self._taken = np.append(self._taken, [[x, y, x + width, y + height]], axis=0)
            for part in parts:
                self._canvas[y : y + height, x : x + part.shape[1]] = part
                x += part.shape[1]
        return bool(parts)

    def _place(self, box, width, height):
        """(x, y) of the best place where a tab covers no other, or None.

        The first is best, above the box, then below it, then inside; less good is one on other boxes.
        """
        bottom, right = self._canvas.shape[:2]
        if width > right or 3 * height > bottom:
            return None
        x0, y0, x1, y1 = (int(edge) for edge in np.rint(np.clip(box, 0, (right, bottom, right, bottom))))
        left, flush = min(x0, right - width), min(max(x1 - width, 0), right - width)
        rows = (y0 - height, y1, y0 + self._line, y1 - self._line - height)
        places = np.array([(x, y) for y in rows for x in (left, flush) if 0 <= y <= bottom - height])
        if not len(places):
            return None
        free = ~(_shared(places, width, height, self._taken) > 0).any(axis=1)
        if not free.any():
            return None
        others = self._boxes[(self._boxes != box).any(axis=1)]
        covered = _shared(places, width, height, others).sum(axis=1) / (width * height)
        cost = covered + LATER_PLACE * np.arange(len(places))
        return tuple(places[np.where(free, cost, np.inf).argmin()].tolist())


def _shared(places, width, height, boxes):
    """float [P,N]: pixels of a tab at each of places [P,2] (x, y) that lie in each of boxes [N,4]."""
    low = np.maximum(places[:, None], boxes[None, :, :2])
    high = np.minimum(places[:, None] + (width, height), boxes[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2)


def drawable(text: str) -> str:
    """A text in one line that can be drawn and encoded: � stands for control characters and lone surrogates."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in UNDRAWABLE else c for c in text)


def in_plot(text: str) -> str:
    """A text for Matplotlib, `drawable`, in which a $ begins no formula."""
    return drawable(text).replace("$", r"\$")


@functools.lru_cache(maxsize=512)
def _tab(text, size, color):
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


def plot_precision_recall(path: Path, lines: Sequence[tuple[str, ArrayLike, ArrayLike]], title: str) -> None:
    """Write a PNG of precision against recall.

    lines: list of (label, recall [N], precision [N]), both in 0..1, recall rising; N may be 0. A single line is drawn
        with its monotone envelope, the curve that AP measures; several get a legend.
    """
    single = len(lines) == 1
    figure = make_figure(6.4 if single else 9.0, 4.8 if single else 6.0)
    if single:  # computing the margins costs as much as drawing, and there is one such picture for each class
        figure.set_layout_engine("none")
    margins = {"left": 0.1, "right": 0.97, "bottom": 0.12, "top": 0.92} if single else {}
    axes = figure.subplots(gridspec_kw=margins)
    for index, (label, recall, precision) in enumerate(lines):
        envelope, color = envelope_steps(recall, precision), _line_color(index)
        if single:
            axes.plot(recall, precision, color=color, linewidth=0.8, alpha=0.6, label="measured")
            axes.fill_between(*envelope, color=color, alpha=0.12, linewidth=0)
        style = ("-", "--", ":")[index // 10 % 3]
        name = "monotone envelope" if single else in_plot(label)
        axes.plot(*envelope, style, color=color, linewidth=1.6, label=name)
    set_title(axes, title)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    if lines:
        place = {"loc": "lower left"} if single else {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        columns = 1 + (len(lines) - 1) // 30
        axes.legend(fontsize="small", frameon=single, ncols=columns, **place)
    save_figure(figure, path)


def envelope_steps(recall: ArrayLike, precision: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The monotone envelope of a curve, recall [N] rising and precision [N], as a step line (x [2N+2], y [2N+2]).

    It is level up to each recall, 0 after the last: the area under it is AP.
    """
    envelope = np.maximum.accumulate(np.asarray(precision)[::-1])[::-1]
    edges = np.repeat(np.concatenate([[0.0], recall]), 2)
    return edges, np.concatenate([np.repeat(np.append(envelope, 0.0), 2)[:1], np.repeat(envelope, 2), [0.0]])


def plot_errors(
    path: Path,
    title: str,
    *,
    true_scores: ArrayLike,
    false_scores: ArrayLike,
    kinds: dict[str, tuple[int, int]],
    confused: dict[str, tuple[int, int]],
    sizes: dict[str, tuple[int, int, int]],
) -> None:
    """Write a PNG of a class's errors: scores, kinds of false positives, confusions, objects found by size.

    "The best" are as many detections as there are objects.

    true_scores, false_scores: [N] in 0..1.
    kinds, confused: {name: (among the best, all)}.
    sizes: {name: (objects hit by the best, hit by others, missed)}.
    """
    figure = make_figure(11.0, 7.6)
    figure.set_layout_engine("none")  # computing the margins costs as much as drawing; these hold names of 20 letters
    figure.suptitle(in_plot(title))
    margins = {"left": 0.1, "right": 0.98, "bottom": 0.11, "top": 0.9, "wspace": 0.38, "hspace": 0.36}
    (scores, objects), (kind_axes, confused_axes) = figure.subplots(2, 2, gridspec_kw=margins)
    _plot_scores(scores, {"false positives": (false_scores, "C3"), "hits": (true_scores, "C2")})
    _plot_sizes(objects, sizes)
    _plot_shares(kind_axes, kinds, "false positives by kind")
    _plot_shares(confused_axes, confused, "confused with")
    save_figure(figure, path)


def _plot_scores(axes, groups, bins=25):
    """Overlaid histograms. groups: {label: (scores [N] in 0..1, color)}."""
    highest, floor = 1, 0.7  # of the log scale: a single detection is visible
    set_title(axes, "scores")
    axes.set(xlabel="score", ylabel="detections (log scale)", xlim=(0, 1), yscale="log")
    for label, (values, color) in groups.items():
        counts, edges = np.histogram(values, bins, range=(0, 1))
        label = f"{label} ({len(values):,})"
        axes.stairs(np.maximum(counts, floor), edges, baseline=floor, fill=True, color=color, alpha=0.55, label=label)
        highest = max(highest, counts.max())
    axes.minorticks_off()  # ten for each power of ten, each as dear as a line
    axes.set_ylim(floor, 8 * highest)  # room for the legend
    axes.legend(fontsize="small")


def _plot_sizes(axes, sizes):
    """Stacked columns: how many objects of each size were found."""
    labels = ("hit by the best", "hit by others", "missed")
    bottom = np.zeros(len(sizes), int)
    for index, (label, color) in enumerate(zip(labels, ("C2", "C8", "C3"), strict=True)):
        counts = np.array([one[index] for one in sizes.values()])
        axes.bar(list(sizes), counts, bottom=bottom, color=color, alpha=0.8, label=f"{label} ({counts.sum():,})")
        bottom += counts
    for x, (_, _, missed) in enumerate(sizes.values()):
        if bottom[x]:
            axes.annotate(f"{missed / bottom[x]:.0%} missed", (x, bottom[x]), ha="center", va="bottom", fontsize=7)
    set_title(axes, "objects by size")
    axes.set(xlabel="√(width · height), pixels of the picture", ylabel="objects")
    axes.set_ylim(0, 1.3 * max(bottom.max(), 1))  # room for the legend
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small", ncols=3, loc="upper center", columnspacing=0.8, handlelength=1.2)


def _plot_shares(axes, counts, title, most=10):
    """Bars of {name: (among the best, all)}, at most the first `most`, with their numbers."""
    names = list(counts)[:most][::-1]
    best, total = (np.array([counts[name][index] for name in names], int) for index in (0, 1))
    rows = np.arange(len(names))
    axes.barh(rows, total - best, left=best, color="C7", alpha=0.5, label="others")
    axes.barh(rows, best, color="C1", label="among the best, as many as objects")
    axes.set_yticks(rows, [short_name(name) for name in names])
    for y, (some, count) in enumerate(zip(best, total, strict=True)):
        axes.annotate(f" {some:,} of {count:,}", (count, y), va="center", fontsize=8)
    set_title(axes, title)
    axes.set(xlabel="false positives", xlim=(0, 1.3 * max(total.max(initial=0), 1)))
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    axes.set_ylim(min(-0.6, len(names) - 4.6), len(names) - 0.4)  # so that a single bar does not fill the plot
    if names:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    else:
        axes.annotate("none", (0.5, 0.5), xycoords="axes fraction", ha="center")


def short_name(name: str) -> str:
    """A name of at most 20 letters beside an axis, as `in_plot`; longer ones are cut."""
    return in_plot(name if len(name) <= 20 else f"{name[:19]}…")


def plot_learning_curves(path: Path, rows: Sequence[dict], losses: Sequence[dict] = ()) -> None:
    """Write a PNG of losses and mean AP against the optimizer step.

    rows: list of dicts as in metrics.csv: epoch, step, loss, confidence, localization, and valid_loss, voc07, area,
        voc07_CLASS, train_voc07, which are None if the epoch was not validated.
    losses: list of dicts with step, loss, confidence and localization, the means of some steps up to that one. They are
        drawn where they are more than the rows.
    """
    figure = make_figure(8.0, 8.0)
    above, below = figure.subplots(2, 1, sharex=True)
    points = losses if len(losses) > len(rows) else rows
    for index, name in enumerate(("loss", "confidence", "localization")):
        _plot_column(above, points, name, label=name, color=_line_color(index), linewidth=2 if index == 0 else 1.3)
    _plot_column(above, rows, "valid_loss", label="validation loss", color=_line_color(3), linewidth=2)
    above.set(title="loss", ylabel="loss per matched anchor (log scale)")
    _scale_losses(above)
    per_class = sorted({name for row in rows for name in row if name.startswith("voc07_")})
    for name in per_class:
        _plot_column(below, rows, name, color="0.7", linewidth=0.8)
    if per_class:
        below.plot([], [], color="0.7", linewidth=0.8, label="VOC07, single classes")
    _plot_column(below, rows, "voc07", label="mean VOC07 (11 points)", color=_line_color(0), linewidth=2)
    _plot_column(below, rows, "area", label="mean area under the curve", color=_line_color(1), linewidth=2)
    _plot_column(
        below, rows, "train_voc07", label="mean VOC07 of training pictures", color=_line_color(2), linewidth=1.3
    )
    epochs = f" ({plural(rows[-1]['epoch'], 'epoch')})" if rows else ""
    below.set(title="validation", ylabel="AP at IoU 0.5", ylim=(0, 1), xlabel="optimizer steps" + epochs)
    below.set_xlim(left=0)
    below.xaxis.get_major_locator().set_params(integer=True)
    below.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    save_figure(figure, path)


def _scale_losses(axes):
    """Give losses a log scale, with ticks that are plain numbers: 2, 3, 5, 10, or all round ones if they differ little.

    A log scale by itself writes 3 × 10⁰, and nothing but that between 3 and 9.
    """
    values = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.zeros(0)
    values = values[values > 0]
    if not len(values):  # a log scale needs a number above 0
        return
    from matplotlib import ticker

    axes.set_yscale("log")
    low, high = values.min() / 1.1, values.max() * 1.1
    axes.set_ylim(low, high)
    ticks: ticker.Locator = ticker.LogLocator(subs=(1, 2, 3, 5) if high / low < 100 else (1, 2, 5), numticks=20)
    if high / low < CLOSE:
        ticks = ticker.MaxNLocator(8, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(ticker.FixedLocator([tick for tick in ticks.tick_values(low, high) if tick > 0]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def plot_rate_test(
    path: Path,
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float] | None,
    proposed: float | None,
) -> None:
    """Write a PNG of the loss at rising learning rates.

    losses, smooth: at each of the rates; smooth is None where they are too few for a curve, and only the losses are
    drawn. proposed: the rate to train with, or None.
    """
    figure = make_figure(8.0, 5.0)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="0.6", label="loss after a step with this rate")
    if smooth is not None:
        axes.plot(rates, smooth, color=_line_color(0), linewidth=2, label="smoothed")
    if proposed is not None:
        axes.axvline(proposed, color=_line_color(3), label=f"proposed: {proposed:g}")
    if losses:
        # The losses after the blow-up may be thousands of times higher, and would make the curve flat
        axes.set_ylim(0.9 * min(losses), min(1.2 * max(losses), 8 * min(losses if smooth is None else smooth)))
    else:  # a log scale needs limits
        axes.set(xlim=(1e-6, 1), ylim=(1, 10))
    axes.set(title="learning-rate range test", xlabel="learning rate", xscale="log", yscale="log")
    axes.set_ylabel("loss per matched anchor (log scale)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left")
    save_figure(figure, path)


def _plot_column(axes, rows, name, **style):
    """Plot one column against the step, without the rows in which it is empty."""
    points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 40 else None, markersize=3, **style)


def make_figure(width, height):
    """A figure of width × height inches, created without pyplot's global state; `save_figure` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(axes, text, **style):
    """Put a title, `in_plot`, at a fixed height: to look for a free one costs a twentieth of the chart."""
    axes.set_title(in_plot(text), y=1.0, **style)


def save_figure(figure, path):
    """Write a figure as a PNG. In half the time of its savefig, which draws everything twice."""
    with warnings.catch_warnings():  # of each letter of a name in a script that the font lacks; it is drawn as a box
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.canvas.draw()
    pixels = cv2.cvtColor(np.asarray(figure.canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
    files.write(path, cv2.imencode(".png", pixels)[1].tobytes(), durable=False)


def _line_color(index):
    return f"C{index % 10}"  # matplotlib's ten default colors, for a white background
