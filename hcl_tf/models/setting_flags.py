"""The settings of all systems as flags: one flag a setting, grouped in --helpfull by the systems that take it."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from hcl_tf import config
from hcl_tf.errors import UserError, where_experiments_are
from hcl_tf.models import registry
from hcl_tf.settings import PRESETS, RENAMED, Settings

flags.disclaim_key_flags()  # they are key flags of who calls `define`, and stand in its --help

Holders = dict[str, flags.FlagHolder]


def all_settings() -> dict[str, dataclasses.Field]:
    """Every setting of any system but the preset, those that most systems share first."""
    found = {item.name: item for entry in registry.SYSTEMS.values() for item in dataclasses.fields(entry.settings) if item.name != "preset"}
    return dict(sorted(found.items(), key=lambda pair: -len(registry.systems_with(pair[0]))))


def define(values: flags.FlagValues = flags.FLAGS) -> Holders:
    """A flag for each setting, None unless given, so that presets apply; a renamed setting keeps its former name beside the new one."""
    holders = {name: define_one(item, _heading(name), values) for name, item in all_settings().items()}
    for former, name in RENAMED.items():
        flags.DEFINE_alias(former, name, values, module_name=_heading(name))
    for name in holders:
        flags.declare_key_flag(name, values)
    return holders


def given(holders: Holders) -> dict:
    """The settings whose flags were given."""
    return {name: holder.value for name, holder in holders.items() if holder.value is not None}


@dataclass(frozen=True)
class TrainingFlags:
    """The flags of a training, which its export takes too."""

    task: flags.FlagHolder
    data_dir: flags.FlagHolder
    run_dir: flags.FlagHolder
    row: flags.FlagHolder
    preset: flags.FlagHolder
    settings: Holders

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given."""
        return given(self.settings)

    @property
    def data_folder(self) -> Path | None:
        """`--data_dir`; None: the task's own."""
        return Path(self.data_dir.value) if self.data_dir.value else None

    def check(self) -> None:
        """Raises `UserError` for flags that can't be, before anything is imported or made."""
        if not self.task.value:
            raise UserError("--task is needed: one of " + ", ".join([*config.TASKS, config.CUSTOM]))
        if self.task.value == config.CUSTOM and not self.data_dir.value:
            raise UserError(f"--task={config.CUSTOM} needs --data_dir, a folder made by python -m hcl_tf.prepare")
        registry.resolve(self.preset.value or "tiny", self.given)


def define_training(values: flags.FlagValues = flags.FLAGS) -> TrainingFlags:
    """What to train on, where to keep it, and a flag for each setting."""
    rest = {"flag_values": values}
    return TrainingFlags(
        flags.DEFINE_enum("task", None, [*config.TASKS, config.CUSTOM], "What to train on.", **rest),
        flags.DEFINE_string(
            "data_dir", None, "Prepared folder. Default: tfrecords/<task>, where the generated sample is made if it is missing.", **rest
        ),
        flags.DEFINE_string(
            "run_dir", None, "Where the run is kept, and taken up again. Default: runs/<task>/<what distinguishes it>.", **rest
        ),
        flags.DEFINE_string(
            "row",
            None,
            "The table row that the run belongs to. Default: the first --flagfile's name, else what the settings say.",
            **rest,
        ),
        flags.DEFINE_enum(
            "preset", None, PRESETS, "Settings of all flags not given. Default: paper; on a sample tiny (training/chosen_data.py).", **rest
        ),
        define(values),
    )


def read(arguments: Iterable[str]) -> TrainingFlags:
    """The flags of a training from its words.

    Args:
      arguments: with flag files, if any, whose flags must be those of hcl_tf.train.

    Raises:
      UserError: there is no such flag, or a value or a file that it can't have.
    """
    values = flags.FlagValues()
    found = define_training(values)
    try:
        values(["train", *arguments])
    except flags.CantOpenFlagFileError as error:
        path = error.__context__.filename
        raise UserError(f"{path}: no such flag file{where_experiments_are(path)}") from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    return found


def define_one(item: dataclasses.Field, heading: str, values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """A flag for one setting, None unless given; --helpfull shows it under `heading`."""
    data, kind = item.metadata, type(item.default)
    rest = {"flag_values": values, "module_name": heading}
    text = f"{'[P] ' if data['stated'] else ''}{data['help']} {_defaults(data['presets'], data['unit'])}"
    if kind is bool:
        return flags.DEFINE_boolean(item.name, None, text, **rest)
    if data["choices"]:
        return flags.DEFINE_enum(item.name, None, [choice for choice in data["choices"] if choice], text, **rest)
    define_it = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[kind]
    return define_it(item.name, None, text, **rest)


def _defaults(presets: dict, unit: str) -> str:
    """`[paper 6, small 4, tiny 2 blocks]`, or one value where all presets have it."""
    unit = f" {unit}" if unit else ""
    values = {preset: value if value != "" else "none" for preset, value in presets.items()}
    if len(set(map(str, values.values()))) == 1:
        return f"[{values['paper']}{unit}]"
    return "[" + ", ".join(f"{preset} {value}" for preset, value in values.items()) + f"{unit}]"


def added_by(name: str) -> type[Settings]:
    """Returns the class that adds a setting to the systems that take it."""
    kind = registry.SYSTEMS[registry.systems_with(name)[0]].settings
    return [one for one in kind.__mro__ if dataclasses.is_dataclass(one) and name in one.__annotations__][-1]


def takers(name: str, quote: str = "") -> str:
    """Returns the systems that take a setting, in words; `quote`: what stands before and behind each name."""
    systems = registry.systems_with(name)
    return "every system" if len(systems) == len(registry.SYSTEMS) else ", ".join(f"{quote}{system}{quote}" for system in systems)


def _heading(name: str) -> str:
    """What --helpfull says above a setting: its group, and the systems that take it."""
    return f"settings: {added_by(name).group} ({takers(name)})"
