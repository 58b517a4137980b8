"""What every system offers, so that all share one training loop, one decoder and one evaluation.

A system is a Keras model built from its settings and `Inputs`. The loop asks it for sums of losses, never for means: micro-batches
and devices then add up to the same number. All noise comes from the `Noise` it is handed. What differs between systems (terms of the
objective, curves, what a line of progress says) a system declares here; nothing outside of this folder asks which one it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.batches import Batch, Columns
from hcl_tf.data.keywords.graph import KeywordGraph
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.beam_search import BeamSettings, Hypotheses, beam_search
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.latent import Gaussian
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.shapes import dimension
from hcl_tf.settings import Settings

# What one unit of a loss is: the two differ by the length of a text, so every term of an objective says which it is.
A_TEXT = "nats a text"  # a sum over a text's tokens, or a number that stands beside such a sum
A_TOKEN = "nats a token"  # a mean over tokens, or a number that stands beside such a mean


class Sum(NamedTuple):
    """A sum over a batch, and the name of the count (`System.counts`) that makes a mean of it."""

    value: tf.Tensor
    per: str = "examples"


@dataclass(frozen=True)
class Inputs:
    """What a system knows of its task, the same in training and in generation.

    Attributes:
      language: "en" or "zh". source_length, target_length: pieces without special ones. max_keywords: K.
      pad_id, unknown_id, cls_id, sep_id: of the vocabulary, which has `vocabulary` pieces.
      output_ids: [V'] int32 vocabulary ids that an output may contain, ascending.
      neighbours: [N, 2, M] int32, the keyword graph (`KeywordGraph.table`).
      keyword_ids: [N, P] int32, the pieces of each node's keyword, `[CLS] pieces [SEP]` and padding.
      shape: the encoder's sizes; None for a system without weights.
      library: configuration of published weights that are not BERT's (`System.read_published`); None: there are none.
    """

    language: str
    source_length: int
    target_length: int
    max_keywords: int
    pad_id: int
    unknown_id: int
    cls_id: int
    sep_id: int
    vocabulary: int
    output_ids: np.ndarray
    neighbours: np.ndarray
    keyword_ids: np.ndarray
    shape: EncoderShape | None
    library: dict | None = None


def dummy_batch(inputs: Inputs, rows: int = 2) -> Batch:
    """A batch of the right shapes and no meaning, through which a system makes its variables."""

    def text(length: int) -> tf.Tensor:
        return tf.tile([[inputs.cls_id, inputs.unknown_id, inputs.sep_id] + [inputs.pad_id] * (length - 1)], [rows, 1])

    nodes = tf.fill([rows, inputs.max_keywords], -1)
    return {
        "source_ids": text(inputs.source_length), "target_ids": text(inputs.target_length), "negative_ids": text(inputs.target_length),
        "example_rows": tf.range(rows), "example_mask": tf.ones([rows]), "source_nodes": nodes, "target_nodes": nodes,
        "source_unknown": tf.ones([rows], tf.int32), "target_unknown": tf.ones([rows], tf.int32),
        "impostor_nodes": tf.fill([rows, inputs.max_keywords, 1], -1), "impostor_routes": tf.zeros([rows], tf.int32),
        "graph_nodes": tf.fill([1], -1), "graph_neighbours": tf.fill([1, 2, 1], -1),
    }  # fmt: skip


class System(keras.Model):
    """Base of all systems. Subclasses build their layers in `__init__` and implement `losses`, `start` and `step`.

    Attributes:
      random_sizes: preset -> LAYERSxWIDTH of random weights, where they are not those of all systems (`settings.RANDOM_ENCODER`).
      is_trained: False for a row without weights, whose run is finished as soon as it is begun.
      scales: of each term that the objective may have, `A_TEXT` or `A_TOKEN`.
      curves: the losses whose course over training a report draws.
      orders: the diagnostics that say how often a contrast orders its pair right; a line of progress names them.
      output_nll: of the means of `losses` in validation, the NLL of targets under that which outputs are made from. Its smallest value
        chooses a checkpoint, `best_nll`.
      comparisons: name -> two diagnostics whose difference, example by example, says what the second one's condition is worth.
    """

    random_sizes: ClassVar[dict[str, str]] = {}
    is_trained = True
    scales: ClassVar[Mapping[str, str]] = {"nll": A_TEXT, "nll_token": A_TOKEN}
    curves: ClassVar[tuple[str, ...]] = ("nll", "nll_token")
    orders: ClassVar[tuple[str, ...]] = ()
    output_nll = "nll"
    comparisons: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings, self.inputs_ = settings, inputs

    def make_variables(self) -> None:
        """Makes every variable, by running once on meaningless data."""
        batch = dummy_batch(self.inputs_)
        noise = Noise(0, 0, batch["example_rows"])
        self.losses(batch, tf.constant(0), noise, training=True)

    @classmethod
    def read_published(cls, source: str) -> PublishedModel:
        """What `--pretrained` names, for systems that have the flag. Raises `UserError` where it can't be used."""
        raise NotImplementedError

    def load_published(self, published: Any) -> list[str]:
        """Puts published weights (`--encoder`'s or `--pretrained`'s) in place and returns lines that say which went where."""
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
        """The encoder whose states of the training texts may be computed once, because nothing trains it; None: there is none."""
        return None

    def columns_of_texts(self, texts) -> Columns | None:
        """What training batches bring of texts that weights which nothing trains have read already (a `training.text_states.TextStates`);
        default: nothing."""
        return None

    # -- training ---------------------------------------------------------------------------------------------------

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Name -> how many the means of `losses` are taken over. A function of the batch alone: known before any loss."""
        real = batch["example_mask"][:, None] * tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32)
        return {"examples": tf.reduce_sum(batch["example_mask"]), "tokens": tf.reduce_sum(real)}

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        """Every loss term and every number worth a curve, summed over the batch's real examples.

        Args:
          batch: see `data.batching.batches.Batches.make` and `data.batching.pairs.PairColumns`; step: int32 scalar. noise: of this step.
          training: dropout is on, and the keyword graph is the batch's sub-graph; else the whole one.
        """
        raise NotImplementedError

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        """Weight of each term of `losses` that the objective has; `step` None: after all ramps, for validation."""
        raise NotImplementedError

    def objective(self, sums: dict[str, Sum], counts: dict[str, tf.Tensor], step: tf.Tensor | None) -> tf.Tensor:
        """The sum of `terms`."""
        return tf.add_n(list(self.terms(sums, counts, step).values()))

    def terms(self, sums: dict[str, Sum], counts: dict[str, tf.Tensor], step: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """The weighted means of the objective, in nats a text. `counts` are those of the whole step, of which `sums` may cover a part.

        A term that stands beside a mean over tokens (`A_TOKEN`) counts as many times as a text of the step has tokens: its weight then
        means what it means in a paper whose likelihood is such a mean.

        Raises:
          ValueError: a term's scale is not declared. Nobody can tell it from a value, and a wrong guess makes a term as many times too
            weak as a text has tokens.
        """
        weights, tokens = self.weights_of(step), tf.math.divide_no_nan(counts["tokens"], counts["examples"])
        if missing := [name for name in weights if self.scales.get(name) not in (A_TEXT, A_TOKEN)]:
            raise ValueError(f"{type(self).__name__}.scales does not say whether {missing[0]} is {A_TEXT} or {A_TOKEN}")
        texts = {name: mean(sums[name], counts) * (tokens if self.scales[name] == A_TOKEN else 1.0) for name in weights}
        return {name: weight * texts[name] for name, weight in weights.items()}

    def schedule(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Name -> a weight that changes while training goes on, to be logged; default: none does."""
        return {}

    def progress(self, means: Mapping[str, float]) -> str:
        """What a line about a validation says besides loss and NLL; `means`: of losses and diagnostics."""
        return ""

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        """Optimiser group -> its variables and learning rate. Together they are the trainable variables."""
        return {"all": (self.trainable_variables, self.settings.learning_rate)}

    def phases(self) -> tuple[int, ...]:
        """The steps at which a phase of training begins, ascending; the first, which begins at 0, is not among them.

        Validation losses of different phases are different losses, so each phase has best checkpoints of its own, which replace those
        of the phase before it; and patience counts in the last one.
        """
        return ()

    @property
    def ramp_steps(self) -> int:
        """Steps until the objective's weights stay as they are. Patience counts from there on: until then, what training makes smaller
        is not what validation measures."""
        return 0

    @property
    def phase(self) -> int:
        """How many phases have begun besides the first, a function of variables. Where it changes, `losses` are traced anew."""
        return 0

    def begin_phase(self) -> None:
        """Changes variables for the phase that begins. A run that goes on from right before it does this again, to the same end."""

    def sampler(self, graph: KeywordGraph) -> SubgraphSampler | None:
        """What draws a sub-graph for each training batch; default: the system reads no graph."""
        return None

    @property
    def impostors(self) -> str | None:
        """Which impostors batches bring (`by` of `data.keywords.subgraph.find_impostors`); None: none."""
        return None

    def columns(self, data: PreparedData, split: str, arrays: SplitArrays, train: SplitArrays) -> Columns | None:
        """What batches of a split (`arrays`) need for `losses` besides the columns of `data.batching.pairs`; default: nothing.

        Generation has none of it. `train`: the training split.
        """
        return None

    def stays(self, steps: int, epoch_steps: int) -> str:
        """Why a training of so many steps can't be handed out as compiled programs (portable/): what it does between two of them that
        needs TensorFlow, and the flag that avoids it. Empty where nothing stands in the way.
        """
        return ""

    def refreshed(self) -> tuple[int, dict[str, tf.Variable]]:
        """How many epochs after another `before_epoch` does again what depends on weights (0: never), and the variables that it then gives
        the values of `DistinctTexts.node_features`, by the names `features`, `mean` and `scale`. An export has nothing else to go by.
        """
        return 0, {}

    def before_epoch(self, epoch: int, texts) -> None:
        """Computes what depends on the training texts (a `training.text_states.TextStates`) as a whole; default: nothing."""

    def before_inference(self) -> None:
        """Computes what stays the same as long as weights do; called before validation and generation."""

    def diagnose(self, batch: Batch, noise: Noise) -> dict[str, tf.Tensor]:
        """Name -> [B] (or [B, Z]) diagnostics of each example for reports; NaN where one does not apply to an example."""
        return {}

    def representations(self, batch: Batch) -> dict[str, dict[str, tf.Tensor]]:
        """Space -> name -> [B, C] vectors that may be compared within that space; NaN where an example has none; default: nothing.

        Names: source, positive, negative, and of systems with keywords keyword, positive_keyword, impostor.
        """
        return {}

    # -- decoding ---------------------------------------------------------------------------------------------------

    @property
    def uses_keywords(self) -> bool:
        """Whether outputs depend on the keywords of the sources."""
        return self.settings.append_keywords

    def source_prior(self, batch: Batch) -> Gaussian | None:
        """The distribution [B, Z] of z that generation draws from or takes the mean of; default: there is no z."""
        return None

    @property
    def start_id(self) -> int:
        """The token before the first of an output."""
        return self.inputs_.cls_id

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[dict, dict]:
        """What decoding keeps of a batch (see decoding/beam_search.py): a cache [B * beams, ...] and what is fixed.

        `noise`: sample what can be sampled (z); None: the most likely.
        """
        raise NotImplementedError

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """Last tokens [rows] -> scores [rows, V' or more] of the next, new cache.

        Ids are columns of V'; scores are logits or log-probabilities, and -inf in columns that stand for no piece.
        """
        raise NotImplementedError

    def output_ids(self, columns: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Columns of `step`'s scores [B, beams, T] -> vocabulary ids; V + position for an unknown word copied from the source."""
        return tf.gather(self.inputs_.output_ids, columns)

    def generate(self, batch: Batch, noise: Noise | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for outputs, from the sources alone.

        Returns:
          [B, hypotheses, maximum_length] ids (`output_ids`), best first, padded; [B, hypotheses] scores. `DecodingSettings.hypotheses`
          says how many there are.
        """
        size = dimension(batch["source_ids"])
        column = {int(i): c for c, i in enumerate(self.inputs_.output_ids)}
        ids, scores, lengths = self.search(batch, noise, size, column[self.start_id], column[self.inputs_.sep_id])
        real = tf.range(self.settings.maximum_length) < lengths[..., None]
        return tf.where(real, self.output_ids(ids, batch), self.inputs_.pad_id), scores

    def search(self, batch: Batch, noise: Noise | None, size: int | tf.Tensor, start: int, end: int) -> Hypotheses:
        """Searches with beams among the columns of `step`'s scores.

        Args:
          size: B. start, end: the columns of the tokens before and after an output.
        """
        s = self.settings
        beam = BeamSettings(s.beams, s.minimum_length, s.maximum_length, s.length_penalty, s.no_repeat_ngram)
        return beam_search(self.step, *self.start(batch, s.beams, noise), size, start, end, beam)

    # -- shared pieces ----------------------------------------------------------------------------------------------

    def labels(self, batch: Batch) -> tf.Tensor:
        """[B, T + 1]: the tokens to predict, [SEP] at their end."""
        return batch["target_ids"][:, 1:]

    def decoder_inputs(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """[B, T + 1]: what the decoder reads under teacher forcing, in training (noise) with words hidden by `--word_dropout`."""
        inputs = batch["target_ids"][:, :-1]
        if noise is None or not self.settings.word_dropout:
            return inputs
        dropped = (noise.uniform((inputs.shape[1],)) < self.settings.word_dropout) & (inputs != self.inputs_.cls_id)
        return tf.where(dropped, self.inputs_.unknown_id, inputs)

    def label_weights(self, batch: Batch) -> tf.Tensor:
        """[B, T + 1] float32: 1 for tokens of real examples."""
        return tf.cast(self.labels(batch) != self.inputs_.pad_id, tf.float32) * batch["example_mask"][:, None]


def partners(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """[B] the place of another real example for each row, and whether there is one.

    Rows that fill up a batch come last, and an example alone in its batch has no other.
    """
    rows, real = tf.range(batch["example_mask"].shape[0]), tf.math.count_nonzero(batch["example_mask"], dtype=tf.int32)
    return tf.math.floormod(rows + tf.maximum(real // 2, 1), real), real > 1


def mean(total: Sum, counts: dict[str, tf.Tensor]) -> tf.Tensor:
    """The mean that a sum stands for; 0 where nothing was counted."""
    return tf.math.divide_no_nan(total.value, counts[total.per])
