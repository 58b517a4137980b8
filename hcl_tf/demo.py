"""A page that shows what keywords do: type a text, remove and add keywords, see outputs and prior move.

python -m hcl_tf.demo --run_dir=runs/qqp/hcl-tiny-1
python -m hcl_tf.demo --run_dir=runs/qqp/hcl,runs/qqp/bert_cvae --port=7861
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, run_flags
from hcl_tf.errors import UserError

RUN_DIR = flags.DEFINE_list("run_dir", [], "One or more runs, folders that hcl_tf.train wrote, separated by commas: shown side by side.")
CHECKPOINT = run_flags.checkpoint()
DATA_DIR = run_flags.data_dir()
PORT = flags.DEFINE_integer("port", 7860, "The page's port; 0: any free one.", lower_bound=0, upper_bound=65535)
HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to serve on. The default is this machine alone; the page asks nobody's name.")


def main() -> None:
    """Runs the command that the flags ask for."""
    if not RUN_DIR.value:
        raise UserError("--run_dir is needed: one or more folders that python -m hcl_tf.train wrote, separated by commas")
    from hcl_tf.serving import loopback

    with loopback.listen(HOST.value, PORT.value) as listener:  # a port in use is better found before models are loaded
        cli.import_tensorflow()
        from hcl_tf.serving import demo_server, keyword_edits

        runs = keyword_edits.load([Path(folder) for folder in RUN_DIR.value], CHECKPOINT.value, run_flags.optional_path(DATA_DIR))
        try:
            examples = runs[0].examples()
        except UserError as error:
            if DATA_DIR.value:
                raise
            examples = []  # runs answer without the data that they were trained on
            print(f"note: no example will be filled in: {error}", file=sys.stderr)
        demo_server.serve(runs, examples, listener)


if __name__ == "__main__":
    cli.run(main)
