"""Computes what several outputs of each source, made under different z, are worth: how good they are, and how unlike each other."""

from collections.abc import Mapping, Sequence

import numpy as np

from hcl_tf.data.tokenizers.normalization import NONE
from hcl_tf.data.tokenizers.words import TOKENISATION, words
from hcl_tf.metrics import bleu, diversity, significance
from hcl_tf.metrics.scores import with_normalization

MEAN, BEST, IBLEU_MEAN = "BLEU-2-mean", "BLEU-2-best", "iBLEU-mean"
PAIRWISE, DISTINCT = "pairwise-distinctness", "distinct-samples"


def score_samples(
    samples: Sequence[Sequence[str]],
    references: Sequence[str],
    sources: Sequence[str],
    language: str,
    normalization: str = NONE,
    further: Sequence[Sequence[str]] | None = None,
    units: np.ndarray | None = None,
) -> dict[str, dict]:
    """Scores N outputs of each of n sources.

    Args:
      samples: [N][n] texts. references, sources: n texts each. language, normalization, further, units: as of `scores.score`.

    Returns:
      For each score its value, low and high (95% bootstrap interval over sources; None where there is no value), examples (how many have a
      value), and signature. Each is a mean over sources, of:
        BLEU-2-mean: the mean of the N outputs' BLEU-2.
        BLEU-2-best: the highest of the N outputs' BLEU-2. The reference chooses, so it is an oracle's score, and rises with N.
        iBLEU-mean: the mean of the N outputs' iBLEU.
        pairwise-distinctness: the mean of 1 - BLEU-2, bounded, over ordered pairs of the N outputs (`diversity.pairwise_distinctness`); no
          value where N is 1.
        distinct-samples: the number of different outputs among the N, divided by N.

    Raises:
      ValueError: the lists do not have the same length.
    """
    outputs = [[words(text, language) for text in texts] for texts in samples]
    targets, inputs = ([words(text, language) for text in texts] for texts in (references, sources))
    more = [[words(text, language) for text in texts] for texts in further] if further else None
    scored = np.stack([bleu.sentence_scores(texts, targets, (2,), more)[:, 0] for texts in outputs])  # --> [N, n]
    ibleu = np.stack([bleu.ibleu(texts, targets, inputs, more) for texts in outputs])  # --> [N, n]
    of_source = list(zip(*outputs, strict=True))
    columns = {
        MEAN: scored.mean(0),
        BEST: scored.max(0),
        IBLEU_MEAN: ibleu.mean(0),
        PAIRWISE: np.array([diversity.pairwise_distinctness(texts) for texts in of_source]),
        DISTINCT: np.array([diversity.distinct_share(texts) for texts in of_source]),
    }
    signatures = _signatures(len(samples), language, bleu.SEVERAL if more else "")
    found = significance.means(columns, units)
    return with_normalization({name: entry | {"signature": signatures[name]} for name, entry in found.items()}, normalization)


def sources_of(means: Mapping[str, Mapping]) -> int:
    """Returns of how many sources `score_samples` found something."""
    return max(entry["examples"] for entry in means.values())


def _signatures(count: int, language: str, several: str) -> dict[str, str]:
    token, of_each = TOKENISATION[language], f"of {count} outputs of each source, z drawn from the prior"
    return {
        MEAN: f"mean {of_each}|{bleu.signature(2, language)}{several}",
        BEST: f"best {of_each} (oracle)|{bleu.signature(2, language)}{several}",
        IBLEU_MEAN: f"mean {of_each}|{bleu.ibleu_signature(language)}{several}",
        PAIRWISE: f"1 - BLEU-2 of ordered pairs {of_each}, mean|equal:0|{bleu.signature(2, language, bleu.ADD_ONE)}",
        DISTINCT: f"different outputs / all outputs, {of_each}|{token}|scale:1",
    }
