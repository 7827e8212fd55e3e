"""Measure this project on a GPU in at most six minutes: is it correct, how fast is it, where does the time go?

Prints one JSON line for each row, the card and its libraries first, and at the end a table in Markdown. Rows come in
the order of their importance; those for which no time is left are listed with that reason. docs/gpu.md explains them.
"""

import bench_environment  # noqa: F401

import contextlib
import os
import pathlib
import signal
import sys
import tempfile

import bench_pictures
import gpu_plan
import gpu_programs
from bench_harness import PEER_PYTHON_HELP, Settings, commit, interpreter, peer_python
from gpu_bench import Bench, matches
from gpu_client import Budget, Failed, Worker
from gpu_report import Report

from structures import UserError
from system import cli, signals
from system.argument_parser import ArgumentParser
from system.argument_types import existing_folder, output_file, output_folder, positive_float

BUDGET_SECONDS = 360


def main(argv=None):
    flags = _parse(argv)
    if flags.data:
        bench_pictures.split_and_classes(flags.data)  # a wrong folder shows now, not after minutes that are paid
    if reason := gpu_programs.lacking():
        cli.warn(f"{reason}. Until then the rows of train.py, infer.py and process_video.py are skipped")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_stopped_once())
        bench, items = _bench(flags, stack)
        try:
            if flags.trace:
                bench.trace(flags.trace, items[0].sides[0])
            for item in items:
                bench.measure(item)
        finally:  # also where it is stopped; ahead of the sides' end, which may take a while
            print("\n" + bench.report.markdown(), flush=True)
    if faults := bench.report.faults():
        raise UserError(f"{len(faults)} rows failed or are not correct: {', '.join(row['row'] for row in faults)}")


def _bench(flags, stack):
    """(Bench, items of the plan). stack: an ExitStack that ends the sides and removes the scratch folder."""
    budget = Budget(flags.budget)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-"))
    environment = {**os.environ, "SSD_TENSORFLOW_CACHE": str(pathlib.Path(scratch, "cache"))}
    pythons = {"ours": sys.executable, "torch": flags.peer_python, "pictures": sys.executable}
    workers = {
        side: stack.enter_context(Worker(f"gpu_{side}.py", python, budget, environment))
        for side, python in pythons.items()
    }
    machine = _machine(workers["ours"], flags)
    items = gpu_plan.plan(machine["types"], flags.tiny)
    _check_names(flags.rows, items)
    output = sys.stdout
    if flags.output:
        output = stack.enter_context(open(flags.output, "w", encoding="utf-8"))  # noqa: SIM115, the stack closes it
    settings = Settings(tiny=flags.tiny, data=flags.data, scratch=scratch)
    return Bench(flags, settings, budget, workers, Report(output, machine), environment), items


def _stopped_once():
    """Context manager: SIGTERM, as at the end of a lease, and SIGHUP end this process as Ctrl-C does.

    Only the first does, since `timeout` sends two: the second must not disturb the tidying. With nohup, SIGHUP stays
    ignored.
    """
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]

    def stop(*_):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    return signals.handled(stop, *numbers)


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
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--tiny", action="store_true", help="sizes of the tests: shows on a CPU that everything runs, measures nothing")
    add("--output", type=output_file, metavar="FILE", help="write the JSON lines there (default: print them)")
    add(
        "--rows",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="only these, with commas: names of rows, how they begin (step, infer), or patterns with * (default: all)",
    )
    add(
        "--data",
        type=existing_folder,
        metavar="DIR",
        help="photographs in VOC layout for what reads pictures (default: the toy road, drawn anew)",
    )
    add(
        "--budget",
        type=positive_float,
        default=BUDGET_SECONDS,
        metavar="SECONDS",
        help="what all rows may take together",
    )
    add("--trace", type=output_folder, metavar="DIR", help="also trace one training step into this folder")
    add("--peer-python", type=interpreter, default=peer_python(), metavar="FILE", help=PEER_PYTHON_HELP)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
