"""Open Images' tables name classes by codes, which another table translates."""

import numpy as np
import pytest

import check_dataset
import sources
from formats import open_images
from media import images

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
BOXES = "a,xclick,/m/01yrx,1,0.1,0.5,0.2,0.6,0,0,0,0,0\na,xclick,/m/0bt9lr,1,0.2,0.9,0.2,0.6,1,1,1,0,0\n"
NAMES = "/m/01yrx,Cat\n/m/0bt9lr,Dog\n/m/0cmf2,Airplane\n"


@pytest.fixture
def data(tmp_path):
    images.write(tmp_path / "data" / "train" / "a.jpg", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "data" / "train-annotations-bbox.csv").write_text(HEAD + BOXES)
    return tmp_path / "data"


@pytest.mark.parametrize("place", [open_images.TABLE, "metadata/classes.csv"])
@pytest.mark.parametrize("head", ["", "LabelName,DisplayName\n"])
def test_codes_are_named(data, capsys, place, head):
    (data / place).parent.mkdir(exist_ok=True)
    (data / place).write_text(head + NAMES)
    split = "train-annotations-bbox"
    assert sources.split_names(data) == [split] and sources.class_names(data, split) == ("Cat", "Dog")
    (sample,) = sources.load(data, split, ("Cat", "Dog"))
    assert sample.labels.tolist() == [0, 1] and sample.crowd.tolist() == [False, True]
    assert capsys.readouterr().err == ""  # nothing is left out
    fixed = data.parent / "fixed"
    check_dataset.main(["--data", str(data), "--fix", str(fixed), "--workers", "1"])
    assert sources.class_names(fixed, split) == ("Cat", "Dog") and (fixed / place).read_text() == head + NAMES


def test_a_table_of_another_kind_is_left_out(data, capsys):
    """A zero byte or a cell of more than 128 KB is an error of Python's csv, in some versions."""
    (data / open_images.TABLE).write_text(NAMES)
    (data / "b.csv").write_bytes(b"\0,x\n")
    (data / "c.csv").write_text("x" * 200_000 + ",y\n")
    assert sources.class_names(data, "train-annotations-bbox") == ("Cat", "Dog")
    assert "b.csv: left out, since" in capsys.readouterr().err


def test_codes_without_names_say_what_is_missing(data, capsys):
    (data / open_images.TABLE).write_text("/m/01yrx,Cat\n")
    check_dataset.main(["--data", str(data), "--workers", "1"])
    captured = capsys.readouterr()
    table = f"{data}/train-annotations-bbox.csv"
    assert f"warning: {table}: /m/0bt9lr is a code of Open Images; add {open_images.TABLE}, which" in captured.err
    assert "1  class name that train.py does not take" in captured.out
