"""T5 on transformers' TF class: its logits and loss, and its sizes."""

import numpy as np
import pytest
import tensorflow as tf
from system_toolkit import VARIED, Kit

from hcl_tf.errors import UserError
from hcl_tf.models import registry
from hcl_tf.models.t5 import T5
from hcl_tf.training.initialization import initialize


@pytest.fixture(scope="module")
def kit(qqp_folder) -> Kit:
    return Kit(qqp_folder, "t5", output_vocab="full", decoder_layers=2)


@pytest.fixture(scope="module")
def t5(kit) -> T5:
    return kit.system


def test_logits_and_loss_are_the_library_s(kit, t5):
    """Its own call: sources with an attention mask, padding of labels left out of the mean."""
    batch = kit.training
    ids, labels = batch["source_ids"], batch["target_ids"][:, 1:]
    found = t5.t5(
        input_ids=ids, attention_mask=tf.cast(ids != 0, tf.int32), decoder_input_ids=batch["target_ids"][:, :-1],
        labels=tf.where(labels == 0, -100, labels),
    )  # fmt: skip
    np.testing.assert_allclose(t5.tokens.logits(t5.encode_and_teach(batch, None)[1]), found.logits, rtol=1e-4, atol=1e-4)
    sums = kit.sums(batch, False)
    assert sums["nll"] / float(t5.counts(batch)["tokens"]) == pytest.approx(float(tf.reduce_mean(found.loss)), rel=1e-5)


def test_diagnostics_are_the_nll_of_target_and_negative(kit, t5):
    batch = kit.training
    found = t5.diagnose(batch, None)
    assert float(tf.reduce_sum(found["nll"] * batch["example_mask"])) == pytest.approx(float(kit.sums(batch, False)["nll"]), rel=1e-5)
    swapped = t5.target_nll(batch | {"target_ids": batch["negative_ids"]})
    np.testing.assert_allclose(found["nll_negative"], swapped, rtol=1e-5)
    assert not np.allclose(found["nll"], found["nll_negative"])


@pytest.mark.slow
@pytest.mark.parametrize("rule", VARIED, ids=str)
def test_contract_with_other_settings(kit, rule):
    rule(kit)


def test_it_has_no_weights_but_the_library_s(t5):
    assert {id(v) for v in t5.variables} == {id(v) for v in t5.t5.variables}


@pytest.mark.parametrize("model", ["t5", "claps"])
@pytest.mark.parametrize(("preset", "size"), [("paper", "6x512"), ("small", "4x256"), ("tiny", "2x128")])
def test_without_published_weights_sizes_are_the_preset_s_and_the_record_says_so(kit, model, preset, size):
    settings, found = initialize(registry.resolve(preset, {"model": model}), kit.data, {})
    assert (settings.encoder, found.published) == (f"random:{size}", None)
    assert "no pretrained weights" in found.note
    if preset == "paper":  # T5-small's
        shape = found.shape
        assert (shape.heads, shape.intermediate, settings.decoder_layers) == (8, 2048, 6)


@pytest.mark.parametrize("model", ["t5", "claps"])
def test_random_embeddings_have_a_rate_of_their_own(kit, model):
    system = Kit(kit.folder, model).new()
    (rest, rate), (table, faster) = system.learning_rates().values()
    assert faster == 50 * rate == 50 * system.settings.learning_rate
    config, layers = system.t5.config, system.t5.config.num_layers * 2 + system.t5.config.num_decoder_layers * 3
    assert table[0] is system.t5.shared.embeddings
    shapes = [tuple(variable.shape) for variable in table[1:]]
    assert shapes.count((config.relative_attention_num_buckets, config.num_heads)) == 2, "distances, in encoder and decoder"
    assert shapes.count((config.d_model,)) == layers + 2 == len(shapes) - 2, "one in each part of a layer, and one behind each stack"
    assert len(rest) + len(table) == len(system.trainable_variables)
    assert list(Kit(kit.folder, model, embedding_rate=1.0).new().learning_rates()) == ["all"], "as before, so older runs go on"


def test_half_precision_is_refused(qqp_folder):
    with pytest.raises(UserError, match=r"^--mixed_precision: --model=t5 masks"):
        Kit(qqp_folder, "t5", mixed_precision=True).new()
