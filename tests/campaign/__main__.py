"""Break the programs on purpose and count what fails: kills, power cuts, full disks, damaged inputs, long runs.

    python tests/campaign kills=200 programs=40 disks=50 fuzz=2000 hours=0.5 seed=1
    make campaign CAMPAIGN="kills=200 fuzz=2000 hours=1"

kills: of trainings, half of them into saving, a tenth each by SIGTERM and SIGINT or with a power cut. programs: kills
of the other programs. disks: trainings on disks that are full. fuzz: damaged inputs of each reader, or of those whose
names begin as in `readers=`. hours: of long runs. What is left out is not done. The table goes to the screen and to
`output=`, docs/reliability.md by default. The exit code is 1 if anything failed.
"""

# ruff: noqa: E402, the path must come before the modules

import argparse
import os
import pathlib
import shutil
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

DEFAULTS = {"kills": 0, "programs": 0, "disks": 0, "fuzz": 0, "hours": 0.0, "seed": 0, "readers": "", "output": ""}


def main(words):
    """Run the parts that `words`, such as kills=200, ask for. Returns the exit code."""
    flags = _parse(words)
    os.chdir(ROOT)
    start = time.monotonic()
    work = pathlib.Path(tempfile.mkdtemp(prefix="campaign-"))
    rows = []
    try:
        # Damaged inputs first: what they are made of needs no TensorFlow
        if flags.fuzz:
            rows += fuzz.run(work, flags.fuzz, flags.seed, flags.readers.split(",") if flags.readers else None)
        if flags.kills or flags.programs or flags.disks or flags.hours:
            place = stage.prepare(work)
            rows += kills.run(place, flags.kills, flags.seed) if flags.kills else []
            rows += disks.run(place, flags.disks, flags.seed) if flags.disks else []
            rows += other_programs.run(place, flags.programs, flags.seed) if flags.programs else []
            rows += long_runs.run(place, flags.hours) if flags.hours else []
    finally:
        shutil.rmtree(work, ignore_errors=True)
    page = report.page(rows, words, time.monotonic() - start)
    print(page)
    (pathlib.Path(flags.output) if flags.output else ROOT / "docs" / "reliability.md").write_text(page, "utf-8")
    return int(any(row.failures for row in rows))


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
