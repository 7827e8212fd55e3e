"""Trainings that cannot write: limits on the size of files, and full disks."""

import random
import re
import resource
import shutil
import subprocess

import stage
from report import Row

WANTED = "one line names file, reason and what is saved; the run is whole and goes on when there is room"
MEGABYTE = 2**20


def run(place, count, seed, rows):
    """`count` disks; appends their Rows: half limits over the sizes of a save, half small disks; those need a mount."""
    chance = random.Random(seed)
    limits, full = Row("limits on the size of files, in a save", WANTED), Row("disks that become full", WANTED)
    rows += [limits, full]
    largest = max(one.stat().st_size for one in place.unbroken.glob("checkpoints/*/*"))
    mounted = place.work / "disk"
    mounted.mkdir(exist_ok=True)
    can_mount = _mount(mounted, MEGABYTE)
    if can_mount:
        subprocess.run(["umount", str(mounted)], check=True)
    for number in range(count):
        if number % 2 == 0 or not can_mount:
            size = chance.randrange(1, int(1.1 * largest))
            _note(limits, f"{size} bytes", _on_limit(place, size))
        else:
            size = chance.randrange(MEGABYTE // 4, 8 * MEGABYTE)
            _note(full, f"{size} bytes", _on_disk(place, mounted, size))
        print(f"disks: {number + 1} of {count}", flush=True)


def _note(row, what, fault):
    row.tries += 1
    if fault:
        row.failures.append(f"{what}: {fault}")


def _mount(folder, size):
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def _on_limit(place, size):
    """Why a training under a limit of `size` bytes for each file fails the demands, or None."""
    path = place.work / "limited"
    shutil.rmtree(path, ignore_errors=True)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    arguments = [*place.flags, "--run", str(path), "--max-steps", "3"]
    ended = stage.start(stage.train_main(arguments), place.log, limit).wait()
    return _judge(place, path, ended, 0)


def _on_disk(place, disk, size):
    """Why a training on a disk that becomes full fails the demands, or None."""
    if not _mount(disk, size):
        return "cannot be mounted"
    try:
        path = disk / "run"
        arguments = [*place.flags, "--run", str(path), "--max-steps", "12"]
        ended = stage.start(stage.train_main(arguments), place.log).wait()
        subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
        return _judge(place, path, ended, 0)
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True)


def _judge(place, path, ended, step):
    if fault := ended.fault((0, 1)):
        return fault
    if ended.code == 1:
        line = ended.error()
        if not re.search(r"File too large|No space left|Read-only", line):
            return f"no reason: {line[:300]}"
        if "/" not in line or not re.search(r"saved|cannot be written", line):
            return f"no file, or not what is saved: {line[:300]}"
    if not (path / "config.json").exists():
        return None if ended.code == 1 else "no run"
    if fault := stage.check(stage.sound(path, step), place.log):
        return fault
    again = stage.start(stage.train_main(["--run", str(path), "--resume", "--max-steps", "13"]), place.log).wait()
    return again.fault() and f"resumed: {again.fault()}"
