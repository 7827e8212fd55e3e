"""Figures by group equal the figures of a data set that holds only the group."""

import numpy as np
import pytest

import average_precision
from scoring import groups, score_report
from scoring.score_report import Scored, Settings
from structures import UserError
from voc_cases import FOUND, random_case, write_found


def scored(truth, found, names):
    return Scored(truth, found, tuple(names), average_precision.precision_recall(truth, found, names), 0.5)


def test_a_part_is_scored_as_if_it_were_alone():
    rng = np.random.default_rng(3)
    for _ in range(60):
        truth, found, names = random_case(rng)
        chosen = [key for key in truth if rng.random() < 0.6]
        part = groups.part(scored(truth, found, names), chosen[::-1])
        alone_truth = {key: truth[key] for key in chosen}
        alone = scored(alone_truth, {key: found[key] for key in chosen if key in found}, names)
        assert list(part.ground_truth) == chosen and part.detections.keys() == alone.detections.keys()
        for got, wanted in zip(part.curves, alone.curves, strict=True):
            for field in ("name", "positives", "voc07", "area"):
                assert getattr(got, field) == getattr(wanted, field)
            for field in ("scores", "verdicts", "images", "boxes_px", "objects", "precision"):
                np.testing.assert_array_equal(getattr(got, field), getattr(wanted, field))
        assert score_report.figures(part, Settings())[0] == score_report.figures(alone, Settings())[0]


IDS = dict.fromkeys(["a", "b", "x/c", "y/c"])


def read(tmp_path, content):
    (tmp_path / "groups.csv").write_text(content)
    return groups.read(str(tmp_path / "groups.csv"), IDS)


def test_pictures_are_named_as_one_likes(tmp_path, capsys):
    content = "Picture, Group\na.jpg,day\nphotos/b.png,night\nx/c.jpg,day\n\nother.jpg,fog\na,camera 1\na.jpg,day\n"
    assert read(tmp_path, content) == {"day": ["a", "x/c"], "night": ["b"], "camera 1": ["a"]}
    assert "1 of 4 pictures in no group" in capsys.readouterr().err


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_of_excel(tmp_path, delimiter):
    """Which separates by semicolons where the decimal comma is used."""
    content = "\ufeffpicture,group\r\na.jpg,day\r\nx/c.jpg,night\r\n".replace(",", delimiter)
    assert read(tmp_path, content) == {"day": ["a"], "night": ["x/c"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "first line"),
        ("a.jpg,day\n", "first line"),
        ("picture,group\na.jpg\n", "line 2"),
        ("picture,group\na.jpg,\n", "line 2"),
        (f"picture,group\na.jpg,{'x' * 200_000}\n", "line 2: not valid CSV"),
        ("picture,group\na,day\nc.jpg,day\n", "line 3: 'c.jpg' may be 'x/c' or 'y/c'"),
        ("picture,group\nother.jpg,day\n", "none of the pictures"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    assert "groups.csv" in str(error.value)


def test_program_splits_every_figure(voc, tmp_path, capsys):
    (tmp_path / "groups.csv").write_text("picture,group\na.jpg,day\nb.jpg,night\nc.jpg,night\n")
    report = average_precision.main  # written, then read back
    flags = ("--groups", str(tmp_path / "groups.csv"), "--json", str(tmp_path / "ap.json"))
    report([write_found(tmp_path / "d.json", FOUND), "--data", str(voc), "--split", "test", *flags])
    data = average_precision.files.read_json(tmp_path / "ap.json")
    assert list(data["groups"]) == ["day", "night"]
    assert all(one.keys() == data.keys() - {"groups", "source"} for one in data["groups"].values())
    assert [one["images"] for one in data["groups"].values()] == [1, 2]
    assert data["groups"]["night"]["voc07"]["per_class"] == {"car": None, "bus": 1.0}
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["night", "2", "1"] for line in lines)


def test_program_refuses_a_wrong_table_before_it_scores(voc, tmp_path, capsys):
    (tmp_path / "groups.csv").write_text("car\nbus\n")
    flags = ("--data", str(voc), "--split", "test", "--groups", str(tmp_path / "groups.csv"))
    with pytest.raises(UserError, match=r"groups.csv: its first line is not 'picture,group'"):
        average_precision.main([write_found(tmp_path / "d.json", FOUND), *flags])
    assert capsys.readouterr().out == ""
