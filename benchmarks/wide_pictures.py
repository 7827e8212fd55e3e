"""Whether a network whose input has the shape of the pictures finds more than a square one of the same cost.

Draws the toy road, cuts its pictures to 16:9, and trains for each shape two networks from scratch that compute about
the same number of pixels: one of that shape, and a square one, to which pictures are squeezed. All else is equal.
Writes DIR/wide_pictures.json and DIR/wide_pictures.md anew after each pair. Called again with the same arguments, it
goes on where it stopped.
"""

import bench_environment  # noqa: F401

import os
import shutil

import bench_harness
import bench_toy
import cv2
import numpy as np
import tqdm
from bench_paths import ROOT  # noqa: F401, so that the project is found

import sources
from conversion import coco_writer, records
from media import images
from structures import UserError
from system import chain, cli, files, load, wording
from system.argument_parser import ArgumentParser
from system.argument_types import output_folder, positive_fraction, positive_int
from toy_road import dataset, scenes
from toy_road.town import CLASSES

SQUARE = "384x384"
# By shape of the pictures: the input of that shape with about the area of SQUARE, whose sides must be multiples of 32
INPUTS = {"16:9": "512x288", "4:3": "448x320"}
SPLITS = ("train", "test")


def main(argv=None):
    flags = _parse(argv)
    drawn = os.path.join(flags.root, "4:3")
    dataset.write_dataset(drawn, flags.pictures, flags.test)
    header = {"command": bench_harness.command_line("wide_pictures.py", argv), "commit": bench_harness.commit()}
    header |= {"machine": load.machine(), "rows": []}
    stages = chain.Chain(os.path.join(flags.root, "stages.json"))
    for shape in flags.shapes:
        data = ["--data", drawn, "--train", "2007:train"] if shape == "4:3" else _cut(flags.root, drawn, shape)
        for seed in range(flags.seeds):
            for wanted in (INPUTS[shape], SQUARE):
                header["rows"].append(_trained(flags, stages, shape, data, wanted, seed))
            files.write_json(os.path.join(flags.root, "wide_pictures.json"), header)
            files.write(os.path.join(flags.root, "wide_pictures.md"), page(header))
    print(page(header), end="")


def _cut(root, drawn, shape):
    """Cut the drawn pictures to a shape, if that was not done before; returns the flags of the data set."""
    folder = os.path.join(root, shape)
    if not os.path.exists(folder):
        partial = f"{folder}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(os.path.join(partial, "annotations"))
        across, down = map(int, shape.split(":"))
        parts = []
        for split in SPLITS:
            os.makedirs(os.path.join(partial, split))
            samples = sources.load(drawn, f"2007:{split}", CLASSES)
            pictures = [cut(one, across / down, os.path.join(partial, split)) for one in tqdm.tqdm(samples, shape)]
            parts.append(records.Part(split, pictures))
        coco_writer.write(partial, parts, CLASSES)
        os.replace(partial, folder)
    return ["--data", folder, "--train", "train"]


def cut(sample, ratio, folder):
    """Write the middle rows of a picture, so many that width / height is `ratio`.

    Returns its record, with the objects of which at least half is in these rows.
    """
    height = round(sample.width / ratio)
    top = (sample.height - height) // 2
    path = os.path.join(folder, f"{sample.id}.png")
    cv2.imwrite(path, images.read(sample.image_path)[top : top + height, :, ::-1])
    kept = []
    for label, (x0, y0, x1, y1) in zip(sample.labels.tolist(), sample.boxes_px.tolist(), strict=True):
        low, high = np.clip([y0 - top, y1 - top], 0, height).tolist()
        if high - low >= scenes.MIN_INSIDE * (y1 - y0):
            kept.append((label, (x0, low, x1, high), False))
    return bench_toy.record(path, sample.id, (sample.width, height), kept)


def _trained(flags, stages, shape, data, wanted, seed):
    """Train and score one network; returns its row of the table."""
    name = f"{shape} {wanted} {seed}"
    run = os.path.join(flags.root, name.replace(" ", "-"))
    split = "2007:test" if shape == "4:3" else "test"
    amount = ["--width", flags.width, "--batch-size", flags.batch_size, "--max-steps", flags.steps, "--seed", seed]
    amount += ["--epochs", flags.steps * flags.batch_size]  # so that the steps end it
    words = [*data, "--classes", ",".join(CLASSES), "--run", run, "--input", wanted, *bench_toy.RECIPE, *amount]
    trained_at = bench_toy.train(stages, f"train {name}", run, words)
    found, scores = os.path.join(run, "found"), os.path.join(run, "ap.json")
    looked = ["--data", data[1], "--split", split]
    stages.call(f"detect {name}", "infer.py", run, *looked, "--output", found, "--no-draw", again=["--overwrite"])
    stages.call(f"score {name}", "average_precision.py", found, *looked, "--json", scores)
    ap = files.read_json(scores)["voc07"]
    rate = float(chain.last_metrics(run)["images_per_second"])
    row = {"shape": shape, "input": wanted, "seed": seed, "voc07": ap["mean"], "per_class": ap["per_class"]}
    return {**row, "images_per_second": rate, "trained_at": trained_at}


def page(header):
    """The page in Markdown. header: what wide_pictures.json holds."""
    machine = header["machine"]
    cells = [
        [
            row["shape"],
            row["input"],
            row["seed"],
            *map(_score, (row["voc07"], *(row["per_class"][name] for name in CLASSES))),
            f"{row['images_per_second']:.1f}",
        ]
        for row in header["rows"]
    ]
    trained_at = [commit for row in header["rows"] for commit in row["trained_at"]]
    head = ["pictures", "input", "seed", "VOC07 mAP", *(name.replace("_", " ") for name in CLASSES), "images/s trained"]
    return (
        f"{bench_harness.written_by(header, trained_at)}, on {machine['cpu']}, {machine['cores']} cores. "
        f"IoU 0.5, last checkpoint.\n\n{wording.table(head, cells)}\n"
    )


def _score(value):
    return "n/a" if value is None else f"{value:.3f}"  # no object in the pictures that are scored


def _shapes(text):
    shapes = list(dict.fromkeys(text.split(",")))
    if unknown := [shape for shape in shapes if shape not in INPUTS]:
        raise UserError(f"--shapes {text}: {unknown[0]!r} is not one of {', '.join(INPUTS)}")
    return shapes


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--root", type=output_folder, default=os.path.join("runs", "wide"), metavar="DIR", help="for all files")
    add("--shapes", default=",".join(INPUTS), metavar="W:H,...", help=f"of the pictures (default: {','.join(INPUTS)})")
    add("--pictures", type=positive_int, default=4000, metavar="N", help="to train on")
    add("--test", type=positive_int, default=400, metavar="N", help="to score on")
    add("--seeds", type=positive_int, default=1, metavar="N", help="trainings of each network")
    add("--steps", type=positive_int, default=560, metavar="N", help="of each training")
    add("--batch-size", type=positive_int, default=16, metavar="N", help="of the trainings")
    add("--width", type=positive_fraction, default=0.25, metavar="X", help="of the networks")
    flags = parser.parse_args(argv)
    flags.shapes = _shapes(flags.shapes)
    return flags


if __name__ == "__main__":
    cli.run(main)
