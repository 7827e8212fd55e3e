"""What learning.py trains: the sides, their learning rates, and what all trainings share."""

import dataclasses
import math
from typing import NamedTuple

OURS = "ours"
# {side: (in words, optimizer of learning_torch.py or None, learning rates)}
SIDES = {
    OURS: ("this project (train.py)", None, (1e-4, 2e-4, 4e-4)),
    "torchvision-sgd": ("torchvision, SGD with momentum 0.9 (its reference)", "sgd", (5e-4, 1e-3, 2e-3)),
    "torchvision-adamw": ("torchvision, AdamW", "adamw", (5e-5, 1e-4, 2e-4)),
}
NARROW, WIDE = 2400, 18_000  # images of a training on a CPU and on a GPU
POINTS = 12  # of a curve, unless --every says otherwise


@dataclasses.dataclass(frozen=True)
class Task:
    """What all trainings share.

    data, train, valid, classes, other_classes: as for train.py.
    limit: at most so many pictures to train on, and so many to score on; None for all.
    pictures: of an epoch.
    vgg: file with VGG-16's weights.
    freeze: layers that are not trained, as for train.py.
    batch_size, warmup_steps, epochs, valid_every, workers, seed: as for train.py.
    precision: "float32", "bfloat16" or "float16", of both sides.
    more: further flags of train.py, for our side only.
    """

    data: str
    train: str
    valid: str
    classes: str
    other_classes: str
    limit: int | None
    pictures: int
    vgg: str
    freeze: tuple[str, ...]
    batch_size: int
    warmup_steps: int
    epochs: int
    valid_every: int
    workers: int
    seed: int
    precision: str
    more: tuple[str, ...] = ()

    def flags(self, rate, run):
        """The arguments of train.py for one training."""
        limit = ["--limit", self.limit] if self.limit else []
        words = [
            *("--data", self.data, "--train", self.train, "--valid", self.valid, "--valid-every", self.valid_every),
            *("--classes", self.classes, "--other-classes", self.other_classes, *limit, "--run", run),
            *("--vgg-weights", self.vgg, "--freeze", ",".join(self.freeze), "--augmentation", "full"),
            *("--batch-size", self.batch_size, "--epochs", self.epochs, "--learning-rate", rate),
            *("--schedule", "cosine", "--warmup-steps", self.warmup_steps, "--precision", self.precision),
            *("--workers", self.workers, "--seed", self.seed, *self.more),
        ]
        return [str(word) for word in words]


class Training(NamedTuple):
    """One training. side: a key of SIDES; rate: its learning rate."""

    side: str
    rate: float

    @property
    def name(self):
        return f"{self.side}/{self.rate:g}"


def length(images, every, pictures):
    """(epochs, epochs from one point of the curve to the next) of a training.

    images: how many are to be seen; every: images between two points, None for POINTS of them; pictures: of an epoch.
    Both are whole epochs, since train.py validates between epochs.
    """
    epochs = math.ceil(images / pictures)
    return epochs, max(1, round((every or images / POINTS) / pictures))


def trainings(rates):
    """{side: learning rates} -> list of Training, the sides in turn, so that an early stop leaves some of each."""
    most = max(map(len, rates.values()))
    return [
        Training(side, given[number]) for number in range(most) for side, given in rates.items() if number < len(given)
    ]
