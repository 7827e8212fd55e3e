"""What the tests of several kernels share."""

import pytest
import tensorflow.compat.v1 as tf


@pytest.fixture
def no_gpu(monkeypatch):
    """This machine has no GPU, whatever it has."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
