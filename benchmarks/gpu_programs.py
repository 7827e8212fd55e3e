"""The project's programs, watched from outside: when their first result comes, and how many a second follow."""

import contextlib
import csv
import dataclasses
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from bench_paths import ROOT
from gpu_client import Failed, Missing

from system import environment

PROGRESS = re.compile(rb"(?:([^\r\n:|]*): )? *\d+%[^\r\n]*?(\d+)/(\d+) \[")  # of tqdm
EPOCH = "epoch "  # how the names of train.py's bars begin
WARMED_UP = 0.25  # share of the work after which the speed counts
FRAME = (1280, 720)
CORES = len(os.sched_getaffinity(0))
PICTURES = 500  # of the toy road, as many as bench_pictures.folder draws
# How cuDNN tries its algorithms in train.py's first step, by the name that is in the row: variables of the environment
TRIALS = {
    "": {},
    "tuned": {"TF_CUDNN_USE_AUTOTUNE": "1"},
    "unchecked": {"TF_CUDNN_USE_AUTOTUNE": "1", "TF_DISABLE_RZ_CHECK": "1"},
}
EPOCH_PICTURES = 5000  # by which the ends of epochs are judged


class Point(NamedTuple):
    """A look at a progress bar.

    seconds: since the program's start; done: results, of `total`; bar: its name, "" without one
    """

    seconds: float
    done: int
    total: int
    bar: str


class Sight(NamedTuple):
    """What was seen of a program: the Points of its progress bars, from the first result on."""

    points: list[Point]

    def first_seconds(self, bar=""):
        """From its start to the first result of a bar whose name begins so. Raises Failed."""
        for point in self.points:
            if point.bar.startswith(bar):
                return point.seconds
        raise Failed(f"its progress bar {bar!r} was not seen")

    def rate(self):
        """Results a second of its only bar, from the first look after WARMED_UP to its end. Raises Failed."""
        warm = [point for point in self.points if point.done >= WARMED_UP * point.total]
        return _rate(warm[0], warm[-1])

    def between_epochs(self):
        """(seconds between train.py's last two epochs, images a second in the last one). Raises Failed."""
        epochs = {}
        for point in self.points:
            if point.bar.startswith(EPOCH):
                epochs.setdefault(point.bar, []).append(point)
        if len(epochs) < 2:
            raise Failed("its progress bars of two epochs were not seen")
        *_, before, last = epochs.values()
        rate = _rate(last[0], last[-1])
        return last[0].seconds - before[-1].seconds - last[0].done / rate, rate


def _rate(first, last):
    if last.done == first.done:
        raise Failed("too little work to measure a speed")
    return (last.done - first.done) / (last.seconds - first.seconds)


def watch(arguments, budget, variables, points=None):
    """Run `python PROGRAM ARGUMENTS` -> Sight. Raises Failed, and OutOfTime when the budget ends first.

    variables: of its environment; points: a list that has all Points until then, also where it fails.
    """
    points = [] if points is None else points
    command = [sys.executable, str(ROOT / arguments[0]), *map(str, arguments[1:])]
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"TQDM_MININTERVAL": "0.01", **variables},
        start_new_session=True,
    )
    with process:
        try:
            text = _read_progress(process, budget, start, points)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode:
        raise Failed(f"{arguments[0]}: {_last_line(text)}")
    return Sight(points)


def _read_progress(process, budget, start, points):
    """All of stderr until the program closes it. points: a list, to which what is seen is added."""
    text, seen = b"", 0
    while True:
        ready, _, _ = select.select([process.stderr], [], [], budget.left())
        if not ready:
            raise budget.ended()
        piece = os.read(process.stderr.fileno(), 1 << 16)
        if not piece:
            if not points and process.wait() == 0:
                raise Failed("its progress bar was not seen")
            return text
        text += piece
        for match in PROGRESS.finditer(text, seen):
            seen = match.end()
            bar, done, total = match.groups(b"")
            if int(done):
                name = bar.decode(errors="replace").strip()
                points.append(Point(time.monotonic() - start, int(done), int(total), name))


def _last_line(text):
    lines = text.decode(errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1] if lines else "failed without a message"


def lacking():
    """Why the programs do not start, which want all packages, or None."""
    if not (names := environment.missing()):
        return None
    return (
        f"this Python has no {', '.join(names)}, without which the programs do not start; "
        f"first run: {environment.remedy(environment.ROOT, sys.prefix)}"
    )


def _need_packages():
    """Raise Missing where the programs do not start, before anything is drawn for them."""
    if reason := lacking():
        raise Missing(reason)


class Programs:
    """The programs on the toy road or --data, with an exported graph of random weights.

    The public methods yield (name of a result, its figures), each as soon as it is known, and raise Failed.

    settings: bench_harness.Settings, of which tiny, data and scratch count; ours, pictures: the gpu_client.Workers of
    those sides; budget: gpu_client.Budget; variables: of the programs' environment.
    """

    def __init__(self, settings, ours, pictures, budget, variables):
        self._settings, self._ours, self._pictures = settings, ours, pictures
        self._budget, self._variables = budget, variables
        self._scratch = pathlib.Path(settings.scratch)

    def train(self, batch, xla, trials=""):
        """Two starts of train.py, first with empty caches, then with those of the first: three results.

        trials: in the first step, a key of TRIALS.
        """
        _need_packages()
        name = f"{xla}-{trials}-{batch}"
        cache = self._scratch / f"cache-{name}"
        variables = {**self._variables, "SSD_TENSORFLOW_CACHE": str(cache), "CUDA_CACHE_PATH": str(cache / "cuda")}
        variables |= TRIALS[trials]
        runs = [self._scratch / f"run-{name}-{start}" for start in ("first", "second")]
        flags = self._training_flags(batch, xla)
        yield from self._start("first start", [*flags, "--run", runs[0], "--max-steps", 1], variables)
        yield from self._start("second start", [*flags, "--run", runs[1]], variables)
        with open(runs[1] / "metrics.csv", newline="", encoding="utf-8") as file:
            epochs = [float(row["images_per_second"]) for row in csv.DictReader(file)]
        yield "speed", {"value": epochs[-1], "epochs": len(epochs)}

    def _start(self, name, arguments, variables):
        """Run train.py to its end; its first step is a result also where it does not come to it."""
        points = []
        try:
            watch(arguments, self._budget, variables, points)
        except Failed:
            if any(point.bar.startswith(EPOCH) for point in points):
                yield name, {"value": Sight(points).first_seconds(EPOCH)}
            raise
        yield name, {"value": Sight(points).first_seconds(EPOCH)}

    def epoch_end(self, batch):
        """What validation of PICTURES, records and a checkpoint take, in percent of an epoch of EPOCH_PICTURES."""
        _need_packages()
        flags = self._training_flags(batch, "off")
        split = flags[flags.index("--train") + 1]
        run = self._scratch / f"run-epoch-end-{batch}"
        sight = watch([*flags, "--valid", split, "--run", run], self._budget, self._variables)
        seconds, rate = sight.between_epochs()
        share = 100 * seconds * rate / EPOCH_PICTURES
        yield "", {"value": share, "seconds": round(seconds, 3), "images_per_second": round(rate, 1)}

    def _training_flags(self, batch, xla):
        pictures, repeat, epochs = self._settings.choose((PICTURES, 8, 2), (PICTURES, 8, 2), (12, 1, 2))
        data, split, classes = self._made("training_data", count=pictures)
        limit = ["--limit", pictures, "--repeat", repeat]
        model = ["--vgg-weights", "none", "--width", self._settings.choose(1.0, 1.0, 0.03), "--precision", "auto"]
        workers = ["--workers", self._settings.choose(CORES, CORES, 1)]
        where = ["--data", data, "--train", split, "--classes", ",".join(classes)]
        return ["train.py", *where, *limit, *model, *workers, "--batch-size", batch, "--epochs", epochs, "--xla", xla]

    def data(self):
        """Batches of 8 from worker processes, one for each core, with nobody who trains on them."""
        count, batches = self._settings.choose((PICTURES, 40 * CORES), (PICTURES, 40 * CORES), (12, 3))
        with self._pictures:  # it ends, and with it those worker processes
            figures = self._made("pipeline", count=count, workers=CORES, batches=batches)
        yield "", figures

    def infer(self, batch):
        """infer.py on a folder, pictures drawn and written."""
        _need_packages()
        count = self._settings.choose(1500, 1500, 12)
        folder = self._made("folder", count=count)
        output = self._scratch / f"infer-{batch}"
        yield from self._one(["infer.py", self._model(), folder, "--output", output, "--batch-size", batch])

    def process_video(self, batch):
        """process_video.py on a video of FRAME."""
        _need_packages()
        frames = self._settings.choose(600, 600, 12)
        film = self._made("film", frames=frames, size=FRAME)
        output = self._scratch / f"film-out-{batch}.mp4"
        yield from self._one(["process_video.py", self._model(), film, output, "--batch-size", batch])

    def _one(self, arguments):
        sight = watch(arguments, self._budget, self._variables)
        yield "", {"value": sight.rate(), "first_seconds": round(sight.first_seconds(), 2)}

    def _model(self):
        path = self._scratch / "random.pb"
        if not path.exists():
            width = self._settings.choose(1.0, 1.0, 0.03)
            self._ours.ask("random_model", path=str(path), width=width, pictures=self._made("some"))
        return path

    def _made(self, question, **options):
        """What the side of the pictures answers."""
        return self._pictures.ask(question, settings=dataclasses.asdict(self._settings), **options)
