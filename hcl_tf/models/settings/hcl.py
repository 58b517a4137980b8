"""Settings of models/hcl.py: the paper's model, its ablations and its controls."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from hcl_tf.errors import UserError
from hcl_tf.models.settings.encoder_decoder import EncoderDecoderSettings
from hcl_tf.setting_fields import Tried, setting
from hcl_tf.settings import RANDOM, LatentSettings, Settings

CONTRAST = Tried(within=(0.05, 12.5))  # weights; 12.5 is what 1 is beside a likelihood that is a mean over tokens
SCALES_FLOORED = 2  # the version of the arithmetic from which dead dimensions of an encoder are harmless
ABLATIONS = ("graph", "keyword", "mahalanobis")


@dataclass(frozen=True)
class HCLSettings(LatentSettings, EncoderDecoderSettings):
    """`hcl`, and with contrasts off `bert_cvae` and `bert_cvae_ins`."""

    group: ClassVar[str] = "HCL"

    decoder_keyword: bool = setting(False, "Let the decoder see keywords beside z.")
    decoder_keyword_to: str = setting(
        "memory", "Where --decoder_keyword shows their state: memory (a slot of it), every input, or both. words: a slot for each piece of "
        "each keyword instead, at which the pointer of --copy points, too.", choices=("memory", "inputs", "both", "words"), before="memory",
    )  # fmt: skip
    decoder_keyword_of: str = setting(
        "source", "Whose keywords --decoder_keyword shows in training: u_x, as at generation; or some of the target's that are nodes, so "
        "that whoever names a keyword at generation asks for a text that has it; new: only of those that the source has not, so that they "
        "can't be had from the source.", choices=("source", "target", "new"), before="source",
    )  # fmt: skip
    weight_ins: float = setting(1.0, "Weight of the instance contrast L_ins.", stated=True, low=0.0, tried=CONTRAST)
    weight_key: float = setting(1.0, "Weight of the keyword contrast L_key (eq 10).", stated=True, low=0.0, tried=CONTRAST)
    weight_ma: float = setting(1.0, "Weight of the Mahalanobis contrast L_ma (eq 11).", stated=True, low=0.0, tried=CONTRAST)
    tau_ins: float = setting(1.0, "Temperature of L_ins.", low=1e-3)
    tau_key: float = setting(0.1, "Temperature of L_key.", low=1e-3)
    tau_ma: float = setting(1.0, "Temperature of L_ma.", low=1e-3)
    contrast_scale: str = setting(
        "mahalanobis", "Distances divided by Z inside contrasts: none, as printed, mahalanobis (L_ma alone), or both (L_ins, L_ma).",
        choices=("both", "mahalanobis", "none"), tried=Tried(among=("none", "mahalanobis", "both")),
    )  # fmt: skip
    contrast_form: str = setting("softmax", "How several negatives join in L_ins (layers/contrast.py).", choices=("softmax", "printed"))
    contrast_ramp: bool = setting(False, "The contrasts' weights rise with the KL term's, whose ramp they defeat otherwise.", before=False)
    negative_gradient: bool = setting(True, "Let L_ins train the posterior of the negative text, q(z | x, y-).", before=True)
    in_batch_negatives: bool = setting(False, "The contrasts also take the other targets of the batch as negatives.")
    impostor: str = setting(
        "one", "one: a neighbour drawn at each step, at the positive's length; mean: all neighbours' mean; sum: the printed form.",
        choices=("one", "mean", "sum"),
    )  # fmt: skip
    key_words: str = setting(
        "text", "What L_key takes of the target: the mean state of its keywords, or of one keyword, drawn at each step among those that "
        "the source has not.", choices=("text", "one"), before="text",
    )  # fmt: skip
    impostor_gradient: bool = setting(False, "Let the contrasts train the impostor's matrix W.")
    impostor_source: str = setting(
        "auto", "Where impostors come from; auto: the graph, or the negative text under --ablate=graph.",
        choices=("auto", "graph", "negative"),
    )  # fmt: skip
    ablate: str = setting("", "Table 2: leave out graph, keyword or mahalanobis.", choices=("", *ABLATIONS))
    graph_fanout: str = setting("8,4", "Sampled neighbours a relation, one number for each round of message passing.", unit="nodes")
    graph_whole: int = setting(
        4096, "A graph of at most so many nodes is computed whole at each step, so nothing of it is left out; larger ones are sampled.",
        low=0, unit="nodes", before=0,
    )  # fmt: skip
    graph_node_budget: int = setting(
        16_384, "Nodes of a batch's sub-graph at most, where the graph is sampled.", small=8192, tiny=2048, low=1, unit="nodes"
    )
    graph_attention: str = setting("dot", "Eq 7: dot or additive.", choices=("dot", "additive"))
    refresh_graph_every: int = setting(
        -1, "Epochs between new node features; 0: never; -1: 0 with a pretrained encoder, 1 with a random one.", low=-1, unit="epochs"
    )

    trainable_features: bool = setting(False, "Train the nodes' features h^0 from where they begin, instead of keeping them.", before=False)

    @property
    def fanout(self) -> tuple[int, ...]:
        """`graph_fanout` as numbers."""
        return tuple(int(part) for part in self.graph_fanout.split(","))

    @property
    def impostors(self) -> str:
        """`impostor_source` resolved, in the words of `data.keywords.subgraph.ROUTES`."""
        negative = self.impostor_source == "negative" or (self.impostor_source == "auto" and self.ablate == "graph")
        return "negative_text" if negative else "graph"

    @property
    def variant(self) -> str:
        return f"without {self.ablate}" if self.ablate else ""

    @property
    def row(self) -> str:
        return super().row + ("_in_batch" if self.in_batch_negatives else "")

    def cautions(self, encoder: str, arithmetic: int) -> dict[str, str]:
        found = super().cautions(encoder, arithmetic)
        contrasts = self.weight_ins or (self.ablate != "keyword" and (self.weight_key or self.weight_ma))
        if self.trained_layers == 0 and contrasts:
            found["FROZEN"] = "with a frozen encoder the contrasts have no gradient on anything that the decoder reads (BUILD_NOTES 92)"
        published = encoder.startswith("encoder: ") and "random weights" not in encoder
        if arithmetic < SCALES_FLOORED and published and self.trained_layers != 0 and self.ablate != "keyword":
            found["SPOILT"] = "dead dimensions of the encoder took nearly all of each clipped step from the likelihood (BUILD_NOTES 91)"
        return found

    def search_space(self, left: Collection[str], weights: str | None = None) -> dict[str, Tried]:
        has_contrast = self.weight_ins or self.weight_key or self.weight_ma
        contrasts = () if has_contrast else ("contrast_scale", "weight_ins", "weight_key", "weight_ma")
        return super().search_space({*left, *contrasts}, weights)

    def settled(self, weights: str, given: dict[str, Any]) -> Settings:
        found = super().settled(weights, given)
        if found.refresh_graph_every >= 0:
            return found
        return dataclasses.replace(found, refresh_graph_every=0 if weights != RANDOM or found.trainable_features else 1)

    def check_together(self) -> None:
        super().check_together()
        if not all(part.isdecimal() and part.isascii() and int(part) for part in self.graph_fanout.split(",")):
            raise UserError(f"--graph_fanout={self.graph_fanout}: one number of at least 1 for each round is expected, such as 8,4")
        if self.in_batch_negatives and (self.micro_batch or self.strategy != "none"):
            raise UserError("--in_batch_negatives needs the whole batch on one device: drop --micro_batch and --strategy")
        if self.trainable_features and self.refresh_graph_every > 0:
            raise UserError(
                f"--trainable_features and --refresh_graph_every={self.refresh_graph_every} contradict each other: new features would "
                "overwrite trained ones; drop one of them"
            )
        if not self.decoder_keyword and (self.decoder_keyword_to, self.decoder_keyword_of) != ("memory", "source"):
            raise UserError("--decoder_keyword_to and --decoder_keyword_of say how --decoder_keyword works; give that flag, too")
        for other in ("decoder_keyword", "append_keywords", "trainable_features"):
            if self.ablate == "keyword" and getattr(self, other):
                raise UserError(f"--ablate=keyword and --{other} contradict each other")
