"""torchvision's side of learning.py: one training of its SSD300, in the peer's interpreter, without TensorFlow.

    python learning_torch.py JOB.json

JOB.json holds a dict: fields of learning_plan.Task; `vgg`, an .npz of arrays by the names of torchvision's parameters;
`frozen`, names of parameters; `optimizer`, a key of OPTIMIZERS; `rates`, the learning rate of each step; `result`, the
file to write: {"points": [{"images", "seconds", "loss", "voc07"}], "diverged", "first_loss"}.

The recipe is that of torchvision's references/detection (augmentation "ssd"). Pictures are resized by the workers and
not by the model, which is faster and gives the same up to rounding.
"""

import functools
import json
import math
import pathlib
import sys
import time

import bench_torch
import gpu_torch
import learning_convert
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

import average_precision
import sources
import training_data
from formats import class_lists
from system import files

SIDE = 300  # pixels of the network's input
SCORING_BATCH = 8
WEIGHT_DECAY = 5e-4
OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=WEIGHT_DECAY, fused=True),
    "adamw": functools.partial(torch.optim.AdamW, weight_decay=WEIGHT_DECAY, fused=True),
}


def main(path):
    job = json.loads(pathlib.Path(path).read_text())
    class_names = class_lists.parse_classes(job["classes"])
    train, valid = (load(job, split, class_names) for split in ("train", "valid"))
    trainer = Trainer(job, sources.without_crowds(train), len(class_names))
    points, seconds, diverged = [], 0.0, False
    steps = len(job["rates"]) // job["epochs"]
    for epoch in range(job["epochs"]):
        took, loss = trainer.train_one_epoch(job["rates"][epoch * steps : (epoch + 1) * steps])
        seconds += took
        print(f"epoch {epoch + 1}  loss {loss:.3f}  {len(train) / took:.1f} images/s", flush=True)
        if diverged := not math.isfinite(loss):
            break
        if (epoch + 1) % job["valid_every"] == 0 or epoch + 1 == job["epochs"]:
            voc07 = score(trainer.model, valid, class_names, job["workers"])["voc07"]["mean"]
            print(f"VOC07 {voc07}", flush=True)  # None without objects
            images = (epoch + 1) * len(train)
            points.append({"images": images, "seconds": round(seconds, 2), "loss": loss, "voc07": voc07})
    result = {"points": points, "diverged": diverged, "first_loss": trainer.first_loss.item()}
    files.write_json(job["result"], result)


def load(job, split, class_names):
    """The samples of a split, all objects that train.py would use."""
    samples = sources.load(job["data"], job[split], class_names, other_classes=job["other_classes"])
    return training_data.limited(samples, job["limit"])


class Trainer:
    """A model and its training.

    model: torchvision's SSD300, on the card if there is one.
    first_loss: of the first batch, a tensor; None before.
    """

    def __init__(self, job, samples, classes):
        self.model, self.first_loss = build(job, classes), None
        self._precision = job["precision"]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._optimizer = OPTIMIZERS[job["optimizer"]](trained, lr=0.0)
        self._scaler = torch.amp.GradScaler(gpu_torch.DEVICE, enabled=self._precision == "float16")
        self._loader = _loader(
            _Augmented(samples),
            job["workers"],
            batch_size=job["batch_size"],
            shuffle=True,
            collate_fn=_batch,
            generator=torch.Generator().manual_seed(job["seed"]),
        )

    def train_one_epoch(self, rates):
        """Train with the learning rate of each step -> (seconds, mean loss)."""
        self.model.train()
        batches = iter(self._loader)  # starts to read before the clock does, as our data queue
        start = time.perf_counter()
        total = torch.zeros((), device=gpu_torch.DEVICE)
        for rate, (images, targets) in zip(rates, batches, strict=True):
            total += self._step(rate, images, targets)
        mean = total.item() / len(rates)  # waits for the card
        return time.perf_counter() - start, mean

    def _step(self, rate, images, targets):
        """One step of the optimizer -> the loss, a tensor, which is not waited for."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        targets = [{key: value.to(gpu_torch.DEVICE) for key, value in target.items()} for target in targets]
        self._optimizer.zero_grad(set_to_none=True)
        with gpu_torch.autocast(self._precision):
            loss = sum(self.model(list(gpu_torch.on_device(images)), targets).values())
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.first_loss is None:
            self.first_loss = loss.detach()
        return loss.detach()


def build(job, classes):
    """torchvision's SSD300 with the job's VGG-16 and, as torchvision does, random weights elsewhere; parts frozen."""
    model = gpu_torch.model_on_device(classes, job["seed"])
    with np.load(job["vgg"]) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays}
    unknown = model.load_state_dict(state, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"torchvision's SSD300 has no {', '.join(unknown)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in job["frozen"])
    return model


def score(model, samples, class_names, workers):
    """The dict of `average_precision.evaluate`. The network computes in float32."""
    model.eval()
    loader = _loader(_Resized(samples), workers, batch_size=SCORING_BATCH)
    found = []
    with torch.no_grad():
        for images in loader:
            found += [_on_host(one) for one in model(list(gpu_torch.on_device(images)))]
    detections = {
        sample.id: learning_convert.to_detections(one["boxes"], one["scores"], one["labels"], SIDE, sample)
        for sample, one in zip(samples, found, strict=True)
    }
    return average_precision.evaluate({sample.id: sample for sample in samples}, detections, class_names)


def _on_host(found):
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def _loader(dataset, workers, **options):
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0 and "shuffle" in options,
        pin_memory=gpu_torch.ON_GPU,
        **options,
    )


class _Augmented(Dataset):
    """Samples to train on -> (uint8 [3,300,300], {"boxes", "labels"}), different in every epoch."""

    def __init__(self, samples):
        self._samples = samples
        self._transform = bench_torch.ssd_transforms(antialias=False)

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        sample = self._samples[index]
        corners = torch.from_numpy(sample.boxes_px).float()
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(sample.height, sample.width))
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.labels).long() + 1}  # 0 is background
        image, target = self._transform(bench_torch.decode(sample.image_path, sample.exif), target)
        return image.as_subclass(torch.Tensor), {key: value.as_subclass(torch.Tensor) for key, value in target.items()}


class _Resized(Dataset):
    """Samples to score on -> uint8 [3,300,300]."""

    def __init__(self, samples):
        self._samples = samples
        self._resize = v2.Resize((SIDE, SIDE), antialias=False)

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        sample = self._samples[index]
        return self._resize(bench_torch.decode(sample.image_path, sample.exif)).as_subclass(torch.Tensor)


def _batch(pairs):
    images, targets = zip(*pairs, strict=True)
    return torch.stack(images), targets


if __name__ == "__main__":
    main(sys.argv[1])
