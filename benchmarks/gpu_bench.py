"""Goes through the plan of gpu.py: opens sides, lets them run in turn, reports rows or why there are none."""

import fnmatch
import functools
import subprocess
import sys
import traceback

import gpu_plan
from gpu_client import Failed, Missing, OutOfTime
from gpu_duel import Turns
from gpu_programs import Programs
from gpu_worker import in_one_line

from structures import UserError


def matches(name, patterns):
    """Whether a row is asked for: by its name, the beginning of its name, or a pattern with *."""
    return any(name == p or name.startswith(f"{p}-") or fnmatch.fnmatchcase(name, p) for p in patterns)


class Bench:
    """Measures the items of the plan and reports their rows.

    workers: the gpu_client.Workers by the names of their sides: ours, torch, pictures.
    """

    def __init__(self, flags, settings, budget, workers, report, environment):
        self._flags, self._budget, self.report, self._workers = flags, budget, report, workers
        self._programs = Programs(settings, workers["ours"], workers["pictures"], budget, environment)

    @functools.cached_property
    def _no_torch(self):
        """Why there are no rows of torchvision; None if there are."""
        find = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('torchvision'))"
        python = self._flags.peer_python
        try:
            command, seconds = [python, "-c", find], self._budget.left()
            found = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=seconds).returncode == 0
        except OSError:
            found = False
        except subprocess.TimeoutExpired:
            raise self._budget.ended() from None
        if not found:
            return "torchvision is not installed (--peer-python names an interpreter that has it)"
        try:
            on_gpu = self._workers["torch"].ask("gpu")
        except Failed as error:
            return f"PyTorch does not start: {error}"
        return None if on_gpu or self._flags.tiny else "PyTorch sees no GPU"

    def measure(self, item):
        """Measure the rows of an item that are asked for, or report why they are skipped."""
        done, wanted = self.report.names(), self._flags.rows
        names = [name for name in item.names if name not in done and (not wanted or matches(name, wanted))]
        if not names:
            return
        print(f"{', '.join(names)} … {self._budget.left():.0f} s left", file=sys.stderr, flush=True)
        if self._flags.tiny and item.slow and not wanted:
            self._skip(names, "left out by --tiny, as compiling takes a minute; name it with --rows")
        elif self._budget.left() < item.needs and not (self._flags.tiny and self._budget.left()):
            left = f"{self._budget.left():.0f} s of {self._budget.seconds:g} s were left"
            self._skip(names, f"no time: needs about {item.needs:g} s, {left} (--budget gives more)")
        else:
            measure = {gpu_plan.Duel: self._duel, gpu_plan.Question: self._question, gpu_plan.Program: self._program}
            try:
                measure[type(item)](item, names)
            except Exception as error:  # one broken row must not cost the next ones, which are paid by the minute
                for name in names:
                    self._fail(name, error)

    def _skip(self, names, reason):
        for name in names:
            self.report.add({"row": name, "skipped": reason})

    def _fail(self, name, error):
        """Report why a row has no figures, unless it was reported already."""
        if name in self.report.names():
            return
        expected = isinstance(error, Failed | UserError)
        if not expected:
            traceback.print_exception(error)
        kind = "skipped" if isinstance(error, OutOfTime | Missing) else "failed"
        self.report.add({"row": name, kind: str(error) if expected else in_one_line(error)})

    def _question(self, item, names):
        answer = self._workers["ours"].ask(item.question, **item.options)
        self.report.add({"row": item.name, "unit": gpu_plan.VERDICT, "value": answer["correct"], **answer})

    def _program(self, item, names):
        rows = {key: (name, what, unit) for name, key, what, unit in item.rows if name in names}
        for key, figures in getattr(self._programs, item.method)(**item.options):
            if key in rows:
                name, what, unit = rows[key]
                self.report.add({"row": name, "unit": unit, **item.options, **figures, "what": what})

    def _duel(self, item, names):
        """Open the sides, let them run in turn, close them. One that was measured before runs again as a measure."""
        measures = {side.against for side in item.sides if side.name in names}
        turns = Turns(self._workers, self._flags.tiny)
        try:
            for side in item.sides:
                if side.name in names or side.name in measures:
                    self._open(side, turns, names)
            turns.run()
        finally:  # also what is measured when this process is interrupted
            for row in turns.rows():
                if row["row"] in names:
                    self.report.add(row)
        turns.close()

    def _open(self, side, turns, names):
        """Open a side, or report why it cannot be."""
        try:
            if side.worker == "torch" and self._no_torch:
                raise Missing(self._no_torch)
            turns.open(side)
        except Exception as error:
            if side.name in names:
                self._fail(side.name, error)

    def trace(self, folder, side):
        """Trace one training step into a folder: one of a gpu_plan.Side's type, batch and width."""
        traced = {key: side.options[key] for key in ("precision", "batch", "width")}
        try:
            answer = self._workers["ours"].ask("trace", folder=folder, **traced)
        except Exception as error:
            self._fail("trace", error)
            return
        what = f"one training step, {answer['device']}"
        self.report.add({"row": "trace", "what": what, "unit": "ms", "value": answer["total_ms"], **answer})
