"""Learned masks: each part against a naive version, the loop against a plain one, and what the maps mean."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain._images import gaussian_blur
from jaxplain.perturbation import extremal_perturbation, meaningful_perturbation
from jaxplain.perturbation._extremal import area_excess, blur_pyramid, smooth_mask
from jaxplain.perturbation._mask_optimisation import optimise
from jaxplain.perturbation._meaningful import full_size, remaining_score, shifts

KEY = jax.random.key(6)
X = jax.random.normal(jax.random.key(0), (2, 12, 10, 2), jnp.float64)
W = jax.random.normal(jax.random.key(1), (240, 3), jnp.float64) * 0.2
MEANINGFUL = functools.partial(meaningful_perturbation, factor=3, mask_blur=1.0, image_blur=2.0, jitter=1, steps=6)
EXTREMAL = functools.partial(extremal_perturbation, step=3, sigma=4.0, max_blur=3.0, levels=3, steps=6)


def network(x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ W) * 5


def slope_of(loss, m):
    """By finite differences; the examples do not depend on each other."""
    slope = np.zeros_like(m)
    for i, j in np.ndindex(m.shape[1:]):
        step = np.zeros_like(m)
        step[:, i, j] = 1e-5
        slope[:, i, j] = (np.asarray(loss(m + step)) - np.asarray(loss(m - step))) / 2e-5
    return slope


# ------------------------------------------------------------------------------------------------------- the loop


def test_the_loop_is_the_loop():
    """Against a loop in Python, one example at a time, the optimizer's own way."""
    centre = jax.random.uniform(KEY, (3, 2, 2), jnp.float64, -0.5, 1.5)
    loss = lambda m, t: ((m - centre) ** 2).sum(axis=(1, 2)) * (1 + t)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    history = optimise(loss, jnp.full((3, 2, 2), 0.5), optimizer, 6, 3)
    for n in range(3):
        m = jnp.full((2, 2), 0.5)
        state = optimizer.init(m)
        for t in range(6):
            slope = jax.grad(lambda m, n=n, t=t: ((m - centre[n]) ** 2).sum() * (1 + t))(m)
            change, state = optimizer.update(slope, state, m)
            m = jnp.clip(optax.apply_updates(m, change), 0, 1)
            if t % 2:
                np.testing.assert_allclose(history[n, t // 2], m, rtol=1e-12)


@pytest.mark.parametrize("make", [MEANINGFUL, EXTREMAL])
def test_history_ends_with_the_result(make):
    explain = lambda **options: jax.jit(make(network, **options))(X, target=1, key=KEY)
    result, history = explain(), explain(history=3)
    assert history.shape == (2, 3, 12, 10)
    np.testing.assert_allclose(history[:, 2], result, rtol=1e-9)
    assert np.abs(history[:, 0] - history[:, 1]).max() > 1e-3


@pytest.mark.parametrize("make", [MEANINGFUL, EXTREMAL])
def test_any_optimizer_and_each_example_on_its_own(make):
    """Also one that looks at all of what it is given, like the clipping of a norm."""
    explain = jax.jit(make(network, optimizer=optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.5))))
    keys = jax.random.split(KEY, 2)
    together = explain(X * jnp.array([1.0, 30.0]).reshape(2, 1, 1, 1), target=[1, 2], key=keys)
    alone = explain(X[:1], target=[1], key=keys[:1])
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-9)
    assert np.abs(together - jax.jit(make(network))(X, target=[1, 2], key=keys)).max() > 1e-3


# ---------------------------------------------------------------------------------------- meaningful perturbation


def test_the_first_step_follows_the_gradient_of_the_paper():
    """Steps of gradient descent from a mask of zeros, by finite differences of the loss written out."""
    area, variation, rate = 0.32, 4.8, 0.1
    chosen = lambda x: jax.nn.softmax(network(x))[:, 1]
    x0 = gaussian_blur(X, 2.0)

    @jax.jit
    def loss(m):
        mask = full_size(m, (12, 10), 1.0)[..., None]
        down, right = m[:, 1:] - m[:, :-1], m[:, :, 1:] - m[:, :, :-1]
        edges = (jnp.abs(down) ** 3).sum(axis=(1, 2)) + (jnp.abs(right) ** 3).sum(axis=(1, 2))
        prices = area * (1 - m).sum(axis=(1, 2)) / 16 + variation * edges / 16
        return prices + chosen(mask * X + (1 - mask) * x0)

    options = {"target_fraction": None, "area": area, "variation": variation, "optimizer": optax.sgd(rate), "jitter": 0}
    first, second = np.asarray(MEANINGFUL(network, **options, steps=2, history=2)(X, target=1)).swapaxes(0, 1)
    m = np.zeros((2, 4, 4))
    for maps in (first, second):
        m = np.clip(m - rate * slope_of(loss, m), 0, 1)
        np.testing.assert_allclose(maps, 1 - full_size(jnp.asarray(m), (12, 10), 1.0), atol=1e-9)
    assert first.min() < 1 - 1e-3


@pytest.mark.parametrize("target", [1, [1, 2], jnp.eye(3)[jnp.array([1, 2])]])
def test_the_excess_of_a_class_is_that_of_its_odds(target):
    chosen = np.broadcast_to(np.argmax(target, axis=-1) if np.ndim(target) == 2 else target, 2)
    probability = lambda x: np.asarray(jax.nn.softmax(network(x)))[np.arange(2), chosen]
    odds = lambda p: np.log(p / (1 - p))
    aim = odds(0.4 * probability(X))
    excess = remaining_score(network, X, target, "probability", 0.4)
    values = np.stack([excess(scale * X) for scale in (1.0, 0.5, 0.0, -1.0)])
    expected = [(odds(probability(scale * X)) - aim) / (odds(probability(X)) - aim) for scale in (1.0, 0.5, 0.0, -1.0)]
    np.testing.assert_allclose(values, np.maximum(0, expected), rtol=1e-9, atol=1e-12)
    assert (values == 0).any()
    assert len(np.unique(values)) > 4


@pytest.mark.parametrize(("of", "target"), [("output", 1), ("probability", lambda p: -p[:, 0])])
def test_the_excess_of_a_score_is_its_own(of, target):
    score = (lambda x: network(x)[:, 1]) if of == "output" else (lambda x: -jax.nn.softmax(network(x))[:, 0])
    drop = 0.6 * jnp.abs(score(X))
    excess = remaining_score(network, X, target, of, 0.4)
    for scale in (1.0, 0.9, -1.0):
        np.testing.assert_allclose(excess(scale * X), jnp.maximum(0, 1 - (score(X) - score(scale * X)) / drop))


@pytest.mark.parametrize("sharpness", [1.0, 1e3])
def test_as_much_is_removed_as_the_class_takes_however_certain_it_is(sharpness):
    """Either of two spots is enough for the class, and is removed; also where float32 rounds 1 - p to 0."""
    spots = lambda x: jax.nn.relu(x[:, 3, 3, 0] + x[:, 3, 12, 0] - 0.5)
    logits = lambda x: sharpness * jnp.stack([spots(x) * 10, jnp.ones(len(x)) * 4], axis=1)
    x = jnp.zeros((1, 16, 16, 1), jnp.float32).at[:, 3, 3].set(1.0).at[:, 3, 12].set(1.0)
    explain = meaningful_perturbation(logits, factor=2, mask_blur=1.0, image_blur=4.0, jitter=0)
    removed = jax.jit(explain)(x, target=0)
    kept = (1 - removed)[..., None] * x + removed[..., None] * gaussian_blur(x, 4.0)
    share = jax.nn.softmax(logits(kept))[0, 0] / jax.nn.softmax(logits(x))[0, 0]
    assert share < 0.05
    assert removed.mean() < 0.3
    assert min(removed[0, 3, 3], removed[0, 3, 12]) > 0.3
    assert removed[0, 12].max() < 0.1


def test_a_score_of_zero_has_nothing_to_lose():
    maps = meaningful_perturbation(lambda x: 0 * x.sum(axis=(1, 2, 3)), factor=3, jitter=0)(X)
    np.testing.assert_allclose(maps, 0, atol=1e-6)


def test_classes_masked_by_infinity_do_not_matter():
    masked = lambda x: jnp.concatenate([network(x), jnp.full((len(x), 2), -jnp.inf)], axis=1)
    expected = jax.jit(MEANINGFUL(network))(X, target=1, key=KEY)
    np.testing.assert_allclose(jax.jit(MEANINGFUL(masked))(X, target=1, key=KEY), expected, atol=1e-9)


@pytest.mark.parametrize("against", ["others", "softmax", "runner_up"])
def test_contrasts_are_scores_of_their_own(against):
    """Their weights are negative for other classes: no odds, but a score that can be taken away."""
    explain = jaxplain.contrast(MEANINGFUL(network), against)
    eager, jitted = explain(X, target=1, key=KEY), jax.jit(explain)(X, target=1, key=KEY)
    np.testing.assert_allclose(eager, jitted, atol=1e-9)
    assert np.ptp(jitted) > 0.01


def test_weights_decide_for_each_example_what_is_explained():
    weights = jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, -0.5]])
    excess = jax.jit(lambda x, weights: remaining_score(network, X, weights, "probability", 0.4)(x))(0.9 * X, weights)
    of_odds = remaining_score(network, X, 1, "probability", 0.4)(0.9 * X)
    itself = remaining_score(network, X, lambda p: p[:, 1] - 0.5 * p[:, 2], "probability", 0.4)(0.9 * X)
    np.testing.assert_allclose(excess, [of_odds[0], itself[1]])


@pytest.mark.parametrize("below", [10.0, 80.0, 100.0, 1e4])
def test_a_class_that_float32_gives_no_probability_has_a_slope(below):
    logits = lambda x: jnp.stack([jnp.zeros(len(x)), 2 * x[:, 0, 0, 0] - below], axis=1).astype(jnp.float32)
    x = jnp.ones((1, 4, 4, 1), jnp.float32)
    excess = remaining_score(logits, x, 1, "probability", 0.03)
    np.testing.assert_allclose(excess(x), 1, atol=1e-3)
    slope = jax.grad(lambda x: excess(x).sum())(x)[0, 0, 0, 0]
    np.testing.assert_allclose(slope, 2 / -np.log(0.03), rtol=2e-3)


@pytest.mark.parametrize(("rows", "goes"), [(10, True), (16, False)])
def test_at_the_default_price_a_class_goes_if_it_takes_less_than_half_the_image(rows, goes):
    """A score spread evenly over the first rows, in a pattern that the blur takes away."""
    checks = np.indices((24, 24)).sum(axis=0) % 2 * 2.0 - 1
    pattern = jnp.asarray(checks * (np.arange(24) < rows)[:, None], jnp.float32)[None, ..., None]
    score = lambda x: (x * pattern).sum(axis=(1, 2, 3))
    explain = meaningful_perturbation(score, factor=2, mask_blur=0.0, image_blur=5.0, jitter=0)
    removed = jax.jit(explain)(pattern)[0]
    assert removed[rows + 2 :].max() < 0.1
    assert (removed[: rows - 2].min() > 0.8) if goes else (removed.max() < 0.1)


def test_what_has_no_odds_is_never_quiet():
    infinite = lambda x: network(x).at[:, 0].set(jnp.inf)
    assert np.isnan(MEANINGFUL(infinite)(X, target=1, key=KEY)).all()
    with pytest.raises(ValueError, match="softmax of one output is 1"):
        MEANINGFUL(lambda x: network(x)[:, :1])(X, target=0, key=KEY)
    with pytest.raises(ValueError, match="target_fraction=0 must be a share"):
        MEANINGFUL(network, target_fraction=0)


def test_jitter_moves_image_and_blur_together():
    images = jnp.arange(2 * 5 * 6.0).reshape(2, 5, 6, 1)
    moved = shifts(KEY, images, images + 100, 2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    offsets = set()
    for step in range(12):
        x, x0 = moved(step)
        np.testing.assert_array_equal(x0, x + 100)
        for n in range(2):
            fits = [o for o in np.ndindex(5, 5) if (padded[n, o[0] :, o[1] :][:5, :6] == x[n]).all()]
            assert len(fits) == 1
            offsets.add((n, *fits[0]))
    assert len(offsets) > 12  # of 24 draws among 25 shifts, different for the examples


# ------------------------------------------------------------------------------------------ extremal perturbation


def test_smooth_mask():
    """The smooth maximum of bumps around every value of m, pixel by pixel."""
    m = np.random.default_rng(0).uniform(size=(1, 4, 3))
    step, sigma, shape = 3, 5.0, (11, 8)
    expected = np.zeros(shape)
    for u in np.ndindex(shape):
        v = []
        for i, j in itertools.product(range(u[0] // 3 - 3, u[0] // 3 + 4), range(u[1] // 3 - 3, u[1] // 3 + 4)):
            di, dj = (
                u[0] - (3 * i + 1),
                u[1] - (3 * j + 1),
            )  # the cells at most 1 + ⌈5 / 3⌉ away, also beyond the border
            value = m[0, np.clip(i, 0, 3), np.clip(j, 0, 2)]
            v.append(np.exp(-2 * max(0, np.hypot(di, dj) / sigma - 0.5) ** 2) * value)
        v = np.array(v)
        expected[u] = (v * np.exp(20 * v)).sum() / np.exp(20 * v).sum()
    mask = jax.jit(lambda m: smooth_mask(m, shape, step, sigma))(m)
    np.testing.assert_allclose(mask[0], expected, rtol=1e-10)


@jax.jit
def smooth(m):
    """The masks of `EXTREMAL`."""
    return smooth_mask(m, (12, 10), 3, 4.0)


@functools.cache
def pixels_of_cells():
    """For how many pixels each cell of a mask of ones stands, relative to those that it covers."""
    return slope_of(jax.jit(lambda m: smooth(m).sum(axis=(1, 2))), np.ones((1, 4, 4))) / 9


def test_no_place_is_favoured():
    """A score that sees nothing leaves masks of ones as even as the penalty finds them, also at the border."""
    blind = lambda x: jnp.zeros_like(x[:, 0, 0, 0])
    options = {"step": 4, "sigma": 8.0, "max_blur": 3.0, "steps": 1}
    mask = jax.jit(extremal_perturbation(blind, **options))(jnp.ones((1, 40, 32, 1)))[0]
    cells = mask.reshape(10, 4, 8, 4).transpose(0, 2, 1, 3).reshape(80, 16)
    assert float(1 - mask.mean()) > 1e-3
    assert float(jnp.ptp(cells.mean(axis=1))) < 0.3 * float(1 - mask.mean())


def test_blur_pyramid():
    perturb = blur_pyramid(X, 5, 4.0)
    at = lambda value: perturb(jnp.full((2, 12, 10), value))
    np.testing.assert_allclose(at(1.0), X, rtol=1e-12)
    np.testing.assert_allclose(at(0.0), gaussian_blur(X, 4.0), rtol=1e-12)
    np.testing.assert_allclose(at(0.5), gaussian_blur(X, 2.0), rtol=1e-12)
    np.testing.assert_allclose(at(0.65), 0.4 * gaussian_blur(X, 2.0) + 0.6 * gaussian_blur(X, 1.0), rtol=1e-12)


def test_area_excess():
    masks = np.random.default_rng(1).uniform(size=(3, 4, 5))
    for area, ones in ((0.1, 2), (0.25, 5), (0.6, 12)):
        ranked = np.array([sorted(mask.ravel(), reverse=True) for mask in masks])
        expected = ((ranked[:, :ones] - 1) ** 2).sum(axis=1) + (ranked[:, ones:] ** 2).sum(axis=1)
        np.testing.assert_allclose(area_excess(jnp.asarray(masks), jnp.asarray(area)), expected / 20, rtol=1e-12)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("reward", ["score", "contrastive"])
def test_what_is_rewarded(variant, reward):
    """Two steps of gradient descent without the penalty, by finite differences of the objective written out."""
    rate = 0.05
    perturb = blur_pyramid(X, 3, 3.0)

    def score(mask):
        y = network(perturb(mask))
        return y[:, 1] - (jnp.maximum(y[:, 0], y[:, 2]) if reward == "contrastive" else 0)

    @jax.jit
    def loss(m):
        mask = smooth(m)
        kept, deleted = {"preserve": (1, 0), "delete": (0, -1), "dual": (1, -1)}[variant]
        return -(kept * score(mask) + deleted * score(1 - mask))

    options = {"variant": variant, "reward": reward, "penalty": 0.0, "optimizer": optax.sgd(rate)}
    maps = jax.jit(EXTREMAL(network, **options, steps=2, history=2))(X, target=1)
    m = np.ones((2, 4, 4))
    for t in range(2):
        m = np.clip(m - rate * slope_of(loss, m) / pixels_of_cells(), 0, 1)
        np.testing.assert_allclose(maps[:, t], smooth(m), atol=1e-7)
    assert np.abs(m - 1).max() > 0.01


def test_the_penalty_grows_as_it_does_in_800_steps():
    """A score that sees nothing leaves the penalty, whose weight is ``300 · 1.0035^(800 t / steps)``."""
    rate, area = 0.01, 0.3
    blind = lambda x: jnp.zeros_like(x[:, 0, 0, 0])
    options = {"areas": (area,), "optimizer": optax.sgd(rate), "steps": 4, "history": 4}
    maps = jax.jit(EXTREMAL(blind, **options))(X)
    descent = jax.jit(jax.grad(lambda m: area_excess(smooth(m), jnp.asarray(area)).sum()))
    m = jnp.ones((2, 4, 4))
    for t in range(4):
        slope = descent(m) / pixels_of_cells()
        m = jnp.clip(m - rate * 300 * 1.0035 ** (200 * t) * slope, 0, 1)
        np.testing.assert_allclose(maps[:, t], smooth(m), atol=1e-9)
    assert 0.1 < float(m.mean()) < 0.9


def test_areas_add_up():
    explain = lambda areas, chunk=1: jax.jit(EXTREMAL(network, areas=areas, chunk=chunk))(X, target=2)
    expected = explain((0.1,)) + explain((0.6,))
    for chunk in (1, None):
        np.testing.assert_allclose(explain((0.1, 0.6), chunk), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (MEANINGFUL, {"steps": 0}, "steps=0 must be a positive integer"),
        (MEANINGFUL, {"history": 0}, "history=0 must be a positive integer"),
        (EXTREMAL, {"history": 4}, "steps=6 do not divide into history=4 equal stretches: choose a divisor"),
        (EXTREMAL, {"optimizer": "adam"}, r"optimizer is str: pass an optax transformation like optax.adam\(0.1\)"),
        (MEANINGFUL, {"factor": 0}, "factor=0 must be a positive integer"),
        (MEANINGFUL, {"image_blur": 0.0}, "image_blur=0.0 must be positive"),
        (MEANINGFUL, {"exponent": 0.5}, "exponent=0.5 at least 1"),
        (MEANINGFUL, {"of": "logit"}, "unknown of='logit'"),
        (MEANINGFUL, {"key": None}, r"meaningful_perturbation draws random numbers: pass key=jax.random.key\(0\)"),
        (EXTREMAL, {"areas": ()}, r"areas=\(\) must be shares of the image, at least one, each in \(0, 1\)"),
        (EXTREMAL, {"areas": (0.1, 10)}, r"areas=\(0.1, 10\) must be shares"),
        (EXTREMAL, {"areas": 0.1}, "areas=0.1 must be shares"),
        (EXTREMAL, {"variant": "hide"}, "unknown variant='hide': choose preserve, delete or dual"),
        (EXTREMAL, {"reward": "margin"}, "unknown reward='margin': choose score or contrastive"),
        (EXTREMAL, {"sigma": 0.0}, "sigma=0.0, max_blur=3.0 and growth=1.0035 must be positive"),
        (EXTREMAL, {"levels": 1}, "levels=1 must be at least 2"),
        (EXTREMAL, {"reward": "contrastive", "target": lambda y: y[:, 0]}, "the contrastive reward needs a class"),
        (EXTREMAL, {"reward": "contrastive", "target": np.ones((2, 3))}, "the contrastive reward needs a class"),
        (EXTREMAL, {"reward": "contrastive", "target": 3}, "target class 3 is out of range"),
    ],
)
def test_errors(make, options, sentence):
    key, target = options.pop("key", KEY), options.pop("target", None)
    with pytest.raises((ValueError, TypeError), match=sentence):
        make(network, **options)(X, target=target, key=key)


def test_contrast_needs_classes():
    with pytest.raises(ValueError, match=r"the contrastive reward needs outputs \(N, classes\) with two or more"):
        EXTREMAL(lambda x: network(x)[:, 0], reward="contrastive")(X)
