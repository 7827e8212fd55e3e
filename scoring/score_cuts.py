"""AP where only the detections above a score are kept, at several scores: the article's table.

Which scores a program keeps is often the main difference between two published figures: without low scores the
precision-recall curve ends early, and AP falls.
"""

from scoring import matching

CUTS = (0.01, 0.1, 0.3, 0.5)


def cut(curve, score):
    """A ClassCurve without the detections that do not score above `score`. The verdicts on the others stay."""
    return curve.where(curve.scores > score, curve.positives)


def table(curves, cuts):
    """[{"score": cut, "voc07": {"mean", "per_class"}, "area": {…}, "detections": N}, …] for each of some scores."""
    rows = []
    for score in cuts:
        kept = [cut(curve, score) for curve in curves]
        row = {"score": float(score)}
        for metric in ("voc07", "area"):
            per_class = {curve.name: getattr(curve, metric) for curve in kept}
            row[metric] = {"mean": matching.mean(per_class), "per_class": per_class}
        rows.append({**row, "detections": sum(len(curve.scores) for curve in kept)})
    return rows


def text(rows):
    """The table for people: VOC07 of each class at each score."""
    names = [*rows[0]["voc07"]["per_class"], "mean"]
    width = max(len(name) for name in (*names, "AP VOC07 of scores"))
    head = [f"{'AP VOC07 of scores':{width}}", *(f"{'> ' + format(row['score'], 'g'):>7}" for row in rows)]
    lines = ["  ".join(head)]
    for name in names:
        values = [row["voc07"]["mean"] if name == "mean" else row["voc07"]["per_class"][name] for row in rows]
        shown = ["n/a" if value is None else f"{value:.4f}" for value in values]
        lines.append("  ".join([f"{name:{width}}", *(f"{value:>7}" for value in shown)]))
    return "\n".join(lines)
