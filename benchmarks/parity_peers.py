"""The peers of `make parity`: public SSD codes as PyTorch modules with their own names, anchors and rules.

torchvision's SSD is the real one. The others are written from the facts in their papers and repositories
(amdegroot/ssd.pytorch, lufficc/SSD, pierluigiferrari/ssd_keras, weiliu89/caffe branch ssd), whose file formats and
rules they follow.
"""

import math
import re

import torch
import torchvision
from torch import nn
from torch.nn import functional

VOC_CHANNELS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "C", 512, 512, 512, "M", 512, 512, 512)
# Sizes, steps, cells and aspect ratios, as in the four codes for VOC
SIZES = {
    300: (30, 60, 111, 162, 213, 264, 315),
    512: (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
}
COCO_SIZES = {
    300: (21, 45, 99, 153, 207, 261, 315),
    512: (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
}
STEPS = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
CELLS = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}
RATIOS = {300: ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)), 512: ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))}
MEAN_RGB = (123.0, 117.0, 104.0)


class L2Norm(nn.Module):
    """Scales conv4_3 to unit length over its channels, times a factor for each channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((512,), 20.0))

    def forward(self, x):
        return x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) * self.weight[None, :, None, None]


class SSD(nn.Module):
    """SSD300 or SSD512 with the module names of ssd.pytorch; RGB minus the mean in, (logits, offsets) out."""

    def __init__(self, size, classes):
        super().__init__()
        self.size, self.classes = size, classes
        self.vgg, self.L2Norm, self.extras = nn.ModuleList(_vgg()), L2Norm(), nn.ModuleList(_extras(size))
        channels = [512, 1024, 512, 256, 256, 256, 256][: len(CELLS[size])]
        shapes = [2 + 2 * len(ratios) for ratios in RATIOS[size]]
        heads = list(zip(channels, shapes, strict=True))
        self.conf = nn.ModuleList(nn.Conv2d(c, n * (classes + 1), 3, padding=1) for c, n in heads)
        self.loc = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in heads)

    def forward(self, x):
        maps = []
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index == 22:  # ReLU of conv4_3
                maps.append(self.L2Norm(x))
        maps.append(x)
        for index, layer in enumerate(self.extras):
            x = functional.relu(layer(x))
            if index % 2:
                maps.append(x)
        return [
            torch.cat([h(m).permute(0, 2, 3, 1).reshape(len(m), -1, k) for h, m in zip(head, maps, strict=True)], 1)
            for head, k in ((self.conf, self.classes + 1), (self.loc, 4))
        ]

    def features(self, x, last):
        """The output of layer `last` of vgg."""
        for layer in self.vgg[: last + 1]:
            x = layer(x)
        return x


def _vgg():
    layers, channels = [], 3
    for value in VOC_CHANNELS:
        if isinstance(value, str):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=value == "C"))
        else:
            layers += [nn.Conv2d(channels, value, 3, padding=1), nn.ReLU()]
            channels = value
    layers += [nn.MaxPool2d(3, 1, 1), nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU()]
    return [*layers, nn.Conv2d(1024, 1024, 1), nn.ReLU()]


def _extras(size):
    halving = {"stride": 2, "padding": 1}
    layers = [nn.Conv2d(1024, 256, 1), nn.Conv2d(256, 512, 3, **halving)]
    layers += [nn.Conv2d(512, 128, 1), nn.Conv2d(128, 256, 3, **halving)]
    options = halving if size == 512 else {}
    for _ in range(2):
        layers += [nn.Conv2d(256, 128, 1), nn.Conv2d(128, 256, 3, **options)]
    return layers + ([nn.Conv2d(256, 128, 1), nn.Conv2d(128, 256, 4, padding=1)] if size == 512 else [])


def make_anchors(size, *, clamp, integers=False, last_max=None, coco=False):
    """Anchors [A,4] (cx, cy, w, h), ordered by map, row, column, shape."""
    sizes = (COCO_SIZES if coco else SIZES)[size]
    sizes = [*sizes[:-1], last_max or sizes[-1]]
    sizes = [math.floor(value) for value in sizes] if integers else sizes
    found = []
    for index, (cells, step, ratios) in enumerate(zip(CELLS[size], STEPS[size], RATIOS[size], strict=True)):
        small, large = sizes[index] / size, sizes[index + 1] / size
        shapes = [(small, small), (math.sqrt(small * large),) * 2]
        for ratio in ratios:
            shapes += [(small * math.sqrt(ratio), small / math.sqrt(ratio))]
            shapes += [(small / math.sqrt(ratio), small * math.sqrt(ratio))]
        for row in range(cells):
            for column in range(cells):
                center = ((column + 0.5) * step / size, (row + 0.5) * step / size)
                found += [(*center, *shape) for shape in shapes]
    found = torch.tensor(found, dtype=torch.float64).float()
    return found.clamp(0, 1) if clamp else found


def detect(
    logits,
    offsets,
    anchors,
    *,
    score=0.01,
    before_nms=None,
    per_image=None,
    per_map=None,
    clip=False,
    size_limit=None,
    drop_empty=False,
):
    """One image's logits [A,1+C] and offsets [A,4] -> (boxes in 0..1 [N,4], scores, labels from 0), best first.

    Per class, the best `before_nms` scores above `score`, suppression at 0.45; then the best `per_image` of all.
    per_map: how many scores of a map take part. clip: boxes, before suppression. size_limit: of dw and dh, both ways.
    drop_empty: boxes without area.
    """
    scores = logits.softmax(-1)
    center = anchors[:, :2] + offsets[:, :2] * 0.1 * anchors[:, 2:]
    growth = offsets[:, 2:] * 0.2
    growth = growth if size_limit is None else growth.clamp(-size_limit, size_limit)
    half = anchors[:, 2:] * torch.exp(growth) / 2
    boxes = torch.cat([center - half, center + half], 1)
    boxes = boxes.clamp(0, 1) if clip else boxes
    if per_map is not None:
        scores = _best_of_maps(scores, len(anchors), per_map)
    if drop_empty:
        scores = scores * (boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True)
    kept = []
    for label in range(scores.shape[1] - 1):
        mine = scores[:, label + 1]
        order = torch.argsort(mine, descending=True, stable=True)
        order = order[mine[order] > score][:before_nms]
        order = order[torchvision.ops.nms(boxes[order], mine[order], 0.45)]
        kept.append((boxes[order], mine[order], torch.full((len(order),), label)))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*kept, strict=True))
    best = torch.argsort(scores, descending=True, stable=True)[:per_image]
    return boxes[best], scores[best], labels[best]


def _best_of_maps(scores, anchors, per_map):
    """Scores [A,1+C] with 0 for those of classes that are not among the best `per_map` of their map."""
    size = 300 if anchors == 8732 else 512
    counts = [n * n * (2 + 2 * len(ratios)) for n, ratios in zip(CELLS[size], RATIOS[size], strict=True)]
    parts = []
    for part in scores[:, 1:].split(counts):
        flat = torch.zeros(part.numel())
        best = part.reshape(-1).sort(descending=True, stable=True).indices[:per_map]
        flat[best] = part.reshape(-1)[best]
        parts.append(flat.reshape(part.shape))
    return torch.cat([scores[:, :1], torch.cat(parts)], 1)


# Of the heads' random weights: (what their names contain, factor)
HEAD_GAINS = (("^conf|classification_head|cls_headers", 0.0125), ("^loc|regression_head|reg_headers", 0.005))


def randomize(module, seed):
    """Set random parameters that keep activations in range and give scores well above and below 0.01."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        numbers = torch.randn(value.shape, generator=generator)
        if value.ndim == 1 and re.search("scale_weight|l2_?norm", name.lower()):
            numbers += 20
        elif value.ndim == 1:
            numbers *= 0.1
        else:
            gain = next((gain for pattern, gain in HEAD_GAINS if re.search(pattern, name)), 1)
            numbers *= gain * math.sqrt(2 / math.prod(value.shape[1:]))
        value.data.copy_(numbers)
    return module.eval()
