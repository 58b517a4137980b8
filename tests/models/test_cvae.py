"""The CVAE baseline: its terms against NumPy, where z goes, and what is said of it."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit
from system_toolkit.kit import ROWS, SMALL, STEP, noise_of

from hcl_tf.data.batching.batches import Batch
from hcl_tf.errors import UserError
from hcl_tf.models.cvae import CVAE

B, Z = len(ROWS), SMALL["latent_size"]
PLACES = ("memory", "inputs", "both")


@pytest.fixture(scope="module")
def made(qqp_folder) -> Callable[..., Kit]:
    """A kit with some settings."""
    return partial(Kit, qqp_folder, "cvae")


@pytest.fixture(scope="module")
def kit(made) -> Kit:
    return made()


@pytest.fixture(scope="module")
def cvae(kit) -> CVAE:
    return kit.system


@pytest.fixture(scope="module")
def held_out(kit) -> Batch:
    return kit.held_out


# -- terms ------------------------------------------------------------------------------------------------------------


def head_of(head, condition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = np.tanh(condition @ head.inner.kernel.numpy() + head.inner.bias.numpy())
    mean, log_variance = np.split(inner @ head.outer.kernel.numpy() + head.outer.bias.numpy(), 2)
    return mean, np.exp(10 * np.tanh(log_variance / 10) / 2)


@pytest.mark.slow
def test_terms_are_those_of_the_reference(kit, cvae, held_out):
    """KL of two Gaussians and the bag of words, example by example, from the texts' vectors alone."""
    x, y = (cvae.vector(held_out[f"{role}_ids"], None).numpy() for role in ("source", "target"))
    draw = noise_of(held_out).normal((Z,)).numpy()
    columns = {int(piece): column for column, piece in enumerate(cvae.inputs_.output_ids)}
    skipped = {cvae.inputs_.pad_id, cvae.inputs_.cls_id, cvae.inputs_.sep_id}
    kl, bag, nll = 0.0, 0.0, 0.0
    for row in range(B - 1):
        (m1, s1), (m2, s2) = head_of(cvae.posterior, np.concatenate([x[row], y[row]])), head_of(cvae.prior, x[row])
        kl += float(np.sum(np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5))
        z = m1 + s1 * draw[row]
        inner = np.tanh(np.concatenate([z, x[row]]) @ cvae.bag_inner.kernel.numpy() + cvae.bag_inner.bias.numpy())
        states = inner @ cvae.bag_outer.kernel.numpy() + cvae.bag_outer.bias.numpy()
        scores = states @ cvae.tokens.weights_of_output().numpy().T + cvae.tokens.bias.numpy()
        words = [columns[int(piece)] for piece in held_out["target_ids"].numpy()[row] if piece not in skipped]
        bag += sum(math.log(np.exp(scores).sum()) - scores[word] for word in words)
        nll += float(cvae.nll_given(held_out, tf.constant(x), tf.constant(np.tile(z, (B, 1)), tf.float32))[row])
    sums = kit.sums(held_out, False)
    assert sums["kl"] == pytest.approx(kl, rel=1e-4)
    assert sums["kl_objective"] == pytest.approx(kl, rel=1e-4)
    assert sums["bag_of_words"] == pytest.approx(bag, rel=1e-5)
    assert sums["nll"] == pytest.approx(nll, rel=1e-5)
    assert sums["nll_token"] == pytest.approx(nll, rel=1e-5)


@pytest.mark.slow
def test_weights_are_a_linear_ramp_and_a_whole_bag_of_words(made, held_out):
    kit = made(kl_ramp=200)
    system = kit.system
    for step in (0, 49, 199, 500):
        weights = {name: float(weight) for name, weight in system.weights_of(tf.constant(step)).items()}
        assert weights == pytest.approx({"nll": 1.0, "kl_objective": min(1.0, (step + 1) / 200), "bag_of_words": 1.0})
    assert system.weights_of(None)["kl_objective"] == 1.0
    value = kit.sums(held_out, False)
    objective = system.objective(system.losses(held_out, STEP, noise_of(held_out), False), system.counts(held_out), tf.constant(49))
    assert float(objective) == pytest.approx((value["nll"] + 0.25 * value["kl"] + value["bag_of_words"]) / (B - 1), rel=1e-5)
    without = made(bag_of_words=0.0).system
    assert set(without.weights_of(None)) == {"nll", "kl_objective"}
    assert not [v for v in without.variables if "bag" in v.name]


@pytest.mark.slow
def test_one_network_reads_source_and_target(cvae, held_out):
    """A text has the same vector in either role, whatever padding stands behind it, and another one backwards."""
    text = held_out["target_ids"][:, :22]
    np.testing.assert_allclose(cvae.vector(text, None), cvae.vector(tf.pad(text, [[0, 0], [0, 5]]), None), rtol=1e-5)
    swapped = {**held_out, "source_ids": held_out["target_ids"], "target_ids": held_out["source_ids"]}
    assert not np.allclose(cvae.gaussians(swapped, None)[0], cvae.gaussians(held_out, None)[0])
    np.testing.assert_allclose(cvae.gaussians(swapped, None)[0], cvae.vector(held_out["target_ids"], None), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_z_goes_where_it_is_sent(made, held_out, place):
    system = made(latent_to=place).system
    source, prior, _ = system.gaussians(held_out, None)
    z = prior.mean()
    first = [tensor for state in system.begin(source, z) for tensor in state]
    moved = [tensor for state in system.begin(source, z + 1.0) for tensor in state]
    assert all(np.allclose(a, b) == (place == "inputs") for a, b in zip(first, moved, strict=True))
    embedded = tf.zeros([B, 16])
    assert system.beside(embedded, z).shape[-1] == 16 + (0 if place == "memory" else Z)
    nll = [system.nll_given(held_out, source, values).numpy() for values in (z, z + 1.0)]
    assert (abs(nll[0] - nll[1])[:-1] > 1e-4).all()


OTHERS = (
    {"recurrent_layers": 2, "word_dropout": 0.2}, pytest.param({"latent_to": "memory", "output_vocab": "full"}, marks=pytest.mark.slow),
    pytest.param({"latent_to": "inputs"}, marks=pytest.mark.slow),
)  # fmt: skip


@pytest.fixture(scope="module", params=OTHERS, ids=str)
def varied(request, made) -> Kit:
    return made(**request.param)


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(varied, rule):
    rule(varied)


# -- z in decoding and in diagnostics ---------------------------------------------------------------------------------


def test_sampling_draws_z_for_each_text_and_all_of_its_beams(cvae, held_out):
    noise = noise_of(held_out)
    (_, mean), (_, drawn) = (cvae.start(held_out, 3, n) for n in (None, noise))
    assert (abs(mean["z"] - drawn["z"]).numpy().max(1) > 1e-3).all()
    np.testing.assert_array_equal(drawn["z"][::3], drawn["z"][2::3])


@pytest.mark.slow
def test_diagnostics_of_each_example(kit, cvae, held_out):
    diagnostics = {name: values.numpy() for name, values in cvae.diagnose(held_out, noise_of(held_out)).items()}
    sums = kit.sums(held_out, False)
    assert diagnostics["nll_posterior"][: B - 1].sum() == pytest.approx(sums["nll"], rel=1e-5)
    assert diagnostics["nll_prior"][: B - 1].sum() == pytest.approx(sums["nll_prior"], rel=1e-5)
    assert diagnostics["kl"][: B - 1].sum() == pytest.approx(sums["kl"], rel=1e-5)
    np.testing.assert_allclose(diagnostics["kl_by_dimension"].sum(-1), diagnostics["kl"], rtol=1e-4)
    assert diagnostics["posterior_mean"].shape == diagnostics["posterior_shift"].shape == (B, Z)
    source, prior, posterior = cvae.gaussians(held_out, None)
    shift = (posterior.mean() - prior.mean()) / prior.stddev()
    np.testing.assert_allclose(diagnostics["posterior_shift"], shift, rtol=1e-4, atol=1e-6)
    draw = noise_of(held_out).normal((Z,))
    partners = [1, 2, 0, 0]  # of three real examples
    z = {
        "prior": prior.mean(), "prior_sampled": prior.mean() + prior.stddev() * draw, "prior_shuffled": tf.gather(prior.mean(), partners),
        "shuffled": tf.gather(posterior.mean() + posterior.stddev() * draw, partners),
    }  # fmt: skip
    for name, values in z.items():
        np.testing.assert_allclose(diagnostics[f"nll_{name}"][:-1], cvae.nll_given(held_out, source, values)[:-1], rtol=1e-4)


def test_a_pointer_is_refused(made):
    with pytest.raises(UserError, match=r"--copy: --model=cvae"):
        made(copy=True).new()
