"""Run the programs as a user does, on a tiny data set, and wait for what they do."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np

from voc_tree import write_voc

ROOT = pathlib.Path(__file__).parents[1]
CLASSES = "disc,square"
# One second of training: 3% of the channels; scaling the first weights would take as long again
TINY = ["--classes", CLASSES, "--width", "0.03", "--batch-size", "4", "--workers", "1", "--augmentation", "light"]
TINY += ["--initializer", "he"]


SHAPES = {  # color, and mask from the cells' distances to the center as a fraction of half the side
    "disc": ((240, 200, 40), lambda x, y: np.hypot(x, y) <= 1),
    "square": ((40, 220, 240), lambda x, y: np.ones_like(x, bool)),
    "diamond": ((230, 60, 230), lambda x, y: abs(x) + abs(y) <= 1),
}


def write_shapes(root, splits, seed=0, size=(120, 90), kinds=("disc", "square")):
    """A VOC-layout folder whose pictures show a bright shape of one of `kinds` on noise. splits: {name: pictures}."""
    rng = np.random.default_rng(seed)
    pictures, lists = {}, {}
    for split, count in splits.items():
        lists[split] = [f"{split}_{index:03d}" for index in range(count)]
        for image_id in lists[split]:
            pictures[image_id] = _shape_picture(rng, kinds, *size)
    return write_voc(root, pictures, lists, suffix=".png")


def _shape_picture(rng, kinds, width, height):
    image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    side = int(rng.integers(30, 60))
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    kind = kinds[rng.integers(len(kinds))]
    color, inside = SHAPES[kind]
    grid_y, grid_x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    image[y : y + side, x : x + side][inside(grid_x, grid_y)] = color
    return image, [(kind, (x + 1, y + 1, x + side, y + side))]


def fresh_environment(**variables):
    """os.environ with `variables`, without what cli.import_tensorflow may have set in this process."""
    ours = ("TF_CPP_MIN_LOG_LEVEL", "TF_XLA_FLAGS", "XLA_FLAGS", "CUDA_CACHE_MAXSIZE")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **variables}


def run(program, *arguments, check=True, **options):
    """Run `python PROGRAM ARGUMENTS` in the project's root; returns the CompletedProcess, output as text."""
    done = subprocess.run(command(program, *arguments), cwd=ROOT, capture_output=True, text=True, **options)
    if check and done.returncode:
        raise AssertionError(f"{program} {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def wait_until(condition, process=None, seconds=60):
    """Return what condition() returns, once that is true. Fails after `seconds`, or if `process` ends before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, f"the program ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)
    return found


def command(program, *arguments):
    """The command line of a program as a list."""
    return [sys.executable, str(ROOT / program), *map(os.fspath, arguments)]


def error_of(program, *arguments):
    """The one line on stderr of a call that must fail with exit code 1."""
    done = run(program, *arguments, check=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]
