"""Defines what every system offers, so that all of them share one training loop, one search and one evaluation.

A system is a Keras model that is built from its settings and `Inputs`. It computes sums of losses, never means: sums over micro-batches
and devices add up to the same number however a batch is divided. All of its noise comes from the `Noise` that it is given. A system
declares here in what it differs from others (terms of the objective, curves of a report, lines of progress), so that nothing outside of
this folder needs to know which system it has.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.batches import Batch, Columns
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.beam_search import BeamSettings, Hypotheses, beam_search
from hcl_tf.layers.latent import Gaussian
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.inputs import Inputs, dummy_batch
from hcl_tf.settings import Settings

# The units of losses. They differ by a factor, the number of tokens in a text, so every term of an objective says which one it has.
A_TEXT = "nats a text"  # a sum over a text's tokens, or a number that stands beside such a sum
A_TOKEN = "nats a token"  # a mean over tokens, or a number that stands beside such a mean


class Sum(NamedTuple):
    """A sum over a batch, and the name of the count (`System.counts`) by which it is divided for a mean."""

    value: tf.Tensor
    per: str = "examples"


class System(keras.Model):
    """Base of all systems. Subclasses build their layers in `__init__` and implement `losses`, `start` and `step`.

    Attributes:
      random_sizes: preset -> LAYERSxWIDTH of random weights, for presets in which they differ from `settings.RANDOM_ENCODER`.
      is_trained: False for a system without weights, whose run is finished at once.
      has_latent: whether outputs come from a latent variable z, whose prior `source_prior` gives.
      scales: term that the objective may have -> its unit, `A_TEXT` or `A_TOKEN`.
      curves: the losses that a report draws over the steps of training.
      orders: the diagnostics that say how often a contrast orders its pair right; lines of progress show them.
      output_nll: the loss that is the NLL of targets in the way in which outputs are generated. The checkpoint `best_nll` is chosen by its
        mean over the validation split.
      places: part of the system -> how the paths of its variables begin; reports say which parts a gradient reaches.
      comparisons: name -> two diagnostics. Their difference in each example says what the condition of the second is worth.
    """

    random_sizes: ClassVar[dict[str, str]] = {}
    is_trained = True
    has_latent = False
    scales: ClassVar[Mapping[str, str]] = {"nll": A_TEXT, "nll_token": A_TOKEN}
    curves: ClassVar[tuple[str, ...]] = ("nll", "nll_token")
    orders: ClassVar[tuple[str, ...]] = ()
    output_nll = "nll"
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {}
    places: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings, self.inputs_ = settings, inputs

    def make_variables(self) -> None:
        """Makes every variable by running once on meaningless data (`dummy_batch`)."""
        batch = dummy_batch(self.inputs_)
        noise = Noise(0, 0, batch["example_rows"])
        self.losses(batch, tf.constant(0), noise, training=True)

    @classmethod
    def read_published(cls, source: str) -> PublishedModel:
        """Reads the weights that `--pretrained` names, for systems with that flag. Raises `UserError` where they can't be used."""
        raise NotImplementedError

    def load_published(self, published: Any) -> list[str]:
        """Assigns published weights (`--encoder`'s or `--pretrained`'s). Returns lines that say which tensor went into which variable."""
        raise NotImplementedError

    def begin_from(self, taken: Callable[[tf.Variable], bool]) -> list[str]:
        """Completes what follows from weights of another run, which were put in place of its first ones.

        Args:
          taken: says which variables have values of that run.

        Returns:
          Lines that say what was completed.
        """
        return []

    def of_graph(self) -> list[tf.Variable]:
        """The variables whose rows belong to the nodes of one keyword graph, with all that was computed beside them."""
        return []

    @property
    def frozen_encoder(self) -> keras.layers.Layer | None:
        """The encoder if nothing trains it, so that its states of the training texts may be computed once and kept; else None."""
        return None

    def columns_of_texts(self, texts, held_out: bool = False) -> Columns | None:
        """Returns what batches bring of texts that weights which nothing trains have read already; default: nothing.

        Args:
          texts: those of the batches' split (a `training.text_states.TextStates`).
          held_out: whether the batches are for validation, whose numbers may not depend on whether they bring anything.
        """
        return None

    # -- training ---------------------------------------------------------------------------------------------------

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Returns name -> count, by which sums of `losses` are divided. They depend on the batch alone, so they are known before losses."""
        real = batch["example_mask"][:, None] * tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32)
        return {"examples": tf.reduce_sum(batch["example_mask"]), "tokens": tf.reduce_sum(real)}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        """Computes all terms of the objective and all other numbers to report, summed over the batch's real examples.

        Args:
          batch: see `data.batching.batches.Batches.make` and `data.batching.pairs.PairColumns`.
          step: int32 scalar. noise: that of this step.
          training: True: dropout is on, and the keyword graph is the batch's sub-graph; False: there is no dropout, and the graph is whole.
        """
        raise NotImplementedError

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        """Returns the weight of each term of the objective at a step; `step` None: the weights after all ramps, which validation takes."""
        raise NotImplementedError

    def objective(self, sums: dict[str, Sum], counts: dict[str, tf.Tensor], step: tf.Tensor | None) -> tf.Tensor:
        """Computes the objective, which is the sum of `terms`."""
        return reduce(tf.add, self.terms(sums, counts, step).values())  # in their order, which tf.add_n leaves to chance

    def terms(self, sums: dict[str, Sum], counts: dict[str, tf.Tensor], step: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Computes the weighted terms of the objective, in nats per text.

        A term in nats per token (`A_TOKEN`) is multiplied by the mean number of tokens in a text of this step. Its weight then means the
        same as in a paper whose likelihood is a mean over tokens.

        Args:
          sums: those of `losses`, over the whole step or a part of it. counts: those of the whole step.

        Raises:
          ValueError: `scales` does not declare a term. A wrong guess would make the term too weak by the number of tokens in a text.
        """
        weights, tokens = self.weights_of(step), tf.math.divide_no_nan(counts["tokens"], counts["examples"])
        if missing := [name for name in weights if self.scales.get(name) not in (A_TEXT, A_TOKEN)]:
            raise ValueError(f"{type(self).__name__}.scales does not say whether {missing[0]} is {A_TEXT} or {A_TOKEN}")
        texts = {name: mean(sums[name], counts) * (tokens if self.scales[name] == A_TOKEN else 1.0) for name in weights}
        return {name: weight * texts[name] for name, weight in weights.items()}

    def schedule(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns name -> weight, for the log, of weights that change during training; default: none."""
        return {}

    def progress(self, means: Mapping[str, float]) -> str:
        """Returns what the line about a validation says besides loss and NLL; `means` has the means of losses and diagnostics."""
        return ""

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        """Returns group -> its variables and their learning rate. Together the groups have all trainable variables."""
        return {"all": (self.trainable_variables, self.settings.learning_rate)}

    def phases(self) -> tuple[int, ...]:
        """Returns the steps at which phases of training begin, ascending, without the first phase, which begins at step 0.

        Each phase has its own validation loss, which can't be compared with another's. So the best checkpoints of a phase replace those of
        the phase before it, and patience counts in the last phase only.
        """
        return ()

    @property
    def ramp_steps(self) -> int:
        """The step from which the objective's weights stay the same. Patience counts from there on, because before it training minimises
        another objective than validation measures."""
        return 0

    @property
    def phase(self) -> int:
        """The number of the current phase, from 0. It depends on variables alone. When it changes, TensorFlow traces `losses` anew."""
        return 0

    def begin_phase(self) -> None:
        """Changes variables for the phase that begins. A run that is resumed just before it does this again, with the same result."""

    def sampler(self, graph: KeywordGraph) -> SubgraphSampler | None:
        """Returns what draws a sub-graph for each training batch; default: None, because the system reads no graph."""
        return None

    @property
    def impostors(self) -> str | None:
        """How impostors for the batches are found (`by` of `data.keywords.subgraph.find_impostors`); None: batches have none."""
        return None

    def columns(self, data: PreparedData, split: str, arrays: SplitArrays, train: SplitArrays) -> Columns | None:
        """Returns the columns that `losses` needs in batches of a split besides those of `data.batching.pairs`; default: none.

        Generation has no such columns.

        Args:
          split: the split's name. arrays: its examples. train: the training split.
        """
        return None

    def stays(self, steps: int, epoch_steps: int) -> str:
        """Says why a training of so many steps can't be exported as compiled programs (portable/), or "" if it can.

        The reason names what needs TensorFlow between two programs, and the flag that avoids it.
        """
        return ""

    def refreshed(self) -> tuple[int, dict[str, tf.Variable]]:
        """How many epochs after another `before_epoch` does again what depends on weights (0: never), and the variables that it then gives
        the values of `DistinctTexts.node_features`, by the names `features`, `mean` and `scale`. An export has nothing else to go by.
        """
        return 0, {}

    def before_epoch(self, epoch: int, texts) -> None:
        """Computes what depends on all training texts; default: nothing. `texts` is a `training.text_states.TextStates`."""

    def told_at_start(self, texts) -> list[str]:
        """Returns what a user should know of the training texts, as this system sees them after the first `before_epoch`, line by line."""
        return []

    def before_inference(self) -> None:
        """Computes what depends on weights alone. Callers do this before validation and generation, whenever weights have changed."""

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        """Computes diagnostics of each example: name -> [B] or [B, Z], NaN where one does not apply to an example; default: none."""
        return {}

    def representations(self, batch: Batch) -> dict[str, dict[str, tf.Tensor]]:
        """Computes vectors that may be compared with each other, by space: space -> name -> [B, C]; default: none.

        Names are source, positive and negative, and in systems with keywords also keyword, positive_keyword and impostor. A vector is NaN
        where the example has none.
        """
        return {}

    # -- decoding ---------------------------------------------------------------------------------------------------

    @property
    def uses_keywords(self) -> bool:
        """Whether outputs depend on the keywords of the sources."""
        return self.settings.append_keywords

    def source_prior(self, batch: Batch) -> Gaussian | None:
        """Computes the prior of z [B, Z], from which generation draws, or of which it takes the mean; default: None, there is no z."""
        return None

    def target_nll(self, batch: Batch) -> tf.Tensor:
        """Computes the NLL of each target where outputs are made: with z, if there is one, at the prior's mean. Returns [B] nats.

        Args:
          batch: sources (`decoding.generator.SOURCE_COLUMNS`) and target_ids, of any number of rows, known or not while tracing.
        """
        raise NotImplementedError

    @property
    def start_id(self) -> int:
        """The vocabulary id of the token that decoding starts from."""
        return self.inputs_.cls_id

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        """Prepares the decoding of a batch (see decoding/beam_search.py).

        Args:
          beams: hypotheses that are kept for each example. noise: for drawing z from the prior; None: the prior's mean.

        Returns:
          The cache, tensors [B * beams, ...] that every step replaces, and what stays fixed for all steps.
        """
        raise NotImplementedError

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """Takes a step of decoding.

        Args:
          ids: [rows] the last tokens, as columns of the scores. position: how many tokens were read before. cache, fixed: see `start`.

        Returns:
          Scores of the next token, [rows, V' or more], which are logits or log-probabilities, and -inf in columns that stand for no piece;
          and the new cache.
        """
        raise NotImplementedError

    def output_ids(self, columns: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Turns columns of `step`'s scores, [B, beams, T], into vocabulary ids; V + position is an unknown word copied from the source."""
        return tf.gather(self.inputs_.output_ids, columns)

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for outputs, given the sources alone.

        Returns:
          [B, hypotheses, maximum_length] ids (`output_ids`), best first, with padding; and [B, hypotheses] their scores.
          `DecodingSettings.hypotheses` says how many there are.
        """
        size = dimension(batch["source_ids"])
        column = {int(i): c for c, i in enumerate(self.inputs_.output_ids)}
        ids, scores, lengths = self.search(batch, noise, size, column[self.start_id], column[self.inputs_.sep_id])
        real = tf.range(self.settings.maximum_length) < lengths[..., None]
        return tf.where(real, self.output_ids(ids, batch), self.inputs_.pad_id), scores

    def search(self, batch: Batch, noise: Noise | None, size: int | tf.Tensor, start: int, end: int) -> Hypotheses:
        """Searches with beams; tokens are columns of `step`'s scores.

        Args:
          size: B. start, end: the columns of the token before and of the token after an output.
        """
        s = self.settings
        beam = BeamSettings(s.beams, s.minimum_length, s.maximum_length, s.length_penalty, s.no_repeat_ngram)
        return beam_search(self.step, *self.start(batch, s.beams, noise), size, start, end, beam)

    # -- shared pieces ----------------------------------------------------------------------------------------------

    def labels(self, batch: Batch) -> tf.Tensor:
        """Returns the tokens to predict, [B, T + 1], with [SEP] at the end."""
        return batch["target_ids"][:, 1:]

    def decoder_inputs(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """Returns what the decoder reads under teacher forcing, [B, T + 1]. With noise, `--word_dropout` makes some words unknown."""
        inputs = batch["target_ids"][:, :-1]
        if noise is None or not self.settings.word_dropout:
            return inputs
        dropped = (noise.uniform((inputs.shape[1],)) < self.settings.word_dropout) & (inputs != self.inputs_.cls_id)
        return tf.where(dropped, self.inputs_.unknown_id, inputs)

    def label_weights(self, batch: Batch) -> tf.Tensor:
        """Returns the weights of `labels`, [B, T + 1] float32: 1 for tokens of real examples, 0 for padding and for rows that fill up."""
        return tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32) * batch["example_mask"][:, None]


def partners(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds another real example of the batch for each example. Rows that fill up a batch come last, and are no real examples.

    Returns:
      [B] int32, the row of the other example; and a bool scalar, which is False if the batch has one real example only.
    """
    rows, real = tf.range(batch["example_mask"].shape[0]), tf.math.count_nonzero(batch["example_mask"], dtype=tf.int32)
    return tf.math.floormod(rows + tf.maximum(real // 2, 1), real), real > 1


def mean(total: Sum, counts: dict[str, tf.Tensor]) -> tf.Tensor:
    """Divides a sum by its count; 0 where nothing was counted."""
    return tf.math.divide_no_nan(total.value, counts[total.per])
