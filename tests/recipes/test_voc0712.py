"""recipes/voc0712.sh with a local server and small archives of the real layout."""

import hashlib
import http.server
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from programs import ROOT
from settings.training_recipes import RECIPES
from settings.training_settings import DEFAULTS
from training import train_flags
from voc_tree import write_voc

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl, as the script")
SCRIPT = ROOT / "recipes" / "voc0712.sh"
ARCHIVES = {
    "voc2007/VOCtrainval_06-Nov-2007.tar": ("2007", "trainval", "VOC2007_TRAINVAL_MD5"),
    "voc2007/VOCtest_06-Nov-2007.tar": ("2007", "test", "VOC2007_TEST_MD5"),
    "voc2012/VOCtrainval_11-May-2012.tar": ("2012", "trainval", "VOC2012_TRAINVAL_MD5"),
}
TOOLS = ("bash", "cat", "curl", "tar", "md5sum", "df", "awk", "dirname", "mkdir", "mv", "rm", "wc")
# Replaces Python: records its arguments and writes the files that the programs would write
STUB = """#!{python}
import json, os, pathlib, sys
if sys.argv[1] == "-c":
    sys.argv[2] = sys.argv[2].removeprefix("import tensorflow")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
program, arguments = os.path.basename(sys.argv[1]), sys.argv[2:]
with open({log!r}, "a") as file:
    file.write(json.dumps([program, arguments]) + "\\n")
def value(flag): return pathlib.Path(arguments[arguments.index(flag) + 1])
if program == "train.py":
    value("--run").mkdir(parents=True, exist_ok=True)
    (value("--run") / "config.json").touch()
    sys.exit(130 if {stopped!r} in arguments and "--resume" not in arguments else 0)
if program == "check_dataset.py":
    value("--html").touch()
if program == "average_precision.py":
    value("--json").parent.mkdir(parents=True, exist_ok=True)
    value("--json").write_text('{{"voc07": {{"mean": 0.5}}}}')
"""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves `content` {path: bytes} with ranges; closes a connection after `break_after` bytes; records requests."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.break_after, self.asked = content, None, []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        body = self.server.content.get(self.path.removeprefix("/"), b"")
        if not body[start:]:
            self.send_error(416 if body else 404)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start:][: self.server.break_after])

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """{path: bytes} of three archives with VOCdevkit/VOCYEAR/…, 4 pictures each."""
    content, rng = {}, np.random.default_rng(0)
    for path, (year, split, _) in ARCHIVES.items():
        top = tmp_path_factory.mktemp("voc")
        ids = [f"{year}_{split}_{index}" for index in range(4)]
        objects = [("car", (10, 10, 60, 60)), ("dog", (50, 20, 90, 70), True)]
        pictures = {key: (rng.integers(0, 255, (80, 100, 3), np.uint8), objects) for key in ids}
        write_voc(top / "VOCdevkit" / f"VOC{year}", pictures, {split: ids})
        with tarfile.open(top / "archive.tar", "w") as tar:
            tar.add(top / "VOCdevkit", "VOCdevkit")
        content[path] = (top / "archive.tar").read_bytes()
    return content


@pytest.fixture
def server(archives):
    with Server(dict(archives)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def script(tmp_path, server, archives):
    """A call of the script, with a stub for Python: script(*arguments, **environment) -> CompletedProcess."""
    stub = tmp_path / "python"
    stub.write_text(STUB.format(python=sys.executable, log=str(tmp_path / "log"), stopped="vgg512-article"))
    stub.chmod(0o755)
    sums = {ARCHIVES[path][2]: hashlib.md5(content).hexdigest() for path, content in archives.items()}
    url = f"http://127.0.0.1:{server.server_address[1]}"

    def call(*arguments, **environment):
        settings = {**os.environ, "VOC_BASE_URL": url, "VOC_NEED_MB": "1", "PYTHON": str(stub), **sums, **environment}
        places = ("--data", str(tmp_path / "data"), "--run", str(tmp_path / "run"))
        return subprocess.run([SCRIPT, *places, *arguments], capture_output=True, text=True, env=settings, check=False)

    return call


def log(tmp_path):
    """[(program, arguments)] of what was run."""
    path = tmp_path / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def error_of(done):
    """The one line of a call that must fail."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_syntax_and_help():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout and "VOC_BASE_URL" in done.stdout and not done.stderr
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck():
    subprocess.run(["shellcheck", SCRIPT], check=True)


def test_everything_is_done_once(script, server, tmp_path):
    """Four trainings with flags that train.py takes, scored; the second of them is stopped and resumed."""
    first = script()
    assert first.returncode == 130, first.stderr
    assert {path.name for path in (tmp_path / "data/VOCdevkit").iterdir()} == {"VOC2007", "VOC2012"}
    lists = tmp_path / "data/VOCdevkit/VOC2007/ImageSets/Main"
    assert {path.stem for path in lists.iterdir()} == {"trainval", "test"}  # of two archives
    second = script()
    assert second.returncode == 0, second.stderr
    assert len(server.asked) == 3  # each archive came once
    ran = log(tmp_path)
    scoring = ["infer.py", "average_precision.py"]
    assert [program for program, _ in ran] == [
        "check_dataset.py",
        "train.py",
        *scoring,
        "train.py",  # stopped
        "train.py",
        *scoring,
        *["train.py", *scoring] * 2,
    ]
    assert "--resume" in ran[5][1]
    assert second.stdout.count("0.5000") == 4
    third = script()
    assert third.returncode == 0 and len(log(tmp_path)) == len(ran)


def trainings(tmp_path):
    """(description, settings) that train.py reads from each of its calls."""
    arguments = [arguments for program, arguments in log(tmp_path) if program == "train.py"]
    shutil.rmtree(tmp_path / "run")  # train.py refuses a folder that exists
    return [train_flags.read(train_flags.parse(one, "")) for one in arguments]


def test_flags_are_those_of_the_article_and_of_the_original(script, tmp_path):
    assert script("article512", VGG="none").returncode == 130
    assert script("original300", VGG="none").returncode == 0
    expected = (("article", "vgg512-article"), ("original", "vgg300"))
    for (description, settings), (recipe, preset) in zip(trainings(tmp_path), expected, strict=True):
        assert description.preset.name == preset and len(description.class_names) == 20
        assert settings.train == "2007:trainval,2012:trainval"
        for name, value in RECIPES[recipe].items():
            assert name == "preset" or getattr(settings, name) == value


def test_the_quick_training_needs_voc2007_alone(script, server, tmp_path):
    assert script("quick300", VGG="none").returncode == 0
    assert {path.split("/")[1] for path, _ in server.asked} == {"voc2007"}
    assert {path.name for path in (tmp_path / "data/VOCdevkit").iterdir()} == {"VOC2007"}
    (check,) = [arguments for program, arguments in log(tmp_path) if program == "check_dataset.py"]
    assert check[check.index("--split") + 1] == "2007:trainval,2007:test"
    ((description, settings),) = trainings(tmp_path)
    assert description.preset.name == "vgg300" and settings.train == "2007:trainval"
    assert (settings.batch_size, settings.schedule, settings.freeze) == (32, "cosine", ("conv1", "conv2"))
    assert settings.optimizer == DEFAULTS.optimizer


def test_the_quick_training_beside_another_has_all_data(script, server, tmp_path):
    assert script("quick300").returncode == 0
    assert script("quick300", "original300").returncode == 0
    assert sorted(path for path, _ in server.asked) == sorted(f"/{path}" for path in ARCHIVES)
    checks = [arguments for program, arguments in log(tmp_path) if program == "check_dataset.py"]
    assert [one[one.index("--split") + 1].count("2012") for one in checks] == [0, 1]


def test_a_broken_download_is_continued(script, server, tmp_path):
    server.break_after = 20_000
    assert "VOCtrainval_06-Nov-2007.tar" in error_of(script("--only-data"))
    part = tmp_path / "data/VOCtrainval_06-Nov-2007.tar.part"
    have = part.stat().st_size
    assert have >= 20_000  # curl's own second try may have got more
    server.break_after, server.asked[:] = None, []
    assert script("--only-data").returncode == 0
    assert server.asked[0] == ("/voc2007/VOCtrainval_06-Nov-2007.tar", f"bytes={have}-")


def test_a_complete_part_is_not_fetched_again(script, server, archives, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/VOCtest_06-Nov-2007.tar.part").write_bytes(archives["voc2007/VOCtest_06-Nov-2007.tar"])
    assert script("--only-data").returncode == 0
    assert "/voc2007/VOCtest_06-Nov-2007.tar" not in [path for path, _ in server.asked]


def test_what_is_downloaded_needs_no_space_again(script, server, archives, tmp_path):
    """Complete parts of 3 MB each, where there is room to unpack them."""
    (tmp_path / "data").mkdir()
    sums = {}
    for path, (_, _, name) in ARCHIVES.items():
        content = archives[path] + bytes(3 * 2**20)  # zeros end a tar
        sums[name] = hashlib.md5(content).hexdigest()
        (tmp_path / "data" / f"{path.rpartition('/')[2]}.part").write_bytes(content)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho disk 9999 5903 4096\n")
    (tools / "df").chmod(0o755)
    settings = {"PATH": f"{tools}:{os.environ['PATH']}", **sums}
    assert script("--only-data", VOC_NEED_MB="7", **settings).returncode == 0
    assert not server.asked
    shutil.rmtree(tmp_path / "data")
    assert "7 MB are needed for the next archive, 4 MB are free" in error_of(
        script("--only-data", VOC_NEED_MB="7", **settings)
    )


def test_wrong_contents_are_refused(script, server, tmp_path):
    name = "voc2007/VOCtest_06-Nov-2007.tar"
    server.content[name] = server.content[name][:-1] + b"x"
    line = error_of(script("--only-data"))
    assert "MD5" in line and name in line
    assert not list((tmp_path / "data").glob("VOCtest*"))
    assert not log(tmp_path)


def test_a_damaged_archive_is_refused(script, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/VOCtrainval_06-Nov-2007.tar").write_bytes(b"what someone put there")
    line = error_of(script("--only-data"))
    assert "VOCtrainval_06-Nov-2007.tar" in line and "MD5" in line


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["--wrong"], {}, "--wrong"),
        (["article300 article512"], {}, "article300 article512: no such training"),
        (["vgg300"], {}, "article300 article512 original300 original512 quick300"),
        (["--data"], {}, "--data"),
        ([], {"VOC_NEED_MB": "999999999"}, "999999999 MB"),
        ([], {"VOC_BASE_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9/voc2007"),
        ([], {"PYTHON": "/no/such/python"}, "/no/such/python"),
    ],
)
def test_errors_are_one_line_that_names_the_cause(script, arguments, environment, named):
    assert named in error_of(script(*arguments, **environment))


def test_a_trial_is_not_mistaken_for_the_training(script, tmp_path):
    assert script("original300", TRAIN_FLAGS="--max-steps 9").returncode == 0
    before = log(tmp_path)
    line = error_of(script("original300"))
    assert all(part in line for part in ("original300.settings", "TRAIN_FLAGS='--max-steps 9'", "TRAIN_FLAGS=''"))
    assert script("original300", TRAIN_FLAGS="--max-steps 9").returncode == 0
    assert log(tmp_path) == before


def test_flags_that_trained_nothing_can_be_corrected(script, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "original300.settings").write_text("TRAIN_FLAGS='--typo' VGG='auto'\n")
    assert script("original300").returncode == 0


def test_a_training_without_its_note_is_named(script, tmp_path):
    (tmp_path / "run" / "original300").mkdir(parents=True)
    (tmp_path / "run" / "original300" / "config.json").touch()
    assert "original300.settings, the settings of that training, is missing" in error_of(script("original300"))


@pytest.mark.parametrize("missing", ["curl", "md5sum", "tar"])
def test_a_missing_tool_is_named(script, tmp_path, missing):
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if tool != missing:
            (folder / tool).symlink_to(shutil.which(tool))
    assert missing in error_of(script(PATH=str(folder)))


@pytest.mark.slow
def test_tiny_training_for_real(script, tmp_path):
    flags = "--width 0.03 --batch-size 4 --accumulate 2 --max-steps 2 --workers 1"
    settings = {"PYTHON": sys.executable, "VGG": "none", "TRAIN_FLAGS": flags}
    done = script("original300", "article300", "quick300", **settings)
    assert done.returncode == 0, done.stderr
    for name in ("original300", "article300", "quick300"):
        assert json.loads((tmp_path / f"run/{name}-score/ap.json").read_text())["images"] == 4
        assert (tmp_path / f"run/{name}-score/plots/errors.html").exists()
    assert len(done.stdout.splitlines()[-1].split()) == 4  # name, mean AP, see, page
