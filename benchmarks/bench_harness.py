"""Measuring two sides in turn, and the JSON line that tells of it.

TensorFlow and PyTorch in one process fight over threads, so each side is a process of its own that lives
through the whole measurement and works only when asked: A, B, A, B, …, the other one idle. What else the
machine did meanwhile is read from the kernel's counters and stands in the line.
"""

import contextlib
import dataclasses
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import psutil
from bench_paths import HERE, ROOT

PAUSE_SECONDS = 0.1  # for the threads of the side that has just worked to fall asleep
NO_PEER = "no PyTorch in the peer's interpreter; `make parity` makes its environment"
HIGHER_IS_BETTER = ("images/s", "frames/s")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the flags say. tiny: sizes of the tests, which measure nothing. quick: fewer runs."""

    quick: bool = False
    tiny: bool = False
    data: str | None = None
    model: str | None = None
    peer_python: str = str(ROOT / ".venv-parity" / "bin" / "python")
    scratch: str = "."

    def choose(self, full, quick, tiny):
        """The value that fits."""
        return tiny if self.tiny else quick if self.quick else full


class Side:
    """A process that does a task whenever `run` is called. `facts` is what its task told of itself."""

    def __init__(self, script, task, options=None, python=sys.executable):
        command = [python, str(HERE / script), task, json.dumps(options or {})]
        self.name = f"{script} {task}"
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.facts = self._read()
        except BaseException:
            self.close()
            raise

    def run(self):
        """Do the task once -> {"seconds", "items", "peak_mb", …}."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}; its message is above")
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def alternate(sides, rounds, warmup=2):
    """Run the sides in turn: for each a list of `rounds` answers. `warmup` rounds before are not counted.

    Returns (answers per side, what is known of the machine meanwhile: see `Others` and `gflops`).
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
    """Speed of a float32 matrix product on all cores: a virtual machine's host may slow it unseen."""
    matrix, times = np.ones((side, side), np.float32), []
    for _ in range(2):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2e-9 * side**3 / min(times)


def spread(values):
    """{"median", "min", "max", "n"} of numbers, to four digits."""
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


def line(name, unit, ours, peer=None, *, target=None, facts=(), peer_facts=(), others, **more):
    """The dict of one JSON line. ours, peer: lists of values in `unit`; peer None where there is none.

    ratio: how many times better our median is than the peer's, whichever way is better in that unit. target:
    the least ratio that the project wants, or without a peer the most that the value may be. facts,
    peer_facts: what else is known of the two, as dicts.
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
    """What repeats a line, paths of this machine left out."""
    flags = [flag for flag in ("quick", "tiny") if getattr(settings, flag)]
    words = ["python benchmarks/bench.py", name, *(f"--{flag}" for flag in flags)]
    words += [f"--{flag} {flag.upper()}" for flag in ("data", "model") if getattr(settings, flag)]
    return " ".join(words)


@functools.cache
def machine():
    """The machine, as far as it decides speed."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = next((row.split(":")[1].strip() for row in file if row.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


class Others:
    """While open: how many cores were busy with processes that are not ours, or stolen by the host.

    Below 0.05 a timing is worth keeping; so much the kernel takes itself.
    """

    def __enter__(self):
        self._start = self._read()
        return self

    def __exit__(self, *_):
        self._end = self._read()

    @staticmethod
    def _read():
        everybody = psutil.cpu_times()
        busy = everybody.user + everybody.system + everybody.nice + everybody.irq + everybody.softirq
        own = 0.0
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                own += sum(process.cpu_times()[:4])  # its own and that of children that have ended
        return time.monotonic(), busy - own, everybody.steal

    def to_json(self):
        """{"others_busy": cores, "stolen": cores}."""
        seconds, busy, stolen = (end - start for end, start in zip(self._end, self._start, strict=True))
        share = max(seconds, 1e-9)
        return {"others_busy": round(max(0.0, busy / share), 3), "stolen": round(stolen / share, 3)}


@functools.cache
def peer_versions(python):
    """{"torch", "torchvision"} of an interpreter, or None if it cannot import them."""
    code = "import json, torch, torchvision as t; print(json.dumps([torch.__version__, t.__version__]))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300)
    except OSError:
        return None
    if done.returncode:
        return None
    return dict(zip(("torch", "torchvision"), json.loads(done.stdout.splitlines()[-1]), strict=True))


def duel(name, ours, peer, *, settings, rounds, unit="images/s", value=rates, target=None, **more):
    """One side of ours against one of the peer's, in turn -> a line.

    ours, peer: (script, task, options); peer None where there is nothing to compare with. Sides of
    bench_torch.py need the peer's interpreter; without PyTorch there the line says so and has no ratio.
    value: list of answers -> list of values in `unit`.
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
