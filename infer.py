"""Detect objects in pictures: single files, folders, or a split of a data set.

Writes DIR/detections.json and, unless --no-draw, a copy of every picture with its boxes under DIR/images.
Pictures that cannot be read are skipped, with a message, and listed under "errors" in the JSON.
"""

import system.environment  # noqa: F401

import argparse
import collections
import contextlib
import dataclasses
import functools
import glob
import hashlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm

import config
import pretrained
import sources
import ssd_utils
from exports import file_metadata
from formats import class_lists
from many import coco_results, program, workers
from many.inputs import Entry
from media import frame_folder, images, visualization
from results import csv_table, detection_files, result_folder
from results.data_set import VALID_OF, DataSet, check_flags
from results.result_files import Origin, Source, Writer
from scoring import score_threshold
from structures import Detections, UserError
from system import (
    cli,
    file_names,
    files,
    flag_rules,
    folder_tree,
    stages,
    stopping,
    tensorflow_loading,
    wording,
    worker_processes,
)
from system.argument_parser import ArgumentParser
from system.argument_types import fraction, positive_int

FEW = 5  # boxes a picture that are easy to look at
MOST_DRAWING = 8  # threads; each holds a picture of up to hundreds of megabytes
TEXTS = (".txt", ".csv", ".json", ".xml", ".yaml", ".yml")
SHARD = 1000  # pictures of a file of --shards
SPLIT_FLOAT32 = " and, with --split, for a run that train.py validated in float32, so that scores agree"  # for --help


class Picture(NamedTuple):
    """A picture to detect in.

    path: of the file.
    name: in the output, relative to its folders.
    exif: whether EXIF orientation is applied; where a data set has its boxes on pictures as stored it is not.
    """

    path: str
    name: str
    exif: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    config.refuse_later_model("infer.py", argv, flags.model, flags.images)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    low = flags.split or set(flags.formats) - {csv_table.FLAG}  # a table is for people
    default = score_threshold.CURVE if low else visualization.SHOW_THRESHOLD
    threshold = score_threshold.resolve(flags.threshold, model, default)
    data = _data_set(flags)
    pictures = _split_files(data) if data else _find_files(flags)
    if flags.shards:
        _detect_in_shards(flags, model, threshold, pictures)
        return
    _refuse_equal_names(flags, pictures, data)
    # Labels of a data set need no entry: they are in --data, or in `labels` beside `images`, which holds the pictures
    inputs = [model.exported or model.run, *[flags.data] * bool(flags.split), *(picture.path for picture in pictures)]
    old = result_folder.check(flags.output, flags.overwrite, inputs)
    _refuse_run_and_data_set(flags.output)
    with stopping.StopRequest() as stop:
        model = pretrained.fetched(model, stop.raise_if_requested)
        tensorflow_loading.import_tensorflow()
        stop.raise_if_requested()
        import detector  # all flags and paths are checked before TensorFlow loads

        validated = model.training and model.training.precision  # by train.py
        in_float32 = model.is_imported or (flags.split and validated == "float32")
        precision = flags.precision or ("float32" if in_float32 else "auto")
        settings = {"precision": precision, "threshold": threshold, "batch_size": flags.batch_size}
        settings |= program.tiling(flags)
        with detector.load(flags.model, **settings, keep_predictions=flags.dump_predictions) as loaded:
            flags.threshold = file_metadata.lowest_threshold(loaded.threshold)
            wanted = class_lists.find_labels(flags.classes, loaded.class_names)
            _warn_of_levels(pictures, loaded.preset)
            stop.raise_if_requested()  # while the old results still exist
            _detect_all(flags, model, loaded, pictures, data, _Choice(loaded.class_names, wanted), stop, old)
        if flags.split and validated not in (None, loaded.precision):
            print(
                f"train.py validated this run in {validated}, which gives slightly different scores; "
                f"--precision {validated} detects in it too"
            )


def _warn_of_levels(pictures, preset):
    """Warn if 16-bit pictures among the first ones are almost black to a model with this preset."""
    if preset.gray16 == images.FULL and (note := images.note_on_levels(one.path for one in pictures)):
        cli.warn(f"{note}; a model that is trained with --gray16 stretch, or LOW-HIGH, sees them better")


def _detect_in_shards(flags, model, threshold, pictures):
    """Detect with several processes, and write JSON Lines in the folder of a job; goes on with one that was stopped."""
    with stopping.StopRequest() as stop:
        opener, facts = program.plan(flags, pretrained.fetched(model, stop.raise_if_requested), threshold)
        paths = "\n".join(one.path for one in pictures).encode("utf-8", "surrogateescape")
        facts["pictures"] = hashlib.sha256(paths).hexdigest()
        entries = (Entry(one.name, os.path.abspath(one.path)) for one in pictures)
        gpus, count = worker_processes.visible_gpus(), flags.shards

        def run(numbers):
            return workers.run(
                flags.output, numbers, opener, count, stop, lambda place: workers.on_device(place, count, gpus)
            )

        program.run(flags.output, "jsonl", facts, lambda: entries, SHARD, run, bool(flags.formats), stop)


class _Choice:
    """The classes to look for. Results name no others: a class that nobody looked for was not missed.

    labels: their labels in the model, rising.
    class_names: their names, in the same order.
    """

    def __init__(self, class_names: Sequence[str], wanted: set[int] | None):
        """class_names: the model's; wanted: labels of the model, None for all."""
        self.labels = sorted(range(len(class_names)) if wanted is None else wanted)
        self.class_names = tuple(class_names[label] for label in self.labels)

    def take(self, detections: Detections) -> Detections:
        """The model's Detections that are of these classes, with labels that index `class_names`."""
        taken = detections.where(np.isin(detections.labels, self.labels))
        return dataclasses.replace(taken, labels=np.searchsorted(self.labels, taken.labels).astype(np.int32))


def _detect_all(flags, model, detector, pictures, data, choice, stop, old):
    """Run the detector over Pictures, of a DataSet or None, and write the results, in place of old ones."""
    start = time.monotonic()
    source = _source(flags, model, detector)
    with _open_output(flags, source, data, choice, detector, len(pictures)) as output:
        result_folder.remove(flags.output, old)  # all checks have passed
        keep = flags.draw or flags.crops
        stream = detector.detect_files(((one.path, one.exif) for one in pictures), keep=lambda index: keep)
        with contextlib.closing(stream):
            bar = tqdm.tqdm(zip(pictures, stream, strict=True), total=len(pictures), unit="img", dynamic_ncols=True)
            for (_, name, _), (_, read, detections) in bar:
                if detections is None:
                    output.error(name, read)
                else:
                    output.add(name, read, choice.take(detections))
                if stop.requested:
                    bar.close()
                    raise KeyboardInterrupt
    output.require_one()
    output.report(time.monotonic() - start, detector.precision)


def _source(flags, model, detector):
    """Where the detections of this call come from."""
    data = os.path.abspath(flags.data) if flags.split else None
    read = dataclasses.replace(model, checkpoint=detector.checkpoint)  # a training may have saved another meanwhile
    return Source(flags.model, score_threshold.checkpoint_of(read), detector.precision, data, flags.split)


@contextlib.contextmanager
def _open_output(flags, source, data, choice, detector, total):
    """Context manager: an _Output for `total` pictures, whose files are finished also after a stop or a failure.

    data: the DataSet of the pictures, or None.
    """
    output = _Output(flags, choice.class_names, detector)
    origin = Origin(source, choice.class_names, choice.labels, flags.threshold, data)
    with contextlib.ExitStack() as stack:
        stack.enter_context(result_folder.unfinished(flags.output))
        stack.callback(output.say_if_stopped, total)  # after the writers have closed
        for module in _formats(flags):
            output.writers.append(stack.enter_context(module.open_writer(flags.output, origin)))
        stack.enter_context(output.copies)
        yield output


class _Output:
    """Writes the detections in every format asked for, has the copies drawn, and counts.

    writers: of the formats. copies: the stages.Background that draws and writes, which takes longer than a GPU does.
    """

    def __init__(self, flags: argparse.Namespace, class_names: Sequence[str], detector: Any):
        self._flags, self._class_names = flags, class_names
        self._of_model: dict[str, Any] = {}  # what every file of --dump-predictions holds
        if flags.dump_predictions:
            self._of_model["anchors"] = ssd_utils.make_anchors(detector.preset)
            self._of_model["variances"] = np.array(detector.preset.variances)
            self._of_model["class_names"] = np.array(detector.class_names)
        self.writers: list[Writer] = []
        self._counts: collections.Counter = collections.Counter()
        self._of_class: collections.Counter = collections.Counter()
        self._shown: list[np.ndarray] = []  # scores of the detections to draw, an array for each picture
        self._folders = file_names.safe_names(class_names)
        threads = min(worker_processes.beside_network(), MOST_DRAWING)
        self.copies = stages.Background(self._counts.update, threads=threads, ahead=threads)

    def add(self, name: str, read: Any, detections: Detections) -> None:
        """Write the Detections on a picture. name: in the output; read: the detector.ReadImage."""
        width, height = read.size
        for writer in self.writers:
            writer.add(name, width, height, detections)
        self._counts.update(pictures=1, detections=len(detections))
        self._of_class.update(self._class_names[label] for label in detections.labels)
        shown = detections.where(detections.scores >= self._flags.draw_threshold)
        self._shown.append(shown.scores)
        if self._flags.draw or self._flags.crops or self._flags.dump_predictions:
            best = shown.where(np.arange(len(shown)) < self._flags.draw_most)
            self.copies.run(self._write_copies, name, read, best)

    def error(self, name: str, error: images.ImageError) -> None:
        """Note a picture that could not be read. name: in the output."""
        tqdm.tqdm.write(f"skipped {error.path}: {error.reason}")
        for writer in self.writers:
            writer.error(name, error.reason)
        self._counts.update(["pictures", "unreadable"])

    def _drawn_path(self, name):
        return os.path.join(self._flags.output, result_folder.DRAWN, _drawn_name(name))

    def _write_copies(self, name, read, best):
        """Write what was asked for of a picture -> Counter of what could not be written. best: Detections to draw."""
        failed: collections.Counter = collections.Counter()
        if self._flags.draw:
            result_folder.mark_drawn(os.path.join(self._flags.output, result_folder.DRAWN))
            drawn = visualization.draw_detections(read.image, best, self._class_names)
            failed["not drawn"] += not _write_picture(self._drawn_path(name), drawn)
        if self._flags.crops:
            failed["crops not written"] += self._crop(name, read.image, best)
        if self._flags.dump_predictions:
            self._dump(name, read.predictions)
        return failed

    def _crop(self, name, image, detections):
        """Write the piece of a picture inside each box, CROPS/CLASS/NAME_1.jpg for the best and so on.

        Returns how many of them could not be written.
        """
        failed = 0
        crops = os.path.join(self._flags.output, result_folder.CROPS)
        if len(detections):
            result_folder.mark_drawn(crops)
        base, suffix = os.path.splitext(_drawn_name(name))
        for number, (box, label) in enumerate(zip(detections.boxes_px, detections.labels, strict=True), start=1):
            path = os.path.join(crops, self._folders[label], f"{base}_{number}{suffix}")
            failed += not _write_picture(path, visualization.crop(image, box))
        return failed

    def _dump(self, name, predictions):
        """Write what the network says of a picture. predictions: float32 [A,1+classes+4] of a detector.ReadImage."""
        path = os.path.join(self._flags.output, result_folder.PREDICTIONS, f"{name}.npz")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = io.BytesIO()
        np.savez(content, probabilities=predictions[:, :-4], offsets=predictions[:, -4:], **self._of_model)
        files.write(path, content.getvalue(), durable=False)

    def say_if_stopped(self, total: int) -> None:
        """After a stop or a failure, print how many of `total` pictures have results."""
        output = self._flags.output
        if 0 < self._counts["pictures"] < total and result_folder.is_finished(output):
            print(
                f"stopped: {self._counts['pictures']} of {wording.plural(total, 'picture')} are in {output}; "
                "the same command with --overwrite starts over"
            )

    def report(self, seconds: float, precision: str) -> None:
        """Print the counts and the speed. precision: as the detector calls it."""
        counts = self._counts
        undrawn = [f", {counts[what]} {what}" for what in ("not drawn", "crops not written") if counts[what]]
        print(
            f"{wording.plural(counts['pictures'] - counts['unreadable'], 'picture')}, "
            f"{wording.plural(counts['detections'], 'detection')} above {self._flags.threshold:g}, "
            f"{counts['unreadable']} unreadable{''.join(undrawn)}; "
            f"{counts['pictures'] / seconds:.1f} images/s in {precision}; see {self._flags.output}"
        )
        if self._of_class:
            print(", ".join(f"{name} {count:,}" for name, count in self._of_class.most_common()))
        self._report_crowds()
        if self._flags.split:
            print(f"score them with: {_scoring_command(self._flags)}")

    def require_one(self) -> None:
        """Raise UserError if no picture could be read; the results, which say no more, do not block the next call."""
        pictures = self._counts["pictures"]
        if pictures and pictures == self._counts["unreadable"]:
            result_folder.discard(self._flags.output)
            raise UserError(f"none of {wording.plural(pictures, 'picture')} could be read; the lines above say why")

    def _report_crowds(self):
        """Say of how many pictures not all boxes are drawn and, if it is most of them, what that means."""
        if not (self._flags.draw or self._flags.crops):
            return
        most, score = self._flags.draw_most, f"{self._flags.draw_threshold:g}"
        if crowded := sum(len(scores) > most for scores in self._shown):
            print(
                f"{wording.plural(crowded, 'picture')} with more than {wording.plural(most, 'box')} scoring {score} "
                "or more: only the best of them are drawn (--draw-most N draws more)"
            )
        if 2 * sum(len(scores) > visualization.MOST_SHOWN for scores in self._shown) > len(self._shown):
            scores = np.sort(np.concatenate(self._shown))[::-1]
            higher = min(math.ceil(100 * scores[FEW * len(self._shown)]) / 100, 1)
            print(
                "so many boxes in most pictures: the model has hardly learned to tell objects from background; train "
                f"it longer, or --draw-threshold {higher:g} draws {wording.plural(FEW, 'box')} a picture on average"
            )


def _write_picture(path, image):
    """Write a picture. If it cannot be written, print why and return False."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        images.write(path, image)
    except images.UnwritableImage as error:
        tqdm.tqdm.write(f"not written: {error}")
        return False
    return True


def _scoring_command(flags):
    """The line that scores what was detected on a split."""
    more = ["--source", flags.source] * (flags.source != "auto")
    more += ["--valid-of", flags.valid_of] if flags.valid_of else []
    more += ["--other-classes", "ignore"] * bool(flags.classes)  # objects of classes that were not looked for
    more += ["--within-data"] * flags.within_data
    return cli.command("average_precision.py", flags.output, "--data", flags.data, "--split", flags.split, *more)


def _formats(flags):
    """The modules of the formats to write, in the order of the table."""
    return [module for module in detection_files.FORMATS.values() if module.FLAG in (None, *flags.formats)]


def _data_set(flags):
    """The data set to detect on, or None for pictures from the command line."""
    if flags.split and flags.within_data:
        sources.check_within(flags.data, flags.split, flags.source)
    return DataSet(flags.data, flags.split, flags.source, flags.valid_of) if flags.split else None


def _drawn_name(name):
    """The name of a picture's drawn copy: its own if such files can be written, else with .png behind it."""
    return name if name.lower().endswith(images.WRITABLE) else name + ".png"


def _split_files(data):
    """The Pictures of a DataSet."""
    return [
        Picture(entry.image_path, entry.id + os.path.splitext(entry.image_path)[1], exif)
        for entry, exif in zip(data.entries, data.exif, strict=True)
    ]


def _find_files(flags):
    """The Pictures that the files and folders of the command line mean.

    Raises UserError for a missing path, a folder without pictures, and two pictures of one name.
    """
    pictures: list[Picture] = []
    origin: dict[str, str] = {}
    _refuse_texts(flags.images)
    for path in _named(flags.images):
        if not os.path.exists(path):
            whole = " ".join(flags.images)  # in the shell, a name with spaces becomes several
            hint = f"; do you mean {whole!r}? A name with spaces needs quotes" if os.path.exists(whole) else ""
            raise UserError(f"{path or 'an empty name'}: no such file or folder{hint}")
        if not os.path.isdir(path) and path.lower().endswith(frame_folder.VIDEOS):
            detect = cli.command("process_video.py", flags.model, path, "OUTPUT.mp4")
            raise UserError(f"{path}: is a video; detect in it with {detect}")
        is_folder = os.path.isdir(path)
        is_output = is_folder and os.path.realpath(path) == os.path.realpath(flags.output)
        found = _find_in_folder(path, flags.recursive) if is_folder else [(path, os.path.basename(path))]
        for file, name in found:
            if is_output and name == os.path.basename(name):
                better = os.path.join(path, "found")
                raise UserError(
                    f"--output {flags.output}: holds {name}, one of the pictures; choose another, such as {better}"
                )
            if name in origin:
                raise UserError(
                    f"{file}: would have the same name as {origin[name]} in the output; call infer.py for each of them"
                )
            origin[name] = file
            pictures.append(Picture(file, name))
    return pictures


def _refuse_texts(words):
    """Raise UserError if the words of the command line are files of text and nothing else."""
    if all(os.path.isfile(word) and word.lower().endswith(TEXTS) for word in words):
        raise UserError(
            f"{words[0]}: is not a picture; give @{words[0]} if it lists pictures, or --data and --split for a data set"
        )


def _named(words):
    """Yield the paths that words of the command line mean: themselves, `-`, `@list.txt` or a pattern in quotes."""
    for word in words:
        if os.path.lexists(word):
            yield word
        elif word == "-":
            yield from _listed("-", sys.stdin.read())
        elif word.startswith("@"):
            yield from _listed(word, files.read_text(word[1:]) if os.path.isfile(word[1:]) else None)
        elif "://" in word:
            raise UserError(f"{word}: is an address; download the picture and give the file")
        elif glob.has_magic(word):
            found = sorted(glob.glob(word, recursive=True))
            if not found:
                raise UserError(f"{word}: nothing matches this pattern; check it")
            yield from found
        else:
            yield word


def _listed(word, text):
    """The paths of a list, one per line. text: None if there is no such list."""
    if text is None:
        raise UserError(f"{word}: no such list; write a file with one picture or folder per line")
    found = [line.strip() for line in files.split_lines(text) if line.strip()]
    if not found:
        raise UserError(f"{word}: an empty list; write one picture or folder per line")
    return found


def _refuse_run_and_data_set(folder):
    """Raise UserError if --output is a run, or a data set, which results would turn into another one."""
    if config.is_run(folder):
        raise UserError(f"--output {folder}: is a run; choose another folder, such as {folder.rstrip(os.sep)}_found")
    if os.path.isdir(folder) and not result_folder.holds_results(folder) and (found := sources.fitting(folder)):
        raise UserError(f"--output {folder}: holds a data set ({' or '.join(found)}); choose another folder")


def _refuse_equal_names(flags, pictures, data):
    """Raise UserError if two pictures would have one name in the drawn copies or in a format asked for.

    data: the DataSet of the pictures, or None.
    """
    keys: list[tuple[str, Callable[[str], str]]]
    keys = [(module.FLAG or "--output", functools.partial(module.picture_key, data=data)) for module in _formats(flags)]
    for flag, key_of in [*keys, *[("--output", _drawn_name)] * (flags.draw or flags.crops)]:
        origin: dict[str, str] = {}
        for path, name, _ in pictures:
            if (key := key_of(name)) in origin:
                raise UserError(f"{flag}: {path} and {origin[key]} would both be {key}; call infer.py for each of them")
            origin[key] = path


def _find_in_folder(folder, recursive):
    """List of (path, path relative to the folder) of the pictures in it, in the order of their names.

    Prints what else is in it. Raises UserError if there is no picture.
    """
    drawn: list[str] = []
    listed = list(_files(folder, recursive, drawn))
    for path in drawn:
        print(result_folder.note_on_drawn(path))
    found = [(path, name) for path, name in listed if _is_picture(name)]
    left_out = _left_out([name for _, name in listed if not _is_picture(name)])
    if not found:
        more = "" if recursive else "; --recursive also searches the folders in it"
        left_out = f"; {left_out}" if left_out else ""
        raise UserError(f"{folder}: no pictures in it ({', '.join(images.SUFFIXES)}){more}{left_out}")
    if left_out:
        print(f"{folder}: {left_out}")
    if not recursive and (below := _folders_with_pictures(folder)):
        print(f"{folder}: {wording.plural(below, 'folder')} with pictures in it not searched; --recursive does that")
    return found


def _files(folder, recursive, drawn):
    """Yield (path, path relative to the folder) of the files in it, without hidden ones.

    Folders that infer.py has drawn are left out of a recursive search, and added to the list `drawn`.
    """
    if not recursive:
        paths = ((os.path.join(folder, name), name) for name in folder_tree.visible(folder))
        # A link that leads nowhere is a picture that cannot be read, as in a recursive search
        yield from ((path, name) for path, name in paths if not os.path.isdir(path))
        return
    for parent, names in result_folder.walk(folder, drawn):
        for path in (os.path.join(parent, name) for name in names):
            yield path, os.path.relpath(path, folder)


def _left_out(others):
    """'3 files left out: .txt (2), .heic (1)' of names of files, or "" if there are none."""
    counts = collections.Counter(os.path.splitext(name)[1] or "without a suffix" for name in others)
    if not counts:
        return ""
    heif = [suffix for suffix in counts if suffix.lower() in images.HEIF_SUFFIXES]
    hint = f"; pip install pillow-heif to read {heif[0]}" if heif else ""
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common())
    return f"{wording.plural(len(others), 'file')} left out: {shown}{hint}"


def _folders_with_pictures(folder):
    """How many of the folders in a folder hold pictures, other than those that infer.py has drawn."""
    below = (os.path.join(folder, name) for name in folder_tree.visible_folders(folder))
    walks = (result_folder.walk(path, []) for path in below if not result_folder.is_drawn(path))
    return sum(any(_is_picture(name) for _, names in walk for name in names) for walk in walks)


def _is_picture(name):
    return name.lower().endswith(images.SUFFIXES)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__,
        epilog="examples:\n"
        "  python infer.py ssd300-coco photos/\n"
        "  python infer.py runs/mine photos/ --recursive --output runs/found\n"
        "  python infer.py runs/mine --data VOCdevkit --split 2007:test --output runs/found",
    )
    reads = parser.add_argument_group("what it reads")
    reads.add_argument("model", metavar="MODEL", help=config.MODEL_HELP)
    _input_flags(reads, parser.add_argument_group("a data set instead of pictures"))
    program.add_flags(
        parser.add_argument_group("how it detects"),
        "--split, --voc-results, --coco-results or --yolo-results",
        SPLIT_FLOAT32,
    )
    _output_flags(parser.add_argument_group("what it writes"))
    _format_flags(parser.add_argument_group("results in other formats, beside detections.json"))
    flags = parser.parse_args(argv)
    check_flags(flags, choosing=("valid_of",), reading=("source",))
    flag_rules.set_absent(flags, {"source": "auto"})
    others = set(flags.formats) - {coco_results.FLAG}
    if flags.shards and (flags.split or flags.crops or flags.dump_predictions or others or flags.overwrite):
        raise UserError(f"--shards: writes JSON Lines of pictures and {coco_results.FLAG}; leave the other flags out")
    program.tiling(flags)
    if bool(flags.images) == bool(flags.split):
        raise UserError("give either pictures or folders, or --data with --split")
    return flags


def _input_flags(pictures, group):
    pictures.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE_OR_FOLDER",
        help="pictures or folders with pictures; a pattern in quotes, such as '*.jpg'; @FILE, a list with one of these "
        "per line; or -, such a list from standard input",
    )
    pictures.add_argument(
        "--recursive",
        action="store_true",
        help="also search the folders inside the folders, but not the images/ and crops/ that infer.py has drawn, "
        "which it names",
    )
    group.add_argument("--data", metavar="DIR", help="the data set, in any format that train.py reads")
    group.add_argument(
        "--source",
        type=sources.source_name,
        metavar="FORMAT",
        help=sources.SOURCE_HELP,
    )
    group.add_argument("--within-data", action="store_true", help=sources.WITHIN_HELP)
    group.add_argument("--split", metavar="SPLIT", help="its split, such as 2007:test, or test")
    group.add_argument("--valid-of", **VALID_OF)


def _output_flags(group):
    show = visualization.SHOW_THRESHOLD
    group.add_argument(
        "--output",
        default="found",
        metavar="DIR",
        help="folder for detections.json and images/; made if it is missing",
    )
    group.add_argument("--overwrite", action="store_true", help="replace the results of an earlier call in --output")
    group.add_argument(
        "--draw-threshold",
        type=fraction,
        default=show,
        metavar="X",
        help="draw detections that score X or more",
    )
    group.add_argument(
        "--draw-most",
        type=positive_int,
        default=visualization.MOST_SHOWN,
        metavar="N",
        help="draw at most the N best detections of a picture",
    )
    group.add_argument(
        "--dump-predictions",
        action="store_true",
        help="also write the network's raw output for each picture: DIR/predictions/PICTURE.npz with the "
        "probabilities and offsets of every anchor, a megabyte each",
    )
    group.add_argument(
        "--shards",
        type=positive_int,
        metavar="N",
        help="for very many pictures: detect with N processes, each on a GPU or a share of the cores, and write "
        f"DIR/part-00000.jsonl and so on, one line per picture, {SHARD} per file; {coco_results.FLAG} may be added, "
        "nothing else. The same command resumes after a stop; a picture that crashes a process is left out (default: "
        "one process, which writes detections.json)",
    )
    group.add_argument("--no-draw", dest="draw", action="store_false", help="draw no pictures")
    group.add_argument(
        "--crops",
        action="store_true",
        help="also cut the detections to draw out of the pictures: DIR/crops/CLASS/PICTURE_1.jpg is the best",
    )


def _format_flags(group):
    for module in detection_files.FORMATS.values():
        if module.FLAG:
            keep = {"dest": "formats", "action": "append_const", "const": module.FLAG, "default": []}
            group.add_argument(module.FLAG, help=f"also write {module.HELP}", **keep)


if __name__ == "__main__":
    cli.run(main)
