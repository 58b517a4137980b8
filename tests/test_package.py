"""What `import hcl_tf` offers, and what it does not import."""

import subprocess
import sys

import pytest

import hcl_tf

HEAVY = ("tensorflow", "tf_keras", "transformers", "matplotlib")


def imported_by(program: str) -> list[str]:
    """Those of `HEAVY` that a process of its own has imported after a program."""
    program += f"\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


@pytest.mark.slow
def test_the_package_and_its_scores_need_no_tensorflow():
    program = """
import hcl_tf
assert hcl_tf.load.__doc__ and hcl_tf.__version__
found = hcl_tf.metrics.bleu.score(["how can i lose weight"], ["how do i lose weight"])
assert found["BLEU-2"]["signature"].startswith("BLEU-2|"), found
from hcl_tf import metrics
assert metrics.diversity.distinct([["a", "a"]], 1) == 0.5
"""
    assert imported_by(program) == []


def test_a_module_of_scores_is_there_by_name_and_another_is_not():
    assert {"bleu", "scores", "significance"} <= set(dir(hcl_tf.metrics))
    with pytest.raises(AttributeError, match=r"no attribute 'blue'; there are agreement, bleu"):
        _ = hcl_tf.metrics.blue
    with pytest.raises(AttributeError, match="no attribute 'train_everything'"):
        _ = hcl_tf.train_everything


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(hcl_tf.UserError, match=r"nowhere: no such folder; give one that hcl_tf\.train wrote"):
        hcl_tf.load(tmp_path / "nowhere")
    with pytest.raises(hcl_tf.UserError, match=f"^{tmp_path}: not a run \\(config.json is missing\\)"):
        hcl_tf.load(tmp_path)
