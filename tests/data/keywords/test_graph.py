"""The keyword graph against a brute-force count straight from the paper's words, and its two files."""

from collections import Counter
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcl_tf.data.keywords import graph
from hcl_tf.data.keywords.graph import NEGATIVE, POSITIVE, UNKNOWN, SampleKeywords

WORDS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=3).map(tuple)
CORPORA = st.lists(st.builds(SampleKeywords, WORDS, WORDS, WORDS), max_size=8)
HAND_WORKED = [
    SampleKeywords(("a",), ("b",), ("c",)),
    SampleKeywords(("a",), ("d",), ("b",)),
    SampleKeywords(("e",), ("e", "d"), ("c",)),
]


def brute_force(samples, minimum_count, degree, input_edges, strength):
    """Nodes, counts, cluster sizes, and for each relation and node its (neighbour, weight) pairs, strongest first."""
    occurs = Counter(word for s in samples for word in set(s.source) | set(s.target) | set(s.negative))
    nodes = sorted(word for word in occurs if occurs[word] >= minimum_count)
    positive, negative, clusters = Counter(), Counter(), []
    for source_keyword in nodes:
        cluster = [s for s in samples if source_keyword in s.source]
        clusters.append(len(cluster))
        for sample, other in product(cluster, cluster):
            for target_keyword in sample.target:
                for keyword in other.target:
                    positive[target_keyword, keyword] += 1  # the pair's other direction comes with (other, sample)
                for keyword in other.negative:
                    negative[target_keyword, keyword] += 1
                    negative[keyword, target_keyword] += 1
    if input_edges:
        for sample in samples:
            for source_keyword, target_keyword in product(sample.source, sample.target):
                positive[source_keyword, target_keyword] += 1
                positive[target_keyword, source_keyword] += 1
    counts = [{(a, b): n for (a, b), n in edges.items() if a != b and a in nodes and b in nodes} for edges in (positive, negative)]
    ranks = [by_association(edges, nodes) if strength == "association" else edges for edges in counts]
    for pair in ranks[0].keys() & ranks[1].keys():
        keeps_positive = strength == "count" or ranks[0][pair] >= ranks[1][pair]
        del ranks[1 if keeps_positive else 0][pair]

    def strongest(relation, node):
        found = sorted((-rank, to) for (start, to), rank in ranks[relation].items() if start == node)
        return [(to, counts[relation][node, to]) for _, to in found[:degree]]

    return nodes, [occurs[node] for node in nodes], clusters, [[strongest(relation, node) for node in nodes] for relation in (0, 1)]


def by_association(counts, nodes):
    """Positive PMI of each pair, word by word: log of P(a, b) / (P(a) P(b)), P(b) smoothed by the power 0.75 (Levy et al. 2015)."""
    totals = np.array([float(sum(n for (a, _), n in counts.items() if a == node)) for node in nodes])
    smoothed = totals**0.75
    share = dict(zip(nodes, smoothed / max(smoothed.sum(), 1e-12), strict=True))
    total = dict(zip(nodes, totals, strict=True))
    ranks = {(a, b): np.log(n / (total[a] * share[b])) for (a, b), n in counts.items()}
    return {pair: rank for pair, rank in ranks.items() if rank > 0}


def as_lists(built):
    """A graph in the form of `brute_force`."""
    edges = []
    for relation in (POSITIVE, NEGATIVE):
        bounds = built.indptr[relation]
        pairs = list(zip((built.nodes[i] for i in built.indices[relation]), built.weights[relation].tolist(), strict=True))
        edges.append([pairs[bounds[i] : bounds[i + 1]] for i in range(len(built))])
    return list(built.nodes), built.counts.tolist(), built.clusters.tolist(), edges


def random_corpus(seed, samples=60, words=40):
    random = np.random.default_rng(seed)
    texts = [
        [tuple(f"w{i:02}" for i in random.choice(words, random.integers(0, 5), replace=False)) for _ in range(3)] for _ in range(samples)
    ]
    return [SampleKeywords(*text) for text in texts]


@given(CORPORA, st.integers(1, 3), st.integers(1, 4), st.booleans(), st.sampled_from(graph.STRENGTHS))
@settings(deadline=None, max_examples=400)
def test_graph_is_what_the_papers_words_give(samples, minimum_count, degree, input_edges, strength):
    built = graph.build(samples, minimum_count, degree, input_edges, strength)
    assert as_lists(built) == brute_force(samples, minimum_count, degree, input_edges, strength)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("input_edges", [False, True])
@pytest.mark.parametrize("strength", graph.STRENGTHS)
def test_larger_graph_is_what_the_papers_words_give(seed, input_edges, strength):
    samples = random_corpus(seed)
    assert as_lists(graph.build(samples, 3, 16, input_edges, strength)) == brute_force(samples, 3, 16, input_edges, strength)


def test_the_first_neighbour_is_a_frequent_word_by_counts_and_a_related_one_by_association():
    """`the` stands in every target; p goes with it five times and with q three times, which stands nowhere else."""
    samples = [SampleKeywords((f"s{i % 40}",), ("the", f"w{i % 40}"), (f"n{i % 40}",)) for i in range(400)]
    samples += [SampleKeywords((f"t{i}",), ("the", "p", *("q",) * (i < 3)), ("n",)) for i in range(5)]
    for strength, first in (("count", "the"), ("association", "q")):
        built = graph.build(samples, 1, 4, strength=strength)
        number = built.numbers()
        assert built.neighbours(number["p"], POSITIVE)[0] == number[first], strength


def test_a_pair_in_both_relations_goes_where_its_association_is_stronger():
    """b and d are positive once and negative in many clusters, where hardly anything else is: under counts the positive edge wins."""
    samples = [SampleKeywords((f"s{i}",), ("b",), ("d",)) for i in range(6)]
    samples += [SampleKeywords(("t",), ("b", "d", *(f"w{i}" for i in range(6))), ())]
    samples += [SampleKeywords((f"u{i}",), (f"w{i % 6}", f"w{(i + 1) % 6}"), (f"x{i % 3}",)) for i in range(12)]
    for strength in graph.STRENGTHS:
        built = graph.build(samples, 1, 16, strength=strength)
        b, d = built.numbers()["b"], built.numbers()["d"]
        held = [d in built.neighbours(b, relation) for relation in (POSITIVE, NEGATIVE)]
        assert held == ([False, True] if strength == "association" else [True, False]), strength


def test_hand_worked_graph():
    """Cluster of a, samples 1 and 2: b-d positive (also negative: positive wins), b-c and d-c negative. Cluster of e: sample 3."""
    assert as_lists(graph.build(HAND_WORKED, 1, 16, strength="count")) == (
        ["a", "b", "c", "d", "e"],
        [2, 2, 2, 2, 1],
        [2, 0, 0, 0, 1],
        [
            [[], [("d", 1)], [], [("b", 1), ("e", 1)], [("d", 1)]],
            [[], [("c", 1)], [("d", 2), ("b", 1), ("e", 1)], [("c", 2)], [("c", 1)]],
        ],
    )


def test_hand_worked_cap_keeps_the_strongest_and_ties_by_keyword():
    *_, (positive, negative) = as_lists(graph.build(HAND_WORKED, 1, 2, strength="count"))
    assert positive[3] == [("b", 1), ("e", 1)]
    assert negative[2] == [("d", 2), ("b", 1)]
    *_, (positive, negative) = as_lists(graph.build(HAND_WORKED, 1, 1, strength="count"))
    assert positive[3] == [("b", 1)]  # e keeps its edge to d, although d's to e is gone
    assert positive[4] == [("d", 1)]
    assert negative[2] == [("d", 2)]


def test_hand_worked_input_edges_join_source_and_target_keywords():
    *_, (positive, negative) = as_lists(graph.build(HAND_WORKED, 1, 16, input_edges=True, strength="count"))
    assert positive == [[("b", 1), ("d", 1)], [("a", 1), ("d", 1)], [], [("e", 2), ("a", 1), ("b", 1)], [("d", 2)]]
    assert negative == [[], [("c", 1)], [("d", 2), ("b", 1), ("e", 1)], [("c", 2)], [("c", 1)]]


@pytest.mark.parametrize("role", ["source", "target", "negative"])
def test_minimum_count_is_over_samples_in_any_role(role):
    everywhere = SampleKeywords(("x",), ("x",), ("x",))  # one sample, however many roles
    one_role = SampleKeywords(**{"source": (), "target": (), "negative": (), role: ("x",)})
    assert graph.build([everywhere], 2, 4).nodes == ()
    assert graph.build([everywhere, one_role], 2, 4).nodes == ("x",)
    assert graph.build([everywhere, one_role], 3, 4).nodes == ()


def test_a_pair_in_both_relations_is_decided_before_the_cap():
    """b-d is positive once and negative twice; a cap of 1 drops b's positive d, and must not bring back the negative one."""
    samples = [SampleKeywords(("a",), ("b", "c"), ("d",))] * 2 + [SampleKeywords(("b",), ("b", "d"), ())]
    built = graph.build(samples, 1, 1, strength="count")
    b, c, d = (built.numbers()[word] for word in "bcd")
    assert built.neighbours(b, POSITIVE).tolist() == [c]
    assert built.neighbours(b, NEGATIVE).tolist() == []
    assert built.neighbours(d, POSITIVE).tolist() == [b]


def test_weights_count_beyond_32_bits():
    built = graph.build([SampleKeywords(("a",), ("b", "c"), ())] * 70_000, 1, 4)
    assert built.weights[POSITIVE].tolist() == [70_000**2] * 2


@pytest.mark.parametrize("input_edges", [False, True])
@pytest.mark.parametrize("block", [1, 7, 39, 40])
def test_block_size_changes_nothing(monkeypatch, block, input_edges):
    samples = random_corpus(1)
    expected = as_lists(graph.build(samples, 2, 5, input_edges))
    monkeypatch.setattr(graph, "BLOCK", block)
    assert as_lists(graph.build(samples, 2, 5, input_edges)) == expected


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_order_of_samples_and_of_their_keywords_changes_nothing(seed):
    samples, random = random_corpus(2), Random(seed)
    shuffled = [SampleKeywords(*(tuple(random.sample(text, len(text))) for text in (s.source, s.target, s.negative))) for s in samples]
    random.shuffle(shuffled)
    assert as_lists(graph.build(shuffled, 3, 6, True)) == as_lists(graph.build(samples, 3, 6, True))


@given(CORPORA, st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_table_neighbours_numbers_and_edges_agree(samples, degree):
    built = graph.build(samples, 1, degree)
    assert built.numbers() == {node: i for i, node in enumerate(built.nodes)}
    for width in (degree, degree + 2):
        table = built.table(width)
        assert (table.shape, table.dtype) == ((len(built), 2, width), np.int32)
        for node, relation in product(range(len(built)), (POSITIVE, NEGATIVE)):
            own = built.neighbours(node, relation).tolist()
            assert table[node, relation].tolist() == own + [UNKNOWN] * (width - len(own))
    for relation in (POSITIVE, NEGATIVE):
        assert built.edges(relation) == sum(len(built.neighbours(i, relation)) for i in range(len(built)))


@pytest.mark.parametrize("samples", [[], [SampleKeywords((), (), ())], [SampleKeywords(("a",), ("b",), ("c",))]])
def test_empty_graph(samples, tmp_path):
    built = graph.build(samples, 2, 4)
    graph.save(built, tmp_path)
    for empty in (built, graph.load(tmp_path)):
        assert len(empty) == 0
        assert empty.numbers() == {}
        assert empty.table(4).shape == (0, 2, 4)
        assert [empty.edges(relation) for relation in (POSITIVE, NEGATIVE)] == [0, 0]


def test_nodes_without_edges():
    built = graph.build([SampleKeywords(("a", "b"), (), ("c",))], 1, 4)  # no target keyword, so no edge
    assert built.nodes == ("a", "b", "c")
    assert (built.table(2) == UNKNOWN).all()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=6, unique=True), st.booleans())
@settings(deadline=None, max_examples=30)
def test_save_and_load_round_trip_with_identical_bytes(tmp_path_factory, words, input_edges):
    folder = tmp_path_factory.mktemp("graph")
    samples = [SampleKeywords((words[0],), tuple(words[1:3]), tuple(words[3:])), SampleKeywords(tuple(words[:2]), tuple(words[:2]), ())]
    built = graph.build(samples, 1, 3, input_edges)
    for name in ("one", "two"):
        graph.save(built, folder / name)
    loaded = graph.load(folder / "one")
    assert loaded.nodes == built.nodes
    for name in ("counts", "clusters"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(built, name), strict=True)
    for name, relation in product(("indptr", "indices", "weights"), (POSITIVE, NEGATIVE)):
        np.testing.assert_array_equal(getattr(loaded, name)[relation], getattr(built, name)[relation], strict=True)
    for name in ("nodes.tsv", "edges.npz"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_saved_bytes_do_not_depend_on_the_clock(tmp_path, monkeypatch):
    built = graph.build(HAND_WORKED, 1, 4)
    graph.save(built, tmp_path / "now")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    graph.save(built, tmp_path / "later")
    assert (tmp_path / "now" / "edges.npz").read_bytes() == (tmp_path / "later" / "edges.npz").read_bytes()
