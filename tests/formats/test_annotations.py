"""What all formats share, tried in each: sizes that lie, fractions for pixels, missing annotations, class names."""

import json
import re

import numpy as np
import pytest

import dataset_formats
import sources
from formats import annotations
from media import images
from structures import UserError
from voc_tree import voc_xml, write_voc

NAMES = ("cat", "dog")
OBJECTS = [("cat", (5, 3, 20, 18)), ("dog", (31, 11, 60, 40))]
WITH_SIZES = ("voc", "coco", "labelme", "csv")
PIXELS = ("voc", "coco", "bdd100k", "kitti", "labelme")


@pytest.fixture
def data_of(tmp_path):
    """{format: DATA} of three pictures of 80 × 60 pixels."""
    pictures = dict.fromkeys("abc", ((80, 60), OBJECTS))
    voc = write_voc(tmp_path / "voc", pictures, {"train": list("abc")})
    data = dataset_formats.write_all(voc, tmp_path / "others", ["train"], NAMES)
    table = data["csv"] / "train.csv"
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},width,height", *(f"{line},80,60" for line in lines), ""]))
    return data


def load(data, **options):
    return sources.load(data, "train", NAMES, **options)


def resize_all(data, size):
    for path in data.rglob("*.jpg"):
        images.write(path, np.zeros((size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("size", [(160, 120), (40, 30), (101, 76)])
@pytest.mark.parametrize("name", WITH_SIZES)
def test_boxes_of_resized_pictures_are_scaled_and_it_is_said(data_of, capsys, name, size):
    before = [sample.boxes for sample in load(data_of[name])]
    assert capsys.readouterr().err == ""
    resize_all(data_of[name], size)
    samples = load(data_of[name])
    assert [(one.width, one.height) for one in samples] == [size] * 3
    for sample, boxes in zip(samples, before, strict=True):
        np.testing.assert_allclose(sample.boxes, boxes, atol=1e-6)
        if sample.area is not None:
            sides = (sample.boxes_px[:, 2:] - sample.boxes_px[:, :2]).prod(axis=1)
            np.testing.assert_allclose(sample.area, sides, rtol=1e-3)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 3 pictures of another size ") and "boxes are scaled" in line
    assert line.endswith(f"states 80x60, the picture has {size[0]}x{size[1]}") and "the first is " in line


@pytest.mark.parametrize("size", [(60, 80), (80, 80)])
@pytest.mark.parametrize("name", WITH_SIZES)
def test_boxes_stay_where_the_stated_size_has_another_shape(data_of, capsys, name, size):
    before = [sample.boxes_px for sample in load(data_of[name])]
    resize_all(data_of[name], size)
    for sample, boxes in zip(load(data_of[name]), before, strict=True):
        np.testing.assert_array_equal(sample.boxes_px, boxes)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 3 pictures of another size ") and "left as they are" in line


def test_boxes_stay_where_they_do_not_fit_the_stated_size(tmp_path, capsys):
    voc = write_voc(tmp_path, {"a": ((160, 120), [("cat", (5, 3, 150, 110))])}, {"train": ["a"]})
    (voc / "Annotations/a.xml").write_text(voc_xml(80, 60, [("cat", (5, 3, 150, 110))]))
    assert load(voc)[0].boxes_px.tolist() == [[4, 2, 150, 110]]
    assert "left as they are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "stated", "expected"),
    [
        ((80, 60, 1), (80, 60), (80, 60, False)),
        ((80, 60, 6), (60, 80), (60, 80, True)),
        ((80, 60, 6), (80, 60), (80, 60, False)),
        ((80, 60, 6), (30, 40), (60, 80, True)),  # resized, and upright
        ((80, 60, 6), (40, 30), (80, 60, False)),
        ((80, 60, 3), (40, 30), (80, 60, True)),
        ((60, 60, 6), (30, 30), (60, 60, True)),
        ((80, 60, 6), (7, 7), (80, 60, False)),
        ((80, 60, 6), (None, None), (80, 60, False)),
        ((80, 60, 3), (None, None), (80, 60, True)),
        ((80, 60, 3), (7, 7), (80, 60, True)),
        ((60, 60, 6), (None, None), (60, 60, True)),
        ((60, 60, 6), (80, 60), (60, 60, True)),
    ],
)
def test_size_as_stated(header, stated, expected):
    assert annotations.size_as_stated(header, stated) == expected


def test_shapes_up_to_whole_pixels():
    for width, height in ((375, 500), (1920, 1080), (33, 77)):
        for factor in (0.13, 0.5, 0.77, 1.9, 3):
            resized = int(width * factor), round(height * factor)
            assert annotations.is_same_shape(resized, (width, height))
    assert not annotations.is_same_shape((640, 640), (1920, 1080))
    assert not annotations.is_same_shape((640, 352), (1920, 1080))


def write_fractions(data, name, share):
    """Divide the coordinates of the first files or lines by the size of the picture: of `share` of the three."""
    numbers = {"xmin": 80, "xmax": 80, "ymin": 60, "ymax": 60, "x1": 80, "x2": 80, "y1": 60, "y2": 60}
    if name == "voc":
        for path in sorted((data / "Annotations").glob("*.xml"))[:share]:
            text = path.read_text()
            for tag in ("xmin", "ymin", "xmax", "ymax"):
                text = re.sub(f"<{tag}>(.*?)<", lambda m, tag=tag: f"<{tag}>{float(m[1]) / numbers[tag]:.4f}<", text)
            path.write_text(text)
    elif name == "coco":
        path = data / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        for one in content["annotations"][: 2 * share]:
            one["bbox"] = [side / (80, 60, 80, 60)[at] for at, side in enumerate(one["bbox"])]
        path.write_text(json.dumps(content))
    elif name == "bdd100k":
        path = data / "labels/det_20/det_train.json"
        content = json.loads(path.read_text())
        for frame in content[:share]:
            for label in frame["labels"][:-1]:
                label["box2d"] = {key: value / numbers[key] for key, value in label["box2d"].items()}
        path.write_text(json.dumps(content))
    elif name == "labelme":
        for path in sorted((data / "train").glob("*.json"))[:share]:
            content = json.loads(path.read_text())
            for shape in content["shapes"]:
                shape["points"] = [[x / 80, y / 60] for x, y in shape["points"]]
            path.write_text(json.dumps(content))
    elif name == "kitti":
        for path in sorted((data / "train/label_2").glob("*.txt"))[:share]:
            rows = [line.split() for line in path.read_text().splitlines()]
            for row in rows[:-1]:
                row[4:8] = [str(float(value) / (80, 60)[at % 2]) for at, value in enumerate(row[4:8])]
            path.write_text("\n".join(map(" ".join, rows)))
    else:
        path = data / "train.csv"
        head, *rows = [line.split(",") for line in path.read_text().splitlines()]
        for row in rows[: 2 * share]:
            row[1:5] = [str(float(value) / (80, 60)[at % 2]) for at, value in enumerate(row[1:5])]
        path.write_text("\n".join(map(",".join, [head, *rows])) + "\n")


@pytest.mark.parametrize("name", PIXELS)
def test_fractions_for_pixels_are_refused(data_of, name):
    write_fractions(data_of[name], name, share=3)
    with pytest.raises(UserError, match=r"look like fractions of the picture, .* wants pixels") as error:
        load(data_of[name])
    assert str(error.value).startswith(str(data_of[name])) and "\n" not in str(error.value)


def test_a_table_of_fractions_is_read_as_such(data_of, capsys):
    before = [sample.boxes_px for sample in load(data_of["csv"])]
    write_fractions(data_of["csv"], "csv", share=3)
    after = [sample.boxes_px for sample in load(data_of["csv"])]
    np.testing.assert_allclose(after, before, atol=1e-4)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("train.csv: its boxes are taken as fractions of their pictures, since all lie between 0 and 1")


@pytest.mark.parametrize("name", (*PIXELS, "csv"))
def test_a_few_fractions_are_said(data_of, capsys, name):
    write_fractions(data_of[name], name, share=1)
    assert len(load(data_of[name])) == 3
    assert "warning: 2 boxes within the first pixel of their picture" in capsys.readouterr().err


def test_boxes_of_one_pixel_in_the_corner_are_no_fractions():
    assert not annotations.are_fractions((0, 0, 1, 1)) and not annotations.are_fractions((1, 1, 1, 1))
    assert annotations.are_fractions((0, 0.25, 1, 1)) and not annotations.are_fractions((0.5, 0.5, 3, 3))


@pytest.mark.parametrize(
    ("name", "path"), [("voc", "Annotations/b.xml"), ("labelme", "train/b.json"), ("kitti", "train/label_2/b.txt")]
)
def test_pictures_without_an_annotation_file(data_of, capsys, name, path):
    (data_of[name] / path).unlink()
    with pytest.raises(UserError, match=r"b\.\w+: .*no such file; .*--missing-annotations background"):
        load(data_of[name])
    samples = load(data_of[name], missing_annotations="background")
    assert [len(sample.boxes) for sample in samples] == [2, 0, 2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 1 picture without an annotation file") and line.endswith("b.jpg")


def rename(data, name, old, new):
    """Rename a class in the annotations of a data set."""
    for path in data.rglob("*"):
        if path.suffix in (".xml", ".json", ".txt", ".csv", ".yaml") and path.is_file():
            text = path.read_text()
            path.write_text(re.sub(rf"(?<![\w/]){old}(?![\w/])", new, text))


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv", "bdd100k", "kitti", "labelme"])
def test_background_as_a_class_says_the_way_out(data_of, name):
    rename(data_of[name], name, "cat", "background")
    with pytest.raises(UserError, match=r"class 'background', .*--classes dog --other-classes ignore, or rename"):
        sources.class_names(data_of[name], "train")
    samples = sources.load(data_of[name], "train", ("dog",), other_classes="ignore")
    assert [sample.labels.tolist() for sample in samples] == [[0]] * 3


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_a_background_without_objects_is_left_out(data_of, capsys, name):
    if name == "yolo":
        (data_of[name] / "data.yaml").write_text("train: images/train\nnames: [cat, dog, Background]\n")
    else:
        path = data_of[name] / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        content["categories"].insert(0, {"id": 1, "name": "Background"})
        path.write_text(json.dumps(content))
    assert sources.class_names(data_of[name], "train") == NAMES
    assert "'Background', has no objects" in capsys.readouterr().err.replace("' has", "', has")
    assert [len(sample.boxes) for sample in load(data_of[name])] == [2, 2, 2]


def test_roboflows_first_category_is_left_out(data_of, capsys):
    path = data_of["coco"] / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["supercategory"] = "animals"
    content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    path.write_text(json.dumps(content))
    assert sources.class_names(data_of["coco"], "train") == NAMES
    assert "category 'animals' has no objects" in capsys.readouterr().err


def test_polygons_and_rotated_boxes_are_said_once(tmp_path, capsys):
    voc = write_voc(tmp_path / "voc", {name: ((80, 60), []) for name in "ab"}, {"train": ["a", "b"]})
    shape = "<annotation><object><name>cat</name>{}</object></annotation>"
    points = "<x1>10</x1><y1>10</y1><x2>60</x2><y2>12</y2><x3>40</x3><y3>50</y3>"
    rotated = "<robndbox><cx>40</cx><cy>30</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>"
    for text, expected in (
        (f"<polygon>{points}</polygon>", [9, 9, 60, 50]),
        (f"<bndbox>{points}</bndbox>", [9, 9, 60, 50]),
        (rotated, [34, 19, 45, 40]),
    ):
        for name in "ab":
            (voc / "Annotations" / f"{name}.xml").write_text(shape.format(text))
        np.testing.assert_allclose([one.boxes_px for one in load(voc)], [[expected]] * 2, atol=1e-3)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: 2 ") and "box around each is taken" in line and "a.xml: object 1" in line


def test_coco_segmentations_without_a_box(data_of, capsys):
    path = data_of["coco"] / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"bbox": [], "segmentation": [[5, 6, 15, 6, 15, 20], [4, 8, 9, 9, 7, 7]]}
    path.write_text(json.dumps(content))
    assert load(data_of["coco"])[0].boxes_px[0].tolist() == [4, 6, 15, 20]
    assert "warning: 1 polygon: " in capsys.readouterr().err


SHAPES = [
    ({"shape_type": "polygon", "points": [[1, 2], [9, 4], [5, 8]]}, [1, 2, 9, 8]),
    ({"shape_type": "circle", "points": [[20, 20], [23, 24]]}, [15, 15, 25, 25]),
    ({"shape_type": "point", "points": [[20, 20]]}, None),
    ({"shape_type": "line", "points": [[20, 20], [30, 30]]}, None),
]


@pytest.mark.parametrize(("shape", "box"), SHAPES)
def test_shapes_of_labelme(data_of, capsys, shape, box):
    path = data_of["labelme"] / "train/a.json"
    content = json.loads(path.read_text())
    content["shapes"] = [{"label": "cat", **shape}]
    path.write_text(json.dumps(content))
    assert load(data_of["labelme"])[0].boxes_px.tolist() == ([] if box is None else [box])
    (line,) = capsys.readouterr().err.splitlines()
    said = "1 shape left out, as a line or a point has no area" if box is None else "1 polygon: the box around each"
    assert said in line and line.endswith(f"{path}: shape 1")


FILES = {"labelme": "train/a.json", "kitti": "train/label_2/a.txt", "bdd100k": "labels/det_20/det_train.json"}
MISTAKES = [  # (format, content of its file, what the message says after the file)
    ("labelme", '{"shapes": [{"label": "cat", "points": 5}], "version": "5"}', "shape 1: points 5 "),
    ("labelme", '{"shapes": [{"points": [[1, 2]]}], "version": "5"}', "shape 1: has no label"),
    (
        "labelme",
        '{"shapes": [{"label": "car", "shape_type": ["a"], "points": [[1, 2], [3, 4]]}], "version": "5"}',
        "shape 1: shape_type ['a'] is not a string",
    ),
    ("labelme", "{", "not valid JSON"),
    ("kitti", "Car 0 0 0 1 2 3\n", "line 1: 'Car 0 0 0 1 2 3' is not 'type truncated"),
    ("bdd100k", '[{"name": "a.jpg", "labels": [{"box2d": {"x1": 1}}]}]', "label 1: "),
    ("bdd100k", '[{"labels": [], "box2d": 1}]', "has no name"),
    ("bdd100k", '[{"name": "z.jpg", "labels": []}]', "z.jpg: no such picture"),
]


@pytest.mark.parametrize(("name", "content", "named"), MISTAKES)
def test_mistakes_name_file_and_entry(data_of, name, content, named):
    path = data_of[name] / FILES[name]
    path.write_text(content)
    with pytest.raises(UserError) as error:
        sources.load(data_of[name], "train", NAMES, source=name)
    assert str(error.value).startswith(str(path)) and named in str(error.value)
    assert "\n" not in str(error.value)


def test_bdd100k_with_a_file_for_each_picture(data_of):
    expected = [one.boxes_px.tolist() for one in load(data_of["bdd100k"])]
    labels = data_of["bdd100k"] / "labels"
    frames = json.loads((labels / "det_20/det_train.json").read_text())
    (labels / "det_20/det_train.json").unlink()
    (labels / "100k/train").mkdir(parents=True)
    for frame in frames:
        content = {"name": frame["name"].removesuffix(".jpg"), "frames": [{"objects": frame["labels"]}]}
        (labels / "100k/train" / f"{content['name']}.json").write_text(json.dumps(content))
    assert sources.choose(data_of["bdd100k"]) == "bdd100k"
    assert [one.boxes_px.tolist() for one in load(data_of["bdd100k"])] == expected


def other_numbers(name, data):
    """Write boxes with other numbers than the format wants: corners for sides, or for centers and sides."""
    if name == "coco":
        path = data / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        for one in content["annotations"]:
            x, y, width, height = one["bbox"]
            one["bbox"] = [x, y, x + width, y + height]
        path.write_text(json.dumps(content))
        return
    for path in (data / "labels/train").glob("*.txt"):
        lines = []
        for line in path.read_text().splitlines():
            label, *values = line.split()
            cx, cy, width, height = map(float, values)
            lines.append(f"{label} {cx - width / 2} {cy - height / 2} {cx + width / 2} {cy + height / 2}\n")
        path.write_text("".join(lines))


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_boxes_that_reach_far_out_of_their_pictures_are_said(data_of, capsys, name):
    load(data_of[name])
    assert capsys.readouterr().err == ""
    other_numbers(name, data_of[name])
    load(data_of[name])
    (line,) = capsys.readouterr().err.splitlines()
    assert " boxes reaching far out of the picture, and clipped: perhaps the four numbers of a box mean" in line


def test_few_boxes_that_reach_far_out_are_not_said(tmp_path, capsys):
    """A tool may let a box follow an object out of the picture."""
    objects = [("cat", (5, 3, 20, 18))] * 14 + [("cat", (60, 40, 100, 80))] * 3
    sources.load(write_voc(tmp_path, {"a": ((80, 60), objects)}, {"train": ["a"]}), "train", NAMES)
    assert capsys.readouterr().err == ""
    sources.load(write_voc(tmp_path, {"a": ((80, 60), objects[3:])}, {"train": ["a"]}), "train", NAMES)
    assert "3 boxes reaching far out of the picture" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*WITH_SIZES, "yolo"])
def test_sizes_that_boxes_were_drawn_on(data_of, capsys, name):
    """As `load` has them; a picture or annotation that cannot be read is no error."""
    data = data_of[name]
    resize_all(data, (160, 120))
    entries = sources.find(data, "train")
    sizes = sources.drawn_sizes(data, "train", entries)
    assert ("3 pictures of another size" in capsys.readouterr().err) == (name != "yolo")
    assert [size[:2] for size in sizes] == [(160, 120)] * 3
    assert [size.exif for size in sizes] == [one.exif for one in load(data)]
    next(data.rglob("b.jpg")).write_bytes(b"x")
    for path in data.rglob("a.xml"):
        path.unlink()
    assert [size and size[:2] for size in sources.drawn_sizes(data, "train", entries)] == [(160, 120), None, (160, 120)]


def test_a_background_class_is_not_sent_to_the_class_list(data_of):
    (data_of["voc"] / "Annotations/a.xml").write_text(voc_xml(80, 60, [("background", (5, 3, 20, 18))]))
    with pytest.raises(
        UserError, match=r"class 'background' is not in .* --other-classes ignore, or rename the class$"
    ):
        load(data_of["voc"])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trian", " (nearest: 'train')"),
        ("2007:trian", " (nearest: '2007:train')"),
        ("2007:test", ""),
        ("2010:train", ""),
    ],
)
def test_a_split_that_was_probably_meant_is_of_the_same_year(name, hint):
    said = annotations.no_split(name, ["2007:none", "2007:train", "2012:train", "train"])
    assert said.startswith(f"there is no split {name!r}{hint}; the splits are: 2007:none, ")
