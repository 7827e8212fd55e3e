"""First weights with which every layer's outputs have the same size, measured on a batch of training pictures.

With VGG-16's features and He's variances, untrained heads give logits of a standard deviation of up to 8.7, and a first
loss of fifteen times that of uniform scores. So layers that start at random are scaled by what the data shows.

Source: LSUV (Mishkin and Matas, arXiv 1511.06422), which scales each layer to outputs of unit variance. Here the mean
square is taken after ReLU, where the next layer reads it, and the heads' is smaller.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow.compat.v1 as tf

import config
import ssd_layers
import ssd_vgg
from kernels import devices
from ssd_utils import SSDPreset
from training import training_graph

FEATURE_RMS = 1.0  # of layers after ReLU; that of conv4_3, normalized and times 20, is 0.88
HEAD_RMS = 0.05  # of logits and offsets: nearly uniform scores, and boxes nearly on their anchors
PASSES = 2  # where layers that are given follow random ones, whose factors they do not pass on exactly


def scaled(
    description: config.ModelDescription, given: Mapping[str, np.ndarray], images: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """The network's first values by variable name: `given`, and random ones for the others, their layers scaled.

    images: uint8 [N,H,W,3] RGB, as the network is going to see them. A layer whose outputs are all 0, or not finite,
    keeps He's weights. Computed in float32 on the CPU, where nothing has to be compiled or tuned.
    """
    preset = description.preset
    settings = devices.session_config()
    settings.device_count["GPU"] = 0
    with tf.Graph().as_default(), tf.Session(config=settings) as session:
        tf.set_random_seed(seed)
        pictures = tf.placeholder(tf.uint8, images.shape)
        outputs = ssd_vgg.build(pictures, preset, len(description.class_names))
        sizes = {layer: _rms(tensor) for layer, tensor in _outputs(preset, *outputs).items()}
        variables = tf.trainable_variables()
        session.run(tf.global_variables_initializer())
        training_graph.set_values(session, variables, given)
        values = dict(zip([v.op.name for v in variables], session.run(variables), strict=True))
        for _ in range(1 if _random_to_the_end(sizes, given) else PASSES):
            factors = _factors(session.run(sizes, {pictures: images}), given)
            changed = {name: np.float32(factor) * values[name] for name, factor in factors.items()}
            training_graph.set_values(session, variables, changed)
            values.update(changed)
    return values


def _outputs(preset: SSDPreset, logits, offsets):
    """{layer: tensor of its outputs}, in the order of the layers."""
    graph = tf.get_default_graph()
    layers = (*ssd_layers.VGG_LAYERS, *ssd_layers.names(ssd_layers.extra_layers(preset)))
    outputs = {layer: graph.get_tensor_by_name(f"{layer}/relu:0") for layer in layers}
    for kind, tensor in ((ssd_layers.LOGITS, logits), (ssd_layers.OFFSETS, offsets)):
        for feature, part in zip(
            ssd_layers.feature_names(preset), tf.split(tensor, preset.anchors_per_map, axis=1), strict=True
        ):
            outputs[ssd_layers.head_name(feature, kind)] = part
    return outputs


def _random_to_the_end(layers, given):
    """Whether no given layer follows a random one."""
    random = [f"{layer}/weights" not in given for layer in layers]
    return random == sorted(random)


def _rms(tensor):
    return tf.sqrt(tf.reduce_mean(tf.square(tensor)))


def _factors(sizes, given):
    """{variable: factor} that gives every random layer outputs of its size. sizes: {layer: RMS of its outputs}.

    A layer without biases passes a factor on its input to its output, as ReLU and pooling do; normalization does not.
    """
    factors, gains, gain = {}, {}, 1.0
    for layer, size in sizes.items():
        is_head = layer.startswith("head_")
        before = gains.get(ssd_layers.head_feature(layer), 1.0) if is_head else gain
        weights = f"{layer}/weights"
        if weights not in given and 0 < size < np.inf:
            factors[weights] = (HEAD_RMS if is_head else FEATURE_RMS) / (size * before)
        if not is_head:
            gain *= factors.get(weights, 1.0)
            gains[layer] = 1.0 if layer == ssd_layers.NORMALIZED else gain
    return factors
