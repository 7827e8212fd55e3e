"""One data set in every format gives the same samples, batches and AP; the format is detected."""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import average_precision
import config
import dataset_formats
import source_pascal_voc
import sources
import ssd_utils
import training_data
from formats import folders
from media import images
from programs import TINY, run
from scoring import coco_metric
from settings.training_settings import TrainingSettings
from structures import Detections, Sample, UserError
from voc_tree import write_voc

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
NAMES = ("cat", "traffic light", "dog")
FORMATS = ("voc", "coco", "yolo", "csv", "bdd100k", "kitti", "labelme")
BY_NAME = ("yolo", "kitti", "labelme")  # whose pictures come in the order of their names


def write_pictures(root):
    """Two splits of noise with boxes that touch the borders, boxes one pixel wide, and pictures without boxes."""
    rng = np.random.default_rng(2)
    pictures, splits = {}, {"train": [], "val": []}
    for index in range(14):
        width, height = int(rng.integers(40, 90)), int(rng.integers(40, 90))
        objects = [(NAMES[index % 3], (1, 1, width, height))] if index == 3 else []
        for _ in range(int(rng.integers(0, 4)) if index else 0):
            x, y = int(rng.integers(1, width - 20)), int(rng.integers(1, height - 20))
            box = (x, y, x + int(rng.integers(1, 20)), y + int(rng.integers(1, 20)))
            objects.append((NAMES[rng.integers(3)], box))
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pictures[f"p{index:02d}"] = (picture, objects)
        splits["val" if index % 3 == 2 else "train"].append(f"p{index:02d}")
    return write_voc(root, pictures, splits, suffix=".png")


@pytest.fixture(scope="module")
def data_of(tmp_path_factory):
    """{format: DATA} of the same pictures."""
    voc = write_pictures(tmp_path_factory.mktemp("voc"))
    return dataset_formats.write_all(voc, tmp_path_factory.mktemp("others"), ["train", "val"], NAMES)


def assert_same_samples(left, right, ulps=1):
    """ulps: the largest difference of the fractions, in units in the last place of float32."""
    assert [one.id for one in left] == [one.id for one in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_max_ulp(a.boxes, b.boxes, ulps)
        np.testing.assert_array_equal(a.boxes_px, b.boxes_px)
        for name in ("labels", "difficult", "width", "height", "exif"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
            assert getattr(a, name) is None or type(getattr(a, name)) is type(getattr(b, name))
        assert a.boxes.dtype == b.boxes.dtype == np.float32 and a.labels.dtype == b.labels.dtype
        assert Path(a.image_path).read_bytes() == Path(b.image_path).read_bytes()
        assert a.crowd is None and b.crowd is None


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_samples(data_of, name):
    for splits in ("train", "val", "val,train"):
        expected = source_pascal_voc.load(data_of["voc"], splits, NAMES)
        assert_same_samples(sources.load(str(data_of[name]), splits, NAMES), expected)
        found = sources.find(data_of[name], splits)
        assert [entry.id for entry in found] == [sample.id for sample in expected]


def batches(samples):
    preset, settings = ssd_utils.get_preset("vgg300"), TrainingSettings(data="", train="", batch_size=4)
    with training_data.make_queue(samples, preset, settings, workers=0) as queue:
        for batch in queue.batches(training_data.epoch_jobs(len(samples), 1, 0)):
            yield {name: array.copy() for name, array in batch.arrays.items()}
            batch.release()


def test_every_format_gives_the_same_batches(data_of):
    expected = list(batches(source_pascal_voc.load(data_of["voc"], "train", NAMES)))
    for name in FORMATS[1:]:
        made = list(batches(sources.load(data_of[name], "train", NAMES)))
        assert len(made) == len(expected)
        for a, b in zip(made, expected, strict=True):
            np.testing.assert_array_equal(a["images"], b["images"])
            np.testing.assert_array_equal(a["class_targets"], b["class_targets"])
            np.testing.assert_allclose(a["offset_targets"], b["offset_targets"], atol=1e-4)


def detections_of(samples, rng):
    """Two boxes near each object, with random scores."""
    found = {}
    for sample in samples:
        near = np.repeat(sample.boxes_px, 2, axis=0)
        boxes = near + rng.normal(0, 1.5, near.shape)
        labels = np.repeat(sample.labels, 2)
        order = np.argsort(-(scores := rng.random(len(labels), np.float32)))
        found[sample.id] = Detections(boxes.astype(np.float32)[order], scores[order], labels[order])
    return found


def test_every_format_gives_the_same_ap(data_of):
    expected = source_pascal_voc.load(data_of["voc"], "val", NAMES)
    found = detections_of(expected, np.random.default_rng(0))
    scores = {}
    for name in FORMATS:
        truth = {one.id: one for one in sources.load(data_of[name], "val", NAMES)}
        scores[name] = average_precision.evaluate(truth, found, NAMES), coco_metric.evaluate(truth, found, NAMES)
    assert 0 < scores["voc"][0]["area"]["mean"] < 1 and 0 < scores["voc"][1]["coco"]["mean"]["AP"] < 1
    for name in FORMATS[1:]:
        assert scores[name] == scores["voc"]


def test_real_photographs_in_every_format(tmp_path):
    if not (SHARED / "raccoon").is_dir():
        pytest.skip("needs the shared photographs")
    data = dataset_formats.write_all(SHARED / "raccoon", tmp_path, ["test"], ("raccoon",))
    expected = source_pascal_voc.load(data["voc"], "test", ("raccoon",))
    for name in FORMATS[1:]:
        got = sources.load(data[name], "test", ("raccoon",))
        assert_same_samples(got, sorted(expected, key=lambda one: one.id) if name in BY_NAME else expected)


def test_six_digits_are_enough_for_yolo(data_of, tmp_path):
    """Ultralytics writes six: boxes are then within a thousandth of a pixel."""
    data = dataset_formats.write_all(data_of["voc"], tmp_path, ["train"], NAMES, exact=lambda value: f"{value:.6f}")
    for a, b in zip(sources.load(data["yolo"], "train", NAMES), sources.load(data["csv"], "train", NAMES), strict=True):
        np.testing.assert_allclose(a.boxes_px, b.boxes_px, atol=1e-3)


def test_the_format_is_detected(data_of, tmp_path):
    assert [sources.choose(data_of[name]) for name in FORMATS] == list(FORMATS)
    assert sources.choose(data_of["coco"] / "annotations" / "instances_val.json") == "coco"
    assert sources.choose(data_of["yolo"] / "data.yaml") == "yolo"
    assert sources.choose(data_of["csv"] / "val.csv") == "csv"
    assert sources.choose(data_of["voc"], "csv") == "csv"  # a named format is not checked
    with pytest.raises(UserError, match=f"--data {tmp_path}: no data set"):
        sources.choose(tmp_path)
    with pytest.raises(UserError, match=f"--data {tmp_path / 'nowhere'}: no such"):
        sources.choose(tmp_path / "nowhere")


def test_two_formats_in_one_folder_are_asked_about(data_of, tmp_path):
    write_voc(tmp_path, {"a": ((20, 10), [])})
    (tmp_path / "metrics.csv").write_text("epoch,loss,a,b,c,d\n1,2,3,4,5,6\n")
    (tmp_path / "docker.yaml").write_text("services: {}\n")
    assert sources.choose(tmp_path) == "voc"
    (tmp_path / "labels.csv").write_text("a.jpg,1,2,3,4,cat\n")
    with pytest.raises(UserError, match=r"voc or csv; .*--source"):
        sources.choose(tmp_path)


def test_classes_that_the_data_name(data_of, tmp_path):
    assert sources.class_names(data_of["voc"], "train") == tuple(sorted(NAMES))
    write_voc(tmp_path / "VOC2007", {"a": ((20, 10), [("cat", (1, 1, 9, 9)), ("dog", (1, 1, 9, 9))])})
    assert sources.class_names(tmp_path, "2007:trainval") == source_pascal_voc.CLASSES
    assert sources.class_names(tmp_path / "VOC2007", "trainval") == ("cat", "dog")
    write_voc(tmp_path / "VOC2012", {"b": ((20, 10), [("kite", (1, 1, 9, 9))])})
    assert sources.class_names(tmp_path, "2007:trainval,2012:trainval") == ("cat", "dog", "kite")
    assert sources.class_names(data_of["coco"], "train") == NAMES
    assert sources.class_names(data_of["yolo"], "train") == NAMES
    for name in ("csv", "bdd100k", "kitti", "labelme"):
        assert sources.class_names(data_of[name], "train,val") == tuple(sorted(NAMES))
    for name in FORMATS:
        assert sources.split_names(data_of[name]) == ["train", "val"]
        assert sources.usual_training(data_of[name]) == "train"


@pytest.mark.parametrize("name", FORMATS[1:])
def test_other_classes_and_splits_in_one_line(data_of, name):
    with pytest.raises(UserError, match=r"class 'dog' .*'dogs'"):
        sources.load(data_of[name], "train", ("cat", "dogs", "traffic light"))
    fewer = sources.load(data_of[name], "train", ("dog",), other_classes="ignore")
    assert {label for one in fewer for label in one.labels.tolist()} == {0}
    with pytest.raises(UserError, match=r"there is no split 'none'; the splits are: train, val$"):
        sources.load(data_of[name], "none", NAMES)
    with pytest.raises(UserError, match=r"there is no split 'trian' \(nearest: 'train'\); the splits are: train, val$"):
        sources.load(data_of[name], "trian", NAMES)


def test_train_takes_the_data_sets_classes(data_of, tmp_path):
    one_step = ["--train", "train", "--valid", "val", *TINY[2:], "--max-steps", "1", "--run", tmp_path / "run"]
    run("train.py", "--data", data_of["coco"], *one_step)
    description, settings = config.read_config(tmp_path / "run")
    assert description.class_names == NAMES and settings.source == "auto"


@pytest.mark.parametrize(
    ("names", "train", "expected"),
    [
        (["test", "train", "valid"], "train", "valid"),
        (["Train", "Validation"], "Train", "Validation"),
        (["train2017", "val2017"], "train2017", "val2017"),
        (
            ["2007:train", "2007:trainval", "2007:val", "2012:train", "2012:val"],
            "2007:train, 2012:train",
            "2007:val,2012:val",
        ),
        (["2007:train", "2007:trainval", "2007:val"], "2007:trainval", None),
        (["train_labels", "val_labels"], "train_labels", "val_labels"),
        (["night", "val"], "night", "val"),
        (["train", "val"], "train,val", None),
        (["test", "train"], "train", None),
        (["all"], "all", None),
    ],
)
def test_the_split_that_could_validate(monkeypatch, names, train, expected):
    monkeypatch.setattr(sources, "split_names", lambda data, source: names)
    assert sources.usual_validation("mine", train) == expected


def test_training_says_which_split_could_validate(data_of, tmp_path):
    for flags, said in (((), True), (("--valid", "val"), False), (("--valid-share", "0.3"), False)):
        shown = tmp_path / f"shown{len(flags)}{flags[:1]}"
        done = run("train.py", "--data", data_of["coco"], "--run", tmp_path / "run", "--show-batch", shown, *flags)
        line = "nothing to validate on; --data has val: --valid val adds scores and the best checkpoint"
        assert (line in done.stdout.splitlines()) == said


def test_crowds_are_not_trained_on():
    boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], np.float32)
    labels, crowd = np.array([0, 1], np.int32), np.array([False, True])
    plain = Sample("a", "a.jpg", boxes, labels, np.zeros(2, bool), 10, 10)
    with_crowd = Sample("b", "b.jpg", boxes, labels, crowd, 10, 10, crowd=crowd, area=np.array([25.0, 100.0]))
    first, second = sources.without_crowds([plain, with_crowd])
    assert first is plain
    assert second.labels.tolist() == [0] and second.area.tolist() == [25] and second.crowd is None
    assert len(second.boxes) == len(second.difficult) == 1


PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
OWN = re.search(r"### A format of your own.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]  # the example works as it stands


def test_a_format_of_the_users_own(tmp_path, monkeypatch):
    images.write(tmp_path / "train" / "a.png", np.zeros((10, 20, 3), np.uint8))
    (tmp_path / "train.json").write_text('{"a.png": [["cat", 2, 1, 10, 5]]}')
    (tmp_path / "source_mine_a.py").write_text(OWN)
    (tmp_path / "source_bad.py").write_text("import nosuchmodule\n")
    (tmp_path / "source_half.py").write_text("def find(data, splits): ...\n")
    assert "mine_a" not in sources.CHOICES
    with pytest.raises(argparse.ArgumentTypeError, match=r"source_mine_a\.py"):
        sources.source_name("mine_a")  # it is in another folder
    monkeypatch.chdir(tmp_path)
    assert sources.source_name("mine_a") == "mine_a" and sources.source_name("auto") == "auto"
    for name in ("../mine_a", "mine_a.py", "nosuch"):
        with pytest.raises(argparse.ArgumentTypeError, match="neither"):
            sources.source_name(name)
    (sample,) = sources.load(tmp_path, "train", sources.class_names(tmp_path, "train", "mine_a"), source="mine_a")
    assert sample.id == "a" and sample.boxes_px.tolist() == [[2, 1, 10, 5]]
    with pytest.raises(UserError, match=r"source_bad\.py: .*nosuchmodule"):
        sources.find(tmp_path, "train", "bad")
    with pytest.raises(UserError, match=r"source_half\.py: has no function 'split_names'"):
        sources.find(tmp_path, "train", "half")


@pytest.mark.parametrize("name", ["bdd100k", "coco", "csv", "labelme", "voc", "yolo"])
def test_a_class_that_no_line_can_hold_is_refused_in_every_format(tmp_path, name):
    """U+2028 is the end of a line for some readers: of YOLO's list, the classes after it had other numbers."""
    images.write(tmp_path / "train" / "a.png", np.zeros((20, 30, 3), np.uint8))
    box = {"x1": 5, "y1": 5, "x2": 15, "y2": 15}
    path, text = {
        "bdd100k": ("labels/det_20/det_train.json", [{"name": "a.png", "labels": [{"category": "X", "box2d": box}]}]),
        "coco": (
            "train.json",
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 9]}],
                "categories": [{"id": 1, "name": "X"}],
            },
        ),
        "csv": ("train.csv", "image,xmin,ymin,xmax,ymax,class\na.png,5,5,15,15,X\n"),
        "labelme": (
            "train/a.json",
            {"shapes": [{"label": "X", "shape_type": "rectangle", "points": [[5, 5], [9, 9]]}], "imagePath": "a.png"},
        ),
        "voc": (
            "train/a.xml",
            "<annotation><object><name>X</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax>"
            "</bndbox></object></annotation>",
        ),
        "yolo": ("classes.txt", "X\ndog\n"),
    }[name]
    text = text if isinstance(text, str) else json.dumps(text)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text.replace("X", "big\u2028car"))
    (tmp_path / "train" / "a.txt").write_text("1 .5 .5 .2 .2\n" if name == "yolo" else "")
    (split,) = sources.split_names(tmp_path, name)
    with pytest.raises(UserError, match=r"'big\\u2028car' contains the character '\\u2028'; rename that class$"):
        sources.class_names(tmp_path, split, name)


def test_a_folder_of_data_sets_is_refused(data_of, tmp_path):
    for name, target in (("mine", "voc"), ("export", "coco"), ("found", "csv")):
        shutil.copytree(data_of[target], tmp_path / "two" / name)
    (tmp_path / "two" / "found" / "detections.json").write_text("{}")  # what infer.py wrote
    two = tmp_path / "two"
    with pytest.raises(UserError) as error:
        sources.choose(two)
    assert str(error.value) == (
        f"--data {two}: it holds several data sets: {two}/export (coco), {two}/mine (voc); give one of them "
        "(--source takes all of one format together)"
    )
    assert sources.split_names(two, "voc") == ["mine:train", "mine:val"]
    (two / "mine").rename(two / "VOC2007")
    assert sources.choose(two) == "voc"  # a VOCdevkit, whatever lies beside its years
    shutil.copytree(two / "export", two / "export2")
    shutil.rmtree(two / "VOC2007")
    with pytest.raises(
        UserError, match=r"no data set found in it: it holds several: .*export \(coco\), .*export2 \(coco"
    ):
        sources.choose(two)


def test_choosing_a_format_makes_no_list_of_all_files(data_of, tmp_path, monkeypatch):
    """It is done before every program: with 20,000 pictures such lists took a third of the time."""

    def refuse(*_):
        raise AssertionError("a folder's files are listed")

    for part in ("images", "labels"):
        shutil.copytree(data_of["yolo"] / part, tmp_path / part)
    assert sources.split_names(tmp_path) == ["train", "val"]
    monkeypatch.setattr(folders.Index, "__init__", refuse)
    assert sources.choose(tmp_path) == "yolo"


def test_folders_of_splits_are_looked_into_once_for_each_format(data_of, tmp_path, monkeypatch):
    for split in ("train", "val"):
        shutil.copytree(data_of["voc"] / "JPEGImages", tmp_path / split)
        shutil.copytree(data_of["voc"] / "Annotations", tmp_path / split, dirs_exist_ok=True)
    suffixes, make = [], folders.Layout.__init__

    def counting(layout, data, kind):
        suffixes.append(kind.suffix)
        make(layout, data, kind)

    monkeypatch.setattr(folders.Layout, "__init__", counting)
    assert sources.choose(tmp_path) == "voc" and suffixes.count(".xml") == 1


@pytest.mark.parametrize("name", ["voc", "csv"])
def test_results_in_the_only_data_set_below_are_no_obstacle(data_of, tmp_path, name):
    shutil.copytree(data_of[name], tmp_path / "outer" / "set")
    (tmp_path / "outer" / "set" / "detections.json").write_text("{}")  # also other tools write files of this name
    if name == "csv":
        with pytest.raises(UserError, match="no data set found in it"):  # it may be tables of infer.py
            sources.choose(tmp_path / "outer")
    else:
        assert sources.choose(tmp_path / "outer") == name


def test_a_data_set_with_results_in_it_is_named(data_of, tmp_path):
    for name in ("voc", "coco"):
        shutil.copytree(data_of[name], tmp_path / name)
        (tmp_path / name / "detections.json").write_text("{}")
    with pytest.raises(UserError, match=r"it holds several data sets: .*/coco \(coco\), .*/voc \(voc\); give one"):
        sources.choose(tmp_path)
    shutil.rmtree(tmp_path / "voc")
    with pytest.raises(UserError, match=r"do you mean .*/coco \(coco\)\?"):
        sources.choose(tmp_path)


@pytest.mark.parametrize("folder", ["data", "images", "train"])
def test_a_data_set_without_its_pictures_is_no_part_of_another(data_of, tmp_path, folder):
    """Even in a folder called like a part, in a project with another picture."""
    for part in ("Annotations", "ImageSets"):
        shutil.copytree(data_of["voc"] / part, tmp_path / folder / part)
    images.write(tmp_path / "docs" / "logo.png", np.zeros((10, 20, 3), np.uint8))
    assert sources.choose(tmp_path / folder) == "voc"
    with pytest.raises(UserError, match="only a part of one"):
        sources.choose(tmp_path / folder / "Annotations")


def test_annotations_in_a_folder_of_annotations_are_a_part(data_of, tmp_path):
    """As in the Oxford-IIIT Pet data set: annotations/xmls/ beside images/."""
    shutil.copytree(data_of["voc"] / "Annotations", tmp_path / "annotations" / "xmls")
    shutil.copytree(data_of["voc"] / "JPEGImages", tmp_path / "images")
    with pytest.raises(UserError, match=rf"only a part of one; do you mean {tmp_path} \(voc\)\?"):
        sources.choose(tmp_path / "annotations")


@pytest.mark.parametrize("names", [("mine", "yours"), ("VOC2007", "VOC2012"), ("VOC2007", "mine")])
def test_folders_of_one_format_are_one_data_set(data_of, tmp_path, names):
    for name in names:
        shutil.copytree(data_of["voc"], tmp_path / name)
    prefixes = [name.removeprefix("VOC") for name in names]
    assert sources.choose(tmp_path) == "voc"
    assert sources.split_names(tmp_path) == [f"{prefix}:{split}" for prefix in prefixes for split in ("train", "val")]


def test_only_a_devkit_has_vocs_classes(tmp_path):
    write_voc(tmp_path / "mine", {"a": ((20, 10), [("cat", (1, 1, 9, 9))])})
    assert sources.class_names(tmp_path, "mine:trainval") == ("cat",)


def test_a_folder_without_a_data_set_is_described(data_of, tmp_path):
    shutil.copytree(data_of["coco"], tmp_path / "outer" / "set")
    with pytest.raises(UserError, match=r"do you mean .*outer/set \(coco\)\?"):
        sources.choose(tmp_path / "outer")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("words")
    with pytest.raises(
        UserError, match=r"it holds 1 \.txt, but a\.txt begins with 'words', which fits no format that is read"
    ):
        sources.choose(tmp_path / "notes")
    (tmp_path / "notes" / "a.txt").rename(tmp_path / "notes" / "a.dat")
    with pytest.raises(UserError, match=r"1 \.dat, but no annotations where the formats voc, coco"):
        sources.choose(tmp_path / "notes")
