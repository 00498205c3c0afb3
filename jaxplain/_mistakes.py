"""Natural mistakes in calling a network, told by their remedy instead of the framework's own trace.

Where a network fails, a few remedies are tried on shapes alone, and the one that works is named. What cannot be tried
is known by the framework's words. Any other error passes as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ._graph.remedies import EXPLAIN_INSIDE, INFERENCE

FLAGS = {"train": False, "training": False, "is_training": False, "deterministic": True, "inference": True}
WORDS = {
    r"Cannot mutate Param ": EXPLAIN_INSIDE,
    r"\"batch_stats\" is immutable|Cannot mutate|[Dd]ropout|\"deterministic\" must be|MissingRNG|InvalidRng|Unexpected"
    r"TracerError": "it seems to be in training mode, in which it draws random numbers or updates its statistics: "
    f"switch it to inference, {INFERENCE}",
    r"ScopeCollectionNotFound|ScopeParamNotFound|ApplyScopeInvalidVariables|InvalidScope|Array.__contains__": (
        "its variables are missing or not complete: pass all collections of them, {'params': ..., 'batch_stats': ...}, "
        "before the input, explain(variables, x)"
    ),
    r"must be called with an RNG": (
        "Haiku's apply takes (params, rng, x): pass None as rng, or explain hk.without_apply_rng(network).apply"
    ),
    r"ScopeParamShapeError": (
        "its parameters do not fit an input of shape {shape}: preprocess that as the network expects it"
    ),
    r"missing \d+ required": "it needs more arguments: pass them before the input, or bind them by functools.partial",
}


def call(apply: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a network.

    Raises:
      ValueError: where it fails by a mistake that is known, with the remedy; the network's own error is its cause.
    """
    try:
        return apply(*args)
    except Exception as error:
        remedy = next(working_remedies(apply, args), None) or known_by_words(error, args[-1])
        if remedy is None:
            raise
        raise ValueError(
            f"the network cannot be called with these arguments ({first_line(error)}): {remedy}"
        ) from error


def working_remedies(apply: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[str]:
    """What makes the call succeed, found by calling the network on shapes."""
    *context, x = args
    works = functools.partial(succeeds, context=context)
    for name, value in FLAGS.items():
        if works(functools.partial(apply, **{name: value}), x):
            yield f"bind the option that says it is not in training, functools.partial(apply, {name}={value})"
    if x.ndim < 4 and works(apply, x[None]):
        yield "the first axis of the input must be the batch, so give a single example as x[None]"
    axes = (*(None for _ in context), 0)
    if works(jax.vmap(apply, in_axes=axes), x):
        yield f"it takes single examples, so explain jax.vmap(apply{f', in_axes={axes}' if context else ''})"


def succeeds(apply: Callable[..., Any], x: Any, context: list[Any]) -> bool:
    """Whether a network can be called, and returns something with the batch in front."""
    try:
        outputs = jax.tree.leaves(jax.eval_shape(lambda x: apply(*context, x), x))
    except Exception:
        return False
    return bool(outputs) and outputs[0].shape[:1] == x.shape[:1]


def known_by_words(error: Exception, x: Any) -> str | None:
    """The remedy of an error that a framework's words give away."""
    said = f"{type(error).__name__}: {error}"
    return next(
        (remedy.replace("{shape}", str(x.shape)) for words, remedy in WORDS.items() if re.search(words, said)), None
    )


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return re.sub(r" \(https?:\S*\)", "", str(error).strip().partition("\n")[0])[:200]
