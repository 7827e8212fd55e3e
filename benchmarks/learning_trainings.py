"""The trainings of learning.py: each in processes of its own, kept on disk once it has ended, never repeated.

DIR/SIDE/RATE/ holds a training; its result.json is written last, so that a folder without one is trained again.
"""

import csv
import dataclasses
import os
import shutil
import subprocess
import sys

from bench_harness import commit
from bench_paths import HERE, ROOT

from system import files, tensorflow_loading

tensorflow_loading.import_tensorflow()

import learning_convert  # noqa: E402
import numpy as np  # noqa: E402
from learning_plan import OURS, SIDES  # noqa: E402

import pretrained  # noqa: E402
import ssd_utils  # noqa: E402
from settings.training_settings import TrainingSettings  # noqa: E402
from structures import UserError  # noqa: E402
from training import engine, optimization  # noqa: E402

PRESET = ssd_utils.get_preset("vgg300")


class Trainings:
    """Trains and remembers.

    folder: DIR; task: learning_plan.Task; peer_python: interpreter with PyTorch; environment: of the processes.
    """

    def __init__(self, folder, task, peer_python, environment):
        self._folder, self._task = folder, task
        self._peer_python, self._environment = peer_python, environment

    def result(self, training):
        """The record of a training that has ended, or None."""
        path = self._path(training, "result.json")
        return files.read_json(path) if os.path.exists(path) else None

    def record(self, training):
        """The record of a training, which is done now unless it has ended before.

        A dict {"side", "rate", "commit", "points": [{"images", "seconds", "loss", "voc07"}], "diverged", …}. Raises
        UserError.
        """
        if known := self.result(training):
            return known
        shutil.rmtree(self._path(training), ignore_errors=True)  # what an interrupted call has left
        os.makedirs(self._path(training))
        train = self._train_ours if training.side == OURS else self._train_torch
        record = {"side": training.side, "rate": training.rate, "commit": commit(), **train(training)}
        files.write_json(self._path(training, "result.json"), record)
        return record

    def _path(self, training, *parts):
        return os.path.join(self._folder, *training.name.split("/"), *parts)

    def _train_ours(self, training):
        run = self._path(training, "run")
        code = self._call(training, [sys.executable, ROOT / "train.py", *self._task.flags(training.rate, run)])
        diverged = code != 0 and engine.REMEDY in files.read_text(self._log(training))
        if code and not diverged:
            raise self._failure(training, code)
        path = os.path.join(run, "metrics.csv")
        rows = list(csv.DictReader(files.read_text(path).splitlines())) if os.path.exists(path) else []
        return {"points": points(rows, self._task.pictures), "diverged": diverged}

    def _train_torch(self, training):
        job, vgg, result = (self._path(training, name) for name in ("job.json", "vgg16.npz", "torch.json"))
        np.savez(vgg, **learning_convert.torch_arrays(pretrained.read_vgg(self._task.vgg, PRESET)))
        more = {
            "vgg": vgg,
            "frozen": learning_convert.frozen_names(self._task.freeze),
            "optimizer": SIDES[training.side][1],
            "rates": rates(self._task, training.rate),
            "result": result,
        }
        files.write_json(job, {**dataclasses.asdict(self._task), **more})
        code = self._call(training, [self._peer_python, HERE / "learning_torch.py", job])
        os.remove(vgg)
        if code:
            raise self._failure(training, code)
        return files.read_json(result)

    def _log(self, training):
        return self._path(training, "log.txt")

    def _call(self, training, command):
        """Run a command with its output in the log -> exit code. It ends when this process is interrupted."""
        with (
            open(self._log(training), "w", encoding="utf-8") as log,
            subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=self._environment
            ) as process,
        ):
            try:
                return process.wait()
            except BaseException:
                process.kill()
                process.wait()  # the block's own end waits a moment only
                raise

    def _failure(self, training, code):
        last = files.read_text(self._log(training)).strip().splitlines()[-1:]
        return UserError(
            f"{training.name} ended with exit code {code} ({' '.join(last)[:300]}); see {self._log(training)}; "
            "repeat the command to continue from here"
        )


def points(rows, pictures):
    """The rows of metrics.csv -> the points of a curve, one for each validation.

    pictures: of an epoch. Seconds are those of the training steps, without start, validations and checkpoints.
    """
    found, seconds = [], 0.0
    for row in rows:
        seconds += float(row["seconds"])
        if row["voc07"]:
            point = {"images": int(row["epoch"]) * pictures, "seconds": round(seconds, 2)}
            found.append({**point, "loss": float(row["loss"]), "voc07": float(row["voc07"])})
    return found


def rates(task, rate):
    """The learning rate of each step of a training: train.py's own schedule."""
    settings = TrainingSettings(
        data=task.data,
        train=task.train,
        learning_rate=rate,
        batch_size=task.batch_size,
        epochs=task.epochs,
        schedule="cosine",
        warmup_steps=task.warmup_steps,
    )
    plan = optimization.Plan(settings, task.pictures)
    return [plan.rate(step) for step in range(plan.total_steps)]


def write_random_vgg(path):
    """Write VGG-16's convolutions with random values (He initialization), for --tiny."""
    rng, arrays = np.random.default_rng(0), {}
    for name, shape in pretrained.vgg_shapes(PRESET).items():
        if not name.startswith("fc"):
            spread = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.0
            arrays[name] = (rng.standard_normal(shape, np.float32) * spread).astype(np.float32)
    np.savez(path, **arrays)
