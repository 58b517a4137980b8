"""The rules that take a second or two for each system: what it is made of, its sums, its scores, its search, its state."""

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from hcl_tf.errors import UserError
from hcl_tf.models.base import A_TOKEN, System, mean
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.checkpoints import Checkpoints
from hcl_tf.training.validation import Validation
from system_toolkit.breach import DEAR, DEAREST, Breach, close, close_all, equal, need, rule
from system_toolkit.kit import FILLER, ROWS, STEP, Kit, noise_of, part_of, single_precision, sources_of
from system_toolkit.scores import agree, nll_of, stepped, taught, taught_total

# A bias of attention's keys adds the same to all scores of a query: softmax takes it away again.
SILENT = ("key.bias", "key/bias", "key_dense")
WIDER = 3  # columns of padding behind every source


# -- what it is made of -----------------------------------------------------------------------------------------------


@rule(untrained=True)
def builds(kit: Kit) -> None:
    """Its weights are all known to Keras by a path, each in one learning-rate group; equal settings give equal ones."""
    system, made = kit.made
    paths = {id(v): path for path, v in system.get_weight_paths().items()}
    trained = [v for v in system.trainable_variables if id(v) in paths]
    unseen = [v.name for v in made if v.trainable and v.dtype.is_floating and id(v) not in paths]
    count, hint = sum(int(np.prod(v.shape)) for v in trained), "tf_keras does not see layers of Keras 3"
    need(bool(count) == system.is_trained, "trainable weights", f"{count}, though {unseen} were made; {hint}")
    for name in unseen:
        raise Breach(name, f"a variable that was made and that nobody sees; {hint}")
    for variable in system.variables:
        need(id(variable) in paths, variable.name, "a variable without a path, which no checkpoint would have")
    groups: dict[int, list[str]] = {}
    for name, (variables, rate) in system.learning_rates().items() if system.is_trained else ():
        need(rate > 0, f"learning rate of {name}", f"{rate}")
        for variable in variables:
            groups.setdefault(id(variable), []).append(name)
    for variable in trained:
        found = groups.pop(id(variable), [])
        need(len(found) == 1, paths[id(variable)], f"in the learning-rate groups {found} instead of one")
    need(not groups, "learning-rate groups", f"{[paths.get(i, 'an unknown variable') for i in groups]} are not trainable")
    for path, variable in assembly.variables(system).items():
        need(path in kit.beginning, path, "only one of two equal systems has it")
        equal(path, variable.numpy(), kit.beginning[path], "two systems of equal settings")


@rule()
def objective_is_declared(kit: Kit) -> None:
    """Every term of the objective has a scale, is among the losses and finite, and is the weighted mean that it is said to be."""
    system = kit.system
    for batch, step, training in ((kit.training, STEP, True), (kit.held_out, None, False)):
        sums = system.losses(batch, STEP, noise_of(batch), training)
        counts, weights = system.counts(batch), system.weights_of(step)
        for name in ("nll", "nll_token", *weights):
            need(name in sums, name, "is not among the losses")
            need(name in system.scales, name, "`scales` does not say what one unit of it is")
        for name, total in sums.items():
            need(total.per in counts, name, f"is a mean over {total.per}, which `counts` does not know")
            need(total.value.dtype == tf.float32 and total.value.shape == [], name, f"{total.value.dtype.name}{total.value.shape}")
            need(np.isfinite(float(total.value)), name, f"{float(total.value)}")
        tokens = float(counts["tokens"]) / float(counts["examples"])
        texts = {name: float(mean(sums[name], counts)) * (tokens if system.scales[name] == A_TOKEN else 1.0) for name in weights}
        wanted = sum(float(weight) * texts[name] for name, weight in weights.items())
        close("objective", float(system.objective(sums, counts, step)), wanted, "the weighted means of its terms in nats a text", 1e-5)
    for name, value in system.schedule(STEP).items():
        need(np.isfinite(float(value)), f"schedule {name}", f"{float(value)}")


@rule()
def every_weight_is_trained(kit: Kit) -> None:
    """In its last phase every trainable variable gets a gradient, but for those that add the same to all scores of a softmax."""
    system = kit.system
    paths = {id(v): path for path, v in assembly.variables(system).items()}
    variables = system.trainable_variables
    with tf.GradientTape() as tape:
        sums = system.losses(kit.training, STEP, noise_of(kit.training), training=True)
        objective = system.objective(sums, system.counts(kit.training), STEP)
    for variable, gradient in zip(variables, tape.gradient(objective, variables), strict=True):
        path = paths[id(variable)]
        need(gradient is not None, path, "the objective does not depend on it")
        size = abs(tf.convert_to_tensor(gradient).numpy()).max()
        need(size > 1e-7 or any(part in path for part in SILENT), path, f"its gradient is {size}")


# -- sums over examples -----------------------------------------------------------------------------------------------


@rule(DEAR)
def parts_add_up(kit: Kit) -> None:
    """Losses and counts of a batch are the sums over its parts, with noise on: micro-batches and devices then change nothing."""
    kit = kit.divisible
    system, batch, size = kit.system, kit.training, kit.facts.part
    parts = [part_of(batch, slice(row, row + size)) for row in range(0, len(ROWS), size)]
    each, why = [kit.sums(part, True) for part in parts], f"parts of {size} together instead of the whole batch"
    for name, total in kit.sums(batch, True).items():
        close(name, sum(part[name] for part in each), total, why, 1e-5, 1e-5)
    for name, count in system.counts(batch).items():
        equal(f"count {name}", sum(float(system.counts(part)[name]) for part in parts), float(count), why)


@rule()
def fillers_do_not_count(kit: Kit) -> None:
    """Rows that fill up a batch add nothing, in training and in validation."""
    for training in (True, False):
        filled = kit.batch((*ROWS[:-1], FILLER), training)
        real, why = part_of(filled, slice(0, len(ROWS) - 1)), "with a row that fills up instead of without"
        close_all(kit.sums(filled, training), kit.sums(real, training), why, 1e-5, 1e-5)
        counts = ({name: float(count) for name, count in kit.system.counts(batch).items()} for batch in (filled, real))
        close_all(*counts, why, 0.0)


@rule(DEAR)
def noise_follows_rows(kit: Kit) -> None:
    """All that is drawn belongs to the example and the step: not to the place in the batch, the call or the process."""
    batch, why = kit.training, "in a batch turned round"
    sums = kit.sums(batch, True)
    for name, total in kit.sums(batch, True).items():
        equal(name, total, sums[name], "the same batch and step once more")
    turned = {name: tensor if name.startswith("graph_") else tf.reverse(tensor, [0]) for name, tensor in batch.items()}
    close_all(kit.sums(turned, True), sums, why, 1e-5, 1e-5)
    others = kit.sums({**batch, "example_rows": batch["example_rows"] + 1000}, True)["nll"]
    need(abs(others / sums["nll"] - 1) > 1e-4, "nll", f"{others} for rows of other numbers, as for the own ones; is there no noise?")


@rule(DEAR, untrained=True)
def padding_changes_nothing(kit: Kit) -> None:
    """More columns of padding behind every source change no loss, no score and no output."""
    system, batch = kit.system, kit.held_out
    wider = {name: wide(system, tensor) if name.endswith("source_ids") else tensor for name, tensor in batch.items()}
    why = f"with {WIDER} more columns of padding behind the sources"
    if not system.is_trained:
        equal("output ids", system.generate(wider)[0], system.generate(batch)[0], why)
        return
    close_all(kit.sums(wider, False), kit.sums(batch, False), why, 1e-5)
    here, there = own_steps(kit), stepped(system, wider, paths_of(kit))
    width = here.shape[-1]  # a system that copies has a column for each place of the source behind those of the pieces
    close("scores", there[..., :width], here, why, 1e-4, 1e-5)
    need((there[..., width:] == -np.inf).all(), "scores", f"a probability for padding; {why}")
    sayable = np.isfinite(here[:, :1, 0])  # of the others nobody asks which piece they are
    columns = np.where(sayable, np.arange(width, dtype=np.int32), 0)
    equal("output ids", system.output_ids(columns, wider), system.output_ids(columns, batch), f"of the same columns {why}")


def wide(system: System, ids: tf.Tensor) -> tf.Tensor:
    """[..., S] -> [..., S + WIDER]"""
    return tf.pad(ids, [[0, 0]] * (ids.shape.rank - 1) + [[0, WIDER]], constant_values=system.inputs_.pad_id)


# -- scores -----------------------------------------------------------------------------------------------------------


@rule(DEAR)
def scores_are_causal(kit: Kit) -> None:
    """Other target tokens from a position on change no score before it, and change some behind it."""
    system, batch, pad = kit.system, kit.held_out, kit.system.inputs_.pad_id
    ids, labels = batch["target_ids"].numpy(), batch["target_ids"].numpy()[:, 1:]
    need(taught_total(system, batch, np.full_like(labels, pad)) == 0, "nll", "of no label at all is not 0; is `System.labels` not scored?")
    words, place = np.random.default_rng(2).choice(words_of(system), ids.shape), np.arange(labels.shape[1])
    for position in (1, int((labels != pad).sum(1).max()) - 1):
        changed = {**batch, "target_ids": tf.constant(np.where(np.arange(ids.shape[1]) < position, ids, words))}
        before = np.where(place < position, labels, pad)
        here, there = (taught_total(system, one, before) for one in (batch, changed))
        close(f"scores before position {position}", there, here, f"after other tokens from position {position} on", 1e-6)
    behind = np.where(place >= 2, labels, pad)
    changed = {**batch, "target_ids": tf.constant(np.where(np.arange(ids.shape[1]) < 2, ids, words))}
    here, there = (taught_total(system, one, behind) for one in (batch, changed))
    need(abs(here - there) > 1e-5 * abs(here), "scores from position 2 on", "do not depend on the target's tokens before them")


def words_of(system: System) -> np.ndarray:
    """The pieces that outputs may have, without special ones."""
    i = system.inputs_
    return np.setdiff1d(i.output_ids, [i.pad_id, i.unknown_id, i.cls_id, i.sep_id])


@rule(DEAR)
def cached_decoding_scores_as_teacher_forcing(kit: Kit) -> None:
    """Two beams of different texts, step by step: the scores of the texts' own tokens and of any others are those of one pass."""
    system, batch = kit.system, kit.held_out
    own, paths, steps = batch["target_ids"].numpy(), texts_of(kit), own_steps(kit)
    counted = np.arange(own.shape[1] - 1) < steps.shape[2]
    asked_for = [(0, paths[:, 0, 1:], "the target"), (1, paths[:, 1, 1:], "the target backwards")]
    pad, random = system.inputs_.pad_id, np.random.default_rng(3)
    drawn = [np.where(own[:, 1:] == pad, pad, random.choice(words_of(system), own[:, 1:].shape)) for _ in range(2)]
    asked_for += [(beam, labels, "drawn tokens") for beam, labels in enumerate(drawn)]
    for beam, labels, name in asked_for:
        labels = np.where(counted, labels, pad)
        agree(system, batch, paths[:, beam], labels, nll_of(steps[:, beam], system, labels), 1e-4, name)
    totals = np.round(nll_of(steps[:, 0], system, own[:, 1:]).sum(1), 3)[:-1]
    need(len(set(totals)) == len(totals), "nll", f"{totals}: of different examples it should differ")


def texts_of(kit: Kit) -> np.ndarray:
    """[B, 2, T + 2] the targets, and the targets backwards."""
    own = kit.held_out["target_ids"].numpy()
    return np.stack([own, backwards(own, kit.system)], 1)


def paths_of(kit: Kit) -> np.ndarray:
    """Their beginnings, as far as an output may go."""
    return texts_of(kit)[..., : kit.settings.maximum_length + 2]


@lru_cache(maxsize=1)
def own_steps(kit: Kit) -> np.ndarray:
    """The scores that decoding `paths_of` gives step by step."""
    return stepped(kit.system, kit.held_out, paths_of(kit))


def backwards(ids: np.ndarray, system: System) -> np.ndarray:
    """Each text's words in reverse order."""
    found = ids.copy()
    for row in found:
        words = np.flatnonzero(~np.isin(row, [system.inputs_.pad_id, system.inputs_.cls_id, system.inputs_.sep_id]))
        row[words] = row[words][::-1]
    return found


@rule(DEAREST)
def targets_are_scored_where_outputs_are_made(kit: Kit) -> None:
    """The NLL of each target, from sources and targets alone and for any number of rows, is that of the losses of its row alone."""
    system, batch = kit.system, kit.held_out
    given = sources_of(batch) | {"target_ids": batch["target_ids"]}
    shapes = {name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for name, tensor in given.items()}
    found = tf.function(system.target_nll, input_signature=[shapes], autograph=False)(given).numpy()
    close("target_nll", found, taught(system, batch, batch["target_ids"].numpy()[:, 1:]), "by its own row's losses", 1e-5)


# -- search -----------------------------------------------------------------------------------------------------------


@rule(DEAR, untrained=True)
def search_finds_what_its_scores_say(kit: Kit) -> None:
    """From the sources alone, best first, texts of allowed lengths and pieces; of systems with weights all different, and with the
    score that one pass gives to the whole text."""
    system, batch, s, i = kit.system, kit.held_out, kit.settings, kit.system.inputs_
    ids, scores = kit.generator.ids(sources_of(batch))
    shape = len(ROWS), s.hypotheses, s.maximum_length
    need(ids.shape == shape and scores.shape == shape[:2], "output ids", f"shapes {ids.shape} and {scores.shape}, not {shape}")
    need((np.diff(scores) <= 0).all(), "output scores", f"not best first: {scores}")
    copied = (ids >= i.vocabulary) & (ids < i.vocabulary + batch["source_ids"].shape[1])
    allowed = np.isin(ids, np.setdiff1d(i.output_ids, [i.sep_id])) | copied
    need(allowed.all(), "output ids", f"{ids[~allowed][:1]} is no piece that outputs may have")
    if not system.is_trained:
        return
    lengths = (ids != i.pad_id).sum(-1)
    need((lengths >= s.minimum_length).all(), "output ids", f"{lengths.min()} tokens, fewer than --minimum_length={s.minimum_length}")
    penalties = ((5 + lengths) / 6) ** s.length_penalty
    found = 0
    for beam in range(s.hypotheses):
        texts = np.full_like(batch["target_ids"], i.pad_id)
        for row, length in enumerate(lengths[:, beam]):
            texts[row, : length + 2] = [i.cls_id, *ids[row, beam, :length], i.sep_id]
        # Of a piece that is copied and that outputs lack, teacher forcing knows the probability of saying "unknown" too.
        known = np.union1d(i.output_ids, [i.pad_id, i.cls_id, i.sep_id])
        plain = np.isin(texts, known).all(1) & (batch["example_mask"].numpy() > 0)
        if not plain.any():
            continue
        texts, scored = np.where(plain[:, None], texts, i.pad_id), {**batch, "example_mask": tf.constant(plain, tf.float32)}
        agree(system, scored, texts, texts[:, 1:], -scores[:, beam] * penalties[:, beam], 1e-4, f"the text of beam {beam}")
        found += plain.sum()
    need(found > 0, "output ids", "no text is without copies, so no score could be looked at")
    for row, item in enumerate(ids):
        need(len({tuple(text) for text in item}) == s.hypotheses, "output ids", f"two beams of example {row} are the same text")


@rule(DEAREST)
def the_second_call_traces_nothing(kit: Kit) -> None:
    """A training step is traced once in each phase; search and validation once."""
    batches, (system, step, scalars, _) = kit.first_batches, kit.walked
    found, phases = step._run.experimental_get_tracing_count(), 1 + len(system.phases())
    need(found == phases, "training step", f"traced {found} times in {len(batches)} steps of {phases} phases")
    for name, value in scalars[-1].items():
        need(np.isfinite(value), name, f"{value} after {len(batches)} steps")
    kit.generator.ids(batches[0])
    before = kit.generator._run.experimental_get_tracing_count()
    kit.generator.ids(batches[1])
    need(kit.generator._run.experimental_get_tracing_count() == before, "search", "traced again for a second batch")
    validation = Validation(kit.system, kit.batches(len(ROWS), training=False), 1)
    validation.loss(2 * len(ROWS))
    found = validation._sums.experimental_get_tracing_count()
    need(found == 1, "validation", f"traced {found} times for 2 batches")


@rule(DEAREST)
def sums_have_an_order(kit: Kit) -> None:
    """No operation of a training step adds up three tensors or more in an order that is left to chance (training/determinism.py)."""
    graphs = [traced.graph.as_graph_def() for traced in kit.walked.step._run._list_all_concrete_functions()]
    nodes = [node for graph in graphs for part in (graph, *graph.library.function) for node in getattr(part, "node", None) or part.node_def]
    many = [node.name for node in nodes if node.op == "AddN" and node.attr["N"].i > 2]
    need(not many, "training step", f"AddN of more than two: {', '.join(many[:3])}")


# -- types and state --------------------------------------------------------------------------------------------------


@rule(DEAR)
def half_precision_is_finite(kit: Kit) -> None:
    """With --mixed_precision: float32 losses and texts with scores; or, of a system that is known for it, a refusal by the flag's name."""
    batch = kit.training
    try:
        system = kit.changed(mixed_precision=True, maximum_length=5).new()
        sums = system.losses(batch, STEP, noise_of(batch), training=True)
        for name, total in sums.items():
            value, kind = float(total.value), total.value.dtype
            need(kind == tf.float32 and np.isfinite(value), name, f"{value}, {kind.name}")
        need(np.isfinite(float(system.objective(sums, system.counts(batch), STEP))), "objective", "not finite")
        system.before_inference()
        stepped(system, kit.held_out, kit.held_out["target_ids"].numpy()[:, None, :7])
        _, scores = system.generate(sources_of(kit.held_out))
        need((np.diff(scores) <= 1e-6).all(), "output scores", f"not best first: {scores}")
    except UserError as error:
        refused = not kit.facts.half and str(error).startswith("--mixed_precision")
        need(refused, "--mixed_precision", f"refused: {error}")
    finally:
        single_precision()


@rule(DEAR, untrained=True)
def a_checkpoint_holds_all_state(kit: Kit) -> None:
    """A system that was just built computes the same bits once it has the variables of a checkpoint: nothing stands beside them."""
    system = kit.system
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder)).save(1, checkpoints.variables_of(assembly.variables(system)), {})
        saved = Checkpoints(Path(folder)).newest()
    made = kit.__dict__.pop("made", None)
    other = made[0] if made else kit.new()
    try:
        checkpoints.assign(assembly.variables(other), saved.arrays)
    except UserError as error:
        raise Breach("variables", str(error)) from error
    other.before_inference()
    why = "with the variables of a checkpoint instead of those of training"
    if not system.is_trained:
        equal("output ids", other.generate(kit.held_out)[0], system.generate(kit.held_out)[0], why)
        return
    found = kit.sums(kit.held_out, False, other)
    for name, total in kit.sums(kit.held_out, False).items():
        equal(name, found[name], total, why)
    equal("scores", stepped(other, kit.held_out, paths_of(kit)), own_steps(kit), why)


RULES = (
    builds, objective_is_declared, every_weight_is_trained, parts_add_up, fillers_do_not_count, noise_follows_rows, padding_changes_nothing,
    scores_are_causal, cached_decoding_scores_as_teacher_forcing, targets_are_scored_where_outputs_are_made,
    search_finds_what_its_scores_say, the_second_call_traces_nothing, sums_have_an_order, half_precision_is_finite,
    a_checkpoint_holds_all_state,
)  # fmt: skip

# Those that one setting of a system breaks sooner than another: for tests of a system's other settings.
VARIED = (every_weight_is_trained, parts_add_up, fillers_do_not_count, cached_decoding_scores_as_teacher_forcing)
