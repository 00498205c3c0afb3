"""With no rules, the engine is the network: the same values, the same gradients."""

import jax
import jax.numpy as jnp
import pytest

from jaxplain import rules
from jaxplain.propagation._engine import trace_network
from tests.close import within
from tests.zoo import IMAGES, ZOO, control_flow


def no_rules(unit):
    return None


def gradient_rules(unit):
    """Every unit by its true backward pass, which finds out whether the units are what they claim to be."""
    return rules.gradient() if unit.kind != "shape" else None


def replayed(apply, composite=no_rules):
    return lambda v, x: trace_network(lambda x: apply(v, x), x)(composite, x)


close = within(1e-12, scale=1.0)


def values_and_gradients(apply, variables, x):
    """The logits and a weighted sum's gradients with respect to the variables and the input."""
    y, pullback = jax.vjp(apply, variables, x)
    return y, pullback(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


@pytest.mark.parametrize("name", ZOO)
def test_no_rules_is_the_identity(name):
    case = ZOO[name]

    @jax.jit
    def compute(variables, x):
        own, none, gradient = (
            values_and_gradients(f, variables, x)
            for f in (case.apply, replayed(case.apply), replayed(case.apply, gradient_rules))
        )
        return own, none, (gradient[0], gradient[1][1])  # rules hand nothing to the variables

    (values, gradients), none, by_rules = compute(*case.args)
    close(none, (values, gradients))
    close(by_rules, (values, gradients[1]))


UNROLLED = ZOO["unrolled"]
EXPECTED = UNROLLED.logits


@pytest.mark.parametrize("composite", [no_rules, gradient_rules])
@pytest.mark.parametrize("name", ["unrolled", "scan_remat", "cond_on_input", "switch"])
def test_inside_every_transformation(name, composite):
    network = lambda x: replayed(ZOO[name].apply, composite)(UNROLLED.variables, x)
    close(network(IMAGES), EXPECTED)
    close(jax.checkpoint(network)(IMAGES), EXPECTED)
    close(jax.vmap(lambda x: network(x[None])[0])(IMAGES), EXPECTED)
    close(jax.lax.map(lambda x: network(x[None])[0], IMAGES), EXPECTED)
    close(jax.lax.cond(IMAGES.sum() < 1e6, network, lambda x: -network(x), IMAGES), EXPECTED)
    close(replayed(lambda _, x: network(x), composite)(None, IMAGES), EXPECTED)  # the engine inside the engine


def test_a_graph_is_traced_once_and_evaluated_on_other_inputs():
    network = trace_network(
        lambda x: UNROLLED.apply(UNROLLED.variables, x), jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype)
    )
    close(network(no_rules, IMAGES), EXPECTED)
    close(network(no_rules, IMAGES + 1), UNROLLED.apply(UNROLLED.variables, IMAGES + 1))


def test_several_lanes_do_not_mix():
    for name in ("scan_with_outputs", "linen_scan_remat", "cond_on_flag", "densenet"):
        case = ZOO[name]
        network = trace_network(lambda x, case=case: case.apply(case.variables, x), IMAGES)
        first, second = jax.jit(lambda x, network=network: network(no_rules, x, 0.5 * x))(IMAGES)
        close(first, case.logits)
        close(second, jax.jit(case.apply)(case.variables, 0.5 * IMAGES))


def test_a_while_loop_over_the_input_is_refused_and_one_over_weights_is_not():
    with pytest.raises(ValueError, match=r"`while` loop depends on the explained input .*control_flow.py"):
        trace_network(lambda x: control_flow.WHILE(UNROLLED.variables, x), IMAGES)

    def normalised(v, x):  # spectral normalisation: power iteration until it has converged
        w = v["head"]
        unfinished = lambda state: jnp.abs(state[0] - state[1]).max() > 1e-9
        step = lambda state: ((w @ (w.T @ state[0])) / jnp.linalg.norm(w @ (w.T @ state[0])), state[0])
        u, _ = jax.lax.while_loop(unfinished, step, (jnp.ones(len(w)) / 2, jnp.zeros(len(w))))
        return UNROLLED.apply(v | {"head": w / jnp.linalg.norm(u @ w)}, x)

    close(replayed(normalised)(UNROLLED.variables, IMAGES), normalised(UNROLLED.variables, IMAGES))


@jax.custom_jvp
def rounded(x):
    return jnp.round(x, 1)


@rounded.defjvp
def _(primals, tangents):
    return rounded(*primals), tangents[0]  # the straight-through estimator


@jax.custom_vjp
def reversed_gradient(x):
    return x * 1.0


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@pytest.mark.parametrize("act", [rounded, reversed_gradient, jax.lax.stop_gradient], ids=lambda f: f.__name__)
def test_derivatives_that_are_not_those_of_the_values(act):
    apply = lambda v, x: UNROLLED.apply(v, x + act(x))
    expected = values_and_gradients(apply, UNROLLED.variables, IMAGES)
    for composite in (no_rules, gradient_rules):
        values, (_, gradient) = values_and_gradients(replayed(apply, composite), UNROLLED.variables, IMAGES)
        close((values, gradient), (expected[0], expected[1][1]))
