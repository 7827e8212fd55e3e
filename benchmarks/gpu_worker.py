"""The process of one side of gpu.py: keeps tasks open, does them when asked, and answers questions.

A gpu_SIDE.py ends with `serve(TASKS, QUESTIONS, memory)`. TASKS maps a name to a context manager that takes keyword
options and yields (facts, run): facts is a dict about what was built; run does the work once and returns how many
images that was, or a dict with "items" and "seconds" if it has a clock of its own. QUESTIONS maps a name to a function
that takes keyword options and returns what JSON can hold. memory.start() begins, memory.peak_mb() ends a look at the
memory of the GPU; where there is none, peak_mb() is None.

Only Python's own library is used: the peer's environment need not have more.
"""

import contextlib
import json
import os
import sys
import time

WARMUP = 2  # runs after the first before one is timed


def serve(tasks, questions, memory):
    """Answer each line of stdin with one JSON line on stdout, until stdin ends. Errors are answers too."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    side = Side(tasks, questions, memory)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(side, request.pop("do"))(**request)
        except Exception as error:  # the row fails, the next ones may not
            answer = {"error": in_one_line(error)}
        print(json.dumps(answer), file=answers, flush=True)
    side.close_all()


def in_one_line(error):
    """The kind and the first line of an error's message; TensorFlow's go on for pages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


class Side:
    """The tasks that are open, by key. Each public method answers a request of that name."""

    def __init__(self, tasks, questions, memory):
        self._tasks, self._questions, self._memory = tasks, questions, memory
        self._open = {}

    def ask(self, question, options):
        """{"answer": …} of a question."""
        return {"answer": self._questions[question](**options)}

    def open(self, key, task, options):
        """Build a task and warm it up -> its facts, seconds to the first result, of a run, and peak memory in MB."""
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            self._memory.start()
            facts, run = stack.enter_context(self._tasks[task](**options))
            run()
            first_seconds = time.perf_counter() - start
            for _ in range(WARMUP):
                run()
            seconds = _timed(run, 1)["seconds"]
            self._open[key] = run, stack.pop_all()
        peak = self._memory.peak_mb()
        return {**facts, "first_seconds": round(first_seconds, 2), "run_seconds": seconds, "peak_gpu_mb": peak}

    def run(self, key, times):
        """Do an open task so many times -> {"items", "seconds"}."""
        return _timed(self._open[key][0], times)

    def close(self, key):
        """Free what a task holds."""
        self._open.pop(key)[1].close()
        return {}

    def close_all(self):
        for key in list(self._open):
            self.close(key)


def _timed(run, times):
    """{"items", "seconds"} of so many runs, by their own clocks if they have one."""
    items, own = 0, 0.0
    start = time.perf_counter()
    for _ in range(times):
        done = run()
        if isinstance(done, dict):
            items, own = items + done["items"], own + done["seconds"]
        else:
            items += done
    return {"items": items, "seconds": own or time.perf_counter() - start}
