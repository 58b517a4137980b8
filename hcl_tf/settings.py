"""The settings that systems share, in groups; what is one system's own stands in hcl_tf/models/settings/.

A setting is a dataclass field (setting_fields.py). From these fields come the flags of train.py, the checks, and config.json. [P] marks
what the paper states (section 4.1); the rest is ours (BUILD_NOTES.md). TensorFlow is not imported: a wrong flag is refused before anything
slow happens.
"""

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from hcl_tf.errors import UserError
from hcl_tf.setting_fields import Tried, setting

PRESETS = ("paper", "small", "tiny")
RANDOM_ENCODER = {"paper": "12x768", "small": "4x256", "tiny": "2x128"}  # what --encoder=random means
NO_WEIGHTS = "NO WEIGHTS"  # the caution that makes a row not comparable with the paper's
# Kinds of first weights. Rows whose weights differ in kind are not compared: the difference would be that of the weights.
PUBLISHED, EQUAL, RANDOM = "published", "equal pretraining", "random"
RENAMED = {"claps_imposter_norm": "claps_impostor_norm"}  # former name -> name, in stored runs and on the command line


@dataclass(frozen=True)
class Settings:
    """What every run has, also that of a system without weights. Subclasses add what their system uses, and nothing else.

    Class attributes `group` name, for help texts, the settings that a class adds.
    """

    group: ClassVar[str] = "run"

    model: str = setting("hcl", "The system to train (hcl_tf/models/registry.py).")
    preset: str = setting("tiny", "Which values the settings that are not given take.", choices=PRESETS)
    seed: int = setting(1, "Decides initial weights, order, sub-graphs and all noise.", low=0, high=2**31 - 1)

    @property
    def variant(self) -> str:
        """What a run of this system leaves out, in words ("without graph"); part of its name."""
        return ""

    @property
    def row(self) -> str:
        """The name of the table row that a run with these settings belongs to, where no flag file names it."""
        return "_".join(filter(None, (self.model, self.variant.replace(" ", "_"))))

    def settled(self, weights: str, given: dict[str, Any]) -> "Settings":
        """With values in place of those that mean "it depends".

        Args:
          weights: the kind that it begins with, PUBLISHED, EQUAL or RANDOM. given: the settings that flags gave.
        """
        return self

    def check_together(self) -> None:
        """Raises `UserError` where two settings contradict each other."""

    def weights(self, encoder: str) -> str | None:
        """Returns the kind of weights that a run with these settings began with; None: systems of this kind always begin with random ones.

        Args:
          encoder: what the run began with, as its config.json says.
        """
        return None

    def cautions(self, encoder: str, arithmetic: int) -> dict[str, str]:
        """Says why a result of a run with these settings can't be taken at face value: a mark for tables -> what it means.

        Args:
          encoder: what the run began with, as its config.json says. arithmetic: the version that it was trained under.
        """
        return {}

    def search_space(self, left: Collection[str], weights: str | None = None) -> dict[str, Tried]:
        """Returns what hcl_tf.tune tries: setting -> values, with its own among them.

        Args:
          left: names of settings that stay as they are. weights: the kind of weights that training begins with, as `weights` says.
        """
        fields = (item for item in dataclasses.fields(self) if item.metadata["tried"] and item.name not in left)
        return {item.name: item.metadata["tried"].with_start(getattr(self, item.name)) for item in fields}

    def to_dict(self) -> dict[str, Any]:
        """All settings, for config.json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class TextSettings(Settings):
    """Which texts go in and come out."""

    group: ClassVar[str] = "text"

    output_vocab: str = setting(
        "full", "train: the output layer keeps only pieces that training targets contain.", choices=("full", "train")
    )
    append_keywords: bool = setting(
        False, "Append each source's keywords to its pieces, as words (hcl_tf/data/tokenizers/keyword_suffix.py)."
    )


@dataclass(frozen=True)
class DecodingSettings(Settings):
    """How outputs are searched for."""

    group: ClassVar[str] = "decoding"

    beams: int = setting(4, "Beam size.", stated=True, low=1, high=64, unit="hypotheses")
    length_penalty: float = setting(0.6, "Exponent of the length penalty ((5 + length) / 6), the Transformer's.", low=0.0)
    minimum_length: int = setting(5, "Fewest tokens of an output.", stated=True, low=0, unit="tokens")
    maximum_length: int = setting(20, "Most tokens of an output.", stated=True, low=1, unit="tokens")
    no_repeat_ngram: int = setting(0, "No n-gram of so many tokens occurs twice in an output; 0: any may.", tiny=2, low=0, unit="tokens")

    @property
    def hypotheses(self) -> int:
        """How many outputs a search gives for each source."""
        return self.beams

    def check_together(self) -> None:
        super().check_together()
        if self.minimum_length > self.maximum_length:
            raise UserError(f"--minimum_length={self.minimum_length} is more than --maximum_length={self.maximum_length}")


@dataclass(frozen=True)
class UntrainedSettings(TextSettings, DecodingSettings):
    """A system without weights."""


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How a system with weights is trained."""

    group: ClassVar[str] = "training"

    init_from: str = setting(
        "", "Run whose weights this one begins with where path and shape agree; optimiser and schedules start anew; empty: none.",
        before="",
    )  # fmt: skip
    init_checkpoint: str = setting(
        "best_loss", "Checkpoint that is taken of --init_from, such as best_loss, best_nll or step-00000500.", before="best_loss"
    )
    dropout: float = setting(0.1, "Dropout rate.", low=0.0, high=0.9, tried=Tried(among=(0.0, 0.1, 0.2, 0.3)))
    batch_size: int = setting(256, "Examples of a step, over all devices.", small=64, tiny=32, stated=True, low=1, unit="examples")
    micro_batch: int = setting(0, "Examples computed at once; the step's gradients are summed over them. 0: all.", low=0, unit="examples")
    epochs: int = setting(30, "Passes over the training split at most.", small=5, tiny=20, low=1, unit="epochs")
    max_steps: int = setting(0, "At most so many steps; --epochs and --patience may end training before. 0: no bound.", low=0, unit="steps")
    patience: int = setting(
        3, "Stop after so many epochs (or validations) without a smaller validation loss, ramps over; 0: never.", low=0, unit="validations"
    )
    learning_rate: float = setting(
        1e-4, "Learning rate of Adam [P: Adam; the rate is ours] after the warm-up.", small=5e-4, tiny=1e-3, low=0.0, high=1.0,
        tried=Tried(within=(1e-4, 2e-3)),
    )  # fmt: skip
    warmup_steps: int = setting(
        1000, "Steps over which learning rates rise from 0; constant afterwards.", small=300, tiny=50, low=0, unit="steps"
    )
    cooldown_steps: int = setting(
        0, "The last of --max_steps, over which learning rates fall to 0; 0: none.", before=0, low=0, unit="steps"
    )
    gradient_clip: float = setting(1.0, "Largest global gradient norm; 0: none.", low=0.0)
    mixed_precision: bool = setting(False, "float16 arithmetic with loss scaling (encoder and decoder; latents stay float32).")
    strategy: str = setting(
        "none", "Devices: none (one), mirrored, or multi_worker (TF_CONFIG).", choices=("none", "mirrored", "multi_worker")
    )
    worker_timeout: float = setting(
        600.0, "How long --strategy=multi_worker waits for all workers to start.", low=1.0, unit="seconds", before=600.0
    )
    logical_cpus: int = setting(
        0, "Split the CPU into this many devices, to try --strategy=mirrored without GPUs; 0: do not.", low=0, high=64, unit="devices"
    )
    jit_compile: str = setting("auto", "XLA: auto compiles on GPUs, except the tiny preset.", choices=("auto", "true", "false"))
    log_every: int = setting(50, "Steps between lines of metrics.jsonl.", tiny=10, low=1, unit="steps")
    checkpoint_every: int = setting(500, "Steps between checkpoints, besides one an epoch.", tiny=100, low=1, unit="steps")
    validate_every: int = setting(0, "Steps between validations; 0: each epoch.", low=0, unit="steps")
    validate_examples: int = setting(
        0, "A validation passes over so many examples, the split's first; 0: over all.", low=0, unit="examples"
    )
    keep_checkpoints: int = setting(2, "Newest checkpoints kept, besides the best.", low=1, unit="checkpoints")

    def check_together(self) -> None:
        super().check_together()
        if self.init_checkpoint != "best_loss" and not self.init_from:
            raise UserError(f"--init_checkpoint={self.init_checkpoint} is one of --init_from, which is not given; give both, or none")
        if self.cooldown_steps > max(0, self.max_steps - self.warmup_steps):
            raise UserError(
                f"--cooldown_steps={self.cooldown_steps}: more than --max_steps={self.max_steps} leaves after "
                f"--warmup_steps={self.warmup_steps}; give more --max_steps, or a shorter warm-up or cool-down"
            )
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise UserError(f"--micro_batch={self.micro_batch}: --batch_size={self.batch_size} is no multiple of it")


# Settings that say how something is computed and not what: runs that differ in them alone belong together.
COMPUTATION = (
    "micro_batch", "strategy", "worker_timeout", "logical_cpus", "jit_compile", "log_every", "checkpoint_every", "keep_checkpoints",
)  # fmt: skip


@dataclass(frozen=True)
class EncoderSettings(Settings):
    """How large the encoder is and what it begins with."""

    group: ClassVar[str] = "encoder"

    encoder: str = setting(
        "published",
        "BERT weights: hub name, folder, TensorFlow checkpoint, minilm, random or random:LAYERSxWIDTH; published: bert-base. "
        "Systems without BERT take the sizes of random:LAYERSxWIDTH.",
        small="auto", tiny="random:2x128",
    )  # fmt: skip


@dataclass(frozen=True)
class BertSettings(EncoderSettings):
    """A BERT that may begin with published weights."""

    group: ClassVar[str] = "BERT encoder"

    encoder_learning_rate: float = setting(
        2e-5, "Adam's learning rate of the encoder after the warm-up; with weights that nobody published --learning_rate, unless given.",
        small=5e-5, tiny=1e-3, low=0.0, high=1.0, tried=Tried(within=(1e-5, 5e-4)),
    )  # fmt: skip
    freeze_encoder: bool = setting(False, "Train everything but the encoder, whose states are computed once and cached.")
    trainable_layers: int = setting(
        -1, "The encoder's upper layers that train; embeddings and layers below stay as they begin, without dropout, and their states are "
        "computed once and cached. -1: all, and the embeddings; 0: --freeze_encoder.", low=-1, unit="layers", before=-1,
    )  # fmt: skip
    lower_states: str = setting(
        "float32", "How --trainable_layers keeps the fixed layers' states on disk; live: it does not, and each step computes them.",
        choices=("float32", "float16", "live"), before="float32",  # then 16 bits: another version of the arithmetic says so
    )  # fmt: skip

    @property
    def trained_layers(self) -> int | None:
        """How many of the encoder's upper layers train; None: all, and the embeddings."""
        if self.freeze_encoder:
            return 0
        return None if self.trainable_layers < 0 else self.trainable_layers

    def weights(self, encoder: str) -> str | None:
        if encoder.startswith("encoder: random"):
            return RANDOM
        return EQUAL if EQUAL in encoder else PUBLISHED

    def check_together(self) -> None:
        super().check_together()
        if self.freeze_encoder and self.trainable_layers > 0:
            raise UserError(
                f"--trainable_layers={self.trainable_layers} and --freeze_encoder contradict each other: with the one, so many layers of "
                "the encoder train, with the other none; drop one of them"
            )

    def settled(self, weights: str, given: dict[str, Any]) -> "Settings":
        found = super().settled(weights, given)
        one_rate = weights != PUBLISHED and "encoder_learning_rate" not in given  # a tenth keeps what long pretraining has learnt
        return dataclasses.replace(found, encoder_learning_rate=found.learning_rate) if one_rate else found

    def search_space(self, left: Collection[str], weights: str | None = None) -> dict[str, Tried]:
        one_rate = weights in (EQUAL, RANDOM)  # it follows --learning_rate
        return super().search_space({*left, "encoder_learning_rate"} if one_rate else left, weights)


@dataclass(frozen=True)
class WordDropoutSettings(Settings):
    """A decoder whose input words can be hidden."""

    group: ClassVar[str] = "word dropout"

    word_dropout: float = setting(0.0, "Share of the decoder's input words replaced by [UNK] (Bowman et al. 2016).", low=0.0, high=1.0)


@dataclass(frozen=True)
class StackSettings(Settings):
    """A decoder made of blocks."""

    group: ClassVar[str] = "decoder blocks"

    decoder_layers: int = setting(6, "Decoder blocks.", small=4, tiny=2, low=1, unit="blocks")


@dataclass(frozen=True)
class TransformerDecoderSettings(StackSettings, WordDropoutSettings):
    """The Transformer decoder of `hcl_tf.models.encoder_decoder`."""

    group: ClassVar[str] = "Transformer decoder"

    label_smoothing: float = setting(
        0.0, "Share of a token's probability spread over all pieces in training (Vaswani et al. 2017).", low=0.0, high=0.9,
        tried=Tried(among=(0.0, 0.1)),
    )  # fmt: skip
    attention_init: str = setting(
        "random", "How the decoder's attention to the source starts; identity: copying (layers/decoder.py).", tiny="identity",
        choices=("random", "identity"),
    )  # fmt: skip
    copy: bool = setting(False, "Let the decoder also copy pieces of the source (a pointer; See et al. 2017).", tiny=True)
    search: str = setting(
        "beam", "contrastive: one output, of likely tokens with unlike states (Su et al. 2022; decoding/contrastive_search.py).",
        choices=("beam", "contrastive"), before="beam",
    )  # fmt: skip
    contrastive_k: int = setting(
        5, "Likeliest tokens among which --search=contrastive chooses; the authors' for dialogues.", low=1, high=64, unit="tokens", before=5
    )
    contrastive_alpha: float = setting(
        0.6, "Weight of a state's likeness to earlier ones in --search=contrastive; 0: greedy search.", low=0.0, high=1.0, before=0.6
    )

    @property
    def hypotheses(self) -> int:
        return super().hypotheses if self.search == "beam" else 1

    def check_together(self) -> None:
        super().check_together()
        if self.copy and self.append_keywords:
            raise UserError("--copy and --append_keywords contradict each other: a copied unknown word is looked up in the source alone")


@dataclass(frozen=True)
class LatentSettings(Settings):
    """A latent variable z and what keeps it from collapsing."""

    group: ClassVar[str] = "latent variable"

    latent_size: int = setting(16, "Z, dimensions of the latent variable and of the keyword graph.", tiny=32, low=1, unit="dimensions")
    latent_hidden: int = setting(400, "Width of the hidden layer of prior and posterior.", small=256, tiny=128, low=1, unit="dimensions")
    log_variance_bound: float = setting(10.0, "Log-variances stay within plus and minus this.", low=0.1, high=20.0)
    latent_to: str = setting(
        "inputs", "Where the decoder gets z: memory (a slot of it; a recurrent decoder's first state), every input, or both.",
        tiny="memory", choices=("memory", "inputs", "both"),
    )  # fmt: skip
    kl_ramp: int = setting(10_000, "Steps over which the weight of the KL term rises to 1.", small=300, tiny=100, low=0, unit="steps")
    kl_delay: int = setting(
        300, "Steps before the ramp in which the KL term does not count (Li et al. 2019).", small=100, tiny=0, low=0, unit="steps"
    )
    kl_cycles: int = setting(
        0, "Repeat the ramp this many times, each as long as --kl_ramp, half of it at full weight (Fu et al. 2019); 0: once.", low=0,
        unit="cycles",
    )  # fmt: skip
    free_bits: float = setting(
        0.25, "What the KL term does not punish, for each latent dimension (Kingma et al. 2016).", tiny=0.0, low=0.0, unit="nats",
        tried=Tried(among=(0.0, 0.08, 0.16)),
    )  # fmt: skip
    bag_of_words: float = setting(0.0, "Weight of a bag-of-words loss on z (Zhao et al. 2017).", low=0.0, tried=Tried(among=(0.0, 1.0)))


def check(settings: Settings) -> None:
    """Raises `UserError`, naming the flag, where a value is out of bounds or two settings contradict each other."""
    for item in dataclasses.fields(settings):
        _check_bounds(item.name, getattr(settings, item.name), item.metadata)
    settings.check_together()


def _check_bounds(name: str, value: Any, bounds: Any) -> None:
    if bounds["choices"] and value not in bounds["choices"]:
        raise UserError(f"--{name}={value}: one of {', '.join(filter(None, bounds['choices']))} is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name}={value}: a finite number is expected")
    if bounds["low"] is not None and value < bounds["low"]:
        raise UserError(f"--{name}={value}: at least {bounds['low']} is expected")
    if bounds["high"] is not None and value > bounds["high"]:
        raise UserError(f"--{name}={value}: at most {bounds['high']} is expected")


def preset_values(kind: type[Settings], preset: str) -> dict[str, Any]:
    """Name -> value of every setting of a system under a preset."""
    return {item.name: item.metadata["presets"][preset] for item in dataclasses.fields(kind)} | {"preset": preset}
