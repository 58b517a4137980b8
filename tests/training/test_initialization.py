"""What a run begins with: which encoder it gets, published or random, and of which size."""

import dataclasses
from types import SimpleNamespace

import pytest
from toy_system import SHAPE, read
from transformers import BertConfig, BertTokenizerFast, TFBertModel

from hcl_tf.data.tokenizers.wordpiece import PUBLISHED
from hcl_tf.errors import UserError
from hcl_tf.layers import bert_weights
from hcl_tf.models.registry import resolve
from hcl_tf.settings import EQUAL
from hcl_tf.training.initialization import initialize


@pytest.mark.parametrize(
    ("preset", "encoder", "shape"),
    [
        ("tiny", "random", (2, 128, 2)), ("small", "random", (4, 256, 4)), ("paper", "random", (12, 768, 12)),
        ("paper", "random:1x32", (1, 32, 1)), ("tiny", "random:3x192", (3, 192, 3)),
    ],
)  # fmt: skip
def test_random_encoders_by_preset_and_by_size(qqp_folder, preset, encoder, shape) -> None:
    data = read(qqp_folder)[0]
    settings, found = initialize(resolve(preset, {"encoder": encoder}), data, {"encoder": encoder})
    assert (found.shape.layers, found.shape.width, found.shape.heads) == shape
    assert (found.shape.vocab_size, found.published) == (len(data.tokenizer), None)
    assert settings.encoder == f"random:{shape[0]}x{shape[1]}", "the record says the size"
    assert settings.refresh_graph_every == 1
    kept = resolve(preset, {"encoder": encoder, "refresh_graph_every": 0})
    assert initialize(kept, data, {"refresh_graph_every": 0})[0].refresh_graph_every == 0


@pytest.mark.parametrize(
    "name", ["random:", "random:2", "random:0x64", "random:2x4", "random:ax64", "random:2x100x3", "randomly", "random:1x200"]
)
def test_impossible_random_encoders_are_refused(qqp_folder, name) -> None:
    with pytest.raises(UserError, match=r"--encoder=random.*random:4x256"):
        initialize(resolve("tiny", {"encoder": name}), read(qqp_folder)[0], {"encoder": name})


def published(vocabulary, size=None, origin=""):
    """A stand-in for `bert_weights.load` that records what it was asked for."""
    asked = []

    def load(source):
        asked.append(source)
        shape = dataclasses.replace(SHAPE, vocab_size=size or len(vocabulary))
        return SimpleNamespace(shape=shape, vocabulary=vocabulary, description=f"weights of {source}{origin}")

    return load, asked


def test_published_encoder_of_the_datas_vocabulary(qqp_folder, monkeypatch) -> None:
    data = read(qqp_folder)[0]
    load, asked = published(data.tokenizer.vocabulary())
    monkeypatch.setattr(bert_weights, "load", load)
    settings, found = initialize(resolve("paper", {}), data, {})
    assert asked == [PUBLISHED["en"]] == [settings.encoder]
    assert found.published is not None
    assert found.note == f"encoder: weights of {PUBLISHED['en']}"
    assert settings.refresh_graph_every == 0
    assert initialize(resolve("small", {}), data, {})[0].encoder == "minilm"


@pytest.mark.parametrize(("origin", "one_rate"), [("", False), (f", {EQUAL} (mlm, 9 texts)", True)])
def test_only_weights_of_others_train_at_a_rate_of_their_own(qqp_folder, monkeypatch, origin, one_rate) -> None:
    data, given = read(qqp_folder)[0], {"encoder": "somewhere"}
    monkeypatch.setattr(bert_weights, "load", published(data.tokenizer.vocabulary(), origin=origin)[0])
    small = resolve("small", given)
    settings, _ = initialize(small, data, given)
    assert settings.encoder_learning_rate == (small.learning_rate if one_rate else small.encoder_learning_rate) != 0.003
    assert settings.refresh_graph_every == 0, "features from an encoder that can read stay as they are"
    given = {**given, "encoder_learning_rate": 0.003}
    assert initialize(resolve("small", given), data, given)[0].encoder_learning_rate == 0.003


@pytest.mark.parametrize("named", [True, False])
def test_an_encoder_of_another_vocabulary_is_refused(qqp_folder, monkeypatch, named) -> None:
    data = read(qqp_folder)[0]
    other = [*data.tokenizer.vocabulary()[:-1], "other"]
    load, _ = published(other if named else None, None if named else 7)
    monkeypatch.setattr(bert_weights, "load", load)
    with pytest.raises(UserError, match=r"--encoder=somewhere: its vocabulary .* --vocab .* --encoder=random"):
        initialize(resolve("tiny", {"encoder": "somewhere"}), data, {"encoder": "somewhere"})
    settings, found = initialize(resolve("small", {}), data, {})
    assert settings.encoder == "random:4x256", "auto: where the pretrained one does not fit"
    assert settings.encoder_learning_rate == settings.learning_rate, "from scratch there is one rate"
    given = {"encoder_learning_rate": 0.02}
    assert initialize(resolve("small", given), data, given)[0].encoder_learning_rate == 0.02
    assert "minilm can't be used here" in found.note


def test_weights_without_a_vocabulary_are_refused_though_their_pieces_are_as_many(qqp_folder, monkeypatch) -> None:
    data = read(qqp_folder)[0]
    load, _ = published(None, len(data.tokenizer))
    monkeypatch.setattr(bert_weights, "load", load)
    with pytest.raises(
        UserError, match=r"its vocabulary is missing, .*; put its vocab.txt or tokenizer.json beside the weights .* --vocab"
    ):
        initialize(resolve("tiny", {"encoder": "somewhere"}), data, {"encoder": "somewhere"})


@pytest.mark.parametrize("same", [True, False])
def test_a_folder_with_tokenizer_json_alone_is_told_by_its_pieces(qqp_folder, tmp_path, same) -> None:
    data = read(qqp_folder)[0]
    shape = {
        "vocab_size": len(data.tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    model = TFBertModel(BertConfig(**shape))
    model.build_in_name_scope()
    model.save_pretrained(tmp_path, safe_serialization=True)
    pieces = data.tokenizer.vocabulary()
    (tmp_path / "vocab.txt").write_text("\n".join(pieces if same else [*pieces[:-2], *pieces[:-3:-1]]), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    given = {"encoder": str(tmp_path)}
    if same:
        assert initialize(resolve("tiny", given), data, given)[1].published.vocabulary == pieces
    else:
        with pytest.raises(UserError, match=r"its vocabulary is not the one that .* was prepared with"):
            initialize(resolve("tiny", given), data, given)


@pytest.mark.parametrize(
    ("model", "preset", "encoder", "size"),
    [
        ("transformer", "paper", "published", "12x768"), ("cvae", "small", "auto", "4x256"),
        ("seq2seq", "tiny", "bert-base-uncased", "2x128"), ("groupwise", "paper", "random:1x32", "1x32"),
        ("t5", "paper", "published", "6x512"), ("t5", "small", "auto", "4x256"),
    ],
)  # fmt: skip
def test_a_system_without_bert_gets_a_width_and_looks_for_no_weights(qqp_folder, monkeypatch, model, preset, encoder, size) -> None:
    data = read(qqp_folder)[0]
    load, asked = published(data.tokenizer.vocabulary())
    monkeypatch.setattr(bert_weights, "load", load)
    given = {"model": model, "encoder": encoder}
    settings, found = initialize(resolve(preset, given), data, given)
    assert not asked
    assert (settings.encoder, found.published) == (f"random:{size}", None)
    assert found.shape.width == int(size.split("x")[1])
    assert "no pretrained weights" in found.note
    with pytest.raises(UserError, match=rf"--freeze_encoder: --model={model} does not use it; hcl, .*seq2seq_du would"):
        resolve(preset, {**given, "freeze_encoder": True})


def test_a_system_without_weights_gets_no_size(qqp_folder) -> None:
    settings = resolve("tiny", {"model": "copy"})
    unchanged, found = initialize(settings, read(qqp_folder)[0], {"model": "copy"})
    assert unchanged == settings
    assert (found.shape, found.published, found.library, found.note) == (None, None, None, "no weights")
