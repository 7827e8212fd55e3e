"""The sheet of `train.py --show-batch`: augmented pictures with their objects and the anchors that match them."""

import os
from collections.abc import Sequence

import cv2
import numpy as np

import boxes as box_geometry
import config
import training_data
from media import images, lettering, visualization
from media.class_colors import class_colors
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import cli
from system.wording import plural

COUNT, COLUMNS = 16, 4  # pictures of a sheet, the first ones of the training
TILE = 480  # pixels of a picture's width
NAME = "batch.jpg"


def write(
    folder: str, samples: Sequence[Sample], description: config.ModelDescription, settings: TrainingSettings
) -> str:
    """Write folder/batch.jpg with the first pictures that a training sees; returns a line that says what is in it.

    Thin lines are matched anchors, in the color of their class; a dashed box has none. samples: of one epoch. Raises
    UserError if no picture can be read.
    """
    item = training_data.make_item(samples, description.preset, settings)
    tiles, counts = [], np.zeros(3, int)
    for job in training_data.epoch_jobs(len(samples), settings.seed, epoch=0)[:COUNT]:
        plan, matches = item.plan(job)
        try:
            image = item.render(job, plan)
        except images.ImageError as error:
            cli.warn(f"not shown: {error.path}: {error.reason}")
            continue
        alone = np.setdiff1d(np.arange(len(plan.boxes)), matches)  # objects without an anchor
        numbers = len(plan.boxes), np.count_nonzero(matches >= 0), len(alone)
        counts += numbers
        tile = item.view(job).number
        name = os.path.basename(samples[job[1]].image_path) + (f", tile {tile}" if tile else "")
        words = f"{name}: {_words(*numbers)}"
        picture = _draw(image, plan, matches, alone, item.anchors, description.class_names)
        tiles.append(np.concatenate([picture, lettering.caption(words, TILE)]))
    if not tiles:
        raise UserError(f"--train {settings.train}: none of the first pictures can be read")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, NAME)
    images.write(path, _sheet(tiles))
    return f"{path}: {plural(len(tiles), 'picture')}, {_words(*counts.tolist())}"


def _words(objects, anchors, alone):
    without = f" ({alone:,} without an anchor)" if alone else ""
    return f"{plural(objects, 'object')}{without}, {plural(anchors, 'anchor')}"


def _draw(image, plan, matches, alone, anchors, class_names):
    """An augmented picture, enlarged, with its objects and their anchors.

    matches: int32 [A]; alone: numbers of the objects that no anchor matches.
    """
    size = TILE, round(TILE * image.shape[0] / image.shape[1])
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    lines, colors = canvas.copy(), class_colors(class_names)
    positive = np.flatnonzero(matches >= 0)
    anchors_px = box_geometry.from_cxcywh(anchors[positive]) * (2 * size)
    for box, gt in zip(anchors_px, matches[positive], strict=True):
        x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
        cv2.rectangle(lines, (x0, y0), (x1, y1), colors[plan.labels[gt]], 1)
    canvas = cv2.addWeighted(canvas, 0.4, lines, 0.6, 0)  # paler than the objects
    for gt in alone:
        visualization.draw_dashed(canvas, plan.boxes[gt] * (2 * size), 4)
    boxed = np.setdiff1d(np.arange(len(plan.boxes)), alone)
    return visualization.draw_objects(canvas, plan.boxes[boxed] * (2 * size), plan.labels[boxed], class_names)


def _sheet(tiles):
    """Tiles of one size in rows; the last row is filled up with black."""
    missing = -len(tiles) % min(COLUMNS, len(tiles))
    tiles = [*tiles, *[np.zeros_like(tiles[0])] * missing]
    columns = min(COLUMNS, len(tiles))
    return np.concatenate([np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)])
