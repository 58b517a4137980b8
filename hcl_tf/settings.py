"""Every setting of a run: what it means, what it may be, and what each preset makes of it.

`Settings` is the one list. train.py makes a flag of each field, a run folder stores all of them, and a model reads nothing
else. Values marked [P] are stated in the paper (section 4.1), the others are ours (BUILD_NOTES.md).
"""

import dataclasses
import math
from dataclasses import dataclass, field

from hcl_tf.errors import UserError

PRESETS = ("paper", "small", "tiny")
ABLATIONS = ("graph", "keyword", "mahalanobis")


def setting(default, text: str, *, choices: tuple = (), low: float | None = None, high: float | None = None):
    """A field with its help text and bounds (inclusive)."""
    return field(default=default, metadata={"help": text, "choices": choices, "low": low, "high": high})


@dataclass(frozen=True)
class Settings:
    """A resolved configuration; defaults here are those of the `paper` preset."""

    model: str = setting("hcl", "The system to train (hcl_tf/models/registry.py).")
    preset: str = setting("tiny", "Which settings the flags that are not given take.", choices=PRESETS)
    seed: int = setting(1, "Decides initial weights, order, sub-graphs and all noise.", low=0, high=2**31 - 1)

    encoder: str = setting(
        "published", "BERT weights: hub name, folder, TensorFlow checkpoint, minilm, random or random:LAYERSxWIDTH; published: bert-base."
    )  # fmt: skip
    pretrained: str = setting(
        "", "Published weights of a system built on a library's model (t5, claps, dialogpt): hub name or folder; empty: random."
    )
    freeze_encoder: bool = setting(False, "Train everything but the encoder, whose states are computed once and cached.")
    output_vocab: str = setting(
        "full", "train: the output layer keeps only pieces that training targets contain.", choices=("full", "train")
    )
    append_keywords: bool = setting(False, "Append each source's keywords to its pieces, as words (hcl_tf/data/appended.py).")
    decoder_layers: int = setting(6, "Decoder blocks.", low=1)
    recurrent_layers: int = setting(1, "Layers of recurrent encoders and decoders.", low=1)
    dropout: float = setting(0.1, "Dropout rate.", low=0.0, high=0.9)
    label_smoothing: float = setting(
        0.0, "Share of a token's probability spread over all pieces in training (Vaswani et al. 2017).", low=0.0, high=0.9
    )
    attention_init: str = setting(
        "random", "How the decoder's attention to the source starts; identity: copying (layers/decoder.py).", choices=("random", "identity")
    )
    copy: bool = setting(False, "Let the decoder also copy pieces of the source (a pointer; See et al. 2017).")
    latent_size: int = setting(200, "Z, dimensions of the latent variable and of the keyword graph.", low=1)
    latent_hidden: int = setting(400, "Width of the hidden layer of prior and posterior.", low=1)
    log_variance_bound: float = setting(10.0, "Log-variances stay within plus and minus this.", low=0.1, high=20.0)
    latent_to: str = setting(
        "memory",
        "Where the decoder gets z: memory (a slot of it; a recurrent decoder's first state), every input, or both.",
        choices=("memory", "inputs", "both"),
    )
    decoder_keyword: bool = setting(False, "Let the decoder see the keyword state beside z.")

    batch_size: int = setting(256, "[P] Examples of a step, over all devices.", low=1)
    micro_batch: int = setting(0, "Examples computed at once; the step's gradients are summed over them. 0: all.", low=0)
    epochs: int = setting(30, "Passes over the training split at most.", low=1)
    max_steps: int = setting(0, "Stop after this many steps; 0: by epochs.", low=0)
    patience: int = setting(3, "Stop after so many epochs (or validations) without a smaller validation loss, ramps over; 0: never.", low=0)
    learning_rate: float = setting(1e-4, "Adam's learning rate after the warm-up [P: Adam].", low=0.0, high=1.0)
    encoder_learning_rate: float = setting(2e-5, "The same for the encoder.", low=0.0, high=1.0)
    warmup_steps: int = setting(1000, "Steps over which learning rates rise from 0; constant afterwards.", low=0)
    gradient_clip: float = setting(1.0, "Largest global gradient norm; 0: none.", low=0.0)
    mixed_precision: bool = setting(False, "float16 arithmetic with loss scaling (encoder and decoder; latents stay float32).")

    kl_ramp: int = setting(10_000, "Steps over which the weight of the KL term rises to 1.", low=0)
    kl_delay: int = setting(0, "Steps before the ramp in which the KL term does not count (Li et al. 2019).", low=0)
    kl_cycles: int = setting(
        0, "Repeat the ramp this many times, each as long as --kl_ramp, half of it at full weight (Fu et al. 2019); 0: once.", low=0
    )
    free_bits: float = setting(0.0, "Nats a latent dimension that the KL term does not punish (Kingma et al. 2016).", low=0.0)
    bag_of_words: float = setting(0.0, "Weight of a bag-of-words loss on z (Zhao et al. 2017).", low=0.0)
    word_dropout: float = setting(0.0, "Share of the decoder's input words replaced by [UNK] (Bowman et al. 2016).", low=0.0, high=1.0)

    weight_ins: float = setting(1.0, "[P] Weight of the instance contrast L_ins.", low=0.0)
    weight_key: float = setting(1.0, "[P] Weight of the keyword contrast L_key (eq 10).", low=0.0)
    weight_ma: float = setting(1.0, "[P] Weight of the Mahalanobis contrast L_ma (eq 11).", low=0.0)
    tau_ins: float = setting(1.0, "Temperature of L_ins.", low=1e-3)
    tau_key: float = setting(0.1, "Temperature of L_key.", low=1e-3)
    tau_ma: float = setting(1.0, "Temperature of L_ma.", low=1e-3)
    contrast_scale: str = setting(
        "both",
        "Distances divided by Z inside contrasts: both (L_ins, L_ma), mahalanobis (L_ma alone), or none, as printed.",
        choices=("both", "mahalanobis", "none"),
    )
    contrast_form: str = setting("softmax", "How several negatives join in L_ins (layers/contrast.py).", choices=("softmax", "printed"))
    in_batch_negatives: bool = setting(False, "The contrasts also take the other targets of the batch as negatives.")
    impostor: str = setting("mean", "mean: neighbours' mean at the positive's length; sum: the printed form.", choices=("mean", "sum"))
    impostor_gradient: bool = setting(False, "Let the contrasts train the impostor's matrix W.")
    impostor_source: str = setting(
        "auto",
        "Where impostors come from; auto: the graph, or the negative text under --ablate=graph.",
        choices=("auto", "graph", "negative"),
    )
    weight_claps: float = setting(0.5, "Weight of each of the two contrasts of CLAPS (Lee et al. 2021).", low=0.0)
    tau_claps: float = setting(0.1, "Temperature of CLAPS's contrasts.", low=1e-3)
    claps_imposter_norm: float = setting(1.0, "How far CLAPS moves each decoder state to make an imposter.", low=0.0)
    claps_distant_norm: float = setting(3.0, "How far CLAPS moves each decoder state, twice, to make a distant positive.", low=0.0)
    claps_group: int = setting(
        0, "CLAPS takes in-batch negatives within groups of so many examples; 0: the whole batch. A divisor of --micro_batch.", low=0
    )  # fmt: skip
    ablate: str = setting("", "Table 2: leave out graph, keyword or mahalanobis.", choices=("", *ABLATIONS))

    weight_group: float = setting(1.0, "groupwise: share of the contrast once its ramp is over; 0: likelihood alone.", low=0.0, high=1.0)
    mle_steps: int = setting(5000, "groupwise: steps of maximum likelihood, after which the model's copy is the reference.", low=1)
    contrast_middle: float = setting(
        3500.0, "groupwise: step of the second phase at which contrast and likelihood weigh the same.", low=0.0
    )
    contrast_width: float = setting(1000.0, "groupwise: how slowly (steps) the contrast takes over; larger is slower.", low=1.0)
    group_draws: int = setting(6, "groupwise: pairs drawn from an example's group at each step, besides the true one.", low=1, high=64)
    matching_steps: int = setting(2000, "groupwise: steps of 256 pairs for the matching model, before training.", low=0)

    graph_fanout: str = setting("8,4", "Sampled neighbours a relation, one number for each round of message passing.")
    graph_node_budget: int = setting(2048, "Nodes of a batch's sub-graph at most.", low=1)
    graph_attention: str = setting("dot", "Eq 7: dot or additive.", choices=("dot", "additive"))
    refresh_graph_every: int = setting(
        -1, "Epochs between new node features; 0: never; -1: 0 with a published encoder, 1 with a random one.", low=-1
    )

    beams: int = setting(4, "[P] Beam size.", low=1, high=64)
    length_penalty: float = setting(0.6, "Exponent of the length penalty ((5 + length) / 6), the Transformer's.", low=0.0)
    minimum_length: int = setting(5, "[P] Fewest tokens of an output.", low=0)
    maximum_length: int = setting(20, "[P] Most tokens of an output.", low=1)

    no_repeat_ngram: int = setting(0, "No n-gram of so many tokens occurs twice in an output; 0: any may.", low=0)

    strategy: str = setting(
        "none", "Devices: none (one), mirrored, or multi_worker (TF_CONFIG).", choices=("none", "mirrored", "multi_worker")
    )
    logical_cpus: int = setting(
        0, "Split the CPU into this many devices, to try --strategy=mirrored without GPUs; 0: do not.", low=0, high=64
    )
    jit_compile: str = setting("auto", "XLA: auto compiles on GPUs, except the tiny preset.", choices=("auto", "true", "false"))
    log_every: int = setting(50, "Steps between lines of metrics.jsonl.", low=1)
    checkpoint_every: int = setting(500, "Steps between checkpoints, besides one an epoch.", low=1)
    validate_every: int = setting(0, "Steps between validations; 0: each epoch.", low=0)
    validate_examples: int = setting(0, "A validation passes over so many examples, the split's first; 0: over all.", low=0)
    keep_checkpoints: int = setting(2, "Newest checkpoints kept, besides the best.", low=1)

    @property
    def fanout(self) -> tuple[int, ...]:
        """`graph_fanout` as numbers."""
        return tuple(int(part) for part in self.graph_fanout.split(","))

    @property
    def impostors(self) -> str:
        """`impostor_source` resolved, in the words of `data.subgraph.ROUTES`."""
        negative = self.impostor_source == "negative" or (self.impostor_source == "auto" and self.ablate == "graph")
        return "negative_text" if negative else "graph"

    def to_dict(self) -> dict:
        """All settings, for config.json."""
        return dataclasses.asdict(self)


FIELDS = {item.name: item for item in dataclasses.fields(Settings)}

OVERRIDES = {
    "paper": {},
    "small": {
        "encoder": "auto", "decoder_layers": 4, "latent_size": 64, "latent_hidden": 256, "batch_size": 64, "epochs": 5,
        "learning_rate": 5e-4, "encoder_learning_rate": 5e-5, "warmup_steps": 300, "kl_ramp": 1000,
        "mle_steps": 1000, "contrast_middle": 350.0, "contrast_width": 100.0, "matching_steps": 500,
    },
    "tiny": {
        "encoder": "random:2x128", "decoder_layers": 2, "latent_size": 32, "latent_hidden": 128, "batch_size": 32, "epochs": 20,
        "learning_rate": 1e-3, "encoder_learning_rate": 1e-3, "warmup_steps": 50, "kl_ramp": 100, "log_every": 10, "checkpoint_every": 100,
        "attention_init": "identity", "copy": True, "no_repeat_ngram": 2,
        "mle_steps": 100, "contrast_middle": 35.0, "contrast_width": 10.0, "matching_steps": 50,
    },
}  # fmt: skip
RANDOM_ENCODER = {"paper": "12x768", "small": "4x256", "tiny": "2x128"}  # what --encoder=random means


def resolve(preset: str, given: dict, model_defaults: dict | None = None) -> Settings:
    """The settings of a run: what was given, else what the model fixes, else the preset.

    Raises:
      UserError: a value is out of bounds, or two settings contradict each other; the text names the flag.
    """
    values = {**OVERRIDES[preset], **(model_defaults or {}), **given, "preset": preset}
    settings = Settings(**values)
    for name, item in FIELDS.items():
        _check_bounds(name, getattr(settings, name), item.metadata)
    _check_together(settings)
    return settings


def _check_bounds(name: str, value, bounds) -> None:
    if bounds["choices"] and value not in bounds["choices"]:
        raise UserError(f"--{name}={value}: one of {', '.join(map(str, filter(None, bounds['choices'])))} is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name}={value}: a finite number is expected")
    if bounds["low"] is not None and value < bounds["low"]:
        raise UserError(f"--{name}={value}: at least {bounds['low']} is expected")
    if bounds["high"] is not None and value > bounds["high"]:
        raise UserError(f"--{name}={value}: at most {bounds['high']} is expected")


def _check_together(s: Settings) -> None:
    if not all(part.isdecimal() and int(part) for part in s.graph_fanout.split(",")):
        raise UserError(f"--graph_fanout={s.graph_fanout}: one number of at least 1 for each round is expected, such as 8,4")
    if s.micro_batch and s.batch_size % s.micro_batch:
        raise UserError(f"--micro_batch={s.micro_batch}: --batch_size={s.batch_size} is no multiple of it")
    if s.in_batch_negatives and (s.micro_batch or s.strategy != "none"):
        raise UserError("--in_batch_negatives needs the whole batch on one device: drop --micro_batch and --strategy")
    if s.minimum_length > s.maximum_length:
        raise UserError(f"--minimum_length={s.minimum_length} is more than --maximum_length={s.maximum_length}")
    if s.ablate == "keyword" and s.decoder_keyword:
        raise UserError("--ablate=keyword and --decoder_keyword contradict each other")
    if s.copy and s.append_keywords:
        raise UserError("--copy and --append_keywords contradict each other: a copied unknown word is looked up in the source alone")
    if s.ablate == "keyword" and s.append_keywords:
        raise UserError("--ablate=keyword and --append_keywords contradict each other")
