"""Export a trained model as a file for other programs, with class names, box decoding and suppression inside.

  frozen       FILE.pb      one TensorFlow graph whose weights are constants
  savedmodel   FOLDER       for TensorFlow Serving and TensorFlow 2; takes pictures of any size, or JPEG files
  onnx         FILE.onnx    for ONNX Runtime and many others; with --raw also for OpenCV
  openvino     FILE.xml     for OpenVINO, with FILE.bin beside it
  tflite       FILE.tflite  for TensorFlow Lite (LiteRT); always raw

infer.py and process_video.py read all of them. For N pictures of H × W pixels, the model's input size, the tensors
of a frozen graph are as below; other formats have the same inputs and outputs under the last part of the name:

  image_input:0         uint8 [N,H,W,3], RGB: the input, already resized
  detections/boxes:0    float32 [N,K,4], (xmin, ymin, xmax, ymax) as fractions of the picture
  detections/scores:0   float32 [N,K], best first
  detections/classes:0  int32 [N,K], indices into the class names
  detections/count:0    int32 [N], how many of the K rows are detections
  result/result:0       float32 [N,anchors,1+classes+4], the network's scores (background first) and box offsets
  metadata/json:0       a string: class names, preset, threshold (thresholds, where classes differ), precision and use

With --precision int8 (openvino and tflite) the network computes in 8-bit integers. The mAP before and after is measured
on a split. If the file loses more than --most-lost points, the layers that 8 bits disturb most stay in float: an eighth
of all layers, then a quarter, then half.

With --raw the outputs are logits, float32 [N,anchors,1+classes], and offsets, float32 [N,anchors,4]; ONNX and OpenVINO
then take float32 [N,3,H,W] of 0..255. A file is run on pictures and compared with the run before it gets its name,
unless --no-check is given or --outputs leaves out what that needs.
"""

import system.environment  # noqa: F401

import argparse
import contextlib
import functools
import gc
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import average_precision
import config
import pretrained
import sources
import transforms
from exports import comparison, file_metadata, formats
from exports.opened import DETECTION_OUTPUTS, RESULT
from media import images
from results.data_set import OTHER_CLASSES, DataSet, scored_samples, spread
from scoring import score_threshold
from structures import Detections, UserError
from system import atomic, cli, flag_rules, folder_tree, tensorflow_loading, write_errors
from system.argument_parser import ArgumentParser
from system.argument_types import (
    existing_folder,
    existing_path,
    non_negative_float,
    output_file,
    output_folder,
    positive_int,
)
from system.wording import per_class, plural
from toy_road import scenes

CALIBRATION_PICTURES = 32  # most that are taken of --calibration-split
DEFAULT_THRESHOLD = 0.01
CHECKED_PICTURES = 8  # most that are taken of --check-data
DRAWN_PICTURES = 4
OUTPUTS = (*DETECTION_OUTPUTS, RESULT)
NEEDED_BY_INT8 = ("data", "calibration_split", "split")
INT8_DEFAULTS = {"source": "auto", "limit": None, "other_classes": "error", "most_lost": 0.5}  # of flags for int8 alone


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    source = config.find_model(flags.model)
    if source.exported:
        raise UserError(f"{flags.model}: is already an exported model; give the run directory")
    flags.threshold = score_threshold.resolve(flags.threshold, source, DEFAULT_THRESHOLD)
    paths = _paths(flags)
    _check_packages(flags)
    pictures = _pictures(flags)
    source = pretrained.fetched(source)
    tensorflow_loading.import_tensorflow()
    import detector  # imported here, since it loads TensorFlow: flags and paths are checked first

    source, weights = detector.read_current(source)
    size = source.size()

    @functools.cache
    def graph_in(precision):
        return detector.build_model_graph(source, precision, flags.threshold, True, flags.batch, weights)

    if flags.precision == "int8":
        assert source.description, f"{source.name} is not a run"
        scores = _Scores(flags, source.description.class_names)
        with detector.of_run(source, weights, precision="float32", threshold=flags.threshold) as run:
            before = scores.of(run)
        if not before:
            raise UserError(
                f"--split {flags.split}: the run finds none of its objects (mAP 0), so what int8 loses cannot be "
                "measured; give another split, raise --limit or lower --threshold"
            )
        for name, path in paths.items():
            gc.collect()  # graphs hold all weights, and are in cycles that Python itself would free much later
            _export_int8(name, path, graph_in("float32"), flags, scores, before, size)
        return
    wanted: list[Detections] = []
    if pictures:
        with detector.of_run(source, weights, precision="float32", threshold=flags.threshold) as run:
            wanted = run.detect(pictures)
    for name, path in paths.items():
        graph = graph_in(flags.precision if formats.FORMATS[name].computes_in_graph else "float32")
        _export(name, path, graph, flags, pictures, wanted, size)
        gc.collect()  # as above


def _export(name, path, graph, flags, pictures, wanted, checkpoint_bytes):
    """Write one format, compare it with the run's detections, and give it its name. Raises UserError if they differ."""
    import detector
    from exports import graphs, model_files

    values = _metadata(name, detector.metadata(graph), flags)
    if flags.outputs != OUTPUTS:
        graph = graphs.with_outputs(graph, flags.outputs)
    with _pending(path) as temporary:
        model_files.write(name, temporary, graph, values)
        size = folder_tree.size(os.path.dirname(temporary))
        found = _compare(temporary, path, values, flags, pictures, wanted) if pictures else "not checked"
    _report(path, size, values, checkpoint_bytes)
    print(f"{path}: {found}")


def _report(path, size, values, checkpoint_bytes):
    """Print what a file is. size: in bytes, of the file."""
    above = per_class(file_metadata.threshold_of(values), tuple(values["class_names"]))
    what = "logits and offsets" if values["outputs"] == file_metadata.RAW else f"scores above {above}"
    print(
        f"{path}: {size / 1e6:.1f} MB, {values['precision']}, {plural(len(values['class_names']), 'class')}, {what}; "
        f"checkpoint {checkpoint_bytes / 1e6:.1f} MB"
    )


def _export_int8(name, path, graph, flags, scores, before, checkpoint_bytes):
    """Write one format in int8, with the layers in float that its mAP needs. before: the mAP of the run in float32.

    graph: in float32. scores: _Scores. Raises UserError if too much is lost.
    """
    import detector
    from exports import int8

    values = _metadata(name, detector.metadata(graph), flags)
    preset = config.ModelDescription.from_json(values).preset
    calibration = scores.calibration(preset)
    writer = int8.Writer(name, graph, values, calibration)
    with _pending(path) as temporary:

        def lost(kept):
            nonlocal values
            values = writer.write(temporary, kept)
            with detector.load(temporary, threshold=flags.threshold) as loaded:
                return before - scores.of(loaded)

        def noise():
            return int8.noise_of_layers(graph, calibration)

        trial = int8.choose(noise, lost, flags.most_lost, lambda line: print(f"{path}: {line}", flush=True))
        size = folder_tree.size(os.path.dirname(temporary))
    _report(path, size, values, checkpoint_bytes)
    kept = f"in float: {', '.join(trial.kept)}" if trial.kept else "all layers in int8"
    print(
        f"{path}: mAP {before:.2f} in float32, {before - trial.lost:.2f} in int8 ({scores}), {trial.lost:.2f} points "
        f"lost; {kept}"
    )


class _Scores:
    """Measures mAP on --split, and has the pictures of --calibration-split."""

    def __init__(self, flags: argparse.Namespace, class_names: Sequence[str]):
        """Raises UserError if there is nothing to score."""
        self._flags, self._class_names = flags, class_names
        data_set = DataSet(flags.data, flags.split, flags.source, other_classes=flags.other_classes)
        self._samples = scored_samples(data_set, flags.split, class_names, flags.limit)

    def __str__(self) -> str:
        return f"by VOC2010's rules on {plural(len(self._samples), 'picture')} of {self._flags.split}"

    def of(self, loaded: Any) -> float:
        """The mAP of a detector.Detector, in points of 0 to 100. Raises UserError if a picture cannot be read."""
        found = {}
        paths = ((sample.image_path, sample.exif) for sample in self._samples.values())
        with contextlib.closing(loaded.detect_files(paths, keep=lambda _: False)) as stream:
            for key, (_, read, detections) in zip(self._samples, stream, strict=True):
                if detections is None:
                    raise UserError(f"--split {self._flags.split}: {read}; remove the picture")
                found[key] = detections
        return 100 * average_precision.evaluate(self._samples, found, self._class_names)["area"]["mean"]

    def calibration(self, preset: Any) -> np.ndarray:
        """Pictures of --calibration-split, spread over it: uint8 [N,H,W,3], prepared for a preset."""
        entries = DataSet(self._flags.data, self._flags.calibration_split, self._flags.source).entries
        chosen = spread(entries, CALIBRATION_PICTURES)
        try:
            read = [images.read(entry.image_path, gray16=preset.gray16) for entry in chosen]
        except images.ImageError as error:
            raise UserError(
                f"--calibration-split {self._flags.calibration_split}: {error}; remove the picture"
            ) from None
        return np.stack([transforms.warp(picture, preset.input_wh) for picture in read])


def _metadata(name, values, flags):
    """The metadata of a file from that of its graph."""
    form = formats.FORMATS[name]
    changes: dict[str, Any] = {}
    if not form.computes_in_graph:
        changes["precision"] = flags.precision
    if flags.raw or not form.has_detections:
        changes.update(outputs=file_metadata.RAW, layout=form.raw_layout)
    if flags.license:
        changes["license"] = flags.license
    return {**values, **changes}


def _compare(temporary, path, values, flags, pictures, wanted):
    """Run a file on the pictures -> the Difference. Raises UserError if it is beyond the tolerance."""
    import detector

    tolerance = formats.TOLERANCES[values["precision"]]
    with detector.load(temporary, threshold=flags.threshold, fastest=False) as loaded:
        found = loaded.detect(pictures)
        keep, nms_iou = loaded.preset.keep, loaded.preset.nms_iou
    sizes = [picture.shape[1::-1] for picture in pictures]
    difference = comparison.compare(wanted, found, sizes, flags.threshold, keep, nms_iou, tolerance)
    if not difference.is_within(tolerance):
        raise UserError(
            f"{path}: not written, since its detections are not those of {flags.model}: {difference} (allowed: "
            f"{tolerance.score:g}, {tolerance.box:g}, {tolerance.unmatched:.0%} unmatched); choose another --precision "
            "or --format, or look at it with --no-check"
        )
    return difference


@contextlib.contextmanager
def _pending(path: str) -> Iterator[str]:
    """Context manager: the place to write to under the name of `path`, moved there at the end unless that fails."""
    kept = "an earlier file stays as it is"
    try:
        with atomic.temporary_folder(path) as folder:
            yield os.path.join(folder, os.path.basename(path))
            atomic.move_all(folder, os.path.dirname(path))
    except write_errors.UnwritableFile as error:  # which names the file in the temporary folder
        raise write_errors.unwritable(path, error, kept) from None
    except UserError:
        raise
    except Exception as error:  # of the libraries that write the formats
        if not write_errors.is_about_writing(error):
            raise
        raise write_errors.unwritable(path, error, kept) from None


def _pictures(flags):
    """The pictures to check with, uint8 RGB; none with --no-check, or where outputs are missing that a check needs."""
    if flags.no_check or flags.outputs != OUTPUTS:
        return []
    if not flags.check_data:
        return [scenes.generate_scene(0, index, "test")[0] for index in range(DRAWN_PICTURES)]
    names = [name for name in folder_tree.visible(flags.check_data) if name.lower().endswith(images.SUFFIXES)]
    if not names:
        raise UserError(f"--check-data {flags.check_data}: no pictures in it ({', '.join(images.SUFFIXES)})")
    chosen = spread(names, CHECKED_PICTURES)
    try:
        return [images.read(os.path.join(flags.check_data, name)) for name in chosen]
    except images.ImageError as error:
        raise UserError(f"--check-data {flags.check_data}: {error}; remove the picture") from None


def _paths(flags):
    """{format: path to write}. Raises UserError if one cannot be written, or does not have the format's suffix."""
    if len(flags.format) == 1:
        (name,) = flags.format
        suffix = config.EXPORTED[name]
        if name != "savedmodel" and not flags.output.endswith(suffix):
            other = [one for one, end in config.EXPORTED.items() if flags.output.endswith(end)]
            instead = f"; or give --format {other[0]}" if other else ""
            raise UserError(
                f"--output {flags.output}: the name must end in {suffix}, by which the other programs recognize it"
                + instead
            )
        return {name: _path(name, flags.output.rstrip(os.sep))}
    suffix = os.path.splitext(flags.output)[1]
    if suffix in config.EXPORTED.values():
        raise UserError(f"--output {flags.output}: give a name without {suffix}, since each format adds its own")
    return {name: _path(name, flags.output + config.EXPORTED[name]) for name in flags.format}


def _path(name, path):
    """The path of a format's file, after a look at what is there and beside it. Raises UserError."""
    try:
        (output_folder if name == "savedmodel" else output_file)(path)
        if name == "openvino":
            output_file(os.path.splitext(path)[0] + ".bin")
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--output {error}") from None
    is_used = os.path.isdir(path) and os.listdir(path)
    if is_used and not os.path.isfile(os.path.join(path, config.SAVED_MODEL_GRAPH)):
        raise UserError(f"--output {path}: has other files in it; choose another name")
    return path


def _check_packages(flags):
    """Raise UserError if a package that writes a format, or runs it for the check, is missing."""
    is_int8 = flags.precision == "int8"
    for name in flags.format:
        form = formats.FORMATS[name]
        needed = (*form.to_write, *(form.to_write_int8 if is_int8 else ()))
        formats.require((*needed, *(() if flags.no_check else form.to_run)), f"--format {name}")


def _outputs(text):
    names = tuple(part.strip() for part in text.split(","))
    if wrong := [name for name in names if name not in OUTPUTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(OUTPUTS)}")
    return tuple(name for name in OUTPUTS if name in names)


def _parse(argv):
    parser = ArgumentParser(
        description=__doc__,
        epilog="examples:\n"
        "  python export_model.py runs/street --output street.pb --precision bfloat16\n"
        "  python export_model.py runs/street --format onnx,tflite --output street   # street.onnx and street.tflite",
    )
    titles = "what it reads", "what it writes", "what the file does"
    reads, writes, does = (parser.add_argument_group(title).add_argument for title in titles)
    reads(
        "model",
        metavar="MODEL",
        help="a run directory, for its best checkpoint; RUN@last for its last, RUN@epoch-40 for a kept one; or "
        "ssd300-coco",
    )
    writes(
        "--output",
        required=True,
        metavar="FILE",
        help="the file to write, with the suffix above, or the SavedModel's folder; for several formats a name "
        "without suffix, to which each adds its own (.pb, .savedmodel, .onnx, .xml and .bin, .tflite)",
    )
    writes(
        "--format",
        type=_format_names,
        default=("frozen",),
        metavar="NAMES",
        help=f"one or several of {', '.join(formats.FORMATS)}, separated by commas; all but frozen, savedmodel and "
        f"tflite need the packages of {formats.REQUIREMENTS} (default: frozen)",
    )
    _content_flags(does)
    _check_flags(parser.add_argument_group("how the file is checked").add_argument)
    _int8_flags(parser.add_argument_group("how --precision int8 is measured"))
    flags = parser.parse_args(argv)
    for name in flags.format:
        _check_format(name, flags)
    _check_int8(flags)
    if flags.check_data and (flags.no_check or flags.outputs != OUTPUTS):
        why = "--no-check" if flags.no_check else f"--outputs {','.join(flags.outputs)}"
        raise UserError(f"--check-data: with {why} nothing is checked; leave one of the two out")
    return flags


def _int8_flags(group):
    add = group.add_argument
    add(
        "--data",
        type=existing_path,
        metavar="DATA",
        help="the data set, in any format that train.py reads (required with int8)",
    )
    add("--source", type=sources.source_name, metavar="FORMAT", help=sources.SOURCE_HELP)
    add(
        "--calibration-split",
        metavar="SPLIT",
        help="its split for training: the ranges of all values are taken from up to "
        f"{CALIBRATION_PICTURES} of its pictures, without their boxes (required with int8)",
    )
    add("--split", metavar="SPLIT", help="its split that is scored before and after (required with int8)")
    add(
        "--limit",
        type=positive_int,
        metavar="N",
        help="score at most N pictures, spread over --split (default: all)",
    )
    add("--other-classes", **{**OTHER_CLASSES, "default": None})
    add(
        "--most-lost",
        type=non_negative_float,
        metavar="POINTS",
        help="largest loss of mAP, in points; layers stay in float until the loss is this small "
        f"(default: {INT8_DEFAULTS['most_lost']})",
    )


def _check_int8(flags):
    """Raise UserError if the flags for int8 are incomplete, or given without it; set those that are absent."""
    is_int8 = flags.precision == "int8"
    if not is_int8:
        flag_rules.refuse_given(flags, (*NEEDED_BY_INT8, *INT8_DEFAULTS), "for --precision int8 only; leave it out")
    elif missing := [name for name in NEEDED_BY_INT8 if not getattr(flags, name)]:
        flag = f"--{missing[0].replace('_', '-')}"
        raise UserError(f"--precision int8: give --data, --calibration-split and --split; {flag} is missing")
    flag_rules.set_absent(flags, INT8_DEFAULTS)
    if is_int8 and (flags.no_check or flags.check_data):
        raise UserError("--no-check and --check-data: int8 is checked by its mAP on --split; leave them out")


def _content_flags(add):
    add(
        "--precision",
        choices=file_metadata.PRECISIONS,
        default="float32",
        help="data type of the computation and the stored weights: float16 and bfloat16 halve the file, int8 "
        "quarters it, auto takes the type that is fastest on this machine (default: float32, which runs everywhere)",
    )
    add(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"the file reports detections that score above X: {score_threshold.HELP}. Programs that read the file can "
        "raise this but not lower it. With --raw and tflite the outputs stay whole: X is stored in the metadata, and "
        f"detections above it are compared with the run's (default: {DEFAULT_THRESHOLD})",
    )
    add(
        "--batch",
        type=_batch,
        metavar="N|free",
        help="pictures that the file takes at a time (default: free, any number)",
    )
    add("--raw", action="store_true", help="write logits and offsets instead of detections; tflite always does")
    add(
        "--outputs",
        type=_outputs,
        default=OUTPUTS,
        metavar="LIST",
        help=f"which outputs a frozen graph has, of {', '.join(OUTPUTS)}; what only the others need is left out, but "
        "the programs here need all of them (default: all)",
    )
    add("--license", metavar="TEXT", help="license to name in the file's metadata")


def _check_flags(add):
    add(
        "--check-data",
        type=existing_folder,
        metavar="DIR",
        help=f"a folder of pictures, of which up to {CHECKED_PICTURES} are used to compare the file with the run "
        f"(default: {DRAWN_PICTURES} drawn pictures of the toy road)",
    )
    add("--no-check", action="store_true", help="write the file without running it")


def _check_format(name, flags):
    """Raise UserError if a format does not have what the flags ask for."""
    form = formats.FORMATS[name]
    if flags.precision not in form.precisions:
        raise UserError(f"--precision {flags.precision}: {name} has {', '.join(form.precisions)}")
    if flags.outputs != OUTPUTS and name != "frozen":
        raise UserError(
            f"--outputs: is for --format frozen; {name} has either detections or, with --raw, the raw outputs"
        )
    if flags.raw and not form.has_raw:
        raise UserError("--raw: a frozen graph has the raw outputs beside its detections (result/…); leave --raw out")


def _format_names(text):
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in formats.FORMATS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(formats.FORMATS)}")
    return names


def _batch(text):
    if text == "free":
        return None
    batch = positive_int(text)
    if batch > file_metadata.LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r} is above {file_metadata.LARGEST_BATCH}, the most that a file takes")
    return batch


if __name__ == "__main__":
    cli.run(main)
