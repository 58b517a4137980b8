"""Texts of prepared data in, weights out, for languages and domains that no published weights fit:

python -m hcl_tf.pretrain --objective=mlm --data_dir=tfrecords/qqp --out=weights/qqp-bert       # for --encoder=weights/qqp-bert
python -m hcl_tf.pretrain --objective=span --data_dir=tfrecords/qqp --out=weights/qqp-t5        # for --pretrained=weights/qqp-t5
python -m hcl_tf.pretrain --objective=causal --data_dir=tfrecords/qqp --out=weights/qqp-gpt2    # for --pretrained=weights/qqp-gpt2
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError
from hcl_tf.models import setting_flags
from hcl_tf.pretraining import settings

DATA_DIR = flags.DEFINE_list("data_dir", [], "Prepared folders, whose training splits are read; one vocabulary for all.")
EXCLUDE = flags.DEFINE_list("exclude", [], "Prepared folders; texts of their held-out splits, and their duplicates, are left out.")
OUT = flags.DEFINE_string("out", None, "Where the weights go, a folder in the ordinary published layout.")
RUN_DIR = flags.DEFINE_string("run_dir", None, "Where the training is kept, and taken up again. Default: runs/pretraining/<name of --out>.")
EXPORT = flags.DEFINE_string("export", None, "Train nothing, but add the pretraining to this bundle, for machines without TensorFlow.")
SETTINGS = {name: setting_flags.define_one(item, "settings: pretraining") for name, item in settings.flags_of().items()}
for each in SETTINGS:
    flags.declare_key_flag(each)


def main() -> None:
    """Runs the command that the flags ask for."""
    if not OUT.value:
        raise UserError("--out is needed: the folder that the weights go to")
    if not DATA_DIR.value:
        raise UserError("--data_dir is needed: one or more folders made by python -m hcl_tf.prepare, joined by commas")
    given = setting_flags.given(SETTINGS)
    resolved = settings.resolve(given | {"jit_compile": "true"} if EXPORT.value else given)
    folders, exclude = ([Path(name) for name in flag.value] for flag in (DATA_DIR, EXCLUDE))
    cli.import_tensorflow()
    if EXPORT.value:
        from hcl_tf.portable import pretraining
        from hcl_tf.portable.bundle import Bundle

        pretraining.export(folders, exclude, Bundle(Path(EXPORT.value), Path(OUT.value).name), resolved)
        return
    from hcl_tf.pretraining.launch import launch

    why = launch(folders, exclude, Path(OUT.value), Path(RUN_DIR.value) if RUN_DIR.value else None, resolved, sys.argv)
    cli.leave_by_signal(why)


if __name__ == "__main__":
    cli.run(main)
