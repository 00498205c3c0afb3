"""The gradient family: parity with captum, completeness, and naive versions of what captum does not have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain._gradients import quadrature
from jaxplain._images import gaussian_blur
from tests.networks import NETWORKS, peer_numbers

PEERS, SHARED = peer_numbers("captum_gradients.npz")
X, TARGETS, BASELINE = (jnp.asarray(SHARED[key]) for key in ("images", "targets", "baseline"))


def relative_error(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def score(name, x):
    module, variables, _ = PEERS[name]
    return jnp.take_along_axis(module.apply(variables, x), TARGETS[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_twins_compute_the_same(name):
    module, variables, numbers = PEERS[name]
    assert relative_error(module.apply(variables, X), numbers["outputs"]) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", [jaxplain.gradient, jaxplain.input_x_gradient])
def test_parity_with_captum(name, method):
    module, variables, numbers = PEERS[name]
    maps = jax.jit(method(module.apply))(variables, X, target=TARGETS)
    assert relative_error(maps, numbers[method.__name__]) < 1e-8


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule", ["gauss_legendre", "riemann_left", "riemann_right", "riemann_middle"])
def test_parity_of_integrated_gradients_with_captum(name, rule):
    module, variables, numbers = PEERS[name]
    explain = jaxplain.integrated_gradients(module.apply, baseline=BASELINE, steps=64, rule=rule, chunk=16)
    maps = jax.jit(explain)(variables, X, target=TARGETS)
    assert relative_error(maps, numbers[f"integrated_gradients/{rule}"]) < 1e-6


@pytest.mark.parametrize("rule", ["gauss_legendre", "riemann_trapezoid", "riemann_middle"])
def test_completeness_of_integrated_gradients(rule):
    module, variables, _ = PEERS["smooth"]
    explain = jaxplain.integrated_gradients(module.apply, baseline=BASELINE, steps=400, rule=rule, chunk=80)
    total = jax.jit(explain)(variables, X, target=TARGETS).sum(axis=(1, 2, 3))
    difference = score("smooth", X) - score("smooth", jnp.broadcast_to(BASELINE, X.shape))
    np.testing.assert_allclose(total, difference, rtol=1e-12 if rule == "gauss_legendre" else 1e-4)


PATHS = {  # from a baseline to the input
    "straight": lambda x0, x, t: x0 + t * (x - x0),
    "ever faster": lambda x0, x, t: x0 + t**3 * (x - x0),
    "around": lambda x0, x, t: x0 + t * (x - x0) + jnp.sin(np.pi * t) * jnp.cos(x),
    "colour by colour": lambda x0, x, t: x0 + t ** jnp.arange(1, 4).reshape(1, 1, 1, 3) * (x - x0),
}


@pytest.mark.parametrize("name", PATHS)
def test_integrated_gradients_along_a_path(name):
    """Complete along every one; along the same points at another speed they are the same."""
    module, variables, _ = PEERS["smooth"]
    explain = jaxplain.integrated_gradients(module.apply, baseline=BASELINE, path=PATHS[name])
    maps = jax.jit(explain)(variables, X, target=TARGETS)
    difference = score("smooth", X) - score("smooth", jnp.broadcast_to(BASELINE, X.shape))
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), difference, rtol=1e-9)
    straight = jaxplain.integrated_gradients(module.apply, baseline=BASELINE)(variables, X, target=TARGETS)
    assert (relative_error(maps, straight) < 1e-9) == (name in ("straight", "ever faster"))


def test_blurring_is_a_path():
    module, variables, _ = PEERS["smooth"]
    path = lambda x0, x, t: gaussian_blur(x, 3.0 * (1 - t) ** 2)
    maps = jaxplain.integrated_gradients(module.apply, path=path)(variables, X, target=TARGETS)
    of_blur = jaxplain.blur_integrated_gradients(module.apply, max_sigma=3.0)(variables, X, target=TARGETS)
    np.testing.assert_allclose(maps, of_blur, rtol=1e-12)


def test_a_path_has_points_like_the_input():
    explain = jaxplain.integrated_gradients(lambda x: x.sum(axis=(1, 2, 3)), path=lambda x0, x, t: t * x[0])
    with pytest.raises(ValueError, match=r"path\(x0, x, t\) returned shape \(8, 8, 3\), float64: return a point"):
        explain(X)


@pytest.mark.parametrize(
    "rule", ["gauss_legendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]
)
def test_quadratures_integrate_what_they_promise(rule):
    nodes, weights = quadrature(rule, 8)
    assert weights.sum() == pytest.approx(1)
    degree = {"gauss_legendre": 15, "riemann_middle": 1, "riemann_trapezoid": 1}.get(rule, 0)
    for power in range(degree + 1):
        assert (weights * nodes**power).sum() == pytest.approx(1 / (power + 1))


def test_completeness_of_blur_integrated_gradients():
    module, variables, _ = PEERS["smooth"]
    explain = jaxplain.blur_integrated_gradients(module.apply, max_sigma=3.0, steps=100)
    total = jax.jit(explain)(variables, X, target=TARGETS).sum(axis=(1, 2, 3))
    difference = score("smooth", X) - score("smooth", gaussian_blur(X, 3.0))
    np.testing.assert_allclose(total, difference, rtol=1e-6)


def test_the_blur():
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_blur(jnp.asarray(np.eye(41)[None, :, :, None]), 2.0)[0, :, :, 0]
    expected = gaussian_filter(np.eye(41), 2.0, truncate=12)
    np.testing.assert_allclose(blurred[13:-13, 13:-13], expected[13:-13, 13:-13], atol=1e-12)
    np.testing.assert_allclose(gaussian_blur(jnp.full((1, 5, 9, 2), 3.0), 50.0), 3.0)  # a constant stays
    np.testing.assert_allclose(gaussian_blur(X, 0.0), X)
    assert np.isfinite(jax.jit(jax.jacfwd(lambda s: gaussian_blur(X, s)))(0.0)).all()


def naive_guided_integrated_gradients(slope, x, x0, steps, fraction, max_distance):
    """One image, features one by one in groups, in NumPy: a second reading of the paper's algorithm."""
    now, total = x0.copy(), np.zeros_like(x)
    full = np.abs(x - x0).sum()
    for step in range(1, steps + 1):
        grad, alpha = slope(now), step / steps
        before = now.copy()
        lower, upper = (x0 + np.clip(alpha + d, 0, 1) * (x - x0) for d in (-max_distance, max_distance))
        late = np.abs(now - x0) < np.abs(lower - x0)
        now[late] = lower[late]
        frozen = now == upper
        while (spend := np.abs(x - now).sum() - (1 - alpha) * full) > 1e-12 * full and not frozen.all():
            candidates = np.argsort(np.where(frozen, np.inf, np.abs(grad)), axis=None)[: round(fraction * x.size)]
            moving = np.zeros(x.size, bool)
            moving[candidates] = True
            moving = moving.reshape(x.shape) & ~frozen
            room = np.abs(upper - now)[moving].sum()
            share = min(1.0, spend / room) if room > 0 else 1.0
            now[moving] = upper[moving] if share == 1 else (now + share * (upper - now))[moving]
            frozen |= moving
        total += grad * (now - before)
    return total


@pytest.mark.parametrize(("fraction", "max_distance"), [(0.25, 0.02), (0.1, 0.3), (1.0, 1.0)])
def test_guided_integrated_gradients_against_a_naive_version(fraction, max_distance):
    module, variables, _ = PEERS["smooth"]
    explain = jaxplain.guided_integrated_gradients(
        module.apply, baseline=BASELINE, steps=20, fraction=fraction, max_distance=max_distance
    )
    maps = jax.jit(explain)(variables, X, target=TARGETS)
    for i in range(2):
        slope = jax.jit(jax.grad(lambda x, i=i: module.apply(variables, x[None])[0, TARGETS[i]]))
        naive = naive_guided_integrated_gradients(
            lambda x, slope=slope: np.asarray(slope(x)),
            np.array(X[i]),
            np.array(BASELINE[0]),
            20,
            fraction,
            max_distance,
        )
        assert relative_error(maps[i], naive) < 1e-8


def test_guided_integrated_gradients_is_complete_and_straight_at_distance_zero():
    module, variables, _ = PEERS["smooth"]
    guided = functools.partial(jaxplain.guided_integrated_gradients, module.apply, baseline=BASELINE)
    total = jax.jit(guided(steps=800))(variables, X, target=TARGETS).sum(axis=(1, 2, 3))
    difference = score("smooth", X) - score("smooth", jnp.broadcast_to(BASELINE, X.shape))
    np.testing.assert_allclose(total, difference, rtol=1e-2)
    straight = jaxplain.integrated_gradients(module.apply, baseline=BASELINE, steps=10, rule="riemann_left")
    np.testing.assert_allclose(
        guided(steps=10, max_distance=0.0)(variables, X, target=TARGETS),
        straight(variables, X, target=TARGETS),
        atol=1e-12,
    )


def test_expected_gradients_approach_the_mean_over_baselines():
    module, variables, _ = PEERS["smooth"]
    baselines = jax.random.normal(jax.random.key(3), (4, 8, 8, 3)) * 0.3
    explain = jaxplain.expected_gradients(module.apply, baselines=baselines, samples=4000, chunk=500)
    maps = jax.jit(explain)(variables, X, target=TARGETS, key=jax.random.key(0))
    exact = jaxplain.ensemble([jaxplain.integrated_gradients(module.apply, baseline=b) for b in baselines])
    exact_maps = jax.jit(exact)(variables, X, target=TARGETS)
    assert relative_error(maps, exact_maps) < 0.05
    total = exact_maps.sum(axis=(1, 2, 3))
    expected = score("smooth", X) - jnp.stack([score("smooth", jnp.stack([b, b])) for b in baselines]).mean(axis=0)
    np.testing.assert_allclose(total, expected, rtol=1e-10)
