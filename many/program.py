"""What infer.py --shards and infer_many.py share: flags, the facts of a job, and the job from its list to its count."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import config
from formats import class_lists
from many import coco_results, detecting, job
from many.inputs import Entry
from media import visualization
from scoring import score_threshold
from settings.computation import PRECISIONS
from system import stopping
from system.argument_types import positive_int
from tiling import flags as tile_flags
from tiling import tiles


def add_flags(group: Any, low_with: str, float32_with: str = "") -> None:
    """Add to an argparse group the flags that say how pictures are detected in.

    low_with: with what the threshold is low by default; float32_with: with what else than imported weights float32 is
    the default, both as words for the help.
    """
    group.add_argument(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"write detections that score above X: {score_threshold.HELP} (default: {visualization.SHOW_THRESHOLD}; "
        f"{score_threshold.CURVE} with {low_with}, because scoring needs low scores too)",
    )
    group.add_argument(
        "--classes",
        metavar="NAMES",
        help="detect only these classes, separated by commas; the results name no others (default: all of the model)",
    )
    group.add_argument(
        "--batch-size", type=positive_int, metavar="N", help="pictures at once (default: 8, on a GPU 32)"
    )
    tile_flags.add_to(
        group.add_argument,
        of_size="; a picture no larger than a tile is processed only as a whole, and one that needs more than "
        f"{tiles.MOST_TILES} tiles is skipped and listed",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="data type of the network (default: auto, chosen for this machine; float32 for imported weights"
        f"{float32_with})",
    )


def tiling(flags: argparse.Namespace) -> dict[str, Any]:
    """How pictures are cut into tiles, as `detector.load` takes it. Raises UserError for two ways at once."""
    tiles.choose(flags.tiles, flags.tile_size, flags.overlap)
    return {"tiles": flags.tiles, "tile_size": flags.tile_size, "overlap": flags.overlap}


def plan(
    flags: argparse.Namespace, model: config.ModelSource, threshold: Any
) -> tuple[detecting.Opener, dict[str, Any]]:
    """What opens the detector, and what of it decides the results: facts of the job, of plain JSON types.

    flags: of `add_flags`, with MODEL; model: which they name, fetched; threshold: of `score_threshold.resolve`.
    """
    name = os.path.abspath(flags.model) if model.run is None or os.path.isdir(flags.model) else flags.model
    run, at, which = name.rpartition("@")
    if at and os.path.isdir(run):
        name = f"{os.path.abspath(run)}@{which}"
    precision = flags.precision or ("float32" if model.is_imported else "auto")
    settings = {"precision": precision, "threshold": threshold, "batch_size": flags.batch_size}
    settings |= tiling(flags)
    wanted = class_lists.parse_classes(flags.classes) if flags.classes else None
    facts = {
        "model": detecting.model_hash(model),
        "threshold": score_threshold.to_json(threshold),
        "classes": list(wanted) if wanted else None,
        "precision": precision,
        "tiles": [*(flags.tiles or [flags.tile_size]), flags.overlap] if flags.tiles or flags.tile_size else None,
        # Not the size of batches, which changes the last digits at most: a smaller one helps where memory is full
    }
    return detecting.Opener(name, facts["model"], wanted, settings), facts


def run(
    folder: str,
    format: str,
    facts: Mapping[str, Any],
    pictures: Callable[[], Iterable[Entry]],
    size: int,
    work: Callable[[list[int]], Iterable[tuple[int, Mapping[str, int]]]],
    with_coco: bool,
    stop: stopping.StopRequest,
) -> None:
    """Begin a job or go on with it, to its end, and print the count.

    folder, facts, pictures, size: as of `job.begin`; format: of the shards; work: as of `job.work`; with_coco: whether
    COCO's results are written too. Raises UserError, and KeyboardInterrupt upon `stop`.
    """
    shards = job.begin(folder, facts, pictures, size)
    if with_coco:
        coco_results.check_ids(folder, shards)
        with coco_results.Stream(folder, shards, format) as coco:
            counts = job.work(folder, shards, format, lambda numbers: coco.follow(work(numbers)))
            coco.finish(stop.raise_if_requested)
    else:
        counts = job.work(folder, shards, format, work)
    print(f"{job.told(counts)}; see {folder}")
