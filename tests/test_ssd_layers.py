"""The names and forms of the network's layers against a table written by hand."""

import pytest

import ssd_layers
import ssd_utils
import weight_twins
from ssd_layers import Layer

CONV8_TO_9 = [
    *(Layer("conv8_1", 256, size=1), Layer("conv8_2", 512, stride=2, padding=(1, 1))),
    *(Layer("conv9_1", 128, size=1), Layer("conv9_2", 256, stride=2, padding=(1, 1))),
]
EXTRAS = {
    "vgg300": [
        *CONV8_TO_9,
        *(Layer("conv10_1", 128, size=1), Layer("conv10_2", 256, padding="VALID")),
        *(Layer("conv11_1", 128, size=1), Layer("conv11_2", 256, padding="VALID")),
    ],
    "vgg512": [
        *CONV8_TO_9,
        *(Layer("conv10_1", 128, size=1), Layer("conv10_2", 256, stride=2, padding=(1, 1))),
        *(Layer("conv11_1", 128, size=1), Layer("conv11_2", 256, stride=2, padding=(1, 1))),
        *(Layer("conv12_1", 128, size=1), Layer("conv12_2", 256, size=4, padding=(1, 1))),
    ],
    "vgg512-article": [
        *CONV8_TO_9,
        *(Layer("conv10_1", 128, size=1), Layer("conv10_2", 256, stride=2, padding=(1, 1))),
        *(Layer("conv11_1", 128, size=1), Layer("conv11_2", 256, padding="VALID")),
        *(Layer("conv12_1", 128, size=1), Layer("conv12_2", 256, padding=(0, 1))),
    ],
}


def test_the_base_is_vgg_16():
    layers = [layer for group in ssd_layers.VGG_GROUPS for layer in group]
    assert [(name, outputs, side) for name, _, outputs, side in weight_twins.BASE] == [layer[:3] for layer in layers]
    assert [len(group) for group in ssd_layers.VGG_GROUPS] == [2, 2, 3, 3, 3]
    assert tuple(name for name, *_ in weight_twins.BASE) == ssd_layers.CONVOLUTIONS
    assert (*ssd_layers.CONVOLUTIONS, "fc6", "fc7") == ssd_layers.VGG_LAYERS
    assert (Layer("fc6", 1024, dilation=6), Layer("fc7", 1024, size=1)) == ssd_layers.FC_LAYERS["subsampled"]
    assert (Layer("fc6", 4096, size=7), Layer("fc7", 4096, size=1)) == ssd_layers.FC_LAYERS["full"]


@pytest.mark.parametrize("name", list(EXTRAS))
def test_extra_layers(name):
    preset = ssd_utils.get_preset(name)
    assert list(ssd_layers.extra_layers(preset)) == EXTRAS[name]
    features = ["conv4_3", "fc7", *(layer.name for layer in EXTRAS[name] if layer.name.endswith("_2"))]
    assert list(ssd_layers.feature_names(preset)) == features
    assert len(features) == len(preset.feature_maps)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("head_fc7_logits/weights", True),
        ("head_conv4_3_logits/biases", True),
        ("head_conv4_3_offsets/biases", False),
        ("conv4_3/weights", False),
    ],
)
def test_confidence_heads(variable, expected):
    assert ssd_layers.is_confidence(variable) is expected


@pytest.mark.parametrize(
    ("variable", "layer", "expected"),
    [
        ("conv1_1/weights", "conv1", True),
        ("conv1_2/biases", "conv1", True),
        ("conv10_1/weights", "conv1", False),
        ("conv1_1/weights", "conv1_1", True),
        ("conv1_2/weights", "conv1_1", False),
        ("norm_conv4_3/scale", "conv4", False),
        ("fc6/weights", "fc6", True),
        ("head_conv4_3_logits/weights", "head", True),
        ("head_conv4_3_logits/weights", "conv4_3", False),
    ],
)
def test_layers_are_named_whole(variable, layer, expected):
    assert ssd_layers.in_layer(variable, layer) is expected
