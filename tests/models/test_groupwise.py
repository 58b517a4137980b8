"""Group-wise: its two phases, what is frozen, that both models read the same pairs, that it is a Transformer without the contrast."""

import math

import numpy as np
import pytest
import tensorflow as tf
from small_systems import SMALL, batches_of, first_batch, new_system, overfit, read, step_of, steps

from hcl_tf.layers.noise import Noise
from hcl_tf.models.groupwise import HELD_OUT_NLL, contrast_share
from hcl_tf.training import assembly
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run
from hcl_tf.training.step import TrainStep
from hcl_tf.training.text_states import TextStates
from hcl_tf.training.validation import Validation

STEP = tf.constant(3)
FAST = {"mle_steps": 2, "contrast_middle": 0.0, "contrast_width": 1.0, "matching_steps": 20, "group_draws": 3}


def prepared(folder, **given):
    """The system with its matching model trained."""
    system = new_system(folder, "groupwise", **{**FAST, **given})
    data, train, _ = read(folder)
    system.before_epoch(0, TextStates(data, train, keep=False))
    return system


@pytest.fixture(scope="module")
def system(qqp_folder):
    """In its second phase, target and reference apart. Tests that train use one of their own."""
    found = prepared(qqp_folder)
    found.begin_phase()
    random = np.random.default_rng(0)
    for path, variable in assembly.variables(found).items():
        if "reference" not in path and "matching" not in path and variable.dtype == tf.float32:
            variable.assign_add(random.normal(0, 0.02, variable.shape))
    return found


@pytest.fixture(scope="module")
def batch(qqp_folder, system):
    return first_batch(qqp_folder, system)


def by_path(system, part: str = "") -> dict[str, np.ndarray]:
    return {path: v.numpy() for path, v in assembly.variables(system).items() if part in path}


def sums_of(system, batch, training: bool = True) -> dict[str, float]:
    noise = Noise(1, STEP, batch["example_rows"])
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise, training).items()}


# -- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-1, 0, 1, 2500, 3500, 4500, 9000])
def test_the_ramp_is_a_tanh_over_the_second_phase(step):
    expected = 0.0 if step < 0 else (math.tanh((step - 3500) / 1000) + 1) / 2
    assert float(contrast_share(tf.constant(step), 3500.0, 1000.0)) == pytest.approx(expected, abs=1e-6)


def test_objective_moves_from_likelihood_to_contrast(qqp_folder):
    system = new_system(
        qqp_folder, "groupwise", **{**FAST, "mle_steps": 100, "contrast_middle": 10.0, "contrast_width": 4.0, "weight_group": 0.5}
    )
    for step, share in ((99, 0.0), (110, 0.25), (500, 0.5)):
        weights = {name: float(weight) for name, weight in system.weights_of(tf.constant(step)).items()}
        assert weights == pytest.approx({"nll_smoothed": 1 - share, "group": share}, abs=1e-6)
    before = {name: float(weight) for name, weight in system.weights_of(None).items()}
    assert before == {"nll": 1.0, "group": 0.0, "nll_token": 0.0}
    system.begin_phase()
    after = {name: float(weight) for name, weight in system.weights_of(None).items()}
    assert after == {"nll": 0.0, "group": 1.0, "nll_token": HELD_OUT_NLL}


def test_the_contrast_is_the_mean_over_pairs(system, batch):
    """Pair by pair, from the two models' NLLs and the matching scores."""
    found = sums_of(system, batch, training=False)
    total = gain_true = gain_drawn = score_drawn = 0.0
    rows, draws = batch["group_source_ids"].shape[:2]
    for row in range(rows):
        source, target = batch["source_ids"][row], batch["target_ids"][row]
        pairs = [(source, target), *((batch["group_source_ids"][row, i], batch["group_target_ids"][row, i]) for i in range(draws))]
        for number, (x, y) in enumerate(pairs):
            pair = {"source_ids": x[None], "target_ids": y[None], "example_mask": tf.ones([1])}
            g = float(system.reference.text_nll(pair, None)[0] - system.text_nll(pair, None)[0])
            s = float(system.matching(x[None], y[None])[0]) if number else 1.0
            h = 1 / (1 + math.exp(-g))
            total -= math.log(0.5 - s * (0.5 - h)) / (1 + draws)
            gain_true += g if number == 0 else 0
            gain_drawn += g / draws if number else 0
            score_drawn += s / draws if number else 0
    assert abs(gain_true) > 1, "the two models differ"
    expected = {"group": total, "gain_true": gain_true, "gain_drawn": gain_drawn, "score_drawn": score_drawn}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_pairs_are_the_corpus_s_own_where_it_scored_them(system, batch):
    scores = np.linspace(-1, 1, batch["group_source_ids"].shape[0] * 3).reshape(-1, 3).astype(np.float32)
    found = sums_of(system, {**batch, "group_scores": tf.constant(scores)}, training=False)
    assert found["score_drawn"] == pytest.approx(scores.mean(1).sum(), abs=1e-5)
    assert found["group"] != pytest.approx(sums_of(system, batch, training=False)["group"], rel=1e-3)


def test_both_models_get_the_same_pairs_and_the_same_noise(qqp_folder, batch):
    """So at the start of the second phase, dropout on, no pair is likelier under one of them, and every loss is ln 2."""
    fresh = prepared(qqp_folder, dropout=0.4)
    assert sums_of(fresh, batch)["group"] == 0.0, "the first phase computes none of it"
    fresh.begin_phase()
    found = sums_of(fresh, batch)
    rows = batch["example_mask"].shape[0]
    assert found["gain_true"] == found["gain_drawn"] == 0.0
    assert found["group"] == pytest.approx(rows * math.log(2), rel=1e-6)


def test_losses_of_a_batch_are_the_sum_over_its_parts(system, batch):
    parts = [{name: tensor if name.startswith("graph_") else tensor[i : i + 2] for name, tensor in batch.items()} for i in range(0, 8, 2)]
    each = [sums_of(system, part) for part in parts]
    for name, total in sums_of(system, batch).items():
        assert sum(part[name] for part in each) == pytest.approx(total, rel=1e-4, abs=1e-4), name


def test_a_row_that_fills_up_does_not_count(system, batch):
    filled = {**batch, "example_mask": tf.constant([1.0] * 7 + [0.0])}
    real = {name: tensor if name.startswith("graph_") else tensor[:7] for name, tensor in batch.items()}
    assert sums_of(system, filled, training=False) == pytest.approx(sums_of(system, real, training=False), rel=1e-5)


# -- phases -----------------------------------------------------------------------------------------------------------


def run(folder, system, count: int) -> list[dict[str, float]]:
    """Steps as the loop takes them."""
    step, scalars = step_of(system), []
    for number, batch in enumerate(batches_of(folder, system).dataset(0).take(count)):
        if number in system.phases():
            system.begin_phase()
        scalars.append(step(batch, number))
    return scalars


@pytest.mark.slow
def test_without_the_contrast_it_is_the_transformer(qqp_folder):
    plain = new_system(qqp_folder, "transformer")
    wanted = steps(qqp_folder, plain, 3)
    without = new_system(qqp_folder, "groupwise", weight_group=0.0)
    assert run(qqp_folder, without, 3) == wanted
    assert without.phases() == ()
    for path, value in by_path(plain).items():
        np.testing.assert_array_equal(by_path(without)[path], value, err_msg=path)


@pytest.mark.slow
def test_the_first_phase_is_the_transformer_and_the_second_leaves_reference_and_matching_alone(qqp_folder):
    wanted = steps(qqp_folder, new_system(qqp_folder, "transformer"), 3)
    system = prepared(qqp_folder)
    matching = by_path(system, "matching")
    frozen = {id(v) for part in (system.reference, system.matching) for v in part.variables}
    assert not frozen & {id(v) for variables, _ in system.learning_rates().values() for v in variables}
    scalars = run(qqp_folder, system, 4)
    for found, expected in zip(scalars[:2], wanted, strict=False):
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert [each["group"] > 0 for each in scalars] == [False, False, True, True]
    mle = new_system(qqp_folder, "transformer")
    steps(qqp_folder, mle, 2)
    for path, value in by_path(mle).items():
        np.testing.assert_allclose(by_path(system)[path.replace("model/", "model/reference.")], value, rtol=1e-4, atol=1e-6, err_msg=path)
    moved = [path for path, value in by_path(mle).items() if not np.allclose(by_path(system)[path], value, atol=1e-5)]
    assert len(moved) > len(by_path(mle)) / 2
    for path, value in by_path(system, "matching").items():
        np.testing.assert_array_equal(value, matching[path], err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [4, 5])
def test_a_run_killed_at_the_boundary_ends_as_if_it_had_not_been(qqp_folder, tmp_path, monkeypatch, stop):
    """Through everything that a run has: right before the reference is made, and right after it was, before a checkpoint has it."""
    given = {"model": "groupwise", **SMALL, **FAST, "mle_steps": 4, "max_steps": 7, "checkpoint_every": 2, "dropout": 0.3}
    take = TrainStep.__call__

    def killed(step, batch, number):
        if number == stop:
            raise KeyboardInterrupt
        return take(step, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            launch("qqp", qqp_folder, str(tmp_path / "killed"), "tiny", given, ["train"])
    ended = []
    for name in ("killed", "whole"):
        launch("qqp", qqp_folder, str(tmp_path / name), "tiny", given, ["train"])
        ended.append(load_run(tmp_path / name))
    saved = [run.checkpoints.read("best_loss") for run in ended]
    assert saved[0].step == saved[1].step == 7
    for name, value in saved[1].arrays.items():
        np.testing.assert_array_equal(saved[0].arrays[name], value, err_msg=name)
    assert ended[0].read_metrics() == ended[1].read_metrics()
    reference = [name for name in saved[0].arrays if ".reference" in name or "/reference" in name]
    assert any((saved[0].arrays[name] != saved[0].arrays[name.replace("reference.", "")]).any() for name in reference)


@pytest.mark.slow
def test_micro_batches_take_the_same_step(qqp_folder):
    whole, parts = (run(qqp_folder, prepared(qqp_folder, micro_batch=size), 4) for size in (0, 4))
    for a, b in zip(whole, parts, strict=True):
        assert {k: v for k, v in b.items() if k != "grad_norm"} == pytest.approx(
            {k: v for k, v in a.items() if k != "grad_norm"}, rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize(
    "folder", ["qqp_folder", *(pytest.param(f"{task}_folder", marks=pytest.mark.slow) for task in ("douban", "rocstories"))]
)
def test_the_matching_model_knows_held_out_pairs_from_random_ones(folder, request):
    """With another example's target in turn, so that chance is a half."""
    folder = request.getfixturevalue(folder)
    system = prepared(folder)
    held_out = read(folder)[0].arrays("test")
    score = lambda targets: system.matching(tf.constant(held_out.source_ids), tf.constant(targets)).numpy()  # noqa: E731
    own = score(held_out.target_ids)
    right = [(own > score(np.roll(held_out.target_ids, shift, 0))).mean() for shift in range(1, len(held_out))]
    assert np.mean(right) > 0.6
    assert (abs(own) <= 1).all()
    data = read(folder)[0]
    diagnostics = Validation.of_pairs(system, data, held_out).diagnose()
    assert set(diagnostics["order_match"]) <= {0.0, 1.0}


def test_validation_loss_belongs_to_its_phase(qqp_folder):
    system = prepared(qqp_folder)
    data, train, held_out = read(qqp_folder)
    validation = Validation.of_pairs(system, data, held_out, [system.columns(data, "validation", held_out, train)])
    first = validation.loss()
    assert first["loss"] == first["nll"]
    system.begin_phase()
    second = validation.loss()
    assert second["group"] == pytest.approx(math.log(2), rel=1e-5)
    assert second["loss"] == pytest.approx(second["group"] + HELD_OUT_NLL * second["nll_token"], rel=1e-6)
    assert validation.loss() == second


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["douban_folder", "rocstories_folder"])
def test_both_phases_on_the_other_tasks(folder, request):
    folder = request.getfixturevalue(folder)
    for scalars in run(folder, prepared(folder), 4):
        assert all(np.isfinite(value) for value in scalars.values())


@pytest.mark.slow
def test_xla_takes_the_same_step(qqp_folder):
    found = {}
    for compiled in (False, True):
        system = prepared(qqp_folder)
        system.begin_phase()
        step = step_of(system, compiled)
        found[compiled] = [step(batch, 2 + number) for number, batch in enumerate(batches_of(qqp_folder, system).dataset(0).take(2))]
    for plain, fast in zip(found[False], found[True], strict=True):
        assert fast == pytest.approx(plain, rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_the_contrast_alone_makes_matching_pairs_likelier(qqp_folder):
    """Eight examples, after as much likelihood as 20 steps give: the true pairs gain on the reference, and more than the drawn ones."""
    system = prepared(qqp_folder, mle_steps=20, dropout=0.0, matching_steps=100)
    overfit(qqp_folder, system, 20)
    system.begin_phase()
    step, batch = step_of(system), first_batch(qqp_folder, system)
    scalars = [step(batch, 1000 + number) for number in range(20)]
    assert scalars[0]["group"] == pytest.approx(math.log(2), rel=1e-4)
    assert scalars[-1]["group"] < 0.6
    assert scalars[-1]["gain_true"] > scalars[-1]["gain_drawn"] + 1
