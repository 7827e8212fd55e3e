"""COCO's instances files: as they are in the wild, and every way in which they may be wrong."""

import copy
import json
import pickle
import random
import re
import shutil
import types

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


def test_a_category_0_without_objects_is_a_class_unless_it_names_the_whole(tmp_path):
    """Without it, the labels of a split that has no object of it would be others than those of the next split."""
    categories = [{"id": 0, "name": "bird"}, {"id": 2, "name": "cat", "supercategory": "animal"}]
    write(tmp_path, {**CONTENT, "categories": [*categories, {"id": 9, "name": "dog", "supercategory": "animal"}]})
    assert coco.class_names(tmp_path, "val") == ("bird", "cat", "dog")


def test_polygons_of_resized_pictures_are_scaled_in_both_directions():
    """By other factors where the sides are rounded."""
    one = {"bbox": [10, 20, 40, 40], "area": 800, "segmentation": [[10, 20, 50, 20, 50, 60], [1, 2, 3, 4, 5, 6]]}
    edit = types.SimpleNamespace(scale=(2, 1.5), size=(200, 90))
    (scaled,) = coco._edited(one, edit, (20, 30, 100, 90))
    assert scaled["segmentation"] == [[20, 30, 100, 30, 100, 90], [2, 3, 6, 6, 10, 9]]
    assert scaled["bbox"] == [20, 30, 80, 60] and scaled["area"] == 2400


@pytest.mark.parametrize("above", [["animal"], {"name": "animal"}, None, 5])
def test_a_supercategory_that_is_no_name_is_passed_over(tmp_path, above):
    """Nothing needs it, but to know the name of the whole data set, which Roboflow writes as category 0."""
    categories = [{"id": 0, "name": "animal"}, {"id": 9, "name": "dog", "supercategory": "animal"}]
    categories += [{"id": 2, "name": "cat", "supercategory": above}]
    write(tmp_path, {**CONTENT, "categories": categories})
    assert coco.class_names(tmp_path, "val") == ("cat", "dog")


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
        (tmp_path, "train", "no split 'train'; .*val"),
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


def drawn(rng, plain):
    """Contents of a file with three pictures. plain: every object has a box and an area, as COCO's own have."""
    numbers = rng.choice([[1, 2, 3], [30, 4, 5], ["x", 7, "10"]])
    categories = rng.choice([[2, 9, 11], ["a", 0, 3]])
    annotations = []
    for index in range(rng.randrange(12)):
        number = rng.choice([int, float])
        box = [number(rng.uniform(low, high)) for low, high in ((-5, 18), (-5, 9), (-1, 12), (-1, 8))]
        one = {
            "segmentation": [[round(rng.uniform(-3, 22), 2) for _ in range(6)] for _ in range(rng.randrange(3))],
            "area": rng.choice([17, 30.25]),
            "iscrowd": rng.choice([0, 0, 1]),
            "image_id": rng.choice(numbers),
            "bbox": box,
            "category_id": rng.choice(categories),
            "id": index,
        }
        if rng.random() < 0.2:
            one["segmentation"] = {"counts": [3, 4], "size": [10, 20]}
        if rng.random() < 0.3:
            one["ignore"] = rng.choice([0, 1, True])
        if not plain and rng.random() < 0.5:
            del one[rng.choice(["area", "id", "segmentation", "iscrowd"])]
            if one.get("segmentation") and isinstance(one["segmentation"], list):
                one["bbox"] = []
        annotations.append(one)
    images = [{"id": number, "file_name": f"{name}.png"} for number, name in zip(numbers, "abc", strict=True)]
    for image in rng.sample(images, 2):
        image["width"], image["height"] = rng.choice([(20, 10), (40, 20), (33, 20)])
    names = [{"id": number, "name": name} for number, name in zip(categories, ("dog", "cat", "eel"), strict=True)]
    return {"images": images, "annotations": annotations, "categories": names}


def plainly(content, names, difficult, others):
    """(id, boxes, labels, difficult, crowd, area) of each picture, of 20 x 10 pixels, one object after the other."""
    name_of = {one["id"]: one["name"] for one in content["categories"]}
    samples = []
    for image in sorted(content["images"], key=lambda one: (isinstance(one["id"], str), one["id"])):
        rows, reach = [], [0, 0]
        for one in content["annotations"]:
            name = name_of[one["category_id"]]
            if one["image_id"] != image["id"] or (name not in names and others == "ignore"):
                continue
            if one["bbox"]:
                x, y, width, height = one["bbox"]
            else:
                xs = [value for polygon in one["segmentation"] for value in polygon[::2]]
                ys = [value for polygon in one["segmentation"] for value in polygon[1::2]]
                x, y, width, height = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
            is_crowd = one.get("iscrowd") == 1
            is_difficult = is_crowd or bool(one.get("ignore"))
            if is_difficult and difficult == "ignore":
                continue
            reach = [max(reach[0], x + width), max(reach[1], y + height)] if rows else [x + width, y + height]
            area = one.get("area", max(width, 0) * max(height, 0))
            rows.append([(x, y, x + width, y + height), names.index(name), is_difficult, is_crowd, area])
        stated = image.get("width"), image.get("height")
        scale = 0.5 if stated == (40, 20) and reach[0] <= 41 and reach[1] <= 21 else 1  # resized after annotation
        found = []
        for edges, *others_of_row, area in rows:
            box = [
                np.float32(min(max(edge * scale / side, 0), 1))
                for edge, side in zip(edges, (20, 10, 20, 10), strict=True)
            ]
            if box[2] > box[0] and box[3] > box[1]:
                found.append((box, *others_of_row, area * scale * scale))
        samples.append((image["file_name"][0], found))
    return samples


@pytest.mark.parametrize("plain", [True, False])
def test_all_objects_at_once_are_what_one_after_the_other_are(tmp_path, plain, monkeypatch):
    if plain:
        monkeypatch.setattr(coco, "_written", None)  # what looks at a single object is not called
    path = write(tmp_path)
    Image.new("RGB", (20, 10)).save(tmp_path / "val" / "c.png")
    seen = set()
    for seed in range(60):
        rng = random.Random(seed)
        content = drawn(rng, plain)
        path.write_text(json.dumps(content, indent=rng.choice([None, 1])), rng.choice(["utf-8", "utf-16"]))
        names, difficult = rng.choice([("cat", "dog", "eel"), ("eel", "cat")]), rng.choice(["use", "ignore"])
        others = "error" if len(names) == 3 else "ignore"
        samples = coco.load(tmp_path, "val", names, difficult=difficult, other_classes=others)
        for sample, (name, rows) in zip(samples, plainly(content, names, difficult, others), strict=True):
            boxes, labels, difficults, crowds, areas = zip(*rows, strict=True) if rows else ((),) * 5
            assert sample.id == name
            assert sample.boxes.dtype == np.float32 and sample.labels.dtype == np.int32
            np.testing.assert_array_equal(sample.boxes, np.float32(boxes).reshape(-1, 4))
            assert sample.labels.tolist() == list(labels) and sample.difficult.tolist() == list(difficults)
            assert sample.crowd is None if not any(crowds) else sample.crowd.tolist() == list(crowds)
            assert (sample.area is None and not areas) or sample.area.tolist() == list(areas)
            seen |= {("many", len(rows) > 2), ("crowds", any(crowds)), ("difficult", any(difficults))}
    assert len(seen) == 6


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"segmentation": [[1, 2.5, -3e+4], []], "b": 1}, "segmentation" : [\n[1,\n2]\n]}',
        '{"segmentation": {"counts": [1, 2], "size": [3, 4]}, "b": {"segmentation": []}}',
        r'{"a\\\"segmentation": [[1]], "b": "segmentation", "c": ["segmentation", [[2]]]}',
        r'{"x": "\"segmentation\": [[1, 2]]", "segmentation": [["x"]], "\"segmentation": [[7]]}',
        '{"segmentations": [[1]], "a segmentation": [[2]], "segmentation": [["a", 1]], "\u00e9": "segmentation"}',
    ],
)
def test_only_polygons_are_left_out(text):
    def without(value):
        if isinstance(value, dict):
            return {key: without(part) for key, part in value.items() if key != "segmentation"}
        return value

    left = json.loads(coco._without_polygons(text.encode()))
    assert without(left) == without(json.loads(text))


def test_a_fault_behind_polygons_is_named_with_its_line(tmp_path):
    path = write(tmp_path)
    text = '{"annotations": [{"segmentation": [\n[1,\n2]\n]}],\n "images": %s'
    for fault, message in ((b"[}", "line 5"), (b'"\xe9"', "line 5: not UTF-8")):
        path.write_bytes(text.encode() % fault)
        with pytest.raises(UserError, match=re.escape(f"{path}") + f".*{message}"):
            coco.load(tmp_path, "val", NAMES)


def test_another_process_is_sent_the_objects_of_one_picture(tmp_path):
    write(tmp_path)
    for entry in coco.find(tmp_path, "val"):
        sent = pickle.loads(pickle.dumps(entry))
        assert coco.reader(tmp_path)(sent) == coco.reader(tmp_path)(entry)
        assert len(sent.file._objects) == len(coco.reader(tmp_path)(entry).objects) > 0


@pytest.mark.parametrize("name", ["7", 7.0])
def test_ids_that_are_written_in_another_way(tmp_path, name):
    expected = [one.boxes.tolist() for one in load_of(tmp_path / "plain", CONTENT)]
    content = damaged(**{"annotations.0.image_id": name, "annotations.0.category_id": type(name)(2)})
    assert [one.boxes.tolist() for one in load_of(tmp_path / "other", content)] == expected


def test_an_id_of_thousands_of_digits_is_refused_in_a_short_line(tmp_path):
    """Python refuses to make a number of it."""
    write(tmp_path, damaged(**{"annotations.0.image_id": "1" * 5000}))
    with pytest.raises(UserError, match="is not the id of any image") as raised:
        coco.load(tmp_path, "val", NAMES)
    assert len(str(raised.value)) < 500 + len(str(tmp_path))


def load_of(root, content):
    root.mkdir()
    write(root, content)
    return coco.load(root, "val", NAMES)


def test_a_mask_without_a_box_says_what_to_add(tmp_path):
    mask = {"size": [10, 20], "counts": [3, 4, 193]}
    write(tmp_path, damaged(**{"annotations.0.bbox": None, "annotations.0.segmentation": mask}))
    with pytest.raises(UserError, match="annotation 1: has no bbox, and its mask is not read; add the bbox"):
        coco.load(tmp_path, "val", NAMES)
