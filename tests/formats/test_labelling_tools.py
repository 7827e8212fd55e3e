"""Exports of other tools, written as they write them: read without a flag, or refused in a line that says why."""

import csv
import io
import json

import numpy as np
import pytest

import sources
import ssd_utils
from dataset_check import checks, fixes, scanning
from formats import annotations
from media import images
from structures import UserError
from voc_tree import voc_xml

WIDTH, HEIGHT = 160, 120
BOXES = {"kite": (20, 10, 70, 60), "buoy": (60, 30, 140, 110)}  # edges
TWO = {"train": range(4), "val": range(4, 6)}
ALL = {"all": range(6)}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def picture(path):
    images.write(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def yolo(more=""):
    lines = []
    for number, (x0, y0, x1, y1) in enumerate(BOXES.values()):
        center = f"{(x0 + x1) / 2 / WIDTH:.6f} {(y0 + y1) / 2 / HEIGHT:.6f}"
        lines.append(f"{number} {center} {(x1 - x0) / WIDTH:.6f} {(y1 - y0) / HEIGHT:.6f}{more}\n")
    return "".join(lines)


def coco(names, categories=()):
    content = {"images": [], "annotations": [], "categories": list(categories)}
    content["categories"] += [{"id": number, "name": name} for number, name in enumerate(BOXES, start=1)]
    for number, name in enumerate(names):
        content["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for label, (x0, y0, x1, y1) in enumerate(BOXES.values(), start=1):
            one = {"id": 2 * number + label, "image_id": number, "category_id": label}
            content["annotations"].append({**one, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return json.dumps(content)


def xml():
    return voc_xml(WIDTH, HEIGHT, [(name, annotations.to_inclusive(box)) for name, box in BOXES.items()])


def table(root, head, row, delimiter=",", encoding="utf-8"):
    output = io.StringIO()
    writer = csv.writer(output, delimiter=delimiter)
    writer.writerow(head)
    for number in range(6):
        picture(root / "images" / f"s{number}.jpg")
        writer.writerows(row(f"s{number}.jpg", name, box) for name, box in BOXES.items())
    write(root / "labels.csv", output.getvalue().encode(encoding))


def cvat_darknet(root, splits=("train", "valid")):
    """One folder for each subset, with paths that begin with data/."""
    for split, ids in zip(splits, TWO.values(), strict=True):
        for number in ids:
            picture(root / f"obj_{split}_data" / "cam" / f"s{number % 4}.jpg")  # names repeat
            write(root / f"obj_{split}_data" / "cam" / f"s{number % 4}.txt", yolo())
        write(root / f"{split}.txt", "".join(f"data/obj_{split}_data/cam/s{number % 4}.jpg\n" for number in ids))
    write(root / "obj.names", "kite\nbuoy\n")
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")


def darknet(root):
    """Lists at the root that name pictures in another folder."""
    for number in range(6):
        picture(root / "obj" / f"s{number}.jpg")
        write(root / "obj" / f"s{number}.txt", yolo())
    write(root / "obj.names", "kite\nbuoy\n")
    for split, ids in TWO.items():
        write(root / f"{split}.txt", "".join(f"data/obj/s{number}.jpg\n" for number in ids))


def roboflow_darknet(root):
    for split, ids in TWO.items():
        for number in ids:
            picture(root / split / f"s{number}.jpg")
            write(root / split / f"s{number}.txt", yolo())
        write(root / split / "_darknet.labels", "kite\nbuoy\n")


def roboflow_yolo(root):
    """Its YAML file names a test split that the export does not have."""
    for split, ids in TWO.items():
        for number in ids:
            picture(root / split / "images" / f"s{number}.jpg")
            write(root / split / "labels" / f"s{number}.txt", yolo())
    splits = "train: ../train/images\nval: ../val/images\ntest: ../test/images\n"
    write(root / "data.yaml", f"{splits}\nnc: 2\nnames: ['kite', 'buoy']\n\nroboflow:\n  workspace: a\n")


def ultralytics(root, yaml="names: [kite, buoy]\n", labels=None, splits=("train", "val")):
    for split, ids in zip(splits, TWO.values(), strict=True):
        for number in ids:
            picture(root / "images" / split / f"s{number}.jpg")
            write(root / "labels" / split / f"s{number}.txt", labels or yolo())
    write(root / "dataset.yaml", f"path: /home/me/set\ntrain: ./images/{splits[0]}/\nval: ./images/{splits[1]}\n{yaml}")


def coco_2017(root):
    """COCO's own folder: captions and keypoints beside the instances."""
    for split, ids in TWO.items():
        for number in ids:
            picture(root / "images" / split / f"{number:012d}.jpg")
        names = [f"{number:012d}.jpg" for number in ids]
        write(root / "annotations" / f"instances_{split}.json", b"\xef\xbb\xbf" + coco(names).encode())
        write(root / "annotations" / f"captions_{split}.json", '{"images": [], "annotations": []}')
        write(root / "annotations" / f"person_keypoints_{split}.json", coco(names))


def cvat_coco(root):
    for split, ids in zip(("Train", "Validation"), TWO.values(), strict=True):
        for number in ids:
            picture(root / "images" / split / f"s{number}.jpg")
        write(root / "annotations" / f"instances_{split}.json", coco([f"s{number}.jpg" for number in ids]))


def cvat_voc(root):
    for number in range(6):
        picture(root / "JPEGImages" / f"s{number}.jpg")
        write(root / "Annotations" / f"s{number}.xml", xml())
    for split, ids in zip(("Train", "Validation"), TWO.values(), strict=True):
        write(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"s{number}\n" for number in ids))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nkite:1,2,3::\n")


def capitals(root):
    for number in range(6):
        picture(root / "JPEGImages" / f"P{number}.jpg")
        (root / "JPEGImages" / f"P{number}.jpg").rename(root / "JPEGImages" / f"P{number}.JPG")
        write(root / "Annotations" / f"P{number}.XML", xml())
    for split, ids in TWO.items():
        lines = "".join(f"./p{number}.jpg \r\n" for number in ids)
        write(root / "ImageSets" / "Main" / f"{split}.txt", b"\xef\xbb\xbf" + lines.encode())


def labelme_to_coco(root):
    for number in range(6):
        picture(root / "JPEGImages" / f"s{number}.jpg")
    names = [f"JPEGImages/s{number}.jpg" for number in range(6)]
    write(root / "annotations.json", coco(names, [{"id": 0, "name": "__background__"}]))


def label_studio_windows(root):
    for number in range(6):
        picture(root / "images" / f"1a2b-s{number}.jpg")
    write(root / "result.json", coco([f"images\\1a2b-s{number}.jpg" for number in range(6)]))


def decimal_commas(root):
    head = ["filename", "xmin", "ymin", "xmax", "ymax", "label"]
    table(root, head, lambda file, name, box: [file, *(f"{edge},0" for edge in box), name], ";")


def pandas_index(root):
    head = ["", "filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    table(root, head, lambda file, name, box: [7, file, WIDTH, HEIGHT, name, *box])


def utf16_tabs(root):
    head = ["Filename", "X1", "Y1", "X2", "Y2", "Label"]
    table(root, head, lambda file, name, box: [file, *box, name], "\t", "utf-16")


def fiftyone_kitti(root, folder="data", before="0 0 0", after=" 0 0 0 0 0 0 0"):
    for number in range(6):
        picture(root / folder / f"{number:06d}.png")
        lines = [f"{name} {before} {' '.join(map(str, box))}{after}\n" for name, box in BOXES.items()]
        write(root / "labels" / f"{number:06d}.txt", "".join(lines))


def pose(root):
    """Keypoints behind each box, which are no corners of a polygon."""
    ultralytics(root, "kpt_shape: [2, 3]\nnames: [kite, buoy]\n", yolo(" 0.9 0.9 2 0.95 0.95 1"))


def percent_encoded(root):
    """Names as in an address, without one."""
    for number in range(6):
        picture(root / "images" / f"a b {number}.jpg")
    write(root / "result.json", coco([f"a%20b%20{number}.jpg" for number in range(6)]))


def of_a_mac(root):
    """A Mac writes é in a file's name as two letters; lists, XML and JSON have one."""
    for number in range(6):
        picture(root / "JPEGImages" / f"e\u0301{number}.jpg")
        write(root / "Annotations" / f"\u00e9{number}.xml", xml())
    for split, ids in TWO.items():
        write(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"\u00e9{number}\n" for number in ids))


def ids_as_text(root):
    content = json.loads(coco([f"s{number}.jpg" for number in range(6)]))
    for number in range(6):
        picture(root / "images" / f"s{number}.jpg")
    for one in content["annotations"]:
        one |= {"image_id": str(one["image_id"]), "category_id": float(one["category_id"])}
    write(root / "result.json", json.dumps(content))


def a_list_of_categories_beside(root):
    for split, ids in zip(("train", "dev"), TWO.values(), strict=True):
        for number in ids:
            picture(root / split / f"s{number}.jpg")
        write(root / "annotations" / f"instances_{split}.json", coco([f"s{number}.jpg" for number in ids]))
    write(root / "annotations" / "categories.json", '["kite", "buoy"]')


def bars(root):
    head = ["Image Name", "Left", "Top", "Right", "Bottom", "Category-Name"]
    table(root, head, lambda file, name, box: [file, *box, name], "|")
    (root / "labels.csv").rename(root / "labels.tsv")


def spaces_before_quotes(root):
    table(root, ["filename", "class", "xmin", "ymin", "xmax", "ymax"], lambda file, name, box: [file, name, *box])
    lines = (root / "labels.csv").read_text().splitlines()
    write(root / "labels.csv", "".join(", ".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in lines))


def capitals_of_yolo(root):
    ultralytics(root)
    for old, new in (("images", "Images"), ("labels", "Labels"), ("Labels/train/s0.txt", "Labels/train/s0.TXT")):
        (root / old).rename(root / new)
    yaml = (root / "dataset.yaml").read_text().replace("images/", "Images/").replace("names:", '"names":')
    write(root / "dataset.yaml", yaml.encode("utf-16"))


def scalabel(root):
    for split, ids in TWO.items():
        frames = []
        for number in ids:
            picture(root / "images" / "100k" / split / f"s{number}.jpg")
            corners = {name: dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for name, box in BOXES.items()}
            labels = [{"category": name, "box2d": box} for name, box in corners.items()]
            frames.append({"name": f"s{number}.jpg", "labels": labels})
        write(root / "labels" / "det_20" / f"det_{split}.json", json.dumps({"frames": frames, "config": {}}))


def kitti_in_a_plane(root):
    fiftyone_kitti(root, "images", "0.0 0 -10", "")


def labelme_with_its_pictures_first(root):
    """Folders of unusual names; each file begins with a copy of the picture as text, longer than what is looked at."""
    for number in range(6):
        picture(root / "my shots" / f"s{number}.jpg")
        shapes = [
            {"label": name, "points": [box[:2], box[2:]], "shape_type": "rectangle"} for name, box in BOXES.items()
        ]
        sizes = {"imageWidth": WIDTH, "imageHeight": HEIGHT}
        write(
            root / "drawn" / f"s{number}.json",
            json.dumps({"imageData": "A" * 10**5, **sizes, "shapes": shapes, "version": "5"}),
        )


EXPORTS = {  # function: (format, splits)
    cvat_darknet: ("yolo", ("train", "valid")),
    darknet: ("yolo", ("train", "val")),
    roboflow_darknet: ("yolo", ("train", "val")),
    roboflow_yolo: ("yolo", ("train", "val")),
    ultralytics: ("yolo", ("train", "val")),
    pose: ("yolo", ("train", "val")),
    coco_2017: ("coco", ("train", "val")),
    cvat_coco: ("coco", ("Train", "Validation")),
    cvat_voc: ("voc", ("Train", "Validation")),
    capitals: ("voc", ("train", "val")),
    labelme_to_coco: ("coco", ("annotations",)),
    label_studio_windows: ("coco", ("result",)),
    decimal_commas: ("csv", ("labels",)),
    pandas_index: ("csv", ("labels",)),
    utf16_tabs: ("csv", ("labels",)),
    fiftyone_kitti: ("kitti", ("all",)),
    percent_encoded: ("coco", ("result",)),
    of_a_mac: ("voc", ("train", "val")),
    ids_as_text: ("coco", ("result",)),
    a_list_of_categories_beside: ("coco", ("dev", "train")),
    bars: ("csv", ("labels",)),
    spaces_before_quotes: ("csv", ("labels",)),
    capitals_of_yolo: ("yolo", ("train", "val")),
    scalabel: ("bdd100k", ("train", "val")),
    kitti_in_a_plane: ("kitti", ("all",)),
    labelme_with_its_pictures_first: ("labelme", ("all",)),
}


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_an_export_is_read(tmp_path, capsys, export):
    export(tmp_path)
    name, splits = EXPORTS[export]
    assert sources.choose(tmp_path) == name and sources.split_names(tmp_path) == list(splits)
    splits = sorted(splits, key=lambda split: split == "dev")
    assert sources.usual_training(tmp_path) == splits[0]
    for split, ids in zip(splits, (TWO if len(splits) == 2 else ALL).values(), strict=True):
        samples = sources.load(tmp_path, split, ("kite", "buoy"))
        assert len(samples) == len(ids) and set(sources.class_names(tmp_path, split)) == {"kite", "buoy"}
        for sample in samples:
            np.testing.assert_allclose(sample.boxes_px, list(BOXES.values()), atol=1e-3)
    if len(splits) == 2:  # by any name of a split
        assert [one[:2] for one in sources.find(tmp_path, "val")] == [
            one[:2] for one in sources.find(tmp_path, splits[1])
        ]
    said = capsys.readouterr().err
    assert said == "" or (export is labelme_to_coco and "'__background__' has no objects and is left out" in said)


@pytest.mark.parametrize("export", [ids_as_text, bars, capitals_of_yolo, scalabel, kitti_in_a_plane])
def test_a_corrected_copy_of_an_export_is_the_same(tmp_path, export):
    """What is read in another form is written in it."""
    export(tmp_path / "data")
    fixes.write_copy(scanning.scan(tmp_path / "data", workers=1), [], tmp_path / "fixed")
    for split in sources.split_names(tmp_path / "data"):
        for one in sources.load(tmp_path / "fixed", split, ("kite", "buoy")):
            np.testing.assert_allclose(one.boxes_px, list(BOXES.values()), atol=1e-3)


def test_another_table_is_left_out_and_said(tmp_path, capsys):
    table(tmp_path, ["filename", "xmin", "ymin", "xmax", "ymax", "class"], lambda file, name, box: [file, *box, name])
    write(tmp_path / "classes.csv", "kite,0\nbuoy,1\n")
    for _ in range(2):
        assert sources.split_names(tmp_path) == ["labels"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "classes.csv: left out, since its first line 'kite,0' is not " in line
    with pytest.raises(UserError, match=r"classes\.csv, line 1: 'kite,0' is not 'image,xmin"):
        sources.find(tmp_path, "classes")


@pytest.mark.parametrize("only", [cvat_coco, decimal_commas])
def test_the_one_split_says_how_to_divide_it(tmp_path, only):
    only(tmp_path)
    for path in (tmp_path / "annotations").glob("*Validation*"):
        path.unlink()
    with pytest.raises(UserError, match=r"the only split is '(Train|labels)', of which train.py --valid-share"):
        sources.find(tmp_path, "val")


def test_cvats_subsets_for_darknet_have_capitals(tmp_path):
    cvat_darknet(tmp_path, ("Train", "Validation"))
    assert sources.usual_training(tmp_path) == "Train"
    assert len(sources.load(tmp_path, "val", ("kite", "buoy"))) == 2


def test_keys_of_a_yaml_file_have_capitals(tmp_path):
    ultralytics(tmp_path)
    path = tmp_path / "dataset.yaml"
    path.write_text(path.read_text().replace("train:", "Train:"))
    assert sources.split_names(tmp_path) == ["Train", "val"] and len(sources.find(tmp_path, "train")) == 4


@pytest.mark.parametrize("encoding", ["big5", "shift_jis", "euc-kr", "windows-1251", "iso-8859-15"])
def test_encodings_that_xml_declares(tmp_path, encoding):
    name = {"big5": "風箏", "shift_jis": "凧", "euc-kr": "연", "windows-1251": "змей", "iso-8859-15": "œuf"}[encoding]
    picture(tmp_path / "a.jpg")
    write(
        tmp_path / "a.xml",
        f'<?xml version="1.0" encoding="{encoding}"?>\n{xml()}'.replace("kite", name).encode(encoding),
    )
    assert sources.class_names(tmp_path, "all") == ("buoy", name)


def test_a_column_that_divides_a_table_is_not_passed_over_in_silence(tmp_path, capsys):
    head = ["filename", "xmin", "ymin", "xmax", "ymax", "class", "split"]
    table(tmp_path, head, lambda file, name, box: [file, *box, name, "train"])
    for _ in range(2):
        sources.load(tmp_path, "labels", ("kite", "buoy"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels.csv: its column 'split' is not used" in line


def open_images(root, row=lambda file, name, edges: [file[:-4], name, edges[0], edges[2], edges[1], edges[3]]):
    """Open Images' table: fractions of the pictures. row: (file, name, edges in fractions) -> cells."""
    head = ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"]
    table(root, head, lambda file, name, box: row(file, name, np.divide(box, (WIDTH, HEIGHT) * 2).tolist()))


def automl(root):
    """AutoML's table without a first line of names: fractions too."""
    open_images(root, lambda file, name, box: ["TRAIN", f"gs://b/{file}", name, *box[:2], "", "", *box[2:], "", ""])
    path = root / "labels.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize("export", [open_images, automl])
def test_fractions_are_read_where_a_table_holds_them_by_definition(tmp_path, capsys, export):
    export(tmp_path)
    for sample in sources.load(tmp_path, "labels", ("kite", "buoy")):
        np.testing.assert_allclose(sample.boxes_px, list(BOXES.values()), atol=1e-3)
    assert capsys.readouterr().err == ""


def test_a_box_around_all_of_a_picture_in_fractions(tmp_path, capsys):
    """It is said only where the table does not say what its numbers are."""
    picture(tmp_path / "a.jpg")
    for head, said in (("ImageID,LabelName,XMin,YMin,XMax,YMax", False), ("image,class,x1,y1,x2,y2", True)):
        write(tmp_path / "train.csv", f"{head}\na.jpg,kite,0,0,1,1\n")
        (sample,) = sources.load(tmp_path, "train", ("kite",))
        assert sample.boxes_px[0, 2] == WIDTH
        assert ("taken as fractions" in capsys.readouterr().err) == said


def test_a_corrected_copy_of_a_table_in_fractions_keeps_all_objects(tmp_path):
    """Also a box around all of its picture, and one that was corrected."""
    open_images(tmp_path / "data")
    path = tmp_path / "data" / "labels.csv"
    more = "s0,kite,0,1,0,1\ns1,buoy,0.75,0.25,0.5,0.875\n"
    path.write_text(path.read_text() + more)
    scan = scanning.scan(tmp_path / "data", workers=1)
    found = checks.check(scan, ssd_utils.get_preset("vgg300"))
    assert "fractions" not in {one.defect for one in found} and "inverted-box" in {one.defect for one in found}
    duplicates = [one for one in found if one.defect != "duplicate"]  # all pictures are black
    fixes.write_copy(scan, duplicates, tmp_path / "fixed")
    text = (tmp_path / "fixed" / "labels.csv").read_text()
    assert len(text.splitlines()) == 15 and "s1,buoy,0.25,0.75,0.5,0.875" in text
    first, second, *_ = sources.load(tmp_path / "fixed", "labels", ("kite", "buoy"))
    assert first.boxes_px[2].tolist() == [0, 0, WIDTH, HEIGHT] and second.boxes_px[2].tolist() == [40, 60, 120, 105]


def test_one_split_that_is_not_for_training_is_not_taken(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    for name in ("test", "val", "Validation"):
        write(tmp_path / f"{name}.json", coco(["a.jpg"]))
        assert sources.split_names(tmp_path) == [name] and sources.usual_training(tmp_path) is None
        (tmp_path / f"{name}.json").unlink()
