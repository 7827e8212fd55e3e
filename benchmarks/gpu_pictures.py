"""The side of gpu.py that makes and reads pictures, in a process without TensorFlow, which keeps to the deadline."""

import statistics

import bench_ours
import bench_pictures
from bench_harness import Settings, rates, spread
from gpu_worker import serve

ROUNDS = 3


def _question(make):
    """A function of Settings and other options as a question, for which the settings are a dict."""
    return lambda settings, **options: make(Settings(**settings), **options)


def training_data(settings, count):
    """(folder of pictures to train on, its largest split, the names of its classes)."""
    data = bench_pictures.folder_of_data(settings, count)
    return data, *bench_pictures.split_and_classes(data)


def pipeline(settings, count, workers, batches):
    """Augmented, encoded batches from worker processes, which live as long as this process: figures of a row."""
    _, run = bench_ours.workers(bench_pictures.index(settings, count), workers, batches)
    run()
    measured = rates([run() for _ in range(ROUNDS)])
    return {"value": statistics.median(measured), **spread(measured), "workers": workers}


ANSWERS = (bench_pictures.some, bench_pictures.folder, bench_pictures.film, training_data, pipeline)

if __name__ == "__main__":
    serve({}, {make.__name__: _question(make) for make in ANSWERS}, None)
