"""benchmarks/parity_voc.py: its files hold its cases, Octave scores them, and it tells what a difference is.

VOCDEVKIT names checkouts of VOCdevkit, separated as in PATH; without it no code of theirs runs.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import parity_voc

import average_precision
from structures import UserError
from voc_cases import detected, random_case, sample

DEVKITS = list(filter(None, os.environ.get("VOCDEVKIT", "").split(os.pathsep)))
# In place of a devkit's. The digits of its AP are what it read: pictures, detections, objects, overlap
VOCEVALDET = """
function [rec, prec, ap] = VOCevaldet(VOCopts, id, cls, draw)
  lines = @(path) numel(strfind(fileread(path), "\\n"));
  xml = fileread(sprintf(VOCopts.annopath, '2012_000009'));
  ap = lines(sprintf(VOCopts.imgsetpath, VOCopts.testset)) + lines(sprintf(VOCopts.detrespath, id, cls)) / 10 ...
    + numel(strfind(xml, '<object>')) / 100 + VOCopts.minoverlap / 100;
  rec = prec = [];
end
"""


@pytest.fixture
def octave():
    try:
        parity_voc.octave()
    except UserError as error:
        pytest.skip(str(error))


def curve_of(boxes_px, found_px, difficult=None):
    """The curve of one picture's objects and detections, which are in order."""
    scores = np.linspace(0.9, 0.1, len(found_px))
    truth, found = {"a": sample("a", boxes_px, difficult=difficult)}, {"a": detected(found_px, scores)}
    return average_precision.precision_recall(truth, found, ["car"])[0]


def test_the_files_hold_the_cases(tmp_path):
    count, asked = parity_voc.write_cases(tmp_path, 12)
    rng, images, expected = np.random.default_rng(27), 0, []
    for _ in range(12):
        truth, found, names = parity_voc.for_devkit(*random_case(rng))
        images += len(truth)
        expected += [curve for curve in average_precision.precision_recall(truth, found, names) if curve.positives]
    assert count == images > 20 and len(asked) == len(expected) > 15
    for (_, curve), wanted in zip(asked, expected, strict=True):
        assert (curve.name, curve.voc07, curve.area) == (wanted.name, wanted.voc07, wanted.area)
        np.testing.assert_array_equal(curve.verdicts, wanted.verdicts)


def test_octave_scores_the_files(tmp_path, octave):
    code, folder = tmp_path / "devkit" / "VOCcode", tmp_path / "a case"
    code.mkdir(parents=True)
    (code / "VOCevaldet.m").write_text(VOCEVALDET)
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 20, 20]]
    truth = {"2012_000009": sample("9", boxes, labels=[0, 1, 1]), "2012_000008": sample("8", boxes[:1])}
    found = {"2012_000008": detected(boxes, [0.5, 0.5, 0.5], labels=[0, 1, 1])}
    parity_voc.write(folder, truth, found, ["car", "bus"])
    asked = [(folder, "car"), (folder, "bus")]
    assert parity_voc.kind(code.parent) == parity_voc.POINTS
    np.testing.assert_allclose(parity_voc.run(parity_voc.code_of(code.parent), tmp_path, asked), [2.135, 2.235])


def test_an_exact_recall_that_the_devkit_misses():
    objects = [[20 * n, 0, 20 * n + 10, 10] for n in range(10)]
    curve = curve_of(objects, objects[:3])  # precision 1 up to a recall of 3/10
    assert parity_voc.of_eleven_points(curve, 3 / 11) == (pytest.approx(0), parity_voc.STEP)
    assert parity_voc.of_eleven_points(curve, 4 / 11)[0] == pytest.approx(1 / 11)
    assert parity_voc.of_eleven_points(curve_of(objects, objects[:4]), 5 / 11) == (pytest.approx(0), None)
    assert parity_voc.of_area(curve, 0.25) == (pytest.approx(0.05), None)


def test_only_what_hit_difficult_objects_may_be_undefined():
    objects = [[0, 0, 10, 10], [50, 50, 60, 60]]
    ignored = curve_of(objects, objects[:1], difficult=[True, False])
    assert parity_voc.of_eleven_points(ignored, np.nan) == (0, parity_voc.UNDEFINED)
    assert parity_voc.of_eleven_points(curve_of(objects, objects[:1]), np.nan) == (np.inf, parity_voc.UNDEFINED)
    assert parity_voc.of_eleven_points(curve_of(objects, []), np.nan) == (np.inf, parity_voc.UNDEFINED)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=f"{tmp_path}: has no VOCcode/VOCevaldet.m"):
        parity_voc.kind(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no Octave .*apt-get"):
        parity_voc.octave()


@pytest.mark.skipif(not DEVKITS, reason="VOCDEVKIT names no checkout of VOCdevkit")
@pytest.mark.parametrize("devkit", DEVKITS)
def test_equals_the_devkit(devkit, octave, monkeypatch):
    found = parity_voc.compare(devkit, cases=20)
    assert found["figures"] > 20 and found["difference"] <= parity_voc.TOLERANCES["difference"]
    monkeypatch.setattr(parity_voc, "PROGRAM", parity_voc.PROGRAM.replace("0.5", "0.7"))
    assert parity_voc.compare(devkit, cases=20)["difference"] > 0.01
