"""Measure the speed and memory of this project, and of its peers if PyTorch is installed. Prints a JSON line for each.

A line holds {name, unit, ours: {median, min, max, n}, peer: the same or null, ratio, command, machine}. The ratio says
how many times better our median is than the peer's; the two run in turn. machine.others_busy is the number of cores
that other processes kept busy meanwhile, machine.gflops the speed of the machine between the runs: do not quote a line
whose others_busy is above 0.05 or whose gflops vary widely.
"""

import bench_environment  # noqa: F401

import json
import sys
import tempfile
import traceback

import bench_convolutions
import bench_cost
import bench_data
import bench_networks
import bench_pictures
import bench_programs
from bench_harness import PEER_PYTHON_HELP, Settings, command, interpreter, peer_python
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import config
from structures import UserError
from system import cli, files
from system.argument_parser import ArgumentParser
from system.argument_types import existing_folder, output_file
from system.wording import plural

BENCHMARKS = {
    **bench_networks.BENCHMARKS,
    **bench_data.BENCHMARKS,
    **bench_programs.BENCHMARKS,
    **bench_convolutions.BENCHMARKS,
}
# What few need: who changes kernels/, and who trains with several processes
ON_REQUEST = (*bench_convolutions.BENCHMARKS, "training-processes", "training-pieces")
NEEDS_MODEL = ("after-network-trained", "tracking")  # without --model they are skipped unless they are named


def main(argv=None):
    flags = _parse(argv)
    usual = [name for name in BENCHMARKS if name not in ON_REQUEST]
    wanted = flags.names or [name for name in usual if flags.model or name not in NEEDS_MODEL]
    if unknown := [name for name in wanted if name not in BENCHMARKS]:
        raise UserError(f"{unknown[0]}: no such benchmark; choose from {', '.join(BENCHMARKS)}")
    _check(flags)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        settings = Settings(
            quick=flags.quick,
            tiny=flags.tiny,
            data=flags.data,
            model=flags.model,
            peer_python=flags.peer_python,
            scratch=scratch,
        )
        if flags.cost:
            _write_cost(flags.cost, settings)
        else:
            _measure(wanted, settings)


def _check(flags):
    """Raise UserError for what a benchmark would find wrong after minutes."""
    if flags.cost and flags.names:
        raise UserError(f"--cost {flags.cost}: measures none of {', '.join(flags.names)}; leave out one or the other")
    if flags.model:
        config.find_model(flags.model)
    if flags.data:
        bench_pictures.split_and_classes(flags.data)


def _measure(wanted, settings):
    """Print the lines of benchmarks. One that fails costs no other its line; UserError at the end then names it."""
    failed = []
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        for line in _lines(name, settings, failed):
            print(json.dumps(line, ensure_ascii=False), flush=True)
    if failed:
        raise UserError(f"{plural(len(failed), 'benchmark')} failed: {', '.join(failed)}; see above")


def _lines(name, settings, failed):
    """Yield the lines of a benchmark. If it fails, says so and adds its name to the list `failed`."""
    try:
        for line in BENCHMARKS[name](name, settings):
            yield {**line, "command": command(name, settings)}
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        cli.warn(f"{name} failed: {error}")
        failed.append(name)


def _write_cost(path, settings):
    """Write the page on costs after each table, so that an interrupted call leaves the tables so far."""
    tables = []
    for table in bench_cost.series(settings):
        tables.append(table)
        print(f"{table[0]}: done", file=sys.stderr, flush=True)
        files.write(path, bench_cost.page(tables, settings, path))


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"benchmarks to run (default: all but {', '.join(ON_REQUEST)}): {', '.join(BENCHMARKS)}",
    )
    add("--quick", action="store_true", help="fewer runs: 3 minutes instead of 20")
    add("--tiny", action="store_true", help="tiny sizes, for tests: shows that everything runs, but measures nothing")
    add(
        "--data",
        type=existing_folder,
        metavar="DIR",
        help="photographs in VOC layout, for benchmarks that read pictures (default: a newly drawn toy road)",
    )
    add("--model", metavar="RUN", help="a trained model, for benchmarks that detect (default: random weights)")
    add(
        "--cost",
        type=output_file,
        metavar="FILE",
        help="instead, write a page on how our cost grows with sizes, such as docs/cost.md (20 minutes)",
    )
    add("--peer-python", type=interpreter, default=peer_python(), metavar="FILE", help=PEER_PYTHON_HELP)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
