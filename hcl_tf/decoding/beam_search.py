"""Beam search that keeps `beams` unfinished and `beams` finished hypotheses of each item, in fixed shapes.

The paper says "the decoding process is the same as Transformer" (section 4.1), which is that of Vaswani et al. 2017, section 6.1, with the
length penalty of Wu et al. 2016, equation 14. The search runs in a plain `tf.function`, under `jit_compile=True`, and in an exported
program: it is one `tf.while_loop` without a callback to Python and without a shape that depends on values.

`official.nlp.modeling.ops.beam_search` does not serve here. It rescales the probabilities after the end token is barred, so its scores are
not log-probabilities. It takes caches of one type only, and with one beam it searches on after the end, which is not greedy search. It was
also slower (1.2 to 1.4 times an earlier state of this one: batch 32, 4 beams, 4 layers of width 256, 2 cores).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from hcl_tf.decoding.top_k import top_k
from hcl_tf.errors import UserError
from hcl_tf.layers.decoder import UNMOVED

State = dict[str, Any]  # a nested dict of tensors
Step = Callable[[tf.Tensor, tf.Tensor, State, State], tuple[tf.Tensor, State]]


@dataclass(frozen=True)
class BeamSettings:
    """The settings of a search. Lengths count tokens without the end token.

    Attributes:
      beams: unfinished hypotheses kept for each item. [P] 4; 1 is greedy search.
      minimum, maximum: lengths of the shortest and the longest hypothesis. [P] 5 and 20.
      length_penalty: alpha in the penalty ((5 + length) / 6) ** alpha by which a log-probability is divided; 0 turns it off. [D] The paper
        does not give it; 0.6 is the Transformer's, whose decoding the paper says it follows, with the same 4 beams.
      no_repeat: no n-gram of so many tokens may occur twice in a hypothesis; 0: any may.

    Raises:
      UserError: a value is out of bounds.
    """

    beams: int = 4
    minimum: int = 5
    maximum: int = 20
    length_penalty: float = 0.6
    no_repeat: int = 0

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise UserError(f"beams={self.beams}: a search needs at least 1")
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise UserError(f"lengths from {self.minimum} to {self.maximum}: need 0 <= minimum <= maximum and maximum >= 1")
        if not 0 <= self.length_penalty < float("inf"):
            raise UserError(f"length_penalty={self.length_penalty}: must be 0 or more (below 0, the search couldn't tell when to stop)")

    @property
    def steps(self) -> int:
        """The most calls of the decoder, and so the length of a cache: positions 0 to `maximum`, at which the end is scored."""
        return self.maximum + 1

    def penalty(self, length: tf.Tensor | int) -> tf.Tensor:
        """Computes the number by which the log-probability of a hypothesis of `length` tokens is divided; float32, shaped as `length`."""
        return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** self.length_penalty


class Hypotheses(NamedTuple):
    """The finished hypotheses of each item, best first, all different.

    Attributes:
      ids: [B, beams, maximum] int32, `length` tokens and then the end token as padding.
      scores: [B, beams] float32, log P(tokens, end token) / penalty(length); -inf (and length 0) where there is no hypothesis
        because fewer than `beams` have a probability above 0.
      lengths: [B, beams] int32, tokens without the end token.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    lengths: tf.Tensor


class _Search(NamedTuple):
    """The loop's variables. Row r of the cache and of `tokens` is beam r % beams of item r // beams."""

    position: tf.Tensor  # [] how many tokens each unfinished hypothesis has
    tokens: tf.Tensor  # [B * beams] the last token of each
    cache: State
    ids: tf.Tensor  # [B, beams, maximum] unfinished, best first, end tokens where nothing stands yet
    totals: tf.Tensor  # [B, beams] their log-probabilities
    finished: tf.Tensor  # [B, beams, maximum] finished, best first
    scores: tf.Tensor  # [B, beams] their scores


class _Continuations(NamedTuple):
    """The best continuations of each item, best first, whichever beam they continue."""

    totals: tf.Tensor  # [B, candidates] their log-probabilities
    tokens: tf.Tensor  # [B, candidates] their last tokens
    ids: tf.Tensor  # [B, candidates, maximum]
    parents: tf.Tensor  # [B, candidates] the beams that they continue


def beam_search(
    step: Step, cache: State, fixed: State, batch: tf.Tensor | int, start_id: int, end_id: int, settings: BeamSettings
) -> Hypotheses:
    """Finds the best hypotheses of each of `batch` = B items.

    The end token is barred before `minimum` tokens. After `maximum` tokens nothing else is allowed, and its log-probability counts there
    too, so that every score is that of a whole text and a cut one gets no advantage. Probabilities are not rescaled for tokens that are
    barred. Of equal scores the earlier beam, then the smaller id, comes first.

    Args:
      step: called with ids [B * beams] int32, which are the tokens at `position` [] int32 of the decoder's input (`start_id` at 0), with
        cache and fixed. It returns logits or log-probabilities [B * beams, V'] of a float type, which are normalised here (-inf is
        allowed, V' is known when tracing), and the new cache.
      cache: nested dict of tensors [B * beams, ...] of any type, reordered with the beams (`reordered`). `step` keeps shapes and types.
      fixed: nested dict of tensors, handed to `step` as it is.
      start_id, end_id: the token before the first and the token after the last.
    """
    beams, maximum = settings.beams, settings.maximum
    first_rows = beams * tf.range(batch)[:, None]
    # Twice the beams: at most `beams` of them end, so enough remain. One beam is greedy search: nothing replaces what ended.
    candidates = 2 * beams if beams > 1 else 1

    def unsettled(search: _Search) -> tf.Tensor:
        # Longer hypotheses have smaller log-probabilities, so this bounds what the unfinished can still become.
        bound = search.totals[:, 0] / settings.penalty(maximum)
        return (search.position <= maximum) & tf.reduce_any(bound > search.scores[:, -1])

    def extend(search: _Search) -> tuple[_Search]:
        scores, cache = step(search.tokens, search.position, search.cache, fixed)
        found = _continuations(search, scores, end_id, settings, candidates)
        ended = found.tokens == end_id
        finished, scores = _best_finished(search, found, ended, settings)
        totals, kept = tf.math.top_k(tf.where(ended, -float("inf"), found.totals), beams)  # --> [B, beams]: what goes on
        rows = tf.reshape(first_rows + tf.gather(found.parents, kept, batch_dims=1), [-1])
        return (
            _Search(
                position=search.position + 1,
                tokens=tf.reshape(tf.gather(found.tokens, kept, batch_dims=1), [-1]),
                cache=tf.nest.map_structure(lambda old, new: tf.ensure_shape(new, old.shape), search.cache, reordered(cache, rows)),
                ids=tf.gather(found.ids, kept, batch_dims=1),
                totals=totals,
                finished=finished,
                scores=scores,
            ),
        )

    nothing = tf.fill([batch, beams, maximum], end_id)
    impossible = tf.fill([batch, beams], -float("inf"))
    search = _Search(
        position=tf.constant(0),
        tokens=tf.fill([batch * beams], start_id),
        cache=cache,
        ids=nothing,
        # All beams start alike: only the first counts, or every hypothesis would be found `beams` times.
        totals=tf.where(tf.range(beams) == 0, 0.0, impossible),
        finished=nothing,
        scores=impossible,
    )
    (search,) = tf.while_loop(unsettled, extend, [search])
    return Hypotheses(search.finished, search.scores, tf.reduce_sum(tf.cast(search.finished != end_id, tf.int32), -1))


def _continuations(search: _Search, scores: tf.Tensor, end_id: int, settings: BeamSettings, candidates: int) -> _Continuations:
    """Finds the best continuations of each item by the scores [B * beams, V'] of next tokens."""
    repeats = repeating_tokens(search.ids, search.position, settings.no_repeat) if settings.no_repeat else None
    gains, tokens = best_tokens(scores, search.position, end_id, settings, candidates, repeats)
    per_beam = gains.shape[1]
    totals = tf.reshape(search.totals, [-1, 1]) + gains  # --> [B * beams, per_beam]
    totals, places = tf.math.top_k(tf.reshape(totals, [-1, settings.beams * per_beam]), candidates)  # --> [B, candidates]
    tokens = tf.gather(tf.reshape(tokens, [-1, settings.beams * per_beam]), places, batch_dims=1)
    parents = places // per_beam
    ids = tf.gather(search.ids, parents, batch_dims=1)
    ids = tf.where(tf.range(settings.maximum) == search.position, tokens[:, :, None], ids)
    return _Continuations(totals, tokens, ids, parents)


def _best_finished(search: _Search, found: _Continuations, ended: tf.Tensor, settings: BeamSettings) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses the best of the finished hypotheses and those that end now. Returns ids [B, beams, maximum] and scores [B, beams]."""
    scores = tf.where(ended, found.totals / settings.penalty(search.position), -float("inf"))
    # The earlier ones come first, so that they win ties.
    scores, kept = tf.math.top_k(tf.concat([search.scores, scores], 1), settings.beams)
    return tf.gather(tf.concat([search.finished, found.ids], 1), kept, batch_dims=1), scores


def reordered(cache: State, rows: tf.Tensor) -> State:
    """Moves the rows of a cache with their hypotheses: row r becomes the former row `rows[r]`.

    What lies under the key `UNMOVED` stays, and may have any shape. It is for tensors that are large and written once, such as keys and
    values: a step that keeps an ordinary tensor that says which row wrote what (layers/decoder.py) need not copy them.
    """
    if not isinstance(cache, dict):
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), cache)
    moved = {name: part for name, part in cache.items() if name != UNMOVED}
    return cache | tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), moved)


def best_tokens(
    scores: tf.Tensor, position: tf.Tensor, end_id: int, settings: BeamSettings, candidates: int, repeats: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds each beam's best allowed tokens, best first.

    Rows are as wide as the vocabulary, so they are read as few times as possible: tokens are barred among the best rather than in the row,
    and the normaliser comes from the library's softmax, which is three times as fast as its log-softmax.

    Args:
      scores: [B * beams, V'], not normalised. candidates: how many tokens are wanted. repeats: of `repeating_tokens`; None: any may occur.

    Returns:
      [B * beams, n] float32 log-probabilities and int32 ids, with n of at most `candidates`.
    """
    # Cast first: on a CPU, XLA sorts whole rows of a narrower type (644 ms instead of 6 for 128 rows of 30,522).
    scores = tf.cast(scores, tf.float32)
    spare = 1 if repeats is None else 1 + repeats.shape[1]  # what is barred may be among the best
    best, tokens = top_k(scores, min(candidates + spare, scores.shape[-1]))
    largest = best[:, :1]
    log_sum = largest - tf.math.log(tf.gather(tf.nn.softmax(scores), tokens[:, :1], batch_dims=1))
    log_sum = tf.where(tf.math.is_finite(largest), log_sum, 0.0)  # a row of -inf stays one
    last = position >= settings.maximum  # nothing but the end token, wherever it ranks
    barred = last | ((tokens == end_id) & (position < settings.minimum))
    if repeats is not None:
        barred |= tf.reduce_any(tokens[:, :, None] == repeats[:, None], -1)
    end = tf.where(last, scores[:, end_id, None], -float("inf"))
    best = tf.concat([tf.where(barred, -float("inf"), best), end], 1) - log_sum
    tokens = tf.concat([tokens, tf.fill([tf.shape(tokens)[0], 1], end_id)], 1)
    best, places = tf.math.top_k(best, min(candidates, best.shape[1]))
    tokens = tf.gather(tokens, places, batch_dims=1)
    return best, tf.where(tf.math.is_finite(best), tokens, end_id)  # what can't be chosen may stand in a column without a piece


def repeating_tokens(ids: tf.Tensor, position: tf.Tensor, size: int) -> tf.Tensor:
    """Finds the tokens that would complete an n-gram of `size` tokens a second time. Returns [B * beams, maximum], -1 elsewhere."""
    maximum = ids.shape[2]
    places = tf.range(maximum)
    found = (places >= size - 1) & (places < position)
    for back in range(1, size):
        last = tf.gather(ids, tf.maximum(position - back, 0), axis=2)
        found &= tf.roll(ids, back, 2) == last[..., None]
    return tf.reshape(tf.where(found, ids, -1), [-1, maximum])
