"""T5 on transformers' TF class: its logits and loss, the same numbers step by step, and what every system owes the loop."""

import library_system as checks
import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.t5 import T5
from hcl_tf.training.initialization import initialize


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def t5(data) -> T5:
    return checks.made(data, "t5")


@pytest.fixture(scope="module")
def batch(data) -> dict[str, tf.Tensor]:
    return checks.batch_of(data, [3, 14, 15, 92])


def teach(system: T5, batch: dict) -> tf.Tensor:
    return system.encode_and_teach(batch, None)[1]


def test_logits_and_loss_are_the_library_s(t5, batch):
    """Its own call: sources with an attention mask, padding of labels left out of the mean."""
    ids, labels = batch["source_ids"], batch["target_ids"][:, 1:]
    found = t5.t5(
        input_ids=ids, attention_mask=tf.cast(ids != 0, tf.int32), decoder_input_ids=batch["target_ids"][:, :-1],
        labels=tf.where(labels == 0, -100, labels),
    )  # fmt: skip
    np.testing.assert_allclose(t5.tokens.logits(teach(t5, batch)), found.logits, rtol=1e-4, atol=1e-4)
    sums = checks.sums_of(t5, batch, training=False)
    assert sums["nll"] / float(t5.counts(batch)["tokens"]) == pytest.approx(float(tf.reduce_mean(found.loss)), rel=1e-5)


def test_step_by_step_equals_teacher_forcing(t5, data, batch):
    checks.check_steps_equal_teaching(t5, batch, teach)
    checks.check_steps_equal_teaching(checks.made(data, "t5", output_vocab="train"), batch, teach)


def test_search_with_and_without_cache_agree(t5, batch):
    checks.check_search_without_cache_agrees(t5, batch, teach)


def test_losses_are_sums_over_parts_of_a_batch(t5, batch):
    checks.check_parts_add_up(t5, batch)


def test_dropout_belongs_to_the_examples(t5, batch):
    checks.check_noise_follows_rows(t5, batch)


def test_rows_that_fill_up_do_not_count(t5, data):
    checks.check_fillers_do_not_count(t5, data, [3, 14, 15])


def test_padding_changes_nothing(t5, batch):
    checks.check_padding_changes_nothing(t5, batch)


def test_generation_has_fixed_shapes(t5, batch):
    checks.check_generates_in_fixed_shapes(t5, batch)


def test_outputs_are_of_the_kept_pieces(data, batch):
    system = checks.made(data, "t5", output_vocab="train")
    kept = system.inputs_.output_ids
    assert len(kept) < len(data.tokenizer)
    ids, _ = system.generate(batch)
    assert set(np.unique(ids)) <= set(kept)


def test_it_has_no_weights_but_the_library_s(t5):
    assert {id(v) for v in t5.variables} == {id(v) for v in t5.t5.variables}


@pytest.mark.parametrize("model", ["t5", "claps"])
@pytest.mark.parametrize(("preset", "size"), [("paper", "6x512"), ("small", "4x256"), ("tiny", "2x128")])
def test_without_published_weights_sizes_are_the_preset_s_and_the_record_says_so(data, model, preset, size):
    settings, found = initialize(registry.resolve(preset, {"model": model}), data, {})
    assert (settings.encoder, found.published) == (f"random:{size}", None)
    assert "no pretrained weights" in found.note
    if preset == "paper":  # T5-small's
        shape = found.shape
        assert (shape.heads, shape.intermediate, settings.decoder_layers) == (8, 2048, 6)


def test_half_precision_is_refused(data):
    with pytest.raises(UserError, match=r"^--mixed_precision: --model=t5 masks"):
        checks.made(data, "t5", mixed_precision=True)


@pytest.mark.slow
def test_xla_gives_the_same_step(data, batch):
    checks.check_xla_gives_the_same_step(data, batch, "t5")


@pytest.mark.slow
def test_overfits_eight_examples(data):
    checks.check_overfits(data, "t5", steps=300)
