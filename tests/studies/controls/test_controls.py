"""What controls write and refuse; the statistics of the masked keywords; and, slow, the trainings themselves."""

import math
import subprocess
import sys

import numpy as np
import pytest
from separated_bert import separated_bert

from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.files.json_text import from_json
from hcl_tf.studies.controls import masked_keywords, planted_word, study
from hcl_tf.studies.controls.findings import Findings
from hcl_tf.studies.controls.page import page
from hcl_tf.studies.controls.rows import Bench, Row


def entry(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high, "examples": 9}


def planted(**intervals: tuple[float, float, float]) -> Findings:
    """Findings of a planted word with these rows."""
    found = Findings("planted_word", "About it.", {"train": 7}, {name: {"word": entry(*each)} for name, each in intervals.items()})
    planted_word.judge(found, 64)
    return found


def test_rules_of_the_planted_word():
    found = planted(**{"without u": (4.2, 4.1, 4.3), "slot": (0.1, 0.0, 0.2), "bert_cvae": (0.9, 0.8, 1.1), "hcl": (0.5, 0.4, 0.6)})
    assert [check.passed for check in found.checks] == [True, True, False, True]
    assert not found.passed
    assert not planted(**{"without u": (4.0, 3.9, math.log(64) - 0.01)}).passed


def test_the_share_that_comes_back_and_its_interval():
    random = np.random.default_rng(0)
    a = random.normal(30, 5, 400)
    b, c = a + random.normal(4, 1, 400), a + random.normal(3, 1, 400)
    value, low, high = masked_keywords.returned(a, b, c)
    assert value == pytest.approx((b.mean() - c.mean()) / (b.mean() - a.mean()))
    draws = random.integers(400, size=(2000, 400))
    wanted = np.percentile((b[draws].mean(1) - c[draws].mean(1)) / (b[draws].mean(1) - a[draws].mean(1)), [2.5, 97.5])
    assert (low, high) == pytest.approx(wanted, abs=0.01)


def test_the_page_says_what_was_expected_what_was_found_and_the_verdict():
    one = planted(**{"without u": (4.2, 4.1, 4.3), "slot": (1.5, 1.4, 1.6)})
    one.flags = {"slot": {"decoder_keyword": True}}
    text = page({"planted_word": one.to_json() | {"settings": {"preset": "tiny"}, "seconds": 12.3, "command": "python -m x"}})
    assert "| Planted word | FAIL | slot 1.500 [1.400, 1.600] |" in text
    assert "| without u | at least ln 64 = 4.16 | the interval reaches 4.16 | 4.200 [4.100, 4.300] | PASS |" in text
    assert "--decoder\\_keyword=True" in text
    assert "About it." in text
    assert "12 seconds" in text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--control is needed"),
        (["--control=disagreement"], "--out is needed"),
        (["--control=planted_word", "--out=OUT"], "needs --data_dir"),
        (["--control=impostors", "--out=OUT", "--data_dir=x"], "makes its own data; drop the flag"),
        (["--control=impostors", "--out=OUT", "--model=t5"], "trains its own rows; drop the flag"),
        (["--control=impostors", "--out=OUT", "--latent_size=0"], "--latent_size=0: at least 1"),
        pytest.param(["--control=planted_word", "--out=OUT", "--data_dir=OUT"], "not a prepared folder", marks=pytest.mark.slow),
    ],
)
def test_bad_flags_are_refused_with_a_remedy_and_nothing_is_made(flags, named, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hcl_tf.studies.controls", *(flag.replace("OUT", str(out)) for flag in flags)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert named in found.stderr
    assert "Traceback" not in found.stderr
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["disagreement", "impostors"])
def test_a_made_up_control_passes(name, tmp_path):
    given = {"disagreement": {"learning_rate": 1.5e-3, "max_steps": 2500}}  # at 3e-3 batches of 100 move P(b) by about what is allowed
    found = study.control(study.ControlRequest(name, None, tmp_path, "tiny", given.get(name, {})))
    assert found["passed"], found["checks"]
    assert from_json((tmp_path / f"{name}.json").read_bytes())["checks"] == found["checks"]
    assert "PASS" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_planted_word_is_lost_without_the_keyword_state_and_comes_through_beside_z(qqp_folder, tmp_path):
    data = PreparedData(qqp_folder)
    encoder = separated_bert(tmp_path / "bert", data.tokenizer)
    given = {"encoder": str(encoder), "freeze_encoder": True, "learning_rate": 4e-3, "max_steps": 1000}
    # A slot of the memory is found by luck in a model so small: in 2 of 6 runs. What is added to every input needs no finding.
    rows = [planted_word.ROWS[0], Row("slot", {"decoder_keyword": True, "decoder_keyword_to": "inputs"})]
    found = planted_word.run(Bench(tmp_path, "tiny", planted_word.USUAL, given), data, rows)
    assert [check.what for check in found.checks] == ["without u", "slot"]
    assert found.passed, found.checks


def test_a_kept_command_names_no_place_of_one_machine():
    words = ["python", "--out=/home/me/reports", "--runs=runs/here", "--control=impostors", "--freeze_encoder"]
    assert study.portable(words) == "python --out=reports --runs=here --control=impostors --freeze_encoder"
