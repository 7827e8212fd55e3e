"""Measure models on this machine: the cost and the accuracy of each, one per line.

  parameters     numbers in the network
  GFLOP          billions of operations for one picture, by the plain sum over its convolutions
  MB             of the file, or of a run's checkpoint, which also holds what its optimizer needs to resume
  load s         from opening the model to a first picture's detections; TensorFlow itself is loaded before
  images/s ×8    pictures a second in batches of 8, from resized pictures to detections
  p95 ms ×1      milliseconds within which 95 of 100 such calls with one picture ended; p50 is the median
  memory MB      the most that the process held, before it scores
  AP             mean over the classes at IoU 0.5, as average_precision.py scores the same split

Each model runs in a process of its own, one after the other. Reading, resizing and drawing pictures are not timed: they
take their share of time in infer.py and process_video.py, which do them while the network computes.
Without --data only the speed is measured, on drawn pictures of the toy road. Run nothing else meanwhile; a warning
tells how many cores other programs used.
"""

import system.environment  # noqa: F401

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import tqdm

import average_precision
import config
import pretrained
import sources
from exports import file_probe, formats
from measuring import comparison_table, network_cost, own_process, timing
from media import images, score_plots
from results.data_set import MISSING_ANNOTATIONS, OTHER_CLASSES, VALID_OF, DataSet, check_flags, spread
from scoring import score_threshold
from settings.computation import PRECISIONS
from structures import Detections, UserError
from system import cli, files, flag_rules, load, stopping, streams
from system.argument_parser import ArgumentParser
from system.argument_types import existing_path, fraction, output_file, output_json, positive_int
from system.wording import plural
from toy_road import scenes

THRESHOLD = 0.01
BATCHES = (1, 8)
IMAGES = 200  # that are timed at each size of batch: two calls are then above the 99th percentile
DRAWN, MOST_FRAMES = 8, 32  # different pictures that are timed: drawn ones, and of a data set
# Of flags that only a data set gives a meaning
DATA_DEFAULTS = {"source": "auto", "other_classes": "error", "missing_annotations": "error"}
BUSY = 0.25  # cores that others may keep busy before it is said


class Split(NamedTuple):
    """The pictures to score on.

    data: the DataSet; ids: of these pictures; files: (path, whether to apply EXIF orientation) of each.
    """

    data: DataSet
    ids: list[str]
    files: list[tuple[str, bool]]

    def samples(self, class_names: Sequence[str]) -> dict:
        """{id: Sample} with labels of these classes. Raises UserError, as where other classes are annotated."""
        samples = self.data.samples(class_names)
        return {key: samples[key] for key in self.ids}


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    models = [config.find_model(name) for name in flags.models]
    _check_outputs(flags, models)
    for model in models:
        _check_file(model)
    split = _split(flags) if flags.data else None
    for names in (model.class_names for model in models):
        if split and names:  # other models say theirs when they are opened
            split.samples(names)
    frames = _frames(split)
    with stopping.StopRequest() as stop:
        models = [pretrained.fetched(model, stop.raise_if_requested) for model in models]
        stop.raise_if_requested()
    lines = comparison_table.Lines(flags.models, flags.batch_sizes, bool(split))
    print(lines.head(), flush=True)
    measured: list[dict[str, Any]] = []
    for model in models:
        measured.append(_measure(model, flags, split, frames))
        print(lines.row(measured[-1]), flush=True)
        _write(flags, split, measured)
    _report(flags, split, measured)


def _check_file(model):
    """Raise UserError for a file that cannot be run. It is tried here, and not while loading is timed."""
    if model.format:
        formats.require(formats.FORMATS[model.format].to_run, model.name)
        if model.format in file_probe.ENGINES:
            file_probe.check(model.format, model.exported)


def _measure(model, flags, split, frames):
    """The dict for --json of a model."""
    settings = {"precision": flags.precision, "threshold": flags.threshold}
    paths = split.files if split else []
    task = timing.Task(
        model.name, **settings, batches=flags.batch_sizes, images=flags.images, frames=frames, files=paths
    )
    found: dict[str, Any] = {}
    bar = tqdm.tqdm(total=timing.steps(task), desc=model.name, unit="img", dynamic_ncols=True, leave=False)
    with bar, contextlib.closing(own_process.messages(task)) as messages:  # an error here ends the process too
        for kind, content in messages:
            if kind == "progress":
                bar.update(content)
            else:
                found |= content if isinstance(content, dict) else {kind: content}
            if kind == "loaded":
                now = {key: content[key] for key in ("checkpoint", "checkpoint_bytes")}  # a training may save another
                model = dataclasses.replace(model, **now)
                if split:
                    split.samples(content["class_names"])  # fails now, and not after minutes
    names, preset = found["class_names"], found["preset"]
    return {
        "model": model.name,
        "format": model.format or "run",
        "checkpoint": score_threshold.checkpoint_of(model),
        "precision": found["precision"],
        "input": "{}x{}".format(*preset.input_wh),
        "classes": len(names),
        "parameters": network_cost.parameters(preset, len(names)),
        "gflop": network_cost.gflop(preset, len(names)),
        "file_mb": model.size() / 1e6,
        "load_seconds": found["load_seconds"],
        "batches": {str(batch): values for batch, values in found["batches"].items()},
        **{key: found[key] for key in ("peak_mb", "gpu_peak_mb", "others_busy", "stolen")},
        "map": _score(model, split, names, found["detected"]) if split else None,
    }


def _score(model, split, class_names, detected):
    """{"voc07", "area"}: mean AP. detected: for each picture of the split Detections, or why it cannot be read."""
    pairs = dict(zip(split.ids, detected, strict=True))
    detections = {key: one for key, one in pairs.items() if isinstance(one, Detections)}
    if failed := [key for key in pairs if key not in detections]:
        cli.warn(
            f"{model.name}: {plural(len(failed), 'image')} that could not be read, counted as without detections: "
            f"{failed[0]} ({pairs[failed[0]]})"
        )
    report = average_precision.evaluate(split.samples(class_names), detections, class_names)
    return {metric: report[metric]["mean"] for metric in ("voc07", "area")}


def _split(flags):
    """The Split that the flags mean. Raises UserError."""
    loading = {"other_classes": flags.other_classes, "missing_annotations": flags.missing_annotations}
    loading["progress"] = streams.is_terminal(sys.stderr)
    data = DataSet(flags.data, flags.split, flags.source, flags.valid_of, **loading)
    pairs = list(zip(data.entries, data.exif, strict=True))
    chosen = spread(pairs, flags.limit)
    return Split(data, [one.id for one, _ in chosen], [(one.image_path, exif) for one, exif in chosen])


def _frames(split):
    """Pictures to time, uint8 RGB [H,W,3]. Raises UserError if none of the split can be read."""
    if not split:
        return [scenes.generate_scene(0, index, "test")[0] for index in range(DRAWN)]
    frames, error = [], None
    for path, exif in spread(split.files, MOST_FRAMES):
        try:
            frames.append(images.read(path, exif=exif))
        except images.ImageError as unreadable:  # which is said when it is scored
            error = unreadable
    if not frames:
        raise UserError(f"--split {split.data.splits}: none of its pictures can be read ({error})")
    return frames


def _write(flags, split, measured):
    """Write what is known so far: a later model may fail, or be stopped."""
    data = {"data": os.path.abspath(flags.data), "split": flags.split, "pictures": len(split.ids)} if split else None
    if flags.json:
        report = {"machine": load.machine(), "data": data, "threshold": flags.threshold, "models": measured}
        files.write_json(flags.json, report)
    if flags.csv:
        files.write(flags.csv, comparison_table.to_csv(measured))
    if flags.plot:
        shown = [one for one in measured if one["map"]["area"] is not None]
        title = f"{plural(len(split.ids), 'picture')} of {flags.split}, on {load.machine()['cpu']}"
        score_plots.plot_speed(flags.plot, title, [(one["model"], _rates(one), one["map"]["area"]) for one in shown])


def _rates(one):
    """{size of batch: images/s} of a model's dict."""
    return {int(batch): values["images_per_second"] for batch, values in one["batches"].items() if values}


def _report(flags, split, measured):
    """Print where it was measured, and what makes the figures doubtful."""
    machine = load.machine()
    pictures = f"{plural(len(split.ids), 'picture')} of {flags.split}" if split else "drawn pictures of the toy road"
    print(f"on {pictures}, {machine['cpu']}, {plural(machine['cores'], 'core')}")
    for one in measured:
        if left_out := [batch for batch, values in one["batches"].items() if values is None]:
            cli.warn(f"{one['model']}: takes no batch of {' or '.join(left_out)}; export it again with --batch free")
    if (busy := max(one["others_busy"] for one in measured)) > BUSY:
        cli.warn(
            f"other programs kept up to {busy:.1f} cores busy meanwhile, so the times mean little; end them and "
            "measure again"
        )


def _check_outputs(flags, models):
    """Raise UserError for outputs that would replace a model or each other, or that need what is not given."""
    taken = {os.path.realpath(model.exported): "MODEL" for model in models if model.exported}
    for flag in ("json", "csv", "plot"):
        if path := getattr(flags, flag):
            if other := taken.get(os.path.realpath(path)):
                raise UserError(f"--{flag} {path}: is the file of {other}; choose another name")
            taken[os.path.realpath(path)] = f"--{flag}"
    if flags.plot and not flags.data:
        raise UserError("--plot: shows accuracy against speed; give --data and --split too")
    if flags.plot and not flags.plot.lower().endswith(".png"):
        raise UserError(f"--plot {flags.plot}: is written as PNG; give a name that ends in .png")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__,
        epilog="examples:\n"
        "  python benchmark_model.py runs/mine\n"
        "  python benchmark_model.py runs/mine mine.onnx mine.tflite --data mydata --split val --plot speed.png",
    )
    reads = parser.add_argument_group("what it reads")
    reads.add_argument("models", metavar="MODEL", nargs="+", help=config.MODEL_HELP)
    _data_flags(parser.add_argument_group("the data set that it scores on (default: none)"))
    _speed_flags(parser.add_argument_group("how it measures"))
    _output_flags(parser.add_argument_group("what it writes, after each model (the figures are also printed)"))
    flags = parser.parse_args(argv)
    check_flags(flags, choosing=("valid_of", "limit"), reading=DATA_DEFAULTS)
    flag_rules.set_absent(flags, DATA_DEFAULTS)
    return flags


def _data_flags(group):
    group.add_argument(
        "--data", type=existing_path, metavar="DATA", help="the data set, in any format that train.py reads"
    )
    group.add_argument("--source", type=sources.source_name, metavar="FORMAT", help=sources.SOURCE_HELP)
    group.add_argument("--split", metavar="SPLIT", help="its split, such as 2007:test, or val")
    group.add_argument("--valid-of", **VALID_OF)
    group.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="use at most N pictures, spread over the split (default: all)",
    )
    group.add_argument("--other-classes", **{**OTHER_CLASSES, "default": None})
    group.add_argument("--missing-annotations", **{**MISSING_ANNOTATIONS, "default": None})


def _speed_flags(group):
    group.add_argument(
        "--batch-sizes",
        type=_batches,
        default=BATCHES,
        metavar="N,…",
        help="pictures at a time, rising; latency is shown for the first, and for all in the files "
        f"(default: {','.join(map(str, BATCHES))})",
    )
    group.add_argument(
        "--images",
        type=positive_int,
        default=IMAGES,
        metavar="N",
        help=f"pictures to time at each batch size, after {timing.WARM_UP} warm-up calls",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="data type of the network, for speed and accuracy (default: auto, chosen for this machine; an exported "
        "model has its own)",
    )
    group.add_argument(
        "--threshold",
        type=fraction,
        default=THRESHOLD,
        metavar="X",
        help="keep detections that score above X; AP needs low scores, and an exported model may have a higher "
        "threshold",
    )


def _batches(text: str) -> tuple[int, ...]:
    """An argument type: sizes of batches separated by commas, rising."""
    sizes = tuple(positive_int(part) for part in text.split(","))
    if list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(f"{text!r} is not in rising order, each size once")
    return sizes


def _output_flags(group):
    group.add_argument("--json", type=output_json, metavar="FILE", help="write all figures to this file")
    group.add_argument(
        "--csv", type=output_file, metavar="FILE", help="write all figures to a table, one row per model"
    )
    group.add_argument(
        "--plot", type=output_file, metavar="FILE.png", help="draw mean AP against images a second; needs --data"
    )


if __name__ == "__main__":
    cli.run(main)
