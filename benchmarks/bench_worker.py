"""The process of one side: it builds a task, then does it once for every line on stdin.

A bench_SIDE.py ends with `serve(TASKS)`. TASKS maps a name to a function of keyword options that returns (facts, run):
facts is a dict about what was built; run is a callable that does the work once and returns a dict with "items", the
amount of work, and anything else to report. run is timed here, in the process that works, unless its dict has its own
"seconds".

Only Python's standard library is used, as the peer's environment may have nothing else.
"""

import json
import os
import resource
import sys
import time


def serve(tasks):
    """Print JSON lines on stdout: first the facts, then an answer for every line on stdin, until its end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing that libraries print looks like an answer
    facts, run = tasks[sys.argv[1]](**json.loads(sys.argv[2]))
    _answer(answers, facts)
    for _ in sys.stdin:
        start, cpu_start = time.perf_counter(), time.process_time()
        done = run()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        _answer(answers, {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak, **done})


def _answer(answers, values):
    print(json.dumps(values), file=answers, flush=True)
