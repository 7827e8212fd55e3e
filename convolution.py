"""Convolution with the form of gradient that is fastest, or the only one, on this machine.

On a CPU most of a training step is spent in the gradients of convolutions, and oneDNN's gradient with respect
to the filter is the slowest of the three passes, worst for a dilated convolution. On small maps the same sum
is quicker as one matrix product per filter tap: dW[i,j] = Xᵢⱼᵀ · dY, with Xᵢⱼ the input shifted by that tap.
Without oneDNN, TensorFlow has no gradients of a dilated convolution on a CPU at all; these products and a
convolution with the flipped filter give them everywhere.
ARCHITECTURE.md, "The training step on a CPU", lists what else was tried.
"""

import tensorflow.compat.v1 as tf

# Largest map side on which the products win: at 38 cells by a tenth, at 75 they lose
MAX_SIDE = 40
_GRADIENT = "SSDConv2DTaps"


def conv2d(x, weights, *, stride=1, padding="SAME", dilation=1):
    """`tf.nn.conv2d` of x [N,H,W,C] and weights [k,k,C,D] with padding "SAME" or "VALID"; same values.

    On a CPU, with stride 1, SAME and an odd filter, its gradients are those below where the convolution is
    dilated, and where they are faster: in bfloat16, at most MAX_SIDE cells a side. A GPU keeps cuDNN's own.
    """
    options = {"strides": stride, "padding": padding, "dilations": dilation}
    same = stride == 1 and padding == "SAME" and weights.shape[0] % 2 == 1
    if same and not tf.config.list_physical_devices("GPU") and (dilation > 1 or _products_win(x, weights)):
        # Overriding by type leaves the Conv2D node as it is, so that it still fuses with bias and ReLU
        with tf.get_default_graph().gradient_override_map({"Conv2D": _GRADIENT}):
            return tf.nn.conv2d(x, weights, **options)
    return tf.nn.conv2d(x, weights, **options)


def _products_win(x, weights):
    wide = min(weights.shape.as_list()[2:]) >= 128  # below, a product is too thin to fill the vector units
    return x.dtype == tf.bfloat16 and wide and x.shape[1] is not None and x.shape[1] <= MAX_SIDE


@tf.RegisterGradient(_GRADIENT)
def _conv2d_gradient(op, dy):
    """Gradients of a stride-1 SAME convolution with respect to its input and its filter."""
    x, weights = op.inputs
    dilation = op.get_attr("dilations")[1]
    return input_gradient(weights, dy, dilation), filter_gradient(x, dy, weights.shape.as_list()[0], dilation)


def input_gradient(weights, dy, dilation):
    """weights [k,k,C,D], dy [N,H,W,D] -> dX [N,H,W,C] of a stride-1 SAME convolution: one with the filter flipped."""
    flipped = tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])
    return tf.nn.conv2d(dy, flipped, 1, "SAME", dilations=dilation)


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
