"""Long runs: memory and open files of a program must not grow."""

import os
import time

import numpy as np
import stage
from report import Row

GROWTH = 60  # MB that a program may grow by after its first quarter


def run(place, hours, rows):
    """Append the Rows of a detection over pictures and of a video, each for half of `hours`."""
    pictures = Row("pictures detected in one call", f"memory grows by less than {GROWTH} MB, no open file is left")
    frames = Row("frames of one video", f"memory grows by less than {GROWTH} MB, no open file is left")
    rows += [pictures, frames]
    for row, work in ((pictures, _pictures), (frames, _film)):
        log = place.work / "long"
        seconds = 1800 * hours
        ended = stage.start(lambda work=work, seconds=seconds: work(place, seconds), log).wait(10 * seconds + 300)
        last = ended.output.strip().splitlines()[-1:] or ["nothing"]
        words = last[0].split()
        if ended.code or words[:1] != ["DONE"]:
            row.failures.append(ended.fault() or last[0])
            continue
        count, growth, files = map(int, words[1:])
        row.tries, row.measured = count, growth
        if growth >= GROWTH or files > 0:
            row.failures.append(f"{growth} MB, {files} open files more")


def _state():
    """(MB of memory, open files) of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20, len(os.listdir("/proc/self/fd"))


def _watch(items, seconds):
    """Go through items for so long; prints the count, and the growth since the first quarter."""
    start, count, first = time.monotonic(), 0, None
    for _ in items:
        count += 1
        passed = time.monotonic() - start
        if first is None and passed > seconds / 4:
            first = _state()
        if passed > seconds:
            break
    now = _state()
    first = first or now
    print("DONE", count, now[0] - first[0], now[1] - first[1])


def _pictures(place, seconds):
    import detector

    paths = sorted(map(str, (place.data / "JPEGImages").iterdir()))
    with detector.load(place.unbroken, precision="float32") as loaded:
        _watch(loaded.detect_files((paths[n % len(paths)], True) for n in range(10**9)), seconds)


def _film(place, seconds):
    import detector
    from media import video, visualization

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 96, 3), np.uint8)

    def frames(loaded, writer):
        for number in range(10**9):
            image = noise[number % len(noise)]
            found = loaded.detect([image])[0]
            writer.write(visualization.draw_detections(image, found, loaded.class_names))
            yield number

    with (
        detector.load(place.unbroken, precision="float32", threshold=0.3) as loaded,
        video.VideoWriter(place.work / "long.mp4", 96, 64, 25) as writer,
    ):
        _watch(frames(loaded, writer), seconds)
