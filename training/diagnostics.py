"""What the steps of a training tell: values for TensorBoard, and warnings that name the flag to change.

A warning comes at most once in a run, also across resumes: what was seen and said is part of a checkpoint.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping

import numpy as np

import config
import ssd_layers
from settings.training_settings import TrainingSettings, usual_rate
from ssd_utils import SSDPreset
from system import schema
from system.wording import plural
from training.probes import Reading

WINDOW = 10  # records that a warning looks back on; one record is every LOG_EVERY steps of training/trainer.py
LOSS_AFTER = 200  # optimizer steps before the loss is judged
# Of the confidence loss, in that of uniform scores. Good rates come to 0.7, ten times as much to 1.6 with momentum. A
# net that learns nothing stays at 1.1, because the negatives that count are the hardest
HIGHEST_LOSS = 1.2
POSITIVES_AFTER = 100  # optimizer steps without a positive anchor
# Of units without gradient. Good rates come to 0.08, rates ten times too high to 0.35 and more (not with momentum)
SILENT_SHARE = 0.25
LOWEST_RATIO = 1e-6  # of update to weights. Float32 does not even store what is below 6e-8


@dataclasses.dataclass
class Memory:
    """What was seen of a run, in JSON's types, because checkpoints hold it (`runs.TrainingState`).

    steps, positives: optimizer steps, and the positive anchors in their batches.
    sums: loss sums and positives since the last record.
    clipped, updates: as in `Reading`, since the last record and before the last stop.
    confidence, silent, ratios: of the last WINDOW records at most, the confidence loss per positive since the record
    before, the `silent_share` and the `usual_ratio`. ratios begins anew where the schedule lowers the rate.
    dead: {layer: number of records in a row in which it was dead}.
    warned: the kinds of warnings that were given.
    """

    steps: int = 0
    positives: float = 0.0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    clipped: int = 0
    updates: int = 0
    confidence: list[float] = dataclasses.field(default_factory=list)
    silent: list[float] = dataclasses.field(default_factory=list)
    ratios: list[float] = dataclasses.field(default_factory=list)
    dead: dict[str, int] = dataclasses.field(default_factory=dict)
    warned: list[str] = dataclasses.field(default_factory=list)


MEMORY_LIMITS = {name: schema.Limits(0) for name in ("steps", "positives", "clipped", "updates")}


class Diagnosis:
    """Watches a training.

    memory: what `to_json` gave at the last checkpoint; empty for a new run, or one that was not watched before.
    class_weight: the largest weight of a class in the loss.
    """

    def __init__(
        self,
        memory: Mapping,
        settings: TrainingSettings,
        description: config.ModelDescription,
        class_weight: float = 1.0,
    ) -> None:
        schema.check("--resume: state.json: diagnosis", memory, Memory, MEMORY_LIMITS, config.RESTORE)
        self._memory = Memory(**memory)
        self._settings, self._preset = settings, description.preset
        self._uniform = (class_weight + settings.negative_ratio) * math.log(1 + len(description.class_names))

    def to_json(self, clipped: int, updates: int) -> dict:
        """The memory. clipped, updates: what `StepProbe.count` gives; a stop ends its count."""
        memory = self._memory
        return dataclasses.asdict(
            dataclasses.replace(memory, clipped=memory.clipped + clipped, updates=memory.updates + updates)
        )

    def add(self, sums: Mapping[str, float]) -> None:
        """Note an optimizer step. sums: its loss sums and positives."""
        memory = self._memory
        memory.steps += 1
        memory.positives += sums["positives"]
        memory.sums = {name: memory.sums.get(name, 0.0) + value for name, value in sums.items()}

    def record(self, rate: float, reading: Reading, class_targets: np.ndarray) -> dict[str, float]:
        """Note a step that is recorded, after `add`; return {tag: value} for TensorBoard.

        rate: the step's learning rate; reading: of its update; class_targets: int32 [N,A] of one of its batches, 0 for
        background.
        """
        memory = self._memory
        clipped, updates = memory.clipped + reading.clipped, memory.updates + reading.updates
        memory.clipped = memory.updates = 0
        if positives := memory.sums.get("positives"):
            _append(memory.confidence, memory.sums["confidence"] / positives)
        memory.sums = {}
        _append(memory.silent, silent_share(reading, self._preset))
        if rate < self._settings.learning_rate / 2:  # in the warm-up, or lowered by the schedule
            memory.ratios = []
        else:
            _append(memory.ratios, usual_ratio(reading))
        memory.dead = {layer: memory.dead.get(layer, 0) + 1 for layer in dead_layers(reading, self._preset)}
        share = {"gradient/clipped": clipped / updates} if updates else {}
        return {**share, **_step_values(reading, class_targets, self._preset)}

    def new_warnings(self) -> list[str]:
        """The warnings that are due and were not given before, a line each."""
        found = {kind: text for kind, text in self._warnings() if kind not in self._memory.warned}
        self._memory.warned += found
        return list(found.values())

    def _warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, text) of what is wrong now."""
        memory, settings = self._memory, self._settings
        lower = f"start a new run with {_lower_rate(settings)}, or more --warmup-steps"
        lower += "" if settings.initializer == "lsuv" else ", or with --initializer lsuv"
        if memory.steps >= LOSS_AFTER and _mean(memory.confidence) > HIGHEST_LOSS * self._uniform:
            yield (
                "loss",
                f"the confidence loss is {_mean(memory.confidence):.3g} after {plural(memory.steps, 'step')}, but "
                f"{self._uniform:.3g} where all classes score the same: {lower}; check_dataset.py finds wrong labels",
            )
        if _mean(memory.silent) > SILENT_SHARE:
            yield (
                "high rate",
                f"{_mean(memory.silent):.0%} of the units of a usual layer get no gradient, which a learning rate that "
                f"is far too high leads to: {lower}",
            )
        if _mean(memory.ratios) < LOWEST_RATIO:
            usual = usual_rate(settings.optimizer, settings.adam_epsilon)
            yield (
                "low rate",
                f"a step changes the weights of a usual layer by only {_mean(memory.ratios):.0e} of their size: "
                f"start a new run with a higher --learning-rate (the default with this --optimizer is {usual:g}, and "
                "--find-rate proposes one)",
            )
        if dead := [layer for layer, records in memory.dead.items() if records >= WINDOW]:
            yield (
                "dead layer",
                f"the outputs of {', '.join(dead)} are all 0, so that no gradient passes and nothing changes this: "
                f"{lower}",
            )
        if memory.steps >= POSITIVES_AFTER and not memory.positives:
            yield (
                "no positives",
                f"no anchor has matched an object in {plural(memory.steps, 'step')}, so nothing is learned: "
                "check_dataset.py --anchors FILE counts the objects and fits anchors to them, for a new run with "
                "--anchors FILE; "
                "--matching bipartite gives every object an anchor",
            )


def _lower_rate(settings):
    """The words for a flag whose rate is a tenth, or the optimizer's usual one if that is still lower."""
    usual = usual_rate(settings.optimizer, settings.adam_epsilon)
    factor = min(0.1, usual / settings.learning_rate)
    if settings.schedule_rates:
        rates = ",".join(f"{rate * factor:g}" for rate in settings.schedule_rates)
        return f"lower --schedule-rates, such as {rates}"
    return f"a lower --learning-rate, such as {settings.learning_rate * factor:g} (--find-rate proposes one)"


def _append(window, value):
    """Add a value, if there is one, to a list of the last WINDOW values."""
    window += [] if value is None else [value]
    del window[:-WINDOW]


def _mean(window):
    """The mean of a full window; NaN, which is neither high nor low, before it is full."""
    return statistics.fmean(window) if len(window) == WINDOW else math.nan


def _step_values(reading, class_targets, preset):
    """{tag: value} of one update."""
    groups = {
        "weight_norm": reading.weight_norms,
        "update_norm": reading.update_norms,
        "update_ratio": update_ratios(reading),
        "silent_units": _silent_units(reading),
        "positives": positive_shares(class_targets, preset),
    }
    values = {f"{group}/{name}": value for group, members in groups.items() for name, value in members.items()}
    return {"gradient/norm": reading.gradient_norm, **values}


def update_ratios(reading: Reading) -> dict[str, float]:
    """{layer: norm of its update / norm of its weights}; layers whose weights are all 0 are left out."""
    return {
        name: moved / reading.weight_norms[name]
        for name, moved in reading.update_norms.items()
        if reading.weight_norms[name]
    }


def usual_ratio(reading: Reading) -> float | None:
    """The median of `update_ratios` over the layers that get a gradient; None if there are none."""
    silent = _silent_units(reading)
    ratios = [ratio for layer, ratio in update_ratios(reading).items() if silent.get(layer, 0) < 1]
    return statistics.median(ratios) if ratios else None


def _silent_units(reading):
    """{layer: share of its units, as its biases show them, that get no gradient}."""
    return {layer: float(np.mean(gradient == 0)) for layer, gradient in reading.bias_gradients.items()}


def silent_share(reading: Reading, preset: SSDPreset) -> float | None:
    """The median, over VGG-16's layers, of the share of units without gradient; None if no layer counts.

    A unit of these layers without gradient usually has only zeros as outputs: nothing else reaches it any more. Layers
    that no loss reaches, as where all objects are small, do not count, nor do those after fc7, whose maps are small.
    """
    dead = dead_layers(reading, preset)
    shares = [
        share
        for layer, share in _silent_units(reading).items()
        if layer in ssd_layers.VGG_LAYERS and (share < 1 or layer in dead)
    ]
    return statistics.median(shares) if shares else None


def dead_layers(reading: Reading, preset: SSDPreset) -> list[str]:
    """The layers whose outputs are all 0: they get no gradient, although a head or the layer behind them gets one.

    A layer may also get none because no object, and no negative that is hard, lies on the maps behind it.
    """
    trained = {layer: bool(np.any(gradient)) for layer, gradient in reading.bias_gradients.items()}
    layers = (*ssd_layers.VGG_LAYERS, *ssd_layers.names(ssd_layers.extra_layers(preset)))
    dead = []
    for layer, behind in zip(layers, (*layers[1:], ""), strict=True):
        readers = [behind]
        if layer in ssd_layers.feature_names(preset):
            readers += [ssd_layers.head_name(layer, kind) for kind in (ssd_layers.LOGITS, ssd_layers.OFFSETS)]
        if any(trained.get(reader) for reader in readers) and trained.get(layer) is False:
            dead.append(layer)
    return dead


def positive_shares(class_targets: np.ndarray, preset: SSDPreset) -> dict[str, float]:
    """{feature map: its share of the positives} of class_targets [N,A]; empty if there are none."""
    starts = np.cumsum([0, *preset.anchors_per_map[:-1]])
    positives = np.add.reduceat(np.count_nonzero(class_targets, axis=0), starts)
    total = positives.sum()
    return dict(zip(ssd_layers.feature_names(preset), (positives / total).tolist(), strict=True)) if total else {}
