"""Noise that belongs to (seed, step, row, site): independence of place and batch, its distribution, plain against XLA."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.packing import Packing

MANY = 4000
SURE = 1e-6  # a right generator fails a statistical test with this probability, and not by chance in some runs: numbers are fixed


def of_rows(rows, seed=3, step=7) -> Noise:
    return Noise(seed, step, tf.constant(rows, tf.int32))


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.randoms()
)
def test_a_row_has_its_noise_wherever_it_stands(rows, seed, step, random):
    moved = random.sample(rows, len(rows))
    whole, other = of_rows(rows, seed, step), of_rows(moved, seed, step)
    for _ in range(2):  # two sites
        here, there = whole.bits((2, 3)).numpy(), other.bits((2, 3)).numpy()
        for place, row in enumerate(moved):
            np.testing.assert_array_equal(there[place], here[rows.index(row)])


def test_parts_of_a_batch_draw_what_the_whole_draws():
    whole = of_rows(range(6)).normal((4,)).numpy()
    parts = [of_rows(range(start, start + 2)).normal((4,)).numpy() for start in (0, 2, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_a_shorter_row_draws_the_beginning_of_a_longer_one():
    np.testing.assert_array_equal(of_rows([5]).bits((8,)).numpy()[:, :5], of_rows([5]).bits((5,)).numpy())


def test_every_coordinate_changes_the_noise():
    base = of_rows([1, 2]).bits((50,)).numpy()
    noise = of_rows([1, 2])
    noise.bits((50,))
    others = [of_rows([1, 2], seed=4).bits((50,)), of_rows([1, 2], step=8).bits((50,)), of_rows([3, 4]).bits((50,)), noise.bits((50,))]
    for other in others:
        assert (other.numpy() == base).mean() < 0.01
    assert (base[0] == base[1]).mean() < 0.01
    assert len(np.unique(base)) == base.size


def test_numbers_and_tensors_name_the_same_noise():
    plain = of_rows([1], 2**31 - 1, 12).bits((4,)).numpy()
    tensors = Noise(tf.constant(2**31 - 1), tf.constant(12), tf.constant([1])).bits((tf.constant(4),)).numpy()
    np.testing.assert_array_equal(plain, tensors)


def test_uniform_never_reaches_its_ends():
    class Extreme(Noise):
        def bits(self, shape):
            return tf.constant([0, 2**32 - 1], tf.uint32)

    low, high = Extreme(0, 0, tf.constant([0, 1])).uniform().numpy()
    assert 0 < low < 1e-6
    assert 1 - 1e-6 < high < 1


def test_uniform_and_normal_have_their_distributions():
    noise = of_rows(range(200))
    uniform, normal, second = noise.uniform((200,)).numpy(), noise.normal((200,)).numpy(), noise.normal((200,)).numpy()
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > SURE
    assert stats.kstest(normal.ravel(), "norm").pvalue > SURE
    bound = stats.norm.isf(SURE / 2)
    count = normal.size
    assert abs(normal.mean()) < bound / count**0.5
    assert abs((normal**2).mean() - 1) < bound * (2 / count) ** 0.5
    for a, b in ((normal, second), (normal[1:], normal[:-1]), (normal[:, 1:], normal[:, :-1])):  # sites, rows, places
        assert abs((a * b).mean()) < bound / a.size**0.5


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    kept = of_rows(range(20)).dropout(tf.ones([20, MANY]), rate).numpy()
    rate = round(rate * 2**16) / 2**16  # the rate is kept in steps of 2^-16, and the mean exactly for that rate
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - rate)], rtol=1e-6)
    bound = stats.norm.isf(SURE / 2) * (rate * (1 - rate) / kept.size) ** 0.5
    assert abs((kept == 0).mean() - rate) < bound


def test_dropout_is_nothing_at_rate_zero_or_without_noise():
    values = tf.random.stateless_normal([2, 3], [1, 2])
    assert of_rows([0, 1]).dropout(values, 0.0) is values
    assert dropout(values, 0.5, None) is values
    assert (dropout(values, 0.5, of_rows([0, 1])).numpy() == 0).any()


def test_dropout_keeps_the_type_and_unknown_shapes():
    noise = lambda: of_rows([0, 1])  # noqa: E731
    assert noise().dropout(tf.ones([2, 5], tf.float16), 0.5).dtype == tf.float16
    run = tf.function(lambda values: noise().dropout(values, 0.5), input_signature=[tf.TensorSpec([None, None, 5])])
    np.testing.assert_array_equal(run(tf.ones([2, 3, 5])), noise().dropout(tf.ones([2, 3, 5]), 0.5))


@pytest.mark.parametrize("size", [6, 5, 1])
@pytest.mark.parametrize("jit", [False, True])
def test_packed_rows_are_dropped_as_their_places_in_the_texts_are(size, jit):
    mask = np.random.default_rng(1).random((4, 7)) < 0.6

    @tf.function(jit_compile=jit)
    def both() -> tuple[tf.Tensor, tf.Tensor]:
        packing = Packing(tf.constant(mask))
        ones = tf.ones([4, 7, size])
        whole, rows = (of_rows([3, 1, 2, 9]).dropout(*values) for values in ((ones, 0.4), (packing.rows(ones), 0.4, packing)))
        return whole, packing.texts_of(rows)

    whole, packed = both()
    np.testing.assert_array_equal(packed, whole * mask[..., None])
    assert 0 < (whole.numpy() == 0).mean() < 1


@pytest.mark.parametrize("longest", [7, 6, 3])
def test_a_part_of_attention_weights_is_dropped_as_in_the_whole(longest):
    whole = of_rows([3, 1]).dropout(tf.ones([2, 3, 5, 7]), 0.4)
    part = of_rows([3, 1]).dropout(tf.ones([2, 3, 4, longest]), 0.4, lengths=(5, 7))
    np.testing.assert_array_equal(part, whole[:, :, :4, :longest])


def test_both_halves_of_a_hash_serve_and_do_not_follow_each_other():
    kept = of_rows(range(40)).dropout(tf.ones([40, MANY]), 0.5).numpy() > 0
    for distance in (1, 2):
        same = (kept[:, distance:] == kept[:, :-distance]).mean()
        assert abs(same - 0.5) < stats.norm.isf(SURE / 2) * 0.5 / kept.size**0.5


def test_stacked_texts_of_an_example_have_noise_of_their_own_that_follows_the_row():
    stacked = of_rows([4, 9]).stacked(3)
    drawn = stacked.bits((40,)).numpy().reshape(3, 2, 40)
    flat = drawn.reshape(6, 40)
    for i in range(6):
        for j in range(i):
            assert (flat[i] == flat[j]).mean() < 0.05
    turned = of_rows([9, 4]).stacked(3).bits((40,)).numpy().reshape(3, 2, 40)
    np.testing.assert_array_equal(drawn, turned[:, ::-1])
    np.testing.assert_array_equal(stacked.rows, [4, 9] * 3)


def test_a_stack_counts_its_sites_with_the_noise_it_is_of():
    noise, plain = of_rows([4]), of_rows([4])
    noise.stacked(2).bits((3,))
    plain.bits((3,))
    np.testing.assert_array_equal(noise.bits((3,)), plain.bits((3,)))


def test_a_second_model_can_be_given_the_same_noise():
    noise = of_rows([4, 9])
    noise.bits((3,))
    again = noise.again()
    drawn = [noise.bits((5,)).numpy(), noise.stacked(2).bits((5,)).numpy()]
    np.testing.assert_array_equal(again.bits((5,)), drawn[0])
    np.testing.assert_array_equal(again.stacked(2).bits((5,)), drawn[1])


def test_noise_apart_leaves_the_sites_of_the_original_unmoved():
    """Whatever is drawn from it, before, between and after; a stack of the original included."""
    noise, plain = of_rows([4, 9]), of_rows([4, 9])
    apart = noise.apart()
    for shape in ((3,), (5,)):
        apart.bits((7,))
        np.testing.assert_array_equal(noise.bits(shape), plain.bits(shape))
        noise.apart().stacked(2).normal((2,))
        np.testing.assert_array_equal(noise.stacked(2).bits(shape), plain.stacked(2).bits(shape))


def test_noise_apart_is_the_same_wherever_it_is_taken_and_goes_on_from_draw_to_draw():
    noise, later = of_rows([4, 9]), of_rows([4, 9])
    later.bits((3,))
    apart, again = noise.apart(), later.apart()
    first, second = apart.bits((50,)).numpy(), apart.bits((50,)).numpy()
    np.testing.assert_array_equal(again.bits((50,)), first)
    assert (first != second).mean() > 0.9
    np.testing.assert_array_equal(of_rows([9, 4]).apart().bits((50,)), first[::-1])


def test_noise_apart_is_another_stream():
    """Its draws are none of the original's first sites, they change with seed and step, and they are independent of the original's."""
    rows = range(200)
    drawn = of_rows(rows).apart().normal((200,)).numpy()
    noise = of_rows(rows)
    bound = stats.norm.isf(SURE / 2) / drawn.size**0.5
    for other in [noise.normal((200,)).numpy() for _ in range(3)]:
        assert abs((drawn * other).mean()) < bound
    for seed, step in ((4, 7), (3, 8)):
        other = of_rows(rows, seed, step).apart().normal((200,)).numpy()
        assert abs((drawn * other).mean()) < bound


def test_xla_draws_the_same():
    def draw(rows, step):
        noise = Noise(5, step, rows)
        values = tf.ones([3, 60])
        return noise.bits((7,)), noise.dropout(values, 0.3), noise.stacked(2).bits((5,)), noise.uniform((50,)), noise.normal((50,))

    rows, step = tf.constant([3, 1, 2]), tf.constant(11)
    plain, compiled = draw(rows, step), tf.function(draw, jit_compile=True)(rows, step)
    for a, b in zip(plain[:-1], compiled[:-1], strict=True):
        np.testing.assert_array_equal(a, b)
    # Only log and cos, of which XLA has its own, may round differently.
    np.testing.assert_allclose(plain[-1], compiled[-1], rtol=2e-6, atol=2e-6)
