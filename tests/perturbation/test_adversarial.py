"""Attacks and adversarial explanations: each against its steps written out in Python, and what they are for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain._images import gaussian_blur
from jaxplain.perturbation import (
    adversarial_gradient_integration,
    deepfool,
    fgsm,
    generators,
    perceptual_ball,
    pgd,
    similar_adversarial,
)
from jaxplain.perturbation._adversarial import (
    boundary_distance,
    layer_features,
    lbfgs,
    minimise,
    optimise_pair,
    pair_loss,
    perceptual_loss,
)

KEY = jax.random.key(8)
X = jax.random.normal(jax.random.key(0), (3, 5, 4, 2), jnp.float64)
V = jax.random.normal(jax.random.key(1), (40, 12), jnp.float64) * 0.3
W = jax.random.normal(jax.random.key(2), (12, 4), jnp.float64)
TARGETS = np.array([2, 0, 1])


def network(x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ V) @ W


def log_p(x, classes):
    return jnp.take_along_axis(jax.nn.log_softmax(network(x)), jnp.asarray(classes)[:, None], axis=1)[:, 0]


def slope(x, classes):
    return np.asarray(jax.grad(lambda x: log_p(x, classes).sum())(jnp.asarray(x)))


def norms(v):
    return np.sqrt((np.asarray(v) ** 2).sum(axis=(1, 2, 3), keepdims=True))


# ------------------------------------------------------------------------------------------------------------ attacks


def test_fgsm():
    away = np.asarray(X) - 0.1 * np.sign(slope(X, TARGETS))
    np.testing.assert_allclose(fgsm(network, epsilon=0.1)(X, target=TARGETS), away, rtol=1e-12)
    toward = np.asarray(X) + 0.1 * np.sign(slope(X, [3, 3, 3]))
    np.testing.assert_allclose(fgsm(network, epsilon=0.1, toward=3)(X, target=TARGETS), toward, rtol=1e-12)
    clipped = fgsm(network, epsilon=0.1, bounds=(-0.5, np.array([0.3, 0.4])))(X, target=TARGETS)
    np.testing.assert_allclose(clipped, np.clip(away, -0.5, [0.3, 0.4]), rtol=1e-12)


def test_fgsm_lowers_any_score():
    """Weights are of log-probabilities; scores and callables are lowered as they are."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    score = lambda x: (jax.nn.log_softmax(network(x)) * weights).sum(axis=1)
    expected = X - 0.1 * jnp.sign(jax.grad(lambda x: score(x).sum())(X))
    for attacked, target in ((network, weights), (score, None)):
        np.testing.assert_allclose(fgsm(attacked, epsilon=0.1)(X, target=target), expected, rtol=1e-12)
    expected = X - 0.1 * jnp.sign(jax.grad(lambda x: network(x)[:, 1].sum())(X))
    np.testing.assert_allclose(fgsm(network, epsilon=0.1)(X, target=lambda y: y[:, 1]), expected, rtol=1e-12)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_pgd(norm):
    """Its steps, its projections to the ball and to the bounds."""
    epsilon, step, steps = (0.2, 0.07, 5) if norm == "inf" else (0.6, 0.25, 5)
    bounds = (-1.5, 1.2)
    start = np.clip(X, *bounds)
    now = start
    for _ in range(steps):
        way = slope(now, TARGETS)
        change = now - step * (np.sign(way) if norm == "inf" else way / norms(way)) - start
        near = np.clip(change, -epsilon, epsilon) if norm == "inf" else change * np.minimum(1, epsilon / norms(change))
        now = np.clip(start + near, *bounds)
    attack = pgd(network, epsilon=epsilon, step=step, steps=steps, norm=norm, bounds=bounds, random_start=False)
    images = jax.jit(attack)(start, target=TARGETS)
    np.testing.assert_allclose(images, now, rtol=1e-10)
    assert (log_p(images, TARGETS) < log_p(start, TARGETS)).all()


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_pgd_starts_anywhere_in_the_ball(norm):
    same = jnp.tile(X[:1], (200, 1, 1, 1))
    still = jax.jit(pgd(network, epsilon=0.3, step=0.0, steps=1, norm=norm))
    changes = np.asarray(still(same, key=KEY) - same).reshape(200, -1)
    sizes = np.abs(changes).max(axis=1) if norm == "inf" else np.sqrt((changes**2).sum(axis=1))
    assert sizes.max() <= 0.3 + 1e-6
    assert np.unique(changes[:, 0]).size == 200
    deviation = 0.3 / np.sqrt(3 if norm == "inf" else 42)  # of a coordinate, uniform in the ball of 40 dimensions
    np.testing.assert_allclose(changes.std(), deviation, rtol=0.05)
    attack = jax.jit(pgd(network, epsilon=0.3, step=0.1, steps=4, norm=norm))
    alone = attack(X[:1], target=TARGETS[:1], key=jax.random.split(KEY, 3)[:1])
    np.testing.assert_allclose(attack(X, target=TARGETS, key=jax.random.split(KEY, 3))[0], alone[0], rtol=1e-10)


# ----------------------------------------------------------------------------------------------------------- deepfool


def test_deepfool_is_exact_on_a_linear_network():
    """One step to the nearest of the hyperplanes ``z_k = z_c``, and ``overshoot`` beyond."""
    a = jax.random.normal(KEY, (40, 4), jnp.float64)
    f = lambda x: x.reshape(x.shape[0], -1) @ a
    change = np.asarray(jax.jit(deepfool(f, overshoot=0.1))(X)).reshape(3, -1)
    z = np.asarray(f(X))
    for n, c in enumerate(z.argmax(axis=1)):
        ways = [(np.abs(z[n, k] - z[n, c]), np.asarray(a[:, k] - a[:, c])) for k in range(4) if k != c]
        gap, way = min(ways, key=lambda pair: pair[0] / np.linalg.norm(pair[1]))
        np.testing.assert_allclose(change[n], 1.1 * gap / (way @ way) * way, rtol=1e-10)
    rivals = np.argsort(z)[:, -2]  # the only candidate: the runner-up
    change = np.asarray(deepfool(f, overshoot=0.0, candidates=1)(X))
    moved = np.asarray(f(X + change))
    np.testing.assert_allclose(moved[range(3), rivals], moved[range(3), z.argmax(axis=1)], rtol=1e-9)


def test_deepfool_reaches_another_class_by_little():
    change = jax.jit(deepfool(network, overshoot=0.02))(X)
    seen = network(X).argmax(axis=1)
    lead = lambda z: z[jnp.arange(3), seen] - z.at[jnp.arange(3), seen].set(-jnp.inf).max(axis=1)
    assert (lead(network(X + change)) < -0.01 * lead(network(X))).all()  # by more than rounding
    shorter = network(X + 0.95 * change).argmax(axis=1)  # 1 / 1.02 of it leads to the boundary
    np.testing.assert_array_equal(shorter, network(X).argmax(axis=1))
    other = (network(X).argmax(axis=1) + 1) % 4  # is not seen: nothing to change
    np.testing.assert_array_equal(deepfool(network)(X, target=other), jnp.zeros_like(X))


# ----------------------------------------------------------------------------------- adversarial gradient integration


def naive_integration(x, c, classes, steps, epsilon, bounds):
    """The map of one image, in loops."""
    p = jax.jit(lambda x: jax.nn.softmax(network(x[None]))[0])
    of = jax.jit(jax.grad(lambda x, i: p(x)[i]))
    total = np.zeros(x.shape)
    for i in classes:
        now = np.asarray(x)
        for _ in range(steps):
            if i == c or p(now).argmax() == i:
                break
            then = np.clip(now + epsilon * np.sign(of(now, i)), *bounds)
            total += -np.asarray(of(now, c)) * (then - now)
            now = then
    return total


@pytest.mark.parametrize("steps", [3, 30])
def test_adversarial_gradient_integration(steps):
    classes, epsilon, bounds = [0, 3, 1], 0.02, (-1.5, 1.5)
    start = jnp.clip(X, *bounds)
    make = functools.partial(adversarial_gradient_integration, classes=classes, steps=steps, epsilon=epsilon)
    maps = jax.jit(make(network, bounds=bounds, chunk=2))(start, target=TARGETS)
    for n in range(3):
        expected = naive_integration(start[n], TARGETS[n], classes, steps, epsilon, bounds)
        np.testing.assert_allclose(maps[n], expected, rtol=1e-9, atol=1e-14)


def test_all_other_classes_are_drawn_where_there_are_few():
    drawn = jax.jit(adversarial_gradient_integration(network, steps=4))(X, target=TARGETS, key=KEY)
    given = jax.jit(adversarial_gradient_integration(network, classes=np.arange(4), steps=4))(X, target=TARGETS)
    np.testing.assert_allclose(drawn, given, rtol=1e-9)


def test_integrated_paths_sum_to_what_the_probability_loses():
    explain = adversarial_gradient_integration(network, classes=[1], steps=400, epsilon=5e-3)
    maps = jax.jit(explain)(X[:1], target=TARGETS[:1])

    def go(now):
        way = jax.grad(lambda x: jax.nn.log_softmax(network(x))[0, 1])(now)
        return now + 5e-3 * jnp.sign(way)

    end = jax.jit(lambda x: jax.lax.while_loop(lambda now: network(now)[0].argmax() != 1, go, x))(X[:1])
    lost = jax.nn.softmax(network(X[:1]))[0, 2] - jax.nn.softmax(network(end))[0, 2]
    assert lost > 0.02
    np.testing.assert_allclose(maps.sum(), lost, rtol=0.05)


# ---------------------------------------------------------------------------------------------------- perceptual ball


def test_perceptual_ball_is_the_best_of_its_steps():
    """Gradient descent on the loss written out, one image after the other; the point of the lowest loss is taken."""
    gamma, confidence, rate, steps = 3.0, 0.5, 0.4, 5
    phi = lambda x: [jnp.sin(x[:, :3]), x[..., 0] ** 2]
    options = {"gamma": gamma, "confidence": confidence, "steps": steps, "blur": 0.7, "features": phi}
    maps = jax.jit(perceptual_ball(network, optimizer=optax.sgd(rate), **options))(X, target=TARGETS)

    @functools.partial(jax.jit, static_argnums=2)
    @jax.value_and_grad
    def loss(v, x, c):
        noticed = sum(((a - b) ** 2).mean() for a, b in zip(phi(v), phi(x), strict=True))
        z = network(v)[0]
        gap = z[c] - jnp.delete(z, c, assume_unique_indices=True).max()
        return gamma * noticed + ((v - x) ** 2).mean() + (gap + confidence) ** 2

    for n, c in enumerate(TARGETS):
        x = v = X[n : n + 1]
        seen = []
        for _ in range(steps):
            value, slope = loss(v, x, int(c))
            seen.append((float(value), v))
            v = v - rate * slope
        best = min(seen, key=lambda pair: pair[0])[1]
        rms = jnp.sqrt(((best - x) ** 2).mean(axis=-1, keepdims=True))
        np.testing.assert_allclose(maps[n], gaussian_blur(rms, 0.7)[0, ..., 0], rtol=1e-8, atol=1e-12)


def convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolutions(variables, x):
    for w in variables:
        x = jax.nn.relu(convolve(x, w))
        x = jax.ad_checkpoint.checkpoint_name(x, f"layer{w.shape[3]}")
    return x.mean(axis=(1, 2)) @ jnp.eye(x.shape[-1])[:, :3]


def test_perceptual_ball_looks_at_layers():
    """Layers counted, layers named, features given by hand: outputs over their root mean square at x."""
    keys = jax.random.split(KEY, 2)
    variables = [jax.random.normal(key, (3, 3, c, c + 3), jnp.float64) for key, c in zip(keys, (2, 5), strict=True)]
    make = functools.partial(perceptual_ball, convolutions, gamma=0.3, steps=12, optimizer=optax.sgd(0.1))
    explain = lambda **options: np.asarray(jax.jit(make(**options))(variables, X))

    def features(variables, x):
        first = jax.nn.relu(convolve(x, variables[0]))
        return [first, jax.nn.relu(convolve(first, variables[1]))]

    sizes = [np.sqrt((np.asarray(y) ** 2).mean(axis=(1, 2, 3), keepdims=True)) for y in features(variables, X)]
    scaled = lambda variables, x: [y / size for y, size in zip(features(variables, x), sizes, strict=True)]
    named = explain(layers=["layer5", "layer8"])
    np.testing.assert_allclose(named, explain(features=scaled), rtol=1e-8, atol=1e-12)
    assert np.abs(explain(layers=2) - explain(layers=1)).max() > 1e-6
    np.testing.assert_allclose(explain(layers=9), explain(layers=2), rtol=1e-10)  # there are no more


def test_perceptual_ball_leads_to_another_class():
    options = {"gamma": 0.1, "confidence": 0.5, "blur": 0.0}
    maps = jax.jit(perceptual_ball(network, **options))(X)
    assert (np.asarray(maps) >= 0).all()
    chosen = jax.nn.one_hot(network(X).argmax(axis=1), 4)  # a map does not give its image back

    @jax.jit
    def minimised(x):
        return minimise(perceptual_loss(network, layer_features(network, x, 6), x, chosen, 0.1, 0.5), x, lbfgs(), 100)

    changed = minimised(X)
    assert (network(changed).argmax(axis=1) != network(X).argmax(axis=1)).all()
    np.testing.assert_allclose(maps, jnp.sqrt(((changed - X) ** 2).mean(axis=-1)), rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------------------------------------- similar, adversarial


def test_the_loss_of_a_pair():
    similar, adversarial = X + 0.1, X - 0.2 * X**2
    chosen = jax.nn.one_hot(TARGETS, 4)
    margin = lambda x, n: (z := network(x)[n])[TARGETS[n]] - jnp.delete(z, TARGETS[n]).max()
    unit = boundary_distance(network, X, chosen, 1.5)
    values = pair_loss(network, X, similar, adversarial, chosen, unit, 1.5, 0.7)
    for n in range(3):
        m, s, a = (float(margin(v, n)) for v in (X, similar, adversarial))
        length = np.linalg.norm(jax.grad(lambda x, n=n: margin(x, n))(X)[n])
        np.testing.assert_allclose(unit[n].item(), (abs(m) + 1.5) / length, rtol=1e-10)
        far = [float(((v[n] - w[n]) ** 2).sum()) for v, w in ((adversarial, similar), (similar, X), (adversarial, X))]
        expected = max(1.5 - s, 0) ** 2 + max(1.5 + a, 0) ** 2 + 0.7 * sum(far) / unit[n].item() ** 2
        np.testing.assert_allclose(values[n], expected, rtol=1e-10)


def test_similar_and_adversarial_images():
    """One is seen as the target, also where the image itself is not, and one is not; both are close."""
    options = {"confidence": 0.5, "closeness": 0.01}
    maps = jax.jit(similar_adversarial(network, **options))(X, target=TARGETS)
    chosen = jax.nn.one_hot(TARGETS, 4)
    pair = jax.jit(lambda x: optimise_pair(network, x, chosen, lambda x: x, 0.5, 0.01, lbfgs(), 100))
    similar, adversarial = pair(X)
    np.testing.assert_array_equal(network(similar).argmax(axis=1), TARGETS)
    assert (network(adversarial).argmax(axis=1) != TARGETS).all()
    np.testing.assert_allclose(maps, jnp.abs(adversarial - similar), rtol=1e-6, atol=1e-9)
    kept = similar_adversarial(network, bounds=(X, X), steps=3)(X)  # no room to move
    np.testing.assert_array_equal(kept, jnp.zeros_like(X))


# --------------------------------------------------------------------------------------------------------- generators


@pytest.fixture(scope="module")
def trained():
    """Two generators for a network of colours, and the batches that they have seen."""
    images = np.random.default_rng(0).uniform(size=(4, 8, 9, 6, 2))
    images[:, :4, ..., 0] += 0.7
    images[:, 4:, ..., 1] += 0.7
    batches = [jnp.asarray(batch) for batch in images] * 15
    train = functools.partial(
        *(generators.train_generators, colours, 3.0),
        batches=batches,
        features=4,
        depth=1,
        optimizer=optax.adam(1e-2),
        closeness=0.1,
    )
    return train, train(key=KEY), batches[0]


def colours(scale, x):
    return scale * x.mean(axis=(1, 2)) @ jnp.eye(2, dtype=x.dtype)


def test_training_lowers_the_loss(trained):
    train, pair, x = trained
    f = lambda x: colours(3.0, x)
    chosen = jax.nn.one_hot(f(x).argmax(axis=1), 2)
    unit = boundary_distance(f, x, chosen, 1.0)
    loss = lambda pair: float(pair_loss(f, x, *pair(x), chosen, unit, 1.0, 0.1).mean())
    untrained = train(key=KEY, batches=[x], optimizer=optax.sgd(0.0))
    np.testing.assert_array_equal(untrained(x)[0], x)  # a U-Net begins as the identity
    assert loss(pair) < 0.5 * loss(untrained)
    similar, adversarial = pair(x)
    assert (f(similar).argmax(axis=1) == f(x).argmax(axis=1)).mean() > 0.8
    assert (f(adversarial).argmax(axis=1) != f(x).argmax(axis=1)).mean() > 0.8
    maps = jax.jit(generators.similar_adversarial_generators(colours, pair))(3.0, x)
    np.testing.assert_allclose(maps, jnp.abs(adversarial - similar), rtol=1e-5, atol=1e-6)


def test_generators_are_reproducible_and_saved(trained, tmp_path):
    train, pair, x = trained
    short = [train(key=KEY, batches=[x]), train(key=KEY, batches=iter([x]))]
    jax.tree.map(np.testing.assert_array_equal, short[0].similar, short[1].similar)
    generators.save(pair, tmp_path / "pair.msgpack")
    again = generators.load(tmp_path / "pair.msgpack")
    assert (again.features, again.depth) == (4, 1)
    for ours, theirs in zip(again(x), pair(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batches": []}, "train_generators got no batch to train with"),
        ({"batches": [jnp.ones((2, 4))]}, r"takes batches of images \(N, H, W, C\), got shape \(2, 4\)"),
        ({"depth": 0}, "depth=0 must be a positive integer"),
    ],
)
def test_errors_of_training(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        generators.train_generators(network, **{"batches": [X], "key": KEY} | options)


def test_generators_explain_no_other_class(trained):
    with pytest.raises(ValueError, match="explain no other: leave target=None"):
        generators.similar_adversarial_generators(colours, trained[1])(3.0, X, target=1)


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("make", [adversarial_gradient_integration, perceptual_ball, similar_adversarial, deepfool])
def test_methods_that_need_classes_say_so(make):
    for target in (lambda y: y[:, 0], np.ones((3, 4))):
        with pytest.raises(ValueError, match=rf"{make.__name__} needs a class as its target: an int"):
            make(network)(X, target=target, key=KEY)
    with pytest.raises(ValueError, match=rf"{make.__name__} needs outputs \(N, classes\) with two or more"):
        make(lambda x: network(x)[:, 0])(X, key=KEY)
    with pytest.raises(ValueError, match="target class 4 is out of range"):
        make(network)(X, target=4, key=KEY)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (fgsm, {"epsilon": 0.1, "bounds": (0, np.ones(3))}, r"bounds must be \(low, high\), each of which broadcasts"),
        (fgsm, {"epsilon": 0.1, "bounds": 1.0}, r"bounds must be \(low, high\)"),
        (fgsm, {"epsilon": 0.1, "toward": 7}, "target class 7 is out of range"),
        (pgd, {"epsilon": 0.1, "step": 0.1, "steps": 0}, "steps=0 must be a positive integer"),
        (pgd, {"epsilon": 0.1, "step": 0.1, "steps": 1, "norm": "1"}, "unknown norm '1': choose inf or 2"),
        (pgd, {"epsilon": 0.1, "step": 0.1, "steps": 1}, r"pgd with a random start draws random numbers: pass key="),
        (deepfool, {"steps": 0}, "steps=0 must be a positive integer"),
        (deepfool, {"overshoot": -1.0}, "overshoot=-1.0 must not be negative"),
        (adversarial_gradient_integration, {"classes": 0}, "classes=0 must be a positive integer"),
        (adversarial_gradient_integration, {"classes": [9]}, "class 9 of classes= is out of range: there are 0 to 3"),
        (adversarial_gradient_integration, {"classes": [0.5]}, r"or the classes, \(M,\) ints"),
        (adversarial_gradient_integration, {}, r"adversarial_gradient_integration draws random numbers: pass key="),
        (perceptual_ball, {"steps": 0}, "steps=0 must be a positive integer"),
        (perceptual_ball, {"layers": ["conv9"]}, "conv9"),
        (similar_adversarial, {"steps": 0}, "steps=0 must be a positive integer"),
        (similar_adversarial, {"optimizer": "adam"}, r"optimizer is str: pass an optax transformation"),
        (perceptual_ball, {"optimizer": "adam"}, r"optimizer is str: pass an optax transformation"),
    ],
)
def test_errors(make, options, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        make(network, **options)(X)
