"""How much memory is free, and a pause for Python's search for memory that is not used any more."""

import contextlib
import gc
from collections.abc import Iterator

LIMITS = (  # of a container: its limit, what it uses, and the key in its statistics of what can be dropped
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def available() -> int:
    """Free memory of the machine in bytes, or what the container may still use if that is less."""
    free = [_statistics("/proc/meminfo")["MemAvailable:"] * 1024]
    for limit, usage, statistics, droppable in LIMITS:
        with contextlib.suppress(OSError, ValueError, KeyError):  # ValueError: "max"
            used = _number(usage) - _statistics(statistics)[droppable]
            free.append(_number(limit) - max(used, 0))
    return max(min(free), 0)


def total() -> int:
    """Memory of the machine in bytes, or the container's limit if that is less."""
    sizes = [_statistics("/proc/meminfo")["MemTotal:"] * 1024]
    for limit, *_ in LIMITS:
        with contextlib.suppress(OSError, ValueError):
            sizes.append(_number(limit))
    return min(sizes)


def peak() -> int:
    """The most memory that this process has held so far, in bytes; not that of the one that started it."""
    return _statistics("/proc/self/status")["VmHWM:"] * 1024


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Context manager, and decorator, for code that makes a million objects and no cycles.

    The collector of cycles would look at them again and again, a fifth of the time. Objects without cycles are freed as
    always.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _number(path):
    with open(path) as file:
        return int(file.read())


def _statistics(path):
    """{name: number} of a file with a name and a number in each line."""
    with open(path) as file:
        rows = (words for words in map(str.split, file) if len(words) > 1)
        return {words[0]: int(words[1]) for words in rows if words[1].isdecimal()}
