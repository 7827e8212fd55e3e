"""Where a campaign takes place: pictures, a trained model, and programs as forks of a process with TensorFlow loaded.

Loading it takes each program seconds, which a fork saves. The process itself never opens a session: TensorFlow's
threads would not be in its forks.
"""

import argparse
import contextlib
import ctypes
import io
import os
import pathlib
import signal
import sys
import time
import traceback

from programs import TINY, write_shapes
from system import cli, tensorflow_loading

PATIENCE = 900  # seconds after which a program counts as hanging: machines are shared
PR_SET_PDEATHSIG = 1  # of prctl
STEPS = 20  # of a training
TRAINING = [*TINY, "--workers", "0", "--deterministic", "--save-minutes", "0.0001", "--epochs", str(STEPS // 5)]


class Ended:
    """How a program ended. code: its exit code, negative for a signal, None if it hung. output: of both streams."""

    def __init__(self, code, output):
        self.code, self.output = code, output

    def fault(self, codes=(0,)):
        """Why this is no proper end, or None: another exit code than `codes`, or a traceback."""
        if self.code is None:
            return f"hung for {PATIENCE} s"
        last = self.output.strip().splitlines()[-1:] or ["no output"]
        if "Traceback" in self.output:
            return f"traceback: {last[0][:300]}"
        return None if self.code in codes else f"exit code {self.code}: {last[0][:300]}"

    def error(self):
        """The text of its one line of error, "" if there is none."""
        return next((line for line in self.output.splitlines() if line.startswith("error: ")), "")


def prepare(work):
    """Make the stage in a folder: pictures of shapes, and an untouched training on them."""
    data = write_shapes(work / "data", {"train": 18, "val": 4})
    _load()
    flags = ["--data", str(data), "--train", "train", *TRAINING]
    unbroken = work / "unbroken"
    ended = start(train_main([*flags, "--run", str(unbroken)]), work / "log").wait()
    assert ended.code == 0, ended.output
    return argparse.Namespace(work=work, data=data, flags=flags, unbroken=unbroken, log=work / "log")


def _load():
    tensorflow_loading.import_tensorflow()
    import detector
    import infer
    import process_video
    import runs
    import train
    from training import trainer

    assert detector and infer and process_video and runs and train and trainer


def train_main(arguments):
    """A function that runs train.py."""

    def call():
        import train

        train.main(arguments)

    return call


class Program:
    """A fork that runs a function as cli.run does."""

    def __init__(self, pid, log):
        self.pid, self._log, self._status = pid, log, None

    def poll(self):
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def kill(self, number=signal.SIGKILL):
        """Send a signal, unless it has ended."""
        if not self.poll():
            os.kill(self.pid, number)

    def wait(self, seconds=PATIENCE):
        """Wait for the end: an Ended."""
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return Ended(None, self._read())
            time.sleep(0.01)
        return Ended(os.waitstatus_to_exitcode(self._status), self._read())

    def _read(self):
        return pathlib.Path(self._log).read_text("utf-8", "replace")


def become_child():
    """Call it in a fork: it ends with the campaign, and gets signals as a program does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def start(function, log, before=None):
    """Run function() in a fork; before(): called there first."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Program(pid, log)
    code = 1
    try:
        become_child()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True, write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True, write_through=True)
        if before:
            before()
        cli.run(function)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        os._exit(code)


def check(function, log):
    """function() in a fork, where it may read checkpoints: None, or why it failed."""
    ended = start(function, log).wait()
    return None if ended.code == 0 else (ended.output.strip().splitlines() or ["no output"])[-1][:300]


def sound(run, step, unbroken=None):
    """A function that raises AssertionError unless a run is whole, at `step` or later, and at its end as `unbroken`."""

    def call():
        import csv

        import numpy as np

        import config
        import detector
        import runs

        config.read_config(str(run))
        state = runs.last_state(str(run))
        if state is None:
            assert step == 0, f"no checkpoint, where step {step} was saved"
            return
        assert state.step >= step, f"step {state.step}, where step {step} was saved"
        weights = detector.read_weights(config.checkpoint_prefix(str(run), "last"))
        assert all(np.isfinite(one).all() for one in weights.values()), "weights are not finite"
        with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1)), "metrics.csv has gaps"
        if unbroken:
            theirs = detector.read_weights(config.checkpoint_prefix(str(unbroken), "last"))
            assert all((weights[name] == value).all() for name, value in theirs.items()), "other weights at the end"

    return call


def step_of(run):
    """The step of a run's last checkpoint, 0 if there is none."""
    import runs

    try:
        state = runs.last_state(str(run))
    except Exception:
        return 0
    return state.step if state else 0
