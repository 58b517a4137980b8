"""What the paper's model says of single examples."""

import math

import numpy as np
import pytest
import tensorflow as tf
from real_hcl import B, Z, gaussians_of, head_of, noise_of, sums_of, without_impostors

from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.models.examples import differ

# -- reports and mistakes ---------------------------------------------------------------------------------------------


def test_diagnostics_of_each_example(hcl, whole):
    batch = without_impostors(whole, 1)
    diagnostics = {name: values.numpy() for name, values in hcl.diagnose(batch, noise_of(batch)).items()}
    sums = sums_of(hcl, batch, training=False)
    assert diagnostics["nll_posterior"][: B - 1].sum() == pytest.approx(sums["nll"], rel=1e-5)
    assert diagnostics["kl"][: B - 1].sum() == pytest.approx(sums["kl"], rel=1e-5)
    np.testing.assert_allclose(diagnostics["kl_by_dimension"].sum(-1), diagnostics["kl"], rtol=1e-4)
    assert diagnostics["nll_prior"][: B - 1].sum() == pytest.approx(sums["nll_prior"], rel=1e-5)
    for role in ("target", "negative"):
        parts = diagnostics[f"h_{role}_of_means"] + diagnostics[f"h_{role}_of_variances"]
        np.testing.assert_allclose(parts, diagnostics[f"h_{role}"], rtol=1e-4)
    np.testing.assert_allclose(diagnostics["h_target"], diagnostics["kl"], rtol=1e-4)
    for name in ("ins", "key", "ma"):  # whoever orders right has a margin above 0
        margins, orders = diagnostics[f"margin_{name}"][: B - 1], diagnostics[f"order_{name}"][: B - 1]
        np.testing.assert_array_equal(np.where(np.isnan(margins), np.nan, margins > 0), orders)
    assert np.isnan(diagnostics["order_key"]).tolist() == [False, True, False, True]  # no impostor; fills up
    for name in ("order_ins", "order_key", "order_ma"):
        assert np.nansum(diagnostics[name][: B - 1]) == sums[name]
        assert set(diagnostics[name][~np.isnan(diagnostics[name])]) <= {0, 1}
    differs = differ(batch["target_nodes"], batch["negative_nodes"]).numpy()
    assert (~np.isnan(diagnostics["order_ins_differ"]) == differs).all()
    assert np.isfinite(diagnostics["nll_prior_u_unknown"]).all()
    assert np.isfinite(diagnostics["nll_prior_u_shuffled"]).all()


SHUFFLED = (
    "nll_shuffled",
    "nll_prior_shuffled",
    "kl_prior_shuffled",
    "nll_prior_u_shuffled",
    "kl_u_shuffled",
    "order_ins_random",
    "order_key_random",
    "order_ma_random",
    "random_cosine",
)


@pytest.mark.slow
@pytest.mark.parametrize("real", [2, 3])
def test_an_examples_partner_is_another_real_one(hcl, whole, real):
    """Also in a batch that is filled up: what fills changes nothing, and z of the named partner gives the figure."""
    filled = {**whole, "example_mask": tf.constant([1.0] * real + [0.0] * (B - real))}
    diagnostics = {name: values.numpy()[:real] for name, values in hcl.diagnose(filled, noise_of(filled)).items()}
    junk = {**filled, **{name: tf.concat([filled[name][:real], filled[name][real:] * 0], 0) for name in ("source_ids", "target_ids")}}
    for name, values in hcl.diagnose(junk, noise_of(filled)).items():
        np.testing.assert_allclose(values.numpy()[:real], diagnostics[name], rtol=1e-4, atol=1e-5, err_msg=name)
    texts = hcl.encode(filled, None, ROLES)
    keywords = hcl.keyword_states(filled, texts, hcl.node_states)
    posterior = hcl.posterior_of(texts["source"], texts["target"])
    z = posterior.mean() + posterior.stddev() * noise_of(filled).normal((Z,))
    partners = [(row + 1) % real for row in range(real)]
    expected = hcl.nll_given(filled, texts, keywords, tf.gather(z, partners + list(range(real, B))))
    np.testing.assert_allclose(diagnostics["nll_shuffled"], expected[:real], rtol=1e-4)
    assert (abs(diagnostics["nll_shuffled"] - diagnostics["nll_posterior"]) > 1e-4).all()


@pytest.mark.slow
def test_an_example_alone_has_no_partner(hcl, whole):
    alone = {**whole, "example_mask": tf.constant([1.0] + [0.0] * (B - 1))}
    diagnostics = {name: values.numpy()[0] for name, values in hcl.diagnose(alone, noise_of(alone)).items()}
    assert {name for name, value in diagnostics.items() if np.isnan(value).any()} - {
        "order_ins_differ",
        "order_key_differ",
        "order_ma_differ",
        "length_u_known",
        "length_u_unknown",
    } == {*SHUFFLED}


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"weight_ins": 2.5, "tau_ins": 3.0, "contrast_scale": "none"}])
def test_the_pull_is_the_move_of_the_point_where_kl_and_the_contrast_are_at_rest(make, whole, given):
    """The gradient of KL(q+ || p) + L_ins with respect to the prior's mean is 0 there, if the slope is held."""
    system = make(**given)
    found = {name: values.numpy() for name, values in system.diagnose(whole, noise_of(whole)).items()}
    ((prior, deviation), (near, _), (far, _)), texts, keywords = gaussians_of(system, whole)
    scale = system.settings.tau_ins * (Z if system.settings.contrast_scale == "both" else 1)
    slope = system.settings.weight_ins / scale / (1 + np.exp((found["h_negative"] - found["h_target"]) / scale))
    moved = slope[:, None] * (near - far)
    rest = near + moved
    gradient = (rest - near) / deviation**2 + slope[:, None] * ((rest - near) - (rest - far)) / deviation**2
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    np.testing.assert_allclose(found["pull_ins"], np.linalg.norm(moved / deviation, axis=-1), rtol=1e-3)
    expected = system.nll_given(whole, texts, keywords, tf.constant(prior + moved, tf.float32))
    np.testing.assert_allclose(found["nll_moved"][: B - 1], expected[: B - 1], rtol=1e-4)


@pytest.mark.slow
def test_what_z_says_of_the_target_is_infonce_over_the_real_examples(make, whole):
    system = make()
    found = system.diagnose(whole, noise_of(whole))["infonce"].numpy()
    texts = system.encode(whole, None, ROLES)
    x, y = texts["source"].numpy(), texts["target"].numpy()
    draw = noise_of(whole).normal((Z,)).numpy()
    for i in range(B - 1):
        mean, deviation = head_of(system.posterior, x[i], y[i])
        z = mean + deviation * draw[i]
        densities = []
        for j in range(B - 1):
            m, s = head_of(system.posterior, x[i], y[j])
            densities.append(math.exp(-0.5 * (((z - m) / s) ** 2).sum() - np.log(s).sum()))
        assert found[i] == pytest.approx(math.log(densities[i] / (sum(densities) / (B - 1))), abs=1e-4)
        assert found[i] <= math.log(B - 1)


@pytest.mark.slow
def test_the_negative_is_scored_as_a_target_would_be(make, whole):
    """At the prior's mean: a batch in which negatives are targets gives the same figure."""
    system = make()
    found = system.diagnose(whole, noise_of(whole))["nll_negative"].numpy()
    swapped = {**whole, "target_ids": whole["negative_ids"]}
    np.testing.assert_allclose(found[: B - 1], system.diagnose(swapped, noise_of(whole))["nll_prior"][: B - 1], rtol=1e-4)


@pytest.mark.slow
def test_what_if_moves_the_prior_s_mean_along_the_posterior_s(make, whole):
    system = make(latent_to="both")
    ((prior, _), (near, _), (far, _)), texts, keywords = gaussians_of(system, whole)
    alphas = (0.0, 0.5)
    for alpha, found in zip(alphas, system.what_if(whole, noise_of(whole), alphas), strict=True):
        z = tf.constant(prior + alpha * (near - far), tf.float32)
        for role, nll in zip(ROLES[1:], found, strict=True):
            expected = system.nll_given({**whole, "target_ids": whole[f"{role}_ids"]}, texts, keywords, z)
            np.testing.assert_allclose(nll[: B - 1], expected[: B - 1], rtol=1e-4)


@pytest.mark.slow
def test_the_oracle_has_the_keywords_of_the_target(make, whole):
    system = make(latent_to="both")
    found = system.diagnose(whole, noise_of(whole))
    swapped = {**whole, **{f"source_{part}": whole[f"target_{part}"] for part in ("nodes", "unknown")}}
    texts = system.encode(whole, None, ROLES)
    u = system.keyword_states(swapped, {**texts, "source": texts["target"]}, system.node_states)["source"]
    prior = system.prior_of(texts, {}, u)
    expected = system.nll_given(whole, texts, {"source": u}, prior.mean())
    np.testing.assert_allclose(found["nll_prior_u_oracle"][: B - 1], expected[: B - 1], rtol=1e-4)


def test_sets_of_keywords_differ():
    a = tf.constant([[1, 2, -1], [1, 2, -1], [1, -1, -1], [-1, -1, -1]])
    b = tf.constant([[2, 1, -1], [1, 3, -1], [1, 4, -1], [-1, -1, -1]])
    assert differ(a, b).numpy().tolist() == [False, True, True, False]
