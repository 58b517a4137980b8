"""Texts in, texts out, one a line:

echo "How can I lose belly fat?" | python -m hcl_tf.generate --run_dir=runs/qqp/hcl-tiny-1
python -m hcl_tf.generate --run_dir=runs/qqp/hcl-tiny-1 --input=questions.txt --keywords="belly fat, diet" --samples=3
python -m hcl_tf.generate --run_dir=runs/qqp/hcl-tiny-1 --export=belly

The turns of a dialogue (the sentences of a story) stand in one line, separated by TABs. An empty line gives an empty line.
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, run_flags
from hcl_tf.errors import UserError

RUN_DIR = run_flags.run_dir()
CHECKPOINT = run_flags.checkpoint()
INPUT = flags.DEFINE_string("input", None, "Text file in UTF-8, one text a line. Default: standard input.")
KEYWORDS = flags.DEFINE_string(
    "keywords", None, "Keywords for every text, separated by commas, in place of TextRank's. A word that the graph lacks counts as unknown."
)
SAMPLES = flags.DEFINE_integer(
    "samples", 0, "Outputs a text, each from another z drawn from the prior, on one line, TABs between; 0: one, from the prior's mean.",
    lower_bound=0, upper_bound=1000,
)  # fmt: skip
EXPORT = flags.DEFINE_string("export", None, "Write a SavedModel folder that needs TensorFlow only, and do nothing else.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace --export if it is an exported model.")


def main() -> None:
    """Runs the command that the flags ask for."""
    run_dir = run_flags.run_folder(RUN_DIR)
    if EXPORT.value is not None:
        others = [f"--{flag.name}" for flag in (INPUT, KEYWORDS, SAMPLES) if flag.value]
        if others:
            raise UserError(f"--export takes no texts: leave out {' and '.join(others)}")
        cli.import_tensorflow()
        from hcl_tf.serving.export import export

        export(run_dir, CHECKPOINT.value, Path(EXPORT.value), OVERWRITE.value)
        return
    if OVERWRITE.value:
        raise UserError("--overwrite belongs to --export")
    cli.import_tensorflow()
    from hcl_tf.serving.generation import generate

    sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal's locale: outputs are read by programs
    generate(run_dir, CHECKPOINT.value, run_flags.optional_path(INPUT), KEYWORDS.value, SAMPLES.value)


if __name__ == "__main__":
    cli.run(main, product=True)
