"""The comparison of associations runs, and says what it is to say."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import tracks

import moving_boxes
from tracking import mot_file


def test_the_help_has_the_defaults(capsys):
    with pytest.raises(SystemExit):
        tracks._parse(["--help"])
    printed = capsys.readouterr().out
    assert "(default: 5)" in printed and "\nours                    tracking/tracker.py" in printed


def test_the_association_is_bytetracks(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackers", None)
    truth, _ = moving_boxes.moving(np.random.default_rng(0), 8, 60)
    mot_file.write(str(tmp_path / "gt.txt"), truth, ["a", "b"])
    tracks.main([str(tmp_path / "gt.txt"), "--seeds", "2"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "trackers: left out, it is not installed; pip install trackers"
    figures = {cells[1]: cells[2:-2] for cells in ([part.strip() for part in line.split("|")] for line in said[3:])}
    assert figures["ours, ByteTrack's"] == figures["ByteTrack"]
    assert float(figures["ours"][0]) > float(figures["ByteTrack"][0]) > 0.3  # gaps are filled
