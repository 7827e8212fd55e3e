"""The table of ARCHITECTURE.md: who may import whom, read from the sources; and no TensorFlow where workers live."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Room(NamedTuple):
    layer: int
    packages: frozenset  # beside Python's own


class Import(NamedTuple):
    module: str  # first part of the name
    line: int
    in_function: bool  # happens when the function is called, not when the module is imported


def rooms(layer, **packages_by_name):
    return {name: Room(layer, frozenset(packages.split())) for name, packages in packages_by_name.items()}


# `structures` and `worker_processes` lie under all others: they hold what those share. Of the packages tqdm is
# for bars, PIL for fonts and odd pictures, cv2 where pictures are warped or a version is noted.
# cli has a function by which the programs load TensorFlow once their flags are checked; no other room below layer 3.
TABLE = {
    **rooms(-1, structures="numpy", worker_processes=""),
    **rooms(
        0,
        annotations="numpy",
        boxes="numpy",
        cli="tensorflow",
        cpu="",
        data_queue="numpy",
        files="",
        html_page="cv2",
        images="numpy cv2 PIL",
        stages="",
        torch_files="numpy",
        video="numpy av",
        toy_road_drawing="numpy cv2",
        toy_road_models="numpy",
    ),
    **rooms(
        1,
        class_lists="",
        class_transfer="",
        chain="",
        coco_metric="numpy",
        source_coco="tqdm",
        source_csv="tqdm",
        source_pascal_voc="tqdm",
        source_yolo="tqdm yaml",
        source_toy_road="numpy cv2 tqdm",
        transforms="numpy cv2",
        ssd_utils="numpy",
        results="numpy",
        vgg_download="tqdm",
        weight_files="numpy h5py",
        visualization="numpy cv2 PIL matplotlib",
    ),
    **rooms(
        2,
        training_data="numpy cv2",
        sources="",
        result_folder="",
        config="",
        weight_layouts="numpy",
        anchor_advisor="numpy",
        dataset_scan="numpy cv2 tqdm",
        error_report="numpy",
    ),
    **rooms(
        3,
        convolution="tensorflow",
        winograd="numpy tensorflow",
        losses="tensorflow",
        devices="tensorflow",
        train_flags="",
        dataset_checks="numpy",
        error_pages="numpy cv2",
    ),
    **rooms(
        4,
        average_precision="numpy",
        ssd_vgg="numpy tensorflow",
        runs="numpy cv2 tensorflow",
        summaries="numpy cv2 tensorflow",
        dataset_report="numpy cv2",
        dataset_fixes="tqdm",
    ),
    **rooms(5, detector="numpy tensorflow", pretrained="numpy tensorflow", optimization="numpy tensorflow"),
    **rooms(6, engine="numpy tqdm", first_weights=""),
    **rooms(7, trainer="tensorflow"),
    **rooms(
        8,
        train="",
        infer="numpy tqdm",
        export_model="",
        process_video="numpy tqdm",
        check_dataset="",
        demo="",
        results_section="numpy cv2",
    ),
    **rooms(9, recipe=""),
    **rooms(10, bccd="", raccoon="", voc_traffic=""),
    **rooms(11, ablations=""),
}
PROGRAMS = {name for name, room in TABLE.items() if room.layer == 8}
# Names that bring TensorFlow along
LIGHT = {"train_flags", "average_precision", "dataset_checks", "dataset_report", "dataset_fixes", "error_pages"}
HEAVY = {"tensorflow"} | {name for name, room in TABLE.items() if 3 <= room.layer < 8 and name not in LIGHT}
SOURCES = {path.stem: path for path in sorted(ROOT.glob("*.py"))}
RECIPES = {path.stem: path for path in sorted(ROOT.glob("recipes/*.py"))}


def imports(source):
    """All imports of a module's source."""
    found = []

    def visit(node, in_function):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name.split(".")[0], node.lineno, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The repository is flat: a relative import is nobody's, and "" is in no table
            name = "" if node.level else node.module.split(".")[0]
            found.append(Import(name, node.lineno, in_function))
        elif isinstance(node, ast.Call) and _callee(node) in ("import_module", "__import__"):
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else "?"
            found.append(Import(name.split(".")[0], node.lineno, in_function))
        for child in ast.iter_child_nodes(node):
            visit(child, in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(source), False)
    return found


def _callee(call):
    """The last part of the name of the function that is called."""
    return getattr(call.func, "attr", None) or getattr(call.func, "id", None)


def broken_rules(name, source):
    """What a room's source does against the table, a line each."""
    if name not in TABLE:
        return [f"{name}.py: has no place in the table of tests/test_layers.py"]
    room, broken = TABLE[name], []
    for module, line, in_function in imports(source):
        where = f"{name}.py:{line}: layer {room.layer}"
        if module in TABLE:
            if TABLE[module].layer >= room.layer:
                broken.append(f"{where} imports {module} of layer {TABLE[module].layer}")
        elif module not in sys.stdlib_module_names and module not in room.packages:
            broken.append(f"{where} imports the package {module!r}")
        if (name in PROGRAMS or name == "cli") and module in HEAVY and not in_function:
            broken.append(f"{where} imports {module} before the flags are checked")
    return broken


@pytest.mark.parametrize("name", [*SOURCES, *RECIPES])
def test_room_keeps_to_its_layer(name):
    path = SOURCES.get(name) or RECIPES[name]
    assert broken_rules(name, path.read_text(encoding="utf-8")) == []


def test_the_page_says_the_same():
    """ARCHITECTURE.md shows the layers; what lies under all is in its first."""
    found = {}
    for line in (ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines():
        if row := re.match(r"\| (\d+) \| ([^|]+) \|", line):
            found |= dict.fromkeys(re.findall(r"(\w+)\.py`", row[2]), int(row[1]))
    assert found == {name: max(0, room.layer) for name, room in TABLE.items()}


@pytest.mark.parametrize("name", TABLE)
def test_a_room_has_no_package_that_it_does_not_use(name):
    path = SOURCES.get(name) or RECIPES[name]
    used = {module for module, _, _ in imports(path.read_text("utf-8"))}
    assert TABLE[name].packages <= used


def test_nothing_below_layer_3_may_have_tensorflow():
    below = {name for name, room in TABLE.items() if room.layer < 3 and name != "cli"} | LIGHT
    assert not [name for name in below if "tensorflow" in TABLE[name].packages]


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("boxes", "import ssd_utils", "imports ssd_utils of layer 1"),
        ("boxes", "import video", "imports video of layer 0"),
        ("boxes", "def f():\n    import tensorflow.compat.v1 as tf", "boxes.py:2: layer 0 imports the package 'tenso"),
        ("boxes", "def f():\n    return importlib.import_module('tensorflow.x')", "imports the package 'tensorflow'"),
        ("boxes", "m = __import__(name)", "imports the package '?'"),
        ("cli", "import tensorflow", "imports tensorflow before the flags are checked"),
        ("transforms", "from ssd_utils import get_preset", "imports ssd_utils of layer 1"),
        ("ssd_utils", "from . import boxes", "imports the package ''"),
        ("train", "import infer", "imports infer of layer 8"),
        ("train", "def main():\n    import infer", "imports infer of layer 8"),
        ("train", "import trainer", "imports trainer before the flags are checked"),
        ("infer", "if True:\n    from tensorflow import compat", "before the flags"),
        ("infer", "class A:\n    import detector", "imports detector before the flags are checked"),
        ("losses", "import scipy.ndimage", "imports the package 'scipy'"),
        ("new_room", "", "has no place in the table"),
    ],
)
def test_a_broken_rule_is_seen(name, source, message):
    broken = broken_rules(name, source)
    assert broken
    assert message in broken[0] or message in broken[-1]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train", "import cli\ndef main():\n    import trainer"),
        ("video", "from structures import UserError"),
        ("ssd_vgg", "import os, math\nimport tensorflow.compat.v1 as tf"),
    ],
)
def test_what_is_allowed(name, source):
    assert broken_rules(name, source) == []


def loaded_after(*names):
    """sys.modules of a new Python that imported these rooms."""
    code = f"import sys, {', '.join(names)}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_workers_have_no_tensorflow():
    """What a worker imports, and nothing else: a stray import in any room below would show."""
    loaded = loaded_after("training_data")
    assert {"training_data", "data_queue", "transforms", "ssd_utils", "cv2"} <= loaded
    assert not {"tensorflow", "matplotlib", "av", "keras"} & loaded


def test_rooms_below_and_programs_start_without_tensorflow():
    light = [name for name in SOURCES if name in TABLE and name not in HEAVY]
    assert {"train", "train_flags", "config", "source_pascal_voc", "average_precision"} <= set(light)
    loaded = loaded_after(*light)
    assert set(light) <= loaded
    assert not {"tensorflow", "keras", "torch"} & loaded
