"""COCO's instances files: as they are in the wild, and every way in which they may be wrong."""

import copy
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from formats import coco
from structures import UserError

NAMES = ("cat", "dog")
CONTENT = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 20, "height": 10},
        {"id": 3, "file_name": "a.png", "width": 20, "height": 10},
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "bbox": [2, 1, 8.5, 4.25], "area": 30.5, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 20, 10], "iscrowd": 1},
        {"id": 3, "image_id": 3, "category_id": 2, "bbox": [18, 8, 10, 10], "ignore": 1},
    ],
}


def write(root, content=CONTENT, split="val", folder="val"):
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in "ab":
        Image.new("RGB", (20, 10)).save(root / folder / f"{name}.png")
    return path


def test_coordinates_by_hand(tmp_path):
    write(tmp_path)
    first, second = coco.load(tmp_path, "val", NAMES)
    assert (first.id, second.id) == ("a", "b")  # by image id
    np.testing.assert_array_equal(first.boxes, np.float32([[18 / 20, 8 / 10, 1, 1]]))  # clipped
    assert first.difficult.tolist() == [True] and first.crowd is None and first.area.tolist() == [100]
    np.testing.assert_array_equal(second.boxes, np.float32([[2 / 20, 1 / 10, 10.5 / 20, 5.25 / 10], [0, 0, 1, 1]]))
    assert second.labels.tolist() == [1, 0]
    assert second.crowd.tolist() == second.difficult.tolist() == [False, True]
    assert second.area.tolist() == [30.5, 200]  # as annotated, else width × height
    assert [one.labels.tolist() for one in coco.load(tmp_path, "val", NAMES, difficult="ignore")] == [[], [1]]


@pytest.mark.parametrize("folder", ["val", "images/val", "images", "."])
def test_where_pictures_may_be(tmp_path, folder):
    path = write(tmp_path, folder=folder)
    for data in (tmp_path, path):
        (sample, _) = coco.load(str(data), "val", NAMES)
        assert Image.open(sample.image_path).size == (20, 10)


def test_layout_of_roboflow(tmp_path):
    path = write(tmp_path, folder="val")
    shutil.move(path, tmp_path / "val" / "_annotations.coco.json")
    path.parent.rmdir()
    assert coco.fits(tmp_path)
    assert len(coco.find(tmp_path, "val")) == 2


def test_names_and_ids(tmp_path):
    write(tmp_path)
    assert coco.class_names(tmp_path, "val") == NAMES  # by category id
    assert coco.result_ids(tmp_path, "val") == ({"a": 3, "b": 7}, {"cat": 2, "dog": 9})


def test_the_same_ids_in_two_splits_have_no_results(tmp_path):
    write(tmp_path)
    for split in ("a", "b"):
        content = copy.deepcopy(CONTENT)
        content["images"] = [{"id": 3, "file_name": f"{split}.png"}]
        content["annotations"] = []
        write(tmp_path, content, split, "images")
    assert [one.id for one in coco.load(tmp_path, "a,b", NAMES)] == ["a", "b"]
    with pytest.raises(UserError, match=r"instances_b\.json: image 3 "):
        coco.result_ids(tmp_path, "a,b")


@pytest.mark.parametrize(
    ("size", "exif"), [((10, 20), True), ((20, 10), False), ((None, None), False), ((-10, -20), False)]
)
def test_exif_counts_where_the_stated_size_is_the_turned_one(tmp_path, size, exif):
    content = copy.deepcopy(CONTENT)
    content["images"][1].update(width=size[0], height=size[1], file_name="a.jpg")
    write(tmp_path, content)
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "val" / "a.jpg", exif=tags)
    sample, _ = coco.load(tmp_path, "val", NAMES, other_classes="ignore")
    assert (sample.exif, sample.width, sample.height) == ((True, 10, 20) if exif else (False, 20, 10))


def test_boxes_without_area_are_dropped_with_one_warning(tmp_path, capsys):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"] = [5, 5, -3, 2]
    content["annotations"][2]["bbox"] = [5, 5, 3, 0]
    path = write(tmp_path, content)
    assert [len(one.boxes) for one in coco.load(tmp_path, "val", NAMES)] == [0, 1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: dropped 2 boxes") and "2 pictures" in line
    assert line.endswith(f"{path}: annotation 3")


def damaged(**changes):
    """CONTENT with parts replaced; a path like annotations.1.bbox names the part, None takes it away."""
    content = copy.deepcopy(CONTENT)
    for path, value in changes.items():
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        target = content
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("images", None, "'images'"),
        ("annotations", {}, "'annotations'"),
        ("categories", None, "'categories'"),
        ("images.0", 5, "images[0] is 5"),
        ("images.0.id", None, "images[0] "),
        ("images.0.id", 3, "image 3: images[1] "),
        ("images.0.file_name", None, "image 7 has no file_name"),
        ("images.0.file_name", "c.png", "image 7: {root}/val/c.png: no such picture"),
        ("images.0.file_name", "a.png", "image 7: {root}/val/a.png "),
        (
            "images.0.file_name",
            "../val/a.png",
            "image 7: {root}/val/a.png is listed also in ",
        ),
        ("images.0.id", 8, "annotation 1: image_id 7 "),
        ("annotations.1.id", 1, "annotation 1: annotations[1] "),
        ("annotations.1.id", None, ""),
        ("annotations.1.category_id", 4, "annotation 2: category_id 4 "),
        ("annotations.1.category_id", [4], "annotation 2: category_id [4] "),
        ("annotations.1.bbox", None, "annotation 2: bbox None "),
        ("annotations.1.bbox", [1, 2, 3], "annotation 2: bbox [1, 2, 3] "),
        ("annotations.1.bbox", [1, 2, 3, "4"], "annotation 2: bbox [1, 2, 3, '4'] "),
        ("annotations.1.bbox", [1, 2, 3, float("nan")], "annotation 2: bbox [1, 2, 3, nan] "),
        ("categories.0.id", 2, "category 2: categories[1] "),
        ("categories.0.name", "", "category 9 has no name"),
    ],
)
def test_mistakes_name_file_and_entry(tmp_path, path, value, named):
    file = write(tmp_path, damaged(**{path: value}))
    if not named:  # ids of annotations may be left out
        assert len(coco.load(tmp_path, "val", NAMES)) == 2
        return
    with pytest.raises(UserError) as error:
        coco.load(tmp_path, "val", NAMES)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)
    assert named.format(root=tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"images": [\n{"file_name": "\xe9.jpg"}]}', ", line 2: not UTF-8"),
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"images": [], "annotations": [], "categories": []}', "no images"),
    ],
)
def test_other_files(tmp_path, content, named):
    file = write(tmp_path)
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        coco.load(tmp_path, "val", NAMES)
    assert str(file) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)


def test_wrong_splits(tmp_path):
    path = write(tmp_path)
    for data, splits, named in [
        (tmp_path, "train", r"annotations/instances_train\.json; .*val"),
        (tmp_path, "val,val", r"instances_val\.json: .* val "),
        (path, "train,val", "train,val"),
    ]:
        with pytest.raises(UserError, match=named):
            coco.find(data, splits)


def test_one_name_of_two_ids_is_one_class_without_results(tmp_path):
    write(tmp_path, damaged(**{"categories.0.name": "cat"}))
    assert coco.class_names(tmp_path, "val") == ("cat",)
    assert [one.labels.tolist() for one in coco.load(tmp_path, "val", ("cat",))] == [[0], [0, 0]]
    with pytest.raises(UserError, match=r"category 'cat' .*2 and 9"):
        coco.result_ids(tmp_path, "val")


def test_background_is_no_class(tmp_path):
    write(tmp_path, damaged(**{"categories.0.name": "background"}))
    with pytest.raises(UserError, match="'background'"):
        coco.class_names(tmp_path, "val")
