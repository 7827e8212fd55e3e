"""The benchmarks run at tiny sizes and report what they measured. No times are judged."""
# ruff: noqa: E402, as benchmarks/ must be on the path first

import functools
import gc
import importlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench
import bench_convolutions
import bench_cost
import bench_data
import bench_float_pipeline
import bench_harness
import bench_inputs
import bench_networks
import bench_programs
import numpy as np

import average_precision
import oracles_ap
from programs import fresh_environment, wait_until
from structures import UserError

KEYS = {"name", "unit", "ours", "peer", "ratio", "target", "what", "command", "machine"}
NO_PEER = ["--peer-python", shutil.which("false")]  # PyTorch is slow, and not everywhere


def bench_lines(*arguments):
    """The parsed lines of `bench.py --tiny ARGUMENTS`."""
    command = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "--tiny", *NO_PEER, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(line):
    assert set(line) >= KEYS
    for side in ("ours", "peer"):
        if line[side] is not None:
            assert line[side]["min"] <= line[side]["median"] <= line[side]["max"]
            assert line[side]["n"] >= 1
    if line["peer"] is None:
        assert line["ratio"] is None
    else:
        better = line["ours"]["median"] / line["peer"]["median"]
        if line["unit"] not in ("images/s", "frames/s"):
            better = 1 / better
        assert line["ratio"] == pytest.approx(better, rel=2e-3)  # both are rounded to four digits
    assert {"cpu", "cores", "others_busy", "gflops"} <= set(line["machine"])
    assert line["command"].startswith("python benchmarks/bench.py ")


@functools.cache
def task_of(script, task, options):
    """(facts, run) of a task; the same for the benchmarks that share it."""
    return importlib.import_module(script.removesuffix(".py")).TASKS[task](**json.loads(options))


@pytest.fixture(scope="module", autouse=True)
def tasks_end_with_this_file():
    """Frees what they hold (graphs, worker processes, shared memory) before the tests of other files."""
    yield
    task_of.cache_clear()
    gc.collect()


class InThisProcess:
    """A bench_harness.Side that needs no process of its own: TensorFlow is loaded once for all."""

    def __init__(self, script, task, options=None, python=None):
        self.facts, self._run = task_of(script, task, json.dumps(options or {}))

    def run(self):
        start = time.perf_counter()
        done = self._run()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "cpu_seconds": seconds, "peak_mb": 1.0, **done}

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def measure(monkeypatch, shapes, trained, tmp_path):
    """A function: name of a benchmark -> its lines, measured at tiny sizes."""
    monkeypatch.setattr(bench_harness, "Side", InThisProcess)
    monkeypatch.setattr(bench_programs, "Side", InThisProcess)
    monkeypatch.setattr(bench_data, "Side", InThisProcess)
    settings = bench_harness.Settings(
        tiny=True, data=str(shapes), model=str(trained), peer_python=NO_PEER[1], scratch=str(tmp_path)
    )

    def lines_of(name):
        lines = [
            {**line, "command": bench_harness.command(name, settings)}
            for line in bench.BENCHMARKS[name](name, settings)
        ]
        for line in lines:
            check(json.loads(json.dumps(line)))
        return lines

    return lines_of


def test_lines_of_the_program_without_a_peer_say_so(shapes):
    lines = bench_lines("matching", "data-ssd.pytorch-style", "--data", shapes)
    assert [line["name"] for line in lines] == ["matching-1", "matching-10", "data-ssd.pytorch-style"]
    for line in lines:
        check(line)
    assert "PyTorch" in lines[0]["note"]
    assert lines[2]["ratio"] is not None
    assert lines[2]["command"] == "python benchmarks/bench.py data-ssd.pytorch-style --tiny --data DATA"


@pytest.mark.parametrize(
    "name",
    [
        "training-step",
        "network-300",
        "network-300-float32",
        "network-512",
        "network-512-float32",
        "data",
        "training-memory",
    ],
)
def test_benchmarks_with_torchvision_as_peer(measure, name):
    (line,) = measure(name)
    assert line["name"] == name
    assert line["ours"]["median"] > 0
    assert "PyTorch" in line["note"]


def test_workers(measure):
    (line,) = measure("workers")
    assert line["name"] == "workers-2"
    assert line["peer"]["name"] == "1 workers"


def test_cache(measure):
    lines = measure("cache")
    assert [line["name"] for line in lines] == [
        "cache-ram-light",
        "cache-disk-light",
        "cache-ram-full",
        "cache-disk-full",
    ]
    assert lines[0]["ours"]["name"] == "--augmentation light --cache ram"
    assert lines[0]["peer"]["name"] == "--augmentation light --cache none"


def test_loading(measure):
    lines = measure("loading")
    assert [(line["name"], line["target"]) for line in lines] == [("loading-voc", 6), ("loading-coco", 15)]
    assert all(line["what"].startswith("5 pictures") for line in lines)


def test_loading_reports_the_median_round(monkeypatch, tmp_path):
    answers = [{"cpu_seconds": 1.0, "seconds": seconds, "peak_mb": seconds} for seconds in (2.0, 9.0, 3.0)]
    monkeypatch.setattr(bench_data, "Side", InThisProcess)
    monkeypatch.setattr(bench_data, "alternate", lambda *_, **__: ([answers], {}))
    line, _ = bench_data.loading("loading", bench_harness.Settings(tiny=True, scratch=str(tmp_path)))
    assert (line["ours"]["seconds"], line["ours"]["peak_mb"]) == (3.0, 9.0)


def test_matching(measure):
    assert [line["name"] for line in measure("matching")] == ["matching-1", "matching-10"]


def test_evaluator(measure):
    (line,) = measure("evaluator")
    assert line["identical"] is True


def test_evaluator_that_disagrees_with_the_loop_is_no_benchmark(measure, monkeypatch):
    monkeypatch.setattr(oracles_ap, "per_detection", lambda *_: {"class0": np.ones(9, bool)})
    with pytest.raises(RuntimeError, match="true positives"):
        measure("evaluator")


@pytest.mark.parametrize("name", ["after-network-random", "after-network-trained"])
def test_after_network(measure, name):
    (line,) = measure(name)
    assert line["target"] == (15 if name.endswith("random") else 5)
    assert line["detections_per_image"] > 0  # so NMS had work


def test_after_network_needs_a_model(measure):
    settings = bench_harness.Settings(tiny=True)
    with pytest.raises(UserError, match="--model RUN"):
        next(bench.BENCHMARKS["after-network-trained"]("after-network-trained", settings))


def test_infer(measure):
    (line,) = measure("infer")
    assert line["ours"]["total_seconds"]["median"] > 4 / line["ours"]["median"]  # which includes the start


def test_process_video(measure):
    (line,) = measure("process-video")
    assert line["unit"] == "frames/s"


def test_tracking(measure):
    (line,) = measure("tracking")
    assert (line["ours"]["name"], line["peer"]["name"], line["unit"]) == ("--track", "without", "frames/s")
    with pytest.raises(UserError, match="--model RUN"):
        next(bench.BENCHMARKS["tracking"]("tracking", bench_harness.Settings(tiny=True)))


@pytest.mark.slow
def test_processes_that_train_together(measure):
    (line,) = measure("training-processes")
    assert (line["ours"]["name"], line["peer"]["name"], line["target"]) == ("2 processes", "1 process", 1.8)


@pytest.mark.slow
def test_gradients_in_pieces_on_a_slow_network(measure):
    try:
        (line,) = measure("training-pieces")
    except UserError as error:
        pytest.skip(str(error))
    assert (line["ours"]["name"], line["peer"]["name"]) == ("--bucket-mb 25", "all at once")


def test_trainings_that_are_compared_have_a_core_and_a_batch_for_each_process(measure, monkeypatch):
    """And the ratio is that of the speeds in their second epochs."""
    calls, run = [], subprocess.run

    def train(words, **options):
        flags = dict(itertools.pairwise(words))
        if "--devices" not in flags:  # Python's own question for the processor
            return run(words, **options)
        cores, processes = len(os.sched_getaffinity(0)), int(flags["--devices"])
        calls.append((cores, processes, int(flags["--batch-size"]), int(flags["--limit"])))
        Path(flags["--run"]).mkdir()
        Path(flags["--run"], "metrics.csv").write_text(f"images_per_second\n0.1\n{1.5 if processes == 2 else 1}\n")
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(bench_programs.subprocess, "run", train)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda _, cores: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores))
    )
    (line,) = measure("training-processes")
    assert calls == [(2, 2, 2, 4), (1, 1, 1, 2)] and line["ratio"] == 1.5


def test_infer_memory(measure):
    (line,) = measure("infer-memory")
    assert line["ours"]["max"] > 50
    assert len(line["tenths_mb"]) == 11


def test_cost_page_has_every_table(measure, monkeypatch, tmp_path, shapes):
    monkeypatch.setattr(bench_cost, "Side", InThisProcess)
    settings = bench_harness.Settings(tiny=True, data=str(shapes), scratch=str(tmp_path))
    tables = list(bench_cost.series(settings))
    assert len(tables) == 8
    for _, _, heads, rows in tables:
        assert rows
        assert all(len(row) == len(heads) for row in rows)
        for column, head in enumerate(heads[2:], 2):
            numbers = [float(str(row[column]).replace(",", "")) for row in rows]
            # A difference of two times may be below 0 at these sizes, through noise
            assert np.isfinite(numbers).all() if head.startswith("after it") else min(numbers) >= 0
    text = bench_cost.page(tables, settings, "/home/me/cost-here.md")
    assert text.count("\n## ") == 8
    assert "GFLOPS" in text and "--cost cost-here.md --tiny --data DATA`" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["matching", "--model", "no/such"], "^no/such: no such run"),
        (["matching", "--data", "{folder}"], "no splits found"),
        (["matching", "--peer-python", "no/such/python"], "^--peer-python: 'no/such/python': no such program"),
        (["matching", "--cost", "cost.md"], "--cost cost.md: measures none of matching"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_measured(flags, message, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "BENCHMARKS", {"matching": lambda *_: pytest.fail("measured")})
    monkeypatch.setattr(bench_cost, "series", lambda _: pytest.fail("measured"))
    with pytest.raises(UserError, match=message):
        bench.main([flag.format(folder=tmp_path) for flag in flags])


def test_a_benchmark_that_fails_costs_no_other_its_line(monkeypatch, capsys):
    def fail(error):
        raise error

    known = {
        "a": lambda *_: fail(RuntimeError("a.py ended")),
        "b": lambda *_: iter([{"name": "b"}]),
        "c": lambda *_: fail(UserError("c: needs two cores")),
    }
    monkeypatch.setattr(bench, "BENCHMARKS", known)
    with pytest.raises(UserError, match=r"^2 benchmarks failed: a, c; see above"):
        bench.main(["--tiny", *NO_PEER])
    printed = capsys.readouterr()
    assert [json.loads(line)["name"] for line in printed.out.splitlines()] == ["b"]
    assert "warning: a failed: a.py ended" in printed.err and "warning: c failed: c: needs two cores" in printed.err


def test_a_reader_that_is_gone_ends_the_program(monkeypatch):
    """As in `bench.py | head`: nobody reads what the other benchmarks would say."""
    known = {"a": lambda *_: iter([{"name": "a"}]), "b": lambda *_: pytest.fail("measured")}
    monkeypatch.setattr(bench, "BENCHMARKS", known)
    monkeypatch.setattr(bench, "json", mock.Mock(dumps=mock.Mock(side_effect=BrokenPipeError)))
    with pytest.raises(BrokenPipeError):
        bench.main(["--tiny", *NO_PEER])


def test_an_interpreter_that_does_not_answer_has_no_peer(monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(bench_harness.subprocess, "run", run)
    assert bench_harness.peer_versions("a python that hangs") is None


def test_the_help_shows_no_folder_of_the_machine(capsys):
    with pytest.raises(SystemExit):
        bench._parse(["--help"])
    assert str(ROOT) not in capsys.readouterr().out


def test_what_brings_pytorch_rewrites_no_page(capsys):
    """`make parity` also compares, and writes docs/parity.md."""
    makefile = (ROOT / "Makefile").read_text().replace("$(PARITY)", ".venv-parity")
    assert "make .venv-parity/.installed" in bench_harness.NO_PEER and "\n.venv-parity/.installed:" in makefile
    code = "import sys; sys.path.insert(0, 'benchmarks'); import bench_environment as b; b.PEERS = ['no_such_peer']"
    command = [sys.executable, "-c", f"{code}; b.require_peers()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith("/.installed\n") and "no_such_peer; first run: make -C " in done.stderr


PROGRAMS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py") if "cli.run(main)" in path.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_without_packages_says_what_brings_them(name):
    done = subprocess.run([sys.executable, "-S", f"benchmarks/{name}"], cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: ") and "; first run: " in line


def test_the_packages_of_users_are_enough():
    """requirements.txt brings no psutil, which the tests use."""
    block = "import sys; sys.modules.update(psutil=None); sys.path.insert(0, 'benchmarks'); import bench"
    subprocess.run([sys.executable, "-c", block], cwd=ROOT, check=True)


def test_every_benchmark_is_known_to_the_program():
    parts = (bench_networks, bench_data, bench_programs, bench_convolutions)
    assert len(bench.BENCHMARKS) == sum(len(part.BENCHMARKS) for part in parts)  # none hides another of its name
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "nothing"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: nothing: ") and all(name in done.stderr for name in bench.BENCHMARKS)


def test_ratio_says_how_many_times_better_ours_is():
    faster = bench_harness.line("x", "images/s", [30, 20, 40], [10, 20, 10], others={})
    assert faster["ratio"] == 3
    assert faster["ours"] == {"median": 30, "min": 20, "max": 40, "n": 3}
    shorter = bench_harness.line("x", "s", [2.0], [10.0], others={}, peer_facts={"name": "loop"})
    assert shorter["ratio"] == 5
    assert shorter["peer"]["name"] == "loop"
    assert bench_harness.line("x", "s", [2.0], others={})["ratio"] is None


class Recorder:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def run(self):
        self.log.append(self.name)
        return {"items": 1, "seconds": 1.0}


def test_sides_work_in_turn():
    log = []
    answers, machine = bench_harness.alternate([Recorder("a", log), Recorder("b", log)], rounds=3, warmup=1)
    assert log == list("ab" * 4)
    assert [len(given) for given in answers] == [3, 3]
    assert machine["gflops"]["n"] == 4


def test_a_side_that_fails_is_reported():
    with pytest.raises(RuntimeError, match=r"bench_float_pipeline\.py data .*\b1\b"):
        bench_harness.Side("bench_float_pipeline.py", "data", {"index": "no such file"})


# bench.py whose side, or program, is a script that writes its number and is then busy
STOPPED = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import bench, bench_harness, bench_programs
from system import cli
bench_harness.HERE = pathlib.Path.cwd()
def side(name, settings):
    with bench_harness.Side("busy.py", "task") as one:
        yield one.run()
def watched(name, settings):
    yield bench_programs._watch_memory([sys.executable, "busy.py"])
def starting(name, settings):
    yield bench_harness.Side("busy.py", "never")
bench.BENCHMARKS |= {"side": side, "watched": watched, "starting": starting}
bench_programs.ROOT = pathlib.Path.cwd()
cli.run(lambda: bench.main([sys.argv[2], "--peer-python", "false"]))
"""
BUSY = """
import os, pathlib, sys, time
if sys.argv[1:2] == ["task"]:
    print("{}", flush=True)
    input()
pathlib.Path("new").write_text(str(os.getpid()))
os.rename("new", "pid")
time.sleep(99)
"""


@pytest.mark.parametrize("what", ["side", "watched", "starting"])
def test_a_stopped_benchmark_leaves_no_process_and_no_folder(what, tmp_path):
    """SIGTERM reaches bench.py alone."""
    (tmp_path / "busy.py").write_text(BUSY)
    command = [sys.executable, "-c", STOPPED, str(ROOT / "benchmarks"), what]
    environment = fresh_environment(TMPDIR=str(tmp_path))
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "pid").exists, process)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list(tmp_path.glob("bench-*"))


def test_evaluation_data_has_hits_and_misses():
    samples, detections = bench_inputs.evaluation(20, 10)
    assert len(samples) == len(detections) == 20
    assert statistics.mean(len(sample.boxes) for sample in samples.values()) == pytest.approx(2.4, abs=0.6)
    curves = average_precision.precision_recall(samples, detections, bench_inputs.CLASSES)
    verdicts = np.concatenate([curve.verdicts for curve in curves])
    assert {0, 1} <= set(verdicts.tolist())


def test_float_pipeline_keeps_boxes_with_their_objects():
    """A bright square stays inside its box, whatever the random steps do."""
    rng = np.random.default_rng(0)
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:140, 100:220] = 255
    kept = 0
    for _ in range(60):
        out, boxes, labels = bench_float_pipeline.augment(image, np.array([[100.0, 60, 220, 140]]), np.array([4]), rng)
        assert out.shape == (300, 300, 3)
        if len(boxes) and (boxes[0, 2:] - boxes[0, :2] > 0.1).all():
            kept += 1
            x0, y0, x1, y1 = (boxes[0] * 300).astype(int)
            inside = out[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4] + bench_float_pipeline.MEAN_BGR
            outside = out[max(y0 - 9, 0) : max(y0 - 5, 0), x0:x1] + bench_float_pipeline.MEAN_BGR
            assert inside.mean() > 70
            if outside.size:
                assert inside.mean() > outside.mean()
            assert labels.tolist() == [4]
    assert kept > 20


def test_float_pipeline_keeps_a_sixth_of_the_pictures_whole():
    """ssd.pytorch chooses among None, four overlaps and any."""
    rng, image, boxes = np.random.default_rng(0), np.zeros((40, 60, 3), np.float32), np.array([[20.0, 10, 40, 30]])
    cropped = [bench_float_pipeline.crop(image, boxes, np.zeros(1), rng)[0].shape for _ in range(4000)]
    assert sum(shape == image.shape for shape in cropped) / 4000 == pytest.approx(1 / 6, abs=0.012)


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/data/voc", "voc"),
        ("--data=/data/voc", "--data=voc"),
        ("ssd=/peers/code:test:a,b", "ssd=code:test:a,b"),
        ("docs/parity.md", "docs/parity.md"),
        ("runs/a/b", "runs/a/b"),
        ("my data", "'my data'"),
        ("/", "/"),
    ],
)
def test_a_page_names_no_folder_of_the_machine(word, shown):
    assert bench_harness.command_line("parity.py", [word]) == f"python benchmarks/parity.py {shown}"


def test_the_documents_name_benchmarks_that_there_are():
    named = set()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text("utf-8")
        named.update(re.findall(r"(?:bench\.py |BENCH=\")([a-z][\w.-]*)", page))
        column = None  # of a table, in which names are
        for line in page.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if line.startswith("| NAME |") or "BENCH=" in line:
                column = next((i for i, cell in enumerate(cells) if cell == "NAME" or "BENCH=" in cell), None)
            elif not cells:
                column = None
            elif column is not None and cells[column].startswith("`"):
                named.add(cells[column].strip("`").split()[0])
    assert {"training-step", "loading", "cache", "tracking", "network-300"} <= named <= set(bench.BENCHMARKS)


def test_a_commit_is_named_with_its_changes(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert bench_harness.commit(tmp_path) is None
    git("init")
    assert bench_harness.commit(tmp_path) is None
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "-m", "Say it")
    short = git("rev-parse", "--short", "HEAD").strip()
    assert bench_harness.commit(tmp_path, '%h "%s"') == f'{short} "Say it"'
    (tmp_path / "a").write_text("b")
    assert bench_harness.commit(tmp_path) == f"{short} with changes"
    (tmp_path / "below").mkdir()
    assert bench_harness.commit(tmp_path / "below") is None  # a copy below another checkout
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench_harness.commit(tmp_path) is None


def test_a_page_names_the_commits_of_its_trainings():
    header = {"command": "python a.py", "commit": "abc"}
    assert bench_harness.written_by(header, ["abc", "abc"]) == "`python a.py`, commit abc"
    assert bench_harness.written_by({**header, "commit": None}) == "`python a.py`, an unknown commit"
    trained = "trained at commit old, commit abc, an unknown commit"
    assert bench_harness.written_by(header, ["old", "abc", "old", None]) == f"`python a.py`, commit abc ({trained})"


@pytest.mark.parametrize("which", [bench_convolutions.FORWARD, bench_convolutions.INPUT, bench_convolutions.FILTER])
def test_all_forms_of_a_convolution_are_the_same_pass(which):
    forms = [bench_convolutions.WINOGRAD]
    if which == bench_convolutions.FILTER:
        forms += bench_convolutions.FORMS
    layer = {"side": 12, "channels": 64, "filters": 65, "dilation": 1, "batch": 2, "which": which}
    largest = {form: bench_convolutions.layer(**layer, form=form)[1]()["largest"] for form in ("plain", *forms)}
    assert largest == pytest.approx(dict.fromkeys(largest, largest["plain"]), rel=1e-4)


@pytest.mark.slow
def test_convolutions_are_measured_on_request():
    settings = bench_harness.Settings(tiny=True)
    line = next(bench_convolutions.convolutions("convolutions", settings))
    check({**line, "command": bench_harness.command("convolutions", settings)})
    assert (line["name"], line["unit"]) == ("convolutions-12-forward-winograd", "ms")
