"""Settings of models/simctg.py."""

from dataclasses import dataclass

from hcl_tf.models.settings.encoder_decoder import TransformerSettings
from hcl_tf.setting_fields import setting


@dataclass(frozen=True)
class SimCTGSettings(TransformerSettings):
    """`simctg`."""

    group = "SimCTG"

    weight_simctg: float = setting(1.0, "Weight of the contrast between a target's tokens.", low=0.0, before=1.0)
    simctg_margin: float = setting(0.5, "rho: states are pushed apart whose cosine is above 1 - rho.", low=-1.0, high=1.0, before=0.5)
