"""The toy road as a data set in Pascal VOC layout, written by several processes."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import pathlib
import shutil
import time

import cv2
import tqdm

from structures import UserError
from system import atomic, files, schema, worker_processes
from toy_road import scenes
from toy_road.drawing import HEIGHT, WIDTH
from toy_road.town import CLASSES

VERSION = 1  # increased when the same seed gives other pictures
MANIFEST = "toy_road.json"
GROUPS = "groups.csv"
JPEG_QUALITY = 88
QUIET_SECONDS = 3600  # without a new picture in an unfinished folder, until nobody writes there any more


@dataclasses.dataclass
class _Manifest:
    """What the file MANIFEST of a toy road holds."""

    version: int
    seed: int
    train: int
    test: int
    classes: list[str]


_LIMITS = {"train": schema.Limits(1), "test": schema.Limits(1)}


def _annotation(name, objects):
    """The VOC XML of a picture; VOC pixels are 1-based and inclusive."""
    lines = [
        "<annotation>",
        "<folder>VOC2007</folder>",
        f"<filename>{name}.jpg</filename>",
        "<source><database>toy road</database></source>",
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>",
        "<segmented>0</segmented>",
    ]
    for item in objects:
        x0, y0, x1, y1 = item.box_px
        lines.append(
            f"<object><name>{CLASSES[item.label]}</name><pose>Unspecified</pose>"
            f"<truncated>{item.truncated:d}</truncated><occluded>{item.occluded > scenes.OCCLUDED:d}</occluded>"
            f"<difficult>{item.difficult:d}</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def _name(split, index):
    return f"{split}_{index:06d}"


def _write_pictures(root, seed, split, indices):
    """Write the pictures and annotations of some indices to root/VOC2007; return how many."""
    cv2.setNumThreads(1)
    for index in indices:
        image, objects = scenes.generate_scene(seed, index, split)
        name = _name(split, index)
        _, jpeg = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        (root / "VOC2007" / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.tobytes())
        (root / "VOC2007" / "Annotations" / f"{name}.xml").write_text(_annotation(name, objects))
    return len(indices)


def _write_groups(root, seed, counts):
    """Write root/groups.csv, the condition that each picture shows, for `average_precision.py --groups`."""
    rows = [
        f"{_name(split, index)}.jpg,{scenes.draw_conditions(seed, split, index).name}\n"
        for split, count in counts.items()
        for index in range(count)
    ]
    files.write(root / GROUPS, "".join(["picture,group\n", *rows]))


def _write_all(root, seed, counts, workers):
    chunks = [
        (root, seed, split, range(start, min(start + 16, count)))
        for split, count in counts.items()
        for start in range(0, count, 16)
    ]
    with tqdm.tqdm(total=sum(counts.values()), desc="drawing the toy road", unit="images") as bar:
        if workers == 0:
            for chunk in chunks:
                bar.update(_write_pictures(*chunk))
            return
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(workers, context, worker_processes.follow_parent)
        try:
            with worker_processes.interrupts_held():
                futures = [pool.submit(_write_pictures, *chunk) for chunk in chunks]
            for future in futures:  # as_completed holds the locks of all at times: an interrupt then hung forever
                bar.update(future.result())
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError("--workers: a worker process died; free some memory or try --workers 0") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _is_written(target, manifest):
    """Whether the target already holds the data set of a manifest. Raises UserError if it holds anything else."""
    if not target.exists():
        return False
    if not target.is_dir():
        raise UserError(f"--output {target}: is a file; give a folder")
    if not any(target.iterdir()):
        if os.path.ismount(target):  # which cannot be replaced by the finished folder
            raise UserError(f"--output {target}: is a mount; give a folder in it, such as {target / 'road'}")
        return False
    found = read_manifest(target)
    if found is None:
        raise UserError(f"--output {target}: is not empty and holds no toy road; give another folder")
    if found != manifest:
        raise UserError(f"--output {target}: holds another toy road ({MANIFEST} differs); give another folder")
    return True


def read_manifest(folder):
    """What the toy road in a folder says of itself, a dict; None without manifest. Raises UserError for a damaged one.

    Its keys: version, seed, train and test (numbers of pictures), classes.
    """
    path = os.path.join(folder, MANIFEST)
    if not os.path.exists(path):
        return None
    found = files.read_json(path)
    schema.check(path, found, _Manifest, _LIMITS, remedy="delete the folder, so that it is drawn again")
    return found


def write_dataset(directory, train=4000, test=400, seed=0, workers=None):
    """Write a VOCdevkit folder: VOC2007 with the splits train (also called trainval) and test, classes.txt, groups.csv.

    Its flags for train.py are `--data DIR --classes DIR/classes.txt --train 2007:train --valid 2007:test`. The folder
    appears under its name when it is complete. If it already holds the same data set, it is left as it is.

    train, test: number of pictures.
    workers: processes; None for one per core, 0 for none besides this one.
    Returns whether it was written. Raises UserError if the folder holds anything else.
    """
    target = pathlib.Path(os.path.realpath(directory))  # a link stays one
    manifest = {"version": VERSION, "seed": seed, "train": train, "test": test, "classes": list(CLASSES)}
    _remove_partial(target)
    if _is_written(target, manifest):
        return False
    try:
        with atomic.pending_folder(target) as folder:
            _fill(pathlib.Path(folder), manifest, worker_processes.usable_cores() if workers is None else workers)
    except OSError as error:
        # Another process may have written the folder meanwhile
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and _is_written(target, manifest):
            return False
        raise
    return True


def _remove_partial(target):
    """Remove the unfinished folder of an older version that was killed: it had one name for all who drew, no lock.

    One that has all its pictures is the user's, who may have named it so.
    """
    partial = target.with_name(f"{target.name}.partial")
    pictures = partial / "VOC2007" / "JPEGImages"
    if not pictures.is_dir() or time.time() - pictures.stat().st_mtime <= QUIET_SECONDS:
        return
    with contextlib.suppress(UserError):  # a damaged manifest: not ours for sure
        manifest = read_manifest(partial)
        if manifest and len(os.listdir(pictures)) < manifest["train"] + manifest["test"]:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(root, manifest, workers):
    """Write all of a data set into an empty folder."""
    counts = {split: manifest[split] for split in ("train", "test")}
    (root / MANIFEST).write_text(json.dumps(manifest) + "\n")
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / "VOC2007" / part).mkdir(parents=True)
    for split, count in (*counts.items(), ("trainval", counts["train"])):
        names = "".join(f"{_name(split.removesuffix('val'), index)}\n" for index in range(count))
        (root / "VOC2007" / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    _write_groups(root, manifest["seed"], counts)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    _write_all(root, manifest["seed"], counts, workers)
