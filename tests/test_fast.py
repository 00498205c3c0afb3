"""`accelerate` changes the form of convolutions, not their values, in any layout and under any transform."""

import gc

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain._graph.trace import trace
from jaxplain.fast._accelerate import form_of
from jaxplain.fast._convolution import Convolution
from tests.close import within
from tests.convolution import NHWC, conv


def random_convolution(seed):
    """A convolution of random rank, layout, groups, strides, paddings and dilations, with its operands."""
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 6, 12]))
    channels, outputs = int(rng.choice([1, 2, 4, 9])), int(rng.choice([1, 2, 3]))
    draw = lambda choices: [int(rng.choice(choices)) for _ in range(rank)]
    window = draw([1, 2, 3] if groups > 1 else [1, 1, 2])
    strides, lhs_dilation, rhs_dilation = draw([1, 2, 3]), draw([1, 1, 2]), draw([1, 2])
    padding = [(int(rng.integers(-1, 3)), int(rng.integers(0, 3))) for _ in range(rank)]
    spec = lax.ConvDimensionNumbers(*(tuple(int(i) for i in rng.permutation(rank + 2)) for _ in range(3)))
    options = {"feature_group_count": groups, "dimension_numbers": spec}

    def laid_out(order, sizes):
        return rng.normal(size=[size for _, size in sorted(zip(order, sizes, strict=True))])

    x = laid_out(spec.lhs_spec, [2, groups * channels, *rng.integers(6, 9, rank)])
    w = laid_out(spec.rhs_spec, [groups * outputs, channels, *window])
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, lhs_dilation, rhs_dilation, **options), x, w


@pytest.mark.parametrize("seed", range(24))
def test_every_form_has_the_values_and_derivatives_of_the_convolution(seed):
    f, x, w = random_convolution(seed)
    fast = jaxplain.accelerate(f)
    gradient = lambda f: jax.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1))

    @jax.jit
    def compute(x, w):
        slow = f(x, w), gradient(f)(x, w)
        return slow, (fast(x, w), gradient(fast)(x, w)), jaxplain.accelerate(gradient(f))(x, w)

    wanted, through, instead = compute(x, w)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9)
    jax.tree.map(close, through, wanted)
    jax.tree.map(close, instead, wanted[1])


BY_ROWS = {  # in single precision alone
    "plain": ((2, 9, 8, 16), (3, 3, 16, 5), {}),
    "strided": ((2, 9, 8, 16), (3, 2, 16, 5), {"window_strides": (1, 2), "padding": [(2, 0), (-1, 3)]}),
    "dilated": ((2, 9, 8, 16), (3, 3, 16, 5), {"rhs_dilation": (2, 3), "padding": [(3, 2), (1, 0)]}),
    "dilated input": (
        (2, 9, 8, 16),
        (3, 3, 16, 5),
        {"lhs_dilation": (1, 2), "window_strides": (1, 2), "padding": [(1, 1), (2, 0)]},
    ),
}


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", BY_ROWS)
def test_sums_of_rows(name, layout):
    shape, kernel, options = BY_ROWS[name]
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (shape, kernel))
    x = x.transpose(0, 3, 1, 2) if layout == "NCHW" else x
    spec = lax.conv_dimension_numbers(x.shape, w.shape, (layout, "HWIO", layout))
    f = lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=spec, **options)
    form = Convolution(jax.make_jaxpr(f)(x, w).eqns[-1].params, x.shape, w.shape, f(x, w).shape, x.dtype).form()
    assert form.__name__ == "as_sum_of_rows"
    loss = lambda f: lambda x, w: (f(x, w) ** 2).mean()
    for fast, slow in (
        (jaxplain.accelerate(f)(x, w), f(x, w)),
        (jax.grad(loss(jaxplain.accelerate(f)))(x, w), jax.grad(loss(f))(x, w)),
        (jaxplain.accelerate(jax.grad(loss(f), 1))(x, w), jax.grad(loss(f), 1)(x, w)),
    ):
        np.testing.assert_allclose(fast, slow, atol=1e-5 * float(jnp.abs(slow).max()))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(12, (1, 1), name="expand")(x))
        body = nn.remat(nn.Conv)(12, (3, 3), feature_group_count=12, name="depthwise")
        x = nn.relu(body(x))
        x, _ = lax.scan(lambda x, _: (jnp.tanh(x * 0.9), None), x, None, length=2)
        return nn.Dense(4, name="head")(x.mean(axis=(1, 2)))


X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3), jnp.float32)
VARIABLES = Net().init(jax.random.key(1), X)


def test_which_convolutions_have_another_form():
    def has_form(channels, groups, size):
        f = lambda x, w: lax.conv(x, w, (1, 1), "SAME") if groups == 1 else depthwise(x, w)
        depthwise = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=groups)
        x, w = jnp.ones((1, channels, 6, 6)), jnp.ones((channels, channels // groups, size, size))
        return form_of(jax.make_jaxpr(f)(x, w).eqns[-1]) is not None

    assert has_form(6, 6, 3)
    assert has_form(6, 1, 1)
    assert has_form(64, 2, 3)
    assert has_form(6, 1, 3)  # channels first
    assert not has_form(256, 16, 3)
    assert has_form(4, 4, 20)
    assert not has_form(16, 16, 20)


@pytest.mark.parametrize("layout", [NHWC, ("NCHW", "OIHW", "NCHW")])
def test_an_odd_number_of_channels_is_made_even(layout):
    strided = lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=layout)

    def operands(channels):
        x, w = (
            jax.random.normal(jax.random.key(i), s, jnp.float32)
            for i, s in enumerate([(2, 9, 9, channels), (3, 3, channels, 32)])
        )
        return (x, w) if layout == NHWC else (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1))

    text = lambda channels: str(jax.make_jaxpr(jaxplain.accelerate(strided))(*operands(channels)))
    assert (" pad[" in text(3), " pad[" in text(4)) == (True, False)
    gradient = lambda f: jax.jit(jax.grad(lambda *args: (f(*args) ** 2).sum(), (0, 1)))(*operands(3))
    close(jaxplain.accelerate(strided)(*operands(3)), strided(*operands(3)))
    for fast, slow in zip(gradient(jaxplain.accelerate(strided)), gradient(strided), strict=True):
        close(fast, slow)


def test_the_layout_that_is_fast_inside_loops():
    """The compiler brings convolutions into the order of its library outside loops only."""
    w = jnp.ones((3, 3, 8, 16))
    f = lambda x: conv(x, w)
    assert form_of(jax.make_jaxpr(f)(jnp.ones((1, 6, 6, 8))).eqns[-1]) is None
    derivative = jaxplain.accelerate(lambda x: jax.vjp(f, x)[1](jnp.ones((1, 6, 6, 16)))[0])
    loop = jax.jit(lambda x: lax.map(lambda t: derivative(t * x), jnp.arange(3.0)))
    text = loop.lower(jnp.ones((1, 6, 6, 8))).compile().as_text()
    assert "b01f_01io->b01f" in text
    assert "01oi" not in text


close = within(1e-5)


def test_transforms():
    fast, slow = jaxplain.accelerate(Net().apply), Net().apply
    close(jax.vmap(lambda x: fast(VARIABLES, x[None]))(X), slow(VARIABLES, X)[:, None])
    tangents = lambda f: jax.jit(lambda x: jax.jvp(lambda x: f(VARIABLES, x), (x,), (x,))[1])(X)
    close(tangents(fast), tangents(slow))
    jacobian = lambda f: jax.jit(jax.jacrev(lambda x: f(VARIABLES, x)))(X)
    close(jacobian(fast), jacobian(slow))
    compiled = jaxplain.accelerate(jax.jit(slow))
    close(compiled(VARIABLES, X), slow(VARIABLES, X))
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (VARIABLES, X))
    assert fast(*low).dtype == jnp.bfloat16


def test_inside_loops_and_branches():
    kernel = jax.random.normal(jax.random.key(2), (3, 3, 1, 3), jnp.float32)
    depthwise = lambda x: conv(x, kernel)

    def f(x):
        x = lax.fori_loop(0, 2, lambda _, x: depthwise(x), x)
        x = lax.while_loop(lambda x: jnp.abs(x).max() < 100, lambda x: 2 * depthwise(x) + 1, x)
        return lax.cond(x.sum() > 0, depthwise, lambda x: -depthwise(x), x)

    close(jax.jit(jaxplain.accelerate(f))(X), f(X))


def test_explainers_decline():
    for make in (jaxplain.gradient, jaxplain.lrp, jaxplain.grad_cam):
        fast, slow = make(Net().apply), make(jaxplain.accelerate(Net().apply, False))
        texts = [jax.jit(explain).lower(VARIABLES, X, target=1).as_text() for explain in (fast, slow)]
        assert texts[0].count("stablehlo.convolution") < texts[1].count("stablehlo.convolution")
        close(jax.jit(fast)(VARIABLES, X, target=1), jax.jit(slow)(VARIABLES, X, target=1))


def depthwise(x, w, strides=(1, 1), padding="SAME"):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        dimension_numbers=layout,
        feature_group_count=x.shape[-1],
        preferred_element_type=x.dtype,
    )


KERNEL = jnp.ones((3, 3, 1, 3), jnp.float32)


def test_what_is_no_array_stays_as_it_is():
    f = lambda x, *rest, **options: (rest[0](depthwise(x, KERNEL)) * rest[1] if rest[2] else x, rest[1:], options, 3)
    values, *rest = jaxplain.accelerate(f)(X, jnp.tanh, 2.0, True, None, "name", option="b")
    assert rest == [(2.0, True, None, "name"), {"option": "b"}, 3]
    assert all(type(a) is type(b) for a, b in zip(rest[0], (2.0, True, None, "name"), strict=True))
    close(values, 2 * jnp.tanh(depthwise(X, KERNEL)))
    static = jax.jit(lambda x, n: x * n, static_argnums=1)
    close(jaxplain.accelerate(static)(X, 2), 2 * X)


def test_types_are_kept():
    weak = lambda a: depthwise(jnp.broadcast_to(a, (1, 4, 4, 3)), jnp.broadcast_to(a, (3, 3, 1, 3)))
    assert jaxplain.accelerate(weak)(jnp.asarray(2.0)).weak_type
    low = [a.astype(jnp.bfloat16) for a in (X, KERNEL)]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert jaxplain.accelerate(jax.grad(lambda *a: depthwise(*a).sum()))(*low).dtype == jnp.bfloat16


def test_no_outputs_and_a_callback_without_any():
    large = jnp.ones((9, 9, 1, 3), jnp.float32)
    f = lambda x: (jax.debug.callback(lambda: None), depthwise(x, large, padding="VALID"))[1]
    assert jaxplain.accelerate(f)(X).shape == (2, 0, 0, 3)


def test_symbolic_and_explicitly_sharded_shapes():
    b, h = jax.export.symbolic_shape("b, h")
    for shape in ((b, 8, 8, 3), (2, h, 8, 3)):
        f = lambda x: nn.max_pool(depthwise(x, KERNEL, (2, 2), "VALID"), (2, 2))
        exported = jax.export.export(jax.jit(jaxplain.accelerate(f)))(jax.ShapeDtypeStruct(shape, jnp.float32))
        close(jax.jit(exported.call)(X), jax.jit(f)(X))
    dense = lambda w, x: (conv(x, w) ** 2).sum()
    w, x = jnp.ones((3, 3, 3, 6), jnp.float32), jax.ShapeDtypeStruct((b, 8, 8, 3), jnp.float32)
    exported = jax.export.export(jax.jit(jaxplain.accelerate(jax.grad(dense))))(w, x)
    close(jax.jit(exported.call)(w, X), jax.grad(dense)(w, X))
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        loop = lambda x: lax.scan(lambda x, _: (depthwise(x, KERNEL), None), x, None, length=2)[0]
        x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("batch")))
        close(jax.jit(jaxplain.accelerate(loop))(x), jax.jit(loop)(x))


@pytest.mark.parametrize("spec", [("d",), (None, "d"), (None, None, "d")])
def test_explicit_meshes(spec):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 8), jnp.float32)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 8), jnp.float32)
    depthwise = lambda x: conv(x, kernel)
    gradient = jax.grad(lambda x: (depthwise(x) ** 2).sum())
    pool = lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME")
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, jax.P(*spec))
        for f in (depthwise, gradient, pool):
            fast, plain = (jax.jit(g)(sharded) for g in (jaxplain.accelerate(f), f))
            assert fast.sharding == plain.sharding
            close(jax.device_get(fast), jax.device_get(plain))


def test_garbage_is_collected_again_after_tracing():
    def seen(x):
        assert not gc.isenabled()
        return x.sum(axis=1) if x.ndim == 2 else x.no_such_attribute

    assert gc.isenabled()
    jaxplain.gradient(seen)(jnp.ones((1, 2)))
    assert gc.isenabled()
    with pytest.raises(AttributeError):
        jaxplain.accelerate(seen)(jnp.ones(2))
    assert gc.isenabled()
    gc.disable()  # as a user may do
    try:
        jaxplain.accelerate(seen)(jnp.ones((1, 2)))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_equal_operations_share_a_form():
    x, w = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))
    f = lambda x: conv(conv(x, w), w)
    jaxpr = jax.make_jaxpr(f)(x).jaxpr
    first, second = (form_of(eqn) for eqn in jaxpr.eqns if eqn.primitive is lax.conv_general_dilated_p)
    assert first is second is not None


def test_operations_that_share_a_form_keep_their_lines():
    w, options = jnp.ones((3, 3, 1, 4)), {"dimension_numbers": NHWC, "feature_group_count": 4}

    def f(x):
        x = lax.conv_general_dilated(x, w, (1, 1), "SAME", **options)
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", **options)

    graph, _ = trace(jaxplain.accelerate(f), jnp.ones((1, 8, 8, 4)))
    first, second = (op.line for op in graph.ops if op.primitive is lax.conv_general_dilated_p)
    start = f.__code__.co_firstlineno
    assert f"test_fast.py:{start + 1}" in first
    assert f"test_fast.py:{start + 2}" in second
