"""convert_dataset.py: every format to every format that is written, and nothing lost that has a place."""

import json
import os
import re

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import convert_dataset
import dataset_formats
import source_pascal_voc
import sources
from conversion import records, writing
from media import images
from structures import UserError
from system import files
from test_sources import FORMATS, NAMES, assert_same_samples, write_pictures
from voc_tree import voc_xml, write_voc

WRITTEN = tuple(writing.WRITERS)


@pytest.fixture(scope="module")
def data_of(tmp_path_factory):
    """{format: DATA} of the same pictures, in the splits train and val."""
    voc = write_pictures(tmp_path_factory.mktemp("voc"))
    return dataset_formats.write_all(voc, tmp_path_factory.mktemp("others"), ["train", "val"], NAMES)


def convert(data, to, output, *flags):
    convert_dataset.main(["--data", str(data), "--to", to, "--output", str(output), *map(str, flags)])
    return output


def in_order(samples):
    return sorted(samples, key=lambda one: one.id)


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_every_other(data_of, tmp_path, name, to):
    output = convert(data_of[name], to, tmp_path / "out")
    assert sources.choose(output) == to and sources.split_names(output) == ["train", "val"]
    for split in ("train", "val"):
        expected = source_pascal_voc.load(data_of["voc"], split, NAMES)
        assert_same_samples(in_order(sources.load(output, split, NAMES)), in_order(expected))


def test_round_trip_through_all_formats(data_of, tmp_path):
    """Also of edges that are no whole pixels."""
    start, rng = tmp_path / "start", np.random.default_rng(5)
    convert(data_of["voc"], "csv", start)
    for table in start.glob("*.csv"):
        head, *lines = table.read_text().splitlines()
        rows = [line.split(",") for line in lines]
        for row in rows:
            if row[1]:
                edges = [float(row[at]) for at in (1, 2, 3, 4)]
                row[1:3] = [repr(edge + rng.random() / 3) for edge in edges[:2]]
                row[3:5] = [repr(edge - rng.random() / 3) for edge in edges[2:]]
        table.write_text("\n".join([head, *map(",".join, rows), ""]))
    data = start
    for to in ("voc", "yolo", "coco", "csv", "yolo", "voc", "csv", "coco", "voc"):
        data = convert(data, to, tmp_path / f"{data.name}-{to}")
    for split in ("train", "val"):
        assert_same_samples(*(in_order(sources.load(one, split, NAMES)) for one in (data, start)))


def flagged(root):
    """A COCO data set with every flag and an outline's area."""
    write_voc(root / "voc", {"a": ((80, 60), [])})
    (root / "coco").mkdir()
    (root / "coco" / "images").symlink_to(root / "voc" / "JPEGImages")
    plain = {"image_id": 4, "category_id": 7, "iscrowd": 0, "bbox": [10, 5, 20, 30], "area": 600}
    marks = [{}, {"iscrowd": 1}, {"ignore": 1}, {"truncated": 1}, {"area": 345.5}, {"ignore": 1, "truncated": 1}]
    content = {
        "images": [{"id": 4, "file_name": "a.jpg", "width": 80, "height": 60}],
        "annotations": [
            {**plain, **mark, "bbox": [10 + at, 5, 20, 30], "id": at} for at, mark in enumerate(marks, start=1)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    files.write_json(root / "coco" / "train.json", content)
    return root / "coco"


def marks_of(data):
    split = sources.split_names(data)[0]
    (entry,) = sources.find(data, split)
    objects = sources.reader(data, split)(entry).objects
    return [(one.edges_px[0], one.difficult, one.crowd, one.truncated) for one in objects]


@pytest.mark.parametrize("to", ["voc", "coco", "csv"])
def test_flags_are_kept(tmp_path, capsys, to):
    start = flagged(tmp_path)
    output = convert(start, to, tmp_path / "out")
    said = capsys.readouterr().err
    assert marks_of(output) == marks_of(start)
    assert [one[1:] for one in marks_of(output)][1] == (True, True, False)
    back = convert(output, "coco", tmp_path / "back", "--classes", "dog,cat")
    assert marks_of(back) == marks_of(start)
    (sample,) = sources.load(output, "train", ("dog", "cat"))
    if to == "voc":
        lines = [line for line in said.splitlines() if line.startswith("warning")]
        assert lines == [
            "warning: voc has no place for 1 outline: its area is left out",
            "warning: voc has no place for 1 class without objects: give programs --classes with the file classes.txt",
        ]
    else:
        assert sample.area.tolist() == [600, 600, 600, 600, 345.5, 600]
    if to != "coco":
        assert (output / "classes.txt").read_text() == "dog\ncat\n"


def test_what_yolo_cannot_hold_is_said_once_with_counts(tmp_path, capsys):
    output = convert(flagged(tmp_path), "yolo", tmp_path / "out")
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("warning")]
    assert lines == [
        "warning: yolo has no place for 1 crowd region: left out, since it would be learned as an object",
        "warning: yolo has no place for 2 difficult objects: written like the others",
        "warning: yolo has no place for 2 truncated objects: written like the others",
        "warning: yolo has no place for 1 outline: its area is left out",
    ]
    assert "5 objects of 2 classes, from coco to yolo" in said.out
    assert [80 * one[0] for one in marks_of(output)] == pytest.approx([11, 13, 14, 15, 16])
    assert sources.class_names(output, "train") == ("dog", "cat")  # in the order of COCO's numbers


@pytest.mark.parametrize("to", WRITTEN)
def test_boxes_of_a_pixel(tmp_path, capsys, to):
    """Its corners are equal where they include their last pixel, which readers take for a click without a drag."""
    images.write(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    boxes = ["10,10,30,11", "10.2,10,11.1,40", "30,30,31,31", "30,30,50,50", "5,5,6.001,9", "5,5,6.0000000001,9"]
    (tmp_path / "train.csv").write_text("".join(f"a.png,{box},cat\n" for box in boxes))
    output = convert(tmp_path / "train.csv", to, tmp_path / "out")
    said = capsys.readouterr()
    (sample,) = sources.load(output, "train", ("cat",))
    assert capsys.readouterr().err == ""  # no box is dropped
    kept = [3, 4] if to == "voc" else range(6)
    expected = [[float(edge) for edge in boxes[at].split(",")] for at in kept]
    np.testing.assert_allclose(sample.boxes_px, expected, rtol=1e-5)
    assert f"{len(kept)} objects of 1 class" in said.out
    lost = "voc has no place for 4 thin boxes: left out, since one of a pixel or less in width or height would be empty"
    assert [line for line in said.err.splitlines() if "no place" in line] == [f"warning: {lost}"] * (to == "voc")


ODD = {
    "with space.b": "a kite, red",
    "#first": "100% \"quoted\" 'twice'",
    "komma,semi;": "no",
    "ünï[1]": "null",
    "a 1": "café: <b>&amp;",
    "x'y": "-1",
}


@pytest.mark.parametrize("to", WRITTEN)
def test_odd_names_of_pictures_and_classes(tmp_path, to):
    pictures = {name: ((80, 60), [(label, (11, 6, 30, 35))]) for name, label in ODD.items()}
    voc = write_voc(tmp_path / "voc", pictures, {"train": list(pictures)})
    output = convert(voc, to, tmp_path / "out")
    names = sources.class_names(output, "train")
    assert sorted(names) == sorted(ODD.values())
    samples = sources.load(output, "train", names)
    assert {one.id: names[one.labels[0]] for one in samples} == ODD
    assert all(one.boxes_px.tolist() == [[10, 5, 30, 35]] for one in samples)


@pytest.mark.parametrize("to", WRITTEN)
def test_pictures_of_one_name(tmp_path, to):
    """In several folders and splits, and with two suffixes."""
    data, lines = tmp_path / "data", {"train": [], "val": []}
    for at, name in enumerate(["x/a.jpg", "y/a.jpg", "y/b.jpg", "y/b.png", "x/c.jpg"]):
        images.write(data / "images" / name, np.full((60, 80, 3), 20 * at, np.uint8))
        lines["val" if at == 1 else "train"].append(f"{name},{at},5,30,35,cat")
    for split, rows in lines.items():
        (data / f"{split}.csv").write_text("image,xmin,ymin,xmax,ymax,class\n" + "\n".join(rows) + "\n")
    output = convert(data, to, tmp_path / "out")
    found = []
    for split in ("train", "val"):
        for one in sources.load(output, split, ("cat",)):
            gray = images.read(one.image_path)[0, 0, 0]
            found.append((split, round(int(gray) / 20), one.boxes_px[0, 0]))
    assert sorted(found) == [("train", 0, 0), ("train", 2, 2), ("train", 3, 3), ("train", 4, 4), ("val", 1, 1)]
    assert [path.name for path in output.rglob("c.jpg")] == ["c.jpg"]


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("name", ["images", "Images", "images_"])
def test_names_keep_a_folder_that_is_called_images(tmp_path, to, name):
    """As of train/images and valid/images: readers find the labels of YOLO by the last folder of that name."""
    data = tmp_path / "data"
    for at, split in enumerate(("train", "valid")):
        images.write(data / split / name / "0001.jpg", np.full((60, 80, 3), 20 * at, np.uint8))
        line = f"{split}/{name}/0001.jpg,{10 * at},5,30,35,cat\n"
        (data / f"{split}.csv").write_text("image,xmin,ymin,xmax,ymax,class\n" + line)
    output = convert(data, to, tmp_path / "out")
    for at, split in enumerate(("train", "valid")):
        (sample,) = sources.load(output, split, ("cat",))
        assert sample.boxes_px.tolist() == [[10 * at, 5, 30, 35]]
        if to == "yolo":  # as Ultralytics finds them
            labels = "/labels/".join(sample.image_path.rsplit("/images/", 1)).replace(".jpg", ".txt")
            assert len(files.read_lines(labels)) == 1


@pytest.mark.parametrize("to", WRITTEN)
def test_a_split_that_is_called_images(tmp_path, to):
    images.write(tmp_path / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "images.csv").write_text("image,xmin,ymin,xmax,ymax,class\na.jpg,10,5,30,35,cat\n")
    output = convert(tmp_path / "images.csv", to, tmp_path / "out")
    assert sources.split_names(output) == ["images"]
    assert sources.load(output, "images", ("cat",))[0].boxes_px.tolist() == [[10, 5, 30, 35]]


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("split", ["names", "path"])
def test_a_split_with_the_name_of_another_key(tmp_path, to, split):
    images.write(tmp_path / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / f"{split}.csv").write_text("image,xmin,ymin,xmax,ymax,class\na.jpg,10,5,30,35,cat\n")
    if to == "yolo":
        with pytest.raises(UserError) as error:
            convert(tmp_path / f"{split}.csv", to, tmp_path / "out")
        assert str(error.value) == f"--to yolo: the split {split!r} has a name with another meaning there; rename it"
        assert not (tmp_path / "out").exists()
    else:
        assert sources.split_names(convert(tmp_path / f"{split}.csv", to, tmp_path / "out")) == [split]


@pytest.mark.parametrize("to", WRITTEN)
def test_a_split_of_unusual_letters_comes_back(tmp_path, to):
    for split in ("\xe9🚗", "a\x92b", "\udce9"):
        data = tmp_path / split / "in"
        images.write(data / "a.jpg", np.zeros((60, 80, 3), np.uint8))
        (data / f"{split}.csv").write_text("image,xmin,ymin,xmax,ymax,class\na.jpg,1,5,30,35,cat\n")
        assert sources.split_names(convert(data, to, tmp_path / split / "out")) == [split]


@pytest.mark.parametrize("to", WRITTEN)
def test_class_names_of_unusual_letters_come_back(tmp_path, to):
    """A tab, an apostrophe of Windows read as Latin-1, a deleted letter, a mark of order: YAML has them as numbers."""
    names = ("big\tcar", "car\ufeff1", "driver\x92s", "n\x7f", "🚗")
    images.write(tmp_path / "in" / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    lines = [f'a.jpg,{at},5,30,35,"{name}"\n' for at, name in enumerate(names)]
    (tmp_path / "in" / "train.csv").write_text("image,xmin,ymin,xmax,ymax,class\n" + "".join(lines))
    output = convert(tmp_path / "in", to, tmp_path / "out")
    assert sources.class_names(output, "train") == names
    (sample,) = sources.load(output, "train", names)
    assert sample.labels.tolist() == [0, 1, 2, 3, 4]


def test_what_was_written_is_read_again(tmp_path, monkeypatch):
    """A fault of this program, not of the user: whole pictures would become background without a word."""
    voc = write_voc(tmp_path / "voc", {"a": ((80, 60), [("cat", (11, 6, 30, 35))])}, {"train": ["a"]})
    monkeypatch.setattr(writing.yolo_writer, "_line", lambda *_: "")
    with pytest.raises(AssertionError, match=r"a\.jpg has 0 objects, not 1"):
        convert(voc, "yolo", tmp_path / "out")


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("flag", ["--copy", "--link"])
def test_splits_of_a_devkit_that_overlap(tmp_path, to, flag):
    pictures = {name: ((80, 60), [("cat", (11, 6, 30, 35))]) for name in "abc"}
    kit = tmp_path / "kit"
    write_voc(kit / "VOC2007", pictures, {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"]})
    output = convert(kit, to, tmp_path / "out", flag)
    assert sources.split_names(output) == ["2007_train", "2007_trainval", "2007_val"]
    assert [one.id for one in sources.find(output, "2007_trainval")] == ["a", "b", "c"]
    if to in ("coco", "yolo"):
        assert sources.class_names(output, "2007_val") == source_pascal_voc.CLASSES


def test_a_picture_of_several_splits_has_one_id_and_each_annotation_its_own(tmp_path):
    pictures = {name: ((80, 60), [("cat", (11, 6, 30, 35))] * at) for at, name in enumerate("abc", start=1)}
    kit = tmp_path / "kit"
    write_voc(kit / "VOC2007", pictures, {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"]})
    output = convert(kit, "coco", tmp_path / "out")
    contents = [json.loads(path.read_text()) for path in sorted((output / "annotations").iterdir())]
    numbers = [{one["file_name"]: one["id"] for one in content["images"]} for content in contents]
    train, trainval, val = numbers
    assert train | val == trainval and sorted(trainval.values()) == [1, 2, 3]
    ids = [one["id"] for content in contents for one in content["annotations"]]
    assert len(set(ids)) == len(ids) == 12
    for content, number in zip(contents, numbers, strict=True):
        objects = [one["image_id"] for one in content["annotations"]]
        assert all(objects.count(number[name]) == len(pictures[name[0]][1]) for name in number)


def test_an_outline_nearly_as_large_as_its_box_keeps_its_area(tmp_path):
    """What is the area of the box but for a rounding is none of an outline."""
    data = flagged(tmp_path)
    content = files.read_json(data / "train.json")
    content["annotations"] = [
        {**content["annotations"][0], "id": at, "bbox": [10 + at, 5, 20, 30], "area": area}
        for at, area in enumerate((540, 599.9, 600))
    ]
    files.write_json(data / "train.json", content)
    (sample,) = sources.load(convert(data, "csv", tmp_path / "out"), "train", ("cat",))
    assert sample.area.tolist() == [540, 600, 600]


def test_a_box_that_is_empty_in_the_precision_of_training_is_left_out(tmp_path):
    data = flagged(tmp_path)
    content = files.read_json(data / "train.json")
    content["annotations"][1]["bbox"] = [60, 5, 1e-9, 30]
    files.write_json(data / "train.json", content)
    written = files.read_json(convert(data, "coco", tmp_path / "out") / "annotations" / "instances_train.json")
    assert len(written["annotations"]) == len(content["annotations"]) - 1


def test_names_that_differ_by_capitals_and_suffix(tmp_path):
    for name in ("a.jpg", "A.png"):
        images.write(tmp_path / "x" / name, np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "train.csv").write_text("x/a.jpg,5,3,20,18,cat\nx/A.png,5,3,20,19,cat\n")
    output = convert(tmp_path / "train.csv", "coco", tmp_path / "out")
    assert [one.id for one in sources.find(output, "train")] == ["a", "A_png"]


@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("stated_as_stored", [True, False])
def test_boxes_on_pictures_that_exif_turns(tmp_path, orientation, stated_as_stored):
    """The box marks the bright part, in the source and in each format written."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[5:25, 10:50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    voc = write_voc(tmp_path / "voc", {"a": (image, [])}, {"train": ["a"]}, suffix=".png")
    path = voc / "JPEGImages" / "a.png"
    Image.fromarray(image).save(path, exif=exif)
    shown = images.read(path, exif=not stated_as_stored or orientation < 5)
    rows, columns = np.nonzero(shown[..., 0])
    box = (int(columns.min()) + 1, int(rows.min()) + 1, int(columns.max()) + 1, int(rows.max()) + 1)
    height, width = shown.shape[:2]
    (voc / "Annotations" / "a.xml").write_text(voc_xml(width, height, [("cat", box)]))
    for to in WRITTEN:
        (sample,) = sources.load(convert(voc, to, tmp_path / f"out-{to}"), "train", ("cat",))
        seen = images.read(sample.image_path, sample.exif)
        x0, y0, x1, y1 = sample.boxes_px[0].astype(int)
        assert seen[y0:y1, x0:x1].min() == 255 and seen.astype(int).sum() == 3 * 255 * (y1 - y0) * (x1 - x0)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_pictures_that_exif_mirrors_need_no_stated_size(tmp_path, orientation):
    voc = write_voc(tmp_path / "voc", {name: ((80, 60), []) for name in "ab"}, {"train": ["a", "b"]}, suffix=".png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        Image.new("RGB", (80, 60)).save(voc / "JPEGImages" / f"{name}.png", exif=exif)
    text = voc_xml(80, 60, [("cat", (11, 6, 50, 20))])
    (voc / "Annotations" / "a.xml").write_text(re.sub("<size>.*</size>", "", text, flags=re.DOTALL))
    (voc / "Annotations" / "b.xml").unlink()
    output = convert(voc, "coco", tmp_path / "out", "--missing-annotations", "background")
    content = json.loads((output / "annotations" / "instances_train.json").read_text())
    assert [one["bbox"] for one in content["annotations"]] == [[10, 5, 40, 15]]
    assert [(one["width"], one["height"]) for one in content["images"]] == [(80, 60)] * 2


def test_a_box_of_another_class_decides_too_whether_boxes_are_scaled(tmp_path, capsys):
    """It reaches out of the stated size, so the boxes were not drawn on a picture of that size."""
    objects = {"a": [("cat", (61, 61, 90, 90)), ("dog", (11, 11, 150, 90))], "b": [("cat", (11, 11, 40, 40))]}
    objects["c"] = [*objects["b"], ("dog", (11, 11, 150, 90))]
    voc = write_voc(tmp_path / "voc", {name: ((50, 50), []) for name in objects}, {"train": list(objects)})
    for name, boxes in objects.items():
        (voc / "Annotations" / f"{name}.xml").write_text(voc_xml(100, 100, boxes))
    chosen = ("--classes", "cat", "--other-classes", "ignore")
    output = convert(voc, "coco", tmp_path / "out", *chosen)
    assert "1 picture of another size than the annotation states, as if resized" in capsys.readouterr().err
    learned = sources.load(voc, "train", ("cat",), other_classes="ignore")
    for samples in (learned, sources.load(output, "train", ("cat",))):
        assert [one.boxes_px.tolist() for one in samples] == [[], [[5, 5, 20, 20]], [[10, 10, 40, 40]]]


def test_boxes_are_those_that_training_learns(tmp_path, capsys):
    """Resized pictures, boxes that reach out or are empty, pictures without a file of annotations."""
    objects = [("cat", (11, 6, 30, 35)), ("dog", (-5, 6, 30, 35)), ("cat", (7, 7, 7, 7))]
    voc = write_voc(tmp_path / "voc", {"a": ((80, 60), objects), "b": ((80, 60), [])}, {"train": ["a", "b"]})
    images.write(voc / "JPEGImages" / "a.jpg", np.zeros((120, 160, 3), np.uint8))
    (voc / "Annotations" / "b.xml").unlink()
    with pytest.raises(UserError, match="--missing-annotations background"):
        convert(voc, "coco", tmp_path / "out")
    output = convert(voc, "coco", tmp_path / "out", "--missing-annotations", "background")
    said = capsys.readouterr().err
    assert "boxes are scaled" in said and "dropped 1 box that is" in said and "1 picture without" in said
    content = json.loads((output / "annotations" / "instances_train.json").read_text())
    assert [one["bbox"] for one in content["annotations"]] == [[20, 10, 40, 60], [0, 10, 60, 60]]
    assert [(one["width"], one["height"]) for one in content["images"]] == [(160, 120), (80, 60)]


def test_chosen_classes_and_splits(data_of, tmp_path):
    flags = ["--split", "val", "--classes", "dog", "--other-classes", "ignore"]
    output = convert(data_of["labelme"], "yolo", tmp_path / "out", *flags)
    described = yaml.safe_load((output / "data.yaml").read_text())
    assert described == {"path": ".", "val": "images/val", "names": {0: "dog"}}
    assert len(sources.find(output, "val")) == len(sources.find(data_of["voc"], "val"))


def test_links_instead_of_copies(data_of, tmp_path):
    output = convert(data_of["voc"], "yolo", tmp_path / "out", "--link")
    for entry in sources.find(output, "train"):
        assert os.path.islink(entry.image_path) and os.path.realpath(entry.image_path).startswith(str(data_of["voc"]))
    copied = convert(output, "voc", tmp_path / "copied", "--copy")
    assert not any(path.is_symlink() for path in copied.rglob("*"))


def test_a_share_for_validation(data_of, tmp_path):
    with pytest.raises(UserError, match=r"--valid-share: divides one split, and --data has train, val"):
        convert(data_of["kitti"], "voc", tmp_path / "out", "--valid-share", 0.3)
    outputs = [convert(data_of["kitti"], to, tmp_path / to, "--valid-share", 0.3, "--split", "train") for to in WRITTEN]
    train, val = ({one.id for one in sources.find(outputs[0], split)} for split in ("train", "val"))
    assert train and val and not train & val
    assert train | val == {one.id for one in sources.find(data_of["voc"], "train")}
    for output in outputs[1:]:
        assert {one.id for one in sources.find(output, "val")} == val


def test_nothing_is_overwritten(data_of, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for target in (tmp_path / "full", data_of["coco"] / "new", data_of["coco"].parent):
        with pytest.raises(UserError, match="--output"):
            convert(data_of["coco"], "voc", target)
    (tmp_path / "empty").mkdir()
    assert sources.choose(convert(data_of["coco"], "voc", tmp_path / "empty")) == "voc"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stop_leaves_nothing(data_of, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(writing.WRITERS["coco"], "write", fail)
    with pytest.raises((KeyboardInterrupt, UserError)):
        convert(data_of["voc"], "coco", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_the_users_own(tmp_path, monkeypatch):
    write_voc(tmp_path / "data", {"a": ((80, 60), [("cat", (11, 6, 30, 35))])}, {"train": ["a"]})
    code = "from source_pascal_voc import class_names, find, load, split_names\n"
    (tmp_path / "source_mine_b.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    output = convert("data", "csv", "out", "--source", "mine_b")
    assert sources.load(output, "train", ("cat",))[0].boxes_px.tolist() == [[10, 5, 30, 35]]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_edges(orientation):
    image = np.zeros((6, 8), np.uint8)
    image[1:3, 2:7] = 1
    x0, y0, x1, y1 = records.turned((2, 1, 7, 3), 8, 6, orientation)
    clockwise, counter = cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE
    upright = {  # EXIF 2.3: what is done to show the picture
        5: image.T,
        6: cv2.rotate(image, clockwise),
        7: cv2.rotate(image, cv2.ROTATE_180).T,
        8: cv2.rotate(image, counter),
    }[orientation]
    assert upright[y0:y1, x0:x1].all() and upright.sum() == (y1 - y0) * (x1 - x0)


@pytest.mark.parametrize("to", WRITTEN)
def test_pictures_without_a_usual_suffix_get_one(tmp_path, to):
    """A JSON file or a table may name any file; formats that look for pictures know them by their suffix."""
    for name, kind in (("a.0001", "PNG"), ("b", "JPEG"), ("c.img", "WEBP")):
        Image.new("RGB", (40, 30)).save(tmp_path / name, kind)
    (tmp_path / "train.csv").write_text("a.0001,5,3,20,18,cat\nb,5,3,20,18,cat\nc.img,5,3,20,18,cat\n")
    output = convert(tmp_path / "train.csv", to, tmp_path / "out")
    (split,) = sources.split_names(output)
    assert [one.boxes_px.tolist() for one in sources.load(output, split, ("cat",))] == [[[5, 3, 20, 18]]] * 3
    found = sorted(os.path.basename(one.image_path) for one in sources.find(output, split))
    assert found == ["a.png", "b.jpg", "c.webp"]


UNFIT = [  # (name, what is wrong with it, the formats that cannot hold it)
    (b"caf\xe9", "not UTF-8 text", ("voc", "coco", "csv")),
    (b"\xe9/a", "not UTF-8 text", ("voc", "coco", "csv")),
    (b"a\nb", "of several lines", ("voc", "csv")),
    ("a\u2028b".encode(), "of several lines", ("voc", "csv")),
    (b"a\x1bb", "with a character that XML does not allow", ("voc",)),
    (b" a", "with spaces at an end", ("voc",)),
    (b"..a", "hidden", ("voc", "yolo")),
]


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize(("name", "fault", "formats"), UNFIT)
def test_names_of_pictures_that_a_format_cannot_hold(tmp_path, to, name, fault, formats):
    """They are named before anything is written, and elsewhere they are kept."""
    path = os.fsdecode(os.fsencode(tmp_path / "data") + b"/" + name + b".jpg")
    other = str(tmp_path / "data" / "a.jpg")
    for place in (path, other):  # of one file name, where it has a folder: so the folder is kept
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            Image.new("RGB", (40, 30)).save(file, "JPEG")
    names = [os.path.relpath(place, tmp_path / "data") for place in (path, other)]
    plain = {"category_id": 1, "bbox": [5, 3, 15, 15], "area": 225, "iscrowd": 0}
    content = {
        "images": [{"id": at, "file_name": one, "width": 40, "height": 30} for at, one in enumerate(names)],
        "annotations": [{**plain, "id": at, "image_id": at} for at in range(2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    files.write_json(tmp_path / "data" / "train.json", content)
    if to in formats:
        with pytest.raises(UserError) as error:
            convert(tmp_path / "data", to, tmp_path / "out")
        assert str(error.value) == f"{path}: its name is {fault}, which {to} cannot hold; rename it"
        assert not (tmp_path / "out").exists()
    else:
        found = sources.load(convert(tmp_path / "data", to, tmp_path / "out"), "train", ("cat",), source=to)
        assert [one.boxes_px.tolist() for one in found] == [[[5, 3, 20, 18]]] * 2


def test_a_split_without_objects_is_said(tmp_path, capsys):
    voc = write_voc(tmp_path / "voc", {"a": ((8, 8), [("cat", (1, 1, 5, 5))]), "b": ((8, 8), [])}, {"x": "a", "y": "b"})
    convert(voc, "coco", tmp_path / "out")
    assert f"--data {voc}: no picture of y has objects" in capsys.readouterr().err
