"""The three contrasts against the printed formulas and loops over examples, neighbours and dimensions."""

import math

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_gradients, variables
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.layers.contrast import DistanceContrast, Impostor, KeywordContrast, cosine, group_contrast
from hcl_tf.layers.noise import Noise

DISTANCES = st.floats(0, 300, allow_subnormal=False)


def printed(positive: float, negatives: list[float], tau: float) -> float:
    """-log( 1 - e^{h(y+)/tau} / sum_Y e^{h(y)/tau} ), as the paper has it (eq 11)."""
    exponentials = [math.exp(h / tau) for h in (positive, *negatives)]
    return -math.log(1 - exponentials[0] / math.fsum(exponentials))


def softmax_of_negated(positive: float, negatives: list[float], tau: float) -> float:
    """-log softmax(-h / tau)[y+]"""
    exponentials = [math.exp(-h / tau) for h in (positive, *negatives)]
    return -math.log(exponentials[0] / math.fsum(exponentials))


def cosine_of_lists(a, b) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 12), st.floats(0, 12), st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from(["softmax", "printed"]))
def test_one_negative_gives_the_printed_formula(positive, negative, tau, form):
    found = DistanceContrast(tau, form=form, dtype="float64")(tf.constant([positive], tf.float64), tf.constant([negative], tf.float64))
    # The printed form subtracts from 1, which costs it 16 - log10(e^(24)) digits at worst.
    assert found.numpy()[0] == pytest.approx(printed(positive, [negative], tau), rel=1e-4 if tau < 1 else 1e-9, abs=1e-9)
    assert found.numpy()[0] == pytest.approx(math.log1p(math.exp((positive - negative) / tau)), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(DISTANCES, DISTANCES)
def test_nothing_overflows(positive, negative):
    contrast = DistanceContrast(0.01)
    found = contrast(tf.constant([positive]), tf.constant([negative])).numpy()[0]
    assert math.isfinite(found)
    assert found == pytest.approx(max(0.0, (positive - negative) / 0.01), rel=1e-4, abs=1.0)


@pytest.mark.parametrize(("form", "formula"), [("softmax", softmax_of_negated), ("printed", printed)])
def test_several_negatives(form, formula):
    random = np.random.default_rng(1)
    positive, negatives = tf.constant(random.uniform(0, 5, 4)), tf.constant(random.uniform(0, 5, (4, 3)))
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 0, 0]], bool)
    contrast = DistanceContrast(0.7, form=form, dtype="float64")
    every = contrast(positive, negatives).numpy()
    some = contrast(positive, negatives, present).numpy()
    for row in range(4):
        assert every[row] == pytest.approx(formula(float(positive[row]), list(negatives[row].numpy()), 0.7), rel=1e-9)
        assert some[row] == pytest.approx(formula(float(positive[row]), list(negatives[row].numpy()[present[row]]), 0.7), rel=1e-9)


def test_which_negative_rules():
    """One far and one near negative: the near one is hard."""
    positive, negatives = tf.constant([1.0]), tf.constant([[0.0, 60.0]])
    assert DistanceContrast(form="softmax")(positive, negatives).numpy()[0] == pytest.approx(math.log1p(math.e), rel=1e-5)
    assert DistanceContrast(form="printed")(positive, negatives).numpy()[0] == pytest.approx(0, abs=1e-5)


def test_no_negative_costs_nothing():
    assert DistanceContrast()(tf.constant([3.0]), tf.constant([[1.0]]), tf.constant([[False]])).numpy()[0] == 0


def test_distances_are_divided_by_the_scale():
    positive, negative = tf.constant([8.0]), tf.constant([2.0])
    assert DistanceContrast(2.0, scale=3.0)(positive, negative).numpy()[0] == pytest.approx(math.log1p(math.exp(1.0)), rel=1e-6)


def test_keyword_contrast_is_equation_10():
    anchor, positive, impostor = np.random.default_rng(2).normal(size=(3, 5, 4))
    found = KeywordContrast(0.1, dtype="float64")(cosine(anchor, positive), cosine(anchor, impostor)).numpy()
    for row in range(5):
        near, far = (math.exp(cosine_of_lists(anchor[row], other[row]) / 0.1) for other in (positive, impostor))
        assert found[row] == pytest.approx(-math.log(near / (near + far)), rel=1e-9, abs=1e-9)


def test_cosine():
    a, b = np.random.default_rng(3).normal(size=(2, 5, 4))
    a[0] = 0
    found = cosine(a, b).numpy()
    assert found[0] == 0
    assert found[1:] == pytest.approx([cosine_of_lists(*pair) for pair in zip(a[1:], b[1:], strict=True)], rel=1e-12)


def impostor_inputs():
    """Example 0 has one keyword with 3 neighbours and one with 1; example 1 a single neighbour; example 2 none."""
    random = np.random.default_rng(4)
    states, positive, kernel = random.normal(size=(3, 2, 3, 4)), random.normal(size=(3, 4)), random.normal(size=(4, 4))
    present = np.zeros((3, 2, 3), bool)
    present[0, 0], present[0, 1, 2], present[1, 1, 0] = True, True, True
    return states, present, positive, kernel


def impostor_of(kind: str, kernel: np.ndarray) -> Impostor:
    impostor = Impostor(4, kind, dtype="float64")
    impostor.kernel.assign(kernel)
    return impostor


def made(impostor: Impostor, states, present, positive, draw=None) -> tf.Tensor:
    """The impostors that some draw chooses."""
    return impostor(states, impostor.chosen(tf.constant(present), draw), positive)


def test_impostor_sum_is_the_printed_form():
    states, present, positive, kernel = impostor_inputs()
    found = impostor_of("sum", kernel)(states, present, positive).numpy()
    for row in range(3):
        expected = np.zeros(4)
        for k in range(2):
            for f in range(3):
                if present[row, k, f]:
                    expected += states[row, k, f] @ kernel
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


def test_impostor_mean_is_the_mean_over_keywords_of_neighbours_means_at_the_positives_length():
    states, present, positive, kernel = impostor_inputs()
    found = impostor_of("mean", kernel)(states, present, positive).numpy()
    for row in range(3):
        means = []
        for k in range(2):
            neighbours = [states[row, k, f] @ kernel for f in range(3) if present[row, k, f]]
            if neighbours:
                means.append(sum(neighbours) / len(neighbours))
        if not means:
            assert (found[row] == 0).all()
            continue
        direction = sum(means) / len(means)
        np.testing.assert_allclose(found[row], direction / math.hypot(*direction) * math.hypot(*positive[row]), rtol=1e-12)


def drawn(neighbours: np.ndarray, kernel: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Each of some neighbours [n, Z] as the one impostor: turned by W, at the positive's length."""
    turned = neighbours @ kernel
    return turned / np.linalg.norm(turned, axis=1, keepdims=True) * np.linalg.norm(positive)


def test_one_impostor_is_the_neighbour_with_the_largest_draw_at_the_positives_length():
    states, present, positive, kernel = impostor_inputs()
    draw = np.random.default_rng(7).uniform(size=present.shape).astype(np.float32)
    draw[0, 1, 1] = 0.999  # the largest draw of a place where there is no neighbour
    found = made(impostor_of("one", kernel), states, present, positive, draw).numpy()
    for row in range(2):
        places = [(k, f) for k in range(2) for f in range(3) if present[row, k, f]]
        k, f = max(places, key=lambda place: draw[row][place])
        np.testing.assert_allclose(found[row], drawn(states[row, k, f][None], kernel, positive[row])[0], rtol=1e-12)
    assert (found[2] == 0).all(), "an example without a neighbour"


def test_one_impostor_without_a_draw_is_the_first_neighbour():
    states, present, positive, kernel = impostor_inputs()
    present[0, 0, 0] = False
    found = made(impostor_of("one", kernel), states, present, positive).numpy()
    np.testing.assert_allclose(found[0], drawn(states[0, 0, 1][None], kernel, positive[0])[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], drawn(states[1, 1, 0][None], kernel, positive[1])[0], rtol=1e-12)
    assert (found[2] == 0).all()


def test_each_neighbour_is_drawn_equally_often():
    """4 neighbours of two keywords, 4,000 draws: 5 deviations of a binomial are 137; a keyword's own share would be 2,000."""
    states, present, positive, kernel = impostor_inputs()
    many = 4000
    draw = Noise(1, 2, tf.range(many)).uniform((2, 3))
    found = made(impostor_of("one", kernel), *(np.repeat(part[:1], many, 0) for part in (states, present, positive)), draw).numpy()
    choices = drawn(states[0][present[0]], kernel, positive[0])  # [4, Z]
    apart = np.abs(found[:, None] - choices[None]).max(-1)  # [many, 4]
    assert (apart.min(1) < 1e-9).all(), "something else than one neighbour"
    assert np.bincount(apart.argmin(1), minlength=4) == pytest.approx([many / 4] * 4, abs=5 * (many * 3 / 16) ** 0.5)


@pytest.mark.parametrize("kind", ["one", "mean", "sum"])
def test_neighbours_that_are_not_there_do_not_matter(kind):
    states, present, positive, kernel = impostor_inputs()
    other = np.where(present[..., None], states, 1e3)
    impostor = impostor_of(kind, kernel)
    np.testing.assert_array_equal(made(impostor, states, present, positive), made(impostor, other, present, positive))


def test_w_starts_as_the_identity_and_is_trained_only_if_asked():
    states, present, positive, _ = impostor_inputs()
    for gradient in (False, True):
        impostor = Impostor(4, "sum", gradient)
        np.testing.assert_array_equal(impostor.kernel, np.eye(4))
        assert len(impostor.trainable_variables) == gradient
    np.testing.assert_allclose(impostor(states, present, positive)[1], states[1, 1, 0], rtol=1e-6)


def test_a_state_of_zero_has_gradients_that_are_numbers():
    """A graph of one node, centred: u_y is zero until its projection has learnt a bias."""
    states, present, _, _ = impostor_inputs()
    positive = tf.Variable(tf.zeros([3, 4], tf.float64))
    with tf.GradientTape() as tape:
        impostor = Impostor(4, dtype="float64")(tf.constant(states), tf.constant(present), positive)
        contrast = KeywordContrast(dtype="float64")
        loss = tf.reduce_sum(contrast(cosine(positive, positive), cosine(positive, impostor))) + tf.reduce_sum(impostor)
    assert np.isfinite(tape.gradient(loss, positive)).all()


@pytest.mark.parametrize("kind", ["one", "mean", "sum"])
def test_gradients_of_the_keyword_contrast(kind):
    _, present, _, kernel = impostor_inputs()
    impostor, contrast = Impostor(4, kind, gradient=True, dtype="float64"), KeywordContrast(0.5, dtype="float64")
    impostor.kernel.assign(kernel)
    states, anchor, positive = variables(5, (3, 2, 3, 4), (3, 4), (3, 4))
    draw = np.random.default_rng(8).uniform(size=present.shape).astype(np.float32)
    negative = lambda: cosine(anchor, made(impostor, states, present, positive, draw))  # noqa: E731
    loss = lambda: tf.reduce_sum(contrast(cosine(anchor, positive), negative())[:2])  # noqa: E731
    assert_gradients(loss, [states, anchor, positive, impostor.kernel])
    with tf.GradientTape() as tape:
        value = loss()
    reached = np.abs(tape.gradient(value, states)).sum(-1) > 0
    assert reached.sum() == (2 if kind == "one" else present.sum()), "one neighbour of each example, or all that there are"


@pytest.mark.parametrize("form", ["softmax", "printed"])
def test_gradients_of_the_distance_contrast(form):
    positive, negatives = variables(6, (4,), (4, 3))
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 0, 0]], bool)
    contrast = DistanceContrast(0.7, 2.0, form, dtype="float64")
    assert_gradients(lambda: tf.reduce_sum(contrast(positive, negatives, present)), [positive, negatives])


@pytest.mark.parametrize(
    "layer",
    [
        DistanceContrast(0.5, 3.0, "printed", name="d"),
        KeywordContrast(0.2, name="k"),
        Impostor(4, "sum", True, name="i"),
        Impostor(4, name="o"),
    ],
    ids=lambda x: x.name,
)
def test_config(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    for name in ("tau", "scale", "form", "size", "kind", "gradient"):
        assert getattr(twin, name, None) == getattr(layer, name, None)


def test_one_neighbour_is_the_default_of_impostors():
    assert Impostor(4).kind == "one"


# -- Group-wise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [-30.0, -2.0, 0.0, 0.7, 30.0])
def test_group_contrast_at_the_ends_and_the_middle_of_the_scores(gain):
    """s = 1: -log h; s = -1: -log(1 - h); s = 0: ln 2 whatever the models say."""
    found = group_contrast(tf.constant([gain] * 3, tf.float64), tf.constant([1.0, -1.0, 0.0], tf.float64)).numpy()
    np.testing.assert_allclose(found, [np.logaddexp(0, -gain), np.logaddexp(0, gain), np.log(2)], rtol=1e-12)


def test_group_contrast_is_the_printed_form():
    gain, score = (values.ravel() for values in np.meshgrid(np.linspace(-8, 8, 9), np.linspace(-1, 1, 9)))
    h = 1 / (1 + np.exp(-gain))
    found = group_contrast(tf.constant(gain), tf.constant(score)).numpy()
    np.testing.assert_allclose(found, -np.log(0.5 - score * (0.5 - h)), rtol=1e-9, atol=1e-9)


def test_group_contrast_keeps_its_gradient_where_a_sigmoid_has_none():
    """d/dg is -(1 - h) for s = 1 and h for s = -1: 1 in size for a pair that is as wrong as can be, in float32 too."""
    gain = tf.constant([-200.0, 200.0, 200.0, -200.0])
    with tf.GradientTape() as tape:
        tape.watch(gain)
        losses = group_contrast(gain, tf.constant([1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(losses, [200.0, 200.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(losses, gain), [-1.0, 1.0, 0.0, 0.0], atol=1e-6)
