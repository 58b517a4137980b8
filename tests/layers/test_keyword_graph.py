"""Equations 4 to 9 against loops over nodes and edges, one equation a line, and what must not matter to them."""

import math

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_gradients, variables
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.layers.keyword_graph import KeywordGraphNetwork, keyword_state, masked_softmax

Z, F = 4, 3
NONE = -1
SLOPE = float(np.float32(0.2))  # of LeakyReLU, whose operation keeps it in float32


def network(attention: str = "dot", iterations: int = 2, seed: int = 0) -> KeywordGraphNetwork:
    """In float64, with biases that are not zero."""
    graph = KeywordGraphNetwork(Z, iterations, attention, dtype="float64")
    graph(tf.zeros([1, Z], tf.float64), tf.constant([[[NONE]] * 2]))
    random = np.random.default_rng(seed)
    for variable in graph.trainable_variables:
        variable.assign(random.normal(0, 0.6, variable.shape))
    return graph


def random_graph(seed: int, nodes: int, degree: int = F) -> np.ndarray:
    """[n, 2, degree] neighbours: none twice in a relation, none is the node itself, free places anywhere."""
    random = np.random.default_rng(seed)
    table = np.full((nodes, 2, degree), NONE, np.int32)
    for node in range(nodes):
        for relation in range(2):
            others = random.permutation([other for other in range(nodes) if other != node])[: random.integers(0, degree + 1)]
            table[node, relation, random.permutation(degree)[: len(others)]] = others
    return table


def dense(layer, x):
    return x @ layer.kernel.numpy() + (layer.bias.numpy() if layer.use_bias else 0)


def relu(x):
    return np.maximum(x, 0)


def equations(graph: KeywordGraphNetwork, features: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Equations 4 to 9 for each node and each edge by itself."""
    h = [row.copy() for row in features]
    edges = [(i, j, relation) for i in range(len(h)) for relation in range(2) for j in table[i, relation] if j != NONE]
    r = {}
    for i, j, relation in edges:  # r^0 = FFN([h_i ; h_j]), one FFN a relation
        part = slice(relation * Z, (relation + 1) * Z)
        weights = np.concatenate([graph.edge_from.kernel.numpy()[:, part], graph.edge_to.kernel.numpy()[:, part]])  # [2 Z, Z]
        inner = relu(np.concatenate([h[i], h[j]]) @ weights + graph.edge_from.bias.numpy()[part])
        r[i, j, relation] = dense(graph.edge_out[relation], inner)
    root = math.sqrt(Z)
    for _ in range(graph.iterations):
        for i, j, relation in edges:
            state = r[i, j, relation]
            products = [dense(graph.relation_ends, state) @ dense(graph.node_ends, end) / root for end in (h[i], h[j])]
            beta = [math.exp(p) / sum(map(math.exp, products)) for p in products]  # (4)
            p = beta[0] * h[i] + beta[1] * h[j]  # (5)
            r[i, j, relation] = dense(graph.update_out, relu(dense(graph.update_in, state + p)))  # (6)
        u = []
        for i in range(len(h)):
            mine = [edge for edge in edges if edge[0] == i]
            scores = []
            for edge in mine:  # (7)
                query, key = dense(graph.query, h[i]), dense(graph.key, h[edge[1]])
                if graph.attention == "dot":
                    scores.append(query @ (key + r[edge]) / root)
                else:
                    score = graph.score.numpy().ravel() @ np.concatenate([query, key, r[edge]])
                    scores.append(score if score > 0 else SLOPE * score)
            alpha = [math.exp(e) / sum(map(math.exp, scores)) for e in scores]  # (8)
            u.append(sum((a * (dense(graph.value, h[edge[1]]) + r[edge]) for a, edge in zip(alpha, mine, strict=True)), np.zeros(Z)))  # (9)
        h = [u[i] + h[i] for i in range(len(h))]
    return np.array(h)


@pytest.mark.parametrize("attention", ["dot", "additive"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_equations_4_to_9(attention, iterations):
    graph, table = network(attention, iterations), random_graph(1, 7)
    features = np.random.default_rng(2).normal(size=(7, Z))
    expected = equations(graph, features, table)
    assert abs(expected - features).max() > 0.1
    np.testing.assert_allclose(graph(tf.constant(features), tf.constant(table)), expected, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_equations_4_to_9_on_any_graph(seed, nodes):
    graph, table = network(seed=seed), random_graph(seed, nodes)
    features = np.random.default_rng(seed).normal(size=(nodes, Z))
    np.testing.assert_allclose(graph(tf.constant(features), tf.constant(table)), equations(graph, features, table), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_plain_and_xla_agree_in_float32():
    graph, table = KeywordGraphNetwork(Z), tf.constant(random_graph(1, 7))
    features = tf.constant(np.random.default_rng(2).normal(size=(7, Z)), tf.float32)
    np.testing.assert_allclose(graph(features, table), tf.function(graph, jit_compile=True)(features, table), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_a_permutation_of_nodes_permutes_states(attention):
    graph, table = network(attention), random_graph(3, 6)
    features, order = np.random.default_rng(4).normal(size=(6, Z)), np.random.default_rng(5).permutation(6)
    renamed = np.append(np.argsort(order), NONE)  # old number -> new number; NONE stays
    states = graph(tf.constant(features), tf.constant(table)).numpy()
    moved = graph(tf.constant(features[order]), tf.constant(renamed[table[order]].astype(np.int32))).numpy()
    np.testing.assert_allclose(moved, states[order], rtol=1e-12)


def test_order_and_free_places_of_neighbours_do_not_matter():
    graph, table = network(), random_graph(3, 6)
    features = tf.constant(np.random.default_rng(4).normal(size=(6, Z)))
    wider = np.concatenate([np.full((6, 2, 4), NONE, np.int32), table[:, :, ::-1]], -1)
    np.testing.assert_allclose(graph(features, tf.constant(wider)), graph(features, tf.constant(table)), rtol=1e-12)


def test_the_relation_of_an_edge_matters():
    graph, table = network(), random_graph(3, 6)
    features = tf.constant(np.random.default_rng(4).normal(size=(6, Z)))
    turned = graph(features, tf.constant(table[:, ::-1])).numpy()
    assert abs(turned - graph(features, tf.constant(table)).numpy()).max() > 1e-2


def test_nodes_that_are_no_neighbours_do_not_matter():
    """Node 0, at which free places look, and node 3 change; 1 and 2 have only each other."""
    table = np.full((4, 2, F), NONE, np.int32)
    table[1, 0, 1], table[2, 1, 0] = 2, 1
    features = np.random.default_rng(6).normal(size=(4, Z))
    other = features.copy()
    other[[0, 3]] = 1e3
    graph = network()
    here, there = (graph(tf.constant(f), tf.constant(table)).numpy() for f in (features, other))
    np.testing.assert_array_equal(here[1:3], there[1:3])


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_an_isolated_node_keeps_its_features(attention):
    table = random_graph(7, 5)
    table[2] = NONE
    features = np.random.default_rng(8).normal(size=(5, Z))
    states = network(attention)(tf.constant(features), tf.constant(table)).numpy()
    np.testing.assert_array_equal(states[2], features[2])


def test_a_graph_without_nodes_or_edges():
    graph = network()
    assert graph(tf.zeros([0, Z], tf.float64), tf.zeros([0, 2, F], tf.int32)).shape == (0, Z)
    features = tf.constant(np.random.default_rng(8).normal(size=(3, Z)))
    np.testing.assert_array_equal(graph(features, tf.fill([3, 2, F], NONE)), features)


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_gradients(attention):
    graph, table = network(attention), tf.constant(random_graph(1, 6))
    features, weights = variables(9, (6, Z), (6, Z))
    loss = tf.function(lambda: tf.reduce_sum(tf.sin(graph(features, table)) * weights))
    assert_gradients(loss, [features, *graph.trainable_variables], directions=1)


def test_masked_softmax():
    scores = np.array([[1.0, 2.0, 900.0], [-800.0, -801.0, 5.0], [1.0, 2.0, 3.0]])
    present = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    share = 1 / (1 + math.e)
    expected = [[share, 1 - share, 0], [1 - share, share, 0], [0, 0, 0]]
    np.testing.assert_allclose(masked_softmax(tf.constant(scores), tf.constant(present)), expected, rtol=1e-12)


def test_keyword_state_is_the_mean_over_keywords():
    random = np.random.default_rng(10)
    states, own = random.normal(size=(6, Z)), random.normal(size=(5, Z))
    places = np.array([[0, 3, NONE], [2, NONE, NONE], [NONE, NONE, NONE], [NONE, NONE, NONE], [5, NONE, 5]], np.int32)
    unknown = np.array([0.0, 2.0, 1.0, 0.0, 1.0])
    found = keyword_state(tf.constant(states), tf.constant(places), tf.constant(unknown), tf.constant(own)).numpy()
    for row in range(5):
        members = [states[place] for place in places[row] if place != NONE] + [own[row]] * int(unknown[row])
        expected = sum(members) / len(members) if members else own[row]  # a text without any keyword
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_keyword_state_ignores_nodes_that_are_not_its_own():
    states = np.random.default_rng(10).normal(size=(4, Z))
    other = states.copy()
    other[[0, 2]] = 1e3
    arguments = tf.constant([[1, NONE], [NONE, 3]]), tf.constant([0.0, 1.0], tf.float64), tf.ones([2, Z], tf.float64)
    np.testing.assert_array_equal(keyword_state(tf.constant(states), *arguments), keyword_state(tf.constant(other), *arguments))


def test_gradients_of_keyword_states():
    states, own = variables(11, (4, Z), (2, Z))
    places, unknown = tf.constant([[1, NONE], [NONE, 3]]), tf.constant([0.0, 1.0], tf.float64)
    assert_gradients(lambda: tf.reduce_sum(tf.sin(keyword_state(states, places, unknown, own))), [states, own])


def test_config():
    graph = KeywordGraphNetwork(Z, 3, "additive", name="some_graph")
    twin = KeywordGraphNetwork.from_config(graph.get_config())
    assert twin.get_config() == graph.get_config()
    assert (twin.size, twin.iterations, twin.attention, twin.dtype) == (Z, 3, "additive", "float32")


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 3))
def test_wanted_nodes_alone_get_the_states_and_the_gradients_that_they_get_among_all(seed, nodes, iterations):
    graph, random = network(iterations=iterations, seed=seed), np.random.default_rng(seed)
    features, table = tf.constant(random.normal(size=(nodes, Z))), tf.constant(random_graph(seed, nodes))
    wanted = random.random(nodes) < 0.4
    weights = random.normal(size=(nodes, Z)) * wanted[:, None]

    def found(wanted: tf.Tensor | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            states = graph(features, table, wanted)
            loss = tf.reduce_sum(states * weights)
        return states, tape.gradient(loss, [features, *graph.trainable_variables], unconnected_gradients="zero")

    (every, expected), (some, gradients) = found(None), found(tf.constant(wanted))
    np.testing.assert_allclose(some.numpy()[wanted], every.numpy()[wanted], rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs), rtol=1e-7, atol=1e-10)
