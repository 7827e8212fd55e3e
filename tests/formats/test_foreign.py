"""A path without a data set: the message says what it holds, and what to do."""

import json

import numpy as np
import pytest

import dataset_formats
import sources
from media import images
from structures import UserError
from voc_tree import write_voc

FILES = {  # name: (content, what the message says)
    "annotations.xml": (
        "<?xml version='1.0'?><annotations><image id='0' name='a.jpg'/></annotations>",
        "CVAT's own XML",
    ),
    "via.json": ('{"a.jpg1": {"regions": [{"shape_attributes": {"name": "rect"}}]}}', "VGG Image Annotator's own JSON"),
    "via.csv": ("filename,file_size,region_shape_attributes\n", "VGG Image Annotator's own table"),
    "project.json": (json.dumps([{"data": {}, "annotations": [{"result": []}]}]), "Label Studio's own JSON"),
    "min.json": (
        '[{"image": "a.jpg", "label": [{"rectanglelabels": ["b"], "original_width": 9}], "annotator": 1}]',
        "Label Studio's JSON-MIN",
    ),
    "min.csv": (
        'image,id,label,annotator\na.jpg,1,"[{""rectanglelabels"":[""b""],""original_width"":9}]",1\n',
        "Label Studio's table",
    ),
    "datumaro.json": ('{"categories": {}, "items": [{"annotations": [{"label_id": 0}]}]}', "Datumaro's own JSON"),
    "export.json": ('{"assets": {}, "tags": [], "regions": []}', "VoTT's own JSON"),
    "createml.json": ('[{"image": "a.jpg", "annotations": [{"label": "b", "coordinates": {}}]}]', "CreateML's JSON"),
    "a.jpg.json": ('{"objects": [{"points": {"exterior": [], "interior": []}}]}', "Supervisely's own JSON"),
    "train.tfrecord": ("x", "a file of TFRecords, which is not read: export COCO"),
    "train.parquet": ("x", "a table of Hugging Face"),
    "digits.mat": ("x", "a file of MATLAB"),
    "set.zip": ("x", "an archive, which is not read: unpack it"),
    "boxes.csv": (
        "Bild,links,oben\n",
        "boxes.csv begins with 'Bild,links,oben': name its columns in line 1, image,xmin,",
    ),
    "udacity.csv": (
        "frame,xmin,xmax,ymin,ymax,class_id\na.jpg,1,2,3,4,1\n",
        "udacity.csv begins with 'frame,xmin,xmax,ymin,ymax,class_id', which names no image and no class: ren",
    ),
    "excel.csv": ("Bild;class;xmin;ymin;xmax;ymax\n", "ymax', which names no image: rename the columns that hold"),
    "notes.txt": ("\n  first words\n", "notes.txt begins with 'first words', which fits no format that is read"),
}


def error_of(data):
    with pytest.raises(UserError) as error:
        sources.choose(data)
    assert str(error.value).startswith(f"--data {data}: no data set found in it: ") and "\n" not in str(error.value)
    return str(error.value)


def picture(path):
    images.write(path, np.zeros((30, 40, 3), np.uint8))


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_tools_are_named(tmp_path, name):
    content, expected = FILES[name]
    picture(tmp_path / "pictures" / "a.jpg")
    (tmp_path / name).write_text(content)
    assert expected in error_of(tmp_path) and "it holds the folders pictures and 1 " in error_of(tmp_path)
    if name not in ("notes.txt", "boxes.csv", "udacity.csv", "excel.csv", "via.csv", "min.csv"):
        (tmp_path / name).rename(tmp_path / "pictures" / name)
        assert expected in error_of(tmp_path)


def test_an_archive_that_holds_its_own_name_twice(tmp_path):
    """As unpacked into a new folder, with what a Mac leaves."""
    picture(tmp_path / "set" / "set" / "a.jpg")
    (tmp_path / "set" / "set" / "train.csv").write_text("a.jpg,1,1,5,5,cat\n")
    (tmp_path / "__MACOSX" / "set").mkdir(parents=True)
    assert error_of(tmp_path).endswith(f"no data set found in it: do you mean {tmp_path}/set/set (csv)?")


def test_many_folders_in_a_folder_are_not_each_searched(tmp_path, monkeypatch):
    """As of a home folder by mistake: a message is not worth minutes."""
    for at in range(30):
        picture(tmp_path / "mine" / str(at) / "a.jpg")
    tried, fitting = [], sources.fitting
    monkeypatch.setattr(sources, "fitting", lambda data: tried.append(data) or fitting(data))
    assert "it holds the folders mine and 30 .jpg" in error_of(tmp_path)
    assert len(tried) < 10


def test_the_only_file_of_a_folder_for_coco_may_be_another_tools(tmp_path):
    picture(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(FILES["datumaro.json"][0])
    assert "train.json is Datumaro's own JSON, which is not read: export COCO" in error_of(tmp_path)
    (tmp_path / "annotations" / "train.json").write_text("{")
    assert sources.choose(tmp_path) == "coco"  # damaged


def test_a_category_of_coco_may_be_called_items(tmp_path):
    """As a list of Datumaro's is, in a file whose "images" is neither near its beginning nor its end."""
    picture(tmp_path / "a.jpg")
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    content = {
        "categories": [{"id": 1, "name": "items"}],
        "annotations": [one | {"id": at} for at in range(2000)],
        "images": [{"id": 1, "file_name": "a.jpg", "note": "x" * 70_000}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert sources.choose(tmp_path) == "coco"


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "set.zip").write_text("x")
    assert "set.zip is an archive, which is not read: unpack it and give the folder" in error_of(tmp_path / "set.zip")
    picture(tmp_path / "a.jpg")
    assert "it is a file; give a folder" in error_of(tmp_path / "a.jpg")


def test_nothing_to_read(tmp_path):
    assert "it holds no files" in error_of(tmp_path)
    picture(tmp_path / "a.jpg")
    assert "it holds 1 .jpg, but no annotations where the formats voc, coco" in error_of(tmp_path)


@pytest.mark.parametrize("part", ["JPEGImages", "Annotations/a.xml", "ImageSets/Main", "ImageSets/Main/train.txt"])
def test_a_part_of_a_data_set_names_the_whole(tmp_path, part):
    root = write_voc(tmp_path / "voc", {"a": ((8, 8), [])}, {"train": ["a"]})
    assert f"it is only a part of one; do you mean {root} (voc)?" in error_of(root / part)


@pytest.mark.parametrize("name", ["voc", "kitti", "labelme", "yolo"])
def test_annotations_alone_name_the_whole(tmp_path, name):
    pictures = {"a": ((8, 8), [("cat", (1, 1, 5, 5))])}
    voc = write_voc(tmp_path / "voc", pictures, {"train": ["a"]})
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train"], ["cat"])[name]
    part = data / {"voc": "Annotations", "kitti": "train/label_2", "yolo": "labels/train"}.get(name, "json")
    if name == "labelme":
        part.mkdir()
        (data / "train" / "a.json").rename(part / "a.json")
    home = data / "train" if name == "kitti" else data
    with pytest.raises(UserError, match=rf"it is only a part of one; do you mean {home} \({name}\)\?$"):
        sources.choose(part)


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt", "obj.names"])
@pytest.mark.parametrize("part", ["train", "train/images", "train/labels"])
def test_a_part_of_yolos_data_set_names_the_folder_with_the_classes(tmp_path, part, names):
    """Who writes classes.txt for the part may give the classes other numbers."""
    picture(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    text = "train: train/images\nnames: [cat, dog]\n" if names == "data.yaml" else "cat\ndog\n"
    (tmp_path / names).write_text(text)
    with pytest.raises(UserError, match=f"do you mean {tmp_path}[ ,]"):
        sources.class_names(tmp_path / part, "all")


def test_annotations_alone(tmp_path):
    root = write_voc(tmp_path / "voc", {"a": ((8, 8), [])}, {"train": ["a"]})
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"annotations, but no pictures in .*; give the folder that holds both"):
        sources.find(root / "Annotations", "all")
    (root / "Annotations" / "a.heic").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"no pictures in .*Annotations, only files like a\.heic, which needs the package"
    ):
        sources.find(root / "Annotations", "all")
