"""Group-wise: its two phases, what is frozen, that both models read the same pairs, that it is a Transformer without the contrast."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import Kit
from system_toolkit.kit import STEP, noise_of

from hcl_tf.data.batching.batches import Batch
from hcl_tf.models import registry
from hcl_tf.models.groupwise import HELD_OUT_NLL, Groupwise, contrast_share
from hcl_tf.training import assembly
from hcl_tf.training.launch import launch
from hcl_tf.training.run_folder import load_run
from hcl_tf.training.step import TrainStep
from hcl_tf.training.validation import Validation

FAST = {
    "encoder": "random:1x32", "batch_size": 8, "mle_steps": 2, "contrast_middle": 0.0, "contrast_width": 1.0, "matching_steps": 20,
    "group_draws": 3,
}  # fmt: skip


def kit_of(folder: Path, model: str = "groupwise", **given) -> Kit:
    return Kit(folder, model, **{**registry.used(model, FAST), **given})


def batches_of(kit: Kit, count: int) -> list[Batch]:
    """The first ones of a run."""
    return list(kit.batches(kit.settings.batch_size).dataset(0).take(count))


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return kit_of(qqp_folder)


@pytest.fixture(scope="module")
def system(kit) -> Groupwise:
    """In its second phase, target and reference a little apart. Tests that train use one of their own."""
    found, random = kit.begun(), np.random.default_rng(0)
    found.begin_phase()
    for variable in found.trainable_variables:
        variable.assign_add(random.normal(0, 0.02, variable.shape))
    return found


@pytest.fixture(scope="module")
def batch(kit) -> Batch:
    return batches_of(kit, 1)[0]


def by_path(system, part: str = "") -> dict[str, np.ndarray]:
    return {path: v.numpy() for path, v in assembly.variables(system).items() if part in path}


def sums_of(system, batch, training: bool = True) -> dict[str, float]:
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise_of(batch), training).items()}


# -- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-1, 0, 1, 2500, 3500, 4500, 9000])
def test_the_ramp_is_a_tanh_over_the_second_phase(step):
    expected = 0.0 if step < 0 else (math.tanh((step - 3500) / 1000) + 1) / 2
    assert float(contrast_share(tf.constant(step), 3500.0, 1000.0)) == pytest.approx(expected, abs=1e-6)


def test_objective_moves_from_likelihood_to_contrast(qqp_folder):
    system = kit_of(qqp_folder, mle_steps=100, contrast_middle=10.0, contrast_width=4.0, weight_group=0.5).new()
    for step, share in ((99, 0.0), (110, 0.25), (500, 0.5)):
        weights = {name: float(weight) for name, weight in system.weights_of(tf.constant(step)).items()}
        assert weights == pytest.approx({"nll_smoothed": 1 - share, "group": share}, abs=1e-6)
    before = {name: float(weight) for name, weight in system.weights_of(None).items()}
    assert before == {"nll": 1.0, "group": 0.0, "nll_token": 0.0}
    system.begin_phase()
    after = {name: float(weight) for name, weight in system.weights_of(None).items()}
    assert after == {"nll": 0.0, "group": 1.0, "nll_token": HELD_OUT_NLL}


@pytest.mark.slow
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


@pytest.mark.slow
def test_pairs_are_the_corpus_s_own_where_it_scored_them(system, batch):
    scores = np.linspace(-1, 1, batch["group_source_ids"].shape[0] * 3).reshape(-1, 3).astype(np.float32)
    found = sums_of(system, {**batch, "group_scores": tf.constant(scores)}, training=False)
    assert found["score_drawn"] == pytest.approx(scores.mean(1).sum(), abs=1e-5)
    assert found["group"] != pytest.approx(sums_of(system, batch, training=False)["group"], rel=1e-3)


@pytest.mark.slow
def test_both_models_get_the_same_pairs_and_the_same_noise(qqp_folder, batch):
    """So at the start of the second phase, dropout on, no pair is likelier under one of them, and every loss is ln 2."""
    fresh = kit_of(qqp_folder, dropout=0.4).begun()
    assert sums_of(fresh, batch)["group"] == 0.0, "the first phase computes none of it"
    fresh.begin_phase()
    found = sums_of(fresh, batch)
    rows = batch["example_mask"].shape[0]
    assert found["gain_true"] == found["gain_drawn"] == 0.0
    assert found["group"] == pytest.approx(rows * math.log(2), rel=1e-6)


# -- phases -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_the_contrast_it_is_the_transformer(qqp_folder):
    kits = kit_of(qqp_folder, "transformer"), kit_of(qqp_folder, weight_group=0.0)
    plain, without = (one.walk(batches_of(one, 3)) for one in kits)
    assert without.scalars == plain.scalars
    assert without.system.phases() == ()
    for path, value in plain.states[-1].items():
        np.testing.assert_array_equal(without.states[-1][path], value, err_msg=path)


@pytest.mark.slow
def test_the_first_phase_is_the_transformer_and_the_second_leaves_reference_and_matching_alone(qqp_folder, kit):
    plain = kit_of(qqp_folder, "transformer")
    mle, walk, matching = plain.walk(batches_of(plain, 3)), kit.walk(batches_of(kit, 4)), by_path(kit.begun(), "matching")
    system, scalars, wanted = walk.system, walk.scalars, mle.scalars
    frozen = {id(v) for part in (system.reference, system.matching) for v in part.variables}
    assert not frozen & {id(v) for variables, _ in system.learning_rates().values() for v in variables}
    for found, expected in zip(scalars[:2], wanted, strict=False):
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert [each["group"] > 0 for each in scalars] == [False, False, True, True]
    after = {path: value for path, value in mle.states[1].items() if path.startswith("model/")}
    for path, value in after.items():
        np.testing.assert_allclose(by_path(system)[path.replace("model/", "model/reference.")], value, rtol=1e-4, atol=1e-6, err_msg=path)
    moved = [path for path, value in after.items() if not np.allclose(by_path(system)[path], value, atol=1e-5)]
    assert len(moved) > len(after) / 2
    for path, value in by_path(system, "matching").items():
        np.testing.assert_array_equal(value, matching[path], err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [4, 5])
def test_a_run_killed_at_the_boundary_ends_as_if_it_had_not_been(qqp_folder, tmp_path, monkeypatch, stop):
    """Through everything that a run has: right before the reference is made, and right after it was, before a checkpoint has it."""
    given = {**kit_of(qqp_folder, mle_steps=4, dropout=0.3).given, "max_steps": 7, "checkpoint_every": 2}
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
@pytest.mark.parametrize(
    "folder", ["qqp_folder", *(pytest.param(f"{task}_folder", marks=pytest.mark.slow) for task in ("douban", "rocstories"))]
)
def test_the_matching_model_knows_held_out_pairs_from_random_ones(folder, request):
    """With another example's target in turn, so that chance is a half."""
    kit = kit_of(request.getfixturevalue(folder))
    system, held_out = kit.begun(), kit.data.arrays("test")

    def score(targets: np.ndarray) -> np.ndarray:
        return system.matching(tf.constant(held_out.source_ids), tf.constant(targets)).numpy()

    own = score(held_out.target_ids)
    right = [(own > score(np.roll(held_out.target_ids, shift, 0))).mean() for shift in range(1, len(held_out))]
    assert np.mean(right) > 0.6
    assert (abs(own) <= 1).all()
    diagnostics = Validation.of_pairs(system, kit.data, held_out).diagnose()
    assert set(diagnostics["order_match"]) <= {0.0, 1.0}


@pytest.mark.slow
def test_validation_loss_belongs_to_its_phase(kit):
    system, held_out = kit.begun(), kit.data.arrays("validation")
    further = [system.columns(kit.data, "validation", held_out, kit.train)]
    validation = Validation.of_pairs(system, kit.data, held_out, further)
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
    kit = kit_of(request.getfixturevalue(folder))
    for scalars in kit.walk(batches_of(kit, 4)).scalars:
        assert all(np.isfinite(value) for value in scalars.values())


@pytest.mark.slow
def test_the_contrast_alone_makes_matching_pairs_likelier(qqp_folder):
    """Eight examples, after as much likelihood as 20 steps give: the true pairs gain on the reference, and more than the drawn ones."""
    kit = kit_of(qqp_folder, mle_steps=20, dropout=0.0, matching_steps=100)
    batch = batches_of(kit, 1)[0]
    walk = kit.walk([batch] * 20)
    walk.system.begin_phase()
    walk.go_on([batch] * 20, 1000)
    scalars = walk.scalars[20:]
    assert scalars[0]["group"] == pytest.approx(math.log(2), rel=1e-4)
    assert scalars[-1]["group"] < 0.6
    assert scalars[-1]["gain_true"] > scalars[-1]["gain_drawn"] + 1
