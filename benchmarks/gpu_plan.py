"""The rows of gpu.py, the most important first: when the time budget ends, the last ones are missing."""

import dataclasses
from typing import Any, NamedTuple

STEP, NETWORK, DETECTIONS = "training step", "network alone", "detections"
RATE, SECONDS, VERDICT = "images/s", "seconds", "correct"

# Ways to run the training step, and what is left of it, in words
VARIANTS = {
    "plain": "",
    "ahead": ", the next batch copied meanwhile",
    "update": ", the update as one XLA computation",
    "auto": ", XLA where it chooses",
    "whole": ", network and gradients as one XLA computation",
}
PARTS = {
    "whole": "the whole step",
    "no-feeding": "the batch lies on the card",
    "no-clipping": "without clipping",
    "no-adam": "gradient descent instead of Adam",
    "backward": "forward and backward",
    "forward": "forward only",
}

# train.py --xla in the names of rows, and how cuDNN tries its algorithms, in words
FORMS = {"auto": "", "update": "update", "on": "xla", "whole": "whole"}
TRIALS = {
    "": "",
    "tuned": ", with trials of cuDNN's algorithms",
    "unchecked": ", with such trials but no check of memory around each",
}
# What decides how --xla auto chooses at the small batch: (--xla, key of TRIALS, seconds)
SMALL_TRAININGS = (("auto", "tuned", 60), ("on", "", 150), ("whole", "", 150), ("auto", "", 60), ("update", "", 70))
END_OF_EPOCH = "train.py: validation of 500 pictures, records, checkpoint"


class Side(NamedTuple):
    """One row that is measured in turn with others.

    name: of the row; what: in words; worker: "ours" or "torch"; task, options: of that worker; against: the row that
    its ratio is to, one that does the same work or a part of it.
    """

    name: str
    what: str
    worker: str
    task: str
    options: dict[str, Any]
    against: str | None = None


@dataclasses.dataclass(frozen=True)
class Duel:
    """Rows that are measured in turn. needs: seconds on an H100, for which there must be time.

    slow: whether --tiny leaves them out unless asked for by name.
    """

    sides: tuple[Side, ...]
    needs: float
    slow: bool = False

    @property
    def names(self):
        return [side.name for side in self.sides]


@dataclasses.dataclass(frozen=True)
class Question:
    """A row that our worker answers at once. name, what: of the row; question, options: of the worker."""

    name: str
    what: str
    question: str
    options: dict[str, Any]
    needs: float
    slow: bool = False

    @property
    def names(self):
        return [self.name]


@dataclasses.dataclass(frozen=True)
class Program:
    """Rows that watching a program gives.

    method, options: of gpu_programs.Programs; rows: (name, name of its result, what, unit).
    """

    method: str
    options: dict[str, Any]
    rows: tuple[tuple[str, str, str, str], ...]
    needs: float
    slow: bool = False

    @property
    def names(self):
        return [name for name, *_ in self.rows]


def plan(types, tiny):
    """All items in their order.

    types: of the card, the one of --precision auto first; tiny: the sizes of --tiny.
    """
    width, batches = (0.03, (2, 3)) if tiny else (1.0, (8, 32, 1))
    main, small, large = types[0], *batches[:2]
    rows = _Rows(width)
    return [
        Duel((rows.step(main, small), rows.torch("step", main, small)), 60),
        Duel(_detections(rows, main, small), 40),
        *_correctness(types, width, tiny),
        _stalls(main, width),
        train(large, "auto", 60),
        Duel((rows.step(main, large), rows.torch("step", main, large)), 40),
        Program("epoch_end", {"batch": large}, ((f"epoch-end-{large}", "", END_OF_EPOCH, "% of an epoch"),), 50),
        program("infer", large, 40),
        program("process_video", large, 45, "frames/s"),
        Duel(tuple(rows.stage(main, small, part) for part in PARTS), 40),
        Program("data", {}, (("data", "", "data pipeline alone", RATE),), 15),
        Duel((rows.step(main, small), rows.step(main, small, "ahead"), rows.step(main, small, "update")), 40),
        Duel(tuple(rows.step(main, small, variant) for variant in ("plain", "auto", "whole")), 170, slow=True),
        *(Duel(_detections(rows, main, batch), 30) for batch in batches[1:]),
        *(Duel((rows.step(main, b),), 25) for b in batches[2:]),
        *(train(large, "auto", 60, slow=True, trials=name) for name in ("tuned", "unchecked")),
        train(large, "on", 150, slow=True),
        train(large, "whole", 150, slow=True),
        *(Duel(_other_type(rows, kind, large), 40) for kind in types[1:]),
        *(program("infer", batch, 40) for batch in batches if batch != large),
        *(program("process_video", batch, 45, "frames/s") for batch in batches if batch != large),
        Duel((rows.network(main, large), rows.network(main, large, compile=True)), 40, slow=True),
        Duel(tuple(rows.step(main, large, variant) for variant in VARIANTS), 200, slow=True),
        train(large, "update", 70, slow=True),
        *(Duel(_other_type(rows, kind, batch), 40) for kind in types[1:] for batch in batches if batch != large),
        *(train(small, xla, needs, True, name) for xla, name, needs in SMALL_TRAININGS),
    ]


class _Rows:
    """Makes Sides for networks of one width."""

    def __init__(self, width):
        self._width = width

    def step(self, kind, batch, variant="plain"):
        name, against = ("step", None) if variant == "plain" else (f"step-{variant}", "step")
        return self._ours(name, STEP + VARIANTS[variant], "step", kind, batch, against, variant=variant)

    def network(self, kind, batch, compile=False):
        name, words, against = ("network-auto", VARIANTS["auto"], "network") if compile else ("network", "", None)
        return self._ours(name, NETWORK + words, "network", kind, batch, against, compile=compile)

    def detections(self, kind, batch, portable=False):
        """Against the network alone, which is a part of it; with suppression on the CPU, against that on the card."""
        name, words, against = "detections", "", "network"
        if portable:
            name, words, against = "detections-cpu", ", suppression on the CPU", "detections"
        return self._ours(name, DETECTIONS + words, "detections", kind, batch, against, portable=portable)

    def stage(self, kind, batch, part):
        against = None if part == "whole" else "stage-whole"
        return self._ours(f"stage-{part}", f"{STEP}: {PARTS[part]}", "stage", kind, batch, against, part=part)

    def torch(self, task, kind, batch):
        """Against our row of the same task."""
        what = {"step": STEP, "network": NETWORK, "detections": DETECTIONS}[task]
        options, ours = {"precision": kind, "batch": batch}, f"{task}-{kind}-{batch}"
        return Side(f"torch-{ours}", f"torchvision: {what}", "torch", task, options, ours)

    def _ours(self, name, what, task, kind, batch, against, **options):
        """name, against: without type and batch, which are the same for both."""
        ending = f"-{kind}-{batch}"
        options = {"precision": kind, "batch": batch, "width": self._width, **options}
        return Side(name + ending, what, "ours", task, options, against and against + ending)


def _detections(rows, kind, batch):
    return (
        rows.network(kind, batch),
        rows.detections(kind, batch),
        rows.detections(kind, batch, portable=True),
        rows.torch("network", kind, batch),
        rows.torch("detections", kind, batch),
    )


def _other_type(rows, kind, batch):
    return rows.step(kind, batch), rows.network(kind, batch), rows.detections(kind, batch)


def _correctness(types, width, tiny):
    """A training step in each type, float32 also without TF32; detections."""
    cases = [("float32", False), ("float32", True), *((kind, True) for kind in types if kind != "float32")]
    if tiny:
        cases.remove(("float32", True))  # no CPU has it
    for number, (kind, tf32) in enumerate(cases):
        name = "correct-float32-tf32" if (kind, tf32) == ("float32", True) else f"correct-{kind}"
        options = {"precision": kind, "tf32": tf32, "batch": 2 + number, "width": width}
        yield Question(name, "a training step like the CPU's", "correct_step", options, 30)
    yield Question("correct-detections", "suppression like the CPU's", "correct_detections", {"batch": 4}, 15)


def _stalls(kind, width):
    """Whether something makes the card wait for the host."""
    return Question(f"stalls-{kind}", "does not wait for the host", "stalls", {"precision": kind, "width": width}, 20)


def train(batch, xla, needs, slow=False, trials=""):
    """train.py: seconds to its first step, twice, and its speed."""
    name = "-".join(filter(None, ["train", FORMS[xla], trials]))
    words = (f" --xla {xla}" if FORMS[xla] else "") + TRIALS[trials]
    rows = (
        (f"{name}-{batch}", "speed", f"train.py{words}", RATE),
        (f"{name}-first-start-{batch}", "first start", f"train.py{words}: first step, nothing cached", SECONDS),
        (f"{name}-second-start-{batch}", "second start", f"train.py{words}: first step of a second start", SECONDS),
    )
    return Program("train", {"batch": batch, "xla": xla, "trials": trials}, rows, needs, slow)


def program(method, batch, needs, unit=RATE):
    """infer.py or process_video.py."""
    row = (f"{method}-{batch}", "", f"{method}.py", unit)
    return Program(method, {"batch": batch}, (row,), needs)
