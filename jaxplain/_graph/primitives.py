"""What is known of JAX's primitives, from JAX 0.10 to 0.12: one table, read by whoever walks through a network.

A primitive stands in one row of `ROWS`, with its traits. One that has no row has no rule, and a test fails for every
primitive of JAX that has neither a row nor a reason in `REFUSALS`. The traits are words:

* ``elementwise``: an element of the result depends on that element of the operands; perhaps also ``piecewise`` linear,
  a ``power``, a ``root``, a ``shift`` (a sum of operands with signs);
* ``moves``: an element of the result is one of an operand, and which one does not depend on their values; perhaps also
  ``relabels``: the same elements, other axes;
* ``indexed``: which element, an operand says; ``orders``: elements in the order of their values;
* ``maximum``, ``sum``, ``product``: of many elements; ``reduces`` whole axes;
* ``linear:``, in the operand of this number alone, the others being constants;
* ``discrete``: predicates and indices; ``random``; ``call`` and ``control``: what runs other operations;
* the sign of the result: ``positive``; ``keeps-sign``, that of all operands, of the ``first`` or of the ``others``;
  ``flips``, ``largest``, ``smallest``, ``times``, ``clamped``, ``integer-power``;
* its axes: ``axes:`` and how they run along those of the operands, see `axes`.
"""

from __future__ import annotations

from jax.extend import core as jexc
from jax.extend.core import primitives as P
from jax.interpreters import ad

ROWS = {
    # ---------------------------------------------------------------------------------- one element of each operand
    """acos acosh and atan2 clz cos cosh digamma eq eq_to igamma igamma_grad_a igammac is_finite le_to lgamma log log2
    lt_to mulhi ne nextafter not one_minus_square or polygamma polynomial population_count regularized_incomplete_beta
    rem shift_left shift_right_arithmetic shift_right_logical sin tan xor zeta""": "elementwise",
    "asin asinh atan atanh bessel_i1e ceil erf erf_inv expm1 floor round sign sinh tanh": "elementwise keeps-sign",
    "bessel_i0e erfc exp exp2 logistic": "elementwise positive",
    "abs": "elementwise piecewise positive",
    "add": "elementwise piecewise shift keeps-sign",
    "sub": "elementwise piecewise shift",
    "add_jaxvals": "elementwise shift keeps-sign",
    "neg": "elementwise piecewise shift flips",
    "ge gt le lt": "elementwise piecewise",
    "max": "elementwise piecewise largest",
    "min": "elementwise piecewise smallest",
    "clamp": "elementwise piecewise clamped",
    "select_n": "elementwise piecewise keeps-sign:others",
    "mul div": "elementwise piecewise power times",
    "log1p": "elementwise keeps-sign",
    "cbrt": "elementwise power root keeps-sign",
    "pow": "elementwise power root",
    "rsqrt sqrt": "elementwise power root positive",
    "square": "elementwise power positive",
    "integer_pow": "elementwise power integer-power",
    # ------------------------------------------------------------------------------------------ the same elements
    "convert_element_type copy": "elementwise moves relabels keeps-sign",
    "name": "moves relabels keeps-sign axes:same",
    "stop_gradient": "elementwise moves keeps-sign",
    "reduce_precision": "elementwise moves",
    "device_put optimization_barrier": "moves axes:each",
    "sharding_constraint": "moves keeps-sign axes:same",
    "reshape": "moves piecewise relabels keeps-sign axes:regrouped",
    "squeeze": "moves piecewise relabels keeps-sign axes:without",
    "transpose": "moves relabels keeps-sign axes:permuted",
    "broadcast_in_dim": "moves piecewise keeps-sign axes:broadcast",
    "concatenate rev split": "moves keeps-sign axes:but",
    "stack": "moves keeps-sign axes:with_new",
    "unstack": "moves keeps-sign axes:without",
    "tile": "moves keeps-sign axes:tiled",
    "slice": "moves keeps-sign axes:sliced",
    "pad": "moves keeps-sign axes:padded",
    "dynamic_slice": "moves indexed keeps-sign:first",
    "dynamic_update_slice": "moves indexed keeps-sign",
    "gather": "moves indexed keeps-sign:first axes:gathered",
    "scatter": "moves indexed",
    "sort top_k": "orders keeps-sign axes:but",
    # --------------------------------------------------------------------------------------------- many elements
    "cummax cummin": "maximum keeps-sign axes:but",
    "reduce_max reduce_min": "maximum reduces keeps-sign axes:without",
    "reduce_window_max reduce_window_min": "maximum keeps-sign axes:windows",
    "cumsum": "sum keeps-sign axes:but",
    "reduce_sum": "sum reduces keeps-sign axes:without",
    "reduce_window_sum": "sum keeps-sign axes:windows",
    "scatter_add": "sum indexed",
    "conv_general_dilated": "product axes:convolved",
    "dot_general": "product axes:multiplied",
    "scatter_mul ragged_dot_general": "linear:0",
    "triangular_solve": "linear:1",
    "tridiagonal_solve": "linear:3",
    "custom_linear_solve": "linear:-1",
    "argmax argmin reduce_and reduce_or reduce_xor": "discrete axes:without",
    "iota": "discrete positive",
    """random_bits random_fold_in random_gamma random_seed random_split rng_bit_generator rng_uniform
    threefry2x32""": "random",
    # ------------------------------------------------------------------------------------------- other operations
    "call closed_call custom_jvp_call custom_vjp_call jit remat": "call",
    "cond scan while": "control",
}
NOT_IN_EVERY_JAX = ("log2", "mulhi", "one_minus_square", "polynomial", "stack", "tile", "unstack")

REFUSALS = {  # why, and the names: behind the explained input only a rule of one's own passes these
    "it mixes the elements of a matrix": """cholesky eig eigh hessenberg householder_product lu qr schur svd
        tridiagonal""",
    "it multiplies many explained values": "cumprod reduce_prod",
    "it reduces by a function of its own": "cumlogsumexp reduce reduce_window",
    "it chooses among values in a way that no rule follows": """approx_top_k scatter-max scatter-min
        select_and_gather_add select_and_scatter select_and_scatter_add""",
    "it works across devices or mapped examples": """all_gather all_to_all axis_index pbroadcast pmax pmin ppermute
        precv psend psum ragged_all_to_all""",
    "its values are complex numbers": "complex conj fft imag real",
    "it is about bits, types, effects or kernels": """after_all bitcast_convert_type call_hi_primitive create_token
        custom_lin dce_sink empty empty2 get platform_index random_clone random_unwrap scaled_dot swap""",
}
REFUSED = {name: why for why, names in REFUSALS.items() for name in names.split()}

# What JAX exports as functions only has no public name; its derivative's table has it. JAX's own come first.
BY_NAME = {p.name: p for p in reversed(ad.primitive_jvps)}


def primitive(name: str) -> jexc.Primitive | None:
    """The primitive of a name; None where this JAX has none, and others do."""
    found = getattr(P, f"{name}_p", None) or BY_NAME.get(name)
    if found is None and name not in NOT_IN_EVERY_JAX:
        raise AttributeError(f"this version of JAX has no primitive {name}")
    return found


TRAITS: dict[jexc.Primitive, frozenset[str]] = {
    p: frozenset(words.split()) for names, words in ROWS.items() for p in map(primitive, names.split()) if p is not None
}


def having(*words: str) -> frozenset[jexc.Primitive]:
    """The primitives that have one of these traits."""
    return frozenset(p for p, traits in TRAITS.items() if not traits.isdisjoint(words))


ELEMENTWISE, PIECEWISE, POWERS, ROOTS, SHIFTS = map(having, ("elementwise", "piecewise", "power", "root", "shift"))
MOVES, RELABEL, INDEXED, ORDERS = map(having, ("moves", "relabels", "indexed", "orders"))
MAXIMA, SUMS, PRODUCTS, REDUCTIONS = map(having, ("maximum", "sum", "product", "reduces"))
LINEAR_IN = {p: int(w[7:]) for p, words in TRAITS.items() for w in words if w.startswith("linear:")}
RANDOM, CALLS, CONTROL_FLOW = map(having, ("random", "call", "control"))
STACK, TILE, CUSTOM_VMAP = map(BY_NAME.get, ("stack", "tile", "custom_vmap_call"))


def is_known(primitive: jexc.Primitive) -> bool:
    """Whether a primitive is classified here, or refused on purpose."""
    return primitive in TRAITS or primitive.name in REFUSED
