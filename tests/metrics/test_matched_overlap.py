"""Scores at matched overlap, against drawing which outputs are replaced."""

import numpy as np
import pytest

from hcl_tf.metrics.matched_overlap import at_matched_overlap

N = 200


@pytest.fixture
def made() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {
        "first": draw.uniform(0, 60, N), "second": draw.uniform(0, 60, N), "overlap_first": draw.uniform(0, 40, N),
        "overlap_second": draw.uniform(20, 80, N), "copy": draw.uniform(30, 90, N), "overlap_copy": draw.uniform(95, 110, N),
    }  # fmt: skip


def test_it_is_the_mean_of_many_draws(made):
    """Outputs of the less copying system, a share of them replaced by their sources until mean overlaps agree."""
    found = at_matched_overlap(**made)
    draw = np.random.default_rng(2)
    totals, overlaps = [], []
    for _ in range(4000):
        replaced = draw.random(N) < found.share
        totals.append(np.where(replaced, made["copy"], made["first"]).mean())
        overlaps.append(np.where(replaced, made["overlap_copy"], made["overlap_first"]).mean())
    assert np.mean(overlaps) == pytest.approx(made["overlap_second"].mean(), abs=0.2), "overlaps agree"
    assert np.mean(totals) == pytest.approx(found.first.mean(), abs=0.15)
    assert found.second.tolist() == made["second"].tolist(), "who copies more stays as it is"


def test_the_spread_of_scores_knows_that_the_share_is_estimated(made):
    """The difference's standard error, by the scores and by resampling sentences and matching anew each time."""
    draw = np.random.default_rng(3)
    made = made | {name: made[f"overlap_{name}"] + draw.normal(0, 5, N) for name in ("first", "second")}  # who copies more scores more
    differences = []
    for _ in range(2000):
        chosen = draw.integers(0, N, N)
        again = at_matched_overlap(**{name: values[chosen] for name, values in made.items()})
        differences.append((again.first - again.second).mean())
    found = at_matched_overlap(**made)
    each = found.first - found.second
    assert each.std() / np.sqrt(N) == pytest.approx(np.std(differences), rel=0.06)
    kept = (1 - found.share) * made["first"] + found.share * made["copy"] - made["second"]
    assert each.mean() == pytest.approx(kept.mean()), "the mean is that of the expectation"
    assert kept.std() / np.sqrt(N) != pytest.approx(np.std(differences), rel=0.15), "without the linear part it would be another"


def test_who_comes_first_does_not_matter(made):
    turned = {
        "first": made["second"], "second": made["first"], "overlap_first": made["overlap_second"], "overlap_second": made["overlap_first"]
    }  # fmt: skip
    one, other = at_matched_overlap(**made), at_matched_overlap(**{**made, **turned})
    assert one.first.tolist() == other.second.tolist()
    assert one.second.tolist() == other.first.tolist()
    assert one.share == -other.share > 0


def test_a_copier_and_one_that_overlaps_alike_change_nothing(made):
    alike = at_matched_overlap(**{**made, "overlap_second": made["overlap_first"][::-1]})
    assert alike.share == pytest.approx(0, abs=1e-12)
    whole = at_matched_overlap(**{**made, "second": made["copy"], "overlap_second": made["overlap_copy"]})
    assert whole.share == pytest.approx(1)
    assert whole.first == pytest.approx(made["copy"]), "beside the sources themselves nothing is left to tell apart"


def test_each_seed_is_matched_by_itself(made):
    stacked = {name: np.stack([values, values[::-1] * 0.9]) if not name.endswith("copy") else values for name, values in made.items()}
    found = at_matched_overlap(**stacked)
    assert found.first.shape == (2, N)
    single = at_matched_overlap(**{name: values if name.endswith("copy") else values[1] for name, values in stacked.items()})
    assert found.first[1] == pytest.approx(single.first)
    assert found.share[1] == pytest.approx(single.share)


def test_sources_that_overlap_less_than_outputs_are_refused(made):
    with pytest.raises(ValueError, match="no more than the outputs do"):
        at_matched_overlap(**{**made, "overlap_copy": np.zeros(N)})
