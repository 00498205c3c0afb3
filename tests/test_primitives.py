"""Every primitive of JAX is known or refused on purpose, whichever of JAX's versions runs this.

JAX's coming forms of calls and loops (`FLAGS`) under JAX 0.10.2, 0.11.2 and 0.12.0.1, gradient, guided backpropagation,
LRP and DeepLIFT of a network with a ReLU, functions with derivatives of their own, a checkpoint and a loop:

===================  ============================================================================================
``jax_remat3``       all four
``jax_custom_jvp3``  all four (a flag from JAX 0.11 on)
``jax_custom_vjp3``  all four
``jax_scan3``        none: JAX itself has no derivative of this loop ("must implement `vjp_fwd`")
===================  ============================================================================================
"""

import inspect
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import pytest
from jax import lax
from jax.extend import core as jexc
from jax.extend.core import primitives as P

import jaxplain
from jaxplain._graph.axes import AXES
from jaxplain._graph.equations import has_own_derivative, unclose
from jaxplain._graph.primitives import (
    BY_NAME,
    CUSTOM_VMAP,
    NOT_IN_EVERY_JAX,
    REFUSED,
    ROWS,
    TRAITS,
    is_known,
    primitive,
)

FLOATS, INTS, BOOLS = jnp.linspace(0.1, 0.9, 9).reshape(3, 3), jnp.arange(9).reshape(3, 3) % 3, jnp.eye(3) > 0
ROW = FLOATS[0]
ARGUMENTS = [
    *((FLOATS,), (FLOATS, FLOATS), (FLOATS, FLOATS, FLOATS), (ROW,), (ROW, ROW), (INTS,), (INTS, INTS), (BOOLS,)),
    *(
        (FLOATS, INTS),
        (INTS, FLOATS),
        (BOOLS, FLOATS, FLOATS),
        (BOOLS, BOOLS),
        (FLOATS + 1j,),
        (FLOATS, 1),
        (1, FLOATS),
    ),
    *((FLOATS, (3, 3)), (FLOATS, (0,)), (FLOATS, 0), (FLOATS, 0, 1), (FLOATS, 0.5), (FLOATS, (1, 0)), (FLOATS, (1, 2))),
    *(([FLOATS, FLOATS],), ([FLOATS, FLOATS], 0), (3,), ((3, 3),), ("ij,jk->ik", FLOATS, FLOATS), (ROW, ROW, ROW)),
    *((FLOATS, 0, 2, 1), (FLOATS, (0, 0), (2, 2)), (FLOATS, 0.0, ((1, 0, 0), (0, 1, 0))), (FLOATS, [1.0, 2.0, 0.5])),
    *((lax.add, FLOATS, FLOATS), (FLOATS, 0.0, lax.add, (0,)), (lambda c, x: (c + x, c), ROW, FLOATS)),
    *(
        (FLOATS[None, None], FLOATS[None, None], (1, 1), "SAME"),
        (FLOATS, jnp.float16),
        (FLOATS, 8, 7),
        (0, 3, lax.add, 1),
    ),
]


def traced(f, args):
    """The primitives of a function at these arguments."""
    leaves, tree = jax.tree.flatten(args)
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    def of_arrays(*arrays):
        given = iter(arrays)
        out = f(*tree.unflatten([next(given) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]))
        return [leaf for leaf in jax.tree.leaves(out) if isinstance(leaf, jax.Array)]

    return inside(jax.make_jaxpr(of_arrays)(*arrays))


def inside(jaxpr):
    """The primitives of a jaxpr and of all that it calls."""
    found = set()
    for eqn in unclose(jaxpr)[0].eqns:
        found |= {eqn.primitive} if "_prim" not in eqn.params else set()
        for inner in jexc.jaxprs_in_params(eqn.params):
            found |= inside(inner)
    return found


def takes(f):
    """Whether a function takes so many arguments."""

    def fits(args):
        try:
            inspect.signature(f).bind(*args)
        except (TypeError, ValueError):
            return False
        return True

    return fits


def met(modules):
    """The primitives met when functions are traced on small inputs, each on some that it takes."""
    found = {}
    for module in modules:
        functions = [(name, f) for name, f in vars(module).items() if callable(f) and not inspect.isclass(f)]
        for name, f in functions:
            successes = 0
            for args in () if name.startswith("save") else filter(takes(f), ARGUMENTS):
                try:
                    found |= dict.fromkeys(traced(f, args), name)
                    successes += 1
                except Exception:  # of all sorts: a function for other arguments
                    continue
                if successes == 2:
                    break
    return found


def test_every_primitive_of_jax_is_known_or_refused():
    listed = [getattr(P, name) for name in dir(P) if name.endswith("_p")]
    assert [p for p in listed if not is_known(p)] == []


def test_primitives_that_jax_does_not_export_are_found_by_their_names():
    mapped = jax.custom_batching.custom_vmap(lambda x: x)
    mapped.def_vmap(lambda size, is_mapped, x: (x, is_mapped[0]))
    barrier = BY_NAME["optimization_barrier"]
    run = {BY_NAME["split"]: lambda x: jnp.split(x, 3), barrier: lax.optimization_barrier, CUSTOM_VMAP: mapped}
    for wanted, f in run.items():
        assert wanted in traced(f, (ROW,))


def test_every_primitive_that_functions_of_jax_run_is_known_or_refused():
    filtering = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")  # takes most of the time where functions fail
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = met([jnp, lax, jax.nn, jax.scipy.special])
    jax.config.update("jax_traceback_filtering", filtering)
    names = {p.name for p in found}
    assert {"sort", "tile", "split", "conv_general_dilated", "scan"} <= names
    assert "unstack" not in BY_NAME or "unstack" in names
    assert {p: name for p, name in found.items() if not is_known(p)} == {}


def test_no_name_in_the_table_is_misspelt():
    newest = jax.__version_info__ >= (0, 12)
    assert not newest or all(primitive(name) for name in NOT_IN_EVERY_JAX)
    listed = {getattr(P, name).name for name in dir(P) if name.endswith("_p")}
    elsewhere = {
        "call_hi_primitive",
        "dce_sink",
        "empty",
        "pbroadcast",
        "platform_index",
        "precv",
        "psend",
        "random_clone",
        "random_unwrap",
    }
    assert set(REFUSED) - listed - elsewhere - {"scaled_dot"} == set()


# --------------------------------------------------------------------------------- what is not known is said aloud

shrink_p = jexc.Primitive("shrink")
shrink_p.def_impl(lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0))
shrink_p.def_abstract_eval(lambda x: x)


def test_guided_backprop_says_that_it_does_not_know_an_operation():
    jax.interpreters.mlir.register_lowering(
        shrink_p, jax.interpreters.mlir.lower_fun(shrink_p.impl, multiple_results=False)
    )
    jax.interpreters.ad.defjvp(shrink_p, lambda t, x: jnp.where(jnp.abs(x) > 0.5, t, 0))
    x, v = jnp.array([[1.0, -2.0, 0.1]]), jnp.array([[3.0], [-5.0], [7.0]])
    f = lambda x: shrink_p.bind(x) @ v
    for method in (jaxplain.guided_backprop, jaxplain.deconvnet):
        with pytest.warns(UserWarning, match="does not know the operation `shrink` at .*its gradient passes as it is"):
            np.testing.assert_array_equal(method(f)(x, target=0), [[3.0, -5.0, 0.0]])
    with pytest.raises(ValueError, match=r"no rule for `shrink` at .* in the composite"):
        jaxplain.lrp(f)(x, target=0)
    with pytest.raises(ValueError, match=r"no rule for `shrink` at .* such as jaxplain.integrated_gradients"):
        jaxplain.deeplift(f)(x, target=0)


@pytest.mark.parametrize(
    ("f", "sentence"),
    [
        (lambda x: jnp.cumprod(x, axis=1), "no rule for `cumprod` at .*, where it multiplies many explained values: "),
        (
            lambda x: jnp.linalg.cholesky(x[:, :, None] * x[:, None, :] + jnp.eye(3)[None])[:, :, 0],
            "no rule for `cholesky` at .*, where it mixes the elements of a matrix: ",
        ),
        (lambda x: jnp.ones(9)[jnp.argsort(x, axis=1)], "turns into integers before"),
    ],
)
@pytest.mark.parametrize("method", [jaxplain.lrp, jaxplain.deeplift])
def test_what_is_refused_is_refused_with_a_reason(method, f, sentence):
    with pytest.raises(ValueError, match=sentence):
        method(f)(FLOATS, target=0)


def test_a_choice_among_values_has_no_reference():
    f = lambda x: jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(jaxplain.lrp(f)(FLOATS, target=0)[0], [0, 0, FLOATS[0, 2]])
    with pytest.raises(ValueError, match=r"chooses among values at .* \(`gather`\), .* or explain by a method without"):
        jaxplain.deeplift(f)(FLOATS, target=0)


# ------------------------------------------------------------------------------------------------- JAX's coming forms

PROGRAM = """
import sys, jax, jax.numpy as jnp, numpy as np, jaxplain
W = jnp.linspace(-1, 1, 12).reshape(4, 3)

@jax.custom_vjp
def clipped(x): return jnp.maximum(x, 0)
clipped.defvjp(lambda x: (clipped(x), x), lambda x, g: (g * (x > 0),))

def f(x):
    y = jax.checkpoint(lambda x: jnp.sin(x @ W))(clipped(x))
    y = jax.nn.relu(y + 0.1) + jax.nn.silu(y)
    return jax.lax.scan(lambda c, w: (jnp.tanh(c * w), None), y, jnp.array([1.0, 0.5]))[0]

x = jnp.array([[1.0, -2.0, 0.5, 0.3]])
methods = [jaxplain.gradient, jaxplain.guided_backprop, jaxplain.lrp, jaxplain.deeplift]
expected = [jax.jit(m(f))(x, target=1) for m in methods]
jax.clear_caches()
jax.config.update(sys.argv[1], True)
for m, e in zip(methods, expected):
    np.testing.assert_allclose(jax.jit(m(lambda x: f(x)))(x, target=1), e, rtol=1e-5, atol=1e-6)
"""
FLAGS = ["jax_remat3", "jax_custom_jvp3", "jax_custom_vjp3", "jax_scan3"]


@pytest.mark.parametrize("flag", FLAGS)
def test_the_coming_forms_of_calls_and_loops(flag):
    if flag not in jax.config.values:
        pytest.skip("this JAX has no such flag")
    done = subprocess.run([sys.executable, "-c", PROGRAM, flag], capture_output=True, text=True, check=False)
    if flag == "jax_scan3":
        assert "vjp_fwd" in done.stderr  # says the gradient, which is JAX's own
    else:
        assert done.returncode == 0, done.stderr[-2000:]


def test_a_function_that_jax_defines_by_others_is_entered():
    if not hasattr(jax.config, "jax_custom_jvp3") or jax.__version_info__ < (0, 12):
        pytest.skip("this JAX has no such functions")
    (eqn,) = [e for e in jax.make_jaxpr(jnp.frexp)(1.0).eqns[0].params["jaxpr"].eqns if "_prim" in e.params]
    assert has_own_derivative(eqn)


def evaluated(p, x):
    """The result of an elementwise primitive of one operand; None where it takes more, or other parameters."""
    for params in ({}, {"accuracy": None}, {"rounding_method": lax.RoundingMethod.TO_NEAREST_EVEN}):
        try:
            return np.asarray(p.bind(x, **params))
        except Exception:  # whatever JAX makes of too few operands
            continue
    return None


def test_what_the_table_says_of_signs_holds():
    x = jnp.concatenate([-jnp.linspace(0.01, 3, 50), jnp.zeros(1), jnp.linspace(0.01, 3, 50)])
    tried = 0
    for p, traits in TRAITS.items():
        if "elementwise" not in traits or (y := evaluated(p, x)) is None or y.dtype.kind != "f":
            continue
        tried, defined = tried + 1, np.isfinite(y)
        keeps = bool((np.sign(y) * np.sign(x) >= 0)[defined].all())
        if "positive" in traits:
            assert (y[defined] >= 0).all(), p
        if "keeps-sign" in traits:
            assert keeps, p
        if "flips" in traits:
            assert (np.sign(y) * np.sign(x) <= 0)[defined].all(), p
    assert tried > 30


def test_every_word_of_the_table_is_one_that_somebody_reads():
    kinds = """elementwise piecewise power root shift moves relabels indexed orders maximum sum product reduces discrete
        random call control"""
    signs = """positive keeps-sign keeps-sign:first keeps-sign:others flips largest smallest times clamped
        integer-power"""
    linear = {f"linear:{operand}" for operand in (0, 1, 3, -1)}
    known = {*kinds.split(), *signs.split(), *linear, "axes:each", *(f"axes:{name}" for name in AXES)}
    assert {word for words in ROWS.values() for word in words.split()} == known
