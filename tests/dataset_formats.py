"""One data set written in every format, for tests."""

import json
import pathlib
import shutil

import source_pascal_voc as voc


def write_all(voc_root, root, splits, class_names, exact=repr):
    """Write the VOC-layout folder `voc_root` in every other format too: {format: DATA}. exact: float -> text.

    Coordinates are converted here, not by the code under test: VOC's pixels are 1-based and inclusive, so a box is
    xmax - xmin + 1 pixels wide.
    """
    voc_root, root = pathlib.Path(voc_root), pathlib.Path(root)
    tables = {name: root / name for name in ("coco", "yolo", "csv", "bdd100k", "kitti", "labelme")}
    for split in splits:
        rows = [_read(entry) for entry in voc.find(voc_root, split)]
        _write_coco(tables["coco"], split, rows, class_names)
        _write_yolo(tables["yolo"], split, rows, class_names, exact)
        _write_csv(tables["csv"], split, rows)
        _write_bdd100k(tables["bdd100k"], split, rows)
        _write_kitti(tables["kitti"], split, rows)
        _write_labelme(tables["labelme"], split, rows)
    lines = [f"{split}: images/{split}" for split in splits]
    names = [f"  {number}: {name}" for number, name in enumerate(class_names)]
    (tables["yolo"] / "data.yaml").write_text("\n".join(["path: .", *lines, "names:", *names, ""]), "utf-8")
    return {"voc": voc_root, **tables}


def _read(entry):
    return pathlib.Path(entry.image_path), voc.parse_annotation(entry.annotation_path)


def _copy(picture, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(picture, folder)


def _write_coco(root, split, rows, class_names):
    content = {"images": [], "annotations": [], "categories": []}
    for number, name in enumerate(class_names):
        content["categories"].append({"id": 10 + 3 * number, "name": name})
    for number, (picture, annotation) in enumerate(rows, start=100):
        _copy(picture, root / split)
        content["images"].append(
            {"id": number, "file_name": picture.name, "width": annotation.width, "height": annotation.height}
        )
        for one in annotation.objects:
            bbox = [one.xmin - 1, one.ymin - 1, one.xmax - one.xmin + 1, one.ymax - one.ymin + 1]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "bbox": bbox,
                    "iscrowd": 0,
                    "category_id": 10 + 3 * class_names.index(one.name),
                    "area": bbox[2] * bbox[3],
                }
            )
    content["images"].reverse()  # loaders go by id, not by this order
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def _write_yolo(root, split, rows, class_names, exact):
    labels = root / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    for picture, annotation in rows:
        _copy(picture, root / "images" / split)
        lines = []
        for one in annotation.objects:
            cx, cy = (one.xmin - 1 + one.xmax) / 2 / annotation.width, (one.ymin - 1 + one.ymax) / 2 / annotation.height
            width, height = (one.xmax - one.xmin + 1) / annotation.width, (one.ymax - one.ymin + 1) / annotation.height
            lines.append(" ".join([str(class_names.index(one.name)), *map(exact, (cx, cy, width, height))]))
        if lines:  # a picture without objects has no file
            (labels / f"{picture.stem}.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _write_csv(root, split, rows):
    lines = ["image,xmin,ymin,xmax,ymax,class"] if split != "val" else []  # with and without header
    for picture, annotation in rows:
        _copy(picture, root / "images")
        for one in annotation.objects:
            lines.append(f"{picture.name},{one.xmin - 1},{one.ymin - 1},{one.xmax},{one.ymax},{one.name}")
        if not annotation.objects:
            lines.append(f"{picture.name},,,,,")
    (root / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")


def _edges(one):
    """Continuous edges of an AnnotatedObject."""
    return one.xmin - 1, one.ymin - 1, one.xmax, one.ymax


def _write_bdd100k(root, split, rows):
    frames = []
    for picture, annotation in rows:
        _copy(picture, root / "images" / "100k" / split)
        labels = [
            {"category": one.name, "box2d": dict(zip(("x1", "y1", "x2", "y2"), _edges(one), strict=True))}
            for one in annotation.objects
        ]
        frames.append({"name": picture.name, "labels": [*labels, {"category": "lane", "poly2d": []}]})
    (root / "labels" / "det_20").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "det_20" / f"det_{split}.json").write_text(json.dumps(frames), "utf-8")


def _write_kitti(root, split, rows):
    labels = root / split / "label_2"
    labels.mkdir(parents=True, exist_ok=True)
    for picture, annotation in rows:
        _copy(picture, root / split / "image_2")
        lines = [
            f"{one.name} 0.00 0 -10 {' '.join(map(str, _edges(one)))} -1 -1 -1 -1 -1 -1 -1"
            for one in annotation.objects
        ]
        lines.append("DontCare -1 -1 -10 1.0 1.0 9.0 9.0 -1 -1 -1 -1000 -1000 -1000 -10")
        (labels / f"{picture.stem}.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _write_labelme(root, split, rows):
    for picture, annotation in rows:
        _copy(picture, root / split)
        shapes = []
        for number, one in enumerate(annotation.objects):
            left, top, right, bottom = _edges(one)
            points = [[left, top], [right, bottom]] if number % 2 else [[right, bottom], [left, top]]  # as it was drawn
            shapes.append({"label": one.name, "points": points, "shape_type": "rectangle", "flags": {}})
        content = {"version": "5.0.1", "shapes": shapes, "imagePath": picture.name, "imageData": None}
        content |= {"imageWidth": annotation.width, "imageHeight": annotation.height}
        (root / split / f"{picture.stem}.json").write_text(json.dumps(content), "utf-8")
