"""The convention of every explainer: the explained argument, `target`, `key` and `chunk`, each in one place.

An explainer is a function ``explain(*args, target=None, key=None) -> attribution`` made from a function
``apply(*args) -> outputs``:

* The **last positional argument** is the input that is explained, a floating-point array whose first axis is the
  batch: ``(N, H, W, C)`` for images. Everything before it (variables, state, a model pytree) passes through.
* ``target`` says which score ``(N,)`` of the outputs is explained:

  ===================  ====================================================================
  ``None``             the predicted class; the output itself where ``apply`` returns ``(N,)``
  int or ``(N,)`` ints that class, one for all or one per example
  ``(N, K)`` floats    the weighted sum of the outputs
  callable             ``outputs -> (N,)``: a margin, a detection box, a sum over a mask
  ===================  ====================================================================

* ``key`` is needed by explainers that draw random numbers: one PRNG key, or ``(N,)`` keys, one per example. A single
  key is folded with each example's index, so that no example depends on its batch mates.
* The first convolutions of the network tell whether images are ``(N, H, W, C)`` or ``(N, C, H, W)``; where there are
  none, channels are last, unless `jaxplain.layout` says otherwise. Maps are ``(N, H, W)`` for both.
* Explainers choose forms of the network's convolutions that are fast on a CPU; ``accelerate(apply, False)`` declines.
* JAX's default on TPUs and GPUs rounds the operands of products. Explainers whose maps sum to something ask for more,
  where neither the network nor `jax.default_matmul_precision` says how precise a product is (see `full_precision`).
* Explainers never jit: wrap them in ``jax.jit`` yourself. A class out of range is an error; where ``target`` is traced
  and cannot be inspected, the attribution is NaN.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._channels import Channels, channel_axis, said_axis
from ._execution import executable
from ._explainer import Explainer
from ._graph.modules import without_intermediates
from ._mistakes import call

__all__ = ["explainer", "full_precision", "scores"]

Array: TypeAlias = jax.Array
Apply: TypeAlias = Callable[..., Any]
Explain: TypeAlias = Callable[..., Array]
Target: TypeAlias = ArrayLike | Callable[[Array], Array] | None
Function: TypeAlias = Callable[[Array], Array]
Heed: TypeAlias = Callable[[Array, Target], None]
Score: TypeAlias = Literal["output", "probability"]
F = TypeVar("F", bound=Callable[..., Any])


CALL = """Attribute a score of the network to the last positional argument.

Args:
  *args: the arguments of ``apply``; the last one is explained, an array of floats with the batch in front.
  target: `None` for the predicted class, a class, ``(N,)`` classes, ``(N, K)`` weights over the outputs, or a callable
    ``outputs -> (N,)``.
  key: one PRNG key, or ``(N,)``, one per example; needed by explainers that draw random numbers.

Returns:
  The signed attribution. That of pixel methods has the input's shape and dtype.
"""


def explainer(apply: Apply, *, heed: Heed | None = None) -> Callable[[Callable[..., Array]], Explain]:
    """Decorate ``attribute(f, x, target, key)`` so that it becomes an explainer of ``apply``.

    ``f`` is ``apply`` as a function of the explained argument ``x`` alone, its outputs checked. All of jaxplain's
    methods are made this way, and so can yours.

    Args:
      apply: ``apply(*args) -> outputs``, any function JAX can trace.
      heed: ``heed(outputs, target)``, called where the values of the outputs are known, so that it can warn of them;
        inside ``attribute`` they never are, as it is traced.

    Returns:
      A decorator; what it returns tells its arguments in `help`, pickles (by ``cloudpickle``), and has the attribute
      ``apply``, by which `smooth`, `contrast` and their like find the class that the network predicts.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> def sensitivity(apply):
      ...     @jaxplain.explainer(apply)
      ...     def explain(f, x, target, key):
      ...         return jax.grad(lambda x: jaxplain.scores(f, x, target)(x).sum())(x) ** 2
      ...     return explain
      >>> sensitivity(lambda w, x: x @ w)(jnp.array([[1.0, -2.0], [3.0, 0.5]]), jnp.ones((1, 2)), target=1)
      Array([[4.  , 0.25]], dtype=float32)
    """
    if not callable(apply) or unbound(apply):
        raise TypeError(
            f"apply must be a function of the input, got {type(apply).__name__}: pass `model.apply`, or for a Flax NNX "
            "or Equinox model a function that calls it"
        )

    def decorate(attribute: Callable[..., Array]) -> Explain:
        def explain(*args: Any, target: Target = None, key: Array | None = None) -> Array:
            context, x = split(args)
            f = lambda x: outputs_of(apply, (*context, x))
            target = target if target is None or callable(target) else as_array(target)  # while it can be inspected
            if heed and concrete(x) and concrete(outputs := f(x)):
                heed(outputs, target)
            return executable(apply, lambda x: attribute(f, x, target, key))(x)

        return inherit(explain, attribute, apply)

    return decorate


def full_precision(f: F) -> F:
    """The same function, its products in full precision where neither they nor the user name another.

    On TPUs and GPUs JAX rounds the operands of products to bfloat16 or TF32 by default, three digits. Where a map's sum
    should be a score or a difference of scores, fewer are left, so the explainers of such maps ask for more; what they
    explain is the score of ``full_precision(apply)``. It takes several times as long there, and no longer on a CPU.

    Args:
      f: any function that JAX traces: a network, an explainer.

    Returns:
      A function with the same arguments and results. It does as ``f`` does where `jax.default_matmul_precision`, or the
      setting of that name, is given: ``with jax.default_matmul_precision("default"):`` around the call declines.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = jaxplain.full_precision(lambda x: x @ x)
      >>> jax.make_jaxpr(f)(jnp.eye(2)).eqns[0].params["precision"]
      (Precision.HIGHEST, Precision.HIGHEST)
      >>> with jax.default_matmul_precision("default"):
      ...     jax.make_jaxpr(f)(jnp.eye(2)).eqns[0].params["precision"]
      (Precision.DEFAULT, Precision.DEFAULT)
    """

    def precise(*args: Any, **options: Any) -> Any:
        if jax.config.jax_default_matmul_precision is not None:  # type: ignore[attr-defined]
            return f(*args, **options)
        with jax.default_matmul_precision("highest"):
            return f(*args, **options)

    if isinstance(f, Explainer):
        apply = getattr(f, "apply", None)
        return inherit(precise, f, apply and full_precision(apply))  # type: ignore[return-value]
    return functools.wraps(f)(precise)  # type: ignore[return-value]


def unbound(apply: Any) -> bool:
    """Whether this is a Flax Linen module without variables, which cannot be called as it is."""
    return hasattr(apply, "init") and hasattr(apply, "apply") and getattr(apply, "scope", None) is None


def inherit(explain: Explain, documented: Callable[..., Any], apply: Apply | None) -> Explain:
    """An explainer with the name and text of the function it was made from, and the network it explains."""
    about = {name: getattr(documented, name) for name in ("__module__", "__name__", "__qualname__")}
    about |= {"__doc__": documented.__doc__ or CALL, **({} if apply is None else {"apply": apply})}
    return Explainer(explain.function if isinstance(explain, Explainer) else explain, about)


# ------------------------------------------------------------------------------------------- the explained argument


def split(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Array]:
    """Split the arguments into what passes through and the input that is explained, checked."""
    if not args:
        raise TypeError("explain() got no positional argument: the last one is the input to explain")
    *context, x = args
    if not isinstance(x, jax.Array | np.ndarray):
        raise TypeError(
            "the last positional argument is the input to explain and must be a JAX or NumPy array, got "
            f"{type(x).__name__}: put variables and state before it{one_entry(x)}"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"the input to explain has dtype {x.dtype} instead of floating point: preprocess it as the network expects "
            "it, for example (x.astype(jnp.float32) - mean) / std"
        )
    x = jnp.asarray(x)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"the input to explain has shape {x.shape}: it needs a batch axis and at least one element")
    if concrete(x) and not (finite := np.isfinite(np.asarray(x)).reshape(len(x), -1).all(axis=1)).all():
        raise ValueError(
            f"example {finite.argmin()} of the input to explain holds NaN or infinite values: clean it first"
        )
    return tuple(context), x


def one_entry(inputs: Any) -> str:
    """How one entry of an input that is a dict is explained."""
    arrays = {k: v for k, v in inputs.items() if hasattr(v, "ndim")} if isinstance(inputs, dict) else {}
    if not arrays or "params" in inputs:
        return ""
    key = max(arrays, key=lambda k: (jnp.issubdtype(arrays[k].dtype, jnp.floating), arrays[k].ndim))
    wrapper = f"lambda *args: apply(*args[:-1], {{**inputs, {key!r}: args[-1]}})"
    return f", and explain one entry of the inputs, inputs[{key!r}], by wrapping apply as `{wrapper}`"


def outputs_of(apply: Apply, args: tuple[Any, ...]) -> Array:
    """Call the network and check that it returned one floating-point array with the batch in front."""
    outputs, x = without_intermediates(call(apply, args)), args[-1]
    if not isinstance(outputs, jax.Array | np.ndarray):
        example = f", for example `lambda *args: apply(*args){way}`" if (way := way_to_logits(outputs, len(x))) else ""
        raise TypeError(
            f"apply returned {describe(outputs)} instead of one array: wrap it so that it returns the logits "
            f"alone{example}"
        )
    outputs = jnp.asarray(outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"apply returned {outputs.dtype}: return the floating-point logits, not labels")
    if outputs.ndim == 0 or outputs.shape[0] != x.shape[0]:
        raise ValueError(
            f"apply returned shape {outputs.shape} for an input of shape {x.shape}: the first axis of both must be "
            "the batch; give a single example as x[None], and a model of single examples through jax.vmap"
        )
    return outputs


def way_to_logits(outputs: Any, n: int) -> str:
    """How the logits are taken out of what a network returned, such as ``['logits']``; empty where nothing fits."""
    if jax.tree_util.all_leaves([outputs]):  # an object: its attributes
        named = [(f".{name}", value) for name, value in getattr(outputs, "__dict__", {}).items()]
    else:
        named = [(jax.tree_util.keystr(path), value) for path, value in jax.tree.leaves_with_path(outputs)]
    is_batch = lambda v: hasattr(v, "dtype") and jnp.issubdtype(v.dtype, jnp.floating) and v.shape[:1] == (n,)
    return min(((v.ndim != 2, "logit" not in name, name) for name, v in named if is_batch(v)), default=("",))[-1]


def describe(value: Any) -> str:
    """Say in words what a network returned."""
    if isinstance(value, dict):
        return f"a dict with keys {sorted(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an object of type {type(value).__name__}"


def reference(baseline: ArrayLike, x: Array) -> Array:
    """Broadcast a baseline against the explained input, in its dtype and sharding."""
    try:
        return jnp.broadcast_to(jnp.asarray(baseline, x.dtype), x.shape) + jnp.zeros_like(x)
    except (TypeError, ValueError):
        what = f"a baseline of shape {np.shape(baseline)}" if np.ndim(baseline) else f"{baseline=}"
        raise ValueError(
            f"{what} does not broadcast against the input's {x.shape}: "
            "pass a number, one value per channel, one image, or one image per example"
        ) from None


# ---------------------------------------------------------------------------------------------- layout of the images


@dataclass(frozen=True)
class OfImages:
    """A network as a function of images with their channels last, wherever it has them itself.

    Attributes:
      f: the network.
      axis: where it has the channels of its input.
    """

    f: Function
    axis: int

    def __call__(self, x: Array) -> Array:
        """What the network returns for images with their channels last."""
        return self.f(jnp.moveaxis(x, -1, self.axis))

    def reference(self, baseline: ArrayLike, x: Array) -> Array:
        """As `reference`, for a baseline that broadcasts against the input as the network has it."""
        return jnp.moveaxis(reference(baseline, jnp.moveaxis(x, -1, self.axis)), self.axis, -1)


def channels_last(attribute: Callable[..., Array]) -> Callable[..., Array]:
    """Decorate ``attribute(f, x, target, key)``, written for channels last, so that it serves networks of any layout.

    What it returns, maps without channels, stays as it is. ``f`` is `OfImages`.
    """

    @functools.wraps(attribute)
    def attribute_images(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        if x.ndim < 3:
            return attribute(OfImages(f, x.ndim - 1), x, target, key)
        axis = channel_axis(f, x)
        return attribute(OfImages(f, axis), jnp.moveaxis(x, axis, -1), target, key)

    return attribute_images


def attributed_axis(explain: Explain, args: tuple[Any, ...], a: Array, channels: Channels | None = None) -> int:
    """The axis of the channels of an attribution: the network's, if it has the input's shape; of features, the last."""
    *context, x = args
    if a.shape != x.shape:
        return said_axis(a.shape, channels or "last")
    if not hasattr(explain, "apply"):
        return said_axis(a.shape, channels)
    return channel_axis(lambda x: outputs_of(network(explain), (*context, x)), x, channels)


# ---------------------------------------------------------------------------------------------------------- target


def scores(f: Function, x: Array, target: Target = None, *, of: Score = "output") -> Function:
    """The explained score as a function ``x -> (N,)``, its class fixed at ``x``.

    ``target=None`` becomes the class predicted *here*, so that the same score is asked for along a path, under noise or
    behind a mask.

    Args:
      f: ``x -> outputs``.
      x: the input at which the class is decided, ``(N, ...)``.
      target: in one of the forms of the convention (see `jaxplain.explainer`).
      of: the target is applied to the ``"output"`` as it is, or to its ``"probability"``, the softmax of logits
        ``(N, K)``. Outputs of another shape have no classes: they are taken as they are.

    Returns:
      A function ``x -> (N,)``.

    Raises:
      ValueError: where ``target`` does not fit the outputs, or a softmax is asked for of a single output.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> score = jaxplain.scores(lambda x: x * 2, jnp.array([[1.0, 5.0]]))
      >>> score(jnp.array([[7.0, 3.0]]))
      Array([6.], dtype=float32)
    """
    require_score(of)
    outputs = outputs_at(f, x, target, check=of == "probability")
    if heed := heed_score(of):
        heed(outputs, target)
    score = scorer(target, outputs, of)
    return lambda x: score(f(x))


def scorer(target: Target, outputs: Any, of: Score = "output") -> Function:
    """Turn a target into a function from outputs to scores ``(N,)``; only `None` looks at the outputs' values."""
    if is_probability(outputs, of):
        require_several(outputs, AS_OUTPUT)
        score = scorer(target, outputs)
        return lambda outputs: score(jax.nn.softmax(outputs))
    if callable(target):
        return functools.partial(_called, target)
    if outputs.ndim == 1:
        if target is not None:
            raise ValueError("apply returns one score per example, so there is no class to choose: leave target=None")
        return lambda scores: scores
    if outputs.ndim != 2:
        raise ValueError(
            f"apply returned shape {outputs.shape}, neither (N, classes) nor (N,): pass a callable target, "
            "`outputs -> (N,)`, for example `lambda y: y[:, 7, 7, 3]`"
        )
    weights = class_weights(target, outputs)
    return lambda outputs: weighted_sum(outputs, weights)


def is_probability(outputs: Any, of: Score) -> bool:
    """Whether the score is one of probabilities: of the softmax of logits ``(N, K)``."""
    return of == "probability" and outputs.ndim == 2


def require_score(of: Score) -> None:
    """Check the option that says which score is explained or measured."""
    if of not in get_args(Score):
        raise ValueError(f"unknown of={of!r}: choose probability or output")


def weighted_sum(outputs: Array, weights: Array) -> Array:
    """``Σ_k w_k z_k`` over the last axis; outputs of weight 0 may be masked by -inf."""
    return jnp.where(weights == 0, 0, outputs * weights).sum(axis=-1)


def score_gradient(target: Target, outputs: Array) -> Array:
    """The derivative of the score in the outputs: for a class, 1 at its output and 0 elsewhere."""
    score = scorer(target, outputs)
    return jax.grad(lambda outputs: score(outputs).sum())(outputs)


def _called(target: Callable[[Array], Array], outputs: Array) -> Array:
    scores = target(outputs)
    if not isinstance(scores, jax.Array):
        raise TypeError(f"the callable target returned {describe(scores)} instead of an array (N,) of scores")
    if scores.shape != outputs.shape[:1] or not jnp.issubdtype(scores.dtype, jnp.floating):
        raise ValueError(
            f"the callable target returned shape {scores.shape} and dtype {scores.dtype}: return one floating-point "
            f"score per example, shape {outputs.shape[:1]}"
        )
    return scores


def class_weights(target: ArrayLike | None, outputs: Any) -> Array:
    """Write a target that is no callable as weights ``(N, K)`` over the outputs.

    A class that cannot be checked because it is traced, and is out of range, weighs NaN: an attribution may be missing,
    never quietly zero.
    """
    n, size = outputs.shape
    chosen = outputs.argmax(axis=1) if target is None else as_array(target)
    if jnp.issubdtype(chosen.dtype, jnp.floating):
        if chosen.shape != (n, size):
            raise ValueError(
                f"a target of floats weighs every output and must have shape {(n, size)}, got {chosen.shape}; "
                "a class is an integer"
            )
        return jnp.asarray(chosen, outputs.dtype)
    if not jnp.issubdtype(chosen.dtype, jnp.integer) or chosen.shape not in ((), (n,)):
        raise ValueError(
            f"target has shape {chosen.shape} and dtype {chosen.dtype}: pass a class, {n} classes (one per example), "
            f"floats of shape {(n, size)}, or a callable"
        )
    if concrete(chosen) and (wrong := [c for c in np.ravel(chosen).tolist() if not 0 <= c < size]):
        raise ValueError(f"target class {wrong[0]} is out of range: the network has classes 0 to {size - 1}")
    classes = jnp.broadcast_to(chosen, (n,))
    valid = (classes >= 0) & (classes < size)
    return jnp.where(valid[:, None], jax.nn.one_hot(classes, size, dtype=outputs.dtype), jnp.nan)


def chosen_class(asker: str, target: Target, outputs: Any) -> Array:
    """The target's class as one-hot rows ``(N, K)``, for methods and metrics that ask whether it is predicted.

    Args:
      asker: the method or metric, for the error's sentence.
      target: a class, classes, or `None` for the predicted one.
      outputs: the logits, or where there is a target their shape.

    Raises:
      ValueError: where the target is no class, or there are fewer than two.
    """
    require_classes(asker, outputs)
    if callable(target) or (target is not None and jnp.issubdtype(as_array(target).dtype, jnp.floating)):
        raise ValueError(f"{asker} needs a class as its target: an int, (N,) ints, or None for the predicted one")
    return class_weights(target, outputs)


def require_classes(asker: str, outputs: Any) -> None:
    """Check that there are classes of which one is predicted."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"{asker} needs outputs (N, classes) with two or more classes, got shape {outputs.shape}: of a single "
            f"output z, {TWO_LOGITS}"
        )


AS_OUTPUT = "pass of='output'"
TWO_LOGITS = "return the two logits 0 and z, jnp.pad(outputs, ((0, 0), (1, 0))), whose softmax is the sigmoid of z"


def outputs_at(f: Function, x: Array, target: Target, *, check: bool = False) -> Any:
    """The outputs at the input where their values are needed for the class, or known for a check; else their shape."""
    return f(x) if target is None or (check and concrete(x)) else jax.eval_shape(f, x)


def require_several(outputs: Any, remedy: str = "") -> None:
    """Check that a softmax of the outputs ``(N, K)`` tells something; whoever takes one asks here first.

    Args:
      outputs: the outputs, or their shape.
      remedy: how to be given no softmax, where there is a way.

    Raises:
      ValueError: where there is one output.
    """
    if outputs.shape[1] == 1:
        remedies = ", or ".join(filter(None, [remedy, TWO_LOGITS]))
        raise ValueError(f"the softmax of one output is 1 whatever the image: {remedies}")


def require_logits(outputs: Any, remedy: str = "") -> None:
    """`require_several`, and a warning where the outputs are known to be probabilities already."""
    require_several(outputs, remedy)
    heed_logits(remedy)(outputs, None)


def heed_logits(remedy: str = "") -> Heed:
    """Warn of probabilities, for `explainer`, where a method is going to take the softmax of outputs ``(N, K)``."""
    remedies = ", or ".join(filter(None, ["return the logits, or jnp.log of the outputs", remedy]))
    return lambda outputs, target: warn_of_probabilities(outputs, "another one flattens them", remedies)


def heed_score(of: Score) -> Heed | None:
    """What `explainer` heeds for a method whose score is ``of`` the outputs."""
    return heed_logits(AS_OUTPUT) if of == "probability" else None


def warn_of_probabilities(outputs: Any, consequence: str, remedy: str) -> None:
    """Warn where the outputs ``(N, K)`` have been through a softmax already, as far as their values are known."""
    if outputs.ndim != 2 or outputs.shape[1] == 1 or not isinstance(outputs, jax.Array) or not concrete(outputs):
        return
    values, exact = np.asarray(outputs, np.float64), jnp.promote_types(outputs.dtype, jnp.float32)
    rounding = 4 * jnp.finfo(outputs.dtype).eps + values.shape[1] * jnp.finfo(exact).eps  # of each, and of their sum
    if (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) <= rounding).all():
        warnings.warn(
            f"the outputs are not negative and sum to 1, so the network ends in a softmax, and {consequence}: {remedy}",
            stacklevel=2,
        )


def as_array(target: ArrayLike) -> Array | np.ndarray:
    """A target that is no callable as an array; not always JAX's, which would cut off the upper half of an int64."""
    if isinstance(target, jax.Array | np.ndarray):
        return target
    try:
        return np.asarray(target) if isinstance(target, int | np.generic) else jnp.asarray(target)
    except (TypeError, ValueError):
        raise TypeError(f"target={target!r} is neither a class, nor an array, nor a callable") from None


def fix_target(explain: Explain, args: tuple[Any, ...], target: Target) -> Target:
    """Decide `None` once, for transforms that call an explainer at other points than the input itself."""
    if target is not None:
        return target
    outputs = outputs_of(network(explain), args)
    return outputs.argmax(axis=1) if outputs.ndim == 2 else None


def network(explain: Explain) -> Apply:
    """The network that an explainer explains."""
    try:
        return explain.apply  # type: ignore[attr-defined]
    except AttributeError:
        raise ValueError(
            f"`{getattr(explain, '__name__', explain)}` does not say which network it explains, so the predicted class "
            "is unknown: pass target=, or make it with @jaxplain.explainer(apply)"
        ) from None


# ----------------------------------------------------------------------------------------------------- key and chunk


def example_keys(key: Array | None, x: Array, method: str) -> Array:
    """One PRNG key per example of ``x``: given as ``(N,)`` keys, or one key folded with each example's index.

    Draw from them in float32 and cast, so that every dtype sees the same random numbers.
    """
    if key is None:
        raise ValueError(f"{method} draws random numbers: pass key=jax.random.key(0)")
    try:
        keys = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    except (AttributeError, TypeError):
        what = describe(key) if not hasattr(key, "shape") else f"{key.dtype} of shape {key.shape}"
        raise TypeError(f"key is {what} instead of a PRNG key: pass key=jax.random.key(0)") from None
    n = x.shape[0]
    if keys.shape not in ((), (n,)):
        raise ValueError(f"key has shape {keys.shape}: pass one PRNG key, or {n} of them, one per example")
    index = jnp.arange(n) + zero_each(x, int)
    return keys if keys.ndim else jax.vmap(lambda i: jax.random.fold_in(keys, i))(index)


def zero_each(x: Array, dtype: Any = None) -> Array:
    """A zero for each example of ``x``, ``(N,)``, on the device where the example is."""
    return jnp.zeros_like(x.reshape(x.shape[0], -1)[:, 0], dtype)


def zeros_by_example(
    x: Array, shape: tuple[int, ...], dtype: Any, axis: int | None, turns: tuple[int, ...] = ()
) -> Array:
    """Zeros for a value in all turns of the loops that it lies in, on the devices where the examples of ``x`` are.

    Args:
      x: the input, the batch in front.
      shape: of the value.
      dtype: of the value.
      axis: the value's axis of examples; None where they lie together with positions.
      turns: the lengths of the loops, from the outermost on.
    """
    zero = zero_each(x, dtype)
    zero = zero.sum() if axis is None else zero.reshape([x.shape[0] if i == axis else 1 for i in range(len(shape))])
    return jnp.broadcast_to(zero, (*turns, *shape))


def require_positive(**counts: int) -> None:
    """Check options that count something."""
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name}={count} must be a positive integer")


def concrete(x: Any) -> bool:
    """Whether the values of an array are known here and now, so that they can be checked."""
    return not isinstance(x, jax.core.Tracer) and getattr(x, "is_fully_addressable", True)
