"""Makes blinded sheets with the outputs of several systems for annotators, and reads means and agreement from filled ones (Table 3):

python -m hcl_tf.studies.human_evaluation --runs=runs/qqp/claps-1,runs/qqp/hcl-1 --out=human/qqp
python -m hcl_tf.studies.human_evaluation --sheets=human/qqp

With --runs, a folder of sheets and forms is made; with --sheets, the filled ones in it are read back.
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.files.whole_folder import whole_or_nothing
from hcl_tf.models import registry
from hcl_tf.studies.human_evaluation.folder import write
from hcl_tf.studies.human_evaluation.results import report
from hcl_tf.studies.human_evaluation.study import FILLED_FOLDER, KEY, SHEETS_FOLDER, draw

ORIGIN = ("model", "seed", "preset", "step")  # values of a run that the key keeps

RUNS = flags.DEFINE_list("runs", [], "Evaluated run folders, or one folder that holds those of --rows, as hcl_tf.reproduce writes it.")
ROWS = flags.DEFINE_list(
    "rows", [f"{system}-1" for system in registry.RATED], "Run folders taken from --runs where that is a folder of them: Table 3's."
)
OUT = flags.DEFINE_string("out", None, "Folder to make for the study.")
ITEMS = flags.DEFINE_integer("items", 100, "Test examples, drawn by --seed.", lower_bound=1)
ANNOTATORS = flags.DEFINE_integer("annotators", 3, "A sheet for each is made.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 1, "Draws the examples, what the labels stand for and the order of each sheet.", lower_bound=0)
KEEP_CASE = flags.DEFINE_boolean(
    "keep_case", False, "Show outputs with their capitals. Default: in lower case, as some systems write no other."
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace --out if it holds a study into which no filled sheet was put.")
SHEETS = flags.DEFINE_string("sheets", None, "Folder of a study whose filled sheets are to be read.")
FILLED = flags.DEFINE_list("filled", [], "The filled sheets. Default: all of <sheets>/filled/.")
OURS = flags.DEFINE_string("ours", registry.OURS, "System that the others are compared with.")


def make(folders: list[Path], out: Path, items: int, annotators: int, seed: int, keep_case: bool, overwrite: bool) -> None:
    """Writes the folder of a study of evaluated runs.

    Raises:
      UserError: a run can't be used, the runs are not of the same examples, there are too few of either, or `out` can't be written
        or holds filled sheets.
    """
    cli.import_tensorflow()
    from hcl_tf.evaluation.evaluated_run import EvaluatedRun, check_same_items

    if any((out / FILLED_FOLDER).glob("*")):
        raise UserError(f"--out={out}: holds filled sheets, which are never replaced; move them away first, or choose another folder")
    runs = [EvaluatedRun(folder) for folder in folders]
    check_same_items(runs)
    systems = [
        {**{k: run.diagnostics[k] for k in ORIGIN}, "name": run.name, "predictions_sha256": sha256(run.run.path / "predictions.test.jsonl")}
        for run in runs
    ]
    examples = runs[0].predictions
    origin = {**{k: runs[0].diagnostics[k] for k in ("task", "data", "split")}, "examples": len(examples), "keep_case": keep_case}
    outputs = {run.name: [row["prediction"] for row in run.predictions] for run in runs}
    study = draw(outputs, examples, items, annotators, seed, keep_case, {**origin, "systems": systems})
    with whole_or_nothing(out, KEY, overwrite, what="a study") as folder:
        write(study, folder)
    print(f"wrote {out}: {items} items, {len(runs)} systems, {annotators} sheets; {SHEETS_FOLDER}/ goes to the annotators, {KEY} must not")


def main() -> None:
    """Runs the command that the flags ask for."""
    if bool(RUNS.value) == bool(SHEETS.value):
        raise UserError("either --runs, to make sheets of run folders, or --sheets, to read filled ones, is needed")
    if SHEETS.value:
        report(Path(SHEETS.value), [Path(path) for path in FILLED.value], OURS.value)
        return
    if not OUT.value:
        raise UserError("--out is needed: the folder to make for the study")
    folders = [Path(folder) for folder in RUNS.value]
    if len(folders) == 1 and not (folders[0] / "config.json").exists():
        folders = [folders[0] / row for row in ROWS.value]
    make(folders, Path(OUT.value), ITEMS.value, ANNOTATORS.value, SEED.value, KEEP_CASE.value, OVERWRITE.value)


if __name__ == "__main__":
    cli.run(main)
