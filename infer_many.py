"""Detect objects in very many pictures, on one machine or a cluster of them, with Ray Data.

INPUT is a folder of pictures or of tars, a tar, or a list of pictures (.txt, .csv, .parquet): files, or addresses such
as s3://bucket/list.parquet. OUTPUT gets Parquet files, each picture once, as done, unreadable, or quarantined: it has
killed every process that looked at it. The same command goes on after a stop. It needs requirements-scale.txt.
"""

import system.environment  # noqa: F401

import argparse
import os
from collections.abc import Sequence

import config
import pretrained
from formats import class_lists
from many import detecting, inputs, job, shard
from media import visualization
from scoring import score_threshold
from structures import UserError
from system import cli

FORMAT = "parquet"


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    ray = _ray()
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    with cli.StopRequest() as stop:
        model = pretrained.fetched(model, stop.raise_if_requested)
        output = os.path.abspath(flags.output)
        facts = {
            "model": detecting.model_hash(model),
            "threshold": flags.threshold.text if flags.threshold else str(visualization.SHOW_THRESHOLD),
            "classes": flags.classes,
            "input": flags.input if inputs.is_remote(flags.input) else os.path.abspath(flags.input),
        }
        shards = job.begin(output, facts, lambda: inputs.read(facts["input"]), flags.shard_size)
        opener = _opener(flags, model)
        counts = job.work(output, shards, FORMAT, lambda numbers: _run(ray, flags, output, opener, numbers, stop))
    print(f"{job.told(counts)}; see {flags.output}")


def _ray():
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("infer_many.py needs Ray: pip install -r requirements-scale.txt") from None
    return ray


def _opener(flags, model):
    """What opens the detector in a worker, which has another current folder."""
    name = os.path.abspath(flags.model) if model.run is None or os.path.isdir(flags.model) else flags.model
    run, at, which = name.rpartition("@")
    if at and os.path.isdir(run):
        name = f"{os.path.abspath(run)}@{which}"
    threshold = score_threshold.resolve(flags.threshold, model, visualization.SHOW_THRESHOLD)
    wanted = class_lists.parse_classes(flags.classes) if flags.classes else None
    precision = flags.precision or ("float32" if model.is_imported() else "auto")  # as infer.py
    return detecting.Opener(name, threshold, wanted, precision, flags.batch_size)


class _Worker:
    """An actor of Ray, which makes shards one after another. One that dies is started anew, with the same shard."""

    def __init__(self, folder: str, opener: detecting.Opener):
        self._folder = folder
        self._open = opener()
        self._detect = self._open.__enter__()  # for as long as the process lives

    def __call__(self, row: dict) -> dict:
        number = int(row["shard"])
        return {"shard": number, **shard.run(self._folder, number, self._detect, job.PUBLISH[FORMAT])}


def _run(ray, flags, output, opener, numbers, stop):
    """Yield (number, {status: pictures}) of each shard once Ray has it done."""
    # Workers import the project from its folder, which all machines see
    ray.init(
        flags.ray, runtime_env={"env_vars": {"PYTHONPATH": cli.ROOT}}, log_to_driver=False, configure_logging=False
    )
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        done = ray.data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers)).map(
            _Worker,
            fn_constructor_args=(output, opener),
            concurrency=min(flags.workers, len(numbers)),
            num_cpus=flags.cores,
            num_gpus=flags.gpus,
            # By default Ray gives up on a block whose actor died; here a death is noted on disk, and each shard ends
            max_restarts=-1,
            max_task_retries=-1,
        )
        for row in done.iter_rows():
            stop.raise_if_requested()
            yield row["shard"], {status: row[status] for status in shard.STATUSES}
    finally:
        ray.shutdown()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="MODEL", help=config.MODEL_HELP)
    parser.add_argument("input", metavar="INPUT", help="the pictures")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the results, which all machines see")
    detects = parser.add_argument_group("how it detects")
    detects.add_argument(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"write detections that score above X: {score_threshold.HELP} (default: {visualization.SHOW_THRESHOLD})",
    )
    detects.add_argument("--classes", metavar="NAMES", help="look for these only (default: all of the model)")
    detects.add_argument(
        "--batch-size", type=cli.positive_int, metavar="N", help="pictures at once (default: 8, on a GPU 32)"
    )
    detects.add_argument(
        "--precision",
        choices=config.PRECISIONS,
        help="number type of the network (default: auto, chosen for this machine; float32 for imported weights)",
    )
    works = parser.add_argument_group("who works")
    works.add_argument("--workers", type=cli.positive_int, default=1, metavar="N", help="processes, on all machines")
    works.add_argument("--cores", type=cli.positive_float, default=1, metavar="N", help="cores for each process")
    works.add_argument("--gpus", type=cli.non_negative_float, default=0, metavar="N", help="GPUs for each process")
    works.add_argument(
        "--ray", metavar="ADDRESS", help="of a Ray cluster (default: one on this machine, for this call)"
    )
    works.add_argument(
        "--shard-size", type=cli.positive_int, default=1000, metavar="N", help="pictures of a file of the output"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
