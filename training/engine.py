"""One epoch of training, one evaluation."""

import itertools
import math
import time

import numpy as np
import tqdm

import average_precision
from media import images
from structures import UserError
from system import cli
from training import optimization

REMEDY = (
    "nothing of it is saved; start a new run, from the last checkpoint if there is one (--init-from RUN@last), with a "
    "lower --learning-rate, more --warmup-steps or a smaller --clip-norm"
)
EXAMPLES = 6  # validation pictures that an evaluation keeps to be looked at


def train_one_epoch(session, training_step, batches, state, *, plan, samples, after_step):
    """Train on what remains of an epoch, or until the plan's end; moves `state` (runs.TrainingState) on.

    batches: iterable of data_queue.Batch from batch number state.batch of the epoch on; plan: optimization.Plan;
    samples: what the batches' jobs (epoch, index) point into; after_step: callable(losses, rate), called when
    `state` is in order. Raises UserError on a non-finite loss.
    """
    settings = plan.settings
    groups = _effective_batches(batches, settings.accumulate)
    with _progress_bar(state, settings, len(samples)) as bar:
        while state.batch < plan.batches_per_epoch and state.step < plan.total_steps:
            start = time.monotonic()
            rate = plan.rate(state.step)
            sums, jobs = _effective_step(session, training_step, next(groups), rate, state.step, samples)
            _add_sums(state.sums, sums)
            state.step += 1
            state.batch += math.ceil(len(jobs) / settings.batch_size)
            state.seconds += time.monotonic() - start
            after_step(optimization.mean_losses(sums), rate)
            running = optimization.mean_losses(state.sums)
            bar.set_postfix_str("  ".join(f"{k} {v:.3f}" for k, v in running.items()), refresh=False)
            bar.update(len(jobs))


def _progress_bar(state, settings, total):
    return tqdm.tqdm(
        total=total,
        initial=min(total, state.batch * settings.batch_size),
        desc=f"epoch {state.epoch + 1}/{settings.epochs}",
        unit="img",
        dynamic_ncols=True,
    )


def _effective_batches(batches, accumulate):
    """Group the batches that make one optimiser step, without reading ahead of the group."""
    iterator = iter(batches)
    for first in iterator:
        yield itertools.chain([first], itertools.islice(iterator, accumulate - 1))


def _effective_step(session, training_step, group, rate, step, samples):
    """One optimiser step over a group of batches -> its loss sums, and the jobs of its images."""
    total, jobs = {}, []
    batch = next(group)
    while batch is not None:
        following = next(group, None)
        sums = training_step.run(session, batch.arrays, rate, update=following is None)
        if not all(math.isfinite(value) for value in sums.values()):
            raise _non_finite(sums, rate, step, [samples[index] for _, index in batch.jobs])
        _add_sums(total, sums)
        jobs += batch.jobs
        batch.release()
        batch = following
    return total, jobs


class NonFiniteLoss(UserError):
    """The loss is no longer a number, and neither may be the weights: nothing of this is worth saving."""


def _add_sums(total, sums):
    for name, value in sums.items():
        total[name] = total.get(name, 0.0) + value


def _non_finite(sums, rate, step, samples):
    """The error that ends a training whose loss is no longer a number."""
    parts = ", ".join(f"{name} {value:g}" for name, value in sums.items())
    files = " ".join(sample.image_path for sample in samples)
    return NonFiniteLoss(
        f"the loss is not finite at step {step + 1}, learning rate {rate:g} ({parts}); {REMEDY}; the batch was: {files}"
    )


def require_sound(session, training_step, step, rate):
    """Raises NonFiniteLoss if step number `step` (1-based) left weights that must not become a checkpoint."""
    if not training_step.is_sound(session):
        raise NonFiniteLoss(f"the weights are ruined at step {step}, learning rate {rate:g}; {REMEDY}")


def evaluate(detector, samples, *, check_stop, progress=True):
    """Detect on all samples and score: (dict of average_precision.evaluate, list of EXAMPLES examples).

    An example is (image, Detections, Sample), the same samples every time. check_stop: called for each
    image; may raise to end the evaluation. In a picture that cannot be read nothing is detected, which is said. Raises
    UserError if the pictures have gone, folder and all.
    """
    files = ((sample.image_path, sample.exif) for sample in samples)
    kept = set(np.linspace(0, len(samples) - 1, min(EXAMPLES, len(samples))).astype(int).tolist())
    detections, examples = {}, []
    bar = tqdm.tqdm(
        detector.detect_files(files, keep=kept.__contains__),
        total=len(samples),
        desc="validation",
        unit="img",
        leave=False,
        dynamic_ncols=True,
        disable=not progress,
    )
    for index, (_, read, found) in enumerate(bar):
        check_stop()
        if found is None:
            if images.folder_is_gone(read.path):
                raise UserError(f"{read.path}: its folder is gone; bring the data back, --resume then validates")
            cli.warn(f"validation without {read.path}: {read.reason}")
            continue
        detections[samples[index].id] = found
        if index in kept:
            examples.append((read.image, found, samples[index]))
    ground_truth = {sample.id: sample for sample in samples}
    return average_precision.evaluate(ground_truth, detections, detector.class_names), examples
