"""Kill a training again and again until it ends, and compare it with one that nobody touched."""

import os
import random
import shutil
import signal
import time

import stage
from report import Row

CALLS = ("fsync", "replace", "mkdir", "remove", "rename", "unlink")  # of os, in which a save changes files
MANNERS = ("moment", "saving", "writing", "saving", "moment", "SIGTERM", "SIGINT", "power cut", "writing", "saving")


def run(place, count, seed, rows):
    """`count` kills; appends their Rows."""
    by_manner = {
        "moment": Row("SIGKILL of a training, at any moment", "all that was saved is there; it goes on"),
        "saving": Row("SIGKILL in a save, between two changes of files", "the same"),
        "writing": Row("SIGKILL while TensorFlow writes a checkpoint", "the same"),
        "SIGTERM": Row("SIGTERM", "the same; exit code 130"),
        "SIGINT": Row("Ctrl-C", "the same; exit code 130"),
        "power cut": Row("power cut in a save", "the copy is whole and goes on"),
    }
    ends = Row(
        "trainings that were killed until they ended", "the weights are those of an untouched training, bit by bit"
    )
    rows += [*by_manner.values(), ends]
    chance, done = random.Random(seed), 0
    while done < count:
        path, step = place.work / f"killed{ends.tries}", 0
        arguments = [*place.flags, "--run", str(path)]
        for _ in range(10 * stage.STEPS):
            manner = MANNERS[done % len(MANNERS)] if done < count else None
            ended, copy = _live(place, path, arguments, manner, chance)
            if ended.code == 0:
                break
            done += 1
            row = by_manner[manner]
            fault = _judge(place, path, ended, manner, step, copy)
            row.tries += 1
            if fault:
                row.failures.append(fault)
            step = stage.step_of(path)
            print(f"kill {done} of {count}, {manner}: step {step}, {fault or 'whole'}", flush=True)
            if (path / "config.json").exists():
                arguments = ["--run", str(path), "--resume"]
            else:
                shutil.rmtree(path, ignore_errors=True)
        if fault := ended.fault() or stage.check(stage.sound(path, step, place.unbroken), place.log):
            ends.failures.append(fault)
        ends.tries += 1
        shutil.rmtree(path, ignore_errors=True)


def _live(place, path, arguments, manner, chance):
    """Let a training live until its end or a kill -> (Ended, the copy of a power cut or None)."""
    copy = None
    if manner in ("saving", "power cut"):
        copy = place.work / "copy" if manner == "power cut" else None
        number = chance.randrange(1, 60)
        program = stage.start(stage.train_main(arguments), place.log, lambda: _strike_at(number, path, copy))
    elif manner == "writing":
        number, seconds = chance.randrange(1, 6), chance.random() * 0.05
        program = stage.start(stage.train_main(arguments), place.log, lambda: _strike_in_write(number, seconds))
    else:
        program = stage.start(stage.train_main(arguments), place.log)
        if manner:
            _wait_and_strike(program, path, manner, chance)
    return program.wait(), copy


def _wait_and_strike(program, path, manner, chance):
    """Strike at some moment: of the start, or once it trains."""
    before = stage.step_of(path)
    if chance.random() < 0.7:
        deadline = time.monotonic() + 60
        while not program.poll() and stage.step_of(path) == before and time.monotonic() < deadline:
            time.sleep(0.02)
    time.sleep(chance.random() * 1.5)
    program.kill(signal.SIGKILL if manner == "moment" else signal.Signals[manner])


def _strike_at(number, path, copy):
    """Kill this process at its call number `number` of CALLS; with `copy`, first copy the run as a disk may have it."""
    import runs

    calls, flushed, start = [0], set(), time.time()
    save = runs.Checkpoints.save

    def counted(name, original):
        def call(*arguments, **options):
            if name == "fsync":
                flushed.add(os.fstat(arguments[0]).st_ino)
            if saving:
                calls[0] += 1
                if calls[0] == number:
                    if copy:
                        _copy(path, copy, flushed, start)
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    saving = []

    def in_save(*arguments, **options):
        saving.append(True)
        try:
            return save(*arguments, **options)
        finally:
            saving.pop()

    runs.Checkpoints.save = in_save
    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))


def _strike_in_write(number, seconds):
    """Kill this process `seconds` after it has begun to write its checkpoint number `number`."""
    import threading

    import tensorflow.compat.v1 as tf

    calls, save = [0], tf.train.Saver.save

    def counted(*arguments, **options):
        calls[0] += 1
        if calls[0] == number:
            timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        return save(*arguments, **options)

    tf.train.Saver.save = counted


def _copy(path, copy, flushed, start):
    """Copy a run. Files that were written after `start` (time.time()) and never flushed are empty in the copy.

    flushed: numbers of their inodes, which a renamed file keeps.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    for parent, _, names in os.walk(copy):
        for name in names:
            found = os.stat(os.path.join(path, os.path.relpath(os.path.join(parent, name), copy)))
            if found.st_ino not in flushed and found.st_mtime >= start:
                os.truncate(os.path.join(parent, name), 0)


def _judge(place, path, ended, manner, step, copy):
    """Why a strike failed, or None."""
    if manner in ("SIGTERM", "SIGINT"):
        if fault := ended.fault((130, 0)):
            return fault
    elif ended.code != -signal.SIGKILL:
        return ended.fault((0,))
    if not (path / "config.json").exists():
        return f"config.json is gone, where step {step} was saved" if step else None
    if fault := stage.check(stage.sound(path, step), place.log):
        return fault
    if copy and copy.exists():
        if not (copy / "config.json").stat().st_size:
            return "config.json is empty"
        if fault := stage.check(stage.sound(copy, step), place.log):
            return f"the copy: {fault}"
        ended = stage.start(stage.train_main(["--run", str(copy), "--resume", "--max-steps", str(step + 2)]), place.log)
        fault = ended.wait().fault()
        shutil.rmtree(copy, ignore_errors=True)
        return fault and f"the copy: {fault}"
    return None
