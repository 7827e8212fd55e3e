"""Published weights: every layout read into the network, compared with a slow reading; other files refused."""

import collections
import dataclasses
import hashlib
import json
import math
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import average_precision
import boxes
import config
import detector
import export_model
import file_server
import infer
import pretrained
import process_video
import programs
import ssd_utils
import weight_twins
from kernels import cpu
from media import images
from structures import UserError
from system import files, own_folders
from training import train_flags
from voc_tree import write_voc
from weights import layouts, published, weight_files

SHARED = Path(__file__).parents[1].parent / "shared"
REAL = SHARED / "data" / "vgg16_conv_base.npz"
GOLDEN = SHARED / "fixtures" / "torchvision_ssd300_golden.npz"
RGB = ssd_utils.get_preset("vgg300")
BGR = dataclasses.replace(RGB, channel_order="BGR")
CLASSES = "cat,dog,cow"
WIDTH = 1 / 32


@pytest.fixture(autouse=True, scope="module")
def slim_networks():
    """Every preset at 1/32 of the channels: files are small and quick to write."""
    whole = dict(ssd_utils.PRESETS)
    ssd_utils.PRESETS.update({name: dataclasses.replace(preset, width=WIDTH) for name, preset in whole.items()})
    yield
    ssd_utils.PRESETS.update(whole)


@pytest.fixture(scope="module")
def slim_vgg():
    return dataclasses.replace(RGB, width=WIDTH)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# SSD
WRITERS = {
    "torchvision-ssd300": (weight_twins.write_torch, "a.pth"),
    "ssd.pytorch": (weight_twins.write_torch_legacy, "a.pth"),
    "lufficc-ssd": (lambda p, a: weight_twins.write_torch_legacy(p, a, wrap=lambda t: {"model": t}), "a.pth"),
    "ssd_keras": (weight_twins.write_h5, "a.h5"),
    "caffe-ssd": (weight_twins.write_caffemodel, "a.caffemodel"),
    "mmdetection-ssd": (
        lambda p, a: weight_twins.write_torch(p, a, wrap=lambda t: {"meta": {"config": "_"}, "state_dict": t}),
        "a.pth",
    ),
    "mmdetection-ssd-2.13": (lambda p, a: weight_twins.write_torch(p, a, wrap=lambda t: {"state_dict": t}), "a.pth"),
}
TWINS = [(layout, size) for layout in WRITERS for size in (300, 512) if size == 300 or weight_twins.SSD[layout][1]]
TWINS.remove(("mmdetection-ssd-2.13", 300))  # the layout differs from the other in names alone


def write_twin(tmp_path, layout, size=300, classes=3, change=lambda arrays: None):
    """A file of that layout in its own container -> (path, the variables it stands for)."""
    arrays, ours = weight_twins.ssd(layout, size, classes)
    change(arrays)
    write, name = WRITERS[layout]
    write(tmp_path / name, arrays)
    return str(tmp_path / name), ours


def imported(tmp_path, path, *flags):
    run = str(tmp_path / "run")
    pretrained.main([path, "--classes", CLASSES, "--run", run, *flags])
    return run


@pytest.mark.parametrize(("layout", "size"), TWINS)
def test_every_layout_becomes_a_run(tmp_path, layout, size, capsys):
    path, ours = write_twin(tmp_path, layout, size)
    run = imported(tmp_path, path)
    told = capsys.readouterr().out
    assert f"{layout}, input {size}, 3 classes" in told
    note = (
        f"COCO's, as its own code has for 3 classes; if it was trained with VOC's, import it with --preset vgg{size}\n"
    )
    assert (note in told) == (layout in ("ssd.pytorch", "mmdetection-ssd", "mmdetection-ssd-2.13"))
    same(detector.read_weights(config.find_model(run).checkpoint), ours)
    description, training = config.read_config(run)
    assert training is None
    assert description.class_names == ("cat", "dog", "cow")
    with detector.load(run, precision="float32") as loaded:
        assert loaded.preset == description.preset
        assert len(loaded.detect([np.zeros((40, 50, 3), np.uint8)])) == 1


@pytest.mark.parametrize("layout", ["torchvision-ssd300", "ssd_keras", "caffe-ssd"])
@pytest.mark.parametrize(
    ("write", "name"),
    [(weight_twins.write_npz, "b.npz"), (weight_twins.write_safetensors, "b.safetensors")],
)
def test_names_tell_the_layout_and_not_the_container(tmp_path, layout, write, name):
    arrays, ours = weight_twins.ssd(layout, 300, 3)
    write(tmp_path / name, arrays)
    found = weight_files.read(tmp_path / name)
    assert layouts.recognize("x", found).name == layout
    run = imported(tmp_path, str(tmp_path / name))
    same(detector.read_weights(config.find_model(run).checkpoint), ours)


def preset_of(tmp_path, layout, size=300, *flags):
    path, _ = write_twin(tmp_path, layout, size)
    return config.read_config(imported(tmp_path, path, *flags))[0].preset


def test_rules_of_torchvision(tmp_path):
    preset = preset_of(tmp_path, "torchvision-ssd300")
    assert preset.min_sizes == (21, 45, 99, 153, 207, 261)
    assert preset.max_sizes == (45, 99, 153, 207, 261, 315)
    assert preset.clip_anchors == "size"
    np.testing.assert_allclose(preset.mean, (0.48235 * 255, 0.45882 * 255, 0.40784 * 255))
    assert (preset.channel_order, preset.input_scale) == ("RGB", 1.0)
    assert (preset.clip_boxes, preset.size_offset_limit) == ("before_nms", math.log(1000 / 16))
    assert (preset.candidates_per_class, preset.keep) == (400, 200)


def test_rules_of_ssd_pytorch(tmp_path):
    preset = preset_of(tmp_path, "ssd.pytorch")
    assert (preset.clip_anchors, preset.clip_boxes, preset.size_offset_limit) == ("all", "output", None)
    assert (preset.mean, preset.channel_order) == ((123, 117, 104), "RGB")
    assert (preset.candidates_per_class, preset.keep) == (200, 3 * 200)


def test_rules_of_lufficc(tmp_path):
    preset = preset_of(tmp_path, "lufficc-ssd", 512)
    assert preset.max_sizes == (76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65)
    assert (preset.clip_anchors, preset.channel_order) == ("all", "RGB")
    assert (preset.candidates_per_class, preset.keep) == (24564, 100)


def test_rules_of_ssd_keras(tmp_path):
    preset = preset_of(tmp_path, "ssd_keras", 512)
    assert preset.min_sizes == (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8)
    assert (preset.clip_anchors, preset.clip_boxes, preset.channel_order) == ("none", "output", "BGR")
    assert (preset.mean, preset.candidates_per_class, preset.keep) == ((123, 117, 104), 24564, 200)


def test_rules_of_caffe(tmp_path):
    """PriorBox stores its sizes as integers."""
    preset = preset_of(tmp_path, "caffe-ssd", 512)
    assert preset.min_sizes == (35, 76, 153, 230, 307, 384, 460)
    assert preset.max_sizes == (76, 153, 230, 307, 384, 460, 537)
    assert (preset.clip_anchors, preset.clip_boxes, preset.channel_order) == ("none", "output", "BGR")
    assert (preset.mean, preset.candidates_per_class, preset.keep) == ((123, 117, 104), 400, 200)
    assert preset.conv12_form == "4x4"


def test_anchors_of_coco(tmp_path):
    preset = preset_of(tmp_path, "caffe-ssd", 300, "--preset", "vgg300-coco")
    assert preset.min_sizes == (21, 45, 99, 153, 207, 261)


def refused(tmp_path, message, path, *flags, classes=CLASSES):
    run = tmp_path / "run"
    with pytest.raises(UserError, match=message) as error:
        pretrained.main([str(path), "--classes", classes, "--run", str(run), *flags])
    assert "\n" not in str(error.value)
    assert not run.exists()
    return str(error.value)


def described(layout, size, classes, anchors=None):
    """The preset of a file of that layout, which is not written."""
    return layouts.ssd_preset(layouts.LAYOUTS[layout], weight_twins.ssd(layout, size, classes)[0], classes, anchors)


@pytest.mark.parametrize("layout", ["ssd.pytorch", "mmdetection-ssd"])
def test_anchors_by_the_number_of_classes(layout):
    """The sizes of VOC for 20 classes and of COCO for any other number (data/config.py, configs/pascal_voc/ssd300…)."""
    coco, voc = (21, 45, 99, 153, 207, 261), (30, 60, 111, 162, 213, 264)
    assert described(layout, 300, 3).min_sizes == described(layout, 300, 80).min_sizes == coco
    assert described(layout, 300, 20).min_sizes == described(layout, 300, 3, "vgg300").min_sizes == voc
    assert described(layout, 300, 20, "vgg300-coco").min_sizes == coco


@pytest.mark.parametrize("layout", [layout for layout in layouts.LAYOUTS if not layout.startswith("vgg16")])
@pytest.mark.parametrize("classes", [1, 80, 20_000])
def test_a_run_of_any_number_of_classes_is_read_again(layout, classes):
    """ssd.pytorch keeps 200 detections of each class, others 200 of all."""
    kind = layouts.LAYOUTS[layout]
    preset = layouts.ssd_preset(kind, weight_twins.ssd(layout, 300, 1)[0], classes)
    assert ssd_utils.SSDPreset.from_json(json.loads(json.dumps(preset.to_json()))) == preset
    assert kind.cuts_across_classes or preset.keep >= min(200 * classes, 99 * preset.num_anchors)


@pytest.mark.parametrize("layout", ["mmdetection-ssd", "mmdetection-ssd-2.13"])
def test_rules_of_mmdetection(layout):
    preset = described(layout, 512, 3)
    assert preset.min_sizes == (20, 51, 133, 215, 296, 378, 460)
    assert preset.max_sizes == (51, 133, 215, 296, 378, 460, 542)
    assert (preset.mean, preset.channel_order) == ((123.675, 116.28, 103.53), "RGB")
    assert (preset.clip_anchors, preset.clip_boxes, preset.drop_empty_boxes) == ("none", "before_nms", True)
    assert (preset.score_threshold, preset.nms_iou, preset.keep) == (0.02, 0.45, 200)
    assert (preset.candidates_per_map, preset.candidates) == (1000, 1000 + 1000 + 1000 + 384 + 96 + 16 + 4)
    assert preset.size_offset_limit == math.log(1000 / 16)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("bbox_head.cls_convs.0.0.depthwise_conv.conv.weight", "mmdetection's SSDLite"),
        ("bbox_head.cls_convs.2.0.conv.weight", "mmdetection's SSDLite"),
        ("head.classification_head.module_list.0.0.0.weight", "torchvision's SSDLite"),
        ("source_layer_add_ons.0.running_mean", "qfgaohao/pytorch-ssd's vgg16-ssd, .*batch normalization"),
        ("classification_headers.0.weight", "qfgaohao/pytorch-ssd's"),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path, name, what):
    """Their further names may be those of a known layout, as neck.extra_layers.0.0.conv.weight of both SSDs."""

    def change(arrays):
        arrays[name] = np.zeros(3, np.float32)

    path, _ = write_twin(tmp_path, "mmdetection-ssd", change=change)
    refused(tmp_path, f"a.pth: {what}.*it reads torchvision-ssd300, ", path)


def test_a_preset_of_another_size(tmp_path):
    path, _ = write_twin(tmp_path, "caffe-ssd")
    refused(tmp_path, "--preset vgg512: .* 300", path, "--preset", "vgg512")


def test_torchvision_has_its_own_anchors(tmp_path):
    path, _ = write_twin(tmp_path, "torchvision-ssd300")
    refused(tmp_path, "--preset vgg300: .*torchvision-ssd300", path, "--preset", "vgg300")


def test_class_count(tmp_path):
    path, _ = write_twin(tmp_path, "ssd.pytorch")
    refused(tmp_path, r"--classes: 2 .*a\.pth.* 3 ", path, classes="cat,dog")


def test_eighty_classes_may_be_coco(tmp_path, capsys):
    path, _ = write_twin(tmp_path, "caffe-ssd", classes=80)
    (tmp_path / "names.txt").write_text("\n".join(f"c{i}" for i in range(80)))
    pretrained.main([path, "--classes", str(tmp_path / "names.txt"), "--run", str(tmp_path / "run")])
    assert "--preset vgg300-coco" in capsys.readouterr().err


def test_every_misfit_of_an_ssd_is_named(tmp_path):
    def spoil(arrays):
        del arrays["vgg.7.bias"], arrays["extras.3.weight"]
        arrays["conf.2.weight"] = np.zeros((5, 4, 3, 3), np.float32)
        arrays["loc.5.bias"] = arrays["loc.5.bias"] * np.float32("nan")
        arrays["stranger"] = arrays["other.bias"] = np.zeros(3, np.float32)

    path, _ = write_twin(tmp_path, "ssd.pytorch", change=spoil)
    told = refused(tmp_path, "layout ssd.pytorch", path)
    assert "lacks extras.3.weight, vgg.7.bias;" in told
    assert "has unknown other.bias, stranger;" in told
    assert "has wrongly shaped conf.2.weight (5, 4, 3, 3);" in told
    assert "NaN in loc.5.bias" in told


def test_stored_anchors_are_dropped_and_told(tmp_path, capsys):
    path, _ = write_twin(tmp_path, "ssd.pytorch", change=lambda a: a.update(priors=np.zeros((8732, 4), np.float32)))
    imported(tmp_path, path)
    assert "not needed: priors" in capsys.readouterr().out


def test_a_head_without_its_bias(tmp_path):
    path, _ = write_twin(tmp_path, "ssd.pytorch", change=lambda arrays: arrays.pop("conf.0.bias"))
    refused(tmp_path, r"a\.pth: conf\.0\.bias ", path)


def test_a_whole_model_of_ssd_keras(tmp_path):
    """As its model.save writes it: three Lambda layers, whose code is not run, and the optimizer's arrays."""
    arrays, ours = weight_twins.ssd("ssd_keras", 300, 3)
    weight_twins.write_h5(tmp_path / "a.h5", arrays, "model_weights")
    code = ["4wEAAAAAAAAAAAAAAAEAAABDAAAAcwQAAAB8AFMAKQFO", None, None]
    layers = [{"class_name": "Lambda", "config": {"name": name, "function": code}} for name in ("a", "b", "c")]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": layers}}).encode()
        file["optimizer_weights/training/SGD/conv1_1/kernel:0"] = arrays["conv1_1/conv1_1/kernel:0"]
    run = imported(tmp_path, str(tmp_path / "a.h5"))
    same(detector.read_weights(config.find_model(run).checkpoint), ours)


def test_saved_from_data_parallel(tmp_path):
    arrays, ours = weight_twins.ssd("ssd.pytorch", 300, 3)
    weight_twins.write_npz(tmp_path / "a.npz", {f"module.{name}": array for name, array in arrays.items()})
    run = imported(tmp_path, str(tmp_path / "a.npz"))
    same(detector.read_weights(config.find_model(run).checkpoint), ours)


def test_a_wrong_layout_flag(tmp_path):
    path, _ = write_twin(tmp_path, "ssd.pytorch")
    refused(tmp_path, "conv4_3_norm_mbox_conf/1 .*caffe-ssd", path, "--layout", "caffe-ssd")
    refused(tmp_path, "--layout: .*mine", path, "--layout", "mine")


def test_nothing_known_in_it(tmp_path):
    weight_twins.write_npz(tmp_path / "a.npz", {"x": np.zeros(3), "y": np.zeros(3)})
    refused(tmp_path, r"a\.npz: .*x, y, .*vgg16-keras", tmp_path / "a.npz")


def test_a_bare_vgg_is_no_detector(tmp_path):
    weight_twins.write_h5(tmp_path / "a.h5", weight_twins.vgg("vgg16-keras", fc="whole")[0])
    refused(tmp_path, r"a\.h5: .*vgg16-keras.*--vgg-weights .*a\.h5", tmp_path / "a.h5")


def test_an_existing_run_is_left_alone(tmp_path):
    path, _ = write_twin(tmp_path, "ssd.pytorch")
    run = imported(tmp_path, path)
    with pytest.raises(UserError, match=r"--run .*run: "):
        imported(tmp_path, path)
    assert config.find_model(run).checkpoint


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    import runs

    def fail(*_):
        raise UserError("checkpoint cannot be written (No space left on device)")

    monkeypatch.setattr(runs.Checkpoints, "save", fail)
    path, _ = write_twin(tmp_path, "ssd.pytorch")
    refused(tmp_path, "No space left", path)


# VGG-16
VGG_FILES = [
    ("vgg16-keras", "whole", weight_twins.write_h5, "a.h5"),
    ("vgg16-keras", None, weight_twins.write_h5, "a.h5"),
    ("vgg16-torchvision", "whole", weight_twins.write_torch, "a.pth"),
    ("vgg16-torchvision", "whole", weight_twins.write_torch_legacy, "a.pth"),
    ("vgg16-reducedfc", "reduced", weight_twins.write_torch_legacy, "a.pth"),
    ("vgg16-caffe", "whole", weight_twins.write_caffemodel, "a.caffemodel"),
    ("vgg16-caffe", "whole", lambda p, a: weight_twins.write_caffemodel(p, a, old=True), "a.caffemodel"),
    ("vgg16-caffe", "reduced", weight_twins.write_caffemodel, "a.caffemodel"),
    ("vgg16-npz", "reduced", weight_twins.write_npz, "a.npz"),
    ("vgg16-npz", None, weight_twins.write_npz, "a.npz"),
    ("vgg16-keras", "whole", weight_twins.write_safetensors, "a.safetensors"),
]


@pytest.mark.parametrize(("layout", "fc", "write", "name"), VGG_FILES)
def test_every_vgg_layout(tmp_path, slim_vgg, layout, fc, write, name, capsys):
    arrays, ours = weight_twins.vgg(layout, fc=fc)
    write(tmp_path / name, arrays)
    bgr = layout in ("vgg16-keras", "vgg16-caffe", "vgg16-npz")
    preset = dataclasses.replace(slim_vgg, channel_order="BGR" if bgr else "RGB")
    found = pretrained.read_vgg(str(tmp_path / name), preset)
    assert layout in capsys.readouterr().out
    if layout == "vgg16-torchvision":
        ours = {**ours, **{key: found[key] for key in ("conv1_1/weights", "conv1_1/biases")}}  # see below
    same(found, ours)


@pytest.mark.parametrize("layout", ["vgg16-keras", "vgg16-torchvision"])
def test_fc6_and_fc7_in_full_size(tmp_path, slim_vgg, layout):
    """Each fourth output of the full kernels is the subsampled kernel, at rows and columns 0, 3 and 6."""
    arrays, ours = weight_twins.vgg(layout, fc="whole")
    np.savez(tmp_path / "a.npz", **arrays)
    found = pretrained.read_vgg(str(tmp_path / "a.npz"), dataclasses.replace(slim_vgg, fc_form="full"))
    assert found["fc6/weights"].shape == (7, 7, 16, 128) and found["fc7/weights"].shape == (1, 1, 128, 128)
    np.testing.assert_array_equal(found["fc6/weights"][::3, ::3, :, ::4], ours["fc6/weights"])
    np.testing.assert_array_equal(found["fc7/weights"][:, :, ::4, ::4], ours["fc7/weights"])
    name = next(name for name, array in arrays.items() if array.size == 7 * 7 * 16 * 128)
    assert sorted(found["fc6/weights"].ravel()) == sorted(arrays[name].ravel())


@pytest.mark.parametrize("layout", ["vgg16-npz", "vgg16-reducedfc"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_conv1_1_is_turned_to_the_order_of_the_network(tmp_path, slim_vgg, layout, order):
    arrays, ours = weight_twins.vgg(layout, fc=None)
    np.savez(tmp_path / "a.npz", **arrays)
    found = pretrained.read_vgg(str(tmp_path / "a.npz"), dataclasses.replace(slim_vgg, channel_order=order))
    turned = order != {"vgg16-npz": "BGR", "vgg16-reducedfc": "RGB"}[layout]
    expected = ours["conv1_1/weights"]
    np.testing.assert_array_equal(found["conv1_1/weights"], expected[:, :, [2, 1, 0]] if turned else expected)


@pytest.mark.parametrize(("order", "scale"), [("RGB", 1.0), ("BGR", 1 / 60)])
def test_imagenet_statistics_are_folded_into_conv1_1(tmp_path, slim_vgg, order, scale):
    """(x / 255 - mean) / std through the file's conv1_1 gives the same as ours, except at the outermost pixels."""
    arrays, ours = weight_twins.vgg("vgg16-torchvision", fc=None)
    np.savez(tmp_path / "a.npz", **arrays)
    preset = dataclasses.replace(slim_vgg, channel_order=order, input_scale=scale)
    found = pretrained.read_vgg(str(tmp_path / "a.npz"), preset)
    patch = np.random.default_rng(0).integers(0, 256, (3, 3, 3)).astype(np.float64)
    normal = (patch / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    theirs = np.einsum("hwc,hwco->o", normal, ours["conv1_1/weights"]) + ours["conv1_1/biases"]
    fed = (patch - [123, 117, 104]) * scale
    fed = fed[:, :, ::-1] if order == "BGR" else fed
    mine = np.einsum("hwc,hwco->o", fed, found["conv1_1/weights"]) + found["conv1_1/biases"]
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_torchvisions_features_only(tmp_path, slim_vgg, capsys):
    """IMAGENET1K_FEATURES: amdegroot's convolutions, 0..255 minus the mean, and a classifier of NaN."""
    arrays, ours = weight_twins.vgg("vgg16-torchvision", fc="whole")
    arrays["classifier.6.weight"], arrays["classifier.6.bias"] = np.zeros((10, 128), "f4"), np.zeros(10, "f4")
    for name in arrays:
        if name.startswith("classifier"):
            arrays[name] = np.full_like(arrays[name], np.nan)
    weight_twins.write_torch(tmp_path / "a.pth", arrays)
    found = pretrained.read_vgg(str(tmp_path / "a.pth"), slim_vgg)
    same(found, {name: array for name, array in ours.items() if name.startswith("conv")})
    assert "not needed: classifier.0.bias, classifier.0.weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layout", "last"),
    [
        ("vgg16-keras", "predictions/predictions_W_1:0"),
        ("vgg16-torchvision", "classifier.6.weight"),
        ("vgg16-caffe", "fc8/0"),
    ],
)
def test_the_thousand_classes_are_dropped_and_told(tmp_path, slim_vgg, layout, last, capsys):
    arrays, ours = weight_twins.vgg(layout, fc="whole")
    np.savez(tmp_path / "a.npz", **arrays, **{last: np.zeros((128, 10))})
    assert pretrained.read_vgg(str(tmp_path / "a.npz"), slim_vgg).keys() == ours.keys()
    assert f"not needed: {last}" in capsys.readouterr().out


def fails(path, message, preset):
    with pytest.raises(UserError, match=message) as error:
        pretrained.read_vgg(str(path), preset)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_misfit_of_a_vgg_is_named(tmp_path, slim_vgg):
    path, (small, _) = tmp_path / "a.npz", weight_twins.vgg("vgg16-npz", fc="reduced")

    def case(message, lacking=(), **extra):
        np.savez(path, **{n: v for n, v in {**small, **extra}.items() if n not in lacking})
        fails(path, message, slim_vgg)

    case("lacks conv3_2/biases, conv5_1/weights$", lacking=("conv3_2/biases", "conv5_1/weights"))
    case("lacks fc7/biases$", lacking=("fc7/biases",))
    case("lacks fc6/biases, fc6/weights, fc7/biases$", lacking=("fc7/biases", "fc6/weights", "fc6/biases"))
    case("has unknown fc8/weights$", **{"fc8/weights": np.zeros(3)})
    case(r"wrongly shaped conv1_2/biases \(9,\)$", **{"conv1_2/biases": np.zeros(9)})
    case(r"wrongly shaped fc6/weights \(5, 5, 16, 32\)$", **{"fc6/weights": np.zeros((5, 5, 16, 32))})
    case("NaN in conv2_1/biases$", **{"conv2_1/biases": np.full(4, np.inf)})


def test_an_ssd_is_no_vgg(tmp_path, slim_vgg):
    path, _ = write_twin(tmp_path, "ssd.pytorch")
    fails(path, "--vgg-weights .*pretrained.py.*--init-from", slim_vgg)


def test_a_kernel_in_a_view(tmp_path, slim_vgg):
    """PyTorch may store a transposed tensor, which only its strides show."""
    arrays, ours = weight_twins.vgg("vgg16-reducedfc", fc=None)
    arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    weight_twins.write_torch(tmp_path / "a.pt", arrays)
    same(pretrained.read_vgg(str(tmp_path / "a.pt"), slim_vgg), ours)


@pytest.mark.skipif(not REAL.is_file(), reason="the real VGG-16 weights are not beside this clone")
def test_the_real_weights():
    found = pretrained.read_vgg(str(REAL), RGB)
    assert len(found) == 26
    with np.load(REAL) as file:
        np.testing.assert_array_equal(found["conv1_1/weights"], file["conv1_1/weights"][:, :, ::-1])
        np.testing.assert_array_equal(found["conv1_1/biases"], file["conv1_1/biases"])


def test_layers_are_those_of_the_network():
    for layout in layouts.LAYOUTS.values():
        if layout.is_ssd:
            preset = ssd_utils.get_preset("vgg512" if "conv12_2" in layout.layers else "vgg300")
            assert set(layout.variables.values()) == set(pretrained.network_shapes(preset, 3))
        else:
            assert set(layout.variables.values()) == set(pretrained.vgg_shapes(RGB))


# Golden
def golden_weights(seed):
    """The weights of ../shared/fixtures/README.md, full size."""
    shapes = {"backbone.scale_weight": (512,)}
    for _, name, inputs, outputs, side in weight_twins.ssd_rows("torchvision-ssd300", 300, 20, width=1):
        shapes |= {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
    gains, arrays = {"classification_head": 0.0125, "regression_head": 0.005}, {}
    for key, shape in shapes.items():
        values = np.random.default_rng([seed, zlib.crc32(key.encode())]).standard_normal(shape)
        if key.endswith("bias"):
            values *= 0.1
        elif key == "backbone.scale_weight":
            values += 20
        else:
            values *= next((g for k, g in gains.items() if k in key), 1) * math.sqrt(2 / math.prod(shape[1:]))
        arrays[key] = values.astype(np.float32)
    return arrays


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden outputs are not beside this clone")
def test_torchvisions_own_outputs(tmp_path):
    golden = np.load(GOLDEN)
    seed, rows = int(golden["seed"]), golden["rows"]
    np.savez(tmp_path / "a.npz", **golden_weights(seed))
    programs.run("pretrained.py", tmp_path / "a.npz", "--run", tmp_path / "run")
    images = np.random.default_rng([seed, 1]).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    with detector.load(str(tmp_path / "run"), precision="float32") as loaded:
        anchors = boxes.from_cxcywh(ssd_utils.make_anchors(loaded.preset))
        np.testing.assert_allclose(anchors, golden["anchors_xyxy"], atol=1e-6)
        session, feed = loaded._network._session, {loaded._network._images: images}
        graph = session.graph
        logits, offsets = session.run([graph.get_tensor_by_name(n) for n in ("logits:0", "offsets:0")], feed)
        np.testing.assert_allclose(logits[:, rows], golden["logits"], atol=1e-4)
        np.testing.assert_allclose(offsets[:, rows], golden["offsets"], atol=1e-4)
        for index, found in enumerate(loaded.detect(list(images))):
            theirs = [golden[f"det{index}_{what}"] for what in ("boxes", "scores", "labels")]
            assert len(found) == len(theirs[1])
            assert count_matches(found, *theirs) >= 0.99 * len(found)


def count_matches(found, boxes_px, scores, labels):
    """Pairs of the same label, scores within 1e-4, boxes within 0.05 pixels; each detection in one pair."""
    free, matched = collections.Counter(range(len(found))), 0
    for box, score, label in zip(boxes_px, scores, labels, strict=True):
        close = (found.labels + 1 == label) & (abs(found.scores - score) < 1e-4)
        close &= abs(found.boxes_px - box).max(axis=1) < 0.05
        for index in np.flatnonzero(close):
            if free[index]:
                free[index], matched = 0, matched + 1
                break
    return matched


def test_from_the_command_line(tmp_path):
    """A refused file ends the program with one line and exit code 1."""
    (tmp_path / "a.pth").write_bytes(b"not weights")
    error = programs.error_of("pretrained.py", tmp_path / "a.pth", "--run", tmp_path / "run")
    assert "a.pth: " in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a[1]", "a.pth", "a.pth/run"])
def test_a_run_that_cannot_be_is_refused_first(tmp_path, name):
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"^--run: "):
        pretrained.main([str(weights), "--run", str(tmp_path / name)])


# Published detectors, from a server on this machine in place of PyTorch's


@pytest.fixture(scope="module")
def twin(tmp_path_factory, slim_networks):
    """A slim twin of torchvision's COCO file: (its bytes, the variables it stands for)."""
    arrays, ours = weight_twins.ssd("torchvision-ssd300", 300, 90)
    path = tmp_path_factory.mktemp("twin") / "a.pth"
    weight_twins.write_torch(path, arrays)
    return path.read_bytes(), ours


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def point_to(monkeypatch, twin):
    """A function: have ssd300-coco at an address, of the twin's digest, and the cache in a folder."""

    def point_to(url, folder):
        known = published.DETECTORS["ssd300-coco"]
        digest = hashlib.sha256(twin[0]).hexdigest()[:8]
        file = dataclasses.replace(known.file, url=url, digest=digest)
        monkeypatch.setitem(published.DETECTORS, "ssd300-coco", dataclasses.replace(known, file=file))
        monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(folder))

    return point_to


@pytest.fixture
def coco(point_to, twin, cache):
    """The server of ssd300-coco; the cache is the same for all tests, so that one of them fetches."""
    with file_server.run(twin[0]) as server:
        point_to(server.url("ssd.pth"), cache)
        yield server


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A data set of two pictures with cars: of classes of COCO, as `programs.write_shapes` has none."""
    pictures = {name: (np.full((60, 80, 3), 90, np.uint8), [("car", (11, 11, 50, 40))]) for name in ("a", "b")}
    return write_voc(tmp_path_factory.mktemp("street"), pictures, {"test": ["a", "b"]}, suffix=".png")


def test_a_detector_is_named_fetched_and_imported_once(coco, twin, cache, street, tmp_path, monkeypatch, capsys):
    """Also where the connection breaks half way; without --output the results are in `found`.

    Its scores are its own code's, so it is computed in float32 also where bfloat16 is faster.
    """
    monkeypatch.setattr(cpu, "bfloat16_is_faster", lambda: True)
    coco.break_after = len(twin[0]) // 2 + 1
    monkeypatch.chdir(tmp_path)
    infer.main(["ssd300-coco", str(street / "JPEGImages")])
    assert " images/s in float32;" in capsys.readouterr().out
    assert coco.asked == [None, f"bytes={coco.break_after}-"]
    run = cache / "detectors" / "ssd300-coco"
    assert sorted(os.listdir(cache)) == ["detectors", "ssd.pth"]
    assert os.listdir(run.parent) == ["ssd300-coco"]
    same(detector.read_weights(config.find_model(str(run)).checkpoint), twin[1])
    found = files.read_json(tmp_path / "found" / "detections.json")
    assert (found["model"], len(found["class_names"])) == ("ssd300-coco", 90)
    assert found["class_names"][:3] == ["person", "bicycle", "car"]
    with detector.load("ssd300-coco@last") as loaded:
        assert loaded.preset.min_sizes == (21, 45, 99, 153, 207, 261)
    assert len(coco.asked) == 2


def test_the_other_programs_take_the_name(coco, cache, street, tmp_path):
    with detector.load("ssd300-coco") as loaded:  # fetches it where this test runs alone
        assert loaded.class_names == published.DETECTORS["ssd300-coco"].class_names
    export_model.main(["ssd300-coco", "--output", str(tmp_path / "m.pb")])
    assert detector.read_frozen(str(tmp_path / "m.pb"))[1].class_names == loaded.class_names
    frames = tmp_path / "frames"
    frames.mkdir()
    images.write(str(frames / "f_1.png"), np.zeros((60, 80, 3), np.uint8))
    process_video.main(["ssd300-coco", str(frames), str(tmp_path / "film.mp4")])
    assert (tmp_path / "film.mp4").stat().st_size
    flags = train_flags.parse(["--init-from", "ssd300-coco@last", "--run", str(tmp_path / "run")], None)
    assert flags.init_from == f"{cache}/detectors/ssd300-coco@last"


def test_its_results_are_scored_and_remembered(coco, street, tmp_path, capsys):
    data = ["--data", str(street), "--split", "test"]
    infer.main(["ssd300-coco", *data, "--output", str(tmp_path / "scored"), "--threshold", "0"])
    average_precision.main([str(tmp_path / "scored"), *data])
    assert "detectors/ssd300-coco/scoring.json: the thresholds" in capsys.readouterr().out
    told = refused_name(infer.main, "ssd300-coco", *data, "--output", tmp_path / "best", "--threshold", "best")
    assert "detectors/ssd300-coco/scoring.json: the scoring has no hit" in told  # random weights; but it was found


def refused_name(*call):
    with pytest.raises(UserError) as error:
        call[0](list(map(str, call[1:])))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_offline_one_line_says_where_the_file_goes(point_to, street, tmp_path):
    point_to("http://127.0.0.1:9/ssd.pth", tmp_path / "cache")
    pictures = street / "JPEGImages"
    told = refused_name(infer.main, "ssd300-coco", pictures, "--output", tmp_path / "found")
    assert told.startswith("ssd300-coco: http://127.0.0.1:9/ssd.pth cannot be downloaded (")
    assert told.endswith(f"; download it elsewhere and put it at {tmp_path}/cache/ssd.pth")
    told = refused_name(train_flags_parse, "--init-from", "ssd300-coco", "--run", tmp_path / "run")
    assert told.startswith("--init-from ssd300-coco: http://127.0.0.1:9/ssd.pth ")


def train_flags_parse(argv):
    return train_flags.parse(argv, None)


def test_the_file_may_be_put_there(point_to, twin, tmp_path):
    point_to("http://127.0.0.1:9/ssd.pth", tmp_path)
    (tmp_path / "ssd.pth").write_bytes(twin[0])
    assert pretrained.fetched(config.find_model("ssd300-coco")).run == f"{tmp_path}/detectors/ssd300-coco"


def test_another_file_is_refused(point_to, twin, tmp_path):
    point_to("http://127.0.0.1:9/ssd.pth", tmp_path)
    (tmp_path / "ssd.pth").write_bytes(twin[0][:-1])
    with pytest.raises(UserError, match=r"^ssd300-coco: .*ssd\.pth is damaged \(not of SHA256 [0-9a-f]{8}\); delete"):
        pretrained.fetched(config.find_model("ssd300-coco"))
    assert os.listdir(tmp_path) == ["ssd.pth"]


def test_a_stop_ends_the_download(point_to, twin, tmp_path):
    def stop():
        raise KeyboardInterrupt

    with file_server.run(twin[0]) as server:
        point_to(server.url("ssd.pth"), tmp_path)
        with pytest.raises(KeyboardInterrupt):
            pretrained.fetched(config.find_model("ssd300-coco"), stop)
    assert os.listdir(tmp_path) == ["ssd.pth.part"]


def test_wrong_flags_are_told_before_the_download(point_to, street, tmp_path):
    """No address is asked: it would give another message."""
    point_to("http://127.0.0.1:9/ssd.pth", tmp_path / "cache")
    pictures = street / "JPEGImages"
    told = refused_name(infer.main, "ssd300-coco", pictures, "--output", tmp_path / "out", "--classes", "disc")
    assert told.startswith("--classes disc: the model has person, bicycle")
    assert "remembers no scoring" in refused_name(infer.main, "ssd300-coco", pictures, "--threshold", "best")
    data = ("--data", street, "--split", "test")
    (tmp_path / "comp4_det_test_car.txt").write_text("a 0.5 1 1 20 20\n")
    told = refused_name(average_precision.main, tmp_path, *data, "--remember", "ssd300-coco")
    assert told == "--remember ssd300-coco: has not been fetched yet; detect with it first"
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_that_name_comes_first(coco, tmp_path, monkeypatch):
    (tmp_path / "ssd300-coco").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^ssd300-coco: not a run directory"):
        config.find_model("ssd300-coco")


def test_a_name_that_nothing_has():
    with pytest.raises(UserError, match=r"^ssd300: no such .*, nor a published detector \(ssd300-coco\)$"):
        config.find_model("ssd300")


def test_a_cache_whose_path_is_a_pattern(monkeypatch, tmp_path):
    monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path / "a[b"))
    with pytest.raises(UserError, match=r"a\[b/detectors/ssd300-coco: TensorFlow reads \["):
        config.find_model("ssd300-coco")


def test_a_cache_that_cannot_be_written(point_to, twin, tmp_path):
    point_to("http://127.0.0.1:9/ssd.pth", tmp_path)
    (tmp_path / "ssd.pth").write_bytes(twin[0])
    (tmp_path / "detectors").write_text("a file in the place of the folder")
    with pytest.raises(
        UserError, match=rf"^ssd300-coco: .*detectors/ssd300-coco cannot .*{own_folders.CACHE_VARIABLE}"
    ):
        pretrained.fetched(config.find_model("ssd300-coco"))


def test_the_table_of_published_detectors():
    """PyTorch's files carry the beginning of their SHA-256; COCO's numbers, from 1, are facts of its annotations."""
    coco = published.DETECTORS["ssd300-coco"]
    assert (coco.file.name, coco.file.algorithm) == (f"ssd300_vgg16_coco-{coco.file.digest}.pth", "sha256")
    assert coco.file.wanted_by == "ssd300-coco"
    names = dict(enumerate(coco.class_names, start=1))
    facts = {1: "person", 13: "stop sign", 18: "dog", 31: "handbag", 44: "bottle", 62: "chair", 72: "tv"}
    facts |= {28: "umbrella", 67: "dining table", 70: "toilet", 82: "refrigerator", 84: "book", 90: "toothbrush"}
    assert {number: names[number] for number in facts} == facts
    assert [n for n, name in names.items() if name == f"unused{n}"] == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert len(set(names.values())) == len(names) == 90


def test_a_detector_that_model_names_needs_no_import(tmp_path):
    with pytest.raises(UserError, match=r"^WEIGHTS: 'ssd300-coco' needs no import.*infer.py ssd300-coco PICTURES"):
        pretrained.main(["ssd300-coco", "--run", str(tmp_path / "run")])
