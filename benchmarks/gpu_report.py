"""The rows of gpu.py as lines of JSON and as a Markdown table."""

import json

from system import cli
from system.wording import table

COLUMNS = ("row", "what", "value", "ratio", "first result (s)", "GPU memory (MB)")


class Report:
    """Writes each row at once; knows them all.

    machine: the dict of the first line; rows: dicts, each with "row", "what" and "value", "skipped" or "failed".
    """

    def __init__(self, file, machine):
        self._file = file
        self.machine, self.rows = machine, []
        self._write({"machine": machine})

    def add(self, row):
        self.rows.append(row)
        self._write(row)

    def _write(self, values):
        try:
            print(json.dumps(values, ensure_ascii=False), file=self._file, flush=True)
        except OSError as error:
            cli.warn_once(f"--output: {error}; the table at the end has all rows")

    def names(self):
        return {row["row"] for row in self.rows}

    def faults(self):
        """The rows that failed or are not correct."""
        return [row for row in self.rows if "failed" in row or row.get("correct") is False]

    def markdown(self):
        """The machine, a table of the rows with figures, and a list of the others."""
        lines = [_card(self.machine), "", table(COLUMNS, [_columns(row) for row in self.rows if "value" in row])]
        for row in self.rows:
            if "top" in row:
                operations = table(("operation", "ms", "calls"), row["top"])
                lines += ["", f"The slowest operations of {row['what']}:", "", operations]
        if missing := [row for row in self.rows if "value" not in row]:
            lines += ["", "Not measured:", "", *map(_missing, missing)]
        return "\n".join(lines)


def _missing(row):
    return f"- `{row['row']}`: {row.get('skipped') or 'failed: ' + row['failed']}"


def _card(machine):
    """The machine in one line."""
    card = machine["gpu"] or f"no GPU, {machine['cpu']}"
    libraries = f"TensorFlow {machine['tensorflow']} (CUDA {machine['cuda']}, cuDNN {machine['cudnn']})"
    return f"{card}, {machine['cores']} cores, {libraries}, commit {machine['commit'] or 'unknown'}"


def _columns(row):
    against = f"{row['ratio']:.2f} × {row['against']}" if "ratio" in row else ""
    return [
        f"`{row['row']}`",
        row["what"],
        _value(row),
        against,
        row.get("first_seconds", ""),
        row.get("peak_gpu_mb") or "",
    ]


def _value(row):
    if row["unit"] == "correct":
        shown = ("losses", "outputs", "update", "differing", "fused_convolutions", "plain_convolutions")
        differences = {key: row[key] for key in shown if key in row}
        found = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in differences.items())
        return f"{'yes' if row['correct'] else '**no**'} ({found})"
    value = row["value"]
    return f"{value:,.0f} {row['unit']}" if value >= 100 else f"{value:.3g} {row['unit']}"
