"""What the process that measures a model finds, here in the process of the tests: only spawning it is left out."""

import numpy as np
import pytest

import config
import detector
import export_model
from kernels import devices
from measuring import timing
from media import images
from structures import Detections, UserError
from system import worker_processes


class Sent(list):
    """The sending end of a pipe that keeps what is sent."""

    send = list.append

    def only(self, kind):
        (content,) = [content for one, content in self if one == kind]
        return content


@pytest.fixture(autouse=True)
def no_parent(monkeypatch):
    monkeypatch.setattr(worker_processes, "follow_parent", lambda: None)


def measure(task):
    sent = Sent()
    timing.measure(sent, task)
    return sent


@pytest.fixture(scope="module")
def task(trained, shapes):
    """Of a run, on two pictures; a third is to be detected in, but is none."""
    paths = [str(path) for path in sorted((shapes / "JPEGImages").iterdir())[:2]]
    frames = [images.read(path) for path in paths]
    return timing.Task(str(trained), "float32", 0.01, (1, 3), 5, frames, [(path, False) for path in [*paths, __file__]])


@pytest.fixture(scope="module")
def sent(task):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_processes, "follow_parent", lambda: None)
        return measure(task)


def test_everything_is_sent_in_its_order(sent, task):
    kinds = [kind for kind, _ in sent if kind != "progress"]
    assert kinds == ["loaded", "timed", "detected"] and sent[0][0] == "loaded"
    assert sum(content for kind, content in sent if kind == "progress") == timing.steps(task)
    assert timing.steps(task) == (3 + 5) * 1 + (3 + 2) * 3 + 3


def test_facts_are_those_of_the_detector(sent, task):
    loaded = sent.only("loaded")
    with detector.load(task.model, precision="float32") as one:
        assert (loaded["class_names"], loaded["preset"]) == (one.class_names, one.preset)
        assert loaded["precision"] == "float32" and loaded["load_seconds"] > 0
        assert loaded["checkpoint"] == one.checkpoint
        assert loaded["checkpoint_bytes"] == config.find_model(task.model).size()


def test_every_size_of_batch_is_timed(sent):
    timed = sent.only("timed")
    assert {batch: one["calls"] for batch, one in timed["batches"].items()} == {1: 5, 3: 2}
    assert timed["peak_mb"] > 100 and timed["others_busy"] >= 0 and timed["stolen"] >= 0
    assert timed["gpu_peak_mb"] is None or timed["gpu_peak_mb"] > 0


def test_detections_are_those_of_the_detector(sent, task):
    *found, reason = sent.only("detected")
    assert isinstance(reason, str) and "not an image" in reason
    with detector.load(task.model, precision="float32", threshold=0.01) as one:
        for detections, frame in zip(found, task.frames, strict=True):
            expected = one.detect(frame)
            assert isinstance(detections, Detections) and len(detections) == len(expected) > 0
            np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_and_rate_equal_plain_arithmetic(seed):
    seconds = np.random.default_rng(seed).random(7 + seed).tolist()
    ordered = sorted(seconds)

    def percentile(share):
        place = share / 100 * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return 1000 * (ordered[low] + (place - low) * (ordered[high] - ordered[low]))

    found = timing.summary(seconds, 4)
    assert found["calls"] == len(seconds)
    assert found["images_per_second"] == pytest.approx(4 * len(seconds) / sum(seconds))
    assert found["latency_ms"] == pytest.approx({f"p{share}": percentile(share) for share in (50, 95, 99)})


def test_a_file_of_fixed_batches_is_timed_as_far_as_it_goes(task, tmp_path):
    """A smaller batch is filled up; a larger one is not possible."""
    path = str(tmp_path / "two.pb")
    export_model.main([task.model, "--output", path, "--batch", "2", "--no-check"])
    with detector.load(path) as loaded:
        assert (loaded.file_batch, loaded.batch_size) == (2, 2)
    with detector.load(task.model) as loaded:
        assert loaded.file_batch is None
    other = task._replace(model=path, batches=(1, 2, 3), images=2, files=[])
    sent = measure(other)
    calls = {batch: one and one["calls"] for batch, one in sent.only("timed")["batches"].items()}
    assert calls == {1: 2, 2: 1, 3: None}
    assert sum(content for kind, content in sent if kind == "progress") == timing.steps(other)


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_a_file_of_smaller_batches_than_the_first_is_still_scored(task, tmp_path, monkeypatch, gpu):
    """Where a graph is built for batches of one size, as on a GPU, too."""
    path = str(tmp_path / "one.pb")
    export_model.main([task.model, "--output", path, "--batch", "1", "--no-check"])
    load, asked = detector.load, []

    def noted(model, *, batch_size=None, **settings):
        asked.append(batch_size)
        with monkeypatch.context() as patch:
            patch.setattr(devices, "has_gpu", lambda: False)
            return load(model, batch_size=batch_size, **settings)

    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    monkeypatch.setattr(devices, "peak_memory", lambda: None)
    monkeypatch.setattr(detector, "load", noted)
    sent = measure(task._replace(model=path, batches=(3, 4), images=1))
    assert sent.only("timed")["batches"] == {3: None, 4: None} and len(sent.only("detected")) == 3
    assert asked == ([3, None] if gpu else [None])


@pytest.mark.parametrize(
    ("full_at", "message"),
    [
        (3, "the memory of this machine is full at batches of 3; give smaller --batch-sizes, or end other programs"),
        (1, "the memory of this machine is full; end other programs that hold memory"),
    ],
)
def test_full_memory_names_the_flag_of_this_program(task, monkeypatch, full_at, message):
    run = detector.Detector.detect_prepared

    def run_out(self, batch, sizes):
        if len(batch) == full_at:
            raise devices.OutOfMemory("the memory of this machine is full: give --batch-size 4, or end other programs")
        return run(self, batch, sizes)

    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    monkeypatch.setattr(detector.Detector, "detect_prepared", run_out)
    kind, said = measure(task)[-1]
    assert kind == "error" and said.startswith(f"{task.model}: {message}") and "--batch-size " not in said


def test_what_the_user_can_mend_is_sent(task):
    assert measure(task._replace(model="nowhere")) == [("error", str(_error("nowhere")))]


def _error(model):
    with pytest.raises(UserError) as caught:
        detector.load(model)
    return caught.value


def test_pictures_are_taken_in_turn(task):
    """Each call gets the next pictures, with their own sizes."""
    seen = []

    class Fake:
        def prepare(self, frame):
            return frame[:1, :1]

        def detect_prepared(self, batch, sizes):
            seen.append((batch[:, 0, 0, 0].tolist(), sizes))

    frames = [np.full((index + 1, 9, 3), index, np.uint8) for index in range(3)]
    seconds = timing._time(task._replace(frames=frames, images=4), Fake(), 2, lambda count: None)
    assert len(seconds) == 2 and len(seen) == timing.WARM_UP + 2
    flat = [(value, size) for values, sizes in seen for value, size in zip(values, sizes, strict=True)]
    first = flat[0][0]
    assert flat == [((first + at) % 3, (9, (first + at) % 3 + 1)) for at in range(len(flat))]
