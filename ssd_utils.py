"""SSD's geometry in NumPy: presets, anchors, matching, encoding, decoding.

Anchors are [A,4] (cx, cy, w, h), boxes [.,4] (xmin, ymin, xmax, ymax), both as fractions of the image. The
order of anchors is (feature map, row, column, shape), as the heads are flattened.

Sources: arXiv 1512.02325, sections 2.1 and 2.2; weiliu89/caffe branch ssd, `prior_box_layer.cpp`,
`bbox_util.cpp` and `examples/ssd/ssd_pascal.py`; for the presets called article, the article (ARCHITECTURE.md).
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import boxes as box_geometry
from structures import UserError
from system.schema import Limits, mismatch

# Pairs with no more overlap are never matched bipartitely (MatchBBox in Caffe's bbox_util.cpp)
MINIMUM_BIPARTITE_IOU = 1e-6
MATCH_IOU = 0.5  # every anchor with at least this overlap is matched (`overlap_threshold` in ssd_pascal.py)
CLASSES_PER_ANCHOR = ("all", "best")
VARIANCES = (0.1, 0.2)  # of centers and sizes (`prior_variance` in ssd_pascal.py)
MOST_ANCHORS = 1_000_000  # vgg512 has 24,564
# Of a picture; an anchor has fewer than 100 classes with a score above 0.01, vgg300 8,732 anchors
MOST_KEPT = 1_000_000
# What a file may say of a preset, far beyond what is useful: a file from elsewhere must not fill the memory
LIMITS = {
    "input_size": Limits(32, 2048),
    "input_height": Limits(32, 2048),
    "feature_maps": Limits(1, 512, (1, 20)),
    "map_rows": Limits(1, 512, (1, 20)),
    "steps": Limits(0, 4096),
    "row_steps": Limits(0, 4096),
    "min_sizes": Limits(0, 8192),
    "max_sizes": Limits(0, 8192),
    "aspect_ratios": Limits(0.001, 1000),
    "width": Limits(0.001, 4),
    "variances": Limits(1e-6, 100),
    "input_scale": Limits(1e-9, 1e9),
    "mean": Limits(-1e6, 1e6),
    "score_threshold": Limits(0, 1),
    "nms_iou": Limits(0, 1),
    "candidates_per_class": Limits(1, MOST_ANCHORS),
    "candidates_per_map": Limits(1, MOST_ANCHORS),
    "keep": Limits(1, MOST_KEPT),
    "size_offset_limit": Limits(0, 100),
}


@dataclasses.dataclass(frozen=True)
class SSDPreset:
    """Everything needed to rebuild a network and interpret its output. Sizes are in pixels of the input.

    Imported weights keep their own mean, anchors and rules, so these are fields and not constants. Raises ValueError
    if the fields do not fit each other.
    """

    name: str
    input_size: int
    feature_maps: tuple[int, ...]  # cells along one side of each map
    steps: tuple[float, ...]  # distance between neighboring anchor centers of each map
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]  # of each map, besides 1; each includes its reciprocal
    width: float = 1.0  # factor on every channel count but the heads' outputs
    fc_form: str = "subsampled"  # fc6 and fc7: "subsampled" to 1024 channels (Caffe), "full": 7×7×4096 (the article's)
    conv12_form: str = "4x4"  # vgg512's last layers: "4x4" (Caffe) or "3x3" (the article)
    clip_anchors: str = "none"  # "none" (Caffe), "size" (torchvision), "all" (ssd.pytorch: centers too)
    variances: tuple[float, float] = VARIANCES
    mean: tuple[float, float, float] = (123.0, 117.0, 104.0)  # RGB, subtracted from 0..255
    channel_order: str = "RGB"  # as the first layer's weights expect it
    input_scale: float = 1.0  # factor after the mean is subtracted; 1 if a pretrained conv1_1 expects 0..255
    # From here on: what is done after the network (`ssd_pascal.py`, det_out_param)
    score_threshold: float = 0.01
    nms_iou: float = 0.45
    candidates_per_class: int = 400
    keep: int = 200
    # "output": only the result, after suppression (Caffe); "before_nms": before it (torchvision)
    clip_boxes: str = "output"
    size_offset_limit: float | None = None  # upper bound of decoded dw and dh (torchvision: ln(1000/16))
    gray16: str = "full"  # how pictures with 16 bits a sample become 8, as in `images.read`
    classes_per_anchor: str = "all"  # "all": an anchor may give a detection of each class; "best": of one (the article)
    candidates_per_map: int | None = None  # best scores of all classes of a feature map that may enter suppression
    drop_empty_boxes: bool = False  # whether boxes without area never enter suppression (both: mmdetection)
    # If the input is not square (`ssd_layers.for_input`); input_size, feature_maps and steps are then along its width
    input_height: int | None = None
    map_rows: tuple[int, ...] | None = None  # cells along the height of each map
    row_steps: tuple[float, ...] | None = None  # distance between anchor centers along the height

    def __post_init__(self):
        maps = len(self.feature_maps)
        tall = {name: getattr(self, name) for name in ("map_rows", "row_steps")}
        if {value is None for value in (self.input_height, *tall.values())} == {True, False}:
            raise ValueError("input_height, map_rows and row_steps come together")
        lists = {name: getattr(self, name) for name in ("steps", "min_sizes", "max_sizes", "aspect_ratios")}
        for name, values in (*lists.items(), *tall.items()):
            if values is not None and len(values) != maps:
                raise ValueError(f"{name} has {len(values)} entries for {maps} feature maps")
        if self.num_anchors > MOST_ANCHORS:
            raise ValueError(f"the number of anchors is {self.num_anchors:,}, more than {MOST_ANCHORS:,}")
        _require(self.conv12_form in ("4x4", "3x3"), f"conv12_form {self.conv12_form!r}")
        _require(self.fc_form in ("subsampled", "full"), f"fc_form {self.fc_form!r}")
        _require(self.clip_anchors in ("none", "size", "all"), f"clip_anchors {self.clip_anchors!r}")
        _require(self.channel_order in ("RGB", "BGR"), f"channel_order {self.channel_order!r}")
        _require(self.classes_per_anchor in CLASSES_PER_ANCHOR, f"classes_per_anchor {self.classes_per_anchor!r}")
        _require(self.clip_boxes in ("output", "before_nms"), f"clip_boxes {self.clip_boxes!r}")

    @property
    def base(self) -> str:
        """Name of the preset with this input size that the paper describes: "vgg300" or "vgg512"."""
        return f"vgg{self.input_size}"

    @property
    def input_wh(self) -> tuple[int, int]:
        """Width and height of the input in pixels."""
        return self.input_size, self.input_height or self.input_size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of a picture as the network takes it: (height, width, 3)."""
        width, height = self.input_wh
        return height, width, 3

    @property
    def mean_side(self) -> float:
        """Side in pixels of the square with the area of the input."""
        width, height = self.input_wh
        return float(self.input_size) if width == height else math.sqrt(width * height)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of cells of each feature map."""
        return tuple(zip(self.map_rows or self.feature_maps, self.feature_maps, strict=True))

    @property
    def grid_steps(self) -> tuple[tuple[float, float], ...]:
        """Distance (down, across) in pixels between neighboring anchor centers of each map."""
        return tuple(zip(self.row_steps or self.steps, self.steps, strict=True))

    @property
    def anchors_per_cell(self) -> tuple[int, ...]:
        """Number of anchor shapes per cell of each feature map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    @property
    def anchors_per_map(self) -> tuple[int, ...]:
        """Number of anchors of each feature map, in the order of the anchors."""
        maps = zip(self.grids, self.anchors_per_cell, strict=True)
        return tuple(rows * columns * shapes for (rows, columns), shapes in maps)

    @property
    def num_anchors(self) -> int:
        """Number of anchors of all maps: 8,732 for vgg300, 24,564 for vgg512."""
        return sum(self.anchors_per_map)

    @property
    def candidates(self) -> int:
        """How many anchors of a class can enter suppression at most."""
        limit = self.num_anchors if self.candidates_per_map is None else self.candidates_per_map
        return min(self.candidates_per_class, sum(min(limit, count) for count in self.anchors_per_map))

    def to_json(self) -> dict[str, Any]:
        """The fields as a dict of plain JSON types; `from_json` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SSDPreset":
        """Rebuild a preset from the dict of `to_json`. Raises ValueError for unknown, missing or wrong fields."""
        if wrong := mismatch(values, cls, LIMITS):
            raise ValueError(wrong)
        return cls(**{key: _tuples(value) for key, value in values.items()})


def _require(condition, what):
    if not condition:
        raise ValueError(f"unknown {what}")


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


_VGG300 = SSDPreset(
    name="vgg300",
    input_size=300,
    feature_maps=(38, 19, 10, 5, 3, 1),
    steps=(8, 16, 32, 64, 100, 300),
    min_sizes=(30, 60, 111, 162, 213, 264),
    max_sizes=(60, 111, 162, 213, 264, 315),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)

_VGG512 = SSDPreset(
    name="vgg512",
    input_size=512,
    feature_maps=(64, 32, 16, 8, 4, 2, 1),
    steps=(8, 16, 32, 64, 128, 256, 512),
    min_sizes=(35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8),
    max_sizes=(76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)

PRESETS = {
    preset.name: preset
    for preset in (
        _VGG300,
        _VGG512,
        # ssd_coco.py: COCO's objects are smaller, so the first scale is
        dataclasses.replace(
            _VGG300,
            name="vgg300-coco",
            min_sizes=(21, 45, 99, 153, 207, 261),
            max_sizes=(45, 99, 153, 207, 261, 315),
        ),
        dataclasses.replace(
            _VGG512,
            name="vgg512-coco",
            min_sizes=(20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8),
            max_sizes=(51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        ),
        # The article's scales: 0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075
        dataclasses.replace(
            _VGG300,
            name="vgg300-article",
            min_sizes=(30, 60, 112.5, 165, 217.5, 270),
            max_sizes=(60, 112.5, 165, 217.5, 270, 322.5),
            classes_per_anchor="best",
        ),
        # The article's conv11_2 is 3×3 without padding; conv12_2 too, after one cell of padding at the far sides
        dataclasses.replace(_VGG512, name="vgg512-article", conv12_form="3x3", classes_per_anchor="best"),
    )
}


def get_preset(name: str) -> SSDPreset:
    """The SSDPreset of that name. Raises UserError for an unknown name."""
    try:
        return PRESETS[name]
    except KeyError:
        raise UserError(f"--preset {name}: unknown; choose one of {', '.join(PRESETS)}") from None


def make_anchors(preset: SSDPreset) -> np.ndarray:
    """Anchors of a preset, float32 [A,4] (cx, cy, w, h) as fractions of the input (Caffe's PriorBox)."""
    maps = zip(preset.grids, preset.grid_steps, anchor_shapes(preset), strict=True)
    anchors = np.concatenate([_map_anchors(grid, steps, shapes) for grid, steps, shapes in maps])
    anchors = anchors / (2 * preset.input_wh)
    if preset.clip_anchors == "size":
        anchors[:, 2:] = anchors[:, 2:].clip(0, 1)
    elif preset.clip_anchors == "all":
        anchors = anchors.clip(0, 1)
    return anchors.astype(np.float32)


def _map_anchors(grid, steps, shapes):
    """Anchors of one feature map in pixels, [rows·columns·shapes, 4] (cx, cy, w, h). grid, steps: (down, across)."""
    down, across = ((np.arange(count) + 0.5) * step for count, step in zip(grid, steps, strict=True))
    cy, cx, _ = np.meshgrid(down, across, np.zeros(len(shapes)), indexing="ij")  # [row, column, shape]
    sizes = np.broadcast_to(shapes, (*grid, *shapes.shape))
    return np.concatenate([cx[..., None], cy[..., None], sizes], axis=-1).reshape(-1, 4)


def anchor_shapes(preset: SSDPreset) -> Iterator[np.ndarray]:
    """Yield each map's anchor shapes in pixels, float64 [shapes, 2] (w, h), in the order of the heads' channels."""
    maps = zip(preset.min_sizes, preset.max_sizes, preset.aspect_ratios, strict=True)
    for smallest, largest, ratios in maps:
        between = np.sqrt(smallest * largest)
        shapes = [(smallest, smallest), (between, between)]
        for ratio in ratios:
            wide, narrow = smallest * np.sqrt(ratio), smallest / np.sqrt(ratio)
            shapes += [(wide, narrow), (narrow, wide)]
        yield np.array(shapes)


def match_anchors(
    anchors: np.ndarray, gt_boxes: np.ndarray, threshold: float = MATCH_IOU, bipartite: bool = True
) -> np.ndarray:
    """Assign ground truth to anchors: int32 [A], the index of the ground truth or -1.

    anchors: [A,4] (cx, cy, w, h); gt_boxes: [N,4] (xmin, ymin, xmax, ymax). First a greedy bipartite match: the pair
    of highest IoU, then the best pair of the rest, and so on, so that every ground truth that overlaps a free anchor
    gets one of its own. Then every other anchor with IoU >= threshold is matched to its best ground truth. Ties go to
    the lowest anchor, then to the lowest ground truth. bipartite=False skips the first step, as the article does; a
    ground truth may then have no anchor. (MatchBBox in Caffe's bbox_util.cpp.)
    """
    return match_columns(anchor_columns(anchors), gt_boxes, threshold, bipartite)


def match_columns(
    columns: box_geometry.Columns, gt_boxes: np.ndarray, threshold: float = MATCH_IOU, bipartite: bool = True
) -> np.ndarray:
    """`match_anchors` for many pictures. columns: of `anchor_columns`, computed once."""
    matches = np.full(len(columns.left), -1, np.int32)
    if not len(gt_boxes) or not len(matches):
        return matches
    overlaps = box_geometry.iou(np.asarray(gt_boxes, np.float32), columns)  # [N,A]
    flat = overlaps.ravel()
    close = np.flatnonzero(flat >= threshold)  # pairs, by ground truth and then by anchor
    gt, anchor = np.divmod(close, len(matches))
    if len(gt_boxes) > 1:  # of an anchor's pairs the best comes last, and is the one that stays
        order = np.lexsort((-gt, flat[close]))
        gt, anchor = gt[order], anchor[order]
    matches[anchor] = gt
    if bipartite:
        _match_bipartitely(matches, overlaps)
    return matches


def anchor_columns(anchors: np.ndarray) -> box_geometry.Columns:
    """Anchors [A,4] (cx, cy, w, h) -> their edges and areas, float32 boxes.Columns."""
    return box_geometry.columns(box_geometry.from_cxcywh(np.asarray(anchors, np.float32)))


def _match_bipartitely(matches, overlaps):
    """Give each ground truth an anchor of its own, greedily by falling IoU; overwrites matches [A] and overlaps [N,A].

    It keeps the best anchor of each ground truth. Taking an anchor changes only those with the same best anchor, so
    the work is close to N passes over A instead of N passes over N·A.
    """
    anchor_of = overlaps.argmax(axis=1)
    every = np.arange(len(overlaps))
    best = overlaps[every, anchor_of]
    if len(set(anchor_of.tolist())) == len(every):  # the usual case: each gets its best
        matches[anchor_of] = np.where(best > MINIMUM_BIPARTITE_IOU, every, matches[anchor_of])
        return
    for _ in every:
        gt = best.argmax()  # of equals with different anchors, any may go first
        if best[gt] <= MINIMUM_BIPARTITE_IOU:
            return
        anchor = anchor_of[gt]
        matches[anchor] = gt
        best[gt] = -1
        overlaps[:, anchor] = -1
        for other in np.flatnonzero((anchor_of == anchor) & (best > 0)):
            anchor_of[other] = overlaps[other].argmax()
            best[other] = overlaps[other, anchor_of[other]]


def encode_boxes(
    matched_gt_boxes: np.ndarray, anchors: np.ndarray, variances: tuple[float, float] = VARIANCES
) -> np.ndarray:
    """The offsets that the network should predict at each anchor: float32 [A,4] (dx, dy, dw, dh).

    matched_gt_boxes: [A,4] (xmin, ymin, xmax, ymax) with area; anchors: [A,4] (cx, cy, w, h).
    dx = (cx_gt - cx) / w / 0.1, dw = ln(w_gt / w) / 0.2, as in Caffe's EncodeBBox and the article's code (its text
    swaps the two factors).
    """
    gt_cxcywh = box_geometry.to_cxcywh(np.asarray(matched_gt_boxes, np.float32))
    center, size = anchors[:, :2], anchors[:, 2:]
    return np.concatenate(
        [
            (gt_cxcywh[:, :2] - center) / size / np.float32(variances[0]),
            np.log(gt_cxcywh[:, 2:] / size) / np.float32(variances[1]),
        ],
        axis=1,
    )


def decode_boxes(offsets: np.ndarray, anchors: np.ndarray, variances: tuple[float, float] = VARIANCES) -> np.ndarray:
    """The inverse of `encode_boxes`: offsets [A,4] at anchors [A,4] -> boxes [A,4], not clipped."""
    center, size = anchors[:, :2], anchors[:, 2:]
    return box_geometry.from_cxcywh(
        np.concatenate(
            [
                offsets[:, :2] * np.float32(variances[0]) * size + center,
                np.exp(offsets[:, 2:] * np.float32(variances[1])) * size,
            ],
            axis=1,
        )
    )


def encode_targets(
    anchors: np.ndarray,
    gt_boxes: np.ndarray,
    labels: np.ndarray,
    matches: np.ndarray,
    variances: tuple[float, float] = VARIANCES,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn matches into targets: class_targets int32 [A] (label + 1, 0 = background), offset_targets float32 [A,4].

    labels: int32 [N], 0-based; matches: int32 [A] of `match_anchors`. Offsets of unmatched anchors are 0.
    out: arrays for the two, which are overwritten; None for new ones.
    """
    if out is None:
        out = np.empty(len(anchors), np.int32), np.empty((len(anchors), 4), np.float32)
    class_targets, offset_targets = out
    class_targets[...], offset_targets[...] = 0, 0
    positive = np.flatnonzero(matches >= 0)
    gt = matches[positive]
    class_targets[positive] = labels[gt] + 1
    offset_targets[positive] = encode_boxes(gt_boxes[gt], anchors[positive], variances)
    return class_targets, offset_targets
