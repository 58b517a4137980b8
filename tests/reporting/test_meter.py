"""What the meter says of a row's runs."""

from made_evidence import MANY, result

from hcl_tf.reporting import meter


def test_roads_are_counted_over_the_runs_that_have_them():
    def pulled(seed, weight, open_links=True):
        found = result("hcl", seed, open_links=open_links)
        found.record["settings"] = found.record["settings"] | {"weight_ins": weight}
        return found

    runs = [pulled(1, 1.0), pulled(2, 0.0), pulled(3, 1.0, open_links=False), result("claps", 4)]
    assert meter.roads_of(runs) == {"keywords": (2, 3), "negatives": (1, 2)}
    assert "negatives" not in meter.links_of(runs[1]), "without L_ins nothing pulls the prior away from negatives"
    assert meter.roads_of([]) == {"keywords": (0, 0), "negatives": (0, 0)}


def test_a_channel_is_judged_in_the_mean_over_runs():
    runs = [result("hcl", seed, open_links=seed != MANY[0]) for seed in MANY]  # costs of 0, 1, 1, 1, 1 nats
    assert not meter.is_closed(runs), "one weak run does not close it"
    assert meter.is_closed([*runs[:1] * 3, *runs[3:]]), "0, 0, 0, 1, 1: the interval over runs has 0 in it"
    assert [meter.is_closed([one]) for one in runs[:2]] == [True, False], "of one run its own interval counts"
    assert not meter.is_closed([result("claps", seed) for seed in MANY]), "without z there is nothing to be closed"
    lacking = result("hcl", 1)
    lacking.record["figures"]["differences"].pop("nll_prior_shuffled_minus_prior")
    assert meter.is_closed([*runs, lacking])
    unmeasured = result("hcl", 1)
    for name in ("latent_size", "differences"):
        unmeasured.record["figures"].pop(name)
    assert meter.is_closed([unmeasured]), "a row that has a z by its name, and no figures of it, is not open"
    assert meter.is_closed([*runs, unmeasured])
