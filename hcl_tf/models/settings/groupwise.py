"""Settings of models/groupwise.py."""

from dataclasses import dataclass
from typing import ClassVar

from hcl_tf.models.settings.encoder_decoder import TransformerSettings
from hcl_tf.setting_fields import setting


@dataclass(frozen=True)
class GroupwiseSettings(TransformerSettings):
    """A Transformer that is trained by likelihood first, then by contrasts within groups (Cai et al. 2020)."""

    group: ClassVar[str] = "Group-wise"

    weight_group: float = setting(1.0, "Share of the contrast once its ramp is over; 0: likelihood alone.", low=0.0, high=1.0)
    mle_steps: int = setting(
        5000, "Steps of maximum likelihood, after which the model's copy is the reference.", small=1000, tiny=100, low=1, unit="steps"
    )
    contrast_middle: float = setting(
        3500.0, "Step of the second phase at which contrast and likelihood weigh the same.", small=350.0, tiny=35.0, low=0.0, unit="steps"
    )
    contrast_width: float = setting(
        1000.0, "How slowly the contrast takes over; larger is slower.", small=100.0, tiny=10.0, low=1.0, unit="steps"
    )
    group_draws: int = setting(6, "Pairs drawn from an example's group at each step, besides the true one.", low=1, high=64, unit="pairs")
    matching_steps: int = setting(
        2000, "Steps of 256 pairs for the matching model, before training.", small=500, tiny=50, low=0, unit="steps"
    )
