"""One epoch of training, one evaluation."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tqdm

import average_precision
import runs
import training_data
from detector import Detector
from distribution.group import Group
from media import images
from structures import Sample, UserError
from system import cli
from system.data_queue import Batch
from training import feeding, optimization, progress, shares, training_graph, valid_loss

REMEDY = (
    "this step is not saved; start a new run with a lower --learning-rate (or --schedule-rates), more --warmup-steps "
    "or a --clip-norm of 10 or less, from the last checkpoint if there is one (--init-from RUN@last)"
)
EXAMPLES = 6  # validation pictures that an evaluation keeps for display


def train_one_epoch(
    graph: training_graph.TrainingGraph,
    batches: Iterable[Batch],
    state: runs.TrainingState,
    plan: optimization.Plan,
    samples: Sequence[Sample],
    after_step: Callable[[dict[str, float], float, np.ndarray], None],
    outlook: progress.Outlook | None = None,
    group: Group | None = None,
) -> None:
    """Train on what remains of an epoch, or until the plan's end; updates `state`.

    batches: those of the epoch from number state.batch on; samples: those that the batches' jobs (epoch, index) name;
    after_step: called after each optimizer step, when `state` is up to date, with the step's loss sums, its learning
    rate and the class_targets of its last batch, which are overwritten later; outlook: gets the seconds of each step,
    and the progress bar shows its estimate of the time left; None for a bar with the loss alone; group: the ranks that
    train together, each with its share of the batches, of which only the first shows a bar. Raises NonFiniteLoss.
    """
    settings, step = plan.settings, graph.training_step
    pairs = feeding.in_pairs(batches, step.feeds_ahead)
    with _progress_bar(state, plan, shown=group is None or group.is_first) as bar:
        while state.batch < plan.batches_per_epoch and state.step < plan.total_steps:
            start = time.monotonic()
            rate = plan.rate(state.step)
            step_sums: dict[str, float] = {}
            count = min(settings.accumulate, plan.batches_per_epoch - state.batch)  # the last step may have fewer
            for number in range(count):
                batch, following = next(pairs)
                last = number == count - 1
                coming = following and following.arrays
                sums = step.run(graph.session, batch.arrays, rate, last, following=coming)
                if not (group or _finite(sums)):
                    raise _non_finite(sums, rate, state.step, [samples[index] for _, index in batch.jobs])
                _add_sums(step_sums, sums)
                if not last:
                    batch.release()
            if group:
                step_sums = _update_together(graph, group, step_sums, rate, state, plan, samples)
            before = state.batch
            _add_sums(state.sums, step_sums)
            state.step += 1
            state.batch += count
            state.seconds += (seconds := time.monotonic() - start)
            if outlook:
                outlook.step_done(seconds)
            after_step(step_sums, rate, batch.arrays["class_targets"])
            batch.release()
            loss = f"loss {optimization.mean_losses(state.sums)['loss']:.3f}"
            bar.set_postfix_str(f"{outlook}, {loss}" if outlook else loss, refresh=False)
            bar.update(plan.images_before(state.batch) - plan.images_before(before))


def _update_together(graph, group, sums, rate, state, plan, samples):
    """Update with the gradients of all ranks; returns their loss sums, which must be finite in total."""
    sums = group.total(sums)
    if not _finite(sums):
        first = state.batch * plan.settings.batch_size
        jobs = training_data.epoch_jobs(len(samples), plan.settings.seed, state.epoch, first)[: plan.images_per_step]
        raise _non_finite(sums, rate, state.step, [samples[index] for _, index in jobs])
    graph.training_step.update_together(graph.session, rate)
    return sums


def _progress_bar(state, plan, shown=True):
    """A bar of the pictures of the current epoch, to where --max-steps may end it."""
    done = state.batch * plan.settings.batch_size
    total = min(plan.num_images, done + (plan.total_steps - state.step) * plan.images_per_step)
    return tqdm.tqdm(
        total=total,
        initial=min(total, done),
        desc=f"epoch {state.epoch + 1} of {plan.epochs}",
        unit="img",
        dynamic_ncols=True,
        disable=not shown,
    )


class NonFiniteLoss(UserError):
    """The loss or the weights are no longer finite: they must not be saved."""


def _add_sums(total, sums):
    for name, value in sums.items():
        total[name] = total.get(name, 0.0) + value


def _finite(sums):
    return all(map(math.isfinite, sums.values()))


def _non_finite(sums, rate, step, samples):
    """The error for a loss that is not finite. step: 0-based; samples: those of the batch."""
    parts = ", ".join(f"{name} {value:g}" for name, value in sums.items())
    files = " ".join(sample.image_path for sample in samples)
    return NonFiniteLoss(
        f"the loss is not finite at step {step + 1}, learning rate {rate:g} ({parts}); {REMEDY}; the batch was: {files}"
    )


def require_sound(graph: training_graph.TrainingGraph, step: int, rate: float) -> None:
    """Raises NonFiniteLoss if step number `step` (1-based) left weights that must not become a checkpoint."""
    if not graph.training_step.is_sound(graph.session):
        raise NonFiniteLoss(f"the weights are not usable after step {step}, learning rate {rate:g}; {REMEDY}")


def evaluate(
    detector: Detector,
    samples: Sequence[Sample],
    *,
    check_stop: Callable[[], None],
    loss: valid_loss.LossOfSamples | None = None,
    title: str = "validation",
    shows_bar: bool = True,
    group: Group | None = None,
) -> tuple[dict, list]:
    """Detect on all samples and score -> (dict of `average_precision.evaluate`, list of at most EXAMPLES examples).

    An example is (image uint8 RGB [H,W,3], Detections, Sample), of the same samples every time. check_stop: called for
    each image; may raise to end the evaluation. loss: gets the predictions of each picture, which the detector must
    keep. title: of the progress bar. group: the ranks that share the pictures; only the first scores and returns
    something. A picture that cannot be read counts as one without detections, and a warning names it. Raises UserError
    if the pictures' folder is gone.
    """
    kept = set(np.linspace(0, len(samples) - 1, min(EXAMPLES, len(samples))).astype(int).tolist())
    indices = shares.of_validation(len(samples), kept, *((group.rank, group.size) if group else (0, 1)))
    files = ((samples[index].image_path, samples[index].exif) for index in indices)
    detections, examples = {}, []
    stream = detector.detect_files(files, keep=lambda place: indices[place] in kept)
    bar = tqdm.tqdm(
        stream, total=len(indices), desc=title, unit="img", leave=False, dynamic_ncols=True, disable=not shows_bar
    )
    with contextlib.closing(stream), bar:  # the threads of the stream end before a checkpoint is written
        for index, (_, read, found) in zip(indices, bar, strict=True):
            check_stop()
            if found is None:
                _warn_of_unreadable(read)
                continue
            if loss is not None:
                loss.add(index, read.predictions)
            detections[index] = found
            if index in kept:
                examples.append((read.image, found, samples[index]))
    if group is not None:
        detections = shares.gather_detections(group, detections)
        if loss is not None:
            loss.add_up(group.total)
        if not group.is_first:
            return {}, []
    ground_truth = {sample.id: sample for sample in samples}
    of_samples = {samples[index].id: found for index, found in sorted(detections.items())}
    return average_precision.evaluate(ground_truth, of_samples, detector.class_names), examples


def _warn_of_unreadable(error):
    """Warn of a picture of a validation. error: its images.ImageError. Raises UserError if its folder is gone."""
    if images.folder_is_gone(error.path):
        raise UserError(f"{error.path}: its folder is gone; restore the data")
    cli.warn(f"validation continues without {error.path}: {error.reason}")
