"""Contrastive search: of the likeliest tokens the one whose state resembles least what was written already, in fixed shapes.

The method is Su et al. 2022, "A Contrastive Framework for Neural Text Generation", section 3.2. Of the k likeliest tokens v, equation 5
takes the one with the largest

    (1 - alpha) p(v | x_<t) - alpha max over j < t of cos(h_v, h_j),

where h are the decoder's last hidden states: h_v after reading v, h_j after each token before, the start token among them, which as in
the authors' code is the first to compare with. Alpha 0 and k 1 are greedy search, which is beam search with one beam.

Like beam search it runs in a plain `tf.function`, under `jit_compile=True` and in an exported program. The candidates are rows of the
cache, as beams are, so one step of the decoder a token gives the states that they are judged by, and the winner's is what the next token
is predicted from: the output layer, the dearest part where a vocabulary is large, reads one row a text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from hcl_tf.decoding.beam_search import BeamSettings, Hypotheses, State, Step, best_tokens, reordered, repeating_tokens
from hcl_tf.errors import UserError


@dataclass(frozen=True)
class ContrastiveSettings(BeamSettings):
    """How to search: limits and scores are those of `BeamSettings`, whose `beams` are here the k candidates.

    Attributes:
      alpha: weight of the resemblance, from 0 to 1.
    """

    alpha: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise UserError(f"alpha={self.alpha}: must be from 0 to 1")


class _Search(NamedTuple):
    """The loop's variables. Row r of the cache is candidate r % k of item r // k."""

    position: tf.Tensor  # [] where in the decoder's input the candidates stand
    tokens: tf.Tensor  # [B, k] the candidates, likeliest first
    gains: tf.Tensor  # [B, k] their log-probabilities, -inf where fewer than k are possible
    cache: State
    read: tf.Tensor  # [B, maximum + 1, D] the states of what is written, start token first, of length 1; zeros where nothing stands yet
    ids: tf.Tensor  # [B, maximum] what is written, end tokens behind it
    totals: tf.Tensor  # [B] its log-probability
    ended: tf.Tensor  # [B] whether the end token was chosen


def contrastive_search(
    states_of: Step, scores_of: Callable[[tf.Tensor, State], tf.Tensor], width: int, cache: State, fixed: State, batch: tf.Tensor | int,
    start_id: int, end_id: int, settings: ContrastiveSettings,
) -> Hypotheses:  # fmt: skip
    """Writes one text for each of `batch` = B items; the beam dimension of what it returns is 1.

    What is barred, and when, is as in `beam_search`: the end token before `minimum` tokens, all others after `maximum`, tokens that would
    repeat an n-gram; the k candidates are the likeliest of the rest, their probabilities not rescaled. The end token is a candidate like
    any other, judged by the state after reading it. Of equal candidates the likelier one is taken. The score of a text is that of the
    same text in `beam_search`: its log-probability with the end token's, divided by the length penalty. Nothing is searched for it.

    Args:
      states_of: (ids [B * k] int32, position [] int32, cache, fixed) -> (states [B * k, D] of a float type; cache); otherwise as the `step`
        of `beam_search`, and so are the arguments not named here.
      scores_of: (states [B, D], fixed) -> logits or log-probabilities [B, V'] of the tokens after them.
      width: D.
    """
    candidates, maximum = settings.beams, settings.maximum

    def unfinished(search: _Search) -> tf.Tensor:
        return (search.position <= maximum) & ~tf.reduce_all(search.ended)

    def extend(search: _Search) -> tuple[_Search]:
        position = search.position
        states, cache = states_of(tf.reshape(search.tokens, [-1]), position, search.cache, fixed)
        # --> [B] which candidate continues each text; before the first token all are the start token
        units = tf.math.l2_normalize(tf.cast(tf.reshape(states, [-1, candidates, width]), tf.float32), -1)
        cosines = tf.matmul(units, search.read, transpose_b=True)
        resemblance = tf.reduce_max(tf.where(tf.range(settings.steps) < position, cosines, -1.0), -1)
        values = (1 - settings.alpha) * tf.exp(search.gains) - settings.alpha * resemblance
        values = tf.where(tf.math.is_finite(search.gains), values, -float("inf"))  # where alpha is 1, the impossible would be worth as much
        chosen = tf.argmax(values, 1, output_type=tf.int32)
        rows = candidates * tf.range(batch) + chosen

        token, gain, unit = (tf.gather(of_each, chosen, batch_dims=1) for of_each in (search.tokens, search.gains, units))
        ended = search.ended | ((token == end_id) & (position > 0))  # the start token may be the same as the end token
        ids = tf.where((tf.range(maximum) == position - 1) & ~ended[:, None], token[:, None], search.ids)
        repeats = repeating_tokens(ids[:, None], position, settings.no_repeat) if settings.no_repeat else None
        gains, tokens = best_tokens(scores_of(tf.gather(states, rows), fixed), position, end_id, settings, candidates, repeats)
        missing = [[0, 0], [0, candidates - gains.shape[1]]]  # a vocabulary may have fewer than k tokens
        kept = reordered(cache, tf.repeat(rows, candidates))
        return (
            _Search(
                position=position + 1,
                tokens=tf.pad(tokens, missing, constant_values=end_id),
                gains=tf.pad(gains, missing, constant_values=-float("inf")),
                cache=tf.nest.map_structure(lambda old, new: tf.ensure_shape(new, old.shape), search.cache, kept),
                read=tf.where(tf.range(settings.steps)[:, None] == position, unit[:, None], search.read),
                ids=ids,
                totals=tf.where(search.ended, search.totals, search.totals + gain),
                ended=ended,
            ),
        )

    search = _Search(
        position=tf.constant(0),
        tokens=tf.fill([batch, candidates], start_id),
        gains=tf.zeros([batch, candidates]),
        cache=cache,
        read=tf.zeros([batch, settings.steps, width]),
        ids=tf.fill([batch, maximum], end_id),
        totals=tf.zeros([batch]),
        ended=tf.fill([batch], False),
    )
    (search,) = tf.while_loop(unfinished, extend, [search])
    # A text of `maximum` tokens ends without a choice: the only candidate is the end token, and nothing has to read it.
    totals = tf.where(search.ended, search.totals, search.totals + search.gains[:, 0])
    ids = tf.where(tf.math.is_finite(totals)[:, None], search.ids, end_id)
    lengths = tf.reduce_sum(tf.cast(ids != end_id, tf.int32), -1)
    return Hypotheses(*(part[:, None] for part in (ids, totals / settings.penalty(lengths), lengths)))
