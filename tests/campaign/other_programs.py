"""Kill infer.py, process_video.py and export_model.py, which must leave what was there before, or what plays."""

import json
import random
import shutil
import time

import numpy as np
import stage
from report import Row

SIZE = (96, 64)
FRAMES = 400


def run(place, count, seed, rows):
    """`count` kills; appends their Rows, a third for each program."""
    chance = random.Random(seed)
    video = Row("SIGKILL of process_video.py", "the older video is whole, or the new one; the unfinished one plays")
    infer = Row("SIGKILL of infer.py", "--overwrite detects all; no file is left behind")
    export = Row("SIGKILL of export_model.py", "the older file is whole, or the new one; no file is left behind")
    rows += [video, infer, export]
    film = place.work / "film.mp4"
    _write_film(film)
    for number in range(count):
        row, strike = ((video, _video), (infer, _infer), (export, _export))[number % 3]
        if fault := strike(place, film, chance):
            row.failures.append(fault)
        row.tries += 1
        print(f"programs: {number + 1} of {count}", flush=True)


def _write_film(path):
    from media import video

    noise = np.random.default_rng(0)
    with video.VideoWriter(path, *SIZE, 25) as writer:
        for _ in range(FRAMES):
            writer.write(noise.integers(0, 255, (*SIZE[::-1], 3), np.uint8))


def _killed(place, name, arguments, chance, most):
    """Start a program's main and kill it after up to `most` seconds -> Ended."""

    def call():
        __import__(name).main(arguments)

    program = stage.start(call, place.log)
    time.sleep(chance.random() * most)
    program.kill()
    return program.wait()


def _again(place, name, arguments):
    return stage.start(lambda: __import__(name).main(arguments), place.log).wait().fault()


def _video(place, film, chance):
    out = place.work / "films"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    target = out / "a.mp4"
    shutil.copy(film, target)
    older = target.read_bytes()
    _killed(place, "process_video", [str(place.unbroken), str(film), str(target)], chance, 12)
    if target.read_bytes() != older and (fault := stage.check(_plays(target, FRAMES), place.log)):
        return f"the video: {fault}"
    unfinished = out / "a.unfinished.mp4"
    if unfinished.exists() and unfinished.stat().st_size > 20_000:  # of its first frames nothing may be there yet
        return stage.check(_plays(unfinished, 1), place.log)
    return None


def _plays(path, frames):
    def call():
        from media import video

        with video.VideoReader(path) as reader:
            count = sum(1 for _ in reader)
        assert count >= frames, f"{count} frames"

    return call


def _infer(place, film, chance):
    out = place.work / "found"
    shutil.rmtree(out, ignore_errors=True)
    arguments = [str(place.unbroken), str(place.data / "JPEGImages"), "--output", str(out), "--threshold", "0.01"]
    _killed(place, "infer", arguments, chance, 6)
    if fault := _again(place, "infer", [*arguments, "--overwrite"]):
        return fault
    found = json.loads((out / "detections.json").read_text("utf-8"))
    if len(found["images"]) != len(list((place.data / "JPEGImages").iterdir())):
        return "pictures are missing"
    return _rest(out)


def _export(place, film, chance):
    out = place.work / "exported"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    target = out / "model.pb"
    arguments = [str(place.unbroken), "--output", str(target), "--no-check"]
    if fault := _again(place, "export_model", arguments):
        return fault
    _killed(place, "export_model", arguments, chance, 4)

    def loads():
        import detector

        with detector.load(target) as loaded:
            loaded.detect([np.zeros((50, 50, 3), np.uint8)])

    return stage.check(loads, place.log) or _again(place, "export_model", arguments) or _rest(out)


def _rest(folder):
    left = [path.name for path in folder.rglob(".*.tmp")]
    return f"left behind: {left}" if left else None
