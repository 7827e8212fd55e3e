"""From loss sums to updated weights: schedules, one training step, gradient accumulation.

Sources: arXiv 1512.02325 section 3; `ssd_pascal.py` of weiliu89/caffe (solver settings, bias lr × 2); the
article (ARCHITECTURE.md; Adam with epsilon 0.1, × 0.97 per epoch).
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

import config
import losses
import ssd_layers
import ssd_vgg
from distribution import collective
from kernels import devices
from settings.training_settings import TrainingSettings
from training import feeding, probes

EXPONENTIAL_DECAY = 0.97  # per epoch, the article's
STEP_DECAY = 0.1  # at each of --schedule-steps, the original's
AVERAGE_RAMP = 9  # about the ramp of TensorFlow's ExponentialMovingAverage with num_updates


def learning_rate(settings: TrainingSettings, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """The rate of optimizer step `step` (0-based): linear warm-up times the schedule."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    dropped = sum(step >= drop for drop in settings.schedule_steps)
    if settings.schedule == "exponential":
        factor = EXPONENTIAL_DECAY ** (step // steps_per_epoch)
    elif settings.schedule == "step" and settings.schedule_rates:
        return settings.schedule_rates[dropped] * warmup
    elif settings.schedule == "step":
        factor = STEP_DECAY**dropped
    elif settings.schedule == "cosine":
        length = max(1, total_steps - settings.warmup_steps)
        progress = min(1.0, max(0, step - settings.warmup_steps) / length)
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    else:  # constant
        factor = 1.0
    return settings.learning_rate * warmup * factor


@dataclasses.dataclass(frozen=True)
class Plan:
    """The number of batches and optimizer steps of a training.

    settings: TrainingSettings.
    num_images: images of an epoch.
    """

    settings: TrainingSettings
    num_images: int

    @property
    def batches_per_epoch(self) -> int:
        """The batches of an epoch, the last of which may be smaller."""
        return math.ceil(self.num_images / self.settings.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """The optimizer steps of an epoch, the last of which may have fewer batches than --accumulate."""
        return math.ceil(self.batches_per_epoch / self.settings.accumulate)

    @property
    def images_per_step(self) -> int:
        """The images of a whole optimizer step."""
        return self.settings.batch_size * self.settings.accumulate

    @property
    def total_steps(self) -> int:
        """The step at which the training ends."""
        steps = self.settings.epochs * self.steps_per_epoch
        return steps if self.settings.max_steps is None else min(steps, self.settings.max_steps)

    @property
    def epochs(self) -> int:
        """The epochs that the training begins, the last of which --max-steps may cut short."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def images_before(self, batch: int) -> int:
        """How many images of an epoch come before its batch number `batch` (0-based)."""
        return min(self.num_images, batch * self.settings.batch_size)

    def rate(self, step: int) -> float:
        """The learning rate of optimizer step `step` (0-based)."""
        return learning_rate(self.settings, step, self.steps_per_epoch, self.total_steps)


class TrainingStep:
    """The graph of one training step, built into the default graph.

    One backward pass of the loss sums serves all learning rates: weights and biases each have an optimizer, and both
    use the same gradients. With accumulation, gradient sums and positives add up in variables; the division by the
    positives of the whole effective batch, weight decay and clipping happen once, at the update.

    In float16, whose range ends at 65504 and whose small gradients would be 0, the loss is scaled before the
    backward pass. A step whose gradients leave the range changes no weight and halves the scale; 2000 good steps
    double it (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).

    dtype: tf.float32, tf.bfloat16 or tf.float16; class_weights: as in `losses.multibox_loss`; fixed_shapes: whether
    every tensor has the same size in every step, for which `run` fills small batches up with images that count for
    nothing; feed_ahead: whether the next batch is copied to the GPU during a step; xla: one of XLA_FORMS, what
    XLA compiles: with "update" the update as one computation, with "whole" also network, loss and gradients as
    another, with "on" what it chooses in a session of `devices.session_config(compile=True)`; the last two need
    fixed_shapes; ranks: the processes that train together, each with its share of a batch, for which `run` only adds
    up gradients and `update_together` applies them. A session must initialize global and local variables.

    feeds_ahead: whether `run` has a use for the batch that follows.
    images: tensor to feed, uint8 [N,H,W,3] RGB.
    class_targets: tensor to feed, int32 [N,A], 0 for background; int64 with feed_ahead.
    offset_targets: tensor to feed, float32 [N,A,4].
    learning_rate: placeholder, a scalar.
    logits, offsets: tensors of `ssd_vgg.build`, which XLA does not compile.
    losses: dict of scalar tensors, see `losses.multibox_loss`.
    trained: the variables that are not frozen.
    averages: {variable name: its moving average}, empty without --ema.
    first_averages: the operation that sets the averages to the weights.
    gradient_probe: the probes.GradientProbe that notes every update.
    l2: scalar tensor, the decay times half the squares of what it is for, the weights that are trained.
    """

    def __init__(
        self,
        description: config.ModelDescription,
        settings: TrainingSettings,
        dtype: tf.DType,
        class_weights: Sequence[float] | None = None,
        fixed_shapes: bool = False,
        feed_ahead: bool = False,
        xla: str = "off",
        ranks: collective.Ranks | None = None,
    ) -> None:
        preset = description.preset
        self.feeds_ahead = feed_ahead
        rows = math.ceil(settings.batch_size / (ranks.group.size if ranks else 1)) if fixed_shapes else None
        self._inputs = feeding.Inputs(_input_specs(preset, rows), feed_ahead)
        self.images, self.class_targets, self.offset_targets = self._inputs.tensors.values()
        self.learning_rate = tf.placeholder(tf.float32, [], "learning_rate")
        network = functools.partial(
            ssd_vgg.build,
            preset=preset,
            num_classes=len(description.class_names),
            compute_dtype=dtype,
            initializer=settings.initializer,
        )
        multibox_loss = functools.partial(
            losses.multibox_loss,
            negative_ratio=settings.negative_ratio,
            class_weights=class_weights,
            fixed_shapes=fixed_shapes,
            normalize=settings.normalize,
        )
        self._settings, self._xla, self._ranks = settings, xla, ranks
        self._sum_ranks: tf.Operation | None = None  # adds up over the ranks what each has added up
        self._add_and_sum: tf.Operation | None = None  # the same together with adding a batch, under --bucket-mb
        with devices.left_to_tensorflow() if xla == "on" else contextlib.nullcontext():
            self.logits, self.offsets = network(self.images)
            self.trained = [v for v in tf.trainable_variables() if not _frozen(v, settings.freeze)]
            self._sound = self._soundness()
        with tf.name_scope("l2"):
            squares = [tf.nn.l2_loss(v) for v in self.trained if _is_weight(v)]
            self.l2 = settings.weight_decay * tf.add_n([tf.zeros([]), *squares])
        self.gradient_probe = probes.GradientProbe(self.trained, settings.clip_norm)
        self._loss_scale = _LossScale() if dtype == tf.float16 else None
        self.losses, gradients = self._losses_and_gradients(network, multibox_loss)
        self.averages: dict[str, tf.Variable] = {}
        self._build_update(gradients)

    def _build_update(self, gradients):
        """Build what adds up the gradients of a batch, what updates the weights with them, and the moving averages."""
        with tf.name_scope("update"):
            if self._settings.accumulate == 1 and self._ranks is None:
                self._add = None
                self._update = self._make_update(gradients, self.losses["positives"])
            else:
                self._add, self._update = self._accumulate(gradients)
            self.first_averages = tf.no_op()
            if self._settings.ema is not None:
                self._update = self._average_after(self._update)

    def _losses_and_gradients(self, network, multibox_loss):
        """(the dict of `losses.multibox_loss`; the gradients of the sum of its losses by the trained variables).

        What XLA compiles has a network of its own, so that logits and offsets are there without compiling.
        """

        def compute(images, *targets):
            outputs = network(images) if self._xla in ("on", "whole") else (self.logits, self.offsets)
            with tf.name_scope("loss"):
                parts = multibox_loss(*outputs, *targets)
            with tf.name_scope("gradients"):
                total = parts["confidence"] + parts["localization"]
                scaled = total * self._loss_scale.value if self._loss_scale else total
                return parts, tf.gradients(scaled, self.trained)

        if self._xla == "whole":
            compute = tf.function(compute, jit_compile=True)
        return compute(self.images, self.class_targets, self.offset_targets)

    def _soundness(self):
        """Scalar bool tensor: whether squares of weights, and the outputs for the fed images, are finite in sum."""
        with tf.name_scope("soundness"):
            outputs = [tf.reduce_sum(tf.abs(output)) for output in (self.logits, self.offsets)]
            return tf.reduce_all(tf.is_finite([*outputs, *(tf.nn.l2_loss(v) for v in self.trained)]))

    def run(
        self,
        session: tf.Session,
        batch: dict[str, np.ndarray],
        rate: float,
        last: bool = True,
        following: dict[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Do one step with a batch, a dict of the arrays images, class_targets and offset_targets.

        last: whether it is the last batch of an effective batch, with which the sum of the gradients is applied; False
        only adds the batch's gradient. With ranks `update_together` applies it; they do their last batches together.
        following: the batch of the next call, which feed_ahead copies to the GPU during this step.
        Returns the loss sums and positives of this batch as Python floats. Raises RankLost if a rank is lost meanwhile.
        """
        feeds, staging = self._inputs.prepare(session, batch, following)
        rates = {self.learning_rate: rate}
        if last and self._add_and_sum is not None:
            self._ranks.group.share()  # late pictures are waited for here, since a sum has a limit
            fetches, limit = (self.losses, *staging), collective.FIRST_STEP_SECONDS
            sums, *_ = self._ranks.run(session, self._add_and_sum, fetches, feeds | rates, limit)
        else:
            work = self._update if self._add is None else self._add
            sums, *_ = session.run((self.losses, work, *staging), feeds | rates)
        self._inputs.confirm(following)
        if last and self._add is not None and not self._ranks:  # by itself: XLA compiles the rest once for all batches
            session.run(self._update, rates)
        return {name: float(value) for name, value in sums.items()}

    def update_together(self, session: tf.Session, rate: float) -> None:
        """Apply the gradients that all ranks have added up; to be called on all of them, right after they met.

        Raises RankLost if a rank is lost; the weights then are as before, since the update is a run of its own.
        """
        if self._sum_ranks is not None:
            self._ranks.run(session, self._sum_ranks)
        session.run(self._update, {self.learning_rate: rate})

    def is_sound(self, session: tf.Session) -> bool:
        """Whether the weights have finite squares and the network has finite outputs.

        An update may leave numbers that are finite but overflow in the next forward pass. So the network runs too, on
        one picture. The picture is faint noise, because a model that works on real pictures in float16 must not fail
        here. The outputs alone are not enough: ReLU turns NaN into 0.
        """
        picture = np.random.default_rng(0).integers(96, 160, (1, *self.images.shape[1:]), np.uint8)
        return bool(session.run(self._sound, self._inputs.feeds({"images": picture})))

    def _accumulate(self, gradients):
        """Two ops: one adds a batch to the effective batch, the other applies the sum, for the next one to start at 0.

        The sums are local variables, which checkpoints leave out: a resume repeats the whole effective batch.
        """
        slots = [probes.local_variable(v.shape, "gradient_sum") for v in self.trained]
        count = probes.local_variable([], "positive_sum")
        sums, batch = [*slots, count], [*gradients, self.losses["positives"]]
        alone = self._settings.accumulate == 1  # a batch then takes the place of the one before: no sum, no clearing
        added = [
            (one.assign if alone else one.assign_add)(value, read_value=False)
            for one, value in zip(sums, batch, strict=True)
        ]
        wire, bucket_mb = tf.as_dtype(self._settings.wire), self._settings.bucket_mb
        if self._ranks and bucket_mb:
            values = batch if alone else [one.read_value() + value for one, value in zip(sums, batch, strict=True)]
            # The backward pass comes to the last layers first
            variables, values = [*slots[::-1], count], [*values[-2::-1], values[-1]]
            self._add_and_sum = self._ranks.sum_into(variables, values, 1, wire, 1e6 * bucket_mb)
        elif self._ranks:
            self._sum_ranks = self._ranks.sum_into(sums, [one.read_value() for one in sums], 1, wire)
        update = self._make_update([slot.read_value() for slot in slots], count.read_value())
        if alone:
            return tf.group(*added), update
        with tf.control_dependencies([update]):
            cleared = [one.assign(tf.zeros(one.shape), read_value=False) for one in sums]
        return tf.group(*added), tf.group(*cleared)

    def start_averages(self, session: tf.Session) -> None:
        """Set the moving averages to the weights; call it once these have their first values."""
        session.run(self.first_averages)

    def _average_after(self, update):
        """`update` followed by a step of the moving averages, which are variables too, so that a resume is exact.

        In step t the average keeps at most t / (9 + t) of itself. Otherwise, with 0.999, the first weights would still
        make up half of the average after 700 steps.
        """
        for v in self.trained:
            self.averages[v.op.name] = tf.get_variable(
                f"{v.op.name}/{ssd_vgg.AVERAGE}", v.shape, tf.float32, tf.zeros_initializer(), trainable=False
            )
        steps = tf.Variable(0.0, trainable=False, name="average_steps", use_resource=True)
        pairs = [(self.averages[v.op.name], v) for v in self.trained]
        self.first_averages = tf.group(*(a.assign(v.read_value(), read_value=False) for a, v in pairs))
        with tf.control_dependencies([update]):
            done = steps.assign_add(1.0)
            share = tf.minimum(self._settings.ema, done / (AVERAGE_RAMP + done))
            return tf.group(
                *(a.assign_sub((1 - share) * (a.read_value() - v.read_value()), read_value=False) for a, v in pairs)
            )

    def _make_update(self, gradient_sums, positives):
        """Divide, decay, clip, apply; in float16 only if all gradients are finite."""
        if self._loss_scale is None:
            return self._apply(gradient_sums, 1.0 / tf.maximum(positives, 1.0))
        finite = tf.reduce_all([tf.reduce_all(tf.is_finite(g)) for g in gradient_sums])
        scale = 1.0 / (tf.maximum(positives, 1.0) * self._loss_scale.value)
        moved = self._loss_scale.update(finite)
        return tf.group(moved, tf.cond(finite, lambda: self._apply(gradient_sums, scale), tf.no_op))

    def _apply(self, gradient_sums, scale):
        """One update by gradient_sums · scale; compiled, it is one pass over the weights and the optimizer's state."""
        if self._xla not in ("update", "whole"):
            return self._move_weights(gradient_sums, scale)
        scope = tf.get_default_graph().get_name_scope()  # the optimizer's variables take their names from it

        def compute(scale, *gradient_sums):
            with (
                tf.name_scope(scope and f"{scope}/"),
                tf.control_dependencies([self._move_weights(gradient_sums, scale)]),
            ):
                return tf.identity(scale)

        return tf.function(compute, jit_compile=True)(scale, *gradient_sums).op

    def _move_weights(self, gradient_sums, scale):
        """One update by gradient_sums · scale, decayed and clipped."""
        decay, decoupled = self._settings.weight_decay, self._settings.optimizer == "adamw"
        gradients = [
            g * scale + decay * v if decay and not decoupled and _is_weight(v) else g * scale
            for g, v in zip(gradient_sums, self.trained, strict=True)
        ]
        norm = tf.global_norm(gradients)
        updates = [self.gradient_probe.note(gradients, norm)]
        if self._settings.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._settings.clip_norm, norm)
        for (name, factor), members in self._groups(gradients).items():
            rate = self.learning_rate * factor
            if (self._settings.optimizer, self._settings.momentum_form) == ("momentum", "caffe"):
                # The sum keeps each gradient times the rate of its own step
                members, rate = [(rate * gradient, variable) for gradient, variable in members], 1.0
            shrunk = []
            if decay and decoupled:
                with tf.control_dependencies(gradients):  # which have read the weights
                    shrunk = [v.assign_sub(rate * decay * v, read_value=False) for _, v in members if _is_weight(v)]
            with tf.control_dependencies(shrunk):
                updates.append(self._make_optimizer(rate, name).apply_gradients(members))
        return tf.group(*updates)

    def _groups(self, gradients):
        """{(name, factor on the learning rate): (gradient, variable) pairs}; each group has its optimizer."""
        settings, groups = self._settings, {}
        for gradient, variable in zip(gradients, self.trained, strict=True):
            name, factor = ("biases", settings.bias_lr_multiplier) if _is_bias(variable) else ("weights", 1.0)
            if settings.vgg_lr_multiplier != 1 and variable.op.name.split("/")[0] in ssd_layers.CONVOLUTIONS:
                name, factor = f"vgg_{name}", factor * settings.vgg_lr_multiplier
            groups.setdefault((name, factor), []).append((gradient, variable))
        return groups

    def _make_optimizer(self, rate, kind):
        if self._settings.optimizer.startswith("adam"):
            return tf.train.AdamOptimizer(rate, epsilon=self._settings.adam_epsilon, name=f"adam_{kind}")
        return tf.train.MomentumOptimizer(rate, self._settings.momentum, name=f"momentum_{kind}")


class _LossScale:
    """The factor on a float16 loss, as large as possible without overflow in the gradients.

    It may fall below 1: gradients are those of a sum over the anchors of a batch, which float16 need not hold.

    value: scalar float32 tensor, the factor at the start of the step.
    """

    START, SMALLEST, DOUBLE_AFTER = 2.0**15, 2.0**-14, 2000

    def __init__(self):
        self._scale = tf.Variable(self.START, trainable=False, name="loss_scale", use_resource=True)
        self._good_steps = tf.Variable(0, trainable=False, name="good_steps", use_resource=True)
        self.value = self._scale.read_value()

    def update(self, finite):
        """An op that changes the factor. finite: scalar bool tensor, whether the scaled loss has finite gradients."""
        good_steps = tf.where(finite, self._good_steps + 1, 0)
        double = good_steps >= self.DOUBLE_AFTER
        kept = tf.where(double, 2 * self.value, self.value)
        return tf.group(
            self._scale.assign(tf.where(finite, kept, tf.maximum(self.value / 2, self.SMALLEST)), read_value=False),
            self._good_steps.assign(tf.where(double, 0, good_steps), read_value=False),
        )


def mean_losses(sums: dict[str, float]) -> dict[str, float]:
    """Sums of losses and positives, as of `losses.multibox_loss` -> {'confidence', 'localization', 'loss'}.

    Each is divided by the positives: matched anchors, or with --normalize image the images that have some.
    """
    positives = max(1.0, sums["positives"])
    parts = {name: sums[name] / positives for name in ("confidence", "localization")}
    return {**parts, "loss": parts["confidence"] + parts["localization"]}


def _input_specs(preset, rows):
    """What a batch consists of. rows: its number of images, None for any."""
    anchors = preset.num_anchors
    return {
        "images": tf.TensorSpec([rows, *preset.image_shape], tf.uint8, "image_input"),
        "class_targets": tf.TensorSpec([rows, anchors], tf.int32, "class_targets"),
        "offset_targets": tf.TensorSpec([rows, anchors, 4], tf.float32, "offset_targets"),
    }


def _frozen(variable, layers):
    return any(ssd_layers.in_layer(variable.op.name, layer) for layer in layers)


def _is_weight(variable):
    return variable.op.name.endswith("/weights")


def _is_bias(variable):
    return variable.op.name.endswith("/biases")
