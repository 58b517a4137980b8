"""A Transformer decoder (Vaswani et al. 2017) that trains on whole sequences and decodes step by step from cached keys and values.

Layers normalise their input (Xiong et al. 2020), which trains stably without tuning the warm-up to the depth. The feed-forward
network is Vaswani's, with ReLU.

In decoding, the rows of a tensor are hypotheses: row b * beams + k is beam k of text b. The keys and values of a text's beams lie side by
side and stay where they are written, because moving them whenever hypotheses change places would cost more than the attention. Which of
them belong to a hypothesis is said by `writers` [rows, T]: for each position so far the beam that wrote it.
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.attention import MASKED, attend, bias_of
from hcl_tf.layers.elementwise import LayerNorm
from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.packing import Packing
from hcl_tf.layers.shapes import dimension

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

    def remember(self, rows: tf.Tensor, packing: Packing) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the keys and values of a memory's rows [N, D]: [B, heads, m, D / heads] each, m the longest of the batch."""
        keys, values = tf.unstack(packing.heads(self.keys_values(rows), 2, self.heads))
        return keys, values

    def call(
        self, rows: tf.Tensor, packing: Packing, memory: tuple[tf.Tensor, tf.Tensor], length: int, bias: tf.Tensor,
        noise: Noise | None = None,
    ) -> tf.Tensor:  # fmt: skip
        """Attends from each of the rows [N, D] of `packing`. Returns [N, D].

        Args:
          memory: keys and values (`remember`), [B, heads, m, D / heads] each. length: M, what m is at most (`attend`).
          bias: broadcasts to [B, heads, l, m]; 0 where an input may look, `MASKED` where not.
        """
        queries = tf.squeeze(packing.heads(self.query(rows), 1, self.heads), 0)
        found = attend(queries, *memory, bias, self.dropout, noise, (packing.length, length))
        return self.out(packing.rows_of_heads(tf.expand_dims(found, 0)))

    def look(self, rows: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Attends from one position of every hypothesis, rows [B * beams, D], as `call` does; all beams of a text into one memory."""
        # The dense layers see rows, which TensorFlow multiplies and adds in one go, unlike [B, beams, D].
        shape = [dimension(keys), -1, self.heads, self.width // self.heads]
        queries = tf.transpose(tf.reshape(self.query(rows), shape), [0, 2, 1, 3])
        found = tf.transpose(attend(queries, keys, values, bias), [0, 2, 1, 3])  # --> [B, beams, heads, D / heads]
        return self.out(tf.reshape(found, tf.shape(rows)))

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in ("width", "heads", "dropout", "identity")}


class Memory(NamedTuple):
    """What a block attends to beside its own texts.

    Attributes:
      keys_values: [B, heads, m, D / heads] each (`Attention.remember`). bias: [B, 1, 1, m]. length: M, what m is at most.
    """

    keys_values: tuple[tf.Tensor, tf.Tensor]
    bias: tf.Tensor
    length: int


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
        self.norms = [LayerNorm(epsilon=1e-6, name=f"norm_{i}") for i in range(3)]
        self.inner = keras.layers.Dense(intermediate, "relu", name="inner")
        self.outer = keras.layers.Dense(width, name="outer")

    def call(self, rows: tf.Tensor, packing: Packing, causal: tf.Tensor, memory: "Memory", noise: Noise | None = None) -> tf.Tensor:
        """Computes new states of the rows [N, D] of `packing`. Returns [N, D].

        Args:
          causal: [l, l], as the bias of `Attention.call`. memory: what `self.memory` attends to.
        """
        normed = self.norms[0](rows)
        found = self.itself(normed, packing, self.itself.remember(normed, packing), packing.length, causal, noise)
        rows += dropout(found, self.dropout, noise, packing)
        found = self.memory(self.norms[1](rows), packing, memory.keys_values, memory.length, memory.bias, noise)
        rows += dropout(found, self.dropout, noise, packing)
        return rows + dropout(self.outer(self.inner(self.norms[2](rows))), self.dropout, noise, packing)

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
        normed = self.norms[0](inputs)
        new = tf.split(tf.reshape(self.itself.keys_values(normed), [batch, beams, 2 * self.heads, -1]), 2, 2)
        past = tuple(tf.tensor_scatter_nd_update(old, places, value) for old, value in zip(past, new, strict=True))
        states = inputs + self.itself.look(normed, *past, past_bias)
        states += self.memory.look(self.norms[1](states), *memory, memory_bias)
        return states + self.outer(self.inner(self.norms[2](states))), past

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
        self.first_norm, self.last_norm = (LayerNorm(epsilon=1e-6, name=f"{end}_norm") for end in ("first", "last"))

    def call(
        self, embedded: tf.Tensor, memory: tf.Tensor, memory_mask: tf.Tensor, noise: Noise | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the states of whole targets (teacher forcing).

        Args:
          embedded: [B, T, D] embeddings of [CLS] and all tokens but the last. memory: [B, M, D]. memory_mask: [B, M] bool.
          noise: of the B texts, for dropout; None: no dropout.
          mask: [B, T] bool, the positions whose states are wanted, with all that precede them; None: all.

        Returns:
          [B, T, D], from which the token after each position is predicted; what stands at other positions means nothing.
        """
        batch, length = dimension(embedded), embedded.shape[1]
        packing = Packing(tf.fill([batch, length], True) if mask is None else mask)
        places = tf.cast(tf.gather(self.place, packing.places), embedded.dtype)
        rows = dropout(self.first_norm(packing.rows(embedded) + places), self.dropout, noise, packing)
        causal = tf.where(tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0), 0.0, MASKED)
        longest = dimension(packing.mask, 1)
        for block, remembered in zip(self.blocks, self.remember(memory, memory_mask), strict=True):
            rows = block(rows, packing, causal[:longest, :longest], remembered, noise)
        return packing.texts_of(self.last_norm(rows))

    def remember(self, memory: tf.Tensor, memory_mask: tf.Tensor) -> list[Memory]:
        """Computes what each block attends to of a memory [B, M, D] with its mask [B, M]."""
        packing = Packing(memory_mask)
        rows, bias = packing.rows(tf.cast(memory, self.compute_dtype)), bias_of(packing.mask)
        return [Memory(block.memory.remember(rows, packing), bias, packing.length) for block in self.blocks]

    def start(self, memory: tf.Tensor, memory_mask: tf.Tensor, rows: int | tf.Tensor, length: int) -> tuple[dict, dict]:
        """Makes what decoding keeps.

        Args:
          memory: [B, M, D]. memory_mask: [B, M] bool. rows: hypotheses, B * beams. length: T, the positions that there is space for.

        Returns:
          The cache, which changes from step to step: `writers` [rows, T] (-1: not written yet), and under `UNMOVED` the empty keys and
          values of each stream, block by block. What stays fixed: each stream's `memory` (keys and values of each block) and `bias`.
          Streams are consecutive parts of the batch (`stream_sizes`).
        """
        batch = dimension(memory)
        sizes, slots = stream_sizes(batch), length * (rows // batch)
        empty = [[self._empty(texts, slots) for _ in self.blocks] for texts in sizes]
        remembered = self.remember(memory, memory_mask)
        blocks = [zip(*(_in_streams(part, sizes) for part in block.keys_values), strict=True) for block in remembered]
        memories = [list(of_blocks) for of_blocks in zip(*blocks, strict=True)]  # --> by stream, then by block
        cache = {"writers": tf.fill([rows, length], -1), UNMOVED: empty}
        return cache, {"memory": memories, "bias": _in_streams(remembered[0].bias, sizes)}

    def _empty(self, texts: int | tf.Tensor, slots: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes empty keys and values, [texts, heads, slots, D / heads]."""
        return (tf.zeros([texts, self.heads, slots, self.width // self.heads], self.compute_dtype),) * 2

    def step(self, embedded: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """Computes one position of every hypothesis: [rows, D] embeddings of the last tokens -> [rows, D] states, new cache."""
        rows, length = dimension(cache["writers"], 0), dimension(cache["writers"], 1)
        sizes = [dimension(bias) for bias in fixed["bias"]]
        batch = sum(sizes)
        beams = rows // batch
        writer = tf.tile(tf.range(beams), [batch])[:, None]  # --> [rows, 1]: at this position every beam writes its own
        writers = tf.where(tf.range(length) == position, writer, cache["writers"])
        past_bias = tf.one_hot(writers, beams, 0.0, MASKED)  # --> [rows, T, beams]: 0 at the beam that wrote the position
        past_bias = tf.reshape(past_bias, [batch, 1, beams, length * beams])
        inputs = self.first_norm(embedded + tf.cast(tf.gather(self.place, position), embedded.dtype))

        states, kept, first = [], [], 0  # of each stream; its first text
        for texts, past, memory, bias in zip(sizes, cache[UNMOVED], fixed["memory"], fixed["bias"], strict=True):
            last = first + texts
            places = self._places(texts, beams, position)
            found = self._stream(inputs[first * beams : last * beams], places, past, past_bias[first:last], memory, bias)
            states.append(found[0])
            kept.append(found[1])
            first = last
        return self.last_norm(tf.concat(states, 0)), {"writers": writers, UNMOVED: kept}

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


def stream_sizes(batch: int | tf.Tensor) -> list[int | tf.Tensor]:
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


def _identity_twice(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """Initialises [D, 2 D] so that keys and values are both what comes in."""
    return tf.tile(tf.eye(shape[0], dtype=dtype), [1, 2])
