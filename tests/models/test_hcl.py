"""The paper's model on real prepared samples: each term against loops over examples, ablations."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from system_toolkit import VARIED, Kit

from hcl_tf.data.batching.batches import Batch
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.formats import ROLES
from hcl_tf.data.keywords.subgraph import CAPS, ROUTES, SubgraphSampler
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.beam_search import UNMOVED
from hcl_tf.errors import UserError
from hcl_tf.layers.encoder import EncoderShape
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import Inputs
from hcl_tf.models.examples import differ
from hcl_tf.models.hcl import HCL
from hcl_tf.training import assembly

Z, WIDTH, B, STEP = 5, 16, 4, tf.constant(30)
TINY = {"latent_size": Z, "latent_hidden": 8, "decoder_layers": 1, "beams": 2, "minimum_length": 1, "maximum_length": 3, "copy": False,
        "impostor": "mean", "contrast_scale": "both"}  # fmt: skip
NONE = ROUTES.index("none")


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def arrays(data) -> SplitArrays:
    return data.arrays("train")


@pytest.fixture(scope="module")
def inputs(data, arrays) -> Inputs:
    shape = EncoderShape(len(data.tokenizer), WIDTH, 1, 2, 24)
    return assembly.inputs_of(data, shape, assembly.output_ids(data, arrays, "train"))


@pytest.fixture(scope="module")
def make(inputs):
    """A function of settings to a system whose every weight shows; equal settings give equal weights."""

    def made(model: str = "hcl", changed: Inputs | None = None, **given) -> HCL:
        keras.utils.set_random_seed(3)
        settings = registry.resolve("tiny", {**TINY, "model": model, **given})
        system = registry.build(settings, changed or inputs)
        random = np.random.default_rng(0)
        for path, variable in assembly.variables(system).items():
            if "text_scale" in path:
                variable.assign(random.uniform(0.5, 2, variable.shape))
            elif "node_features" in path or "text_mean" in path:
                variable.assign(random.normal(0, 1, variable.shape))
            elif "bias" in path or "beta" in path:
                variable.assign_add(random.normal(0, 0.1, variable.shape))
        system.before_inference()
        return system

    return made


@pytest.fixture(scope="module")
def hcl(make) -> HCL:
    return make()


@pytest.fixture(scope="module")
def sampler(data) -> SubgraphSampler:
    """No cap binds."""
    return SubgraphSampler(data.graph, (64, 64), len(data.graph))


def tensors(batch: dict) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def training(data, arrays, sampler) -> dict[str, tf.Tensor]:
    """A batch of real examples with keywords that have neighbours; its sub-graph has no cap."""
    batches = pair_batches(data, arrays, B, 1, sampler)
    rows = np.flatnonzero((arrays.source_nodes >= 0).any(1) & (arrays.target_nodes >= 0).any(1))[:B]
    batch = batches.make(rows, 0, 0)
    assert (batch["impostor_routes"] != NONE).all()
    assert dict(zip(CAPS, batch["graph_caps"], strict=True))["neighbour lists cut"] == 0
    return tensors(batch)


@pytest.fixture(scope="module")
def whole(data, arrays) -> dict[str, tf.Tensor]:
    """The same examples, their nodes those of the whole graph; the last one fills up."""
    rows = np.flatnonzero((arrays.source_nodes >= 0).any(1) & (arrays.target_nodes >= 0).any(1))[:B]
    rows[-1] = -1
    return tensors(pair_batches(data, arrays, B).make(rows, 0, 0))


def noise_of(batch) -> Noise:
    return Noise(1, STEP, batch["example_rows"])


def sums_of(system: HCL, batch, training: bool = True) -> dict[str, float]:
    return {name: float(total.value) for name, total in system.losses(batch, STEP, noise_of(batch), training).items()}


def part_of(batch, rows: slice) -> dict[str, tf.Tensor]:
    return {name: tensor if name.startswith("graph_") else tensor[rows] for name, tensor in batch.items()}


def without_impostors(batch, row: int) -> dict[str, tf.Tensor]:
    nodes, routes = batch["impostor_nodes"].numpy(), batch["impostor_routes"].numpy()
    nodes[row], routes[row] = -1, NONE
    return {**batch, "impostor_nodes": tf.constant(nodes), "impostor_routes": tf.constant(routes)}


def junk_texts(batch, *names: str) -> dict[str, tf.Tensor]:
    """Other pieces and other keywords in some roles."""
    changed = dict(batch)
    for name in names:
        ids = batch[f"{name}_ids"].numpy()
        ids[:, 1:4] = ids[::-1, 1:4] + 7
        changed[f"{name}_ids"] = tf.constant(ids)
        if f"{name}_nodes" in batch:
            changed[f"{name}_nodes"] = tf.reverse(batch[f"{name}_nodes"], [0])
    return changed


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
)


@pytest.fixture(scope="module", params=OTHERS, ids=str)
def varied(request, qqp_folder) -> Kit:
    return Kit(qqp_folder, "hcl", **request.param)


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(varied, rule):
    rule(varied)


# -- terms ------------------------------------------------------------------------------------------------------------


def kl_of(m1, s1, m2, s2) -> float:
    return sum(math.log(b / a) + (a * a + (p - q) ** 2) / (2 * b * b) - 0.5 for p, a, q, b in zip(m1, s1, m2, s2, strict=True))


def head_of(head, *parts) -> tuple[np.ndarray, np.ndarray]:
    """A head's mean and deviation of one example, in NumPy."""
    inner = np.tanh(np.concatenate(parts) @ head.inner.kernel.numpy() + head.inner.bias.numpy())
    mean, log_variance = np.split(inner @ head.outer.kernel.numpy() + head.outer.bias.numpy(), 2)
    return mean, np.exp(10 * np.tanh(log_variance / 10) / 2)


def cosine(a, b) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


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


# -- the graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_states_of_a_sub_graph_equal_the_whole_graphs_where_no_cap_binds(make, training, attention):
    system = make(graph_attention=attention)
    states, numbers = system.states_of_nodes(training, training=True).numpy(), training["graph_nodes"].numpy()
    places = np.unique(np.concatenate([training[f"{role}_nodes"].numpy().ravel() for role in ("source", "target", "impostor")]))
    places = places[places >= 0]
    assert len(places) > 5
    expected = system.node_states.numpy()[numbers[places]]
    np.testing.assert_allclose(states[places], expected, rtol=1e-4, atol=1e-5)
    features = system.node_projection(system.node_features).numpy()[numbers[places]]
    assert abs(expected - features).max() > 0.1  # messages did pass


def test_inference_uses_the_states_left_by_before_inference(hcl, whole):
    kept = hcl.node_states.numpy()
    try:
        hcl.node_states.assign_add(tf.ones_like(kept))
        moved = hcl.start(whole, 1, None)[1]["memory"]
    finally:
        hcl.node_states.assign(kept)
    assert abs(moved[0][0][0] - hcl.start(whole, 1, None)[1]["memory"][0][0][0]).numpy().max() > 1e-4


def test_texts_without_keywords_use_their_own_vectors(hcl, whole):
    batch = {**whole, "source_nodes": tf.fill(whole["source_nodes"].shape, -1), "source_unknown": tf.zeros_like(whole["source_unknown"])}
    texts = hcl.encode(batch, None, ROLES)
    found = hcl.keyword_states(batch, texts, hcl.node_states)["source"]
    np.testing.assert_allclose(found, hcl.project(texts["source"]), rtol=1e-6)


# -- what a setting takes away or adds --------------------------------------------------------------------------------


def test_without_keyword_there_is_no_u_anywhere(make, training):
    system = make(ablate="keyword")
    assert not [
        path for path in assembly.variables(system) if any(word in path for word in ("node", "graph", "impostor", "keyword", "text_mean"))
    ]
    assert set(system.weights_of(None)) == {"nll", "kl_objective", "ins"}
    assert not {"key", "ma", "impostor_cosine"} & set(sums_of(system, training))
    changed = {**training, "source_nodes": tf.fill(training["source_nodes"].shape, -1), "source_unknown": 9 + training["source_unknown"]}
    assert sums_of(system, changed) == sums_of(system, training)


def test_without_graph_u_is_of_the_initial_features(make, training):
    system = make(ablate="graph")
    assert not [path for path in assembly.variables(system) if path.startswith("model/graph")]
    assert {"key", "ma"} <= set(system.weights_of(None))
    features = system.node_projection(system.node_features).numpy()
    np.testing.assert_allclose(system.node_states, features, rtol=1e-6)
    states, numbers = system.states_of_nodes(training, True).numpy(), training["graph_nodes"].numpy()
    np.testing.assert_allclose(states[numbers >= 0], features[numbers[numbers >= 0]], rtol=1e-4, atol=1e-6)


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


def test_a_drawn_impostor_is_one_of_the_neighbours_and_another_at_other_steps(make, whole):
    system = make(impostor="one")
    texts = system.encode(whole, None, ROLES)
    nodes, chosen = whole["impostor_nodes"].numpy(), []
    for step in range(12):
        keywords = system.keyword_states(whole, texts, system.node_states, Noise(1, tf.constant(step), whole["example_rows"]))
        for row in np.flatnonzero(whole["impostor_routes"].numpy() != NONE):
            found, length = keywords["impostor"][row].numpy(), np.linalg.norm(keywords["target"][row])
            states = system.node_states.numpy()[nodes[row][nodes[row] >= 0]]
            scaled = states * length / np.linalg.norm(states, axis=-1, keepdims=True)
            nearest = abs(scaled - found).max(-1).argmin()
            np.testing.assert_allclose(found, scaled[nearest], rtol=1e-4, atol=1e-5)
            chosen.append((row, nearest))
    assert len({nearest for row, nearest in chosen if row == chosen[0][0]}) > 2
    strongest = system.keyword_states(whole, texts, system.node_states)["impostor"].numpy()
    assert np.array_equal(strongest, system.keyword_states(whole, texts, system.node_states)["impostor"].numpy())


def test_drawing_an_impostor_changes_no_other_noise(make, training):
    drawn, mean = sums_of(make(impostor="one"), training), sums_of(make(), training)
    assert drawn["key"] != mean["key"]
    for name in ("nll", "kl", "ins"):
        assert drawn[name] == mean[name], name


def test_a_small_graph_is_computed_whole_in_training(make, data, arrays, training, sampler):
    """Its states reach the losses as those of a sub-graph that no cap cuts, and training reaches its weights."""
    system = make()
    assert system.sampler(data.graph) is None
    assert isinstance(make(graph_whole=len(data.graph) - 1).sampler(data.graph), SubgraphSampler)
    batch = tensors(pair_batches(data, arrays, B, 1, None, system.impostors).make(training["example_rows"].numpy(), 0, 0))
    whole, part = sums_of(system, batch), sums_of(system, training)
    for name in ("nll", "kl", "ins", "key", "ma"):
        assert whole[name] == pytest.approx(part[name], rel=1e-4), name
    with tf.GradientTape() as tape:
        loss = system.losses(batch, STEP, noise_of(batch), True)["key"].value
    assert all(gradient is not None for gradient in tape.gradient(loss, system.graph.trainable_variables)[:2])


def test_contrasts_ramp_with_the_kl_term_only_if_asked(make):
    """At step 30 of a ramp of 100 the KL term has the weight 0.31."""
    plain, ramped = make(kl_ramp=100), make(kl_ramp=100, contrast_ramp=True, weight_ma=2.0)
    assert [float(plain.weights_of(STEP)[name]) for name in ("kl_objective", "ins", "ma")] == pytest.approx([0.31, 1.0, 1.0])
    assert [float(ramped.weights_of(STEP)[name]) for name in ("kl_objective", "ins", "ma")] == pytest.approx([0.31, 0.31, 0.62])
    assert float(ramped.weights_of(None)["ins"]) == 1.0


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
    np.testing.assert_allclose(negative, make().instance_distances(texts, prior, posterior)[1], rtol=1e-6)


@pytest.mark.parametrize("asked", [False, True])
def test_the_impostors_matrix_is_trained_only_if_asked(make, asked):
    system = make(impostor_gradient=asked)
    trained = [v for variables, _ in system.learning_rates().values() for v in variables]
    assert any(v is system.impostor.kernel for v in trained) == asked
    np.testing.assert_array_equal(system.impostor.kernel, np.eye(Z))


def test_free_bits_spare_each_dimension(make, whole):
    system = make(free_bits=0.05)
    by_dimension = system.diagnose(whole, noise_of(whole))["kl_by_dimension"].numpy()[: B - 1]
    assert (by_dimension < 0.05).any()
    assert (by_dimension > 0.05).any()
    sums = sums_of(system, whole, training=False)
    assert sums["kl_objective"] == pytest.approx(sum(max(0.05, value) for row in by_dimension for value in row), rel=1e-5)
    assert sums["kl"] == pytest.approx(by_dimension.sum(), rel=1e-5)


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


@pytest.mark.parametrize("seen", [False, True])
def test_the_decoder_sees_u_only_if_asked(make, whole, seen):
    system = make(decoder_keyword=seen)
    texts = system.encode(whole, None, ROLES)
    keywords = system.keyword_states(whole, texts, system.node_states)
    memory, mask = system.memory(texts, keywords, tf.zeros([B, Z]))
    slots = 2 if seen else 1
    assert memory.shape[1] == mask.shape[1] == whole["source_ids"].shape[1] + slots
    np.testing.assert_array_equal(mask[:, slots:], whole["source_ids"] != system.inputs_.pad_id)
    assert mask.numpy()[:, :slots].all()
    other = {**keywords, "source": keywords["source"] + 1}
    here, there = (system.decode(whole, texts, u, tf.zeros([B, Z]), None).numpy() for u in (keywords, other))
    assert np.array_equal(here, there) != seen


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


@pytest.mark.parametrize("place", ["memory", "inputs", "both"])
def test_z_moves_what_is_said_of_each_example(make, whole, place):
    system = make(latent_to=place)
    texts = system.encode(whole, None, ROLES)
    keywords = system.keyword_states(whole, texts, system.node_states)
    z = system.prior_of(texts, keywords).mean()
    here, there = (tf.nn.log_softmax(system.tokens.logits(system.decode(whole, texts, keywords, one, None))) for one in (z, z + 1.0))
    assert (abs(here - there).numpy().max((1, 2)) > 1e-3).all()


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


def gaussians_of(system: HCL, batch) -> tuple:
    """Prior, posterior of the target and posterior of the negative, as means and deviations [B, Z] in NumPy; and what they are made of."""
    texts = system.encode(batch, None, ROLES)
    keywords = system.keyword_states(batch, texts, system.node_states)
    found = system.prior_of(texts, keywords), *(system.posterior_of(texts["source"], texts[role]) for role in ROLES[1:])
    return [(d.mean().numpy(), d.stddev().numpy()) for d in found], texts, keywords


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


def test_the_negative_is_scored_as_a_target_would_be(make, whole):
    """At the prior's mean: a batch in which negatives are targets gives the same figure."""
    system = make()
    found = system.diagnose(whole, noise_of(whole))["nll_negative"].numpy()
    swapped = {**whole, "target_ids": whole["negative_ids"]}
    np.testing.assert_allclose(found[: B - 1], system.diagnose(swapped, noise_of(whole))["nll_prior"][: B - 1], rtol=1e-4)


def test_what_if_moves_the_prior_s_mean_along_the_posterior_s(make, whole):
    system = make(latent_to="both")
    ((prior, _), (near, _), (far, _)), texts, keywords = gaussians_of(system, whole)
    for alpha in (0.0, 0.5):
        z = tf.constant(prior + alpha * (near - far), tf.float32)
        found = system.what_if(whole, noise_of(whole), tf.constant(alpha))
        for role, nll in zip(ROLES[1:], found, strict=True):
            expected = system.nll_given({**whole, "target_ids": whole[f"{role}_ids"]}, texts, keywords, z)
            np.testing.assert_allclose(nll[: B - 1], expected[: B - 1], rtol=1e-4)


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


def test_outputs_longer_than_the_decoder_has_positions_are_refused(make, inputs):
    with pytest.raises(UserError, match=f"--maximum_length={inputs.target_length + 1}: .*at most {inputs.target_length}"):
        make(maximum_length=inputs.target_length + 1)


def test_texts_longer_than_the_encoder_has_positions_are_refused(make, inputs):
    short = dataclasses.replace(inputs, shape=dataclasses.replace(inputs.shape, positions=inputs.source_length + 1))
    with pytest.raises(UserError, match="the encoder has"):
        make(changed=short)
