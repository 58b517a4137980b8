"""Makes groups of contexts and responses around each example, from which Group-wise draws its contrasts (Cai et al. 2020, section 3.2).

The training contexts are ordered by their BM25 score for the example's context. The first and the last of them, with the responses that
they had, make the group. Most contexts share no word with the example's and score 0; from those, the last ones are drawn once at random.
Where the corpus brings sampled pairs with matching scores (Douban as Cai et al. published it), these are the groups.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from hcl_tf.data.corpora import bm25
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.data.tokenizers import normalization
from hcl_tf.data.tokenizers.wordpiece import cut
from hcl_tf.errors import UserError
from hcl_tf.files.array_cache import CACHE, cached
from hcl_tf.progress import track

FIRST, LAST = 10, 10  # members of a group from either end of the order, as in Cai et al.
LOOKED_AT = 64  # random contexts among which those that score 0 are looked for, before all contexts are sorted


@dataclass(frozen=True)
class Groups:
    """The groups of a split's n examples, of at most G members each.

    Attributes:
      sources: [C, S + 2] ids of contexts. targets: [R, T + 2] ids of responses.
      members: [n, G, 2] for each member its row of `sources` and its row of `targets`. counts: [n] members of each group, at least 1.
      scores: [n, G, 2] in [-1, 1], how well a member's context matches the example's response, and its response the example's context;
        None: a model has to compute it.
    """

    sources: np.ndarray
    targets: np.ndarray
    members: np.ndarray
    counts: np.ndarray
    scores: np.ndarray | None = None

    def draw(self, arrays: SplitArrays, rows: np.ndarray, random: np.random.Generator, draws: int) -> dict[str, np.ndarray]:
        """Draws pairs for examples: for each, a coin decides between a member's context with the example's response and the reverse.

        Args:
          arrays: the split. rows: [B] example numbers. draws: pairs of each example.

        Returns:
          group_source_ids: [B, draws, S + 2]; group_target_ids: [B, draws, T + 2]; where they are known group_scores: [B, draws] float32.
        """
        picked = (random.random((len(rows), draws)) * self.counts[rows][:, None]).astype(int)
        by_context = random.random((len(rows), draws)) < 0.5
        chosen = self.members[rows[:, None], picked]  # --> [B, draws, 2]
        own_source, own_target = (np.repeat(ids[rows][:, None], draws, 1) for ids in (arrays.source_ids, arrays.target_ids))
        pairs = {
            "group_source_ids": np.where(by_context[..., None], self.sources[chosen[..., 0]], own_source),
            "group_target_ids": np.where(by_context[..., None], own_target, self.targets[chosen[..., 1]]),
        }
        if self.scores is not None:
            found = self.scores[rows[:, None], picked]
            pairs["group_scores"] = np.where(by_context, found[..., 0], found[..., 1]).astype(np.float32)
        return pairs


def groups_of(data: PreparedData, split: str, train: SplitArrays) -> Groups:
    """Makes the groups of a split: its own sampled pairs if every example has some, else those of BM25 over the training contexts.

    The latter are kept in the prepared folder. `train` is the training split.

    Raises:
      UserError: there is no other context to make a group of.
    """
    sampled = _sampled(data, split)
    if sampled:
        return sampled
    key = hashlib.sha256(f"{data.manifest['sha256']} {FIRST} {LAST} {split}".encode())

    def compute() -> tuple[np.ndarray, np.ndarray]:
        contexts = [record.source.normal for record in data.records("train")]
        queries = contexts if split == "train" else [record.source.normal for record in data.records(split)]
        return neighbours(contexts, queries, data.manifest["task"]["language"])

    folder = data.folder / CACHE / f"groups-{key.hexdigest()[:16]}"
    members, counts = map(np.array, cached(folder, ("members.npy", "counts.npy"), compute))
    return Groups(train.source_ids, train.target_ids, np.repeat(members[..., None], 2, -1), counts)


def neighbours(contexts: list[str], queries: list[str], language: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds the group of each of n queries among the contexts. A context equal to the query is never in its group.

    Returns:
      [n, FIRST + LAST] int32 numbers of contexts, filled up where there are fewer, and [n] how many there are.
    """
    index, size = bm25.Index(contexts, language), FIRST + LAST
    members, counts = np.zeros((len(queries), size), np.int32), np.zeros(len(queries), np.int32)
    blocks = (index.scores(queries[start : start + bm25.BLOCK]) for start in range(0, len(queries), bm25.BLOCK))
    scored = (pair for block in blocks for pair in zip(bm25.best(block, size), block.toarray(), strict=True))
    for row, (query, (best, scores)) in enumerate(zip(track(queries, "groups (bm25)"), scored, strict=True)):
        first = [i for i in best if contexts[i] != query][:FIRST]
        last = [i for i in _last(scores, np.random.default_rng(row)) if contexts[i] != query and i not in first]
        found = [*first, *last[:LAST]]
        if not found:
            raise UserError(f"no training source but {query!r}: Group-wise needs others to contrast it with; give a larger corpus")
        counts[row] = len(found)
        members[row] = np.resize(found, size)
    return members, counts


def _last(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the numbers of the `2 * LAST` documents with the lowest scores, ties in random order."""
    some = np.unique(random.integers(len(scores), size=LOOKED_AT))
    untouched = random.permutation(some[scores[some] == 0])
    if len(untouched) >= 2 * LAST:
        return untouched[: 2 * LAST]
    return np.lexsort((random.random(len(scores)), scores))[: 2 * LAST]


def _sampled(data: PreparedData, split: str) -> Groups | None:
    """Makes groups of the pairs that the corpus brings, or returns None where an example has none."""
    contexts: dict[str, int] = {}
    responses: dict[str, int] = {}
    found: list[list[tuple[int, int]]] = []
    scored: list[list[tuple[float, float]]] = []
    for record in data.records(split):
        if not record.sampled:
            return None
        found.append([(_number(contexts, pair.context), _number(responses, pair.response)) for pair in record.sampled])
        scored.append([(pair.context_score, pair.response_score) for pair in record.sampled])
    counts = np.array(list(map(len, found)), np.int32)
    members = np.zeros((len(found), counts.max(), 2), np.int32)
    scores = np.zeros(members.shape, np.float32)
    for row, count in enumerate(counts):
        members[row, :count], scores[row, :count] = found[row], scored[row]
    t, keep, normal = data.tokenizer, data.manifest["task"]["source_keep"], normalization.of(data.manifest)
    source_pieces, target_pieces = (t.encode(list(map(normal, texts))) for texts in (contexts, responses))
    sources = t.framed([cut(pieces, data.source_length, keep) for pieces in source_pieces], data.source_length)
    targets = t.framed([cut(pieces, data.target_length, "head") for pieces in target_pieces], data.target_length)
    return Groups(sources, targets, members, counts, np.clip(2 * scores - 1, -1, 1))  # published as about 0 to 1


def _number(known: dict[str, int], text: str) -> int:
    """Returns the number of a text, which is the next one if the text is new."""
    return known.setdefault(text, len(known))
