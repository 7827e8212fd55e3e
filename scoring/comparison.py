"""Several detectors on the same pictures: differences of AP by class and size, with intervals, and who finds what.

An interval is the middle 95 % of the differences in 1,000 resamples: as many pictures are drawn, with repetition, as
there are, and both detectors are scored on them (Efron's bootstrap, by percentiles). So it says how far a difference
would move on other pictures of the same kind. Where it does not hold 0, the difference is hardly chance.

Sizes are COCO's, by the area of the object: up to 32² pixels, up to 96², beyond. For a size, objects of others are as
difficult ones: detections that overlap them enough are ignored, and so are false positives of other sizes.
"""

import dataclasses

import numpy as np

import boxes
from scoring import thresholds
from scoring.error_report import Objects

RESAMPLES = 1000
SEED = 0
LEVEL = 95  # percent
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # square pixels, above and up to
MEAN = "mean"
CHUNK = 2_000_000  # numbers in an array, which bounds memory


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What decides one AP: the detections that count, by falling score, and the objects of each picture.

    images: int64 [N], which picture; true: bool [N], hits; positives: int64 [I], objects of each picture.
    """

    images: np.ndarray
    true: np.ndarray
    positives: np.ndarray


def compare(results, resamples=RESAMPLES):
    """The comparison of two or more score_report.Scored of the same ground truth, as plain JSON types; docs/formats.md.

    The first is what the others are compared with. Raises ValueError unless all have the same classes and pictures.
    """
    first = results[0]
    for other in results[1:]:
        if other.class_names != first.class_names or list(other.ground_truth) != list(first.ground_truth):
            raise ValueError("the results are of other classes or pictures")
    objects = Objects(first.ground_truth.values())
    weights = draw_weights(len(first.ground_truth), resamples)
    figures = {"all": [], **{size: [] for size in SIZES}}
    for scored in results:
        for size, limits in {"all": None, **SIZES}.items():
            rows = [
                rows_of(curve, objects, label, len(weights[0]), limits, scored.iou)
                for label, curve in enumerate(scored.curves)
            ]
            figures[size].append(_with_mean([_aps(one, weights) for one in rows]))
    names = [*first.class_names, MEAN]
    return {
        "resamples": resamples,
        "level": LEVEL,
        "sizes": {size: _table(some, names) for size, some in figures.items()},
        "only": [_only(first, other) for other in results[1:]],
    }


def draw_weights(pictures, resamples):
    """int32 [resamples + 1, pictures]: how often each picture is drawn; in the first row each once."""
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(pictures, np.full(pictures, 1 / max(pictures, 1)), resamples) if pictures else []
    return np.concatenate([np.ones((1, pictures), np.int32), np.reshape(drawn, (-1, pictures))]).astype(np.int32)


def rows_of(curve, objects, label, pictures, limits=None, iou=0.5):
    """The Rows of a ClassCurve. limits: (above, up to) square pixels of the objects, or None for all."""
    mine = (objects.labels == label) & ~objects.difficult
    counts = curve.true | curve.false
    if limits is not None:
        low, high = limits
        inside = (objects.areas > low) & (objects.areas <= high)
        mine &= inside
        near = curve.overlaps >= iou
        target = np.where(near, objects.first[curve.images] + curve.objects, 0)
        area = boxes.area(np.asarray(curve.boxes_px, np.float64))
        own = (area > low) & (area <= high)
        fits = np.where(near, inside[target], own) if len(inside) else own
        counts = counts & fits
    positives = np.bincount(objects.images[mine], minlength=pictures)
    return Rows(curve.images[counts], curve.true[counts], positives)


def _aps(rows, weights):
    """AP (area) for each row of weights [R, pictures], float64 [R]; NaN where no object counts.

    Precision is highest at hits, so only these are looked at: the sums of weights up to each of them. A picture drawn
    w times has its hit w times, and the precision after the last of the equal ones is the highest.
    """
    positives = weights @ rows.positives
    values = np.full(len(weights), np.nan)
    values[positives > 0] = 0.0
    hits = np.flatnonzero(rows.true)
    if not len(hits):
        return values
    starts = np.concatenate([[0], hits[:-1] + 1])
    step = max(1, CHUNK // len(rows.images))
    for begin in range(0, len(weights), step):
        part = weights[begin : begin + step]
        drawn = part[:, rows.images]  # [R, N]
        seen = np.cumsum(np.add.reduceat(drawn, starts, axis=1)[:, : len(hits)], axis=1, dtype=np.int64)
        # reduceat's last sum goes on to the end of the row; up to the last hit is wanted
        seen[:, -1] -= drawn[:, hits[-1] + 1 :].sum(axis=1)
        true = drawn[:, hits]
        precision = np.divide(np.cumsum(true, axis=1), seen, out=np.zeros(seen.shape), where=seen > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        area = (true * envelope).sum(axis=1)
        chosen = slice(begin, begin + step)
        values[chosen] = np.divide(area, positives[chosen], out=values[chosen].copy(), where=positives[chosen] > 0)
    return values


def _with_mean(per_class):
    """float64 [C+1,R]: the AP of each class, and their mean over the classes that have one."""
    table = np.array(per_class).reshape(len(per_class), -1)
    known = ~np.isnan(table)
    total, count = np.where(known, table, 0).sum(axis=0), known.sum(axis=0)
    mean = np.divide(total, count, out=np.full(table.shape[1], np.nan), where=count > 0)
    return np.vstack([table, mean])


def _table(figures, names):
    """{class: {"ap": […], "intervals": [[low, high], …], "differences": [{"difference", "interval"}, …]}}."""
    table = {}
    for index, name in enumerate(names):
        rows = [one[index] for one in figures]
        table[name] = {
            "ap": [_number(row[0]) for row in rows],
            "intervals": [_interval(row[1:]) for row in rows],
            "differences": [
                {"difference": _number(row[0] - rows[0][0]), "interval": _interval(row[1:] - rows[0][1:])}
                for row in rows[1:]
            ],
        }
    return table


def _number(value):
    return None if np.isnan(value) else float(value)


def _interval(values):
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    outside = (100 - LEVEL) / 2
    return [float(value) for value in np.percentile(known, (outside, 100 - outside))]


def _only(first, other):
    """Which objects each of two Scored hits alone, each above its threshold of best F1."""
    limits, hits = [], []
    for scored in (first, other):
        best = thresholds.points_of(thresholds.sweep(scored.curves), 1, 1, scored.floor)["best_f1"]
        limits.append(None if best is None else best["threshold"])
        found = set()
        for label, curve in enumerate(scored.curves):
            kept = curve.true & (curve.scores > (limits[-1] or 0.0))
            found |= {(int(i), int(o), label) for i, o in zip(curve.images[kept], curve.objects[kept], strict=True)}
        hits.append(found)
    answer = {"thresholds": limits}
    for name, alone in (("first", hits[0] - hits[1]), ("other", hits[1] - hits[0])):
        answer[name] = {"objects": len(alone), "pictures": _by_picture(alone, first)}
    return answer


def _by_picture(alone, scored):
    """[{"image", "objects": [{"class", "row"}]}], the pictures with most objects first."""
    ids, by_image = list(scored.ground_truth), {}
    for image, row, label in sorted(alone):
        by_image.setdefault(image, []).append({"class": scored.class_names[label], "row": row})
    order = sorted(by_image, key=lambda image: (-len(by_image[image]), image))
    return [{"image": ids[image], "objects": by_image[image]} for image in order]


def text(compared, names):
    """The table for people: AP of each class and size for each result, and its difference from the first.

    names: of the results.
    """
    table = compared["sizes"]
    width = max(len(name) for name in ("medium", *table["all"]))
    short = letters(len(names))
    lines = [f"{letter}: {name}" for letter, name in zip(short, names, strict=True)]
    head = [f"{'class':{width}}", *(f"{letter:>6}" for letter in short)]
    lines.append("  ".join([*head, *(f"{letter + ' - A':>25}" for letter in short[1:])]))
    lines += [_line(name, width, row) for name, row in table["all"].items()]
    lines += [_line(size, width, table[size][MEAN]) for size in SIZES]
    low = f"AP (area); in brackets the middle {compared['level']} % of {compared['resamples']:,} resamples"
    return "\n".join([*lines, f"{low}, * without 0; {', '.join(SIZES)}: means by size of object"])


def _line(name, width, row):
    cells = [f"{name:{width}}", *(f"{show(ap):>6}" for ap in row["ap"])]
    return "  ".join([*cells, *(f"{show_difference(one):>25}" for one in row["differences"])])


def letters(count):
    """What results are called in tables: A, B, …; numbers from the 27th on."""
    return [chr(65 + index) if index < 26 else str(index + 1) for index in range(count)]


def show(ap):
    """An AP as text."""
    return "n/a" if ap is None else f"{ap:.4f}"


def show_difference(one):
    """'+0.0123 (+0.0010, +0.0210)*' for a difference and its interval; * where the interval does not hold 0."""
    if one["difference"] is None or one["interval"] is None:
        return "n/a"
    low, high = one["interval"]
    mark = "*" if low > 0 or high < 0 else " "
    return f"{one['difference']:+.4f} ({low:+.3f}, {high:+.3f}){mark}"
