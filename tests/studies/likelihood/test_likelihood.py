"""The estimate beside a likelihood that is known in closed form, and the command on small trained runs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import entry_point
from scipy import stats

from hcl_tf.errors import UserError
from hcl_tf.layers import latent
from hcl_tf.layers.noise import Noise
from hcl_tf.models.latent_variable import LatentVariable
from hcl_tf.studies.likelihood.importance import LikelihoodRequest, bound, effective_draws, measure
from hcl_tf.training.trained_run import TrainedRun

OLD = Path(__file__).parents[2] / "fixtures" / "637db7d"
MEANS, DEVIATION = np.array([[0.5, -1.0], [0.0, 2.0], [1.5, 0.3]], np.float32), 0.7  # of the prior: z ~ N(mean, DEVIATION^2)
TARGETS = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 2.0]], np.float32)  # y ~ N(z, 1), so y ~ N(mean, 1 + DEVIATION^2)


class Linear(LatentVariable):
    """A system whose likelihood is known. Its posterior is too narrow and off, as one that a contrast has pulled."""

    def __init__(self, narrow: float) -> None:
        self.settings, self.narrow = SimpleNamespace(latent_size=2), narrow

    def given_target(self, batch, noise):
        prior = latent.Gaussian(MEANS, tf.fill(MEANS.shape, DEVIATION))
        posterior = latent.Gaussian(TARGETS, tf.fill(TARGETS.shape, self.narrow))
        return prior, posterior, lambda z: 0.5 * tf.reduce_sum((TARGETS - z) ** 2, -1) + np.log(2 * np.pi)


@pytest.mark.parametrize("narrow", [0.05, 0.6])
def test_the_estimate_is_the_likelihood_in_closed_form(narrow):
    noise = Noise(1, 2, tf.range(len(MEANS)))
    weights = tf.function(lambda: Linear(narrow).importance_weights({}, noise, 20_000))().numpy().astype(np.float64)
    exact = -stats.norm(MEANS, np.sqrt(1 + DEVIATION**2)).logpdf(TARGETS).sum(-1)
    np.testing.assert_allclose(bound(weights, 20_000), exact, atol=0.03)
    assert (weights <= np.log(2) - np.log(2 * np.pi) + 1e-4).all(), "none above twice the largest p(y | x, z)"
    assert (bound(weights, 2) > bound(weights, 32)).all()
    assert (bound(weights, 32) > exact).all()


def test_a_bound_is_the_mean_over_groups():
    weights = np.random.default_rng(1).normal(size=(8, 5)) - 40
    wanted = np.array([np.mean([-np.log(np.mean(np.exp(weights[i : i + 4, n]))) for i in (0, 4)]) for n in range(5)])
    np.testing.assert_allclose(bound(weights, 4), wanted, rtol=1e-12)
    np.testing.assert_allclose(bound(weights, 8), -np.log(np.exp(weights).mean(0)), rtol=1e-12)


def test_draws_of_equal_weight_are_worth_their_number():
    np.testing.assert_allclose(effective_draws(np.full((8, 3), -500.0)), 8)
    np.testing.assert_allclose(effective_draws(np.array([[0.0], [-900.0], [-900.0]])), 1)


@pytest.mark.slow
def test_the_command_writes_bounds_that_fall(trained_run, qqp_folder, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    command = entry_point("studies.likelihood.__main__")
    from absl import flags

    flags.FLAGS(["likelihood", f"--run_dir={run}", f"--data_dir={qqp_folder}", "--limit=6", "--draws=8"])
    command.main()
    assert "bound of    8 draws" in capsys.readouterr().out
    found = json.loads((run / "likelihood.validation.first6.json").read_text())
    assert list(found["bounds"]) == ["2", "8"]
    assert found["bounds"]["2"]["value"] > found["bounds"]["8"]["value"] == pytest.approx(np.mean(found["per_example"]), abs=1e-4)
    page = (run / "likelihood.validation.first6.md").read_text()
    assert page.startswith("# The likelihood: hcl on qqp, 6 examples of validation")


@pytest.mark.slow
def test_the_z_of_the_estimate_is_that_of_diagnostics(trained_run, qqp_folder):
    trained = TrainedRun(trained_run, data_dir=qqp_folder)
    validation = trained.validation("validation", 4)
    batch = next(iter(validation.batches.dataset(None)))
    prior, posterior, nll = trained.system.given_target(batch, validation.noise(batch))
    found = validation.diagnose()
    real = batch["example_mask"].numpy() > 0
    np.testing.assert_allclose(nll(prior.mean()).numpy()[real], found["nll_prior"], rtol=1e-5)
    np.testing.assert_allclose(posterior.mean().numpy()[real], found["posterior_mean"], atol=1e-5)


def test_what_can_not_be_estimated_is_refused(trained_run, qqp_folder):
    with pytest.raises(UserError, match="--draws=3: half are of the posterior"):
        measure(SimpleNamespace(), LikelihoodRequest(draws=3))
    with pytest.raises(UserError, match="bert_gen has no latent variable z: its NLL is its likelihood"):
        measure(TrainedRun(OLD / "runs" / "bert_gen", data_dir=OLD / "data"), LikelihoodRequest())
