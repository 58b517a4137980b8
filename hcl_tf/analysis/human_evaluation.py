"""Table 3: outputs of several systems, blinded, to annotators; their filled sheets back to means and agreement:

python -m hcl_tf.analysis.human_evaluation --runs=runs/qqp/claps-1,runs/qqp/hcl-1 --out=human/qqp
python -m hcl_tf.analysis.human_evaluation --sheets=human/qqp

With --runs, a folder of sheets and forms is made; with --sheets, the filled ones in it are read back.
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError

RUNS = flags.DEFINE_list("runs", [], "Evaluated run folders, or one folder that holds those of --rows, as hcl_tf.reproduce writes it.")
ROWS = flags.DEFINE_list(
    "rows", ["claps-1", "dialogpt-1", "seq2seq_du-1", "hcl-1"], "Run folders taken from --runs where that is a folder of them: Table 3's."
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
OURS = flags.DEFINE_string("ours", "hcl", "System that the others are compared with.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if bool(RUNS.value) == bool(SHEETS.value):
        raise UserError("either --runs, to make sheets of run folders, or --sheets, to read filled ones, is needed")
    if SHEETS.value:
        from hcl_tf.analysis.annotation_results import report

        report(Path(SHEETS.value), [Path(path) for path in FILLED.value], OURS.value)
        return
    if not OUT.value:
        raise UserError("--out is needed: the folder to make for the study")
    cli.import_tensorflow()
    from hcl_tf.analysis.annotation_folder import make

    folders = [Path(folder) for folder in RUNS.value]
    if len(folders) == 1 and not (folders[0] / "config.json").exists():
        folders = [folders[0] / row for row in ROWS.value]
    make(folders, Path(OUT.value), ITEMS.value, ANNOTATORS.value, SEED.value, KEEP_CASE.value, OVERWRITE.value)


if __name__ == "__main__":
    cli.run(main)
