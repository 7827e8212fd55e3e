"""benchmarks/parity_repositories.py runs a checkout as it is; what does not fit today is replaced when imported."""
# ruff: noqa: E402, benchmarks/ must be found first

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench_harness

# Like a checkout of ssd.pytorch: its names, its layer of an old kind, and a module that reads a file in the user's home
CHECKOUT = {
    "data/__init__.py": "from .coco import COCODetection, COCO_CLASSES, COCO_ROOT\n",
    "data/coco.py": "raise FileNotFoundError('~/data/coco/coco_labels.txt')\n",
    "ssd.py": """
import data
import torch


class Detect(torch.autograd.Function):
    def __init__(self, classes, background, top_k, threshold, overlap):
        self.found = torch.zeros(2, classes, top_k, 5)
        self.best = top_k * threshold + overlap

    def forward(self, offsets, scores, anchors):
        assert scores.sum(-1).allclose(torch.ones(1))
        self.found[1, 2, 0] = torch.tensor([self.best / 10, 0.1, 0.2, 0.5, 1.5])
        return self.found


class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conf = torch.nn.Conv2d(3, classes, 1)

    def forward(self, images):
        logits = self.conf(images).flatten(2).transpose(1, 2)
        return images.flatten(2).transpose(1, 2)[..., [0, 1, 2, 0]], logits, torch.ones(logits.shape[1], 4) / 4


def build_ssd(phase, size, classes):
    assert (phase, size) == ("train", 2)
    return Net(classes)
""",
}


@pytest.fixture
def peer():
    python = bench_harness.peer_python()
    if bench_harness.peer_versions(python) is None:
        pytest.skip(bench_harness.NO_PEER)
    return python


def contents(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*.py")}


@pytest.mark.slow
def test_a_checkout_runs_unchanged(peer, tmp_path):
    checkout, images, output = tmp_path / "ssd.pytorch", tmp_path / "images.npy", tmp_path / "found.npz"
    for name, text in CHECKOUT.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    before = contents(checkout)
    np.save(images, np.full((2, 2, 2, 3), 124, np.uint8))
    command = [
        peer,
        ROOT / "benchmarks" / "parity_repositories.py",
        "ssd.pytorch",
        checkout,
        "--size",
        2,
        "--classes",
        3,
    ]
    command += ["--seed", 0, "--images", images, "--weights", tmp_path / "a.pth", "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with np.load(output) as found:
        assert found["logits"].shape == (2, 4, 4)
        np.testing.assert_array_equal(found["offsets"][0, 0], [1, 7, 20, 1])  # RGB minus (123, 117, 104)
        np.testing.assert_array_equal(found["anchors"], np.full((4, 4), 0.25))
        assert len(found["boxes_0"]) == 0
        np.testing.assert_allclose(found["boxes_1"], [[0.2, 0.4, 1, 2]])
        np.testing.assert_allclose(found["scores_1"], [0.245])  # 200 of a class, above 0.01, overlap 0.45
        assert found["labels_1"].tolist() == [1]
    assert contents(checkout) == before
    assert (tmp_path / "a.pth").stat().st_size > 0
