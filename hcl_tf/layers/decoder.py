"""A Transformer decoder (Vaswani et al. 2017) that trains on whole sequences and decodes step by step from cached keys and values.

Layers normalise their input (Xiong et al. 2020), which trains stably without tuning the warm-up to the depth. The feed-forward
network is Vaswani's, with ReLU.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout

MASKED = -1e4  # added to scores that must not count; finite in float16 too


class Attention(keras.layers.Layer):
    """Multi-head attention whose keys and values are computed apart from its use, so that decoding can keep them.

    With `identity` all projections start as the identity: an input looks at what resembles it and passes it on unchanged. Where
    the output layer is tied with the embeddings of what is attended to, a decoder then starts by copying its source, which
    a small corpus does not teach it.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.1, identity: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.dropout, self.identity = width, heads, dropout, identity
        one, two = ("identity", _identity_twice) if identity else ("glorot_uniform",) * 2
        self.query = keras.layers.Dense(width, kernel_initializer=one, name="query")
        self.keys_values = keras.layers.Dense(2 * width, kernel_initializer=two, name="keys_values")
        self.out = keras.layers.Dense(width, kernel_initializer=one, name="out")

    def split(self, values: tf.Tensor) -> tf.Tensor:
        """[B, L, D] -> [B, heads, L, D / heads]."""
        batch, length = (n if n is not None else tf.shape(values)[axis] for axis, n in enumerate(values.shape[:2]))
        return tf.transpose(tf.reshape(values, [batch, length, self.heads, self.width // self.heads]), [0, 2, 1, 3])

    def remember(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, M, D] -> keys, values [B, heads, M, D / heads]."""
        keys, values = tf.split(self.keys_values(memory), 2, -1)
        return self.split(keys), self.split(values)

    def call(self, inputs: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Attends from each of L inputs.

        Args:
          inputs: [B, L, D]. keys, values: [B, heads, M, D / heads].
          bias: broadcasts to [B, heads, L, M]; 0 where an input may look, `MASKED` where not.
        """
        queries = self.split(self.query(inputs)) * (self.width // self.heads) ** -0.5
        scores = tf.matmul(queries, keys, transpose_b=True) + tf.cast(bias, queries.dtype)
        weights = dropout(tf.nn.softmax(scores), self.dropout, noise)
        found = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])  # [B, L, heads, D / heads]
        return self.out(tf.reshape(found, tf.shape(inputs)))

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in ("width", "heads", "dropout", "identity")}


class DecoderBlock(keras.layers.Layer):
    """Self-attention, attention to a memory (`identity`: of that), feed-forward network; each around a residual connection."""

    def __init__(self, width: int, heads: int, intermediate: int, dropout: float = 0.1, identity: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.intermediate, self.dropout, self.identity = width, heads, intermediate, dropout, identity
        self.itself = Attention(width, heads, dropout, name="itself")
        self.memory = Attention(width, heads, dropout, identity, name="memory")
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}") for i in range(3)]
        self.inner = keras.layers.Dense(intermediate, "relu", name="inner")
        self.outer = keras.layers.Dense(width, name="outer")

    def call(self, inputs, memory, causal: tf.Tensor, memory_bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """[B, L, D] -> [B, L, D]; `memory` is the keys and values of `self.memory.remember`."""
        normed = self.norms[0](inputs)
        states = inputs + dropout(self.itself(normed, *self.itself.remember(normed), causal, noise), self.dropout, noise)
        states += dropout(self.memory(self.norms[1](states), *memory, memory_bias, noise), self.dropout, noise)
        return states + dropout(self.outer(self.inner(self.norms[2](states))), self.dropout, noise)

    def step(self, inputs, position: tf.Tensor, past, memory, memory_bias: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """One position of every row.

        Args:
          inputs: [rows, 1, D], rows = B * beams. position: scalar, how many positions came before.
          past: keys, values [rows, heads, T, D / heads] of the positions so far.
          memory: keys, values with leading dimension B; memory_bias: [B, 1, 1, M]. The beams of a text look into one memory.

        Returns:
          [rows, 1, D] and the keys and values with this position's own.
        """
        normed = self.norms[0](inputs)
        rows, batch = (tensor.shape[0] or tf.shape(tensor)[0] for tensor in (inputs, memory[0]))
        here = tf.stack(tf.meshgrid(tf.range(rows), tf.range(self.heads), position, indexing="ij"), -1)  # [rows, heads, 1, 3]
        past = tuple(tf.tensor_scatter_nd_update(old, here, new) for new, old in zip(self.itself.remember(normed), past, strict=True))
        states = inputs + self.itself(normed, *past, tf.where(tf.range(past[0].shape[2]) <= position, 0.0, MASKED))
        beams = tf.reshape(self.norms[1](states), [batch, rows // batch, self.width])
        states += tf.reshape(self.memory(beams, *memory, memory_bias), [rows, 1, self.width])
        return states + self.outer(self.inner(self.norms[2](states))), past

    def get_config(self) -> dict:
        names = ("width", "heads", "intermediate", "dropout", "identity")
        return super().get_config() | {name: getattr(self, name) for name in names}


class TransformerDecoder(keras.layers.Layer):
    """Blocks over embedded tokens with learned positions, and a last normalisation.

    Args:
      layers, width, heads, intermediate, dropout, identity: of the blocks. positions: most tokens of an output.
    """

    def __init__(
        self, layers: int, width: int, heads: int, intermediate: int, positions: int, dropout: float = 0.1, identity: bool = False, **kwargs
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.layers, self.width, self.heads, self.intermediate = layers, width, heads, intermediate
        self.positions, self.dropout, self.identity = positions, dropout, identity
        self.blocks = [DecoderBlock(width, heads, intermediate, dropout, identity, name=f"block_{i}") for i in range(layers)]
        self.place = self.add_weight("positions", (positions, width), initializer=keras.initializers.TruncatedNormal(stddev=0.02))
        self.first_norm, self.last_norm = (keras.layers.LayerNormalization(epsilon=1e-6, name=f"{end}_norm") for end in ("first", "last"))

    def call(self, embedded: tf.Tensor, memory: tf.Tensor, memory_mask: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Teacher forcing.

        Args:
          embedded: [B, T, D] embeddings of [CLS] and all tokens but the last. memory: [B, M, D]. memory_mask: [B, M] bool.

        Returns:
          [B, T, D], from which the token after each position is predicted.
        """
        length = embedded.shape[1]
        states = dropout(self.first_norm(embedded + self.place[:length]), self.dropout, noise)
        causal = tf.where(tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0), 0.0, MASKED)
        for block, keys_values in zip(self.blocks, self.remember(memory), strict=True):
            states = block(states, keys_values, causal, _bias(memory_mask), noise)
        return self.last_norm(states)

    def remember(self, memory: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Each block's keys and values of the memory."""
        memory = tf.cast(memory, self.compute_dtype)
        return [block.memory.remember(memory) for block in self.blocks]

    def start(self, memory: tf.Tensor, memory_mask: tf.Tensor, rows: int | tf.Tensor, length: int) -> tuple[list, dict]:
        """What decoding keeps: an empty cache for `length` positions of `rows` hypotheses, and the memory's keys and values."""
        empty = tf.zeros([rows, self.heads, length, self.width // self.heads], self.compute_dtype)
        return [(empty, empty) for _ in self.blocks], {"memory": self.remember(memory), "mask": memory_mask}

    def step(self, embedded: tf.Tensor, position: tf.Tensor, cache: list, fixed: dict) -> tuple[tf.Tensor, list]:
        """[rows, D] embeddings of the last tokens -> [rows, D] states, new cache."""
        states = self.first_norm((embedded + tf.cast(tf.gather(self.place, position), embedded.dtype))[:, None])
        bias, kept = _bias(fixed["mask"]), []
        for block, past, memory in zip(self.blocks, cache, fixed["memory"], strict=True):
            states, past = block.step(states, position, past, memory, bias)
            kept.append(past)
        return self.last_norm(states)[:, 0], kept

    def get_config(self) -> dict:
        names = ("layers", "width", "heads", "intermediate", "positions", "dropout", "identity")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _bias(mask: tf.Tensor) -> tf.Tensor:
    """[B, M] bool -> [B, 1, 1, M] to add to attention scores."""
    return tf.where(mask, 0.0, MASKED)[:, None, None, :]


def _identity_twice(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """[D, 2 D]: keys and values both as they come."""
    return tf.tile(tf.eye(shape[0], dtype=dtype), [1, 2])
