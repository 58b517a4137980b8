"""What docs/python.md and its notebook show runs as it stands there."""

import os
import re
from pathlib import Path

import pytest

import hcl_tf

ROOT = Path(hcl_tf.__file__).parents[1]
PAGE, NOTEBOOK = ROOT / "docs" / "python.md", ROOT / "docs" / "notebooks" / "python.ipynb"


def linked(folder: Path, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to(folder, target_is_directory=True)


@pytest.mark.slow
def test_the_pages_examples_run_one_after_the_other(trained_run, exported_run, tmp_path, monkeypatch):
    linked(trained_run, tmp_path / "runs" / "qqp" / "tiny")
    linked(exported_run, tmp_path / "saved" / "qqp")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["found"]["BLEU-2"]["value"] > 0
    assert names["moved"].mean.shape == names["own"].deviation.shape


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[dev]' brings it")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.id: [output for output in cell.outputs if output.output_type != "stream"] for cell in notebook.cells if "outputs" in cell}
    said = "".join(output.get("data", {}).get("text/plain", "") for outputs in shown.values() for output in outputs)
    assert "<hcl of qqp, best_loss at step" in said
    assert "BLEU-2|level:sentence" in said
    assert any("image/png" in output.get("data", {}) for outputs in shown.values() for output in outputs)
