"""DialoGPT on transformers' TF class: GPT-2's own logits on joined texts, loss on the target, padding between the two."""

import library_system as checks
import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.dialogpt import DialoGPT
from hcl_tf.training.initialization import initialize


@pytest.fixture(scope="module")
def data(qqp_folder) -> PreparedData:
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def dialogpt(data) -> DialoGPT:
    return checks.made(data, "dialogpt")


@pytest.fixture(scope="module")
def batch(data) -> dict[str, tf.Tensor]:
    return checks.batch_of(data, [3, 14, 15, 92])


def teach(system: DialoGPT, batch: dict) -> tf.Tensor:
    return system.teach(batch, None)


def joined(batch: dict, row: int, end: int) -> tuple[list[int], int]:
    """One example as GPT-2 reads it, without padding: source, end, target, end; and where the target's prediction begins."""
    source, target = ([int(i) for i in batch[name][row] if i] for name in ("source_ids", "target_ids"))
    return [*source[1:-1], end, *target[1:-1], end], len(source) - 2


def test_logits_and_loss_are_the_library_s_on_texts_without_padding(dialogpt, batch):
    end, total = dialogpt.inputs_.sep_id, 0.0
    logits = dialogpt.tokens.logits(teach(dialogpt, batch)).numpy()
    for row in range(4):
        ids, first = joined(batch, row, end)
        found = dialogpt.gpt2(input_ids=tf.constant([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits[row, : len(ids) - 1 - first], found[first:-1], rtol=1e-4, atol=1e-5)
        labels = [-100] * (first + 1) + ids[first + 1 :]
        loss = dialogpt.gpt2(input_ids=tf.constant([ids]), labels=tf.constant([labels])).loss
        total += float(tf.reduce_mean(loss)) * (len(ids) - 1 - first)
    assert checks.sums_of(dialogpt, batch, training=False)["nll"] == pytest.approx(total, rel=1e-5)


def test_the_source_is_read_but_costs_nothing(dialogpt, batch):
    """Another source changes the loss, but only the target's tokens are counted and predicted."""
    assert float(dialogpt.counts(batch)["tokens"]) == int(tf.math.count_nonzero(batch["target_ids"][:, 1:]))
    other = {**batch, "source_ids": tf.reverse(batch["source_ids"], [0])}
    assert checks.sums_of(dialogpt, other, False)["nll"] != pytest.approx(checks.sums_of(dialogpt, batch, False)["nll"], rel=1e-4)
    silent = {**batch, "target_ids": tf.zeros_like(batch["target_ids"])}
    assert checks.sums_of(dialogpt, silent, False)["nll"] == 0


def test_step_by_step_equals_teacher_forcing(dialogpt, data, batch):
    checks.check_steps_equal_teaching(dialogpt, batch, teach)
    checks.check_steps_equal_teaching(checks.made(data, "dialogpt", output_vocab="train"), batch, teach)


def test_search_with_and_without_cache_agree(dialogpt, batch):
    checks.check_search_without_cache_agrees(dialogpt, batch, teach)


def test_losses_are_sums_over_parts_of_a_batch(dialogpt, batch):
    checks.check_parts_add_up(dialogpt, batch)


def test_dropout_belongs_to_the_examples(dialogpt, batch):
    checks.check_noise_follows_rows(dialogpt, batch)


def test_rows_that_fill_up_do_not_count(dialogpt, data):
    checks.check_fillers_do_not_count(dialogpt, data, [3, 14, 15])


def test_padding_changes_nothing(dialogpt, batch):
    checks.check_padding_changes_nothing(dialogpt, batch)


def test_generation_has_fixed_shapes(dialogpt, batch):
    checks.check_generates_in_fixed_shapes(dialogpt, batch)


def test_more_positions_than_it_has_are_refused(data):
    with pytest.raises(UserError, match=r"^--maximum_length=21: source and output take 42 positions, but the model has 41"):
        checks.made(data, "dialogpt", maximum_length=21)


def test_it_has_no_weights_but_the_library_s_and_the_layers_of_both_stacks(dialogpt):
    assert {id(v) for v in dialogpt.variables} == {id(v) for v in dialogpt.gpt2.variables}
    assert dialogpt.gpt2.config.n_layer == 4  # 2 of an encoder, 2 of a decoder


def test_the_paper_s_size_is_gpt2_small_s(data):
    settings, found = initialize(registry.resolve("paper", {"model": "dialogpt"}), data, {})
    assert (settings.encoder, found.published) == ("random:6x768", None)
    assert (found.shape.heads, found.shape.intermediate, found.shape.layers + settings.decoder_layers) == (12, 3072, 12)
    assert "no pretrained weights" in found.note


@pytest.mark.slow
def test_xla_gives_the_same_step(data, batch):
    checks.check_xla_gives_the_same_step(data, batch, "dialogpt")


@pytest.mark.slow
def test_overfits_eight_examples(data):
    checks.check_overfits(data, "dialogpt", steps=300)
