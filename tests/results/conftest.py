"""What the tests of several formats share."""

import pytest

import result_cases


@pytest.fixture
def images():
    """Dict stem -> Detections."""
    return result_cases.some_images()
