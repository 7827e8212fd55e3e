"""Trainings within the tests' process: TensorFlow runs their graphs as they are built.

Rewriting a graph takes TensorFlow a third of a training of two steps, and does not change what it computes. Trainings
in processes of their own (`programs.run`) have it.
"""

import pytest

from kernels import devices


@pytest.fixture(autouse=True)
def graphs_as_built(monkeypatch):
    session_config = devices.session_config

    def call(*arguments, **options):
        config = session_config(*arguments, **options)
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        return config

    monkeypatch.setattr(devices, "session_config", call)
