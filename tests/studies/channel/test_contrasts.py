"""What is said of each contrast, by loops over examples."""

import math

import numpy as np
import pytest

from hcl_tf.data.keywords.impostor_hardness import LEAST_SAMPLES
from hcl_tf.studies.channel.contrasts import of_contrasts

N, Z = 60, 3


def diagnostics(shift: float = 0.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    margins = random.normal(0.5, 1, N)
    margins[::6] = np.nan
    found = {f"margin_{name}": margins for name in ("ins", "key", "ma")}
    found |= {f"order_{name}": np.where(np.isnan(margins), np.nan, margins > 0) for name in ("ins", "key", "ma")}
    vectors = ("posterior_mean", "negative_mean", "target_state", "impostor_state")
    return found | {name: random.normal(shift if name == "impostor_state" else 0.0, 1, (N, Z)) for name in vectors}


def test_margins_and_orders_are_those_of_the_pairs_that_there_are():
    found, given = of_contrasts(diagnostics(), None), diagnostics()
    kept = sorted(value for value in given["margin_ins"] if not math.isnan(value))
    for name in ("ins", "key", "ma"):
        row = found[name]
        assert row["margin"]["value"] == pytest.approx(sum(kept) / len(kept))
        assert row["order"]["value"] == pytest.approx(sum(value > 0 for value in kept) / len(kept))
        assert row["margin"]["examples"] == len(kept) == 50
        assert row["median"] == pytest.approx((kept[24] + kept[25]) / 2)
        assert row["untrained_order"] is None


def test_blind_order_is_of_the_pairs_own_vectors_and_the_untrained_one_of_the_other_model():
    found = of_contrasts(diagnostics(shift=4.0), {f"order_{name}": np.array([1.0, 0.0, np.nan, 0.0]) for name in ("ins", "key", "ma")})
    assert found["key"]["blind_order"] > 0.95
    assert 0.2 < found["ins"]["blind_order"] < 0.8
    assert found["ma"]["untrained_order"] == pytest.approx(1 / 3)


def test_a_contrast_that_the_model_does_not_have_is_left_out_and_few_pairs_have_no_blind_order():
    given = diagnostics() | {"margin_ma": np.full(N, np.nan)}
    del given["margin_ins"]
    assert set(of_contrasts(given, None)) == {"key"}
    few = {name: values[: LEAST_SAMPLES // 2] for name, values in diagnostics().items()}
    assert of_contrasts(few, None)["key"]["blind_order"] is None
