"""A sample of `make campaign`, which goes on for hours."""

import importlib.util
import subprocess
import sys

import pytest

from programs import ROOT, fresh_environment


def test_a_sample_of_the_campaign(tmp_path):
    """Three kills of one training, which then ends with the weights of an untouched one, a worker's, damaged inputs."""
    words = [
        "kills=3",
        "trouble=1",
        "fuzz=25",
        "readers=data set,config,state,anchors,results,picture png",
        f"output={tmp_path}/page.md",
    ]
    command = [sys.executable, str(ROOT / "tests" / "campaign"), *words]
    done = subprocess.run(command, cwd=ROOT, env=fresh_environment(), capture_output=True, text=True)
    page = (tmp_path / "page.md").read_text("utf-8")
    assert done.returncode == 0, page
    for row in (
        "| SIGKILL of a training, at any moment | 1 |",
        "| SIGKILL in a save, ",
        "| SIGKILL of a worker that makes batches | 1 |",
        "| damaged: data set voc | 25 |",
    ):
        assert row in page
    assert "| trainings that were killed until they ended | 1 | the weights are those of" in page


@pytest.fixture
def report(monkeypatch):
    spec = importlib.util.spec_from_file_location("report", ROOT / "tests" / "campaign" / "report.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "report", module)  # for its dataclass
    spec.loader.exec_module(module)
    return module


def test_the_page_counts_all_calls(report, tmp_path):
    page = tmp_path / "page.md"
    first = [report.Row("kills", "whole", 3, ["lost"]), report.Row("films", "flat", 10, [], 3)]
    report.add(page, first, ["kills=3", "output=page.md", "seed=0"], 0, 120)
    with open(tmp_path / "page.jsonl", "a", encoding="utf-8") as file:
        file.write('{"command": "of a call that was cut o')
    second = [report.Row("kills", "whole", 4), report.Row("disks", "one line"), report.Row("films", "flat", 1, [], 1)]
    report.add(page, second, ["kills=4", "seed=1"], 1, 60)
    text = page.read_text("utf-8")
    assert (
        '| `make campaign CAMPAIGN="kills=3 seed=0"` |' in text and '`make campaign CAMPAIGN="kills=4 seed=1"`' in text
    )
    assert "| kills | 7 | whole | 1 |" in text and "| films | 11 | flat (here 3 MB at most) | 0 |" in text
    assert "disks" not in text.split("## What")[0].partition("| what |")[2]  # none was tried
    report.add(page, [], ["fuzz=9", "readers=data set csv,state", "seed=2"], 2, 60)
    assert "| `python -m tests.campaign fuzz=9 'readers=data set csv,state' seed=2` |" in page.read_text("utf-8")
    assert "Total: 0 kills and 0 damaged inputs." in text
    assert "- kills (not in 4 later tries, the last at " in text and ": lost" in text
    assert [one["seed"] for one in report.read(page)] == [0, 1, 2]
