"""The peer's side: torchvision's SSD in its fastest settings. Runs in the peer's interpreter."""

import contextlib
import importlib.util
import json
import pathlib
import time

import bench_inputs
import numpy as np
import torch
import torchvision
from bench_worker import serve
from torchvision import tv_tensors
from torchvision.models.detection import _utils, ssd, ssd300_vgg16
from torchvision.transforms import v2

TRIED_RUNS = 2  # of each setting to find the fastest, after one that is not counted


def build(preset="vgg300", classes=20):
    """torchvision's SSD300, or its builder with the layers of SSD512; random weights, all trainable."""
    if preset == "vgg300":
        return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)
    backbone = ssd._vgg_extractor(torchvision.models.vgg16(weights=None), highres=True, trainable_layers=5)
    generator = ssd.DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]], steps=[8, 16, 32, 64, 128, 256, 512]
    )
    return ssd.SSD(backbone, generator, (512, 512), classes + 1)


def autocast(setting):
    """The context in which a setting computes."""
    return torch.autocast("cpu", torch.bfloat16) if "bfloat16 autocast" in setting else contextlib.nullcontext()


def layout(setting):
    """The memory layout of a setting."""
    return torch.channels_last if "channels_last" in setting else torch.contiguous_format


def facts(name, setting, tried=None):
    """The facts about the peer for the JSON line."""
    known = {"name": name, "setting": setting, "torch": torch.__version__, "torchvision": torchvision.__version__}
    return {**known, "settings_tried": tried} if tried else known


def network(preset="vgg300", classes=20, batch=8, setting="bfloat16 autocast, channels_last"):
    """Backbone and heads on prepared float32 images, without normalization, softmax and boxes."""
    model = build(preset, classes).eval().to(memory_format=layout(setting))
    side = {"vgg300": 300, "vgg512": 512}[preset]
    images = torch.from_numpy(bench_inputs.images(batch, (side, side, 3))).permute(0, 3, 1, 2)
    images = (images.float() / 255 - 0.45).contiguous(memory_format=layout(setting))

    def run():
        with torch.no_grad(), autocast(setting):
            model.head(list(model.backbone(images).values()))
        return {"items": batch}

    return facts(f"torchvision SSD, {preset}", setting), run


def training_step(batch=8, settings=("bfloat16 autocast, channels_last, fused Adam",)):
    """torchvision's training step (forward with its loss, backward, Adam) in the fastest of `settings`."""
    ground_truth = bench_inputs.ground_truth(batch)
    scale = np.float32(300)
    targets = [
        {"boxes": torch.from_numpy(boxes * scale), "labels": torch.from_numpy(labels.astype(np.int64) + 1)}
        for boxes, labels in ground_truth
    ]
    images = torch.from_numpy(bench_inputs.images(batch, (300, 300, 3))).permute(0, 3, 1, 2).float() / 255
    tried, runs = {}, {}
    for setting in settings:
        runs[setting] = _training_run(list(images), targets, setting)
        if len(settings) > 1:
            tried[setting] = _seconds(runs[setting])
    best = min(tried, key=tried.get) if tried else settings[0]
    run = runs[best]
    runs.clear()  # frees the others' memory
    return facts("torchvision SSD300", best, tried), run


def _training_run(images, targets, setting):
    model = build().train().to(memory_format=layout(setting))
    assert all(parameter.requires_grad for parameter in model.parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused="fused" in setting)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with autocast(setting):
            losses = model(images, targets)
            loss = sum(losses.values())
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            raise RuntimeError(f"the peer's loss is {loss}")
        return {"items": len(images)}

    return run


def _seconds(run):
    """The seconds of the fastest of TRIED_RUNS runs."""
    run()
    times = []
    for _ in range(TRIED_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def data(index, tried_pictures=40):
    """torchvision v2's SSD transforms on decoded JPEGs, one thread, with the fastest decoder and form."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    samples = [
        (
            e["path"],
            torch.tensor(e["boxes_px"], dtype=torch.float32),
            torch.tensor(e["labels"]),
            (e["height"], e["width"]),
        )
        for e in json.loads(pathlib.Path(index).read_text())
    ]
    decoders = {"torchvision.io": decode, "PIL": _decode_pil}
    if importlib.util.find_spec("cv2"):
        decoders["cv2"] = _decode_cv2
    ways = {
        f"{name}, antialias {antialias}": (read, ssd_transforms(antialias))
        for name, read in decoders.items()
        for antialias in (True, False)
        if antialias or name != "PIL"  # PIL always antialiases
    }
    tried = {name: _seconds(_augmentation(samples[:tried_pictures], *way)) for name, way in ways.items()}
    best = min(tried, key=tried.get)
    return facts("torchvision v2 transforms", best, tried), _augmentation(samples, *ways[best])


def ssd_transforms(antialias):
    """The steps of torchvision's own SSD recipe; they include Resize, which its model does without antialiasing.

    Takes and returns (picture, {"boxes", "labels"}); what comes back is 300×300.
    """
    return v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=[123, 117, 104]),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((300, 300), antialias=antialias),
            v2.SanitizeBoundingBoxes(),
            v2.ToImage(),
        ]
    )


def _augmentation(samples, read, transform):
    def run():
        for path, boxes, labels, size in samples:
            boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
            transform(read(path), {"boxes": boxes, "labels": labels})
        return {"items": len(samples)}

    return run


def decode(path, exif=False):
    """A picture's file -> uint8 RGB [3,H,W]. exif: whether to turn it as its EXIF data says."""
    data = torchvision.io.read_file(path)
    mode = torchvision.io.ImageReadMode.RGB
    return tv_tensors.Image(torchvision.io.decode_image(data, mode=mode, apply_exif_orientation=exif))


def _decode_pil(path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def _decode_cv2(path):
    import cv2

    cv2.setNumThreads(1)
    return tv_tensors.Image(torch.from_numpy(cv2.imread(path)[:, :, ::-1].copy()).permute(2, 0, 1))


def matching(objects, images=50):
    """What torchvision's SSD does with the targets of each picture in its training step, in one thread."""
    torch.set_num_threads(1)
    model = build()
    features = [torch.zeros(1, 1, side, side) for side in (38, 19, 10, 5, 3, 1)]
    (anchors,) = model.anchor_generator(
        torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), features
    )
    matcher, coder = _utils.SSDMatcher(0.5), model.box_coder
    pairs = [
        (torch.from_numpy(boxes) * 300, torch.from_numpy(labels).long() + 1)
        for boxes, labels in bench_inputs.ground_truth(images, objects)
    ]

    def run():
        for boxes, labels in pairs:
            matches = matcher(torchvision.ops.box_iou(boxes, anchors))
            positive = torch.where(matches >= 0)[0]
            coder.encode_single(boxes[matches[positive]], anchors[positive])
            classes = torch.zeros(len(anchors), dtype=torch.long)
            classes[positive] = labels[matches[positive]]
        return {"items": images}

    return facts("torchvision's SSDMatcher and BoxCoder", "one thread"), run


TASKS = {function.__name__: function for function in (network, training_step, data, matching)}

if __name__ == "__main__":
    serve(TASKS)
