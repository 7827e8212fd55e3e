"""The page that a campaign writes."""

import dataclasses
import platform
import subprocess

MOST_SHOWN = 20  # failures of a row that are listed


@dataclasses.dataclass
class Row:
    """One line of the table.

    what: was tried. tries: how often. wanted: what had to hold. failures: a line for each time that it did not.
    """

    what: str
    wanted: str
    tries: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


def page(rows, words, seconds):
    """The text of docs/reliability.md. words: of the command."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    lines = [
        "# What was done to break it",
        "",
        "`make campaign` kills the programs, fills their disks, and gives them damaged files, from a seed, and writes",
        "this page. What it does is in `tests/campaign/`. This one was",
        "",
        "```",
        f'make campaign CAMPAIGN="{" ".join(words)}"',
        "```",
        "",
        f"at commit {commit}{' with changes' if changed else ''}, on Linux with Python {platform.python_version()}, in "
        f"{seconds / 60:.0f} minutes.",
        "",
        "| what | how often | what had to hold | failed |",
        "| --- | --- | --- | --- |",
        *(f"| {row.what} | {row.tries:,} | {row.wanted} | {len(row.failures)} |" for row in rows),
        "",
    ]
    failed = [row for row in rows if row.failures]
    if failed:
        lines += ["## What failed", ""]
    for row in failed:
        lines += [f"- {row.what}:", *(f"  - {failure}" for failure in row.failures[:MOST_SHOWN])]
        if len(row.failures) > MOST_SHOWN:
            lines.append(f"  - and {len(row.failures) - MOST_SHOWN} more")
    if failed:
        lines.append("")
    lines += [
        "## What was not tried",
        "",
        "Quotas, read-only disks, disks that fail, clocks that jump, and a real power cut: what a disk's own cache",
        "loses is not known here. A power cut is played: the files of a run are copied at a moment in which they",
        "change, and those that were not flushed by then are emptied.",
        "",
    ]
    return "\n".join(lines)
