"""Lines in, lines out."""

import io
import json
import sys
import time
from types import SimpleNamespace

import pytest

from hcl_tf import progress
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.decoding.generator import Generator
from hcl_tf.decoding.source_reader import SourceReader
from hcl_tf.decoding.sources import SourceBatches
from hcl_tf.errors import UserError
from hcl_tf.serving import generation
from hcl_tf.serving.generation import generate, lines, outputs, split_keywords
from hcl_tf.training.trained_run import TrainedRun


def reader_of(trained) -> SourceReader:
    return SourceReader(trained.manifest, trained.tokenizer, trained.graph)


def test_raw_test_sources_give_the_predictions_of_the_evaluation(evaluated_run, loaded_run):
    rows = [json.loads(line) for line in (evaluated_run / "predictions.test.jsonl").read_text(encoding="utf-8").splitlines()]
    sources = [row["source"].replace("\n", "\t") for row in rows]
    texts = ["", *sources[:10], " \t", *sources[10:]]
    wanted = [row["prediction"] for row in rows]
    found = list(outputs(loaded_run, reader_of(loaded_run), texts, 0, 32))
    assert found == [[], *([text] for text in wanted[:10]), [], *([text] for text in wanted[10:])]


@pytest.mark.slow
def test_samples_belong_to_the_line_however_lines_are_batched(loaded_run, qqp_folder):
    sources = [record.source.raw for record, _ in zip(PreparedData(qqp_folder).records("test"), range(3), strict=False)]
    reader = reader_of(loaded_run)
    found = list(outputs(loaded_run, reader, [sources[0], "", *sources[1:]], 2, 2))
    batch = SourceBatches(loaded_run.tokenizer, loaded_run.inputs.source_length, loaded_run.inputs.max_keywords).make(
        [reader.read(source) for source in sources], 0
    )
    generator = Generator(loaded_run.system, loaded_run.tokenizer, sampled=True)
    draws = [generator.texts([batch], sources, draw) for draw in (0, 1)]
    assert found == [[draws[0][0], draws[1][0]], [], *([draws[0][i], draws[1][i]] for i in (1, 2))]
    scores = [generator.ids(batch, draw)[1] for draw in (0, 1)]  # the words of so poor a model may well be the same
    assert (scores[0] != scores[1]).any()


def test_input_is_taken_a_batch_at_a_time(monkeypatch):
    """So that the first outputs come before the last inputs, and input of any length fits into memory."""
    taken = []
    monkeypatch.setattr(generation, "Generator", lambda *_, **__: SimpleNamespace(texts=lambda _, sources, draw: sources))
    batches = SimpleNamespace(make=lambda requests, first: requests)
    trained = SimpleNamespace(system=None, tokenizer=None, source_batches=lambda: batches)
    texts = (taken.append(i) or f"text {i}" for i in range(1000))
    answers = outputs(trained, SimpleNamespace(read=lambda text: SimpleNamespace(text=text.upper())), texts, 0, 8)
    assert next(answers) == ["TEXT 0"]
    assert len(taken) == 8
    assert [answer for (answer,) in answers][-1] == "TEXT 999"


def test_a_long_file_says_how_far_it_is_unless_its_outputs_are_seen(monkeypatch, capsys):
    def slow(*_):
        for number in range(20):
            time.sleep(0.01)
            yield [f"text {number}"]

    monkeypatch.setattr(progress, "EVERY", 0.03)
    monkeypatch.setattr(generation, "outputs", slow)
    for seen in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda seen=seen: seen)
        generation._write(None, None, [], 0, 8, 20)
        out, err = capsys.readouterr()
        assert out.splitlines() == [f"text {number}" for number in range(20)]
        assert ("/20 [" in err and err.startswith("generating: ")) != seen


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\r\ntwo", ["one", "", "two"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("你好\t在吗\n".encode(), ["你好\t在吗"]),
        (b"", []),
    ],
    ids=["plain", "windows", "mark", "chinese", "nothing"],
)
def test_lines(data, texts):
    assert list(lines(io.BytesIO(data), "in.txt")) == texts


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"one\ntwo\xff\n", r"in\.txt:2: not valid UTF-8 at byte 4"), (b"a\n" + b"b" * 1_000_001, r"in\.txt:2: a line of over 1,000,000")],
    ids=["encoding", "length"],
)
def test_lines_that_are_none(data, message):
    with pytest.raises(UserError, match=message):
        list(lines(io.BytesIO(data), "in.txt"))


def test_a_line_too_long_is_said_to_be_so_even_where_the_cut_splits_a_character():
    with pytest.raises(UserError, match="a line of over"):
        list(lines(io.BytesIO(b"aa" + "中".encode() * 2_000_000), "in.txt"))


def test_keywords_are_separated_by_commas():
    assert split_keywords("belly fat, diet,") == ["belly fat", "diet"]
    assert split_keywords("减肥，运动、饮食") == ["减肥", "运动", "饮食"]
    with pytest.raises(UserError, match="--keywords: no keyword given"):
        split_keywords(" , ")


def test_what_can_not_work_is_refused_before_the_model_is_loaded(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: pytest.fail("the model was loaded")))
    (tmp_path / "bad.txt").write_bytes(b"fine\nnot \xe4 fine\n")
    for file, keywords, message in (
        (tmp_path / "missing.txt", None, "--input=.*missing.txt: can't be read"),
        (tmp_path, None, "--input=.*: can't be read"),
        (tmp_path / "bad.txt", None, r"bad\.txt:2: not valid UTF-8 at byte 5"),
        (None, ",", "--keywords: no keyword given"),
    ):
        with pytest.raises(UserError, match=message):
            generate(trained_run, "best_loss", file, keywords, 0)
    with pytest.raises(UserError, match="no such folder"):
        generate(tmp_path / "nowhere", "best_loss", None, None, 0)


def test_a_closed_standard_input_is_said(tmp_path, monkeypatch):
    """Python has None where a shell closed it (<&-)."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed; give texts there, a line each, or a file with --input"):
        generate(tmp_path, "best_loss", None, None, 1)


def test_a_run_without_keywords_takes_none(trained_run, monkeypatch):
    monkeypatch.setattr(TrainedRun, "system", property(lambda _: SimpleNamespace(uses_keywords=False)))
    with pytest.raises(UserError, match="--keywords: this run was trained without keywords"):
        generate(trained_run, "best_loss", None, "diet", 0)
