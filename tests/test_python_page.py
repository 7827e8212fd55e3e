"""The snippets of docs/python.md, executed as one script, and the notebook docs/tour.ipynb."""

import json
import os
import re
import subprocess
import sys

import pytest

from programs import ROOT, fresh_environment
from toy_road import dataset, drive

PAGE = (ROOT / "docs" / "python.md").read_text("utf-8")


@pytest.fixture
def demo(tmp_path, trained):
    """A folder in which runs/demo is as `make demo` leaves it, only smaller and with a model that knows nothing."""
    place = tmp_path / "runs" / "demo"
    dataset.write_dataset(place / "data", train=4, test=3, workers=0)
    for path in (place / "data" / "VOC2007" / "Annotations").iterdir():  # the classes of the model
        text = re.sub("<name>(car|bus)<", "<name>disc<", path.read_text("utf-8"))
        path.write_text(re.sub("<name>(pedestrian|traffic_light)<", "<name>square<", text), "utf-8")
    drive.write_drive(place / "data" / "drive.mp4", frames=3)
    os.symlink(trained, place / "run")
    return tmp_path


def run_script(folder, lines):
    """What a Python script prints that is started in a folder."""
    (folder / "script.py").write_text("\n".join(lines), "utf-8")
    settings = {"cwd": folder, "env": fresh_environment(PYTHONPATH=str(ROOT)), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "script.py"], **settings)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_snippets_run_as_one_script(demo):
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(snippets) == PAGE.count("```") / 2 > 6
    checks = [
        "assert len(several) == 3 and len(batch) == 2",
        "import numpy",
        "numpy.testing.assert_allclose(found.scores, same.scores, atol=1e-4)",
        "assert len(rows) == len(same) > 0",  # a model that knows nothing is sure of something
    ]
    output = run_script(demo, [*snippets, *checks])
    assert output.splitlines()[0] == "('disc', 'square')"
    runs = demo / "runs"
    table = (runs / "found.csv").read_text("utf-8").splitlines()
    assert table[0] == "file,class,score,xmin,ymin,xmax,ymax" and table[1].startswith("test_000000.jpg,")
    assert (runs / "drawn.jpg").exists() and (runs / "found.mp4").exists()
    assert "mean" in json.loads((runs / "scored_from_python.json").read_text("utf-8"))["voc07"]


def cells(kind):
    """The cells of the notebook, each as its text."""
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_stored_without_results():
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    for target in re.findall(r"\]\(([\w./]+)", "".join(cells("markdown"))):
        assert (ROOT / "docs" / target).exists()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Its cells in turn, started as Jupyter does, in the folder of the notebook; files go elsewhere."""
    script = "\n".join(cells("code"))
    assert script.count('place = "runs/tour"') == 1
    script = script.replace('place = "runs/tour"', f"place = {str(tmp_path)!r}")
    settings = {"cwd": ROOT / "docs", "env": fresh_environment(), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-"], input=script, **settings)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert json.loads((tmp_path / "ap.json").read_text("utf-8"))["voc07"]["mean"] > 0.05
    assert (tmp_path / "drive_annotated.mp4").exists()
