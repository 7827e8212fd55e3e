"""The names and forms of the network's layers against a table written by hand."""

import dataclasses
import math

import numpy as np
import pytest

import ssd_layers
import ssd_utils
import weight_twins
from ssd_layers import Layer
from structures import UserError

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


@pytest.mark.parametrize(
    ("full", "width", "expected"), [(64, 1, 64), (64, 0.03, 2), (512, 0.3, 154), (64, 0.001, 1), (4096, 0.25, 1024)]
)
def test_channels_at_a_width(full, width, expected):
    """To the nearest, as runs have it whose weights must fit; never none."""
    assert ssd_layers.channels(full, width) == expected


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


@pytest.mark.parametrize("name", ["vgg300", "vgg512"])
@pytest.mark.parametrize("size", [(512, 288), (288, 512), (640, 480), (320, 320)])
def test_anchors_of_other_inputs(name, size):
    """Against loops over maps, rows and columns."""
    square, (width, height) = ssd_utils.get_preset(name), size
    preset = ssd_layers.for_input(square, width, height)
    scale = math.sqrt(width * height) / square.input_size
    expected = []
    grids = zip(preset.grids, preset.grid_steps, ssd_utils.anchor_shapes(square), strict=True)
    for (rows, columns), (down, across), shapes in grids:
        for row in range(rows):
            for column in range(columns):
                center = (column + 0.5) * across / width, (row + 0.5) * down / height
                assert max((center[0] - 1) * width / across, (center[1] - 1) * height / down) <= 0.25 + 1e-9
                expected += [(*center, w * scale / width, h * scale / height) for w, h in shapes]
    np.testing.assert_allclose(ssd_utils.make_anchors(preset), expected, rtol=1e-6)
    assert preset.num_anchors == sum(preset.anchors_per_map) == len(expected)
    assert preset.grids[0] == (height // 8, width // 8) and preset.grid_steps[0] == (8, 8)
    assert ssd_utils.SSDPreset.from_json(preset.to_json()) == preset
    assert preset.name == f"{name}-{width}x{height}" and ssd_layers.square_name(preset) == name
    assert ssd_layers.for_input(preset, *size[::-1]).grids == tuple(grid[::-1] for grid in preset.grids)


def test_a_square_input_of_another_size_keeps_the_form_of_a_preset():
    preset = ssd_layers.for_input(ssd_utils.get_preset("vgg512"), 512, 512)
    own = ssd_utils.get_preset("vgg512")
    assert dataclasses.replace(preset, name=own.name) == own
    assert preset.image_shape == (512, 512, 3) and preset.mean_side == 512


@pytest.mark.parametrize(
    ("name", "size", "nearest"), [("vgg300", (512, 256), "512x288"), ("vgg512", (500, 160), "512x288")]
)
def test_an_input_that_does_not_fit_is_refused(name, size, nearest):
    with pytest.raises(UserError, match=f"^--input {size[0]}x{size[1]}: .* the nearest is {nearest}$"):
        ssd_layers.for_input(ssd_utils.get_preset(name), *size)


def test_a_preset_with_a_height_needs_rows():
    preset = ssd_utils.get_preset("vgg300")
    with pytest.raises(ValueError, match="come together"):
        dataclasses.replace(preset, input_height=288)
    wide = ssd_layers.for_input(preset, 512, 288)
    with pytest.raises(ValueError, match="map_rows has 2 entries for 6 feature maps"):
        dataclasses.replace(wide, map_rows=(1, 2))


@pytest.mark.parametrize("name", list(ssd_utils.PRESETS))
def test_maps_and_centers_follow_from_the_layers(name):
    preset = ssd_utils.get_preset(name)
    assert ssd_layers.maps_along(preset, preset.input_size) == (preset.feature_maps, preset.steps)


@pytest.mark.parametrize("name", ["vgg300", "vgg512", "vgg512-article"])
def test_the_smallest_input_has_a_cell_on_each_map(name):
    preset = ssd_utils.get_preset(name)
    smallest = next(side for side in range(32, 512, 32) if all(ssd_layers.maps_along(preset, side)[0]))
    assert ssd_layers.for_input(preset, smallest, 512).grids[-1][1] == 1
    with pytest.raises(UserError, match=f"a multiple of 32 from {smallest} to 2048"):
        ssd_layers.for_input(preset, smallest - 32, 512)


def test_a_wide_preset_becomes_square_again():
    square = ssd_utils.get_preset("vgg512")
    back = ssd_layers.for_input(ssd_layers.for_input(square, 512, 288), 512, 512)
    assert (back.input_height, back.map_rows, back.row_steps) == (None, None, None)
    np.testing.assert_allclose(ssd_utils.make_anchors(back), ssd_utils.make_anchors(square), rtol=1e-6)
