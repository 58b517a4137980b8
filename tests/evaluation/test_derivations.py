"""What is said of outputs on a generated sample, against outputs whose measures are known by construction."""

import json
import shutil

import pytest

from hcl_tf.data.corpora.grammar import of_task
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.evaluation.derivations import MEASURES, lines, measures
from hcl_tf.evaluation.scoring import EvaluationRequest, report
from hcl_tf.training.run_folder import load_run

SOURCES = ["How can a child learn to swim?", "My TV overheats, is that dangerous?", "Should I see a vet if my cat sleeps all day?"]
RIGHT = [
    "what should a kid do to learn how to swim?",
    "is it safe to use my television when it gets too hot?",
    "my cat sleeps all day, do we need a vet?",
]


@pytest.mark.parametrize(
    ("outputs", "parse", "distinct", "kept", "fit"),
    [
        (RIGHT, 3, 3, 3, 3),
        (SOURCES, 3, 3, 3, 0),  # a copy is of the grammar, and no paraphrase
        (RIGHT[:1] * 3, 3, 1, 1, 1),
        (RIGHT[1:] + RIGHT[:1], 3, 3, 0, 0),
        (["is it hard for a child to learn to swim?", "tv tv tv", "a cat a vet?"], 1, 3, 3, 0),  # other move, babble, babble
        (["what should a kid do to learn how to sing?", "", "my cats"], 1, 3, 0, 0),
        (["how can a kid learn to swim?", *RIGHT[1:]], 3, 3, 3, 3),  # a synonym is another text
    ],
)
def test_measures_of_questions(outputs, parse, distinct, kept, fit):
    found = measures(of_task("qqp"), SOURCES, outputs)
    assert found.keys() == MEASURES.keys()
    wanted = {"parse": parse, "distinct": distinct, "topic kept": kept, "fit": fit}
    assert found == {name: pytest.approx(count / 3) for name, count in wanted.items()}


def test_measures_of_dialogues():
    sources = ["今晚想去吃饺子，有人一起吗？\n好啊，正好我也馋了。"] * 4
    outputs = [
        "那今天晚上楼下见，饺子我请客。",
        "没事，今晚我打包饺子给你。",
        "那今天晚上楼下见，火锅我请客。",
        "今晚想去吃饺子，有人一起吗？ 好啊，正好我也馋了。",
    ]
    assert measures(of_task("douban"), sources, outputs) == {"parse": 0.75, "distinct": 1.0, "topic kept": 0.75, "fit": 0.25}


@pytest.mark.parametrize(("sources", "outputs"), [([], []), (SOURCES, RIGHT[:1])])
def test_lists_that_do_not_fit_are_refused(sources, outputs):
    with pytest.raises(ValueError):
        measures(of_task("qqp"), sources, outputs)


def test_evaluation_of_a_generated_sample_ends_with_its_measures(generated_folder, trained_run, tmp_path, capsys):
    """Given the references as outputs, and of a run whose other results do not matter here."""
    shutil.copytree(trained_run, tmp_path / "run")
    data, run = PreparedData(generated_folder), load_run(tmp_path / "run")
    records = list(data.records("test"))
    head = {"task": "qqp", "model": "hcl", "split": "test", "examples": 24, "checkpoint": "best_loss", "step": 1, "seed": 1}
    report(
        run,
        EvaluationRequest(run.path),
        data,
        records,
        [r.target.raw for r in records],
        head,
        lambda _: {"means": {}, "differences": {}, "collapsed": None},
    )
    found = json.loads((run.path / "figures.test.json").read_text())["derivations"]
    assert found["outputs"] == dict.fromkeys(MEASURES, 1.0)
    assert found["copy source"] == {"parse": 1.0, "distinct": 1.0, "topic kept": 1.0, "fit": 0.0}
    assert found["one target"] == pytest.approx({"parse": 1.0, "distinct": 1 / 24, "topic kept": 0.0, "fit": 0.0}, abs=0.2)
    said = capsys.readouterr().out
    assert "on the GENERATED sample" in said
    assert f"  {records[0].source.raw} => {records[0].target.raw}" in said


def test_turns_are_shown_in_one_line():
    table = lines({"outputs": dict.fromkeys(MEASURES, 0.5)}, [{"source": "a\nb", "prediction": "c"}])
    assert table[-1] == "  a / b => c"
    assert [line.split()[-1] for line in table[:1]] == ["outputs"]
    assert all("50.0%" in line for line in table[1:-1])
