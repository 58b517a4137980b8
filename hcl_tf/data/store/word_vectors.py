"""Reads word vectors for the embedding scores from a user's file, or learns them once from a task's training texts.

Learning is the count-based way of Levy, Goldberg and Dagan (2015, "Improving Distributional Similarity with Lessons Learned
from Word Embeddings"): positive pointwise mutual information with a smoothed context distribution, then a truncated
singular value decomposition. Nothing in it is drawn, so the same texts give the same vectors.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from hcl_tf.errors import UserError
from hcl_tf.progress import bar, track

WINDOW = 5  # words on either side that count as context, all alike
CONTEXT_SMOOTHING = 0.75  # the power that keeps rare contexts from getting the highest scores
SPECTRUM_POWER = 0.5  # vectors are U S^0.5: Levy et al. find 0.5 and 0 better than 1
DENSE_UP_TO = 500  # words; below, all singular values at once are as fast and need no iteration
BLOCK = 1 << 20  # tokens counted at a time; five pairs each, so some 100 MB


@dataclass(frozen=True)
class WordVectors:
    """Vectors of V words.

    Attributes:
      name: source, settings and the first digits of a SHA-256, for signatures of scores.
      words: V distinct words.
      vectors: [V, d] float32, none of them zero.
    """

    name: str
    words: tuple[str, ...]
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each word in `vectors`."""
        return {word: row for row, word in enumerate(self.words)}

    def of(self, tokens: Sequence[str]) -> np.ndarray:
        """Returns the vectors of those tokens that have one, in order, [n, d]; n is 0 where none has."""
        return self.vectors[[row for token in tokens if (row := self.rows.get(token)) is not None]]

    def mean(self, tokens: Sequence[str]) -> np.ndarray:
        """Returns the mean vector [d] of those tokens that have one, zeros where none has."""
        found = self.of(tokens)
        return found.mean(0) if len(found) else np.zeros(self.vectors.shape[1], self.vectors.dtype)

    def save(self, path: Path) -> None:
        """Writes an .npz file, byte for byte the same for equal vectors. Words must not hold line breaks."""
        texts = {"name": self.name, "words": "\n".join(self.words)}
        np.savez_compressed(path, vectors=self.vectors, **{key: np.frombuffer(text.encode(), np.uint8) for key, text in texts.items()})


def load(path: Path) -> WordVectors:
    """Reads what `WordVectors.save` wrote."""
    with np.load(path) as arrays:
        name, words = (arrays[key].tobytes().decode() for key in ("name", "words"))
        return WordVectors(name, tuple(words.split("\n")) if words else (), arrays["vectors"])


def load_text(path: Path, wanted: Set[str]) -> WordVectors:
    """Reads the vectors of the `wanted` words from a GloVe or word2vec text file: `word number ... number` a line.

    A first line of two integers (words, dimensions) is word2vec's header. The first of several lines of one word counts;
    words of several parts (GloVe 840B has ". . .") and zero vectors are passed over.

    Raises:
      UserError: a line is not a word with the file's number of finite numbers; the text names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of word vectors")
    found: dict[str, np.ndarray] = {}
    dimensions, seen, digest = 0, 0, hashlib.sha256()
    asked = {word.encode() for word in wanted}
    with path.open("rb") as file, bar("word vectors", path.stat().st_size, " bytes") as progress:
        for number, line in enumerate(file, 1):
            digest.update(line)
            progress.update(len(line))
            line = line.replace(b"\t", b" ").rstrip()
            count = line.count(b" ")
            if number == 1 and count == 1 and all(map(bytes.isdigit, line.split())):
                dimensions = int(line.split()[1])
                continue
            dimensions = dimensions or count
            word, _, rest = line.partition(b" ")
            several_parts = count > dimensions and _numbers(rest[: rest.find(b" ")]) is None
            if not dimensions or (count != dimensions and not several_parts):
                raise _bad_line(path, number, f"{count} numbers after the word instead of {dimensions or 'some'}")
            seen += 1
            if several_parts or word not in asked:
                continue
            vector = _numbers(rest)
            if vector is None or len(vector) != dimensions or not np.isfinite(vector).all():
                raise _bad_line(path, number, f"no {dimensions} finite numbers after the word")
            if vector.any():
                found.setdefault(word.decode(), vector)
    if not seen:
        raise UserError(f"{path}: holds no word vector; a GloVe or word2vec text file is expected")
    vectors = np.stack(list(found.values())) if found else np.zeros((0, dimensions), np.float32)
    return WordVectors(f"{path.name}#{digest.hexdigest()[:8]}", tuple(found), vectors)


def _numbers(text: bytes) -> np.ndarray | None:
    try:
        return np.array(text.split(), np.float32)
    except ValueError:
        return None


def _bad_line(path: Path, number: int, why: str) -> UserError:
    return UserError(
        f"{path}:{number}: {why}; a text file of `word number ... number` lines is expected: convert a binary one, mend this line"
    )


def learn(texts: Iterable[Sequence[str]], dimensions: int = 100, min_count: int = 3) -> WordVectors:
    """Learns vectors of the words of texts.

    Words without any positive association are left out. The result depends neither on the order of the texts nor on the number of
    threads.

    Args:
      texts: tokens of each text; contexts do not reach beyond a text.
      dimensions: d, fewer where there are fewer words.
      min_count: rarer words get no vector and count in no context, but keep their place between the others.
    """
    ids, text_numbers, words = _number_words(texts, min_count)
    matrix = ppmi(_count_pairs(ids, text_numbers, len(words)))
    vectors = _decompose(matrix, dimensions)
    kept = np.flatnonzero(vectors.any(axis=1))
    words, vectors = tuple(words[row] for row in kept), np.ascontiguousarray(vectors[kept])
    digest = hashlib.sha256("\n".join(words).encode() + vectors.tobytes()).hexdigest()[:8]
    name = f"ppmi-svd-window{WINDOW}-cds{CONTEXT_SMOOTHING}-power{SPECTRUM_POWER}-min{min_count}-{vectors.shape[1]}d#{digest}"
    return WordVectors(name, words, vectors)


def _number_words(texts: Iterable[Sequence[str]], min_count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Numbers the words. Returns each token's word number (-1: too rare), each token's text number, and the words, sorted."""
    first_numbers: dict[str, int] = {}
    tokens, lengths = array("i"), array("i")
    for text in texts:
        tokens.extend(first_numbers.setdefault(word, len(first_numbers)) for word in text)
        lengths.append(len(text))
    ids, seen = np.array(tokens, np.int32), list(first_numbers)
    counts = np.bincount(ids, minlength=len(seen))
    words = sorted(word for word, count in zip(seen, counts, strict=True) if count >= min_count)
    numbers = {word: number for number, word in enumerate(words)}
    renumber = np.array([numbers.get(word, -1) for word in seen], np.int32)
    return renumber[ids] if len(ids) else ids, np.repeat(np.arange(len(lengths), dtype=np.int32), lengths), words


def _count_pairs(ids: np.ndarray, text_numbers: np.ndarray, size: int) -> sparse.csr_matrix:
    """Counts how often two words stand within `WINDOW` places of each other, in both directions. Returns [V, V] float64."""
    ahead = sparse.csr_matrix((size, size))
    for start in track(range(0, len(ids), BLOCK), "word vectors", unit=" blocks"):
        pairs = []
        for offset in range(1, WINDOW + 1):
            right = slice(start + offset, start + offset + BLOCK)
            left = slice(start, start + len(ids[right]))
            valid = (text_numbers[left] == text_numbers[right]) & (ids[left] >= 0) & (ids[right] >= 0)
            pairs.append(np.stack([ids[left][valid], ids[right][valid]]))
        rows, columns = np.concatenate(pairs, axis=1)
        ahead = ahead + sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size)).tocsr()
    return (ahead + ahead.T).tocsr()


def ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Computes positive pointwise mutual information from counts of pairs [V, V].

    It is max(0, log P(w, c) / (P(w) P_a(c))), with P_a(c) in proportion to #(c)^a, a = `CONTEXT_SMOOTHING`: Levy et al. (2015), section 3.1
    and "context distribution smoothing" in 3.2.
    """
    counts = counts.tocoo()
    of_word, of_context = (np.asarray(counts.sum(axis=axis)).ravel() for axis in (1, 0))
    smoothed = of_context**CONTEXT_SMOOTHING
    scores = np.log(counts.data * smoothed.sum() / (of_word[counts.row] * smoothed[counts.col]))
    positive = scores > 0
    return sparse.csr_matrix((scores[positive], (counts.row[positive], counts.col[positive])), shape=counts.shape)


def _decompose(matrix: sparse.csr_matrix, dimensions: int) -> np.ndarray:
    """Computes U S^p of the truncated decomposition of [V, V], with each column's largest entry positive. Returns [V, d] float32."""
    size = min(dimensions, matrix.shape[0])
    if not matrix.nnz:
        return np.zeros((matrix.shape[0], size), np.float32)
    with threadpool_limits(1):  # sums in another order would end in other bytes
        if matrix.shape[0] <= max(DENSE_UP_TO, dimensions):
            left, spectrum, _ = np.linalg.svd(matrix.toarray())
        else:
            left, spectrum, _ = svds(matrix, size, v0=np.random.default_rng(0).standard_normal(matrix.shape[0]))
    order = np.argsort(-spectrum)[:size]
    # Rounded, so that what is left of the arithmetic's noise decides no sign and does not fill the file.
    vectors = np.round(left[:, order] * spectrum[order] ** SPECTRUM_POWER, 5)
    signs = np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(size)] < 0, -1.0, 1.0)
    return (vectors * signs + 0.0).astype(np.float32)  # + 0.0 leaves no negative zero
