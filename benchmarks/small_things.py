"""Which objects of the toy road are found, by their height: trained and detected in whole pictures, and in tiles too.

Draws drives of the toy road with all that is seen in them, also what is far away, through a wide-angle lens as dashcams
have, and in three times the pixels of the demo's drive in both directions (--detail). Trains the same network twice for
the same number of steps, without and with train.py --tiles, and counts what each finds in a drive that neither has
seen, without and with --tiles. Writes DIR/small_things.json and DIR/small_things.md. Called again with the same
arguments, it goes on where it stopped.
"""

import bench_environment  # noqa: F401

import concurrent.futures
import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import time
from typing import NamedTuple

import bench_harness
import bench_toy
import cv2
import numpy as np
import tqdm
from bench_paths import ROOT  # noqa: F401, so that the project is found

import boxes as box_geometry
import ssd_utils
from conversion import coco_writer, records
from structures import UserError
from system import chain, cli, files, load, tensorflow_loading, wording, worker_processes
from system.argument_parser import ArgumentParser
from system.argument_types import non_negative_int, output_folder, positive_fraction, positive_int
from system.wording import plural
from tiling import tiles
from toy_road import drive, scenes
from toy_road.drawing import HEIGHT, Camera
from toy_road.town import CLASSES

FRAMES, EVERY, RATE = 250, 6, 25.0  # a drive as the demo's, of which every sixth frame is taken
FOCAL = 170.0  # an angle of 109 degrees; the demo's drive has 58
TEST_SEED = 0  # that of the demo's drive; those to train on have seeds from 1 on
SMALLEST = 4  # pixels of the shorter side of an object to learn; what is smaller shows no class
THRESHOLD, ENOUGH = 0.5, 0.5  # scores above it; IoU with an object of the class from which on it is found
BOUNDS = (0.0, 0.02, 0.04, 0.08, 1.01)  # of an object's height, as a share of the picture's
HEIGHTS = ("below 2%", "2 to 4%", "4 to 8%", "8% and more")  # of the picture's height
DATA, TRAININGS = "data", ("whole", "tiles")


def main(argv=None):
    flags = _parse(argv)
    data = os.path.join(flags.root, DATA)
    write_drives(data, flags.drives, flags.detail)
    stages = chain.Chain(os.path.join(flags.root, "stages.json"))
    trained_at = []
    for name in TRAININGS:
        run = os.path.join(flags.root, name)
        trained_at += bench_toy.train(stages, name, run, _training(flags, data, run, name))
    rows, (pictures, truth) = [], read_split(data, "test")
    for trained, looks in itertools.product(TRAININGS, TRAININGS):
        found, seconds = _detect(os.path.join(flags.root, trained), pictures, flags.tiles if looks == "tiles" else None)
        row = {
            "trained": trained,
            "detected": looks,
            **count(truth, found, HEIGHT * flags.detail),
            "classes": count_classes(truth, found, HEIGHT * flags.detail),
            "seconds": round(seconds, 1),
        }
        rows.append(row)
    header = {"command": bench_harness.command_line("small_things.py", argv), "commit": bench_harness.commit()}
    header |= {
        "machine": load.machine(),
        "steps": flags.steps,
        "drives": flags.drives,
        "pixels": Camera(detail=flags.detail).size,
        "tiles": "{}x{}".format(*flags.tiles),
    }
    header |= {"heights": HEIGHTS, "rows": rows, "trained_at": trained_at}
    files.write_json(os.path.join(flags.root, "small_things.json"), header)
    text = page(header)
    files.write(os.path.join(flags.root, "small_things.md"), text)
    print(text, end="")


def write_drives(folder, count, detail):
    """Write a data set in COCO's format: `train`, frames of drives with seeds 1 to count, and `test`, of another.

    To learn are all objects that are not hidden and at least SMALLEST pixels in both directions; `test` has all of
    which a pixel is seen, and those that are hidden do not count. A folder that has the same drives is left as it is.
    Raises UserError if it has others.

    detail: as of `drive.drive_frames`.
    """
    facts = {"drives": count, "frames": FRAMES, "every": EVERY, "detail": detail, "focal": FOCAL, "hidden": "ignored"}
    path = os.path.join(folder, "drives.json")
    if os.path.exists(folder):
        if not os.path.exists(path) or files.read_json(path) != facts:
            raise UserError(f"{folder}: holds something else; give another --root")
        return
    partial = f"{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(os.path.join(partial, "annotations"))
    seeds = {"test": [TEST_SEED], "train": range(1, count + 1)}
    parts = []
    with _pool() as pool:
        for split, which in seeds.items():
            os.makedirs(os.path.join(partial, split))
            with worker_processes.interrupts_held():  # workers start
                drawn = [pool.submit(_write_frames, partial, split, seed, detail) for seed in which]
            listed = [one.result() for one in tqdm.tqdm(drawn, f"drawing {split}", unit="drive")]
            parts.append(records.Part(split, list(itertools.chain.from_iterable(listed))))
    coco_writer.write(partial, parts, CLASSES)
    files.write_json(os.path.join(partial, "drives.json"), facts)
    os.replace(partial, folder)


@contextlib.contextmanager
def _pool():
    """Context manager: a pool of processes. An interrupt waits only for the drives that they draw, not for all."""
    context = multiprocessing.get_context("spawn")
    cores = worker_processes.usable_cores()
    pool = concurrent.futures.ProcessPoolExecutor(cores, context, worker_processes.follow_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _write_frames(folder, split, seed, detail):
    """Draw and write the frames of a drive; returns their records."""
    cv2.setNumThreads(1)
    listed, frames = [], drive.drive_frames(seed, -(-FRAMES // EVERY), RATE / EVERY, detail, FOCAL)
    for number, (image, objects) in enumerate(frames):
        name = f"{seed:03d}_{number:03d}"
        path = os.path.join(folder, split, f"{name}.jpg")
        cv2.imwrite(path, image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
        taken = [item for item in objects if split == "test" or _can_be_learned(item)]
        objects = [(item.label, map(int, item.box_px), _is_hidden(item)) for item in taken]
        listed.append(bench_toy.record(path, name, Camera(detail=detail).size, objects))
    return listed


def _is_hidden(item):
    return item.occluded > scenes.MAX_OCCLUDED


def _can_be_learned(item):
    x0, y0, x1, y1 = item.box_px
    return not _is_hidden(item) and min(x1 - x0, y1 - y0) >= SMALLEST


class Truth(NamedTuple):
    """The objects of a picture. labels: int64 [N]; boxes_px: float64 [N,4]; counts: bool [N], whether one is judged."""

    labels: np.ndarray
    boxes_px: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, rows):
        """rows: [(label, box in pixels, counts)]."""
        labels, boxes_px, counts = ([row[column] for row in rows] for column in range(3))
        return cls(np.array(labels, np.int64), np.array(boxes_px, float).reshape(-1, 4), np.array(counts, bool))


def read_split(folder, split):
    """([path of a picture], [Truth]) of a split of `write_drives`."""
    with open(os.path.join(folder, "annotations", f"instances_{split}.json"), encoding="utf-8") as file:
        listed = json.load(file)
    objects = {one["id"]: [] for one in listed["images"]}
    for one in listed["annotations"]:
        x, y, wide, high = one["bbox"]
        objects[one["image_id"]].append((one["category_id"] - 1, (x, y, x + wide, y + high), not one.get("ignore")))
    paths = [os.path.join(folder, split, one["file_name"]) for one in listed["images"]]
    return paths, [Truth.of(some) for some in objects.values()]


def _training(flags, data, run, name):
    """The arguments of train.py."""
    words = ["--data", data, "--train", "train", "--classes", ",".join(CLASSES), "--run", run, *bench_toy.RECIPE]
    words += ["--preset", flags.preset, "--width", flags.width, "--batch-size", flags.batch_size]
    words += ["--max-steps", flags.steps, "--seed", flags.seed]
    words += ["--epochs", flags.steps * flags.batch_size]  # so that the steps end it
    return words + (["--tiles", "{}x{}".format(*flags.tiles)] if name == "tiles" else [])


def _detect(run, pictures, cut):
    """([Detections] of the pictures, the seconds that it took, without loading)."""
    tensorflow_loading.import_tensorflow()
    import detector

    with detector.load(run, threshold=THRESHOLD, tiles=cut) as loaded:
        start = time.monotonic()
        found = [one for _, _, one in loaded.detect_files((path, False) for path in pictures)]
        return found, time.monotonic() - start


def count(truth, found, height):
    """{"objects", "found": of each of HEIGHTS, how many there are and how many are found, "false": detections of none}.

    truth: of `read_split`; found: the Detections of the same pictures; height: of the pictures, in pixels. The best
    detection goes first and takes the object of its class that it overlaps most, if it is enough and still free. One of
    an object that does not count is neither right nor wrong.
    """
    objects, hits, wrong = np.zeros(len(HEIGHTS), int), np.zeros(len(HEIGHTS), int), 0
    for (labels, boxes_px, counts), detections in zip(truth, found, strict=True):
        heights = np.digitize((boxes_px[:, 3] - boxes_px[:, 1]) / height, BOUNDS) - 1
        np.add.at(objects, heights[counts], 1)
        overlap = box_geometry.iou(detections.boxes_px.astype(float), boxes_px)
        free = np.ones(len(labels), bool)
        for row, label in enumerate(detections.labels):
            enough = (labels == label) & (overlap[row] >= ENOUGH)
            allowed = enough & free & counts
            if allowed.any():
                taken = np.where(allowed, overlap[row], 0).argmax()
                free[taken] = False
                hits[heights[taken]] += 1
            else:
                wrong += not (enough & ~counts).any()
    return {"objects": objects.tolist(), "found": hits.tolist(), "false": wrong}


def count_classes(truth, found, height):
    """{class: what `count` has of its objects and detections}; arguments as of `count`."""
    counted = {}
    for label, name in enumerate(CLASSES):
        objects = [Truth(*(part[one.labels == label] for part in one)) for one in truth]
        counted[name] = count(objects, [one.where(one.labels == label) for one in found], height)
    return counted


def page(header):
    """The page in Markdown. header: what small_things.json holds."""
    machine, (wide, high) = header["machine"], header["pixels"]
    names = {"whole": "whole pictures", "tiles": f"{header['tiles']} tiles too"}
    cells = [
        [
            names[row["trained"]],
            names[row["detected"]],
            *(f"{hit} of {every}" for hit, every in zip(row["found"], row["objects"], strict=True)),
            row["false"],
            row["seconds"],
        ]
        for row in header["rows"]
    ]
    head = ["trained on", "detected in", *HEIGHTS, "false detections", "seconds"]
    smallest = [
        [*cell[:2], *(f"{one['found'][0]} of {one['objects'][0]}, {one['false']}" for one in row["classes"].values())]
        for cell, row in zip(cells, header["rows"], strict=True)
    ]
    return (
        f"{bench_harness.written_by(header, header['trained_at'])}, on {machine['cpu']}, "
        f"{plural(machine['cores'], 'core')}. "
        f"Objects of which nearer things hide no more than {scenes.MAX_OCCLUDED:.0%}, in every sixth frame of a drive "
        f"of {wide} × {high} pixels, by their share of the picture's height, that are found with a score above "
        f"{THRESHOLD:g} and IoU {ENOUGH:g}, after {header['steps']} steps on frames of "
        f"{plural(header['drives'], 'other drive')}.\n\n{wording.table(head, cells)}\n\n"
        f"Of each class what is found {HEIGHTS[0]}, and the false detections of any height:\n\n"
        f"{wording.table([*head[:2], *CLASSES], smallest)}\n"
    )


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--root", type=output_folder, default=os.path.join("runs", "small"), metavar="DIR", help="for all files")
    add("--drives", type=positive_int, default=40, metavar="N", help="drives to train on, 42 pictures each")
    add("--detail", type=positive_int, default=3, metavar="N", help="of the drives, in times of 480 x 360 pixels")
    add("--steps", type=positive_int, default=2000, metavar="N", help="of each of the two trainings")
    add("--batch-size", type=positive_int, default=8, metavar="N", help="of the trainings")
    add("--tiles", type=tiles.parse, default=(3, 2), metavar="CxR", help="to train on and detect in (default: 3x2)")
    add("--preset", choices=tuple(ssd_utils.PRESETS), default="vgg300", help="of the network")
    add("--width", type=positive_fraction, default=0.25, metavar="X", help="of the network")
    add("--seed", type=non_negative_int, default=0, metavar="N", help="of the trainings")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
