"""train.py with several processes beside one: the same weights, and one end for all.

18 pictures, of which the last batch has two: with 5 images a batch no two ranks have as many, and a rank may have none.
"""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest

import config
import train
from programs import ROOT, TINY, command, error_of, run, wait_until, write_shapes
from run_files import metrics, weights
from structures import UserError

# The learning rate is at its full height from the first step, and the norm of the gradient above what it is clipped to
FLAGS = [*TINY, "--batch-size", "4", "--accumulate", "2", "--clip-norm", "1", "--ema", "0.9", "--warmup-steps", "0"]
FLAGS += ["--optimizer", "momentum", "--learning-rate", "0.01", "--score-train", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """17 pictures to train on and 7 to validate on, of one to three objects: the ranks have different positives."""
    root = write_shapes(tmp_path_factory.mktemp("together"), {"train": 17, "val": 7})
    for number, path in enumerate(sorted((root / "Annotations").iterdir())):
        text = path.read_text("utf-8")
        one = re.search(r"<object>.*?</object>", text, re.S)[0]
        path.write_text(text.replace(one, one * (number % 3)), "utf-8")  # none, one or two
    return root


@pytest.fixture(scope="module")
def flags(data):
    return ["--data", data, "--train", "train", "--valid", "val", *FLAGS]


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory):
    """A run of one process."""
    path = tmp_path_factory.mktemp("runs") / "alone"
    run("train.py", *flags, "--epochs", "2", "--run", path)
    return path


def differences(path, other):
    """{name: largest difference} of the weights and their averages."""
    mine, theirs = weights(path), weights(other)
    assert mine.keys() == theirs.keys()
    # Not of the optimizer's sums of many gradients, which are hundreds of times as large
    return {name: np.abs(mine[name] - theirs[name]).max() for name in mine if "/momentum_" not in name}


def assert_same_weights(path, other):
    for name, difference in differences(path, other).items():
        assert difference <= 1e-5, f"{name}: {difference:.1e}"  # nor is NaN


def assert_same_training(path, other, rel=0.0, ap=1e-4):
    """The same weights and metrics. rel: of a number's size. ap: of an AP, which moves if two detections swap."""
    assert_same_weights(path, other)
    rows, expected = metrics(path), metrics(other)
    assert len(rows) == len(expected)
    for row, twin in zip(rows, expected, strict=True):
        for name, text in twin.items():
            most = ap if "voc07" in name or name == "area" else 1e-4
            assert (text == row[name] == "") or float(row[name]) == pytest.approx(float(text), rel=rel, abs=most), name


def test_two_processes_train_as_one(flags, alone, tmp_path, monkeypatch):
    """Also where https_proxy is set, which gRPC would use even for this machine."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    path = tmp_path / "run"
    done = run("train.py", *flags, "--epochs", "2", "--run", path, "--devices", "2")
    assert_same_training(path, alone)
    assert re.findall(r"^epoch \d of 2", done.stdout, re.M) == ["epoch 1 of 2", "epoch 2 of 2"]
    assert len(re.findall(r"epoch 2 of 2:   0%", done.stderr)) == 1  # one bar
    assert "Traceback" not in done.stderr and "error" not in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--devices", "5"], "--batch-size 4: is less than one image for each of 5 processes"),
        (["--devices", "2", "--find-rate"], "--find-rate: is for one process; give --devices 1"),
        (["--restarts", "2"], "--restarts: needs several processes"),
        (["--devices", "2", "--classes", "disc"], "square"),
    ],
)
def test_what_several_processes_cannot_do(given, message, flags, tmp_path):
    if given[-1] == "disc":  # the rank finds it, and the error is said once
        assert message in error_of("train.py", *flags, *given, "--run", tmp_path / "run")
        return
    with pytest.raises(UserError, match=message):
        train.main([*map(str, flags), *given, "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_too_many_processes_for_the_gpus(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match="--devices 4: this machine has 2 GPUs"):
        train.main([*map(str, flags), "--devices", "4", "--run", str(tmp_path / "run")])


# What follows takes minutes. In each of these the ranks must be found: they are the children of the one that started


def start(path, *arguments, prefix=(), **options):
    """train.py, started; its output is in a file beside the run."""
    with open(path.parent / "log.txt", "w", encoding="utf-8") as log:
        words = [*prefix, *command("train.py", *arguments, "--run", path)]
        return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, **options)


def ranks_of(process):
    """Process numbers of the ranks, by rank."""
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "train.py"], capture_output=True, text=True)
    found = sorted(map(int, children.stdout.split()))
    return found


def last_line(path):
    return (path.parent / "log.txt").read_text("utf-8").splitlines()[-1]


def saved_step(path):
    return json.loads((path / "checkpoints" / config.read_index(str(path))["last"] / "state.json").read_text())["step"]


def under_way(log, process, step=4):
    """Wait until a rank 0 has done a step, as its log says. The progress bar does not show each."""
    shown = lambda: re.findall(r"step (\d+) of", log.read_text("utf-8"))  # noqa: E731
    wait_until(lambda: any(int(number) >= step for number in shown()), process, seconds=300)


LONG = ["--epochs", "400", "--save-minutes", "0.02"]


@pytest.fixture(scope="module")
def plain(data):
    """The flags of a training that starts quickly."""
    return ["--data", data, "--train", "train", *TINY, "--optimizer", "momentum"]


@pytest.fixture(scope="module")
def learned(data, tmp_path_factory):
    """A run that has learned something, for trainings of many steps to start from.

    A new net as narrow as that of TINY gives all its thousands of negatives the loss of uniform scores, up to 1e-6
    from each other. There rounding decides which is the last that is mined, and weights differ by 3e-5 after 30 steps,
    for one process on one core beside itself on two just as for four processes. Once scores differ, so do losses.
    """
    path = tmp_path_factory.mktemp("runs") / "learned"
    wider = ["--width", "0.1", "--initializer", "lsuv", "--batch-size", "4", "--workers", "1"]
    classes = ["--classes", "disc,square", "--augmentation", "light"]
    run("train.py", "--data", data, "--train", "train", *classes, *wider, "--epochs", "40", "--run", path)
    losses = [float(row["confidence"]) for row in metrics(path)]
    assert losses[-1] < losses[0] / 2
    return path


@pytest.fixture(scope="module")
def further(data, learned):
    """The flags of a training that goes on from it, with mining, accumulation, averages and clipping."""
    start = ["--init-from", f"{learned}@last", "--workers", "1", "--augmentation", "light"]
    flags = [*start, *FLAGS[len(TINY) :], "--learning-rate", "0.005"]
    return ["--data", data, "--train", "train", "--valid", "val", *flags]


@pytest.mark.slow
def test_several_processes_train_as_one_for_thirty_steps(further, learned, tmp_path):
    for name, more in {"alone": [], "two": ["--devices", "2"], "four": ["--devices", "4"]}.items():
        run("train.py", *further, "--epochs", "10", "--run", tmp_path / name, *more)
    assert saved_step(tmp_path / "alone") == 30
    before, after = weights(learned), weights(tmp_path / "alone")
    moved = [np.abs(after[name] - before[name]).max() for name in after.keys() & before.keys()]
    assert max(moved) > 1e-3  # a hundred times what may differ
    for name in ("two", "four"):
        assert_same_training(tmp_path / name, tmp_path / "alone", rel=1e-4, ap=5e-4)


@pytest.mark.slow
def test_a_resume_with_other_numbers_of_processes_equals_an_unbroken_run(further, tmp_path):
    epochs = [*further, "--epochs", "4", "--schedule", "constant"]  # a rate that does not depend on the end
    run("train.py", *epochs, "--run", tmp_path / "unbroken")
    run("train.py", *epochs, "--run", tmp_path / "run", "--max-steps", "4", "--devices", "2")
    run("train.py", "--run", tmp_path / "run", "--resume", "--max-steps", "8")
    run("train.py", "--run", tmp_path / "run", "--resume", "--max-steps", "100", "--devices", "3")
    assert_same_weights(tmp_path / "run", tmp_path / "unbroken")
    assert metrics(tmp_path / "run")[-1]["step"] == metrics(tmp_path / "unbroken")[-1]["step"] == "12"


@pytest.mark.slow
def test_bfloat16_on_the_wire_trains(flags, alone, tmp_path):
    run("train.py", *flags, "--epochs", "2", "--run", tmp_path / "run", "--devices", "2", "--wire", "bfloat16")
    mine, theirs = weights(tmp_path / "run"), weights(alone)
    differences = [np.abs(mine[name] - theirs[name]).max() for name in mine]
    assert 1e-6 < max(differences) < 1e-2  # it rounds, and no more


@pytest.mark.slow
def test_gradients_in_pieces_train_as_one(flags, alone, tmp_path):
    run("train.py", *flags, "--epochs", "2", "--run", tmp_path / "run", "--devices", "2", "--bucket-mb", "0.02")
    assert_same_training(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "number", "more"),
    [
        (signal.SIGKILL, 0, []),
        (signal.SIGKILL, 1, []),
        (signal.SIGSTOP, 1, []),
        (signal.SIGKILL, 1, ["--bucket-mb", "0.02"]),
        (signal.SIGSTOP, 1, ["--bucket-mb", "0.02"]),
    ],
)
def test_a_lost_rank_ends_all_within_15_seconds(sent, number, more, plain, tmp_path):
    path = tmp_path / "run"
    process = start(path, *plain, *LONG, "--devices", "2", *more)
    under_way(path.parent / "log.txt", process)
    wait_until(lambda: (path / "checkpoints" / "index.json").exists(), process)  # a fast machine comes to step 4 before
    ranks = ranks_of(process)
    os.kill(ranks[number], sent)
    since = time.monotonic()
    assert process.wait(60) == 1
    assert time.monotonic() - since < 15
    line = last_line(path)
    assert line.startswith(f"error: rank {number} (127.0.0.1:"), line
    assert ("was killed by SIGKILL" if sent == signal.SIGKILL else "has not answered for 7 seconds") in line
    saved = r"step-\d+\+? is saved; continue with: python train.py --run \S+ --resume --devices 2$"
    assert re.search(saved, line), line
    assert not any(os.path.exists(f"/proc/{rank}") for rank in ranks)
    step = saved_step(path)
    run("train.py", "--run", path, "--resume", "--max-steps", str(step + 1), "--devices", "2")
    assert saved_step(path) == step + 1


@pytest.mark.slow
def test_restarts_go_on_by_themselves(plain, tmp_path):
    path = tmp_path / "run"
    process = start(path, *plain, "--epochs", "30", "--devices", "2", "--restarts", "1")
    under_way(path.parent / "log.txt", process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    assert process.wait(300) == 0
    text = (tmp_path / "log.txt").read_text("utf-8")
    assert (
        len(re.findall(r"^warning: rank 1 .* was killed by SIGKILL.*; all ranks start again \(1 of 1\)$", text, re.M))
        == 1
    )
    assert [int(row["epoch"]) for row in metrics(path)] == list(range(1, 31))
    run("train.py", *plain, "--epochs", "30", "--run", tmp_path / "unbroken", "--devices", "2")
    assert_same_training(path, tmp_path / "unbroken")  # processes with other cores round otherwise


@pytest.mark.slow
def test_one_ctrl_c_ends_all(plain, tmp_path):
    path = tmp_path / "run"
    process = start(path, *plain, *LONG, "--devices", "2", start_new_session=True)
    under_way(path.parent / "log.txt", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    text = (tmp_path / "log.txt").read_text("utf-8")
    assert text.count("Ctrl-C: stopping after this step") == 1
    said = re.fullmatch(r"interrupted; all up to step (\d+) is saved; continue with: (.*)", last_line(path))
    assert said and int(said[1]) == saved_step(path) and said[2].endswith("--resume --devices 2")


class Hosts:
    """Two network namespaces of this machine as two hosts, `one` and `two`, with a cable between them."""

    def __init__(self, name):
        self.names = [f"{name}{number}" for number in (1, 2)]
        self.addresses = ["10.77.31.1", "10.77.31.2"]
        for host in self.names:
            self._ip("netns", "add", host)
        ends = [f"{name}v{number}" for number in (1, 2)]
        self._ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for host, end, address in zip(self.names, ends, self.addresses, strict=True):
            self._ip("link", "set", end, "netns", host)
            for words in (f"addr add {address}/24 dev {end}", f"link set {end} up", "link set lo up"):
                self._ip("-n", host, *words.split())
        self._ends = ends

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def cut(self):
        """Take the cable out."""
        self._ip("-n", self.names[1], "link", "set", self._ends[1], "down")

    def mend(self):
        """Put it in again."""
        self._ip("-n", self.names[1], "link", "set", self._ends[1], "up")

    def close(self):
        for host in self.names:
            subprocess.run(["ip", "netns", "del", host], check=False)

    def start(self, path, *arguments, logs=None):
        """train.py on both, as two processes; their output is in log0.txt and log1.txt in `logs`, or beside the run."""
        processes = []
        for number, host in enumerate(self.names):
            cluster = {"worker": [f"{address}:23000" for address in self.addresses]}
            text = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
            with open((logs or path.parent) / f"log{number}.txt", "w", encoding="utf-8") as log:
                words = ["ip", "netns", "exec", host, *command("train.py", *arguments, "--run", path)]
                environment = {**os.environ, "TF_CONFIG": text}
                processes.append(subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, env=environment))
        return processes


@pytest.fixture
def hosts():
    try:
        made = Hosts(f"ssd{os.getpid() % 10000}h")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.close()


@pytest.mark.slow
def test_two_hosts_train_as_one_process(hosts, flags, alone, tmp_path):
    processes = hosts.start(tmp_path / "run", *flags, "--epochs", "2")
    assert [process.wait(300) for process in processes] == [0, 0]
    assert_same_training(tmp_path / "run", alone)
    assert (tmp_path / "log1.txt").read_text("utf-8") == ""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["link", "kill", "stop", "full"])
def test_a_fault_of_a_host_ends_both_within_15_seconds(fault, hosts, plain, tmp_path):
    """full: the disk of rank 0."""
    disk, first, second = (tmp_path / name for name in ("disk", "log0.txt", "log1.txt"))  # a full disk takes no log
    path = disk / "run"
    disk.mkdir()
    if fault == "full":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        processes = hosts.start(path, *plain, *LONG, logs=tmp_path)
        under_way(first, processes[0])
        rank_1 = ranks_of(processes[1])[0]
        if fault == "link":
            hosts.cut()
        elif fault == "full":
            with open(disk / "filler", "wb") as file:
                wait_until(lambda: (path / "checkpoints" / "index.json").exists(), processes[0])
                try:
                    while True:
                        file.write(bytes(2**16))
                        file.flush()
                except OSError:
                    pass
        else:
            os.kill(rank_1, {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[fault])
        since = time.monotonic()
        assert [process.wait(60) for process in processes] == [1, 1]
        assert time.monotonic() - since < (15 if fault != "full" else 30)  # until the next checkpoint is due
        lines = [one.read_text("utf-8").splitlines()[-1] for one in (first, second)]
        if fault == "full":
            assert all("checkpoint cannot be written" in line or "No space" in line for line in lines), lines
        else:
            assert re.match(r"error: rank 1 \(10.77.31.2:23000\)", lines[0]), lines
            named = r"rank 0 \(10.77.31.1" if fault == "link" else r"rank 1 \(10.77.31.2"
            assert re.match(f"error: {named}", lines[1]), lines
        if fault == "full":
            os.remove(disk / "filler")
        step = saved_step(path)
        run("train.py", "--run", path, "--resume", "--max-steps", str(step + 1))
        assert saved_step(path) == step + 1
    finally:
        if fault == "full":
            subprocess.run(["umount", "-l", disk], check=False)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["link", "kill"])
def test_hosts_restart_by_themselves(fault, hosts, plain, tmp_path):
    path = tmp_path / "run"
    processes = hosts.start(path, *plain, "--epochs", "30", "--save-minutes", "0.02", "--restarts", "1")
    under_way(tmp_path / "log0.txt", processes[0])
    if fault == "kill":
        os.kill(ranks_of(processes[1])[0], signal.SIGKILL)
    else:
        hosts.cut()
        time.sleep(12)  # longer than a rank may be silent
        hosts.mend()
    assert [process.wait(300) for process in processes] == [0, 0]
    for number in (0, 1):
        text = (tmp_path / f"log{number}.txt").read_text("utf-8")
        assert len(re.findall(r"^warning: .*; all ranks start again \(1 of 1\)$", text, re.M)) == 1, text
    assert [int(row["epoch"]) for row in metrics(path)] == list(range(1, 31))
    unbroken = tmp_path / "again" / "unbroken"
    unbroken.parent.mkdir()
    assert [process.wait(300) for process in hosts.start(unbroken, *plain, "--epochs", "30")] == [0, 0]
    assert_same_training(path, unbroken)  # processes with other cores round otherwise


@pytest.mark.slow
def test_a_slow_host_is_waited_for(hosts, flags, alone, tmp_path):
    """Rank 1 gets hardly any time for longer than a silent rank may be silent, and the network is slow."""
    path = tmp_path / "run"
    subprocess.run(
        f"ip netns exec {hosts.names[1]} tc qdisc add dev {hosts._ends[1]} root netem delay 100ms".split(),
        check=False,  # without tc the slow process alone must do
    )
    processes = hosts.start(path, *flags, "--epochs", "2")
    wait_until(lambda: ranks_of(processes[1]), processes[1])
    rank_1 = ranks_of(processes[1])[0]
    until = time.monotonic() + 15
    while time.monotonic() < until and processes[1].poll() is None:
        os.kill(rank_1, signal.SIGSTOP)
        time.sleep(0.45)
        os.kill(rank_1, signal.SIGCONT)
        time.sleep(0.05)
    assert [process.wait(300) for process in processes] == [0, 0]
    assert_same_training(path, alone)
