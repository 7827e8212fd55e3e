"""What learning.py writes: JSON lines, a page in Markdown, and a plot of its curves."""

import json

from bench_harness import written_by
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from learning_plan import SIDES

from media import charts
from system import wording


def end(record):
    """The last point of a training's curve; None if it diverged or has none with a score."""
    points = [point for point in record["points"] if point["voc07"] is not None]
    return None if record["diverged"] or not points else points[-1]


def best(records):
    """{side: its record with the highest mAP at the end}, in the order of SIDES; sides without a score are left out."""
    found = {}
    for side in SIDES:
        finished = [record for record in records if record["side"] == side and end(record)]
        if finished:
            found[side] = max(finished, key=lambda record: end(record)["voc07"])
    return found


def level(winners):
    """The highest mAP that every one of some records reaches, whenever that is."""
    return min(max(point["voc07"] for point in record["points"]) for record in winners.values())


def reached(record, voc07):
    """The first point of a training with at least this mAP, or None."""
    return next((point for point in record["points"] if point["voc07"] >= voc07), None)


def lines(header, records):
    """The JSON lines as text. header: dict of the first line."""
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in (header, *records))


def page(header, records):
    """The page in Markdown. header: {"command", "commit", "machine", "task", "tiny"}."""
    parts = [_introduction(header, records), _all_trainings(records)]
    winners = best(records)
    if winners:
        parts += ["The best rate of each side:", _by_images(winners), _by_level(winners)]
    if header["tiny"]:
        parts.append("Made with --tiny: these figures mean nothing.")
    return "# Learning beside torchvision\n\n" + "\n\n".join(parts) + "\n"


def _introduction(header, records):
    machine, task = header["machine"], header["task"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"
    libraries = f"TensorFlow {machine['tensorflow']}, torch {machine['torch']}, torchvision {machine['torchvision']}"
    kept = ", ".join(task["freeze"]) or "nothing"
    return (
        f"{written_by(header, [record.get('commit') for record in records])}, on {where}; {libraries}.\n\n"
        f"{task['pictures']} pictures, {task['epochs']} epochs in batches of {task['batch_size']}, "
        f"{task['precision']}, seed {task['seed']}; not trained: {kept}; classes {task['classes']}. mAP is VOC07's at "
        f"IoU 0.5 on split {task['valid']}, by this project's metric for all. Seconds are those of the training steps "
        "with their data; start, validations and checkpoints are not counted. The rate of a side is chosen on the "
        "pictures that are scored, which flatters all sides alike."
    )


def _all_trainings(records):
    winners, rows = best(records).values(), []
    for record in records:
        last = end(record)
        mark = "**" if record in winners else ""
        cells = [
            SIDES[record["side"]][0],
            f"{record['rate']:g}",
            "diverged" if record["diverged"] else "–",
            "–",
            "–",
            "–",
        ]
        if last:
            speed = last["images"] / last["seconds"]
            cells[2:] = f"{mark}{last['voc07']:.3f}{mark}", last["images"], f"{last['seconds']:.0f}", f"{speed:.1f}"
        rows.append(cells)
    return wording.table(["side", "learning rate", "mAP at the end", "images", "seconds", "images/s"], rows)


def _by_images(winners):
    """A table: the mAP of each side after so many images, with its seconds."""
    head = ["images seen", *(f"{SIDES[side][0]}, {record['rate']:g}" for side, record in winners.items())]
    cells = {
        side: {point["images"]: f"{point['voc07']:.3f} ({point['seconds']:.0f} s)" for point in record["points"]}
        for side, record in winners.items()
    }
    counts = sorted({images for known in cells.values() for images in known})
    return wording.table(head, [[n, *(known.get(n, "–") for known in cells.values())] for n in counts])


def _by_level(winners):
    """A table: when each side has the mAP that all of them reach."""
    common = level(winners)
    rows = []
    for side, record in winners.items():
        point = reached(record, common)
        rows.append([SIDES[side][0], point["images"], f"{point['seconds']:.0f}"])
    return wording.table(["side", f"images until mAP {common:.3f}", "seconds"], rows)


def plot(path, records):
    """Write a PNG: mAP against images seen and against seconds."""
    figure = charts.make_figure(11.0, 4.8)
    draw(figure, records)
    charts.save_figure(figure, path)


def draw(figure, records):
    """The plot: a line for each training, the best of each side strong."""
    winners = best(records)
    for axes, key in zip(figure.subplots(1, 2, sharey=True), ("images", "seconds"), strict=True):
        for index, side in enumerate(SIDES):
            for record in records:
                if record["side"] != side or not record["points"]:
                    continue
                strong = record is winners.get(side)
                style = {"linewidth": 2, "marker": "o", "markersize": 3} if strong else {"linewidth": 0.8, "alpha": 0.5}
                x, y = ([point[name] for point in record["points"]] for name in (key, "voc07"))
                label = f"{SIDES[side][0]}, rate {record['rate']:g}" if strong else None
                axes.plot(x, y, color=f"C{index}", label=label, **style)
        axes.set(xlabel={"images": "images seen", "seconds": "seconds of training"}[key])
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("VOC07 mAP")
    if winners:
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), fontsize="small", loc="outside upper center", ncols=3
        )
