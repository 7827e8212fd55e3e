"""The pictures that benchmarks read: those of --data, or the toy road, drawn in the scratch folder."""

import functools
import json
import os
import pathlib

import cv2
import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import source_pascal_voc
from structures import Sample, UserError
from toy_road import dataset, drawing

FRAME = (768, 576)  # width, height of the video
SOME = 16
PAN = 25  # frames that show one picture
MOST_OBJECTS = {"voc": 8, "coco": 14}  # the means are about those of the data sets themselves


def index(settings, count):
    """The path of a JSON list of at most `count` pictures with objects, for both sides; see `read_index`."""
    path = pathlib.Path(settings.scratch, f"pictures-{count}.json")
    if not path.exists():
        samples = [sample for sample in _samples(settings, count) if len(sample.boxes)][:count]
        entries = [
            {
                "path": str(sample.image_path),
                "boxes_px": sample.boxes_px.tolist(),
                "labels": sample.labels.tolist(),
                "width": sample.width,
                "height": sample.height,
            }
            for sample in samples
        ]
        path.write_text(json.dumps(entries))
    return str(path)


def some(settings):
    """The paths of a few pictures, for which the random weights of a model are made."""
    return [str(sample.image_path) for sample in read_index(index(settings, SOME))]


def source_name(settings):
    """What the pictures are, for messages."""
    return "pictures of --data" if settings.data else f"toy road {drawing.WIDTH}×{drawing.HEIGHT}"


def read_index(path):
    """An index -> list of Sample."""
    samples = []
    for entry in json.loads(pathlib.Path(path).read_text()):
        size = np.array([entry["width"], entry["height"]] * 2, np.float64)
        samples.append(
            Sample(
                id=pathlib.Path(entry["path"]).stem,
                image_path=entry["path"],
                boxes=(np.array(entry["boxes_px"]) / size).astype(np.float32),
                labels=np.array(entry["labels"], np.int32),
                difficult=np.zeros(len(entry["labels"]), bool),
                width=entry["width"],
                height=entry["height"],
            )
        )
    return samples


def _samples(settings, count):
    """Samples of the largest split, of all classes that are named there."""
    data = folder_of_data(settings, count)
    split, names = split_and_classes(data)
    return source_pascal_voc.load(data, split, names)


def folder_of_data(settings, count):
    """--data, or the toy road with `count` pictures to train on."""
    if settings.data:
        return settings.data
    data = os.path.join(settings.scratch, f"toy-{count}")
    dataset.write_dataset(data, train=count, test=1)
    return data


def split_and_classes(data):
    """The largest split of a folder in VOC layout, and the sorted names of the classes in it. Raises UserError."""
    splits = {name: source_pascal_voc.find(data, name) for name in source_pascal_voc.split_names(data)}
    if not splits:
        raise UserError(f"--data {data}: no splits found; give a folder in VOC layout")
    largest = max(splits, key=lambda name: len(splits[name]))
    names = {
        item.name
        for entry in splits[largest]
        for item in source_pascal_voc.parse_annotation(entry.annotation_path).objects
    }
    return largest, sorted(names)


def folder(settings, count):
    """A folder of `count` pictures: hard links to those of the index, repeated if there are fewer."""
    path = pathlib.Path(settings.scratch, f"folder-{count}")
    if not path.exists():
        path.mkdir()
        sources = [sample.image_path for sample in read_index(index(settings, min(count, 500)))]
        for number in range(count):
            source = pathlib.Path(sources[number % len(sources)])
            link = path / f"{number:06d}{source.suffix}"
            try:
                os.link(source, link)
            except OSError:  # on another disk
                link.symlink_to(source.resolve())
    return str(path)


def annotated(settings, kind, count):
    """A folder with `count` small pictures of noise and the split "train". kind: "voc" or "coco".

    Pictures have 1 to MOST_OBJECTS objects.
    """
    path = pathlib.Path(settings.scratch, f"{kind}-{count}")
    if path.exists():
        return str(path)
    pictures, write = ("JPEGImages", _write_voc) if kind == "voc" else ("train", _write_coco)
    rng = np.random.default_rng(0)
    picture = cv2.imencode(".jpg", rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))[1].tobytes()
    boxes = [
        rng.integers(1, 30, (int(rng.integers(1, MOST_OBJECTS[kind] + 1)), 2)).tolist() for _ in range(count)
    ]  # corners
    (path / pictures).mkdir(parents=True)
    for number in range(count):
        (path / pictures / f"{number:012d}.jpg").write_bytes(picture)
    write(path, boxes)
    return str(path)


def _write_voc(path, boxes):
    """Pascal VOC's files for pictures of 64×48 pixels. boxes: corners (x, y) of each picture's objects."""
    (path / "Annotations").mkdir()
    (path / "ImageSets" / "Main").mkdir(parents=True)
    for number, corners in enumerate(boxes):
        objects = "".join(
            "<object><name>thing</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
            f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 15}</xmax><ymax>{y + 15}</ymax></bndbox></object>\n"
            for x, y in corners
        )
        text = (
            f"<annotation><folder>VOC2012</folder><filename>{number:012d}.jpg</filename>\n"
            f"<size><width>64</width><height>48</height><depth>3</depth></size>\n{objects}</annotation>\n"
        )
        (path / "Annotations" / f"{number:012d}.xml").write_text(text)
    ids = "".join(f"{number:012d}\n" for number in range(len(boxes)))
    (path / "ImageSets" / "Main" / "train.txt").write_text(ids)


def _write_coco(path, boxes):
    """COCO's file for such pictures, as long as COCO's own: a polygon of 22 corners for each object, addresses."""
    pictures = [
        {
            "license": 3,
            "file_name": f"{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "height": 48,
            "width": 64,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_ce44de1f39_z.jpg",
            "id": number,
        }
        for number in range(len(boxes))
    ]
    corners = ((number, x, y) for number, one in enumerate(boxes) for x, y in one)
    objects = (
        f'{{"segmentation": [{_polygon(x, y)}], "area": 200.5, "iscrowd": 0, "image_id": {number}, '
        f'"bbox": [{x + 0.25}, {y}, 15.5, 15], "category_id": {1 + (x + y) % 80}, "id": {index}}}'
        for index, (number, x, y) in enumerate(corners)
    )
    categories = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in range(1, 81)]
    (path / "annotations").mkdir()
    with open(path / "annotations" / "instances_train.json", "w") as file:
        file.write(f'{{"images": {json.dumps(pictures)}, "annotations": [')
        file.write(", ".join(objects))
        file.write(f'], "categories": {json.dumps(categories)}}}')


@functools.cache
def _polygon(x, y):
    """JSON of 22 corners around the box at (x, y)."""
    angles = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    corners = np.stack([x + 8 + 7.75 * np.cos(angles), y + 7.5 + 7.5 * np.sin(angles)], axis=1)
    return json.dumps(corners.ravel().round(2).tolist())


def film(settings, frames, size=FRAME):
    """An H.264 video that pans over the pictures. size: (width, height). Needs PyAV."""
    from media import images, video

    width, height = size
    path = pathlib.Path(settings.scratch, f"film-{width}x{height}-{frames}.mp4")
    if not path.exists():
        samples = read_index(index(settings, -(-frames // PAN)))
        with video.VideoWriter(str(path), width, height, 25) as writer:
            for frame in range(frames):
                shown, step = divmod(frame, PAN)
                if step == 0:
                    image = images.read(samples[shown % len(samples)].image_path)
                    wide = cv2.resize(image, (width + 4 * PAN, height))
                writer.write(np.ascontiguousarray(wide[:, 4 * step : 4 * step + width]))
    return str(path)
