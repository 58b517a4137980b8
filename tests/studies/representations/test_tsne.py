"""The map keeps neighbours, is the same every time, and refuses what it can't do; the picture shows all of it."""

import io

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hcl_tf.errors import UserError
from hcl_tf.studies.representations import tsne
from hcl_tf.studies.representations.tsne import Map, draw, embed


def groups(count: int = 15):
    """Two directions, well apart, with lengths that differ as much within each."""
    random = np.random.default_rng(0)
    centres = {"source": np.array([9.0, 0, 0, 0, 0]), "negative": np.array([0, 9.0, 0, 0, 0])}
    return {name: (c + random.normal(size=(count, 5))) * random.uniform(0.1, 10, (count, 1)) for name, c in centres.items()}


def test_neighbours_by_angle_stay_neighbours():
    places = np.concatenate(list(embed(groups(), 5.0, 1).places.values()))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert ((apart.argmin(1) < 15) == (np.arange(30) < 15)).all()


def test_the_same_at_every_call_whatever_the_threads():
    first = embed(groups(), 5.0, 1)
    with threadpool_limits(2):
        again = embed(groups(), 5.0, 1)
    for name, places in first.places.items():
        assert places.tobytes() == again.places[name].tobytes()
    assert first.divergence == again.divergence > 0
    assert draw("title", [("one", first)], "note") == draw("title", [("one", again)], "note")


def test_rows_that_are_not_there_get_no_place_and_move_nobody():
    given = groups()
    alone = embed(given, 5.0, 1)
    holes = embed({**given, "keyword": np.full((4, 5), np.nan)}, 5.0, 1)
    assert np.isnan(holes.places["keyword"]).all()
    np.testing.assert_array_equal(holes.places["source"], alone.places["source"])


def test_a_perplexity_beyond_the_points_is_refused_with_one_that_fits():
    with pytest.raises(UserError, match=r"--perplexity=10: too much for 30 points.*at most 9.6"):
        embed(groups(), 10.0, 1)
    tsne.check_perplexity(9.6, 30)
    with pytest.raises(UserError, match="give at most 10, or"):
        tsne.check_perplexity(10.4, 31)
    tsne.check_perplexity(10.0, 31)


def test_the_picture_has_a_panel_a_map_and_shows_every_group():
    from matplotlib import image

    random = np.random.default_rng(1)
    found = Map({name: random.normal(size=(20, 2)) for name in tsne.LOOKS}, 1.0)
    one, two = (image.imread(io.BytesIO(draw("title", [("caption", found)] * n, "note"))) for n in (1, 2))
    assert two.shape[1] == 2 * one.shape[1]
    assert two.shape[0] == one.shape[0]
    panels = two[: two.shape[0] * 4 // 5]  # above the legend, which has every colour too
    for look in tsne.LOOKS.values():
        colour = np.array([int(look["c"][i : i + 2], 16) for i in (1, 3, 5)]) / 255
        near = (np.abs(panels[..., :3] - (0.75 * colour + 0.25)) < 0.02).all(-1)  # see-through on white
        assert near[:, : near.shape[1] // 2].any(), look
        assert near[:, near.shape[1] // 2 :].any(), look
