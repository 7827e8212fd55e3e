"""Compare this project with the public SSD codes: the same weights and pictures must give the same numbers.

For every layout that pretrained.py reads, a randomly initialized peer is written in the peer's own file format and
imported by pretrained.py; both then run on the same random pictures in float32. Prints a table of the largest
differences, and ends with exit code 1 if one exceeds its tolerance. COCO's metric is compared with pycocotools too.
Run it with `make parity`, which creates the environment.
"""
# ruff: noqa: E402, as the order of some imports matters

import bench_environment

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import typing

bench_environment.require_peers()

import bench_harness
import h5py
import numpy as np
import parity_repositories
import parity_rows
import safetensors.torch
import torch  # before TensorFlow: in the other order torch's libraries crash
import torchvision
from bench_paths import HERE, ROOT
from parity_peers import MEAN_RGB, SSD, detect, make_anchors, randomize

from system import cli, tensorflow_loading
from system.argument_parser import ArgumentParser
from system.argument_types import existing_folder, output_file

tensorflow_loading.import_tensorflow()

import parity_coco
import parity_vgg
import parity_voc

import boxes as box_geometry
import detector
import ssd_utils
import weight_twins
from structures import Detections, UserError
from system import files, load, wording

# Tables; the metrics are among the names of layouts too
NETWORKS, VGG, COCO, VOC = "networks", "vgg", "coco-metric", "voc-metric"
PICTURES = 2
# The largest differences allowed; for `matched` the smallest share
TOLERANCES = {"logits": 1e-4, "offsets": 1e-4, "anchors": 1e-6, "matched": 0.99, "score": 1e-4, "box_px": 0.05}


@dataclasses.dataclass(frozen=True)
class Peer:
    """A public code.

    layout: as pretrained.py names it.
    size: input size in pixels.
    name: of its file.
    write: function (path, {name of the peer: array}) that writes the file; None for a repository, which does it itself.
    note: what the table says of the file beside its suffix.
    classes: how many.
    bgr: whether its input is BGR.
    mean: RGB, which its input lacks.
    background_last: whether its logits have background behind the classes.
    anchors, rules: options of parity_peers.make_anchors and parity_peers.detect.
    repository: folder of its own code; None for the twin in parity_peers.
    """

    layout: str
    size: int
    name: str
    write: typing.Callable | None = None
    note: str = ""
    classes: int = 20
    bgr: bool = False
    mean: tuple = MEAN_RGB
    background_last: bool = False
    anchors: dict = dataclasses.field(default_factory=dict)
    rules: dict = dataclasses.field(default_factory=dict)
    repository: str | None = None


def _write_arrays(write):
    return lambda path, state: write(path, {name: np.ascontiguousarray(v) for name, v in state.items()})


def _tensors(state):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}


def _zip(path, state):
    torch.save(_tensors(state), path)


def _zip_of_a_checkpoint(path, state):
    torch.save({"model": _tensors(state), "optimizer": {"state": {}}, "iteration": 120000}, path)


def _legacy(path, state):
    torch.save(_tensors(state), path, _use_new_zipfile_serialization=False)


def _zip_of_mmdetection(path, state):
    torch.save({"meta": {"config": "", "CLASSES": ("a",)}, "state_dict": _tensors(state)}, path)


def _safetensors(path, state):
    safetensors.torch.save_file(_tensors(state), path)


def _whole_keras(path, state):
    """As model.save of Keras 2 does, with a Lambda layer in the description."""
    weight_twins.write_h5(path, state, "model_weights")
    with h5py.File(path, "a") as file:
        layers = [
            {"class_name": "Lambda", "config": {"name": "input_mean_normalization", "function": ["", None, None]}}
        ]
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": layers}}).encode()


_CAFFE, _KERAS = _write_arrays(weight_twins.write_caffemodel), _write_arrays(weight_twins.write_h5)
_MMDETECTION = {
    "write": _zip_of_mmdetection,
    "mean": (123.675, 116.28, 103.53),
    "background_last": True,
    "rules": {
        "score": 0.02,
        "per_map": 1000,
        "per_image": 200,
        "clip": True,
        "size_limit": math.log(1000 / 16),
        "drop_empty": True,
    },
}
_LUFFICC = {"anchors": {"clamp": True, "last_max": 537.65}, "rules": {"per_image": 100}}
PEERS = (
    Peer("torchvision-ssd300", 300, "a.pth", _zip),
    Peer("torchvision-ssd300", 300, "a.safetensors", _safetensors),
    Peer("ssd.pytorch", 300, "a.pth", _legacy, anchors={"clamp": True}, rules={"before_nms": 200}),
    Peer(
        *("ssd.pytorch", 300, "a.pth", _legacy, "80 classes", 80),
        anchors={"clamp": True, "coco": True},
        rules={"before_nms": 200},
    ),
    Peer("lufficc-ssd", 300, "a.pth", _zip_of_a_checkpoint, anchors={"clamp": True}, rules={"per_image": 100}),
    Peer("lufficc-ssd", 512, "a.pth", _zip_of_a_checkpoint, **_LUFFICC),
    *(
        Peer("ssd_keras", size, "a.h5", _KERAS, bgr=True, anchors={"clamp": False}, rules={"per_image": 200})
        for size in (300, 512)
    ),
    Peer(
        *("ssd_keras", 300, "a.h5", _write_arrays(_whole_keras), "whole model"),
        bgr=True,
        anchors={"clamp": False},
        rules={"per_image": 200},
    ),
    Peer(
        *("mmdetection-ssd", 300, "a.pth"),
        note="80 classes",
        classes=80,
        anchors={"clamp": False, "integers": True, "coco": True},
        **_MMDETECTION,
    ),
    Peer("mmdetection-ssd", 512, "a.pth", anchors={"clamp": False, "integers": True}, **_MMDETECTION),
    *(
        Peer(
            "caffe-ssd",
            size,
            "a.caffemodel",
            _CAFFE,
            bgr=True,
            anchors={"clamp": False, "integers": True},
            rules={"before_nms": 400, "per_image": 200},
        )
        for size in (300, 512)
    ),
)


def main(argv=None):
    """Run the program. argv: its arguments, by default the command line's. Raises UserError."""
    flags = _parse(argv)
    rows, tables, failures = parity_rows.Rows(flags.rows, _origin(), _say), {}, []
    for table, name, cells, measure, tolerances in _comparisons(flags):
        measured = rows.measured(table, name, measure)
        failures += _failures(name, measured, tolerances)
        tables.setdefault(table, []).append([*cells, *_cells(measured)])
    page = _page(bench_harness.command_line("parity.py", argv), rows.origins(), tables)
    print(page)
    if flags.output:
        files.write(flags.output, page)
    if failures:
        raise UserError("differences exceed the tolerances: " + "; ".join(failures))


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _origin():
    """What measures."""
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "torch", "torchvision")}
    packages = ", ".join(
        [*(f"{name} {version}" for name, version in versions.items()), "Python " + platform.python_version()]
    )
    commit = bench_harness.named(bench_harness.commit(form='%h "%s"'))
    return f"at {commit} on {load.machine()['cpu']} ({packages})"


def _comparisons(flags):
    """Yield (table, name of the row, its first cells, function that measures, tolerances)."""
    chosen = set(flags.layouts or _layouts())
    for seed, peer in enumerate((*PEERS, *flags.peer)):
        if peer.layout not in chosen:
            continue
        file = ", ".join([f"`{pathlib.Path(peer.name).suffix}`", *[peer.note] * bool(peer.note)])
        measure = functools.partial(_in_a_folder, _compare, peer, seed)
        yield NETWORKS, f"{peer.layout} {peer.size} {file}", [peer.layout, peer.size, file], measure, TOLERANCES
    for name in filter(chosen.__contains__, parity_vgg.LAYOUTS):
        yield VGG, name, [name], functools.partial(_in_a_folder, parity_vgg.compare, name), parity_vgg.TOLERANCES
    for name, measure in _coco_cases(flags) if COCO in chosen else ():
        yield COCO, name, [name], measure, parity_coco.TOLERANCES
    for folder in flags.voc_devkit if VOC in chosen else ():
        name = f"{parity_voc.kind(folder)}, {pathlib.Path(folder).name} at {_commit(folder)}"
        yield VOC, name, [name], functools.partial(parity_voc.compare, folder), parity_voc.TOLERANCES


def _in_a_folder(measure, *arguments):
    """measure(*arguments, an empty folder), which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(*arguments, pathlib.Path(folder))


def _layouts():
    return [*sorted({peer.layout for peer in PEERS} | set(parity_vgg.LAYOUTS)), COCO, VOC]


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    layouts = _layouts()
    parser.add_argument(
        "layouts", nargs="*", metavar="LAYOUT", help=f"layouts to compare (default: all): {', '.join(layouts)}"
    )
    parser.add_argument("--output", type=output_file, metavar="FILE", help="also write the page as Markdown to FILE")
    parser.add_argument(
        "--rows",
        type=output_file,
        metavar="FILE",
        help="keep each row in FILE, and take from it the rows that it has: the same command resumes after a stop",
    )
    parser.add_argument(
        "--coco-case",
        action="append",
        default=[],
        type=_case,
        metavar="FOLDER:SPLIT:CLASSES",
        help="also compare COCO's metric on a folder in VOC layout, such as mydata:test:cat,dog; repeatable",
    )
    parser.add_argument(
        "--voc-devkit",
        action="append",
        default=[],
        type=_devkit,
        metavar="DIR",
        help=f"also compare VOC's AP with a VOCdevkit's own MATLAB code (DIR/{parity_voc.CODE}) in GNU Octave; "
        "repeatable, as AP has 11 points before VOC2010 and is an area since",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=_repository,
        metavar="LAYOUT=DIR",
        help="also compare with a peer's own repository, a checkout of it in DIR; repeatable: "
        f"{', '.join(parity_repositories.FILES)} (lufficc-ssd needs the package yacs, ssd_keras the package tf_keras)",
    )
    flags = parser.parse_args(argv)
    flags.peer = [peer for peers in flags.peer for peer in peers]
    if unknown := set(flags.layouts) - set(layouts):
        parser.error(f"{sorted(unknown)[0]}: no such layout; choose from {', '.join(layouts)}")
    return flags


def _repository(text):
    """LAYOUT=DIR -> list of a Peer for each input size."""
    layout, _, folder = text.partition("=")
    if layout not in parity_repositories.FILES or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYOUT=DIR of {', '.join(parity_repositories.FILES)}")
    folder = os.path.abspath(existing_folder(folder))
    name, note = parity_repositories.FILES[layout], f"its repository at {_commit(folder)}"
    return [Peer(layout, size, name, note=note, repository=folder) for size in parity_repositories.SIZES[layout]]


def _commit(folder):
    return bench_harness.commit(folder) or "an unknown commit"


def _devkit(text):
    """The folder of a VOCdevkit that can be run."""
    parity_voc.code_of(text)
    parity_voc.octave()
    return os.path.abspath(text)


def _case(text):
    """FOLDER:SPLIT:CLASSES -> (folder, split, class names)."""
    folder, *others = text.rsplit(":", 2)
    if len(others) != 2 or not all(others):
        raise argparse.ArgumentTypeError(f"{text!r} is not FOLDER:SPLIT:CLASSES")
    return existing_folder(folder), others[0], tuple(others[1].split(","))


def _coco_cases(flags):
    """Yield (name, function that measures) of each case."""
    yield f"{parity_coco.CASES} random cases", parity_coco.compare_random
    for folder, split, names in flags.coco_case:
        yield f"{pathlib.Path(folder).name}, {split}", functools.partial(parity_coco.compare_real, folder, split, names)


def _compare(peer, seed, folder):
    """Compare with one peer -> {measure: largest difference over all pictures}."""
    images = np.random.default_rng(seed).integers(0, 256, (PICTURES, peer.size, peer.size, 3), dtype=np.uint8)
    run = _from_repository if peer.repository else _torchvision if peer.layout == "torchvision-ssd300" else _public
    theirs = run(peer, folder / peer.name, images, seed)
    _import(folder / peer.name, folder / "run", peer.classes)
    with detector.load(str(folder / "run"), precision="float32", threshold=peer.rules.get("score", 0.01)) as ours:
        session, feed = ours._network._session, {ours._network._images: images}
        names = [f"result/{name}:0" for name in ("logits", "offsets")]
        logits, offsets = session.run([session.graph.get_tensor_by_name(name) for name in names], feed)
        found = ours.detect(list(images))
        anchors = box_geometry.from_cxcywh(ssd_utils.make_anchors(ours.preset))
    measured = {
        "logits": abs(logits - theirs["logits"]).max(),
        "offsets": abs(offsets - theirs["offsets"]).max(),
        "anchors": abs(anchors - theirs["anchors"]).max(),
    }
    pairs = [_match(mine, one) for mine, one in zip(found, theirs["detections"], strict=True)]
    measured["matched"] = sum(len(p[0]) for p in pairs) / sum(p[2] for p in pairs)
    measured["score"] = max(p[0].max(initial=0) for p in pairs)
    measured["box_px"] = max(p[1].max(initial=0) for p in pairs)
    return {**measured, "detections": sum(p[2] for p in pairs)}


def _import(path, run, classes):
    """Run pretrained.py as a user does. Raises UserError if it fails."""
    names = [] if classes == 20 else ["--classes", ",".join(f"class{number}" for number in range(classes))]
    command = [sys.executable, ROOT / "pretrained.py", path, "--run", run, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{path.name}: pretrained.py ended with {done.returncode}: {done.stderr}")


def _public(peer, path, images, seed):
    """Write the file of a peer from parity_peers to `path` -> its logits, offsets, anchors and detections, a dict."""
    model = randomize(SSD(peer.size, peer.classes), seed)
    peer.write(path, renamed(model, peer.layout))
    # The weights are in the peer's channel order, which is BGR for some files
    x = torch.from_numpy(images).float() - torch.tensor(peer.mean)
    x = (x.flip(-1) if peer.bgr else x).permute(0, 3, 1, 2).contiguous()
    anchors = make_anchors(peer.size, **{"clamp": False, **peer.anchors})
    with torch.no_grad():
        logits, offsets = model(x)
        logits = logits.roll(1, -1) if peer.background_last else logits
        found = [detect(a, b, anchors, **peer.rules) for a, b in zip(logits, offsets, strict=True)]
    detections = [
        Detections((boxes.clamp(0, 1) * peer.size).numpy(), scores.numpy(), labels.numpy().astype(np.int32))
        for boxes, scores, labels in found
    ]
    return {
        "logits": logits.numpy(),
        "offsets": offsets.numpy(),
        "anchors": box_geometry.from_cxcywh(anchors.numpy()),
        "detections": detections,
    }


def _from_repository(peer, path, images, seed):
    """The same by a peer's own code, in a process of its own. Raises UserError if it fails."""
    pictures, output = path.with_name("images.npy"), path.with_name("found.npz")
    np.save(pictures, images)
    command = [sys.executable, HERE / "parity_repositories.py", peer.layout, peer.repository]
    command += ["--size", peer.size, "--classes", peer.classes, "--seed", seed]
    command += ["--images", pictures, "--weights", path, "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"--peer {peer.layout}={peer.repository}: its code ended with {last}")
    with np.load(output) as found:
        detections = [
            Detections(found[f"boxes_{i}"], found[f"scores_{i}"], found[f"labels_{i}"].astype(np.int32))
            for i in range(len(images))
        ]
        arrays = {name: found[name] for name in ("logits", "offsets", "anchors")}
    return {**arrays, "anchors": box_geometry.from_cxcywh(arrays["anchors"]), "detections": detections}


def renamed(model, layout):
    """{name in a layout: array} of the module, kernels in the layout's order of axes."""
    layers, more, heads, suffixes, scale = weight_twins.SSD[layout]
    targets = layers + (more if model.size == 512 else [])
    bases = [f"vgg.{index}" for index, layer in enumerate(model.vgg) if isinstance(layer, torch.nn.Conv2d)]
    sources = bases + [f"extras.{index}" for index in range(len(model.extras))]
    pairs = list(zip(sources, targets, strict=True))
    for index in range(len(model.conf)):
        pairs += [(f"conf.{index}", heads[index][0]), (f"loc.{index}", heads[index][1])]
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    arrays = {scale: state.pop("L2Norm.weight")}
    for source, target in pairs:
        kernel = state.pop(f"{source}.weight")
        kernel = kernel.transpose(2, 3, 1, 0) if layout == "ssd_keras" else kernel
        arrays[weight_twins.full_name(target, suffixes[0])] = kernel
        arrays[weight_twins.full_name(target, suffixes[1])] = state.pop(f"{source}.bias")
    assert not state, sorted(state)
    return arrays


def _torchvision(peer, path, images, seed):
    """The same for torchvision's own SSD."""
    model = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=peer.classes + 1)
    randomize(model, seed)
    peer.write(path, {name: value.numpy() for name, value in model.state_dict().items()})
    pictures = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
    with torch.no_grad():
        batch, _ = model.transform(pictures)
        maps = list(model.backbone(batch.tensors).values())
        heads = model.head(maps)
        anchors = model.anchor_generator(batch, maps)[0].numpy() / peer.size
        found = model(pictures)
    detections = [
        Detections(one["boxes"].numpy(), one["scores"].numpy(), one["labels"].numpy().astype(np.int32) - 1)
        for one in found
    ]
    return {
        "logits": heads["cls_logits"].numpy(),
        "offsets": heads["bbox_regression"].numpy(),
        "anchors": anchors,
        "detections": detections,
    }


def _match(found, theirs):
    """Pair detections of the same label whose score and box agree -> (score differences, box differences, count).

    Order is ignored, as scores closer than the tolerance may swap. count: the number of detections of the side that has
    more.
    """
    free, scores, boxes = np.ones(len(found), bool), [], []
    for box, score, label in zip(theirs.boxes_px, theirs.scores, theirs.labels, strict=True):
        apart = abs(found.boxes_px - box).max(axis=1)
        near = free & (found.labels == label) & (abs(found.scores - score) < TOLERANCES["score"])
        near &= apart < TOLERANCES["box_px"]
        if near.any():
            index = np.flatnonzero(near)[apart[near].argmin()]
            free[index] = False
            scores.append(abs(found.scores[index] - score))
            boxes.append(apart[index])
    return np.array(scores), np.array(boxes), max(len(found), len(theirs))


def _failures(what, measured, tolerances):
    """A text for each measure beyond its tolerance."""
    failures = []
    for name, limit in tolerances.items():
        good = measured[name] >= limit if name == "matched" else measured[name] <= limit
        if not good:  # also if it is NaN
            failures.append(f"{what}: {name} {measured[name]:.3g}, allowed {limit:g}")
    return failures


def _cells(measured):
    shown = {"matched": "{:.1%}"}
    texts = ("{}" if isinstance(value, int) else shown.get(name, "{:.1e}") for name, value in measured.items())
    return [text.format(value) for text, value in zip(texts, measured.values(), strict=True)]


def _page(command, origins, tables):
    """The page as text. command: the line that writes it. tables: {table: rows}."""
    limits = ", ".join(f"{name} {limit:g}" for name, limit in TOLERANCES.items())
    lines = [
        "# Parity with the public codes",
        "",
        "Generated by this command (`make parity` installs what it needs):",
        "",
    ]
    lines += ["```", command, "```", "", *origins]
    if rows := tables.get(NETWORKS):
        head = ["layout", "input", "file", "logits", "offsets", "anchors", "matched", "score", "box, px", "detections"]
        lines += [
            "",
            "The largest differences between this project and each peer in float32, with the same random weights, read",
            f"from the peer's own file, on the same {PICTURES} random pictures. Allowed: {limits} (matched: at least).",
            "torchvision is the real package. Rows with `its repository` ran the peer's own code, from a checkout",
            '(`make parity CASES="--peer ssd.pytorch=DIR"`); the other peers are written for this comparison from',
            "published facts.",
            "",
            wording.table(head, rows),
        ]
    if rows := tables.get(VGG):
        head = ["VGG-16 file", "features", "fc6, fc7"]
        lines += ["", parity_vgg.NOTE, "", wording.table(head, rows)]
    if rows := tables.get(COCO):
        limit = parity_coco.TOLERANCES["difference"]
        lines += ["", "The largest difference between the twelve figures of COCO's metric here and in pycocotools"]
        lines += [f"{importlib.metadata.version('pycocotools')}. Allowed: {limit:g}.", ""]
        lines += [wording.table(["case", "images", "figures", "difference"], rows)]
    if rows := tables.get(VOC):
        head = ["VOCdevkit", "images", "figures", "difference", "on a step", "undefined"]
        lines += ["", parity_voc.NOTE, "", wording.table(head, rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
