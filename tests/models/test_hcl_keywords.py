"""Keyword states of the paper's model: by loops over examples, and what settings change about them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from real_hcl import NONE, STEP, B, Z, noise_of, sums_of, tensors

from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.corpora.examples import ROLES
from hcl_tf.data.keywords.subgraph import SubgraphSampler
from hcl_tf.errors import UserError
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.hcl import HCL
from hcl_tf.settings import RANDOM
from hcl_tf.training import assembly

# -- the graph --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_drawing_an_impostor_changes_no_other_noise(make, training):
    drawn, mean = sums_of(make(impostor="one"), training), sums_of(make(), training)
    assert drawn["key"] != mean["key"]
    for name in ("nll", "kl", "ins"):
        assert drawn[name] == mean[name], name


@pytest.mark.slow
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


@pytest.mark.parametrize("asked", [False, True])
def test_the_impostors_matrix_is_trained_only_if_asked(make, asked):
    system = make(impostor_gradient=asked)
    trained = [v for variables, _ in system.learning_rates().values() for v in variables]
    assert any(v is system.impostor.kernel for v in trained) == asked
    np.testing.assert_array_equal(system.impostor.kernel, np.eye(Z))


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


# -- what the decoder is shown, and what L_key compares ---------------------------------------------------------------


ASKED = {"decoder_keyword": True, "decoder_keyword_of": "target"}


def state_by_hand(system: HCL, nodes: np.ndarray, places: np.ndarray) -> np.ndarray:
    known = [nodes[place] for place in places if place >= 0]
    return np.mean(known, axis=0) if known else np.zeros(Z)


def test_what_is_asked_for_is_the_mean_of_the_keywords_that_are_nodes(make, whole):
    system = make(**ASKED)
    nodes = system.node_states.numpy()
    places = whole["source_nodes"].numpy()
    places[0] = -1
    batch = {**whole, "source_nodes": tf.constant(places)}
    states = system.keyword_states(batch, system.encode(batch, None, ROLES), system.states_of_nodes(batch, False))
    np.testing.assert_allclose(states["asked"], [state_by_hand(system, nodes, row) for row in places], rtol=1e-5, atol=1e-6)
    assert not states["asked"].numpy()[0].any(), "a text's own vector would tell a target"


@pytest.mark.slow
def test_in_training_some_of_the_target_s_keywords_are_asked_for_and_at_least_one(make, whole):
    system = make(**ASKED)
    nodes, places = system.node_states.numpy(), whole["target_nodes"].numpy()
    seen = set()
    for step in range(40):
        found = system.asked(whole, system.states_of_nodes(whole, False), "target", Noise(1, tf.constant(step), whole["example_rows"]))[
            "asked"
        ].numpy()
        for row, known in enumerate(places):
            subsets = [part for part in range(1, 2 ** len(known)) if all(known[k] >= 0 for k in range(len(known)) if part >> k & 1)]
            close = [
                part for part in subsets
                if np.allclose(found[row], np.mean([nodes[known[k]] for k in range(len(known)) if part >> k & 1], axis=0), atol=1e-5)
            ]  # fmt: skip
            assert close or not (known >= 0).any()
            seen |= {(row, part) for part in close}
    assert len(seen) > 2 * len(places), "another part at other steps"


def test_new_keywords_of_the_target_are_those_that_the_source_has_not(make, whole):
    """With `new` only these are asked for in training, all of the source's at generation."""
    system = make(decoder_keyword=True, decoder_keyword_of="new")
    nodes, sources, targets = (part.numpy() for part in (system.node_states, whole["source_nodes"], whole["target_nodes"]))
    targets[0], targets[1, 0] = sources[0], sources[1, 0]
    batch = {**whole, "target_nodes": tf.constant(targets)}
    new = [[-1 if place in set(source) else place for place in target] for source, target in zip(sources, targets, strict=True)]
    states = system.states_of_nodes(batch, False)
    found = system.asked(batch, states, "target")["asked"]
    np.testing.assert_allclose(found, [state_by_hand(system, nodes, row) for row in new], rtol=1e-5, atol=1e-6)
    assert not found.numpy()[0].any()
    assert found.numpy().any()
    own = system.asked(batch, states, "source")["asked"]
    np.testing.assert_allclose(own, [state_by_hand(system, nodes, row) for row in sources], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "inputs", "both", "words"])
def test_targets_reach_the_decoder_s_keywords_in_training_alone(make, training, whole, place):
    system = make(**ASKED, decoder_keyword_to=place)
    ways = {"keyword_memory": ("memory", "both"), "keyword_inputs": ("inputs", "both"), "keyword_words": ("words",)}
    assert [hasattr(system, name) for name in ways] == [place in places for places in ways.values()]
    other = {**whole, "target_nodes": tf.roll(whole["target_nodes"], 1, 0)}
    assert sums_of(system, whole, training=False)["nll_prior"] == sums_of(system, other, training=False)["nll_prior"]
    moved = {**training, "target_nodes": tf.roll(training["target_nodes"], 1, 0)}
    assert sums_of(system, training)["nll"] != sums_of(system, moved)["nll"]


def test_words_are_slots_of_pieces_that_the_decoder_finds_by_their_embeddings(make, whole):
    """By hand: the pieces of each keyword that is a node, in order, and what the layer makes of their embeddings."""
    system = make(decoder_keyword=True, decoder_keyword_to="words")
    inputs, places = system.inputs_, whole["source_nodes"].numpy()
    places[0] = -1
    batch = {**whole, "source_nodes": tf.constant(places)}
    texts = system.encode(batch, None, ROLES)
    keywords = system.keyword_states(batch, texts, system.node_states)
    own = (inputs.pad_id, inputs.sep_id)
    wanted = [[i for place in row if place >= 0 for i in inputs.keyword_ids[place][1:] if i not in own] for row in places]
    assert [[i for i in row if i != inputs.pad_id] for row in keywords["words"].numpy()] == wanted
    assert not wanted[0]
    assert max(map(len, wanted)) > 1
    memory, mask = system.memory(system.with_words(texts, keywords), keywords, tf.zeros([B, Z]))
    slots = keywords["words"].shape[1] + 1
    assert memory.shape[1] == mask.shape[1] == whole["source_ids"].shape[1] + slots
    np.testing.assert_array_equal(mask[:, 1:slots], keywords["words"] != inputs.pad_id)
    kernel, bias = system.keyword_words.kernel.numpy(), system.keyword_words.bias.numpy()
    projected = system.tokens.embed(keywords["words"]).numpy() @ kernel + bias
    np.testing.assert_allclose(memory[:, 1:slots], projected, rtol=1e-4, atol=1e-5)
    assert isinstance(system.keyword_words.kernel_initializer, keras.initializers.Identity)


@pytest.mark.slow
def test_a_keyword_s_piece_can_be_copied_though_the_source_lacks_it(make, whole):
    """With a gate that always copies, the NLL by hand: attention on the places, of source and keywords, that hold each label."""
    system = make(decoder_keyword=True, decoder_keyword_to="words", copy=True)
    system.pointer.gate.bias.assign([-40.0])
    ids = whole["source_ids"].numpy()
    own = np.flatnonzero((ids[0] > 4) & (ids[0] != system.inputs_.sep_id))
    ids[0, own] = ids[0, own[0]]  # the first source says one piece only
    batch = {**whole, "source_ids": tf.constant(ids)}
    texts, keywords, prior = system.read_sources(batch)
    texts = system.with_words(texts, keywords)
    np.testing.assert_array_equal(system.copyable(batch, texts), system.slots(batch))
    states = system.decode(batch, texts, keywords, prior.mean(), None)
    attention, _ = system.copy_attention(states, *system.copy_memory(batch, texts))
    held, labels = system.slots(batch).numpy(), system.labels(batch).numpy()
    chances = np.array([[attention[row, t][held[row] == labels[row, t]].numpy().sum() for t in range(labels.shape[1])] for row in range(B)])
    words = keywords["words"].numpy()
    new = {piece for piece in words[0] if piece != system.inputs_.pad_id} - set(ids[0])
    places = [t for t, label in enumerate(labels[0]) if label in new]
    mixture = system.mixture(batch, texts, states).log_copied.numpy()
    np.testing.assert_allclose(np.exp(mixture), chances, rtol=1e-4, atol=1e-6)
    assert new
    assert all(chances[0, t] > 0 for t in places)


def test_pieces_of_a_sub_graph_s_nodes_are_those_of_the_whole_graph(make, whole, training):
    """Places of a training batch are its sub-graph's, those of a validation batch the whole graph's; both are of the same texts."""
    system = make(**ASKED, decoder_keyword_to="words")
    found = [system.asked(batch, None, "target")["words"].numpy() for batch in (whole, training)]
    assert (found[0][:-1] != system.inputs_.pad_id).any(1).all()
    np.testing.assert_array_equal(found[0][:-1], found[1][:-1])  # the last row of `whole` fills up


@pytest.mark.parametrize("given", [{"decoder_keyword_to": "inputs"}, {"decoder_keyword_of": "target"}], ids=str)
def test_how_without_that_is_refused(given):
    with pytest.raises(UserError, match="say how --decoder_keyword works; give that flag, too"):
        registry.resolve("tiny", {"model": "hcl", **given})


@pytest.mark.slow
def test_l_key_takes_one_word_that_the_source_has_not(make, whole):
    system = make(key_words="one")
    nodes = system.node_states.numpy()
    targets, sources = whole["target_nodes"].numpy(), whole["source_nodes"].numpy()
    sources[0] = targets[0]  # nothing of its own is left
    batch = {**whole, "source_nodes": tf.constant(sources)}
    texts = system.encode(batch, None, ROLES)
    drawn = set()
    for step in range(20):
        states = system.keyword_states(
            batch, texts, system.states_of_nodes(batch, False), Noise(1, tf.constant(step), batch["example_rows"])
        )
        for row, (target, source) in enumerate(zip(targets, sources, strict=True)):
            own = [node for node in target if node >= 0 and node not in source]
            of = [node for node in own if np.allclose(states["target_word"][row], nodes[node], atol=1e-6)]
            assert of or (not own and np.allclose(states["target_word"][row], states["target"][row]))
            drawn |= {(row, node) for node in of}
    assert (0, targets[0][0]) not in drawn
    assert len(drawn) > len({row for row, _ in drawn}), "another one at other steps"
    compared = system.compare_keywords(states, states["impostor"], system.posterior_of(texts["source"], texts["target"]))
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (states["source"].numpy(), states["target_word"].numpy())]
    np.testing.assert_allclose(compared.cosine_target, (unit[0] * unit[1]).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_features_train_only_if_asked(make):
    for asked in (True, False):
        system = make(trainable_features=asked)
        assert any(variable is system.node_features for variable in system.trainable_variables) == asked
        assert system.settings.settled(RANDOM, {}).refresh_graph_every == (0 if asked else 1)
    with pytest.raises(UserError, match="--trainable_features and --refresh_graph_every=2 contradict each other"):
        registry.resolve("tiny", {"model": "hcl", "trainable_features": True, "refresh_graph_every": 2})
