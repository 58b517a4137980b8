"""Figure 3 of a tiny run: that "before" is where the run began, what the vectors are, what is written, and what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from hcl_tf.data.keywords.subgraph import ROUTES
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.errors import UserError
from hcl_tf.layers import bert_weights
from hcl_tf.models import registry
from hcl_tf.studies.representations import distances, figure3
from hcl_tf.studies.representations.figure3 import SHOWN, Figure3Request, make
from hcl_tf.studies.representations.publication import publish
from hcl_tf.training.run_folder import Run
from hcl_tf.training.trained_run import TrainedRun

EXAMPLES, PERPLEXITY = 12, 5.0


@pytest.fixture(scope="module")
def data(qqp_folder):
    return PreparedData(qqp_folder)


@pytest.fixture(scope="module")
def trained(trained_run, qqp_folder):
    return TrainedRun(trained_run, data_dir=qqp_folder)


def write(folder, data_folder, *request, **changes) -> dict:
    """Makes and publishes the figure of a run, and returns its numbers."""
    trained = TrainedRun(folder, data_dir=data_folder)
    figure = make(trained, Figure3Request(*request, **changes))
    publish(trained.run, figure)
    return figure.found


@pytest.fixture(scope="module")
def made(trained_run, qqp_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure3") / "run"
    shutil.copytree(trained_run, folder)
    return folder, write(folder, qqp_folder, examples=EXAMPLES, perplexity=PERPLEXITY)


@pytest.fixture(scope="module")
def batch(trained):
    """Some test examples; the first has no known keyword, the second no impostor."""
    found = {name: column[:4] for name, column in next(iter(trained.validation("test").rows(np.arange(4)))).items()}

    def column(name, row, value):
        return tf.tensor_scatter_nd_update(found[name], [[row]], [tf.fill(found[name].shape[1:], value)])

    return found | {"source_nodes": column("source_nodes", 0, -1), "impostor_routes": column("impostor_routes", 1, ROUTES.index("none"))}


def read_vectors(folder, name):
    """role -> [n, C], from the projector's files."""
    place = folder / "projector" / name
    numbers = np.array([[float(x) for x in line.split("\t")] for line in (place / "vectors.tsv").read_text().splitlines()])
    head, *rows = [line.split("\t") for line in (place / "metadata.tsv").read_text(encoding="utf-8").splitlines()]
    roles = np.array([row[head.index("role")] for row in rows])
    return {role: numbers[roles == role] for role in dict.fromkeys(roles)}, [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.slow
def test_before_is_where_the_run_began(trained):
    validation = trained.validation("validation", system=trained.beginning)
    recorded = next(record for record in trained.run.read_metrics() if record["kind"] == "validation")
    assert recorded["step"] == 0
    for name, value in validation.loss().items():
        assert value == pytest.approx(recorded[name], rel=1e-6), name
    figure3.check_beginning(trained)


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["examined/kl", pytest.param("examined/impostor_cosine", marks=pytest.mark.slow)])
def test_another_beginning_is_refused(trained, monkeypatch, changed):
    records = trained.run.read_metrics()
    first = next(record for record in records if record["kind"] == "validation")
    first[changed] += 0.05 * max(1.0, abs(first[changed]))
    monkeypatch.setattr(Run, "read_metrics", lambda _: records)
    with pytest.raises(UserError, match=f"beginning can't be made again: {changed.removeprefix('examined/')} was"):
        figure3.check_beginning(trained)


def test_published_weights_that_are_gone_or_others(trained_run, qqp_folder, monkeypatch):
    def missing(source):
        raise UserError(f"--encoder={source}: not installed")

    monkeypatch.setattr(bert_weights, "load", missing)
    other = TrainedRun(trained_run, data_dir=qqp_folder)
    other.settings = dataclasses.replace(other.settings, encoder="minilm")
    with pytest.raises(UserError, match=r"can't be had any more: --encoder=minilm: not installed"):
        _ = other.beginning
    other = TrainedRun(trained_run, data_dir=qqp_folder)
    other.run.config["encoder"] = "encoder: minilm"
    with pytest.raises(UserError, match=r"begun with other weights \(encoder: minilm\) than are here"):
        _ = other.beginning


def test_vectors_of_texts_against_the_layers_by_hand(loaded_run, batch):
    system = loaded_run.system
    found = {space: {name: v.numpy() for name, v in part.items()} for space, part in system.representations(batch).items()}
    kernel, bias = (w.numpy().astype(np.float64) for w in system.node_projection.weights)
    centre, scale, nodes = (v.numpy().astype(np.float64) for v in (system.text_mean, system.text_scale, system.node_states))
    vectors = {}
    for role, name in (("source", "source"), ("target", "positive"), ("negative", "negative")):
        ids = batch[f"{role}_ids"]
        states, real = system.encoder(ids).numpy().astype(np.float64), ids.numpy() != loaded_run.inputs.pad_id
        vectors[name] = np.stack([states[i][real[i]].mean(0) for i in range(4)])
        np.testing.assert_allclose(found["text"][name], (vectors[name] - centre) / scale @ kernel + bias, rtol=1e-3, atol=1e-4)
    for name in ("positive", "negative"):
        mean, _ = system.posterior(tf.constant(np.concatenate([vectors["source"], vectors[name]], 1), tf.float32))
        np.testing.assert_allclose(found["latent"][name], mean, rtol=1e-3, atol=1e-4)
    places, routes = batch["source_nodes"].numpy(), batch["impostor_routes"].numpy()
    assert (places >= 0).any(1).sum() > 1
    for i in np.flatnonzero((places >= 0).any(1)):
        known = [nodes[n] for n in places[i] if n >= 0]
        own = [found["text"]["source"][i]] * int(batch["source_unknown"][i])
        np.testing.assert_allclose(found["text"]["keyword"][i], np.mean(known + own, 0), rtol=1e-3, atol=1e-4)
        given = tf.constant(np.concatenate([vectors["source"][i], found["text"]["keyword"][i]])[None], tf.float32)
        np.testing.assert_allclose(found["latent"]["source"][i], system.prior(given)[0][0], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(found["text"]["keyword"]).all(1), (places < 0).all(1))
    np.testing.assert_array_equal(np.isnan(found["text"]["impostor"]).all(1), routes == ROUTES.index("none"))
    assert np.isfinite(found["text"]["impostor"]).any()
    for name in ("keyword", "positive_keyword", "impostor"):
        np.testing.assert_array_equal(found["latent"][name], found["text"][name])


def test_without_keywords_the_texts_are_as_bert_has_them(loaded_run, batch):
    system = registry.build(dataclasses.replace(loaded_run.settings, ablate="keyword"), loaded_run.inputs)
    found = system.representations(batch)
    assert {space: set(part) for space, part in found.items()} == {
        space: {"source", "positive", "negative"} for space in ("text", "latent")
    }
    texts = system.encode(batch, None, ("source", "target", "negative"))
    np.testing.assert_array_equal(found["text"]["positive"], texts["target"])
    assert found["latent"]["source"].shape == (4, loaded_run.settings.latent_size)


@pytest.mark.slow
def test_files_and_numbers(made, trained_run, data):
    folder, found = made
    new = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    new -= {str(path.relative_to(trained_run)) for path in trained_run.rglob("*") if path.is_file()}
    parts = {f"projector/test-{when}/{name}.tsv" for when in ("before", "after") for name in ("vectors", "metadata")}
    assert new == {"representations.test.png", "representations.test.json", "tensorboard/projector_config.pbtxt", *parts}
    assert json.loads((folder / "representations.test.json").read_text(encoding="utf-8")) == found
    assert (folder / "representations.test.png").read_bytes().startswith(b"\x89PNG")
    assert (found["split"], found["examples"], found["space"], found["dimensions"]) == ("test", EXAMPLES, "text", 8)
    for when in ("before", "after"):
        vectors, rows = read_vectors(folder, f"test-{when}")
        assert {role: len(part) for role, part in vectors.items()} == {role: found["vectors"][role] for role in vectors}
        for measure in distances.MEASURES:
            for name in ("source-positive", "source-negative"):
                each = distances.distance(*(vectors[role] for role in name.split("-")), measure)
                assert found[when][measure]["distances"][name]["value"] == pytest.approx(each.mean(), rel=1e-4)
    records = {record.id: record for record in data.records("test")}
    assert len({row["example"] for row in rows}) == EXAMPLES
    for row in rows:
        record = records[row["example"]]
        texts = {"source": record.source, "positive": record.target, "negative": record.negative}
        if row["role"] in texts:
            assert row["text"] == " ".join(texts[row["role"]].raw.split())
        else:
            assert row["text"] == ", ".join(keyword.text for keyword in record.source.keywords)


@pytest.mark.slow
def test_before_and_after_differ(made):
    folder, found = made
    (first, _), (then, _) = (read_vectors(folder, f"test-{when}") for when in ("before", "after"))
    assert not np.allclose(first["source"], then["source"], rtol=1e-3)
    change = found["change"]["differences"]["source: positive minus negative"]["value"]
    plus, minus = ([distances.distance(part["source"], part[role], "cosine").mean() for part in (first, then)] for role in SHOWN[2:])
    assert change == pytest.approx((plus[1] - minus[1]) - (plus[0] - minus[0]), abs=1e-5)


@pytest.mark.slow
def test_a_second_time_gives_the_same_bytes_and_the_other_space_has_files_of_its_own(made, qqp_folder):
    folder, _ = made
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write(folder, qqp_folder, examples=EXAMPLES, perplexity=PERPLEXITY)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    found = write(folder, qqp_folder, "test", EXAMPLES, 2, PERPLEXITY, "latent")
    assert found["space"] == "latent"
    config = folder / "tensorboard" / "projector_config.pbtxt"
    assert {path: path.read_bytes() for path in before if path != config} == {p: b for p, b in before.items() if p != config}
    assert config.read_text().count("tensor_name") == 4
    assert (folder / "representations.test.latent.json").is_file()


def test_what_can_not_work_is_refused_before_the_model_is_loaded(trained_run, qqp_folder, rocstories_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    with pytest.raises(UserError, match="no such folder"):
        write(tmp_path / "nowhere", qqp_folder)
    with pytest.raises(UserError, match="not the data that the run was trained on"):
        write(trained_run, rocstories_folder)
    with pytest.raises(UserError, match=r"--perplexity=30: too much for 48 points.*at most 15.6, or more --examples"):
        write(trained_run, qqp_folder, examples=EXAMPLES)
    other = TrainedRun(trained_run, data_dir=qqp_folder)
    other.model, other.settings = registry.class_of("transformer"), registry.resolve("tiny", {"model": "transformer"})
    with pytest.raises(UserError, match="transformer has no representations"):
        make(other, Figure3Request())
