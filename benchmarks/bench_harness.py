"""Measure two sides in turn and report them in a JSON line.

TensorFlow and PyTorch in one process compete for threads, so each side is a process of its own that lives through the
whole measurement and works only when asked: A, B, A, B, …, while the other is idle. The load by other processes
is read from the kernel's counters and is part of the line.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
from bench_paths import HERE, ROOT

from system import cli
from system.load import Others, machine

PAUSE_SECONDS = 0.1  # until the threads of the side that has just worked are idle
NO_PEER = "the peer's interpreter has no PyTorch; `make .venv-parity/.installed` creates its environment"
PEER_PYTHON = ROOT / ".venv-parity" / "bin" / "python"
PEER_PYTHON_HELP = (
    "interpreter with PyTorch and torchvision (default: that of `make .venv-parity/.installed`, else this one)"
)
HIGHER_IS_BETTER = ("images/s", "frames/s")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the flags of bench.py say.

    quick: fewer runs.
    tiny: the tests' sizes, which are too small to measure anything.
    data: folder in VOC layout, or None for the toy road.
    model: a trained model, or None for random weights.
    peer_python: interpreter with PyTorch.
    scratch: folder for temporary files.
    """

    quick: bool = False
    tiny: bool = False
    data: str | None = None
    model: str | None = None
    peer_python: str = sys.executable
    scratch: str = "."

    def choose(self, full, quick, tiny):
        """The value for these settings."""
        return tiny if self.tiny else quick if self.quick else full

    def slim(self):
        """Options of a task that builds a network: 3% of the channels if tiny."""
        return self.choose({}, {}, {"width": 0.03})


class Side:
    """A process that does a task whenever `run` is called.

    facts: what the task reports about itself, a dict.
    """

    def __init__(self, script, task, options=None, python=sys.executable):
        command = [python, str(HERE / script), task, json.dumps(options or {})]
        self.name = f"{script} {task}"
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.facts = self._read()
        except BaseException:
            self._kill()
            raise

    def run(self):
        """Do the task once -> {"seconds", "cpu_seconds" of all its threads, "items", "peak_mb", …}."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}; see its message above")
        return json.loads(line)

    def close(self):
        """End the process by asking: it ends after the task that it does."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _kill(self):
        self._process.kill()
        self._process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """End the process: at once after an error or an interrupt, as a task may take minutes."""
        if kind is None:
            self.close()
        else:
            self._kill()


def alternate(sides, rounds, warmup=2):
    """Run the sides in turn.

    warmup: rounds before the first that counts.
    Returns ([[answer of each round] of each side], state of the machine as from `Others` and `gflops`).
    """
    for _ in range(warmup):
        for side in sides:
            side.run()
    answers, speeds = [[] for _ in sides], []
    with Others() as others:
        for _ in range(rounds):
            speeds.append(gflops())
            for side, collected in zip(sides, answers, strict=True):
                time.sleep(PAUSE_SECONDS)
                collected.append(side.run())
        speeds.append(gflops())
    return answers, {**others.to_json(), "gflops": spread(speeds)}


def gflops(side=1500):
    """Speed of a float32 matrix product on all cores; the host of a virtual machine may slow it down unseen."""
    matrix, times = np.ones((side, side), np.float32), []
    for _ in range(2):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2e-9 * side**3 / min(times)


def spread(values):
    """{"median", "min", "max", "n"} of numbers, rounded to four digits."""
    return {
        "median": _round(statistics.median(values)),
        "min": _round(min(values)),
        "max": _round(max(values)),
        "n": len(values),
    }


def _round(value):
    return float(f"{value:.4g}")


def rates(answers):
    """Items per second of each answer."""
    return [answer["items"] / answer["seconds"] for answer in answers]


def rates_of_a_core(answers):
    """Items per second of a core's time, of each answer; hardly depends on what else the machine does."""
    return [answer["items"] / answer["cpu_seconds"] for answer in answers]


def line(name, unit, ours, peer=None, *, target=None, facts=(), peer_facts=(), others, **more):
    """The dict of one JSON line. Its ratio says how many times better our median is than the peer's in that unit.

    ours, peer: lists of values in `unit`; peer is None if there is none.
    target: the least ratio that the project aims at, or without a peer the largest value.
    facts, peer_facts: what else is known about the two, as dicts.
    others: state of the machine, as from `alternate`.
    more: further items of the line.
    """
    ratio = None
    if peer is not None:
        mine, other = statistics.median(ours), statistics.median(peer)
        ratio = _round(mine / other if unit in HIGHER_IS_BETTER else other / mine)
    return {
        "name": name,
        "unit": unit,
        "ours": {**spread(ours), **dict(facts)},
        "peer": None if peer is None else {**spread(peer), **dict(peer_facts)},
        "ratio": ratio,
        "target": target,
        **more,
        "machine": {**machine(), **others},
    }


def command(name, settings):
    """The command that measures a line again, without paths of this machine."""
    flags = [flag for flag in ("quick", "tiny") if getattr(settings, flag)]
    words = ["python benchmarks/bench.py", name, *(f"--{flag}" for flag in flags)]
    words += [f"--{flag} {flag.upper()}" for flag in ("data", "model") if getattr(settings, flag)]
    return " ".join(words)


def command_line(script, argv):
    """The line that runs a script of this folder again, without folders of this machine: an absolute path is its name.

    argv: as the script's `main` takes it.
    """
    return shlex.join(["python", f"benchmarks/{script}", *map(without_folders, cli.words(argv))])


def without_folders(word):
    """An argument of a command, also LAYOUT=DIR, without folders of this machine."""
    return re.sub(r"(^|=)/(?:[^/]+/)*(?=[^/])", r"\1", word)


def commit(folder=ROOT, form="%h"):
    """The commit of a checkout as text, which says whether files differ from it; None where it is unknown.

    form: as git log has it.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or not os.path.samefile(top, folder):  # such as a copy without .git below another checkout
        return None
    shown, changed = _git(folder, "log", "-1", f"--format={form}"), _git(folder, "status", "--porcelain", "-uno")
    return shown + " with changes" * bool(changed) if shown else None


def _git(folder, *words):
    """What git prints, or None if it fails or there is none."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def named(known):
    """'commit abc' of what `commit` returns."""
    return f"commit {known}" if known else "an unknown commit"


def written_by(header, trained=()):
    """'`python …`, commit abc': the command that wrote a page, and other commits at which its trainings were made.

    header: {"command", "commit"}; trained: the commit of each training, which an earlier call may have made.
    """
    made = f"`{header['command']}`, {named(header['commit'])}"
    if set(trained) <= {header["commit"]}:
        return made
    return f"{made} (trained at {', '.join(map(named, dict.fromkeys(trained)))})"


def peer_python():
    """The path of the interpreter that `make .venv-parity/.installed` creates, or of this one."""
    return str(PEER_PYTHON if PEER_PYTHON.exists() else sys.executable)


def interpreter(text):
    """An argument type: the path of an interpreter, or its name in PATH."""
    if shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: no such program; give the path of an interpreter")
    return text


@functools.cache
def peer_versions(python):
    """{"torch", "torchvision"} of an interpreter, or None if it cannot import them."""
    code = "import json, torch, torchvision as t; print(json.dumps([torch.__version__, t.__version__]))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return dict(zip(("torch", "torchvision"), json.loads(done.stdout.splitlines()[-1]), strict=True))


def duel(name, ours, peer, *, settings, rounds, unit="images/s", value=rates, target=None, **more):
    """Run one side of ours and one of the peer's in turn -> a line.

    ours, peer: (script, task, options); peer is None if there is nothing to compare with. Sides of bench_torch.py need
        the peer's interpreter; if it has no PyTorch, the line says so and has no ratio.
    value: function list of answers -> list of values in `unit`.
    """
    python = sys.executable
    if peer and peer[0] == "bench_torch.py":
        python = settings.peer_python
        if peer_versions(python) is None:
            peer, more = None, {**more, "note": NO_PEER}
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(Side(*ours))]
        if peer:
            sides.append(stack.enter_context(Side(*peer, python=python)))
        answers, others = alternate(sides, rounds, warmup=1 if settings.tiny else 2)
        facts = [
            {**side.facts, "peak_mb": _round(max(answer["peak_mb"] for answer in given))}
            for side, given in zip(sides, answers, strict=True)
        ]
    return line(
        name,
        unit,
        *(value(given) for given in answers),
        target=target,
        facts=facts[0],
        peer_facts=facts[-1],
        others=others,
        **more,
    )
