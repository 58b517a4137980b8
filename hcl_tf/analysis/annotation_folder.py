"""The folder of a study: what goes to the annotators, what must not, and where filled sheets are put.

annotators/     annotator-1.html and .csv (the same sheet, either is filled), ..., guideline.md
filled/         empty; sheets that come back
key.json        what the labels stand for
README.md       for whoever runs the study
"""

from pathlib import Path

from hcl_tf.analysis.annotation_form import form
from hcl_tf.analysis.annotation_sheets import rows, to_csv
from hcl_tf.analysis.annotation_study import ANNOTATORS, FILLED, KEY, Study, draw
from hcl_tf.analysis.compared import EvaluatedRun, check_same_items
from hcl_tf.data.output_folder import whole_or_nothing
from hcl_tf.data.text_files import sha256
from hcl_tf.errors import UserError

TASKS = {
    "qqp": "The source is a question; an output should be another way to ask the same.",
    "douban": "The source is a conversation; an output should be its next turn.",
    "rocstories": "The source is the beginning of a story; an output should be its next sentence.",
}
OTHER_TASK = "An output should be a fitting answer to its source."
GUIDELINE = (
    "You see a source and several outputs, A, B, and so on, written for it by different programs. Which program wrote which changes from "
    "item to item. Rate every output on three scales from 1 (bad) to 3 (good). Rate on your own, without talking to the other annotators.",
    "Fluency: is it correct, natural language? 1: hard to understand, or broken. 2: understandable, with mistakes or odd wording. "
    "3: a careful person could have written it.",
    "Meaningfulness: does it make sense for this source? 1: not, or it says something else. 2: in part. 3: fully.",
    "Differential: does it say something of its own, rather than what would fit nearly any source or only repeats this one? "
    "1: generic, or a copy of the source. 2: in part. 3: specific, and in words of its own.",
    "All outputs are rated, also those that look the same: the same text gets the same scores. No text at all gets 1 on every scale. "
    "Capital letters do not count, nor do spaces before punctuation.",
)
OUR_READING = (
    "The paper names the three scales and their range, and no more that we know of. What the scores mean is our reading, that of "
    "Differential above all."
)


def make(folders: list[Path], out: Path, items: int, annotators: int, seed: int, keep_case: bool, overwrite: bool) -> Study:
    """Writes the folder of a study of evaluated runs, and returns the study.

    Raises:
      UserError: a run can't be used, the runs are not of the same examples, there are too few of either, or `out` can't be written or holds
        filled sheets.
    """
    if any((out / FILLED).glob("*")):
        raise UserError(f"--out={out}: holds filled sheets, which are never replaced; move them away first, or choose another folder")
    runs = [EvaluatedRun(folder) for folder in folders]
    check_same_items(runs)
    first, task = runs[0], runs[0].figures["task"]
    origin = {
        "task": task, "data": first.run.config["data"], "split": "test", "examples": len(first.predictions), "keep_case": keep_case,
        "systems": [_origin(run) for run in runs],
    }  # fmt: skip
    outputs = {run.name: [row["prediction"] for row in run.predictions] for run in runs}
    study = draw(outputs, first.predictions, items, annotators, seed, keep_case, origin)
    with whole_or_nothing(out, KEY, overwrite, what="a study") as folder:
        write(study, folder, [TASKS.get(task, OTHER_TASK), *GUIDELINE])
    print(f"wrote {out}: {items} items, {len(runs)} systems, {annotators} sheets; {ANNOTATORS}/ goes to the annotators, {KEY} must not")
    return study


def write(study: Study, folder: Path, guideline: list[str]) -> None:
    """Writes all files of a study into an empty folder."""
    for name in (ANNOTATORS, FILLED):
        (folder / name).mkdir()
    for annotator in range(1, len(study.orders) + 1):
        path = folder / ANNOTATORS / f"annotator-{annotator}.csv"
        path.write_bytes(to_csv(rows(study, annotator)))
        path.with_suffix(".html").write_text(form(study, annotator, [*guideline, OUR_READING], path.name), encoding="utf-8")
    text = "\n\n".join(["# Guideline", *guideline, OUR_READING])
    (folder / ANNOTATORS / "guideline.md").write_text(f"{text}\n", encoding="utf-8")
    (folder / KEY).write_bytes(study.to_bytes())
    (folder / "README.md").write_text(_readme(study), encoding="utf-8")


def _origin(run: EvaluatedRun) -> dict:
    head = run.figures
    return {
        "name": run.name, "model": head["model"], "seed": head["seed"], "preset": head["preset"], "step": head["step"],
        "predictions_sha256": sha256(run.run.path / "predictions.test.jsonl"),
    }  # fmt: skip


def _readme(study: Study) -> str:
    return f"""# A study of outputs by people (Table 3), {study.id}

{len(study.items)} test examples of {study.origin["task"]}, {len(study.systems)} systems, {len(study.orders)} annotators, seed {study.seed}.

1. Each annotator gets one sheet of `{ANNOTATORS}/`: `annotator-N.html` (opens in any browser, also without a network, also on a phone)
   or `annotator-N.csv` (any spreadsheet; scores go into the last three columns, everything else stays) with `guideline.md`, which the
   form contains.
2. `{KEY}` says which system stands behind which label. No annotator may see it or the run folders before all sheets are back.
3. Put what comes back into `{FILLED}/`, then:

       python -m hcl_tf.analysis.human_evaluation --sheets=THIS_FOLDER

   It checks every row, and writes `results/results.md` and `results.json`.

References are not shown: an output is rated for its source, and many outputs unlike the reference are good ones.
{OUR_READING}
"""
