"""Detect objects in pictures: single files, folders, or a split of a data set.

Writes DIR/detections.json and, unless --no-draw, a copy of every picture with its boxes under DIR/images.
Pictures that cannot be read are reported, listed under "errors" in the JSON, and skipped.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import os
import time

import numpy as np
import tqdm

import config
import sources
from formats import class_lists
from media import images, visualization
from results import detection_files, result_folder
from results.data_set import DataSet
from results.result_files import Origin
from structures import UserError
from system import cli, files

CURVE_THRESHOLD = 0.01  # a split or VOC files are for scoring, which wants the whole precision–recall curve


def main(argv=None):
    flags = _parse(argv)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    pictures = _split_files(flags) if flags.split else _find_files(flags)
    _refuse_equal_names(flags, pictures)
    # A data set's labels need no line: they lie at --data or in `labels` beside `images`, which holds the pictures
    inputs = [model.frozen or model.run, *[flags.data] * bool(flags.split), *(path for path, _, _ in pictures)]
    old = result_folder.check(flags.output, flags.overwrite, inputs)
    with cli.StopRequest() as stop:
        cli.import_tensorflow()
        import detector  # every flag and path is known to be good before TensorFlow loads

        settings = {"precision": flags.precision, "threshold": flags.threshold, "batch_size": flags.batch_size}
        with detector.load(flags.model, **settings) as loaded:
            wanted = class_lists.find_labels(flags.classes, loaded.class_names)
            stop.raise_if_requested()  # while old results are there
            _detect_all(flags, loaded, pictures, _Choice(loaded.class_names, wanted), stop, old)


class _Choice:
    """The classes that are looked for; wanted: set of the model's labels, or None for all.

    labels: of the model; class_names: theirs. Results speak of these alone: what nobody looked for was not missed.
    """

    def __init__(self, class_names, wanted):
        self.labels = sorted(range(len(class_names)) if wanted is None else wanted)
        self.class_names = tuple(class_names[label] for label in self.labels)

    def take(self, detections):
        """Of the model's Detections those of the chosen classes, with labels that index `class_names`."""
        taken = detections.where(np.isin(detections.labels, self.labels))
        return dataclasses.replace(taken, labels=np.searchsorted(self.labels, taken.labels).astype(np.int32))


def _detect_all(flags, detector, pictures, choice, stop, old):
    """Run the detector over (path, name, exif) pictures and write everything down, in the place of old results."""
    start = time.monotonic()
    with _open_output(flags, choice, len(pictures)) as output:
        result_folder.remove(flags.output, old)  # now that nothing can be wrong with the call any more
        stream = detector.detect_files(((path, exif) for path, _, exif in pictures), keep=lambda index: flags.draw)
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
    output.report(time.monotonic() - start, detector.precision)


@contextlib.contextmanager
def _open_output(flags, choice, total):
    """An _Output for `total` pictures, whose files are finished at the end, also after a stop or a failure."""
    output = _Output(flags, choice.class_names)
    origin = Origin(flags.model, choice.class_names, choice.labels, flags.threshold, _data_set(flags))
    with contextlib.ExitStack() as stack:
        stack.enter_context(result_folder.unfinished(flags.output))
        stack.callback(output.say_if_stopped, total)  # once the writers have ended
        for module in _formats(flags):
            output.writers.append(stack.enter_context(module.open_writer(flags.output, origin)))
        yield output


class _Output:
    """Writes the detections on each picture in every format asked for, draws the copies, and counts."""

    def __init__(self, flags, class_names):
        self._flags, self._class_names = flags, class_names
        self.writers, self._counts = [], collections.Counter()

    def add(self, name, read, detections):
        """A picture that was read, and the Detections on it."""
        for writer in self.writers:
            writer.add(name, *read.size, detections)
        self._counts.update(pictures=1, detections=len(detections))
        if self._flags.draw:
            self._counts["not drawn"] += not self._draw(name, read.image, detections)

    def error(self, name, error):
        """A picture that could not be read, with the ImageError that says why."""
        tqdm.tqdm.write(f"skipped {error.path}: {error.reason}")
        for writer in self.writers:
            writer.error(name, error.reason)
        self._counts.update(["pictures", "unreadable"])

    def _draw(self, name, image, detections):
        """Write a copy of a picture with its boxes. Prints why and returns False if this one cannot be written."""
        shown = detections.where(detections.scores >= self._flags.draw_threshold)
        path = os.path.join(self._flags.output, result_folder.DRAWN, _drawn_name(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            images.write(path, visualization.draw_detections(image, shown, self._class_names))
        except images.UnwritableImage as error:
            tqdm.tqdm.write(f"not drawn: {error}")
            return False
        return True

    def say_if_stopped(self, total):
        """Print what a stop or a failure leaves of `total` pictures."""
        output = self._flags.output
        if 0 < self._counts["pictures"] < total and result_folder.is_finished(output):
            print(f"stopped: {self._counts['pictures']} of {total} pictures are in {output}")

    def report(self, seconds, precision):
        """Print what was done."""
        counts = self._counts
        undrawn = f", {counts['not drawn']} not drawn" if counts["not drawn"] else ""
        print(
            f"{counts['pictures'] - counts['unreadable']} pictures, {counts['detections']} detections above "
            f"{self._flags.threshold:g}, {counts['unreadable']} unreadable{undrawn}; "
            f"{counts['pictures'] / seconds:.1f} images/s in {precision}; see {self._flags.output}"
        )


def _formats(flags):
    """The formats to write, in the order of the table."""
    return [module for module in detection_files.FORMATS.values() if module.FLAG in (None, *flags.formats)]


def _data_set(flags):
    """The data set to detect on, or None for pictures of the command line."""
    return DataSet(flags.data, flags.split, flags.source) if flags.split else None


def _drawn_name(name):
    """The name of a picture's drawn copy: its own, where that is of a kind that is written."""
    return name if name.lower().endswith(images.WRITABLE) else name + ".png"


def _split_files(flags):
    """The pictures of a split: list of (path, name in the output, whether EXIF is applied)."""
    entries = sources.find(flags.data, flags.split, flags.source)
    return [(entry.image_path, os.path.basename(entry.image_path), True) for entry in entries]


def _find_files(flags):
    """Files and folders of the command line -> list of (path, name in the output, whether EXIF is applied).

    Raises UserError for a missing path, a folder without pictures, and two pictures of one name.
    """
    pictures, origin = [], {}
    recursive, drawn = flags.recursive, result_folder.drawn_before(flags.output)
    for path in flags.images:
        is_folder = os.path.isdir(path)
        found = list(_find_in_folder(path, recursive, drawn)) if is_folder else [(path, os.path.basename(path))]
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file or folder")
        if not found:
            more = "" if recursive else "; --recursive looks into its folders too"
            raise UserError(f"{path}: holds no pictures ({', '.join(images.SUFFIXES)}){more}")
        for file, name in found:
            if name in origin:
                raise UserError(f"{file}: has the name of {origin[name]} in the output; give them to two calls")
            origin[name] = file
            pictures.append((file, name, True))
    return pictures


def _refuse_equal_names(flags, pictures):
    """Raises UserError for two pictures that a format of results asked for would take for one."""
    data = _data_set(flags)
    keys = [(module.FLAG or "--output", functools.partial(module.picture_key, data=data)) for module in _formats(flags)]
    for flag, key_of in [*keys, *[("--output", _drawn_name)] * flags.draw]:
        origin = {}
        for path, name, _ in pictures:
            if (key := key_of(name)) in origin:
                raise UserError(
                    f"{flag}: would take {path} and {origin[key]} for one picture, {key}; give them to two calls"
                )
            origin[key] = path


def _find_in_folder(folder, recursive, passed_over):
    """Yield (path, path relative to the folder) of the pictures in it, in order of their names.

    passed_over: real paths of folders inside it that recursion leaves out.
    """
    if not recursive:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        yield from ((os.path.join(folder, name), name) for name in entries if _is_picture(name))
        return
    for parent, names in files.walk(folder, passed_over):
        for name in filter(_is_picture, names):
            path = os.path.join(parent, name)
            yield path, os.path.relpath(path, folder)


def _is_picture(name):
    return name.lower().endswith(images.SUFFIXES)


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a run directory (its best checkpoint; RUN@last: its last) or an exported .pb")
    add("images", nargs="*", metavar="IMAGE_OR_FOLDER", help="pictures, or folders of them")
    add("--data", metavar="DIR", help="with --split: a data set in the format of VOC, COCO, YOLO or CSV")
    add("--source", choices=sources.CHOICES, default="auto", help="format of --data (default: auto, what fits)")
    add("--split", metavar="SPLIT", help="such as 2007:test, or test")
    add("--output", required=True, metavar="DIR", help="where detections.json and images/ go")
    add("--overwrite", action="store_true", help="replace results that --output holds from an earlier call")
    add("--threshold", type=cli.fraction, metavar="X", help="write detections above it (0.5; 0.01 to be scored)")
    show = visualization.SHOW_THRESHOLD
    add(
        "--draw-threshold",
        type=cli.fraction,
        default=show,
        metavar="X",
        help=f"draw those from it on (default: {show})",
    )
    add("--classes", metavar="NAMES", help="only these, with commas: the results name no others")
    add("--batch-size", type=cli.positive_int, default=8, metavar="N", help="pictures at once (default: 8)")
    add("--precision", choices=config.PRECISIONS, default="auto", help="(default: auto)")
    add("--no-draw", dest="draw", action="store_false", help="write no pictures")
    for module in detection_files.FORMATS.values():
        if module.FLAG:
            add(
                module.FLAG,
                dest="formats",
                action="append_const",
                const=module.FLAG,
                default=[],
                help=f"also write {module.HELP}",
            )
    add("--recursive", action="store_true", help="look into folders inside folders")
    flags = parser.parse_args(argv)
    if bool(flags.data) != bool(flags.split):
        raise UserError("--data and --split: go together")
    if bool(flags.images) == bool(flags.split):
        raise UserError("give pictures or folders, or --data with --split (one of the two)")
    if flags.threshold is None:
        flags.threshold = CURVE_THRESHOLD if flags.split or flags.formats else show
    return flags


if __name__ == "__main__":
    cli.run(main)
