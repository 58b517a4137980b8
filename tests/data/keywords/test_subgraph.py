"""Impostors against a plain loop, and sub-graphs against the whole graph: the same states, caps, counts and chances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import NEGATIVE, POSITIVE, UNKNOWN, KeywordGraph, SampleKeywords
from hcl_tf.data.keywords.subgraph import CAPS, ROUTES, SubgraphSampler, describe_caps, find_impostors
from hcl_tf.errors import UserError

WIDTH = 6  # of a node's features
SEEDS = st.integers(0, 2**32 - 1)


def graph_of(positive, negative):
    """A graph from each node's neighbours."""
    ones = np.ones(len(positive), np.int32)
    indptr = tuple(np.cumsum([0, *map(len, lists)]).astype(np.int64) for lists in (positive, negative))
    indices = tuple(np.array([i for part in lists for i in part], np.int32) for lists in (positive, negative))
    nodes = tuple(f"w{i:04}" for i in range(len(positive)))
    return KeywordGraph(nodes, ones, ones, indptr, indices, tuple(np.ones(len(part), np.int64) for part in indices))


def random_graph(random, nodes, degree):
    """Each node has up to `degree` neighbours a relation, no node in both, none itself; some are isolated."""
    lists = ([], [])
    for node in range(nodes):
        others = random.permutation(np.delete(np.arange(nodes), node)).tolist()
        lengths = random.integers(0, degree + 1, 2) * (random.random() < 0.9)
        lists[POSITIVE].append(others[: lengths[0]])
        lists[NEGATIVE].append(others[lengths[0] : lengths.sum()])
    return graph_of(*lists)


def random_batch(random, nodes, batch, keywords):
    """source, target, negative [B, K]: distinct nodes in each text, some unknown, some none at all."""
    choices = np.concatenate([np.arange(nodes), np.full(keywords, UNKNOWN)])
    return [np.stack([random.choice(choices, keywords, replace=False) for _ in range(batch)]).astype(np.int32) for _ in range(3)]


def known(array):
    return set(array[array != UNKNOWN].tolist())


def plain_impostors(whole, source, target, negative):
    """Each sample's impostors as lists of sets, one a target keyword, and its route."""
    found, routes = [], []
    for own_source, own_target, own_negative in zip(source, target, negative, strict=True):
        own = known(own_source) | known(own_target)
        sets = [set(whole.neighbours(i, NEGATIVE).tolist()) - own if i != UNKNOWN else set() for i in own_target]
        route = "graph"
        if not any(sets):
            sets = [known(own_negative) - own] + [set()] * (len(own_target) - 1)
            route = "negative_text" if sets[0] else "none"
        found.append(sets)
        routes.append(route)
    return found, routes


def draw(sampler, batch, seed=0):
    return sampler.sample(*batch, np.random.default_rng(seed))


def numbers_of(made, places):
    """Places back to node numbers of the whole graph."""
    return np.where(places == UNKNOWN, UNKNOWN, made["graph_nodes"][places])


class Weights:
    """Random weights of eqs 4 to 9."""

    def __init__(self, random):
        def matrix(rows):
            return random.normal(size=(rows, WIDTH)) / np.sqrt(rows)

        self.first = [(matrix(2 * WIDTH), matrix(WIDTH)) for _ in range(2)]  # a relation's own FFN for r^0
        self.update = (matrix(WIDTH), matrix(WIDTH))
        self.r, self.h, self.q, self.k, self.v = (matrix(WIDTH) for _ in range(5))


def states(neighbours, features, weights, iterations):
    """Eqs 4 to 9 as METHOD.md gives them, in float64: [N, 2, M] neighbours and [N, WIDTH] features to final states."""

    def ffn(layers, value):
        return np.tanh(value @ layers[0]) @ layers[1]

    count, _, degree = neighbours.shape
    to = neighbours.reshape(count, 2 * degree)
    present = to != UNKNOWN
    h, root = features, np.sqrt(WIDTH)
    both = np.concatenate([np.broadcast_to(h[:, None], (*to.shape, WIDTH)), h[to]], -1)
    r = np.where(np.arange(2 * degree)[:, None] < degree, ffn(weights.first[POSITIVE], both), ffn(weights.first[NEGATIVE], both))
    for _ in range(iterations):
        pair = np.stack([np.broadcast_to(h[:, None], r.shape), h[to]], 2)  # [N, 2M, 2, WIDTH]: both ends of each edge
        ends = np.exp(np.einsum("nmd,nmed->nme", r @ weights.r, pair @ weights.h) / root)
        beta = ends / ends.sum(-1, keepdims=True)  # (4)
        p = np.einsum("nme,nmed->nmd", beta, pair)  # (5)
        r = ffn(weights.update, r + p)  # (6)
        e = np.einsum("nd,nmd->nm", h @ weights.q, h[to] @ weights.k + r) / root  # (7)
        powers = np.where(present, np.exp(e), 0)
        alpha = powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)  # (8); an isolated node has no neighbour to sum
        h = np.einsum("nm,nmd->nd", alpha, h[to] @ weights.v + r) + h  # (9)
    return h


# --- impostors


@given(SEEDS, st.integers(1, 5), st.integers(1, 4), st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_impostors_are_those_of_a_plain_loop(seed, batch_size, keywords, degree):
    random = np.random.default_rng(seed)
    whole = random_graph(random, 12, degree)
    batch = random_batch(random, 12, batch_size, keywords)
    table = whole.table(degree)
    nodes, routes = find_impostors(table, *batch)
    expected, expected_routes = plain_impostors(whole, *batch)
    assert nodes.shape == (batch_size, keywords, max(degree, keywords))
    assert [ROUTES[i] for i in routes] == expected_routes
    assert [[known(row) for row in sample] for sample in nodes] == expected
    assert all(len(known(row)) == (row != UNKNOWN).sum() for sample in nodes for row in sample)
    for sample, source, target, route in zip(nodes, *batch[:2], routes, strict=True):
        assert not known(sample) & (known(source) | known(target))
        if ROUTES[route] == "graph":
            assert not any(known(sample[i]) & set(whole.neighbours(node, POSITIVE).tolist()) for i, node in enumerate(target) if node >= 0)


@pytest.mark.slow
@given(SEEDS, st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_a_positive_neighbour_that_the_cap_cut_is_no_impostor_either(seed, degree):
    random = np.random.default_rng(seed)
    samples = [SampleKeywords(*(tuple(random.choice(list("abcdefghij"), 3, replace=False)) for _ in range(3))) for _ in range(8)]
    cut, whole = graph.build(samples, 1, degree), graph.build(samples, 1, 100)
    batch = random_batch(random, len(whole), 4, 3)
    nodes, routes = find_impostors(cut.table(degree), *batch)
    for sample, target in zip(nodes[routes == 0], batch[1][routes == 0], strict=True):
        assert not any(known(sample[i]) & set(whole.neighbours(node, POSITIVE).tolist()) for i, node in enumerate(target) if node >= 0)


@pytest.mark.parametrize(
    ("source", "target", "negative", "route", "impostors"),
    [
        ([0, -1], [1, -1], [4, 5], "graph", [[2, 3], []]),
        ([2, -1], [1, -1], [4, 5], "graph", [[3], []]),
        ([2, 3], [1, -1], [4, 5], "negative_text", [[4, 5], []]),
        ([2, 3], [1, 4], [4, 5], "negative_text", [[5], []]),
        ([2, 3], [1, -1], [2, 1], "none", [[], []]),
        ([0, -1], [-1, -1], [4, -1], "negative_text", [[4], []]),
        ([-1, -1], [-1, -1], [-1, -1], "none", [[], []]),
        ([0, -1], [-1, 1], [-1, -1], "graph", [[], [2, 3]]),
    ],
)
def test_routes_by_hand(source, target, negative, route, impostors):
    """Node 1 has the negative neighbours 2 and 3; nobody else has any."""
    table = graph_of([[1], [0], [], [], [], []], [[], [2, 3], [], [], [], []]).table(2)
    nodes, routes = find_impostors(table, *(np.array([part], np.int32) for part in (source, target, negative)))
    assert ROUTES[routes[0]] == route
    assert [[int(i) for i in row if i != UNKNOWN] for row in nodes[0]] == impostors


def test_without_the_graph_impostors_are_the_negatives_own_keywords():
    table = graph_of([[1], [0], [], [], [], []], [[], [2, 3], [], [], [], []]).table(2)
    source, target, negative = (np.array(part, np.int32) for part in ([[0, -1]] * 2, [[1, -1]] * 2, [[4, 1], [0, 1]]))
    nodes, routes = find_impostors(table, source, target, negative, "negative_text")
    assert [ROUTES[route] for route in routes] == ["negative_text", "none"]
    assert [known(row) for row in nodes] == [{4}, set()]


# --- where no cap binds


@given(SEEDS, st.integers(1, 3), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_states_equal_the_whole_graphs_where_no_cap_binds(seed, hops, batch_size):
    random = np.random.default_rng(seed)
    degree = int(random.integers(1, 5))
    nodes = int(random.integers(5, 150))
    whole = random_graph(random, nodes, degree)
    batch = random_batch(random, nodes, batch_size, 3)
    features, weights = random.normal(size=(nodes, WIDTH)), Weights(random)
    fanout = tuple(int(i) for i in random.integers(max(degree, 3), degree + 6, hops))  # 3: so many nodes may a negative text have
    made = draw(SubgraphSampler(whole, fanout, nodes + 7), batch)

    expected = states(whole.table(degree), features, weights, hops)
    got = states(made["graph_neighbours"], features[made["graph_nodes"]], weights, hops)
    for name, column in (("source_nodes", batch[0]), ("target_nodes", batch[1])):
        np.testing.assert_array_equal(numbers_of(made, made[name]), column)
        np.testing.assert_allclose(got[made[name][column != UNKNOWN]], expected[column[column != UNKNOWN]], rtol=0, atol=1e-12)
    impostors, routes = plain_impostors(whole, *batch)
    numbers = numbers_of(made, made["impostor_nodes"])
    assert [[known(row) for row in sample] for sample in numbers] == impostors
    assert [ROUTES[i] for i in made["impostor_routes"]] == routes
    there = numbers != UNKNOWN
    np.testing.assert_allclose(got[made["impostor_nodes"][there]], expected[numbers[there]], rtol=0, atol=1e-12)
    assert made["graph_caps"][[0, 2, 4]].tolist() == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_states_differ_with_more_iterations_than_hops_or_a_cut_list(hops):
    """The comparison above can fail: the states do depend on nodes that far away, and on every neighbour."""
    random = np.random.default_rng(5)
    whole = random_graph(random, 3000, 3)
    batch = random_batch(random, 3000, 4, 3)
    features, weights = random.normal(size=(3000, WIDTH)), Weights(random)

    def difference(fanout, iterations):
        made = draw(SubgraphSampler(whole, fanout, 3000), batch)
        got = states(made["graph_neighbours"], features[made["graph_nodes"]], weights, iterations)[made["source_nodes"]]
        return np.abs(got - states(whole.table(3), features, weights, iterations)[batch[0]])[batch[0] != UNKNOWN].max()

    assert difference((3,) * hops, hops) < 1e-12
    assert difference((3,) * hops, hops + 1) > 1e-3
    assert difference((3,) * (hops - 1) + (1,), hops) > 1e-3


def test_the_generator_matters_only_where_a_cap_binds():
    random = np.random.default_rng(0)
    whole, batch = random_graph(random, 60, 4), random_batch(random, 60, 5, 3)
    for fanout, budget, same in (((4, 4), 60, True), ((2, 4), 60, False), ((4, 4), 35, False)):
        sampler = SubgraphSampler(whole, fanout, budget)
        one, again, other = (draw(sampler, batch, seed) for seed in (1, 1, 2))
        assert all((one[name] == again[name]).all() for name in one)
        assert all((one[name] == other[name]).all() for name in one) == same


# --- where caps bind


@pytest.mark.slow
@given(SEEDS, st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), st.booleans())
@settings(deadline=None, max_examples=150)
def test_capped_subgraph_keeps_its_promises(seed, fanout, tight):
    random = np.random.default_rng(seed)
    degree, nodes, batch_size, keywords = int(random.integers(1, 7)), int(random.integers(8, 120)), int(random.integers(1, 6)), 3
    whole = random_graph(random, nodes, degree)
    batch = random_batch(random, nodes, batch_size, keywords)
    budget = 2 * batch_size * keywords + int(random.integers(0, 20)) if tight else 200
    sampler = SubgraphSampler(whole, fanout, budget)
    sampler.check(batch_size, keywords)
    made = draw(sampler, batch, seed)

    shapes = {
        "graph_nodes": (budget,),
        "graph_neighbours": (budget, 2, max(fanout)),
        "source_nodes": (batch_size, keywords),
        "target_nodes": (batch_size, keywords),
        "impostor_nodes": (batch_size, keywords, max(fanout)),
        "impostor_routes": (batch_size,),
        "graph_caps": (len(CAPS),),
    }
    assert {name: (array.shape, array.dtype) for name, array in made.items()} == {n: (s, np.int32) for n, s in shapes.items()}
    count = int((made["graph_nodes"] != UNKNOWN).sum())
    assert (made["graph_nodes"][count:] == UNKNOWN).all()
    assert len(known(made["graph_nodes"])) == count
    assert max(made[name].max() for name in ("graph_neighbours", "source_nodes", "target_nodes", "impostor_nodes")) < max(count, 1)

    for name, column in (("source_nodes", batch[0]), ("target_nodes", batch[1])):  # the batch's own keywords are always there
        np.testing.assert_array_equal(numbers_of(made, made[name]), column)
    impostors = numbers_of(made, made["impostor_nodes"])
    for rows, expected in zip(impostors, plain_impostors(whole, *batch)[0], strict=True):
        for row, allowed in zip(rows, expected, strict=True):
            assert (row != UNKNOWN).sum() == len(known(row)) <= min(len(allowed), fanout[0])
            assert known(row) <= allowed

    # Level by level: true neighbours, none twice, as many as the hop's fan-out allows; and the caps counted anew.
    level, seen, lists, cut = known(batch[0]) | known(batch[1]) | known(impostors), set(), 0, 0
    place = {int(node): i for i, node in enumerate(made["graph_nodes"][:count])}
    for width in fanout:
        following = set()
        for node in level:
            for relation in (POSITIVE, NEGATIVE):
                true = whole.neighbours(node, relation).tolist()
                row = numbers_of(made, made["graph_neighbours"][place[node], relation])
                assert known(row) <= set(true)
                assert (row != UNKNOWN).sum() == len(known(row)) <= min(len(true), width)
                if not tight:
                    assert len(known(row)) == min(len(true), width)
                lists, cut = lists + bool(true), cut + (len(true) > width)
                following |= known(row)
        seen |= level
        level = following - seen
    assert (made["graph_neighbours"][[place[node] for node in level]] == UNKNOWN).all()  # the last level has no edges
    assert known(made["graph_nodes"]) == seen | level
    caps = dict(zip(CAPS, made["graph_caps"].tolist(), strict=True))
    assert (caps["neighbour lists cut"], caps["neighbour lists"]) == (cut, lists)
    candidates = [len(row) for sample in plain_impostors(whole, *batch)[0] for row in sample]
    assert (caps["impostor lists cut"], caps["impostor lists"]) == (sum(n > fanout[0] for n in candidates), sum(n > 0 for n in candidates))
    if not tight:
        assert (caps["nodes left out"], caps["nodes wanted"]) == (0, count)


@given(SEEDS, st.integers(0, 30))
@settings(deadline=None, max_examples=100)
def test_nodes_left_out_are_counted_once(seed, spare):
    """Only the budget binds, so what was wanted follows from what was placed."""
    random = np.random.default_rng(seed)
    whole, batch = random_graph(random, 60, 4), random_batch(random, 60, 3, 3)
    made = draw(SubgraphSampler(whole, (4, 4), 18 + spare), batch)

    def following(level):
        return {int(i) for node in level for relation in (POSITIVE, NEGATIVE) for i in whole.neighbours(node, relation)}

    placed = known(made["graph_nodes"])
    own = known(batch[0]) | known(batch[1])
    wanted = own.union(*(row for sample in plain_impostors(whole, *batch)[0] for row in sample))
    level = wanted & placed
    for _ in range(2):
        new = following(level) - wanted
        wanted |= new
        level = new & placed
    caps = dict(zip(CAPS, made["graph_caps"].tolist(), strict=True))
    assert (caps["nodes left out"], caps["nodes wanted"]) == (len(wanted - placed), len(wanted))


@given(SEEDS)
@settings(deadline=None, max_examples=100)
def test_a_sample_whose_impostors_were_left_out_has_the_route_none(seed):
    """Its losses must be masked: there is no impostor to contrast with."""
    random = np.random.default_rng(seed)
    whole, batch = random_graph(random, 60, 4), random_batch(random, 60, 3, 3)
    made = draw(SubgraphSampler(whole, (4, 4), 18), batch)
    has_impostor = (made["impostor_nodes"] != UNKNOWN).any((1, 2))
    np.testing.assert_array_equal(made["impostor_routes"] != ROUTES.index("none"), has_impostor)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["first hop", "second hop", "impostors"])
def test_each_neighbour_of_a_cut_list_is_drawn_about_equally_often(what):
    """Node 0 has 12 neighbours, 3 kept: each is in a quarter of 4000 draws, give or take 5 standard deviations."""
    many, nothing, draws = list(range(2, 14)), [[]] * 12, 4000
    positive = [many, [0], *nothing]
    whole = graph_of(*((positive, [[]] * 14) if what != "impostors" else ([[]] * 14, positive)))
    own = np.array([[1 if what == "second hop" else 0]], np.int32)
    none = np.full((1, 1), UNKNOWN, np.int32)
    sampler, random, drawn = SubgraphSampler(whole, (3, 3), 20), np.random.default_rng(11), np.zeros(14, int)
    for _ in range(draws):
        made = sampler.sample(none, own, none, random)
        place = int(np.flatnonzero(made["graph_nodes"] == 0)[0])
        kept = made["impostor_nodes"][0, 0] if what == "impostors" else made["graph_neighbours"][place, POSITIVE]
        drawn[numbers_of(made, kept)] += 1
    assert drawn[:2].tolist() == [0, 0]
    assert drawn.sum() == 3 * draws
    np.testing.assert_allclose(drawn[2:], draws / 4, atol=5 * np.sqrt(draws / 4 * 3 / 4))


# --- edges of the domain


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("nodes", [0, 9])
def test_a_batch_without_any_keyword(nodes, batch_size):
    whole = random_graph(np.random.default_rng(0), nodes, 3)
    made = draw(SubgraphSampler(whole, (2, 2), 24), [np.full((batch_size, 4), UNKNOWN, np.int32)] * 3)
    assert all((made[name] == UNKNOWN).all() for name in made if name not in ("impostor_routes", "graph_caps"))
    assert [ROUTES[i] for i in made["impostor_routes"]] == ["none"] * batch_size
    assert made["graph_caps"].tolist() == [0] * 6


def test_isolated_and_unknown_nodes():
    whole = graph_of([[], [2], [1], []], [[]] * 4)
    batch = [np.array([part], np.int32) for part in ([UNKNOWN, 0], [3, UNKNOWN], [UNKNOWN, 2])]
    made = draw(SubgraphSampler(whole, (2, 2), 8), batch)
    assert known(made["graph_nodes"]) == {0, 1, 2, 3}
    assert numbers_of(made, made["source_nodes"]).tolist() == [[UNKNOWN, 0]]
    assert numbers_of(made, made["target_nodes"]).tolist() == [[3, UNKNOWN]]
    assert known(numbers_of(made, made["impostor_nodes"])) == {2}
    assert ROUTES[made["impostor_routes"][0]] == "negative_text"
    for node in (0, 3):
        assert (made["graph_neighbours"][made["graph_nodes"] == node] == UNKNOWN).all()


@pytest.mark.parametrize("fanout", [(), (0,), (8, 0), (-1, 4)])
def test_bad_fanout_is_refused(fanout):
    with pytest.raises(UserError, match="--graph_fanout"):
        SubgraphSampler(random_graph(np.random.default_rng(0), 5, 2), fanout)


def test_budget_smaller_than_a_batchs_own_keywords_is_refused():
    sampler = SubgraphSampler(random_graph(np.random.default_rng(0), 50, 2), (2, 2), 24)
    sampler.check(3, 4)
    with pytest.raises(UserError, match=r"--graph_node_budget=24 .* 4 may have 32 keywords"):
        sampler.check(4, 4)


@pytest.mark.parametrize(
    ("caps", "text"),
    [
        (
            [533, 610, 0, 1323, 1114, 2133],
            "neighbour lists cut 533 of 610 (87.4%), nodes left out 0 of 1,323 (0.0%), impostor lists cut 1,114 of 2,133 (52.2%)",
        ),
        ([0] * 6, "neighbour lists cut 0 of 0 (0.0%), nodes left out 0 of 0 (0.0%), impostor lists cut 0 of 0 (0.0%)"),
    ],
)
def test_caps_are_told_in_words(caps, text):
    assert describe_caps(np.array(caps)) == f"sub-graph caps: {text}"
    assert len(caps) == len(CAPS)
