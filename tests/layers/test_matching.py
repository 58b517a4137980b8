"""The matching model: its cosine by hand, what it ignores, that fitting it is a function of its arguments."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.matching import Matching, fit

V, IGNORED = 30, (0, 1, 2)


def fresh() -> Matching:
    keras.utils.set_random_seed(5)
    return Matching(V, IGNORED, width=7)


def corpus(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sources of words 3 to 15, and as targets their translation, word by word, to 16 to 28; [CLS] 1, [SEP] 2, padding 0."""
    random = np.random.default_rng(seed)
    words = random.integers(3, 16, (count, 4))

    def frame(ids: np.ndarray) -> np.ndarray:
        ends = [np.full((count, 1), piece) for piece in (1, 2, 0, 0)]
        return np.concatenate([ends[0], ids, *ends[1:]], 1).astype(np.int32)

    return frame(words), frame(words + 13)


def test_scores_are_a_cosine_of_weighted_words():
    model, random = fresh(), np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(random.normal(0.3, 1, variable.shape))
    sources, targets = corpus(5)
    vectors, importance, kernel = model.vectors.numpy(), model.importance.numpy(), model.kernel.numpy()
    text = lambda ids: sum(importance[word] * vectors[word] for word in ids if word not in IGNORED)  # noqa: E731
    for score, source, target in zip(model(sources, targets).numpy(), sources, targets, strict=True):
        a, b = text(source) @ kernel, text(target)
        logit = float(model.scale) * a @ b / np.linalg.norm(a) / np.linalg.norm(b) + float(model.shift)
        assert score == pytest.approx(2 / (1 + np.exp(-logit)) - 1, abs=1e-5), "twice the probability, less 1"


def test_a_text_without_words_matches_nothing_in_particular():
    model = fresh()
    found = model(tf.constant([[1, 2, 0]]), tf.constant([[1, 5, 2]]))
    assert float(found[0]) == pytest.approx(np.tanh(float(model.shift) / 2), abs=1e-6)


@pytest.mark.slow
def test_it_learns_which_words_belong_together():
    """No word is shared, so only training can tell; measured on pairs that it has not seen."""
    sources, targets = corpus(200)
    held_out = corpus(100, seed=1)
    right = []
    for steps in (0, 150):
        model = fresh()
        fit(model, sources, targets, seed=1, steps=steps)
        own, other = (model(held_out[0], ids).numpy() for ids in (held_out[1], np.roll(held_out[1], 1, 0)))
        right.append((own > other).mean())
    assert right[0] < 0.7
    assert right[1] > 0.9


@pytest.mark.slow
def test_fitting_is_a_function_of_its_arguments():
    found = []
    for seed in (1, 1, 2):
        model = fresh()
        fit(model, *corpus(40), seed=seed, steps=5)
        found.append(np.concatenate([variable.numpy().ravel() for variable in model.variables]))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
