"""Evaluated runs in, one page out:

python -m hcl_tf.evidence --runs=runs/qqp/hcl,runs/qqp/bert_cvae --out=experiments/reports/qqp-small
"""

from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError

RUNS = flags.DEFINE_list("runs", [], "Evaluated run folders, the first of which is what the page is about.")
OUT = flags.DEFINE_string("out", None, "Folder to write the page to.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace --out if it holds such a page.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not RUNS.value or not OUT.value:
        raise UserError("--runs (one or more run folders, separated by commas) and --out are needed")
    cli.import_tensorflow()
    from hcl_tf.analysis.evidence import write_page

    write_page([Path(folder) for folder in RUNS.value], Path(OUT.value), OVERWRITE.value)


if __name__ == "__main__":
    cli.run(main)
