"""What the tests of several figures share."""

import pytest

import voc_cases


@pytest.fixture
def voc(tmp_path):
    """The VOC-layout folder of `voc_cases.FOUND`."""
    return voc_cases.write_three_pictures(tmp_path / "voc")
