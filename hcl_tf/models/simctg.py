"""SimCTG (Su et al. 2022, "A Contrastive Framework for Neural Text Generation"): the states of a text's tokens are kept apart.

    L = L_MLE + L_CL, L_CL = 1 / (n (n - 1)) sum over i, j != i of max(0, rho - s(h_i, h_i) + s(h_i, h_j))

s is the cosine, h the decoder's last states, which contrastive search compares (`--search=contrastive`).
"""

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf

from hcl_tf.layers.contrast import token_contrast
from hcl_tf.models.base import A_TOKEN, Batch, Sum
from hcl_tf.models.transformer import Transformer


class SimCTG(Transformer):
    """With `--weight_simctg=0 --search=beam` this is `transformer`, step by step."""

    scales: ClassVar[Mapping[str, str]] = {**Transformer.scales, "simctg": A_TOKEN}  # the paper's L_MLE is a mean over tokens

    def losses(self, batch: Batch, step: tf.Tensor, noise, training: bool) -> dict[str, Sum]:
        noise = noise if training else None
        texts = self.encode(batch, noise)
        states = self.teach(batch, texts["states"], texts["mask"], noise)
        contrast = token_contrast(states, self.label_weights(batch) > 0, self.settings.simctg_margin)
        return self.likelihood(batch, texts, states, training) | {"simctg": Sum(tf.reduce_sum(contrast))}

    def weights_of(self, step: tf.Tensor | None) -> dict[str, tf.Tensor | float]:
        """In validation the likelihood alone, which chooses the checkpoint."""
        return super().weights_of(step) | ({} if step is None else {"simctg": self.settings.weight_simctg})
