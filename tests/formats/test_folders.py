"""Exports as tools write them: other folders, lists and encodings give the same samples; hidden files are no data."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import dataset_formats
import source_pascal_voc
import sources
from formats import folders
from media import images
from structures import UserError
from voc_tree import voc_xml, write_voc

NAMES = ("cat", "dog")
PICTURES = {
    "a": ((40, 30), [("cat", (5, 3, 20, 18)), ("dog", (1, 1, 40, 30))]),
    "b.c": ((30, 40), [("dog", (2, 9, 29, 33))]),
    "shot 1": ((40, 30), []),
    "v": ((40, 30), [("cat", (9, 9, 30, 25))]),
}
SPLITS = {"train": ["a", "b.c", "shot 1"], "val": ["v"]}


def noise(seed, size):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture
def voc(tmp_path):
    pictures = {name: (noise(seed, size), objects) for seed, (name, (size, objects)) in enumerate(PICTURES.items())}
    return write_voc(tmp_path / "voc", pictures, SPLITS, suffix=".png")


def content(data, splits="train", **options):
    """{id: (bytes of the picture, labels, boxes in pixels)} of some splits."""
    samples = sources.load(data, splits, NAMES, **options)
    return {
        one.id: (pathlib.Path(one.image_path).read_bytes(), one.labels.tolist(), one.boxes_px.tolist())
        for one in samples
    }


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def flat(root, split_folders=True, xml="", pictures=""):
    """Move XML files and pictures of a VOC-layout folder, into a folder for each split; without its lists."""
    for split, ids in SPLITS.items():
        for name in ids:
            home = root / split if split_folders else root
            move(root / "Annotations" / f"{name}.xml", home / xml / f"{name}.xml")
            move(root / "JPEGImages" / f"{name}.png", home / pictures / f"{name}.png")
    for part in ("Annotations", "JPEGImages", "ImageSets"):
        shutil.rmtree(root / part)


LAYOUTS = {
    "Roboflow": lambda root: flat(root),
    "FiftyOne": lambda root: flat(root, xml="labels", pictures="data"),
    "images and annotations": lambda root: flat(root, xml="annotations", pictures="images"),
    "lists at the root": lambda root: [
        move(path, root / path.name) for path in (root / "ImageSets/Main").glob("*.txt")
    ],
    "Images": lambda root: move(root / "JPEGImages", root / "Images"),
    "labels and images": lambda root: [
        move(root / "JPEGImages", root / "images"),
        move(root / "Annotations", root / "labels"),
    ],
    "folders within": lambda root: [
        *(
            move(root / part / f"{name}{suffix}", root / part / split / f"{name}{suffix}")
            for split, ids in SPLITS.items()
            for name in ids
            for part, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml"))
        ),
        shutil.rmtree(root / "ImageSets"),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_xml_files(voc, layout):
    expected = {split: content(voc, split) for split in SPLITS}
    LAYOUTS[layout](voc)
    assert sources.choose(voc) == "voc" and sources.split_names(voc) == ["train", "val"]
    for split in SPLITS:
        assert content(voc, split) == expected[split]
        assert sources.class_names(voc, split) == (NAMES if split == "train" else ("cat",))


def test_files_side_by_side_are_one_split(voc):
    expected = content(voc, "train,val")
    flat(voc, split_folders=False)
    assert sources.split_names(voc) == ["all"] and sources.usual_training(voc) == "all"
    assert content(voc, "all") == expected
    with pytest.raises(UserError, match=r"no split 'train'; .* one split, 'all'; .*train and val"):
        sources.find(voc, "train")


@pytest.mark.parametrize(
    ("asked", "named"), [("val", "valid"), ("valid", "val"), ("train", "training"), ("validation", "valid")]
)
def test_a_split_is_found_by_a_synonym(asked, named):
    assert folders.synonym(asked, {named, "test"}) == named
    assert folders.synonym(f"2007:{asked}", {f"2007:{named}", f"2012:{named}"}) == f"2007:{named}"
    assert folders.synonym(asked, {asked, named}) == asked and folders.synonym("night", {named}) is None


def test_of_two_synonyms_neither_is_taken():
    assert folders.synonym("val", ["valid", "validation"]) is None
    assert folders.synonym("2007:val", ["2007:valid", "2007:validation", "2012:val"]) is None


LISTS = {
    "suffix": lambda names: "".join(f"{name}.jpg\n" for name in names),
    "path": lambda names: "".join(f"/content/drive/set/JPEGImages/{name}.png\n" for name in names),
    "backslashes": lambda names: "".join(f"C:\\data\\JPEGImages\\{name}.png\r\n" for name in names),
    "comments": lambda names: "# exported\n\n" + "".join(f"{name}\n#\n" for name in names),
    "utf-16": lambda names: "".join(f"{name}\r\n" for name in names).encode("utf-16"),
    "other case": lambda names: "".join(f"{name.upper()}.PNG\n" for name in names),
    "1 and -1": lambda names: "".join(f"{name}.png  -1\n" for name in names),
    "both files": lambda names: "".join(f"./JPEGImages/{name}.png ./Annotations/{name}.xml\n" for name in names),
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_xml_files(voc, form):
    expected = content(voc)
    text = LISTS[form](SPLITS["train"])
    (voc / "ImageSets/Main/train.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert content(voc) == expected


@pytest.mark.parametrize("form", ["set/{}", "{}", "{}.png"])
def test_names_that_end_like_a_line_of_a_class(tmp_path, form):
    """'photo 1' is one picture, not 'photo' with an object of the class."""
    listed = {"night_train": ["photo 1", "photo 0"], "val": ["photo 1", "photo 2"]}
    pictures = {name: (noise(at, (40, 30)), []) for at, name in enumerate(("photo", "photo 0", "photo 1", "photo 2"))}
    voc = write_voc(tmp_path, pictures, suffix=".png")
    for part in ("JPEGImages", "Annotations"):
        move(voc / part, voc / "set")
        move(voc / "set", voc / part / "set")
    for split, names in listed.items():
        (voc / "ImageSets/Main" / f"{split}.txt").write_text("".join(form.format(name) + "\n" for name in names))
    (voc / "ImageSets/Main/trainval.txt").unlink(missing_ok=True)
    assert sources.split_names(voc) == list(listed)
    assert {split: [one.id for one in sources.find(voc, split)] for split in listed} == listed
    lines = [form.format(name) + (" -1\n" if name == "photo" else " 1\n") for name in pictures]
    (voc / "ImageSets/Main/cat_val.txt").write_text("".join(lines))
    assert sources.split_names(voc) == list(listed)
    assert [one.id for one in sources.find(voc, "cat_val")] == ["photo 0", "photo 1", "photo 2"]


@pytest.mark.parametrize("form", [name for name in LISTS if name not in ("suffix", "1 and -1", "both files")])
def test_lists_of_yolo(voc, tmp_path, form):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["yolo"]
    expected = content(data)
    text = LISTS[form]([f"images/train/{name}" if form in ("comments", "utf-16") else name for name in SPLITS["train"]])
    if isinstance(text, str):
        text = text.replace("JPEGImages", "images/train").replace("JPEG", "")
        text = "".join(
            f"{line}{'' if '.' in line[-4:] or not line or line[0] == '#' else '.png'}\n" for line in text.splitlines()
        )
        text = text.encode()
    else:
        text = text.decode("utf-16").replace("\r\n", ".png\r\n").encode("utf-16")
    (data / "list.txt").write_bytes(text)
    (data / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [cat, dog]\n")
    assert content(data) == expected


def test_votts_lists_of_classes_make_one_split(voc):
    lists = voc / "ImageSets" / "Main"
    for split, ids in SPLITS.items():
        (lists / f"{split}.txt").unlink()
        for name in NAMES:
            (lists / f"{name}_{split}.txt").write_text(
                "".join(f"{one}.png {1 if name == 'cat' else -1}\n" for one in ids)
            )
    assert sources.split_names(voc) == ["train", "val"]
    assert list(content(voc)) == SPLITS["train"] and list(content(voc, "cat_val")) == ["v"]


HIDDEN = (".ipynb_checkpoints/a-checkpoint", "._a", "__MACOSX/a", "@eaDir/a", ".hidden/deep/a")


@pytest.mark.parametrize("format_name", ["voc", "roboflow", "coco", "yolo", "csv", "bdd100k", "kitti", "labelme"])
def test_hidden_files_are_no_data(voc, tmp_path, format_name):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)
    data["roboflow"] = tmp_path / "roboflow"
    shutil.copytree(voc, data["roboflow"])
    flat(data["roboflow"])
    root = data[format_name]
    expected, kind = content(root), sources.choose(root)
    for path in sorted(root.rglob("*")):
        for hidden in HIDDEN if path.is_file() else ():
            copy = path.parent / f"{hidden}{path.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b"\x00\x05\x16\x07" if "._" in hidden else path.read_bytes())
        if path.is_dir() and not path.name.startswith("."):
            (path / "Thumbs.db").write_bytes(b"x")
            (path / ".DS_Store").write_bytes(b"x")
    assert sources.choose(root) == kind and sources.split_names(root) == ["train", "val"]
    assert content(root) == expected


@pytest.mark.parametrize("file", ["classes.txt", "obj.names", "labels/classes.txt", "notes.json"])
def test_yolo_without_a_yaml_file(voc, tmp_path, file):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["yolo"]
    expected = {split: content(data, split) for split in SPLITS}
    (data / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"classes\.txt .*data\.yaml with the four lines 'path: \.'"):
        sources.class_names(data, "train")
    categories = json.dumps({"categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)]})
    (data / file).write_text(categories if file.endswith(".json") else "cat\ndog\n")
    assert sources.choose(data) == "yolo" and sources.class_names(data, "train") == NAMES
    assert {split: content(data, split) for split in SPLITS} == expected


def test_darknets_layout_of_cvat(voc, tmp_path):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["yolo"]
    expected = content(data)
    cvat = tmp_path / "cvat"
    for name in SPLITS["train"]:
        move(data / "images/train" / f"{name}.png", cvat / "obj_train_data" / f"{name}.png")
        labels = data / "labels/train" / f"{name}.txt"
        (cvat / "obj_train_data" / f"{name}.txt").write_text(labels.read_text() if labels.exists() else "")
    (cvat / "obj.names").write_text("cat\ndog\n")
    (cvat / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    (cvat / "train.txt").write_text("".join(f"data/obj_train_data/{name}.png\n" for name in SPLITS["train"]))
    assert sources.split_names(cvat) == ["train"] and content(cvat) == expected


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nval: ../valid/images\n",
        "path: /content/datasets/mine\ntrain: images\\train\nval: images\\val\n",
        "path: ../datasets/mine\ntrain: /home/me/mine/images/train\nval: /home/me/mine/images/val\n",
    ],
)
def test_paths_of_another_computer_in_yaml(voc, tmp_path, yaml):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["yolo"]
    expected = {split: content(data, split) for split in SPLITS}
    if "valid" in yaml:
        for part in ("images", "labels"):
            move(data / part / "val", data / part / "valid")
    (data / "data.yaml").write_text(yaml + "names: [cat, dog]\n")
    assert {split: content(data, split) for split in SPLITS} == expected


@pytest.mark.parametrize("path", ["../datasets/mine", "/content/datasets/mine", "D:\\sets\\mine"])
def test_the_folder_of_a_yaml_file_may_lie_beside_it(voc, tmp_path, path):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["yolo"]
    expected = {split: content(data, split) for split in SPLITS}
    move(data, tmp_path / "ultra" / "mine")
    (tmp_path / "ultra" / "mine.yaml").write_text(
        f"path: {path}\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
    )
    (tmp_path / "ultra" / "mine" / "data.yaml").unlink()
    assert {split: content(tmp_path / "ultra", split) for split in SPLITS} == expected


@pytest.mark.parametrize("path", ["labels.json", "train/labels.json", "train.json", "result.json"])
def test_places_of_cocos_files(voc, tmp_path, path):
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train", "val"], NAMES)["coco"]
    expected = content(data)
    file, pictures = data / "annotations/instances_train.json", data / "train"
    if path.endswith("labels.json"):
        move(pictures, data / "moved")
        move(data / "moved", data / path.replace("labels.json", "data"))
    if path == "result.json":  # Label Studio
        described = json.loads(file.read_text())
        for image in described["images"]:
            image["file_name"] = f"../../label-studio/media/upload/4/{image['file_name']}"
        file.write_text(json.dumps(described))
        move(pictures, data / "images")
    move(file, data / path)
    shutil.rmtree(data / "annotations")
    split = "train" if "train" in path else pathlib.Path(path).stem
    assert sources.choose(data) == "coco" and sources.split_names(data) == [split]
    assert content(data, split) == expected


CSV_FORMS = {
    "semicolons": lambda image, x1, y1, x2, y2, name: f"{image};{x1};{y1};{x2};{y2};{name}",
    "quotes": lambda image, x1, y1, x2, y2, name: f'"{image}","{x1}","{y1}","{x2}","{y2}","{name}"',
    "tabs": lambda image, x1, y1, x2, y2, name: f"{image}\t{x1}\t{y1}\t{x2}\t{y2}\t{name}",
    "backslashes": lambda image, x1, y1, x2, y2, name: f"D:\\set\\{image},{x1},{y1},{x2},{y2},{name}",
    "addresses": lambda image, x1, y1, x2, y2, name: f"gs://bucket/set/{image},{x1},{y1},{x2},{y2},{name}",
    "Label Studio": lambda image, x1, y1, x2, y2, name: f"/data/local-files/?d=set/{image},{x1},{y1},{x2},{y2},{name}",
    "no suffix": lambda image, x1, y1, x2, y2, name: f"{image.rpartition('.')[0]},{x1},{y1},{x2},{y2},{name}",
    "makesense": lambda image, x1, y1, x2, y2, name: f"{name},{x1},{y1},{x2 - x1},{y2 - y1},{image},40,30",
}


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("form", CSV_FORMS)
def test_forms_of_tables(tmp_path, form, header):
    images.write(tmp_path / "images" / "a.png", noise(1, (40, 30)))
    line = CSV_FORMS[form]
    lines = [line("a.png", 5, 3, 20, 18, "cat"), line("a.png", 0, 0, 40, 30, "dog")]
    if header:
        names = "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height"
        if form != "makesense":
            names = "image,xmin,ymin,xmax,ymax,label"
            names = {"tabs": names.replace(",", "\t"), "semicolons": names.replace(",", ";")}.get(form, names)
        lines = [names if form != "quotes" else '"' + names.replace(",", '","') + '"', *lines]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "train.csv").write_bytes("\r\n".join(["# made by hand", *lines, ""]).encode(encoding))
        if encoding != "utf-16":
            assert sources.choose(tmp_path) == "csv"
        (sample,) = sources.load(tmp_path, "train", NAMES, source="csv")
        assert sample.labels.tolist() == [0, 1] and sample.boxes_px.tolist() == [[5, 3, 20, 18], [0, 0, 40, 30]]


def test_a_picture_of_another_split_is_not_taken(tmp_path):
    images.write(tmp_path / "val" / "a.png", noise(1, (40, 30)))
    (tmp_path / "val.csv").write_text("a.png,5,3,20,18,cat\n")
    (tmp_path / "train.csv").write_text("a.png,5,3,20,18,cat\n")
    assert len(sources.find(tmp_path, "val")) == 1
    with pytest.raises(UserError, match=r"a\.png: no such picture"):
        sources.find(tmp_path, "train")


def test_a_picture_of_the_same_name_with_another_suffix_is_said(voc, tmp_path, capsys):
    """Both have one file of annotations and one id; a list would say which is meant."""
    flat(voc)
    for split, name in (("train", "a.bmp"), ("train", "b.c.PNG"), ("val", "v.jpg")):
        shutil.copy(voc / split / f"{name[:-4]}.png", voc / split / name)
    assert sorted(content(voc)) == ["a", "b.c", "shot 1"]
    lost = f"2 pictures left out, as another beside has the same name but for the suffix; the first is {voc}/train/a"
    assert lost in capsys.readouterr().err
    (train, val) = sources.survey(voc)
    assert sorted(pathlib.Path(path).stem for path in (*train.unlisted, *val.unlisted)) == ["a", "b.c", "v"]


@pytest.mark.parametrize("listed", ["C:\\me\\images\\a.{}", "/me/images/A.{}", "gs://me/images/a.{}?x=1"])
def test_of_pictures_with_two_suffixes_the_named_one_is_taken(tmp_path, listed):
    for at, suffix in enumerate(("jpg", "png")):
        images.write(tmp_path / f"images/a.{suffix}", noise(at, (40, 30)))
    for named, taken in (("png", "png"), ("PNG", "png"), ("jpg", "jpg"), ("tif", "jpg")):  # tif: converted since
        (tmp_path / "train.csv").write_text(f"{listed.format(named)},5,3,20,18,cat\n")
        assert sources.find(tmp_path, "train")[0].image_path == str(tmp_path / f"images/a.{taken}")


def test_a_picture_that_may_be_two_is_asked_about(tmp_path):
    for name in "xy":
        images.write(tmp_path / "images" / name / "a.png", noise(1, (40, 30)))
    (tmp_path / "train.csv").write_text("a.png,5,3,20,18,cat\n")
    with pytest.raises(UserError, match=r"line 1: a\.png may be images/x/a or images/y/a in"):
        sources.find(tmp_path, "train")
    (tmp_path / "train.csv").write_text("/elsewhere/y/a.png,5,3,20,18,cat\n")
    assert sources.find(tmp_path, "train")[0].image_path.endswith("images/y/a.png")


def test_an_annotation_of_another_picture_of_that_name_is_not_taken(tmp_path):
    """Frames are often numbered anew in each folder, and those without objects may have no file."""
    voc, yolo = tmp_path / "voc", tmp_path / "yolo"
    for at, name in enumerate(("train/0001", "val/0001")):
        images.write(voc / "JPEGImages" / f"{name}.png", noise(at, (40, 30)))
    (voc / "Annotations/val").mkdir(parents=True)
    (voc / "Annotations/val/0001.xml").write_text(voc_xml(40, 30, [("cat", (5, 3, 20, 18))]))
    with pytest.raises(UserError, match=r"Annotations/train/0001\.xml: cannot read the annotation: no such file"):
        sources.load(voc, "train", NAMES, source="voc")
    kept = {"source": "voc", "missing_annotations": "background"}
    assert [len(one.boxes) for one in sources.load(voc, "train,val", NAMES, **kept)] == [0, 1]
    shutil.copytree(voc / "JPEGImages", yolo / "images")
    (yolo / "labels/val").mkdir(parents=True)
    (yolo / "labels/val/0001.txt").write_text("0 .5 .5 .9 .9\n")
    (yolo / "classes.txt").write_text("cat\ndog\n")
    assert [len(one.boxes) for one in sources.load(yolo, "train,val", NAMES)] == [0, 1]
    (voc / "ImageSets").mkdir()
    (voc / "ImageSets/some.txt").write_text("val/0001\n")
    with pytest.raises(UserError, match="the split is empty"):
        sources.find(voc, "unlisted", source="voc")


def test_pictures_of_one_name_may_share_an_annotation(tmp_path):
    """Each picture of two cameras that look through one lens."""
    for at, name in enumerate(("infrared/0001", "visible/0001")):
        images.write(tmp_path / "JPEGImages" / f"{name}.png", noise(at, (40, 30)))
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/0001.xml").write_text(voc_xml(40, 30, [("cat", (5, 3, 20, 18))]))
    assert [len(one.boxes) for one in sources.load(tmp_path, "all", NAMES)] == [1, 1]


def test_an_annotation_whose_picture_is_missing_is_named_beside_another_picture_of_that_name(tmp_path):
    images.write(tmp_path / "JPEGImages/x/0001.png", noise(1, (40, 30)))
    for folder in "xy":
        (tmp_path / "Annotations" / folder).mkdir(parents=True)
        (tmp_path / "Annotations" / folder / "0001.xml").write_text(voc_xml(40, 30, [("cat", (5, 3, 20, 18))]))
    with pytest.raises(UserError, match=r"y/0001\.jpg: no such picture"):
        sources.find(tmp_path, "all")


def test_the_annotation_of_a_missing_picture_is_not_missing(voc):
    (voc / "JPEGImages/a.png").unlink()
    (voc / "ImageSets/Main/train.txt").write_text("C:\\data\\a.png\n")
    (split,) = sources.survey(voc, "train")
    assert split.pictures[0].image_path is None
    assert split.pictures[0].annotation_path == str(voc / "Annotations/a.xml")


@pytest.mark.parametrize("listed", ["cam1/0001.png", "D:\\set\\images\\cam1\\0001.png", "Cam1/0001.png"])
def test_a_picture_is_not_taken_from_beside_the_folder_that_is_named(voc, tmp_path, listed):
    """Were that folder missing, it might be called otherwise here."""
    for root in (tmp_path / "csv/images", voc / "JPEGImages"):
        for at, name in enumerate(("cam1/0002", "cam2/0001")):
            images.write(root / f"{name}.png", noise(at, (40, 30)))
    (tmp_path / "csv/train.csv").write_text(f"{listed},5,3,20,18,cat\n")
    with pytest.raises(UserError, match=r"line 1: .*0001\.png: no such picture; add the file or remove the entry"):
        sources.find(tmp_path / "csv", "train", "csv")
    (voc / "ImageSets/Main/train.txt").write_text(f"{listed}\n")
    with pytest.raises(UserError, match=r"train\.txt: .*0001.*: no such picture; add the file or remove its line"):
        sources.find(voc, "train", "voc")
    (tmp_path / "csv/train.csv").write_text(f"{listed.replace('am1', 'am3')},5,3,20,18,cat\n")
    assert sources.find(tmp_path / "csv", "train", "csv")[0].image_path.endswith("images/cam2/0001.png")


def test_a_folder_in_other_capitals_is_the_one_that_is_named(tmp_path):
    """Also beside a picture of that name outside of it."""
    for at, name in enumerate(("a", "train/a", "train/b")):
        images.write(tmp_path / f"{name}.png", noise(at, (40, 30)))
    index = folders.Index(tmp_path, (".png",))
    assert index.find("Train/a.jpg") == ["train/a"] and index.find("Train/c.jpg") == []
    assert index.find("elsewhere/a.jpg") == ["a"]


@pytest.mark.parametrize(("own", "other"), [("0001", "enhanced/0001"), ("night/0001", "day/0001")])
def test_an_annotation_without_folders_is_for_all_pictures_of_its_name(own, other, tmp_path):
    for at, name in enumerate((own, other)):
        images.write(tmp_path / "JPEGImages" / f"{name}.png", noise(at, (40, 30)))
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/0001.xml").write_text(voc_xml(40, 30, [("cat", (5, 3, 20, 18))]))
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/both.txt").write_text(f"{own}\n{other}\n")
    assert [len(one.boxes) for one in sources.load(tmp_path, "both", NAMES)] == [1, 1]


@pytest.mark.parametrize("name", ["../more/x", ".x"])
def test_a_listed_picture_that_is_outside_or_hidden_is_named(voc, name):
    images.write(voc / "more/x.jpg", noise(1, (40, 30)))
    shutil.copy(voc / "more/x.jpg", voc / "JPEGImages/.x.jpg")
    (voc / "ImageSets/Main/train.txt").write_text(f"a\n{name}\n")
    with pytest.raises(UserError, match=rf"train\.txt: .*JPEGImages/{name}\.jpg: is hidden or .*remove its line"):
        sources.find(voc, "train")


def test_a_picture_of_an_unread_kind_is_named(voc):
    move(voc / "JPEGImages" / "a.png", voc / "JPEGImages" / "a.pcx")
    with pytest.raises(UserError, match=r"train\.txt: .*a\.jpg: no such picture, only a\.pcx, .* called \.pcx "):
        sources.find(voc, "train")


def test_a_picture_of_an_unread_kind_is_named_wherever_it_is(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.heic").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a file of annotations is no picture")
    (tmp_path / "train.csv").write_text("a.jpg,5,3,20,18,cat\n")
    with pytest.raises(UserError, match=r"line 1: .*a\.jpg: no such picture, only a\.heic, which needs the package"):
        sources.find(tmp_path, "train")
    (tmp_path / "images" / "a.heic").unlink()
    none = (
        r"line 1: .*a\.jpg: no such picture, and none at all in .*: add them, or export again with pictures, which some"
    )
    with pytest.raises(UserError, match=none):
        sources.find(tmp_path, "train")
    images.write(tmp_path / "images" / "b.jpg", noise(1, (40, 30)))
    with pytest.raises(UserError, match=r"line 1: .*a\.jpg: no such picture; add the file or remove the entry"):
        sources.find(tmp_path, "train")


def test_a_list_that_names_a_picture_by_a_suffix_means_that_one(voc):
    shutil.copy(voc / "JPEGImages" / "a.png", voc / "JPEGImages" / "a.jpg")  # which comes first
    train = voc / "ImageSets" / "Main" / "train.txt"
    for name in ("a", "a.jpg", "JPEGImages/a.jpg"):
        train.write_text(f"{name}\n")
        assert sources.find(voc, "train")[0].image_path.endswith("a.jpg")
    train.write_text("JPEGImages/a.png\n")
    with pytest.raises(UserError, match=r"train\.txt: JPEGImages/a\.png: a\.jpg beside it has the same name but for"):
        sources.find(voc, "train")


@pytest.mark.parametrize("below", ["", "x/"])
def test_names_that_differ_in_capitals_have_their_own_annotations(voc, below):
    """And none where theirs is missing."""
    for name in "sS":
        for folder, own in (("JPEGImages", "a.png"), ("Annotations", "a.xml")):
            place = voc / folder / f"{below}{name}{own[1:]}"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(voc / folder / own, place)
    list_path = voc / "ImageSets" / "Main" / "train.txt"
    list_path.write_text(f"{below}S\n{below}s\n")
    ends = [f"{below}S.xml", f"{below}s.xml"]
    found = [one.annotation_path for one in sources.find(voc, "train")]
    assert found == [str(voc / "Annotations" / end) for end in ends]
    (voc / "Annotations" / ends[0]).unlink()
    assert [one.annotation_path for one in sources.find(voc, "train")] == found  # where it would be
    (voc / "JPEGImages" / f"{below}s.png").unlink()
    list_path.write_text(f"{below}S\n")
    assert sources.find(voc, "train")[0].annotation_path == found[1]


def test_an_export_without_pictures_says_so(voc):
    """As CVAT makes unless told to save them; the name in a list may have its suffix."""
    shutil.rmtree(voc / "JPEGImages")
    (voc / "ImageSets" / "Main" / "train.txt").write_text("data/a.png\n")
    with pytest.raises(UserError) as error:
        sources.find(voc, "train")
    assert f"{voc}/data/a.png: no such picture, and none at all in {voc}: add them, or export" in str(error.value)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPEG"])
def test_names_of_jpeg_files(voc, suffix):
    picture = images.read(voc / "JPEGImages" / "a.png")
    (voc / "JPEGImages" / "a.png").unlink()
    images.write(voc / "JPEGImages" / "a.jpg", picture)
    move(voc / "JPEGImages" / "a.jpg", voc / "JPEGImages" / f"a{suffix}")
    assert source_pascal_voc.find(voc, "train")[0].image_path.endswith(f"a{suffix}")
    assert images.read(voc / "JPEGImages" / f"a{suffix}").shape == (30, 40, 3)


XML = {
    "gb2312": ('<?xml version="1.0" encoding="gb2312"?><annotation><folder>图片</folder>', "gb2312"),
    "shift_jis": ('<?xml version="1.0" encoding="Shift_JIS"?><annotation><folder>写真</folder>', "shift_jis"),
    "utf-16": ('<?xml version="1.0" encoding="utf-16"?><annotation><folder>é</folder>', "utf-16"),
    "a namespace": ('<annotation xmlns="http://example.org/voc">', "utf-8"),
    "a mark": ("\ufeff<annotation>", "utf-8"),
}


@pytest.mark.parametrize("form", XML)
def test_encodings_of_xml(voc, form):
    expected = content(voc)
    path = voc / "Annotations" / "a.xml"
    start, encoding = XML[form]
    path.write_bytes(path.read_text("utf-8").replace("<annotation>", start).encode(encoding))
    move(path, path.with_suffix(".XML"))
    assert content(voc) == expected


def test_one_name_in_several_folders(tmp_path):
    """The id is then the path below --data, so that results can be told apart."""
    pictures = {f"{drive}/{name}": (noise(7, (40, 30)), [("cat", (5, 3, 20, 18))]) for drive in "xy" for name in "ab"}
    for image_id in pictures:
        for part in ("JPEGImages", "Annotations"):
            (tmp_path / "voc" / part / image_id).parent.mkdir(parents=True, exist_ok=True)
    voc = write_voc(tmp_path / "voc", pictures, {"train": list(pictures), "val": ["x/a", "y/b"]}, suffix=".png")
    assert [one.id for one in sources.find(voc, "train")] == [f"JPEGImages/{image_id}" for image_id in pictures]
    assert [one.id for one in sources.find(voc, "val")] == ["a", "b"]
    boxes = [{"id": at, "image_id": at, "bbox": [4, 2, 16, 16], "category_id": 1} for at in range(4)]
    described = [{"id": at, "file_name": f"{name}.png"} for at, name in enumerate(pictures)]
    shutil.copytree(voc / "JPEGImages", tmp_path / "coco" / "train")
    (tmp_path / "coco" / "train.json").write_text(
        json.dumps({"images": described, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]})
    )
    shutil.copytree(voc / "JPEGImages", tmp_path / "csv" / "train")
    (tmp_path / "csv" / "train.csv").write_text("".join(f"{name}.png,4,2,20,18,cat\n" for name in pictures))
    for name in ("coco", "csv"):
        samples = sources.load(tmp_path / name, "train", NAMES)
        assert [one.id for one in samples] == [f"train/{image_id}" for image_id in pictures]
        assert [one.boxes_px.tolist() for one in samples] == [[[4, 2, 20, 18]]] * 4
