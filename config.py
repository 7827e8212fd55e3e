"""A run on disk, as far as it can be read without TensorFlow: config.json, the checkpoint index, MODEL names.

RUN/config.json                  the model's description, the training flags, versions
RUN/checkpoints/index.json       which checkpoint is the last and which the best
RUN/checkpoints/step-00001234/   model.index, model.data-…, state.json
"""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import ssd_utils
import transforms
from structures import UserError
from system import cli, files

FORMAT = 1
PATTERN = "*?[\\"  # TensorFlow reads a checkpoint's path as a pattern, in which these do not stand for themselves
# Settings that may differ on --resume: they move the end or the speed. The steps on the way stay as they are, but for
# the rates of the cosine schedule, which lead to the end
RESUMABLE = ("epochs", "max_steps", "workers", "save_minutes")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
CHOICES = {  # what some TrainingSettings may be
    "other_classes": ("error", "ignore"),
    "difficult": ("use", "ignore"),
    "initializer": ("he", "xavier"),
    "optimizer": ("adam", "momentum"),
    "schedule": ("exponential", "step", "cosine", "constant"),
    "matching": ("bipartite", "threshold"),
    "augmentation": tuple(transforms.AUGMENTATIONS),
    "precision": PRECISIONS,
}


def run_folder(text: str) -> str:
    """An argument type: a run directory that exists or can be made; nothing is created yet."""
    if reason := _pattern_in(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}; choose another name, or rename the folder")
    return cli.output_folder(text)


def is_pattern(run: str) -> bool:
    """Whether TensorFlow would take the path of a run directory for a pattern of several."""
    return _pattern_in(run) is not None


def _pattern_in(run):
    """What speaks against the path of a run directory, or None."""
    found = [character for character in PATTERN if character in run]
    return f"TensorFlow takes {found[0]} for part of a pattern" if found else None


def check_new(run: str, remedy: str = "choose another name, or continue it with --resume") -> None:
    """Raises UserError if something is in the place of a new run. What a killed start left half written is not."""
    if os.path.lexists(run) and not (os.path.isdir(run) and all(map(files.is_pending, os.listdir(run)))):
        raise UserError(f"--run {run}: exists already; {remedy}")


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """All that is needed to rebuild a model and read its output: the preset and the class names."""

    preset: ssd_utils.SSDPreset
    class_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; `from_json` is its inverse."""
        return {"preset": self.preset.to_json(), "class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelDescription":
        """Raises ValueError or KeyError if something is missing or unknown."""
        return cls(ssd_utils.SSDPreset.from_json(values["preset"]), tuple(values["class_names"]))


def usual_rate(optimizer: str, adam_epsilon: float) -> float:
    """The learning rate where none is given. The article's epsilon, 0.1, makes Adam's steps much smaller."""
    return 2e-4 if optimizer == "adam" and adam_epsilon < 0.01 else 1e-3


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The flags of train.py that decide a training's outcome; train.py --help says what each is for.

    Reasons for defaults that are not the original's: ARCHITECTURE.md. Raises ValueError for what is none of CHOICES.
    """

    data: str
    train: str
    valid: str | None = None
    valid_every: int = 1
    patience: int | None = None
    source: str = "auto"
    other_classes: str = "error"
    difficult: str = "use"
    limit: int | None = None
    repeat: int = 1
    vgg_weights: str | None = None
    init_from: str | None = None
    map_classes: tuple[str, ...] = ()  # texts OLD=NEW
    initializer: str = "he"
    epochs: int = 200
    max_steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adam"
    adam_epsilon: float = 1e-8
    learning_rate: float = usual_rate(optimizer, adam_epsilon)
    schedule: str = "exponential"
    schedule_steps: tuple[int, ...] = (80000, 100000)
    warmup_steps: int = 100
    clip_norm: float = 10.0
    bias_lr_multiplier: float = 1.0
    weight_decay: float = 5e-4
    ema: float | None = None
    negative_ratio: int = 3
    class_weights: str | tuple[str, ...] | None = None  # "auto", or texts NAME=WEIGHT
    matching: str = "bipartite"
    augmentation: str = "full"
    freeze: tuple[str, ...] = ()
    precision: str = "float32"
    workers: int = 2
    seed: int = 0
    deterministic: bool = False
    save_minutes: float = 10.0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """Raises TypeError on unknown or missing fields, ValueError on unknown choices."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fields)


def write_config(
    run: str, description: ModelDescription, training: TrainingSettings | None, versions: Mapping[str, str]
) -> None:
    """Write RUN/config.json. training: TrainingSettings, or None for imported weights."""
    values = {
        "format": FORMAT,
        "model": description.to_json(),
        "training": training and training.to_json(),
        "versions": versions,
    }
    files.write_json(os.path.join(run, "config.json"), values)


def replace_training(run: str, training: TrainingSettings) -> None:
    """Change the TrainingSettings in RUN/config.json, and nothing else in it."""
    path = os.path.join(run, "config.json")
    files.write_json(path, {**files.read_json(path), "training": training.to_json()})


def read_config(run: str) -> tuple[ModelDescription, TrainingSettings | None]:
    """RUN/config.json -> (ModelDescription, TrainingSettings or None). Raises UserError."""
    path = os.path.join(run, "config.json")
    if not os.path.isfile(path):
        raise UserError(f"{run}: not a run directory (no config.json)")
    values = files.read_json(path)
    if values.get("format") != FORMAT:
        raise UserError(f"{path}: of format {values.get('format')}, not {FORMAT}; use the version that wrote it")
    try:
        training = values["training"] and TrainingSettings.from_json(values["training"])
        return ModelDescription.from_json(values["model"]), training
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); restore it or train again") from None


def read_index(run: str) -> dict[str, Any]:
    """RUN/checkpoints/index.json, {"last": name, "best": name or None, …}; {} before the first checkpoint."""
    path = os.path.join(run, "checkpoints", "index.json")
    if not os.path.exists(path):
        return {}
    index = files.read_json(path)
    if not all(name is None or isinstance(name, str) for name in index.values()):
        raise UserError(f"{path}: damaged (a name is not text); restore it or train again")
    return index


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where a MODEL argument leads: a checkpoint of a run, or an exported graph."""

    name: str  # as the user wrote it
    frozen: str | None = None  # path of the .pb
    run: str | None = None
    checkpoint: str | None = None  # prefix for TensorFlow's checkpoint reader
    description: ModelDescription | None = None  # of a run; a graph's is in the graph, which takes TensorFlow to read

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names of a run, or None of a graph."""
        return self.description.class_names if self.description else None


def find_model(name: str) -> ModelSource:
    """Resolve `RUN`, `RUN@last`, `RUN@best` or `FILE.pb`. Raises UserError if there is no such model.

    A run stands for its best checkpoint, or its last if none was validated.
    """
    if os.path.isfile(name):
        if not name.endswith(".pb"):
            raise UserError(f"{name}: neither a run directory nor an exported .pb graph")
        return ModelSource(name, frozen=name)
    run, at, suffix = name.rpartition("@")
    which: str | None = suffix
    if not at or os.path.isdir(name):
        run, which = name, None
    if not os.path.isdir(run):
        raise UserError(f"{run}: no such run directory or .pb file")
    if reason := _pattern_in(run):
        raise UserError(f"{run}: {reason}; rename the folder")
    description, _ = read_config(run)
    return ModelSource(name, run=run, checkpoint=checkpoint_prefix(run, which), description=description)


def checkpoint_prefix(run: str, which: str | None = None) -> str:
    """Prefix of a run's checkpoint: which is "last", "best" or None (best if there is one, else last)."""
    if which not in (None, "last", "best"):
        raise UserError(f"{run}@{which}: a run has @last and @best")
    index = read_index(run)
    chosen = index.get(which) if which else index.get("best") or index.get("last")
    if not chosen:
        raise UserError(f"{run}: has no {which or 'finished'} checkpoint yet")
    prefix = os.path.join(run, "checkpoints", chosen, "model")
    if not os.path.isfile(prefix + ".index"):
        raise UserError(f"{prefix}.index: missing, yet index.json names it; restore it or use another run")
    return prefix
