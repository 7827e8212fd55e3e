"""Detect objects in very many pictures, on one machine or a cluster of them, with Ray Data.

INPUT is a folder of pictures or of tars, a tar, or a list of pictures (.txt, .csv, .parquet): files, or addresses such
as s3://bucket/list.parquet. OUTPUT gets Parquet files with one row per picture: done, unreadable, or quarantined
(it crashed three processes, or the detector fails on it). The same command resumes a stopped job. The program needs
requirements-scale.txt.
"""

import system.environment  # noqa: F401

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Sequence

import config
import pretrained
from formats import class_lists
from many import coco_results, detecting, inputs, job, program, shard
from media import visualization
from scoring import score_threshold
from structures import UserError
from system import cli, own_folders, signals, stopping, wording, worker_processes
from system.argument_parser import ArgumentParser
from system.argument_types import non_negative_float, positive_float, positive_int
from system.wording import plural

FORMAT = "parquet"
KNOCK_SECONDS = 10.0
# Ray talks gRPC, which is HTTP/2: who calls sends this and a frame of settings, an empty one here, and is answered with
# a frame of settings. The fourth byte of a frame is its kind
SETTINGS = b"\4"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    ray = _ray()
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    default = score_threshold.CURVE if flags.coco else visualization.SHOW_THRESHOLD
    threshold = score_threshold.resolve(flags.threshold, model, default)
    with stopping.StopRequest() as stop:
        opener, facts = program.plan(flags, pretrained.fetched(model, stop.raise_if_requested), threshold)
        facts["input"] = flags.input if inputs.is_remote(flags.input) else os.path.abspath(flags.input)
        facts["pictures"] = inputs.fingerprint(facts["input"])
        program.run(
            os.path.abspath(flags.output),
            FORMAT,
            facts,
            lambda: inputs.read(facts["input"]),
            flags.shard_size,
            lambda numbers: _run(ray, flags, opener, numbers, stop),
            flags.coco,
            stop,
        )


def _ray():
    # It would write into our bar that a token is needed, as by default
    if os.environ.get("RAY_AUTH_MODE") != "disabled":
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("infer_many.py needs Ray: pip install -r requirements-scale.txt") from None
    return ray


class _Worker:
    """An actor of Ray, which makes shards one after another. One that dies is started anew, with the same shard."""

    def __init__(self, folder: str, opener: detecting.Opener, workers: int, cores: int):
        """workers: how many there are. cores: of which TensorFlow makes use; 0 for all of the machine."""
        self._folder, self._opener, self._workers, self._cores = folder, opener, workers, cores
        self._open = contextlib.ExitStack()  # for as long as the process lives
        self._detect: shard.Detect | None = None
        self._pace = shard.Pace()

    def __call__(self, row: dict) -> dict:
        """The counts of the shard that a row names, or the error that ends the job: Ray would hide or repeat it."""
        number = int(row["shard"])
        try:
            if self._detect is None:
                if self._cores:
                    worker_processes.claim_cores(self._cores)
                with job.opening(self._folder, self._workers):
                    self._detect = self._open.enter_context(self._opener())
            counts = shard.run(self._folder, number, self._detect, job.PUBLISH[FORMAT], self._pace)
            return {"shard": number, "error": "", "traceback": "", **counts}
        except Exception as error:
            end, trace = shard.end_of_job(error)
            return {"shard": number, "error": end, "traceback": trace, **dict.fromkeys(shard.STATUSES, 0)}


def _run(ray, flags, opener, numbers, stop):
    """Yield (number, {status: pictures}) of each shard once Ray has it done. Raises KeyboardInterrupt upon `stop`."""
    cluster = _cluster(flags)
    try:
        # Where a port is not Ray's, Ray tries for a quarter of an hour, deaf to Python's handlers; nothing can be lost
        # yet. In the place of SIGTERM's Ray puts a handler of its own, which exits with 15 and no word
        with signals.handled(signal.SIG_DFL, *stop.SIGNALS) if cluster else signals.kept(*stop.SIGNALS):
            _start(ray, flags.ray, cluster)
    except SystemExit:
        raise KeyboardInterrupt from None
    try:
        stop.raise_if_requested()
        # Ray may have nothing to give for long, and the workers can be stopped at any moment
        with signals.handled(signals.interrupt, *stop.SIGNALS):
            _check_machines(ray, flags, cluster)
            for row in _rows(ray, flags, opener, numbers):
                if row["error"]:
                    with cli.beside_bars():
                        sys.stderr.write(row["traceback"])
                    raise UserError(row["error"])
                yield row["shard"], {status: row[status] for status in shard.STATUSES}
                stop.raise_if_requested()
    finally:
        ray.shutdown()


def _cluster(flags):
    """The address of a cluster, which Ray also reads from RAY_ADDRESS; None for one that is started here."""
    named = flags.ray or os.environ.get("RAY_ADDRESS")
    return None if named == "local" else named


def _start(ray, address, cluster):
    """Connect to a cluster, or start one. Workers import the project from its folder, which all machines see.

    address: of --ray; cluster: of `_cluster`, None to start one.
    """
    options = {"log_to_driver": False, "configure_logging": False}
    paths = os.pathsep.join(filter(None, (own_folders.ROOT, os.environ.get("PYTHONPATH"))))
    if not cluster:  # inherited, it holds for the processes that Ray starts in advance too, which are ready sooner
        with worker_processes.with_variable("PYTHONPATH", paths):
            ray.init("local", **options)  # by itself Ray joins what `ray start` has started here, or died here
        return
    flag = f"{'--ray' if address else 'RAY_ADDRESS'} {cluster}"
    try:
        _knock(cluster)
        ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": paths}}, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{flag}: no Ray cluster is there ({wording.reason(error).rstrip('.')}); give HOST:PORT of one that "
            "`ray start --head` has started, and RAY_AUTH_MODE=token if it wants a token, or leave it out to use this "
            "machine alone"
        ) from None
    except RuntimeError as error:  # as of another version
        raise UserError(f"{flag}: Ray cannot use this cluster: {' '.join(str(error).split())}") from None


def _knock(address):
    """Raise OSError if nobody answers at HOST:PORT as Ray does, which Ray would not notice for a quarter of an hour."""
    if address == "auto":
        address = _noted_address()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    with socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS) as caller:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):  # then settings come after an exchange of keys
            return
        caller.sendall(HELLO)
        answer = caller.recv(4)
        while 0 < len(answer) < 4 and (more := caller.recv(4 - len(answer))):
            answer += more
        if answer[3:] != SETTINGS:
            raise ConnectionError("what listens there is something else")


def _noted_address():
    """HOST:PORT of the cluster that `ray start` has started last on this machine, "" if there is no note of it."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    with contextlib.suppress(OSError), open(os.path.join(folder, "ray", "ray_current_cluster"), "rb") as file:
        return file.read(1000).decode("utf-8", "replace").strip()
    return ""


def _check_machines(ray, flags, cluster):
    """Refuse what this machine cannot run, for which Ray would wait; of a cluster, which may grow, warn."""
    wanted = {"CPU": flags.cores, "GPU": flags.gpus}
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    if any(all(one.get(kind, 0) >= number for kind, number in wanted.items()) for one in machines):
        return
    has = "; ".join(sorted({", ".join(plural(int(one.get(kind, 0)), kind) for kind in wanted) for one in machines}))
    lacking = f"--cores {flags.cores:g} --gpus {flags.gpus:g}: no machine has as much for a process"
    if not cluster:
        raise UserError(f"{lacking}, this one has {has}; lower them, or name a cluster with --ray")
    cli.warn(f"{lacking}, those of the cluster have {has}; waiting until one comes")


def _rows(ray, flags, opener, numbers):
    """An iterator over what the workers say of each shard."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it would write into our bar
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # requirements-scale.txt ends before
    count = min(flags.workers, len(numbers))
    shards = ray.data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers))
    return shards.map(
        _Worker,
        # Ray keeps count of cores, but lets every process have as many threads as the machine has. What makes pictures
        # for a GPU may need more cores than Ray counts
        fn_constructor_args=(os.path.abspath(flags.output), opener, count, 0 if flags.gpus else int(flags.cores)),
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=flags.cores,
        num_gpus=flags.gpus,
        # By default Ray gives up on a block whose actor died; here a death is noted on disk, and each shard ends
        max_restarts=-1,
        max_task_retries=-1,
    ).iter_rows()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="MODEL", help=config.MODEL_HELP)
    parser.add_argument("input", metavar="INPUT", help="the pictures")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the results, which all machines see")
    program.add_flags(parser.add_argument_group("how it detects"), coco_results.FLAG)
    works = parser.add_argument_group("processes")
    works.add_argument(
        "--workers", type=positive_int, default=1, metavar="N", help="processes, on all machines together"
    )
    works.add_argument(
        "--cores",
        type=positive_float,
        default=1,
        metavar="N",
        help="cores for each process; without a GPU it uses no more than these",
    )
    works.add_argument("--gpus", type=non_negative_float, default=0, metavar="N", help="GPUs for each process")
    works.add_argument(
        "--ray", metavar="ADDRESS", help="address of a Ray cluster (default: one on this machine, for this call)"
    )
    writes = parser.add_argument_group("what it writes")
    writes.add_argument(
        "--shard-size", type=positive_int, default=1000, metavar="N", help="pictures in each output file"
    )
    writes.add_argument(coco_results.FLAG, dest="coco", action="store_true", help=coco_results.HELP)
    flags = parser.parse_args(argv)
    program.tiling(flags)
    if flags.gpus > 1 and not flags.gpus.is_integer():
        raise UserError(f"--gpus {flags.gpus:g}: a process has a part of one GPU, or whole ones")
    if flags.cores < 1 and not flags.gpus:  # of which no process could be kept from using all of the machine
        raise UserError(f"--cores {flags.cores:g}: without --gpus a process needs at least one core; give 1 or more")
    return flags


if __name__ == "__main__":
    cli.run(main)
