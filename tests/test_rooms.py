"""The rules of ARCHITECTURE.md, read from the sources: who may import whom, and where no TensorFlow may be.

The page's table of rooms is the list: a module stands in it once, and imports run from a row to rows above it.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from programs import fresh_environment

ROOT = Path(__file__).parents[1]
DATA_PROGRAMS = {"check_dataset", "convert_dataset"}
PROGRAMS = {
    "train",
    "infer",
    "infer_many",
    "export_model",
    "process_video",
    "benchmark_model",
    "pretrained",
    *DATA_PROGRAMS,
    "demo",
    "toy_road.__main__",
}
# No module of these may import TensorFlow, at once or through others: flags are checked and workers started without it.
WITHOUT_TENSORFLOW = {
    "system",
    "media",
    "formats",
    "results",
    "scoring",
    "dataset_check",
    "conversion",
    "toy_road",
    "tracking",
    "film",
    "measuring",
    "many",
    "weights",
    "structures",
    "boxes",
    "tiling",
    "transforms",
    "ssd_utils",
    "ssd_layers",
    "settings",
    "config",
    "source_pascal_voc",
    "sources",
    "training_data",
    "average_precision",
    "training.augmentation_file",
    "training.batch_sheet",
    "training.caching",
    "training.flag_groups",
    "training.same_pictures",
    "training.train_flags",
    "training.together",
    "distribution.cluster",
    "distribution.connection",
    "distribution.ends",
    "distribution.group",
    "distribution.launcher",
    "distribution.meeting",
    "distribution.member",
    "distribution.patience",
    "exports.formats",
    "exports.file_metadata",
    "exports.opened",
    "exports.comparison",
    "exports.file_probe",
    "kernels.cpu",
    *PROGRAMS,
}
# ... but these import it: for modules that do
WITH_TENSORFLOW = {"system.quiet_tensorflow"}
# ... and these call for it in a function, once the flags are known to be good
LOADS_IT_LATER = {"system.tensorflow_loading", "measuring.timing", "exports.file_probe", *PROGRAMS}
# Packages of other people, by the modules that alone may import them; the rest of requirements.txt is free to all
ONLY_IN = {
    "av": {"media.video"},
    "h5py": {"weights.weight_files"},
    "yaml": {"formats.yolo"},
    "matplotlib": {"media.charts", "media.lettering"},
    "pillow_heif": {"media.images"},
    "tf2onnx": {"exports.onnx_graph"},
    "onnx": {"exports.onnx_graph"},
    "onnxruntime": {"exports.onnx_file"},
    "openvino": {"exports.openvino_file"},
    "nncf": {"exports.openvino_file"},
    "fsspec": {"many.inputs"},
    "ray": {"infer_many"},
    "pyarrow": {"many.parquet"},
    "google": {"system.compiled_code"},  # protobuf, which comes with TensorFlow
}
EVERYWHERE = {"numpy", "cv2", "tqdm", "PIL", "tensorflow"}


class Room(NamedTuple):
    """A row of the page's table. packages: the packages that its modules may import, beside its own."""

    row: int
    packages: frozenset


class Import(NamedTuple):
    """module: dotted, `formats.coco` also for `from formats import coco`."""

    module: str
    line: int
    in_function: bool  # happens when the function is called, not when the module is imported


def module_name(path):
    """'formats/coco.py' -> 'formats.coco'; recipes are run as files and named without their folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[-1] if parts[0] == "recipes" else ".".join(parts)


def find_modules():
    """{name: path} of every module of the project but tests and benchmarks."""
    paths = [path for folder in ("", "*/") for path in ROOT.glob(f"{folder}*.py") if path.name != "__init__.py"]
    return {module_name(path): path for path in paths if path.parent.name not in ("tests", "benchmarks")}


def read_table(page):
    """ARCHITECTURE.md -> {module: Room}. Raises AssertionError for a module that is listed twice."""
    found = {}
    for row, cells in enumerate(re.findall(r"^\| (.*`.*) \| (.*) \| (.*) \|$", page, re.M)):
        packages = frozenset(re.findall(r"`(\w+)/`", cells[1]))
        folder = re.fullmatch(r"`(\w+)/`", cells[0])
        prefix = "" if not folder or folder[1] == "recipes" else f"{folder[1]}."
        for name in re.findall(r"`(\w+)`", cells[2] if folder else cells[0]):
            assert prefix + name not in found, f"{prefix}{name} is listed twice"
            found[prefix + name] = Room(row, packages)
    return found


MODULES = find_modules()
TABLE = read_table((ROOT / "ARCHITECTURE.md").read_text("utf-8"))


def imports(source):
    """All imports of a module's source."""
    found = []

    def visit(node, in_function):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # No import is relative: "" is in no table
            base = "" if node.level else node.module
            names = [f"{base}.{alias.name}" for alias in node.names]
            found.extend(Import(name if name in MODULES else base, node.lineno, in_function) for name in names)
        elif isinstance(node, ast.Call) and _callee(node) in ("import_module", "__import__"):
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else "?"
            found.append(Import(name, node.lineno, in_function))
        for child in ast.iter_child_nodes(node):
            visit(child, in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(source), False)
    return found


def _callee(call):
    """The last part of the name of the function that is called."""
    return getattr(call.func, "attr", None) or getattr(call.func, "id", None)


def package_of(name):
    """'formats.coco' -> 'formats'; '' at the top level."""
    return name.rpartition(".")[0]


def is_without_tensorflow(name):
    """Whether a module must not import TensorFlow."""
    listed = name in WITHOUT_TENSORFLOW or package_of(name) in WITHOUT_TENSORFLOW
    return listed and name not in WITH_TENSORFLOW


def broken_rules(name, source):
    """What a module's source does against the rules, a line each."""
    if name not in TABLE:
        return [f"{name} has no place in ARCHITECTURE.md"]
    broken = []
    for module, line, in_function in imports(source):
        where = f"{name}:{line}: imports {module}"
        outer = module.split(".")[0]
        if module in TABLE:
            if TABLE[module].row > TABLE[name].row:
                broken.append(f"{where}, which stands below it in the table")
            other = package_of(module)
            if package_of(name) and other not in ("", package_of(name), *TABLE[name].packages):
                broken.append(f"{where}, and {package_of(name)}/ may not import {other}/")
            if is_without_tensorflow(name) and not (is_without_tensorflow(module) or in_function):
                broken.append(f"{where}, which imports TensorFlow")
        elif outer == "tensorflow" and is_without_tensorflow(name):
            if name not in LOADS_IT_LATER or not in_function:
                broken.append(f"{where}, which it must not")
        elif outer not in sys.stdlib_module_names and outer not in EVERYWHERE and name not in ONLY_IN.get(outer, ()):
            broken.append(f"{where}, a package that is not for it")
    return broken


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_the_rules(name):
    assert broken_rules(name, MODULES[name].read_text(encoding="utf-8")) == []


def test_the_page_lists_every_module_once():
    assert TABLE.keys() == MODULES.keys()


def test_no_circle():
    """Imports within a function count too: two modules that need each other are one module."""
    needs = {
        name: {module for module, _, _ in imports(path.read_text("utf-8")) if module in MODULES}
        for name, path in MODULES.items()
    }
    while free := {name for name, needed in needs.items() if not needed & needs.keys()}:
        needs = {name: needed for name, needed in needs.items() if name not in free}
    assert needs == {}


def test_a_package_says_what_it_is_for():
    for path in ROOT.glob("*/__init__.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree), path
        assert len(tree.body) == 1, f"{path} defines something; give that a module"


def test_the_top_level_stays_short():
    assert len(list(ROOT.glob("*.py"))) <= 24


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("boxes", "import ssd_vgg", "imports ssd_vgg, which stands below it"),
        ("system.files", "from media import images", "imports media.images, which stands below it"),
        ("toy_road.dataset", "from formats import coco", "toy_road/ may not import formats/"),
        ("toy_road.dataset", "from formats.coco import load", "toy_road/ may not import formats/"),
        (
            "boxes",
            "def f():\n    import tensorflow.compat.v1 as tf",
            "boxes:2: imports tensorflow.compat.v1, which it m",
        ),
        (
            "boxes",
            "def f():\n    return importlib.import_module('tensorflow.x')",
            "imports tensorflow.x, which it must",
        ),
        ("boxes", "m = __import__(name)", "imports ?, a package that is not for it"),
        ("system.tensorflow_loading", "import tensorflow", "imports tensorflow, which it must not"),
        ("ssd_utils", "from . import boxes", "imports , a package"),
        ("train", "from training import trainer", "imports training.trainer, which imports TensorFlow"),
        ("infer", "if True:\n    from tensorflow import compat", "imports tensorflow, which it must not"),
        ("infer", "class A:\n    import detector", "imports detector, which imports TensorFlow"),
        ("boxes", "import system.quiet_tensorflow", "imports system.quiet_tensorflow, which imports TensorFlow"),
        ("training.train_flags", "import losses", "imports losses, which imports TensorFlow"),
        ("losses", "import scipy.ndimage", "imports scipy.ndimage, a package that is not for it"),
        ("media.images", "import av", "imports av, a package that is not for it"),
        ("new_room", "", "has no place in"),
    ],
)
def test_a_broken_rule_is_seen(name, source, message):
    broken = broken_rules(name, source)
    assert broken
    assert message in broken[0] or message in broken[-1]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train", "from system import cli\ndef main():\n    from training import trainer"),
        ("media.video", "from structures import UserError\nimport av"),
        ("ssd_vgg", "import os, math\nimport tensorflow.compat.v1 as tf"),
    ],
)
def test_what_is_allowed(name, source):
    assert broken_rules(name, source) == []


def test_a_module_that_is_listed_twice_is_seen():
    with pytest.raises(AssertionError, match="boxes is listed twice"):
        read_table("| `boxes` | – | geometry |\n| `losses`, `boxes` | – | more |\n")


@pytest.mark.parametrize("name", ["detector", "losses", "ssd_vgg", "runs"])
def test_what_a_user_may_import_first_imports_tensorflow_quietly(name):
    assert imports(MODULES[name].read_text("utf-8"))[0].module == "system.quiet_tensorflow"


def test_the_detector_is_imported_without_a_word():
    settings = {"env": fresh_environment(), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", "import detector"], cwd=ROOT, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def loaded_after(*names):
    """sys.modules of a new Python that imported these modules."""
    code = f"import sys, {', '.join(names)}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_workers_have_no_tensorflow():
    """What a worker imports, and nothing else: a stray import in any module below would show."""
    loaded = loaded_after("training_data")
    assert {"training_data", "system.data_queue", "transforms", "ssd_utils", "cv2"} <= loaded
    assert not {"tensorflow", "matplotlib", "av", "keras"} & loaded


def test_programs_and_what_they_need_first_start_without_tensorflow():
    light = [name for name in MODULES if is_without_tensorflow(name)]
    assert {"train", "training.train_flags", "config", "source_pascal_voc", "average_precision"} <= set(light)
    loaded = loaded_after(*light)
    assert set(light) <= loaded
    assert not {"tensorflow", "keras", "torch"} & loaded
