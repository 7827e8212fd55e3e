"""Very many pictures: infer.py --shards and infer_many.py, on a few."""

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import types

import numpy as np
import pytest

import config
import detector
import infer
import infer_many
from many import job, shard
from media import images
from programs import ROOT, command, error_of, run
from structures import UserError
from system import load, stopping, worker_processes


def as_rows(found):
    """{name: (scores, boxes, classes)} of a detections.json."""
    return {
        one["file"]: (
            [d["score"] for d in one["detections"]],
            [d["box"] for d in one["detections"]],
            [d["class"] for d in one["detections"]],
        )
        for one in found["images"]
    }


def hundredths(row):
    """(scores, boxes, classes) of a row as detections.json has them."""
    return row["scores"], [[round(edge, 2) for edge in box] for box in row["boxes"]], row["classes"]


def same_files(name, one, other):
    content = (one / name).read_bytes()
    return len(content) > 1000 and content == (other / name).read_bytes()


def work_here(folder, numbers, opener, format):
    """Stands in for processes: yields the shards that this one makes."""
    with opener() as detect:
        for number in numbers:
            yield number, shard.run(folder, number, detect, job.PUBLISH[format])


def test_coco_results_are_those_of_infer(trained, shapes, tmp_path, monkeypatch):
    """Also of a job that was done without them; a picture that cannot be read has none."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, path in enumerate(sorted((shapes / "JPEGImages").iterdir())[:6]):
        shutil.copy(path, pictures / (f"{number:06d}.png" if number < 3 else path.name))
    (pictures / "000009.png").write_bytes(b"no picture")
    flags = [str(trained), str(pictures), "--precision", "float32", "--coco-results"]  # with a low threshold
    infer.main([*flags, "--no-draw", "--output", str(tmp_path / "one")])
    monkeypatch.setattr(
        infer.workers, "run", lambda folder, numbers, opener, *_: work_here(folder, numbers, opener, "jsonl")
    )
    shards = [*flags, "--shards", "2", "--output", str(tmp_path / "many")]
    infer.main([*shards[:4], "--threshold", "0.01", *shards[5:]])
    assert not (tmp_path / "many" / "coco_results.json").exists()
    infer.main(shards)
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "many")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(infer_many, "_ray", lambda: None)
    monkeypatch.setattr(
        infer_many, "_run", lambda ray, flags, opener, numbers, _: work_here(flags.output, numbers, opener, "parquet")
    )
    infer_many.main([*flags, str(tmp_path / "ray"), "--shard-size", "4"])
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "ray")


@pytest.mark.slow
def test_shards_have_what_infer_writes(trained, shapes, tmp_path):
    flags = [trained, shapes / "JPEGImages", "--threshold", "0.05", "--precision", "float32", "--coco-results"]
    run("infer.py", *flags, "--no-draw", "--output", tmp_path / "one")
    done = run("infer.py", *flags, "--shards", "2", "--output", tmp_path / "many")
    assert "24 pictures: 24 done, 0 unreadable, 0 quarantined" in done.stdout
    expected = as_rows(json.loads((tmp_path / "one" / "detections.json").read_text("utf-8")))
    lines = (tmp_path / "many" / "part-00000.jsonl").read_text("utf-8").splitlines()
    assert {row["id"]: hundredths(row) for row in map(json.loads, lines)} == expected
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "many")
    assert "was begun with threshold 0.05" in error_of(
        "infer.py", *flags, "--threshold", "0.3", "--shards", "2", "--output", tmp_path / "many"
    )


@pytest.mark.parametrize("flag", ["--csv", "--crops", "--overwrite"])
def test_shards_write_nothing_else(flag, trained, shapes, tmp_path):
    with pytest.raises(UserError, match="--shards: writes JSON Lines"):
        infer.main([str(trained), str(shapes / "JPEGImages"), "--shards", "2", flag, "--output", str(tmp_path / "x")])


@pytest.mark.parametrize("cut", [("--tiles", "2x1"), ("--tile-size", "64")], ids=" ".join)
@pytest.mark.parametrize("program", ["infer.py --shards", "infer_many.py"])
def test_what_decides_the_results_reaches_the_detector_and_cannot_change(
    program, cut, trained, shapes, tmp_path, monkeypatch
):
    opened = []
    pictures, output = str(shapes / "JPEGImages"), str(tmp_path / "out")
    if program == "infer_many.py":
        monkeypatch.setattr(infer_many, "_ray", lambda: None)
        monkeypatch.setattr(infer_many, "_run", lambda ray, flags, opener, *_: opened.append(opener) or ())
        main, words = infer_many.main, [str(trained), pictures, output]
    else:
        monkeypatch.setattr(infer.workers, "run", lambda folder, numbers, opener, *_: opened.append(opener) or ())
        main, words = infer.main, [str(trained), pictures, "--shards", "2", "--output", output]
    given = dict([cut], **{"--overlap": "0.3", "--threshold": "disc=0.2", "--classes": "disc"})
    given["--precision"] = "float32"
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        main([*words, *itertools.chain(*given.items())])
    loaded = types.SimpleNamespace(
        checkpoint=config.find_model(str(trained)).checkpoint, class_names=("disc", "square")
    )
    monkeypatch.setattr(
        detector, "load", lambda model, **settings: contextlib.nullcontext(vars(loaded).update(settings) or loaded)
    )
    with opened[0]():
        expected = ((2, 1), None) if cut[0] == "--tiles" else (None, 64)
        assert (loaded.tiles, loaded.tile_size, loaded.overlap) == (*expected, 0.3)
        assert (loaded.threshold, loaded.precision) == ((0.2, 0.5), "float32")
    for flag in given.keys() - {"--overlap"}:
        others = {name: value for name, value in given.items() if name != flag}
        with pytest.raises(UserError, match=f"was begun with {'tiles' if flag == cut[0] else flag[2:]}"):
            main([*words, *itertools.chain(*others.items())])
    with pytest.raises(UserError, match="lacks"):
        main([*words, *itertools.chain(*given.items()), "--batch-size", "2"])


def test_a_list_that_has_grown_is_no_resume(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(infer_many, "_ray", lambda: None)
    monkeypatch.setattr(infer_many, "_run", lambda *_: ())
    (tmp_path / "list.txt").write_text("a.jpg\n")
    words = [str(trained), str(tmp_path / "list.txt"), str(tmp_path / "out")]
    for _ in range(2):
        with pytest.raises(UserError, match=r"lacks a\.jpg"):  # nobody worked
            infer_many.main(words)
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(UserError, match=r"was begun with other pictures than INPUT has now; choose another folder"):
        infer_many.main(words)


@pytest.mark.parametrize(
    ("author", "flags", "precision"),
    [("others", [], "float32"), ("others", ["--precision", "auto"], "auto"), ("train.py", [], "auto")],
)
def test_imported_weights_detect_in_float32(author, flags, precision, trained, tmp_path, monkeypatch):
    """As in infer.py: their scores are those of their own program."""
    model = tmp_path / "model"
    shutil.copytree(trained, model)
    if author == "others":
        config.write_config(str(model), config.read_config(str(model))[0], None, {})
    opened = []
    monkeypatch.setattr(infer_many, "_ray", lambda: None)
    monkeypatch.setattr(infer_many, "_run", lambda ray, flags, opener, *_: opened.append(opener) or ())
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        infer_many.main([str(model), str(tmp_path / "list.txt"), str(tmp_path / "out"), *flags])
    assert [one.settings["precision"] for one in opened] == [precision]


def test_without_ray_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match=r"^infer_many\.py needs Ray: pip install -r requirements-scale\.txt$"):
        infer_many.main(["ssd300-coco", str(tmp_path / "list.txt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists() and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("flags", "claimed"),
    [
        ([], [1]),
        (["--cores", "3"], [3]),
        (["--gpus", "1", "--cores", "4"], []),
        (["--gpus", "0.5", "--cores", "0.5"], []),
    ],
    ids=str,
)
def test_a_worker_keeps_to_the_cores_that_ray_counts(flags, claimed, monkeypatch, tmp_path):
    """Once, before its detector is there: Ray would have each make as many threads as the machine has cores."""
    events = []

    def run_worker(worker, fn_constructor_args, **_):
        made = worker(*fn_constructor_args)
        return types.SimpleNamespace(iter_rows=lambda: map(made, ({"shard": 0}, {"shard": 1})))

    @contextlib.contextmanager
    def opener():
        events.append("opened")
        yield "the detector"

    data = types.SimpleNamespace(
        DataContext=types.SimpleNamespace(get_current=types.SimpleNamespace),
        ActorPoolStrategy=lambda size: None,
        from_items=lambda items, override_num_blocks: types.SimpleNamespace(map=run_worker),
    )
    ray = types.SimpleNamespace(data=data)
    monkeypatch.setattr(worker_processes, "claim_cores", events.append)
    monkeypatch.setattr(shard, "run", lambda *_: dict.fromkeys(shard.STATUSES, 0))
    (tmp_path / shard.WORK).mkdir()
    parsed = infer_many._parse(["model", "pictures", str(tmp_path), *flags])
    assert len(list(infer_many._rows(ray, parsed, opener, [0, 1]))) == 2
    assert events == [*claimed, "opened"]


@pytest.mark.parametrize(("flag", "variable"), [(None, None), ("ray://other:10001", None), (None, "other:6379")])
@pytest.mark.parametrize("before", [None, "/mine"])
def test_workers_find_the_project_on_all_machines(flag, variable, before, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:  # which Ray reads itself
        monkeypatch.setenv("RAY_ADDRESS", variable)
    if before:
        monkeypatch.setenv("PYTHONPATH", before)
    else:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    wanted, seen = os.pathsep.join(filter(None, (str(ROOT), before))), {}

    def init(address=None, runtime_env=None, **_):
        seen.update(address=address, runtime_env=runtime_env, inherited=os.environ.get("PYTHONPATH"))

    monkeypatch.setattr(infer_many, "_knock", lambda address: None)
    infer_many._start(types.SimpleNamespace(init=init), flag, flag or variable)
    if flag or variable:
        assert seen["address"] == flag and seen["runtime_env"] == {"env_vars": {"PYTHONPATH": wanted}}
    else:
        # And not what `ray start` has started on this machine, or has left a note of
        assert seen == {"address": "local", "runtime_env": None, "inherited": wanted}
    assert os.environ.get("PYTHONPATH") == before


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}", "auto", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_line(address, variable, monkeypatch):
    """Ray raises these errors, and would try an address where nobody listens for a quarter of an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(server.getsockname()[1])

    def init(given, **_):
        raise {"auto": ConnectionError, "nonsense": ValueError}[address]("Could not find it.\nAnd so on.")

    given = None if variable else address
    name = "RAY_ADDRESS" if variable else "--ray"
    with pytest.raises(
        UserError, match=rf"^{name} {address}: no Ray cluster is there \((Conn|Could not find it\)).*give"
    ):
        infer_many._start(types.SimpleNamespace(init=init), given, address)


def test_a_cluster_of_another_version_is_named_with_all_that_ray_says():
    def init(*_, **__):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50\nThis process has 2.60")

    with pytest.raises(UserError, match=r"^--ray auto: Ray cannot use .* with: Ray: 2\.50 This process has 2\.60$"):
        infer_many._start(types.SimpleNamespace(init=init), "auto", "auto")


@pytest.mark.parametrize(("flag", "variable"), [("local", None), ("local", "other:1"), (None, "local"), (None, None)])
def test_local_is_no_cluster(flag, variable, monkeypatch):
    """It is Ray's word for one that is started here."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert infer_many._cluster(types.SimpleNamespace(ray=flag)) is None
    monkeypatch.setenv("RAY_ADDRESS", "other:1")
    assert infer_many._cluster(types.SimpleNamespace(ray=None)) == "other:1"
    assert infer_many._cluster(types.SimpleNamespace(ray="auto")) == "auto"


def test_a_call_without_an_address_starts_a_cluster_of_its_own(monkeypatch):
    """Ray joins the last one that its folder names: another user's, or one that is gone, which it seeks for minutes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    services = pytest.importorskip("ray._private.services")
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {"gpu01:6379"})
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: "gpu01:6379")
    joined = []

    def init(address=None, **_):
        joined.append(services.canonicalize_bootstrap_address(address))

    infer_many._start(types.SimpleNamespace(init=init), None, None)
    assert joined == [None]


def test_a_stop_while_ray_starts_ends_ray_too(monkeypatch):
    """An interrupt in the middle of its start leaves processes behind, or crashes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    events = []
    with stopping.StopRequest() as stop:

        def init(*_, **__):
            os.kill(os.getpid(), signal.SIGINT)
            events.append("started")

        ray = types.SimpleNamespace(init=init, shutdown=lambda: events.append("ended"))
        with pytest.raises(KeyboardInterrupt):
            list(infer_many._run(ray, types.SimpleNamespace(ray=None), None, [0], stop))
    assert events == ["started", "ended"]


def ray_with_its_handler(at_start):
    """A stand-in for Ray, whose `init` replaces the handler of SIGTERM as Ray's does, and then calls at_start()."""

    def init(*_, **__):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        at_start()

    return types.SimpleNamespace(init=init, shutdown=lambda: None)


def test_sigterm_while_ray_starts_is_an_interrupt(monkeypatch):
    """By Ray's handler the program ended with 15 and no word."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = ray_with_its_handler(lambda: signal.raise_signal(signal.SIGTERM))
    with stopping.StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        list(infer_many._run(ray, types.SimpleNamespace(ray=None), None, [0], stop))


def test_a_repeated_sigterm_does_not_disturb_the_end_of_ray(monkeypatch):
    """`timeout` sends it twice. Ray's handler was back by then, and ended the program in the middle of its shutdown."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(infer_many, "_check_machines", lambda *_: signal.raise_signal(signal.SIGTERM))
    ended = []

    def shutdown():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        ended.append(True)

    ray = ray_with_its_handler(lambda: None)
    ray.shutdown = shutdown
    with stopping.StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        list(infer_many._run(ray, types.SimpleNamespace(ray=None), None, [0], stop))
    assert ended


def test_parts_of_several_gpus_are_refused():
    with pytest.raises(UserError, match=r"--gpus 1\.5: a process has a part of one GPU, or whole ones"):
        infer_many._parse(["model", "pictures", "out", "--gpus", "1.5"])
    for number in ("0.5", "2"):
        assert infer_many._parse(["model", "pictures", "out", "--gpus", number]).gpus == float(number)


def test_less_than_a_core_is_refused_without_a_gpu():
    """It would limit nothing: as many processes as fit would each use all cores of their machine."""
    with pytest.raises(UserError, match=r"^--cores 0\.5: without --gpus a process needs at least one core; give 1 "):
        infer_many._parse(["model", "pictures", "out", "--cores", "0.5"])
    assert infer_many._parse(["model", "pictures", "out", "--cores", "0.5", "--gpus", "0.25"]).cores == 0.5


@contextlib.contextmanager
def listening(answer):
    """HOST:PORT where callers are answered so, None for not at all, once they have said something."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as callers:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    caller = callers.enter_context(server.accept()[0])
                    if answer is not None and caller.recv(1000):
                        caller.sendall(answer)
                        caller.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


GRPC = bytes([0, 0, 24, 4, 0, 0, 0, 0, 0]) + bytes(24)  # how a server of gRPC begins


def test_a_cluster_is_looked_for_before_ray_is_asked():
    connected = []
    ray = types.SimpleNamespace(init=lambda given, **_: connected.append(given))
    with listening(GRPC) as address:
        infer_many._start(ray, address, address)
    assert connected == [address]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"HTTP/1.1 400\r\n", "what listens there is something else"), (b"", "what"), (None, "timed")],
)
@pytest.mark.parametrize("noted", [False, True])
def test_what_listens_and_is_not_ray_is_one_line(answer, reason, noted, monkeypatch, tmp_path):
    """Ray would try for a quarter of an hour; `auto` is what a killed cluster may have left a note of."""
    monkeypatch.setattr(infer_many, "KNOCK_SECONDS", 0.5)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with listening(answer) as address:
        if noted:
            (tmp_path / "ray").mkdir()
            (tmp_path / "ray" / "ray_current_cluster").write_text(address)
            address = "auto"
        with pytest.raises(UserError, match=rf"^--ray {address}: no Ray cluster is there \({reason}"):
            infer_many._start(types.SimpleNamespace(), address, address)


def test_behind_encryption_a_port_that_listens_is_ray(monkeypatch):
    """Its settings come only after keys were exchanged."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(None) as address:
        infer_many._start(types.SimpleNamespace(init=lambda *_, **__: None), address, address)


@pytest.mark.parametrize(
    ("flags", "enough"),
    [
        ([], True),
        (["--cores", "4", "--gpus", "1"], True),
        (["--cores", "5"], False),
        (["--gpus", "2"], False),
        (["--cores", "8", "--gpus", "1"], False),  # each on a machine of its own
    ],
    ids=str,
)
@pytest.mark.parametrize("cluster", [None, "auto"])
def test_machines_that_are_too_small_are_named(cluster, flags, enough, capsys):
    """Ray would wait for a larger one, without end."""
    alive = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}
    dead = {"Alive": False, "Resources": {"CPU": 16.0, "GPU": 8.0}}
    ray = types.SimpleNamespace(nodes=lambda: [dead, alive, {"Alive": True, "Resources": {}}, alive])
    parsed = infer_many._parse(["model", "pictures", "out", *flags])
    expected = contextlib.nullcontext()
    if not (enough or cluster):
        expected = pytest.raises(UserError, match=r"this one has 0 CPUs, 0 GPUs; 4 CPUs, 1 GPU; lower them")
    with expected:
        infer_many._check_machines(ray, parsed, cluster)
    warned = "those of the cluster have 0 CPUs, 0 GPUs; 4 CPUs, 1 GPU; waiting until one comes"
    assert (warned in capsys.readouterr().err) == (not enough and cluster is not None)


@pytest.mark.parametrize("error", [UserError("the disk is full"), ValueError("odd")])
def test_what_ends_a_worker_of_ray_reaches_the_user(error, monkeypatch, capsys):
    """Its traceback too, since what a worker prints goes into a file of Ray."""
    parsed = infer_many._parse(["model", "pictures", "out"])
    worker = infer_many._Worker("out", None, 1, 0)
    monkeypatch.setattr(worker, "_detect", lambda *_: None)

    def fail(*_):
        raise error

    monkeypatch.setattr(shard, "run", fail)
    monkeypatch.setattr(infer_many, "_rows", lambda *_: iter([worker({"shard": 0})]))
    alone = {"Alive": True, "Resources": {"CPU": 2.0}}
    ray = types.SimpleNamespace(init=lambda *_, **__: None, shutdown=lambda: None, nodes=lambda: [alone])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    stop = types.SimpleNamespace(SIGNALS=(), raise_if_requested=lambda: None)
    with pytest.raises(UserError, match=r"the disk is full$|failed with ValueError: odd; its traceback is above"):
        list(infer_many._run(ray, parsed, None, [0], stop))
    trace = capsys.readouterr().err
    assert ("raise error" in trace and "ValueError: odd" in trace) == isinstance(error, ValueError)


# How many pictures the next test has, and after how many seconds it kills a worker. With 200,000 it is a measurement:
# SSD_MANY_PICTURES=200000 SSD_MANY_KILL_SECONDS=20 python -m pytest -m slow -s tests/test_infer_many.py -k killed
PICTURES = int(os.environ.get("SSD_MANY_PICTURES", "120"))
KILL_SECONDS = float(os.environ.get("SSD_MANY_KILL_SECONDS", "3"))
POISON = min(20, PICTURES // 60)
GROWTH = 60  # MB that a process may grow by from its second quarter to its last


def names_of_tars():
    """A list of names for each tar, in their order; the poison is spread evenly."""
    each = max(40, PICTURES // 200)
    poison = {(2 * number + 1) * PICTURES // (2 * POISON) for number in range(POISON)}
    names = [f"{'poison' if number in poison else 'p'}{number:06d}.png" for number in range(PICTURES)]
    return [names[start : start + each] for start in range(0, PICTURES, each)]


@pytest.fixture
def many(tmp_path):
    """A folder of tars with PICTURES tiny pictures, of which one cannot be read; and two with a half of them each."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(97):
        images.write(tmp_path / "one.png", rng.integers(0, 255, (24, 32, 3), np.uint8))
        contents.append((tmp_path / "one.png").read_bytes())
    folders = [tmp_path / name for name in ("tars", "first", "second")]
    for folder in folders:
        folder.mkdir()
    number = 0
    for index, names in enumerate(names_of_tars()):
        with tarfile.open(folders[0] / f"{index:03d}.tar", "w") as tar:
            for name in names:
                content = b"no picture" if number == 47 else contents[number % len(contents)]
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                (folders[1 + number % 2] / name).write_bytes(content)
                number += 1
    return folders


class Watch:
    """Runs a program, samples the memory of it and of its workers, and kills a worker now and then.

    workers: a pattern of their command lines. seconds: that it took; killed: processes; memory: {"driver", "worker":
    MB, a list}, of the largest worker, once each has had the time to do a shard.
    """

    def __init__(self, words, output, workers, kill_seconds=None):
        self._output, self._pattern, self._kill_seconds = output, workers, kill_seconds
        self.killed, self.memory = [], {"driver": [], "worker": []}
        start = time.monotonic()
        self._process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,))
        watcher.start()
        try:
            self.stdout, _ = self._process.communicate()
        finally:
            over.set()
            watcher.join()
        self.seconds = time.monotonic() - start
        assert self._process.returncode == 0, self.stdout

    def _watch(self, over):
        last, before = time.monotonic(), self._progress()
        while not over.wait(0.5):
            workers, now = workers_of(self._process.pid, self._pattern), self._progress()
            for name, numbers in (("driver", [self._process.pid]), ("worker", workers if now[0] >= 2 else [])):
                if found := [size for number in numbers if (size := resident_mb(number))]:
                    self.memory[name].append(max(found))
            # Progress, so that no picture is killed twice, nor a process before it has a detector
            if self._kill_seconds and workers and now != before and time.monotonic() > last + self._kill_seconds:
                self.killed.append(workers[len(self.killed) % len(workers)])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.killed[-1], signal.SIGKILL)
                last, before = time.monotonic(), self._progress()

    def _progress(self):
        rows = [path.stat().st_size for path in self._output.glob("work/*.rows") if path.exists()]
        return len(list(self._output.glob("part-*"))), sorted(rows)

    def tenths(self):
        """{"driver", "worker": the memory after each tenth of the time}."""
        return {
            name: [sizes[tenth * (len(sizes) - 1) // 10] for tenth in range(11) if sizes]
            for name, sizes in self.memory.items()
        }

    def growth(self, name):
        """MB from the second quarter of the time to the last; 0 for a moment."""
        sizes = self.memory[name]
        quarter = len(sizes) // 4
        return max(sizes[-quarter:]) - max(sizes[quarter : 2 * quarter]) if quarter else 0


def resident_mb(process):
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
    except OSError:
        return 0


def infer_twice(words, folders, outputs):
    """Two processes of infer.py with a core each, on a half of the pictures each; returns the seconds."""
    start, processes = time.monotonic(), []
    for place, (folder, output) in enumerate(zip(folders, outputs, strict=True)):
        with worker_processes.limited_to(worker_processes.share_of_cores(place, 2)):
            line = command("infer.py", words[0], folder, *words[1:], "--no-draw", "--output", output)
            processes.append(subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert [process.wait() for process in processes] == [0, 0]
    return time.monotonic() - start


def entries_of(*folders):
    """{image id: its entries} of files of COCO's results."""
    found = {}
    for folder in folders:
        for one in json.loads((folder / "coco_results.json").read_text("utf-8")):
            found.setdefault(one.pop("image_id"), []).append(one)
    return found


def agree(found, expected, threshold):
    """Whether entries of a picture are equal but for the last digits, as they are in batches of other sizes."""
    return all(
        one["score"] < threshold + 1e-5
        or any(
            (one["category_id"], True) == (other["category_id"], abs(one["score"] - other["score"]) < 1e-5)
            and np.allclose(one["bbox"], other["bbox"], rtol=0, atol=0.01)
            for other in others
        )
        for these, others in ((found, expected), (expected, found))
        for one in these
    )


@pytest.mark.slow
def test_ray_makes_each_picture_once_while_workers_are_killed(trained, many, tmp_path):
    """And as infer.py does; prints the memory, and the speed beside that of two infer.py."""
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    with detector.load(trained, precision="float32") as loaded:
        scores = loaded.detect(sorted(many[1].glob("p0*.png"))[0]).scores
    threshold = str(np.sort(scores)[-6])  # five or so of a picture, as in photographs
    words = [str(trained), "--threshold", threshold, "--precision", "float32", "--coco-results"]
    names = [f"{index:03d}.tar/{name}" for index, of_tar in enumerate(names_of_tars()) for name in of_tar]
    size = str(max(25, min(1000, PICTURES // 8)))

    def watched(program, output, kill_seconds=None):
        line = command(program, words[0], many[0], output, *words[1:], "--workers", "2", "--shard-size", size)
        return Watch(line, output, "ray::.*MapWorker", kill_seconds), line

    killed, line = watched("tests/poisoned.py", tmp_path / "killed", KILL_SECONDS)
    counts = f"{PICTURES - 1 - POISON} done, 1 unreadable, {POISON} quarantined"
    said = killed.stdout.splitlines()[-1]  # after what Ray says of the dead
    assert killed.killed and said == f"{PICTURES:,} pictures: {counts}; see {tmp_path / 'killed'}"
    rows, statuses = [], {}
    for path in sorted((tmp_path / "killed").glob("part-*")):
        for row in parquet.read_table(path, columns=["id", "status", "model"]).to_pylist():
            rows.append(row["id"])
            statuses.setdefault(row["status"], []).append(row["id"])
    assert rows == names  # nothing lost, nothing twice
    assert statuses["quarantined"] == [name for name in names if "poison" in name]
    assert statuses["unreadable"] == [names[47]]
    again = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert again.stdout.splitlines() == [said]  # nothing is left to do

    left_alone, _ = watched("infer_many.py", tmp_path / "alone")
    halves = [tmp_path / "half1", tmp_path / "half2"]
    seconds = infer_twice(words, many[1:], halves)
    expected = entries_of(*halves)
    for output in (tmp_path / "killed", tmp_path / "alone"):
        found, poison = entries_of(output), output.name == "killed"
        for name in names:
            image_id = name[8:-4]
            wanted = [] if poison and "poison" in name else expected.get(image_id, [])
            assert agree(found.get(image_id, []), wanted, float(threshold)), name
    report = {
        "pictures": PICTURES,
        "kills": len(killed.killed),
        "seconds": {"killed": killed.seconds, "alone": left_alone.seconds, "two infer.py": seconds},
        "speed beside two infer.py": {"killed": seconds / killed.seconds, "alone": seconds / left_alone.seconds},
        "memory_mb": {"killed": killed.tenths(), "alone": left_alone.tenths()},
        "machine": load.machine(),
    }
    print(json.dumps(report))
    for run_ in (killed, left_alone):
        assert run_.growth("driver") < GROWTH
    assert left_alone.growth("worker") < GROWTH


@pytest.mark.slow
def test_shards_of_infer_keep_their_memory(trained, many, tmp_path):
    """Prints the memory; with SSD_MANY_PICTURES=200000 it is a measurement, too."""
    line = command("infer.py", trained, *many[1:], "--shards", "2", "--precision", "float32")
    watched = Watch([*line, "--output", tmp_path / "found"], tmp_path / "found", "multiprocessing.spawn")
    counts = f"{PICTURES - 1} done, 1 unreadable, 0 quarantined"
    assert watched.stdout.splitlines()[-1].startswith(f"{PICTURES:,} pictures: {counts}")
    names = []
    for path in sorted((tmp_path / "found").glob("part-*.jsonl")):
        with open(path, encoding="utf-8") as file:
            names += [os.path.basename(json.loads(row)["id"]) for row in file]
    assert names == [path.name for folder in many[1:] for path in sorted(folder.iterdir())]
    print(json.dumps({"seconds": watched.seconds, "memory_mb": watched.tenths(), "machine": load.machine()}))
    assert watched.growth("driver") < GROWTH
    assert watched.growth("worker") < GROWTH


def workers_of(driver, pattern):
    """Processes on this machine that a driver started, by a pattern of their command lines."""
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout.split()
    return [int(number) for number in found if driver in ancestors(int(number))]


def ancestors(process):
    found = []
    while process > 1:
        try:
            with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
                process = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(process)
    return found
