"""What decides a timing on this machine beside the program: the processor, and what other programs take of it."""

import contextlib
import functools
import os
import platform
import time
from typing import Any

from system import worker_processes

TICKS = os.sysconf("SC_CLK_TCK")  # of the kernel's counters, a second


@functools.cache
def machine() -> dict[str, Any]:
    """{"cpu": its name, "cores": that this process may use, "memory_gb": of the machine, "python": its version}."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = next((row.split(":")[1].strip() for row in file if row.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": worker_processes.usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
    }


class Others:
    """Measures, while open, how many cores other processes kept busy and how many the host took away.

    Its own are this process and all below it. The kernel itself takes up to 0.05 cores; below that a timing is
    reliable.
    """

    def __enter__(self):
        self._start = self._read()
        return self

    def __exit__(self, *_):
        self._end = self._read()

    @staticmethod
    def _read():
        with open("/proc/stat") as file:
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, file.readline().split()[1:9])
        busy = user + nice + system + interrupts + soft - _own_ticks()
        return time.monotonic(), busy / TICKS, stolen / TICKS

    def to_json(self) -> dict[str, float]:
        """{"others_busy": cores, "stolen": cores}, once it is closed."""
        seconds, busy, stolen = (end - start for end, start in zip(self._end, self._start, strict=True))
        share = max(seconds, 1e-9)
        return {"others_busy": round(max(0.0, busy / share), 3), "stolen": round(stolen / share, 3)}


def resident_mb(number: int) -> float:
    """The memory in MB that a process and those below it hold; 0 if it has ended."""
    return sum(int(fields[21]) for fields in _family(number)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _own_ticks():
    """What this process and those below it have worked, with their children that have ended."""
    return sum(sum(map(int, fields[11:15])) for fields in _family(os.getpid()))


def _family(number):
    """The fields of /proc/NUMBER/stat, from the state on, of a process and of all below it."""
    fields = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", errors="replace") as file:  # it may have ended
            # After the name, which may hold spaces, and ends within a letter where the system cuts it
            fields[int(name)] = file.read().rpartition(")")[2].split()
    family, found = set(), {number}
    while found:
        family |= found
        found = {one for one, (_, parent, *_) in fields.items() if int(parent) in found}
    return [fields[one] for one in family if one in fields]
