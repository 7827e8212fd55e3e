"""How our cost grows with sizes: series of measurements as a page of tables (docs/cost.md)."""

import pathlib
import statistics

import bench_pictures
from bench_harness import Side, alternate, command, rates, without_folders
from bench_paths import ROOT  # noqa: F401, lets the next line find the tests

import voc_tree
from system import wording
from system.load import machine

_machines = []  # what `alternate` reported about the machine, for the head of the page


def series(settings):
    """Yield (heading, remark, column heads, rows) of every table."""
    for table in (  # the quick ones first: an interrupted call has then written most of them
        _objects,
        _workers,
        _evaluator,
        _dataset_size,
        _classes,
        _network_by_batch,
        _training_by_batch,
        _presets_and_widths,
    ):
        yield table(settings)


def measure(settings, task, options, rounds=5):
    """Measure a task of bench_ours -> (median items/s, median seconds, peak MB, all answers)."""
    with Side("bench_ours.py", task, options) as side:
        (answers,), machine_state = alternate([side], settings.choose(rounds, 3, 1), warmup=settings.choose(2, 1, 0))
    _machines.append(machine_state)
    seconds = statistics.median(answer["seconds"] for answer in answers)
    peak = max(answer["peak_mb"] for answer in answers)
    return statistics.median(rates(answers)), seconds, peak, answers


def _network_by_batch(settings):
    rows = []
    for batch in settings.choose((1, 2, 4, 8, 16, 32), (1, 8), (1,)):
        rate, seconds, peak, _ = measure(settings, "network", {"preset": "vgg300", "batch": batch, **settings.slim()})
        rows.append([batch, f"{rate:.1f}", f"{1000 * seconds:.0f}", f"{peak:.0f}"])
    heads = ["batch", "images/s", "ms per batch", "peak memory, MB"]
    return "Batch: the network", "vgg300, full width, the frozen graph with `--precision auto`.", heads, rows


def _training_by_batch(settings):
    rows = []
    for batch in settings.choose((1, 2, 4, 8, 16), (1, 8), (1,)):
        rate, seconds, peak, _ = measure(settings, "training_step", {"batch": batch, **settings.slim()}, rounds=4)
        rows.append([batch, f"{rate:.2f}", f"{seconds:.2f}", f"{peak:.0f}"])
    heads = ["batch", "images/s", "s per step", "peak memory, MB"]
    remark = (
        "vgg300, full width, all layers trained. `--accumulate` computes the gradient of a large batch in the memory "
        "of a small one."
    )
    return "Batch: the training step", remark, heads, rows


def _presets_and_widths(settings):
    rows = []
    for preset, width in settings.choose(
        (("vgg300", 1), ("vgg300", 0.5), ("vgg300", 0.25), ("vgg512", 1)), (("vgg300", 0.25),), (("vgg300", 0.03),)
    ):
        options = {"preset": preset, "batch": settings.choose(8, 8, 1), "width": width}
        network, _, _, _ = measure(settings, "network", options)
        training, _, peak, _ = measure(settings, "training_step", options, rounds=4)
        rows.append([preset, f"{width:g}", f"{network:.1f}", f"{training:.2f}", f"{peak:.0f}"])
    heads = ["preset", "width", "network, images/s", "training, images/s", "peak of training, MB"]
    remark = "Batch 8. Twice the width costs about three times as much, and so does the larger input of vgg512."
    return "Input size and width", remark, heads, rows


def _classes(settings):
    rows = []
    for classes in settings.choose((1, 20, 80, 300), (20,), (2,)):
        _, _, peak, answers = measure(
            settings, "after_network", {"batch": 8, "classes": classes, **settings.slim()}, rounds=9
        )
        network = statistics.median(answer["network_seconds"] for answer in answers) / 8
        after = statistics.median(answer["all_seconds"] - answer["network_seconds"] for answer in answers) / 8
        rows.append([classes, f"{1000 * network:.0f}", f"{1000 * after:.1f}", f"{peak:.0f}"])
    heads = ["classes", "network, ms per image", "after it, ms per image", "peak memory, MB"]
    remark = (
        "vgg300, batch 8, random weights, threshold 0.01: no score is high and all boxes overlap, the worst case for "
        "suppression. After the network come softmax, decoding and NMS per class; their time is a difference, and "
        "values below 0 are noise."
    )
    return "Classes", remark, heads, rows


def _objects(settings):
    rows = []
    for objects in settings.choose((1, 10, 50, 100, 200), (1, 50), (1,)):
        options = {"objects": objects, "images": settings.choose(50, 20, 2)}
        rows.append([objects, f"{1000 / measure(settings, 'matching', options)[0]:.2f}"])
    return (
        "Boxes",
        "Matching and encoding the objects of one picture with 8,732 anchors.",
        ["objects", "ms per picture"],
        rows,
    )


def _workers(settings):
    index, rows = bench_pictures.index(settings, settings.choose(200, 60, 4)), []
    for workers in settings.choose((0, 1, 2, 3, 4), (0, 1, 2), (0,)):
        options = {"index": index, "workers": workers, "batches": settings.choose(60, 20, 3)}
        rows.append([workers, f"{measure(settings, 'workers', options)[0]:.0f}"])
    remark = (
        f"Full augmentation of {bench_pictures.source_name(settings)}, batches of 8, without training. "
        "0 workers: in the process itself."
    )
    return "Workers", remark, ["`--workers`", "images/s"], rows


def _dataset_size(settings):
    rows = []
    for count in settings.choose((500, 5000, 50000), (500, 5000), (8,)):
        data = _small_pictures(settings, count)
        _, load, load_peak, _ = measure(settings, "dataset_load", {"data": data}, rounds=3)
        _, start, _, _ = measure(settings, "queue_start", {"data": data}, rounds=3)
        rows.append([f"{count:,}", f"{load:.2f}", f"{load_peak:.0f}", f"{start:.2f}"])
    heads = ["pictures", "reading annotations, s", "peak memory, MB", "then first batch, s"]
    remark = "VOC layout, files in the page cache. The first batch comes from two workers that are started for it."
    return "Data set size", remark, heads, rows


def _small_pictures(settings, count):
    """A VOC-layout folder of `count` pictures: one picture and hard links to it."""
    root = pathlib.Path(settings.scratch, f"small-{count}")
    if not root.exists():
        voc_tree.write_voc(root, {"0": ((120, 90), [("thing", (20, 20, 70, 80))])}, {"train": map(str, range(count))})
        for number in range(1, count):
            for part in ("JPEGImages/{}.jpg", "Annotations/{}.xml"):
                (root / part.format(number)).hardlink_to(root / part.format(0))
    return str(root)


def _evaluator(settings):
    rows = []
    for count, per_image in settings.choose(((500, 20), (500, 200), (5000, 200)), ((500, 20),), ((20, 10),)):
        _, seconds, peak, _ = measure(settings, "evaluator", {"images": count, "per_image": per_image}, rounds=3)
        rows.append([f"{count * per_image:,}", f"{count:,}", f"{seconds:.2f}", f"{peak:.0f}"])
    heads = ["detections", "images", "s", "peak memory, MB"]
    return "Evaluation", "VOC's metric, 20 classes.", heads, rows


def page(tables, settings, path):
    """The page as Markdown. path: of its file."""
    facts = machine()
    busy = max(state["others_busy"] for state in _machines)
    slowest, fastest = (limit(state["gflops"]["median"] for state in _machines) for limit in (min, max))
    parts = [
        "# How cost grows",
        f"Measured by `{command(f'--cost {without_folders(path)}', settings)}` "
        f"on {facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']:.0f} GB, Python {facts['python']}. "
        "The numbers are medians. For comparisons with other projects, see the [README](../README.md#speed). "
        f"During the measurements other processes kept at most {busy:.2f} cores busy, and a float32 matrix product ran "
        f"at {slowest:.0f} to {fastest:.0f} GFLOPS.",
    ]
    for heading, remark, heads, rows in tables:
        parts += [f"## {heading}", remark, wording.table(heads, rows)]
    return "\n\n".join(parts) + "\n"
