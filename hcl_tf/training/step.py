"""Takes training steps. How a batch is divided between micro-batches and devices does not change the numbers, but for rounding."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Sum, System, mean
from hcl_tf.settings import TrainingSettings

LARGEST_SCALE = 2.0**15  # of the loss in mixed precision
STEPS_TO_GROW = 2000  # so many steps without overflow double the loss scale
EQUAL = tf.VariableAggregation.ONLY_FIRST_REPLICA  # every replica assigns the same value


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to `rate` over the first `warmup` steps and stays there.

    Over the `cooldown` steps before step `last` it falls linearly to 0 (with all that follow the warm-up, the schedule of Devlin et al.
    2019; with fewer, the one that Haegele et al. 2024 call constant with cool-down); 0: it does not fall.
    """

    def __init__(self, rate: float, warmup: int, cooldown: int = 0, last: int = 0) -> None:
        self.rate, self.warmup, self.cooldown, self.last = rate, warmup, cooldown, last

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of a step; steps count from 0."""
        step = tf.cast(step, tf.float32)
        share = tf.minimum(1.0, (step + 1.0) / max(self.warmup, 1))
        if self.cooldown:
            share = tf.minimum(share, tf.maximum(0.0, (self.last - step) / self.cooldown))
        return self.rate * share

    def get_config(self) -> dict:
        return {"rate": self.rate, "warmup": self.warmup, "cooldown": self.cooldown, "last": self.last}


class TrainStep:
    """The training step of a system, as a TensorFlow function.

    Every replica gets the whole batch and takes its share of the rows, of which each micro-batch takes its share. Losses are divided by
    counts over the whole batch, which are known before any loss, so the gradients of the parts add up to that of the batch. The keyword
    graph's sub-graph belongs to all rows, so every part gets all of it.

    Args:
      system: has its variables already. strategy: of tf.distribute; None: one device. compiled: whether XLA compiles the step.

    Raises:
      ValueError: the system's `learning_rates` do not cover its trainable variables.
    """

    def __init__(self, system: System, settings: TrainingSettings, strategy: tf.distribute.Strategy | None, compiled: bool) -> None:
        self.system, self.settings, self.strategy, self.compiled = system, settings, strategy, compiled
        self.replicas = strategy.num_replicas_in_sync if strategy else 1
        self.groups = system.learning_rates()
        self.variables_ = [variable for variables, _ in self.groups.values() for variable in variables]
        if {id(v) for v in self.variables_} != {id(v) for v in system.trainable_variables}:
            raise ValueError("learning_rates() does not cover the trainable variables")
        self.optimizers = {}
        for name, (variables, rate) in self.groups.items():
            # The older class updates a variable in one operation; the newer takes some thirty, in three times the memory traffic.
            schedule = LearningRate(rate, settings.warmup_steps, settings.cooldown_steps, settings.max_steps)
            self.optimizers[name] = keras.optimizers.legacy.Adam(schedule, epsilon=1e-8)
            self.optimizers[name]._create_all_weights(variables)
        self._per: dict[str, str] = {}  # loss -> its count (`Sum.per`); names are no tensors, so they stay outside of the graph
        self.scale = _counter(LARGEST_SCALE, "loss_scale") if settings.mixed_precision else None
        self.good = _counter(0, "good_steps") if settings.mixed_precision else None
        self._norms = tf.function(self._norms_of, autograph=False)
        if strategy is None:
            self._run = tf.function(self.compute, autograph=False, jit_compile=compiled)
        else:  # collectives stay outside of what XLA compiles
            self._part = tf.function(self._part, autograph=False, jit_compile=compiled)
            self._run = tf.function(lambda batch, step, phase: strategy.run(self.compute, (batch, step, phase)), autograph=False)

    def __call__(self, batch: Batch, step: int) -> dict[str, float]:
        """Takes one step.

        Args:
          batch: the whole batch. step: the step's number, from 0.

        Returns:
          Name -> number: the mean of each loss, `objective`, `grad_norm` (before clipping), `clipped` (1 or 0), `System.schedule`, and
          learning rates. In mixed precision also `loss_scale`, and a `grad_norm` of 0 where an overflow made the step be left out.
        """
        scalars = self._run(batch, tf.constant(step, tf.int32), self.system.phase)
        if self.strategy:
            scalars = tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], scalars)
        return {name: float(value) for name, value in scalars.items()}

    def state(self) -> dict[str, tf.Variable]:
        """Returns the variables that a resumed run needs besides the system's own: those of the optimisers and of the loss scale."""
        state = {f"optimizer/{name}/{i:04}": v for name, optimizer in self.optimizers.items() for i, v in enumerate(optimizer.variables())}
        return state | ({"loss_scale": self.scale, "good_steps": self.good} if self.scale is not None else {})

    def compute(self, batch: Batch, step: tf.Tensor, phase: int) -> dict[str, tf.Tensor]:
        """Takes a step as `__call__` does, with tensors for numbers; under a strategy, on one replica."""
        counts = self.system.counts(batch)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group if self.strategy else 0
        gradients, sums = self._part(_rows(batch, self.replicas, replica), counts, step, phase)
        if self.strategy:
            context = tf.distribute.get_replica_context()
            gradients, sums = context.all_reduce(tf.distribute.ReduceOp.SUM, (gradients, sums))
        if self.scale is not None:
            gradients = [g / self.scale for g in gradients]
        with tf.name_scope("clip"):
            norm = tf.linalg.global_norm(gradients)
            if self.settings.gradient_clip:
                factor = self.settings.gradient_clip / tf.maximum(norm, self.settings.gradient_clip)
                gradients = [g * factor for g in gradients]
        scalars = {"grad_norm": norm, "clipped": self._is_clipped(norm)}
        # A step that an overflow makes be left out reports norm 0. At the smallest scale a norm that is not finite is no overflow of the
        # scaling, and is reported, so that the loop stops.
        if self.scale is not None:
            scale = tf.convert_to_tensor(self.scale)
            scalars |= {"grad_norm": tf.where(tf.math.is_finite(norm) | (scale <= 1.0), norm, 0.0), "loss_scale": scale}
        rates = {name: optimizer.learning_rate(optimizer.iterations) for name, optimizer in self.optimizers.items()}
        self._apply(gradients, norm)
        totals = {name: Sum(value, self._per[name]) for name, value in sums.items()}
        means = {name: mean(total, counts) for name, total in totals.items()}
        objective = self.system.objective(totals, counts, step)
        return {
            **means, "objective": objective, **scalars, **self.system.schedule(step),
            **{f"learning_rate_{name}": rate for name, rate in rates.items()},
        }  # fmt: skip

    def _is_clipped(self, norm: tf.Tensor) -> tf.Tensor:
        """Returns 1.0 where a gradient of this norm is shortened before it is applied, else 0.0."""
        limit = self.settings.gradient_clip
        return tf.cast((norm > limit) & tf.math.is_finite(norm), tf.float32) if limit else tf.zeros([])

    def norms_by_term(self, batch: Batch, step: int) -> dict[str, float]:
        """Computes the gradient norm of each term of the objective, with the term's weight, without taking a step.

        A term whose gradient is much larger than the others' leaves these next to nothing of a clipped step. This takes a backward pass
        for each term, on the rows of one micro-batch.

        Args:
          batch: a training batch. step: the number of the step that weights and noise are taken from.
        """
        rows = batch["example_mask"].shape[0]
        parts = self.replicas * max(1, rows // self.replicas // min(self.settings.micro_batch or rows, rows))
        norms = self._norms(_rows(batch, parts, 0), tf.constant(step, tf.int32), self.system.phase)
        return {name: float(norm) for name, norm in norms.items()}

    def _norms_of(self, batch: Batch, step: tf.Tensor, phase: int) -> dict[str, tf.Tensor]:
        del phase  # a Python number, so TensorFlow traces this function anew for each phase
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            for variable in self.variables_:
                tape.watch(variable)
            sums = self.system.losses(batch, step, Noise(self.settings.seed, step, batch["example_rows"]), training=True)
            terms = self.system.terms(sums, self.system.counts(batch), step)
            scale = 1.0 if self.scale is None else tf.convert_to_tensor(self.scale)  # small gradients would be lost in float16
            scaled = {name: term * scale for name, term in terms.items()}
        norms = {}
        for name, term in scaled.items():
            found = tape.gradient(term, self.variables_)
            norms[name] = tf.linalg.global_norm([gradient for gradient in found if gradient is not None]) / scale
        return norms

    def _part(
        self, batch: Batch, counts: dict[str, tf.Tensor], step: tf.Tensor, phase: int
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Computes gradients and sums of losses over one device's rows, micro-batch by micro-batch."""
        del phase  # a Python number: under a strategy this part is a function of its own, which must be traced anew for each phase too
        rows = batch["example_mask"].shape[0]
        parts = rows // min(self.settings.micro_batch or rows, rows)
        if parts == 1:
            return self._gradients(batch, counts, step)

        def add(i: tf.Tensor, gradients: list, sums: dict) -> tuple:
            more = self._gradients(_rows(batch, parts, i), counts, step)
            return i + 1, *tf.nest.map_structure(tf.add, (gradients, sums), more)

        first = self._gradients(_rows(batch, parts, 0), counts, step)
        return tf.while_loop(lambda i, *_: i < parts, add, (tf.constant(1), *first), parallel_iterations=1)[1:]

    def _gradients(self, batch: Batch, counts: dict[str, tf.Tensor], step: tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in self.variables_:
                tape.watch(variable)
            sums = self.system.losses(batch, step, Noise(self.settings.seed, step, batch["example_rows"]), training=True)
            objective = self.system.objective(sums, counts, step)
            if self.scale is not None:
                objective *= self.scale
        gradients = tape.gradient(objective, self.variables_, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self._per = {name: value.per for name, value in sums.items()}
        return [tf.convert_to_tensor(g) for g in gradients], {name: value.value for name, value in sums.items()}

    def _apply(self, gradients: list[tf.Tensor], norm: tf.Tensor) -> None:
        def apply(gradients: list[tf.Tensor]) -> None:
            start = 0
            for name, optimizer in self.optimizers.items():
                variables = self.groups[name][0]
                pairs = list(zip(gradients[start : start + len(variables)], variables, strict=True))
                optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
                start += len(variables)

        if self.scale is None:
            apply(gradients)
            return
        # float16 overflows now and then: such a step is left out and the loss scaled less (Micikevicius et al. 2018).
        finite = tf.math.is_finite(norm)
        if self.strategy:  # replicas may not meet inside of a condition, so the condition is put around all of them
            tf.distribute.get_replica_context().merge_call(
                lambda strategy, each, agreed: _when(
                    strategy.experimental_local_results(agreed)[0], lambda: strategy.extended.call_for_each_replica(apply, (each,))
                ),
                (gradients, finite),
            )
        else:
            _when(finite, lambda: apply(gradients))
        grown = tf.where(self.good + 1 >= STEPS_TO_GROW, tf.minimum(self.scale * 2.0, LARGEST_SCALE), self.scale)
        good = tf.where(self.good + 1 >= STEPS_TO_GROW, 0, self.good + 1)
        self.scale.assign(tf.where(finite, grown, tf.maximum(self.scale / 2.0, 1.0)))
        self.good.assign(tf.where(finite, good, 0))


def _counter(value: float, name: str) -> tf.Variable:
    """Makes a variable that every replica counts for itself; all of them arrive at the same number."""
    return tf.Variable(value, trainable=False, name=name, aggregation=EQUAL)


def _when(condition: tf.Tensor, action: Callable[[], object]) -> None:
    """Runs `action`, which assigns to variables, if the condition holds."""

    def done() -> tf.Tensor:
        action()
        return tf.constant(True)

    tf.cond(condition, done, lambda: tf.constant(False))


def _rows(batch: Batch, parts: int, part: tf.Tensor | int) -> Batch:
    """Returns the rows of one part of a batch. Tensors whose name begins with `graph_` belong to all parts and stay whole."""
    if parts == 1:
        return batch
    size = batch["example_mask"].shape[0] // parts

    def rows(name: str, tensor: tf.Tensor) -> tf.Tensor:
        if name.startswith("graph_"):
            return tensor
        found = tf.slice(tensor, [part * size] + [0] * (tensor.shape.rank - 1), [size, *tensor.shape[1:]])
        return tf.ensure_shape(found, [size, *tensor.shape[1:]])

    return {name: rows(name, tensor) for name, tensor in batch.items()}
