"""Convolution with the form of gradient that is fastest on this machine.

On a CPU most of a training step is spent in the gradients of convolutions, and oneDNN's gradient with respect
to the filter is the slowest of the three passes, worst for a dilated convolution. On small maps the same sum
is quicker as one matrix product per filter tap: dW[i,j] = Xᵢⱼᵀ · dY, with Xᵢⱼ the input shifted by that tap.
ARCHITECTURE.md, "The training step on a CPU", lists what else was tried.
"""

import tensorflow.compat.v1 as tf

# Largest map side on which the products win: at 38 cells by a tenth, at 75 they lose
MAX_SIDE = 40
_GRADIENT = "SSDConv2DTaps"


def conv2d(x, weights, *, stride=1, padding="SAME", dilation=1):
    """`tf.nn.conv2d` of x [N,H,W,C] and weights [k,k,C,D] with padding "SAME" or "VALID"; same values.

    Its filter gradient is taken tap by tap where that is faster: bfloat16 on a CPU, stride 1, SAME, an odd
    filter, at most MAX_SIDE cells a side. A GPU keeps cuDNN's own.
    """
    options = {"strides": stride, "padding": padding, "dilations": dilation}
    if stride == 1 and padding == "SAME" and _products_win(x, weights):
        # Overriding by type leaves the Conv2D node as it is, so that it still fuses with bias and ReLU
        with tf.get_default_graph().gradient_override_map({"Conv2D": _GRADIENT}):
            return tf.nn.conv2d(x, weights, **options)
    return tf.nn.conv2d(x, weights, **options)


def _products_win(x, weights):
    size, _, inputs, outputs = weights.shape.as_list()
    wide = min(inputs, outputs) >= 128  # below, a product is too thin to fill the vector units
    small = x.shape[1] is not None and x.shape[1] <= MAX_SIDE
    return x.dtype == tf.bfloat16 and size % 2 == 1 and wide and small and not tf.config.list_physical_devices("GPU")


@tf.RegisterGradient(_GRADIENT)
def _conv2d_gradient(op, dy):
    """Gradients of a stride-1 SAME convolution with respect to its input and its filter."""
    x, weights = op.inputs
    dilations = op.get_attr("dilations")
    dx = tf.nn.conv2d_backprop_input(tf.shape(x), weights, dy, [1, 1, 1, 1], "SAME", dilations=dilations)
    return dx, filter_gradient(x, dy, weights.shape.as_list()[0], dilations[1])


def filter_gradient(x, dy, size, dilation):
    """x [N,H,W,C], dy [N,H,W,D] -> dW [size,size,C,D] of a stride-1 SAME convolution, tap by tap."""
    side, inputs = x.shape.as_list()[1], x.shape.as_list()[3]
    outputs = dy.shape.as_list()[3]
    margin = dilation * (size // 2)
    padded = tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]]) if margin else x
    dy = tf.reshape(dy, [-1, outputs])
    starts = [dilation * tap for tap in range(size)]
    products = [
        tf.matmul(tf.reshape(padded[:, i : i + side, j : j + side], [-1, inputs]), dy, transpose_a=True)
        for i in starts
        for j in starts
    ]
    return tf.reshape(tf.stack(products), [size, size, inputs, outputs])
