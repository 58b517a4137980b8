"""A small matching model, which predicts whether a target belongs to a source: it compares their bags of words by a cosine.

It stands for the matching models of Cai et al. (2020, section 3.3), which are trained response selectors. Group-wise needs of it only an
order of pairs from -1 (does not match) to 1.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.contrast import cosine
from hcl_tf.progress import track

LEARNING_RATE = 3e-3


class Matching(keras.layers.Layer):
    """Computes logit(x, y) = a cos(M e(x), e(y)) + b, where e is a sum of word vectors weighted by each word's importance.

    M starts as the identity and the importance as the inverse document frequency, so that untrained the model counts shared rare words.

    Args:
      vocabulary: V. ignored: ids that are not words (padding, [CLS], [SEP]). width: of the word vectors.
    """

    def __init__(self, vocabulary: int, ignored: tuple[int, ...], width: int = 64, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.vocabulary, self.ignored, self.width = vocabulary, ignored, width
        self.vectors = self.add_weight("vectors", (vocabulary, width), initializer=keras.initializers.RandomNormal(stddev=1.0))
        self.importance = self.add_weight("importance", (vocabulary,), initializer="ones")
        self.kernel = self.add_weight("kernel", (width, width), initializer="identity")
        self.scale = self.add_weight("scale", (), initializer=keras.initializers.Constant(4.0))
        self.shift = self.add_weight("shift", (), initializer="zeros")

    def text(self, ids: tf.Tensor) -> tf.Tensor:
        """Computes e of texts [B, L] ids. Returns [B, width]; zeros for a text without words."""
        weights = tf.gather(self.importance, ids) * tf.cast(self.words(ids), tf.float32)
        return tf.einsum("bl,blw->bw", weights, tf.gather(self.vectors, ids))

    def words(self, ids: tf.Tensor) -> tf.Tensor:
        """Says which ids [B, L] are words. Returns [B, L] bool."""
        return ~tf.reduce_any(ids[..., None] == tf.constant(self.ignored), -1)

    def logits(self, source_ids: tf.Tensor, target_ids: tf.Tensor) -> tf.Tensor:
        """Computes the log-odds [B] of a true pair against a random one."""
        return self.scale * cosine(self.text(source_ids) @ self.kernel, self.text(target_ids)) + self.shift

    def call(self, source_ids: tf.Tensor, target_ids: tf.Tensor) -> tf.Tensor:
        """Computes matching scores s [B] of sources [B, S + 2] and targets [B, T + 2]: the odds mapped to (-1, 1)."""
        return tf.tanh(self.logits(source_ids, target_ids) / 2.0)

    def get_config(self) -> dict:
        return super().get_config() | {"vocabulary": self.vocabulary, "ignored": self.ignored, "width": self.width}


def fit(model: Matching, sources: np.ndarray, targets: np.ndarray, seed: int, steps: int, batch_size: int = 256) -> None:
    """Trains a matching model on true pairs against as many pairs of a source with another example's target.

    The result depends on the arguments and the model's weights alone, and nothing of the optimiser is kept.

    Args:
      sources: [n, S + 2] and targets: [n, T + 2] ids of the training split.
      seed: of the order and the pairs drawn. steps: how many, of `batch_size` true pairs each.
    """
    frequency = np.zeros(model.vocabulary)
    for ids in (sources, targets):
        rows = np.arange(len(ids))[:, None] * model.vocabulary + ids
        np.add.at(frequency, np.unique(rows) % model.vocabulary, 1)
    model.importance.assign(np.log(2 * len(sources) / (frequency + 1)))
    weights = [model.vectors, model.importance, model.kernel, model.scale, model.shift]
    optimizer = keras.optimizers.legacy.Adam(LEARNING_RATE)
    random, count = np.random.default_rng([seed, steps]), len(sources)
    size = min(batch_size, count)

    @tf.function(autograph=False)
    def step(source_ids: tf.Tensor, true: tf.Tensor, other: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.math.softplus(-model.logits(source_ids, true)) + tf.math.softplus(model.logits(source_ids, other))
            loss = tf.reduce_mean(loss)
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, weights))
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    for _ in track(range(steps), "fitting the matching model", unit=" steps"):
        rows = random.choice(count, size, replace=False)
        others = (rows + random.integers(1, max(count, 2), size)) % count
        step(*map(tf.constant, (sources[rows], targets[rows], targets[others])))
