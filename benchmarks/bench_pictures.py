"""The pictures that benchmarks read: those of --data, or the toy road, drawn in the scratch folder."""

import json
import os
import pathlib

import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import source_pascal_voc
from structures import Sample, UserError
from toy_road import dataset, drawing

FRAME = (768, 576)  # width, height of the video
PAN = 25  # frames that show one picture


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


def film(settings, frames, size=FRAME):
    """An H.264 video that pans over the pictures. size: (width, height). Needs PyAV."""
    import cv2

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
