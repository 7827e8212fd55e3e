"""Trouble that a training survives, or that ends it with a clear line: of its workers, clock, disk and neighbors."""

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time

import psutil
import stage
from report import Row

SAME = "it goes on; the weights are those of an untouched training, bit by bit"
YEARS = 10  # that a clock jumps at most
WORKERS = 2


def run(place, count, seed, rows):
    """`count` times trouble, of each kind in turn; appends their Rows."""
    chance = random.Random(seed)
    kinds = [
        (Row("SIGKILL of a worker that makes batches", "one line; the run is whole and goes on"), _killed_worker),
        (Row("a worker that is stopped for up to 3 s", SAME), _stopped_worker),
        (Row("a clock that jumps by years, every 0.2 s", SAME), _jumping_clock),
        (Row("a second training in the same run", f"the second ends with one line; the first: {SAME}"), _second),
        (Row("infer.py RUN@last while the run saves", f"all pictures are detected; the training: {SAME}"), _reader),
        (Row("a read-only disk", "one line that says so"), _read_only),
    ]
    rows += [row for row, _ in kinds]
    for number in range(count):
        row, strike = kinds[number % len(kinds)]
        fault = strike(place, chance)
        if fault == NOT_HERE:
            continue
        row.tries += 1
        row.failures += [fault] if fault else []
        print(f"trouble: {number + 1} of {count}, {row.what}: {fault or 'fine'}", flush=True)


NOT_HERE = "cannot be tried on this machine"


def _run(place):
    """The path of a new run, and the arguments that train it."""
    path = place.work / "troubled"
    shutil.rmtree(path, ignore_errors=True)
    return path, [*place.flags, "--run", str(path)]


def _wait_for_step(program, path, step):
    deadline = time.monotonic() + 120
    while not program.poll() and stage.step_of(path) < step and time.monotonic() < deadline:
        time.sleep(0.02)


def _with_workers(place, chance, act):
    """Train with workers and act(worker) at some step -> (path, Ended, whether there was a worker)."""
    path, arguments = _run(place)
    program = stage.start(stage.train_main([*arguments, "--workers", str(WORKERS)]), place.log)
    _wait_for_step(program, path, chance.randrange(1, stage.STEPS))
    # Of all children these alone are named so; the process that keeps track of shared memory is another one
    workers = [] if program.poll() else [one for one in psutil.Process(program.pid).children() if _makes_batches(one)]
    if workers:
        act(chance.choice(workers))
    return path, program.wait(), bool(workers)


def _makes_batches(process):
    return any("spawn_main" in word for word in process.cmdline())


def _finished(place, path, ended):
    return ended.fault() or stage.check(stage.sound(path, stage.STEPS, place.unbroken), place.log)


def _killed_worker(place, chance):
    path, ended, struck = _with_workers(place, chance, psutil.Process.kill)
    if ended.code == 0:  # it had made all batches by then
        return _finished(place, path, ended)
    if not struck:
        return ended.fault()
    if fault := ended.fault((1,)):
        return fault
    if "worker" not in ended.error():
        return f"no line that says so: {ended.error()[:300]}"
    again = stage.start(stage.train_main(["--run", str(path), "--resume"]), place.log).wait()
    return _finished(place, path, again)


def _stopped_worker(place, chance):
    def resume(worker):
        with contextlib.suppress(psutil.NoSuchProcess):  # the training has ended meanwhile
            worker.resume()

    def stop(worker):
        worker.suspend()
        threading.Timer(3 * chance.random(), resume, [worker]).start()

    path, ended, _ = _with_workers(place, chance, stop)
    return _finished(place, path, ended)


def _jumping_clock(place, chance):
    path, arguments = _run(place)
    seed = chance.random()

    def jump():
        jumps, real = random.Random(seed), time.time
        offset, since = [0.0], [time.monotonic()]

        def now():
            if time.monotonic() - since[0] > 0.2:
                offset[0], since[0] = jumps.uniform(-YEARS, YEARS) * 365 * 86400, time.monotonic()
            return real() + offset[0]

        time.time = now
        time.time_ns = lambda: int(now() * 1e9)

    return _finished(place, path, stage.start(stage.train_main(arguments), place.log, jump).wait())


def _second(place, chance):
    path, arguments = _run(place)
    first = stage.start(stage.train_main(arguments), place.log)
    _wait_for_step(first, path, chance.randrange(1, stage.STEPS // 2))
    log = place.work / "second"
    second = stage.start(stage.train_main(["--run", str(path), "--resume"]), log).wait()
    ended = first.wait()
    if second.code != 0 and (fault := second.fault((1,))):  # 0: the first had ended
        return f"the second: {fault}"
    if second.code == 1 and str(path) not in second.error():
        return f"the second: {second.error()[:300]}"
    return _finished(place, path, ended)


def _reader(place, chance):
    path, arguments = _run(place)
    first = stage.start(stage.train_main(arguments), place.log)
    _wait_for_step(first, path, chance.randrange(1, stage.STEPS // 2))
    log, out, pictures = place.work / "second", place.work / "read", place.data / "JPEGImages"

    def detect():
        import infer

        infer.main([f"{path}@last", str(pictures), "--output", str(out), "--overwrite", "--no-draw"])

    fault = stage.start(detect, log).wait().fault()
    shutil.rmtree(out, ignore_errors=True)
    return (fault and f"infer.py: {fault}") or _finished(place, path, first.wait())


def _read_only(place, chance):
    disk = place.work / "read-only"
    disk.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        return NOT_HERE
    try:
        program = chance.choice(["train", "infer", "export_model", "average_precision"])
        ended = stage.start(lambda: _write_to(place, disk, program), place.log).wait()
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True)
    if fault := ended.fault((1,)):
        return f"{program}.py: {fault}"
    if str(disk) not in ended.error() or "ead-only" not in ended.error():
        return f"{program}.py does not say so: {ended.error()[:300]}"
    return None


def _write_to(place, disk, program):
    scored = ["--data", str(place.data), "--split", "val"]
    arguments = {
        "train": [*place.flags, "--run", str(disk / "run")],
        "infer": [str(place.unbroken), str(place.data / "JPEGImages"), "--output", str(disk / "found")],
        "export_model": [str(place.unbroken), "--output", str(disk / "model.pb"), "--no-check"],
        "average_precision": [_detections(place, scored), *scored, "--json", str(disk / "ap")],
    }
    __import__(program).main(arguments[program])


def _detections(place, scored):
    """A file of detections to score."""
    import infer

    out = place.work / "scored"
    if not out.exists():
        infer.main([str(place.unbroken), *scored, "--output", str(out), "--no-draw"])
    return os.path.join(out, "detections.json")
