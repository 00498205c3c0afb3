"""How explanations are executed: the one hook between what is explained and the forms in which it is computed.

The convention, the ledger and the metrics hand every function that calls a network to `executable`. What that makes of
it, forms of operations that are fast and that compilers do not misread, is decided once, when `jaxplain` is imported:
its ``__init__`` passes what `jaxplain.fast` offers to `execute_with`. So none of the two knows of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Transform: TypeAlias = Callable[[Callable[..., Any], Callable[..., Any]], Callable[..., Any]]

_transform: Transform


def execute_with(transform: Transform) -> None:
    """Execute as ``transform(apply, f)`` says, a function of the same arguments as ``f``, which calls ``apply``."""
    global _transform
    _transform = transform


def executable(apply: Callable[..., Any], f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, which calls the network ``apply``, in the form in which it is executed."""
    return _transform(apply, f)
