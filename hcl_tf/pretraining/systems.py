"""The bodies with the heads that they are pretrained with, as systems of the training loop.

The objective is a mean over predicted pieces, not over rows: how many texts share a row says nothing of them.
"""

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.attention import MASKED
from hcl_tf.layers.elementwise import gelu
from hcl_tf.layers.encoder import TextEncoder
from hcl_tf.layers.noise import Noise
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import A_TOKEN, Batch, Sum, System, mean
from hcl_tf.models.gpt2_body import GPT2Body
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.t5_body import T5Body
from hcl_tf.pretraining.settings import PretrainingSettings


class Pretraining(System):
    """Base of the three. Subclasses compute the `states` that pieces are predicted from, and have a `tokens` table.

    Args:
      unscored: ids of labels that are no pieces of the text, such as sentinels; `nll_piece` leaves them out.
    """

    scales: ClassVar[Mapping[str, str]] = {"nll_token": A_TOKEN}
    curves: ClassVar[tuple[str, ...]] = ("nll_token",)
    output_nll = "nll_token"

    def __init__(self, settings: PretrainingSettings, inputs: Inputs, unscored: tuple[int, ...] = (), **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        self.unscored = unscored

    def make_variables(self) -> None:
        ids = tf.fill([1, 16], self.inputs_.unknown_id)
        batch = dict.fromkeys(("ids", "target_ids", "labels"), ids) | {"example_rows": tf.range(1), "example_mask": tf.ones([1])}
        batch |= dict.fromkeys(("segments", "places", "target_segments"), tf.zeros_like(ids))
        self.losses(batch, tf.constant(0), Noise(0, 0, batch["example_rows"]), training=True)

    def labels(self, batch: Batch) -> tf.Tensor:
        return batch["labels"]

    def counts(self, batch: Batch) -> dict[str, tf.Tensor]:
        return super().counts(batch) | {"pieces": tf.reduce_sum(self._piece_weights(batch))}

    def states(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        """Computes the states [B, L, D] from which `labels` are predicted."""
        raise NotImplementedError

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        states = self.states(batch, noise if training else None)
        total, _ = self.tokens.cross_entropy(states, batch["labels"], self.label_weights(batch), training=training)
        sums = {"nll": Sum(total), "nll_token": Sum(total, "tokens")}
        if training:
            return sums
        if self.unscored:
            total, _ = self.tokens.cross_entropy(states, batch["labels"], self._piece_weights(batch), training=False)
        return sums | {"nll_piece": Sum(total, "pieces")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        return {"nll_token": 1.0}

    def terms(self, sums: dict[str, Sum], counts: dict[str, tf.Tensor], step: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Computes the one term of the objective, in nats a predicted piece: unlike other systems', whose texts have a row each."""
        return {"nll_token": mean(sums["nll_token"], counts)}

    def progress(self, means: Mapping[str, float]) -> str:
        return f"{means['nll_piece']:.3f} nats a piece" if "nll_piece" in means else ""

    def _piece_weights(self, batch: Batch) -> tf.Tensor:
        """Returns 1 for labels that are pieces of a text, [B, L] float32, else 0."""
        weights = self.label_weights(batch)
        for label in self.unscored:
            weights *= tf.cast(batch["labels"] != label, tf.float32)
        return weights


class MaskedLanguageModel(Pretraining):
    """BERT with its head for masked pieces (Devlin et al. 2019): dense, GELU, normalisation, and the embeddings once more."""

    def __init__(self, settings: PretrainingSettings, inputs: Inputs, unscored: tuple[int, ...] = (), **kwargs) -> None:
        super().__init__(settings, inputs, unscored, **kwargs)
        shape, initializer = inputs.shape, keras.initializers.TruncatedNormal(stddev=0.02)
        self.encoder = TextEncoder(shape, inputs.pad_id, settings.dropout, settings.dropout, name="encoder")
        self.encoder.check_length(settings.row_length)
        self.transform = keras.layers.Dense(shape.width, kernel_initializer=initializer, name="transform")
        self.transform_norm = keras.layers.LayerNormalization(epsilon=shape.epsilon, name="transform_norm")
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, self._table, name="tokens")

    def _table(self) -> tf.Variable:
        return self.encoder.embedding_table

    def states(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        states = self.encoder(batch["ids"], noise, texts=(batch["segments"], batch["places"]))
        return self.transform_norm(gelu(self.transform(states)))


class SpanCorruption(Pretraining, T5Body):
    """T5 that writes what was hidden (Raffel et al. 2020)."""

    def states(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        source, target = batch["segments"], batch["target_segments"]
        seen = _same(target, target) * tf.linalg.band_part(tf.ones([target.shape[1]] * 2), -1, 0)
        with self.dropout.on(noise):
            memory = self.t5.encoder(
                None, inputs_embeds=self.t5.shared(batch["ids"]), attention_mask=_same(source, source), return_dict=False
            )[0]
            states = self.t5.decoder(
                None, inputs_embeds=self.tokens.embed(batch["target_ids"]), attention_mask=seen, encoder_hidden_states=memory,
                encoder_attention_mask=_same(target, source), use_cache=False, return_dict=False,
            )[0]  # fmt: skip
        return self.scaled(states)


class CausalLanguageModel(Pretraining, GPT2Body):
    """GPT-2 (Radford et al. 2019). The library's model can't keep the texts of a row apart, so its blocks are called one by one."""

    @property
    def positions(self) -> int:
        return self.settings.row_length

    def states(self, batch: Batch, noise: Noise | None) -> tf.Tensor:
        segments, body = batch["segments"], self.gpt2.transformer
        bias = (1.0 - _same(segments, segments))[:, None] * MASKED  # --> [B, 1, L, L]; each block masks what comes later
        with self.dropout.on(noise):
            states = body.drop(self.tokens.embed(batch["ids"]) + body.wpe(batch["places"]))
            for block in body.h:
                states = block(states, None, bias, None, None, None, False, False)[0]
        return body.ln_f(states)


SYSTEMS: dict[str, type[Pretraining]] = {"mlm": MaskedLanguageModel, "span": SpanCorruption, "causal": CausalLanguageModel}


def _same(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Says which places are of one text: segments [B, L] and [B, M] -> [B, L, M] float32. Padding, segment 0, looks at itself."""
    return tf.cast(queries[:, :, None] == keys[:, None, :], tf.float32)
