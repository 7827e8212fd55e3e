"""Runs in the peer's interpreter, for test_learning.py: prints facts about torchvision's side as JSON.

    python learning_torch_checks.py JOB.json

JOB.json is as for learning_torch.py, with splits of pictures that hold objects, and `features`, the .npz to write.
"""
# ruff: noqa: E402, benchmarks/ must be found first

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_torch
import learning_torch
import numpy as np
import torch


def main(path):
    job = json.loads(pathlib.Path(path).read_text())
    names = job["classes"].split(",")
    samples = learning_torch.load(job, "valid", names)
    trainer = learning_torch.Trainer(job, samples, len(names))
    facts = {
        "features": _features(trainer.model, samples[0], job["features"]),
        "frozen": [name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad],
        "score_of_stub": learning_torch.score(Stub(samples), samples, names, 0)["voc07"]["per_class"],
        **_losses_at_rate_zero(trainer),
    }
    print(json.dumps(facts))


def _features(model, sample, path):
    """Write conv4_3 [1,38,38,512] of a picture, as the model sees it, with that picture [1,300,300,3]."""
    picture = learning_torch._Resized([sample])[0]
    model.eval()
    with torch.no_grad():
        seen, _ = model.transform([gpu_torch.on_device(picture)])
        found = model.backbone.features(seen.tensors)
    np.savez(path, picture=picture.permute(1, 2, 0)[None].numpy(), conv4_3=found.permute(0, 2, 3, 1).cpu().numpy())
    return list(found.shape)


class Stub(torch.nn.Module):
    """A model that finds in each picture a false object of the first one's class, and then all that are there.

    The samples come in turn. Boxes are in the resized picture, as the real model's.
    """

    def __init__(self, samples):
        super().__init__()
        self._samples = iter(samples)

    def forward(self, images):
        return [self._find(next(self._samples), image) for image in images]

    def _find(self, sample, image):
        side = image.shape[-1]
        boxes = torch.from_numpy(sample.boxes).float() * side
        labels = torch.from_numpy(sample.labels).long() + 1
        return {
            "boxes": torch.cat([torch.tensor([[0.0, 0.0, 3.0, 3.0]]), boxes]),
            "scores": torch.tensor([0.6] + [0.5] * len(labels)),
            "labels": torch.cat([labels[:1], labels]),
        }


def _losses_at_rate_zero(trainer):
    """An epoch at rate 0 with heads that give 0: the first loss, what the boxes' part of it is, what has moved."""
    for head in (trainer.model.head.classification_head, trainer.model.head.regression_head):
        for parameter in head.parameters():
            parameter.data.zero_()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    parts = []

    def keep(_module, _inputs, output):
        parts.append({name: float(value) for name, value in output.items()})

    handle = trainer.model.register_forward_hook(keep)
    steps = len(trainer._loader)
    trainer.train_one_epoch([0.0] * steps)
    handle.remove()
    moved = [name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])]
    return {"first_loss": float(trainer.first_loss), "parts": parts[0], "moved": moved, "steps": steps}


if __name__ == "__main__":
    main(sys.argv[1])
