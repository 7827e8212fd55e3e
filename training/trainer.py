"""The training loop: epochs, validations, records and checkpoints of one run, until the end or a stop."""

import contextlib
import dataclasses
import hashlib
import time

import tensorflow.compat.v1 as tf

import config
import detector
import runs
import ssd_vgg
import training_data
from kernels import devices
from structures import UserError
from system.data_queue import WorkerError
from training import engine, first_weights, optimization, summaries

LOG_EVERY = 10  # optimiser steps between two points of the loss curve in TensorBoard


class Trainer:
    """One call of the program: builds the graph, then trains, validates and records epoch by epoch."""

    def __init__(self, run, description, settings, samples, valid, stop):
        self.run_path = run
        self.description = description
        self.settings = settings
        self.samples = samples
        self.valid = valid
        self.stop = stop
        self.last_save = time.monotonic()

    @property
    def plan(self):
        return optimization.Plan(self.settings, len(self.samples))

    def run(self, resume):
        """Train to the end, or to a stop asked for; then everything is saved and KeyboardInterrupt raised."""
        settings = self.settings
        dtype = devices.compute_dtype(settings.precision)
        if not resume:  # what "auto" is here, so that a resume on another machine goes on in the same type
            settings = self.settings = dataclasses.replace(settings, precision=dtype.name)
        if settings.deterministic:
            devices.make_deterministic()
        with tf.Graph().as_default():
            tf.set_random_seed(settings.seed)
            self.step = optimization.TrainingStep(self.description, settings, dtype, self._class_weights())
            self.session = tf.Session(config=devices.session_config())
            started = resume and config.read_index(self.run_path).get("last")
            initial = [] if started else self._first_weights()
            self.detector = self._make_detector(dtype)
            with self.session:
                self.session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
                for variable, value in initial:
                    initializer = variable.initializer  # its second input is the value
                    self.session.run(initializer, {initializer.inputs[1]: value})
                self.step.start_averages(self.session)
                if not resume:
                    runs.create(self.run_path, self.description, settings)
                with runs.lock(self.run_path):
                    self._go_on(resume, dtype)

    def _go_on(self, resume, dtype):
        """Train from the last checkpoint on, or from what the variables hold if there is none."""
        self.checkpoints = runs.Checkpoints(self.run_path)
        self.state = self.checkpoints.restore_last(self.session) if resume else None
        self.state = self.state or runs.TrainingState()
        self._check_data()
        if resume:
            self._keep_changes()
        self.summaries = summaries.Summaries(self.run_path, self.description.class_names)
        with self.summaries.open(self.state.step, self.state.rows):
            self._train(dtype)

    def _train(self, dtype):
        settings, state = self.settings, self.state
        print(
            f"{self.description.preset.name}, width {self.description.preset.width:g}, {dtype.name}: "
            f"{len(self.samples)} images an epoch, {len(self.description.class_names)} classes, "
            f"{self.plan.total_steps} steps; {len(self.valid)} validation images; run {self.run_path}",
            flush=True,
        )
        queue = training_data.make_queue(self.samples, self.description.preset, settings, workers=settings.workers)
        with queue:
            unfinished = state.batch > 0  # stopped in the middle, or before the validation of the last epoch
            while state.epoch < settings.epochs and (state.step < self.plan.total_steps or unfinished):
                # Here and not after the epoch: the run may have been stopped early, or killed just before
                if settings.patience is not None and state.stale * settings.valid_every >= settings.patience:
                    print(f"no better mean AP in {settings.patience} epochs: stopping early")
                    break
                unfinished = False
                self._train_epoch(queue)
                self._finish_epoch()
        best = "" if state.best is None else f"; best VOC07 mean AP {state.best:.4f}"
        print(f"done after {state.step} steps{best}; try: python infer.py {self.run_path} IMAGES --output DIR")

    def _check_data(self):
        """Note the pictures in the state, or refuse others than it knows: a position among those means nothing."""
        ids = "\n".join(sample.id for sample in self.samples).encode("utf-8", "surrogatepass")
        data = {"pictures": len(self.samples), "ids": hashlib.sha256(ids).hexdigest()}
        before = self.state.data or data
        if before != data:
            source = f"--train {self.settings.train} of {self.settings.data} has"
            change = f"{before['pictures']} pictures, {source} {data['pictures']} now"
            if before["pictures"] == data["pictures"]:
                change = f"other pictures than {source} now"
            raise UserError(
                f"--resume: {self.run_path} was trained on {change}; bring them back, or start a new run with "
                f"--init-from {self.run_path}"
            )
        self.state.data = data

    def _keep_changes(self):
        """Put what this resume changes into config.json: the next one is to know it."""
        _, stored = config.read_config(self.run_path)
        if stored == self.settings:
            return
        before, now = optimization.Plan(stored, len(self.samples)).total_steps, self.plan.total_steps
        if self.settings.schedule == "cosine" and before != now:
            print(f"the end moves from step {before} to {now}: all rates of the cosine schedule move with it")
        config.replace_training(self.run_path, self.settings)

    def _class_weights(self):
        """The weights of --class-weights, which are said; None without."""
        names = self.description.class_names
        weights = training_data.class_weights(self.settings.class_weights, names, self.samples)
        if weights:
            print("class weights:", ", ".join(f"{n} {w:.3g}" for n, w in zip(names, weights, strict=True)))
        return weights

    def _train_epoch(self, queue):
        state, settings = self.state, self.settings
        jobs = training_data.epoch_jobs(
            len(self.samples), settings.seed, state.epoch, first=state.batch * settings.batch_size
        )
        try:
            engine.train_one_epoch(
                self.session,
                self.step,
                queue.batches(jobs),
                state,
                plan=self.plan,
                samples=self.samples,
                after_step=self._after_step,
            )
        except WorkerError as error:
            self._save_sound()  # between two steps
            raise UserError(f"{error}; the run is saved, --resume goes on") from None

    def _after_step(self, losses, rate):
        """Record, and save when it is time or a stop was asked for."""
        if self.state.step % LOG_EVERY == 0:
            with self._recording():
                self.summaries.record_step(self.state.step, losses, rate)
        due = time.monotonic() - self.last_save > 60 * self.settings.save_minutes
        if due or self.stop.requested:
            self._save_sound()
        self.stop.raise_if_requested()

    @contextlib.contextmanager
    def _recording(self):
        """Records that cannot be written must not cost the steps since the last checkpoint."""
        try:
            yield
        except UserError:
            self._save_sound()
            raise

    def _require_sound(self):
        engine.require_sound(self.session, self.step, self.state.step, self._last_rate())

    def _save_sound(self):
        self._require_sound()
        self._save()

    def _save(self, best=False):
        self.checkpoints.save(self.session, self.state, best)
        self.last_save = time.monotonic()

    def _finish_epoch(self):
        """Validate, record and save a finished epoch."""
        self._require_sound()  # once, before anything is recorded or saved of it
        state, settings = self.state, self.settings
        last = state.step >= self.plan.total_steps or state.epoch + 1 == settings.epochs
        # An epoch cut short by --max-steps is continued by a resume and then has one row of its own
        complete = state.batch >= self.plan.batches_per_epoch
        evaluation, examples, best = None, [], False
        if self.valid and (last or (state.epoch + 1) % settings.valid_every == 0):
            evaluation, examples = self._validate()
            mean = evaluation["voc07"]["mean"]
            best = mean is not None and (state.best is None or mean > state.best)
        row = self._row(evaluation)
        with self._recording():
            self.summaries.record_epoch(row, evaluation, [*state.rows, row])
            self.summaries.record_pictures(state.step, examples)
            self.summaries.record_filters(state.step, self._filters())
        if best:
            state.best, state.stale = evaluation["voc07"]["mean"], 0
        elif evaluation and complete:
            state.stale += 1
        if complete:
            state.rows.append(row)
            state.epoch, state.batch, state.sums, state.seconds = state.epoch + 1, 0, {}, 0.0
        self._save(best)
        self._print_row(row)

    def _validate(self):
        try:
            return engine.evaluate(self.detector, self.valid, check_stop=self.stop.raise_if_requested)
        except (KeyboardInterrupt, UserError):
            self._save()  # the epoch's steps are done: a resume starts with this validation
            raise

    def _row(self, evaluation):
        """The row of metrics.csv for the current epoch."""
        state = self.state
        per_class = evaluation["voc07"]["per_class"] if evaluation else {}
        images = min(len(self.samples), state.batch * self.settings.batch_size)
        return {
            "epoch": state.epoch + 1,
            "step": state.step,
            "learning_rate": self._last_rate(),
            **optimization.mean_losses(state.sums),
            "voc07": evaluation["voc07"]["mean"] if evaluation else None,
            "area": evaluation["area"]["mean"] if evaluation else None,
            **{f"voc07_{name}": per_class.get(name) for name in self.description.class_names},
            "seconds": round(state.seconds, 2),
            "images_per_second": round(images / max(state.seconds, 1e-9), 2),
        }

    def _last_rate(self):
        return self.plan.rate(self.state.step - 1)

    def _print_row(self, row):
        parts = [f"epoch {row['epoch']}", f"step {row['step']}", f"loss {row['loss']:.3f}"]
        if row["voc07"] is not None:
            parts += [f"VOC07 {row['voc07']:.4f}", f"area {row['area']:.4f}"]
        print("  ".join([*parts, f"{row['images_per_second']:.1f} images/s"]), flush=True)

    def _filters(self):
        variables = [v for v in self.step.trained if v.op.name.endswith("/weights")]
        return {v.op.name: value for v, value in zip(variables, self.session.run(variables), strict=True)}

    def _evaluated(self, dtype):
        """(logits, offsets) to score: those of the step, or of a second network that has the averages for weights."""
        if self.settings.ema is None:
            return self.step.logits, self.step.offsets
        with tf.name_scope("averaged"):
            return ssd_vgg.build(
                self.step.images,
                self.description.preset,
                len(self.description.class_names),
                compute_dtype=dtype,
                averages=self.step.averages,
            )

    def _make_detector(self, dtype):
        """The detector of the weights in training, or of their averages, in the same session."""
        preset = self.description.preset
        tensors = detector.postprocess(*self._evaluated(dtype), preset, preset.score_threshold)
        return detector.Detector(
            self.session,
            self.step.images,
            tensors,
            self.description,
            precision=dtype.name,
            threshold=preset.score_threshold,
            batch_size=self.settings.batch_size,
            owns_session=False,
        )

    def _first_weights(self):
        variables = tf.trainable_variables()
        return first_weights.read(self.settings, self.description, variables, self.stop.raise_if_requested)
