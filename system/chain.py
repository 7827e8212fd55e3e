"""Programs run one after another, as a user would run them: what the demo and the recipes are made of."""

import csv
import os
import shlex
import signal
import subprocess
import sys

from structures import UserError
from system import cli, files

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def call(program, *arguments):
    """Run a program of the project as a user would, showing the command. Raises UserError if it fails.

    program: a file such as train.py, or a package that is run with `python -m`.
    """
    arguments = [str(argument) for argument in arguments]
    is_file = program.endswith(".py")
    print(f"\n$ python {program if is_file else f'-m {program}'} {shlex.join(arguments)}", flush=True)
    target = [os.path.join(ROOT, program)] if is_file else ["-m", program]
    with _Child([sys.executable, *target, *arguments]) as child:
        code = child.wait()
    if child.stopped or code == cli.INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"{program} ended with exit code {code}; its message is above; the same call goes on from here")


class _Child:
    """A process that has the time to save itself when we are told to stop.

    Ctrl-C reaches it without us, as all that runs in the terminal; SIGTERM is passed on. Neither ends us before it.
    """

    def __init__(self, command):
        self._command, self.stopped = command, False

    def __enter__(self):
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        paths = filter(None, (ROOT, os.environ.get("PYTHONPATH")))  # a package is found from any folder
        self._process = subprocess.Popen(self._command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        self.wait = self._process.wait
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        self.stopped = True
        if number == signal.SIGTERM:
            self._process.send_signal(number)


def has_begun(run):
    """Whether a training was begun in a run directory, so that --resume goes on with it."""
    return os.path.exists(os.path.join(run, "config.json"))


def last_metrics(run):
    """The last row of a run's metrics.csv, a dict of texts. Raises UserError without one."""
    path = os.path.join(run, "metrics.csv")
    rows = list(csv.DictReader(files.read_text(path).splitlines()))
    if not rows:
        raise UserError(f"{path}: holds no epoch")
    return rows[-1]


class Chain:
    """Programs in a row that go on where an earlier call stopped.

    A stage is left out if the same command finished it before and every stage ahead of it was left out too.
    What has finished is written into a JSON file, {stage: command}.
    """

    def __init__(self, path):
        self._path, self._done, self._all_left_out = path, {}, True
        if os.path.exists(path):
            self._done = files.read_json(path)

    def call(self, stage, program, *arguments, again=()):
        """Run a stage unless it is done. again: more arguments for a program that goes on, not part of the command."""
        command = [program, *(str(argument) for argument in arguments)]
        if self._all_left_out and self._done.get(stage) == command:
            print(f"{stage}: done before", flush=True)
            return
        self._all_left_out = False
        if self._done.pop(stage, None):
            files.write_json(self._path, self._done)
        call(*command, *map(str, again))
        self._done[stage] = command
        files.write_json(self._path, self._done)
