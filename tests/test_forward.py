"""One walk for every analysis of a network: through calls, branches and loops, to their fixed point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain._graph.axes import axes_of
from jaxplain._graph.dependence import dependents
from jaxplain._graph.origins import follow, of_input
from jaxplain._graph.signs import NONNEGATIVE, NONPOSITIVE, ZERO, signs
from jaxplain._graph.trace import trace
from jaxplain.propagation._engine import trace_network

X = jax.ShapeDtypeStruct((2, 3), jnp.float32)
BOTH, PLUS, MINUS = ZERO, {NONNEGATIVE}, {NONPOSITIVE}


def looped(start, body):
    return lambda x: lax.fori_loop(0, 3, lambda i, carry: body(carry, x), start(x))


@pytest.mark.parametrize(
    ("f", "sign"),
    [
        (jax.nn.relu, PLUS),
        (lambda x: jnp.minimum(x, 0), MINUS),
        (lambda x: -jax.nn.relu(x), MINUS),
        (lambda x: jax.nn.relu(x) * -jnp.exp(x), MINUS),
        (lambda x: -jax.nn.relu(x) / -jnp.exp(x), PLUS),
        (lambda x: x * x, PLUS),
        (lambda x: x * jnp.sin(x), set()),
        (lambda x: x**2, PLUS),
        (lambda x: jax.nn.relu(x) ** 3, PLUS),
        (lambda x: jnp.clip(x, 0, 6), PLUS),
        (lambda x: jnp.clip(x, -6, 0), MINUS),
        (lambda x: jnp.where(x > 0, jax.nn.relu(x), 0.0), PLUS),
        (lambda x: lax.cond(x[0, 0] > 0, jax.nn.relu, jnp.exp, x), PLUS),
        (lambda x: lax.cond(x[0, 0] > 0, jax.nn.relu, jnp.sin, x), set()),
        (looped(jax.nn.relu, lambda carry, x: carry + jnp.exp(x)), PLUS),
        (looped(jax.nn.relu, lambda carry, x: carry + x), set()),  # from the second turn on it may be negative
        (looped(lambda x: -jax.nn.relu(x), lambda carry, x: carry - jnp.exp(x) * 0), set()),
        (lambda x: lax.scan(lambda c, row: (c, jax.nn.relu(row)), 0.0, x)[1], PLUS),
        (lambda x: jnp.zeros_like(x) * x, BOTH),
    ],
)
def test_signs(f, sign):
    graph, _ = trace(f, X)
    (out,) = graph.outputs
    assert signs(graph).get(out, set()) == sign
    values = np.asarray(f(jnp.asarray(np.random.default_rng(0).normal(size=X.shape), jnp.float32)))
    assert NONNEGATIVE not in sign or (values >= 0).all()
    assert NONPOSITIVE not in sign or (values <= 0).all()


@pytest.mark.parametrize(
    ("f", "depends"),
    [
        (lambda x, c: (x, c), [True, False]),
        (lambda x, c: lax.fori_loop(0, 3, lambda i, s: (s[1], s[0]), (x, c)), [True, True]),
        (lambda x, c: lax.fori_loop(0, 3, lambda i, s: (s[0] + 1, s[1] * 2), (x, c)), [True, False]),
        (lambda x, c: lax.cond(c[0, 0] > 0, lambda: (x, c), lambda: (c, c)), [True, False]),
        (lambda x, c: lax.cond(x[0, 0] > 0, lambda: (c, c), lambda: (2 * c, 3 * c)), [True, True]),
        (lambda x, c: (jnp.isnan(x) * c, x * c), [False, True]),
        (lambda x, c: ((x != x) * c, c), [False, False]),
    ],
)
def test_dependence(f, depends):
    graph, _ = trace(f, X, X)
    found = dependents(graph, [True, False])
    assert [out in found for out in graph.outputs] == depends


ROWS = {
    "transpose": (lambda x: x.transpose(0, 2, 1), True),
    "over the first": (lambda x: x.transpose(1, 0, 2), False),
    "reshape": (lambda x: x.reshape(4, -1), True),
    "regrouped": (lambda x: x.reshape(2, -1), False),
    "slice": (lambda x: x[:, 1:], True),
    "slice of the first": (lambda x: x[1:], False),
    "reversed": (lambda x: x[::-1], False),
    "sum": (lambda x: x.sum(axis=2), True),
    "sum of the first": (lambda x: x.sum(axis=0), False),
    "cumsum": (lambda x: jnp.cumsum(x, axis=1), True),
    "cumsum of the first": (lambda x: jnp.cumsum(x, axis=0), False),
    "sort": (lambda x: jnp.sort(x, axis=1), True),
    "product": (lambda x: x @ jnp.ones((6, 2)), True),
    "product with the first": (lambda x: jnp.ones((2, 4)) @ x.reshape(4, -1), False),
    "softmax": (lambda x: jnp.exp(x) / jnp.exp(x).sum(axis=1, keepdims=True), True),
    "concatenated": (lambda x: jnp.concatenate([x, x], axis=1), True),
    "concatenated along the first": (lambda x: jnp.concatenate([x, x]), False),
    "padded": (lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0))), True),
    "window": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 1), (1, 1, 1), "VALID"), True),
    "window of the first": (lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 1, 1), (1, 1, 1), "VALID"), False),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_axis_that_runs_along_another_depends_on_it_index_by_index(name):
    f, expected = ROWS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 6)))
    graph, _ = trace(f, x)
    along = {graph.inputs[0]}  # the values whose first axis runs along that of x
    for op in graph.ops:
        first, *_ = axes_of(op.eqn) or [None]
        read = [k for k, a in enumerate(op.inputs) if isinstance(a, int) and a in along]
        if first and first.is_aligned and read and all((k, 0) in first.sources for k in read):
            along.update(op.outputs)
    assert (graph.outputs[0] in along) == expected
    if expected:  # and so it is: no other row has an influence
        influence = np.asarray(jax.jacobian(f)(x)).reshape(4, -1, 4, 30)
        assert not influence[~np.eye(4, dtype=bool)[:, None].repeat(influence.shape[1], 1)].any()


# ------------------------------------------------------------------------------- networks that are not only layers

KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 3, 4)))
WEIGHT = jnp.asarray(np.random.default_rng(2).normal(size=(4, 5)))
IMAGES = jnp.asarray(np.random.default_rng(3).normal(size=(2, 6, 6, 3)))


def network(x):
    h = lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(h).mean(axis=(1, 2)) @ WEIGHT


def swapping_numbers(x):
    (a, _), _ = lax.scan(lambda c, _: ((c[1], c[0]), None), (x.sum(), x.sum() * 0), None, length=3)
    return network(x) + a


def calling_back(x):
    jax.debug.callback(lambda value: None, x)
    return network(x)


def behind_a_barrier(x):
    means, x = lax.optimization_barrier((x.mean(axis=(1, 2)), x))
    return network(x) + means[:, :1]


def counting(x):
    step = lambda state: (state[0] + 1, state[1] * 1.0)
    _, x = lax.while_loop(lambda state: state[0] < 2, step, (0, x))
    return network(x)


@pytest.mark.parametrize("f", [swapping_numbers, calling_back, behind_a_barrier, counting])
def test_values_of_every_rank_are_followed(f):
    expected = jax.grad(lambda x: f(x)[:, 1].sum())(IMAGES).sum(axis=-1) if f is not counting else None
    if expected is not None:
        maps = jaxplain.heatmap(jaxplain.gradient(f))(IMAGES, target=1)
        np.testing.assert_allclose(maps, expected, atol=1e-12)
    assert jaxplain.tap(f)(IMAGES).features.shape == (2, 6, 6, 4)


def test_reshapes_from_and_to_a_number():
    w = jnp.arange(4.0)
    relevance = jaxplain.lrp(lambda x: (x.reshape(-1) @ w).reshape(1, 1) + 1.0)(jnp.ones((1, 4)))
    np.testing.assert_allclose(relevance, (w / 7 * 7)[None], rtol=1e-5)
    graph, _ = trace(lambda x: network(x)[:1, :1].reshape(()).reshape(1, 1), IMAGES)
    assert follow(graph, of_input(graph))[graph.outputs[0]] is not None


@pytest.mark.parametrize(("fill", "sign"), [(1.0, set()), (-1.0, MINUS), (0.0, MINUS), (None, set())])
def test_what_is_taken_out_of_bounds_has_a_sign_of_its_own(fill, sign):
    take = lambda x: jnp.take(-jnp.abs(x), jnp.array([0, 9]), axis=1, mode="fill", fill_value=fill)
    graph, _ = trace(take, X)
    assert signs(graph).get(graph.outputs[0], set()) == sign


def test_a_network_of_hundreds_of_layers_is_no_recursion():
    def deep(x):
        for _ in range(400):
            x = x @ jnp.eye(4) + 0.1
        return x

    kinds = [unit.kind for unit in trace_network(deep, jnp.ones((1, 4))).plan.units()]
    assert kinds == ["dense"] * 400
