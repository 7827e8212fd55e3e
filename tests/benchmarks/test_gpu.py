"""benchmarks/gpu.py runs at tiny sizes on a CPU, and tells what it did not measure. No times are judged."""
# ruff: noqa: E402, benchmarks/ must be found first

import contextlib
import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu
import gpu_bench
import gpu_client
import gpu_plan
import gpu_programs
import gpu_report
import gpu_worker

from programs import fresh_environment, wait_until
from settings.computation import XLA_FORMS
from structures import UserError
from system import environment

PROGRAM = ROOT / "benchmarks" / "gpu.py"
NO_PEER = ["--peer-python", "/bin/false"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(lines, table) of a run with a row of each kind but the programs, which take long to start."""
    output = tmp_path_factory.mktemp("gpu") / "gpu.jsonl"
    rows = "step-float32-2,torch-step-float32-2,correct-bfloat16,correct-detections"
    command = [sys.executable, str(PROGRAM), "--tiny", "--output", str(output), "--rows", rows, *NO_PEER]
    done = subprocess.run([*command, "--budget", "300"], capture_output=True, text=True, cwd=output.parent)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()], done.stdout


def test_the_first_line_names_machine_and_versions(measured):
    machine = measured[0][0]["machine"]
    assert {"gpu", "compute_capability", "types", "tensorflow", "cuda", "cudnn", "cores", "python"} <= set(machine)
    assert machine["tiny"] is True


def test_every_row_has_figures_or_a_reason(measured):
    for row in measured[0][1:]:
        if "skipped" in row:
            assert len(row["skipped"]) > 20
        else:
            assert math.isfinite(row["value"])
            assert row["unit"] in ("images/s", "correct")
    (row,) = (row for row in measured[0] if row.get("unit") == "images/s")
    assert 0 < row["min"] <= row["median"] <= row["max"]
    assert row["first_seconds"] > 0


def test_a_missing_peer_is_a_reason(measured):
    (row,) = (row for row in measured[0] if row.get("row") == "torch-step-float32-2")
    assert "torchvision" in row["skipped"]


def test_the_table_has_every_row(measured):
    lines, table = measured
    for row in lines[1:]:
        assert f"`{row['row']}`" in table
    assert "Not measured:" in table


def test_results_are_compared(measured):
    (row,) = (row for row in measured[0] if row.get("row") == "correct-bfloat16")
    assert row["correct"] is True
    assert 0 < row["update"] < row["tolerance"]
    (row,) = (row for row in measured[0] if row.get("row") == "correct-detections")
    assert row["correct"] is True
    assert row["detections"] > 0


def test_a_machine_without_a_gpu_ends_with_one_line():
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, env=fresh_environment())
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "GPU" in done.stderr
    assert "--tiny" in done.stderr


class Spy:
    """Stands for a worker. answers: {task: seconds of a run, or the Failed to raise}."""

    def __init__(self, answers, budget=None):
        self.answers, self.budget, self.open, self.opened, self.ends = answers, budget, {}, [], 0

    def request(self, do, key, task=None, options=None, times=None):
        if do == "open":
            if isinstance(self.answers[task], Exception):
                raise self.answers[task]
            self.open[key] = self.answers[task]
            self.opened.append(key)
            return {"run_seconds": self.answers[task], "first_seconds": 1.0, "peak_gpu_mb": None}
        return {"items": 8 * times, "seconds": self.open[key] * times}

    def release(self, key):
        del self.open[key]

    def ask(self, question, **options):
        if question in self.answers:
            raise self.answers[question]
        return {"what": question, "correct": False, "update": 0.5}


@pytest.fixture
def bench(tmp_path):
    """A function: a worker or what its Spy answers, seconds of budget -> Bench whose report goes to a file."""
    flags = gpu._parse(["--tiny", *NO_PEER])

    def make(answers, seconds=100.0):
        settings = gpu.Settings(tiny=True, scratch=str(tmp_path))
        report = gpu_report.Report(open(tmp_path / "rows.jsonl", "w"), {"gpu": None})  # noqa: SIM115
        worker = Spy(answers) if isinstance(answers, dict) else answers
        workers = dict.fromkeys(("ours", "torch", "pictures"), worker)
        return gpu_bench.Bench(flags, settings, gpu_client.Budget(seconds), workers, report, {})

    return make


def duel(*tasks):
    """Sides of which all but the first are compared with the first."""
    first, *others = (gpu_plan.Side(task, task, "ours", task, {}) for task in tasks)
    return gpu_plan.Duel((first, *(side._replace(against=first.name) for side in others)), needs=10)


def test_a_ratio_is_to_the_row_that_the_plan_names(bench):
    made = bench({"slow": 0.2, "fast": 0.1})
    made.measure(duel("slow", "fast"))
    slow, fast = made.report.rows
    assert slow["value"] == pytest.approx(40)
    assert "ratio" not in slow
    assert (fast["ratio"], fast["against"]) == (2.0, "slow")


def test_only_what_is_asked_for_and_its_measure_run(bench):
    made = bench({"network": 0.1, "detections": 0.2, "torch": 0.4})
    network, detections, torch = duel("network", "detections", "torch").sides
    item = gpu_plan.Duel((network, detections, torch._replace(against="detections")), needs=10)
    made._flags.rows = ["torch"]
    made.measure(item)
    (row,) = made.report.rows
    assert (row["row"], row["ratio"], row["against"]) == ("torch", 0.5, "detections")
    assert made._workers["ours"].opened == ["detections", "torch"]


def test_a_row_is_reported_once_and_then_serves_as_measure(bench):
    made = bench({"slow": 0.2, "fast": 0.1})
    made.measure(duel("slow"))
    made.measure(duel("slow", "fast"))
    assert [row["row"] for row in made.report.rows] == ["slow", "fast"]
    assert made.report.rows[1]["ratio"] == 2.0


def test_a_side_that_fails_is_a_fault_and_the_others_go_on(bench):
    made = bench({"broken": gpu_client.Failed("out of memory"), "fast": 0.1})
    made.measure(duel("broken", "fast"))
    assert [row.get("failed") for row in made.report.rows] == ["out of memory", None]
    assert [row["row"] for row in made.report.faults()] == ["broken"]
    assert not made._workers["ours"].open


def test_without_time_rows_are_skipped(bench):
    made = bench({"slow": 0.2}, seconds=0)
    made.measure(duel("slow"))
    assert "no time" in made.report.rows[0]["skipped"]
    assert made.report.faults() == []


def test_tiny_leaves_compiling_out_unless_asked_for(bench):
    made = bench({"slow": 0.2})
    made.measure(dataclasses.replace(duel("slow"), slow=True))
    assert "--tiny" in made.report.rows[0]["skipped"]
    made = bench({"slow": 0.2})
    made._flags.rows = ["slow"]
    made.measure(dataclasses.replace(duel("slow"), slow=True))
    assert made.report.rows[0]["value"] > 0


def test_a_wrong_result_is_a_fault(bench):
    made = bench({})
    made.measure(gpu_plan.Question("correct-float32", "", "correct_step", {}, 1))
    assert [row["row"] for row in made.report.faults()] == ["correct-float32"]


DATA = gpu_plan.Program("data", {}, (("data", "", "", "images/s"),), needs=1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("first\nsecond"), "RuntimeError: first"), (UserError("--data x: no splits"), "--data x: no splits")],
)
def test_no_error_of_a_row_costs_the_next(bench, monkeypatch, error, reason):
    def broken(**_):
        raise error

    made = bench({"correct_step": error, "trace": error, "fast": 0.1})
    monkeypatch.setattr(made._programs, "data", broken)
    options = {"precision": "float32", "batch": 2, "width": 1}
    made.trace("folder", gpu_plan.Side("step", "", "ours", "step", options))
    made.measure(DATA)
    made.measure(gpu_plan.Question("correct-float32", "", "correct_step", {}, 1))
    made.measure(duel("fast"))
    assert [row.get("failed") for row in made.report.rows] == [reason] * 3 + [None]
    assert made.report.rows[-1]["value"] == pytest.approx(80)


def test_a_full_disk_costs_no_rows(capsys):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        report = gpu_report.Report(full, {"gpu": None})
        for name in ("fast", "slow"):
            report.add({"row": name, "value": 1})
        assert report.names() == {"fast", "slow"}
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_folder_without_splits_is_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "Worker", None)
    with pytest.raises(UserError, match="no splits"):
        gpu.main(["--tiny", "--data", str(tmp_path), *NO_PEER])


STOPPED = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import gpu, gpu_programs, pathlib
from system import cli
class Worker(gpu.Worker):
    def ask(self, question, **options):
        machine = dict.fromkeys(["gpu", "tensorflow", "cuda", "cudnn", "cpu", "cores"], 1) | {{"types": ["float32"]}}
        return {{"machine": machine, "stalls": {{"what": "", "correct": True}}}}[question]
gpu.Worker = Worker
gpu_programs.ROOT = pathlib.Path.cwd()
gpu_programs.Programs._training_flags = lambda *_: ["train.py"]
cli.run(lambda: gpu.main(["--tiny", "--rows", "stalls,train", *{NO_PEER}]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_run_leaves_nothing_behind_but_its_table(tmp_path, number):
    write_pid = "pathlib.Path('new').write_text(str(os.getpid())); os.rename('new', 'pid')"
    (tmp_path / "train.py").write_text(f"import os, pathlib, time; {write_pid}; time.sleep(99)")
    environment = fresh_environment(TMPDIR=str(tmp_path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", STOPPED], cwd=tmp_path, env=environment, **pipes) as process:
        wait_until((tmp_path / "pid").exists, process)
        for _ in range(1 if number == signal.SIGINT else 2):  # `timeout` sends two
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted")
    assert "| `stalls-float32` |" in out
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list(tmp_path.glob("gpu-*"))


def test_the_most_important_rows_come_first_and_have_unique_options():
    for tiny in (False, True):
        items = gpu_plan.plan(["bfloat16", "float16", "float32"], tiny)
        assert items[0].names[0].startswith("step-bfloat16-")
        seen = {}
        for item in items:
            for side in getattr(item, "sides", ()):
                assert seen.setdefault(side.name, side) == side
    names = {name for item in items for name in item.names}
    assert {"data", "correct-float32", "correct-detections"} <= names


def test_rows_are_compared_with_what_does_the_same_work_or_a_part_of_it():
    whats = {"network": "network", "detections": "network", "detections-cpu": "detections", "network-auto": "network"}
    for item in gpu_plan.plan(["bfloat16", "float16", "float32"], False):
        sides = getattr(item, "sides", ())
        for side in sides:
            assert side.against in {None, *(other.name for other in sides)} - {side.name}
            kind, ending = re.fullmatch(r"(.*)(-\w+-\d+)", side.name).groups()
            if side.worker == "torch":
                assert side.against == side.name.removeprefix("torch-")
            elif kind.startswith(("step-", "stage-")) and kind != "stage-whole":
                assert side.against == ("step" if kind.startswith("step-") else "stage-whole") + ending
            else:
                assert side.against == (whats[kind] + ending if whats.get(kind, kind) != kind else None)


def test_a_full_plan_has_all_batches_types_and_programs():
    names = {name for item in gpu_plan.plan(["bfloat16", "float16", "float32"], False) for name in item.names}
    for kind in ("bfloat16", "float16", "float32"):
        for batch in (1, 8, 32):
            assert {f"{task}-{kind}-{batch}" for task in ("step", "network", "detections")} <= names
    programs = {f"{program}-{batch}" for program in ("infer", "process_video") for batch in (1, 8, 32)}
    assert programs <= names
    assert {f"train-{form}first-start-32" for form in ("", "update-", "xla-", "whole-")} <= names
    assert {"train-32", "train-second-start-32", "epoch-end-32", "stalls-bfloat16"} <= names


def kinds(types, tiny):
    """The names of all rows, without type and batch."""
    names = {name for item in gpu_plan.plan(types, tiny) for name in item.names}
    return {re.sub(rf"(-({'|'.join(types)}))?-\d+$", "", name) for name in names}, names


def test_a_tiny_plan_tries_every_kind_of_row_in_a_second_batch_and_type():
    types = ["float32", "bfloat16"]
    tiny, names = kinds(types, True)
    assert tiny == kinds(types, False)[0] - {"correct-float32-tf32"}
    assert {f"{task}-bfloat16-{batch}" for task in ("step", "network", "detections") for batch in (2, 3)} <= names
    assert {"torch-detections-float32-3", "torch-step-float32-3", "train-3", "infer-2", "infer-3"} <= names


def test_a_step_on_a_held_batch_is_the_same_step():
    """The first losses of the fed and of the held batch, from equal weights; and later ones, after an update."""
    import gpu_stages  # which loads TensorFlow

    with gpu_stages.training("float32", 1, 0.03) as opened, gpu_stages._held(opened) as held:
        fetches, feeds = gpu_stages.recorded(opened)
        for _ in range(2):
            losses, _ = opened.session.run(fetches, feeds)
            assert held()[:-1] == pytest.approx(list(losses.values()), rel=1e-4)


def test_the_parts_of_the_plan_are_those_of_the_sides():
    import gpu_ours
    import gpu_stages

    assert gpu_stages.PARTS.keys() == gpu_plan.PARTS.keys()
    assert gpu_ours.VARIANTS.keys() == gpu_plan.VARIANTS.keys()
    assert gpu_programs.TRIALS.keys() == gpu_plan.TRIALS.keys()
    assert gpu_plan.FORMS.keys() == {"auto", *XLA_FORMS} - {"off"}


def test_an_unknown_row_is_an_error():
    items = gpu_plan.plan(["float32"], True)
    gpu._check_names(["step", "torch-*", "data"], items)
    with pytest.raises(UserError, match="--rows stap"):
        gpu._check_names(["stap"], items)


def budgeted(script, seconds=60.0):
    """A worker that is a few lines of Python, started as gpu_client does."""
    worker = gpu_client.Worker("none.py", sys.executable, gpu_client.Budget(seconds), None)
    worker._command = [sys.executable, "-c", script]
    return worker


SERVE = f"""
import contextlib, os, sys, time
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import gpu_worker
class Memory:
    def start(self): pass
    def peak_mb(self): return 7
@contextlib.contextmanager
def task(images):
    yield {{"setting": "x"}}, lambda: images
@contextlib.contextmanager
def good():
    yield {{}}, lambda: 1
@contextlib.contextmanager
def dies():
    os._exit(139)
    yield
@contextlib.contextmanager
def sleeps():
    time.sleep(60)
    yield
@contextlib.contextmanager
def dies_later():
    runs = iter(range(5))  # four while it is opened, and the first round
    yield {{}}, lambda: 1 if next(runs, None) is not None else os._exit(139)
def broken():
    raise ValueError("first line\\nsecond line")
tasks = {{"task": task, "good": good, "dies": dies, "sleeps": sleeps, "dies later": dies_later}}
gpu_worker.serve(tasks, {{"broken": broken, "sleep": lambda: time.sleep(60)}}, Memory())
"""


def test_a_worker_opens_runs_and_survives_errors():
    with budgeted(SERVE) as worker:
        with pytest.raises(gpu_client.Failed, match=r"^ValueError: first line$"):
            worker.ask("broken")
        facts = worker.request("open", key="a", task="task", options={"images": 3})
        assert facts["setting"] == "x"
        assert facts["peak_gpu_mb"] == 7
        assert worker.request("run", key="a", times=5)["items"] == 15
        worker.release("a")
        with pytest.raises(gpu_client.Failed, match="KeyError"):
            worker.request("run", key="a", times=1)


def test_a_worker_that_takes_too_long_is_ended_and_one_that_died_is_told():
    with budgeted(SERVE, seconds=2) as worker:
        with pytest.raises(gpu_client.OutOfTime, match="2 s"):
            worker.ask("sleep")
        assert worker._process is None
    with (
        budgeted("import sys; sys.stdin.readline(); sys.exit(3)") as worker,
        pytest.raises(gpu_client.Failed, match="3"),
    ):
        worker.ask("anything")


def test_a_worker_that_hangs_at_its_end_is_killed(monkeypatch):
    monkeypatch.setattr(gpu_client, "CLOSING_SECONDS", 0.1)
    with (
        budgeted("import os, sys, time; sys.stdin.readline(); os.close(1); time.sleep(5)") as worker,
        pytest.raises(gpu_client.Failed, match="exit code -9"),
    ):
        worker.ask("anything")


@pytest.mark.parametrize("tasks", [("good", "dies"), ("dies later", "good")])
def test_a_side_whose_process_dies_costs_no_figures(bench, tasks):
    with budgeted(SERVE) as worker:
        made = bench(worker)
        made.measure(duel(*tasks))
    rows = {row["row"]: row for row in made.report.rows}
    good, dead = rows.pop("good"), *rows.values()
    assert good["n"] == 1
    assert f"only 1 of 2 rounds: its process ended with {dead['row']}" in good["what"]
    assert "exit code 139" in dead["failed"]
    assert ("value" in dead) == (dead["row"] == "dies later")
    assert made.report.faults() == [dead]


def test_sides_that_were_ready_when_the_time_ended_have_figures(bench):
    with budgeted(SERVE) as worker:
        made = bench(worker)
        request = worker.request

        def spied(do, **values):
            if values.get("task") == "sleeps":
                worker._budget = gpu_client.Budget(0.2)
            return request(do, **values)

        worker.request = spied
        made.measure(duel("good", "sleeps"))
        assert worker._process is None  # nor is one started for what cannot be done
    good, late = sorted(made.report.rows, key=lambda row: "skipped" in row)
    assert good["value"] > 0
    assert "time budget" in good["what"]
    assert "time budget" in late["skipped"]


def test_an_interrupt_loses_no_figures(bench):
    made = bench({"good": 0.1})
    worker = made._workers["ours"]
    request = worker.request

    def interrupted(do, **values):
        if do == "run" and worker.ran:
            raise KeyboardInterrupt
        worker.ran = do == "run"
        return request(do, **values)

    worker.request = interrupted
    with pytest.raises(KeyboardInterrupt):
        made.measure(duel("good"))
    (row,) = made.report.rows
    assert row["value"] == pytest.approx(80)
    assert "interrupted" in row["what"]


def test_a_clock_of_its_own_counts():
    runs = iter([{"items": 2, "seconds": 4.0}, {"items": 3, "seconds": 6.0}])
    assert gpu_worker._timed(lambda: next(runs), 2) == {"items": 5, "seconds": 10.0}


def test_speed_of_a_program_counts_after_the_first_quarter():
    points = [(10.0, 1, 100), (11.0, 25, 100), (12.0, 50, 100), (14.0, 100, 100)]
    sight = gpu_programs.Sight([gpu_programs.Point(*point, "") for point in points])
    assert sight.first_seconds() == 10.0
    assert sight.rate() == pytest.approx(75 / 3)
    with pytest.raises(gpu_client.Failed, match="too little"):
        gpu_programs.Sight([gpu_programs.Point(1.0, 8, 8, "")]).rate()


def test_the_end_of_an_epoch_is_what_is_left_between_two():
    """10 s between the bars, of which the 4 images seen first in the second epoch took 2."""
    seen = [(5, 8, 10, "epoch 1/2"), (6, 10, 10, "epoch 1/2"), (9, 3, 5, "validation"), (10, 5, 5, "validation")]
    seen += [(16, 4, 10, "epoch 2/2"), (19, 10, 10, "epoch 2/2")]
    sight = gpu_programs.Sight([gpu_programs.Point(*point) for point in seen])
    assert sight.between_epochs() == (8, 2)
    assert gpu_programs.Sight([gpu_programs.Point(1, 1, 9, "reading"), *sight.points]).first_seconds("epoch ") == 5
    with pytest.raises(gpu_client.Failed, match="two epochs"):
        gpu_programs.Sight([gpu_programs.Point(1, 1, 2, "epoch 1/1")]).between_epochs()


def test_a_program_is_watched(tmp_path, monkeypatch):
    script = tmp_path / "fake.py"
    script.write_text("import tqdm, time\nfor _ in tqdm.tqdm(range(8)): time.sleep(0.05)\n")
    monkeypatch.setattr(gpu_programs, "ROOT", tmp_path)
    sight = gpu_programs.watch(["fake.py"], gpu_client.Budget(60), {})
    assert sight.points[-1][1:] == (8, 8, "")
    assert sight.rate() > 0
    script.write_text("import tqdm\nfor n in (1, 2): list(tqdm.tqdm(range(3), desc=f'epoch {n}/2', unit='img'))\n")
    bars = {point.bar for point in gpu_programs.watch(["fake.py"], gpu_client.Budget(60), {}).points}
    assert bars == {"epoch 1/2", "epoch 2/2"}
    script.write_text("raise SystemExit('error: no such thing')")
    with pytest.raises(gpu_client.Failed, match=r"fake.py: error: no such thing"):
        gpu_programs.watch(["fake.py"], gpu_client.Budget(60), {})
    script.write_text("pass")
    with pytest.raises(gpu_client.Failed, match="progress bar was not seen"):
        gpu_programs.watch(["fake.py"], gpu_client.Budget(60), {})
    script.write_text("import time; time.sleep(60)")
    with pytest.raises(gpu_client.OutOfTime):
        gpu_programs.watch(["fake.py"], gpu_client.Budget(1), {})


@pytest.mark.parametrize("seen_before", [False, True])
def test_the_first_start_counts_when_time_ends_in_the_second(bench, monkeypatch, seen_before):
    """And the second, if its first step was seen."""
    starts = []

    def watch(arguments, budget, environment, points=None):
        points = [] if points is None else points
        starts.append(arguments)
        if len(starts) == 1 or seen_before:
            points.append(gpu_programs.Point(60.0 + len(starts), 32, 4000, "epoch 1/2"))
        if len(starts) == 2:
            raise gpu_client.OutOfTime("time budget")
        return gpu_programs.Sight(points)

    monkeypatch.setattr(gpu_programs, "watch", watch)
    made = bench({})
    monkeypatch.setattr(made._programs, "_training_flags", lambda *_: ["train.py"])
    made.measure(gpu_plan.train(32, "auto", 1))
    rows = {row["row"]: row.get("value", row.get("skipped")) for row in made.report.rows}
    second = 62.0 if seen_before else "time budget"
    assert rows == {"train-first-start-32": 61.0, "train-second-start-32": second, "train-32": "time budget"}


def test_a_first_start_finds_nothing_that_another_batch_left(bench, monkeypatch):
    seen = []

    def watch(arguments, budget, variables, points=None):
        seen.append({variables[name] for name in ("SSD_TENSORFLOW_CACHE", "CUDA_CACHE_PATH")})
        raise gpu_client.OutOfTime("time budget")

    monkeypatch.setattr(gpu_programs, "watch", watch)
    made = bench({})
    monkeypatch.setattr(made._programs, "_training_flags", lambda *_: ["train.py"])
    for batch in (8, 32):
        made.measure(gpu_plan.train(batch, "on", 1))
    first, second = seen
    assert not first & second


def test_pictures_and_their_pipeline_keep_to_the_budget(bench):
    with budgeted(
        SERVE.replace('"broken": broken', '"pipeline": lambda **_: time.sleep(60), "broken": broken')
    ) as worker:
        made = bench(worker)
        worker._budget = gpu_client.Budget(2)
        made.measure(DATA)
        assert worker._process is None
    (row,) = made.report.rows
    assert "time budget of 2 s" in row["skipped"]


def test_a_peer_that_hangs_keeps_to_the_budget(bench, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    made = bench({}, seconds=1)
    made._flags.peer_python = str(python)
    made.measure(gpu_plan.Duel((gpu_plan.Side("torch-step", "", "torch", "step", {}),), needs=0))
    assert "time budget of 1 s" in made.report.rows[0]["skipped"]


@pytest.mark.parametrize("question", ["pipeline", "training_data", "some"])
def test_the_side_of_the_pictures_answers(tmp_path, shapes, question):
    options = {"pipeline": {"count": 4, "workers": 1, "batches": 2}, "training_data": {"count": 4}, "some": {}}[
        question
    ]
    settings = dataclasses.asdict(gpu.Settings(tiny=True, data=str(shapes), scratch=str(tmp_path)))
    with gpu_client.Worker("gpu_pictures.py", sys.executable, gpu_client.Budget(60), None) as worker:
        answer = worker.ask(question, settings=settings, **options)
    if question == "pipeline":
        assert answer["value"] > 0 and answer["workers"] == 1
    elif question == "training_data":
        assert answer == [str(shapes), "train", ["disc", "square"]]
    else:
        assert all(Path(path).exists() for path in answer)


def test_programs_that_do_not_start_are_skipped(bench, monkeypatch):
    monkeypatch.setattr(environment, "missing", lambda: ["matplotlib", "av"])
    made = bench({})
    monkeypatch.setattr(gpu_programs, "watch", None)
    monkeypatch.setattr(made._programs, "_made", None)  # nothing is drawn for them
    for item in gpu_plan.plan(["float32"], True):
        if isinstance(item, gpu_plan.Program) and item.method != "data":
            made._flags.rows = item.names
            made.measure(item)
    assert {"train-3", "epoch-end-3", "infer-3", "process_video-2"} <= made.report.names()
    assert made.report.faults() == []
    for row in made.report.rows:
        assert "no matplotlib, av" in row["skipped"] and "first run: " in row["skipped"]


def test_missing_packages_are_told_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setattr(environment, "missing", lambda: ["matplotlib"])
    monkeypatch.setattr(gpu, "Worker", None)
    with pytest.raises(TypeError):
        gpu.main(["--tiny", *NO_PEER])
    assert re.search("^warning: .* no matplotlib, .*first run: .* skipped$", capsys.readouterr().err)


def test_nothing_else_needs_what_the_page_has_only_for_programs():
    """The modules of this program, loaded where none of it can be."""
    modules = "gpu, bench_ours, bench_pictures, gpu_pictures, gpu_worker, gpu_ours"
    block = "import sys; sys.modules.update(av=None, matplotlib=None, psutil=None); sys.path.insert(0, 'benchmarks')"
    code = f"{block}; import {modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_page_explains_every_kind_of_row():
    page = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    for kind in kinds(["bfloat16", "float32"], False)[0]:
        assert f"`{kind}`" in page, kind


def test_the_page_asks_only_for_rows_that_there_are():
    page = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    items = gpu_plan.plan(["bfloat16", "float16", "float32"], False)
    asked = re.findall(r"--rows\s+(?!NAMES)'?([^\s'\"`]+)", page.replace("\\\n", ""))
    assert len(asked) > 3
    for rows in asked:
        gpu._check_names(rows.split(","), items)
    names = {name for item in items for name in item.names}
    assert "at batch 8 and 32" in page
    for form in ("tuned", "xla", "whole", "update"):
        assert {f"train-{form}{row}-{batch}" for row in ("", "-first-start") for batch in (8, 32)} <= names
    assert {"train-8", "train-first-start-8"} <= names


def test_the_help_says_that_all_rows_are_the_default(capsys):
    with pytest.raises(SystemExit):
        gpu._parse(["--help"])
    assert "patterns with * (default: all)" in " ".join(capsys.readouterr().out.split())
