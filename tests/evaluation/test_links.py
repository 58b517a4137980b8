"""The rule that judges links: what opens and closes each, and what can't be said."""

import pytest

from hcl_tf.evaluation import links
from hcl_tf.evaluation.links import CLOSED, FELT, FIGURES, OPEN, UNKNOWN


def entry(value: float, low: float) -> dict:
    return {"value": value, "low": low, "high": 2 * value - low, "examples": 9}


def differences(**changed) -> dict:
    """Figures with which every link is open, but for those that are given."""
    found = {figure: entry(1.0, 0.5) for figure, *_ in FIGURES.values()} | {"h_negative_minus_target": entry(1.5, 0.5)}
    return {name: value for name, value in (found | changed).items() if value is not None}


def verdicts(found: dict) -> dict[str, str]:
    return {link.name: link.verdict for link in links.links(found)}


def test_every_link_of_both_roads_is_judged():
    assert verdicts(differences()) == dict.fromkeys((*links.ROADS["keywords"], *links.ROADS["negatives"]), OPEN)
    for road in links.ROADS:
        assert links.road(links.links(differences()), road) == OPEN


@pytest.mark.parametrize("name", FIGURES)
def test_an_interval_that_holds_0_closes_its_link_and_its_road_and_no_other(name):
    found = differences(**{FIGURES[name][0]: entry(1.0, -0.1)})
    assert {link for link, verdict in verdicts(found).items() if verdict == CLOSED} == {name}
    for road, members in links.ROADS.items():
        assert links.road(links.links(found), road) == (CLOSED if name in members else OPEN)


@pytest.mark.parametrize("name", FIGURES)
def test_without_its_figure_nothing_is_said_of_a_link(name):
    found = differences(**{FIGURES[name][0]: None})
    assert {link for link, verdict in verdicts(found).items() if verdict == UNKNOWN} == {name}
    nowhere = differences(**{FIGURES[name][0]: {"value": None, "low": None, "high": None, "examples": 0}})
    assert verdicts(nowhere)[name] == UNKNOWN


@pytest.mark.parametrize(("whole", "verdict"), [(1.0, OPEN), (2.0, OPEN), (2.1, CLOSED), (0.0, CLOSED), (-1.0, CLOSED)])
def test_variances_that_tell_more_than_half_close_the_link_of_the_negative(whole, verdict):
    """The means tell 1 nat."""
    link = next(
        link for link in links.links(differences(h_negative_minus_target=entry(whole, whole - 1))) if link.name == "y- -> posterior"
    )
    assert link.verdict == verdict
    assert ("48%" in link.because) == (whole == 2.1)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(("nats", "verdict"), [(FELT, OPEN), (0.9 * FELT, CLOSED)])
def test_a_figure_that_is_certain_but_too_small_to_be_felt_leaves_its_link_closed(name, nats, verdict):
    found = differences(h_negative_minus_target=entry(0.05, 0.04), **{FIGURES[name][0]: entry(nats, 0.5 * nats)})
    assert verdicts(found)[name] == verdict


def test_lines_name_every_link_and_both_roads():
    text = "\n".join(links.lines(links.links(differences())))
    for name in FIGURES:
        assert name in text
    assert "from keywords to the text: OPEN" in text
    assert "1.000 [0.500, 1.500]" in text
