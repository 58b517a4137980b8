"""The fields of `Settings` as flags."""

from collections.abc import Iterable

from absl import flags

from hcl_tf.errors import UserError
from hcl_tf.settings import FIELDS, PRESETS

flags.disclaim_key_flags()  # they are flags of who calls `define`, and stand in its --help

Holders = dict[str, flags.FlagHolder]


def define(values: flags.FlagValues = flags.FLAGS) -> Holders:
    """A flag for each setting but the preset; None unless given, so that presets apply."""
    return {name: _define(name, values) for name in FIELDS if name != "preset"}


def given(holders: Holders) -> dict:
    """The settings whose flags were given."""
    return {name: holder.value for name, holder in holders.items() if holder.value is not None}


def read(arguments: Iterable[str]) -> tuple[str, dict]:
    """The preset and the settings that a training with these flags would be given.

    Args:
      arguments: with flag files, if any, whose flags must be those of hcl_tf.train.

    Raises:
      UserError: there is no such flag, or a value or a file that it can't have.
    """
    values = flags.FlagValues()
    for name in ("task", "data_dir", "run_dir"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    preset = flags.DEFINE_enum("preset", None, PRESETS, "", flag_values=values)
    holders = define(values)
    try:
        values(["train", *arguments])
    except flags.Error as error:
        raise UserError(str(error)) from error
    return preset.value, given(holders)


def _define(name: str, values: flags.FlagValues) -> flags.FlagHolder:
    item = FIELDS[name]
    text = f"{item.metadata['help']} [paper: {item.default!r}]"
    if isinstance(item.default, bool):
        return flags.DEFINE_boolean(name, None, text, flag_values=values)
    if item.metadata["choices"]:
        return flags.DEFINE_enum(name, None, [choice for choice in item.metadata["choices"] if choice], text, flag_values=values)
    define_it = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[type(item.default)]
    return define_it(name, None, text, flag_values=values)
