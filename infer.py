"""Detect objects in pictures: single files, folders, or a split of a data set.

Writes DIR/detections.json and, unless --no-draw, a copy of every picture with its boxes under DIR/images.
Pictures that cannot be read are skipped, with a message, and listed under "errors" in the JSON.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm

import config
import sources
from formats import class_lists
from media import images, visualization
from results import detection_files, result_folder
from results.data_set import VALID_OF, DataSet
from results.result_files import Origin, Writer
from structures import Detections, UserError
from system import cli, files, wording

CURVE_THRESHOLD = 0.01  # results to be scored need the whole precision–recall curve


class Picture(NamedTuple):
    """A picture to detect in.

    path: of the file.
    name: in the output, relative to its folders.
    """

    path: str
    name: str


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    pictures = _split_files(flags) if flags.split else _find_files(flags)
    _refuse_equal_names(flags, pictures)
    # Labels of a data set need no entry: they are in --data, or in `labels` beside `images`, which holds the pictures
    inputs = [model.exported or model.run, *[flags.data] * bool(flags.split), *(picture.path for picture in pictures)]
    old = result_folder.check(flags.output, flags.overwrite, inputs)
    with cli.StopRequest() as stop:
        cli.import_tensorflow()
        import detector  # all flags and paths are checked before TensorFlow loads

        settings = {"precision": flags.precision, "threshold": flags.threshold, "batch_size": flags.batch_size}
        with detector.load(flags.model, **settings) as loaded:
            wanted = class_lists.find_labels(flags.classes, loaded.class_names)
            stop.raise_if_requested()  # while the old results still exist
            _detect_all(flags, loaded, pictures, _Choice(loaded.class_names, wanted), stop, old)


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


def _detect_all(flags, detector, pictures, choice, stop, old):
    """Run the detector over Pictures and write the results, in place of old ones."""
    start = time.monotonic()
    with _open_output(flags, choice, len(pictures)) as output:
        result_folder.remove(flags.output, old)  # all checks have passed
        stream = detector.detect_files(((picture.path, True) for picture in pictures), keep=lambda index: flags.draw)
        with contextlib.closing(stream):
            bar = tqdm.tqdm(zip(pictures, stream, strict=True), total=len(pictures), unit="img", dynamic_ncols=True)
            for (_, name), (_, read, detections) in bar:
                if detections is None:
                    output.error(name, read)
                else:
                    output.add(name, read, choice.take(detections))
                if stop.requested:
                    bar.close()
                    raise KeyboardInterrupt
    output.report(time.monotonic() - start, detector.precision)


@contextlib.contextmanager
def _open_output(flags, choice, total):
    """Context manager: an _Output for `total` pictures, whose files are finished also after a stop or a failure."""
    output = _Output(flags, choice.class_names)
    origin = Origin(flags.model, choice.class_names, choice.labels, flags.threshold, _data_set(flags))
    with contextlib.ExitStack() as stack:
        stack.enter_context(result_folder.unfinished(flags.output))
        stack.callback(output.say_if_stopped, total)  # after the writers have closed
        for module in _formats(flags):
            output.writers.append(stack.enter_context(module.open_writer(flags.output, origin)))
        yield output


class _Output:
    """Writes the detections in every format asked for, draws the copies, and counts.

    writers: of the formats.
    """

    def __init__(self, flags: argparse.Namespace, class_names: Sequence[str]):
        self._flags, self._class_names = flags, class_names
        self.writers: list[Writer] = []
        self._counts: collections.Counter = collections.Counter()

    def add(self, name: str, read: Any, detections: Detections) -> None:
        """Write the Detections on a picture. name: in the output; read: the detector.ReadImage."""
        width, height = read.size
        for writer in self.writers:
            writer.add(name, width, height, detections)
        self._counts.update(pictures=1, detections=len(detections))
        if self._flags.draw:
            self._counts["not drawn"] += not self._draw(name, read.image, detections)

    def error(self, name: str, error: images.ImageError) -> None:
        """Note a picture that could not be read. name: in the output."""
        tqdm.tqdm.write(f"skipped {error.path}: {error.reason}")
        for writer in self.writers:
            writer.error(name, error.reason)
        self._counts.update(["pictures", "unreadable"])

    def _draw(self, name, image, detections):
        """Write a copy of a picture with its boxes. If it cannot be written, print why and return False."""
        shown = detections.where(detections.scores >= self._flags.draw_threshold)
        path = os.path.join(self._flags.output, result_folder.DRAWN, _drawn_name(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            images.write(path, visualization.draw_detections(image, shown, self._class_names))
        except images.UnwritableImage as error:
            tqdm.tqdm.write(f"not drawn: {error}")
            return False
        return True

    def say_if_stopped(self, total: int) -> None:
        """After a stop or a failure, print how many of `total` pictures have results."""
        output = self._flags.output
        if 0 < self._counts["pictures"] < total and result_folder.is_finished(output):
            print(f"stopped: {self._counts['pictures']} of {total} pictures are in {output}")

    def report(self, seconds: float, precision: str) -> None:
        """Print the counts and the speed. precision: as the detector calls it."""
        counts = self._counts
        undrawn = f", {counts['not drawn']} not drawn" if counts["not drawn"] else ""
        print(
            f"{counts['pictures'] - counts['unreadable']} pictures, {counts['detections']} detections above "
            f"{self._flags.threshold:g}, {counts['unreadable']} unreadable{undrawn}; "
            f"{counts['pictures'] / seconds:.1f} images/s in {precision}; see {self._flags.output}"
        )


def _formats(flags):
    """The modules of the formats to write, in the order of the table."""
    return [module for module in detection_files.FORMATS.values() if module.FLAG in (None, *flags.formats)]


def _data_set(flags):
    """The data set to detect on, or None for pictures from the command line."""
    return DataSet(flags.data, flags.split, flags.source, flags.valid_of) if flags.split else None


def _drawn_name(name):
    """The name of a picture's drawn copy: its own if such files can be written, else with .png behind it."""
    return name if name.lower().endswith(images.WRITABLE) else name + ".png"


def _split_files(flags):
    """The Pictures of a split."""
    entries = _data_set(flags).entries
    return [Picture(entry.image_path, entry.id + os.path.splitext(entry.image_path)[1]) for entry in entries]


def _find_files(flags):
    """The Pictures that the files and folders of the command line mean.

    Raises UserError for a missing path, a folder without pictures, and two pictures of one name.
    """
    pictures: list[Picture] = []
    origin: dict[str, str] = {}
    recursive, drawn = flags.recursive, result_folder.drawn_before(flags.output)
    for path in flags.images:
        is_folder = os.path.isdir(path)
        found = list(_find_in_folder(path, recursive, drawn)) if is_folder else [(path, os.path.basename(path))]
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file or folder")
        left_out = _left_out(path, recursive, drawn) if is_folder else ""
        if not found:
            more = "" if recursive else "; --recursive also searches the folders in it"
            left_out = f"; {left_out}" if left_out else ""
            raise UserError(f"{path}: no pictures in it ({', '.join(images.SUFFIXES)}){more}{left_out}")
        if left_out:
            print(f"{path}: {left_out}")
        if is_folder and not recursive and (below := _folders_with_pictures(path, drawn)):
            print(f"{path}: {wording.plural(below, 'folder')} with pictures in it not searched; --recursive does that")
        for file, name in found:
            if name in origin:
                raise UserError(
                    f"{file}: would have the same name as {origin[name]} in the output; call infer.py for each of them"
                )
            origin[name] = file
            pictures.append(Picture(file, name))
    return pictures


def _refuse_equal_names(flags, pictures):
    """Raise UserError if two pictures would have one name in the drawn copies or in a format asked for."""
    data = _data_set(flags)
    keys: list[tuple[str, Callable[[str], str]]]
    keys = [(module.FLAG or "--output", functools.partial(module.picture_key, data=data)) for module in _formats(flags)]
    for flag, key_of in [*keys, *[("--output", _drawn_name)] * flags.draw]:
        origin: dict[str, str] = {}
        for path, name in pictures:
            if (key := key_of(name)) in origin:
                raise UserError(f"{flag}: {path} and {origin[key]} would both be {key}; call infer.py for each of them")
            origin[key] = path


def _find_in_folder(folder, recursive, passed_over):
    """Yield (path, path relative to the folder) of the pictures in it, in the order of their names.

    passed_over: real paths of folders in it that a recursive search leaves out.
    """
    for path, name in _files(folder, recursive, passed_over):
        if _is_picture(name):
            yield path, name


def _files(folder, recursive, passed_over):
    """Yield (path, path relative to the folder) of the files in it, without hidden ones; arguments as above."""
    if not recursive:
        paths = ((os.path.join(folder, name), name) for name in files.visible(folder))
        yield from ((path, name) for path, name in paths if os.path.isfile(path))
        return
    for parent, names in files.walk(folder, passed_over):
        for path in (os.path.join(parent, name) for name in names):
            yield path, os.path.relpath(path, folder)


def _left_out(folder, recursive, passed_over):
    """'3 files left out: .txt (2), .heic (1)', or "" if a folder has only pictures; arguments as above."""
    others = [name for _, name in _files(folder, recursive, passed_over) if not _is_picture(name)]
    counts = collections.Counter(os.path.splitext(name)[1] or "without a suffix" for name in others)
    if not counts:
        return ""
    heif = [suffix for suffix in counts if suffix.lower() in images.HEIF_SUFFIXES]
    hint = f"; pip install pillow-heif to read {heif[0]}" if heif else ""
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common())
    return f"{wording.plural(len(others), 'file')} left out: {shown}{hint}"


def _folders_with_pictures(folder, passed_over):
    """How many of the folders in a folder hold pictures. passed_over: as above."""
    below = (os.path.join(folder, name) for name in files.visible_folders(folder))
    walks = (files.walk(path, passed_over) for path in below if os.path.realpath(path) not in passed_over)
    return sum(any(_is_picture(name) for _, names in walk for name in names) for walk in walks)


def _is_picture(name):
    return name.lower().endswith(images.SUFFIXES)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  python infer.py runs/mine photos/ --recursive --output runs/found\n"
        "  python infer.py runs/mine --data VOCdevkit --split 2007:test --output runs/found",
    )
    parser.add_argument("model", metavar="MODEL", help=config.MODEL_HELP)
    _input_flags(parser, parser.add_argument_group("a data set instead of pictures"))
    _detection_flags(parser.add_argument_group("detection"))
    _output_flags(parser.add_argument_group("output"))
    _format_flags(parser.add_argument_group("results in other formats, beside detections.json"))
    flags = parser.parse_args(argv)
    if bool(flags.data) != bool(flags.split):
        raise UserError("--data and --split: give both or neither")
    if flags.valid_of and not flags.split:
        raise UserError("--valid-of: chooses pictures of a data set; give --data and --split too")
    if bool(flags.images) == bool(flags.split):
        raise UserError("give either pictures or folders, or --data with --split")
    if flags.threshold is None:
        flags.threshold = CURVE_THRESHOLD if flags.split or flags.formats else visualization.SHOW_THRESHOLD
    return flags


def _input_flags(parser, group):
    parser.add_argument("images", nargs="*", metavar="IMAGE_OR_FOLDER", help="pictures, or folders with pictures")
    parser.add_argument("--recursive", action="store_true", help="also search the folders inside the folders")
    group.add_argument("--data", metavar="DIR", help="the data set, in any format that train.py reads")
    group.add_argument(
        "--source",
        type=sources.source_name,
        metavar="FORMAT",
        default="auto",
        help=sources.SOURCE_HELP,
    )
    group.add_argument("--split", metavar="SPLIT", help="its split, such as 2007:test, or test")
    group.add_argument("--valid-of", **VALID_OF)


def _detection_flags(group):
    group.add_argument(
        "--threshold",
        type=cli.fraction,
        metavar="X",
        help=f"write detections that score above X (default: {visualization.SHOW_THRESHOLD}; {CURVE_THRESHOLD} with "
        "--split or another format, because scoring needs low scores too)",
    )
    group.add_argument(
        "--classes",
        metavar="NAMES",
        help="look for these only, separated by commas; the results name no others (default: all of the model)",
    )
    group.add_argument(
        "--batch-size", type=cli.positive_int, metavar="N", help="pictures at once (default: 8, on a GPU 32)"
    )
    group.add_argument(
        "--precision",
        choices=config.PRECISIONS,
        default="auto",
        help="number type of the network (default: auto, chosen for this machine)",
    )


def _output_flags(group):
    show = visualization.SHOW_THRESHOLD
    group.add_argument(
        "--output", required=True, metavar="DIR", help="folder for detections.json and images/; made if it is missing"
    )
    group.add_argument("--overwrite", action="store_true", help="replace the results of an earlier call in --output")
    group.add_argument(
        "--draw-threshold",
        type=cli.fraction,
        default=show,
        metavar="X",
        help=f"draw detections that score X or more (default: {show})",
    )
    group.add_argument("--no-draw", dest="draw", action="store_false", help="draw no pictures")


def _format_flags(group):
    for module in detection_files.FORMATS.values():
        if module.FLAG:
            keep = {"dest": "formats", "action": "append_const", "const": module.FLAG, "default": []}
            group.add_argument(module.FLAG, help=f"also write {module.HELP}", **keep)


if __name__ == "__main__":
    cli.run(main)
