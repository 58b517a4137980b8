"""Gradients by part of a toy whose gradients are known, and the sorting of variables."""

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.models.base import Sum
from hcl_tf.studies.channel.gradients import by_part, parts_of


class Two:
    """nll = a . x + 2 b, and a contrast of weight 3 that is -a . x: it has the opposite direction on a and none on b."""

    def __init__(self) -> None:
        self.a, self.b = tf.Variable([1.0, 2.0]), tf.Variable(3.0)

    def losses(self, batch, step, noise, training):
        along = tf.reduce_sum(batch["x"] @ self.a[:, None])
        return {"nll": Sum(along + 2.0 * self.b), "key": Sum(-along)}

    def counts(self, batch):
        return {"examples": tf.constant(2.0)}

    def terms(self, sums, counts, step):
        assert step is None, "after all ramps"
        return {name: weight * sums[name].value / counts["examples"] for name, weight in (("nll", 1.0), ("key", 3.0))}


def test_norms_are_weighted_and_cosines_are_with_the_likelihood():
    system = Two()
    batches = [{"x": tf.constant(x), "example_rows": tf.range(2)} for x in ([[3.0, 0.0], [0.0, 4.0]], [[6.0, 0.0], [0.0, 8.0]])]
    found = by_part(system, {"one": [system.a], "other": [system.b]}, batches, seed=1)
    assert found["nll"]["one"]["norm"]["value"] == pytest.approx((5 + 10) / 2 / 2)
    assert found["key"]["one"]["norm"]["value"] == pytest.approx(3 * 7.5 / 2)
    assert found["key"]["one"]["cosine"]["value"] == pytest.approx(-1.0)
    assert found["nll"]["other"]["norm"]["value"] == pytest.approx(1.0)
    assert found["key"]["other"]["norm"]["value"] == 0.0
    assert found["key"]["other"]["cosine"]["value"] is None
    low, high = (found["nll"]["one"]["norm"][end] for end in ("low", "high"))
    assert 2.5 - 1e-6 <= low < high <= 5 + 1e-6


def test_the_likelihood_is_the_smoothed_one_where_training_follows_that():
    class Smoothed(Two):
        """Its plain NLL has no gradient, as where training computes it beside the smoothed one."""

        def losses(self, batch, step, noise, training):
            plain = super().losses(batch, step, noise, training)
            return {**plain, "nll": Sum(tf.stop_gradient(plain["nll"].value)), "nll_smoothed": plain["nll"]}

    batches = [{"x": tf.constant([[3.0, 0.0], [0.0, 4.0]]), "example_rows": tf.range(2)}]
    plain, smoothed = (by_part(system, {"one": [system.a]}, batches, seed=1) for system in (Two(), Smoothed()))
    assert smoothed == plain


def test_a_variable_belongs_to_the_first_part_that_it_fits():
    paths = ("model/encoder.bert.table", "model/encoder.bert.layer", "model/prior.inner", "model/other")
    variables = {path: tf.Variable(np.float32(number)) for number, path in enumerate(paths)}
    found = parts_of(
        variables, {"embeddings": ("encoder.bert.table",), "encoder": ("encoder",), "prior": ("prior", "more"), "none": ("absent",)}
    )
    assert {name: [float(v) for v in members] for name, members in found.items()} == {"embeddings": [0.0], "encoder": [1.0], "prior": [2.0]}
