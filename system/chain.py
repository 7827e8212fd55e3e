"""Run programs one after another, as a user would: the base of the demo and the recipes."""

import csv
import glob
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping

from structures import UserError
from system import cli, files, signals
from system.own_folders import ROOT


def call(program: str, *arguments: object) -> None:
    """Print a command of the project and run it. Raises UserError if it fails, KeyboardInterrupt if it is interrupted.

    program: a file such as train.py, or a package that is run with `python -m`.
    """
    words = [str(argument) for argument in arguments]
    is_file = program.endswith(".py")
    print(f"\n$ {cli.command(program, *words)}", flush=True)
    target = [os.path.join(ROOT, program)] if is_file else ["-m", program]
    child = _Child()
    with signals.handled(child.handle, signal.SIGINT, signal.SIGTERM):
        code = child.run([sys.executable, *target, *words])
    if child.stopped or code == cli.INTERRUPTED:
        raise KeyboardInterrupt("interrupted; repeat the command to continue from here")
    if code == cli.FAILURE:
        raise cli.ReportedError(f"{program} ended with exit code {code}; see its message above")
    if code:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise UserError(f"{program} {how}; repeat the command to continue from here")


class _Child:
    """A child process that gets the time to save its work when this process receives a stop signal.

    Each is passed on, also Ctrl-C, which the child has received from the terminal: nothing tells it from a SIGINT that
    somebody sends to this process alone, and a program takes both for one (`signals.REPEAT_SECONDS`). No signal ends
    this process before the child has ended.
    """

    def __init__(self):
        self.stopped = False
        self._process, self._early = None, None  # early: a signal from before there was a process

    def run(self, command):
        """Run a command; returns its exit code."""
        paths = filter(None, (ROOT, os.environ.get("PYTHONPATH")))  # so that packages are found from any folder
        self._process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        if self._early:
            self._process.send_signal(self._early)
        return self._process.wait()

    def handle(self, number, _frame):
        """The handler of both signals while it runs."""
        self.stopped = True
        if self._process:
            self._process.send_signal(number)
        else:
            self._early = number


def has_begun(run: str) -> bool:
    """Whether a run directory holds a training that --resume can continue."""
    return os.path.exists(os.path.join(run, "config.json"))


def keep_settings(folder: str, settings: Mapping[str, object], trained: str) -> None:
    """Write settings.json, unless the folder --run has trainings already. Raises UserError if these have others.

    Only trainings with the same settings can be compared. trained: pattern of files below the folder that a training
    leaves. While there is none, as after a wrong flag, nothing is lost and the settings may change.
    """
    path = os.path.join(folder, "settings.json")
    now = json.loads(json.dumps(settings))  # as it is read
    if not glob.glob(trained, root_dir=folder):
        files.write_json(path, now)
    elif not os.path.exists(path):
        raise UserError(f"--run {folder}: has trainings but no settings.json; restore it, or choose another folder")
    known = files.read_json(path)
    for name in dict.fromkeys((*known, *now)):
        if known.get(name) != now.get(name):
            other = f"{name} {known.get(name)}, not {now.get(name)}"
            raise UserError(f"--run {folder}: has trainings with {other}; choose another folder")


def last_metrics(run: str) -> dict[str, str]:
    """The last row of a run's metrics.csv, all values as text. Raises UserError if there is none."""
    path = os.path.join(run, "metrics.csv")
    rows = list(csv.DictReader(files.read_text(path).splitlines()))
    if not rows:
        raise UserError(f"{path}: holds no epoch")
    return rows[-1]


class Chain:
    """Stages, each a program, that continue where an earlier call stopped.

    A stage is skipped if the same command finished it before and every stage ahead of it was skipped too.
    The finished stages are kept in the JSON file `path`: {stage: command}.
    """

    def __init__(self, path: str):
        self._path, self._done, self._all_skipped = path, {}, True
        if os.path.exists(path):
            self._done = files.read_json(path)

    def is_done(self, stage: str, program: str, *arguments: object) -> bool:
        """Whether `call` would skip a stage."""
        return self._all_skipped and self._done.get(stage) == [program, *map(str, arguments)]

    def call(self, stage: str, program: str, *arguments: object, again: Iterable[object] = ()) -> None:
        """Run a stage unless it is done.

        again: arguments that only continue an earlier call, such as --resume; a stage is compared without them.
        Raises UserError if the program fails.
        """
        command = [program, *map(str, arguments)]
        if self.is_done(stage, *command):
            print(f"{stage}: done before", flush=True)
            return
        self._all_skipped = False
        if self._done.pop(stage, None):
            files.write_json(self._path, self._done)
        call(*command, *map(str, again))
        self._done[stage] = command
        files.write_json(self._path, self._done)
