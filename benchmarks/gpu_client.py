"""The other end of gpu_worker.py: a side's process, asked with a deadline, and started again after a failure."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time

from bench_paths import HERE

CLOSING_SECONDS = 10  # that a process gets to end by itself


class Failed(Exception):
    """A row has no figures; the message says why."""


class OutOfTime(Failed):
    """The time budget ended in the middle of a row."""


class Missing(Failed):
    """This machine lacks what the row needs."""


class Budget:
    """seconds: all that there is, from now on."""

    def __init__(self, seconds):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self):
        """Seconds that are left; at least 0."""
        return max(0.0, self._end - time.monotonic())

    def ended(self):
        """The error that says so."""
        return OutOfTime(f"not finished within the time budget of {self.seconds:g} s")


class Worker:
    """A side's process. It starts at the first request, and anew after it had to be ended.

    script: a gpu_SIDE.py; python: its interpreter; budget: a Budget; environment: of the process.
    ends: how many of its processes have ended; what was open in those is gone.
    """

    def __init__(self, script, python, budget, environment):
        self._command = [python, str(HERE / script)]
        self._budget, self._environment = budget, environment
        self._process, self.ends = None, 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """End the process: at once after an error, as an interrupted process may be busy for minutes."""
        if kind is None:
            self.close()
        else:
            self.kill()

    def request(self, do, **values):
        """One request -> the answer's dict. Raises Failed, and OutOfTime when the budget ends first."""
        if not self._budget.left():
            raise self._budget.ended()  # a process that starts now would answer nothing
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._end("its process has ended; see the messages above")
        return self._read()

    def release(self, key):
        """Close an open task, if the process that held it still runs."""
        if self._process is not None:
            with contextlib.suppress(Failed):
                self.request("close", key=key)

    def ask(self, question, **options):
        """The answer to a question."""
        return self.request("ask", question=question, options=options)["answer"]

    def _read(self):
        ready, _, _ = select.select([self._process.stdout], [], [], self._budget.left())
        if not ready:
            self.kill()
            raise self._budget.ended()
        line = self._process.stdout.readline()
        if not line:
            self._end("its process ended; see the messages above")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _forget(self):
        """Note that the process has ended."""
        self._process, self.ends = None, self.ends + 1

    def _end(self, reason):
        raise Failed(f"{reason} (exit code {self._wait()})")

    def _wait(self):
        """The exit code of the process, which gets CLOSING_SECONDS to end by itself."""
        process = self._process
        try:
            process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._forget()
        return process.returncode

    def kill(self):
        """End the process at once, with all that it started."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._forget()

    def close(self):
        """End the process, first by asking."""
        if self._process is not None:
            self._process.stdin.close()
            self._wait()
