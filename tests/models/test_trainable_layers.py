"""Systems whose encoder's lower layers are fixed: what moves, and that cached states of the fixed layers change nothing but rounding."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit, rules, training_rules
from system_toolkit.kit import ROWS, STEP, Walk, noise_of

from hcl_tf.data.batching.batches import Batch, Place
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.text_states import TextStates
from hcl_tf.training.validation import Validation

BERT = registry.systems_with("trainable_layers")
UPPER = "_transformer_layers.2."  # of three


def kit_of(folder, model: str, **given) -> Kit:
    return Kit(folder, model, **{"encoder": "random:3x16", "trainable_layers": 1, **given})


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return kit_of(qqp_folder, "hcl")


def with_cache(kit: Kit, batch: Batch) -> Batch:
    """A batch with what `launch.assemble` adds to it."""
    columns = kit.system.columns_of_texts(kit.texts)
    rows = batch["example_rows"].numpy()
    return batch | {name: tf.constant(v) for name, v in columns(rows, np.zeros(len(rows), bool), Place(1, 0, 0)).items()}


@pytest.mark.slow
@pytest.mark.parametrize("rule", [*VARIED, rules.builds, rules.half_precision_is_finite, rules.padding_changes_nothing], ids=str)
def test_contract(kit, rule):
    rule(kit)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rules.every_weight_is_trained, rules.cached_decoding_scores_as_teacher_forcing], ids=str)
@pytest.mark.parametrize("model", ["bert_gen", "seq2seq_du"])
def test_contract_of_the_others(qqp_folder, model, rule):
    rule(kit_of(qqp_folder, model))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", [training_rules.micro_batches_change_nothing, training_rules.a_stopped_run_ends_with_the_same_bits,
             training_rules.a_training_step_is_exportable, training_rules.xla_takes_the_same_steps], ids=str,
)  # fmt: skip
def test_contract_of_training(kit, rule):
    rule(kit)


def test_all_systems_with_this_bert_encoder_take_it():
    assert BERT == ["hcl", "bert_cvae", "bert_cvae_ins", "bert_gen", "seq2seq_du"]


def walked(kit: Kit, cached: bool, **given) -> Walk:
    """Three steps of a run."""
    changed = kit.changed(**given)
    return changed.walk([with_cache(kit, batch) if cached else batch for batch in kit.first_batches])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hcl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert_gen", "seq2seq_du"))])
def test_fixed_variables_stay_and_the_others_move(qqp_folder, model):
    kit = kit_of(qqp_folder, model)
    walk = walked(kit, cached=True)
    first, last = kit.begun(), walk.states[-1]
    for path, variable in assembly.variables(first).items():
        if path.startswith("model/encoder"):
            moved = not np.array_equal(variable.numpy(), last[path])
            assert moved == (UPPER in path), path
    own = walk.system.tokens.own
    assert own.shape[0] == len(kit.inputs.output_ids)
    assert not np.array_equal(first.tokens.own.numpy(), own.numpy()), "the decoder's own table trains"
    trained = {path for path, v in assembly.variables(first).items() if any(v is other for other in first.learning_rates()["encoder"][0])}
    assert trained == {path for path in last if path.startswith("model/encoder") and UPPER in path}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["float32", "float16"])
def test_cached_states_give_the_losses_of_live_ones_within_rounding(kit, how):
    kit = kit.changed(lower_states=how)
    batch = kit.training
    cached = with_cache(kit, batch)
    assert {name for name in cached if name not in batch} == {"source_lower", "target_lower", "negative_lower"}
    live, found = kit.sums(batch, True), kit.sums(cached, True)
    for name, total in live.items():
        within = {"rel": 2e-3, "abs": 2e-3} if how == "float16" else {"rel": 1e-4, "abs": 1e-4}
        assert found[name] == pytest.approx(total, **within), name
    assert (found["nll"] != live["nll"]) or how == "float32", "float16 must show, or the cache is not read"
    for role in ("source", "target", "negative"):
        ids = batch[f"{role}_ids"]
        exact, real = kit.system.encoder.lower_states(ids).numpy(), ids.numpy() != kit.inputs.pad_id
        limit = (np.abs(exact) * (2.0**-11 + 2.0**-18) if how == "float16" else 0) + 2.0**-18
        assert cached[f"{role}_lower"].dtype == how
        assert (abs(cached[f"{role}_lower"].numpy().astype(np.float64) - exact) <= limit)[real].all()
        assert not cached[f"{role}_lower"].numpy()[~real].any()


@pytest.mark.slow
def test_steps_from_cached_states_in_micro_batches_are_those_of_the_whole_batch(kit):
    whole, parts = walked(kit, True), walked(kit, True, micro_batch=2)
    for ours, theirs in zip(parts.scalars, whole.scalars, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_bert_cvae_reads_no_negative_and_shares_hcl_s_cache(qqp_folder, kit):
    base = kit_of(qqp_folder, "bert_cvae")
    assert {name for name in with_cache(base, base.training) if name.endswith("_lower")} == {"source_lower", "target_lower"}
    ours, theirs = (one.texts._folder("lower", one.system.encoder, one.system.encoder.fixed_variables) for one in (base, kit))
    assert ours == theirs
    deeper = kit.changed(trainable_layers=2)
    assert deeper.texts._folder("lower", deeper.system.encoder, deeper.system.encoder.fixed_variables) != ours


@pytest.mark.slow
def test_the_cache_goes_by_the_fixed_weights_alone(kit):
    system, texts = kit.new(), kit.texts
    encoder = system.encoder
    before = texts._folder("lower", encoder, encoder.fixed_variables)
    encoder.trainable_variables[0].assign_add(tf.ones_like(encoder.trainable_variables[0]))
    assert texts._folder("lower", encoder, encoder.fixed_variables) == before
    encoder.embedding_table.assign_add(tf.ones_like(encoder.embedding_table))
    assert texts._folder("lower", encoder, encoder.fixed_variables) != before


@pytest.mark.slow
def test_live_states_are_computed_in_the_step(kit):
    live = kit.changed(lower_states="live")
    assert live.system.columns_of_texts(live.texts) is None
    assert live.system.columns_of_texts(live.texts, held_out=True) is None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_validation_from_cached_states_gives_the_numbers_of_live_ones(qqp_folder, how):
    """However training keeps them; and its diagnostics read the texts of all roles, which this system's losses do not."""
    base = kit_of(qqp_folder, "bert_cvae", lower_states=how)
    arrays = base.data.arrays("validation")
    columns = base.system.columns_of_texts(TextStates(base.data, arrays, keep=False, split="validation"), held_out=True)
    base.system.before_inference()
    live, cached = (Validation.of_pairs(base.system, base.data, arrays, further) for further in ((), [columns]))
    assert {f"{role}_lower" for role in ("source", "target", "negative")} <= next(iter(cached.batches.dataset(None))).keys()
    assert cached.loss() == pytest.approx(live.loss(), rel=1e-5, abs=1e-6)
    for name, values in live.diagnose(8).items():
        np.testing.assert_allclose(cached.diagnose(8)[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_cache_of_each_split_is_its_own(kit):
    encoder = kit.system.encoder
    train, held_out = (TextStates(kit.data, kit.train, keep=True, split=split) for split in ("train", "validation"))
    assert train._folder("lower", encoder, encoder.fixed_variables) == kit.texts._folder("lower", encoder, encoder.fixed_variables)
    assert held_out._folder("lower", encoder, encoder.fixed_variables) != train._folder("lower", encoder, encoder.fixed_variables)


@pytest.mark.slow
def test_all_layers_is_what_was_done_before_the_flag(qqp_folder):
    """Bit for bit, dropout and steps included: -1 is the default and takes the same path; a stored run without the setting has it."""
    plain, named = Kit(qqp_folder, "hcl"), Kit(qqp_folder, "hcl", trainable_layers=-1)
    assert plain.settings == named.settings
    assert plain.settings.trained_layers is None
    stored = {name: value for name, value in plain.settings.to_dict().items() if name != "trainable_layers"}
    assert registry.read(stored) == plain.settings
    assert named.system.columns_of_texts(named.texts) is None
    for ours, theirs in zip(named.walked.scalars, plain.walked.scalars, strict=True):
        assert ours == theirs


@pytest.mark.slow
def test_none_is_a_frozen_encoder(qqp_folder):
    none, frozen = Kit(qqp_folder, "hcl", trainable_layers=0), Kit(qqp_folder, "hcl", freeze_encoder=True)
    assert none.settings.cautions("", 2) == frozen.settings.cautions("", 2)
    assert none.system.frozen_encoder is not None
    for ours, theirs in zip(none.walked.scalars, frozen.walked.scalars, strict=True):
        assert ours == theirs
    Kit(qqp_folder, "hcl", freeze_encoder=True, trainable_layers=0).settings  # noqa: B018


@pytest.mark.slow
def test_contrasts_reach_what_the_decoder_reads(kit):
    assert "FROZEN" not in kit.settings.cautions("", 2)
    with tf.GradientTape() as tape:
        ins = kit.system.losses(kit.training, STEP, noise_of(kit.training), training=True)["ins"].value
    variables = kit.system.encoder.trainable_variables
    assert any(g is not None and abs(g.numpy()).max() > 1e-6 for g in tape.gradient(ins, variables))


@pytest.mark.slow
def test_the_upper_layers_gradient_is_that_part_of_the_whole_model_s(qqp_folder):
    """Without dropout, the decoder's own table holding the encoder's rows; the table's gradient is a sum in the whole model alone."""
    divided, whole = (kit_of(qqp_folder, "hcl", dropout=0.0, trainable_layers=n) for n in (2, -1))
    values = checkpoints.variables_of(assembly.variables(whole.system))
    for path, variable in assembly.variables(divided.system).items():
        if path in values:
            variable.assign(values[path])
    divided.system._copy_table()
    found = []
    for kit in (divided, whole):
        batch = whole.training
        variables = {p: v for p, v in assembly.variables(kit.system).items() if any(v is t for t in kit.system.trainable_variables)}
        with tf.GradientTape() as tape:
            sums = kit.system.losses(batch, STEP, noise_of(batch), training=True)
            objective = kit.system.objective(sums, kit.system.counts(batch), STEP)
        found.append(dict(zip(variables, tape.gradient(objective, list(variables.values())), strict=True)))
    ours, theirs = found
    assert sum(path.startswith("model/encoder") for path in ours) == 32
    for path in ours.keys() & theirs.keys():
        gradient = tf.convert_to_tensor(ours[path]).numpy()
        np.testing.assert_allclose(gradient, tf.convert_to_tensor(theirs[path]).numpy(), rtol=2e-3, atol=2e-4, err_msg=path)


@pytest.mark.parametrize("model", BERT)
def test_contradicting_flags_are_refused_by_name(model):
    with pytest.raises(UserError, match=r"--trainable_layers=2 and --freeze_encoder contradict each other"):
        registry.resolve("tiny", {"model": model, "freeze_encoder": True, "trainable_layers": 2})


def test_too_many_layers_are_refused_with_their_number(qqp_folder):
    with pytest.raises(UserError, match=r"--trainable_layers=4: the encoder has 3 layers"):
        kit_of(qqp_folder, "bert_gen", trainable_layers=4).new()


def test_cached_states_follow_the_example(kit):
    """The cache is by example and not by place: the same examples in another order have the same states."""
    columns, rows = kit.system.columns_of_texts(kit.texts), np.array(ROWS)
    one, other = (columns(r, np.zeros(len(r), bool), Place(1, 0, 0)) for r in (rows, rows[::-1]))
    for name, values in one.items():
        np.testing.assert_array_equal(values[::-1], other[name])
