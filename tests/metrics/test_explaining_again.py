"""Metrics that explain again: robustness, sanity checks, axioms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

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

    from jaxplain.metrics._randomisation import RANDOMISE

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
