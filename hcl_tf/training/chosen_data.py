"""Finds the prepared data that a training takes, and makes the generated sample where there are none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcl_tf import config
from hcl_tf.data.corpora import generated
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.tfrecords import MANIFEST
from hcl_tf.data.tokenizers.wordpiece import LEARN
from hcl_tf.errors import UserError
from hcl_tf.files.checksums import sha256
from hcl_tf.models import registry
from hcl_tf.settings import Settings
from hcl_tf.training.assembly import default_data_dir

# What a training on the generated sample takes where neither --preset nor the setting's own flag is given; the rest is tiny's. Measured in
# BUILD_NOTES 136. Steps a task: questions and dialogue vary more than stories.
ON_GENERATED = {"encoder": "random:1x128", "learning_rate": 2e-3, "validate_every": 200, "patience": 0}
STEPS = {"qqp": 1200, "douban": 900, "rocstories": 600}


def chosen_data(task: str, folder: Path | None) -> PreparedData:
    """Opens prepared data, and says so where a program wrote their texts.

    Args:
      folder: None: tfrecords/<task>, where the generated sample is made if nothing is there.

    Raises:
      UserError: there is no prepared data, it is damaged, or it is another task's.
    """
    place = folder or default_data_dir(task)
    if folder is None and not (place / MANIFEST).is_file():
        _generate(task, place)
    data = PreparedData(place)
    if data.manifest["task"]["name"] != task:
        raise UserError(f"--data_dir={place}: prepared for {data.manifest['task']['name']}, not for --task={task}")
    if made_by := data.manifest.get(generated.GENERATED):
        count = data.manifest["splits"]["train"]["examples"]
        print(f"data: {place}, {count:,} GENERATED training examples (grammar {made_by['grammar']}, seed {made_by['seed']})", flush=True)
    return data


def settings_on(data: PreparedData, preset: str | None, given: Mapping[str, Any]) -> Settings:
    """Resolves the settings of a training (`registry.resolve`).

    Args:
      preset: None: that of real data is "paper", that of both samples "tiny", with `ON_GENERATED` on the generated one.
      given: the settings that flags gave.
    """
    if preset or not _is_sample(data):
        return registry.resolve(preset or "paper", given)
    model = given.get("model", registry.OURS)
    fixed = registry.entry(model).fixed
    suited = registry.used(model, _on_generated(data, given)) if generated.GENERATED in data.manifest else {}
    return registry.resolve("tiny", {name: value for name, value in suited.items() if name not in fixed} | dict(given))


def _on_generated(data: PreparedData, given: Mapping[str, Any]) -> dict[str, Any]:
    """What suits the generated sample of a task. Rates fall to 0 over the second half of its steps, unless a flag gives other steps."""
    steps = STEPS[data.manifest["task"]["name"]]
    falling = {} if "max_steps" in given else {"cooldown_steps": steps // 2}
    return ON_GENERATED | {"max_steps": steps} | falling


def _is_sample(data: PreparedData) -> bool:
    """Says whether data are one of the task's samples, the generated or the hand-written one."""
    task = data.manifest["task"]["name"]
    written = task in config.TASKS and sha256(config.TASKS[task].sample) in data.manifest["raw_files"].values()
    return written or generated.GENERATED in data.manifest


def _generate(task: str, folder: Path) -> None:
    """Writes and prepares the generated sample of a task."""
    print(
        f"no prepared data in {folder}: generating a sample of some 3,000 examples "
        f"(for some 430 hand-written ones: python -m hcl_tf.prepare --task={task})",
        flush=True,
    )
    from hcl_tf.data import preparation  # spaCy takes seconds to import, and prepared data needs none of it

    definition = config.TASKS[task]
    raw = generated.write(task, generated.folder_beside(folder))
    settings = preparation.PreparationSettings(negatives=definition.negatives, vocab=LEARN)
    preparation.prepare(definition, raw, folder, settings, workers=1, overwrite=False, made_by=generated.about(task))
