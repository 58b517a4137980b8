"""Settings of models/claps.py."""

from dataclasses import dataclass
from typing import ClassVar

from hcl_tf.errors import UserError
from hcl_tf.models.settings.library import T5ModelSettings
from hcl_tf.setting_fields import Tried, setting


@dataclass(frozen=True)
class CLAPSSettings(T5ModelSettings):
    """T5 with two contrasts (Lee et al. 2021)."""

    group: ClassVar[str] = "CLAPS"

    weight_claps: float = setting(
        0.5, "Weight of each of the two contrasts of CLAPS (Lee et al. 2021).", low=0.0, tried=Tried(within=(0.05, 5.0))
    )
    tau_claps: float = setting(0.1, "Temperature of CLAPS's contrasts.", low=1e-3, tried=Tried(within=(0.03, 1.0)))
    claps_impostor_norm: float = setting(1.0, "How far CLAPS moves each decoder state to make an impostor.", low=0.0)
    claps_distant_norm: float = setting(3.0, "How far CLAPS moves each decoder state, twice, to make a distant positive.", low=0.0)
    claps_group: int = setting(
        0, "CLAPS takes in-batch negatives within groups of so many examples; 0: the whole batch. A divisor of --micro_batch.", low=0,
        unit="examples",
    )  # fmt: skip

    def cautions(self, encoder: str, arithmetic: int) -> dict[str, str]:
        found = super().cautions(encoder, arithmetic)
        if arithmetic < 2 and self.weight_claps:
            found["WEAK"] = (
                "its contrasts counted once beside the NLL of a text, not of a token: about 12 times too little (BUILD_NOTES 94)"
            )
        return found

    def check_together(self) -> None:
        super().check_together()
        if not self.weight_claps:
            return
        divided = self.micro_batch or self.strategy != "none"
        if divided and not (self.claps_group and self.micro_batch and self.micro_batch % self.claps_group == 0):
            raise UserError(
                "--micro_batch and --strategy divide the batch, from which claps takes negatives: give --micro_batch, and "
                "--claps_group, a divisor of it"
            )
        if self.claps_group and self.batch_size % self.claps_group:
            raise UserError(f"--claps_group={self.claps_group}: --batch_size={self.batch_size} is no multiple of it")
