"""What is known of JAX's primitives: one table of kinds, from JAX 0.10 to 0.12, by public names.

Whoever walks through a network asks here what an operation does with its operands. A primitive may be of several kinds.
One that is of none has no rule, and a test fails for every primitive of JAX that is neither known nor refused.
"""

from __future__ import annotations

from jax.extend import core as jexc
from jax.extend.core import primitives as P
from jax.interpreters import ad

YOUNG = ("log2", "one_minus_square", "polynomial")  # of JAX 0.11 and later


def primitives(names: str) -> frozenset[jexc.Primitive]:
    """The primitives of these names, as far as this JAX has them."""
    found = (getattr(P, f"{name}_p", None) if name in YOUNG else getattr(P, f"{name}_p") for name in names.split())
    return frozenset(p for p in found if p is not None)


NAMED = {p.name: p for p in reversed(ad.primitive_jvps)}  # also what JAX exports as functions only; its own come first
SPLIT, BARRIER, CUSTOM_VMAP = (NAMED[name] for name in ("split", "optimization_barrier", "custom_vmap_call"))
STACK, UNSTACK, TILE, MULTIPLY_HIGH = map(NAMED.get, ("stack", "unstack", "tile", "mulhi"))  # None in JAX 0.10.0

# ------------------------------------------------------------ what a result is made of, element by element

ELEMENTWISE = {MULTIPLY_HIGH} | primitives(
    """abs acos acosh add_jaxvals add and asin asinh atan2 atan atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul ne neg
    nextafter not one_minus_square or polygamma polynomial population_count pow reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin
    sinh sqrt square stop_gradient sub tan tanh xor zeta"""
)
RELABEL = primitives("convert_element_type copy name reshape squeeze transpose")  # the same numbers, other axes
MOVES = (  # each element of a result is an element of an operand, which one does not depend on their values
    RELABEL
    | {SPLIT, STACK, UNSTACK, TILE, BARRIER}  # None where this JAX lacks one
    | primitives(
        """broadcast_in_dim concatenate device_put dynamic_slice dynamic_update_slice gather pad reduce_precision rev
        scatter sharding_constraint slice stop_gradient"""
    )
)
INDEXED = primitives("dynamic_slice dynamic_update_slice gather scatter scatter_add")  # which one, an operand says
ORDERS = primitives("sort top_k")  # each is an element of an operand, put in its place by the order of the values
MAXIMA = primitives("cummax cummin reduce_max reduce_min reduce_window_max reduce_window_min")
SUMS = primitives("cumsum reduce_sum reduce_window_sum scatter_add")
PRODUCTS = primitives("conv_general_dilated dot_general")
SHIFTS = primitives("add add_jaxvals neg sub")  # a sum of operands with signs
REDUCTIONS = primitives("reduce_max reduce_min reduce_sum")
ROOTS = primitives("cbrt pow rsqrt sqrt")
DISCRETE = primitives("argmax argmin iota reduce_and reduce_or reduce_xor")  # predicates and indices
RANDOM = primitives(
    "random_bits random_fold_in random_gamma random_seed random_split rng_bit_generator rng_uniform threefry2x32"
)

# ------------------------------------------------------------ what runs other operations

CALLS = primitives("call closed_call custom_jvp_call custom_vjp_call jit remat")
CONTROL_FLOW = primitives("cond scan while")

# ------------------------------------------------------------ the signs of results

POSITIVE = primitives("abs bessel_i0e erfc exp exp2 iota logistic rsqrt sqrt square")
SIGN_KEEPING = {SPLIT, STACK, UNSTACK, TILE} | primitives(  # no negative result without a negative operand
    """add add_jaxvals broadcast_in_dim concatenate convert_element_type copy cummax cumsum div dynamic_update_slice
    log1p min mul name pad reduce_max reduce_min reduce_sum reduce_window_max reduce_window_min reduce_window_sum
    reshape rev sharding_constraint slice sort squeeze stop_gradient top_k transpose"""
)

KNOWN = ELEMENTWISE | MOVES | ORDERS | MAXIMA | SUMS | PRODUCTS | DISCRETE | RANDOM | CALLS | CONTROL_FLOW

REFUSALS = {  # why, and the names: behind the explained input only a rule of one's own passes these
    "it mixes the elements of a matrix": """cholesky custom_linear_solve eig eigh hessenberg householder_product lu qr
        schur svd triangular_solve tridiagonal tridiagonal_solve""",
    "it multiplies many explained values": "cumprod reduce_prod scatter-mul",
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


def is_known(primitive: jexc.Primitive) -> bool:
    """Whether a primitive is classified here, or refused on purpose."""
    return primitive in KNOWN or primitive.name in REFUSED
