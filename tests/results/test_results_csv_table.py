"""detections.csv: a table that a spreadsheet reads, and that is scored."""

import csv

import pytest

from result_cases import NAMES, assert_same_to_a_hundredth
from results import csv_table
from structures import UserError


@pytest.fixture
def written(tmp_path, images):
    with csv_table.Writer(tmp_path / "d.csv", NAMES) as writer:
        for key, found in images.items():
            writer.add(f"sub, folder/{key}.jpg", 500, 375, found)
    return tmp_path / "d.csv"


def test_a_table_is_read_as_it_was_written(written, images):
    read = csv_table.read(written, NAMES)
    assert read.class_names == NAMES and not read.complete
    assert set(read.detections) == {"one", "two words"}  # a picture without detections has no line
    for key, found in read.detections.items():
        assert_same_to_a_hundredth(found, images[key])
        assert read.sizes[key] == (500, 375)


def test_a_line_is_a_detection(written, images):
    with open(written, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, images.values()))
    assert list(rows[0]) == list(csv_table.COLUMNS) and rows[0]["file"] == "sub, folder/one.jpg"
    assert rows[0]["class"] == NAMES[images["one"].labels[0]]
    assert all(len(row["xmax"].partition(".")[2]) <= 2 for row in rows)


def test_classes_are_chosen_or_those_of_the_table(written):
    found = csv_table.read(written)
    assert found.class_names == tuple(sorted(NAMES)) and not found.all_classes  # those never detected have no line
    only = csv_table.read(written, ("car",))
    assert only.all_classes and only.class_names == ("car",) and set(only.detections) == {"one", "two words"}
    assert not any(found.labels.any() for found in only.detections.values())


@pytest.mark.parametrize(
    "end",
    ["car,high,0,0,1,1", "car,0.5,0,0,1", ",0.5,0,0,1,1", "car,nan,0,0,1,1", "car,0.5,4,0,1,1", "car,0.5,0,4,1,1"],
)
def test_a_malformed_line_is_named(tmp_path, end):
    path = tmp_path / "d.csv"
    path.write_text(f"{','.join(csv_table.COLUMNS)}\na.jpg,5,5,{end}\n", "utf-8")
    assert csv_table.fits(path)
    with pytest.raises(UserError, match="line 2"):
        csv_table.read(path)


def test_pictures_of_one_name_in_two_folders_are_not_mixed(tmp_path, images):
    with csv_table.Writer(tmp_path / "d.csv", NAMES) as writer:
        for folder in "ab":
            writer.add(f"{folder}/same.jpg", 500, 375, images["one"])
    with pytest.raises(UserError, match=r"\(b/same\.jpg\) has the same stem as a/same\.jpg"):
        csv_table.read(tmp_path / "d.csv")


def test_open_quotation_marks_are_one_line(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f'{",".join(csv_table.COLUMNS)}\n"a.jpg,{"5," * 100_000}\n', "utf-8")
    with pytest.raises(UserError, match=r"d\.csv, line \d: not a CSV table"):
        csv_table.read(path)


def test_other_tables_are_not_taken(tmp_path):
    (tmp_path / "d.csv").write_text("filename,xmin\n", "utf-8")
    assert not csv_table.fits(tmp_path / "d.csv") and not csv_table.fits(tmp_path)
