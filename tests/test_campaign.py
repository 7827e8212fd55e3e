"""A sample of `make campaign`, which goes on for hours."""

import subprocess
import sys

from programs import ROOT, fresh_environment


def test_a_sample_of_the_campaign(tmp_path):
    """Three kills of one training, which then ends with the weights of an untouched one, and damaged inputs."""
    words = [
        "kills=3",
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
        "| damaged: data set voc | 25 |",
    ):
        assert row in page
    assert "| trainings that were killed until they ended | 1 | the weights are those of" in page
