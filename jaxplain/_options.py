"""The options that a function takes, by name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any


def options_of(function: Callable[..., Any]) -> list[str]:
    """The names of a function's options: all parameters but the first, ``**options: Unpack[...]`` by their own names.

    Example:
      >>> import jaxplain
      >>> from jaxplain._options import options_of
      >>> options_of(jaxplain.grad_cam)
      ['layer', 'upsample', 'grid', 'combine']
    """
    names: list[str] = []
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.append(name)
            continue
        typed_dict = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
        names += getattr(sys.modules[inspect.unwrap(function).__module__], typed_dict).__annotations__
    return names
