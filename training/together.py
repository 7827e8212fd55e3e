"""train.py with several processes: which there are, their start, and how they meet.

The process that the user starts only watches over those that train. Imports no TensorFlow.
"""

import argparse
import contextlib
import dataclasses
import glob
import os
import sys
from collections.abc import Iterator
from typing import Any

import config
from distribution import cluster, group, launcher
from distribution.member import Member
from structures import UserError
from system import cli, files, own_folders, stopping, worker_processes
from system.wording import plural
from training import same_pictures, train_flags
from training.flag_groups import flag_of

PROGRAM = os.path.join(own_folders.ROOT, "train.py")
# May differ from host to host: where its pictures are and how it reads them; other paths; what rank 0 alone does
OF_HOST = ("data", "source", "workers", "cache", "cache_gb", "cache_dir")
OWN = (*OF_HOST, "vgg_weights", "init_from", "events", "save_minutes", "keep_every")


def run(flags: argparse.Namespace, argv: Any) -> bool:
    """Train with several processes if flags or variables ask for it, to the end; False if they do not.

    argv: as `main` takes it. Raises UserError and KeyboardInterrupt as a training of one process does.
    """
    found = cluster.find(os.environ) if flags.devices is None else None
    size = found.size if found else flags.devices or 1
    if size == 1:
        if flags.restarts:
            raise UserError("--restarts: needs several processes; add --devices N")
        return False
    _check(flags, found, size)
    with stopping.StopRequest() as stop:
        try:
            launcher.run(
                lambda start: _command(flags, argv, start),
                lambda: [_place_of(found)] if found else _places_here(size),
                stop,
                flags.restarts,
                lambda: _saved(flags, found),
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(str(interrupt) or f"interrupted; {_saved(flags, found)}") from None
    return True


def _check(flags, found, size):
    """Refuse what several processes cannot do, and wrong flags, before any of them starts."""
    if "show_batch" in flags or flags.find_rate:
        raise UserError(f"{'--find-rate' if flags.find_rate else '--show-batch'}: is for one process; give --devices 1")
    _, settings = train_flags.read(flags, writes=found is None or found.rank == 0)
    if settings.batch_size < size:
        raise UserError(
            f"--batch-size {settings.batch_size}: is less than one image for each of {plural(size, 'process')}; raise "
            "it, or train with fewer processes (--devices)"
        )


def kept_flags(flags: argparse.Namespace) -> tuple[str, ...]:
    """The flags that config.json does not keep, as a resume must have them."""
    given = {"--xla": flags.xla if flags.xla != "auto" else None, "--devices": flags.devices}
    given["--restarts"] = flags.restarts or None
    return (*_words(given), *["--within-data"] * flags.within_data)


def _flags_of_host(flags):
    """The given flags that are this host's own, which a resume needs again: config.json has those of rank 0's host."""
    return _words({flag_of(name): vars(flags).get(name) for name in OF_HOST})


def _words(given):
    """{flag: value, None for none} -> the words of a command."""
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def _command(flags, argv, start):
    """The words that start a rank; from the second start on, of a resume."""
    words = cli.words(argv)
    if start and config.is_run(flags.run) and not flags.resume:
        words = ["--run", flags.run, "--resume", *_flags_of_host(flags), *kept_flags(flags)]
    return [sys.executable, PROGRAM, *words]


def _saved(flags, found):
    if not config.is_run(flags.run):
        if found and found.rank:  # this machine may have another disk than that of rank 0, which writes
            return (
                f"the run is on {cluster.host_of(found.addresses[0])}; a resume needs it on a disk that all hosts see"
            )
        return "nothing is saved yet"
    last = config.read_index(flags.run).get("last")
    own = _flags_of_host(flags) if found else ()
    command = config.resume_command(flags.run, *own, *kept_flags(flags))
    return f"{f'{last} is saved' if last else 'nothing is saved yet'}; continue with: {command}"


def _places_here(size):
    """The places of ranks on this machine."""
    gpus = worker_processes.visible_gpus()
    if gpus and len(gpus) < size:
        raise UserError(
            f"--devices {size}: this machine has {plural(len(gpus), 'GPU')}; CUDA_VISIBLE_DEVICES=-1 takes its cores"
        )
    return [_place(one, gpus) for one in cluster.local(size)]


def _place_of(found):
    """The place of this process, which TF_CONFIG or Slurm names. What started it may have chosen its GPU and cores."""
    if found.neighbors == 1:
        return launcher.Place(found)
    gpus = worker_processes.visible_gpus()
    has_gpu = len(gpus) == 1 and worker_processes.GPUS in os.environ
    # Slurm shows one GPU to each of two tasks where each has its own, and also where the node has no more for them
    has_gpu = has_gpu and _of_slurm("SLURM_GPUS_ON_NODE", found, found.neighbors) >= found.neighbors
    if gpus and len(gpus) < found.neighbors and not has_gpu:
        host = cluster.host_of(found.addresses[found.rank])
        raise UserError(
            f"{host} has {plural(len(gpus), 'GPU')} for {found.neighbors} ranks; start fewer there, or give each a GPU "
            f"with {worker_processes.GPUS}; {worker_processes.GPUS}=-1 takes the cores"
        )
    return _place(found, gpus, has_gpu, _has_its_cores(found))


def _has_its_cores(found):
    """Whether this process is limited to its own share of the cores: by taskset, or by Slurm.

    Slurm may also limit the tasks of a node to the cores of their step (task/cgroup), and leave the division to them.
    Where it binds each to cores of its own, it names them; their number may not tell, as where it counts a core once
    that is two to Linux.
    """
    if found.source == cluster.Source.SLURM and os.environ.get("SLURM_CPU_BIND_TYPE", "").endswith("_cpu:"):
        masks = os.environ.get("SLURM_CPU_BIND_LIST", "").split(",")  # of the tasks on this node
        if len(set(masks)) == found.neighbors:
            return True
    of_all = os.cpu_count() or 1
    return worker_processes.usable_cores() < min(of_all, _of_slurm("SLURM_CPUS_ON_NODE", found, of_all))


def _of_slurm(variable, found, otherwise):
    """How many cores or GPUs the tasks of Slurm's step have on this node; `otherwise` if Slurm does not say."""
    text = os.environ.get(variable, "") if found.source == cluster.Source.SLURM else ""
    return int(text) if text.isdigit() else otherwise


def _place(found, gpus, has_gpu=False, has_cores=False):
    """The place of a rank, with its share of what its machine has: a GPU, or without any GPU as many cores as others.

    has_gpu, has_cores: whether this process has nothing but its share already.
    """
    variables, cores = {}, None
    if gpus and not has_gpu:
        variables[worker_processes.GPUS] = gpus[found.local_index]
    if not has_cores:
        if gpus:  # which cores are near its GPU the system knows better, so only their number counts
            variables[worker_processes.SHARERS] = str(found.neighbors)
        else:
            cores = worker_processes.share_of_cores(found.local_index, found.neighbors)
    return launcher.Place(found, variables, cores)


@contextlib.contextmanager
def joined(rank: Member | None, task: Any, stop: stopping.StopRequest) -> Iterator[Any]:
    """Context manager: the task (a trainer.Task) with its Group, once all ranks have come; as it is without a rank."""
    if rank is None:
        yield task
        return
    with group.joined(rank.cluster, _facts(task), stop, rank.report) as others:
        yield dataclasses.replace(task, group=others)


def _facts(task):
    """What all ranks must have in common."""
    settings = task.settings.to_json()
    facts = {f"--{name.replace('_', '-')}": value for name, value in settings.items() if name not in OWN}
    return {
        **_program(),  # first, since another version may differ in all else
        **facts,
        "--run": os.path.basename(os.path.realpath(task.run)),
        "its classes or its network": task.description.to_json(),
        "the pictures of --train": same_pictures.identity(task.samples),
        "the pictures of --valid": same_pictures.identity(task.valid),
    }


def _program():
    """{file of this project: hash}, of what is no test or benchmark, and no source_NAME.py, which users write."""
    packages = sorted(glob.glob(os.path.join(glob.escape(own_folders.ROOT), "*", "__init__.py")))
    folders = [own_folders.ROOT, *map(os.path.dirname, packages)]
    found = {}
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.py"))):
            if not os.path.basename(path).startswith("source_"):
                found[f"{os.path.relpath(path, own_folders.ROOT)} of this project"] = files.digest(path).hex()
    return found
