"""An explainer as an object: a function of the convention that also pickles."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import jax

from ._text import did_you_mean


class Explainer:
    """What all methods and transforms return: ``explain(*args, target=None, key=None)``.

    A function inside a function does not pickle, and explainers are made of such: of composites, rules and networks as
    well. So an explainer is this object, which pickles what it is made of by ``cloudpickle``, to be sent to other
    processes of the same Python and the same versions.

    Attributes:
      function: what is called.
    """

    def __init__(self, function: Callable[..., jax.Array], attributes: dict[str, Any]) -> None:
        self.function = function
        self.__signature__ = CALL
        vars(self).update(attributes)

    def __call__(self, *args: Any, target: Any = None, key: jax.Array | None = None, **others: Any) -> jax.Array:
        if others:
            name = next(iter(others))
            meant = did_you_mean(name, ("target", "key")).replace("?", "=?")
            raise TypeError(
                f"an explainer is called with the arguments of the network by their position, target= and key=, not "
                f"{name}={meant or f': an option of the network is bound before, functools.partial(apply, {name}=...)'}"
            )
        return self.function(*args, target=target, key=key)

    def __repr__(self) -> str:
        return f"<explainer {getattr(self, '__name__', '')}>"

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = {name: value for name, value in vars(self).items() if name not in ("function", "__signature__")}
        return made_by, (Explainer, pickled((self.function, attributes)))


def call(*args: Any, target: Any = None, key: jax.Array | None = None) -> jax.Array:  # type: ignore[empty-body]
    """How an explainer is called; what else it is given, it refuses by itself."""


CALL = inspect.signature(call)


def pickled(arguments: tuple[Any, ...]) -> bytes:
    """Arguments in which there may be functions of any kind.

    Raises:
      pickle.PicklingError: where ``cloudpickle`` is not installed, or they hold what nothing can pickle.
    """
    try:
        import cloudpickle
    except ImportError:
        raise pickle.PicklingError(
            "explainers are pickled by cloudpickle: pip install 'jaxplain[bulk]', or cloudpickle alone"
        ) from None
    return cloudpickle.dumps(arguments)


def made_by(kind: Callable[..., Any], arguments: bytes) -> Any:
    """What ``kind`` makes of arguments that were pickled."""
    return kind(*pickle.loads(arguments))
