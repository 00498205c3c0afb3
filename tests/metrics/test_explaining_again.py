"""Metrics that explain again: robustness, sanity checks, axioms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from scipy import stats

import jaxplain
from jaxplain import metrics
from tests import planted
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("quantus_metrics.npz")
MODULE, VARIABLES, _ = PEERS["residual"]
X, TARGETS = (jnp.asarray(SHARED[key]) for key in ("images", "targets"))
KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- robustness


def test_neighbours_are_drawn_as_promised():
    """An explainer that returns its input: the changes of the explanation are the noise itself."""
    explain = jaxplain.explainer(lambda x: x.sum(axis=(1, 2, 3)))(lambda f, x, target, key: x)
    x = jnp.ones((2, 10, 10, 3))
    run = lambda metric, **options: metric(explain, samples=50, **options)(x, key=KEY)
    uniform = 0.4 / np.sqrt(3)  # the root mean square in a box of half the side 0.4
    np.testing.assert_allclose(run(metrics.avg_sensitivity, radius=0.4), uniform, rtol=0.02)
    largest = run(metrics.max_sensitivity, radius=0.4)
    assert (uniform < largest).all()
    assert (largest < 1.2 * uniform).all()
    assert largest[0] != largest[1]
    close(run(metrics.local_lipschitz_estimate), 1)


def test_random_explainers_get_the_same_numbers_everywhere():
    explain = jaxplain.smooth(jaxplain.gradient(lambda x: x.sum(axis=(1, 2, 3)) ** 2), samples=3, stdev=5.0)
    still = metrics.max_sensitivity(explain, noise=np.zeros((2, 8, 8, 3)))
    close(still(X, key=KEY), 0)


def test_the_class_is_that_of_the_input():
    explain = jaxplain.gradient(lambda x: jnp.stack([x[:, 0], 3 * x[:, 1]], axis=1))
    x = jnp.array([[1.0, 0.3]])
    assert metrics.max_sensitivity(explain, noise=jnp.array([[0.0, 5.0]]))(x) == 0


def relative_changes(a, b):
    """``||(b - a) / a||`` of each example."""
    return np.linalg.norm((np.asarray(b) / np.asarray(a) - 1).reshape(len(a), -1), axis=1)


LINEAR = jnp.asarray(np.random.default_rng(1).normal(size=(12, 3)))
OF_LINEAR = jaxplain.input_x_gradient(lambda x: checkpoint_name(x.reshape(-1, 12), "flat") @ LINEAR)
SOME = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2, 2, 3)))
SHIFTS = np.random.default_rng(3).uniform(-0.1, 0.1, (4, 2, 2, 3))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_relative_stability_of_a_linear_network(unit):
    """Its input times gradient changes by the share that the input changes by, in every unit of measurement."""
    options = {"noise": SHIFTS * unit, "if_prediction_changes": "keep"}
    run = lambda metric, **more: metric(OF_LINEAR, **options, **more)(SOME * unit, target=1)
    close(run(metrics.relative_input_stability), 1)
    close(run(metrics.relative_representation_stability, layers=["flat"]), 1)
    away = [np.linalg.norm(shift.reshape(12) @ LINEAR) * unit for shift in SHIFTS]
    changes = [relative_changes(SOME, SOME + shift[None]) for shift in SHIFTS]
    close(run(metrics.relative_output_stability), np.max([c / a for c, a in zip(changes, away, strict=True)], axis=0))


def test_neighbours_of_another_class():
    """The first shift makes the other class win: there is no answer, or one without it, or one with it."""
    explain = jaxplain.input_x_gradient(lambda x: x**2)
    x, shifts = jnp.array([[2.0, 1.0]]), jnp.array([[0.0, 3.0], [0.5, 0.0]])
    run = lambda **how: metrics.relative_output_stability(explain, noise=shifts, **how)(x, target=1)
    assert np.isnan(run())
    close(run(if_prediction_changes="keep"), 15 / 15)  # x² of class 1 from 1 to 16
    close(run(if_prediction_changes="skip"), 0)  # and where class 0 stays, its neighbour leaves x² of class 1 alone
    away = metrics.relative_input_stability(explain, noise=shifts[:1], if_prediction_changes="skip")
    assert np.isnan(away(x))
    one = jaxplain.input_x_gradient(lambda x: (x**2).sum(axis=1))  # no classes, and so no other one
    assert np.isfinite(metrics.relative_input_stability(one, noise=shifts)(x))


def test_zeros_in_denominators_are_eps():
    explain = jaxplain.explainer(lambda x: x)(lambda f, x, target, key: jnp.maximum(x, 0))
    x, shifts = jnp.array([[-1.0, 1.0]]), jnp.array([[1.5, 0.0]])  # the map from (0, 1) to (1/2, 1)
    run = lambda **options: metrics.relative_input_stability(
        explain, noise=shifts, if_prediction_changes="keep", **options
    )(x)
    close(run(), 0.5 / 1e-6 / 1.5)
    close(run(eps=0.1), 0.5 / 0.1 / 1.5)
    close(metrics.relative_input_stability(explain, noise=0 * shifts)(x), 0)


def test_probabilities_and_layers_of_relative_stability():
    explain, options = (
        jaxplain.input_x_gradient(MODULE.apply),
        {
            "noise": SHIFTS[:1, :1, :1],
            "eps": 1e-3,
            "if_prediction_changes": "keep",
        },
    )
    run = lambda metric, **more: jax.jit(metric(explain, **options, **more))(VARIABLES, X, target=TARGETS)
    logits, there = (MODULE.apply(VARIABLES, x) for x in (X, X + SHIFTS[:1, :1, :1]))
    moved = lambda f: np.linalg.norm(f(there) - f(logits), axis=1)
    ratio = run(metrics.relative_output_stability, of="probability") / run(metrics.relative_output_stability)
    close(ratio, moved(lambda z: z) / moved(jax.nn.softmax))
    head = run(metrics.relative_representation_stability, layers=["head"])
    change = np.linalg.norm((there - logits) / logits, axis=1)
    close(head * change, run(metrics.relative_output_stability) * moved(lambda z: z), rtol=1e-7)
    every = run(metrics.relative_representation_stability)
    assert (every < head).all()  # the more layers, the larger the denominator
    twice = run(metrics.relative_representation_stability, layers=["head", "head"])
    close(twice, head)


def test_layers_in_a_loop_have_a_representation():
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(3, 4, 4)))

    def turning(x):
        step = lambda x, w: (checkpoint_name(jnp.tanh(x @ w), "turn"), None)
        return jax.lax.scan(step, x, weights)[0]

    x, shift = jnp.ones((1, 4)), jnp.full((1, 4), 0.1)
    run = lambda **options: metrics.relative_representation_stability(
        jaxplain.input_x_gradient(turning), noise=shift, if_prediction_changes="keep", **options
    )(x, target=0)
    here, there, each = x, x + shift, []
    for w in weights:
        here, there = jnp.tanh(here @ w), jnp.tanh(there @ w)
        each += relative_changes(here, there).tolist()
    last = run(layers=["turn"])
    close(run(layers=["turn[0]"]) / last, each[2] / each[0])
    close(run() / last, each[2] / np.linalg.norm(each))


def test_continuity_by_hand():
    x = jnp.array([[1.0, 0.0, 4.0]]).reshape(1, 1, 3, 1)
    explain = jaxplain.explainer(lambda x: x)(lambda f, x, target, key: x)
    same = metrics.continuity(explain, steps=7)  # to (4, 0, 0), (0, 4, 0), (0, 1, 0), (0, 0, 1), and black
    close(same(x), np.max([7 / 5, 9 / np.sqrt(33), 6 / np.sqrt(18), 4 / np.sqrt(10), 5 / np.sqrt(17)]))
    assert metrics.continuity(jaxplain.gradient(lambda x: x.sum(axis=(1, 2, 3))), steps=3)(x) == 0
    assert metrics.continuity(explain, steps=3, baseline=2.0)(jnp.full((1, 2, 2, 1), 2.0)) == 0  # the same everywhere
    signs = jaxplain.explainer(lambda x: x)(lambda f, x, target, key: jnp.where(x == 1, -x, x))
    even = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    close(metrics.continuity(signs, steps=5, absolute=False)(even), 4 / np.sqrt(2))  # from (-1, 2) to (0, -1)
    close(metrics.continuity(signs, steps=5)(even), 2 / np.sqrt(2))
    for unit in (1e-20, 1e20):
        close(same(unit * x), same(x))


def test_misuse_of_stability():
    run = lambda metric, **options: metric(OF_LINEAR, noise=SHIFTS, **options)(SOME)
    for metric, options, message in (
        (metrics.relative_input_stability, {"if_prediction_changes": "drop"}, "choose nan, skip or keep"),
        (metrics.relative_output_stability, {"of": "logit"}, "choose probability or output"),
        (metrics.relative_representation_stability, {"layers": ["flap"]}, "the nearest are flat"),
        (metrics.relative_representation_stability, {"layers": []}, "no layer: name some"),
    ):
        with pytest.raises(ValueError, match=message):
            run(metric, **options)
    unknown = lambda *args, target=None, key=None: args[-1]
    with pytest.raises(ValueError, match="does not say which network"):
        metrics.relative_input_stability(unknown, noise=SHIFTS)(SOME, target=0)
    keep = metrics.relative_input_stability(unknown, noise=SHIFTS, if_prediction_changes="keep")
    close(keep(SOME, target=0), 1)  # which needs no network
    with pytest.raises(ValueError, match="steps=6 is more than an image 2 pixels wide has translations, 5"):
        metrics.continuity(OF_LINEAR, steps=6)(SOME)
    with pytest.raises(ValueError, match="continuity moves images"):
        metrics.continuity(jaxplain.gradient(lambda x: x))(jnp.ones((1, 2)))


# ---------------------------------------------------------------------------------------------------------------- ADCC


def test_adcc_of_three_known_numbers():
    """The score is the sum, the map a given one: m = (1, 1/2, 0, 0) shows 5 of 10, and then m is (0, 1, 1/2, 1/2)."""
    x = jnp.array([4.0, 2.0, 3.0, 1.0]).reshape(1, 2, 2, 1)
    shown, again = (jnp.array(a).reshape(1, 2, 2) for a in ([2.0, 1.0, 0.0, -9.0], [-1.0, 4.0, 2.0, 2.0]))
    explain = jaxplain.explainer(lambda x: x.sum(axis=(1, 2, 3)))(
        lambda f, y, target, key: jnp.where(jnp.all(y == x), shown, again)
    )
    drop, complexity = 0.5, 1.5 / 4
    corr = np.corrcoef([1, 0.5, 0, 0], [0, 1, 0.5, 0.5])[0, 1]
    parts = 1 - drop, (1 + corr) / 2, 1 - complexity
    close(metrics.adcc(explain, of="output")(x), 3 / sum(1 / part for part in parts))


def test_adcc_where_a_part_is_missing():
    from jaxplain.metrics._adcc import harmonic_mean

    parts = jnp.array([[1 / 2, 0.0, 0.0, jnp.nan], [1 / 3, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    close(harmonic_mean(parts), [3 / (2 + 3 + 1), 0, 0, np.nan])
    even = jaxplain.explainer(lambda x: x.sum(axis=(1, 2)))(lambda f, x, target, key: jnp.ones_like(x))
    assert np.isnan(metrics.adcc(even)(X)).all()
    with pytest.raises(ValueError, match="adcc measures images"):
        metrics.adcc(OF_LINEAR)(jnp.ones((1, 12)))


# ------------------------------------------------------------------------------------------------------ sanity checks


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, features in enumerate((8, 8, 16)):
            x = nn.max_pool(nn.relu(nn.Conv(features, (3, 3), name=f"conv{i}")(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(16, name="a_hidden_layer")(x.reshape(x.shape[0], -1)))
        return nn.Dense(planted.CLASSES, name="10")(x)


LAYERS = ["conv0", "conv1", "conv2", "a_hidden_layer", "10"]
with jax.enable_x64(False):
    IMAGES = planted.images(4, jax.random.key(0)).images
DEEP = Deep().init(jax.random.key(1), IMAGES)


@functools.cache
def trained():
    """Weights that have learned where the evidence is."""
    with jax.enable_x64(False):
        data, tried = planted.images(256, jax.random.key(2)), planted.images(64, jax.random.key(9))
        optimiser = optax.adam(5e-3)

        @jax.jit
        def step(variables, moments, key):
            chosen = jax.random.choice(key, 256, (32,))
            loss = lambda v: optax.softmax_cross_entropy_with_integer_labels(
                Deep().apply(v, data.images[chosen]), data.labels[chosen]
            ).mean()
            updates, moments = optimiser.update(jax.grad(loss)(variables), moments)
            return optax.apply_updates(variables, updates), moments

        variables, moments = DEEP, optimiser.init(DEEP)
        for key in jax.random.split(KEY, 250):
            variables, moments = step(variables, moments, key)
        assert (Deep().apply(variables, tried.images).argmax(axis=1) == tried.labels).mean() > 0.9
    return variables


@functools.cache
def similarities(method, order="top_down", absolute=False):
    """The rank correlation after each layer, the mean over images and three draws of the weights."""
    explain = getattr(jaxplain, method)(Deep().apply)
    metric = jax.jit(metrics.mprt(explain, order=order, absolute=absolute, curve=True))
    return np.mean([metric(trained(), IMAGES, key=jax.random.key(k)).mean(axis=0) for k in range(3)], axis=0)


def test_randomised_weights_change_gradients_and_lrp_but_not_guided_backprop():
    """The known result: without the two last layers, guided backprop shows nearly the same as before."""
    assert abs(similarities("gradient")[1]) < 0.15
    assert abs(similarities("lrp")[1]) < 0.15
    assert similarities("guided_backprop")[1] > 0.7


def test_so_do_absolute_values_which_share_what_any_weights_show():
    gradient, lrp, guided = (similarities(m, absolute=True)[1] for m in ("gradient", "lrp", "guided_backprop"))
    assert max(gradient, lrp) < guided


def test_orders_of_randomisation():
    top_down, bottom_up, alone = (similarities("gradient", o) for o in ("top_down", "bottom_up", "independent"))
    close(top_down[0], alone[-1])
    close(bottom_up[0], alone[0])
    close(top_down[-1], bottom_up[-1], atol=1e-6)  # everything


def test_layers_come_in_the_order_of_their_use():
    assert metrics.parameter_layers(Deep().apply)(DEEP, IMAGES) == LAYERS
    assert jax.jit(lambda v, x: len(metrics.parameter_layers(Deep().apply)(v, x)))(DEEP, IMAGES) == 5

    def cast_first(params, x):  # as mixed precision does
        params = jax.tree.map(lambda a: a.astype(jnp.float32), params)
        y = jax.lax.cond(True, lambda x: x @ params["z"]["kernel"], lambda x: x @ params["z"]["kernel"], x)
        return jax.checkpoint(jax.jit(lambda y: jnp.tanh(y) @ params["b"]["kernel"]))(y) @ params["a"]["kernel"]

    weights = {name: {"kernel": jnp.ones((3, 3)), "unused": jnp.ones(2)} for name in "abzu"}
    assert metrics.parameter_layers(cast_first)(weights, jnp.ones((1, 3))) == ["z", "b", "a"]


def test_parameters_of_other_frameworks():
    import equinox as eqx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.second = nnx.List([nnx.Linear(4, 3, rngs=rngs)])
            self.z_first = nnx.Linear(3, 4, rngs=rngs)

        def __call__(self, x):
            return self.second[0](nnx.relu(self.z_first(x.reshape(-1, 3))))

    graph, state = nnx.split(Net(nnx.Rngs(0)))
    x = jax.random.normal(KEY, (2, 1, 3, 1))
    f = lambda state, x: nnx.merge(graph, state)(x)
    assert metrics.parameter_layers(f)(state, x) == ["z_first", "second/0"]
    assert jax.jit(metrics.mprt(jaxplain.gradient(f)))(state, x, key=KEY).shape == (2,)

    mlp = eqx.nn.MLP(3, 2, width_size=4, depth=1, key=KEY)
    f = lambda mlp, x: jax.vmap(mlp)(x.reshape(-1, 3))
    assert metrics.parameter_layers(f)(mlp, x) == ["layers/0", "layers/1"]
    assert metrics.mprt(jaxplain.gradient(f))(mlp, x, key=KEY).shape == (2,)

    weights = jnp.arange(6.0).reshape(3, 2)
    assert len(metrics.parameter_layers(lambda w, x: x.reshape(-1, 3) @ w)(weights, x)) == 1


def test_what_is_randomised():
    """Only the parameters, each draw by its own key, whole blocks by their name."""
    seen = {}

    def record(key, path, value):
        seen[path] = value.shape
        return 0 * value + 2

    explain = jaxplain.explainer(MODULE.apply)(lambda f, x, target, key: x * (f(x) ** 2).sum())
    metric = metrics.mprt(explain, layers=["stem", "head"], order="bottom_up", randomise=record, curve=True)
    assert metric(VARIABLES, X, key=KEY, target=0).shape == (4, 2)
    assert seen == {"stem/kernel": (3, 3, 3, 6), "head/kernel": (8, 4), "head/bias": (4,)}

    from jaxplain.metrics._parameters import RANDOMISE

    values = jnp.arange(600.0).reshape(20, 30)
    shuffled, drawn = (RANDOMISE[name](KEY, "", values) for name in ("permute", "normal"))
    np.testing.assert_array_equal(np.sort(shuffled, axis=None), values.ravel())
    assert (shuffled != values).mean() > 0.9
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [values.mean(), values.std()], rtol=0.1)

    nested = {
        "block1": {"a": {"w": jnp.ones((3, 3))}, "b": {"w": jnp.ones((3, 3))}},
        "block10": {"w": jnp.ones((3, 2))},
    }
    f = lambda p, x: x.reshape(-1, 3) @ p["block1"]["a"]["w"] @ p["block1"]["b"]["w"] @ p["block10"]["w"]
    seen.clear()
    metrics.mprt(jaxplain.gradient(f), layers=["block1"], randomise=record)(nested, X[:, :1, :1], key=KEY, target=0)
    assert set(seen) == {"block1/a/w", "block1/b/w"}


def test_mprt_of_smooth_explanations():
    explain = jaxplain.gradient(MODULE.apply)
    options = {"layers": ["stem", "head"], "randomise": "normal"}
    plain = jax.jit(metrics.mprt(explain, order="bottom_up", **options))(VARIABLES, X, key=KEY)
    for change in ({"samples": 1}, {"stdev": 0.0, "samples": 3}, {"noise": np.zeros((2, 8, 8, 3))}):
        same = metrics.smooth_mprt(explain, **options, **change)
        np.testing.assert_allclose(jax.jit(same)(VARIABLES, X, key=KEY), plain, atol=1e-9)
    smooth = metrics.smooth_mprt(explain, samples=3, **options)
    assert (jax.jit(smooth)(VARIABLES, X, key=KEY) != plain).all()


def test_smooth_explanations_are_the_mean_of_those_of_noisy_inputs():
    from jaxplain.metrics._randomisation import averaged

    squares = jaxplain.gradient(lambda x: (x**3).sum(axis=(1, 2, 3)) / 3)  # x²
    noise = np.random.default_rng(5).normal(size=(4, 1, 8, 8, 3))
    mean = np.mean([X**2, *((X + n) ** 2 for n in noise)], axis=0)
    close(averaged(squares, 50, 0.1, noise, 3)(X), mean)
    drawn = averaged(squares, 400, 0.1, None, 50)(X[:2], key=KEY)
    deviation = 0.1 * np.ptp(X[:2], axis=(1, 2, 3))
    np.testing.assert_allclose((drawn - X[:2] ** 2).mean(axis=(1, 2, 3)), deviation**2, rtol=0.15)


def test_complexity_of_randomised_explanations():
    explain = jaxplain.gradient(MODULE.apply)
    as_it_was = metrics.efficient_mprt(explain, randomise=lambda key, path, value: value)
    close(jax.jit(as_it_was)(VARIABLES, X, key=KEY), 0)
    entropy = lambda maps, bins: [
        stats.entropy(np.histogram(a, bins)[0]) for a in np.asarray(maps).reshape(len(maps), -1)
    ]
    from jaxplain.metrics._randomisation import histogram_entropy

    maps = jnp.asarray(np.random.default_rng(6).normal(size=(5, 16, 16)))
    for bins in (1, 7, 100):
        close(histogram_entropy(maps, bins), entropy(maps, bins))
        close(histogram_entropy(2.0**40 * maps, bins), entropy(maps, bins))  # in every unit
    assert histogram_entropy(jnp.ones((1, 4, 4)), 10) == 0
    turned = metrics.efficient_mprt(explain, complexity=metrics.complexity, randomise="normal")
    own = metrics.efficient_mprt(explain, complexity=lambda a: metrics.complexity(3 * a), randomise="normal")
    close(jax.jit(turned)(VARIABLES, X, key=KEY), jax.jit(own)(VARIABLES, X, key=KEY))
    flat = jaxplain.gradient(lambda w, x: w.sum() * x.sum(axis=(1, 2)))  # the same everywhere
    assert np.isnan(metrics.efficient_mprt(flat)(jnp.ones(3), X, target=0, key=KEY)).all()


def test_random_logit():
    logits = lambda x: jnp.stack(
        [x[:, 0].sum(axis=(1, 2)), x[:, 1].sum(axis=(1, 2)), -x[:, 0].sum(axis=(1, 2))], axis=1
    )
    explain = jaxplain.gradient(logits)
    run = lambda **options: jax.jit(metrics.random_logit(explain, similarity=metrics.pcc, **options))
    close(run(other=1)(X, target=0), -1 / 7)  # two different rows of eight
    close(run(other=2)(X, target=0), -1)
    drawn = jax.vmap(lambda key: run()(X, target=1, key=key))(jax.random.split(KEY, 20))
    close(drawn[drawn < 0], -1 / 7)
    assert (drawn < 0).any()
    assert (drawn > 0).any()  # of class 2, whose row is negative, and class 0, whose is not
    keys = jax.random.split(KEY, 4)
    close(run()(X, target=1, key=keys)[2:], run()(X[2:], target=1, key=keys[2:]))


def test_misuse_of_sanity_checks():
    explain = jaxplain.gradient(MODULE.apply)
    with pytest.raises(ValueError, match="there is no layer 'stam'"):
        metrics.mprt(explain, layers=["stam"])(VARIABLES, X, key=KEY)
    with pytest.raises(ValueError, match="choose top_down"):
        metrics.mprt(explain, order="cascading")
    with pytest.raises(ValueError, match="choose permute, normal"):
        metrics.mprt(explain, randomise="zeros")
    with pytest.raises(ValueError, match="choose permute, normal"):
        metrics.efficient_mprt(explain, randomise="zeros")
    with pytest.raises(ValueError, match="bins=0 must be a positive integer"):
        metrics.efficient_mprt(explain, bins=0)
    with pytest.raises(ValueError, match="stdev=-1 must not be negative"):
        metrics.smooth_mprt(explain, stdev=-1)
    with pytest.raises(TypeError, match="pass the parameters there"):
        metrics.mprt(jaxplain.gradient(lambda x: x.sum(axis=(1, 2))))(X, key=KEY)
    with pytest.raises(ValueError, match="no parameters that the network uses"):
        metrics.mprt(jaxplain.gradient(lambda w, x: x.sum(axis=(1, 2, 3))))({"w": jnp.ones(2)}, X, key=KEY)
    with pytest.raises(ValueError, match=r"two or more classes, got shape \(4, 1\)"):
        metrics.random_logit(jaxplain.gradient(lambda x: x.sum(axis=(1, 2))[:, :1]))(X, key=KEY)
    with pytest.raises(ValueError, match="random_logit needs a class as its target"):
        metrics.random_logit(explain, other=0)(VARIABLES, X, target=lambda y: y[:, 0])


# -------------------------------------------------------------------------------------------------------------- axioms


def test_completeness():
    score = lambda x: MODULE.apply(VARIABLES, x)[jnp.arange(4), TARGETS]
    gap = lambda a, **options: metrics.completeness(MODULE.apply, **options)(
        VARIABLES, X, attribution=a, target=TARGETS
    )
    deeplift = jaxplain.deeplift(MODULE.apply, baseline=0.5)(VARIABLES, X, target=TARGETS)
    close(gap(deeplift, baseline=0.5), 0, atol=1e-9)
    close(gap(deeplift), score(jnp.zeros_like(X)) - score(jnp.full_like(X, 0.5)), atol=1e-9)
    close(gap(jnp.zeros_like(X), baseline=None), -score(X))


def test_non_sensitivity_by_hand():
    f = lambda x: x[:, 0, 0, 0] + 1e-3 * x[:, 0, 1, 0]
    x = jnp.ones((1, 2, 2, 1))
    a = jnp.array([[[5.0, 0.0], [1.0, 1e-9]]])  # one effect without attribution, one attribution without effect
    assert metrics.non_sensitivity(f, of="output")(x, attribution=a) == 2
    assert metrics.non_sensitivity(f, of="output", eps=0.01)(x, attribution=a) == 1
    assert metrics.non_sensitivity(f, of="output")(x, attribution=-a) == 2


def test_input_invariance_as_its_authors_found_it():
    """Gradients do not mind a shift of the input; what is multiplied with the input does."""
    change = lambda method: metrics.input_invariance(method, MODULE.apply)(VARIABLES, X, target=TARGETS)
    close(change(jaxplain.gradient), 0)
    close(change(jaxplain.guided_backprop), 0)
    assert (change(jaxplain.input_x_gradient) > 0.1).all()
    assert (change(functools.partial(jaxplain.integrated_gradients, steps=4)) > 0.1).all()
    smooth = functools.partial(jaxplain.smoothgrad, samples=3)
    close(metrics.input_invariance(smooth, MODULE.apply)(VARIABLES, X, target=1, key=KEY), 0)
    colours = metrics.input_invariance(jaxplain.gradient, MODULE.apply, shift=np.array([1.0, 0.0, -2.0]))
    close(colours(VARIABLES, X, target=1), 0)


def test_the_ledger_closes_under_rules_that_conserve_only():
    composites = jaxplain.composites
    for composite in ("epsilon", composites.epsilon_plus(), composites.epsilon_alpha2_beta1()):
        assert metrics.ledger(MODULE.apply, composite)(VARIABLES, X, target=TARGETS) < 1e-12
    gradient = lambda unit: jaxplain.rules.gradient()
    assert metrics.ledger(MODULE.apply, gradient)(VARIABLES, X, target=TARGETS) > 0.1
    assert metrics.ledger(lambda x: 0 * x.sum(axis=(1, 2)))(X, target=0) == 0


@pytest.mark.parametrize("noise", [0.1, jnp.ones((0, 2)), jnp.ones((3, 5)), jnp.ones((3, 1, 1, 2))])
def test_noise_is_a_stack_of_differences(noise):
    metric = metrics.max_sensitivity(jaxplain.gradient(lambda x: (x**2).sum(axis=1)), noise=noise)
    with pytest.raises(ValueError, match="stack differences along a first axis, each of which broadcasts"):
        metric(jnp.ones((1, 2)))
