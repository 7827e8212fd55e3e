"""Exports of other tools, written as they write them: read without a flag, or refused in a line that says why."""

import csv
import io
import json

import numpy as np
import pytest

import sources
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


def fiftyone_kitti(root):
    for number in range(6):
        picture(root / "data" / f"{number:06d}.png")
        lines = [f"{name} 0 0 0 {' '.join(map(str, box))} 0 0 0 0 0 0 0\n" for name, box in BOXES.items()]
        write(root / "labels" / f"{number:06d}.txt", "".join(lines))


def pose(root):
    """Keypoints behind each box, which are no corners of a polygon."""
    ultralytics(root, "kpt_shape: [2, 3]\nnames: [kite, buoy]\n", yolo(" 0.9 0.9 2 0.95 0.95 1"))


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
}


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_an_export_is_read(tmp_path, capsys, export):
    export(tmp_path)
    name, splits = EXPORTS[export]
    assert sources.choose(tmp_path) == name and sources.split_names(tmp_path) == list(splits)
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


def test_fractions_of_open_images(tmp_path):
    head = ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"]
    table(
        tmp_path,
        head,
        lambda file, name, box: [file[:-4], name, box[0] / WIDTH, box[2] / WIDTH, box[1] / HEIGHT, box[3] / HEIGHT],
    )
    with pytest.raises(UserError, match="fractions of the picture, a CSV table wants pixels"):
        sources.load(tmp_path, "labels", ("kite", "buoy"))


def test_one_split_that_is_not_for_training_is_not_taken(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    for name in ("test", "val", "Validation"):
        write(tmp_path / f"{name}.json", coco(["a.jpg"]))
        assert sources.split_names(tmp_path) == [name] and sources.usual_training(tmp_path) is None
        (tmp_path / f"{name}.json").unlink()
