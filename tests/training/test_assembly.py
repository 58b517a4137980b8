"""What outputs may contain, what keywords are to an encoder, and a new system's variables and starting weights."""

import dataclasses

import numpy as np
import pytest
from toy_system import read, toy, toy_settings

from hcl_tf.models.registry import resolve
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.initialization import initialize

SMALL = {"encoder": "random:1x16", "decoder_layers": 1, "latent_size": 4, "latent_hidden": 8, "batch_size": 8, "output_vocab": "train"}


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


@pytest.mark.slow
def test_every_variable_has_one_path(qqp_folder) -> None:
    data, train, _ = read(qqp_folder)
    settings, encoder = initialize(resolve("tiny", SMALL), data, SMALL)
    inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
    system, lines = assembly.new_system(settings, inputs, encoder)
    assert lines == [], "nothing was published"
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


@pytest.mark.slow
def test_the_seed_decides_the_starting_weights(qqp_folder) -> None:
    data, train, _ = read(qqp_folder)
    found = {}
    for number, seed in enumerate((1, 1, 2)):
        settings, encoder = initialize(resolve("tiny", {**SMALL, "seed": seed}), data, SMALL)
        inputs = assembly.inputs_of(data, encoder.shape, assembly.output_ids(data, train, "train"))
        found[number] = checkpoints.variables_of(assembly.variables(assembly.new_system(settings, inputs, encoder)[0]))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    identity = lambda value: value.ndim == 2 and set(np.unique(value)) == {0.0, 1.0}  # noqa: E731  W, and the copying start
    drawn = [name for name, value in found[0].items() if value.std() > 0 and not identity(value)]
    assert all(not np.array_equal(found[0][name], found[2][name]) for name in drawn)
    assert len(drawn) > 20


def test_default_folder_is_where_prepare_puts_the_data() -> None:
    assert str(assembly.default_data_dir("qqp")) == "tfrecords/qqp"
