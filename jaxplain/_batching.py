"""`vmap_behind`: a mapped axis that comes behind the batch where a convolution takes both as one axis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from ._graph.primitives import CUSTOM_VMAP
from ._graph.rewrite import Form, rewrite_subjaxpr, with_rewritten_equations

Array: TypeAlias = jax.Array
Function: TypeAlias = Callable[..., Any]


def vmap_behind(fn: Function) -> Function:
    """``jax.vmap(fn)``, for functions ``fn`` of samples, steps or masks that evaluate a network on a whole batch.

    A convolution has one batch axis, so that `jax.vmap` makes one of the mapped axis and the batch, the mapped one in
    front: where the batch is sharded over devices, no device holds a part of that axis, the batch is gathered, and
    every device computes all of it. With the batch in front every device keeps its own examples. Where there is one
    device, or `jax.shard_map` gives each its own examples anyway, it is `jax.vmap` itself: the other order costs
    depthwise networks a fifth of their time on a CPU. One sample is not mapped at all.
    """

    def mapped(*args: Any) -> Any:
        if all(a.shape[0] == 1 for a in jax.tree.leaves(args)):  # as a network knows it, and rows that repeat stay such
            return jax.tree.map(lambda y: y[None], fn(*jax.tree.map(lambda a: a[0], args)))
        if jax.device_count() == 1 or jax.sharding.get_abstract_mesh().are_all_axes_manual:
            return jax.vmap(fn)(*args)
        return with_rewritten_equations(jax.vmap(with_rewritten_equations(fn, with_own_map)), without_own_map)(*args)

    return mapped


def with_own_map(jaxpr: Any, consts: Sequence[Any] = ()) -> list[Form]:
    """The equations of a jaxpr; convolutions, also those in forms for one platform, with the way they are mapped."""
    others = {P.conv_general_dilated_p: convolution, P.cond_p: platform_forms}
    return [Form(eqn, other=others[eqn.primitive](eqn) if eqn.primitive in others else None) for eqn in jaxpr.eqns]


def without_own_map(jaxpr: Any, consts: Sequence[Any] = ()) -> list[Form]:
    """The equations of a jaxpr; convolutions that nothing has mapped as plain ones again."""
    plain = lambda eqn: jexc.jaxpr_as_fun(eqn.params["call"])
    return [Form(eqn, other=plain(eqn) if eqn.primitive is CUSTOM_VMAP else None) for eqn in jaxpr.eqns]


def convolution(eqn: Any) -> Function | None:
    """A convolution that is mapped with the batch in front of the mapped axis."""
    bind = functools.partial(eqn.primitive.bind, **eqn.params)
    spec = eqn.params["dimension_numbers"]
    if eqn.params["batch_group_count"] != 1:
        return None

    @jax.custom_batching.custom_vmap
    def convolve(x: Array, kernel: Array) -> Array:
        return bind(x, kernel)

    @convolve.def_vmap
    def _(size: int, is_mapped: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if is_mapped[1]:
            return jax.vmap(bind, in_axes=(0 if is_mapped[0] else None, 0))(x, kernel), True
        y = bind(joined(x, spec.lhs_spec[0]), kernel)
        return parted(y, spec.out_spec[0], size), True

    return convolve


def joined(x: Array, axis: int) -> Array:
    """Put the first axis behind ``axis`` of the rest, and make one of both."""
    x = jnp.moveaxis(x, 0, axis + 1)
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


def parted(y: Array, axis: int, size: int) -> Array:
    """The inverse, for a first axis of that size."""
    y = y.reshape(*y.shape[:axis], y.shape[axis] // size, size, *y.shape[axis + 1 :])
    return jnp.moveaxis(y, axis + 1, 0)


def platform_forms(eqn: Any) -> Function | None:
    """A choice of the platform, its branches as `with_own_map` has them."""
    if not eqn.params.get("branches_platforms"):
        return None  # a branch as any other, which is entered anyway
    branches = tuple(rewrite_subjaxpr(branch, with_own_map) for branch in eqn.params["branches"])
    return functools.partial(eqn.primitive.bind, **eqn.params | {"branches": branches})
