"""`transforms.warp`, that is cv2.resize of uint8 pictures with INTER_LINEAR, in TensorFlow and to the last bit.

Source: `resize.cpp` of OpenCV, modules/imgproc: `resizeGeneric_` with HResizeLinear<uchar, int, short> and
VResizeLinear<uchar, int, short>, which compute with 11 bits of the weights; exact halves take ResizeAreaFast.
"""

import tensorflow as tf

WEIGHT = 2048  # the integer that stands for a weight of 1: 1 << INTER_RESIZE_COEF_BITS


def resize(pictures, size):
    """uint8 [N,H,W,3] -> uint8 [N,height,width,3]. size: (width, height)."""
    height, width = tf.unstack(tf.shape(pictures)[1:3])
    halves = (width == 2 * size[0]) & (height == 2 * size[1])
    resized = tf.cond(halves, lambda: _halve(pictures), lambda: _interpolate(pictures, height, width, size))
    return tf.ensure_shape(resized, [pictures.shape[0], size[1], size[0], 3])


def _halve(pictures):
    """The mean of each 2×2 cells, rounded half up."""
    x = tf.cast(pictures, tf.int32)
    total = x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
    return tf.cast((total + 2) // 4, tf.uint8)


def _interpolate(pictures, height, width, size):
    """Along the rows with the full product, then along the columns with its upper bits only."""
    low, high, low_weight, high_weight = _taps(width, size[0], inner_only=True)

    def along_rows(rows):
        x = tf.cast(rows, tf.int32)
        return (
            tf.gather(x, low, axis=2) * low_weight[:, None] + tf.gather(x, high, axis=2) * high_weight[:, None]
        ) // 16

    top, bottom, top_weight, bottom_weight = _taps(height, size[1], inner_only=False)
    upper = along_rows(tf.gather(pictures, top, axis=1)) * top_weight[:, None, None] // 65536
    lower = along_rows(tf.gather(pictures, bottom, axis=1)) * bottom_weight[:, None, None] // 65536
    return tf.cast((upper + lower + 2) // 4, tf.uint8)


def _taps(count, side, inner_only):
    """The two cells that each of `side` cells is made of, and their weights: four int32 [side] tensors.

    inner_only: whether a cell beyond the centers of the outer ones takes the outer one alone; otherwise it takes it
    twice, with the weights that it would have inside.
    """
    scale = 1.0 / (side / tf.cast(count, tf.float64))
    place = tf.cast((tf.range(side, dtype=tf.float64) + 0.5) * scale - 0.5, tf.float32)
    low = tf.cast(tf.floor(place), tf.int32)
    share = place - tf.cast(low, tf.float32)
    if inner_only:
        share = tf.where((low < 0) | (low >= count - 1), 0.0, share)
    low_weight, high_weight = (tf.cast(tf.round(part * WEIGHT), tf.int32) for part in (1.0 - share, share))
    return tf.clip_by_value(low, 0, count - 1), tf.clip_by_value(low + 1, 0, count - 1), low_weight, high_weight
