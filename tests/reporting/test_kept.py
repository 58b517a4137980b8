"""Kept rows of a plan: in its order, and refused by file where they can't be the plan's."""

import shutil

import made_evidence
import pytest
from made_evidence import keep, result

from hcl_tf.errors import UserError
from hcl_tf.reporting import kept


@pytest.fixture
def plan(tmp_path):
    return made_evidence.plan(tmp_path / "evidence")


@pytest.fixture
def reports(plan, tmp_path):
    keep(tmp_path / "reports", plan, "questions", result("bert_cvae", 22), result("hcl", 22), result("hcl", 21))
    return tmp_path / "reports"


def test_rows_come_in_the_order_of_the_plan_and_of_seeds(plan, reports):
    (reports / "evidence" / "questions" / "trials").mkdir()
    table = "2 trials, smallest value first. Fixed: a.\n\n| trial | kl\\_ramp |\n| --- | --- |\n| 1 | 3.0 |\n| 2 | failed |\n"
    (reports / "evidence" / "questions" / "trials" / "hcl.md").write_text(table)
    questions, stories, chat = kept.of_plan(plan, reports / "evidence")
    assert {row: [one.seed for one in results] for row, results in questions.rows.items()} == {
        "hcl": [21, 22], "bert_cvae": [22], "claps": [], "bert_gen": [], "hcl_without_graph": [],
    }  # fmt: skip
    assert questions.trials["hcl"] == [{"trial": "1", "kl_ramp": "3.0"}, {"trial": "2", "kl_ramp": "failed"}]
    assert questions.trials["bert_cvae"] == []
    assert not stories.results
    assert not chat.apart


def test_rows_of_other_examples_are_set_apart_with_the_reason(plan, reports):
    keep(reports, plan, "questions", result("claps", 21, references="other"))
    (questions, *_) = kept.of_plan(plan, reports / "evidence")
    assert not questions.rows["claps"]
    ((_, why),) = questions.apart
    assert why.startswith("other test examples")


def test_a_seed_that_is_not_planned_is_set_apart(plan, reports):
    keep(reports, plan, "questions", result("hcl", 9))
    (questions, *_) = kept.of_plan(plan, reports / "evidence")
    assert [one.seed for one in questions.rows["hcl"]] == [21, 22]
    ((stray, why),) = questions.apart
    assert (stray.seed, why) == (9, "seed 9 is not planned")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system": "gpt9"}, r"gpt9-21\.json: gpt9 is no row of stage questions; another plan made it"),
        ({"task": "douban"}, r"claps-21\.json: of task douban, the plan's stage questions is of qqp; choose another --out"),
        ({"split": "validation"}, "of split validation, the plan's stage questions is of test"),
        ({"checkpoint": "best_nll"}, "of checkpoint best_nll, the plan's stage questions is of best_loss"),
    ],
)
def test_rows_of_another_plan_are_refused(plan, reports, changes, said):
    keep(reports, plan, "questions", result("claps", 21, **changes))
    with pytest.raises(UserError, match=said):
        kept.of_plan(plan, reports / "evidence")


def test_a_seed_kept_twice_and_a_wrong_name_are_refused(plan, reports):
    folder = reports / "evidence" / "questions" / "rows"
    shutil.copy(folder / "hcl-21.json", folder / "hcl-21b.json")
    with pytest.raises(UserError, match=r"hcl-21b\.json: a second hcl with seed 21; hcl-21\.json has it already: remove one"):
        kept.of_plan(plan, reports / "evidence")
    (folder / "hcl-21.json").unlink()
    with pytest.raises(UserError, match=r"hcl-21b\.json: holds hcl with seed 21; name it hcl-21\.json"):
        kept.of_plan(plan, reports / "evidence")
