"""Rules for all worker processes: how many, the parent alone handles Ctrl-C, and workers end when the parent ends."""

import contextlib
import glob
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker

from system import signals

# 14 fed 845 images a second, made of photographs, to an H100; more than twice as many outrun any one GPU
MOST_WORKERS = 32
_hiding = threading.Lock()  # two threads would put each other's names back
CLAIM = "single-shot-detector-core"
# Files of Linux's control groups, second and first version, that begin so where a container may use all time
QUOTAS = {"/sys/fs/cgroup/cpu.max": "max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}
GPUS = "CUDA_VISIBLE_DEVICES"  # environment variable of NVIDIA's: which GPUs a process may use
SHARERS = "SSD_TENSORFLOW_SHARERS"  # environment variable: how many processes like this one use these cores together
_claims: list[socket.socket] = []  # names of cores that nobody else can take while this process lives


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get(GPUS)
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    present = [path for path in glob.glob("/dev/nvidia*") if re.fullmatch(r"/dev/nvidia\d+", path)]
    return [str(number) for number in range(len(present))]


def share_of_cores(place: int, count: int) -> list[int] | None:
    """Which cores are those of one of `count` processes; None for all, if there are fewer cores than processes."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    return cores[place * each : (place + 1) * each] or None


@contextlib.contextmanager
def limited_to(cores: Sequence[int] | None) -> Iterator[None]:
    """Context manager: processes started in the block may use these cores only; None for no limit."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def claim_cores(count: int) -> None:
    """Limit this thread, and those that it starts from now on, to `count` cores that no other process has claimed.

    For processes that something else starts, on any machine, which does not say which cores are theirs. They are free
    again when this process ends, however it does. There is no limit if none is free, on a system other than Linux, and
    in a container that may use a part of its machine's time: the system then says which part.
    """
    if not sys.platform.startswith("linux") or _has_quota():
        return
    claimed, cores = [], sorted(os.sched_getaffinity(0))
    first = random.randrange(len(cores))  # containers do not see each other's claims
    for core in cores[first:] + cores[:first]:
        # Linux has names of sockets that are no files, and forgets those of a process that was killed
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0{CLAIM}-{core}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        claimed.append(core)
        if len(claimed) == count:
            break
    if claimed:
        os.sched_setaffinity(0, claimed)


def _has_quota():
    for path, unlimited in QUOTAS.items():
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            return not file.read().startswith(unlimited)
    return False


@contextlib.contextmanager
def with_variable(name: str, value: str) -> Iterator[None]:
    """Context manager: this process, and those started in the block, have this environment variable."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def beside_network() -> int:
    """How many workers or threads should make the input of a network: one a core but two for the network, 2 to 32.

    Of the cores that this process shares with others (SHARERS), its part counts.
    """
    return min(max(2, usable_cores() // int(os.environ.get(SHARERS, 1)) - 2), MOST_WORKERS)


@contextlib.contextmanager
def shielded_from_signals(*numbers: int) -> Iterator[None]:
    """Processes started in the block never receive these signals, even sent to the group: the parent ends them.

    A child inherits blocked signals, so it is shielded from its start. Nor does it import the script that was started.
    """
    resource_tracker.ensure_running()  # otherwise it starts with the first process and unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        with _main_hidden():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_hidden():
    """Processes started in the block do not import what was started as `__main__`, which multiprocessing has them do.

    It may be any script, and one that calls train.main() outside of `if __name__ == "__main__":` would call it again
    in every worker. No worker of ours has anything to do that is defined there.
    """
    main = sys.modules["__main__"]
    with _hiding:
        spec, file = getattr(main, "__spec__", None), vars(main).pop("__file__", None)
        main.__spec__ = None
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not None:
                main.__file__ = file


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """For the start of a process pool: its workers never see Ctrl-C; this process sees a stop at the end of the block.

    Half a pool cannot be ended: it would print tracebacks of its workers, or wait for them forever. Workers do receive
    SIGTERM, which a pool sends to the others when one was killed. The mask covers this thread only; the handler is for
    SIGTERM and for a signal that a library's thread receives. What came does at the end what it would have done before,
    also where the start has failed: `timeout` sends SIGTERM to the workers too, or to the process that forks them.
    """
    received: list[int] = []
    hold = signals.handled(lambda number, _: received.append(number), signal.SIGINT, signal.SIGTERM)
    try:
        with hold, shielded_from_signals(signal.SIGINT):
            yield
    finally:
        for number in dict.fromkeys(received):
            signal.raise_signal(number)


def follow_parent() -> None:
    """Call at the start of a worker: it then exits, even in the middle of a job, once its parent has died."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    parent = multiprocessing.parent_process()
    # False if a fork server started it: then only the pipe shows the end, and a fork of the parent could hold it open
    is_child = os.getppid() == parent.pid
    while parent.is_alive() and (not is_child or os.getppid() == parent.pid):
        parent.join(1)
    os._exit(1)
