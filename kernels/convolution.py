"""Convolution with the form of gradient that is fastest on this machine, or the only one available.

On a CPU most of a training step is spent in the gradients of convolutions, and oneDNN's gradient with respect to the
filter is the slowest of the three passes: without AVX-512, in float32, it takes up to seven times as long as the
forward pass; on other CPUs it is slowest for dilated convolutions. The same sum is faster as matrix products, one for
each filter tap: dW[i,j] = Xᵢⱼᵀ · dY, where Xᵢⱼ is the input shifted by that tap. Measurements decided which form is
used where (docs/cpu_speed.md, "The training step on a CPU"). Without oneDNN, TensorFlow has no gradients of dilated
convolutions on a CPU; these products, and a convolution with the flipped filter, provide them everywhere.
"""

import os

import tensorflow.compat.v1 as tf

from kernels import cpu, devices

SMALL_SIDE = 40  # cells; SSD300's conv4_3 has 38, conv3_3 75
_GRADIENT, _BIAS_GRADIENT = "SSDConv2DProducts", "SSDBiasAddSum"


def conv2d(x, weights, *, stride=1, padding="SAME", dilation=1):
    """`tf.nn.conv2d` of x [N,H,W,C] and weights [k,k,C,D] with padding "SAME" or "VALID"; the values are the same.

    On a CPU, with stride 1, SAME and an odd filter, the gradients below replace TensorFlow's for dilated convolutions
    and where they are faster. On a GPU cuDNN's are used.
    """
    options = {"strides": stride, "padding": padding, "dilations": dilation}
    if stride == 1 and padding == "SAME" and _filter_gradient_form(x, weights, dilation):
        # An override by type leaves the Conv2D node unchanged, so that it is still fused with bias and ReLU
        with tf.get_default_graph().gradient_override_map({"Conv2D": _GRADIENT}):
            return tf.nn.conv2d(x, weights, **options)
    return tf.nn.conv2d(x, weights, **options)


def _filter_gradient_form(x, weights, dilation):
    """The function below for the filter gradient of a stride-1 SAME convolution; None for TensorFlow's own."""
    size, _, *channels = weights.shape.as_list()
    height, width = x.shape.as_list()[1:3]
    if devices.has_gpu() or size % 2 == 0 or height is None or width is None:
        return None
    small = height * width <= SMALL_SIDE**2
    # With fewer channels the products are too small to fill the vector units
    if x.dtype == tf.float32 and not cpu.flags() & {"avx512f"} and min(channels) >= 64:
        return row_products if small or dilation > 1 else flat_products
    if dilation > 1 or (x.dtype == tf.bfloat16 and min(channels) >= 128 and small):
        return tap_products
    return None


@tf.RegisterGradient(_GRADIENT)
def _conv2d_gradient(op, dy):
    """Gradients of a stride-1 SAME convolution with respect to its input and its filter."""
    x, weights = op.inputs
    dilation = op.get_attr("dilations")[1]
    products = _filter_gradient_form(x, weights, dilation)
    return input_gradient(weights, dy, dilation), products(x, dy, weights.shape.as_list()[0], dilation)


def bias_add(x, biases):
    """`tf.nn.bias_add` of x [N,H,W,C] and biases [C], with a gradient of the biases that is right in bfloat16 too.

    On a CPU TensorFlow's own adds up in bfloat16, where adding ones ends at 256: on traffic photographs, 8 at a time,
    conv4_1's was off by a tenth. Its `reduce_sum` adds up in float32.
    """
    if x.dtype == tf.bfloat16 and not devices.has_gpu() and not _added_up_by_onednn(x):
        with tf.get_default_graph().gradient_override_map({"BiasAdd": _BIAS_GRADIENT}):
            return tf.nn.bias_add(x, biases)
    return tf.nn.bias_add(x, biases)


def _added_up_by_onednn(x):
    """Whether x is of a convolution whose filter gradient oneDNN computes: with that of the biases, in float32."""
    own = x.op.type == "Conv2D" and "_gradient_op_type" not in x.op.node_def.attr
    return own and "avx512_bf16" in cpu.flags() and os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"


@tf.RegisterGradient(_BIAS_GRADIENT)
def _bias_add_gradient(_op, dy):
    """Gradients of `bias_add` with respect to x and the biases."""
    return dy, tf.reduce_sum(dy, [0, 1, 2])


def input_gradient(weights, dy, dilation):
    """weights [k,k,C,D], dy [N,H,W,D] -> dX [N,H,W,C] of a stride-1 SAME convolution, by the flipped filter."""
    flipped = tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])
    return tf.nn.conv2d(dy, flipped, 1, "SAME", dilations=dilation)


def tap_products(x, dy, size, dilation):
    """x [N,H,W,C], dy [N,H,W,D] -> dW [size,size,C,D] of a stride-1 SAME convolution: one product per tap."""
    inputs, outputs = x.shape.as_list()[3], dy.shape.as_list()[3]
    shifted = _shifted(x, size, dilation)
    products = [tf.matmul(tap, _rows(dy), transpose_a=True) for row in shifted for tap in map(_rows, row)]
    return tf.reshape(tf.stack(products), [size, size, inputs, outputs])


def row_products(x, dy, size, dilation):
    """As `tap_products`, but one product, three times as wide, for the taps of a filter row side by side."""
    inputs, outputs = x.shape.as_list()[3], dy.shape.as_list()[3]
    shifted = _shifted(x, size, dilation)
    products = [tf.matmul(_rows(tf.concat(row, -1)), _rows(dy), transpose_a=True) for row in shifted]
    return tf.reshape(tf.stack(products), [size, size, inputs, outputs])


def flat_products(x, dy, size, dilation):
    """As `tap_products`, without a copy of x for each tap.

    The padded map is laid out as rows of channels; a tap is then a range of rows with another start, which TensorFlow
    slices without a copy. dy gets zeros where x has its padding; on small maps their products cost more than copies.
    """
    width, inputs = x.shape.as_list()[2:4]
    outputs, margin = dy.shape.as_list()[3], dilation * (size // 2)
    x = _rows(tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]]))
    dy = _rows(tf.pad(dy, [[0, 0], [0, 2 * margin], [0, 2 * margin], [0, 0]]))
    length = tf.shape(x)[0] - 2 * margin * (width + 2 * margin + 1)  # the rest is padding for every tap
    starts = [dilation * (i * (width + 2 * margin) + j) for i in range(size) for j in range(size)]
    dy = tf.slice(dy, [0, 0], [length, outputs])
    products = [tf.matmul(tf.slice(x, [start, 0], [length, inputs]), dy, transpose_a=True) for start in starts]
    return tf.reshape(tf.stack(products), [size, size, inputs, outputs])


def _shifted(x, size, dilation):
    """[row of the filter][column]: the map [N,H,W,C] shifted by that tap, with zeros outside."""
    (height, width), margin = x.shape.as_list()[1:3], dilation * (size // 2)
    padded = tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]]) if margin else x
    starts = [dilation * tap for tap in range(size)]
    return [[padded[:, i : i + height, j : j + width] for j in starts] for i in starts]


def _rows(x):
    """[N,H,W,C] -> [N·H·W,C]."""
    return tf.reshape(x, [-1, x.shape.as_list()[3]])
