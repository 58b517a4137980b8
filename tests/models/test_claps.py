"""CLAPS: both contrasts against loops, how far and which way states are moved, what carries a gradient, and T5 without contrasts."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit
from system_toolkit.kit import FILLER, STEP, noise_of

from hcl_tf.data.batching.batches import Batch
from hcl_tf.errors import UserError
from hcl_tf.models.claps import CLAPS


@pytest.fixture(scope="module")
def made(qqp_folder) -> Callable[..., Kit]:
    """A kit with some settings."""
    return partial(Kit, qqp_folder, "claps", output_vocab="full", decoder_layers=2)


@pytest.fixture(scope="module")
def kit(made) -> Kit:
    return made()


@pytest.fixture(scope="module")
def claps(kit) -> CLAPS:
    return kit.system


@pytest.fixture(scope="module")
def batch(kit) -> Batch:
    return kit.training


class Parts:
    """What the contrasts are made of, without dropout, as NumPy arrays: memory, states and their moved forms."""

    def __init__(self, system: CLAPS, batch: dict) -> None:
        self.system, self.batch = system, batch
        memory, states = system.encode_and_teach(batch, None)
        self.memory, self.states = memory.numpy(), states.numpy()
        self.source_mask, self.mask = system.source_mask(batch).numpy(), system.target_mask(batch).numpy()
        self.kernel, self.bias = (variable.numpy() for variable in (system.projection.kernel, system.projection.bias))
        self.table = system.tokens.weights_of_output().numpy()
        self.distant = system.distant(batch, system.pool(memory, self.source_mask), states).numpy()
        untouched = system.tokens.divergence_gradient
        system.tokens.divergence_gradient = lambda states, far, weights: tf.zeros_like(far)
        self.far = system.distant(batch, system.pool(memory, self.source_mask), states).numpy()
        system.tokens.divergence_gradient = untouched
        # The impostor, from the closed form of the NLL's gradient.
        labels = system.tokens.columns(system.labels(batch)).numpy()
        gradient = (self.softmax(self.states) - np.eye(len(self.table))[labels]) @ self.table
        self.impostor = self.states + self.along(gradient, system.settings.claps_impostor_norm)

    def softmax(self, states: np.ndarray) -> np.ndarray:
        scores = np.exp(states @ self.table.T - (states @ self.table.T).max(-1, keepdims=True))
        return scores / scores.sum(-1, keepdims=True)

    def along(self, gradient: np.ndarray, norm: float) -> np.ndarray:
        lengths = np.linalg.norm(gradient, axis=-1, keepdims=True)
        return norm * self.mask[:, :, None] * gradient / np.where(lengths == 0, 1, lengths)

    def pooled(self, states: np.ndarray, mask: np.ndarray) -> np.ndarray:
        kept = [np.maximum(state @ self.kernel + self.bias, 0) for state, real in zip(states, mask, strict=True) if real]
        return np.mean(kept, 0)

    def losses(self, states: np.ndarray, positives: np.ndarray, impostors: np.ndarray | None, tau: float, groups: int = 4) -> list[float]:
        """-log of the positive's share, example by example; negatives are the other real examples' `states`."""

        def cosine(a: np.ndarray, b: np.ndarray) -> float:
            return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

        found, real = [], self.batch["example_mask"].numpy()
        for i in range(len(states)):
            source = self.pooled(self.memory[i], self.source_mask[i])
            shares = [cosine(source, self.pooled(positives[i], self.mask[i]))]
            if impostors is not None:
                shares.append(cosine(source, self.pooled(impostors[i], self.mask[i])))
            for j in range(len(states)):
                if j != i and real[j] and i // groups == j // groups:
                    shares.append(cosine(source, self.pooled(states[j], self.mask[j])))
            shares = [math.exp(share / tau) for share in shares]
            found.append(-math.log(shares[0] / sum(shares)) if real[i] else 0.0)
        return found


@pytest.fixture(scope="module")
def parts(claps, batch) -> Parts:
    return Parts(claps, batch)


# -- the base ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_contrasts_it_is_t5_step_by_step(qqp_folder):
    plain, contrastive = (Kit(qqp_folder, model, **given).walked for model, given in (("t5", {}), ("claps", {"weight_claps": 0.0})))
    assert plain.scalars == contrastive.scalars
    assert list(plain.states[-1]) == list(contrastive.states[-1])
    for path, value in plain.states[-1].items():
        np.testing.assert_array_equal(value, contrastive.states[-1][path], err_msg=path)


@pytest.mark.slow
def test_its_nll_is_t5_s(qqp_folder, kit, batch):
    t5 = Kit(qqp_folder, "t5", output_vocab="full", decoder_layers=2)
    plain, found = (one.sums(batch, True, one.new()) for one in (t5, kit))
    assert {name: found[name] for name in plain} == pytest.approx(plain, rel=1e-6)


# -- moved states -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("impostor_norm", "distant_norm"), [(1.0, 3.0), (0.5, 2.0)])
def test_every_token_is_moved_by_its_norm_and_padding_not_at_all(made, batch, impostor_norm, distant_norm):
    parts = Parts(made(claps_impostor_norm=impostor_norm, claps_distant_norm=distant_norm).system, batch)
    for moved, norm in ((parts.impostor - parts.states, impostor_norm), (parts.far - parts.states, distant_norm)):
        np.testing.assert_allclose(np.linalg.norm(moved, axis=-1), norm * parts.mask, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(parts.distant - parts.far, axis=-1), distant_norm * parts.mask, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e6])
def test_the_length_of_a_gradient_does_not_count(size):
    gradient = size * np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    gradient[1, 2] = 0
    states = np.zeros_like(gradient)
    lengths = np.linalg.norm(CLAPS.moved(tf.constant(states), tf.constant(gradient), 3.0), axis=-1)
    np.testing.assert_allclose(lengths, [[3, 3, 3], [3, 3, 0]], rtol=1e-5)


def test_defaults_are_the_paper_s(claps):
    s = claps.settings
    assert (s.claps_impostor_norm, s.claps_distant_norm, s.tau_claps, s.weight_claps) == (1.0, 3.0, 0.1, 0.5)
    assert claps.weights_of(tf.constant(1)) == {"nll": 1.0, "claps": 0.5, "claps_distant": 0.5}
    assert claps.weights_of(None) == {"nll": 1.0}, "the likelihood alone chooses the checkpoint"


def test_contrasts_count_as_often_as_a_text_has_tokens(claps, batch):
    """As beside the authors' likelihood, which is a mean over tokens."""
    step = tf.constant(1)
    sums, counts = claps.losses(batch, step, noise_of(batch), True), claps.counts(batch)
    value = {name: float(total.value) for name, total in sums.items()}
    examples, tokens = float(counts["examples"]), float(counts["tokens"])
    a_token = value["nll"] / tokens + 0.5 * (value["claps"] + value["claps_distant"]) / examples
    assert float(claps.objective(sums, counts, step)) == pytest.approx(a_token * tokens / examples, rel=1e-5)


def test_the_distant_positive_goes_up_the_contrast_and_down_the_divergence(parts):
    tau, place, width = 0.1, (1, 2), parts.states.shape[-1]
    slope = np.zeros(width)
    for k in range(width):  # central differences of the contrast without impostor, in one token of one target
        ends = []
        for sign in (1, -1):
            states = parts.states.astype(np.float64)
            states[(*place, k)] += sign * 1e-4
            ends.append(sum(parts.losses(states, states, None, tau)))
        slope[k] = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(parts.far[place] - parts.states[place], 3 * slope / np.linalg.norm(slope), atol=0.02)
    gradient = (parts.softmax(parts.far) - parts.softmax(parts.states)) @ parts.table
    np.testing.assert_allclose(parts.distant - parts.far, -parts.along(gradient, 3.0), atol=1e-3)


# -- contrasts --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.1, 0.7])
def test_both_contrasts_are_their_loops(made, batch, tau):
    kit = made(tau_claps=tau)
    parts, found = Parts(kit.system, batch), kit.sums(batch, False)
    assert found["claps"] == pytest.approx(sum(parts.losses(parts.states, parts.states, parts.impostor, tau)), rel=1e-3)
    assert found["claps_distant"] == pytest.approx(sum(parts.losses(parts.states, parts.distant, parts.impostor, tau)), rel=1e-3)


def test_a_row_that_fills_up_is_no_negative(kit, claps):
    batch = kit.batch([3, 14, FILLER, 92])
    parts, found = Parts(claps, batch), kit.sums(batch, False)
    assert found["claps"] == pytest.approx(sum(parts.losses(parts.states, parts.states, parts.impostor, 0.1)), rel=1e-3)


@pytest.mark.slow
def test_moved_states_carry_no_gradient_to_the_decoder(claps, batch):
    """Seen with one example, which has no negatives: the second contrast trains projection and encoder, the first the decoder too."""
    one = {name: tensor[:1] for name, tensor in batch.items()}
    decoder, encoder = (stack.final_layer_norm.weight for stack in (claps.t5.decoder, claps.t5.encoder))
    with tf.GradientTape(persistent=True) as tape:
        sums = claps.losses(one, STEP, noise_of(one), training=False)

    def slope(name: str, variable: tf.Variable) -> tf.Tensor:
        return tape.gradient(sums[name].value, variable)

    assert not np.any(slope("claps_distant", decoder))
    assert float(tf.norm(slope("claps", decoder))) > 0
    for name in ("claps", "claps_distant"):
        assert float(tf.norm(slope(name, encoder))) > 0
        assert float(tf.norm(slope(name, claps.projection.kernel))) > 0


@pytest.mark.slow
def test_negatives_are_those_within_groups(made, batch):
    kit = made(claps_group=2, micro_batch=2)
    parts, found = Parts(kit.system, batch), kit.sums(batch, False)
    expected = parts.losses(parts.states, parts.states, parts.impostor, 0.1, groups=2)
    assert found["claps"] == pytest.approx(sum(expected), rel=1e-3)


@pytest.mark.parametrize("given", [{"micro_batch": 2}, {"strategy": "mirrored"}, {"micro_batch": 2, "claps_group": 4}])
def test_a_divided_batch_needs_groups(made, given):
    with pytest.raises(UserError, match=r"^--micro_batch and --strategy divide the batch"):
        made(**given).new()


def test_a_group_divides_the_batch(made):
    with pytest.raises(UserError, match=r"^--claps_group=3: --batch_size=4"):
        made(claps_group=3).new()


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(kit, rule):
    rule(kit)
