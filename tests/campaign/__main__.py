"""Break the programs on purpose and count what fails: kills, power cuts, full disks, damaged inputs, long runs.

    python tests/campaign kills=200 programs=40 disks=50 trouble=60 fuzz=2000 hours=0.5 seed=1
    make campaign CAMPAIGN="kills=200 fuzz=2000 hours=1"

kills: of trainings, half of them into saving, a tenth each by SIGTERM and SIGINT or with a power cut. programs: kills
of the other programs. disks: trainings on disks that are full. trouble: workers that die or stop, clocks that jump,
two programs in one run, read-only disks. fuzz: damaged inputs of each reader, or of those whose
names begin as in `readers=`. hours: of long runs. What is left out is not done. The exit code is 1 if anything failed.

A campaign may be run in parts, on many days: each call adds a line to docs/reliability.jsonl and writes the page
docs/reliability.md from all lines (`output=` names another page). A call that is interrupted adds what it has done, but
no long run that was under way. Without `seed=`, a call has a seed that none has had, so that it tries something new.
"""

# ruff: noqa: E402, the path must come before the modules

import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

import disks
import fuzz
import kills
import long_runs
import other_programs
import report
import stage
import trouble

PARTS = {"kills": kills, "disks": disks, "programs": other_programs, "trouble": trouble}
DEFAULTS = {
    **dict.fromkeys((*PARTS, "fuzz"), 0),
    "hours": 0.0,
    "seed": -1,
    "readers": "",
    "output": "",
}


def main(words):
    """Run the parts that `words`, such as kills=200, ask for. Returns the exit code."""
    flags = _parse(words)
    page = pathlib.Path(flags.output or ROOT / "docs" / "reliability.md").absolute()
    os.chdir(ROOT)
    earlier = report.read(page)
    if flags.seed < 0:
        flags.seed = 1 + max((one["seed"] for one in earlier), default=-1)
        words = [*words, f"seed={flags.seed}"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start, rows = time.monotonic(), []
    try:
        _try(flags, rows)
    finally:
        report.add(page, rows, words, flags.seed, time.monotonic() - start)
        print(page.read_text("utf-8"))
    return int(any(row.failures for row in rows))


def _try(flags, rows):
    work = pathlib.Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        # Damaged inputs first: what they are made of needs no TensorFlow
        if flags.fuzz:
            fuzz.run(work, flags.fuzz, flags.seed, flags.readers.split(",") if flags.readers else None, rows)
        wanted = {name: part for name, part in PARTS.items() if getattr(flags, name)}
        if wanted or flags.hours:
            place = stage.prepare(work)
            for name, part in wanted.items():
                part.run(place, getattr(flags, name), flags.seed, rows)
            if flags.hours:
                long_runs.run(place, flags.hours, rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parse(words):
    values = dict(DEFAULTS)
    for word in words:
        name, sign, text = word.partition("=")
        if name not in DEFAULTS or not sign:
            sys.exit(f"{word}: give NAME=VALUE, NAME one of {', '.join(DEFAULTS)}")
        values[name] = type(DEFAULTS[name])(text)
    return argparse.Namespace(**values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
