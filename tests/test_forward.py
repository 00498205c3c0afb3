"""One walk for every analysis of a network: through calls, branches and loops, to their fixed point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxplain._graph.axes import axes_of
from jaxplain._graph.dependence import dependents
from jaxplain._graph.signs import NONNEGATIVE, NONPOSITIVE, ZERO, signs
from jaxplain._graph.trace import trace

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
        (lambda x: lax.clamp(-6.0, x, 0.0), MINUS),
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
        (lambda x, c: lax.cond(x[0, 0] > 0, lambda: (c, c), lambda: (c, c)), [True, True]),
        (lambda x, c: (jnp.isnan(x) * c, x * c), [True, True]),
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
    runs = {0}  # the values that run along the first axis of x by their own first axis
    graph, _ = trace(f, x)
    along = {graph.inputs[0]}
    for op in graph.ops:
        first, *_ = axes_of(op.eqn) or [None]
        read = [k for k, a in enumerate(op.inputs) if a in along]
        if first and first.is_aligned and read and all((k, 0) in first.sources for k in read):
            along.update(op.outputs)
    assert (graph.outputs[0] in along) == expected
    jacobian = jax.jacobian(f)(x)
    if expected:  # and so it is
        others = np.asarray(jacobian).reshape(4, -1, 4, 30)
        assert not others[~np.eye(4, dtype=bool)[:, None, :, None] & np.ones(others.shape, bool)[..., :1]].any()
    assert runs
