"""The --threshold of programs that detect: a number, one for each class, a file, or the best of a run's last scoring.

RUN/scoring.json holds what average_precision.py found for a run: {"checkpoint": name, "data": …, "split": …, "iou": …,
"thresholds": {"all": X or null, "per_class": {class: X or null}}}, the thresholds of best F1.
"""

import argparse
import dataclasses
import functools
import os

import config
from structures import UserError
from system import cli, files
from system.argument_types import fraction
from system.wording import nearest_hint

CURVE = 0.01  # the default where results are to be scored, which needs the whole precision–recall curve
BEST = "best"
NAME = "scoring.json"
HELP = (
    "one number; or car=0.4,person=0.6, a number for each class named (the others keep the default); or a JSON file "
    'with {"car": 0.4, …}; or best, the thresholds of best F1 that average_precision.py found for the run'
)


@dataclasses.dataclass(frozen=True)
class ScoreThreshold:
    """What --threshold says, before the classes are known.

    text: as the user wrote it.
    every: for the classes that are not named; None for the program's default.
    named: {class: threshold}.
    scored: whether it is from a scoring, which may have been of other classes than the model's.
    """

    text: str
    every: float | None = None
    named: dict = dataclasses.field(default_factory=dict)
    scored: bool = False

    @property
    def is_best(self):
        """Whether it is to be taken from the run."""
        return self.text == BEST

    def check(self, flag, owner, class_names):
        """Raise UserError if a class is named that the owner of class_names (words for the message) does not have."""
        for name in self.named:
            if name not in class_names and not self.scored:
                hint = nearest_hint(name, class_names) or f"; there are {', '.join(class_names)}"
                raise UserError(f"{flag}: {owner} has no class {name!r}{hint}")

    def for_classes(self, class_names, default):
        """A float if all classes have the same, else a tuple, one for each. Raises UserError for an unknown class."""
        self.check("--threshold", "the model", class_names)
        every = default if self.every is None else self.every
        each = tuple(self.named.get(name, every) for name in class_names)
        return each[0] if len(set(each)) == 1 else each


def parse(text):
    """An argument type: a ScoreThreshold."""
    if text == BEST:
        return ScoreThreshold(text)
    if os.path.isfile(text):
        return _read_file(text)
    if "=" not in text:
        try:
            return ScoreThreshold(text, fraction(text))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, nor best, CLASS=X,… or a file that exists") from None
    named = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        if not equals or not name or name in named:
            raise argparse.ArgumentTypeError(f"{part!r} in {text!r} is not CLASS=X, with each class once")
        named[name] = fraction(number)
    return ScoreThreshold(text, named=named)


def _read_file(path):
    """The ScoreThreshold of a JSON file, {class: number} or a scoring.json."""
    values = files.read_json(path)
    if isinstance(values.get("thresholds"), dict):
        return _remembered(path, values)
    for name, number in values.items():
        _check(path, name, number)
    return ScoreThreshold(path, named={name: float(number) for name, number in values.items()})


def _check(path, name, number):
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
        raise UserError(f"{path}: the threshold of {name!r} is {number!r}; give a number from 0 to 1")


def _remembered(path, values):
    """The ScoreThreshold of the values in a scoring.json."""
    thresholds = values.get("thresholds")
    per_class = thresholds.get("per_class") if isinstance(thresholds, dict) else None
    if not isinstance(per_class, dict) or "all" not in thresholds:
        raise UserError(f"{path}: damaged (its thresholds are not {{all, per_class}}); score the run again")
    every, named = thresholds["all"], {name: number for name, number in per_class.items() if number is not None}
    for name, number in {**named, "all": every}.items():
        if number is not None:
            _check(path, name, number)
    if every is None:
        raise UserError(f"{path}: the scoring has no hit, and so no best threshold; give --threshold a number")
    return ScoreThreshold(path, float(every), {name: float(number) for name, number in named.items()}, scored=True)


def resolve(threshold, source, default):
    """The float or tuple of floats (one a class) that --threshold means for a model, for `detector.load`.

    threshold: a ScoreThreshold, or None for `default`; source: the config.ModelSource. For `best`, classes that were
    not scored, or of which no object was hit, have the best threshold of all classes together. The classes of an
    exported graph are only known to TensorFlow: for one, a function of the class names is returned, which
    `detector.load` calls. Raises UserError, and so may that function.
    """
    if threshold is None:
        return default
    if threshold.is_best:
        threshold = _best(source)
    if source.class_names is None:
        return functools.partial(threshold.for_classes, default=default) if threshold.named else threshold.every
    return threshold.for_classes(source.class_names, default)


def to_json(resolved):
    """What `resolve` returned, as plain JSON types that are equal for equal thresholds."""
    if isinstance(resolved, functools.partial):  # the classes are not known yet
        given = resolved.func.__self__
        return {**given.named, "others": resolved.keywords["default"] if given.every is None else given.every}
    return list(resolved) if isinstance(resolved, tuple) else resolved


def _best(source):
    if source.run is None:
        raise UserError(
            f"--threshold best: {source.name} is an exported graph, which remembers no scoring; "
            f"give --threshold RUN/{NAME} of the run that it is from"
        )
    path = os.path.join(source.run, NAME)
    if not os.path.isfile(path):
        raise UserError(
            f"--threshold best: {source.run} remembers no scoring; score results of it with average_precision.py, or "
            "give a number"
        )
    values, now = files.read_json(path), checkpoint_of(source)
    remembered = _remembered(path, values)
    if values.get("checkpoint") != now:
        cli.warn(
            f"--threshold best: {path} is from checkpoint {values.get('checkpoint')}, but this is {now}; "
            "detect and score again for its thresholds"
        )
    return remembered


def checkpoint_of(source):
    """The name of a run's checkpoint, step-00001234; None for an exported model or one that is yet to be fetched."""
    return source.checkpoint and os.path.basename(os.path.dirname(source.checkpoint))


def find_run(model, class_names):
    """The config.ModelSource of the run that results come from, or None if `model` names none with these classes.

    model: as the results name it, or None.
    """
    if not isinstance(model, str) or not model:
        return None
    try:
        source = config.find_model(model)
    except UserError:
        return None
    is_there = source.run and not source.to_fetch
    return source if is_there and set(class_names) <= set(source.class_names or ()) else None


def remember(source, points, **facts):
    """Write RUN/scoring.json and return its path.

    source: the config.ModelSource; points: of thresholds.operating_points; facts: what was scored, as JSON types. Its
    "checkpoint" is taken to be the model's where that is not known.
    """
    best = {name: one["best_f1"] and one["best_f1"]["threshold"] for name, one in points["per_class"].items()}
    over_all = points["all"]["best_f1"]
    path = os.path.join(source.run, NAME)
    thresholds = {"all": over_all and over_all["threshold"], "per_class": best}
    facts["checkpoint"] = facts.get("checkpoint") or checkpoint_of(source)
    files.write_json(path, {**facts, "thresholds": thresholds})
    return path
