"""What reads files of others: for each reader a whole input, and a function that reads it."""

import json
import pathlib
import shutil

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
RELEASE = ROOT / "tests" / "fixtures" / "release_0_1_0"
NAMES = ("disc", "square")


def prepare(work, wanted=None):
    """{reader: (folder, files in it that are damaged, read())} in `work`; wanted: only readers whose names begin so."""
    found = {}
    for make in (_data_sets, _settings, _results, _pictures, _weights, _graphs, _videos):
        place = work / make.__name__
        place.mkdir()
        found |= make(place)
    return {name: one for name, one in found.items() if not wanted or name.startswith(tuple(wanted))}


def _data_sets(place):
    import sources
    from dataset_formats import write_all
    from programs import write_shapes
    from results import detection_files
    from results.data_set import DataSet

    voc = write_shapes(place / "voc", {"train": 2, "val": 1})
    found = {}
    for name, data in write_all(voc, place, ["train", "val"], NAMES).items():
        texts = [path for path in data.rglob("*") if path.suffix in (".xml", ".json", ".txt", ".csv", ".yaml")]

        def read(data=data, name=name):
            for split in sources.split_names(data, name)[:1]:
                sources.load(data, split, sources.class_names(data, split, name), source=name)

        found[f"data set {name}"] = data, texts, read
    listed = place / "coco_results.json"
    row = {"category_id": 10, "bbox": [1.5, 2, 30, 20], "score": 0.5}
    listed.write_text(json.dumps([{"image_id": 100, **row}, {"image_id": 100, **row, "score": 0.25}]), "utf-8")

    def read_list():
        detection_files.read(str(listed), NAMES, DataSet(str(place / "coco"), "val", "coco"))

    return {**found, "results coco": (place, [listed], read_list)}


def _settings(place):
    import config
    import runs
    import ssd_utils
    from dataset_check import anchor_advisor
    from formats import class_lists, division
    from scoring import score_threshold
    from tracking import mot_file
    from training import augmentation_file

    run = place / "run"
    shutil.copytree(RELEASE / "run", run)
    step = next(run.glob("checkpoints/step-*"))
    (run / "division.json").write_text(json.dumps({"train": ["a.jpg"], "valid": ["b.jpg"], "share": 0.5}))
    thresholds = {"thresholds": {"all": 0.4, "per_class": {"disc": 0.3, "square": None}}, "checkpoint": "step-00000003"}
    (run / "scoring.json").write_text(json.dumps(thresholds))
    anchors, augmentation = place / "anchors.json", place / "augmentation.json"
    shutil.copy(RELEASE / "anchors.json", anchors)
    augmentation.write_text(json.dumps({"base": "light", "brightness": 32, "min_ious": [0.1, 0.5], "crop": True}))
    names, truth = place / "names.txt", place / "gt.txt"
    names.write_text("cat\ndog\n# none\n")
    truth.write_text("".join(f"{n},1,10,20,30,40,1,1,0.5\n{n},2,5,5,9,9,1,2,1\n" for n in range(1, 9)))
    preset = ssd_utils.get_preset("vgg300")
    source = config.find_model(str(run))
    return {
        "config.json": (run, [run / "config.json"], lambda: config.read_config(str(run))),
        "index.json": (run, [run / "checkpoints" / "index.json"], lambda: config.find_model(f"{run}@last")),
        "state.json": (run, [step / "state.json"], lambda: runs.last_state(str(run))),
        "division.json": (run, [run / "division.json"], lambda: division.read(run / "division.json")),
        "scoring.json": (
            run,
            [run / "scoring.json"],
            lambda: score_threshold.resolve(score_threshold.parse("best"), source, 0.5),
        ),
        "anchors": (place, [anchors], lambda: anchor_advisor.read_anchors(str(anchors), preset)),
        "augmentation": (place, [augmentation], lambda: augmentation_file.read(str(augmentation))),
        "list of classes": (place, [names], lambda: class_lists.parse_classes(str(names))),
        "MOT tracks": (place, [truth], lambda: mot_file.read(str(truth))),
    }


def _results(place):
    from result_cases import NAMES as CLASSES
    from result_cases import some_images
    from results import detection_files
    from results.result_files import Origin, Source

    found = {}
    origin = Origin(Source("m"), class_names=CLASSES, class_numbers=tuple(range(3)), threshold=0, data=None)
    for name, module in detection_files.FORMATS.items():
        if name in ("yolo", "coco"):  # need a data set
            continue
        folder = place / name
        folder.mkdir()
        with module.open_writer(folder, origin) as writer:
            for key, detections in some_images().items():
                writer.add(f"{key}.jpg", 500, 375, detections)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        target = paths[0] if len(paths) == 1 else folder
        found[f"results {name}"] = folder, paths, lambda target=target: detection_files.read(str(target), CLASSES)
    return found


def _pictures(place):
    import cv2
    from PIL import Image

    from media import images

    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    image[:, :30] = 90
    found = {}
    for suffix in ("jpg", "png", "webp", "bmp", "tif", "gif", "jp2", "ppm", "avif"):
        path = place / f"a.{suffix}"
        if suffix in ("gif", "avif"):
            try:
                Image.fromarray(image).save(path)
            except (OSError, ValueError, KeyError):  # this Pillow cannot write it
                continue
        else:
            cv2.imwrite(str(path), image)
        found[f"picture {suffix}"] = place, [path], lambda path=path: images.read(str(path))
    return found


def _weights(place):
    import weight_twins
    from weights import layouts, weight_files

    writers = {
        "npz": (weight_twins.write_npz, "vgg16-npz"),
        "safetensors": (weight_twins.write_safetensors, "vgg16-torchvision"),
        "h5": (weight_twins.write_h5, "vgg16-keras"),
        "caffemodel": (weight_twins.write_caffemodel, "vgg16-caffe"),
        "pth": (weight_twins.write_torch, "vgg16-torchvision"),
        "pt": (weight_twins.write_torch_legacy, "vgg16-torchvision"),
    }
    found = {}
    for suffix, (write, layout) in writers.items():
        path = place / f"a.{suffix}"
        write(path, weight_twins.vgg(layout, fc=None)[0])

        def read(path=path):
            values = weight_files.read(str(path))
            layouts.recognize(str(path), values)

        found[f"weights {suffix}"] = place, [path], read
    return found


def _graphs(place):
    import detector

    path = place / "model.pb"
    shutil.copy(RELEASE / "model.pb", path)
    run = place / "run"
    shutil.copytree(RELEASE / "run", run)
    step = next(run.glob("checkpoints/step-*"))
    files = [step / "model.index", next(step.glob("model.data*"))]
    return {
        "graph .pb": (place, [path], lambda: detector.read_frozen(str(path))),
        "checkpoint": (run, files, lambda: detector.read_weights(str(step / "model"))),
    }


def _videos(place):
    from media import video

    noise, path = np.random.default_rng(0), place / "a.mp4"
    with video.VideoWriter(path, 64, 48, 25) as writer:
        for _ in range(6):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))

    def read():
        with video.VideoReader(path) as reader:
            for number, _ in enumerate(reader):
                if number > 100:
                    break

    return {"video mp4": (place, [path], read)}
