"""What systems on transformers' T5 share: the library's model with our noise, tied embeddings, and published weights."""

import tensorflow as tf
from transformers import T5Config, TFT5ForConditionalGeneration

from hcl_tf.errors import UserError
from hcl_tf.layers import library_weights
from hcl_tf.layers.library_dropout import replace_dropout
from hcl_tf.layers.library_weights import PublishedModel
from hcl_tf.layers.token_table import TokenTable
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings


class T5Body(System):
    """Base of systems with a T5. The library's layers do all the arithmetic; the output layer, tied with the embeddings, is ours."""

    def __init__(self, settings: Settings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        if settings.mixed_precision:
            raise UserError(f"--mixed_precision: --model={settings.model} masks with -1e9, which float16 can't hold; drop the flag")
        self.t5 = TFT5ForConditionalGeneration(self._config(), name="t5")
        self.t5.build_in_name_scope()
        self.dropout = replace_dropout(self.t5)
        table = self._embedding_table
        self.tokens = TokenTable(inputs.output_ids, inputs.vocabulary, inputs.unknown_id, table, biased=False, name="tokens")

    def _embedding_table(self) -> tf.Variable:
        return self.t5.shared.embeddings

    @classmethod
    def read_published(cls, source: str) -> PublishedModel:
        published = library_weights.load(source, "t5")
        if not published.config.get("tie_word_embeddings", True):
            raise UserError(f"--pretrained={source}: its output layer is not tied with its embeddings (T5 v1.1); give T5 v1.0")
        return published

    def learning_rates(self) -> dict[str, tuple[list[tf.Variable], float]]:
        """Gives embeddings, relative positions and scales a rate of their own, `--embedding_rate` times that of the matrices.

        Pieces' embeddings and the scales of normalisations begin at 1, where matrices have 0.06 and less (the library's, after the authors'
        code), and published weights were made with steps in proportion to the weights (Adafactor; Shazeer and Stern 2018). Adam's steps are
        as long everywhere, too short for these. A relative position is one number a head, which is added to logits.
        """
        if self.settings.embedding_rate == 1.0:
            return super().learning_rates()
        large = [variable for variable in self.t5.trainable_variables if "/kernel" not in variable.name]
        known, rate = {id(variable) for variable in large}, self.settings.learning_rate
        rest = [variable for variable in self.trainable_variables if id(variable) not in known]
        return {"rest": (rest, rate), "embeddings": (large, rate * self.settings.embedding_rate)}

    def load_published(self, published: PublishedModel) -> list[str]:
        return library_weights.assign(self.t5, published)

    def _config(self) -> T5Config:
        s, shape = self.settings, self.inputs_.shape
        if self.inputs_.library:
            return T5Config.from_dict({**self.inputs_.library, "dropout_rate": s.dropout})
        return T5Config(
            vocab_size=self.inputs_.vocabulary, d_model=shape.width, d_kv=shape.width // shape.heads, d_ff=shape.intermediate,
            num_layers=shape.layers, num_decoder_layers=s.decoder_layers, num_heads=shape.heads, dropout_rate=s.dropout,
        )  # fmt: skip

    def scaled(self, states: tf.Tensor) -> tf.Tensor:
        """Scales the decoder's states, as T5 does where the output layer is tied with the embeddings."""
        return states * self.t5.config.d_model**-0.5
