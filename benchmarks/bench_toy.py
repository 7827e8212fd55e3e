"""What the benchmarks that train on the toy road share."""

from bench_paths import ROOT  # noqa: F401, so that the project is found

import demo
from conversion import records

RECIPE = [*demo.RECIPE, "--learning-rate", "1e-3"]


def record(path, name, size, objects):
    """A picture for `conversion.coco_writer`. size: (width, height); objects: [(label, box in pixels, difficult)]."""
    items = [records.Item(label, tuple(box), difficult, False, False, None) for label, box, difficult in objects]
    return records.Record(path, name, *size, items)
