"""Give every reader damaged inputs, in child processes with limits of time and memory; count what is no clear line."""

import contextlib
import functools
import gc
import os
import random
import resource
import signal
import sys
import time
import traceback

import damage
import readers
import stage
from report import Row

SECONDS = 10  # of a processor that one input may take
ASLEEP = 120  # seconds without any progress after which an input counts as waiting for ever: machines are shared
MEMORY = 1500  # MB that it may take
AT_ONCE = 200  # inputs of one child


def run(work, count, seed, wanted, rows):
    """`count` damaged inputs of each reader, or of those whose names begin as one of `wanted`; appends their Rows."""
    place = work / "fuzz"
    place.mkdir()
    for name, (folder, files, read) in sorted(readers.prepare(place, wanted).items()):
        row = Row(f"damaged: {name}", f"one line, in {SECONDS} s and {MEMORY} MB")
        rows.append(row)
        whole = {path: path.read_bytes() for path in files}
        _child(row, whole, read, seed, [None], folder, place)  # the whole input must be read
        row.tries = 0
        number = 0
        while number < count:
            number = _child(row, whole, read, seed, range(number, min(number + AT_ONCE, count)), folder, place)
        for path, content in whole.items():
            path.write_bytes(content)
        print(
            f"fuzz: {name}: {row.tries} inputs, {len(row.failures)} failed", *row.failures[:3], sep="\n  ", flush=True
        )


def _child(row, whole, read, seed, numbers, folder, place):
    """Read the inputs of these numbers in a child -> the number to go on with: after one that ended the child."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _work(writer, whole, read, row.what, seed, numbers)
    os.close(writer)
    last, told = None, []
    try:
        last = _listen(pid, reader, told)
    finally:  # also if the campaign is interrupted: what was told counts
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        lines = b"".join(told).decode().splitlines()
        row.tries += sum(line.startswith("begin ") for line in lines)
        row.failures += [line.removeprefix("fault ") for line in lines if line.startswith("fault ")]
    if lines and lines[-1] == "done":
        return numbers[-1] + 1 if numbers[0] is not None else 0
    number = lines[-1].split()[1] if lines else "0"
    row.failures.append(f"input {number}: {last or f'the process ended with {os.waitstatus_to_exitcode(status)}'}")
    return int(number) + 1 if number != "None" else 0


def _listen(pid, reader, told):
    """Append what a child tells to `told`, until its end -> how it hung, or None."""
    since, used = time.monotonic(), 0.0
    with open(reader, "rb", buffering=0) as pipe:
        os.set_blocking(reader, False)
        while True:
            got = pipe.read(1 << 16)
            if got == b"":
                return None
            if got:
                told.append(got)
                since, used = time.monotonic(), _processor_seconds(pid)
            elif time.monotonic() - since > ASLEEP or _processor_seconds(pid) - used > SECONDS:
                return f"hung, after {_processor_seconds(pid) - used:.0f} s of a processor"
            else:
                time.sleep(0.005)


def _processor_seconds(pid):
    """How long a process has computed so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(writer, whole, read, name, seed, numbers):
    """The child: read input after input, and tell of each."""

    def tell(text):
        os.write(writer, f"{text}\n".encode("utf-8", "replace"))

    try:
        stage.become_child()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + MEMORY * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        caches = [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]
        for number in numbers:
            for cache in caches:  # of what was read from a file of the same name
                cache.cache_clear()
            tell(f"begin {number}")
            for path, content in whole.items():
                path.write_bytes(content)
            if number is not None:
                chance = random.Random(f"{seed} {name} {number}")
                path = chance.choice(sorted(whole))
                path.write_bytes(damage.damage(whole[path], chance))
            start = time.process_time()
            if fault := _fault(read, number is None):
                tell(f"fault input {number}: {fault}")
            if (seconds := time.process_time() - start) > SECONDS:
                tell(f"fault input {number}: took {seconds:.0f} s")
        tell("done")
    finally:
        os._exit(0)


def _fault(read, is_whole):
    """What is wrong with how a reader ends, or None."""
    from structures import UserError

    try:
        read()
    except UserError as error:
        return f"the whole input is refused: {error}" if is_whole else None  # cli.run makes one line of it
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        return f"{type(error).__name__}: {str(error).splitlines()[:1]} in {where}"
    return None
