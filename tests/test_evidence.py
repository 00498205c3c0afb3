"""What the leaderboard makes of its records: on numbers whose answers are known."""

import math

import numpy as np
import pytest

from benchmarks.evidence.boards import Board
from benchmarks.evidence.choices import chosen_recipe, claims, front, gains, halves
from benchmarks.evidence.statistics import agreement, difference, holm, interval, matrix, mean_places, places

RANKED = ("insertion", "deletion", "grid_pointing_game")


def column(*values):
    return {f"image {i}": value for i, value in enumerate(values)}


def test_interval():
    found = interval(np.array([1.0, 3.0]))  # s = √2, over √2, times the quantile for one degree of freedom
    assert (found.mean, found.n) == (2.0, 2)
    assert found.half == pytest.approx(12.7062047)


def test_places_share_ties():
    assert places(np.array([[0.1, 0.3, 0.2], [5.0, 5.0, 1.0]]), "higher").tolist() == [[3, 1, 2], [1.5, 1.5, 3]]
    assert places(np.array([[0.1, 0.3, 0.2]]), "lower").tolist() == [[1, 3, 2]]


def test_only_images_that_all_have():
    table = {"a": {"m": column(1, 2, 3)}, "b": {"m": {"image 2": 5, "image 1": 4}}}
    assert matrix(table, ["a", "b"], "m").tolist() == [[2, 4], [3, 5]]


def test_mean_places():
    table = {
        "good": {"x": column(3, 3, 3), "y": {"mosaic 0": 1.0, "mosaic 1": 1.0}},
        "bad": {"x": column(1, 1, 9), "y": {"mosaic 0": 2.0, "mosaic 1": 2.0}},
    }
    found = mean_places(table, ["good", "bad"], {"x": "higher", "y": "lower"})
    assert found["good"].mean == pytest.approx((4 / 3 + 1) / 2)
    assert found["bad"].mean == pytest.approx((5 / 3 + 2) / 2)
    of_x = interval(np.array([1.0, 1.0, 2.0]) / 2)
    assert found["good"].half == pytest.approx(of_x.half)  # the places in y do not vary


def test_differences_are_positive_where_the_first_is_better():
    table = {"a": {"m": column(1, 2, 3)}, "b": {"m": column(2, 2.5, 4)}}
    assert difference(table, "a", "b", "m", "lower").gain.mean == pytest.approx(2.5 / 3)
    assert difference(table, "a", "b", "m", "higher").gain.mean == pytest.approx(-2.5 / 3)
    assert difference(table, "a", "a", "m", "higher").p == 1
    t = (2.5 / 3) / (np.std([1, 0.5, 1], ddof=1) / math.sqrt(3))  # of two degrees of freedom: p = 1 - t / √(2 + t²)
    assert difference(table, "a", "b", "m", "lower").p == pytest.approx(1 - t / math.sqrt(2 + t**2))


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_agreement():
    random = np.random.default_rng(0)
    order = np.arange(6.0)
    near, far = (sign * order + 0.01 * random.normal(size=(20, 6)) for sign in (1, -1))
    assert agreement(near, near[:10]).rho == 1
    assert agreement(near, far).rho == -1
    loose = agreement(order + 30 * random.normal(size=(20, 6)), near)
    assert loose.low < loose.rho < loose.high < 1


def board(**rows):
    """A network with the same three means on four images for each label."""
    shake = {0: 0.0, 1: 0.01, 2: -0.01, 3: 0.0}
    column = lambda mean: {f"{i}": mean + shift for i, shift in shake.items()}
    rows |= {"random map": (0, 9, 0), "Gaussian in the middle": (0, 9, 0)}
    table = {label: dict(zip(RANKED, map(column, means), strict=True)) for label, means in rows.items()}
    recipes = tuple(label for label in rows if label.startswith("recipe"))
    return Board("net", "net", "convolutional", "images", table, dict.fromkeys(rows, ""), recipes, {}, "")


def test_the_front():
    found = front(board(a=(3, 5, 1), b=(1, 1, 1), worse=(2, 6, 1), recipe=(1, 5, 2)))
    assert found == ["a", "b", "recipe"]


def test_the_recipe_is_chosen_on_one_half_and_the_best_methods_too():
    known = board(a=(3, 5, 1), b=(1, 1, 4), recipe_one=(4, 4, 5), recipe_two=(0, 9, 0))
    choosing, reporting = halves(known)
    assert (choosing, reporting) == ({"0", "2"}, {"1", "3"})
    recipe, best = chosen_recipe(known)
    assert recipe == "recipe_one"
    assert best == {"insertion": "a", "deletion": "b", "grid_pointing_game": "b"}


def test_gains_over_a_default():
    known = board(default=(1, 2, 3), other=(2, 1, 3))
    [row] = gains([known], "default", ["other", "absent"])
    assert row[:2] == ["other", "net"]
    assert [cell[:6] for cell in row[2:]] == ["+1.000", "+1.000", "+0.000"]
    assert [cell.endswith("*") for cell in row[2:]] == [True, True, False]


def test_claims():
    known = board(**{"grad_cam, last": (1, 3, 5), "grad_cam, middle": (2, 2, 2), "gradient": (3, 1, 7)})
    verdicts = {row[0]: row[4] for row in claims(known)}
    assert verdicts["Grad-CAM of the last layer localises better than of a middle one"] == "holds"
    assert verdicts["Grad-CAM of the last layer localises better than the gradient"] == "contradicted"
