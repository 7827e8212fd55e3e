"""The process of one side: builds a task, then does it once for every line on stdin.

A bench_SIDE.py ends with `serve(TASKS)`. TASKS maps a name to a function of keyword options that returns
(facts, run): facts is a dict about what was built, run a callable that does the work once and returns a dict,
with "items", how much work that was, and whatever else there is to tell. run is timed here, in the process
that works, unless its dict brings its own "seconds".

Only Python's own library is used: the peer's environment need not have more.
"""

import json
import os
import resource
import sys
import time


def serve(tasks):
    """Answer on stdout, one JSON line each: first the facts, then one for every line on stdin, until its end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    facts, run = tasks[sys.argv[1]](**json.loads(sys.argv[2]))
    _answer(answers, facts)
    for _ in sys.stdin:
        start = time.perf_counter()
        done = run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        _answer(answers, {"seconds": seconds, "peak_mb": peak, **done})


def _answer(answers, values):
    print(json.dumps(values), file=answers, flush=True)
