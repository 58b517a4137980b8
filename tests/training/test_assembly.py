"""Which encoder a run gets, what outputs may contain, and that a run folder alone gives the trained system back."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from toy_system import SHAPE, read, toy, toy_settings

from hcl_tf.data.tokenizers.wordpiece import PUBLISHED
from hcl_tf.errors import UserError
from hcl_tf.layers import bert_weights
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.settings import resolve
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.run_folder import RunFolder, load_run
from hcl_tf.training.validation import Validation

SMALL = {"encoder": "random:1x16", "decoder_layers": 1, "latent_size": 4, "latent_hidden": 8, "batch_size": 8, "output_vocab": "train"}


class WithoutBert(System):
    takes_bert = False


@pytest.mark.parametrize(
    ("preset", "encoder", "shape"),
    [
        ("tiny", "random", (2, 128, 2)), ("small", "random", (4, 256, 4)), ("paper", "random", (12, 768, 12)),
        ("paper", "random:1x32", (1, 32, 1)), ("tiny", "random:3x192", (3, 192, 3)),
    ],
)  # fmt: skip
def test_random_encoders_by_preset_and_by_size(qqp_folder, preset, encoder, shape) -> None:
    data = read(qqp_folder)[0]
    settings, found = assembly.choose_encoder(resolve(preset, {"encoder": encoder}), data)
    assert (found.shape.layers, found.shape.width, found.shape.heads) == shape
    assert (found.shape.vocab_size, found.published) == (len(data.tokenizer), None)
    assert settings.encoder == f"random:{shape[0]}x{shape[1]}", "the record says the size"
    assert settings.refresh_graph_every == 1
    kept = resolve(preset, {"encoder": encoder, "refresh_graph_every": 0})
    assert assembly.choose_encoder(kept, data)[0].refresh_graph_every == 0


@pytest.mark.parametrize(
    "name", ["random:", "random:2", "random:0x64", "random:2x4", "random:ax64", "random:2x100x3", "randomly", "random:1x200"]
)
def test_impossible_random_encoders_are_refused(qqp_folder, name) -> None:
    with pytest.raises(UserError, match=r"--encoder=random.*random:4x256"):
        assembly.choose_encoder(resolve("tiny", {"encoder": name}), read(qqp_folder)[0])


def published(vocabulary, size=None):
    """A stand-in for `bert_weights.load` that records what it was asked for."""
    asked = []

    def load(source):
        asked.append(source)
        shape = dataclasses.replace(SHAPE, vocab_size=size or len(vocabulary))
        return SimpleNamespace(shape=shape, vocabulary=vocabulary, description=f"weights of {source}")

    return load, asked


def test_published_encoder_of_the_datas_vocabulary(qqp_folder, monkeypatch) -> None:
    data = read(qqp_folder)[0]
    load, asked = published(data.tokenizer.vocabulary())
    monkeypatch.setattr(bert_weights, "load", load)
    settings, found = assembly.choose_encoder(resolve("paper", {}), data)
    assert asked == [PUBLISHED["en"]] == [settings.encoder]
    assert found.published is not None
    assert found.note == f"encoder: weights of {PUBLISHED['en']}"
    assert settings.refresh_graph_every == 0
    assert assembly.choose_encoder(resolve("small", {}), data)[0].encoder == "minilm"


@pytest.mark.parametrize("named", [True, False])
def test_an_encoder_of_another_vocabulary_is_refused(qqp_folder, monkeypatch, named) -> None:
    data = read(qqp_folder)[0]
    other = [*data.tokenizer.vocabulary()[:-1], "other"]
    load, _ = published(other if named else None, None if named else 7)
    monkeypatch.setattr(bert_weights, "load", load)
    with pytest.raises(UserError, match=r"--encoder=somewhere: its vocabulary .* --vocab .* --encoder=random"):
        assembly.choose_encoder(resolve("tiny", {"encoder": "somewhere"}), data)
    settings, found = assembly.choose_encoder(resolve("small", {}), data)
    assert settings.encoder == "random:4x256", "auto: where the pretrained one does not fit"
    assert settings.encoder_learning_rate == settings.learning_rate, "from scratch there is one rate"
    given = {"encoder_learning_rate": 0.02}
    assert assembly.choose_encoder(resolve("small", given), data, given)[0].encoder_learning_rate == 0.02
    assert "minilm can't be used here" in found.note


@pytest.mark.parametrize(
    ("preset", "encoder", "size"),
    [
        ("paper", "published", "12x768"),
        ("small", "auto", "4x256"),
        ("tiny", "bert-base-uncased", "2x128"),
        ("paper", "random:1x32", "1x32"),
    ],
)
def test_a_system_without_bert_gets_a_width_and_looks_for_no_weights(qqp_folder, monkeypatch, preset, encoder, size) -> None:
    data = read(qqp_folder)[0]
    load, asked = published(data.tokenizer.vocabulary())
    monkeypatch.setattr(bert_weights, "load", load)
    monkeypatch.setattr(registry, "class_of", lambda model: WithoutBert)
    settings, found = assembly.choose_encoder(resolve(preset, {"encoder": encoder}), data)
    assert not asked
    assert (settings.encoder, found.published) == (f"random:{size}", None)
    assert found.shape.width == int(size.split("x")[1])
    assert "no pretrained weights" in found.note
    with pytest.raises(UserError, match=r"--freeze_encoder: --model=hcl has no BERT encoder"):
        assembly.choose_encoder(resolve(preset, {"encoder": encoder, "freeze_encoder": True}), data)


def test_outputs_are_the_pieces_of_training_targets(qqp_folder) -> None:
    data, train, _ = read(qqp_folder)
    t = data.tokenizer
    wanted = {int(piece) for row in train.target_ids for piece in row} | {t.pad_id, t.unknown_id, t.cls_id, t.sep_id}
    found = assembly.output_ids(data, train, "train")
    assert found.tolist() == sorted(wanted)
    assert len(found) < len(t)
    assert assembly.output_ids(data, train, "full").tolist() == list(range(len(t)))


def test_keywords_are_texts_to_an_encoder(qqp_folder) -> None:
    data = read(qqp_folder)[0]
    t = data.tokenizer
    found = assembly.keyword_ids(data.graph, t)
    for keyword, row in zip(data.graph.nodes, found.tolist(), strict=True):
        pieces = t.encode([keyword])[0]
        assert row == ([t.cls_id, *pieces, t.sep_id] + [t.pad_id] * len(row))[: len(row)]
    assert (found[:, -1] == t.sep_id).any(), "no wider than the longest"
    long = dataclasses.replace(data.graph, nodes=("a b c d e f g h i j", "k"))
    assert assembly.keyword_ids(long, t).tolist()[0] == [t.cls_id, *t.encode(["a b c d e f g h"])[0], t.sep_id]
    assert assembly.keyword_ids(dataclasses.replace(data.graph, nodes=()), t).shape == (0, 2)


@pytest.fixture(scope="module")
def trained(qqp_folder, tmp_path_factory):
    """A run folder with a checkpoint of weights unlike the starting ones, and the validation losses of the system in it."""
    path = tmp_path_factory.mktemp("runs") / "run"
    data, train, held_out = read(qqp_folder)
    settings, encoder = assembly.choose_encoder(resolve("tiny", SMALL), data)
    inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
    system, lines = assembly.new_system(settings, inputs, encoder)
    assert lines == []
    for number, variable in enumerate(system.variables):
        variable.assign_add(0.05 * tf.random.stateless_normal(variable.shape, (number, 1)))
    system.before_inference()
    with RunFolder.open(path, {"task": "qqp", "settings": settings.to_dict()}, ["train"]) as run:
        assembly.store_inputs(run, data, inputs)
        saved = checkpoints.variables_of(assembly.variables(system))
        run.checkpoints.save_best("best_loss", 12, saved, {"validation": 1.0})
        saved |= {"optimizer/rest/0000": np.zeros(3, np.float32)}  # of no use to generation
        run.checkpoints.save(12, saved, {})
    return path, system, Validation(system, data, held_out, 8, 1).loss()


@pytest.mark.parametrize("name", ["best_loss", "step-00000012"])
def test_a_run_folder_alone_gives_the_system_back(trained, qqp_folder, name) -> None:
    path, system, losses = trained
    found = assembly.load_trained(load_run(path), name)
    assert (found.checkpoint, found.step, found.settings) == (name, 12, system.settings)
    for path_, variable in assembly.variables(system).items():
        np.testing.assert_array_equal(assembly.variables(found.system)[path_], variable, err_msg=path_)
    data, _, held_out = read(qqp_folder)
    assert Validation(found.system, data, held_out, 8, 1).loss() == losses
    assert found.inputs.output_ids.tolist() == system.inputs_.output_ids.tolist()
    np.testing.assert_array_equal(found.inputs.neighbours, data.whole_graph)
    np.testing.assert_array_equal(found.inputs.keyword_ids, system.inputs_.keyword_ids)
    assert found.tokenizer.vocabulary() == data.tokenizer.vocabulary()
    assert len(found.graph) == len(data.graph)


def test_what_a_run_lacks_is_named(trained, tmp_path) -> None:
    path, _, _ = trained
    run = load_run(path)
    with pytest.raises(UserError, match="no checkpoint 'best_nll'"):
        assembly.load_trained(run, "best_nll")
    inputs = path / assembly.INPUTS
    whole = inputs.read_bytes()
    for text in (None, b"{", b"{}", whole.replace(b"cls_id", b"cls")):
        inputs.unlink()
        if text is not None:
            inputs.write_bytes(text)
        with pytest.raises(UserError, match=r"inputs\.json: can't be read"):
            assembly.load_trained(run, "best_loss")
        inputs.write_bytes(whole)


def test_every_variable_has_one_path(trained) -> None:
    _, system, _ = trained
    found = assembly.variables(system)
    assert {id(v) for v in found.values()} == {id(v) for v in system.variables}
    assert list(found) == sorted(found)
    assert {"model/node_features", "model/node_states", "model/text_mean"} <= found.keys()
    assert all(name.startswith("model/") for name in found)


def test_a_variable_without_a_path_is_noticed(qqp_folder, monkeypatch) -> None:
    system, _ = toy(qqp_folder, toy_settings())
    known = system.get_weight_paths()
    monkeypatch.setattr(system, "get_weight_paths", lambda: {name: v for name, v in known.items() if name != "level"})
    with pytest.raises(ValueError, match="has no path"):
        assembly.variables(system)


def test_the_seed_decides_the_starting_weights(qqp_folder) -> None:
    data, train, _ = read(qqp_folder)
    found = {}
    for number, seed in enumerate((1, 1, 2)):
        settings, encoder = assembly.choose_encoder(resolve("tiny", {**SMALL, "seed": seed}), data)
        inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
        found[number] = checkpoints.variables_of(assembly.variables(assembly.new_system(settings, inputs, encoder)[0]))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    identity = lambda value: value.ndim == 2 and set(np.unique(value)) == {0.0, 1.0}  # noqa: E731  W, and the copying start
    drawn = [name for name, value in found[0].items() if value.std() > 0 and not identity(value)]
    assert all(not np.array_equal(found[0][name], found[2][name]) for name in drawn)
    assert len(drawn) > 20


def test_default_folder_is_where_prepare_puts_the_data() -> None:
    assert str(assembly.default_data_dir("qqp")) == "tfrecords/qqp"
