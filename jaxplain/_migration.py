"""Options that an older version spelled in another way: they are understood for one release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

OF = {True: "probability", False: "output"}
RENAMED: dict[str, tuple[str, Mapping[Any, Any] | None]] = {
    "softmax": ("of", OF),
    "probabilities": ("of", OF),
    "left": ("target_fraction", None),
    "at": ("layer", None),
}
"""The old name -> the new one, and the new value for each of the old ones where they differ."""


def takes_old_options(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it takes options by their old names as well, each with a `DeprecationWarning`."""

    @functools.wraps(function)
    def taking(*args: P.args, **options: P.kwargs) -> R:
        return function(*args, **renamed(options))  # type: ignore[arg-type]

    return taking


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their new names and values.

    Raises:
      TypeError: where one is given by both names.
      ValueError: for a value that the old option did not have.
    """
    new: dict[str, Any] = {}
    for name, value in options.items():
        now, value = new_option(name, value) if name in RENAMED else (name, value)
        if now in new or (now != name and now in options):
            raise TypeError(f"{now} is given twice, as {now}= and by its old name: leave out the old one")
        new[now] = value
    return new


def new_option(old: str, value: Any) -> tuple[str, Any]:
    """The new name and value of an option."""
    name, values = RENAMED[old]
    if values is not None and value not in values:
        raise ValueError(f"{old}={value!r} must be True or False; it is called {name} now")
    now = value if values is None else values[value]
    sentence = f"{old}={value!r} is now {name}={now!r}: the old name goes with the next release"
    warnings.warn(sentence, DeprecationWarning, stacklevel=4)
    return name, now
