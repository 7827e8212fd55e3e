"""Compare VGG-16 files with the codes that publish them: features of the base, and fc6 and fc7 after decimation."""

import math

import keras
import numpy as np
import tensorflow.compat.v1 as tf
import torch
import torchvision
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from parity_peers import MEAN_RGB, SSD, randomize

import pretrained
import ssd_utils
import ssd_vgg
import weight_twins
from kernels import winograd

LAYOUTS = ("vgg16-keras", "vgg16-keras without top", "vgg16-torchvision", "vgg16-reducedfc", "vgg16-caffe")
TOLERANCES = {"features": 1e-4, "fc": 0}
NOTE = f"""\
VGG-16: the largest difference of the last shared feature map (conv5_3; fc7 for vgg16-reducedfc), as a share of its
largest value, and of fc6 and fc7 after decimation. Keras and torchvision are the real packages. torchvision pads with
another mean than the original, so its map is compared only in cells that the padding does not reach. Allowed: features
{TOLERANCES["features"]:g}, fc6 and fc7 {TOLERANCES["fc"]:g}."""
SIDE, CENTER = 300, slice(8, 11)  # cells of conv5_3 that no border of the picture reaches


def compare(name, folder):
    """The largest differences {"features", "fc"} for one kind of file."""
    images = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    make = {
        "vgg16-keras": lambda: _keras(folder, images, top=True),
        "vgg16-keras without top": lambda: _keras(folder, images, top=False),
        "vgg16-torchvision": lambda: _torchvision(folder, images),
        "vgg16-reducedfc": lambda: _reduced(folder, images),
        "vgg16-caffe": lambda: _caffe(folder, images),
    }[name]
    path, theirs, fc = make()
    preset = ssd_utils.get_preset("vgg300")
    found = pretrained.read_vgg(str(path), preset)
    assert ("fc6/weights" in found) == (fc is not None)
    ours = _features(found, images, preset, "fc7" if name == "vgg16-reducedfc" else "conv5_3")
    cells = CENTER if name == "vgg16-torchvision" else slice(None)
    apart = abs(ours - theirs)[:, cells, cells].max() / theirs.max()
    differences = [abs(found[key] - fc[key]).max() for key in fc or ()]
    return {"features": float(apart), "fc": float(max(differences, default=0))}


def _features(weights, images, preset, layer):
    """A feature map [N,H,W,C] of our network with these weights."""
    shapes = pretrained.network_shapes(preset, 1)
    weights = {name: weights.get(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.uint8, [None, SIDE, SIDE, 3])
        ssd_vgg.build(x, preset, 1, weights=weights)
        winograd.initialize(session)
        return session.run(graph.get_tensor_by_name(f"{layer}/relu:0"), {x: images})


def _decimated(fc6, fc7):
    """Full fc6 (weights [7,7,512,4096], biases) and fc7 ([4096,4096], biases) -> ours, subsampled."""
    return {
        "fc6/weights": fc6[0][::3, ::3, :, ::4],
        "fc6/biases": fc6[1][::4],
        "fc7/weights": fc7[0][None, None, ::4, ::4],
        "fc7/biases": fc7[1][::4],
    }


def _mean_subtracted(images, bgr):
    x = images.astype(np.float32) - np.array(MEAN_RGB, np.float32)
    return np.ascontiguousarray(x[..., ::-1]) if bgr else x


def _nhwc(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def _randomize_keras(model):
    rng = np.random.default_rng(2)
    model.set_weights(
        [
            (rng.standard_normal(w.shape, np.float32) * (math.sqrt(2 / math.prod(w.shape[:-1])) if w.ndim > 1 else 0.1))
            for w in model.get_weights()
        ]
    )


def _keras(folder, images, top):
    """Keras' own VGG16, with the names and the form of its published files."""
    whole = keras.applications.VGG16(weights=None, include_top=top)
    _randomize_keras(whole)
    arrays = {
        f"{layer.name}/{layer.name}_{kind}_1:0": value
        for layer in whole.layers
        for kind, value in zip("Wb", layer.get_weights(), strict=False)
    }
    weight_twins.write_h5(folder / "a.h5", arrays)
    theirs = _mean_subtracted(images, bgr=True)
    for layer in whole.layers[1:]:
        if isinstance(layer, keras.layers.MaxPooling2D):
            layer.padding = "same"  # rounds up as in an SSD (75 -> 38)
        theirs = layer(theirs)
        if layer.name == "block5_conv3":
            break
    theirs = theirs.numpy()
    if not top:
        return folder / "a.h5", theirs, None
    fc6, fc7 = (whole.get_layer(name).get_weights() for name in ("fc1", "fc2"))
    return folder / "a.h5", theirs, _decimated((fc6[0].reshape(7, 7, 512, 4096), fc6[1]), fc7)


def _torchvision(folder, images):
    model = torchvision.models.vgg16(weights=None)
    randomize(model, 3)
    torch.save(model.state_dict(), folder / "a.pth")
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(weights.mean)[:, None, None]) / torch.tensor(weights.std)[:, None, None]
    with torch.no_grad():
        features = _ceil_features(model, x)
    fc6, fc7 = model.classifier[0], model.classifier[3]
    return folder / "a.pth", _nhwc(features), _decimated_torch(fc6, fc7)


def _ceil_features(model, x):
    """torchvision's features up to the ReLU of conv5_3, with pooling that rounds up as in an SSD (75 -> 38)."""
    for layer in model.features[:30]:
        if isinstance(layer, torch.nn.MaxPool2d):
            layer.ceil_mode = True
        x = layer(x)
    return x


def _decimated_torch(fc6, fc7):
    w6 = fc6.weight.detach().numpy().reshape(4096, 512, 7, 7).transpose(2, 3, 1, 0)
    return _decimated((w6, fc6.bias.detach().numpy()), (fc7.weight.detach().numpy().T, fc7.bias.detach().numpy()))


def _reduced(folder, images):
    """vgg16_reducedfc.pth: the list `vgg` of ssd.pytorch, named by its indices only."""
    model = randomize(SSD(300, 1), 4)
    torch.save(model.vgg.state_dict(), folder / "a.pth")
    x = torch.from_numpy(_mean_subtracted(images, bgr=False)).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = _nhwc(model.features(x, 34))
    state = {name: value.numpy() for name, value in model.vgg.state_dict().items()}
    fc = {
        "fc6/weights": state["31.weight"].transpose(2, 3, 1, 0),
        "fc6/biases": state["31.bias"],
        "fc7/weights": state["33.weight"].transpose(2, 3, 1, 0),
        "fc7/biases": state["33.bias"],
    }
    return folder / "a.pth", theirs, fc


def _caffe(folder, images):
    """VGG_ILSVRC_16_layers.caffemodel: the old form of layers, BGR, fc6 and fc7 fully connected."""
    model = randomize(torchvision.models.vgg16(weights=None), 5)
    convolutions = [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]
    modules = [*convolutions, model.classifier[0], model.classifier[3]]
    layers = dict(zip(weight_twins.VGG_NAMES["vgg16-caffe"], modules, strict=True))
    arrays = {}
    for name, layer in layers.items():
        arrays[f"{name}/0"], arrays[f"{name}/1"] = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    weight_twins.write_caffemodel(folder / "a.caffemodel", arrays, old=True)
    x = torch.from_numpy(_mean_subtracted(images, bgr=True)).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = _nhwc(_ceil_features(model, x))
    return folder / "a.caffemodel", theirs, _decimated_torch(model.classifier[0], model.classifier[3])
