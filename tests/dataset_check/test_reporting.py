"""What the report of check_dataset.py says of the anchors."""

import numpy as np
import pytest

import ssd_utils
from dataset_check import anchor_advisor, checks, reporting, scanning

VGG300 = ssd_utils.get_preset("vgg300")
SIZES = anchor_advisor.SIZE_LIMITS


@pytest.fixture
def make_report():
    """A function (share that the preset's anchors match, share that the proposed match) -> Report."""

    def build(before, after):
        advice = anchor_advisor.Advice(VGG300, before, after)
        shares, proposed = (
            {anchor_advisor.ALL: {size: (round(share * 1000), 1000) for size in (anchor_advisor.ALL, *SIZES)}}
            for share in (before, after)
        )
        scan = scanning.Scan("data", "voc", (), ())
        truth = checks.GroundTruth(np.zeros((0, 4)), np.zeros(0, int), (), ("train",))
        return reporting.Report(scan, (), VGG300, {}, truth, shares, advice, proposed)

    return build


@pytest.mark.parametrize(("before", "after"), [(0.995, 0.999), (0.995, 0.995), (1.0, 1.0)])
def test_a_gain_too_small_to_propose_is_not_called_none(make_report, before, after):
    """The table beside the line shows that the proposed anchors do match more."""
    report = make_report(before, after)
    line = reporting.advice_line(report)
    assert line.endswith(f"match {before:.1%} of the objects; the search found none that match 0.5 points more")
    assert reporting.share_rows(report)[1][-1] == f"{after:.1%} of 1,000"


def test_a_gain_worth_a_change_comes_with_the_flag(make_report):
    line = reporting.advice_line(make_report(0.9, 0.95))
    assert "would match 95.0% instead of 90.0%" in line and "--anchors FILE" in line


def test_the_last_column_says_whose_anchors_it_is_of(make_report):
    assert reporting.share_rows(make_report(0.9, 0.95))[0][-1] == "proposed anchors"
