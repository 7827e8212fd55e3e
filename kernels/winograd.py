"""3×3 convolution with a quarter of the multiplications: Winograd's F(4×4, 3×3), as TensorFlow ops.

Each tile of 4×4 outputs is computed from a window of 6×6 inputs. Windows and filters are transformed to 36 points; at
each point the convolution is a product over the channels: 36 products instead of 16 · 9 = 144. The values differ from
those of a convolution by rounding, a few millionths of the largest; this is for float32 only.
Source: Lavin and Gray, arXiv 1509.09308, sections 4.1 to 4.3.

Shapes: x is [N,H,W,C], weights [3,3,C,D], y [N,H,W,D]; a picture has h · w tiles, h = ceil(H / 4). H and W are static.
"""

import math

import numpy as np
import tensorflow.compat.v1 as tf

from kernels import devices

TILE, WINDOW = 4, 6  # sides of a tile's outputs and inputs
# The smallest maps (in cells) and fewest channels for which it is faster
SMALLEST_SIDE, FEWEST_CHANNELS = 10, 64
# Where the method evaluates polynomials, besides infinity. The rounding error is a fifth of that with the usual 0, ±1
# and ±2 (Barabasz et al., arXiv 1803.10986, on the choice of points; √½ and √2 were found by trial)
POINTS = (0, -math.sqrt(0.5), math.sqrt(0.5), -math.sqrt(2), math.sqrt(2))

FED = "winograd/fed"  # the collection of pairs (placeholder, array to feed)


def _column_transforms():
    """The matrices for one column: of the window [6,6], of the filter [6,3], and from the points to the outputs [4,6].

    y = output · ((filter · g) ⊙ (window · d)): the transposed Toom–Cook product of polynomials.
    """
    others = [[other for other in POINTS if other != point] for point in POINTS]
    window = np.zeros((WINDOW, WINDOW))
    for row, roots in zip(window, [*others, POINTS], strict=True):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    powers = np.vander(POINTS, TILE, increasing=True)
    scales = [math.prod(point - other for other in rest) for point, rest in zip(POINTS, others, strict=True)]
    filters = np.vstack([powers[:, :3] / np.array(scales)[:, None], [0, 0, 1]])
    return window, filters, np.column_stack([powers.T, [0, 0, 0, 1]])


# The same for both axes of a square whose cells are numbered row by row
WINDOW_TO_POINTS, FILTER_TO_POINTS, POINTS_TO_TILE = (np.kron(one, one) for one in _column_transforms())


def is_faster(x, weights, *, stride=1, padding="SAME", dilation=1):
    """Whether `conv2d` can replace TensorFlow's convolution of x and weights, and is faster, on a CPU.

    On small maps and with 64 → 64 channels the transforms cost more than the products save (docs/cpu_speed.md,
    measured on an Intel CPU with AVX-512). On a GPU cuDNN's convolution is used.
    """
    size, _, *channels = tf.TensorShape(weights.shape).as_list()
    if devices.has_gpu() or x.dtype != tf.float32:
        return False
    if (size, stride, padding, dilation) != (3, 1, "SAME", 1):
        return False
    sides = x.shape.as_list()[1:3]
    if None in sides or min(sides) < SMALLEST_SIDE:
        return False
    return min(channels) >= FEWEST_CHANNELS and max(channels) > FEWEST_CHANNELS


def conv2d(x, weights):
    """y of a stride-1 SAME convolution in float32. weights: a tensor, or an array, which never changes.

    The points of an array are kept in a local variable that `initialize` computes once; it has no gradients. The points
    of a tensor are computed in every step, and its gradients by the same method.
    """
    if isinstance(weights, np.ndarray):
        return _convolve(x, _kept_points(weights))

    @tf.custom_gradient
    def convolve(x, weights):
        def gradients(dy):
            # Without this, TensorFlow reuses the window points of the forward pass and keeps them in memory until here
            with tf.control_dependencies([dy]):
                later = tf.identity(x)
            return input_gradient(weights, dy), filter_gradient(later, dy)

        return _convolve(x, filter_points(weights)), gradients

    return convolve(x, weights)


def _kept_points(weights):
    """A variable for the points of an array.

    As constants of the graph the points delayed the start of a session by 11 seconds, and the array itself, a quarter
    of their size, by 3: TensorFlow copies constants many times while it optimizes. So the array is fed once.
    """
    fed = tf.placeholder(tf.float32, weights.shape)
    tf.add_to_collection(FED, (fed, weights))
    kept = [tf.GraphKeys.LOCAL_VARIABLES]
    return tf.Variable(filter_points(fed), trainable=False, collections=kept, use_resource=True)


def initialize(session):
    """Compute the points of all arrays in the session's graph."""
    with session.graph.as_default():
        session.run(tf.local_variables_initializer(), dict(session.graph.get_collection(FED)))


def input_gradient(weights, dy):
    """dX [N,H,W,C] of `conv2d` for dy [N,H,W,D]: a convolution of dy with the flipped filter."""
    return _convolve(dy, filter_points(tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])))


def filter_gradient(x, dy):
    """dW [3,3,C,D] of `conv2d` for dy [N,H,W,D]: each of its steps transposed."""
    tiles = _transform(POINTS_TO_TILE.T, _squares(dy, TILE, margin=0))
    points = tf.matmul(_window_points(x), tiles, transpose_a=True)  # [36,C,D]
    return tf.reshape(_transform(FILTER_TO_POINTS.T, points), [3, 3, *points.shape[1:]])


def filter_points(weights):
    """A filter [3,3,C,D] -> its points [36,C,D]."""
    return _transform(FILTER_TO_POINTS, tf.reshape(weights, [9, *weights.shape[2:]]))


def _convolve(x, points):
    """x [N,H,W,C] and the filter's points [36,C,D] -> y [N,H,W,D]."""
    return _assemble(_transform(POINTS_TO_TILE, tf.matmul(_window_points(x), points)), x)


def _window_points(x):
    """x [N,H,W,C] -> the points of its windows [36,N·h·w,C]."""
    return _transform(WINDOW_TO_POINTS, _squares(x, WINDOW, margin=1))


def _transform(matrix, cells):
    """[columns of the matrix, …, channels] -> [its rows, …, channels]: the matrix times the first axis."""
    product = tf.matmul(tf.constant(matrix, tf.float32), tf.reshape(cells, [matrix.shape[1], -1]))
    return tf.reshape(product, [len(matrix), -1, cells.shape[2]])


def _grid(x):
    """(h, w): rows and columns of a picture's tiles."""
    return [-(-side // TILE) for side in x.shape.as_list()[1:3]]


def _squares(x, side, margin):
    """[side²,N·h·w,C]: for every tile, side × side cells of x that start `margin` cells before it; zeros outside x."""
    _, height, width, channels = x.shape.as_list()
    down, right = (np.arange(side)[:, None] + TILE * np.arange(tiles) for tiles in _grid(x))  # [side,h], [side,w]
    full = [down.max() + 1, right.max() + 1]
    x = tf.pad(x, [[0, 0], [margin, full[0] - margin - height], [margin, full[1] - margin - width], [0, 0]])
    numbers = down[:, None, :, None] * full[1] + right[None, :, None, :]  # of cells in a picture: [side,side,h,w]
    pictures = tf.range(tf.shape(x)[0])[:, None] * (full[0] * full[1])
    numbers = tf.constant(numbers.reshape(side * side, 1, -1), tf.int32) + pictures
    # Rows of channels are gathered by number: one pass over memory, in the order that the products need
    return tf.gather(tf.reshape(x, [-1, channels]), tf.reshape(numbers, [side * side, -1]))


def _assemble(squares, like):
    """[16,N·h·w,D] -> [N,H,W,D] with the N, H and W of `like`."""
    _, height, width, _ = like.shape.as_list()
    tiles_down, tiles_right = _grid(like)
    row, column = np.arange(height)[:, None], np.arange(width)
    in_tile = tf.constant(row % TILE * TILE + column % TILE, tf.int32) * tf.shape(squares)[1]
    tile = tf.constant(row // TILE * tiles_right + column // TILE, tf.int32)
    pictures = tf.range(tf.shape(like)[0])[:, None, None] * (tiles_down * tiles_right)
    return tf.gather(tf.reshape(squares, [-1, squares.shape[2]]), in_tile + tile + pictures)
