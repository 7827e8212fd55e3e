"""Augmentation for training, and the plain warp of validation and detection.

The steps and their numbers are those of the original SSD (paper, sections 2.2 and 3.6; Caffe's im_transforms.cpp and
sampler.cpp): distort the colors, expand onto a canvas filled with the mean, crop, resize, mirror. The graph subtracts
the mean.

For speed, geometry comes first. `plan` makes every random choice from the boxes alone and composes expansion and crop
into one window on the picture; `render` then resizes and distorts only the pixels in that window. The picture may have
been decoded at a half, quarter or eighth of its size.

Boxes are (xmin, ymin, xmax, ymax) as fractions of the picture unless a name ends in `_px`. The canvas may be larger
than the picture: its edges may be below 0 and above 1.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np

from boxes import columns, iou
from ssd_utils import SSDPreset

Window = tuple[float, float, float, float]  # (xmin, ymin, xmax, ymax)
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)
Part = tuple[int, int, int, int]  # (xmin, ymin, xmax, ymax) in whole pixels of a picture
Size = int | tuple[int, int]  # the side of a square, or (width, height), in pixels
INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "lanczos4": cv2.INTER_LANCZOS4,
}
_FLIP_CODES = {(True, False): 1, (False, True): 0, (True, True): -1}  # of cv2.flip, by (mirror, flip)
REDUCTIONS = (1, 2, 4, 8)  # factors by which libjpeg can shrink while decoding, which is faster than decoding in full


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How much is changed at random. The defaults are the original's.

    Zero, or False, turns a step off; for `expand`, 1 does.

    brightness: largest shift up or down, in levels of 0..255.
    contrast: largest difference of the factor from 1.
    saturation: largest difference of the factor from 1.
    hue: largest shift up or down, in steps of 1/180 of the circle.
    expand: largest side of the canvas, in sides of the picture.
    crop: whether pictures are cropped.
    random_interpolation: whether each picture draws its way of resizing; else it is linear.
    mirror: whether pictures are mirrored.
    clip_boxes: whether boxes are clipped to the crop; the article leaves them whole.
    vertical_flip_probability: share of pictures that are turned upside down by a mirror: for pictures without an up,
        as of a microscope or from above. 0 in the original.
    brightness_probability: share of pictures whose brightness is changed, and so on.
    contrast_first_probability: share of pictures whose contrast is changed before saturation and hue, not after them.
    reorder_probability: share of pictures whose red, green and blue are exchanged at random (0.5 in the article's
    code of 2019).
    min_ious: of each sampler of crops besides "whole image": the least IoU of a crop with an object; 0 takes any crop.
    trials: crops that a sampler tries.
    crop_scale: least and largest square root of a crop's share of the canvas.
    crop_ratio: least and largest width / height of a crop, in units of the canvas's; 1 is between them.
    interpolations: names in INTERPOLATIONS that are drawn from.
    """

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 18.0
    expand: float = 4.0
    crop: bool = True
    random_interpolation: bool = True
    mirror: bool = True
    clip_boxes: bool = True
    brightness_probability: float = 0.5
    contrast_probability: float = 0.5
    saturation_probability: float = 0.5
    hue_probability: float = 0.5
    contrast_first_probability: float = 0.5
    reorder_probability: float = 0.0
    expand_probability: float = 0.5
    mirror_probability: float = 0.5
    vertical_flip_probability: float = 0.0
    min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
    trials: int = 50
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.5, 2.0)
    interpolations: tuple[str, ...] = tuple(INTERPOLATIONS)


# Least and largest value of what a file says; 0 to 1 for others. Lengths of lists; others have at least one entry
RANGES = {
    "brightness": (0, 255),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 90),
    "expand": (1, 100),
    "min_ious": (0, 1),
    "trials": (1, 10000),
    "crop_scale": (0.01, 1),
    "crop_ratio": (0.01, 100),
}
LENGTHS = {"crop_scale": 2, "crop_ratio": 2}

# full: the original. article: the same, but boxes may extend beyond the crop. light: for scenes that already vary, or
# short trainings: no shrunk objects (expanding), no cut objects (cropping), and the colors keep their hue. none: only
# the resizing of validation.
AUGMENTATIONS = {
    "full": Augmentation(),
    "article": Augmentation(clip_boxes=False),
    "light": Augmentation(saturation=0.0, hue=0.0, expand=1.0, crop=False, random_interpolation=False),
    "none": Augmentation(
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        expand=1.0,
        crop=False,
        random_interpolation=False,
        mirror=False,
    ),
}


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Changes of color; the defaults change nothing.

    brightness: added to the levels 0..255.
    contrast: factor on the levels.
    saturation: factor on the saturation.
    hue: added to the hue, in steps of 1/180 of the circle.
    contrast_first: whether contrast comes before saturation and hue, or after them.
    channels: which of red, green and blue (0, 1, 2) each becomes, after the other changes.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    contrast_first: bool = True
    channels: tuple[int, int, int] = (0, 1, 2)

    @property
    def in_hsv(self) -> bool:
        """Whether saturation or hue changes."""
        return self.saturation != 1 or self.hue != 0


@dataclasses.dataclass(frozen=True)
class Choices:
    """Every random choice for one picture.

    distortion: changes of color.
    canvas: box in fractions of the picture that contains the picture.
    crop: box in fractions of the canvas.
    interpolation: a cv2.INTER_ flag.
    mirror: whether the result is mirrored, left to right.
    flip: whether it is flipped, top to bottom.
    """

    distortion: Distortion = Distortion()
    canvas: Window = WHOLE
    crop: Window = WHOLE
    interpolation: int = cv2.INTER_LINEAR
    mirror: bool = False
    flip: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """One augmentation, decided and ready to render.

    width: pixels of the picture in full size.
    height: pixels of the picture in full size.
    source_px: the box of whole pixels that is cut from the picture; all 0 if the crop misses the picture.
    target_px: the box of whole pixels where it is placed in the result, before mirror and flip; the rest is the mean.
    max_reduce: 1, 2, 4 or 8, the largest factor by which the decoded picture may be smaller and still have the
        resolution of the result.
    choices: the random choices behind it.
    boxes: float32 [M,4], fractions of the result.
    labels: int32 [M].
    kept: int64 [M], indices of these boxes among the boxes that came in.
    """

    width: int
    height: int
    source_px: tuple[int, int, int, int]
    target_px: tuple[int, int, int, int]
    max_reduce: int
    choices: Choices
    boxes: np.ndarray
    labels: np.ndarray
    kept: np.ndarray


def train_transforms(preset: SSDPreset, augmentation: str | Augmentation = "full") -> "TrainTransforms":
    """The training augmentation for a preset: a `TrainTransforms`, which can be pickled and has no state.

    augmentation: an Augmentation, or the name of one in AUGMENTATIONS. Raises KeyError for another name.
    """
    chosen = AUGMENTATIONS[augmentation] if isinstance(augmentation, str) else augmentation
    return TrainTransforms(preset.input_wh, preset.mean, chosen)


@dataclasses.dataclass(frozen=True)
class TrainTransforms:
    """Random distortion, expansion, crop, resizing and mirroring to one size. Inputs are never changed.

    size: (width, height) of the result in pixels, or the side of a square.
    mean: RGB in 0..255, fills the expanded canvas.
    augmentation: how much is changed.
    """

    size: Size
    mean: tuple[float, float, float]
    augmentation: Augmentation = Augmentation()

    @functools.cached_property
    def _size(self):
        return both_sides(self.size)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Augment an image uint8 [H,W,3] RGB with its boxes float32 [N,4] and labels int32 [N].

        All randomness comes from rng. Returns image uint8 [height,width,3], boxes float32 [M,4], labels int32 [M], with
        0 ≤ M ≤ N. Boxes are in 0..1 (unless clip_boxes is off) and not empty.
        """
        height, width = image.shape[:2]
        plan = self.plan(width, height, boxes, labels, rng)
        return self.render(plan, image), plan.boxes, plan.labels

    def plan(
        self,
        width: int,
        height: int,
        boxes: np.ndarray,
        labels: np.ndarray,
        rng: np.random.Generator,
        part: Part | None = None,
    ) -> Plan:
        """Make the `Plan` for a picture of this size in pixels, with boxes float32 [N,4] and labels int32 [N].

        part: of the picture, that is taken for all of it, with boxes as fractions of that; None for all of it.
        """
        return self.compose(width, height, boxes, labels, draw_choices(self.augmentation, boxes, rng), part)

    def compose(
        self,
        width: int,
        height: int,
        boxes: np.ndarray,
        labels: np.ndarray,
        choices: Choices,
        part: Part | None = None,
    ) -> Plan:
        """Make the `Plan` for given choices; the other arguments are those of `plan`.

        Source and target are widened or rounded to whole pixels, and boxes are moved by exactly the same map. So boxes
        fit the pixels, but the window differs from the drawn one by about a pixel. The edges of the source are
        multiples of max_reduce, so that boxes also fit a picture that is decoded smaller.
        """
        x0, y0, x1, y1 = part or (0, 0, width, height)
        wide, high = x1 - x0, y1 - y0
        window_px = _compose_window(choices.canvas, choices.crop, wide, high)
        max_reduce = _max_reduce(window_px, self._size)
        # An error in the 15th digit must not widen by a pixel
        left, top, right, bottom = (round(edge * 1e6) / 1e6 for edge in window_px)
        x = _fit_axis(left + x0, right + x0, (x0, x1), width, self._size[0], max_reduce)
        y = _fit_axis(top + y0, bottom + y0, (y0, y1), height, self._size[1], max_reduce)
        if x is None or y is None:
            x = y = (0, 0, 0, 0)
            moved, kept = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        else:
            boxes_px = np.asarray(boxes, np.float64) * (wide, high, wide, high) + (x0, y0, x0, y0)
            moved, kept = self._move_boxes(boxes_px, x, y, choices)
        return Plan(
            width=width,
            height=height,
            source_px=(x[0], y[0], x[1], y[1]),
            target_px=(x[2], y[2], x[3], y[3]),
            max_reduce=max_reduce,
            choices=choices,
            boxes=moved,
            labels=np.asarray(labels, np.int32)[kept],
            kept=kept,
        )

    def _move_boxes(self, boxes_px, x, y, choices):
        """Boxes [N,4] in source pixels -> (float32 [M,4] in the result, indices [M] of the boxes that are kept).

        A box is kept if its center is inside and its clipped area is not empty (the original's rule).
        """
        scale_x, scale_y = ((axis[3] - axis[2]) / (axis[1] - axis[0]) for axis in (x, y))
        source, scale, target = np.array(
            ((x[0], y[0], x[0], y[0]), (scale_x, scale_y, scale_x, scale_y), (x[2], y[2], x[2], y[2])), np.float64
        )
        moved = boxes_px - source
        moved *= scale
        moved += target
        moved /= self._size * 2
        centers = (moved[:, :2] + moved[:, 2:]) / 2
        if self.augmentation.clip_boxes:
            moved = moved.clip(0, 1)
        if choices.mirror:
            moved[:, ::2] = 1 - moved[:, 2::-2]
        if choices.flip:
            moved[:, 1::2] = 1 - moved[:, 3::-2]
        moved = moved.astype(np.float32)  # before the next line, since two edges may become equal in float32
        stays = ((centers >= 0) & (centers <= 1) & (moved[:, 2:] > moved[:, :2])).all(axis=1)
        kept = np.flatnonzero(stays)
        return moved[kept], kept

    def reductions(self, width: int, height: int) -> tuple[int, ...]:
        """All values that max_reduce may have in a plan for a picture of this size in pixels."""
        change = self.augmentation
        # The least side of a crop, a little less for rounding
        least = change.crop_scale[0] * math.sqrt(min(change.crop_ratio[0], 1 / change.crop_ratio[1]))
        smallest = 0.999 * least if change.crop else 1
        shares = smallest, max(change.expand, 1)
        low, high = (_max_reduce((0, 0, share * width, share * height), self._size) for share in shares)
        return tuple(factor for factor in REDUCTIONS if low <= factor <= high)

    def resizes_whole(self, width: int, height: int) -> bool:
        """Whether every rendering of a picture of this size in pixels starts with the same step, `resized`."""
        change = self.augmentation
        fixed = change.expand <= 1 and not change.crop and not change.random_interpolation
        return fixed and not _distorts_first(width, height, *self._size)  # if smaller, max_reduce is 1

    def render(self, plan: Plan, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply a plan to its picture uint8 [H,W,3], which may be decoded up to max_reduce times smaller.

        out: uint8 [height,width,3], contiguous, for the result; None for a new array.
        Returns uint8 [height,width,3]. Raises ValueError if the image's size is not one of the plan's.
        """
        left, top, right, bottom = plan.target_px
        if right == left:
            out = np.empty((*self._size[::-1], 3), np.uint8) if out is None else out
            out[...] = np.rint(self.mean)
            return out
        patch = _cut(plan, image)
        if not _distorts_first(patch.shape[1], patch.shape[0], right - left, bottom - top):
            return self.finish(plan, _resized(plan, patch), out)
        return self._put(plan, _resized(plan, distort(patch, plan.choices.distortion)), out)

    def resized(self, plan: Plan, image: np.ndarray) -> np.ndarray:
        """The first step of `render` where `resizes_whole`: the whole picture, uint8 [height,width,3]."""
        return _resized(plan, _cut(plan, image))

    def finish(self, plan: Plan, resized: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The steps of `render` that follow `resized`, into a new array or `out`."""
        left, top, right, bottom = plan.target_px
        distortion = plan.choices.distortion
        if distortion.in_hsv or (right - left, bottom - top) != self._size:
            return self._put(plan, distort(resized, distortion), out)
        # Mirrored first, the colors are changed where they are. Not in HSV: OpenCV rounds it in another way at the end
        # of a row, so that the order matters
        out = self._put(plan, resized, out)
        return distort(out, distortion, out)

    def _put(self, plan, patch, out):
        """A resized patch at its place in the result, the mean around it, then mirrored and flipped; new or in out."""
        left, top, right, bottom = plan.target_px
        width, height = self._size
        if right - left < width or bottom - top < height:
            below, beside = height - bottom, width - right
            mean = np.rint(self.mean).tolist()
            patch = cv2.copyMakeBorder(patch, top, below, left, beside, cv2.BORDER_CONSTANT, value=mean)
        if plan.choices.mirror or plan.choices.flip:
            return cv2.flip(patch, _FLIP_CODES[plan.choices.mirror, plan.choices.flip], dst=out)
        out = np.empty_like(patch) if out is None else out
        out[...] = patch
        return out


def _distorts_first(width, height, target_width, target_height):
    """Whether colors are changed before a patch is resized: where there are fewer pixels."""
    return width * height < target_width * target_height


def _resized(plan, patch):
    left, top, right, bottom = plan.target_px
    return cv2.resize(patch, (right - left, bottom - top), interpolation=plan.choices.interpolation)


def warp(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 [H,W,3] -> a new uint8 of `size`, linear, without keeping the aspect ratio: the input at test time.

    size: (width, height) in pixels, or the side of a square.
    """
    return cv2.resize(image, both_sides(size), interpolation=cv2.INTER_LINEAR)


def both_sides(size: Size) -> tuple[int, int]:
    """(width, height) of a Size."""
    return (size, size) if isinstance(size, int) else size


def draw_choices(augmentation: Augmentation, boxes: np.ndarray, rng: np.random.Generator) -> Choices:
    """Draw the `Choices` for a picture with ground truth boxes [N,4].

    The order of the draws must not change, or a seed gives other pictures: distortion, canvas, crop, interpolation,
    mirror, flip.
    """
    distortion = draw_distortion(augmentation, rng)
    canvas = draw_canvas(augmentation, rng)
    crop = draw_crop(_to_canvas(boxes, canvas), rng, augmentation) if augmentation.crop else WHOLE
    interpolation = cv2.INTER_LINEAR
    if augmentation.random_interpolation:
        ways = augmentation.interpolations
        interpolation = INTERPOLATIONS[ways[rng.integers(len(ways))]]
    mirror = augmentation.mirror and bool(rng.random() < augmentation.mirror_probability)
    flips = augmentation.vertical_flip_probability
    flip = flips > 0 and bool(rng.random() < flips)
    return Choices(distortion, canvas, crop, interpolation, mirror, flip)


def draw_distortion(augmentation: Augmentation, rng: np.random.Generator) -> Distortion:
    """Draw a `Distortion`; each step is done with its probability, independently."""
    happens = rng.random(4) < (
        augmentation.brightness_probability,
        augmentation.contrast_probability,
        augmentation.saturation_probability,
        augmentation.hue_probability,
    )
    amounts = rng.uniform(-1, 1, 4) * happens
    contrast_first = bool(rng.random() < augmentation.contrast_first_probability)
    channels = Distortion.channels
    if augmentation.reorder_probability and rng.random() < augmentation.reorder_probability:
        channels = tuple(rng.permutation(3).tolist())
    return Distortion(
        brightness=float(amounts[0] * augmentation.brightness),
        contrast=float(1 + amounts[1] * augmentation.contrast),
        saturation=float(1 + amounts[2] * augmentation.saturation),
        hue=float(amounts[3] * augmentation.hue),
        contrast_first=contrast_first,
        channels=channels,
    )


def draw_canvas(augmentation: Augmentation, rng: np.random.Generator) -> Window:
    """Draw the canvas in fractions of the picture: a side of 1 to `expand`, with the picture anywhere on it."""
    if augmentation.expand <= 1 or rng.random() >= augmentation.expand_probability:
        return WHOLE
    side = rng.uniform(1, augmentation.expand)
    left, top = rng.uniform(0, side - 1, 2)
    return (-left, -top, side - left, side - top)


def draw_crop(
    objects: np.ndarray, rng: np.random.Generator, augmentation: Augmentation = AUGMENTATIONS["full"]
) -> Window:
    """Draw the crop for objects [N,4], both in fractions of the canvas.

    Every sampler takes the first of its trials that overlaps at least one object enough. The result is drawn from the
    crops found and the whole image; without objects it is the whole image. All trials are drawn and tested at once,
    which gives the same distribution as one by one.
    """
    objects = objects[(objects[:, 2:] > objects[:, :2]).all(axis=1)]
    if not len(objects):
        return WHOLE
    limits, count = np.array(augmentation.min_ious), augmentation.trials
    trials = _draw_trials(len(limits) * count, rng, augmentation)
    best = iou(objects, columns(trials.T)).max(axis=0).reshape(-1, count)  # long rows are faster than long columns
    accepted = best >= limits[:, None]  # [samplers, trials]
    first = accepted.argmax(axis=1)
    found = np.flatnonzero(accepted[np.arange(len(limits)), first])
    pick = rng.integers(len(found) + 1)
    if not pick:
        return WHOLE
    sampler = found[pick - 1]
    return tuple(trials[:, sampler * count + first[sampler]].tolist())


def _draw_trials(count, rng, augmentation):
    """Random crops, float64 [4,count] in 0..1, uniform in scale, in the aspect ratios that fit, and in position."""
    along_scale, along_ratio, along_x, along_y = rng.random((4, count))
    smallest, largest = augmentation.crop_scale
    scale = smallest + along_scale * (largest - smallest)
    low = np.maximum(augmentation.crop_ratio[0], scale**2)
    high = np.minimum(augmentation.crop_ratio[1], scale**-2)
    root = np.sqrt(low + along_ratio * (high - low))
    trials = np.empty((4, count))
    corner, size = trials[:2], trials[2:]
    np.multiply(scale, root, out=size[0])
    np.divide(scale, root, out=size[1])
    np.minimum(size, 1, out=size)  # rounding may exceed 1
    np.multiply((along_x, along_y), 1 - size, out=corner)
    size += corner  # the far corner
    return trials


def _to_canvas(boxes, canvas):
    """Boxes [N,4] in fractions of the picture -> float64 [N,4] in fractions of the canvas."""
    left, top, right, bottom = canvas
    size = (right - left, bottom - top)
    return (np.asarray(boxes, np.float64) - (left, top, left, top)) / (size + size)


def _compose_window(canvas, crop, width, height):
    """A crop in fractions of the canvas -> four numbers in pixels of the picture.

    With Python's numbers: for so few they are several times faster than NumPy.
    """
    left, top, right, bottom = canvas
    canvas_width, canvas_height = right - left, bottom - top
    return (
        (crop[0] * canvas_width + left) * width,
        (crop[1] * canvas_height + top) * height,
        (crop[2] * canvas_width + left) * width,
        (crop[3] * canvas_height + top) * height,
    )


def _max_reduce(window_px, size):
    """Largest reduction that leaves the window at least `size` (width, height); 1 if it is smaller anyway."""
    width, height = window_px[2] - window_px[0], window_px[3] - window_px[1]
    return max(
        factor for factor in REDUCTIONS if factor == 1 or (width >= factor * size[0] and height >= factor * size[1])
    )


def _fit_axis(low, high, part, length, size, step):
    """Along one axis: which of `length` pixels a window (low, high) covers, and their place in `size` pixels.

    part: the first and last edge of what is taken for the picture. Returns integers (source low, source high, target
    low, target high), neither range empty; None if the window misses the part. The source is widened to multiples of
    step, or to the picture's end.
    """
    inside_low, inside_high = max(low, part[0]), min(high, part[1])
    if inside_low >= inside_high:
        return None
    scale = size / (high - low)
    target_low = min(round((inside_low - low) * scale), size - 1)
    target_high = max(round((inside_high - low) * scale), target_low + 1)
    source_low = int(inside_low // step) * step
    source_high = min(int(-(-inside_high // step)) * step, length)
    return source_low, source_high, target_low, target_high


def _cut(plan, image):
    """The part of an image, in full size or decoded smaller, that a plan uses, as a view."""
    height, width = image.shape[:2]
    for factor in REDUCTIONS:
        rounded = abs(width - plan.width / factor) < 1 and abs(height - plan.height / factor) < 1
        if rounded and factor <= plan.max_reduce:  # decoders round a smaller size up or down
            break
    else:
        raise ValueError(
            f"an image of {width}×{height} pixels does not fit a plan for {plan.width}×{plan.height}, "
            f"or up to {plan.max_reduce} times smaller"
        )
    left, top, right, bottom = (-(-edge // factor) for edge in plan.source_px)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top:bottom, left:right]


def distort(image: np.ndarray, distortion: Distortion, out: np.ndarray | None = None) -> np.ndarray:
    """Change the colors of uint8 [H,W,3] RGB.

    Every step rounds and clips to 0..255, as the original's convertTo does; hue wraps around at 180.

    out: array for the result, which may be the image; None for the image itself if there is nothing to change, else a
        new array.
    """
    contrast_first = distortion.contrast_first or not distortion.in_hsv
    changed = _brighten(image, distortion.brightness, out)
    if contrast_first:
        changed = _multiply(changed, distortion.contrast, out)
    if distortion.in_hsv:
        hsv = cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)
        hsv = cv2.LUT(hsv, _hsv_table(distortion.saturation, distortion.hue), dst=hsv)
        changed = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=out)
    if not contrast_first:
        changed = _multiply(changed, distortion.contrast, out)
    if distortion.channels != Distortion.channels:
        changed = np.take(changed, distortion.channels, axis=-1)
    if out is not None and changed is not out:
        out[...] = changed
        return out
    return changed


_LEVELS = np.arange(256)
_LEVELS_8 = _LEVELS.astype(np.uint8)[None]


def _tone_table(shift, factor):
    """uint8 [256]: level × factor + shift, rounded and clipped."""
    return np.clip(np.rint(_LEVELS * factor + shift), 0, 255).astype(np.uint8)


def _hsv_table(saturation, hue):
    """uint8 [1,256,3] for OpenCV's 8-bit HSV: hue wraps around at 180, saturation is clipped, value stays."""
    wrapped = np.rint(_LEVELS + hue) % 180
    return np.stack([wrapped, _tone_table(0, saturation), _LEVELS], axis=-1).astype(np.uint8)[None]


def _brighten(image, shift, out=None):
    """level + shift, rounded and clipped; the image itself if nothing changes."""
    if shift == 0:
        return image
    table = _tone_table(shift, 1)
    whole = round(shift)
    if np.array_equal(table, (_LEVELS + whole).clip(0, 255)):  # not if each second level is rounded the other way
        add = cv2.add if whole > 0 else cv2.subtract  # saturated, and several times faster than a table
        return add(image, np.full((4, 1), abs(whole), np.float64), dst=out)  # which OpenCV takes as a scalar
    return cv2.LUT(image, table, dst=out)


def _multiply(image, factor, out=None):
    """level × factor, rounded and clipped; the image itself if nothing changes."""
    if factor == 1:
        return image
    table = _tone_table(0, factor)
    if np.array_equal(table, cv2.convertScaleAbs(_LEVELS_8, alpha=factor)[0]):  # in float32: some ties round otherwise
        return cv2.convertScaleAbs(image, dst=out, alpha=factor)  # twice as fast as a table
    return cv2.LUT(image, table, dst=out)
