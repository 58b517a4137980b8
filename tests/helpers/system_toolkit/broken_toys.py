"""A system of some lines that keeps every rule, and others that each do one thing wrong: what shows that the rules bite."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from unittest import mock

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import A_TEXT, Batch, Sum, System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import DecodingSettings, EncoderSettings, TextSettings, TrainingSettings


@dataclass(frozen=True)
class PlainSettings(EncoderSettings, TextSettings, TrainingSettings, DecodingSettings):
    """Those of a system that has nothing of its own."""


class Plain(System):
    """The next word depends on the mean of the source's words, on the sum of the target's so far, and on the last one.

    Attributes:
      breaks: rule -> the tensor or term that its breach names; of `Plain`, none.
    """

    breaks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, settings: PlainSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        width = inputs.shape.width
        column = np.searchsorted(inputs.output_ids, np.arange(inputs.vocabulary + 1))
        kept = np.isin(np.arange(inputs.vocabulary + 1), inputs.output_ids)
        self.columns_ = np.where(kept, column, np.searchsorted(inputs.output_ids, inputs.unknown_id)).astype(np.int32)
        self.build_layers(width)

    def build_layers(self, width: int) -> None:
        first = keras.initializers.RandomNormal(stddev=0.3)
        self.words = self.add_weight("words", (self.inputs_.vocabulary + 1, width), initializer=first)
        self.mix = keras.layers.Dense(width, "tanh", name="mix")
        self.out = keras.layers.Dense(len(self.inputs_.output_ids), name="out")

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.words, ids)

    def source(self, batch: Batch) -> tf.Tensor:
        """[B, D]"""
        mask = tf.cast(batch["source_ids"] != self.inputs_.pad_id, tf.float32)[..., None]
        return tf.reduce_sum(self.embed(batch["source_ids"]) * mask, 1) / tf.reduce_sum(mask, 1)

    def before(self, embedded: tf.Tensor) -> tf.Tensor:
        """[B, T + 1, D] at each position the sum of the words up to it."""
        return tf.cumsum(embedded, 1)

    def scores(self, source: tf.Tensor, before: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """[..., D] each -> [..., V'] float32."""
        return tf.cast(self.out(self.mix(tf.concat([source, before, last], -1))), tf.float32)

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        return self.sums(self.token_nll(batch, noise if training else None), batch)

    def token_nll(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """[B, T + 1] of every token."""
        embedded = self.embed(batch["target_ids"][:, :-1])
        if noise:
            embedded = noise.dropout(embedded, self.settings.dropout)
        source = tf.repeat(self.source(batch)[:, None], embedded.shape[1], 1)
        scores = self.scores(source, self.before(embedded), embedded)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(self.columns_, self.labels(batch)), scores)

    def target_nll(self, batch: Batch) -> tf.Tensor:
        return tf.reduce_sum(self.token_nll(batch, None) * self.label_weights(batch), 1)

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        """Of the NLL [B, T + 1] of every token."""
        total = tf.reduce_sum(each * self.label_weights(batch))
        return {"nll": Sum(total), "nll_token": Sum(total, "tokens")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll": 1.0}

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        source = tf.repeat(self.source(batch), beams, 0)
        return {"before": tf.zeros_like(source)}, {"source": source}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        last = self.embed(tf.gather(self.inputs_.output_ids, ids))
        before = cache["before"] + last
        return self.scores(fixed["source"], before, last), {"before": before}


class KerasThree(Plain):
    """Made of layers of Keras 3, which a model of tf_keras does not see: it would train nothing and say nothing."""

    breaks: ClassVar[Mapping[str, str]] = {"builds": "trainable weights: 0, .*kernel"}

    def build_layers(self, width: int) -> None:
        import keras as keras_three

        self.table = keras_three.layers.Embedding(self.inputs_.vocabulary + 1, width, name="words")
        self.mix = keras_three.layers.Dense(width, "tanh", name="mix")
        self.out = keras_three.layers.Dense(len(self.inputs_.output_ids), name="out")

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        return self.table(ids)


class OneLayerOfKerasThree(Plain):
    """The others hide that one is not trained."""

    breaks: ClassVar[Mapping[str, str]] = {"builds": ".*kernel.*: a variable that was made and that nobody sees"}

    def build_layers(self, width: int) -> None:
        import keras as keras_three

        super().build_layers(width)
        self.mix = keras_three.layers.Dense(width, "tanh", name="mix")


class TwoGroups(Plain):
    """One variable gets two steps."""

    breaks: ClassVar[Mapping[str, str]] = {"builds": "words: in the learning-rate groups"}

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        return {**super().learning_rates(), "words": ([self.words], 0.01)}


class NoScale(Plain):
    """A term of which nobody knows whether it is of a text or of a token."""

    breaks: ClassVar[Mapping[str, str]] = {"objective_is_declared": "extra: `scales`"}

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        return {**super().sums(each, batch), "extra": Sum(tf.constant(0.0))}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {**super().weights_of(step), "extra": 1.0}


class NotANumber(NoScale):
    """A term that is none in validation."""

    breaks: ClassVar[Mapping[str, str]] = {"objective_is_declared": "extra: nan"}
    scales: ClassVar[Mapping[str, str]] = {**Plain.scales, "extra": A_TEXT}

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        return {**Plain.sums(self, each, batch), "extra": Sum(tf.math.log(tf.reduce_min(batch["example_mask"])) * 0.0)}


class Unread(Plain):
    """A layer whose output goes nowhere."""

    breaks: ClassVar[Mapping[str, str]] = {"every_weight_is_trained": "model/gate"}

    def build_layers(self, width: int) -> None:
        super().build_layers(width)
        self.gate = self.add_weight("gate", (width,))


class MeanForSum(Plain):
    """The mean of a batch, where the loop adds up sums."""

    breaks: ClassVar[Mapping[str, str]] = dict.fromkeys(("parts_add_up", "micro_batches_change_nothing", "two_devices_add_up"), "nll")

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        mean = tf.reduce_sum(each * self.label_weights(batch)) / each.shape[0]
        return {"nll": Sum(mean), "nll_token": Sum(mean, "tokens")}


class CountsFillers(Plain):
    """What fills up a batch is taken for examples."""

    breaks: ClassVar[Mapping[str, str]] = {"fillers_do_not_count": "nll"}

    def label_weights(self, batch: Batch) -> tf.Tensor:
        return tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32)


class NoiseOfPlaces(Plain):
    """Dropout that goes by the place in the batch."""

    breaks: ClassVar[Mapping[str, str]] = {"noise_follows_rows": "nll"}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        return super().losses(batch, step, Noise(1, step, tf.range(batch["example_mask"].shape[0])), training)


class ReadsPadding(Plain):
    """The mean of a source is also one of its padding."""

    breaks: ClassVar[Mapping[str, str]] = {"padding_changes_nothing": "nll"}

    def source(self, batch: Batch) -> tf.Tensor:
        return tf.reduce_mean(self.embed(batch["source_ids"]), 1)


class PeeksAhead(Plain):
    """Each position sees the whole target, which decoding has not."""

    breaks: ClassVar[Mapping[str, str]] = {
        "scores_are_causal": "scores before position 1",
        "cached_decoding_scores_as_teacher_forcing": "score of position 0 of the target",
    }

    def before(self, embedded: tf.Tensor) -> tf.Tensor:
        return tf.repeat(tf.reduce_sum(embedded, 1, keepdims=True), embedded.shape[1], 1)


class IgnoresLabels(Plain):
    """Scores what it likes."""

    breaks: ClassVar[Mapping[str, str]] = {"scores_are_causal": "nll: of no label at all"}

    def labels(self, batch: Batch) -> tf.Tensor:
        return batch["target_ids"][:, 1:]

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        return super().losses({name: tensor for name, tensor in batch.items() if name != "asked_labels"}, step, noise, training)


class ForgetsItsCache(Plain):
    """Each step sees the last word alone."""

    breaks: ClassVar[Mapping[str, str]] = {"cached_decoding_scores_as_teacher_forcing": "score of position 1 of the target"}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        return super().step(ids, position, cache, fixed)[0], cache


class CacheChangesType(Plain):
    """A cache that begins in one type and goes on in another."""

    breaks: ClassVar[Mapping[str, str]] = {
        "cached_decoding_scores_as_teacher_forcing": r"cache/before: a step makes float16\[8, 16\] of float32",
        "padding_changes_nothing": "cache/before: a step makes float16",
        "search_finds_what_its_scores_say": "died of .*",
    }

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        scores, cache = super().step(ids, position, {"before": tf.cast(cache["before"], tf.float32)}, fixed)
        return scores, {"before": tf.cast(cache["before"], tf.float16)}


class ScoresTargetsByToken(Plain):
    """A mean over a target's tokens, where a sum is asked for."""

    breaks: ClassVar[Mapping[str, str]] = {"targets_are_scored_where_outputs_are_made": "target_nll"}

    def target_nll(self, batch: Batch) -> tf.Tensor:
        return tf.math.divide_no_nan(super().target_nll(batch), tf.reduce_sum(self.label_weights(batch), 1))


class SearchScoresOtherwise(Plain):
    """Scores that are not those of the texts beside them."""

    breaks: ClassVar[Mapping[str, str]] = {"search_finds_what_its_scores_say": "score of the text of beam 0"}

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        ids, scores = super().generate(batch, noise)
        return ids, 1.01 * scores


class SearchSeesTargets(Plain):
    """Asks for what nobody has who wants a text."""

    breaks: ClassVar[Mapping[str, str]] = {"search_finds_what_its_scores_say": "died of KeyError: 'target_ids'"}

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        return super().start({**batch, "source_ids": batch["target_ids"]}, beams, noise)


class CountsItsCalls(Plain):
    """State in Python that changes from step to step, so that each is traced anew."""

    breaks: ClassVar[Mapping[str, str]] = {"the_second_call_traces_nothing": "training step: traced 3 times"}
    calls = 0

    @property
    def phase(self) -> int:
        self.calls += 1
        return self.calls


class AddsUpByChance(Plain):
    """A sum of three by the operation that begins with whichever input is free first."""

    breaks: ClassVar[Mapping[str, str]] = {"sums_have_an_order": "training step: AddN of more than two"}

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        return {name: total._replace(value=tf.add_n([total.value] * 3)) for name, total in super().sums(each, batch).items()}


class HalfLosses(Plain):
    """Losses in the type of the layers, whose sums float16 can't hold."""

    breaks: ClassVar[Mapping[str, str]] = {"half_precision_is_finite": "nll: .*float16"}

    def sums(self, each: tf.Tensor, batch: Batch) -> dict[str, Sum]:
        return {name: total._replace(value=tf.cast(total.value, self.compute_dtype)) for name, total in super().sums(each, batch).items()}


class StateInPython(Plain):
    """What it computes of the texts stands in no variable, so no checkpoint has it."""

    breaks: ClassVar[Mapping[str, str]] = {
        "a_checkpoint_holds_all_state": "nll",
        "a_restored_step_goes_on_with_the_same_bits": "nll",
        "a_stopped_run_ends_with_the_same_bits": ".* of step 3",
    }
    shift = 0.0

    def before_epoch(self, epoch: int, texts) -> None:
        self.shift = 0.5

    def source(self, batch: Batch) -> tf.Tensor:
        return super().source(batch) + self.shift


class LearnsFrequencies(Plain):
    """Nothing but the output's bias is trained."""

    breaks: ClassVar[Mapping[str, str]] = {"eight_examples_are_learnt_by_heart": "nll_token"}

    def scores(self, source: tf.Tensor, before: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        scores = super().scores(source, before, last)
        return tf.stop_gradient(scores - self.out.bias) + self.out.bias


class CallsPython(Plain):
    """An operation that only this process has."""

    breaks: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("xla_takes_the_same_steps", "a_training_step_is_exportable", "a_search_is_exportable"), "died of .*PyFunc"
    )

    def source(self, batch: Batch) -> tf.Tensor:
        found = super().source(batch)
        return tf.stop_gradient(tf.ensure_shape(tf.numpy_function(np.tanh, [found], tf.float32), found.shape)) + found


class ReadsAnOutsider(Plain):
    """A variable that neither the system nor its optimiser has."""

    breaks: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("a_training_step_is_exportable", "a_search_is_exportable"), "outside:0: is read, but held by no variable"
    )

    def build_layers(self, width: int) -> None:
        super().build_layers(width)
        object.__setattr__(self, "factor", tf.Variable(1.0, name="outside", trainable=False))  # past Keras

    def source(self, batch: Batch) -> tf.Tensor:
        return super().source(batch) * self.factor


TOYS = {kind.__name__: kind for kind in (Plain, *Plain.__subclasses__(), NotANumber)}
DIVIDED = ("Plain", "MeanForSum")  # whose steps are also taken on two devices


@contextmanager
def registered() -> Iterator[None]:
    """The toys are entries of the registry, as any system is."""
    entries = {name: registry.Entry("broken_toys", name, PlainSettings) for name in TOYS}
    name = "hcl_tf.models.broken_toys"
    sys.modules[name] = sys.modules[__name__]
    try:
        with mock.patch.dict(registry.SYSTEMS, entries):
            yield
    finally:
        del sys.modules[name]  # this one only: mock.patch.dict would drop all that was first imported meanwhile
