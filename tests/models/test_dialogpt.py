"""DialoGPT on transformers' TF class: GPT-2's own logits on joined texts, loss on the target, padding between the two."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.dialogpt import DialoGPT
from hcl_tf.training.initialization import initialize


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return Kit(qqp_folder, "dialogpt", output_vocab="full", decoder_layers=2)


@pytest.fixture(scope="module")
def dialogpt(kit) -> DialoGPT:
    return kit.system


def joined(batch: dict, row: int, end: int) -> tuple[list[int], int]:
    """One example as GPT-2 reads it, without padding: source, end, target, end; and where the target's prediction begins."""
    source, target = ([int(i) for i in batch[name][row] if i] for name in ("source_ids", "target_ids"))
    return [*source[1:-1], end, *target[1:-1], end], len(source) - 2


def test_logits_and_loss_are_the_library_s_on_texts_without_padding(kit, dialogpt):
    batch = kit.training
    end, total = dialogpt.inputs_.sep_id, 0.0
    logits = dialogpt.tokens.logits(dialogpt.teach(batch, None)).numpy()
    for row in range(4):
        ids, first = joined(batch, row, end)
        found = dialogpt.gpt2(input_ids=tf.constant([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits[row, : len(ids) - 1 - first], found[first:-1], rtol=1e-4, atol=1e-5)
        labels = [-100] * (first + 1) + ids[first + 1 :]
        loss = dialogpt.gpt2(input_ids=tf.constant([ids]), labels=tf.constant([labels])).loss
        total += float(tf.reduce_mean(loss)) * (len(ids) - 1 - first)
    assert kit.sums(batch, False)["nll"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_the_source_is_read_but_costs_nothing(kit, dialogpt):
    """Another source changes the loss, but only the target's tokens are counted and predicted."""
    batch = kit.training
    assert float(dialogpt.counts(batch)["tokens"]) == int(tf.math.count_nonzero(batch["target_ids"][:, 1:]))
    other = {**batch, "source_ids": tf.reverse(batch["source_ids"], [0])}
    assert kit.sums(other, False)["nll"] != pytest.approx(kit.sums(batch, False)["nll"], rel=1e-4)
    silent = {**batch, "target_ids": tf.zeros_like(batch["target_ids"])}
    assert kit.sums(silent, False)["nll"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(kit, rule):
    rule(kit)


def test_more_positions_than_it_has_are_refused(qqp_folder):
    with pytest.raises(UserError, match=r"^--maximum_length=21: source and output take 42 positions, but the model has 41"):
        Kit(qqp_folder, "dialogpt", maximum_length=21).new()


def test_it_has_no_weights_but_the_library_s_and_the_layers_of_both_stacks(dialogpt):
    assert {id(v) for v in dialogpt.variables} == {id(v) for v in dialogpt.gpt2.variables}
    assert dialogpt.gpt2.config.n_layer == 3  # 1 of an encoder, 2 of a decoder


def test_the_paper_s_size_is_gpt2_small_s(kit):
    settings, found = initialize(registry.resolve("paper", {"model": "dialogpt"}), kit.data, {})
    assert (settings.encoder, found.published) == ("random:6x768", None)
    assert (found.shape.heads, found.shape.intermediate, found.shape.layers + settings.decoder_layers) == (12, 3072, 12)
    assert "no pretrained weights" in found.note
