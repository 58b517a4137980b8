"""Trials of a system's settings, each a training. What is tried of a setting stands beside it, in settings.py and models/settings/.

python -m hcl_tf.tune --task=qqp --data_dir=tfrecords/qqp --preset=small --model=hcl --max_steps=1000 --trials=12 --study=runs/tuning/hcl
python -m hcl_tf.train --task=qqp --data_dir=tfrecords/qqp --preset=small --model=hcl --flagfile=runs/tuning/hcl/best.flags

All other flags are those of hcl_tf.train and the same in every trial. The same command goes on with a study that was interrupted.
"""

import sys
from pathlib import Path

from absl import flags

from hcl_tf import cli
from hcl_tf.errors import UserError
from hcl_tf.models import registry, setting_flags
from hcl_tf.setting_fields import Tried
from hcl_tf.settings import Settings
from hcl_tf.training.child import pass_sigterm_on

FLAGS = setting_flags.define_training()
STUDY = flags.DEFINE_string("study", None, "Where the trials are kept, a new folder or one of the same study.")
SAMPLER = flags.DEFINE_enum(
    "sampler", "tpe", ["tpe", "random"],
    "How further trials are chosen: tpe, by what earlier ones gave, or random, so that two systems that have the same settings to try "
    "try the same values with the same --seed.",
)  # fmt: skip
TRY_GIVEN = flags.DEFINE_list(
    "try_given", [], "Settings that are tried although a flag gives them, as where a flag file has what an earlier study chose."
)
TRIALS = flags.DEFINE_integer("trials", 12, "Trainings in all; the first has the settings as they are.", lower_bound=2)


def main() -> None:
    """Runs the command that the flags ask for."""
    if not STUDY.value:
        raise UserError("--study is needed: the folder that the trials are kept in")
    for flag in (FLAGS.run_dir, FLAGS.row):
        if flag.value:
            raise UserError(f"--{flag.name}: each trial has its own; drop the flag")
    FLAGS.check()
    preset, given = FLAGS.preset.value or "paper", {name: value for name, value in FLAGS.given.items() if name not in TRY_GIVEN.value}
    settings = registry.resolve(preset, given)
    left = {*given, *registry.entry(settings.model).fixed}
    space = _space(settings, left)
    if unknown := [name for name in TRY_GIVEN.value if name not in space]:
        raise UserError(f"--try_given={unknown[0]}: nothing is tried of it with --model={settings.model}; drop it")
    cli.import_tensorflow()
    from hcl_tf.training.launch import settle
    from hcl_tf.tuning.study import Study, smallest, train

    data_dir = FLAGS.data_dir.value
    folder = Path(data_dir) if data_dir else None
    _, settings, begun = settle(FLAGS.task.value, folder, preset, given)  # what they come to is the first trial
    space = _space(settings, left, settings.weights(begun.note))
    kept = [f"--task={FLAGS.task.value}", f"--preset={preset}", *(f"--{name}={value}" for name, value in sorted(given.items()))]
    kept += [f"--data_dir={data_dir}"] if data_dir else []
    loss = registry.class_of(settings.model).output_nll
    start = {name: getattr(settings, name) for name in space}
    study = Study(
        Path(STUDY.value), space, start, " ".join(kept), settings.seed, lambda run, tried: train(run, [*kept, *tried]),
        lambda run: smallest(run, loss), SAMPLER.value,
    )  # fmt: skip
    pass_sigterm_on()
    if code := study.run(TRIALS.value):
        sys.exit(code)


def _space(settings: Settings, left: set[str], weights: str | None = None) -> dict[str, Tried]:
    """Returns what is tried, as `Settings.search_space` says. Raises `UserError` where that is nothing."""
    space = settings.search_space(left, weights)
    if not space:
        raise UserError(
            f"--model={settings.model}: every setting that would be tried was given; drop one of the flags, or name it in --try_given"
        )
    return space


if __name__ == "__main__":
    cli.run(main)
