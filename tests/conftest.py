"""Fixtures that several test files share: one data set of shapes, one model trained on it for a moment."""

# ruff: noqa: E402, the settings must come before TensorFlow is imported
import os
import signal

import pytest

# As tensorflow_loading.import_tensorflow has it for the programs; before any test file imports TensorFlow
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# A shell that starts the tests in the background has them ignore Ctrl-C, which programs under test would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)

from programs import TINY, run, write_shapes
from system import signals

# Minutes each. They come first, so that two processes (`make test`) end at about the same time
LONGEST = [
    "test_train.py",
    "test_trainer.py",
    "test_campaign.py",
    "test_train_together.py",
    "test_infer.py",
    "test_xla.py",
    "test_export_model.py",
    "test_optimization.py",
]


def pytest_collection_modifyitems(items):
    """Put the tests of the longest files first; others keep their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def signals_of_before():
    """Each test begins with the handlers of signals that the tests began with: `cli.run` leaves its own.

    Without `monkeypatch`, which would then undo what a test has patched only after a file's own fixtures have ended.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signals._received = None
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A VOC-layout folder with the splits train (18 pictures) and val (6)."""
    return write_shapes(tmp_path_factory.mktemp("shapes"), {"train": 18, "val": 6})


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """A run of 2 steps at 3% of the channels: knows nothing, but is a whole model."""
    path = tmp_path_factory.mktemp("trained") / "run"
    run("train.py", "--data", shapes, "--train", "train", *TINY, "--max-steps", "2", "--run", path)
    return path


@pytest.fixture
def memory_full_at_the_second_batch(monkeypatch):
    """The list of calls of a session, of which the third fails as TensorFlow does; the first prepares the session."""
    import tensorflow.compat.v1 as tf

    original, calls = tf.Session.run, []

    def run_out(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return original(self, *arguments, **options)

    monkeypatch.setattr(tf.Session, "run", run_out)
    return calls
