"""Several threads share a network: each gets its own answer, and what waits is one batch."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from film import sharing
from film.sharing import SharedDetector
from programs import wait_until
from structures import Detections


class Network:
    """Finds in a picture a box as wide as its gray level."""

    class_names, threshold, precision, batch_size = ("car",), 0.5, "float32", 4

    def __init__(self):
        self.batches, self.gate = [], threading.Event()

    def prepare(self, image):
        return image

    def detect_prepared(self, batch, sizes):
        self.batches.append(len(batch))
        self.gate.wait(20)
        if (np.stack(batch) == 99).any():
            raise ValueError("broken")
        found = [
            np.array([[0, 0, picture[0, 0, 0], width]], np.float32)
            for picture, (width, _) in zip(batch, sizes, strict=True)
        ]
        return [Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int32)) for box in found]


def ask(shared, level):
    found = shared.detect_prepared(np.full((1, 4, 4, 3), level, np.uint8), [(level, 5)])
    return [tuple(one.boxes_px[0, 2:].tolist()) for one in found]


def test_what_waits_is_one_batch():
    network = Network()
    shared = SharedDetector(network, 8)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, shared, 1)
        wait_until(lambda: network.batches == [1])  # nobody else asks: it does not wait for long
        others = [pool.submit(ask, shared, level) for level in range(2, 8)]
        wait_until(lambda: len(shared._waiting) == 6)
        network.gate.set()
        assert [one.result() for one in [first, *others]] == [[(level, level)] for level in range(1, 8)]
    assert network.batches == [1, 4, 2]


def test_nobody_waits_for_a_camera_that_has_ended(monkeypatch):
    monkeypatch.setattr(sharing, "GATHER", 30)
    network = Network()
    network.gate.set()
    shared, start = SharedDetector(network, 3), time.monotonic()
    shared.left()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ask, shared, 1)
        assert pool.submit(ask, shared, 2).result() == [(2, 2)] and one.result() == [(1, 1)]
        waiting = pool.submit(ask, shared, 3)
        wait_until(lambda: len(shared._waiting) == 1)
        shared.left()  # while that waits for it
        assert waiting.result() == [(3, 3)]
    assert ask(shared, 4) == [(4, 4)]
    shared.left()  # the last: there is always a batch of one
    assert ask(shared, 5) == [(5, 5)]
    assert network.batches == [2, 1, 1, 1] and time.monotonic() - start < 20


def test_nobody_waits_for_a_camera_that_has_dropped_out(monkeypatch):
    monkeypatch.setattr(sharing, "GATHER", 30)
    network = Network()
    network.gate.set()
    shared, start = SharedDetector(network, 2), time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ask, shared, 1)
        wait_until(lambda: len(shared._waiting) == 1)
        shared.away(True)
        assert waiting.result() == [(1, 1)] and ask(shared, 2) == [(2, 2)]
        shared.away(False)  # it is waited for again
        one = pool.submit(ask, shared, 3)
        assert ask(shared, 4) == [(4, 4)] and one.result() == [(3, 3)]
    assert network.batches == [1, 1, 2] and time.monotonic() - start < 20


def test_an_error_reaches_those_whose_batch_it_was():
    network = Network()
    network.gate.set()
    shared = SharedDetector(network, 8)
    with pytest.raises(ValueError, match="broken"):
        ask(shared, 99)
    assert ask(shared, 3) == [(3, 3)]


def test_an_error_at_one_picture_reaches_all_of_its_batch(monkeypatch):
    """Whoever was forgotten would wait for ever, so each has a thread that does not keep the tests from ending."""
    monkeypatch.setattr(sharing, "GATHER", 30)
    network, errors = Network(), []
    network.gate.set()
    shared = SharedDetector(network, 3)

    def try_to_ask(level):
        try:
            ask(shared, level)
        except ValueError as error:
            errors.append(str(error))

    for level in (1, 99, 2):
        threading.Thread(target=try_to_ask, args=(level,), daemon=True).start()
    wait_until(lambda: len(errors) == 3, seconds=20)
    assert errors == ["broken"] * 3 and network.batches == [3]
