"""What is written is what TensorBoard's own plugin reads, whichever folder it is started on."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from hcl_tf.studies.representations import projector
from hcl_tf.training.run_folder import Run

ROWS = [
    {"text": "a\tquestion\nin two lines", "role": "source", "example": "1"},
    {"text": "ein Wörtchen, 好", "role": "keyword", "example": "1"},
]
VECTORS = np.array([[0.1, -2.5e-7, 3e8], [1.0, 0.0, 1 / 3]], np.float32)


def plugin(logdir, run_name):
    """The projector of a TensorBoard that has found events of one run."""
    runs = SimpleNamespace(list_runs=lambda *_, **__: [SimpleNamespace(run_name=run_name)])
    return ProjectorPlugin(SimpleNamespace(data_provider=runs, logdir=str(logdir)))


@pytest.fixture
def run(tmp_path):
    found = Run(tmp_path / "runs" / "one", {})
    (found.path / "tensorboard").mkdir(parents=True)
    projector.write_vectors(found, "test-before", VECTORS, ROWS)
    projector.write_vectors(found, "test-after", 2 * VECTORS, ROWS)
    (found.path / projector.FOLDER / "unfinished").mkdir()
    projector.write_config(found)
    return found


@pytest.mark.parametrize(("above", "name"), [("runs/one", "tensorboard"), ("runs", "one/tensorboard"), ("runs/one/tensorboard", ".")])
def test_tensorboard_serves_every_finished_map(run, tmp_path, above, name):
    board = plugin(tmp_path / above, name)
    apps = board.get_plugin_apps()
    get = lambda route, **query: Client(apps[route]).get(route, query_string=query)  # noqa: E731
    assert get("/runs").json == [name]
    embeddings = get("/info", run=name).json["embeddings"]
    assert [e["tensorName"] for e in embeddings] == ["test-after", "test-before"]
    assert all(e["tensorShape"] == [2, 3] for e in embeddings)
    for scale, tensor in ((1, "test-before"), (2, "test-after")):
        served = np.frombuffer(get("/tensor", run=name, name=tensor).data, np.float32).reshape(2, 3)
        np.testing.assert_allclose(served, scale * VECTORS, rtol=1e-6)
        lines = list(csv.reader(get("/metadata", run=name, name=tensor).text.splitlines(), delimiter="\t"))
        assert lines[0] == ["text", "role", "example"]
        assert lines[1:] == [["a question in two lines", "source", "1"], ["ein Wörtchen, 好", "keyword", "1"]]


def test_a_row_for_every_vector(run):
    with pytest.raises(ValueError, match="2 vectors and 1 rows"):
        projector.write_vectors(run, "test-before", VECTORS, ROWS[:1])
