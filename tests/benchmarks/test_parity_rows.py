"""benchmarks/parity_rows.py: a comparison that was stopped goes on with the row that is missing."""
# ruff: noqa: E402, benchmarks/ must be found first

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import parity_rows

from structures import UserError


def refuse():
    raise AssertionError("measured again")


def test_a_row_is_measured_once(tmp_path):
    path, said = tmp_path / "rows.jsonl", []
    first = parity_rows.Rows(path, "at commit a", said.append)
    numbers = first.measured("networks", "x 300", lambda: {"logits": np.float32(0.25), "matched": 1.0, "detections": 7})
    assert numbers == {"logits": 0.25, "matched": 1.0, "detections": 7}
    again = parity_rows.Rows(path, "at commit b", said.append)
    assert again.measured("networks", "x 300", refuse) == numbers
    assert again.measured("vgg", "x 300", lambda: {"fc": 0}) == {"fc": 0}  # of another table
    assert said == ["x 300 …", "x 300: measured before", "x 300 …"]
    assert len(path.read_text().splitlines()) == 2


def test_the_page_says_what_measured_which_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    old = parity_rows.Rows(path, "at commit a", print)
    for name in ("x", "y", "z"):
        old.measured("networks", name, dict)
    assert old.origins() == ["Measured at commit a."]
    new = parity_rows.Rows(path, "at commit b", print)
    for name in ("x", "y", "w"):
        new.measured("networks", name, dict)
    assert new.origins() == ["Measured at commit b: w.", "All other rows: measured at commit a."]
    assert parity_rows.Rows(None, "at commit b", print).origins() == []


def test_rows_are_kept_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    parity_rows.Rows(path, "at commit a", print).measured("networks", "x", dict)
    assert len(path.read_text().splitlines()) == 1


def test_a_row_that_fails_is_not_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(AssertionError):
        parity_rows.Rows(path, "at commit a", print).measured("networks", "x", refuse)
    assert not path.exists()


@pytest.mark.parametrize("line", ['{"table": "networks"', "[]", '{"table": "a", "row": "b", "origin": "c"}'])
def test_a_damaged_file_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"table": "a", "row": "b", "origin": "c", "numbers": {}})
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(UserError, match=f"{path}:2: not a row of parity.py"):
        parity_rows.Rows(path, "", print)
