"""Resizing in a graph equals cv2's, which `transforms.warp` is."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

import transforms
from exports import resizing

SIZES = [(375, 500), (1080, 1920), (600, 600), (31, 47), (1, 1), (37, 640), (300, 300), (299, 301), (600, 1200), (1, 7)]


@pytest.fixture(scope="module")
def resize():
    """uint8 [1,H,W,3] -> [1,300,300,3], traced once as in an exported file."""
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    return tf.function(lambda pictures: resizing.resize(pictures, (300, 300)), input_signature=signature)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_pixels_as_cv2(resize, size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(picture[None])[0], transforms.warp(picture, 300))


def test_smooth_pictures_and_several_at_once(resize):
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(cell, (640, 480), interpolation=cv2.INTER_CUBIC) for cell in cells])
    wanted = [transforms.warp(picture, 300) for picture in pictures]
    np.testing.assert_array_equal(resize(pictures), wanted)
