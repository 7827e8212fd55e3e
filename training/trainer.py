"""The training loop: epochs, validations, records and checkpoints of one run, until the end or a stop."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow.compat.v1 as tf

import config
import runs
import training_data
from distribution import collective
from distribution.ends import RankLost
from distribution.group import Group
from formats import division
from kernels import devices
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import cli, worker_processes
from system.data_queue import Batch, DataQueue, WorkerError
from system.stopping import StopRequest
from system.wording import plural
from training import (
    caching,
    diagnostics,
    engine,
    first_weights,
    layer_scaling,
    optimization,
    probes,
    progress,
    same_pictures,
    shares,
    summaries,
    training_graph,
)
from training.ration import Ration
from training.summaries import Summaries

PICTURES_TO_SCALE_BY = 8  # that the first weights are measured on
LOG_EVERY = 10  # optimizer steps between two points of the loss curve in TensorBoard
_SOON = "which takes a minute or so, and less when this machine has done it before (--xla off starts at once)"
COMPILING = {
    "update": "the optimizer's update, which takes seconds",
    "on": f"parts of it, {_SOON}",
    "whole": f"it, {_SOON}",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What one call of train.py is asked to do.

    run: path of the run directory.
    description: the model.
    settings: the flags.
    samples: to train on, those of one epoch.
    valid: to validate on; may be empty.
    resume: whether to continue a run that exists.
    xla: "auto" or one of XLA_FORMS, as in --xla.
    divided: what --valid-share divided the pictures into, None without it.
    group: the ranks that do it together, each with this task; None for one process alone. Only the first writes.
    again: the flags beside --run and --resume that go on with it.
    """

    run: str
    description: config.ModelDescription
    settings: TrainingSettings
    samples: list[Sample]
    valid: list[Sample]
    resume: bool = False
    xla: str = "auto"
    divided: division.Division | None = None
    group: Group | None = None
    again: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this process reads the first weights, writes the run, and says what happens."""
        return self.group is None or self.group.is_first

    @property
    def plan(self) -> optimization.Plan:
        """How many steps the training has."""
        return optimization.Plan(self.settings, len(self.samples))

    @property
    def scored(self) -> Sequence[Sample]:
        """The pictures of --train that --score-train scores."""
        unique = self.samples[: len(self.samples) // self.settings.repeat]
        return training_data.limited(unique, self.settings.score_train)


@contextlib.contextmanager
def open_trainer(task: Task, stop: StopRequest) -> Iterator["Trainer"]:
    """Context manager: the Trainer of a new or resumed run, with everything that it needs open until the block ends.

    Raises UserError if the run cannot be created or resumed, or another process trains it, or, also from the block, if
    memory is full.
    """
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_network(task, stop))
        task, session = opened.task, opened.graph.session
        if not task.resume:
            runs.create(task.run, task.description, task.settings)
        stack.enter_context(runs.lock(task.run))
        if task.divided is not None:
            task.divided.write(os.path.join(task.run, config.DIVISION))
        checkpoints = runs.Checkpoints(task.run)
        state = (checkpoints.restore_last(session) if task.resume else None) or runs.TrainingState()
        same_pictures.check(task, state)
        opened.send(state)
        largest = max(opened.class_weights) if opened.class_weights else 1.0
        diagnosis = diagnostics.Diagnosis(state.diagnosis, task.settings, task.description, largest)
        if task.resume:
            _keep_changes(task)
        records = Summaries(task.run, task.description.class_names, task.settings.events)
        stack.enter_context(records.open(state.step, state.rows, session.graph))
        _print_start(opened, state)
        queue = stack.enter_context(open_queue(task))
        trainer = Trainer(task, stop, opened.graph, checkpoints, state, records, queue, opened.probe, diagnosis)
        with _way_on_named(task):
            yield trainer


@contextlib.contextmanager
def _way_on_named(task):
    """Add the command that continues the training to whatever ends it early, unless a new run is needed."""
    command = _resume_command(task)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_saved(task.run)}; continue with: {command}") from None
    except (engine.NonFiniteLoss, devices.OutOfMemory, RankLost):  # whoever started the ranks says how these go on
        raise
    except UserError as error:
        raise UserError(f"{error}; {_saved(task.run)}; to continue: {command}") from error


def _saved(run):
    """What of a run is safe, in words."""
    state = runs.last_state(run)
    return f"all up to step {state.step} is saved" if state else "nothing is saved yet"


def _resume_command(task):
    """The line that continues a training, with the flags that config.json does not keep."""
    return config.resume_command(task.run, *task.again)


@dataclasses.dataclass(frozen=True)
class OpenNetwork:
    """A network whose weights have the values that a training starts from, as `open_network` makes it.

    task: what to do, with the data type that --precision auto is on this machine.
    graph: the network and its session.
    probe: reads what steps do, from variables of the graph.
    class_weights: of --class-weights, None without it.
    xla: what XLA compiles of it, one of XLA_FORMS.
    ranks: the processes that train together, None for one alone.
    """

    task: Task
    graph: training_graph.TrainingGraph
    probe: probes.StepProbe
    class_weights: tuple[float, ...] | None
    xla: str
    ranks: collective.Ranks | None

    def send(self, state: runs.TrainingState) -> None:
        """At rank 0: give the others its variables, and the position of the training."""
        if self.ranks:
            self.ranks.group.share(dataclasses.asdict(state))
            self.ranks.copy_from_first(self.graph.session, tf.global_variables())

    def receive(self) -> runs.TrainingState:
        """At another rank: take what rank 0 sends."""
        state = runs.TrainingState(**self.ranks.group.share())
        self.ranks.copy_from_first(self.graph.session, tf.global_variables())
        return state


@contextlib.contextmanager
def open_network(task: Task, stop: StopRequest) -> Iterator[OpenNetwork]:
    """Context manager: the network of a task, until the block ends. Writes nothing.

    Raises UserError if the first weights cannot be read, or, also from the block, if memory is full, and
    KeyboardInterrupt if a stop was requested while the network was built.
    """
    if task.resume:
        task = _with_own_length(task)
    dtype = devices.compute_dtype(task.settings.precision)
    if task.group:  # machines may differ
        dtype = tf.as_dtype(task.group.share(dtype.name))
    if not task.resume:  # config.json gets what "auto" is here: a resume on another machine computes in the same type
        task = dataclasses.replace(task, settings=dataclasses.replace(task.settings, precision=dtype.name))
    if task.settings.deterministic:
        devices.make_deterministic()
    with _full_memory_explained(task), tf.Graph().as_default():
        images = _remaining_images(task)
        xla = devices.xla_form(task.xla, images)
        devices.set_cudnn_trials(xla, images)
        weights = _class_weights(task)
        ranks = task.group and collective.Ranks(
            task.group,
            training_graph.session_config(task.settings, together=True),
            devices.has_gpu(),
            devices.says_memory_is_full,
        )
        graph = training_graph.build(task.description, task.settings, dtype, weights, xla, ranks)
        with graph.session:
            probe = probes.StepProbe(graph.training_step.trained, graph.training_step.gradient_probe)
            graph.initialize(_first_values(task, stop))
            stop.raise_if_requested()  # before there is a run
            yield OpenNetwork(task, graph, probe, weights, xla, ranks)


@contextlib.contextmanager
def open_queue(task: Task) -> Iterator[DataQueue]:
    """Context manager: the queue that makes a task's batches, with the pictures of --cache, until the block ends."""
    workers = worker_processes.beside_network() if task.settings.workers is None else task.settings.workers
    preset, settings, group = task.description.preset, task.settings, task.group
    rows = shares.rows(settings.batch_size, group.rank, group.size) if group else settings.batch_size
    neighbors = group.cluster.neighbors if group else 1
    with (
        caching.opened(task.samples, preset, settings, neighbors) as cache,
        training_data.make_queue(task.samples, preset, settings, workers=workers, cache=cache, rows=rows) as queue,
    ):
        yield queue


def epoch_batches(task: Task, queue: DataQueue, state: runs.TrainingState) -> Iterator[Batch]:
    """This process's batches of what remains of an epoch."""
    settings, count, group = task.settings, len(task.samples), task.group
    jobs = training_data.epoch_jobs(count, settings.seed, state.epoch, state.batch * settings.batch_size)
    if group is None:
        return queue.batches(jobs)
    own = shares.of_jobs(jobs, settings.batch_size, group.rank, group.size)
    return shares.filled_up(queue.batches(own), task.plan.batches_per_epoch - state.batch, task.description.preset)


def _remaining_images(task):
    """How many images the training is going to see from here on."""
    state = runs.last_state(task.run) if task.resume else None
    return (task.plan.total_steps - (state.step if state else 0)) * task.plan.images_per_step


@contextlib.contextmanager
def _full_memory_explained(task):
    """Where TensorFlow gets no memory, raise a UserError that says what is saved and how to go on."""
    try:
        yield
    except (*devices.MEMORY_ERRORS, devices.OutOfMemory) as error:
        devices.check_memory(error)
        last = config.read_index(task.run).get("last")  # a step that ran out of memory is not saved
        saved = f"{last} is saved" if last else "nothing is saved yet"
        source = f" and --init-from {task.run}@last" if last else ""
        again = f"continue with: {_resume_command(task)}" if config.is_run(task.run) else "try again"
        raise UserError(
            f"{devices.full_memory(error)}; {saved}; start a new run with {_smaller_batch(task.settings)}{source}, "
            f"or end other programs that hold memory and {again}"
        ) from None


def _smaller_batch(settings):
    """The flags of a training in less memory, if possible with the same gradients."""
    size = settings.batch_size
    factor = next((n for n in range(2, size + 1) if size % n == 0), None)
    if factor is None:
        return "a smaller --preset or --width or more layers in --freeze"
    return f"--batch-size {size // factor} --accumulate {settings.accumulate * factor} (the same gradients)"


def _class_weights(task):
    """The weights of --class-weights, which are printed; None without the flag."""
    names = task.description.class_names
    weights = training_data.class_weights(task.settings.class_weights, names, task.samples)
    if weights:
        print("class weights:", ", ".join(f"{n} {w:.3g}" for n, w in zip(names, weights, strict=True)))
    return weights


def _first_values(task, stop):
    """{variable name: array} to start from; empty if a checkpoint follows."""
    if not task.leads or (task.resume and config.read_index(task.run).get("last")):
        return {}
    shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
    given = first_weights.read(task.settings, task.description, shapes, stop.raise_if_requested)
    if task.settings.initializer != "lsuv" or not shapes.keys() - given.keys():
        return given
    images = training_data.first_images(task.samples, task.description.preset, task.settings, PICTURES_TO_SCALE_BY)
    return layer_scaling.scaled(task.description, given, images, task.settings.seed)


def _keep_changes(task):
    """Write what this resume changes into config.json, for the next resume."""
    _, stored = config.read_config(task.run)
    settings = task.settings
    if stored == settings:
        return
    before, now = (optimization.Plan(one, len(task.samples)).total_steps for one in (stored, settings))
    if settings.schedule == "cosine" and before != now:
        print(f"training ends at step {now} instead of {before}: this changes all rates of the cosine schedule")
    config.replace_training(task.run, settings)


def _with_own_length(task):
    """The task of a resume; with the run's own length if the run has had that and what the flags say is no longer.

    Raises UserError for flags that would end the training before the step where it is.
    """
    state, (_, stored) = runs.last_state(task.run) or runs.TrainingState(), config.read_config(task.run)
    own = dataclasses.replace(task.settings, epochs=stored.epochs, max_steps=stored.max_steps)
    own_task = dataclasses.replace(task, settings=own)
    if not _is_done(task, state):
        return task
    if _is_done(own_task, state):
        return own_task
    epochs, steps = task.settings.epochs, task.settings.max_steps
    remedy = "give more, or leave it out to go on"
    if steps is not None and steps < state.step:
        raise UserError(f"--max-steps {steps}: the run is at step {state.step}; {remedy}")
    if (epochs, 0) < (state.epoch, state.batch):
        raise UserError(f"--epochs {epochs}: the run is in epoch {state.epoch + 1}; {remedy}")
    return task


def _is_done(task, state):
    """Whether nothing is left to train."""
    return state.epoch >= task.settings.epochs or state.step >= task.plan.total_steps


def _print_start(opened, state):
    task, settings = opened.task, opened.task.settings
    preset, class_names, plan = task.description.preset, task.description.class_names, task.plan
    cut = f", each whole or in one of {math.prod(settings.tiles)} tiles" if settings.tiles else ""
    print(
        f"{preset.name}, width {preset.width:g}, {settings.precision}: "
        f"{plural(len(class_names), 'class')}; {plural(len(task.samples), 'picture')} an epoch{cut}, "
        f"{plural(plan.epochs, 'epoch')}, {plural(plan.total_steps, 'step')}; "
        f"{plural(len(task.valid), 'picture') if task.valid else 'none'} to validate on; run {task.run}"
        + (f", continued after step {state.step}" if state.step else ""),
        flush=True,
    )
    if not task.resume and plan.total_steps <= settings.warmup_steps:
        cli.warn(
            f"the warm-up takes {plural(settings.warmup_steps, 'step')} and the whole training {plan.total_steps}, so "
            f"the rate ends at {plan.rate(plan.total_steps - 1):.2g}; --warmup-steps {plan.total_steps // 10} suits so "
            "short a training"
        )
    if opened.xla != "off":
        print(f"before the first step XLA compiles {COMPILING[opened.xla]}", flush=True)


@dataclasses.dataclass
class Validation:
    """What a validation found.

    evaluation: of `engine.evaluate` on --valid, None without; examples: its pictures.
    losses: those of `valid_loss.LossOfSamples`, empty without --valid and where they are not finite.
    of_train: (evaluation, examples) of --score-train, (None, []) without.
    """

    evaluation: dict | None = None
    examples: list = dataclasses.field(default_factory=list)
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    of_train: tuple[dict | None, list] = (None, [])


def validate(
    task: Task, graph: training_graph.TrainingGraph, scored: Sequence[Sample], check_stop: Callable[[], None]
) -> Validation:
    """The Validation of --valid, and of the pictures of --train to score; only where the task leads it says anything.

    check_stop: called for each image; may raise to end the validation.
    """
    found = Validation()
    shown = {"shows_bar": task.leads, "group": task.group} if task.group else {}
    if task.valid:
        with graph.valid_loss.begin(graph.session, task.valid) as loss:
            evaluation = engine.evaluate(graph.detector, task.valid, check_stop=check_stop, loss=loss, **shown)
            found = Validation(*evaluation, _finite_losses(loss.means(), task))
    if scored:
        title = "validation on --train"
        found.of_train = engine.evaluate(graph.detector, scored, check_stop=check_stop, title=title, **shown)
    return found


def _finite_losses(losses, task):
    """The losses on --valid; none, and a warning, where the network's numbers overflow: JSON has no infinity."""
    if all(map(math.isfinite, losses.values())):
        return losses
    if task.leads:
        cli.warn(
            f"the loss on --valid is not finite in {task.settings.precision}, so it is not recorded; a lower "
            "--learning-rate keeps the network's outputs small"
        )
    return {}


@dataclasses.dataclass
class Trainer:
    """Trains, validates, records and saves epoch by epoch. Made by `open_trainer`.

    task: what to do.
    stop: whether the user has asked for an end.
    graph: the network and its session.
    checkpoints: those of the run.
    state: the position of the training, always up to date.
    summaries: the records, open.
    queue: makes the batches.
    probe: reads what the steps to record did.
    diagnosis: what it has read.
    last_save: time.monotonic() of the last checkpoint.
    """

    task: Task
    stop: StopRequest
    graph: training_graph.TrainingGraph
    checkpoints: runs.Checkpoints
    state: runs.TrainingState
    summaries: Summaries
    queue: DataQueue
    probe: probes.StepProbe
    diagnosis: diagnostics.Diagnosis
    last_save: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._scored, self._saved_step = self.task.scored, self.state.step
        self._outlook = progress.Outlook(self.task.plan, self.state, bool(self.task.valid or self._scored))
        self._saving, self._recording_weights = Ration(), Ration()

    def train(self) -> None:
        """Train to the end. If a stop is requested, save everything and raise KeyboardInterrupt."""
        state, plan = self.state, self.task.plan
        self._before_step()
        if _is_done(self.task, state):
            print(f"nothing is left to train: {self._way_to_longer()}")
        for _ in progress.epochs_left(state, plan):
            samples, group = self.task.samples, self.task.group
            try:
                batches = epoch_batches(self.task, self.queue, state)  # waits for the workers, which may have died
                engine.train_one_epoch(
                    self.graph, batches, state, plan, samples, self._after_step, self._outlook, group
                )
                self._finish_epoch()
            except WorkerError as error:
                self._save_sound()  # between two steps
                raise UserError(str(error)) from None
            except (UserError, KeyboardInterrupt):
                if group and group.ended and state.step > self._saved_step:  # another rank's end, between two steps
                    self._save_sound()
                raise
        best = "" if state.best is None else f"; best VOC07 mean AP {state.best:.4f}"
        picture = (self.task.valid or self.task.samples)[0].image_path
        detect = cli.command("infer.py", self.task.run, picture, "--output", f"{os.path.normpath(self.task.run)}_found")
        print(f"done after {plural(state.step, 'step')}{best}; try: {detect}")

    def _way_to_longer(self):
        """What ended the training, and the line that trains it longer: with all limits that would end it again."""
        settings = self.task.settings
        steps, in_epoch = self.state.step, self.task.plan.steps_per_epoch
        end, flags = plural(settings.epochs, "epoch"), []
        if settings.max_steps is not None and settings.max_steps < 2 * steps:
            flags += ["--max-steps", str(2 * steps)]
            end = plural(steps, "step") if settings.max_steps <= steps else end
        if settings.epochs * in_epoch < 2 * steps:
            flags += ["--epochs", str(math.ceil(2 * steps / in_epoch))]
        longer = config.resume_command(self.task.run, *flags)
        return f"the run has finished its {end}; for twice as many: {longer}"

    def _after_step(self, sums, rate, class_targets):
        """Record; save if it is time or a stop was requested."""
        self.diagnosis.add(sums)
        if self.state.step % LOG_EVERY == 0:
            self._record_step(sums, rate, class_targets)
        self._before_step()
        due = time.monotonic() - self.last_save > 60 * self.task.settings.save_minutes
        if due or self.stop.requested:
            self._save_sound()
        self.stop.raise_if_requested()

    def _record_step(self, sums, rate, class_targets):
        values = self.diagnosis.record(rate, self.probe.read(self.graph.session), class_targets)
        with summaries.not_costing("losses"):
            self.summaries.record_step(self.state.step, optimization.mean_losses(sums), rate, values)
        for text in self.diagnosis.new_warnings():
            cli.warn(text)

    def _before_step(self):
        """Keep the weights if the next step is one to record."""
        if (self.state.step + 1) % LOG_EVERY == 0:
            self.probe.remember(self.graph.session)

    def _require_sound(self):
        engine.require_sound(self.graph, self.state.step, self._last_rate())

    def _save_sound(self):
        self._require_sound()
        self._save()

    def _save(self, best=False, kept=None):
        with self._saving.work():
            self.state.diagnosis = self.diagnosis.to_json(*self.probe.count(self.graph.session))
            self.checkpoints.save(self.graph.session, self.state, best, kept)
        self.last_save, self._saved_step = time.monotonic(), self.state.step

    def _finish_epoch(self):
        """Validate, record and save a finished epoch.

        Where epochs are short, not each is saved: a training that is killed then repeats the last ones.
        """
        self._require_sound()  # once, before anything of the epoch is recorded or saved
        state, settings, plan = self.state, self.task.settings, self.task.plan
        # An epoch cut short by --max-steps is continued by a resume and then has one row of its own
        complete = state.batch >= plan.batches_per_epoch
        found, best = Validation(), False
        if progress.validates(state, plan):
            found = self._validate()
        evaluation = found.evaluation
        if evaluation:
            mean = evaluation["voc07"]["mean"]
            best = mean is not None and (state.best is None or mean > state.best)
        row = self._row(found)
        self._record_epoch(row, found)
        if best:
            state.best, state.stale = evaluation["voc07"]["mean"], 0
        elif evaluation and evaluation["voc07"]["mean"] is not None and complete:
            state.stale += 1
        if complete:
            state.rows.append(row)
            state.begin_next_epoch()
        keep = complete and settings.keep_every is not None and state.epoch % settings.keep_every == 0
        is_last = not complete or not any(True for _ in progress.epochs_left(state, plan, say=lambda _: None))
        if best or keep or is_last or self.stop.requested or self._saving.is_due():
            self._save(best, f"epoch-{state.epoch}" if keep else None)
        if self.task.group:
            self.task.group.share([state.best, state.stale])  # --patience ends the training on all ranks
        _print_row(row, plan.epochs, self._outlook)

    def _record_epoch(self, row, found):
        """Record what a finished epoch has: its row and a Validation."""
        step = self.state.step
        with summaries.not_costing("the epoch"):
            self.summaries.record_epoch(row, found.evaluation, [*self.state.rows, row])
        with summaries.not_costing("pictures"):
            self.summaries.record_pictures(step, found.examples)
            self.summaries.record_pictures(step, found.of_train[1], "training")
        if self._recording_weights.is_due():
            with summaries.not_costing("weights"), self._recording_weights.work():
                self.summaries.record_filters(step, self.graph.filters())

    def _validate(self):
        """The Validation of --valid and of --score-train."""
        start = time.monotonic()
        try:
            found = validate(self.task, self.graph, self._scored, self._check_stop)
            self._outlook.validation_done(time.monotonic() - start)
            return found
        except (KeyboardInterrupt, UserError):
            self._save()  # the epoch's steps are done: a resume starts with this validation
            raise

    def _check_stop(self):
        self.stop.raise_if_requested()
        if self.task.group:
            self.task.group.check()

    def _row(self, found):
        """The row of metrics.csv for the current epoch. found: a Validation."""
        state, evaluation = self.state, found.evaluation
        l2 = float(self.graph.session.run(self.graph.training_step.l2))
        in_loss = 0.0 if self.task.settings.optimizer == "adamw" else l2  # AdamW's decay is no part of the loss
        of_train = found.of_train[0]
        per_class = evaluation["voc07"]["per_class"] if evaluation else {}
        images = min(len(self.task.samples), state.batch * self.task.settings.batch_size)
        return {
            "epoch": state.epoch + 1,
            "step": state.step,
            "learning_rate": self._last_rate(),
            **optimization.mean_losses(state.sums),
            **{f"valid_{name}": found.losses.get(name) for name in ("loss", "confidence", "localization")},
            "l2": l2,
            "valid_total": found.losses["loss"] + in_loss if found.losses else None,
            "train_voc07": of_train["voc07"]["mean"] if of_train else None,
            "voc07": evaluation["voc07"]["mean"] if evaluation else None,
            "area": evaluation["area"]["mean"] if evaluation else None,
            **{f"voc07_{name}": per_class.get(name) for name in self.task.description.class_names},
            "seconds": round(state.seconds, 2),
            "images_per_second": round(images / max(state.seconds, 1e-9), 2),
        }

    def _last_rate(self):
        return self.task.plan.rate(self.state.step - 1)


def _print_row(row, epochs, outlook):
    parts = [f"epoch {row['epoch']} of {epochs}", str(outlook), f"loss {row['loss']:.3f}"]
    if row["voc07"] is not None:
        parts += [f"VOC07 {row['voc07']:.4f}", f"area {row['area']:.4f}"]
    print("  ".join([*parts, f"{row['images_per_second']:.1f} images/s"]), flush=True)
