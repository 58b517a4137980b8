"""The command line from end to end: what it makes, what it refuses, and what a killed run leaves."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import entry_point, prepare_sample

import hcl_tf
from hcl_tf import cli, config
from hcl_tf.data.corpora import generated
from hcl_tf.data.keywords import textrank
from hcl_tf.data.preparation import PreparationSettings, prepare
from hcl_tf.data.store import tfrecords
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.verification import verify
from hcl_tf.files.array_cache import CACHE
from hcl_tf.files.checksums import sha256

PACKAGE = str(Path(hcl_tf.__file__).parents[1])
QUICK = ("--vocab=learn", "--vocab_size=300", "--tagger=builtin", "--workers=1")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A command line of its own, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "hcl_tf.prepare", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGE, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    """The same in this process, which has TensorFlow imported already."""

    program = entry_point("prepare")

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["hcl_tf.prepare", *map(str, arguments)])
        capsys.readouterr()
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            cli.run(program.main)
        return SimpleNamespace(returncode=stopped.value.code, **capsys.readouterr()._asdict())

    def run(*arguments: str) -> SimpleNamespace:
        result = call(*arguments)
        return SimpleNamespace(returncode=result.returncode, stdout=result.out, stderr=result.err)

    return run


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and CACHE not in path.parts)  # what training keeps there
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sample_lines(count: int) -> str:
    return "".join(config.TASKS["qqp"].sample.read_text(encoding="utf-8").splitlines(keepends=True)[:count])


def test_help_mentions_every_flag(tmp_path):
    result = run(tmp_path, "--help")
    assert result.returncode in (0, 1)
    own = [flag.name for flag in flags.FLAGS.get_flags_for_module(entry_point("prepare"))]
    assert len(own) > 25
    assert [name for name in own if not re.search(rf"--(\[no\])?{name}:", result.stdout)] == []
    assert "python -m hcl_tf.prepare --task" in result.stdout


REFUSED = {
    "unknown flag": (["--task=qqp", "--wokers=2"], "wokers"),
    "no workers": (["--task=qqp", "--workers=0"], "--workers=0"),
    "no keywords": (["--task=qqp", "--max_keywords=0"], "--max_keywords=0"),
    "no number": (["--task=qqp", "--seed=one"], "--seed=one"),
    "negative limit": (["--task=qqp", "--limit=-1"], "--limit=-1"),
    "unknown task": (["--task=nothing"], "--task=nothing"),
    "no value": (["--task"], "task"),
    "stray argument": (["--task=qqp", "questions.tsv"], "questions.tsv"),
    "no command": ([], "--task, --inspect and --verify"),
    "two commands": (["--task=qqp", "--verify=tfrecords/qqp"], "--task and --verify"),
    "three commands": (["--task=qqp", "--verify=x", "--inspect=x"], "--task and --inspect and --verify"),
    "language of a fixed task": (["--task=qqp", "--lang=en"], "--lang"),
    "length of a fixed task": (["--task=douban", "--source_length=30"], "--source_length"),
    "custom without language": (["--task=custom", "--raw=x"], "--lang"),
    "custom without corpus": (["--task=custom", "--lang=en"], "--raw"),
    "target length of a fixed task": (["--task=qqp", "--target_length=30"], "--target_length"),
    "length out of range": (["--task=custom", "--lang=en", "--raw=x", "--source_length=511"], "--source_length=511"),
    "unknown field": (["--task=qqp", "--fields=question:q"], "--fields=question:q"),
    "field named twice": (["--task=qqp", "--fields=source:a,source:b"], "--fields=source:b: source is named twice"),
    "column named twice": (["--task=qqp", "--fields=source:a,target:a"], "--fields=target:a: a is named twice"),
    "field without name": (["--task=qqp", "--fields=source:a,target:"], "--fields=target:"),
    "unknown encoding": (["--task=qqp", "--encoding=klingon"], "--encoding=klingon"),
    "unknown format": (["--task=qqp", "--format=table2"], "--format=table2"),
    "two corpora": (["--task=qqp", "--raw=x", "--sample=generated"], "--sample=generated takes the place of --raw"),
    "sample of no task": (["--task=custom", "--lang=en", "--raw=x", "--sample=generated"], "--sample=generated takes the place of --raw"),
    "field without colon": (["--task=qqp", "--fields=source"], "--fields=source"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_flags_are_refused_in_a_readable_line_and_leave_nothing(tmp_path, case):
    arguments, says = REFUSED[case]
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert names(tmp_path) == []


def test_a_generated_sample_is_marked_and_kept_beside_what_is_made_of_it(run_here, tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "GROUPS", {"train": 5, "validation": 1, "test": 1})
    result = run_here("--task=rocstories", "--sample=generated", "--tagger=builtin", "--workers=1")
    assert result.returncode == 0, result.stderr
    manifest = verify(tmp_path / "tfrecords" / "rocstories")
    grammar = Path(hcl_tf.__file__).parent / "data" / "samples" / "grammars" / "rocstories.yaml"
    assert manifest["generated"] == {"grammar": "rocstories.yaml", "sha256": sha256(grammar), "seed": 1}
    assert {name: part["examples"] for name, part in manifest["splits"].items()} == {"train": 120, "validation": 24, "test": 24}
    assert manifest["splits"]["train"]["negatives"] == {"routes": {"labelled": 1.0}, "targets": 1.0}
    assert manifest["tokenizer"]["name"] == "learned"
    raw = tmp_path / "tfrecords" / "rocstories-generated"
    assert manifest["raw_files"] == {path.name: sha256(path) for path in raw.iterdir()}


@pytest.mark.slow
def test_a_custom_corpus_from_end_to_end(tmp_path):
    rows = [json.loads(line) for line in sample_lines(60).splitlines()]
    raw = tmp_path / "my corpus.jsonl"
    raw.write_text("".join(json.dumps({"frage": row["source"], "response": 4 * row["target"]}) + "\n" for row in rows))
    lengths = "--source_length=30", "--target_length=50"
    result = run(tmp_path, "--task=custom", "--lang=en", f"--raw={raw}", *lengths, "--limit=40", "--fields=source:frage")
    assert (result.returncode, result.stderr) == (0, "")
    assert names(tmp_path) == [raw.name, "tfrecords"]
    manifest = verify(tmp_path / "tfrecords" / "custom")
    assert names(tmp_path / "tfrecords") == ["custom"]
    assert (manifest["task"]["source_length"], manifest["target_length"]) == (30, 50)
    data = PreparedData(tmp_path / "tfrecords" / "custom")
    longest = (data.arrays("train").target_ids != data.tokenizer.pad_id).sum(1).max()
    assert 22 < longest <= 52, "with [CLS] and [SEP]"
    assert re.search(r"cut: .*[1-9].*; --source_length and --target_length keep longer texts\n", result.stdout)
    assert manifest["raw_rows"] == sum(part["examples"] for part in manifest["splits"].values()) == 40
    assert re.search(r"tokeniser: (.* learned .* because no --vocab was given|(that of )?bert-base-uncased)", result.stdout)


@pytest.mark.slow
def test_another_process_with_another_hash_seed_makes_the_same_bytes(tmp_path, qqp_folder):
    result = run(tmp_path, "--task=qqp", "--out=out", "--vocab=learn", "--vocab_size=2000", "--tagger=builtin", PYTHONHASHSEED="4321")
    assert (result.returncode, result.stderr) == (0, "")
    assert content(tmp_path / "out") == content(qqp_folder)


@pytest.mark.slow
def test_verify_tells_by_its_exit_code(tmp_path, run_here, qqp_folder):
    result = run_here(f"--verify={qqp_folder}")
    assert result.returncode == 0
    assert re.search(r"whole; .*train 396", result.stdout)
    copy = Path(shutil.copytree(qqp_folder, tmp_path / "copy"))
    path = next(copy.glob("test-*"))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    for damaged in (run_here(f"--verify={copy}"), run(tmp_path, f"--verify={copy}")):
        assert damaged.returncode == 1
        assert damaged.stderr.startswith(f"error: {path}: record 0 is damaged")
        assert len(damaged.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_what_is_no_prepared_folder_is_refused(run_here, tmp_path, command):
    result = run_here(f"--{command}={tmp_path / 'nothing'}")
    assert result.returncode == 1
    assert str(tmp_path / "nothing") in result.stderr
    assert names(tmp_path) == []


def test_inspect_prints_what_a_person_wants_to_see(run_here, qqp_folder):
    result = run_here(f"--inspect={qqp_folder}", "--examples=3")
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("train: 396 examples", "50%: ", "with a keyword: ", "unknown to the graph: ", "neighbours a node", "impostors from: "):
        assert part in result.stdout
    assert result.stdout.count("\nexample ") == result.stdout.count("\n  source    ") == 3
    assert result.stdout.count("read back: ") == 9


@pytest.mark.slow
def test_an_existing_folder_is_kept_unless_told(run_here, tmp_path):
    (tmp_path / "raw.jsonl").write_text(sample_lines(30))
    flags_ = ("--task=qqp", "--raw=raw.jsonl", "--out=out", *QUICK)
    assert run_here(*flags_).returncode == 0
    before = content(tmp_path / "out")
    kept = run_here(*flags_, "--seed=2")
    assert kept.returncode == 1
    assert kept.stderr.startswith(f"error: --out={tmp_path / 'out'}: ")
    assert "--overwrite" in kept.stderr
    assert content(tmp_path / "out") == before
    assert run_here(*flags_, "--seed=2", "--overwrite").returncode == 0
    assert content(tmp_path / "out") != before
    assert names(tmp_path) == ["out", "raw.jsonl"]


def test_a_limit_is_kept(run_here, tmp_path):
    assert run_here("--task=rocstories", "--limit=25", "--out=out", *QUICK).returncode == 0
    assert sum(part["examples"] for part in verify(tmp_path / "out")["splits"].values()) == 25


LINES = sample_lines(12).encode()
CORPORA = {
    "empty": (b"", r"raw\.jsonl: .*empty"),
    "blank": (b"\n \n\n", r"raw\.jsonl: .*empty"),
    "binary": (bytes(range(256)) * 40, r"raw\.jsonl: .*binary"),
    "packed": (b"\x1f\x8b\x08\x00" + random.Random(1).randbytes(5000), r"raw\.jsonl: .*binary"),
    "truncated in a line": (LINES[:-60], r"raw\.jsonl:12: "),
    "truncated in a letter": (LINES + '{"source": "é'.encode()[:-1], r"raw\.jsonl:13: "),
    "two bytes": (LINES.decode().encode("utf-16"), r"raw\.jsonl: .*UTF-16"),
    "half a letter, escaped": (LINES + b'{"source": "cut \\ud83d", "target": "why not so", "negative": "other"}\n', r"raw\.jsonl:13: "),
    "a number too long": (LINES + b'{"id": ' + b"1" * 5000 + b', "source": "a", "target": "b"}\n', r"raw\.jsonl:13: "),
    "one line": (sample_lines(1).encode(), "1 usable"),
    "no format": (b"hello\nworld\n", r"raw\.jsonl:1: no known format"),
}


@pytest.mark.parametrize("case", CORPORA)
def test_an_unusable_corpus_is_refused_by_name_and_leaves_nothing(run_here, tmp_path, case):
    data, says = CORPORA[case]
    (tmp_path / "raw.jsonl").write_bytes(data)
    result = run_here("--task=qqp", "--raw=raw.jsonl", "--out=out", *QUICK)
    assert result.returncode == 1
    assert re.match(rf"error: .*{says}", result.stderr)
    assert names(tmp_path) == ["raw.jsonl"]


CHAT = "".join(f"今天天气怎么样{i}\t是的我们去公园散步第{i}次\n" for i in range(12))
AS_DOUBAN = ("--task=douban", "--raw=raw.tsv", "--out=out", *QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("written", "flag"), [("gb18030", "gb18030"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16"), ("utf-8", "utf-8")])
def test_chinese_in_another_encoding_is_read_where_the_flag_says_so_and_refused_elsewhere(run_here, tmp_path, written, flag):
    (tmp_path / "raw.tsv").write_bytes(f"context\tresponse\n{CHAT}".encode(written))
    if flag != "utf-8":
        for more in ((), ("--skip_bad_lines",), ("--encoding=cp1252",), ("--encoding=big5", "--skip_bad_lines")):
            refused = run_here(*AS_DOUBAN, *more)
            assert refused.returncode == 1
            assert re.match(rf"error: .*raw\.tsv.*--encoding={flag}", refused.stderr)
            assert names(tmp_path) == ["raw.tsv"]
    assert run_here(*AS_DOUBAN, f"--encoding={flag}").returncode == 0
    manifest = verify(tmp_path / "out")
    assert manifest["settings"]["encoding"] == flag
    shard = tmp_path / "out" / manifest["splits"]["test"]["shards"][0]["file"]
    texts = [tfrecords.parse(data).source.raw for data in tfrecords.read_records(shard)]
    assert all(text.startswith("今天天气怎么样") for text in texts)


@pytest.mark.slow
def test_the_douban_corpus_from_end_to_end(run_here, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, right, wrong, count in (("train", 2, 1, 20), ("dev", 1, 1, 4), ("test", 3, 7, 4)):
        lines = (
            f"{label}\t{name} 上 文 {i}\t第 二 句\t{word} {name} {i} 个 {j} 号\n"
            for i in range(count) for label, word, many in ((1, "对", right), (0, "错", wrong)) for j in range(many)
        )  # fmt: skip
        (raw / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    result = run_here("--task=douban", "--raw=raw", "--out=out", *QUICK)
    assert result.returncode == 0, result.stderr
    manifest = verify(tmp_path / "out")
    assert {split: part["examples"] for split, part in manifest["splits"].items()} == {"train": 40, "validation": 4, "test": 4}
    assert manifest["settings"]["negatives"] == "bm25"
    assert "train.txt: 40 rows, format douban" in manifest["notes"]
    assert "with several references: 4 of 4 (100.0%), up to 3" in run_here("--inspect=out").stdout
    labelled = run_here("--task=douban", "--raw=raw", "--out=own", "--negatives=labelled", *QUICK)
    assert labelled.returncode == 0, labelled.stderr
    assert "negatives in test: labelled 4 (100.0%)" in labelled.stdout


@pytest.mark.parametrize("raw", ["missing.tsv", "missing/folder", "."])
def test_a_missing_corpus_is_refused_and_leaves_nothing(run_here, tmp_path, raw):
    result = run_here("--task=qqp", f"--raw={raw}", *QUICK)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {raw}: ")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("vocab", "says"),
    [
        ("no_cls.txt", r"no_cls\.txt: .*\[CLS\]"),
        ("missing.txt", r"missing\.txt: no such file"),
        ("binary.txt", r"binary\.txt:1: "),
        ("twice.txt", r"twice\.txt:7: "),
        ("folder", "folder: .*no vocab"),
        ("not-a-hub/name", "not-a-hub/name"),
    ],
)
def test_an_unusable_vocabulary_is_refused_by_name_and_leaves_nothing(run_here, tmp_path, vocab, says):
    (tmp_path / "raw.jsonl").write_bytes(LINES)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (tmp_path / "no_cls.txt").write_text("\n".join(piece for piece in pieces if piece != "[CLS]"))
    (tmp_path / "twice.txt").write_text("\n".join([*pieces, "a"]))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    result = run_here("--task=qqp", "--raw=raw.jsonl", "--out=out", "--tagger=builtin", "--workers=1", f"--vocab={vocab}")
    assert result.returncode == 1
    assert re.match(f"error: .*{says}", result.stderr)
    assert names(tmp_path) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unknown_tagger_is_refused_by_name_with_any_workers(run_here, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(textrank, "WORTH_A_WORKER", 10)
    monkeypatch.setattr(textrank, "CHUNK", 5)
    (tmp_path / "raw.jsonl").write_bytes(LINES)
    result = run_here("--task=qqp", "--raw=raw.jsonl", "--out=out", "--tagger=no_such_model", "--vocab=learn", f"--workers={workers}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: --tagger=no_such_model: ")
    assert names(tmp_path) == ["raw.jsonl"]


@pytest.mark.parametrize("out", ["raw.jsonl", "raw.jsonl/out", "/proc/out", "mine"])
def test_an_unusable_place_is_refused_by_name_and_left_alone(run_here, tmp_path, out):
    (tmp_path / "raw.jsonl").write_bytes(LINES)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    before = content(tmp_path)
    result = run_here("--task=qqp", "--raw=raw.jsonl", f"--out={out}", "--overwrite", *QUICK)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: --out={tmp_path / out}: ")
    assert content(tmp_path) == before
    assert names(tmp_path) == ["mine", "raw.jsonl"]


# Prepares once in a child of its own to see how long it takes, then kills such children at the given parts of that time.
KILLER = """
import contextlib, io, os, signal, sys, time
from pathlib import Path
from hcl_tf import cli, config
cli.quieten_libraries()
cli.import_tensorflow()
from hcl_tf.data.preparation import PreparationSettings, prepare
def start(out, seed):
    child = os.fork()
    if not child:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            settings = PreparationSettings("labelled", limit=40, vocab="learn", vocab_size=300, tagger="builtin", seed=seed)
            prepare(config.TASKS["qqp"], config.TASKS["qqp"].sample, out, settings, 1, overwrite=True)
        os._exit(0)
    return child
began = time.monotonic()
assert os.waitpid(start(Path("probe"), 1), 0)[1] == 0
took = time.monotonic() - began
for number, part in enumerate(map(float, sys.argv[1:])):
    child = start(Path(str(number)) / "out", 2)
    time.sleep(part * took)
    os.kill(child, signal.SIGKILL)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_folder_or_none_and_the_next_one_cleans_up(tmp_path):
    kills, draw = 10, random.Random(10)
    parts = [(number + draw.random()) / kills * 1.05 for number in range(kills)]
    with_earlier = range(0, kills, 2)
    earlier = prepare_sample(tmp_path / "earlier", limit=40, vocab_size=300)
    for number in with_earlier:
        shutil.copytree(earlier, tmp_path / str(number) / "out")
    result = subprocess.run(
        [sys.executable, "-c", KILLER, *map(str, parts)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": PACKAGE}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "9" in result.stdout.split()
    for number in range(kills):
        parent = tmp_path / str(number)
        parent.mkdir(exist_ok=True)
        there = (parent / "out").exists()
        if there:
            verify(parent / "out")
        assert there or number not in with_earlier or (parent / ".out.old").exists()
        settings = PreparationSettings("labelled", limit=40, vocab="learn", vocab_size=300, tagger="builtin")
        prepare(config.TASKS["qqp"], config.TASKS["qqp"].sample, parent / "out", settings, 1, overwrite=True)
        assert content(parent / "out") == content(earlier)
        assert names(parent) == ["out"]


def test_the_manifest_does_not_tell_where_it_was_made(run_here, tmp_path):
    (tmp_path / "raw.jsonl").write_bytes(sample_lines(30).encode())
    for out in ("one", "two/three"):
        assert run_here("--task=qqp", f"--raw={tmp_path / 'raw.jsonl'}", f"--out={out}", *QUICK).returncode == 0
    assert content(tmp_path / "one") == content(tmp_path / "two" / "three")
    assert str(tmp_path) not in json.dumps(tfrecords.read_manifest(tmp_path / "one"))


def test_how_edges_are_ranked_can_be_asked_for(run_here, tmp_path):
    for name, flag in (("association", ()), ("count", ("--edge_strength=count",))):
        assert run_here("--task=qqp", "--limit=60", f"--out={name}", *QUICK, *flag).returncode == 0
        assert tfrecords.read_manifest(tmp_path / name)["settings"]["edge_strength"] == name
    edges = [(tmp_path / name / "graph" / "edges.npz").read_bytes() for name in ("association", "count")]
    assert edges[0] != edges[1]
    refused = run_here("--task=qqp", "--limit=60", "--out=third", *QUICK, "--edge_strength=other")
    assert refused.returncode == 1
    assert "edge_strength" in refused.stderr
