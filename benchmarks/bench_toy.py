"""What the benchmarks that train on the toy road share."""

from toy_road.town import CLASSES

# From scratch at a quarter of the channels, as the demo
RECIPE = [
    *("--augmentation", "light", "--precision", "auto", "--adam-epsilon", "1e-8", "--weight-decay", "0"),
    *("--schedule", "cosine", "--warmup-steps", "50", "--learning-rate", "1e-3"),
]


def coco(listed):
    """The dict of a COCO file. listed: (name, (width, height), [(label, box in pixels)]) of each picture."""
    pictures, annotations = [], []
    for number, (name, (width, height), objects) in enumerate(listed, start=1):
        pictures.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, (x0, y0, x1, y1) in objects:
            place = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, **place})
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)]
    return {"images": pictures, "annotations": annotations, "categories": categories}
