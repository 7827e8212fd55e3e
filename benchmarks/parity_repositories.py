"""The peers' own repositories, from checkouts: each runs in a process of this file, which parity.py starts.

Their code of 2018 to 2020 meets today's PyTorch and TensorFlow; what does not fit is replaced when it is imported, and
no file of theirs is changed. lufficc/SSD needs the package yacs, ssd_keras the package tf_keras, which is Keras as it
was.
"""

import argparse
import importlib
import os
import pathlib
import sys
import types
import warnings

import numpy as np

THRESHOLD, IOU = 0.01, 0.45  # of all of them
MEAN_RGB = np.array((123, 117, 104), np.float32)
SIZES = {"ssd.pytorch": (300,), "lufficc-ssd": (300, 512), "ssd_keras": (300, 512)}
FILES = {"ssd.pytorch": "a.pth", "lufficc-ssd": "a.pth", "ssd_keras": "a.h5"}


def main():
    """Run one peer: random weights -> its own weight file, and an .npz of what it makes of some pictures.

    The .npz: logits [N,A,1+classes], offsets [N,A,4], anchors [A,4] (cx, cy, w, h), and for picture i boxes_i [M,4] in
    pixels of the input, scores_i [M], labels_i [M] from 0.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("layout", choices=tuple(FILES))
    parser.add_argument("repository", type=pathlib.Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--images", required=True, help=".npy of uint8 RGB [N,size,size,3]")
    parser.add_argument("--weights", required=True, help="the weight file to write")
    parser.add_argument("--output", required=True, help="the .npz to write")
    flags = parser.parse_args()
    run = {"ssd.pytorch": _ssd_pytorch, "lufficc-ssd": _lufficc, "ssd_keras": _ssd_keras}[flags.layout]
    # Names such as `data`, `layers` and `models` must be theirs
    sys.path[:] = [str(flags.repository), *(path for path in sys.path if path != os.getcwd())]
    found = run(flags, np.load(flags.images))
    detections = found.pop("detections")
    for index, values in enumerate(detections):
        for name, value in zip(("boxes", "scores", "labels"), values, strict=True):
            found[f"{name}_{index}"] = value
    np.savez(flags.output, **found)


def _ssd_pytorch(flags, images):
    import torch
    from parity_peers import randomize

    coco = types.ModuleType("data.coco")  # which reads a file of labels in the user's home
    names = ("COCODetection", "COCOAnnotationTransform", "COCO_CLASSES", "COCO_ROOT", "get_label_map")
    coco.__dict__.update(dict.fromkeys(names))
    sys.modules["data.coco"] = coco
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old calls
        ssd = importlib.import_module("ssd")
        model = randomize(ssd.build_ssd("train", flags.size, flags.classes + 1), flags.seed)
        torch.save(model.state_dict(), flags.weights)
        # Its phase "test" calls an old kind of Function, which PyTorch refuses; its forward is called as it is
        detect = ssd.Detect(flags.classes + 1, 0, 200, THRESHOLD, IOU)
        with torch.no_grad():
            offsets, logits, anchors = model(_batch(torch, images))
            found = detect.forward(offsets, logits.softmax(-1), anchors)  # [N,1+classes,200,(score, box)]
    detections = []
    for picture in found.numpy():
        label, rank = np.nonzero(picture[..., 0] > 0)
        boxes = picture[label, rank, 1:].clip(0, 1) * flags.size
        detections.append((boxes, picture[label, rank, 0], label - 1))
    return {**_arrays(logits, offsets, anchors), "detections": detections}


def _lufficc(flags, images):
    import torch
    import torchvision
    from parity_peers import randomize

    torchvision.__version__ = "1"  # they compare it as text, in which 0.29 is below 0.3.0
    from ssd.config import cfg
    from ssd.modeling.anchors.prior_box import PriorBox
    from ssd.modeling.detector.ssd_detector import SSDDetector

    cfg.merge_from_file(str(flags.repository / "configs" / f"vgg_ssd{flags.size}_voc0712.yaml"))
    cfg.MODEL.BACKBONE.PRETRAINED, cfg.MODEL.NUM_CLASSES = False, flags.classes + 1
    model = randomize(SSDDetector(cfg), flags.seed)
    torch.save({"model": model.state_dict(), "iteration": 120000}, flags.weights)
    with torch.no_grad():
        logits, offsets = model.box_head.predictor(model.backbone(_batch(torch, images)))
        results, _ = model.box_head._forward_test(logits, offsets)
    detections = [
        (one["boxes"].numpy().clip(0, flags.size), one["scores"].numpy(), one["labels"].numpy() - 1) for one in results
    ]
    return {**_arrays(logits, offsets, PriorBox(cfg)()), "detections": detections}


def _batch(torch, images):
    return torch.from_numpy((images - MEAN_RGB).transpose(0, 3, 1, 2).copy())


def _arrays(logits, offsets, anchors):
    return {"logits": logits.numpy(), "offsets": offsets.numpy(), "anchors": anchors.numpy()}


def _ssd_keras(flags, images):
    keras, build = _patched_ssd_keras(flags.size)
    sizes = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05), (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05)  # its notebooks'
    model = build(
        image_size=(flags.size, flags.size, 3),
        n_classes=flags.classes,
        mode="inference",
        scales=list(sizes[flags.size == 512]),
        confidence_thresh=THRESHOLD,
        iou_threshold=IOU,
    )
    _randomize_keras(model, flags.seed)
    model.save(flags.weights)
    names = ("mbox_conf", "mbox_loc", "mbox_priorbox")
    inner = keras.models.Model(model.input, [model.get_layer(name).output for name in names])
    logits, offsets, anchors = inner.predict_on_batch(images.astype(np.float32))
    detections = []
    for rows in model.predict_on_batch(images.astype(np.float32)):  # [N,200,6] (class from 1, score, box in pixels)
        rows = rows[rows[:, 1] > 0]
        detections.append((rows[:, 2:].clip(0, flags.size), rows[:, 1], rows[:, 0].astype(int) - 1))
    return {"logits": logits, "offsets": offsets, "anchors": anchors[0, :, :4], "detections": detections}


def _patched_ssd_keras(size):
    """(Keras, the function that builds their SSD), with the names of Keras 2.1 and TensorFlow 1.

    tf_keras is loaded as `keras`, in graph mode.
    """
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    import tf_keras
    from tf_keras.src.engine import base_layer_v1, input_spec

    vars(np)["float"] = float  # as NumPy had it
    backend = tf_keras.backend
    backend.image_dim_ordering = lambda: "tf"
    tensorflow.Tensor._keras_shape = property(lambda tensor: tuple(tensor.shape.as_list()))
    topology = types.ModuleType("keras.engine.topology")
    topology.InputSpec, topology.Layer = input_spec.InputSpec, base_layer_v1.Layer
    names = {"": tf_keras, ".engine": types.ModuleType("keras.engine"), ".engine.topology": topology}
    names |= {f".{name}": getattr(tf_keras, name) for name in ("backend", "models", "layers", "regularizers")}
    sys.modules.update({f"keras{name}": module for name, module in names.items()})
    network = importlib.import_module(f"models.keras_ssd{size}")
    for name in ("DecodeDetections", "DecodeDetectionsFast"):
        sys.modules[f"keras_layers.keras_layer_{name}"].tf = tf
    # A layer that lists its weights itself; Keras finds them
    network.L2Normalization.trainable_weights = property(
        topology.Layer.trainable_weights.fget, lambda layer, weights: None
    )
    return tf_keras, getattr(network, f"ssd_{size}")


def _randomize_keras(model, seed):
    """`parity_peers.randomize` for Keras."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for old in layer.get_weights():
            numbers = rng.standard_normal(old.shape).astype(np.float32)
            if layer.name == "conv4_3_norm":
                numbers += 20
            elif old.ndim == 1:
                numbers *= 0.1
            else:
                head = {"conf": 0.0125, "mbox_loc": 0.005}
                gain = next((value for end, value in head.items() if layer.name.endswith(end)), 1)
                numbers *= gain * np.sqrt(2 / np.prod(old.shape[:-1]))
            values.append(numbers)
        layer.set_weights(values)


if __name__ == "__main__":
    main()
