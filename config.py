"""The parts of a run that can be read without TensorFlow: config.json, the checkpoint index, MODEL arguments.

RUN/config.json                  the model's description, the training flags, versions
RUN/division.json                the pictures of --valid-share, if the run has that
RUN/checkpoints/index.json       which checkpoint is the last and which the best
RUN/checkpoints/step-00001234/   model.index, model.data-…, state.json
"""

import argparse
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

import ssd_utils
from settings.training_settings import TrainingSettings
from structures import UserError
from system import atomic, cli, files, folder_tree, wording
from system.argument_types import output_folder
from system.schema import Limits, check, mismatch
from weights import published

FORMAT = 1
CONFIG = "config.json"
DIVISION = "division.json"  # in a run: what formats.division wrote
PATTERN = "*?[\\"  # TensorFlow reads a checkpoint's path as a pattern, in which these have a special meaning
# Formats of exported models, by which export_model.py --format names them, and how their names end. A SavedModel is a
# folder, OpenVINO's .xml has a .bin beside it
EXPORTED = {
    "frozen": ".pb",
    "savedmodel": ".savedmodel",
    "onnx": ".onnx",
    "openvino": ".xml",
    "tflite": ".tflite",
}
_FORMAT_OF = {suffix: format for format, suffix in EXPORTED.items() if format != "savedmodel"}
_SUFFIXES = ", ".join([*_FORMAT_OF, "a SavedModel"])  # for messages
SAVED_MODEL_GRAPH = "saved_model.pb"  # the file by which the folder of a SavedModel is known
MODEL_HELP = (  # what `find_model` takes
    "a run directory (its best checkpoint; RUN@last: its last; RUN@epoch-40: a kept one); or what export_model.py "
    "wrote: a .pb, .onnx, .xml or .tflite file, or the folder of a SavedModel; or a published detector, which is "
    f"downloaded once: {', '.join(published.DETECTORS)}"
)
MOST_CLASSES = 100_000
RESTORE = "restore it, or train again"


def run_folder(text: str) -> str:
    """An argument type: a run directory that exists or can be created; nothing is created yet."""
    if reason := _pattern_in(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}; choose another name, or rename the folder")
    return output_folder(text)


def is_pattern(run: str) -> bool:
    """Whether TensorFlow would read the path of a run directory as a pattern."""
    return _pattern_in(run) is not None


def _pattern_in(run):
    """Why the path of a run directory cannot be used, or None."""
    found = [character for character in PATTERN if character in run]
    return f"TensorFlow reads {found[0]} in a path as part of a pattern" if found else None


def check_new(run: str) -> None:
    """Raises UserError if the path of a new run exists, unless it only holds temporary files of a killed start."""
    if not os.path.lexists(run) or (os.path.isdir(run) and all(map(atomic.is_pending, os.listdir(run)))):
        return
    if not is_run(run):
        what = "a folder with other files, not a run" if os.path.isdir(run) else "no folder"
        raise UserError(f"--run {run}: is {what}; choose another name{_runs_in(run)}")
    if files.read_json(os.path.join(run, CONFIG)).get("training"):
        raise UserError(f"--run {run}: already exists; choose another name, or continue it: {resume_command(run)}")
    raise UserError(f"--run {run}: already exists; choose another name")


def is_run(path: str) -> bool:
    """Whether a path is a run directory."""
    return os.path.isfile(os.path.join(path, CONFIG))


def resume_command(run: str, *flags: str) -> str:
    """The line that continues a training. flags: further ones, which config.json does not keep."""
    return cli.command("train.py", "--run", run, "--resume", *flags)


def _runs_in(folder):
    """'; runs in it: runs/demo/run', the end of a message about a folder that is no run, or the run that it is in.

    "" if there is neither.
    """
    names = sorted(os.listdir(folder))[:1000] if os.path.isdir(folder) else []
    found = [path for path in (os.path.join(folder, name) for name in names) if is_run(path)]
    if found:
        return f"; runs in it: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}"
    above = [os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))]
    return next((f"; do you mean {path}, which it is in?" for path in above if path and is_run(path)), "")


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """Everything needed to rebuild a model and read its output.

    preset: the network, its input and its rules.
    class_names: by label, without background.
    """

    preset: ssd_utils.SSDPreset
    class_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; `from_json` is its inverse."""
        return {"preset": self.preset.to_json(), "class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelDescription":
        """Rebuild a description from the dict of `to_json`.

        Raises ValueError if something is missing, unknown or wrong.
        """
        if wrong := mismatch(values, dict, {}) or mismatch(
            values.get("class_names"), list[str], {}, Limits(length=(1, MOST_CLASSES)), "class_names"
        ):
            raise ValueError(wrong)
        return cls(ssd_utils.SSDPreset.from_json(values.get("preset", {})), tuple(values["class_names"]))


def write_config(
    run: str, description: ModelDescription, training: TrainingSettings | None, versions: Mapping[str, str]
) -> None:
    """Write RUN/config.json. training: None for imported weights. versions: by package."""
    values = {
        "format": FORMAT,
        "model": description.to_json(),
        "training": training and training.to_json(),
        "versions": versions,
    }
    files.write_json(os.path.join(run, CONFIG), values)


def replace_training(run: str, training: TrainingSettings) -> None:
    """Replace the TrainingSettings in RUN/config.json, and nothing else."""
    path = os.path.join(run, CONFIG)
    files.write_json(path, {**files.read_json(path), "training": training.to_json()})


def read_config(run: str) -> tuple[ModelDescription, TrainingSettings | None]:
    """RUN/config.json -> (ModelDescription, TrainingSettings or None for imported weights).

    Raises UserError if it is missing, damaged or of another format.
    """
    path = os.path.join(run, CONFIG)
    if not is_run(run):
        raise UserError(f"{run}: not a run directory (no {CONFIG}); give a --run of train.py{_runs_in(run)}")
    values = files.read_json(path)
    if values.get("format") != FORMAT:
        raise UserError(f"{path}: has format {values.get('format')}, needs {FORMAT}; use the version that wrote it")
    try:
        given = values.get("training")
        if not isinstance(values.get("model"), dict):
            raise ValueError("its 'model' is missing or not an object")
        training = None if given is None else TrainingSettings.from_json(given)
        return ModelDescription.from_json(values["model"]), training
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); {RESTORE}") from None


def read_index(run: str) -> dict[str, Any]:
    """RUN/checkpoints/index.json: {"last": name, "best": name or None, "epoch-40": name, …}; {} before the first one.

    The epochs are those that --keep-every kept.

    Raises UserError if it is damaged.
    """
    path = os.path.join(run, "checkpoints", "index.json")
    if not os.path.exists(path):
        return {}
    index = files.read_json(path)
    check(path, index, dict[str, str | None], remedy=RESTORE)
    if outside := [name for name in index.values() if name and os.path.basename(name) != name]:
        raise UserError(f"{path}: names {outside[0]!r}, which is not a checkpoint of this run; {RESTORE}")
    return index


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """What a MODEL argument names: a checkpoint of a run, or an exported model.

    name: as the user wrote it.
    exported: path of an exported file, or of a SavedModel's folder; None for a run.
    format: of the exported model, a key of EXPORTED; None for a run.
    run: path of a run directory; None for an exported model.
    checkpoint: prefix for TensorFlow's checkpoint reader; None for an exported model.
    checkpoint_bytes: its size when it was read, since a training may remove it later; None before.
    description: of a run; None for an exported model, which only the programs of its format can read.
    training: what train.py trained the run with; None for others, such as imported weights.
    to_fetch: the published detector that `pretrained.fetched` is to import into `run`; None where the model is there.
    """

    name: str
    exported: str | None = None
    format: str | None = None
    run: str | None = None
    checkpoint: str | None = None
    checkpoint_bytes: int | None = None
    description: ModelDescription | None = None
    training: TrainingSettings | None = None
    to_fetch: published.PublishedDetector | None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names of a run or a published detector; None for an exported model."""
        known = self.description or self.to_fetch
        return known.class_names if known else None

    @property
    def is_imported(self) -> bool:
        """Whether it is a run of another program's weights, which train.py has not trained."""
        return self.run is not None and self.training is None

    def size(self) -> int:
        """Bytes of an exported model, or of the checkpoint of a run, which also holds its optimizer's numbers.

        Raises UserError for a checkpoint that a training has removed since.
        """
        if self.exported:
            parts = [self.exported]
            if self.format == "openvino":
                parts.append(os.path.splitext(self.exported)[0] + ".bin")
            return sum(map(folder_tree.size, parts))
        if self.checkpoint_bytes is not None:
            return self.checkpoint_bytes
        assert self.checkpoint, f"{self.name} has not been fetched"
        folder, start = os.path.split(self.checkpoint)
        try:
            return sum(
                folder_tree.size(os.path.join(folder, name)) for name in os.listdir(folder) if name.startswith(start)
            )
        except FileNotFoundError:
            raise UserError(f"{folder}: is gone; run the same command again") from None


def find_model(name: str) -> ModelSource:
    """Find the model that `RUN`, `RUN@last`, an exported file or the name of a published detector means.

    `RUN` means its best checkpoint, or its last if none was validated; `checkpoint_prefix` says what @ may name. An
    exported model is a file with one of the suffixes of EXPORTED, the folder of a SavedModel, or a folder with
    OpenVINO's two files. A file or folder of the name of a published detector comes first. Raises UserError if there
    is no such model.
    """
    if not name:
        raise UserError("MODEL is empty; give a run directory, or check the variable that it comes from")
    if exported := _find_exported(name):
        return exported
    if os.path.isfile(name):
        raise UserError(f"{name}: neither a run directory nor an exported model ({_SUFFIXES})")
    run, at, suffix = name.rpartition("@")
    which: str | None = suffix
    if not at or os.path.isdir(name):
        run, which = name, None
    if not os.path.isdir(run):
        detector = published.DETECTORS.get(run)
        if not detector:
            known = ", ".join(published.DETECTORS)
            raise UserError(
                f"{run}: no such run directory or exported model ({_SUFFIXES}), nor a published detector ({known})"
            )
        run = published.run_of(run)
        if not is_run(run) and not _pattern_in(run):
            return ModelSource(name, run=run, to_fetch=detector)
    if reason := _pattern_in(run):
        raise UserError(f"{run}: {reason}; rename the folder")
    description, training = read_config(run)
    prefix = checkpoint_prefix(run, which)
    return ModelSource(name, run=run, checkpoint=prefix, description=description, training=training)


def refuse_later_model(program: str, argv: str | Iterable[object] | None, name: str, others: Iterable[str]) -> None:
    """Raise UserError if the MODEL argument is not a model, but one of the arguments behind it is.

    program, argv: what was called, for the line that the message ends with. name: the MODEL argument; others: those
    behind it.
    """
    if _is_model(name) or not (later := next(filter(_is_model, others), None)):
        return
    words = cli.words(argv)
    words.remove(later)
    raise UserError(f"{name}: is not a model; the model comes first: {cli.command(program, later, *words)}")


def _is_model(name):
    """Whether `find_model` finds a model of that name."""
    try:
        return bool(find_model(name))
    except UserError:
        return False


def _find_exported(name):
    """The ModelSource of an exported model; None for what is none."""
    if os.path.isfile(name):
        if os.path.basename(name) == SAVED_MODEL_GRAPH:
            return ModelSource(name, exported=os.path.dirname(name) or ".", format="savedmodel")
        format = _FORMAT_OF.get(os.path.splitext(name)[1])
        return ModelSource(name, exported=name, format=format) if format else None
    if os.path.isfile(os.path.join(name, SAVED_MODEL_GRAPH)):
        return ModelSource(name, exported=name, format="savedmodel")
    if not is_run(name):
        suffix = EXPORTED["openvino"]
        found = [file for file in folder_tree.visible(name, suffix) if file.endswith(suffix)]
        if len(found) == 1 and os.path.isfile(os.path.join(name, found[0].removesuffix(suffix) + ".bin")):
            return ModelSource(name, exported=os.path.join(name, found[0]), format="openvino")
    return None


def checkpoint_prefix(run: str, which: str | None = None) -> str:
    """Prefix of a run's checkpoint.

    which: "last", "best", "epoch-40" or "12000" (epoch and optimizer step of one that --keep-every kept), or None for
    the best if there is one, else the last. Raises UserError if there is no such checkpoint.
    """
    index = read_index(run)
    while True:
        chosen = _chosen(run, index, which)
        prefix = os.path.join(run, "checkpoints", chosen, "model")
        wrong = _wrong_file(prefix)
        if not wrong:
            return prefix
        before, index = index, read_index(run)
        if index == before:  # otherwise a training has just saved another one, and removed this
            raise UserError(wrong)


def _wrong_file(prefix):
    """What keeps a checkpoint from being read, a line; None if nothing does.

    A file is missing, or is a named pipe or a device, on which TensorFlow waits for ever.
    """
    folder = os.path.dirname(prefix)
    if not os.path.isfile(prefix + ".index"):
        return f"{prefix}.index: missing, but index.json names it; restore it or use another run"
    path = folder
    try:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            files.check_regular(path)
    except OSError as error:
        return f"{path}: cannot be read ({wording.reason(error)}); {RESTORE}"
    return None


def _chosen(run, index, which):
    """The name of the checkpoint that `which` means in an index. Raises UserError."""
    if which and which.isdecimal():
        chosen = _of_step(index, int(which))
    else:
        chosen = index.get(which) if which else index.get("best") or index.get("last")
    if not chosen and which not in (None, "last", "best"):
        kept = ", ".join(f"@{name}" for name in index if name not in ("last", "best"))
        raise UserError(f"{run}@{which}: no such checkpoint; use @last or @best" + (f" or {kept}" if kept else ""))
    if not chosen:
        raise UserError(f"{run}: has no {which or 'finished'} checkpoint yet")
    return chosen


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after an optimizer step: step-00001234."""
    return f"step-{step:08d}"


def _of_step(index, step):
    """The checkpoint after an optimizer step, None if the index has none. "+" follows the name of a second save."""
    names = [name for name in index.values() if name and name.rstrip("+") == checkpoint_name(step)]
    return max(names, key=len, default=None)
