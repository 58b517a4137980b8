"""A Transformer decoder (Vaswani et al. 2017) that trains on whole sequences and decodes step by step from cached keys and values.

Layers normalise their input (Xiong et al. 2020), which trains stably without tuning the warm-up to the depth. The feed-forward
network is Vaswani's, with ReLU.

In decoding, the rows of a tensor are hypotheses: row b * beams + k is beam k of text b. The keys and values of a text's beams lie side by
side and stay where they are written, because moving them whenever hypotheses change places would cost more than the attention. Which of
them belong to a hypothesis is said by `writers` [rows, T]: for each position so far the beam that wrote it.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.shapes import dimension

MASKED = -1e4  # added to scores that must not count; finite in float16 too
UNMOVED = "unmoved"  # the key of a decoding cache whose tensors a search does not move when hypotheses change places


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
        """Separates the heads: [B, L, D] -> [B, heads, L, D / heads]."""
        batch, length = dimension(values, 0), dimension(values, 1)
        return tf.transpose(tf.reshape(values, [batch, length, self.heads, self.width // self.heads]), [0, 2, 1, 3])

    def remember(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the keys and values of a memory [B, M, D]: [B, heads, M, D / heads] each."""
        keys, values = tf.split(self.keys_values(memory), 2, -1)
        return self.split(keys), self.split(values)

    def call(self, inputs: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Attends from each of L inputs. Returns [B, L, D].

        Args:
          inputs: [B, L, D]. keys, values: [B, heads, M, D / heads].
          bias: broadcasts to [B, heads, L, M]; 0 where an input may look, `MASKED` where not.
        """
        return self.out(self.look(self.query(inputs), keys, values, bias, noise))

    def look(self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Attends from projected queries [B, L, D]; `call` is this between two projections. Returns [B, L, D]."""
        scores = tf.matmul(self.split(queries) * (self.width // self.heads) ** -0.5, keys, transpose_b=True)  # --> [B, heads, L, M]
        weights = dropout(tf.nn.softmax(scores + tf.cast(bias, scores.dtype)), self.dropout, noise)
        found = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])  # --> [B, L, heads, D / heads]
        return tf.reshape(found, tf.shape(queries))

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in ("width", "heads", "dropout", "identity")}


class DecoderBlock(keras.layers.Layer):
    """Self-attention, attention to a memory, and a feed-forward network, each with a residual connection around it.

    Args:
      identity: whether the attention to the memory starts as the identity (`Attention`).
    """

    def __init__(self, width: int, heads: int, intermediate: int, dropout: float = 0.1, identity: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.intermediate, self.dropout, self.identity = width, heads, intermediate, dropout, identity
        self.itself = Attention(width, heads, dropout, name="itself")
        self.memory = Attention(width, heads, dropout, identity, name="memory")
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}") for i in range(3)]
        self.inner = keras.layers.Dense(intermediate, "relu", name="inner")
        self.outer = keras.layers.Dense(width, name="outer")

    def call(self, inputs, memory, causal: tf.Tensor, memory_bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Computes new states [B, L, D] from states [B, L, D].

        Args:
          memory: keys and values (`Attention.remember`) of `self.memory`. causal, memory_bias: as the bias of `Attention.call`.
        """
        normed = self.norms[0](inputs)
        states = inputs + dropout(self.itself(normed, *self.itself.remember(normed), causal, noise), self.dropout, noise)
        states += dropout(self.memory(self.norms[1](states), *memory, memory_bias, noise), self.dropout, noise)
        return states + dropout(self.outer(self.inner(self.norms[2](states))), self.dropout, noise)

    def step(self, inputs, places: tf.Tensor, past, past_bias: tf.Tensor, memory, memory_bias: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """Computes one position of every row. The beams of a text are queries side by side into one memory and one past.

        Args:
          inputs: [rows, D], rows = B * beams.
          places: [B, beams, heads, 3] int32, where in `past` the keys and values of this position go.
          past: keys, values [B, heads, T * beams, D / heads] of the positions so far.
          past_bias: [B, 1, beams, T * beams], 0 where a beam's own history is, this position included, else `MASKED`.
          memory: keys, values [B, heads, M, D / heads]. memory_bias: [B, 1, 1, M].

        Returns:
          [rows, D], and the keys and values with this position's among them.
        """
        batch, beams = dimension(places, 0), dimension(places, 1)

        def attend(attention: Attention, normed: tf.Tensor, keys_values: tuple, bias: tf.Tensor) -> tf.Tensor:
            # The dense layers see [rows, D], which TensorFlow multiplies and adds in one go, unlike [B, beams, D].
            queries = tf.reshape(attention.query(normed), [batch, beams, self.width])
            return attention.out(tf.reshape(attention.look(queries, *keys_values, bias), tf.shape(normed)))

        normed = _normed(self.norms[0], inputs)
        new = tf.split(tf.reshape(self.itself.keys_values(normed), [batch, beams, 2 * self.heads, -1]), 2, 2)
        past = tuple(tf.tensor_scatter_nd_update(old, places, value) for old, value in zip(past, new, strict=True))
        states = inputs + attend(self.itself, normed, past, past_bias)
        states += attend(self.memory, _normed(self.norms[1], states), memory, memory_bias)
        return states + self.outer(self.inner(_normed(self.norms[2], states))), past

    def get_config(self) -> dict:
        names = ("width", "heads", "intermediate", "dropout", "identity")
        return super().get_config() | {name: getattr(self, name) for name in names}


class TransformerDecoder(keras.layers.Layer):
    """Blocks over embedded tokens with learned positions, and a normalisation before and behind them.

    Args:
      layers: how many blocks. width, heads, intermediate, dropout, identity: as of `DecoderBlock`.
      positions: the most tokens of an output.
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
        """Computes the states of whole targets (teacher forcing).

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
        """Computes each block's keys and values of a memory [B, M, D]."""
        memory = tf.cast(memory, self.compute_dtype)
        return [block.memory.remember(memory) for block in self.blocks]

    def start(self, memory: tf.Tensor, memory_mask: tf.Tensor, rows: int | tf.Tensor, length: int) -> tuple[dict, dict]:
        """Makes what decoding keeps.

        Args:
          memory: [B, M, D]. memory_mask: [B, M] bool. rows: hypotheses, B * beams. length: T, the positions that there is space for.

        Returns:
          The cache, which changes from step to step: `writers` [rows, T] (-1: not written yet), and under `UNMOVED` the empty keys and
          values of each stream, block by block. What stays fixed: each stream's `memory` (keys and values of each block) and `mask`.
          Streams are consecutive parts of the batch (`_stream_sizes`).
        """
        batch = dimension(memory)
        sizes, slots = _stream_sizes(batch), length * (rows // batch)
        empty = [[self._empty(texts, slots) for _ in self.blocks] for texts in sizes]
        blocks = [zip(*(_in_streams(part, sizes) for part in keys_values), strict=True) for keys_values in self.remember(memory)]
        memories = [list(of_blocks) for of_blocks in zip(*blocks, strict=True)]  # --> by stream, then by block
        cache = {"writers": tf.fill([rows, length], -1), UNMOVED: empty}
        return cache, {"memory": memories, "mask": _in_streams(memory_mask, sizes)}

    def _empty(self, texts: int | tf.Tensor, slots: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes empty keys and values, [texts, heads, slots, D / heads]."""
        return (tf.zeros([texts, self.heads, slots, self.width // self.heads], self.compute_dtype),) * 2

    def step(self, embedded: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """Computes one position of every hypothesis: [rows, D] embeddings of the last tokens -> [rows, D] states, new cache."""
        rows, length = dimension(cache["writers"], 0), dimension(cache["writers"], 1)
        sizes = [dimension(mask) for mask in fixed["mask"]]
        batch = sum(sizes)
        beams = rows // batch
        writer = tf.tile(tf.range(beams), [batch])[:, None]  # --> [rows, 1]: at this position every beam writes its own
        writers = tf.where(tf.range(length) == position, writer, cache["writers"])
        past_bias = tf.one_hot(writers, beams, 0.0, MASKED)  # --> [rows, T, beams]: 0 at the beam that wrote the position
        past_bias = tf.reshape(past_bias, [batch, 1, beams, length * beams])
        inputs = _normed(self.first_norm, embedded + tf.cast(tf.gather(self.place, position), embedded.dtype))

        states, kept, first = [], [], 0  # of each stream; its first text
        for texts, past, memory, mask in zip(sizes, cache[UNMOVED], fixed["memory"], fixed["mask"], strict=True):
            last = first + texts
            places = self._places(texts, beams, position)
            found = self._stream(inputs[first * beams : last * beams], places, past, past_bias[first:last], memory, _bias(mask))
            states.append(found[0])
            kept.append(found[1])
            first = last
        return _normed(self.last_norm, tf.concat(states, 0)), {"writers": writers, UNMOVED: kept}

    def _places(self, texts: int | tf.Tensor, beams: int | tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Says where a position's keys and values go: [texts, beams, heads, 3], the text, the head, and the slot of position and beam."""
        text, beam, head = tf.meshgrid(tf.range(texts), tf.range(beams), tf.range(self.heads), indexing="ij")
        return tf.stack([text, head, position * beams + beam], -1)

    def _stream(self, states, places, past, past_bias, memory, memory_bias) -> tuple[tf.Tensor, list]:
        """Takes one stream's rows through all blocks (`DecoderBlock.step`). Returns their states and each block's keys and values."""
        kept = []
        for block, old, keys_values in zip(self.blocks, past, memory, strict=True):
            states, new = block.step(states, places, old, past_bias, keys_values, memory_bias)
            kept.append(new)
        return states, kept

    def get_config(self) -> dict:
        names = ("layers", "width", "heads", "intermediate", "positions", "dropout", "identity")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _stream_sizes(batch: int | tf.Tensor) -> list[int | tf.Tensor]:
    """Divides B texts into streams that are decoded beside each other; returns how many texts each has.

    On a CPU, products as narrow as a decoder's run on one thread. Two halves of the batch, each on its own way through the blocks, keep two
    threads busy. A GPU needs no such help, and where the number of texts is not known while tracing there is one stream.
    """
    if not isinstance(batch, int) or batch < 2 or tf.config.list_logical_devices("GPU"):
        return [batch]
    return [batch - batch // 2, batch // 2]


def _in_streams(tensor: tf.Tensor, sizes: list[int | tf.Tensor]) -> list[tf.Tensor]:
    """Divides a tensor [B, ...] among streams."""
    return tf.split(tensor, sizes) if len(sizes) > 1 else [tensor]


def _normed(norm: keras.layers.LayerNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """Computes what `norm` would for [rows, D]: Keras insists on the rank that it was built with, and takes twice as many operations."""
    values = tf.cast(inputs, norm.dtype)
    values -= tf.reduce_mean(values, -1, keepdims=True)
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(values), -1, keepdims=True) + norm.epsilon)
    return tf.cast(values * scale * norm.gamma + norm.beta, inputs.dtype)


def _bias(mask: tf.Tensor) -> tf.Tensor:
    """Turns a mask [B, M] into what is added to attention scores: [B, 1, 1, M], 0 or `MASKED`."""
    return tf.where(mask, 0.0, MASKED)[:, None, None, :]


def _identity_twice(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """Initialises [D, 2 D] so that keys and values are both what comes in."""
    return tf.tile(tf.eye(shape[0], dtype=dtype), [1, 2])
