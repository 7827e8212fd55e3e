"""Tables of boxes as they are in the wild, and every way in which they may be wrong."""

import json
import types

import numpy as np
import pytest
from PIL import Image

import sources
from formats import csv_table
from media import images
from structures import UserError
from voc_tree import voc_xml

NAMES = ("cat", "dog")
PLAIN = "a.png,2,1,10.5,5.25,dog\nb.png,,,,,\na.png,-3,0,30,10,cat\n"


@pytest.fixture
def data(tmp_path):
    for name in "ab":
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text(PLAIN)
    return tmp_path


def load(data, split="train"):
    return csv_table.load(str(data), split, NAMES)


FORMS = {
    "plain": PLAIN,
    "header": "image,xmin,ymin,xmax,ymax,class\n" + PLAIN,
    "crlf and mark": ("\ufeffimage,xmin,ymin,xmax,ymax,class\r\n" + PLAIN.replace("\n", "\r\n")),
    "other columns": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "a.png,20,10,dog,2,1,10.5,5.25\nb.png,20,10,,,,,\na.png,20,10,cat,-3,0,30,10\n"
    ),
    "names of others": "Path, X1, Y1, X2, Y2, Label\n" + PLAIN,
    "far columns": (
        "image,n,o,p,q,r,s,t,xmin,ymin,xmax,ymax,class\n"
        "a.png,,,,,,,,2,1,10.5,5.25,dog\nb.png\na.png,,,,,,,,-3,0,30,10,cat\n"
    ),
    "quoted and short": '"a.png",2,1,10.5,5.25,"dog"\n\nb.png\na.png, -3, 0, 30, 10, cat\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_coordinates_by_hand(data, form):
    (data / "train.csv").write_bytes(FORMS[form].encode())
    first, second = load(data)
    np.testing.assert_array_equal(first.boxes, np.float32([[2 / 20, 1 / 10, 10.5 / 20, 5.25 / 10], [0, 0, 1, 1]]))
    assert first.labels.tolist() == [1, 0] and (first.id, second.id) == ("a", "b")
    assert second.boxes.shape == (0, 4)
    assert csv_table.fits(data) and csv_table.class_names(data, "train") == NAMES


@pytest.mark.parametrize("yes", ["1", "1.0", "1,0", "True", "yes"])
def test_flags(data, yes):
    """pandas makes 1.0 of 1 in a column with blanks, such as those of pictures without objects."""
    no = yes.replace("1", "0").replace("True", "False").replace("yes", "no")
    lines = f"b.png;;;;;;;\na.png;2;1;10;5;dog;{yes};{no}\na.png;2;1;9;5;dog;{no};{yes}\na.png;2;1;8;5;dog;{no};\n"
    (data / "train.csv").write_text("image;xmin;ymin;xmax;ymax;class;difficult;iscrowd\n" + lines)
    sample = load(data)[1]
    assert sample.difficult.tolist() == [True, True, False] and sample.crowd.tolist() == [False, True, False]


@pytest.mark.parametrize("folder", ["train", "images/train", "images"])
def test_where_pictures_may_be(data, folder):
    (data / folder).mkdir(parents=True)
    for name in "ab":
        (data / f"{name}.png").rename(data / folder / f"{name}.png")
    for place in (data, data / "train.csv"):
        assert load(place)[0].image_path == str(data / folder / "a.png")


@pytest.mark.parametrize("folder", ["images", "Images/deep", "train", "images/train", ""])
@pytest.mark.parametrize("table", ["data/train_labels.csv", "annotations/train_labels.csv"])
def test_tables_in_a_folder_beside_that_of_the_pictures(data, table, folder):
    """As tutorials of TensorFlow's Object Detection API have them."""
    for path in (data / table, data / folder / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (data / "train.csv").rename(data / table)
    for name in "ab":
        (data / f"{name}.png").rename(data / folder / f"{name}.png")
    assert sources.choose(data) == "csv" and sources.split_names(data) == ["train_labels"]
    assert sources.fitting(data) == []  # infer.py --output may be a folder with such folders, as in 0.1.0
    for place in (data, (data / table).parent, data / table):
        assert [one.image_path for one in load(place, "train_labels")] == [
            str(data / folder / f"{name}.png") for name in "ab"
        ]


@pytest.mark.parametrize("splits", [["train"], ["train", "val"]])
def test_tables_in_several_folders_beside_that_of_the_pictures(data, capsys, splits):
    for place, split in (("data", "train"), *(("labels", split) for split in splits)):
        (data / place).mkdir(exist_ok=True)
        (data / place / f"{split}.csv").write_text(PLAIN if place == "data" else "b.png,1,1,5,5,cat\n")
    (data / "train.csv").unlink()
    (data / "images").mkdir()
    for name in "ab":
        (data / f"{name}.png").rename(data / "images" / f"{name}.png")
    assert sources.choose(data) == "csv" and sources.split_names(data) == splits
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {data}/labels/train.csv: left out, since the split train is in {data}/data/train.csv"
    assert [[one.id for one in load(data, split)] for split in splits] == [["a", "b"], ["b"]][: len(splits)]


def test_tables_below_count_only_where_no_other_format_fits(data):
    (data / "data").mkdir()
    (data / "train.csv").rename(data / "data" / "train.csv")
    (data / "annotations").mkdir()
    (data / "annotations" / "a.xml").write_text(voc_xml(20, 10, [("cat", (1, 1, 5, 5))]))
    assert sources.choose(data) == "voc"


@pytest.mark.parametrize("folder", ["", "images"])
@pytest.mark.parametrize("format_name", ["csv", "coco"])
def test_names_of_pictures_repeat_in_the_folders_of_splits(tmp_path, folder, format_name):
    """The folder is `test`, the table test_labels."""
    for split in ("train", "test"):
        images.write(tmp_path / folder / split / "1.png", np.zeros((10, 20, 3), np.uint8))
        table, path = "1.png,1,2,3,4,cat\n", tmp_path / f"{split}_labels.csv"
        if format_name == "coco":
            described = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}
            table, path = json.dumps(described), path.with_suffix(".json")
        path.write_text(table)
    for split in ("train", "test"):
        (entry,) = sources.find(tmp_path, f"{split}_labels")
        assert entry.image_path == str(tmp_path / folder / split / "1.png")


def test_layout_of_roboflow(data):
    (data / "train").mkdir()
    (data / "train.csv").rename(data / "train" / "_annotations.csv")
    for name in "ab":
        (data / f"{name}.png").rename(data / "train" / f"{name}.png")
    assert csv_table.fits(data) and len(load(data)) == 2


def test_boxes_without_area_are_dropped_with_one_warning(data, capsys):
    (data / "train.csv").write_text("a.png,1,1,5,5,cat\na.png,5,1,1,5,cat\n")
    assert len(load(data)[0].boxes) == 1
    err = capsys.readouterr().err
    assert "dropped 1 box that is" in err and f"{data / 'train.csv'}, line 2" in err


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("c.png,1,2,3,4,cat", "{data}/c.png: no such picture"),
        ("../{data.name}/a.png,1,2,3,4,cat", "{data}/a.png"),
        (",1,2,3,4,cat", "image is missing"),
        ("a.png,1,2,3,4", "'a.png,1,2,3,4' is not 'image,xmin,ymin,xmax,ymax,class'"),
        ("a.png,1,2,three,4,cat", "image,xmin"),
        ("a.png,1,2,,4,cat", "image,xmin"),
        ("a.png,1,2,inf,4,cat", "image,xmin"),
        ("a.png,1,2,3,4,cow", "class 'cow'"),
        (b"\xff.png,1,2,3,4,cat", "not UTF-8"),
        ('a.png,1,2,3,4,"' + "x" * 200_000, "CSV"),
    ],
)
def test_wrong_lines_are_named(data, line, named):
    line = line if isinstance(line, bytes) else line.replace("{data.name}", data.name).encode()
    (data / "train.csv").write_bytes(PLAIN.encode() + line)
    with pytest.raises(UserError) as error:
        load(data)
    message = str(error.value)
    assert message.startswith(f"{data / 'train.csv'}, line 4: ") and named.format(data=data) in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("a.png,1,2,,4,cat", "'a.png,1,2,,4,cat' has no number for xmax; correct the line"),
        ("a.png,1,2,3,4", "'a.png,1,2,3,4' has no class; correct the line"),
    ],
)
def test_wrong_lines_of_a_table_that_names_its_columns(data, line, named):
    (data / "train.csv").write_text(f"image_id,x_min,y_min,x_max,y_max,class_name\n{line}\n")
    with pytest.raises(UserError, match=rf"train\.csv, line 2: {named}$"):
        load(data)


def test_a_line_of_names_that_lacks_some_says_which(data):
    (data / "train.csv").write_text("image,xmin,xmax,ymin,ymax,class_id\na.png,1,2,3,4,1\n")
    with pytest.raises(
        UserError, match=r"line 1: 'image,.*class_id' names no class; rename the columns that hold these"
    ):
        load(data)


def test_a_class_without_a_box_is_no_object_and_is_said(data, capsys):
    """As Kaggle's VinBigData has them: 'No finding'."""
    head = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    (data / "train.csv").write_text(head + "a,dog,2,R9,2,1,10.5,5.25\nb,No finding,14,R9,,,,\nb,No finding,14,R8\n")
    first, second = load(data)
    assert len(first.boxes) == 1 and len(second.boxes) == 0
    assert csv_table.class_names(data, "train") == ("dog",)
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 lines with a class but no box, read as pictures without objects; the first is " in line
    assert line.endswith("train.csv, line 3")


@pytest.mark.parametrize("head", ["", "image,xmin,ymin,xmax,ymax,class\n"])
def test_a_table_of_boxes_around_whole_pictures_is_in_fractions(data, head, capsys):
    (data / "train.csv").write_text(head + "a.png,0,0,1,1,dog\nb.png,0,0,1,1,cat\n")
    for sample in load(data):
        assert sample.boxes.tolist() == [[0, 0, 1, 1]]
    assert "train.csv: its boxes are taken as fractions of their pictures" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("head", ["image,class,xmin,ymin,xmax,ymax", "ImageID,LabelName,XMin,YMin,XMax,YMax"])
def test_a_rounded_corner_below_0_leaves_a_table_in_fractions(data, head, rows):
    (data / "train.csv").write_text(f"{head}\na.png,dog,-0.0004,0,0.5,0.5\n" + "b.png,cat,0.5,0,1,0.5\n" * rows)
    first, second = load(data)
    assert first.boxes.tolist() == [[0, 0, 0.5, 0.5]] and second.boxes.tolist() == [[0.5, 0, 1, 0.5]] * rows


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("a.png,0,0,1,1,dog\nb.png,4,1,8,5,cat\n", [[[0, 0, 1, 1]], [[4, 1, 8, 5]]]),
        ("a.png,,,,,\nb.png\n", [[], []]),
        ("a.png,0,0,0,0,cat\nb.png,,,,,\n", [[], []]),
        ("image,xmin,ymin,xmax,ymax,class\na.png\nb.png,,,,,No finding\n", [[], []]),
    ],
)
def test_tables_that_are_not_in_fractions(data, text, boxes, capsys):
    (data / "train.csv").write_text(text)
    assert [one.boxes_px.tolist() for one in load(data)] == boxes
    assert "fractions" not in capsys.readouterr().err.replace("as if given in fractions", "")


def test_wrong_splits(data):
    (data / "empty.csv").write_text("\n")
    (data / "none.csv").write_text("a.png\n")
    for place, splits, named in [
        (data, "val", "no split 'val'; .*empty, none, train"),
        (data, "train,train", r"train\.csv: .* train "),
        (data, "empty", r"empty\.csv: "),
        (data / "train.csv", "train,val", r"train\.csv: .*train,val"),
    ]:
        with pytest.raises(UserError, match=named):
            csv_table.find(place, splits)
    with pytest.raises(UserError, match=f"--data {data}: none .*--classes"):
        csv_table.class_names(data, "none")


def test_open_quotation_marks_and_zero_bytes_are_named(data):
    table = data / "train.csv"
    table.write_text('image,xmin,ymin,xmax,ymax,class\n"a.png,1,2,3,4,cat\na.png,1,2,3,4,cat\n')
    with pytest.raises(UserError, match=r"train\.csv, line 3: 'a\.png,1.* spans several lines; close its") as error:
        csv_table.load(str(data), "train", NAMES)
    assert "\n" not in str(error.value)
    table.write_bytes("a.png,1,2,3,4,cat\n".encode("utf-16-le"))  # without its mark
    with pytest.raises(UserError, match=r"train\.csv, line 1: not UTF-8 text; save the file as UTF-8"):
        csv_table.load(str(data), "train", NAMES)


def test_a_line_with_only_a_picture_is_corrected_too():
    """In a copy by check_dataset.py --fix, where the line has no cells for the size that changes."""
    header = ["image", "xmin", "ymin", "xmax", "ymax", "class", "width", "height"]
    edit = types.SimpleNamespace(scale=(0.5, 0.5), size=(10, 5), boxes=[])
    kept = types.SimpleNamespace(image_path="a.png", listed=types.SimpleNamespace(image_path="a.png"), edit=edit)
    assert csv_table._edited(["a.png"], csv_table._columns(header), kept, None, None) == [
        ["a.png", *[""] * 5, "10", "5"]
    ]


@pytest.mark.parametrize("number", ["1e400", "1" * 400, "1e308", "nan"])
def test_numbers_beyond_any_picture_are_refused(number, data):
    (data / "train.csv").write_text(f"a.png,2,1,{number},5,dog\n")
    with pytest.raises(UserError, match="line 1: "):
        load(data)
