"""Detect objects in pictures: single files, folders, or a split of a data set.

Writes DIR/detections.json and, unless --no-draw, a copy of every picture with its boxes under DIR/images.
Pictures that cannot be read are reported, listed under "errors" in the JSON, and skipped.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import time

import numpy as np
import tqdm

import config
import sources
from formats import class_lists
from media import images, visualization
from results import detection_files, result_folder
from structures import UserError
from system import cli, files, wording

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
    start, counts = time.monotonic(), collections.Counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(result_folder.unfinished(flags.output))
        stack.callback(_say_if_stopped, counts, len(pictures), flags.output)  # once the writers have ended
        writers = _open_writers(flags, choice, stack)
        result_folder.remove(flags.output, old)  # now that nothing can be wrong with the call any more
        files = ((path, exif) for path, _, exif in pictures)
        stream = detector.detect_files(files, keep=lambda index: flags.draw)
        stack.enter_context(contextlib.closing(stream))
        bar = tqdm.tqdm(zip(pictures, stream, strict=True), total=len(pictures), unit="img", dynamic_ncols=True)
        for (_, name, _), (_, read, detections) in bar:
            if detections is None:
                bar.write(f"skipped {read.path}: {read.reason}")
                writers["json"].error(name, read.reason)
                counts.update(["pictures", "unreadable"])
            else:
                detections = choice.take(detections)
                _write_one(flags, writers, name, read.size, detections)
                counts.update(pictures=1, detections=len(detections))
                if flags.draw:
                    counts["not drawn"] += not _draw_one(flags, name, read.image, detections, choice.class_names)
            if stop.requested:
                bar.close()
                raise KeyboardInterrupt
    seconds = time.monotonic() - start
    print(
        f"{len(pictures) - counts['unreadable']} pictures, {counts['detections']} detections above "
        f"{flags.threshold:g}, {counts['unreadable']} unreadable"
        + f", {counts['not drawn']} not drawn" * bool(counts["not drawn"])
        + f"; {len(pictures) / seconds:.1f} images/s in {detector.precision}; see {flags.output}"
    )


def _say_if_stopped(counts, total, output):
    """What a stop or a failure leaves."""
    if 0 < counts["pictures"] < total and detection_files.is_detections(
        os.path.join(output, detection_files.JSON_NAME)
    ):
        print(f"stopped: {counts['pictures']} of {total} pictures are in {output}")


def _open_writers(flags, choice, stack):
    class_names = choice.class_names
    path = os.path.join(flags.output, detection_files.JSON_NAME)
    json_writer = detection_files.DetectionsWriter(
        path, model=flags.model, class_names=class_names, threshold=flags.threshold
    )
    writers = {"json": stack.enter_context(json_writer)}
    if flags.voc_results:
        writers["voc"] = stack.enter_context(detection_files.Comp4Writer(flags.output, class_names))
    if flags.coco_results:
        path, ids = os.path.join(flags.output, detection_files.COCO_NAME), _coco_ids(flags, choice)
        writers["coco"] = stack.enter_context(detection_files.CocoWriter(path, class_names, *ids))
    if flags.yolo_results:
        writers["yolo"] = _yolo_numbers(flags, choice)
    return writers


def _is_coco(flags):
    return bool(flags.split) and sources.choose(flags.data, flags.source) == "coco"


def _coco_ids(flags, choice):
    """Ids of images and categories, those of the COCO data set detected on; else None and the model's label + 1."""
    if _is_coco(flags):
        return sources.SOURCES["coco"].result_ids(flags.data, flags.split)
    return None, {name: label + 1 for name, label in zip(choice.class_names, choice.labels, strict=True)}


def _yolo_numbers(flags, choice):
    """The class number of each chosen class: that of the YOLO data set detected on, else the model's label."""
    if not flags.split or sources.choose(flags.data, flags.source) != "yolo":
        return choice.labels
    numbered = sources.class_names(flags.data, flags.split, flags.source)
    if unknown := [name for name in choice.class_names if name not in numbered]:
        raise UserError(f"--yolo-results: {flags.data} has no class {unknown[0]!r}, so its detections have no number")
    return [numbered.index(name) for name in choice.class_names]


def _write_one(flags, writers, name, size, detections):
    writers["json"].add(name, *size, detections)
    if "voc" in writers:
        writers["voc"].add(name, detections)
    if "coco" in writers:
        writers["coco"].add(name, detections)
    if "yolo" in writers:
        folder = os.path.join(flags.output, detection_files.YOLO_FOLDER)
        detection_files.write_yolo(folder, name, *size, detections, writers["yolo"])


def _draw_one(flags, name, image, detections, class_names):
    """Write a copy of a picture with its boxes. Says so and returns False if this one picture cannot be written."""
    shown = detections.where(detections.scores >= flags.draw_threshold)
    path = os.path.join(flags.output, "images", _drawn_name(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        images.write(path, visualization.draw_detections(image, shown, class_names))
    except images.UnwritableImage as error:
        tqdm.tqdm.write(f"not drawn: {error}")
        return False
    return True


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
    """Raises UserError for two pictures that a form of results asked for would take for one."""
    forms = (
        ("--voc-results", flags.voc_results, wording.stem),
        # A COCO data set gives each picture an id, whatever number its name is
        ("--coco-results", flags.coco_results, wording.stem if _is_coco(flags) else detection_files.coco_id),
        ("--yolo-results", flags.yolo_results, detection_files.yolo_name),
        ("--output", flags.draw, _drawn_name),
    )
    for flag, wanted, name_of in forms:
        origin = {}
        for path, name, _ in pictures if wanted else ():
            if (key := name_of(name)) in origin:
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
    add("--voc-results", action="store_true", help="also write comp4_det_test_CLASS.txt for VOC's tools")
    add("--coco-results", action="store_true", help=f"also write {detection_files.COCO_NAME} for COCO's tools")
    add(
        "--yolo-results",
        action="store_true",
        help=f"also write {detection_files.YOLO_FOLDER}/PICTURE.txt in YOLO's form",
    )
    add("--recursive", action="store_true", help="look into folders inside folders")
    flags = parser.parse_args(argv)
    if bool(flags.data) != bool(flags.split):
        raise UserError("--data and --split: go together")
    if bool(flags.images) == bool(flags.split):
        raise UserError("give pictures or folders, or --data with --split (one of the two)")
    if flags.threshold is None:
        scored = flags.split or flags.voc_results or flags.coco_results or flags.yolo_results
        flags.threshold = CURVE_THRESHOLD if scored else show
    return flags


if __name__ == "__main__":
    cli.run(main)
