"""Our layers as nothing but an encoder-decoder: what transformers' EncoderDecoderModel is compared with.

`bert_cvae` without keywords, the nearest of the package's systems to it, also encodes each target, for its posterior.
"""

import tensorflow as tf

from hcl_tf.layers.noise import Noise
from hcl_tf.models.base import Batch, Sum
from hcl_tf.models.hcl import HCL


class EncoderDecoder(HCL):
    """HCL's encoder, decoder and token table; its other layers are never called and so have no weights."""

    def losses(self, batch: Batch, step: tf.Tensor, noise: Noise, training: bool) -> dict[str, Sum]:
        noise = noise if training else None
        states = self.decode(batch, self.encode(batch, noise, ("source",)), {}, None, noise)
        nll, each = self.tokens.cross_entropy(states, self.labels(batch), self.label_weights(batch))
        return {"nll": Sum(nll), "nll_token": Sum(tf.reduce_sum(each), "tokens")}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, float]:
        return {"nll": 1.0}

    def memory(self, texts: dict, keywords: dict, z: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        return texts["states"], texts["mask"]

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[list, dict]:
        texts = self.encode(batch, None, ("source",))
        rows = batch["source_ids"].shape[0] * beams
        cache, fixed = self.decoder.start(*self.memory(texts, {}, None), rows, self.settings.maximum_length + 1)
        return cache, fixed | {"output": self.tokens.decoding_output()}
