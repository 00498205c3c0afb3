"""Methods and metrics as words: ``lrp:composite=epsilon_gamma_box``, ``deletion:steps=10``; commas between several."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from .. import metrics as library
from .._convention import Explain
from ..evaluation import BETTER
from . import _network as networks
from ._explain import find_method
from ._network import Network
from ._terminal import UsageError, did_you_mean


def words(text: str) -> list[str]:
    """The words between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def find_explainers(text: str, network: Network) -> dict[str, Explain]:
    """The explainers that `--methods` names, by their words."""
    if not (specs := words(text)):
        raise UsageError("--methods names no method: see `jaxplain methods`")
    return {spec: find_explainer(spec, network) for spec in specs}


def find_explainer(spec: str, network: Network) -> Explain:
    """One explainer: a method of the network with its options."""
    name, options = parsed(spec)
    method = find_method(name, options.get("layer"), "--methods")
    require_options("--methods", spec, method.make, options)
    if "composite" in method.needs:
        options["composite"] = networks.find_composite(options.get("composite", "epsilon_plus"), network)
    try:
        return method.make(network.apply, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--methods {spec}: {error}") from error


def find_metrics(text: str) -> dict[str, Callable[..., Any]]:
    """The metrics that `--metrics` names, by their words."""
    found = {}
    for spec in words(text):
        name, options = parsed(spec)
        if name not in BETTER:
            raise UsageError(f"--metrics {name} is none of {', '.join(BETTER)}{did_you_mean(name, BETTER)}")
        function = getattr(library, name)
        required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        if len(required) > 1:
            raise UsageError(
                f"--metrics {name} needs {required[1]}, so it runs from Python only: jaxplain.metrics.{name}"
            )
        require_options("--metrics", spec, function, options)
        found[spec] = functools.partial(function, **options)
    return found


def parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of ``name:option=value:option=value``; numbers are numbers, the rest is text."""
    name, *pairs = spec.split(":")
    options = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{spec}: {pair} is no option: write {name}:OPTION=VALUE")
        try:
            options[option.strip()] = json.loads(value)
        except ValueError:
            options[option.strip()] = value.strip()
    return name.strip(), options


def require_options(flag: str, spec: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse an option that a function does not have."""
    taken = inspect.signature(function).parameters
    named = [name for name, p in taken.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
    extra = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for option in options:
        if option not in named and not extra:
            choice = f"it has {', '.join(named)}" if named else "it has none"
            raise UsageError(f"{flag} {spec}: there is no option {option}: {choice}{did_you_mean(option, named)}")
