"""The paper's model on real prepared samples: each term against loops over examples, ablations."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from real_hcl import NONE, STEP, WIDTH, B, Z, cosine, head_of, junk_texts, kl_of, noise_of, part_of, sums_of, without_impostors
from system_toolkit import VARIED, Kit

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.subgraph import ROUTES
from hcl_tf.decoding.beam_search import UNMOVED
from hcl_tf.errors import UserError
from hcl_tf.layers.noise import Noise
from hcl_tf.models.hcl import HCL
from hcl_tf.training import assembly

# -- sums -------------------------------------------------------------------------------------------------------------


def test_losses_of_a_batch_are_the_sum_over_its_parts_where_an_example_has_no_impostor(hcl, training):
    training = without_impostors(training, 2)
    each = [sums_of(hcl, part_of(training, slice(row, row + 1))) for row in range(B)]
    for name, total in sums_of(hcl, training).items():
        assert sum(part[name] for part in each) == pytest.approx(total, rel=1e-5, abs=1e-5), name


def test_an_example_without_impostor_is_left_out_of_two_contrasts_and_counted(hcl, training):
    masked = without_impostors(training, 2)
    assert float(hcl.counts(training)["contrasted"]) == B
    assert float(hcl.counts(masked)["contrasted"]) == B - 1
    before, after = sums_of(hcl, training), sums_of(hcl, masked)
    alone = sums_of(hcl, part_of(training, slice(2, 3)))
    for name in ("key", "ma", "order_key", "order_ma", "impostor_cosine"):
        assert after[name] == pytest.approx(before[name] - alone[name], rel=1e-4, abs=1e-4), name
    for name in ("nll", "kl", "ins"):
        assert after[name] == pytest.approx(before[name], rel=1e-6)
    assert after["impostors_none"] == 1
    assert sum(after[f"impostors_{route}"] for route in ROUTES) == B


OTHERS = (
    {"latent_to": "both", "decoder_keyword": True, "bag_of_words": 0.5, "impostor_gradient": True, "copy": False},
    pytest.param({"latent_to": "inputs", "ablate": "graph"}, marks=pytest.mark.slow),
    pytest.param({"ablate": "keyword"}, marks=pytest.mark.slow),
    pytest.param({"decoder_keyword": True, "decoder_keyword_to": "words", "decoder_keyword_of": "target"}, marks=pytest.mark.slow),
    pytest.param(
        {"decoder_keyword": True, "decoder_keyword_to": "words", "decoder_keyword_of": "new", "copy": True}, marks=pytest.mark.slow
    ),
)


@pytest.fixture(scope="module", params=OTHERS, ids=str)
def varied(request, qqp_folder) -> Kit:
    return Kit(qqp_folder, "hcl", **request.param)


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(varied, rule):
    rule(varied)


# -- terms ------------------------------------------------------------------------------------------------------------


def own_terms(system: HCL, batch) -> dict[str, float]:
    """KL and the contrasts, example by example, from text vectors and node states alone (METHOD: eqs 1 to 3, 10, 11)."""
    batch_ = {name: tensor.numpy() for name, tensor in batch.items()}
    texts = {role: system.encode(batch, None, ROLES)[role].numpy() for role in ("source", "target", "negative")}
    states, s = system.node_states.numpy(), system.settings
    scales = [Z if s.contrast_scale in chosen else 1 for chosen in (("both",), ("both", "mahalanobis"))]  # of L_ins, of L_ma
    terms = dict.fromkeys(("kl", "ins", "key", "ma"), 0.0)
    for row in np.flatnonzero(batch_["example_mask"]):
        x, y, negative = (texts[role][row] for role in ("source", "target", "negative"))
        u = {}
        for role in ("source", "target"):
            own = (texts[role][row] - system.text_mean.numpy()) / system.text_scale.numpy()
            own = own @ system.node_projection.kernel.numpy() + system.node_projection.bias.numpy()
            members = [states[node] for node in batch_[f"{role}_nodes"][row] if node >= 0] + [own] * int(batch_[f"{role}_unknown"][row])
            u[role] = np.mean(members or [own], 0)
        prior, posterior, other = (
            head_of(system.prior, x, u["source"]),
            head_of(system.posterior, x, y),
            head_of(system.posterior, x, negative),
        )
        terms["kl"] += kl_of(*posterior, *prior)
        h = [kl_of(*q, *prior) / scales[0] / s.tau_ins for q in (posterior, other)]
        terms["ins"] -= math.log(1 - math.exp(h[0]) / (math.exp(h[0]) + math.exp(h[1])))
        if batch_["impostor_routes"][row] == NONE:
            continue
        means = [np.mean([states[n] for n in nodes if n >= 0], 0) for nodes in batch_["impostor_nodes"][row] if (nodes >= 0).any()]
        impostor = np.mean(means, 0)
        impostor *= np.linalg.norm(u["target"]) / np.linalg.norm(impostor)
        near, far = (math.exp(cosine(u["source"], v) / s.tau_key) for v in (u["target"], impostor))
        terms["key"] -= math.log(near / (near + far))
        away = [(v - posterior[0]) / posterior[1] for v in (u["target"], impostor)]
        h = [float(d @ d) / scales[1] / s.tau_ma for d in away]
        terms["ma"] -= math.log(1 - math.exp(h[0]) / (math.exp(h[0]) + math.exp(h[1])))
    return terms


@pytest.mark.parametrize("scale", ["both", "mahalanobis", "none"])
def test_terms_are_the_papers(make, whole, scale):
    system = make(contrast_scale=scale, tau_ins=0.7, tau_key=0.4, tau_ma=1.6)
    found = sums_of(system, whole, training=False)
    for name, expected in own_terms(system, whole).items():
        assert found[name] == pytest.approx(expected, rel=1e-3), name


def test_nll_is_that_of_the_target_s_pieces_and_its_end(hcl, whole):
    """Summed over a text, [SEP] included and padding not; from z of the posterior and the states of x."""
    texts = hcl.encode(whole, None, ROLES)
    posterior = hcl.posterior_of(texts["source"], texts["target"])
    z = posterior.mean() + posterior.stddev() * noise_of(whole).normal((Z,))
    states = hcl.decode(whole, texts, hcl.keyword_states(whole, texts, hcl.node_states), z, None)
    log_probabilities = tf.nn.log_softmax(hcl.tokens.logits(states)).numpy()
    columns = {int(piece): column for column, piece in enumerate(hcl.inputs_.output_ids)}
    total, tokens = 0.0, 0
    for row in range(B - 1):
        for t, piece in enumerate(whole["target_ids"].numpy()[row, 1:]):
            if piece != hcl.inputs_.pad_id:
                total, tokens = total - log_probabilities[row, t, columns[int(piece)]], tokens + 1
    sums = sums_of(hcl, whole, training=False)
    assert sums["nll"] == pytest.approx(total, rel=1e-5)
    assert sums["nll_token"] == pytest.approx(total, rel=1e-5)
    assert float(hcl.counts(whole)["tokens"]) == tokens


@pytest.mark.slow
def test_objective_adds_the_weighted_means(make, training):
    system = make(weight_ins=0.5, weight_key=2.0, weight_ma=3.0, kl_ramp=100)
    masked = without_impostors(training, 0)
    sums = system.losses(masked, STEP, noise_of(masked), training=True)
    value = {name: float(total.value) for name, total in sums.items()}
    found = system.objective(sums, system.counts(masked), STEP)
    by_example = (value["nll"] + 0.31 * value["kl"] + 0.5 * value["ins"]) / B
    assert float(found) == pytest.approx(by_example + (2.0 * value["key"] + 3.0 * value["ma"]) / (B - 1), rel=1e-5)
    assert system.weights_of(None)["kl_objective"] == 1.0


def test_the_encoder_has_a_group_of_its_own_unless_it_is_frozen(make, hcl):
    groups = hcl.learning_rates()
    assert {id(v) for v in groups["encoder"][0]} == {id(v) for v in hcl.encoder.trainable_variables}
    frozen = make(freeze_encoder=True)
    assert list(frozen.learning_rates()) == ["rest"]
    assert not frozen.encoder.trainable_variables
    assert frozen.tokens.own.shape == (len(frozen.inputs_.output_ids), WIDTH)


# -- what a setting takes away or adds --------------------------------------------------------------------------------


def test_without_mahalanobis_the_objective_has_no_such_term(make):
    assert set(make(ablate="mahalanobis").weights_of(None)) == {"nll", "kl_objective", "ins", "key"}


def test_bert_cvae_is_hcl_without_contrasts(make, hcl, training):
    base, zero = make("bert_cvae"), make(weight_ins=0.0, weight_key=0.0, weight_ma=0.0)
    sums = sums_of(base, training)
    assert set(sums) == {"nll", "nll_token", "kl", "kl_objective"}
    assert sums == sums_of(zero, training)
    assert sums == sums_of(base, junk_texts(training, "negative"))
    full = sums_of(hcl, training)
    assert {name: full[name] for name in sums} == pytest.approx(sums, rel=1e-5)  # the contrasts change no other term's noise


@pytest.mark.slow
def test_contrasts_ramp_with_the_kl_term_only_if_asked(make):
    """At step 30 of a ramp of 100 the KL term has the weight 0.31."""
    plain, ramped = make(kl_ramp=100), make(kl_ramp=100, contrast_ramp=True, weight_ma=2.0)
    assert [float(plain.weights_of(STEP)[name]) for name in ("kl_objective", "ins", "ma")] == pytest.approx([0.31, 1.0, 1.0])
    assert [float(ramped.weights_of(STEP)[name]) for name in ("kl_objective", "ins", "ma")] == pytest.approx([0.31, 0.31, 0.62])
    assert float(ramped.weights_of(None)["ins"]) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False])
def test_the_negatives_posterior_has_a_gradient_unless_that_is_forbidden(make, training, asked):
    """The same value either way; without the gradient only the target's distance trains the posterior."""
    system = make(negative_gradient=asked)
    texts = system.encode(training, None, ROLES)
    keywords = system.keyword_states(training, texts, system.states_of_nodes(training, True))
    with tf.GradientTape(persistent=True) as tape:
        prior, posterior = system.prior_of(texts, keywords), system.posterior_of(texts["source"], texts["target"])
        target, negative = system.instance_distances(texts, prior, posterior)
    kernel = system.posterior.outer.kernel
    assert tape.gradient(target, kernel) is not None
    assert (tape.gradient(negative, kernel) is not None) == asked
    assert tape.gradient(negative, system.prior.outer.kernel) is not None
    with tf.GradientTape(persistent=True) as tape:
        others = system.distances_of_others(texts, system.prior_of(texts, keywords))
    assert (tape.gradient(others, kernel) is not None) == asked, "in-batch targets are negatives, too"
    assert tape.gradient(others, system.prior.outer.kernel) is not None
    np.testing.assert_allclose(negative, make().instance_distances(texts, prior, posterior)[1], rtol=1e-6)


@pytest.mark.slow
def test_free_bits_spare_each_dimension(make, whole):
    system = make(free_bits=0.05)
    by_dimension = system.diagnose(whole, noise_of(whole))["kl_by_dimension"].numpy()[: B - 1]
    assert (by_dimension < 0.05).any()
    assert (by_dimension > 0.05).any()
    sums = sums_of(system, whole, training=False)
    assert sums["kl_objective"] == pytest.approx(sum(max(0.05, value) for row in by_dimension for value in row), rel=1e-5)
    assert sums["kl"] == pytest.approx(by_dimension.sum(), rel=1e-5)


@pytest.mark.slow
def test_bag_of_words_sums_over_the_targets_words(make, whole):
    system = make(bag_of_words=0.5)
    assert system.weights_of(None)["bag_of_words"] == 0.5
    texts = system.encode(whole, None, ROLES)
    z = tf.constant(np.random.default_rng(1).normal(size=(B, Z)), tf.float32)
    found = system.bag_loss(whole, texts["source"], z).numpy()
    inner = np.tanh(np.concatenate([z, texts["source"]], 1) @ system.bag_inner.kernel.numpy() + system.bag_inner.bias.numpy())
    states = inner @ system.bag_outer.kernel.numpy() + system.bag_outer.bias.numpy()
    scores = states @ system.tokens.weights_of_output().numpy().T + system.tokens.bias.numpy()
    columns = {int(piece): column for column, piece in enumerate(system.inputs_.output_ids)}
    skipped = {system.inputs_.pad_id, system.inputs_.cls_id, system.inputs_.sep_id}
    for row in range(B - 1):
        words = [columns[int(piece)] for piece in whole["target_ids"].numpy()[row] if piece not in skipped]
        expected = sum(np.log(np.exp(scores[row]).sum()) - scores[row, word] for word in words)
        assert found[row] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_word_dropout_hides_words_from_the_decoder_in_training_only(make, training):
    system = make(word_dropout=1.0, dropout=0.0)
    texts = system.encode(training, None, ROLES)
    keywords = system.keyword_states(training, texts, system.states_of_nodes(training, True))
    z = tf.zeros([B, Z])
    ids = training["target_ids"].numpy()
    hidden = np.full_like(ids, system.inputs_.unknown_id)
    hidden[:, 0] = ids[:, 0]

    def decode(batch: Batch, noise: Noise | None) -> np.ndarray:
        return system.decode(batch, texts, keywords, z, noise).numpy()

    real = (ids[:, 1:] != system.inputs_.pad_id)[..., None]  # of `hidden` no position is padding
    shown = decode({**training, "target_ids": tf.constant(hidden)}, None) * real
    np.testing.assert_allclose(decode(training, noise_of(training)), shown, atol=1e-6)
    some = make(word_dropout=0.4, dropout=0.0)
    plain = some.decode(training, texts, keywords, z, None).numpy()
    dropped = some.decode(training, texts, keywords, z, noise_of(training)).numpy()
    assert not np.array_equal(plain, dropped)
    np.testing.assert_array_equal(plain[:, 0], dropped[:, 0])  # [CLS] stays


@pytest.mark.slow
def test_in_batch_negatives_join_the_own_one(make, whole):
    system = make(in_batch_negatives=True)
    texts = {role: tensor.numpy() for role, tensor in system.encode(whole, None, ROLES).items()}
    keywords = system.keyword_states(whole, {k: tf.constant(v) for k, v in texts.items()}, system.node_states)
    x, target, u = texts["source"], texts["target"], keywords["source"].numpy()

    def away(i: int, text: np.ndarray) -> float:
        """The distance of example i's own posterior given a text from its prior."""
        return kl_of(*head_of(system.posterior, x[i], text), *head_of(system.prior, x[i], u[i])) / Z

    expected = 0.0
    for i in range(B - 1):
        negatives = [away(i, texts["negative"][i])] + [away(i, target[j]) for j in range(B - 1) if j != i]
        near = math.exp(-away(i, target[i]))
        expected -= math.log(near / (near + sum(math.exp(-h) for h in negatives)))
    assert sums_of(system, whole, training=False)["ins"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_in_batch_negatives_join_the_impostor(make, whole):
    """L_key and L_ma against the graph's impostor and every other target's keywords, by loops over pairs."""
    system = make(in_batch_negatives=True)
    texts = system.encode(whole, None, ROLES)
    keywords = system.keyword_states(whole, texts, system.node_states)
    posterior = system.posterior_of(texts["source"], texts["target"])
    mean, deviation = posterior.mean().numpy(), posterior.stddev().numpy()
    u = {name: states.numpy() for name, states in keywords.items()}
    routes = whole["impostor_routes"].numpy()

    def alike(i: int, v: np.ndarray) -> float:
        return math.exp(cosine(v, u["source"][i]) / 0.1)

    def inside(i: int, v: np.ndarray) -> float:
        return math.exp(-np.sum(((v - mean[i]) / deviation[i]) ** 2) / Z)

    expected = {"key": 0.0, "ma": 0.0}
    for i in range(B - 1):
        if routes[i] == NONE:
            continue
        negatives = [u["impostor"][i]] + [u["target"][j] for j in range(B - 1) if j != i]
        for name, near in (("key", alike), ("ma", inside)):
            own = near(i, u["target"][i])
            expected[name] -= math.log(own / (own + sum(near(i, v) for v in negatives)))
    found = sums_of(system, whole, training=False)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.slow
def test_in_batch_negatives_leave_out_same_sources_and_equal_targets(make, whole):
    """Example 1 gets the source of 0, example 2 the target of 0: only 1 and 2 remain strangers, and the filling row is nobody's."""
    system, changed = make(in_batch_negatives=True), dict(whole)
    for name, row in (("source_ids", 1), ("target_ids", 2)):
        ids = whole[name].numpy()
        ids[row] = ids[0]
        changed[name] = tf.constant(ids)
    texts = system.encode(changed, None, ROLES)
    prior = system.prior_of(texts, system.keyword_states(changed, texts, system.node_states))
    distances, present = system.distances_of_others(texts, prior), system.others_that_count(changed)
    assert present.numpy()[: B - 1].tolist() == [
        [True, False, False, False, False],
        [True, False, False, True, False],
        [True, False, True, False, False],
    ]
    means, deviations = prior.mean().numpy(), prior.stddev().numpy()
    away = kl_of(*head_of(system.posterior, texts["source"][1].numpy(), texts["target"][2].numpy()), means[1], deviations[1])
    assert float(distances[1, 2]) == pytest.approx(away, rel=1e-4)


# -- generation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampled", [False, True])
def test_generation_knows_nothing_of_targets_and_negatives(hcl, whole, sampled):
    changed = junk_texts(whole, "target", "negative")
    changed["impostor_nodes"] = tf.fill(whole["impostor_nodes"].shape, -1)
    changed["target_unknown"] = whole["target_unknown"] + 3
    starts = (tf.nest.flatten(hcl.start(batch, 2, noise_of(batch) if sampled else None)) for batch in (whole, changed))
    for here, there in zip(*starts, strict=True):
        np.testing.assert_array_equal(here, there)


def test_sampling_draws_z(hcl, whole):
    mean, drawn = (hcl.start(whole, 1, noise)[1]["memory"][0][0][0].numpy() for noise in (None, noise_of(whole)))
    assert abs(mean[:, :, 0] - drawn[:, :, 0]).max() > 1e-4
    np.testing.assert_array_equal(mean[:, :, 1:], drawn[:, :, 1:])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "inputs", "both"])
def test_z_moves_what_is_said_of_each_example(make, whole, place):
    system = make(latent_to=place)
    texts = system.encode(whole, None, ROLES)
    keywords = system.keyword_states(whole, texts, system.node_states)
    z = system.prior_of(texts, keywords).mean()
    here, there = (tf.nn.log_softmax(system.tokens.logits(system.decode(whole, texts, keywords, one, None))) for one in (z, z + 1.0))
    assert (abs(here - there).numpy().max((1, 2)) > 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "slots", "layers"), [("memory", 1, {"memory"}), ("inputs", 0, {"inputs"}), ("both", 1, {"memory", "inputs"})]
)
def test_the_decoder_has_only_the_ways_for_z_that_were_asked_for(make, whole, place, slots, layers):
    system = make(latent_to=place)
    texts = system.encode(whole, None, ROLES)
    memory, mask = system.memory(texts, system.keyword_states(whole, texts, system.node_states), tf.zeros([B, Z]))
    assert memory.shape[1] == mask.shape[1] == whole["source_ids"].shape[1] + slots
    assert {path.split("/")[1].split(".")[0] for path in assembly.variables(system) if "/latent_" in path} == {
        f"latent_{name}" for name in layers
    }


@pytest.mark.slow
def test_half_precision_decodes_what_single_precision_does(make, hcl, whole):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = make(mixed_precision=True)
        sums = half.losses(whole, STEP, noise_of(whole), training=False)
        cache, fixed = half.start(whole, 1, None)
        first = half.tokens.columns(whole["target_ids"][:, 0])
        found, cache = half.step(first, tf.constant(0), cache, fixed)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {total.value.dtype for total in sums.values()} == {tf.float32}
    assert cache[UNMOVED][0][0][0].dtype == tf.float16
    cache, fixed = hcl.start(whole, 1, None)
    expected = hcl.step(first, tf.constant(0), cache, fixed)[0]
    np.testing.assert_allclose(found, expected, atol=0.05)  # logits of order 1 through some layers of 11 bits
    single = sums_of(hcl, whole, training=False)
    for name in ("nll", "kl", "ins", "key", "ma"):
        assert float(sums[name].value) == pytest.approx(single[name], rel=0.02), name


def test_outputs_longer_than_the_decoder_has_positions_are_refused(make, inputs):
    with pytest.raises(UserError, match=f"--maximum_length={inputs.target_length + 1}: .*at most {inputs.target_length}"):
        make(maximum_length=inputs.target_length + 1)


def test_texts_longer_than_the_encoder_has_positions_are_refused(make, inputs):
    short = dataclasses.replace(inputs, shape=dataclasses.replace(inputs.shape, positions=inputs.source_length + 1))
    with pytest.raises(UserError, match="the encoder has"):
        make(changed=short)
