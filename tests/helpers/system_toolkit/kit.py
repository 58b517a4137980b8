"""A small system on prepared examples, put together as `training.launch` does it, with what rules need of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from hcl_tf.data.batching.batches import Batch, Batches, Columns
from hcl_tf.data.batching.pairs import pair_batches
from hcl_tf.data.store import retokenized
from hcl_tf.data.store.prepared_data import PreparedData
from hcl_tf.data.store.split_arrays import SplitArrays
from hcl_tf.decoding.generator import SOURCE_COLUMNS, Generator
from hcl_tf.layers.noise import Noise
from hcl_tf.models import registry
from hcl_tf.models.base import System
from hcl_tf.models.inputs import Inputs
from hcl_tf.settings import Settings
from hcl_tf.training import assembly, checkpoints
from hcl_tf.training.determinism import make_deterministic
from hcl_tf.training.initialization import Initialization, initialize
from hcl_tf.training.step import TrainStep
from hcl_tf.training.text_states import TextStates

# Those that a system does not take are left out. Phases, if any, begin within the steps that rules take.
SMALL = {
    "encoder": "random:1x16", "decoder_layers": 1, "latent_size": 5, "latent_hidden": 8, "output_vocab": "train", "graph_fanout": "4,2",
    "graph_node_budget": 256, "beams": 3, "minimum_length": 2, "maximum_length": 20, "batch_size": 4, "warmup_steps": 0,
    "learning_rate": 0.01, "mle_steps": 1, "contrast_middle": 0.0, "contrast_width": 1.0, "matching_steps": 5, "group_draws": 2,
}  # fmt: skip
ROWS = (3, 14, 15, 92)  # of the training split
STEP = np.int32(30)  # no tensor yet: replicas.py splits the CPU before TensorFlow starts
FILLER = -1


@dataclass(frozen=True)
class Facts:
    """What rules can't see of a system from outside. A new system gets the defaults.

    Attributes:
      divided: settings with which its batch may be divided; part: the rows of the smallest part that may stand alone then.
      half: it computes in half precision too.
      learnt: settings with which it learns eight examples by heart; steps: in how many at most.
      differences: scalars of a step that are differences of NLLs, so that these decide how far rounding moves them.
    """

    divided: Mapping[str, Any] = field(default_factory=dict)
    part: int = 1
    half: bool = True
    learnt: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 400
    differences: tuple[str, ...] = ()


DEEPER = {"learning_rate": 0.005, "decoder_layers": 2}
FACTS = {
    "groupwise": Facts(differences=("gain_true", "gain_drawn")),
    "hcl": Facts(learnt={"learning_rate": 0.003}),  # at 0.01 rounding decides whether it learns: one failure in some ten runs
    "t5": Facts(half=False, learnt=DEEPER),  # the library masks with -1e9
    "claps": Facts(
        half=False, learnt=DEEPER | {"learning_rate": 0.003}, divided={"claps_group": 2}, part=2
    ),  # and its negatives are other examples of a group
}


class View(NamedTuple):
    """Prepared data as some systems see them, their training split and its distinct texts."""

    data: PreparedData
    train: SplitArrays
    texts: TextStates


@cache
def view_of(folder: Path, keywords: bool = False) -> View:
    """Read once for all tests; `keywords`: with those of the sources appended."""
    data = PreparedData(folder)
    return _view(data.with_keywords() if keywords else data)


def _view(data: PreparedData) -> View:
    train = data.arrays("train")
    return View(data, train, TextStates(data, train, keep=False))


class Kit:
    """One entry of the registry on one prepared folder.

    Args:
      model: the entry's name. given: settings in place of `SMALL`'s; one that the system does not take is refused.

    Attributes:
      given: all settings that flags would have given.
      lines: which published tensor went where, once a system was made.
    """

    def __init__(self, folder: Path, model: str, **given) -> None:
        self.folder, self.model = folder, model
        self.given = {**registry.used(model, SMALL), **given, "model": model}
        self.facts = FACTS.get(model, Facts())

    def changed(self, **given) -> "Kit":
        """The same entry with some other settings."""
        return Kit(self.folder, **{**self.given, **given})

    @cached_property
    def divisible(self) -> "Kit":
        """The same entry with the settings that let its batch be divided."""
        return self.changed(**self.facts.divided) if self.facts.divided else self

    # -- a system -----------------------------------------------------------------------------------------------------

    @cached_property
    def _begun(self) -> tuple[View, Settings, Initialization]:
        """What the settings come to, as in `launch.settle`."""
        settings = registry.resolve("tiny", self.given)
        view = view_of(self.folder, settings.append_keywords)
        settings, begun = initialize(settings, view.data, self.given)
        return (_view(retokenized.with_tokenizer(view.data, begun.library.tokenizer)) if begun.library else view), settings, begun

    @property
    def data(self) -> PreparedData:
        """The data as the system sees them."""
        return self._begun[0].data

    @property
    def train(self) -> SplitArrays:
        """Their training split."""
        return self._begun[0].train

    @property
    def texts(self) -> TextStates:
        """Its distinct texts."""
        return self._begun[0].texts

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self._begun[1]

    @cached_property
    def inputs(self) -> Inputs:
        """What the system knows of the data."""
        view, settings, begun = self._begun
        kept = assembly.output_ids(view.data, view.train, settings.output_vocab)
        return assembly.inputs_of(view.data, begun.shape, kept, begun.library and begun.library.config)

    def new(self) -> System:
        """The system at its starting weights, before anything was computed of texts."""
        system, self.lines = assembly.new_system(self.settings, self.inputs, self._begun[2])
        return system

    @cached_property
    def made(self) -> tuple[System, list[tf.Variable]]:
        """What `new` gives, and every variable that was made meanwhile, whether or not Keras sees it."""
        made = []

        def remember(creator, **kwargs):
            made.append(creator(**kwargs))
            return made[-1]

        with tf.variable_creator_scope(remember):
            return self.new(), made

    def begun(self) -> System:
        """The system as it is when the first step is taken."""
        system = self.new()
        system.before_epoch(0, self.texts)
        return system

    @cached_property
    def _moved(self) -> tuple[System, dict[str, np.ndarray]]:
        system, random = self.new(), np.random.default_rng(0)
        beginning = checkpoints.variables_of(assembly.variables(system))
        system.before_epoch(0, self.texts)
        for _ in system.phases():
            system.begin_phase()
        for variable in system.trainable_variables:
            variable.assign_add(random.normal(0, 0.2, variable.shape))
        system.before_inference()
        return system, beginning

    @property
    def system(self) -> System:
        """In its last phase, every weight moved so that it shows. Rules leave it as it is."""
        return self._moved[0]

    @property
    def beginning(self) -> dict[str, np.ndarray]:
        """Path -> value of its variables when it had just been made."""
        return self._moved[1]

    # -- batches ------------------------------------------------------------------------------------------------------

    def batches(self, size: int, training: bool = True) -> Batches:
        """Of the training split; `training`: with a sub-graph where the system reads one, else the nodes are the whole graph's."""
        sampler = self.system.sampler(self.data.graph) if training else None
        return pair_batches(self.data, self.train, size, self.settings.seed, sampler, self.system.impostors, self._own_columns)

    @cached_property
    def _own_columns(self) -> list[Columns]:
        own = self.system.columns(self.data, "train", self.train, self.train)
        return [own] if own else []

    def batch(self, rows: Sequence[int] = ROWS, training: bool = True) -> Batch:
        """Training examples by number; `FILLER` fills up."""
        made = self.batches(len(rows), training).make(np.array(rows), 0, 0)
        return {name: tf.constant(value) for name, value in made.items()}

    @cached_property
    def training(self) -> Batch:
        """A batch of training."""
        return self.batch()

    @cached_property
    def held_out(self) -> Batch:
        """A batch as validation has them, whose last row fills up."""
        return self.batch((*ROWS[:-1], FILLER), training=False)

    # -- what it computes ---------------------------------------------------------------------------------------------

    def sums(self, batch: Batch, training: bool, system: System | None = None) -> dict[str, float]:
        """Every term and scalar of `losses`, summed over a batch."""
        found = (system or self.system).losses(batch, STEP, noise_of(batch), training)
        return {name: float(total.value) for name, total in found.items()}

    @cached_property
    def generator(self) -> Generator:
        """Beam search of `system`."""
        return Generator(self.system, self.data.tokenizer)

    def walk(self, batches: Sequence[Batch], compiled: bool = False, eagerly: bool = False, beside: "Walk | None" = None) -> "Walk":
        """The first steps of a run, phases included; `compiled`: by XLA, `eagerly`: without a graph; `beside`: see `Walk.go_on`."""
        make_deterministic()  # as in every training
        system = self.begun()
        walk = Walk(system, TrainStep(system, system.settings, None, compiled), [], [])
        tf.config.run_functions_eagerly(eagerly)
        try:
            walk.go_on(batches, 0, beside)
        finally:
            tf.config.run_functions_eagerly(False)
        return walk

    @cached_property
    def first_batches(self) -> list[Batch]:
        """Those of a run."""
        return list(self.batches(len(ROWS)).dataset(0).take(3))

    @cached_property
    def walked(self) -> "Walk":
        """Their steps, without micro-batches, devices and XLA."""
        return self.walk(self.first_batches)


class Walk(NamedTuple):
    """A system after some steps, the scalars of each step, and the whole state after it."""

    system: System
    step: TrainStep
    scalars: list[dict[str, float]]
    states: list[dict[str, np.ndarray]]

    def go_on(self, batches: Sequence[Batch], first: int, beside: "Walk | None" = None) -> None:
        """Takes the steps from number `first` on.

        `beside` another walk each step begins at that walk's state. Adam's first steps are signs of gradients; where a gradient is rounding
        error its sign is chance, the weight moves a whole rate the other way, and from there on the two walks differ by more than rounding.
        """
        for number, batch in enumerate(batches, first):
            if beside and number:
                checkpoints.assign(self.variables, beside.states[number - 1])
            if number in self.system.phases():
                self.system.begin_phase()
            self.scalars.append(self.step(batch, number))
            self.states.append(checkpoints.variables_of(self.variables))

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """All that a checkpoint has."""
        return {**assembly.variables(self.system), **self.step.state()}


def noise_of(batch: Batch) -> Noise:
    """The noise of `STEP`."""
    return Noise(1, STEP, batch["example_rows"])


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some rows; what belongs to the batch as a whole stays."""
    return {name: tensor if name.startswith("graph_") else tensor[rows] for name, tensor in batch.items()}


def sources_of(batch: Batch) -> Batch:
    """What generation may see."""
    return {name: batch[name] for name in SOURCE_COLUMNS}


def single_precision() -> None:
    """Takes back what a system in mixed precision leaves behind in this process."""
    keras.mixed_precision.set_global_policy("float32")
