"""Writes the folder of a study.

annotators/     goes to the annotators: annotator-1.html and .csv (the same sheet, either is filled), ..., guideline.md
filled/         empty; filled sheets are put here
key.json        which system each label stands for; must not go to the annotators
README.md       for whoever runs the study
"""

from pathlib import Path

from hcl_tf.studies.human_evaluation.form import form
from hcl_tf.studies.human_evaluation.sheets import rows, to_csv
from hcl_tf.studies.human_evaluation.study import FILLED_FOLDER, KEY, SHEETS_FOLDER, Study

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


def write(study: Study, folder: Path) -> None:
    """Writes all files of a study into an empty folder."""
    guideline = [TASKS.get(study.origin["task"], OTHER_TASK), *GUIDELINE, OUR_READING]
    for name in (SHEETS_FOLDER, FILLED_FOLDER):
        (folder / name).mkdir()
    for annotator in range(1, len(study.orders) + 1):
        path = folder / SHEETS_FOLDER / f"annotator-{annotator}.csv"
        path.write_bytes(to_csv(rows(study, annotator)))
        path.with_suffix(".html").write_text(form(study, annotator, guideline, path.name), encoding="utf-8")
    text = "\n\n".join(["# Guideline", *guideline])
    (folder / SHEETS_FOLDER / "guideline.md").write_text(f"{text}\n", encoding="utf-8")
    (folder / KEY).write_bytes(study.to_bytes())
    (folder / "README.md").write_text(_readme(study), encoding="utf-8")


def _readme(study: Study) -> str:
    return f"""# A study of outputs by people (Table 3), {study.id}

{len(study.items)} test examples of {study.origin["task"]}, {len(study.systems)} systems, {len(study.orders)} annotators, seed {study.seed}.

1. Each annotator gets one sheet of `{SHEETS_FOLDER}/`: `annotator-N.html` (opens in any browser, also without a network, also on a phone)
   or `annotator-N.csv` (any spreadsheet; scores go into the last three columns, everything else stays) with `guideline.md`, which the
   form contains.
2. `{KEY}` says which system stands behind which label. No annotator may see it or the run folders before all sheets are back.
3. Put what comes back into `{FILLED_FOLDER}/`, then:

       python -m hcl_tf.studies.human_evaluation --sheets=THIS_FOLDER

   It checks every row, and writes `results/results.md` and `results.json`.
4. `python -m hcl_tf.report --task={study.origin["task"]} --human=THIS_FOLDER` shows them beside the paper's Table 3.

References are not shown: an output is rated for its source, and many outputs unlike the reference are good ones.
{OUR_READING}
"""
