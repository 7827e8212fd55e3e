"""Measure this project on a GPU in at most six minutes: is it correct, how fast is it, where does the time go?

Prints one JSON line for each row, the card and its libraries first, and at the end a table in Markdown. Rows come in
the order of their importance; those for which no time is left are listed with that reason. docs/gpu.md explains them.
"""

import bench_environment  # noqa: F401

import contextlib
import os
import pathlib
import sys
import tempfile

import gpu_plan
from bench_harness import PEER_PYTHON_HELP, Settings, commit, peer_python
from gpu_bench import Bench, matches
from gpu_client import Budget, Failed, Worker
from gpu_report import Report

from structures import UserError
from system import cli

BUDGET_SECONDS = 360


def main(argv=None):
    flags = _parse(argv)
    budget = Budget(flags.budget)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-"))
        environment = {**os.environ, "SSD_TENSORFLOW_CACHE": str(pathlib.Path(scratch, "cache"))}
        ours = stack.enter_context(Worker("gpu_ours.py", sys.executable, budget, environment))
        torch = stack.enter_context(Worker("gpu_torch.py", flags.peer_python, budget, environment))
        machine = _machine(ours, flags)
        items = gpu_plan.plan(machine["types"], flags.tiny)
        _check_names(flags.rows, items)
        output = stack.enter_context(open(flags.output, "w", encoding="utf-8")) if flags.output else sys.stdout
        settings = Settings(tiny=flags.tiny, data=flags.data, scratch=scratch)
        bench = Bench(flags, settings, budget, ours, torch, Report(output, machine), environment)
        if flags.trace:
            bench.trace(flags.trace, items[0].sides[0])
        for item in items:
            bench.measure(item)
        report = bench.report
    print("\n" + report.markdown())
    if faults := report.faults():
        raise UserError(f"{len(faults)} rows failed or are not correct: {', '.join(row['row'] for row in faults)}")


def _machine(ours, flags):
    """The dict of the first line. Raises UserError without TensorFlow, or without a GPU unless --tiny."""
    try:
        machine = ours.ask("machine")
    except Failed as error:
        raise UserError(f"TensorFlow does not start: {error}") from None
    if not machine["gpu"] and not flags.tiny:
        raise UserError("TensorFlow sees no GPU; --tiny tries this program out on a CPU (it measures nothing)")
    return {**machine, "tiny": flags.tiny, "commit": commit(), "budget_seconds": flags.budget}


def _check_names(wanted, items):
    names = [name for item in items for name in item.names]
    for pattern in wanted or ():
        if not any(matches(name, [pattern]) for name in names):
            raise UserError(f"--rows {pattern}: no such row; there are {', '.join(dict.fromkeys(names))}")


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--tiny", action="store_true", help="sizes of the tests: shows on a CPU that everything runs, measures nothing")
    add("--output", type=cli.output_file, metavar="FILE", help="write the JSON lines there (default: print them)")
    add(
        "--rows",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="only these, with commas: names of rows, how they begin (step, infer), or patterns with * (default: all)",
    )
    add(
        "--data",
        type=cli.existing_folder,
        metavar="DIR",
        help="photographs in VOC layout for what reads pictures (default: the toy road, drawn anew)",
    )
    add(
        "--budget",
        type=cli.positive_float,
        default=BUDGET_SECONDS,
        metavar="SECONDS",
        help="what all rows may take together",
    )
    add("--trace", type=cli.output_folder, metavar="DIR", help="also trace one training step into this folder")
    add("--peer-python", default=peer_python(), metavar="FILE", help=PEER_PYTHON_HELP)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
