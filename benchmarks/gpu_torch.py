"""The peer's side of gpu.py: torchvision's SSD300 on the card, in the settings that suit it best.

Runs in the peer's interpreter. As on our side, uint8 images start in host memory and are copied in every run.
"""

import contextlib

import bench_inputs
import bench_torch
import numpy as np
import torch
from gpu_worker import serve

SETTING = "autocast, channels_last, cudnn.benchmark, fused Adam"
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


class GpuMemory:
    """PyTorch's memory on the card, beyond what was taken at `start`."""

    def start(self):
        if ON_GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def peak_mb(self):
        return round((torch.cuda.max_memory_allocated() - self._before) / 2**20) if ON_GPU else None


def gpu():
    """Name of the card that PyTorch sees, or None."""
    return torch.cuda.get_device_name() if ON_GPU else None


def model_on_device(classes=20, seed=0):
    """torchvision's SSD300 with random weights. classes: without background."""
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return bench_torch.build(classes=classes).to(DEVICE, memory_format=torch.channels_last)


def autocast(precision):
    """The context in which the network computes in "float32", "bfloat16" or "float16"."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(DEVICE, getattr(torch, precision))


def _images(batch):
    """uint8 [N,3,300,300] in host memory, pinned, in the order channels_last."""
    images = torch.from_numpy(bench_inputs.images(batch, (300, 300, 3))).permute(0, 3, 1, 2)
    return images.pin_memory() if ON_GPU else images


def on_device(images):
    """uint8 images of the host, at best pinned -> float32 in 0..1."""
    return images.to(DEVICE, non_blocking=True).float() / 255


@contextlib.contextmanager
def step(precision, batch):
    """torchvision's own training forward with its loss, backward, and Adam; float16 with loss scaling."""
    model, images = model_on_device().train(), _images(batch)
    targets = [
        {
            "boxes": torch.from_numpy(boxes * np.float32(300)).to(DEVICE),
            "labels": torch.from_numpy(labels.astype(np.int64) + 1).to(DEVICE),
        }
        for boxes, labels in bench_inputs.ground_truth(batch)
    ]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    scaler = torch.amp.GradScaler(DEVICE, enabled=precision == "float16")

    def run():
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision):
            loss = sum(model(list(on_device(images)), targets).values())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if not np.isfinite(loss.item()):  # waits for the card
            raise RuntimeError(f"the peer's loss is {loss.item()}")
        return batch

    yield bench_torch.facts("torchvision SSD300", SETTING), run


@contextlib.contextmanager
def network(precision, batch):
    """Normalized images -> softmax and offsets, whose sum comes back, as on our side."""
    model, images = model_on_device().eval(), _images(batch)

    @torch.no_grad()
    def run():
        with autocast(precision):
            prepared = (on_device(images) - 0.45).contiguous(memory_format=torch.channels_last)
            outputs = model.head(list(model.backbone(prepared).values()))
        probabilities = outputs["cls_logits"].float().softmax(-1)
        (probabilities.sum() + outputs["bbox_regression"].float().sum()).item()
        return batch

    yield bench_torch.facts("torchvision SSD300", SETTING), run


@contextlib.contextmanager
def detections(precision, batch):
    """The whole model, whose detections are copied to host memory."""
    model, images = model_on_device().eval(), _images(batch)

    @torch.no_grad()
    def run():
        with autocast(precision):
            found = model(list(on_device(images)))
        for one in found:
            for tensor in one.values():
                tensor.cpu()
        return batch

    yield bench_torch.facts("torchvision SSD300", SETTING), run


TASKS = {"step": step, "network": network, "detections": detections}

if __name__ == "__main__":
    serve(TASKS, {"gpu": gpu}, GpuMemory())
