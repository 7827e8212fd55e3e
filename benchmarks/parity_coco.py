"""Compare COCO's metric with pycocotools: the largest difference of the twelve figures."""

import pathlib
import tempfile

import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import coco_cases
from scoring import coco_metric

CASES = 200
TOLERANCES = {"difference": 1e-6}


def compare_random():
    """Random cases -> {"images": how many, "figures": how many were compared, "difference": the largest}."""
    rng, images, apart = np.random.default_rng(12), 0, []
    for case in range(CASES):
        truth, found, names = coco_cases.random_case(rng)
        if case % 20 == 0:
            coco_cases.many_detections(truth, found, rng)
        if load := coco_cases.from_memory(truth, found, len(names)):
            apart += _differences(truth, found, names, load)
            images += len(truth)
    return {"images": images, "figures": len(apart), "difference": max(apart)}


def compare_real(folder, split, names):
    """The same for a VOC-layout folder's annotations, written as COCO's JSON, and random detections near them."""
    with tempfile.TemporaryDirectory() as scratch:
        truth, found, load = coco_cases.real_case(folder, split, names, pathlib.Path(scratch))
        apart = _differences(truth, found, names, load)
    return {"images": len(truth), "figures": len(apart), "difference": max(apart)}


def _differences(truth, found, names, load):
    """The difference of each figure; infinite if only one side has it."""
    ours = coco_metric.evaluate(truth, found, names)["coco"]["mean"]
    theirs = coco_cases.figures_of_pycocotools(load)
    one_sided = {figure for figure in theirs if (ours[figure] is None) != (theirs[figure] is None)}
    both = [figure for figure in theirs if ours[figure] is not None and theirs[figure] is not None]
    return [np.inf for _ in one_sided] + [abs(ours[figure] - theirs[figure]) for figure in both]
