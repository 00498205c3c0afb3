"""What TPUs do to products by default, on any device: their operands are rounded to bfloat16."""

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as P

from jaxplain._graph.rewrite import Form, with_rewritten_equations


def with_rounded_products(f):
    """The same function, the operands of its products rounded to bfloat16 wherever none asks for more precision."""
    return with_rewritten_equations(f, rounded_products)


def rounded_products(jaxpr, constants):
    """The equations of a jaxpr, the operands of products of JAX's default precision rounded before."""
    return [Form(eqn, all_rounded if is_product(eqn) and not asks(eqn) else None, None) for eqn in jaxpr.eqns]


def all_rounded(operands):
    return list(map(rounded, operands))


def is_product(eqn):
    return eqn.primitive in (P.dot_general_p, P.conv_general_dilated_p)


def asks(eqn):
    """Whether a product asks for more than the default precision."""
    precision = eqn.params["precision"]
    both = precision if isinstance(precision, tuple) else (precision,)
    return any(one not in (None, lax.Precision.DEFAULT) for one in both)


def rounded(x):
    return x.astype(jnp.bfloat16).astype(x.dtype) if x.dtype == jnp.float32 else x
