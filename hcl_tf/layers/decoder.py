"""A Transformer decoder (Vaswani et al. 2017) that trains on whole sequences and decodes step by step from cached keys and values.

Layers normalise their input (Xiong et al. 2020), which trains stably without tuning the warm-up to the depth. The feed-forward
network is Vaswani's, with ReLU.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.noise import Noise, dropout

MASKED = -1e4  # added to scores that must not count; finite in float16 too
UNMOVED = "unmoved"  # the key of a decoding cache under which a search leaves tensors as they are


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
        return self.out(self.look(self.query(inputs), keys, values, bias, noise))

    def look(self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """`call` between its two projections: [B, L, D] -> [B, L, D]."""
        scores = tf.matmul(self.split(queries) * (self.width // self.heads) ** -0.5, keys, transpose_b=True)
        weights = dropout(tf.nn.softmax(scores + tf.cast(bias, scores.dtype)), self.dropout, noise)
        found = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])  # [B, L, heads, D / heads]
        return tf.reshape(found, tf.shape(queries))

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

    def step(self, inputs, places: tf.Tensor, past, seen: tf.Tensor, memory, memory_bias: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """One position of every row. The beams of a text look into one memory, and each at its own history among all of theirs.

        Args:
          inputs: [rows, D], rows = B * beams.
          places: [B, beams, heads, 3] int32, where the new keys and values go in the old.
          past: keys, values [B, heads, T * beams, D / heads] of the positions so far.
          seen: [B, 1, beams, T * beams], added to the scores of `past` once this position's own are in it.
          memory: keys, values [B, heads, M, D / heads]. memory_bias: [B, 1, 1, M].

        Returns:
          [rows, D] and the keys and values with this position's own.
        """
        batch, beams = (n or tf.shape(places)[axis] for axis, n in enumerate(places.shape[:2]))

        def attend(attention: Attention, normed: tf.Tensor, keys_values: tuple, bias: tf.Tensor) -> tf.Tensor:
            # The dense layers see [rows, D], which TensorFlow multiplies and adds in one go, unlike [B, beams, D].
            queries = tf.reshape(attention.query(normed), [batch, beams, self.width])
            return attention.out(tf.reshape(attention.look(queries, *keys_values, bias), tf.shape(normed)))

        normed = _normed(self.norms[0], inputs)
        new = tf.split(tf.reshape(self.itself.keys_values(normed), [batch, beams, 2 * self.heads, -1]), 2, 2)
        past = tuple(tf.tensor_scatter_nd_update(old, places, value) for old, value in zip(past, new, strict=True))
        states = inputs + attend(self.itself, normed, past, seen)
        states += attend(self.memory, _normed(self.norms[1], states), memory, memory_bias)
        return states + self.outer(self.inner(_normed(self.norms[2], states))), past

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

    def start(self, memory: tf.Tensor, memory_mask: tf.Tensor, rows: int | tf.Tensor, length: int) -> tuple[dict, dict]:
        """What decoding keeps: an empty cache for `length` positions of `rows` hypotheses, and the memory's keys and values.

        Keys and values, the bulk of it, stay where they are written. `writers` [rows, length], which follows its hypothesis, says
        which beam wrote each position of its history (-1: none so far). The attention of a text's beams, each to its own
        history, is one product with the keys of all. Both are lists of streams (`_streams`).
        """
        batch = memory.shape[0] or tf.shape(memory)[0]
        sizes = _streams(batch)
        shape = lambda size: [size, self.heads, length * (rows // batch), self.width // self.heads]  # noqa: E731
        unmoved = [[(tf.zeros(shape(size), self.compute_dtype),) * 2 for _ in self.blocks] for size in sizes]
        split = lambda tensor: tf.split(tensor, sizes) if len(sizes) > 1 else [tensor]  # noqa: E731
        blocks = [list(zip(*map(split, keys_values), strict=True)) for keys_values in self.remember(memory)]
        memories = [list(stream) for stream in zip(*blocks, strict=True)]  # --> of each stream, each block's keys and values
        return {"writers": tf.fill([rows, length], -1), UNMOVED: unmoved}, {"memory": memories, "mask": split(memory_mask)}

    def step(self, embedded: tf.Tensor, position: tf.Tensor, cache: dict, fixed: dict) -> tuple[tf.Tensor, dict]:
        """[rows, D] embeddings of the last tokens -> [rows, D] states, new cache."""
        rows, length = (n or tf.shape(cache["writers"])[axis] for axis, n in enumerate(cache["writers"].shape))
        batch = sum(mask.shape[0] or tf.shape(mask)[0] for mask in fixed["mask"])
        beams = rows // batch
        writers = tf.where(tf.range(length) == position, tf.tile(tf.range(beams), [batch])[:, None], cache["writers"])
        seen = tf.one_hot(writers, beams, 0.0, MASKED)  # [rows, T, beams]: at each position, the beam that wrote it
        seen = tf.reshape(seen, [batch, 1, beams, length * beams])
        inputs = _normed(self.first_norm, embedded + tf.cast(tf.gather(self.place, position), embedded.dtype))

        found, kept, first = [], [], 0
        for past, memory, mask in zip(cache[UNMOVED], fixed["memory"], fixed["mask"], strict=True):
            last = first + (mask.shape[0] or tf.shape(mask)[0])
            states, past = self._stream(inputs[first * beams : last * beams], position, beams, past, seen[first:last], memory, mask)
            found.append(states)
            kept.append(past)
            first = last
        return _normed(self.last_norm, tf.concat(found, 0)), {"writers": writers, UNMOVED: kept}

    def _stream(self, states, position, beams, past, seen, memory, mask) -> tuple[tf.Tensor, list]:
        """One stream's rows through all blocks."""
        texts = mask.shape[0] or tf.shape(mask)[0]
        text, beam, head = tf.meshgrid(tf.range(texts), tf.range(beams), tf.range(self.heads), indexing="ij")
        places, kept = tf.stack([text, head, position * beams + beam], -1), []
        for block, old, keys_values in zip(self.blocks, past, memory, strict=True):
            states, new = block.step(states, places, old, seen, keys_values, _bias(mask))
            kept.append(new)
        return states, kept

    def get_config(self) -> dict:
        names = ("layers", "width", "heads", "intermediate", "positions", "dropout", "identity")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _streams(batch: int | tf.Tensor) -> list:
    """How many texts each stream of decoding has.

    On a CPU, products as narrow as a decoder's run on one thread: two halves of the batch, each on its own way through the blocks, keep two
    threads busy. Not where a GPU works, nor where the number of texts is known only later.
    """
    if not isinstance(batch, int) or batch < 2 or tf.config.list_logical_devices("GPU"):
        return [batch]
    return [batch - batch // 2, batch // 2]


def _normed(norm: keras.layers.LayerNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """What `norm` gives, for [rows, D]: Keras's insists on the rank that it was built with, and takes twice as many operations."""
    values = tf.cast(inputs, norm.dtype)
    values -= tf.reduce_mean(values, -1, keepdims=True)
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(values), -1, keepdims=True) + norm.epsilon)
    return tf.cast(values * scale * norm.gamma + norm.beta, inputs.dtype)


def _bias(mask: tf.Tensor) -> tf.Tensor:
    """[B, M] bool -> [B, 1, 1, M] to add to attention scores."""
    return tf.where(mask, 0.0, MASKED)[:, None, None, :]


def _identity_twice(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """[D, 2 D]: keys and values both as they come."""
    return tf.tile(tf.eye(shape[0], dtype=dtype), [1, 2])
