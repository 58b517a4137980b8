"""What the base class guards for every system: the scales of an objective's terms."""

import pytest
import tensorflow as tf

from hcl_tf.models.base import A_TEXT, A_TOKEN, Sum, System
from hcl_tf.models.registry import resolve

COUNTS = {"examples": tf.constant(2.0), "tokens": tf.constant(10.0)}
SUMS = {"nll": Sum(tf.constant(30.0)), "nll_token": Sum(tf.constant(30.0), "tokens"), "term": Sum(tf.constant(8.0))}


class Made(System):
    """A system whose objective has some terms."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(resolve("tiny", {}), None)
        self.weights_ = weights

    def weights_of(self, step: tf.Tensor | None) -> dict[str, float]:
        return self.weights_


class OfTexts(Made):
    scales = {**System.scales, "term": A_TEXT}  # noqa: RUF012


class OfTokens(Made):
    scales = {**System.scales, "term": A_TOKEN}  # noqa: RUF012


class OfSomething(Made):
    scales = {**System.scales, "term": "nats"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (Made({"nll": 1.0}), 15.0),
        (OfTexts({"nll": 1.0, "term": 0.5}), 17.0),
        (Made({"nll_token": 1.0}), 15.0),
        (OfTokens({"nll": 1.0, "term": 0.5}), 25.0),
        (OfTokens({"nll_token": 2.0, "term": 0.5}), 40.0),
    ],
)
def test_an_objective_is_a_sum_in_nats_a_text_whatever_its_terms_are_in(system, expected):
    """Texts have five tokens: what stands beside a mean over tokens counts five times beside a sum over them."""
    assert float(system.objective(SUMS, COUNTS, None)) == expected


@pytest.mark.parametrize("kind", [Made, OfSomething])
def test_a_term_without_a_declared_scale_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\.scales does not say whether term is {A_TEXT} or {A_TOKEN}$"):
        kind({"nll": 1.0, "term": 0.0}).objective(SUMS, COUNTS, None)
