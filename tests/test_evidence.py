"""What the leaderboard makes of its records: on numbers whose answers are known."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from benchmarks import patterns
from benchmarks.evidence import boards
from benchmarks.evidence.boards import Board
from benchmarks.evidence.choices import chosen_recipe, claims, front, gains, halves
from benchmarks.evidence.figures import draw
from benchmarks.evidence.pages import everywhere, of_evidence
from benchmarks.evidence.rows import of_disconnected
from benchmarks.evidence.stages import positive_mass_accuracy
from benchmarks.evidence.statistics import agreement, difference, holm, interval, matrix, mean_places, places
from benchmarks.evidence.subjects import CELLS, Subject, cells_of, disconnected, mosaic_of
from jaxplain.evaluation import Example, open_records
from tests.convolution import conv

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
    return Board(
        "net", "net", "convolutional", "images", table, dict.fromkeys(rows, ""), recipes, {}, "", "", "weights"
    )


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


def small_network(seed=0):
    """Convolution, ReLU, convolution, ReLU, the mean, a dense layer of 5 classes."""
    random = np.random.default_rng(seed)
    kernels = [random.normal(size=shape) / 3 for shape in ((3, 3, 2, 4), (3, 3, 4, 6))]
    head = random.normal(size=(6, 5))

    def apply(x):
        for i, kernel in enumerate(kernels):
            x = jax.nn.relu(checkpoint_name(conv(x, kernel), f"conv{i}"))
        return x.mean(axis=(1, 2)) @ head

    return apply


def subject_of(apply):
    random = np.random.default_rng(1)
    mosaics = tuple(
        Example(f"mosaic {i}", random.normal(size=(1, 8, 8, 2)), i % 4, {"cell": i % 4, "classes": np.arange(4)})
        for i in range(6)
    )
    bounds, layers = (np.full(2, -3.0), np.full(2, 3.0)), {"before": "conv1", "middle": "conv0"}
    return Subject(
        "net", "convolutional", "noise", apply, (), bounds, tuple(mosaics), tuple(mosaics), 5, True, layers, ()
    )


def test_cells_of_mosaics_and_back():
    mosaics = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    cells = cells_of(mosaics)
    assert cells.shape == (8, 2, 3, 3)
    assert (cells[5] == mosaics[1, :2, 3:]).all()
    assert (mosaic_of(cells) == mosaics).all()


def test_a_disconnected_network_judges_every_cell_by_itself():
    apply, subject = small_network(), subject_of(small_network())
    x = jnp.concatenate([e.x for e in subject.mosaics])
    scores = disconnected(apply)(x).reshape(6, 4, 5)
    assert np.allclose(scores[2, 1], apply(x[2:3, :4, 4:])[0], atol=1e-12)
    for example in subject.disconnected_mosaics:
        moved = jaxplain.gradient(disconnected(apply))(example.x, target=example.target)
        assert jaxplain.metrics.grid_pointing_game(abs(moved), example.truth["cell"]) == 1
    example, rows = subject.disconnected_mosaics[3], {row.label: row for row in of_disconnected(subject)}
    masked = lambda x: rows["rise, 100 masks"].make(apply)(x, target=example.target, key=jax.random.key(0))
    other = jnp.asarray(example.x).at[:, :4].set(0)
    np.testing.assert_allclose(masked(other), masked(example.x), atol=1e-9)  # nothing that another cell has matters
    assert not any("probability" in label or "full_grad" in label for label in rows)


def test_grad_cam_of_a_disconnected_network_shows_what_other_cells_have():
    apply, example = small_network(), subject_of(small_network()).disconnected_mosaics[1]
    _, features, pullback = jaxplain.tap(disconnected(apply), CELLS)(example.x)
    weights = pullback(jax.nn.one_hot(jnp.array([example.target]), 20, dtype=jnp.float64))
    by_hand = (features * weights.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)
    map_ = jaxplain.grad_cam(disconnected(apply), layer=CELLS, upsample=False)(example.x, target=example.target)
    assert map_.shape == (1, 8, 8)
    assert np.allclose(map_, by_hand, atol=1e-12)
    assert 0 < jaxplain.metrics.grid_pointing_game(map_, 1)[0] < 1
    row = {row.label: row for row in of_disconnected(subject_of(apply))}["grad_cam, last"]
    assert np.allclose(row.make(apply)(example.x, target=example.target), map_, atol=1e-6)


def test_a_class_that_is_not_in_the_mosaic():
    subject = subject_of(small_network())
    assert [e.target for e in subject.mosaics_of_absent_classes] == [4] * 6
    assert [e.truth for e in subject.mosaics_of_absent_classes] == [{"cell": i % 4} for i in range(6)]


def test_numbers_are_kept_beside_the_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "NUMBERS", tmp_path)
    known = board(a=(3, 5, 1 / 3), recipe=(1, 1, 4))
    assert boards.load(tmp_path, "net") is None
    boards.keep(known)
    assert boards.load(tmp_path, "net").table["a"]["insertion"] == known.table["a"]["insertion"]
    again = boards.kept("net")
    assert again.table["a"]["grid_pointing_game"]["1"] == 0.343333
    assert (again.recipes, again.methods, again.seconds) == (("recipe",), known.methods, {})


def test_what_is_measured_again_takes_the_place_of_what_was_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "NUMBERS", tmp_path)
    before = board(a=(3, 5, 1), gone=(1, 1, 1))
    boards.keep(before)
    now = board(a=(4, 5, 1), b=(1, 1, 1))
    fewer = {label: {"insertion": found["insertion"], "deletion": {"0": 1.0}} for label, found in now.table.items()}
    monkeypatch.setattr(boards, "from_records", lambda folder, key: replace(now, table=fewer))
    other = replace(now, table=fewer, networks=("other weights",))
    merged = boards.load(tmp_path, "net").table
    assert list(merged) == ["a", "b", "random map", "Gaussian in the middle"]
    assert merged["a"]["insertion"] == now.table["a"]["insertion"]
    assert merged["a"]["deletion"] == before.table["a"]["deletion"] | {"0": 1.0}  # image by image
    assert merged["a"]["grid_pointing_game"]["0"] == 1
    assert list(merged["b"]) == ["insertion"]  # of all others, images are missing
    monkeypatch.setattr(boards, "from_records", lambda folder, key: other)
    assert boards.load(tmp_path, "net").table == fewer  # nothing of other weights is kept


def test_patterns_are_where_their_masks_are():
    planted = patterns.images(400, seed=5)
    assert planted.images.shape == (400, 28, 28, 1)
    assert set(planted.labels) == set(range(len(patterns.NAMES)))
    assert abs(planted.images).max() < patterns.BOUND
    for image, label, mask, grade in zip(*planted, strict=True):
        shape = patterns.shape_of(patterns.NAMES[label])
        rows, columns = np.nonzero(mask)
        assert mask.sum() == shape.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert len(set(rows // patterns.CELL)) == len(set(columns // patterns.CELL)) == 1
        inside = image[mask][:, 0].reshape(shape.shape)
        assert np.corrcoef(inside.ravel(), shape.ravel())[0, 1] > 0.5
        assert abs(inside[shape == 1].mean() - patterns.CONTRASTS[grade]) < 5 * patterns.NOISE / np.sqrt(shape.sum())
        if patterns.NAMES[label] in patterns.KINDS["watermark"]:
            assert {rows.max() % patterns.CELL, columns.max() % patterns.CELL} == {patterns.CELL - 1}


def test_patterns_of_a_class_are_all_that_tells_it():
    planted = patterns.images(4000, seed=6)
    outside = np.where(planted.masks, 0, planted.images[..., 0]).reshape(4000, -1)
    noise = patterns.NOISE**2 * (~planted.masks).sum(axis=(1, 2))
    for numbers in (outside.sum(axis=1), (outside**2).sum(axis=1) - noise):
        of_class = [numbers[planted.labels == label] for label in range(len(patterns.NAMES))]
        spread = numbers.std() / np.sqrt(min(map(len, of_class)))
        assert max(abs(n.mean() - numbers.mean()) for n in of_class) < 5 * spread


def write_records(folder, **values):
    """The records of a network as `evaluate` writes them, of one metric."""
    records = open_records(folder / "net.mosaics.jsonl", {})
    for label, numbers in values.items():
        for i, value in enumerate(numbers):
            of_label = {"image": f"mosaic {i}", "method": label, "network": "weights"}
            records.append(of_label | {"metrics": {"grid_pointing_game": value}})
    rows = {label: {"method": "", "recipe": False} for label in values}
    (folder / "net.rows.json").write_text(json.dumps({"versions": "1", "rows": rows}))


def test_a_map_of_nothing_gets_what_chance_gets(tmp_path, monkeypatch):
    monkeypatch.setitem(boards.NAMES, "net", ("net", "convolutional", "noise"))
    write_records(tmp_path, a=[0.5, None], b=[0.5], **{"random map": [None, 0.25]})
    found = boards.from_records(tmp_path, "net")
    assert found.table["a"]["grid_pointing_game"] == {"mosaic 0": 0.5, "mosaic 1": 0.25}
    assert found.table["random map"]["grid_pointing_game"] == {"mosaic 0": 0.25, "mosaic 1": 0.25}
    assert "b" not in boards.whole(found).table  # not all images yet
    assert (found.versions, found.networks) == ("1", ("weights",))


def test_the_share_of_the_positive_part():
    signed = jnp.array([[[[3.0, -1.0], [-5.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]])  # 2 and -5 above, 1 and 1 below
    above = jnp.array([[[True, True], [False, False]]])
    assert positive_mass_accuracy(signed, above).tolist() == [0.5]


def test_evidence_by_kind_and_contrast():
    known = board(good=(1, 1, 1), bad=(1, 1, 1))
    images = [f"{kind} {grade} {i}" for kind in ("object", "texture") for grade in (1, 2) for i in (0, 1)]
    shares = {"good": 0.9, "bad": 0.2, "random map": 0.1, "Gaussian in the middle": 0.1}
    table = {
        label: {
            m: {image: share - 0.1 * ("2" in image) for image in images}
            for m in ("positive_mass_accuracy", "pointing_game")
        }
        for label, share in shares.items()
    }
    text, found = of_evidence(replace(known, table=table))
    assert text.startswith("The share of the positive relevance")
    heading, _, first, *_ = (line.split(" | ") for line in found.splitlines())
    assert heading[2:6] == ["contrast 1 (n = 4)", "contrast 2 (n = 4)", "object (n = 4)", "texture (n = 4)"]
    assert first[0] == "| good"
    assert [cell[:5] for cell in first[1:6]] == ["0.850", "0.900", "0.800", "0.850", "0.850"]


def test_what_is_better_than_the_controls_on_all_networks():
    one = board(a=(3, 5, 1), b=(3, 5, 1), c=(-1, 9, 0), here=(3, 5, 1))
    two = board(a=(3, 5, 1), b=(-1, 5, 1), c=(-1, 9, 0))
    assert list(everywhere([one, two])) == [
        "* insertion: on all 2 networks a. On none: c.",
        "* deletion: on all 2 networks a; b. On none: c.",
        "* grid_pointing_game: on all 2 networks a; b. On none: c.",
    ]


def test_figures(tmp_path):
    draw([board(a=(3, 5, 1), recipe=(1, 1, 4)), board(a=(1, 1, 1), b=(2, 2, 2), c=(3, 0, 1))], tmp_path)
    fronts, places = ((tmp_path / f"{name}.svg").read_text("utf-8") for name in ("fronts", "places"))
    assert "1  a" in fronts
    assert "2  recipe (recipe)" in fronts
    assert places.count(">a<") == 1
