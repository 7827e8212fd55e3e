"""Processes with limits: words say how they end."""

import sys

import pytest

from system import limited


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashes with signal SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "crashes with signal 40"),  # one for real time, without a name
        ("import time; time.sleep(60)", "takes more than 0.5 s"),
    ],
)
def test_a_process_that_ends_badly(tmp_path, code, message):
    with pytest.raises(limited.Ended, match=message):
        limited.call([sys.executable, "-S", "-c", code], str(tmp_path), 0.5 if "sleep" in code else 60, 1 << 34)


def test_exit_code_and_output(tmp_path):
    code = "import os, sys; print(os.getcwd()); sys.exit(3)"
    assert limited.call([sys.executable, "-c", code], str(tmp_path), 60, 1 << 34) == (3, f"{tmp_path}\n")
