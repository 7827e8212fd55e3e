"""Benchmarks of the data pipeline, of matching and of the evaluator."""

import contextlib
import statistics

import bench_pictures
from bench_harness import Side, alternate, duel, line, rates, rates_of_a_core

from system.load import machine

OBJECTS = (1, 10, 50, 200)


def _data(peer, target):
    """A benchmark: training images per second of one thread."""

    def benchmark(name, settings):
        index = bench_pictures.index(settings, settings.choose(200, 60, 4))
        yield duel(
            name,
            ("bench_ours.py", "data", {"index": index}),
            (peer, "data", {"index": index}),
            settings=settings,
            rounds=settings.choose(7, 3, 1),
            target=target,
            what=f"{bench_pictures.source_name(settings)}: decode and augment in 1 thread; ours also matches, encodes",
        )

    return benchmark


def cached(name, settings):
    """Images/s of a core when all pictures are in the cache; the peer is ours without a cache."""
    options = {
        "index": bench_pictures.index(settings, settings.choose(200, 60, 4)),
        "folder": f"{settings.scratch}/cache",
    }
    for augmentation in ("light", "full"):
        options["augmentation"] = augmentation
        for cache in ("ram", "disk"):
            yield duel(
                f"{name}-{cache}-{augmentation}",
                *(("bench_ours.py", "data", {**options, "cache": which}) for which in (cache, "none")),
                settings=settings,
                rounds=settings.choose(7, 3, 1),
                value=rates_of_a_core,
                wanted="2500 images/s",
                what=f"{bench_pictures.source_name(settings)}: training images with --cache {cache}; time of one core",
            )


def loading(name, settings):
    """Seconds of a core and memory to load the annotations of large data sets."""
    for kind, pictures, target in (
        ("voc", settings.choose(20_000, 2_000, 5), 6),
        ("coco", settings.choose(120_000, 12_000, 5), 15),
    ):
        most = bench_pictures.MOST_OBJECTS[kind]
        data = bench_pictures.annotated(settings, kind, pictures)
        with Side("bench_ours.py", "dataset_load", {"data": data}) as side:
            (answers,), others = alternate([side], rounds=settings.choose(3, 1, 1), warmup=0)
        yield line(
            f"{name}-{kind}",
            "s",
            [answer["cpu_seconds"] for answer in answers],
            target=target,
            facts={
                "seconds": statistics.median(answer["seconds"] for answer in answers),
                "peak_mb": max(answer["peak_mb"] for answer in answers),
            },
            others=others,
            what=f"{pictures} pictures with 1 to {most} objects each: annotations and headers; time of one core",
        )


def workers(name, settings):
    """Images/s of the data queue, by number of workers; the peer is our queue with one worker."""
    index = bench_pictures.index(settings, settings.choose(200, 60, 4))
    batches = settings.choose(60, 20, 3)
    counts = settings.choose((2, 0, 3, 4), (2,), (2,))
    for count in counts:
        sides = [("bench_ours.py", "workers", {"index": index, "workers": n, "batches": batches}) for n in (count, 1)]
        yield duel(
            f"{name}-{count}",
            *sides,
            settings=settings,
            rounds=settings.choose(5, 3, 1),
            target=1.8 if count == 2 and machine()["cores"] > 1 else None,
            what=f"{bench_pictures.source_name(settings)}: batches of 8 through shared memory, without training",
        )


def matching(name, settings):
    """Milliseconds per picture by number of objects."""
    for objects in settings.choose(OBJECTS, OBJECTS, OBJECTS[:2]):
        size = {"objects": objects, "images": settings.choose(50, 20, 2)}
        yield duel(
            f"{name}-{objects}",
            ("bench_ours.py", "matching", size),
            ("bench_torch.py", "matching", size),
            settings=settings,
            rounds=settings.choose(7, 3, 1),
            unit="ms",
            value=lambda answers: [1000 / rate for rate in rates(answers)],
            what=f"targets of a picture with {objects} objects and 8732 anchors",
        )


def evaluator(name, settings):
    """The metric on a million detections against a plain loop; both must find the same true positives."""
    size = settings.choose((5000, 200), (1000, 200), (20, 10))
    options = dict(zip(("images", "per_image"), size, strict=True))
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(Side("bench_ours.py", task, options)) for task in ("evaluator", "evaluator_loop")]
        answers, others = alternate(sides, rounds=settings.choose(3, 2, 1), warmup=0)
    digests = {answer["verdicts"] for side in answers for answer in side}
    if len(digests) != 1:
        raise RuntimeError("the evaluator and the loop do not agree on the true positives")
    ours, loop = ([answer["seconds"] for answer in side] for side in answers)
    yield line(
        name,
        "s",
        ours,
        loop,
        target=10,
        others=others,
        peer_facts=sides[1].facts,
        what=f"true positives of {size[0] * size[1]} detections in {size[0]} images, 20 classes",
        identical=True,
    )


BENCHMARKS = {
    "data": _data("bench_torch.py", 5),
    "data-ssd.pytorch-style": _data("bench_float_pipeline.py", 3),
    "cache": cached,
    "loading": loading,
    "workers": workers,
    "matching": matching,
    "evaluator": evaluator,
}
