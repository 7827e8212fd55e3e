"""Benchmarks of the steps after the network, of whole programs, and of memory."""

import contextlib
import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import bench_pictures
from bench_harness import Side, alternate, duel, gflops, line, rates, spread
from bench_networks import TRAINING_SETTINGS
from bench_paths import ROOT

from structures import UserError
from system import worker_processes
from system.load import Others, resident_mb

BATCH = 8
NETWORK = "1gbit"  # tc's word for the slow network between two processes
SAMPLE_SECONDS = 0.5  # between two samples of a program's memory


def after_network_random(name, settings):
    """Decoding and NMS with random weights."""
    yield _after_network(name, settings, settings.slim(), 15, "random weights, noise")


def after_network_trained(name, settings):
    """Decoding and NMS with a trained model on pictures."""
    if not settings.model:
        raise UserError(f"{name}: give a trained model with --model RUN, and pictures for it with --data")
    options = {"model": settings.model, "index": bench_pictures.index(settings, BATCH)}
    yield _after_network(name, settings, options, 5, f"--model on {bench_pictures.source_name(settings)}")


def _after_network(name, settings, options, target, what):
    with Side("bench_ours.py", "after_network", {"batch": BATCH, **options}) as side:
        (answers,), machine = alternate([side], settings.choose(15, 5, 1))
    shares = [100 * (answer["all_seconds"] / answer["network_seconds"] - 1) for answer in answers]
    found = answers[-1]["found"]
    return line(
        name,
        "% of the network's time",
        shares,
        target=target,
        others=machine,
        what=f"softmax, decoding, NMS at threshold 0.01, batch {BATCH}; {what}",
        detections_per_image=found,
    )


def _model(settings):
    """--model, or an exported graph in the scratch folder with random weights that find a few objects in pictures."""
    if settings.model:
        return settings.model
    return _random_model(settings, "random.pb", **settings.slim(), pictures=bench_pictures.some(settings))


def _random_model(settings, name, **options):
    """The path of an exported graph with random weights in the scratch folder."""
    path = pathlib.Path(settings.scratch, name)
    if not path.exists():
        Side("bench_ours.py", "random_model", {"path": str(path), **options}).close()
    return str(path)


class Program:
    """One of the project's programs as a side: `run` starts it and waits for it.

    read: function stdout -> (items, seconds by the program's own clock, which starts when the model is loaded).
    """

    def __init__(self, arguments, read):
        self._command = [sys.executable, str(ROOT / arguments[0]), *map(str, arguments[1:])]
        self._read = read

    def run(self):
        start = time.perf_counter()
        done = subprocess.run(self._command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self._command[1]} failed: {done.stderr.strip()}")
        items, seconds = self._read(done.stdout)
        return {"items": items, "seconds": seconds, "total_seconds": time.perf_counter() - start}


def _versus_network(name, program, settings, unit, what):
    """Run a program and the network alone with the same batch size in turn -> a line."""
    batches = settings.choose(8, 4, 1)
    network = {"model": _model(settings), "batch": BATCH, "batches": batches}
    with Side("bench_ours.py", "model_network", network) as alone:
        alone.run()  # the program's first batch counts, so only the other side is warmed up
        (ours, peer), machine = alternate([program, alone], settings.choose(2, 1, 1), warmup=0)
        total = [answer["total_seconds"] for answer in ours]
        return line(
            name,
            unit,
            rates(ours),
            rates(peer),
            target=0.9,
            facts={"total_seconds": spread(total)},
            peer_facts=alone.facts,
            others=machine,
            what=what + "; by the program's own clock, which starts when the model is loaded",
            model="--model" if settings.model else "random weights",
        )


def infer(name, settings):
    """infer.py on a folder, with drawn pictures, against the network alone."""
    count = settings.choose(500, 100, 4)
    output = pathlib.Path(settings.scratch, "infer")
    folder = bench_pictures.folder(settings, count)
    program = Program(
        ["infer.py", _model(settings), folder, "--output", output, "--overwrite"],
        lambda text: (count, count / float(re.search(r"([\d.]+) images/s", text).group(1))),
    )
    what = f"{count} pictures ({bench_pictures.source_name(settings)}) read, detected, drawn, written"
    yield _versus_network(name, program, settings, "images/s", what)


def process_video(name, settings):
    """process_video.py on a 768×576 video, against the network alone."""
    frames = settings.choose(500, 75, 8)
    program = _process_video(settings, bench_pictures.film(settings, frames), "film")
    what = f"{frames} frames of 768×576 decoded, detected, drawn, encoded"
    yield _versus_network(name, program, settings, "frames/s", what)


def _process_video(settings, film, name, *flags):
    """process_video.py as a side. name: of its output files."""
    report, output = (pathlib.Path(settings.scratch, name + end) for end in (".json", "-out.mp4"))

    def read(_):
        timing = json.loads(report.read_text())["timing"]["end_to_end"]
        return timing["frames"], timing["seconds"]

    return Program(["process_video.py", _model(settings), film, output, "--json", report, *flags], read)


def tracking(name, settings):
    """process_video.py --track on the toy road's drive, against the same without."""
    from toy_road import drive

    if not settings.model:
        raise UserError(f"{name}: give a model of the toy road with --model RUN, such as runs/demo/model.pb")
    frames = settings.choose(600, 150, 8)
    film = pathlib.Path(settings.scratch, f"drive-{frames}.mp4")
    if not film.exists():
        drive.write_drive(film, frames=frames)
    sides = [_process_video(settings, film, "tracked", "--track"), _process_video(settings, film, "plain")]
    (ours, peer), machine = alternate(sides, settings.choose(5, 2, 1), warmup=0)
    what = f"{frames} frames of the toy road's drive decoded, detected, drawn, encoded"
    names = {"facts": {"name": "--track"}, "peer_facts": {"name": "without"}}
    yield line(name, "frames/s", rates(ours), rates(peer), target=0.95, others=machine, what=what, **names)


class Training:
    """train.py with processes that have a core each, as a side: `run` trains anew, from random weights."""

    def __init__(self, settings, processes, images, more=(), prefix=()):
        """images: of an epoch, for each process. more: flags. prefix: words before the command."""
        data = bench_pictures.folder_of_data(settings, settings.choose(500, 100, 4))
        split, names = bench_pictures.split_and_classes(data)
        self._items, self._cores = images * processes, sorted(os.sched_getaffinity(0))[:processes]
        self._run = pathlib.Path(settings.scratch, "-".join(["training", str(processes), *more]))
        words = ["--data", data, "--train", split, "--classes", ",".join(names), "--run", self._run]
        words += ["--devices", processes, "--batch-size", settings.choose(BATCH, BATCH, 1) * processes]
        words += ["--limit", self._items, "--epochs", 2, "--vgg-weights", "none", "--initializer", "he"]
        words += [
            "--precision",
            "float32",
            *[word for pair in settings.slim().items() for word in ("--width", pair[1])],
        ]
        self._command = [*prefix, sys.executable, str(ROOT / "train.py"), *map(str, words), *more]

    def run(self):
        """By the program's own clock in its second epoch: in the first, TensorFlow prepares itself."""
        shutil.rmtree(self._run, ignore_errors=True)
        with worker_processes.limited_to(self._cores):
            done = subprocess.run(self._command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"train.py failed: {done.stderr.strip()}")
        with open(self._run / "metrics.csv", encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file)
        return {"items": self._items, "seconds": self._items / float(last["images_per_second"])}


def _two_trainings(name, settings, trainings, where="", **more):
    """The line of two Trainings in turn. trainings: {name: what Training takes beside the images}; where: in words."""
    images = settings.choose(10 * BATCH, 4 * BATCH, 2)
    sides = [Training(settings, images=images, **options) for options in trainings.values()]
    (ours, peer), machine = alternate(sides, settings.choose(3, 1, 1), warmup=0)
    facts, peer_facts = ({"name": side} for side in trainings)
    return line(
        name,
        "images/s",
        rates(ours),
        rates(peer),
        facts=facts,
        peer_facts=peer_facts,
        others=machine,
        what=f"train.py on {bench_pictures.source_name(settings)}, all layers, in float32, a core and a batch of "
        f"{settings.choose(BATCH, BATCH, 1)} for each process{where}; the second epoch, of {images} images for each",
        **more,
    )


def training_processes(name, settings):
    """train.py with two processes of a core each, against one process of one core; each has as large a batch."""
    if worker_processes.usable_cores() < 2:
        raise UserError(f"{name}: needs two cores")
    yield _two_trainings(name, settings, {"2 processes": {"processes": 2}, "1 process": {"processes": 1}}, target=1.8)


@contextlib.contextmanager
def _slow_network(rate):
    """Context manager: the words that run a command where its processes reach each other at this rate."""
    host = f"bench{os.getpid()}"
    limit = f"netns exec {host} tc qdisc add dev lo root tbf rate {rate} burst 1mb latency 100ms"
    try:
        try:
            for words in (f"netns add {host}", f"-n {host} link set lo up", limit):
                subprocess.run(["ip", *words.split()], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"training-pieces: needs root, ip and tc, to make a slow network: {error}") from None
        yield ["ip", "netns", "exec", host]
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "del", host], capture_output=True)


def training_pieces(name, settings):
    """train.py with two processes on a network of 1 Gbit/s: gradients in pieces beside the backward pass, or after."""
    with _slow_network(NETWORK) as prefix:
        both = {"processes": 2, "prefix": prefix}
        trainings = {"--bucket-mb 25": {**both, "more": ["--bucket-mb", "25"]}, "all at once": both}
        yield _two_trainings(name, settings, trainings, f", on a network of {NETWORK}")


def training_memory(name, settings):
    """Peak memory of a process that does training steps."""
    batch = settings.choose(8, 8, 1)
    yield duel(
        name,
        ("bench_ours.py", "training_step", {"batch": batch, **settings.slim()}),
        ("bench_torch.py", "training_step", {"batch": batch, "settings": TRAINING_SETTINGS[:1]}),
        settings=settings,
        rounds=settings.choose(3, 1, 1),
        unit="MB",
        value=lambda answers: [answer["peak_mb"] for answer in answers],
        what=f"peak resident memory of a process that trains all layers, batch {batch}, libraries included",
    )


def infer_memory(name, settings):
    """Resident memory of infer.py over many pictures; it must not grow."""
    count = settings.choose(10_000, 1500, 6)
    folder = bench_pictures.folder(settings, count)
    model, output = _random_model(settings, "slim.pb", width=0.03), pathlib.Path(settings.scratch, "infer-memory")
    command = ["infer.py", model, folder, "--output", output, "--no-draw", "--overwrite"]
    speed = gflops()
    with Others() as others:
        samples = _watch_memory([sys.executable, str(ROOT / command[0]), *map(str, command[1:])])
    steady = samples[len(samples) // 4 :]  # after loading
    first, last = steady[: len(steady) // 4 or 1], steady[-(len(steady) // 4 or 1) :]
    yield line(
        name,
        "MB",
        steady,
        others={**others.to_json(), "gflops": spread([speed, gflops()])},
        what=f"resident memory of infer.py over {count} pictures at 3% of the channels, after the first quarter",
        growth_mb=round(sum(last) / len(last) - sum(first) / len(first), 1),
        tenths_mb=[round(samples[len(samples) * tenth // 10]) for tenth in range(10)] + [round(samples[-1])],
    )


def _watch_memory(command):
    """Run a command -> resident memory in MB of its process and children, every SAMPLE_SECONDS."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    samples = []
    with process:
        try:
            while process.poll() is None:
                if held := resident_mb(process.pid):  # none if it has just ended
                    samples.append(held)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SAMPLE_SECONDS)
        except BaseException:
            process.kill()
            process.wait()  # the block's own end waits a moment only
            raise
        if process.returncode:
            raise RuntimeError(f"{os.path.basename(command[1])} failed: {process.stderr.read().strip()}")
    return samples


BENCHMARKS = {
    "after-network-random": after_network_random,
    "after-network-trained": after_network_trained,
    "infer": infer,
    "process-video": process_video,
    "tracking": tracking,
    "training-memory": training_memory,
    "training-processes": training_processes,
    "training-pieces": training_pieces,
    "infer-memory": infer_memory,
}
