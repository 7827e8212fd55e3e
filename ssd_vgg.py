"""The network: a batch of images -> class logits and box offsets at every anchor.

VGG-16 with a 3×3 pool5 of stride 1, fc6 and fc7 as convolutions (subsampled, with fc6 à trous, or full), an
L2-normalized conv4_3, extra layers conv8_1 … conv11_2 (conv12_2 for vgg512), and on each feature map a 3×3 head for
logits and one for offsets. The layers are listed in ssd_layers.py. Sources: arXiv 1512.02325 section 2.1;
`examples/ssd/ssd_pascal.py` of weiliu89/caffe; for vgg512-article, the article (ARCHITECTURE.md).

Variables are float32, named `LAYER/weights` (HWIO), `LAYER/biases` and `norm_conv4_3/scale`. The compute type may be
narrower; logits and offsets are always returned as float32.
"""

import system.quiet_tensorflow  # noqa: F401

from collections.abc import Mapping

import numpy as np
import tensorflow.compat.v1 as tf

import ssd_layers
from kernels import convolution, winograd
from ssd_utils import SSDPreset

# The original's initial scale of conv4_3 (ParseNet, arXiv 1506.04579) and the epsilon of its Normalize layer
L2_NORM_SCALE = 20.0
L2_NORM_EPSILON = 1e-10
# Standard deviation of the heads' initial weights, the same for every feature map. It does not bound the first scores:
# with VGG-16's features the logits of untrained heads have a standard deviation of up to 8.7 (on fc7's map), which is
# why train.py scales them (training/layer_scaling.py). The original's Xavier gives weights of 0.010 on fc7's map, and
# up to 0.021 on maps of 256 channels.
HEAD_STDDEV = 0.01
# Last part of the name of a weight's moving average, as in conv1_1/weights/average
AVERAGE = "average"


def build(
    images: tf.Tensor,
    preset: SSDPreset,
    num_classes: int,
    *,
    compute_dtype: tf.DType = tf.float32,
    initializer: str = "he",
    weights: Mapping[str, np.ndarray] | None = None,
    averages: Mapping[str, tf.Variable] | None = None,
    portable: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images -> (logits float32 [N,A,num_classes+1], offsets float32 [N,A,4]).

    images: uint8 [N,*preset.image_shape] RGB; class 0 of the logits is background; A follows the order of
    `ssd_utils.make_anchors`. compute_dtype: tf.float32, tf.bfloat16 or tf.float16. initializer: "he", "lsuv" (He's,
    which training/layer_scaling.py scales) or "xavier" (the original's); heads have their own. Variables are reused if
    they exist.
    weights: arrays by variable name; the graph then holds constants of the compute type, and no variables but those
    of `winograd.initialize`. averages: by variable name, variables that are used in place of the network's own.
    portable: for a graph that other machines run: plain convolutions only and, with weights, constants named as the
    variables are. Raises ValueError if weights or the preset's feature maps do not fit the network, KeyError if a
    weight is missing.
    """
    net = _Net(preset.width, compute_dtype, initializer, portable)
    if weights is None:
        getter = _casting_getter(compute_dtype, averages or {})
    else:
        getter = _given_getter(weights, compute_dtype, portable)
    with tf.variable_scope("", reuse=tf.AUTO_REUSE, custom_getter=getter):
        with tf.name_scope("preprocess"):
            x = tf.cast(preprocess(images, preset), compute_dtype)
        features = _feature_maps(net, x, preset)
        return _heads(net, features, preset, num_classes)


def preprocess(images: tf.Tensor, preset: SSDPreset) -> tf.Tensor:
    """uint8 RGB images -> what conv1_1 expects: float32, channel order, mean and scale of the preset."""
    x = (tf.cast(images, tf.float32) - tf.constant(preset.mean, tf.float32)) * preset.input_scale
    return tf.reverse(x, [-1]) if preset.channel_order == "BGR" else x


def _casting_getter(dtype, averages):
    """A custom_getter that keeps variables in float32 and returns them, or their averages, in the compute type."""

    def cast_variable(getter, name, *args, **kwargs):
        variable = getter(name, *args, **kwargs)
        variable = averages.get(name, variable)
        return variable if variable.dtype.base_dtype == dtype else tf.cast(variable, dtype)

    return cast_variable


def _given_getter(weights, dtype, named):
    """A custom_getter that returns given arrays in the compute type. named: as constants of the graph."""

    def given(getter, name, shape, *_args, **_kwargs):
        value = np.asarray(weights[name])
        if list(value.shape) != list(shape):
            raise ValueError(f"{name} has shape {list(value.shape)}, the network needs {list(shape)}")
        value = value.astype(dtype.as_numpy_dtype)
        return tf.constant(value, dtype, name=name) if named else value

    return given


class _Net:
    """The settings that all layers share, and the layers built with them."""

    def __init__(self, width, dtype, initializer, portable):
        self.width = width
        self.dtype = dtype
        self.portable = portable
        # Both scale by fan_in; Caffe's "xavier" is uniform with variance 1 / fan_in
        scale, shape = (1.0, "uniform") if initializer == "xavier" else (2.0, "untruncated_normal")
        self.initializer = tf.variance_scaling_initializer(scale, "fan_in", shape)

    def layer(self, x, layer):
        """A `ssd_layers.Layer`: convolution, bias and ReLU."""
        padding = layer.padding
        if not isinstance(padding, str):
            # TensorFlow's SAME pads (0, 1) where the original pads (1, 1): features would shift by a cell
            x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])
            padding = "VALID"
        channels = ssd_layers.channels(layer.channels, self.width)
        with tf.variable_scope(layer.name):
            weights, biases = self.filters(x, channels, layer.size, self.initializer)
            x = self.convolve(x, weights, biases, stride=layer.stride, padding=padding, dilation=layer.dilation)
        return tf.nn.relu(x, name=f"{layer.name}/relu")

    def convolve(self, x, weights, biases, **options):
        """A convolution with its bias, in the form that is fastest here. weights, biases: tensors or arrays."""
        if not self.portable and winograd.is_faster(x, weights, **options):
            return convolution.bias_add(winograd.conv2d(x, weights), biases)
        return convolution.bias_add(convolution.conv2d(x, tf.convert_to_tensor(weights), **options), biases)

    def filters(self, x, channels, size, initializer):
        """The (weights, biases) of a convolution of x, from the current variable scope."""
        weights = tf.get_variable("weights", [size, size, x.shape[-1], channels], tf.float32, initializer)
        return weights, tf.get_variable("biases", [channels], tf.float32, tf.zeros_initializer())


def _feature_maps(net, x, preset):
    """The (layer name, tensor) pairs that the heads read, from fine to coarse."""
    maps = {}
    groups = zip(ssd_layers.VGG_GROUPS, ssd_layers.POOLINGS, strict=True)
    for number, (group, (size, stride)) in enumerate(groups, 1):
        for layer in group:
            x = net.layer(x, layer)
        if group[-1].name == ssd_layers.NORMALIZED:
            maps[ssd_layers.NORMALIZED] = _l2_normalize(net, x, ssd_layers.NORMALIZATION)
        x = tf.nn.max_pool2d(x, size, stride, "SAME", name=f"pool{number}")
    for layer in (*ssd_layers.FC_LAYERS[preset.fc_form], *ssd_layers.extra_layers(preset)):
        x = maps[layer.name] = net.layer(x, layer)
    return [(name, maps[name]) for name in ssd_layers.feature_names(preset)]


def _l2_normalize(net, x, name):
    """Scale every cell to unit length over its channels, then by a learned factor per channel.

    In float32: a bfloat16 sum of 512 squares would lose most of its digits.
    """
    with tf.variable_scope(name):
        initial = tf.constant_initializer(L2_NORM_SCALE)
        scale = tf.get_variable("scale", [x.shape[-1]], tf.float32, initial)
        x = tf.nn.l2_normalize(tf.cast(x, tf.float32), axis=-1, epsilon=L2_NORM_EPSILON)
        return tf.cast(x, net.dtype) * scale


def _heads(net, features, preset, num_classes):
    """Heads on every feature map, concatenated in the order of the anchors."""
    logits, offsets = [], []
    for (name, x), grid, shapes in zip(features, preset.grids, preset.anchors_per_cell, strict=True):
        if tuple(x.shape[1:3]) != grid:
            raise ValueError(
                f"{name} has {x.shape[1]}×{x.shape[2]} cells, preset {preset.name} says {grid[0]}×{grid[1]}"
            )
        channels = [shapes * (num_classes + 1), shapes * 4]
        head = tf.split(_head(net, x, name, channels), channels, axis=-1)
        # [N,rows,columns,shapes·values] -> [N,anchors of this map,values]
        anchors = grid[0] * grid[1] * shapes
        logits.append(tf.reshape(head[0], [-1, anchors, num_classes + 1]))
        offsets.append(tf.reshape(head[1], [-1, anchors, 4]))
    return (
        tf.cast(tf.concat(logits, axis=1, name="logits"), tf.float32),  # [N,A,classes+1]
        tf.cast(tf.concat(offsets, axis=1, name="offsets"), tf.float32),  # [N,A,4]
    )


def _head(net, x, feature, channels):
    """Logits and offsets of a feature map, side by side: [N,rows,columns,sum(channels)].

    Each has its own variables; one convolution computes both, since 16 offset channels alone cost as much as 64.
    """
    filters = []
    for kind, count in zip((ssd_layers.LOGITS, ssd_layers.OFFSETS), channels, strict=True):
        with tf.variable_scope(ssd_layers.head_name(feature, kind)):
            filters.append(net.filters(x, count, 3, tf.random_normal_initializer(stddev=HEAD_STDDEV)))
    with tf.name_scope(f"head_{feature}"):
        weights, biases = (_side_by_side(parts) for parts in zip(*filters, strict=True))
        return net.convolve(x, weights, biases)


def _side_by_side(parts):
    """Tensors or arrays, joined along their last axis."""
    join = np.concatenate if isinstance(parts[0], np.ndarray) else tf.concat
    return join(parts, axis=-1)
