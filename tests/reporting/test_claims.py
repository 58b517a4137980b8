"""The claims file: as shipped, filled in, and wrong in every way that a hand can make it wrong."""

from pathlib import Path

import pytest

from hcl_tf.config import TASKS
from hcl_tf.errors import UserError
from hcl_tf.reporting import claims
from hcl_tf.reporting.claims import METRICS, Claims, known, read, shipped

SHIPPED = Path(__file__).parents[2] / "experiments" / "paper_claims.yaml"


@pytest.fixture
def changed(tmp_path):
    """The shipped file with one text replaced, and the number of the line where that stands."""

    def change(old: str, new: str) -> tuple[Path, int]:
        text = SHIPPED.read_text()
        assert old in text
        path = tmp_path / "claims.yaml"
        path.write_text(text.replace(old, new, 1))
        return path, text[: text.index(old)].count("\n") + 1

    return change


def test_no_cell_is_shipped_and_every_row_has_a_file():
    found = read(SHIPPED)
    assert found.cells == {}
    for rows in found.tables.values():
        assert all((SHIPPED.parent / task / f"{row}.flags").is_file() for row in rows for task in TASKS)
    files = {path.stem: path.read_text() for path in (SHIPPED.parent / "qqp").glob("*.flags")}
    rows = {row for rows in found.tables.values() for row in rows}
    needed = {row for row, text in files.items() if not text.startswith("# Beyond the paper: ")}
    assert needed <= rows <= files.keys(), "only rows beyond the paper need not be written here"


def test_every_cell_of_the_tables_can_be_filled():
    text = SHIPPED.read_text()
    for task in TASKS:
        part = text.partition(f"\n  {task}:")[2]
        for row in ("cvae", "claps", "hcl", "hcl_without_graph"):
            line = next(line for line in part.splitlines() if line.strip().startswith(f"{row}: {{"))
            assert all(f"{metric}:" in line for metric in METRICS)


def test_a_filled_cell_is_read(changed):
    path, _ = changed("cvae: {BLEU-1:", "cvae: {BLEU-1: 41.5")
    assert read(path).cells == {("qqp", "cvae", "BLEU-1"): 41.5}


@pytest.mark.slow
def test_the_text_s_claims_are_there():
    claims = read(SHIPPED).claims
    over_claps = {(c.task, c.metric): c.percent for c in claims if c.to == ("claps",)}
    assert over_claps == {
        ("qqp", "BLEU-1"): 2.7, ("qqp", "BLEU-2"): 3.6, ("douban", "BLEU-1"): 20.3, ("douban", "BLEU-2"): 24.9,
        ("rocstories", "BLEU-1"): 3.9, ("rocstories", "BLEU-2"): 6.3,
    }  # fmt: skip
    assert {c.of[0]: c.percent for c in claims if c.to == ("hcl",)} == {
        "hcl_without_keyword": -10.4, "hcl_without_graph": -2.1, "hcl_without_mahalanobis": None,
    }  # fmt: skip


def test_table_3_s_claim_and_kappas_are_there():
    human = read(SHIPPED).human
    assert (human.of, human.to, human.task, human.cells) == ("hcl", ("claps", "dialogpt", "seq2seq_du"), None, {})
    assert human.kappa == {"Fluency": 0.53, "Meaningfulness": 0.61, "Differential": 0.56}


def test_a_filled_cell_of_table_3_is_read(changed):
    path, _ = changed("hcl: {Fluency:, ", "hcl: {Fluency: 2.4, ")
    assert read(path).human.cells == {("hcl", "Fluency"): 2.4}
    path, _ = changed("kappa: {Fluency: 0.53", "kappa: {Fluency:")
    assert read(path).human.kappa == {"Meaningfulness": 0.61, "Differential": 0.56}


def test_of_a_task_of_one_s_own_the_paper_says_nothing(changed):
    path, _ = changed("cvae: {BLEU-1:", "cvae: {BLEU-1: 41.5")
    found = read(path)
    assert found.of("qqp") == found
    own = found.of("custom")
    assert (own.cells, own.claims, own.human) == ({}, (), None)
    assert (own.tables, own.credits) == (found.tables, found.credits)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("kappa: {Fluency: 0.53", "kappa: {Fluency: high", "'high' is no number"),
        ("kappa: {Fluency: 0.53", "kappa: {Fluent: 0.53", "Fluent is not known here"),
        ("claps: {Fluency:,", "claps: {Fluency: x,", "human: cells: claps: Fluency: 'x' is no number"),
        ("to: [claps, dialogpt, seq2seq_du]", "to: [claps, gpt]", "gpt is not known here"),
        ("to: [claps, dialogpt, seq2seq_du]", "to: []", "at least one row"),
        ("notes: [70, 77]", "notes: [seventy]", "'seventy' is no number of a note"),
        ("hcl_without_graph: the graph around", "hcl_without_graphs: the graph around", "hcl_without_graphs is not known here"),
        ("cvae: {BLEU-1:", "cvae: {BLEU-1: about 41", "'about 41' is no number"),
        ("cvae: {BLEU-1:", "cvae: {BLEU-1: .inf", "is no number"),
        ("cvae: {BLEU-1:", "cvae: {BLEU-1: true", "is no number"),
        ("cvae: {BLEU-1:", "cvae: {BLUE-1:", "BLUE-1 is not known here"),
        ("    cvae: {", "    cvea: {", "cvea is not known here"),
        ("  qqp:", "  quora:", "quora is not known here"),
        ("of: [hcl], to: [claps]", "of: [hlc], to: [claps]", "hlc is not known here"),
        ("of: [hcl], to: [claps]", "of: [], to: [claps]", "at least one row"),
        ("direction: above, metric: BLEU-1, task: qqp", "direction: over, metric: BLEU-1, task: qqp", "over is not known here"),
        ("percent: 2.7", "percent: -2.7", "contradicts"),
        ("percent: 2.7, ", "per cent: 2.7, ", "per cent is not known here"),
    ],
)
def test_a_mistake_is_named_with_its_line(changed, old, new, why):
    path, line = changed(old, new)
    with pytest.raises(UserError, match=why) as error:
        read(path)
    assert f"{path}:{line}:" in str(error.value)


def test_no_file_no_yaml_and_missing_parts(tmp_path):
    with pytest.raises(UserError, match=r"can't be read .*paper_claims\.yaml"):
        read(tmp_path / "none.yaml")
    (path := tmp_path / "claims.yaml").write_text("cells: {qqp: [\n")
    with pytest.raises(UserError, match=r"claims\.yaml:2: no YAML"):
        read(path)
    path.write_text("# a comment alone\n")
    with pytest.raises(UserError, match=r"claims\.yaml: empty"):
        read(path)
    path.write_text("cells:\ntables:\ncredits:\n")
    with pytest.raises(UserError, match="claims is missing"):
        read(path)
    path.write_text(SHIPPED.read_text().replace("cvae: {BLEU-1:", "cvae: {BLEU-1: 1, BLEU-1: 2", 1))
    with pytest.raises(UserError, match="a second BLEU-1"):
        read(path)


def test_the_shipped_file_is_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped() == SHIPPED
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "paper_claims.yaml").write_text("{}")
    assert shipped().resolve() == tmp_path / "experiments" / "paper_claims.yaml", "one's own goes first"


def test_only_a_task_of_ones_own_can_do_without_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert known(None, "custom") == read(SHIPPED)
    monkeypatch.setattr(claims, "__file__", str(tmp_path / "lib" / "hcl_tf" / "reporting" / "claims.py"))  # as in an installed package
    assert known(None, "custom") == Claims({}, {}, ())
    assert known(str(SHIPPED), "custom") == read(SHIPPED)
    with pytest.raises(UserError, match=r"can't be read .*start in a clone"):
        known(None, "qqp")
    with pytest.raises(UserError, match=r"mine\.yaml: can't be read \(No such file or directory\); give a file such as experiments"):
        known("mine.yaml", "custom")
