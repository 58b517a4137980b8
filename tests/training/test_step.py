"""The step against Adam, clipping and warm-up written out in NumPy; micro-batches; loss scaling; one trace."""

import numpy as np
import pytest
import tensorflow as tf
from toy_system import DROPOUT, FEATURES, NOISE, Toy, toy, toy_settings, values

from hcl_tf.layers.noise import Noise
from hcl_tf.training import checkpoints
from hcl_tf.training.step import LARGEST_SCALE, STEPS_TO_GROW, LearningRate, TrainStep

STEPS = 3


def first_batches(batches, count: int = STEPS, epoch: int = 0) -> list:
    return list(batches.dataset(epoch).take(count))


def run(folder, steps: int = STEPS, **given):
    """Scalars of the first steps, the system and its step."""
    system, batches = toy(folder, toy_settings(**given))
    step = TrainStep(system, system.settings, None, compiled=False)
    return [step(batch, number) for number, batch in enumerate(first_batches(batches, steps))], system, step


def by_hand(folder, steps: int, **given) -> tuple[list[dict], dict, list[dict]]:
    """The same in NumPy, float64: gradients by algebra, Adam as Kingma and Ba (2015) print it (algorithm 1).

    Returns the scalars of each step, the weights after the last one, and the norm of each term's gradient at each step.
    """
    system, batches = toy(folder, toy_settings(**given))
    s = system.settings
    weights = {"slope": system.slope.numpy().astype(np.float64), "level": float(system.level)}
    moments = {name: [np.zeros_like(value), np.zeros_like(value)] for name, value in weights.items()}
    rates = {"slope": s.learning_rate, "level": s.encoder_learning_rate}
    scalars, norms = [], []
    for number, batch in enumerate(first_batches(batches, steps)):
        mask, rows = batch["example_mask"].numpy(), batch["example_rows"]
        noise = Noise(s.seed, number, rows)
        inputs = noise.dropout(system.features(batch), DROPOUT).numpy().astype(np.float64)
        lengths = (batch["target_ids"].numpy()[:, 1:] != 0).sum(1)
        wanted = lengths * mask / 10 + NOISE * noise.normal((1,)).numpy()[:, 0]
        paired = mask * (rows.numpy() % 3 == 0)
        error = (inputs @ weights["slope"] + weights["level"] - wanted) * mask
        apart = (weights["slope"].sum() - wanted) * paired
        kl_weight = min(1, (number + 1) / s.kl_ramp)
        means = {
            "nll": (0.5 * error**2).sum() / mask.sum(),
            "nll_token": (0.5 * error**2).sum() / (lengths * mask).sum(),
            "kl": 0.5 * (weights["level"] - 2) ** 2,
            "key": (0.5 * apart**2).sum() / paired.sum(),
        }
        means["objective"] = means["nll"] + kl_weight * means["kl"] + 0.5 * means["key"]
        by_term = {
            "nll": {"slope": inputs.T @ error / mask.sum(), "level": error.sum() / mask.sum()},
            "kl_objective": {"slope": np.zeros(FEATURES), "level": kl_weight * (weights["level"] - 2)},
            "key": {"slope": 0.5 * apart.sum() / paired.sum() * np.ones(FEATURES), "level": 0.0},
        }
        norms.append({name: length_of(term) for name, term in by_term.items()})
        gradient = {name: sum(term[name] for term in by_term.values()) for name in weights}
        norm = length_of(gradient)
        clip = min(1.0, s.gradient_clip / norm) if s.gradient_clip else 1.0
        warm = min(1, (number + 1) / s.warmup_steps, (s.max_steps - number) / s.cooldown_steps if s.cooldown_steps else 1)
        for name, (first, second) in moments.items():
            g = gradient[name] * clip
            moments[name] = [0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2]
            mean, square = moments[name][0] / (1 - 0.9 ** (number + 1)), moments[name][1] / (1 - 0.999 ** (number + 1))
            weights[name] = weights[name] - rates[name] * warm * mean / (np.sqrt(square) + 1e-8)
        learning = {"learning_rate_rest": warm * rates["slope"], "learning_rate_encoder": warm * rates["level"]}
        clipped = float(bool(s.gradient_clip) and norm > s.gradient_clip)
        scalars.append(means | learning | {"grad_norm": norm, "clipped": clipped, "kl_weight": kl_weight})
    return scalars, weights, norms


def length_of(gradient: dict) -> float:
    return float(np.sqrt((gradient["slope"] ** 2).sum() + gradient["level"] ** 2))


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "cooldown"), [(0.0, 0), (0.3, 0), (3.6, 0), (0.0, 3)])
def test_step_equals_the_algebra(qqp_folder, clip, cooldown) -> None:
    given = {"learning_rate": 0.02, "encoder_learning_rate": 0.005, "gradient_clip": clip, "batch_size": 30}
    given |= {"max_steps": 7, "cooldown_steps": cooldown}
    found, system, _ = run(qqp_folder, 6, **given)
    wanted, weights, _ = by_hand(qqp_folder, 6, **given)
    for ours, theirs in zip(found, wanted, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=2e-5), name
    np.testing.assert_allclose(system.slope, weights["slope"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(system.level, weights["level"], rtol=2e-5)
    assert any(step["grad_norm"] > 0.3 for step in found), "nothing to clip: the case says nothing"
    assert {step["clipped"] for step in found} == {0.0: {0.0}, 0.3: {1.0}, 3.6: {0.0, 1.0}}[clip], [step["grad_norm"] for step in found]


@pytest.mark.slow
def test_each_term_s_gradient_norm_equals_the_algebra_and_takes_no_step(qqp_folder) -> None:
    given = {"learning_rate": 0.02, "encoder_learning_rate": 0.005, "batch_size": 30}
    plain, other, _ = run(qqp_folder, 6, **given)
    _, _, wanted = by_hand(qqp_folder, 6, **given)
    system, batches = toy(qqp_folder, toy_settings(**given))
    step = TrainStep(system, system.settings, None, compiled=False)
    for number, batch in enumerate(first_batches(batches, 6)):
        before = checkpoints.variables_of({**step.state(), "slope": system.slope, "level": system.level})
        found = step.norms_by_term(batch, number)
        after = checkpoints.variables_of({**step.state(), "slope": system.slope, "level": system.level})
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        assert found == pytest.approx(wanted[number], rel=2e-5)
        assert step(batch, number) == plain[number]
    assert all(np.array_equal(a, b) for a, b in zip(values(system).values(), values(other).values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("micro", [8, 10])
def test_gradient_norms_by_term_are_those_of_the_first_micro_batch(qqp_folder, micro) -> None:
    system, batches = toy(qqp_folder, toy_settings(batch_size=40, micro_batch=micro))
    batch = first_batches(batches, 1)[0]
    found = TrainStep(system, system.settings, None, compiled=False).norms_by_term(batch, 2)
    whole = TrainStep(system, toy_settings(batch_size=40), None, compiled=False)
    assert found == pytest.approx(whole.norms_by_term({name: tensor[:micro] for name, tensor in batch.items()}, 2), rel=1e-6)
    assert found["nll"] != pytest.approx(whole.norms_by_term(batch, 2)["nll"], rel=1e-3)


@pytest.mark.slow
def test_gradient_norms_by_term_are_not_scaled_as_float16_s_gradients_are(qqp_folder) -> None:
    system, batches = toy(qqp_folder, toy_settings())
    batch = first_batches(batches, 1)[0]
    plain, mixed = (TrainStep(system, toy_settings(mixed_precision=on), None, compiled=False) for on in (False, True))
    assert mixed.norms_by_term(batch, 0) == plain.norms_by_term(batch, 0)


@pytest.mark.slow
def test_rows_that_fill_up_count_nothing(qqp_folder) -> None:
    system, batches = toy(qqp_folder, toy_settings(batch_size=50))
    last = first_batches(batches, 100)[-1]
    real = int(last["example_mask"].numpy().sum())
    assert 0 < real < 50
    step = TrainStep(system, system.settings, None, compiled=False)
    before = values(system)
    whole = step(last, 0)
    other = Toy(system.settings, system.inputs_)
    for name, variable in {"slope": other.slope, "level": other.level}.items():
        variable.assign(before[f"model/{name}"])
    alone = TrainStep(other, system.settings, None, compiled=False)({name: tensor[:real] for name, tensor in last.items()}, 0)
    for name in ("nll", "nll_token", "key", "objective", "grad_norm"):
        assert whole[name] == pytest.approx(alone[name], rel=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("micro", [8, 16])
def test_micro_batches_change_nothing(qqp_folder, micro) -> None:
    plain, system, _ = run(qqp_folder)
    found, other, _ = run(qqp_folder, micro_batch=micro)
    for ours, theirs in zip(found, plain, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
    for name, value in values(system).items():
        np.testing.assert_allclose(values(other)[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_same_batch_and_step_give_the_same_bits_and_another_step_others(qqp_folder) -> None:
    first, system, _ = run(qqp_folder)
    second, other, _ = run(qqp_folder)
    assert first == second
    assert all(np.array_equal(a, b) for a, b in zip(values(system).values(), values(other).values(), strict=True))
    system, batches = toy(qqp_folder, toy_settings())
    batch = first_batches(batches, 1)[0]
    losses = [float(system.losses(batch, step, Noise(1, step, batch["example_rows"]), True)["nll"].value) for step in (0, 1)]
    assert losses[0] != losses[1], "dropout and latent noise belong to the step"


@pytest.mark.slow
def test_one_trace_for_all_batches(qqp_folder) -> None:
    _, _, step = run(qqp_folder, 13)
    assert step._run.experimental_get_tracing_count() == 1
    assert len(first_batches(toy(qqp_folder, toy_settings())[1], 100)) == 13, "the last batch is the one that is filled up"


def test_learning_rates_have_to_cover_all_variables(qqp_folder) -> None:
    system, _ = toy(qqp_folder, toy_settings())
    system.learning_rates = lambda: {"rest": ([system.slope], 0.1)}
    with pytest.raises(ValueError, match="does not cover"):
        TrainStep(system, system.settings, None, compiled=False)


def test_state_holds_moments_counts_and_loss_scale(qqp_folder) -> None:
    _, system, step = run(qqp_folder)
    state = step.state()
    assert {name.split("/")[1] for name in state} == {"rest", "encoder"}
    assert sum(variable.shape.as_list() == [FEATURES] for variable in state.values()) == 2, "Adam's two moments"
    assert not {id(v) for v in state.values()} & {id(v) for v in system.variables}
    mixed = TrainStep(system, toy_settings(mixed_precision=True), None, compiled=False)
    assert {"loss_scale", "good_steps"} <= mixed.state().keys()


@pytest.mark.parametrize(("rate", "steps"), [(0.5, 4), (0.5, 0), (1e-3, 1)])
def test_warm_up_is_linear_then_constant(rate, steps) -> None:
    schedule = LearningRate(rate, steps)
    found = [float(schedule(tf.constant(step))) for step in range(8)]
    assert found == pytest.approx([rate * min(1, (step + 1) / steps) if steps else rate for step in range(8)])
    assert LearningRate.from_config(schedule.get_config()).get_config() == schedule.get_config()


def test_the_cool_down_ends_at_the_last_step() -> None:
    schedule = LearningRate(2.0, 2, cooldown=4, last=9)
    assert [float(schedule(tf.constant(step))) for step in range(11)] == pytest.approx([1, 2, 2, 2, 2, 2, 1.5, 1, 0.5, 0, 0])
    assert LearningRate.from_config(schedule.get_config()).get_config() == schedule.get_config()


class Overflowing(Toy):
    """Gradients that overflow once the loss is scaled by more than `limit`."""

    limit = 2.0**13

    def objective(self, sums, counts, step):
        plain = super().objective(sums, counts, step)

        @tf.custom_gradient
        def bounded(value):
            return value, lambda upstream: tf.where(upstream > self.limit, float("inf"), upstream)

        return bounded(plain)


@pytest.fixture
def mixed(qqp_folder):
    system, batches = toy(qqp_folder, toy_settings(mixed_precision=True))
    overflowing = Overflowing(system.settings, system.inputs_)
    return overflowing, TrainStep(overflowing, system.settings, None, compiled=False), first_batches(batches, 1)[0]


def test_overflow_halves_the_scale_and_leaves_the_step_out(mixed) -> None:
    system, step, batch = mixed
    start, states = values(system), checkpoints.variables_of(step.state())
    for number, scale in enumerate((LARGEST_SCALE, LARGEST_SCALE / 2)):
        scalars = step(batch, number)
        assert (scalars["loss_scale"], scalars["grad_norm"], scalars["clipped"]) == (scale, 0.0, 0.0)
        assert float(step.scale) == scale / 2
        for name, value in start.items():
            np.testing.assert_array_equal(values(system)[name], value, err_msg=name)
        moments = {name: value for name, value in checkpoints.variables_of(step.state()).items() if name.startswith("optimizer/")}
        for name, value in moments.items():
            np.testing.assert_array_equal(value, states[name], err_msg=name)
    scalars = step(batch, 2)
    assert scalars["loss_scale"] == float(step.scale) == system.limit
    assert np.isfinite(scalars["grad_norm"])
    assert scalars["grad_norm"] > 0
    assert not np.array_equal(values(system)["model/slope"], start["model/slope"])


@pytest.mark.slow
def test_scale_grows_after_good_steps_and_no_further_than_the_largest(mixed) -> None:
    system, step, batch = mixed
    step.scale.assign(2.0**12)
    step.good.assign(STEPS_TO_GROW - 1)
    step(batch, 0)
    assert (float(step.scale), int(step.good)) == (2.0**13, 0)
    step(batch, 1)
    assert (float(step.scale), int(step.good)) == (2.0**13, 1)
    system.limit = np.inf
    unbounded = TrainStep(system, system.settings, None, compiled=False)
    unbounded.good.assign(STEPS_TO_GROW - 1)
    unbounded(batch, 0)
    assert float(unbounded.scale) == LARGEST_SCALE


def test_an_infinite_gradient_at_the_least_scale_is_reported(mixed) -> None:
    system, step, batch = mixed
    system.limit = 0.5
    step.scale.assign(2.0)
    assert step(batch, 0)["grad_norm"] == 0.0
    assert not np.isfinite(step(batch, 1)["grad_norm"])
    assert float(step.scale) == 1.0


@pytest.mark.slow
def test_scaled_step_equals_the_plain_one(qqp_folder) -> None:
    """The toy computes in float32 throughout, and a power of two changes no digit."""
    plain, system, _ = run(qqp_folder)
    scaled, other, _ = run(qqp_folder, mixed_precision=True)
    for ours, theirs in zip(scaled, plain, strict=True):
        assert {name: ours[name] for name in theirs} == theirs
    for name, value in values(system).items():
        np.testing.assert_array_equal(values(other)[name], value, err_msg=name)
