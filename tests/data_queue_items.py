"""What the workers of test_data_queue.py run; in a module of its own, so that they need not import pytest."""

import fcntl
import os
import signal
import sys
import time
from multiprocessing import reduction

import numpy as np

from structures import UserError
from system.data_queue import Field

FIELDS = [
    Field("image", (6, 5, 3), np.uint8),
    Field("targets", (7,), np.int32),
    Field("offsets", (7, 4), np.float32),
    Field("index", (), np.int64),
]


def make_item(job, out):
    """Random content that depends on the job only, made in a random time."""
    epoch, index = job
    rng = np.random.default_rng([epoch, index])
    time.sleep(np.random.default_rng().uniform(0, 0.003))
    out["image"][...] = rng.integers(0, 256, out["image"].shape)
    out["targets"][...] = rng.integers(0, 21, out["targets"].shape)
    out["offsets"][...] = rng.normal(size=out["offsets"].shape)
    out["index"][...] = index


class MisbehaveAt:
    """Calls `deed` at job (0, 5), and creates the file `mark` before, if one is given."""

    def __init__(self, deed, mark=None):
        self.deed, self.mark = deed, mark

    def __call__(self, job, out):
        if job == (0, 5):
            if self.mark:
                self.mark.touch()
            self.deed()
        make_item(job, out)


class OpenCounter:
    """A number in an anonymous file, which only a starting process can be given."""

    def __init__(self, file=None):
        self._file = os.memfd_create("counter") if file is None else file

    def __reduce__(self):
        return _reopen, (reduction.DupFd(self._file),)

    @property
    def value(self):
        return int(os.pread(self._file, 20, 0) or 0)

    def close(self):
        os.close(self._file)

    def add(self):
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        os.pwrite(self._file, str(self.value + 1).encode(), 0)
        fcntl.lockf(self._file, fcntl.LOCK_UN)


def _reopen(file):
    return OpenCounter(file.detach())


class AddToShared:
    """Makes items, and counts them in the OpenCounter that it is given."""

    def __init__(self, counter=None):
        self.counter = counter

    def sharing(self, counter):
        return AddToShared(counter)

    def __call__(self, job, out):
        self.counter.add()
        make_item(job, out)


def raise_value_error():
    raise ValueError("a strange sample")


def raise_user_error():
    raise UserError("a.jpg: not a picture; remove it")


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with_3():
    os._exit(3)


def sleep_long():
    time.sleep(100)


def stop_self():
    os.kill(os.getpid(), signal.SIGSTOP)


class Burden:
    """Cannot be unpickled."""

    def __reduce__(self):
        return raise_value_error, ()

    def __call__(self, job, out):
        pass


def count_item(job, out):
    """Appends a character to the file that the job names."""
    with open(job[0], "a") as file:
        file.write("x")


def put_index(job, out):
    out["index"][...] = job


def put_module_names(job, out):
    forbidden = {"tensorflow", "cv2", "matplotlib", "keras"}
    out["index"][...] = len(forbidden & set(sys.modules))


def set_mark():
    os.environ["DATA_QUEUE_TEST_MARK"] = "42"


def put_mark(job, out):
    out["index"][...] = int(os.environ.get("DATA_QUEUE_TEST_MARK", "0"))


class WaitFor:
    """Waits until a file is there, as the initializer of a worker or for each item."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *_):
        while not os.path.exists(self.path):
            time.sleep(0.01)


def count_item_behind_a_gate(job, out):
    """count_item, which at index 4 then waits for the file with the suffix .gate."""
    count_item(job, out)
    while job[1] == 4 and not os.path.exists(job[0] + ".gate"):
        time.sleep(0.01)
