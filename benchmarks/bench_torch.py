"""The peer's side: torchvision's SSD, in the settings that suit it best. Runs in the peer's interpreter."""

import contextlib
import time

import bench_inputs
import numpy as np
import torch
import torchvision
from bench_worker import serve
from torchvision.models.detection import ssd, ssd300_vgg16

TRIED_RUNS = 2  # of each setting, to find the fastest, after one that is not counted


def build(preset="vgg300", classes=20):
    """torchvision's SSD300, or its builder with the layers of SSD512; random weights, all trained."""
    if preset == "vgg300":
        return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)
    backbone = ssd._vgg_extractor(torchvision.models.vgg16(weights=None), highres=True, trainable_layers=5)
    generator = ssd.DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]], steps=[8, 16, 32, 64, 128, 256, 512]
    )
    return ssd.SSD(backbone, generator, (512, 512), classes + 1)


def autocast(setting):
    return torch.autocast("cpu", torch.bfloat16) if "bfloat16 autocast" in setting else contextlib.nullcontext()


def layout(setting):
    return torch.channels_last if "channels_last" in setting else torch.contiguous_format


def facts(name, setting, tried=None):
    """What the line says about the peer."""
    told = {"name": name, "setting": setting, "torch": torch.__version__, "torchvision": torchvision.__version__}
    return {**told, "settings_tried": tried} if tried else told


def network(preset="vgg300", classes=20, batch=8, setting="bfloat16 autocast, channels_last"):
    """Backbone and heads on prepared float32 images: no normalising, no softmax, no boxes."""
    model = build(preset, classes).eval().to(memory_format=layout(setting))
    side = {"vgg300": 300, "vgg512": 512}[preset]
    images = torch.from_numpy(bench_inputs.images(batch, side)).permute(0, 3, 1, 2)
    images = (images.float() / 255 - 0.45).contiguous(memory_format=layout(setting))

    def run():
        with torch.no_grad(), autocast(setting):
            model.head(list(model.backbone(images).values()))
        return {"items": batch}

    return facts(f"torchvision SSD, {preset}", setting), run


def training_step(batch=8, settings=("bfloat16 autocast, channels_last, fused Adam",)):
    """torchvision's own training forward with its loss, backward, Adam; in the fastest of `settings`."""
    ground_truth = bench_inputs.ground_truth(batch)
    scale = np.float32(300)
    targets = [
        {"boxes": torch.from_numpy(boxes * scale), "labels": torch.from_numpy(labels.astype(np.int64) + 1)}
        for boxes, labels in ground_truth
    ]
    images = torch.from_numpy(bench_inputs.images(batch, 300)).permute(0, 3, 1, 2).float() / 255
    tried, runs = {}, {}
    for setting in settings:
        runs[setting] = _training_run(list(images), targets, setting)
        if len(settings) > 1:
            tried[setting] = _seconds(runs[setting])
    best = min(tried, key=tried.get) if tried else settings[0]
    run = runs[best]
    runs.clear()  # the others' memory
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
    """The fastest of TRIED_RUNS."""
    run()
    times = []
    for _ in range(TRIED_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


TASKS = {function.__name__: function for function in (network, training_step)}

if __name__ == "__main__":
    serve(TASKS)
