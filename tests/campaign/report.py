"""The record that campaigns add to, and the page that is written from all of it."""

import dataclasses
import json
import platform
import shlex
import subprocess
import sys

MOST_SHOWN = 20  # failures of a row that are listed
KILLS = ("SIGKILL", "SIGTERM", "Ctrl-C", "power cut")  # what rows of kills begin with


@dataclasses.dataclass
class Row:
    """One line of the table.

    what: was tried. wanted: what had to hold. tries: how often. failures: a line for each time that it did not.
    measured: the largest growth of the memory, in MB; None if it was not measured.
    """

    what: str
    wanted: str
    tries: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    measured: float | None = None


def read(page):
    """What campaigns have recorded beside a page: a dict for each call. Says which line is cut off and left out."""
    try:
        lines = page.with_suffix(".jsonl").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    calls = []
    for number, line in enumerate(lines, start=1):
        try:
            calls.append(json.loads(line))
        except ValueError:
            print(f"{page.with_suffix('.jsonl')}: line {number} is not JSON and is left out", file=sys.stderr)
    return [{**one, "rows": [Row(**row) for row in one["rows"]]} for one in calls]


def add(page, rows, words, seed, seconds):
    """Add the Rows of a call to the record, and write the page. words: of the command."""
    changed = _git("status", "--porcelain", "-uno", "--", ".", ":!docs")  # there earlier calls have written
    call = {
        "command": _command([word for word in words if not word.startswith("output=")]),
        "commit": _git("rev-parse", "--short", "HEAD") + (" with changes" if changed else ""),
        "seed": seed,
        "python": platform.python_version(),
        "minutes": round(seconds / 60),
        "rows": [dataclasses.asdict(row) for row in rows if row.tries or row.failures],
    }
    record = page.with_suffix(".jsonl")
    cut_off = record.exists() and not record.read_bytes().endswith(b"\n")
    with open(record, "a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(call) + "\n")
    page.write_text(text(read(page)), "utf-8")


def _command(words):
    """The command with these words. make cannot pass one with spaces on."""
    if any(" " in word for word in words):
        return shlex.join(["python", "-m", "tests.campaign", *words])
    return f'make campaign CAMPAIGN="{" ".join(words)}"'


def _git(*words):
    return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()


def total(calls):
    """The Rows of several calls, one for each thing that was tried. Failures begin with their commit."""
    rows = {}
    for call in calls:
        for row in call["rows"]:
            found = rows.setdefault(row.what, Row(row.what, row.wanted))
            found.tries += row.tries
            if row.measured is not None:
                found.measured = max(row.measured, found.measured or 0)
            found.failures += [f"at {call['commit']}: {failure}" for failure in row.failures]
    return list(rows.values())


def text(calls):
    """The text of docs/reliability.md."""
    rows = total(calls)
    lines = [
        "# Attempts to break the programs",
        "",
        "`make campaign` kills the programs, fills their disks, and gives them damaged files, from a seed, and writes",
        "this page from what all its calls have recorded in `reliability.jsonl`. What it does is in `tests/campaign/`;",
        "`CAMPAIGN` (see the Makefile) says how often, and without it nothing is done.",
        "",
        "| command | commit | Python | minutes |",
        "| --- | --- | --- | --- |",
        *(f"| `{call['command']}` | {call['commit']} | {call['python']} | {call['minutes'] or ''} |" for call in calls),
        "",
        "A call that was interrupted counts with what it had done.",
        "",
        "| what | how often | what had to hold | failed |",
        "| --- | --- | --- | --- |",
        *map(_line, rows),
        "",
        f"Total: {_tries(rows, *KILLS):,} kills and {_tries(rows, 'damaged'):,} damaged inputs.",
        "",
        *_failures([row for row in rows if row.failures], calls),
        "## What is tested elsewhere",
        "",
        "Small files that ask for hours or gigabytes (`tests/test_huge_work.py`), graphs with planted operations",
        "(`tests/exports/test_stored_graphs.py`), pipes and devices in place of files (`tests/test_not_files.py`):",
        "they are a fixed few, and `make test` has them all.",
        "",
        "## What was not tried",
        "",
        "Quotas, which the kernel of the machine lacks (`CONFIG_QFMT_V2`; a test raises their error), disks that fail,",
        "and a real power cut: what a disk's own cache loses is not known here. A power cut is played: the files of a",
        "run are copied at a moment in which they change, and those that were not flushed by then are emptied.",
        "",
    ]
    return "\n".join(lines)


def _since(what, calls):
    """In words, how often it was tried by calls after the last one in which it failed."""
    tried = [(call["commit"], row) for call in calls for row in call["rows"] if row.what == what]
    last = max(number for number, (_, row) in enumerate(tried) if row.failures)
    later = tried[last + 1 :]
    if not later:
        return ""
    return f" (not in {sum(row.tries for _, row in later):,} later tries, the last at {later[-1][0]})"


def _tries(rows, *beginnings):
    """How often what begins with one of these words was tried."""
    return sum(row.tries for row in rows if row.what.startswith(beginnings))


def _line(row):
    measured = "" if row.measured is None else f" (here {row.measured} MB at most)"
    return f"| {row.what} | {row.tries:,} | {row.wanted}{measured} | {len(row.failures)} |"


def _failures(failed, calls):
    lines = ["## What failed", ""] if failed else []
    for row in failed:
        lines += [
            f"- {row.what}{_since(row.what, calls)}:",
            *(f"  - {failure}" for failure in row.failures[:MOST_SHOWN]),
        ]
        if len(row.failures) > MOST_SHOWN:
            lines.append(f"  - and {len(row.failures) - MOST_SHOWN} more")
    return [*lines, ""] if failed else []
