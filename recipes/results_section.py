"""The results of a recipe as a page, results.md, with the best and the worst pictures."""

import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the project's modules

import cv2

import average_precision
import sources
from media import images, visualization
from results import detection_files
from system import files

SHOWN, COLUMNS = 6, 3
TILE = (400, 300)  # width, height


def write(root, lines, place, data, split, other_classes):
    """Write ROOT/results.md, best.jpg and worst.jpg, and return the path of the page.

    lines: paragraphs of Markdown at its start; place: recipe.Place of the training to show; data, split, other_classes:
    as for sources.load.
    """
    read = detection_files.read(os.path.join(place.inference, "detections.json"))
    samples = sources.load(data, split, read.class_names, other_classes=other_classes)
    truth = {sample.id: sample for sample in samples}
    found = {key: one.where(one.scores >= visualization.SHOW_THRESHOLD) for key, one in read.detections.items()}
    errors = count_errors(truth, found, read.class_names)
    # Of pictures with equally many errors those with more objects come first: they are harder to get right
    order = sorted(truth, key=lambda key: (errors[key], -int((~truth[key].difficult).sum())))
    worst = sorted((key for key in truth if errors[key]), key=lambda key: -errors[key])
    for name, keys in (("best", order), ("worst", worst)):
        sheet = _sheet([_drawn(truth[key], found.get(key), read.class_names) for key in keys[:SHOWN]])
        images.write(os.path.join(root, f"{name}.jpg"), sheet)

    def at(path):
        return os.path.relpath(path, root).replace(os.sep, "/")

    path = os.path.join(root, "results.md")
    text = [
        *lines,
        f"![Learning curves]({at(place.run)}/plots/learning_curves.png)",
        f"![Precision and recall]({at(place.plots)}/precision_recall.png)",
        f"[The errors, class by class]({at(place.plots)}/errors.html)",
        f"Detections with a score of {visualization.SHOW_THRESHOLD:g} or more in color, annotated objects dashed. "
        "The best pictures have the fewest false positives and missed objects; of equals, those with more objects:",
        "![The best pictures](best.jpg)",
        "The worst:" if worst else "No picture has an error.",
        *(["![The worst pictures](worst.jpg)"] if worst else []),
    ]
    files.write(path, "\n\n".join(text) + "\n")
    return path


def count_errors(truth, found, class_names):
    """{id: false positives + missed objects} by the metric's verdicts on `found`, dict id -> Detections."""
    curves = average_precision.precision_recall(truth, found, class_names)
    counts = np.array([(~sample.difficult).sum() for sample in truth.values()], np.int64)
    for curve in curves:
        np.add.at(counts, curve.images[curve.false], 1)
        np.add.at(counts, curve.images[curve.true], -1)  # one missed object less
    return dict(zip(truth, counts.tolist(), strict=True))


def _drawn(sample, detections, class_names):
    """The picture with its boxes, scaled into a tile; an empty tile if it cannot be read."""
    tile = np.full((TILE[1], TILE[0], 3), 235, np.uint8)
    try:
        image = images.read(sample.image_path, exif=sample.exif)
    except images.ImageError:
        return tile
    if detections is not None:
        image = visualization.draw_detections(image, detections, class_names, gt=sample)
    scale = min(TILE[0] / image.shape[1], TILE[1] / image.shape[0])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    left, top = (TILE[0] - width) // 2, (TILE[1] - height) // 2
    tile[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):  # a seam between neighbors
        tile[edge] = 255
    return tile


def _sheet(tiles):
    """Tiles side by side in rows, uint8 RGB [H,W,3]."""
    blank = np.full((TILE[1], TILE[0], 3), 255, np.uint8)
    tiles = [*tiles, *[blank] * (-len(tiles) % COLUMNS or COLUMNS * (not tiles))]
    return np.concatenate([np.concatenate(tiles[at : at + COLUMNS], axis=1) for at in range(0, len(tiles), COLUMNS)])
