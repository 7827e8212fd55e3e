"""Ultralytics' layout as it is in the wild, and every way in which it may be wrong."""

import numpy as np
import pytest
from PIL import Image

from formats import yolo
from structures import UserError

NAMES = ("cat", "dog")
YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
LABELS = "1 0.5 0.5 0.25 0.5\n0 0.0 0.1 0.1 0.2\n"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """A data set of a.png with two objects and b.png without."""
    (tmp_path / "data.yaml").write_text(YAML)
    for name in "ab":
        picture(tmp_path / "images" / "train" / f"{name}.png")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text(LABELS)
    return tmp_path


def load(data, split="train", names=NAMES):
    return yolo.load(str(data), split, names)


def test_coordinates_by_hand(data):
    first, second = load(data)
    expected = [[0.375, 0.25, 0.625, 0.75], [0, 0, 0.05, 0.2]]  # the second one clipped
    np.testing.assert_allclose(first.boxes, expected, rtol=1e-6)
    assert first.labels.tolist() == [1, 0] and first.boxes.dtype == np.float32
    assert (first.width, first.height, first.exif) == (20, 10, False)
    assert second.boxes.shape == (0, 4)


def test_pictures_are_taken_as_they_are_shown(data):
    for orientation, expected in ((6, (10, 20, True)), (3, (20, 10, True)), (1, (20, 10, False))):
        tags = Image.Exif()
        tags[0x0112] = orientation
        (data / "images" / "train" / "a.png").unlink(missing_ok=True)
        Image.new("RGB", (20, 10)).save(data / "images" / "train" / "a.jpg", exif=tags)
        sample = load(data)[0]
        assert (sample.width, sample.height, sample.exif) == expected


def test_polygons_give_their_box(data):
    (data / "labels/train/a.txt").write_text("0 0.5 0.1 0.75 0.5 0.25 0.75\n")
    np.testing.assert_allclose(load(data)[0].boxes, [[0.25, 0.1, 0.75, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("names", ["{0: cat, 1: dog}", "{1: dog, 0: cat}", "\n  0: cat\n  1: dog", "\n- cat\n- dog"])
def test_forms_of_names(data, names):
    (data / "data.yaml").write_text(YAML.replace("[cat, dog]", names))
    assert yolo.class_names(data, "train") == NAMES


def test_names_are_text(data):
    (data / "data.yaml").write_text(YAML.replace("[cat, dog]", "[no, 1]"))
    assert yolo.class_names(data, "train") == ("no", "1")


def test_forms_of_splits(data):
    """A list of folders, a text file, Roboflow's '../', labels beside their picture, folders within folders."""
    beside = picture(data / "more" / "deep" / "c.png")
    beside.with_suffix(".txt").write_text("0 0.5 0.5 1 1\n")
    (data / "list.txt").write_text("./images/train/b.png\n\nmore/deep/c.png\n")
    yaml = YAML + "test: [images/train, more]\nlisted: list.txt\nroboflow: ../images/train\n"
    (data / "data.yaml").write_text(yaml)
    for split, ids in (("test", "abc"), ("listed", "bc"), ("roboflow", "ab")):
        assert [one.id for one in load(data, split)] == list(ids), split
    assert load(data, "listed")[1].boxes.tolist() == [[0, 0, 1, 1]]


def test_keys_with_another_meaning_are_no_splits(data):
    (data / "images" / "train").rename(data / "images" / "path")
    text = "path: images/path\ntrain: .\nnames: [cat, dog]\n"
    (data / "data.yaml").write_text(text)
    assert yolo.split_names(data) == ["train"] and len(yolo.find(data, "train")) == 2
    with pytest.raises(UserError, match="there is no split 'test'; the only split is 'train'"):
        yolo.find(data, "test")


@pytest.mark.parametrize(
    "more", ["author: me\nauthor: you\n", "nc: 2\nnc: 3\n", "train: images/train\n", "x: {a: 1, a: 2}\n"]
)
def test_a_repeated_key_that_changes_nothing_is_no_obstacle(data, more):
    """Other tools take the last one."""
    (data / "data.yaml").write_text(YAML + more)
    assert [len(one.boxes) for one in load(data)] == [2, 0]


def test_labels_beside_a_picture_whose_name_a_mac_wrote(data):
    """The picture's é has two letters, that of its labels one; taken for background, it would be learned without."""
    picture(data / "images" / "cafe\u0301.png").rename(data / "cafe\u0301.png")
    (data / "caf\xe9.Txt").write_text(LABELS)
    (data / "list.txt").write_text("caf\xe9.png\nimages/train/a.png\n")
    (data / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    assert [len(one.boxes) for one in load(data)] == [2, 2]


@pytest.mark.parametrize("pictures, labels", [("mixed", "mixed"), ("images", "labels")])
def test_names_that_differ_in_capitals_have_their_own_labels(data, pictures, labels):
    for at, name in enumerate("aA"):
        picture(data / pictures / f"{name}.png")
        (data / labels).mkdir(exist_ok=True)
        (data / labels / f"{name}.txt").write_text(f"{at} 0.5 0.5 0.1 0.1\n")
    (data / "list.txt").write_text(f"{pictures}/A.png\n{pictures}/a.png\n")
    (data / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    assert [one.labels.tolist() for one in load(data)] == [[1], [0]]
    (data / labels / "A.txt").unlink()  # a picture without objects
    assert [one.labels.tolist() for one in load(data)] == [[], [0]]


def test_the_yaml_is_named_or_found(data):
    other = data / "other.yml"
    other.write_text(YAML.replace("cat", "cow"))
    assert yolo.class_names(data, "train") == NAMES  # data.yaml
    assert yolo.class_names(other, "train") == ("cow", "dog")
    (data / "data.yaml").rename(data / "third.yaml")
    with pytest.raises(UserError, match=r"other\.yml and third\.yaml"):
        yolo.find(data, "train")


@pytest.mark.parametrize("name", [".", "data.yaml"])
def test_labels_are_found_from_within_the_data_set(data, monkeypatch, name):
    monkeypatch.chdir(data)
    assert [len(sample.boxes) for sample in load(name)] == [2, 0]


def test_boxes_without_area_are_dropped_with_one_warning(data, capsys):
    labels = data / "labels/train/a.txt"
    labels.write_text("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 -0.2 0.1\n1 0.5 0.5 0 0\n")
    assert len(load(data)[0].boxes) == 1
    err = capsys.readouterr().err
    assert "dropped 2 boxes" in err and f"{labels}, line 2" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 0.5 0.5 0.1", "'0 0.5 0.5 0.1' is not 'class cx cy width height'"),
        ("0 0.5 0.5 0.1 0.1 0.9", "is not 'class cx cy width height'"),
        ("cat 0.5 0.5 0.1 0.1", "'cat 0.5 0.5 0.1 0.1' is not"),
        ("0.5 0.5 0.5 0.1 0.1", "is not 'class cx"),
        ("-1 0.5 0.5 0.1 0.1", "is not 'class cx"),
        ("2 0.5 0.5 0.1 0.1", "class 2 "),
        ("0 150 80 20 30", "'0 150 80 20 30' must contain fractions"),
        ("0 nan 0.5 0.1 0.1", "must contain fractions"),
        (b"0 0.5 \xff 0.1 0.1", "not UTF-8"),
    ],
)
def test_wrong_lines_are_named(data, line, named):
    labels = data / "labels/train/a.txt"
    labels.write_bytes(LABELS.encode() + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(UserError) as error:
        load(data)
    assert str(error.value).startswith(f"{labels}, line 3: ") and named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        (YAML.replace("[cat, dog]", "[cat, cat]"), "'cat'"),
        (YAML.replace("[cat, dog]", "{0: cat, 2: dog}"), "'names' has no 1;"),
        (YAML.replace("[cat, dog]", "7"), "'names' "),
        (YAML.replace("[cat, dog]", "[[cat], dog]"), "'names' "),
        (YAML.replace("train: images/train", ""), "no split 'train'"),
        (YAML.replace("images/train", "pictures"), "'train' means {data}/pictures: no such"),
        (YAML.replace("path: .", "path: nowhere").replace("images/", "gone/"), "'path' means {data}/nowhere: no such"),
        (YAML.replace("images/train", "labels/train"), "the split 'train' is empty"),
        (
            YAML + "train: images/val\n",
            "line 5: 'train' is there twice, with different content",
        ),  # the last would count
        (YAML.replace("[cat, dog]", "{0: cat, 1: dog, 0: cow}"), "line 4: '0' is there twice, with different content"),
        (YAML + "x: [1", "not valid YAML"),
        ("- names:\nnames: 1", "not valid YAML"),
        (YAML.encode() + b"# \xe9", ", line 5: not UTF-8"),
    ],
)
def test_wrong_yaml_is_named(data, yaml, named):
    (data / "data.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
    with pytest.raises(UserError) as error:
        load(data / "data.yaml")
    message = str(error.value)
    assert message.startswith(str(data / "data.yaml")) and named.format(data=data) in message and "\n" not in message


def test_missing_and_repeated_pictures_are_named(data):
    (data / "list.txt").write_text("images/train/a.png\nimages/train/x.png\n")
    (data / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    with pytest.raises(UserError, match=r"list\.txt, line 2: .*x\.png: no such picture"):
        load(data)
    (data / "list.txt").write_text("images/train/a.png\nimages/train/a.png\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: .*a\.png "):
        load(data)
    (data / "list.txt").write_bytes(b"images/train/a.png\nimages/train/\xe9.png\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: not UTF-8"):
        load(data)
    picture(data / "images" / "val" / "a.png")
    (data / "data.yaml").write_text(YAML)
    assert [one.id for one in yolo.find(data, "train,val")] == ["images/train/a", "b", "images/val/a"]


def test_a_split_without_labels_is_refused_but_found(data):
    (data / "labels/train/a.txt").unlink()
    with pytest.raises(UserError, match=r"train .*labels/train/a\.txt"):
        load(data)
    assert len(yolo.find(data, "train")) == 2


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("cat 0.5 0.5 0.1 0.1", "since 'cat' is a name where the number of a class belongs"),
        ("0 0.5 0.5 0.1 0.1 0.93", "the fifth number, a confidence or an angle, does not belong there"),
        ("20 10 70 10 70 60 20 60 cat 0", "may be one of DOTA"),
        ("0,0.5,0.5,0.1,0.1", "'class cx cy width height': spaces separate the numbers, not commas; correct it"),
        ("0, 0.5, 0.5, 0.1, 0.1", "'class cx cy width height': spaces separate the numbers, not commas; correct it"),
        ("0 0,5 0,5 0,1 0,1", "'class cx cy width height': write points for the decimal commas; correct it"),
        ("0", "'0' is not 'class cx cy width height'; correct it"),
        ("0 .5 .5 .1 .1 0 .5 .5 .1 .1", "is not 'class cx cy width height'; correct it"),
    ],
)
def test_a_line_of_another_kind_says_of_which(data, line, named):
    (data / "labels" / "train" / "a.txt").write_text(f"{line}\n")
    with pytest.raises(UserError, match=named):
        load(data)


def test_labels_that_fit_no_picture_are_said(data, capsys):
    labels = data / "labels" / "train"
    load(data)
    (labels / "classes.txt").write_text("cat\ndog\n")
    (labels / "b_1.txt").write_text(LABELS)
    picture(data / "images" / "train" / "b_1.png")
    load(data)
    assert capsys.readouterr().err == ""
    (data / "images" / "train" / "b_1.png").unlink()
    assert [one.boxes.shape for one in load(data)] == [(2, 4), (0, 4)]
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 picture without labels, taken as background, while 1 file of labels beside theirs fits no" in line
    assert f"{labels / 'b.txt'} (missing) and {labels / 'b_1.txt'}" in line


def test_pictures_of_unread_kinds_are_said(data, capsys):
    (data / "images" / "train" / "c.heic").write_bytes(b"x")
    for _ in range(2):
        assert len(load(data)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 picture in " in line and "c.heic, which needs the package pillow-heif" in line


@pytest.mark.parametrize("part", ["/", "../.."])
def test_a_split_that_means_all_of_the_disk_is_refused(tmp_path, part):
    """It would be searched for pictures, with all that is mounted."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.yaml").write_text(f"train: {part}\nnames: [cat]\n")
    with pytest.raises(UserError, match=r"'train' means .*, in which the data set itself is"):
        yolo.find(str(tmp_path / "data"), "train")
