"""What the benchmarks that train on the toy road share."""

import os

import bench_harness
from bench_paths import ROOT  # noqa: F401, so that the project is found

import demo
from conversion import records
from system import chain, files

WIDTH = demo.RECIPE.index("--width")
# The demo's but the width, which each benchmark has a flag for
RECIPE = [*demo.RECIPE[:WIDTH], *demo.RECIPE[WIDTH + 2 :], "--learning-rate", "1e-3"]


def train(stages, stage, run, words):
    """Train, unless an earlier call has done it -> the commits at which it was trained, as of `bench_harness.commit`.

    stages: chain.Chain; words: the arguments of train.py. The commits are kept in RUN.commits.json.
    """
    path, again = f"{run}.commits.json", chain.has_begun(run)
    known, is_done = [], stages.is_done(stage, "train.py", *words)
    if is_done or again:
        known = files.read_json(path, list) if os.path.exists(path) else [None]
    if not is_done:
        known = list(dict.fromkeys([*known, bench_harness.commit()]))
        files.write_json(path, known)
    stages.call(stage, "train.py", *words, again=["--resume"] if again else [])
    return known


def record(path, name, size, objects):
    """A picture for `conversion.coco_writer`. size: (width, height); objects: [(label, box in pixels, difficult)]."""
    items = [records.Item(label, tuple(box), difficult, False, False, None) for label, box, difficult in objects]
    return records.Record(path, name, *size, items)
