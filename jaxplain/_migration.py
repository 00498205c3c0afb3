"""Options that an older version spelled in another way: they are understood for one release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

OF = {True: "probability", False: "output"}
RENAMED: dict[str, tuple[str, Mapping[Any, Any]]] = {"softmax": ("of", OF), "probabilities": ("of", OF)}
"""The old name -> the new one, and the new value for each of the old ones."""


def takes_old_options(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it takes options by their old names as well, each with a `DeprecationWarning`."""

    @functools.wraps(function)
    def taking(*args: P.args, **options: P.kwargs) -> R:
        return function(*args, **renamed(options))  # type: ignore[arg-type]

    return taking


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their new names and values."""
    return dict(new_option(name, value) if name in RENAMED else (name, value) for name, value in options.items())


def new_option(old: str, value: Any) -> tuple[str, Any]:
    """The new name and value of an option of version 0.1."""
    name, values = RENAMED[old]
    if value not in values:
        raise ValueError(f"{old}={value!r} is no value of an option that is now called {name}")
    sentence = f"{old}={value!r} is now {name}={values[value]!r}: the old name goes with the next release"
    warnings.warn(sentence, DeprecationWarning, stacklevel=4)
    return name, values[value]
