"""Measures keyword control: whether outputs follow the keywords that are asked for, and how far the prior moves.

The same inputs are decoded under three conditions: the input's own TextRank keywords, one keyword of another text in their place, and none.
The results are means over inputs with 95% bootstrap intervals. An input's value under several swaps is their mean, and inputs are
resampled, because the swaps of one input are not independent of each other; inputs that share a text are resampled together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from hcl_tf.data.tokenizers.words import TOKENISATION, words
from hcl_tf.layers import latent
from hcl_tf.metrics import bleu, diversity
from hcl_tf.metrics.scores import SOURCE_BLEU
from hcl_tf.metrics.significance import means

OWN, SWAPPED, NONE = CONDITIONS = ("own", "swapped", "none")
OTHER = "another input"  # to compare with: how far the prior moves where the whole source changes
SWAP_IN, OWN_IN, CHANGED = "swapped-keyword-included", "own-keywords-included", "outputs-changed"
SHIFT, KL = "prior-shift", "prior-KL"
ORDERS = (1, 2)  # of distinct-n
DIFFERENCES = ((SWAP_IN, SWAPPED, OWN), (SWAP_IN, SWAPPED, NONE), (OWN_IN, OWN, SWAPPED), (OWN_IN, OWN, NONE), (SOURCE_BLEU, SWAPPED, OWN))

Forms = Sequence[str]  # the ways in which a keyword may stand in a text: "question", "questions"


@dataclass(frozen=True)
class Measured:
    """What was decoded of n inputs under each condition; `draws` is the number of swaps under `SWAPPED`, and 1 under the others.

    Attributes:
      language: "en" or "zh".
      sources: [n] texts.
      own: [n] the forms of each of the source's own keywords.
      swaps: [draws][n] the forms of the one keyword that was swapped in.
      outputs: condition -> [draws][n] texts.
      priors: condition -> means and standard deviations of p(z | x, u), each [draws, n, Z]; None: the system has no latent.
      units: [n] which inputs share a text and are resampled together; None: none do (`dependence.units_of`).
    """

    language: str
    sources: Sequence[str]
    own: Sequence[Sequence[Forms]]
    swaps: Sequence[Sequence[Forms]]
    outputs: dict[str, Sequence[Sequence[str]]]
    priors: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
    units: np.ndarray | None = None


def inclusion(texts: Sequence[str], keywords: Sequence[Sequence[Forms]], language: str) -> np.ndarray:
    """Computes the share of each text's keywords of which it contains a form: [n] float64, NaN for a text without keywords."""
    shares = []
    for text, given in zip(texts, keywords, strict=True):
        tokens = words(text, language)
        hits = [diversity.keyword_inclusion([tokens], [[words(form, language) for form in forms]])[0] > 0 for forms in given]
        shares.append(np.mean(hits) if hits else np.nan)
    return np.array(shares, np.float64)


def prior_shift(mean: np.ndarray, own_mean: np.ndarray, own_stddev: np.ndarray) -> np.ndarray:
    """Computes |mu - mu_own| / sigma_own, mean over latent dimensions: [..., Z] each -> [...]."""
    return (np.abs(mean - own_mean) / own_stddev).mean(-1)


def prior_kl(prior: tuple[np.ndarray, np.ndarray], own: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Computes KL(prior || own prior), summed over latent dimensions, from means and standard deviations [..., Z]. Returns [...] nats."""
    one, other = (latent.gaussian(tuple(tf.constant(part, tf.float64) for part in parts)) for parts in (prior, own))
    return latent.kl_by_dimension(one, other).numpy().sum(-1)


def faithfulness(measured: Measured) -> dict[str, dict]:
    """Computes every measure.

    Returns:
      For each measure `signature` and `values`: for each condition (or "A minus B", paired) value, low, high and examples, which is the
      number of inputs. distinct-n has no interval, because resampled texts repeat. It falls with the number of texts, so it is taken of n
      texts for each swap, and the mean over swaps is given.
    """
    columns = _columns(measured)
    columns |= {(name, f"{a} minus {b}"): columns[name, a] - columns[name, b] for name, a, b in DIFFERENCES}
    signatures = _signatures(measured)
    found: dict[str, dict] = {name: {"signature": signatures[name], "values": {}} for name, _ in columns}
    for (name, condition), entry in means(columns, measured.units).items():
        found[name]["values"][condition] = entry
    for order in ORDERS:
        name = f"distinct-{order}"
        found[name] = {"signature": signatures[name], "values": {c: _distinct(measured, c, order) for c in CONDITIONS}}
    return found


def _columns(m: Measured) -> dict[tuple[str, str], np.ndarray]:
    """Computes each measure under each condition for each input, [n], as a mean over draws."""
    columns = {}
    (own_outputs,) = m.outputs[OWN]
    sources = [words(source, m.language) for source in m.sources]
    for condition in CONDITIONS:
        draws = m.outputs[condition]
        # Under the other conditions there is one output, looked through for each of the keywords that were swapped in elsewhere.
        against = zip(draws if len(draws) == len(m.swaps) else [draws[0]] * len(m.swaps), m.swaps, strict=True)
        columns[SWAP_IN, condition] = _mean(inclusion(texts, [[forms] for forms in swap], m.language) for texts, swap in against)
        columns[OWN_IN, condition] = _mean(inclusion(texts, m.own, m.language) for texts in draws)
        tokens = ([words(text, m.language) for text in texts] for texts in draws)
        columns[SOURCE_BLEU, condition] = _mean(bleu.sentence_scores(texts, sources, orders=(4,))[:, 0] for texts in tokens)
        if condition != OWN:
            columns[CHANGED, condition] = _mean(np.array(texts) != np.array(own_outputs) for texts in draws)
    return columns | (_prior_columns(m.priors) if m.priors else {})


def _prior_columns(priors: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[tuple[str, str], np.ndarray]:
    own = priors[OWN]
    moved = {condition: priors[condition] for condition in (SWAPPED, NONE)}
    if own[0].shape[1] > 1:
        moved[OTHER] = tuple(np.roll(part, -1, axis=1) for part in own)
    columns = {}
    for condition, prior in moved.items():
        columns[SHIFT, condition] = prior_shift(prior[0], *own).mean(0)
        columns[KL, condition] = prior_kl(prior, own).mean(0)
    return columns


def _mean(draws) -> np.ndarray:
    return np.mean([np.asarray(draw, np.float64) for draw in draws], axis=0)


def _distinct(m: Measured, condition: str, order: int) -> dict:
    shares = [diversity.distinct([words(text, m.language) for text in texts], order) for texts in m.outputs[condition]]
    value = float(np.mean(shares))
    return {"value": value if np.isfinite(value) else None, "low": None, "high": None, "examples": len(m.sources)}


def _signatures(m: Measured) -> dict[str, str]:
    token, swaps = TOKENISATION[m.language], f"mean over {len(m.swaps)} swaps, then inputs"
    forms = f"forms:as the graph names it, or as tagged in texts of the data|{token}|scale:1"
    return {
        SWAP_IN: f"share of swapped-in keywords of which a form stands in the output, {swaps}|{forms}",
        OWN_IN: f"share of the source's own keywords of which a form stands in the output, {swaps}|{forms}",
        SOURCE_BLEU: f"{bleu.signature(4, m.language)}|against:the source, not the reference (self-BLEU)|{swaps}",
        CHANGED: f"share of outputs that differ from the output under the own keywords, {swaps}|compared:as texts|scale:1",
        SHIFT: f"|mu - mu_own| / sigma_own of the prior, mean over latent dimensions, {swaps}|{OTHER}:the next one of the inputs",
        KL: f"KL(prior || prior under the own keywords), sum over latent dimensions, {swaps}|{OTHER}:the next one of the inputs|nats",
    } | {
        f"distinct-{order}": f"distinct-{order}|level:corpus, mean over swaps|different {order}-grams / all {order}-grams|{token}|scale:1"
        for order in ORDERS
    }
