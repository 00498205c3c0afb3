"""However an operation is spelled, its unit is the same; what is no ReLU and no normalisation is not taken for one."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import composites, rules
from tests.convolution import conv


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


A, B, C, X = draw(0, 6, 8), draw(1, 8, 8), draw(2, 8, 3), draw(3, 4, 6)
close = lambda a, b, tolerance=1e-12: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))
kinds = lambda f, x: [row.unit.kind for row in jaxplain.summary(f)(x, target=1).rows if row.unit.kind != "shape"]

# ---------------------------------------------------------------------------------------------------------- rectifiers

column = lambda a: a.reshape(1, -1)
RELUS = {
    "an outer minus": lambda x: -jnp.minimum(-x, 0),
    "two outer minuses": lambda x: -1 * -jax.nn.relu(x),
    "select": lambda x: jnp.select([x > 0, x <= 0], [x, 0 * x]),
    "select with a default": lambda x: jnp.select([x < 0], [0.0], x),
    "the maximum of a stack": lambda x: jnp.max(jnp.stack([x, jnp.zeros_like(x)]), axis=0),
    "of a stack behind": lambda x: jnp.concatenate([x[..., None], 0 * x[..., None]], axis=-1).max(axis=-1),
    "the minimum of a stack": lambda x: -jnp.min(jnp.stack([-x, 0 * x]), axis=0),
    "a factor before and behind": lambda x: jax.nn.relu(2 * x) / 2,
    "negative factors": lambda x: -(3 * jnp.minimum(-x / 3, 0)),
    "a factor for each channel": lambda x: jax.nn.relu(x * column(jnp.arange(1.0, 9))) / column(jnp.arange(1.0, 9)),
    "shifted": lambda x: jnp.maximum(x - 0.5, -0.5) + 0.5,
    "what is not below": lambda x: x - jnp.minimum(x, 0),
    "clamp": lambda x: lax.clamp(0.0, x, 1e9),
    "a step": lambda x: x * jnp.heaviside(x, 0.0),
    "half the absolute value": lambda x: (x + jnp.abs(x)) / 2,
}


@pytest.mark.parametrize("method", [jaxplain.guided_backprop, jaxplain.deconvnet])
@pytest.mark.parametrize("name", RELUS)
def test_a_relu_however_it_is_spelled(name, method):
    network = lambda act: lambda x: act(act(x @ A) @ B) @ C
    close(method(network(RELUS[name]))(X, target=1), method(network(jax.nn.relu))(X, target=1))


def test_the_negative_of_a_relu_is_one_with_a_factor():
    both = lambda x, of, sign: (
        jnp.concatenate([jax.nn.relu(x @ A), of(x @ A)], axis=-1) @ jnp.concatenate([C, sign * C])
    )
    wanted = jaxplain.guided_backprop(lambda x: both(x, lambda z: jax.nn.relu(-z), -1))(X, target=1)
    for negative in (lambda z: -jax.nn.relu(-z), lambda z: jnp.minimum(z, 0), lambda z: -jnp.maximum(-z, 0)):
        close(jaxplain.guided_backprop(lambda x: both(x, negative, 1))(X, target=1), wanted)  # noqa: B023


def test_a_constant_mask_is_no_relu():
    mask = column(jnp.arange(8) % 2 == 0)
    for f in (
        lambda x: jnp.where(mask, x @ A, 0.1 * (x @ A)) @ C,
        lambda x: (jnp.where(True, x @ A, 0.0) * 2) @ C,
        lambda x: (jnp.where(mask, x @ A, 0.0) + x @ A) @ C,
    ):
        for method in (jaxplain.guided_backprop, jaxplain.deconvnet):
            close(method(f)(X, target=1), jaxplain.gradient(f)(X, target=1))


# ------------------------------------------------------------------------------------------------------- normalisation

mean = lambda x: x.mean(axis=-1, keepdims=True)
norm = lambda x: jnp.linalg.norm(x, axis=-1, keepdims=True)
NORMS = {
    "layer": lambda x: (x - mean(x)) * lax.rsqrt(x.var(axis=-1, keepdims=True) + 1e-5),
    "by its length": lambda x: x / norm(x),
    "by its length, at least": lambda x: x / jnp.maximum(norm(x), 1e-6),
    "by its sum": lambda x: x / jnp.abs(x).sum(axis=-1, keepdims=True),
    "root mean square": lambda x: x * lax.rsqrt(mean(x**2) + 1e-6),
    "JAX's": jax.nn.standardize,
}
NO_NORMS = {
    "a maximum added": lambda x: x + x.max(axis=-1, keepdims=True),
    "centred": lambda x: x - mean(x),
    "squares": lambda x: x * x / (x * x).sum(axis=-1, keepdims=True),
    "a ReLU inside": lambda x: jax.nn.relu(x - mean(x)) / jnp.sqrt(x.var(axis=-1, keepdims=True)),
    "a gate": lambda x: x * jax.nn.sigmoid((x - mean(x)) ** 2 / (x.var(axis=-1, keepdims=True) + 0.1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_what_divides_by_a_statistic_is_a_normalisation(name):
    assert kinds(lambda x: NORMS[name](x @ A) @ C, X) == ["dense", "norm", "dense"]


LEARNED = {  # a scale and a shift for each feature, multiplied into the statistic or behind it
    "linen LayerNorm": lambda d: bound(nn.LayerNorm(), d),
    "linen LayerNorm, two passes": lambda d: bound(nn.LayerNorm(use_fast_variance=False), d),
    "linen RMSNorm": lambda d: bound(nn.RMSNorm(), d),
    "linen GroupNorm": lambda d: bound(nn.GroupNorm(2), d),
    "nnx LayerNorm": lambda d: nnx.LayerNorm(d, rngs=nnx.Rngs(0)),
    "nnx RMSNorm": lambda d: nnx.RMSNorm(d, rngs=nnx.Rngs(0)),
    "nnx GroupNorm": lambda d: nnx.GroupNorm(d, num_groups=2, rngs=nnx.Rngs(0)),
    "equinox LayerNorm": lambda d: by_token(eqx.nn.LayerNorm(d)),
    "equinox RMSNorm": lambda d: by_token(eqx.nn.RMSNorm(d)),
    "by hand": lambda d: (
        lambda x: (x - mean(x)) * (lax.rsqrt(x.var(-1, keepdims=True)) * ranked(jnp.arange(1.0, d + 1), x))
    ),
}


def bound(module, d):
    variables = module.init(jax.random.key(0), jnp.ones((1, d)))
    return lambda x: module.apply(variables, x)


def ranked(a, x):
    return a.reshape((1,) * (x.ndim - 1) + a.shape)


def by_token(layer):
    return lambda x: jax.vmap(layer)(x.reshape(-1, x.shape[-1])).reshape(x.shape)


@pytest.mark.parametrize("shape", [(3, 8), (3, 5, 8), (2, 4, 3, 8)], ids=str)
@pytest.mark.parametrize("name", LEARNED)
def test_a_normalisation_with_a_learned_scale_is_one_unit(name, shape):
    layer, x = LEARNED[name](8), jax.random.normal(jax.random.key(2), shape, jnp.float64)
    found = kinds(lambda x: (layer(x) @ C).reshape(len(x), -1), x)
    assert [kind for kind in found if kind != "scale"] == ["norm", "dense"]


ATTENTIONS = {
    "JAX's own": lambda x: jax.nn.dot_product_attention(*[x[:, :, None]] * 3, scale=1.0)[:, :, 0],
    "plain": lambda x: jax.nn.softmax(x @ x.swapaxes(1, 2)) @ x,
    "transposed inside": lambda x: turned_softmax(x @ x.swapaxes(1, 2)) @ x,
}


def turned_softmax(logits):
    e = jnp.exp(logits.T - lax.stop_gradient(logits.max(axis=-1, keepdims=True)).T)
    return (e / e.sum(axis=0, keepdims=True)).T


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_softmax_is_one_unit_however_its_axes_are_turned(name):
    network = lambda attend: lambda x: attend(x.reshape(4, 2, 3)).reshape(4, -1) @ A
    found = kinds(network(ATTENTIONS[name]), X)
    assert found.count("softmax") == 1
    assert not {"max_pool", "sum", "division", "activation"}.intersection(found)
    wanted = jaxplain.lrp(network(ATTENTIONS["plain"]))(X, target=1)
    close(jaxplain.lrp(network(ATTENTIONS[name]))(X, target=1), wanted, 1e-5)  # JAX's own rounds its weights to float32


def test_a_kind_is_no_layer_of_that_name():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="norm")(nn.LayerNorm(name="dense")(x))

    variables = Net().init(jax.random.key(0), X)
    marked = lambda matcher: [
        row.unit.kind
        for row in jaxplain.summary(Net().apply, composites.first_match((matcher, rules.gradient())))(variables, X).rows
        if row.rule == "gradient()"
    ]
    assert [marked("norm"), marked("[n]orm"), marked("dense")] == [["norm"], ["dense"], ["dense"]]


@pytest.mark.parametrize("name", NO_NORMS)
def test_what_does_not_is_none(name):
    assert "norm" not in kinds(lambda x: NO_NORMS[name](x @ A) @ C, X)


@pytest.mark.parametrize("name", ["a maximum added", "centred"])
def test_lrp_0_is_input_times_gradient_on_piecewise_linear_networks(name):
    f = lambda x: jax.nn.relu(NO_NORMS[name](x @ A)) @ C
    zero = lambda u: rules.zero() if u.affine else rules.proportional(1e-14) if u.kind == "sum" else None
    close(jaxplain.lrp(f, zero)(X, target=1), jaxplain.input_x_gradient(f)(X, target=1), 1e-9)


def test_guided_backprop_sees_a_relu_inside_what_divides():
    f = lambda x: NO_NORMS["a ReLU inside"](x @ A) @ C
    hidden = lambda x: (x - mean(x), jnp.sqrt(x.var(axis=-1, keepdims=True)))

    def by_hand(x):
        (z, s), pull = jax.vjp(lambda x: hidden(x @ A), x)
        r = jnp.broadcast_to(C[:, 1], z.shape) / s
        active = jnp.where((z > 0) & (r > 0), r, 0)
        return pull((active, -(jax.nn.relu(z) * C[:, 1][None] / s**2).sum(axis=-1, keepdims=True)))[0]

    close(jaxplain.guided_backprop(f)(X, target=1), by_hand(X))


# ---------------------------------------------------------------------------------------------- loops and their numbers


@pytest.mark.parametrize("method", [jaxplain.lrp, jaxplain.deeplift, jaxplain.guided_backprop])
def test_a_body_may_return_a_number(method):
    """Carried to the next turn of a loop, or from a branch: no value of the network, and nothing depends on it."""
    gate = lambda row: lax.cond(jnp.array(True), lambda row: (row, 3.0), lambda row: (-row, 2.0), row)
    turn = lambda scale, row: (2.0, scale * gate(row)[1] * gate(row)[0])
    looped = lambda x: lax.scan(turn, 1.0, jax.nn.relu(x @ A).T)[1].T @ B
    by_hand = lambda x: (jax.nn.relu(x @ A) * column(jnp.array([3.0] + 7 * [6.0]))) @ B
    close(method(looped)(X, target=1), method(by_hand)(X, target=1), 1e-5)


# ------------------------------------------------------------------------------------------------------ stretched axes

STRETCHED = {
    "grey less three means": (lambda x: x - jnp.array([0.5, 0.4, 0.3]), (2, 6, 7, 1), (2, 6, 7, 3)),
    "grey times three": (lambda x: jnp.array([1.0, -2.0, 3.0]) * x, (2, 6, 7, 1), (2, 6, 7, 3)),
    "a table of distances": (lambda x: jnp.maximum(x, draw(4, 5, 8)), (2, 1, 8), (2, 5, 8)),
}


@pytest.mark.parametrize("name", STRETCHED)
def test_a_constant_that_stretches_an_axis(name):
    f, shape, wide = STRETCHED[name]
    x, v = draw(6, *shape), draw(7, *wide)
    with jax.numpy_rank_promotion("allow"):
        short = lambda x: jnp.tanh((f(x) * v).reshape(2, -1).sum(axis=1, keepdims=True))
        explicit = lambda x: short(jnp.broadcast_to(x, wide))
        for method in (jaxplain.lrp, jaxplain.deeplift, jaxplain.guided_backprop):
            wanted = method(explicit)
            over = tuple(i for i, n in enumerate(shape) if n != wide[i])
            if method is jaxplain.guided_backprop:  # of a wide input each copy has a gradient of its own
                close(method(short)(x), wanted(jnp.broadcast_to(x, wide)).sum(axis=over, keepdims=True))
            total = method(short)(x).reshape(2, -1).sum(axis=1)
            if method is jaxplain.deeplift:
                close(total, (short(x) - short(jnp.zeros_like(x)))[:, 0], 1e-9)
            assert method(short)(x).shape == shape


# ----------------------------------------------------------------------------------- DeepLIFT where a divisor vanishes

INVERSES = {
    "divided": lambda s: s / (norm(s) + 1e-12),
    "times the inverse": lambda s: s * (1 / (norm(s) + 1e-12)),
    "the inverse times": lambda s: (1 / (norm(s) + 1e-12)) * s,
    "an inverse root": lambda s: s * lax.rsqrt((s * s).sum(axis=-1, keepdims=True) + 1e-12),
    "a power": lambda s: s * ((s * s).sum(axis=-1, keepdims=True) + 1e-12) ** -0.5,
    "at least": lambda s: s / jnp.maximum(norm(s), 1e-12),
    "by logarithms": lambda s: s * jnp.exp(-jnp.log(norm(s) + 1e-12)),
    "of absolute values": lambda s: s / (jnp.abs(s).sum(axis=-1, keepdims=True) + 1e-12),
    "of a ReLU": lambda s: jax.nn.relu(s @ B) / (norm(jax.nn.relu(s @ B)) + 1e-12),
}


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("name", INVERSES)
def test_deeplift_is_complete_where_a_norm_vanishes_in_the_reference(name, rule):
    x = draw(8, 4, 8).astype(jnp.float32)
    f = lambda x: INVERSES[name](x) @ C.astype(jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        for baseline in (0.0, 1e-9):
            maps = jaxplain.deeplift(f, baseline=baseline, rule=rule)(x, target=1)
            change = f(x)[:, 1] - f(jnp.full_like(x, baseline))[:, 1]
            close(maps.sum(axis=1), change, 1e-5)


# --------------------------------------------------------------------------------------- DeepLIFT of equal maxima

LEVELS = np.random.default_rng(10)
WINDOWS = {
    "windows": lambda h: nn.max_pool(h, (2, 2), (2, 2)),
    "overlapping windows": lambda h: nn.max_pool(h, (3, 3), (1, 1), "SAME"),
    "all positions": lambda h: h.max(axis=(1, 2)),
    "the smallest": lambda h: h.min(axis=(1, 2)),
    "so far": lambda h: lax.cummax(h, axis=2),
}


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("name", WINDOWS)
def test_deeplift_is_complete_whichever_of_equal_values_is_the_winner(name, rule):
    """As behind a relu6, where many values of a window are 0 or 6."""
    x, x0 = (jnp.asarray(LEVELS.choice([0.0, 0.0, 0.0, 1.0, 6.0, 6.0], (3, 6, 6, 2))) for _ in range(2))
    x0 = jnp.where(jnp.arange(6)[None, :, None, None] < 2, 0.5, x0)  # some windows of equal references
    f = lambda x: jnp.tanh(WINDOWS[name](x).reshape(len(x), -1).mean(axis=1, keepdims=True) * jnp.ones((1, 2)))
    maps = jaxplain.deeplift(f, baseline=x0, rule=rule)(x, target=1)
    close(maps.sum(axis=(1, 2, 3)), (f(x) - f(x0))[:, 1])


# ---------------------------------------------------------------------------------- what no layer absorbs, and no bias


def with_lone_norm(seed, positive):
    random = np.random.default_rng(seed)
    w0, w1, v, g, b = (jnp.asarray(random.normal(size=s)) for s in ((5, 6), (6, 6), (6, 3), (1, 6), (1, 6)))
    w0, w1, v, g = (jnp.abs(a) for a in (w0, w1, v, g)) if positive else (w0, w1, v, g)

    def f(x):
        h = jax.nn.relu(x @ w0)
        return (h + jax.nn.relu(h * g + b) @ w1) @ v

    return f, jnp.abs(draw(seed + 1, 2, 5))


@pytest.mark.parametrize("seed", range(3))
def test_excitation_through_a_lone_norm_sums_to_one(seed):
    f, x = with_lone_norm(seed, positive=True)
    close(jaxplain.excitation_backprop(f)(x, target=1).sum(axis=1), np.ones(2), 1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_deep_taylor_through_norms_and_sums_is_nowhere_negative(seed):
    f, x = with_lone_norm(seed, positive=False)
    assert jaxplain.deep_taylor(lambda x: jnp.abs(f(x)))(x, target=1).min() >= 0
    assert jaxplain.excitation_backprop(f)(x, target=1).min() >= 0


def test_positive_operands_share_a_sum_by_hand():
    f = lambda x: (x[:, :1] - x[:, 1:2]) + x[:, 2:]
    x = jnp.array([[3.0, -1.0, -2.0]])  # contributions 3, 1 and -2
    np.testing.assert_allclose(jaxplain.excitation_backprop(f)(x, target=0), [[0.75, 0.25, 0.0]], atol=1e-5)


# ----------------------------------------------------------------------------------------------- patterns of composites


def test_a_path_that_no_unit_has_is_an_error_with_the_nearest():
    net = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(3)])
    x = draw(9, 1, 8, 8, 3)
    variables = net.init(jax.random.key(0), x)
    for pattern in ("*layerz_0", "layers_7", "cnov"):
        composite = composites.first_match((pattern, rules.gamma(0.1)))
        for f in (jaxplain.lrp(net.apply, composite), jaxplain.summary(net.apply, composite)):
            with pytest.raises(ValueError, match="fits the path of no unit; the nearest paths are layers_"):
                f(variables, x, target=1)
        allowed = composites.first_match((pattern, rules.gamma(0.1)), strict=False)
        close(*(jaxplain.lrp(net.apply, c)(variables, x, target=1) for c in (allowed, "epsilon")))
    for pattern in ("layers_0", "*layers_3", "max_pool"):
        jaxplain.lrp(net.apply, composites.first_match((pattern, rules.gamma(0.1))))(variables, x, target=1)


KERNEL = np.random.default_rng(1).normal(0, 0.3, (3, 3, 3, 4))
SCALE = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)


def with_names(at, x):
    """A convolution, BatchNorm and a transpose, softmax and a normalisation, all spelled out; one value has a name."""
    named = lambda place, y: checkpoint_name(y, "here") if place == at else y
    y = named("behind the layer", conv(x, KERNEL))
    y = named("behind its scale", y * SCALE)
    y = named("behind a transpose", y.transpose(0, 3, 1, 2)) + 0.1
    y = jax.nn.relu(y).mean(axis=(2, 3))
    mean = named("a mean", y.mean(axis=1, keepdims=True))
    variance = named("a variance", ((y - mean) ** 2).mean(axis=1, keepdims=True))
    y = (y - mean) * named("an inverse deviation", jax.lax.rsqrt(variance + 1e-3)) * SCALE[0, 0]
    e = named("exponentials", jnp.exp(y - named("a maximum", y.max(axis=1, keepdims=True))))
    return named("weights", e / named("their sum", e.sum(axis=1, keepdims=True))) * 2 + y


PLACES = ["behind the layer", "behind its scale", "behind a transpose", "a mean", "a variance", "an inverse deviation"]
PLACES += ["exponentials", "a maximum", "their sum", "weights"]


@pytest.mark.parametrize("place", PLACES)
def test_a_name_changes_nothing(place):
    """JAX has no transpose of `checkpoint_name`, and it may stand in the middle of what is one unit."""
    x = jax.random.normal(jax.random.key(2), (2, 6, 6, 3))
    for method in (jaxplain.lrp, jaxplain.deeplift, jaxplain.guided_backprop, jaxplain.excitation_backprop):
        with_name, without = (method(functools.partial(with_names, at))(x, target=1) for at in (place, None))
        np.testing.assert_allclose(with_name, without, rtol=0, atol=1e-12 * np.abs(without).max())


def test_axes_that_numpy_counted():
    """As of `jnp.roll`, whose slices carry NumPy's integers."""
    w = 0.3 * jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    network = lambda x: jnp.maximum(conv(x, w), jnp.roll(conv(x, w), 1, axis=-1)).mean(axis=(1, 2))
    x = jax.random.normal(jax.random.key(2), (2, 6, 6, 3))
    difference = network(x)[:, 1] - network(jnp.zeros_like(x))[:, 1]
    for method in (jaxplain.deeplift, jaxplain.grad_cam, jaxplain.full_grad, jaxplain.concept_relevance):
        attribution = method(network)(x, target=1)
        assert np.isfinite(attribution).all()
    np.testing.assert_allclose(jaxplain.deeplift(network)(x, target=1).sum(axis=(1, 2, 3)), difference, rtol=1e-9)


@pytest.mark.parametrize("update", [lambda y: y.at[:, 0].add(1.0), lambda y: y.at[:, :, 1].add(jnp.arange(4.0))])
def test_the_ledger_of_a_constant_that_is_added_to_some_values(update):
    w = 0.3 * jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    network = lambda x: jax.nn.relu(update(conv(x, w))).mean(axis=(1, 2))
    table = jaxplain.summary(network)(jax.random.normal(jax.random.key(2), (2, 6, 6, 3)), target=1)
    (added,) = (row for row in table.rows if row.unit.kind == "sum")
    assert abs(table.gap) < 1e-12
    assert abs(added.ledger.bias) > 1e-3


def test_the_ledger_of_a_shift_inside_a_normalisation():
    """``x s + (β - μ s)``, as Keras has it: what the shift takes is told."""
    w, scale, shift = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(6, 5), (1, 5), (1, 5)]))

    def network(x):
        y = x @ w
        inverse = jax.lax.rsqrt(y.var(axis=-1, keepdims=True) + 1e-3) * scale
        return y * inverse + (shift - y.mean(axis=-1, keepdims=True) * inverse)

    table = jaxplain.summary(network)(jax.random.normal(jax.random.key(3), (4, 6)), target=1)
    (norm,) = (row for row in table.rows if row.unit.kind == "norm")
    assert abs(table.gap) < 1e-12
    assert abs(norm.ledger.bias) > 1e-3


# ----------------------------------------------------------------------------------------------------------- divisions

energy = lambda h: jnp.einsum("nd,nd->n", h, h)[:, None]  # by a contraction, so that no unit has all of it
band = lambda h: 1 + 0.1 * lax.reduce_window(h * h, 0.0, lax.add, (1, 3), (1, 1), "SAME")
DIVISIONS = {
    "rsqrt": (lambda h: h * lax.rsqrt(energy(h)), lambda h: h / jnp.sqrt(energy(h))),
    "a power": (lambda h: h * energy(h) ** -0.5, lambda h: h / energy(h) ** 0.5),
    "an inverse root": (lambda h: h * (1 / jnp.sqrt(energy(h))), lambda h: h / jnp.sqrt(energy(h))),
    "at least a number": (
        lambda h: h * (1 / jnp.maximum(jnp.sqrt(energy(h)), 1e-6)),
        lambda h: h / jnp.maximum(jnp.sqrt(energy(h)), 1e-6),
    ),
    "with a scale": (lambda h: h * (2 / (jnp.sqrt(energy(h)) + 0.1)), lambda h: 2 * h / (jnp.sqrt(energy(h)) + 0.1)),
    "in a window": (lambda h: h * band(h) ** -0.75, lambda h: h / band(h) ** 0.75),
    "of a layer": (
        lambda h: (d := h - h.mean(-1, keepdims=True)) * lax.rsqrt(energy(d) / 8 + 1e-5),
        lambda h: jax.nn.standardize(h),
    ),
    "cosines": (
        lambda h: (h @ B) * lax.rsqrt((h * h).sum(-1, keepdims=True)),
        lambda h: (h @ B) / jnp.linalg.norm(h, axis=-1, keepdims=True),
    ),
}


@pytest.mark.parametrize("name", DIVISIONS)
def test_a_product_with_an_inverse_is_a_division(name):
    explained = lambda norm: jaxplain.lrp(lambda x: norm(x @ A) @ C, "epsilon")(X, target=1)
    close(*map(explained, DIVISIONS[name]), 1e-4)  # stabilisers at other places


SIGMOIDS = {
    "a quotient": lambda z: 1 / (1 + jnp.exp(-z)),
    "a power": lambda z: (1 + jnp.exp(-z)) ** -1,
    "a reciprocal": lambda z: jnp.reciprocal(1 + jnp.exp(-z)),
    "another base": lambda z: 1 / (1 + np.e ** (-z)),
}


@pytest.mark.parametrize("name", SIGMOIDS)
def test_a_gate_is_no_inverse(name):
    gated = lambda gate: lambda x: ((x @ A) * gate(x @ A @ B)) @ C
    by_hand = jaxplain.lrp(gated(SIGMOIDS[name]), "epsilon")(X, target=1)
    close(by_hand, jaxplain.lrp(gated(jax.nn.sigmoid), "epsilon")(X, target=1))


def test_an_activation_of_a_layer_is_no_inverse():
    """It gets half, which its own activation hands on: the map is that of a gate that JAX differentiates as one."""
    gated = lambda gate: lambda x: ((x @ A) * gate(x @ A @ B)) @ C
    gate = jax.custom_jvp(lambda z: lax.rsqrt(1 + z**2))
    gate.defjvp(lambda primals, tangents: (gate(*primals), tangents[0]))
    plain, whole = (jaxplain.lrp(gated(g), "epsilon")(X, target=1) for g in (lambda z: lax.rsqrt(1 + z**2), gate))
    close(plain, whole)


def test_integers_are_not_divided_otherwise():
    count = jnp.sum(jnp.ones(6, jnp.int32))
    f = lambda x: x @ A * (1 + 2 * count * lax.div(1, count)) * lax.integer_pow(2.0, -1) @ C
    close(jaxplain.lrp(f, "epsilon")(X, target=1).sum(axis=1), f(X)[:, 1], 1e-4)


def test_a_mask_of_numbers_is_an_error_in_words():
    with pytest.raises(ValueError, match="turns into integers"):
        jaxplain.lrp(lambda x: ((x @ A) * jnp.where(x @ A @ B > 0, 1.0, 0.0)) @ C)(X)
