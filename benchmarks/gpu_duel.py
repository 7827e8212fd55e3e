"""Sides of gpu.py that run in turn: each has a row for the rounds that it did, also where one of them ends early."""

import statistics

import gpu_plan
from bench_harness import spread
from gpu_client import Failed

CHUNK_SECONDS, ROUNDS, TINY_ROUNDS = 0.4, 7, 2  # of each side in turn


class Turns:
    """The sides that are open together. workers: {name: gpu_client.Worker}; tiny: see bench_harness.Settings."""

    def __init__(self, workers, tiny):
        self._workers, self._tiny, self._rounds = workers, tiny, TINY_ROUNDS if tiny else ROUNDS
        self._opened = {}

    def open(self, side):
        """Open a side and run its first round, which is there whatever the next side does. Raises Failed."""
        try:
            opened = _Opened(side, self._workers[side.worker], self._tiny)
            opened.run()
        except Failed as error:
            self._tell_others(side.name, error)
            raise
        self._opened[side.name] = opened

    def run(self):
        """Run the other rounds in turn. A side whose process has ended has only those before."""
        for _ in range(1, self._rounds):
            for name, opened in self._opened.items():
                if opened.stopped:
                    continue
                try:
                    opened.run()
                except Failed as error:
                    opened.stopped = opened.fault = str(error)
                    self._tell_others(name, error)

    def _tell_others(self, name, error):
        """Note which sides have lost their process with side `name`, which raised this error."""
        for opened in self._opened.values():
            if opened.lost and not opened.stopped:
                opened.stopped = f"its process ended with {name}: {error}"

    def rows(self):
        """The dict of each side's row."""
        return [self._row(opened) for opened in self._opened.values()]

    def _row(self, opened):
        side, mine, what = opened.side, opened.rates, opened.side.what
        row = {"row": side.name, "unit": gpu_plan.RATE, "value": statistics.median(mine), **spread(mine)}
        if side.against in self._opened:
            others = statistics.median(self._opened[side.against].rates)
            row |= {"ratio": round(statistics.median(mine) / others, 3), "against": side.against}
        if len(mine) < self._rounds:
            what += f" (only {len(mine)} of {self._rounds} rounds: {opened.stopped or 'interrupted'})"
        if opened.fault:
            row["failed"] = opened.fault
        return {**row, **side.options, **opened.facts, "what": what}

    def close(self):
        """Free what the sides hold."""
        for name, opened in self._opened.items():
            if not opened.lost:
                self._workers[opened.side.worker].release(name)


class _Opened:
    """A side that is ready to run.

    facts: of its process; rates: images/s of each round; stopped: why it runs no more, or None; fault: the same if the
    reason is its own.
    """

    def __init__(self, side, worker, tiny):
        self.side, self._worker = side, worker
        self.facts = worker.request("open", key=side.name, task=side.task, options=side.options)
        self._times = 1 if tiny else max(1, round(CHUNK_SECONDS / self.facts["run_seconds"]))
        self._ends = worker.ends
        self.rates, self.stopped, self.fault = [], None, None

    @property
    def lost(self):
        """Whether the process in which it was opened is gone."""
        return self._worker.ends != self._ends

    def run(self):
        """Do a round. Raises Failed."""
        done = self._worker.request("run", key=self.side.name, times=self._times)
        self.rates.append(done["items"] / done["seconds"])
