"""What was measured of several models, for people and programs: a line each on the terminal, and a table as CSV."""

import csv
import io
from typing import Any

PERCENTILES = ("p50", "p95", "p99")


class Lines:
    """The table on the terminal, line by line, since measuring one model takes minutes.

    names: of all models; batches: sizes of batches; scored: whether there is a data set.
    """

    def __init__(self, names: list[str], batches: tuple[int, ...], scored: bool):
        self._batches = batches
        self._columns = [("model", max(map(len, [*names, "model"])))]
        self._columns += [(name, max(len(name), 8)) for name in self._heads(scored)]

    def _heads(self, scored):
        first = self._batches[0]
        heads = ["precision", "parameters", "GFLOP", "MB", "load s", *(f"images/s ×{batch}" for batch in self._batches)]
        heads += [f"{name} ms ×{first}" for name in PERCENTILES]
        return [*heads, "memory MB", *(["AP VOC07", "AP area"] if scored else [])]

    def head(self) -> str:
        """The first line."""
        return self._line([name for name, _ in self._columns])

    def row(self, found: dict[str, Any]) -> str:
        """The line of a model. found: its dict of `--json`."""
        sizes = [found["batches"][str(batch)] for batch in self._batches]
        latency = sizes[0] and sizes[0]["latency_ms"]
        cells = [found["model"], found["precision"], f"{found['parameters']:,}", f"{found['gflop']:.2f}"]
        cells += [f"{found['file_mb']:.1f}", f"{found['load_seconds']:.2f}"]
        cells += ["n/a" if one is None else f"{one['images_per_second']:.2f}" for one in sizes]
        cells += ["n/a" if latency is None else f"{latency[name]:.1f}" for name in PERCENTILES]
        cells.append(f"{found['peak_mb']:.0f}")
        if found["map"]:
            cells += ["n/a" if ap is None else f"{ap:.4f}" for ap in (found["map"]["voc07"], found["map"]["area"])]
        return self._line(cells)

    def _line(self, cells):
        (_, width), *others = self._columns
        parts = [f"{cells[0]:{width}}"]
        parts += [f"{cell:>{wide}}" for cell, (_, wide) in zip(cells[1:], others, strict=True)]
        return "  ".join(parts)


def flat(found: dict[str, Any]) -> dict[str, Any]:
    """A dict without dicts inside, whose keys are joined by _: batches_8_latency_ms_p50."""
    row: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, dict):
            row |= {f"{key}_{name}": one for name, one in flat(value).items()}
        else:
            row[key] = value
    return row


def to_csv(models: list[dict[str, Any]]) -> str:
    """A table with a row for each model's dict of `--json`; what one lacks is empty."""
    rows = [flat(one) for one in models]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
