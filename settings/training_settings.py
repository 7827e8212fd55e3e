"""The flags of train.py that decide a training's outcome: their defaults, and what config.json may say of them."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import transforms
from settings.computation import PRECISIONS
from system.schema import LARGEST_SEED, Limits, mismatch
from tiling import tiles as tiling

# Settings that may differ on --resume: they change the end or the speed, but not the steps before the end (except the
# rates of the cosine schedule, which depend on the end). With data and source the same pictures are at another place
RESUMABLE = (
    "data",
    "source",
    "epochs",
    "max_steps",
    "workers",
    "cache",
    "cache_gb",
    "cache_dir",
    "save_minutes",
    "keep_every",
    "score_train",
    "bucket_mb",
)
CHOICES = {  # allowed values of some TrainingSettings
    "other_classes": ("error", "ignore"),
    "difficult": ("use", "ignore"),
    "missing_annotations": ("error", "background"),
    "initializer": ("lsuv", "he", "xavier"),
    "optimizer": ("adam", "adamw", "momentum"),
    "momentum_form": ("tensorflow", "caffe"),
    "schedule": ("exponential", "step", "cosine", "constant"),
    "normalize": ("batch", "image"),
    "matching": ("bipartite", "threshold"),
    "unmatched": ("keep", "redraw"),
    "augmentation": tuple(transforms.AUGMENTATIONS),
    "precision": PRECISIONS,
    "cache": ("none", "ram", "disk"),
    "wire": ("float32", "bfloat16"),
}
_DIVISORS = ("valid_every", "repeat", "epochs", "batch_size", "accumulate", "keep_every")
_COUNTS = (
    *("patience", "limit", "max_steps", "warmup_steps"),
    *("score_train", "schedule_steps", "workers", "negative_ratio"),
)
_POSITIVE = (
    *("adam_epsilon", "schedule_rates", "clip_norm", "weight_decay"),
    *("cache_gb", "save_minutes", "bucket_mb"),
)
LIMITS = {  # what config.json may say of TrainingSettings; flags have narrower ones
    **dict.fromkeys(_DIVISORS, Limits(1)),
    **dict.fromkeys(_COUNTS, Limits(0)),
    **dict.fromkeys(_POSITIVE, Limits(0)),
    "learning_rate": Limits(sys.float_info.min),
    "seed": Limits(0, LARGEST_SEED),
    **dict.fromkeys(
        ("valid_share", "momentum", "ema", *(f.name for f in dataclasses.fields(transforms.Augmentation))), Limits(0, 1)
    ),
    **{name: Limits(*range_) for name, range_ in transforms.RANGES.items()},
    "tiles": Limits(1, tiling.MOST_TILES),
    "overlap": Limits(0, 0.999),
    "interpolations": Limits(choices=tuple(transforms.INTERPOLATIONS)),
}
TRAINED_FACTOR = 0.1  # on the learning rate of layers that start from trained weights


def usual_rate(optimizer: str, adam_epsilon: float) -> float:
    """The default learning rate. With a large epsilon, as the article's 0.1, Adam's steps are much smaller."""
    return 2e-4 if _steps_of_one_size(optimizer, adam_epsilon) else 1e-3


def usual_decay(optimizer: str) -> float:
    """The default weight decay. AdamW multiplies it by the learning rate; the others add it to the gradient."""
    return 0.05 if optimizer == "adamw" else 5e-4


def usual_multiplier(optimizer: str, adam_epsilon: float, vgg_weights: str | None) -> float:
    """The default factor on the learning rate of VGG-16's convolutions.

    Adam's steps have one size whatever the gradient, and those that random layers need destroy trained ones.
    """
    return TRAINED_FACTOR if vgg_weights and _steps_of_one_size(optimizer, adam_epsilon) else 1.0


def _steps_of_one_size(optimizer, adam_epsilon):
    return optimizer.startswith("adam") and adam_epsilon < 0.01


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The flags of train.py that decide a training's outcome; train.py --help-all explains each.

    ARCHITECTURE.md gives the reasons for defaults that differ from the original's. Raises ValueError for a value that
    is not in CHOICES.
    """

    data: str
    train: str
    valid: str | None = None
    valid_share: float | None = None
    valid_every: int = 1
    score_train: int = 0
    patience: int | None = None
    source: str = "auto"
    other_classes: str = "error"
    difficult: str = "use"
    missing_annotations: str = "error"
    limit: int | None = None
    repeat: int = 1
    vgg_weights: str | None = None
    init_from: str | None = None
    map_classes: tuple[str, ...] = ()  # texts OLD=NEW
    initializer: str = "lsuv"
    epochs: int = 200
    max_steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adamw"
    adam_epsilon: float = 1e-8
    momentum: float = 0.9
    momentum_form: str = "tensorflow"  # "caffe": a change of the rate acts on later gradients alone
    learning_rate: float = usual_rate(optimizer, adam_epsilon)
    schedule: str = "cosine"
    schedule_steps: tuple[int, ...] = (80000, 100000)
    schedule_rates: tuple[float, ...] = ()  # in place of learning_rate, one more than schedule_steps
    warmup_steps: int = 100
    clip_norm: float = 10.0
    bias_lr_multiplier: float = 1.0
    vgg_lr_multiplier: float = 1.0
    weight_decay: float = usual_decay(optimizer)
    ema: float | None = None
    negative_ratio: int = 3
    class_weights: str | tuple[str, ...] | None = None  # "auto", or texts NAME=WEIGHT
    normalize: str = "batch"
    matching: str = "bipartite"
    unmatched: str = "keep"
    augmentation: str | transforms.Augmentation = "full"  # a name, or what a file said
    tiles: tuple[int, int] | None = None  # columns and rows
    overlap: float = tiling.OVERLAP
    freeze: tuple[str, ...] = ()
    precision: str = "float32"
    wire: str = "float32"
    bucket_mb: float | None = None  # None: all gradients at once, after the backward pass
    workers: int | None = None  # None: as many as suit the machine, also another one that resumes the run
    cache: str = "none"
    cache_gb: float | None = None  # None: as much as suits the machine
    cache_dir: str | None = None  # None: in the folder of `own_folders.cache_folder`
    seed: int = 0
    deterministic: bool = False
    save_minutes: float = 10.0
    keep_every: int | None = None
    events: str | None = None  # None: in the run

    def __post_init__(self):
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not isinstance(value, transforms.Augmentation):
                raise ValueError(f"{name} {value!r} is not one of {', '.join(choices)}")

    @property
    def cut(self) -> tiling.Cut | None:
        """How pictures are cut into tiles; None if they are not."""
        return tiling.choose(self.tiles, None, self.overlap)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """Rebuild settings from the dict of `to_json`.

        Raises ValueError for fields that are unknown, missing or wrong.
        """
        if wrong := mismatch(values, cls, LIMITS):
            raise ValueError(wrong)
        fields = _with_tuples(values)
        if isinstance(fields.get("augmentation"), dict):
            fields["augmentation"] = transforms.Augmentation(**_with_tuples(fields["augmentation"]))
        return cls(**fields)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """The dict with its lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


DEFAULTS = TrainingSettings(data="", train="")
