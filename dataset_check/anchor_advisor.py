"""How many ground-truth boxes a preset's anchors can match, and a search for anchors that match more.

A box is matchable if some anchor overlaps it by IoU 0.5 or more, the second rule of matching. The bipartite rule gives
every other box one anchor too, but one is little to learn from, and such objects are detected poorly.
"""

import dataclasses
import itertools
import math

import numpy as np

import ssd_utils
from structures import UserError
from system import files, schema
from system.wording import shorten

# COCO's limits of small, medium and large, for the square root of the box's area in pixels of the input
SIZE_LIMITS = {"small": (0, 32), "medium": (32, 96), "large": (96, math.inf)}
ALL = "all objects"
ANCHOR_FIELDS = ("min_sizes", "max_sizes", "aspect_ratios")
SMALLEST, LARGEST_RATIO, MOST_RATIOS = 0.01, 100, 20  # pixels of the input; of what a file may say

# Ratios that the search tries; each adds its reciprocal too
RATIOS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0)
MAX_RATIOS = 3  # for one feature map: the original has 1 or 2
# Training shrinks and enlarges pictures, so sizes must span a range even if all objects are of one size: each size is
# at least this many times the one before
SMALLEST_STEP = 1.15
STEPS = (0.6, 0.75, 0.85, 0.93, 1.07, 1.15, 1.3, 1.6)  # factors on sizes that the search tries
SAMPLE = 3000  # at most this many boxes are used in the search
ROUNDS = 8  # at most; the search stops earlier if a round gains nothing
MEAN_IOU_WEIGHT = 0.2  # a better fit counts even if the share stays the same
ANCHOR_COST = 0.05  # doubling the number of anchors must gain 5 percentage points
WORTHWHILE = 0.005  # a smaller gain in the share is not worth a change


@dataclasses.dataclass(frozen=True)
class Advice:
    """Proposed anchors.

    preset: the preset with these anchors.
    before, after: the share of all boxes, 0..1, that the preset's own anchors and these can match.
    """

    preset: ssd_utils.SSDPreset
    before: float
    after: float

    @property
    def worthwhile(self):
        """Whether the proposal gains enough to be worth a change."""
        return self.after - self.before >= WORTHWHILE


def best_iou(preset, boxes):
    """The IoU of each box with the anchor that overlaps it most, float64 [N].

    boxes: [N,4] (xmin, ymin, xmax, ymax) in 0..1. Looks only at the cell nearest to the box, since of anchors with the
    same shape none overlaps it more. That is hundreds of times faster than all anchors, with the same result.
    """
    boxes_px = np.asarray(boxes, np.float64) * (2 * preset.input_wh)
    best = np.zeros(len(boxes_px))
    maps = zip(preset.grids, preset.grid_steps, ssd_utils.anchor_shapes(preset), strict=True)
    for grid, steps, shapes in maps:
        if preset.clip_anchors != "none":  # centers are always inside
            shapes = shapes.clip(0, preset.input_wh)
        np.maximum(best, _map_iou(boxes_px, grid, steps, shapes), out=best)
    return best


def _map_iou(boxes_px, grid, steps, shapes):
    """The best IoU [N] of boxes [N,4] with the anchors of one feature map, all in pixels.

    grid, steps: cells and distance of centers (down, across). shapes: [S,2] (w, h).
    """
    overlap = []
    for axis, (side, step) in enumerate(zip(grid[::-1], steps[::-1], strict=True)):
        low, high = boxes_px[:, axis, None], boxes_px[:, axis + 2, None]
        cell = np.floor((low + high) / 2 / step).clip(0, side - 1)
        center, half = (cell + 0.5) * step, shapes[None, :, axis] / 2
        overlap.append((np.minimum(high, center + half) - np.maximum(low, center - half)).clip(0))
    common = overlap[0] * overlap[1]
    areas = (boxes_px[:, 2:] - boxes_px[:, :2]).prod(axis=1)[:, None] + shapes.prod(axis=1)[None]
    return (common / np.maximum(areas - common, 1e-12)).max(axis=1, initial=0)


def sides_px(preset, boxes):
    """The square root of each box's area in pixels of the preset's input, float64 [N]. boxes: [N,4] in 0..1."""
    boxes = np.asarray(boxes, np.float64)
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * preset.mean_side


def size_names(preset, boxes):
    """'small', 'medium' or 'large' for each box of [N,4] in 0..1, by its size in the preset's input."""
    sides = sides_px(preset, boxes)
    return [next(name for name, (_, high) in SIZE_LIMITS.items() if side < high) for side in sides]


def matchable(preset, boxes, labels, class_names):
    """Matchable boxes by class and size: {class or ALL: {size or ALL: (matchable boxes, boxes)}}.

    boxes: [N,4] in 0..1; labels: int [N], indices into class_names.
    """
    hits, sizes = best_iou(preset, boxes) >= ssd_utils.MATCH_IOU, np.array(size_names(preset, boxes))
    labels = np.asarray(labels)
    table = {}
    for name in (ALL, *class_names):
        of_class = np.ones(len(labels), bool) if name == ALL else labels == class_names.index(name)
        table[name] = {}
        for size in (ALL, *SIZE_LIMITS):
            chosen = of_class if size == ALL else of_class & (sizes == size)
            table[name][size] = int(hits[chosen].sum()), int(chosen.sum())
    return table


def propose(preset, boxes, labels):
    """Search for anchors that match more of these boxes -> Advice.

    boxes: float [N,4] in 0..1, with area; labels: int [N]. The feature maps stay; a map may get more ratios, up to
    three, if the gain outweighs the anchors they add. A class counts by the square root of its number of boxes, since
    mean AP counts classes equally. Never proposes anchors that match fewer boxes than the preset's.
    """
    before = float((best_iou(preset, boxes) >= ssd_utils.MATCH_IOU).mean())
    chosen = np.arange(len(boxes))
    if len(boxes) > SAMPLE:
        chosen = np.random.default_rng(0).choice(len(boxes), SAMPLE, replace=False)
    search = _Search(preset, np.asarray(boxes)[chosen], np.asarray(labels)[chosen])
    own = (tuple(preset.min_sizes), preset.max_sizes[-1], tuple(map(tuple, preset.aspect_ratios)))
    found = max((search.climb(start) for start in (own, search.ladder())), key=search.value)
    proposed = _with_state(preset, found)
    after = float((best_iou(proposed, boxes) >= ssd_utils.MATCH_IOU).mean())
    return Advice(proposed, before, after) if after > before else Advice(preset, before, before)


def _with_state(preset, state):
    """The preset with the anchors of a search state: (min_sizes, the last of max_sizes, aspect_ratios).

    As in all presets, the largest size of a map is the smallest of the next.
    """
    min_sizes, last, ratios = state
    return dataclasses.replace(preset, min_sizes=min_sizes, max_sizes=(*min_sizes[1:], last), aspect_ratios=ratios)


class _Search:
    """Improves anchors step by step: changes one number, or all sizes at once, and keeps what helps."""

    def __init__(self, preset, boxes, labels):
        self._preset = preset
        self._boxes_px = np.asarray(boxes, np.float64) * (2 * preset.input_wh)
        _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self._weights = 1 / np.sqrt(counts[inverse])
        self._weights /= self._weights.sum()
        self._known = {}  # {(feature map, shapes): IoU of each box}

    def ladder(self):
        """A state to start from: sizes in equal ratios from the small objects of this data to the large ones."""
        sides = np.sqrt((self._boxes_px[:, 2:] - self._boxes_px[:, :2]).prod(axis=1))
        low, high = np.quantile(sides, (0.03, 0.97))
        low, high = float(low.clip(4, self._preset.min_sizes[1])), float(max(high, self._preset.mean_side))
        maps = len(self._preset.feature_maps)
        sizes = [round(low * (high / low) ** (index / maps), 1) for index in range(maps + 1)]
        return tuple(sizes[:-1]), sizes[-1], tuple(map(tuple, self._preset.aspect_ratios))

    def value(self, state):
        """What the search maximizes: the weighted share, plus a little of the mean IoU, minus the cost of anchors."""
        preset = _with_state(self._preset, state)
        best = np.zeros(len(self._boxes_px))
        for index, shapes in enumerate(ssd_utils.anchor_shapes(preset)):
            np.maximum(best, self._map_iou(index, shapes), out=best)
        more = preset.num_anchors / self._preset.num_anchors - 1
        return float(self._weights @ ((best >= ssd_utils.MATCH_IOU) + MEAN_IOU_WEIGHT * best)) - ANCHOR_COST * more

    def _map_iou(self, index, shapes):
        key = index, shapes.tobytes()
        if key not in self._known:
            if len(self._known) > 2000:  # 48 MB
                self._known.clear()
            grid, steps = self._preset.grids[index], self._preset.grid_steps[index]
            self._known[key] = _map_iou(self._boxes_px, grid, steps, shapes)
        return self._known[key]

    def climb(self, state):
        """Try changes of each number in turn and keep those that help, until none does. Returns the best state."""
        best = self.value(state)
        for _ in range(ROUNDS):
            before = best
            for moves in (self._scales, *(self._sizes(index) for index in range(len(state[0]) + 1)), self._ratios):
                for candidate in list(moves(state)):
                    value = self.value(candidate)
                    if value > best + 1e-4:
                        state, best = candidate, value
            if best < before + 1e-3:
                break
        return state

    def _scales(self, state):
        """Yield states with all sizes larger or smaller."""
        min_sizes, last, ratios = state
        for factor in STEPS:
            sizes = [round(size * factor, 1) for size in (*min_sizes, last)]
            if self._rising(sizes):
                yield tuple(sizes[:-1]), sizes[-1], ratios

    def _sizes(self, index):
        """Moves of one size, larger or smaller. index: into min_sizes, or its length for the last of max_sizes."""

        def moves(state):
            min_sizes, last, ratios = state
            for factor in STEPS:
                sizes = [*min_sizes, last]
                sizes[index] = round(sizes[index] * factor, 1)
                if self._rising(sizes):
                    yield tuple(sizes[:-1]), sizes[-1], ratios

        return moves

    def _rising(self, sizes):
        """Whether sizes rise by SMALLEST_STEP or more, from 4 pixels or more to about the size of the input."""
        pairs = itertools.pairwise(sizes)
        wide = sizes[0] >= 4 and 0.9 <= sizes[-1] / self._preset.mean_side <= 1.2
        return wide and all(high >= low * SMALLEST_STEP for low, high in pairs)

    def _ratios(self, state):
        """Yield states with one ratio of a map replaced or added, or one ratio set on all maps."""
        min_sizes, last, ratios = state
        for new in RATIOS:
            for index, own in enumerate(ratios):
                wanted = [(*own[:at], new, *own[at + 1 :]) for at in range(len(own))]
                wanted += [(*own, new)] if len(own) < MAX_RATIOS else []
                for changed in wanted:
                    if len(set(changed)) == len(changed):
                        changed = tuple(sorted(changed))
                        yield min_sizes, last, (*ratios[:index], changed, *ratios[index + 1 :])
            everywhere = tuple(own if new in own else tuple(sorted((*own[:-1], new))) for own in ratios)
            yield min_sizes, last, everywhere


@dataclasses.dataclass
class _Anchors:
    """What is read of a file of anchors."""

    min_sizes: list[float]
    max_sizes: list[float]
    aspect_ratios: list[list[float]]
    input_size: int | list[int] = 0


def write_anchors(path, advice):
    """Write the anchors of an Advice as JSON, for `read_anchors` and for people."""
    preset = advice.preset
    values = {"preset": preset.name, "input_size": _input_size(preset)}
    values |= {name: getattr(preset, name) for name in ANCHOR_FIELDS}
    values["matchable_share"] = {"before": round(advice.before, 4), "after": round(advice.after, 4)}
    files.write_json(path, values)


def _input_size(preset):
    """The input as an anchor file states it: a number, or [width, height] where they differ."""
    return list(preset.input_wh) if preset.input_height else preset.input_size


def read_anchors(path, preset):
    """The preset with the min_sizes, max_sizes and aspect_ratios of a JSON file.

    Sizes are in pixels of the input. Raises UserError for a file that is malformed or states another "input_size".
    """
    content = files.read_json(path)
    values = {name: content[name] for name in (*ANCHOR_FIELDS, "input_size") if name in content}
    own = _input_size(preset)
    size = values.get("input_size", own)
    if size != own:
        raise UserError(f"{path}: these anchors are for an input of {shorten(size)}, {preset.name} has {own}")
    maps = len(preset.feature_maps), len(preset.feature_maps)
    limits = {name: schema.Limits(SMALLEST, 4 * max(preset.input_wh), maps) for name in ("min_sizes", "max_sizes")}
    limits["aspect_ratios"] = schema.Limits(1, LARGEST_RATIO, maps)
    schema.check(path, values, _Anchors, limits, f"there must be an entry for each feature map of {preset.name}")
    for index, (low, high) in enumerate(zip(values["min_sizes"], values["max_sizes"], strict=True)):
        if high < low:
            raise UserError(f"{path}: entry {index + 1} of max_sizes, {high}, is below that of min_sizes, {low}")
    for ratios in values["aspect_ratios"]:  # 1 is always there, and each ratio adds its reciprocal
        if len(ratios) > MOST_RATIOS or len({1, *ratios}) < 1 + len(ratios):
            raise UserError(
                f"{path}: the aspect_ratios {shorten(ratios)} have a 1, one twice or more than {MOST_RATIOS}; give "
                "different numbers above 1"
            )
    return dataclasses.replace(
        preset,
        min_sizes=tuple(values["min_sizes"]),
        max_sizes=tuple(values["max_sizes"]),
        aspect_ratios=tuple(map(tuple, values["aspect_ratios"])),
    )
