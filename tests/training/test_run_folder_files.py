"""What a run keeps beside its settings: results, whole or the earlier ones, and the inputs that it was begun with."""

import json
import os
import resource
from pathlib import Path

import pytest
from test_run_folder import begin, names

from hcl_tf.errors import UserError
from hcl_tf.training import run_folder
from hcl_tf.training.run_folder import load_run

pytestmark = pytest.mark.usefixtures("quick_environment")


def test_results_are_replaced_whole(tmp_path):
    begin(tmp_path).close()
    run = load_run(tmp_path)
    for round_ in (1, 2):
        assert run.write_text("samples.md", f"# {round_} 说\n").read_text(encoding="utf-8") == f"# {round_} 说\n"
        assert json.loads(run.write_json("scores.json", {"b": 1 / 3, "a": round_}).read_text()) == {"a": round_, "b": 1 / 3}
        path = run.write_jsonl("sub/predictions.test.jsonl", ({"id": i, "text": "a\nb\u2028c"} for i in range(round_)))
        assert [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == list(range(round_))

    def broken():
        yield {"id": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run.write_jsonl("sub/predictions.test.jsonl", broken())
    assert path.read_text(encoding="utf-8").count("\n") == 2
    assert names(tmp_path / "sub") == ["predictions.test.jsonl"]


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "done.json", "checkpoints/x", "../x", "a/../../x", "/x", "", ".lock"])
def test_the_runs_own_files_are_no_results(tmp_path, name):
    with begin(tmp_path / "run") as run:
        (tmp_path / "source").write_text("x")
        before = names(tmp_path / "run")
        for write in (lambda: run.write_text(name, "x"), lambda: run.store(tmp_path / "source", name)):
            with pytest.raises(ValueError, match="can't be written here"):
                write()
        assert names(tmp_path / "run") == before


@pytest.fixture
def stored(tmp_path) -> Path:
    """A run that keeps a vocabulary and a folder."""
    inputs = tmp_path / "inputs"
    (inputs / "graph").mkdir(parents=True)
    for name in ("vocab.txt", "graph/nodes.tsv", "graph/edges.npz"):
        (inputs / name).write_bytes(os.urandom(50))
    for _ in range(2):  # the second start stores the same again
        with begin(tmp_path / "run") as run:
            run.store(inputs / "vocab.txt", "data/vocab.txt")
            run.store(inputs / "graph", "data/graph")
    return tmp_path / "run"


def test_inputs_are_kept(stored):
    inputs = stored.parent / "inputs"
    run = load_run(stored)
    for name in ("vocab.txt", "graph/nodes.tsv", "graph/edges.npz"):
        assert run.stored(f"data/{name}").read_bytes() == (inputs / name).read_bytes()
    assert run.stored("data/graph") == stored / "data" / "graph"
    assert sorted(json.loads((stored / "files.json").read_text())) == [
        "config.json", "data/graph/edges.npz", "data/graph/nodes.tsv", "data/vocab.txt",
    ]  # fmt: skip
    with pytest.raises(UserError, match=f"{stored}: the run keeps no data/gra; it holds config.json, data/graph/edges.npz"):
        run.stored("data/gra")


@pytest.mark.parametrize("name", ["vocab.txt", "graph/edges.npz"])
@pytest.mark.parametrize("harm", ["changed", "missing", "truncated"])
def test_a_damaged_input_is_named(stored, name, harm):
    path = stored / "data" / name
    data = path.read_bytes()
    path.unlink()
    if harm != "missing":
        path.write_bytes(data[:-1] + (bytes([data[-1] ^ 1]) if harm == "changed" else b""))
    with pytest.raises(UserError, match=f"{path}: .*restore it"):
        load_run(stored)


def test_a_run_goes_on_only_with_the_inputs_it_was_begun_with(stored):
    inputs = stored.parent / "inputs"
    kept = (stored / "data" / "vocab.txt").read_bytes()
    (inputs / "vocab.txt").write_text("other")
    with begin(stored) as run:
        with pytest.raises(UserError, match=f"{inputs}/vocab.txt: not the data/vocab.txt that the run .* was begun with"):
            run.store(inputs / "vocab.txt", "data/vocab.txt")
        with pytest.raises(UserError, match=f"{inputs}/absent: can't be read"):
            run.store(inputs / "absent", "data/absent")
    assert (stored / "data" / "vocab.txt").read_bytes() == kept
    load_run(stored)


def test_a_damaged_copy_is_mended_by_storing_again(stored):
    (stored / "data" / "vocab.txt").write_text("damaged")
    with begin(stored) as run:
        run.store(stored.parent / "inputs" / "vocab.txt", "data/vocab.txt")
    load_run(stored)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc, which nobody may write to, root neither")
def test_a_folder_that_takes_no_file_is_noticed_before_work():
    with pytest.raises(UserError, match=r"/proc: can't be written .*; free space or check permissions"):
        run_folder.Run(Path("/proc"), {}).check_writable()


def test_a_disk_without_room_for_results_is_noticed_before_work(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with begin(tmp_path / "run") as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # stands for a disk with so many bytes left
        try:
            with pytest.raises(UserError, match=r"can't be written .*; free space"):
                run.check_writable()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_asking_whether_a_folder_can_be_written_leaves_nothing(tmp_path):
    with begin(tmp_path / "run") as run:
        before = names(run.path)
        run.check_writable()
        assert names(run.path) == before
