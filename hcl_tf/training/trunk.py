"""The weights of another run that a run begins with, and how it keeps them: several runs may branch from one trunk.

What a run took is kept in it as a checkpoint of its own, `beginning`, so it goes on, and can be begun again, without the trunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hcl_tf.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    import tensorflow as tf

    from hcl_tf.models.base import System

BEGINNING = "beginning"


@dataclass(frozen=True)
class Trunk:
    """What a run begins with.

    Attributes:
      arrays: path -> value of each variable that is taken.
      record: for config.json: run, checkpoint, step and SHA-256 of what they come from, and which variables on either side are left.
    """

    arrays: Mapping[str, np.ndarray]
    record: dict[str, Any]

    def put(self, system: "System", variables: Mapping[str, "tf.Variable"]) -> list[str]:
        """Gives the variables of a system that was just made their values, and has the system complete what follows from them.

        Args:
          variables: path -> variable, of the system.

        Returns:
          Lines that say what was completed.
        """
        for path, value in self.arrays.items():
            variables[path].assign(value)
        taken = {id(variables[path]) for path in self.arrays}
        return system.begin_from(lambda variable: id(variable) in taken)

    def keep(self, saved: Checkpoints) -> None:
        """Stores it among a run's checkpoints, unless it is there."""
        if not saved.has(BEGINNING):
            saved.save_best(BEGINNING, 0, self.arrays, self.record)


def kept(saved: Checkpoints) -> Trunk | None:
    """Reads what a run began with from its checkpoints; None: it keeps none. Raises `UserError` where it is damaged."""
    if not saved.has(BEGINNING):
        return None
    found = saved.read(BEGINNING)
    return Trunk(found.arrays, found.state)
