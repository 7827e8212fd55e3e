"""Run the programs as a user does, on a tiny data set, and wait for what they do."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
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
    """os.environ with `variables`, without what import_tensorflow may have set in this process."""
    ours = ("TF_CPP_MIN_LOG_LEVEL", "TF_XLA_FLAGS", "XLA_FLAGS", "CUDA_CACHE_MAXSIZE")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **variables}


def run(program, *arguments, check=True, **options):
    """Run `python PROGRAM ARGUMENTS` in the project's root; returns the CompletedProcess, output as text.

    With options, those of subprocess.run, it starts a new Python, as a user does; else `program_server` saves the time.
    """
    argv = command(program, *arguments)
    done = None if options or "--xla" in arguments else _Server.run(argv)
    if done is None:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, **options)
    if check and done.returncode:
        raise AssertionError(f"{program} {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


class _Server:
    """The client of `program_server`, which is started when the first program is."""

    _READ_AT_IMPORT = re.compile("(TF_|XLA_|CUDA_|OMP_|MKL_|OPENBLAS_|MALLOC_|LD_|PYTHON|MPL)")
    _process = None
    _busy = threading.Lock()

    @classmethod
    def run(cls, argv):
        """The CompletedProcess of a command line; None if it cannot be forked just now."""
        if not cls._busy.acquire(blocking=False):
            return None
        try:
            environment = fresh_environment()
            if cls._process is None:
                started = [sys.executable, str(ROOT / "tests" / "program_server.py")]
                cls._process = subprocess.Popen(
                    started, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                cls._environment = environment
            if cls._at_import(environment) != cls._at_import(cls._environment):
                return None
            return cls._answer(argv, environment)
        finally:
            cls._busy.release()

    @classmethod
    def _answer(cls, argv, environment):
        with tempfile.TemporaryDirectory() as folder:
            out, err = pathlib.Path(folder, "out"), pathlib.Path(folder, "err")
            out.touch()
            err.touch()
            request = {"argv": argv[1:], "cwd": str(ROOT), "env": environment, "stdout": str(out), "stderr": str(err)}
            print(json.dumps(request), file=cls._process.stdin, flush=True)
            code = int(cls._process.stdout.readline())
            return subprocess.CompletedProcess(argv, code, out.read_text("utf-8"), err.read_text("utf-8"))

    @classmethod
    def _at_import(cls, environment):
        return {name: value for name, value in environment.items() if cls._READ_AT_IMPORT.match(name)}


def wait_until(condition, process=None, seconds=60):
    """Return what condition() returns, once that is true. Fails after `seconds`, or if `process` ends before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, f"the program ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)
    return found


def value_of(arguments, flag):
    """What a command line has after a flag."""
    return arguments[arguments.index(flag) + 1]


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
