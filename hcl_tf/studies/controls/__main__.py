"""Trains on data whose answer is known beforehand, and says PASS or FAIL by a stated rule:

python -m hcl_tf.studies.controls --control=planted_word --data_dir=tfrecords/qqp --out=controls
python -m hcl_tf.studies.controls --control=disagreement --out=controls --weight_ins=3
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli, run_flags
from hcl_tf.errors import UserError
from hcl_tf.models import registry, setting_flags
from hcl_tf.settings import PRESETS

ON_QUESTIONS, MADE_UP = ("planted_word", "masked_keywords"), ("disagreement", "impostors")

CONTROL = flags.DEFINE_enum("control", None, [*ON_QUESTIONS, *MADE_UP], "Which control; the first two are on real questions.")
DATA_DIR = flags.DEFINE_string("data_dir", None, f"Prepared folder of real questions, for {' and '.join(ON_QUESTIONS)}.")
OUT = flags.DEFINE_string("out", None, "Folder for results: <control>.json, and README.md about all controls there.")
RUNS = flags.DEFINE_string("runs", None, "Keep runs and their data below this folder and go on with them there. Default: they are removed.")
PRESET = flags.DEFINE_enum("preset", "tiny", PRESETS, "Settings of all flags that neither the control nor the command line gives.")
SETTINGS = setting_flags.define()


def check() -> None:
    """Raises `UserError` for flags that can't be, before anything is imported or made."""
    control = CONTROL.value
    if not control:
        raise UserError(f"--control is needed: one of {', '.join([*ON_QUESTIONS, *MADE_UP])}")
    if not OUT.value:
        raise UserError("--out is needed: the folder for the results")
    if Path(OUT.value).exists() and not Path(OUT.value).is_dir():
        raise UserError(f"--out={OUT.value}: is a file; give a folder")
    if control in ON_QUESTIONS and not DATA_DIR.value:
        raise UserError(f"--control={control} needs --data_dir, a folder of questions made by python -m hcl_tf.prepare --task=qqp")
    if control in MADE_UP and DATA_DIR.value:
        raise UserError(f"--data_dir={DATA_DIR.value}: --control={control} makes its own data; drop the flag")
    if "model" in setting_flags.given(SETTINGS):
        raise UserError(f"--model={SETTINGS['model'].value}: a control trains its own rows; drop the flag")
    registry.resolve(PRESET.value, setting_flags.given(SETTINGS))


def main() -> None:
    """Runs the command that the flags ask for."""
    check()
    cli.import_tensorflow()
    from hcl_tf.studies.controls.study import ControlRequest, control

    found = control(
        ControlRequest(
            CONTROL.value, run_flags.optional_path(DATA_DIR), Path(OUT.value), PRESET.value, setting_flags.given(SETTINGS),
            run_flags.optional_path(RUNS), ["python", "-m", "hcl_tf.studies.controls", *sys.argv[1:]],
        )
    )  # fmt: skip
    for one in found["checks"]:
        print(f"{'PASS' if one['passed'] else 'FAIL'}  {one['what']}: {one['found']} ({one['rule']}; {one['expected']})", flush=True)
    print(f"wrote {OUT.value}/{CONTROL.value}.json and {OUT.value}/README.md", flush=True)


if __name__ == "__main__":
    cli.run(main)
