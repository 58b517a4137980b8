"""What a study of outputs by people found (Table 3), read from the file that `hcl_tf.studies.human_evaluation` wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcl_tf.errors import UserError
from hcl_tf.files.json_text import from_json
from hcl_tf.metrics.agreement import Agreement
from hcl_tf.studies.human_evaluation.results import RESULTS
from hcl_tf.studies.human_evaluation.study import SCALES


@dataclass(frozen=True)
class Ratings:
    """A study's results.

    Attributes:
      path: the file. found: its content (`studies.human_evaluation.results.summarise`).
    """

    path: Path
    found: dict[str, Any]

    @property
    def systems(self) -> list[str]:
        """In the order in which the study was given them."""
        return list(self.found["systems"])

    @property
    def origin(self) -> dict[str, Any]:
        """What was rated: task, data, and of each system its name, preset, seed and step."""
        return self.found["origin"]

    def mean(self, system: str, scale: str) -> dict[str, float] | None:
        """Value, low and high; None where the system was not rated."""
        return self.found["systems"][system]["means"][scale] if system in self.found["systems"] else None

    def p(self, ours: str, system: str, scale: str) -> float | None:
        """Of `ours` against a system, two-sided, paired over items; None where the study compared with another system."""
        differences = self.found["systems"].get(system, {"ours_minus_it": {}})["ours_minus_it"]
        return differences[scale]["p"] if self.found["ours"] == ours and scale in differences else None

    def agreement(self, scale: str) -> Agreement:
        """How far the annotators agree."""
        return Agreement(**self.found["agreement"][scale])


def read(place: Path, task: str) -> Ratings:
    """The results in the folder of a study of a task, or in a file.

    Raises:
      UserError: there are none, the file is damaged or something else, or the study is of another task.
    """
    path = place
    if place.is_dir():
        path = next((known for known in (place / "results" / RESULTS, place / RESULTS) if known.is_file()), place / "results" / RESULTS)
    remedy = "make it with python -m hcl_tf.studies.human_evaluation --sheets=FOLDER, the study's"
    try:
        found = Ratings(path, from_json(path.read_bytes()))
        _look_through(found)
    except OSError as error:
        raise UserError(f"--human={place}: {path} can't be read ({error.strerror}); {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no results of a study ({type(error).__name__}: {error}); {remedy}") from error
    if found.origin["task"] != task:
        raise UserError(f"--human={place}: a study of {found.origin['task']}, not of {task}; give one of that task, or leave --human out")
    return found


def _look_through(ratings: Ratings) -> None:
    """Touches everything that a page needs, so that what is not there is known before anything is made."""
    found = ratings.found
    for system in ratings.systems:
        for scale in SCALES:
            if not all(isinstance(ratings.mean(system, scale)[name], int | float) for name in ("value", "low", "high")):
                raise ValueError(f"{system}: {scale}: a mean without a number")
            ratings.p(found["ours"], system, scale)
    for scale in SCALES:
        ratings.agreement(scale)
    for name in ("study", "items", "annotators", "missing_annotators"):
        found[name]
    for name in ("task", "data"):
        ratings.origin[name]
    for system in ratings.origin["systems"]:
        f"{system['preset']} {system['seed']} {system['step']:,}"
    if [system["name"] for system in ratings.origin["systems"]] != ratings.systems:
        raise ValueError("the systems of the study are not those of its results")
