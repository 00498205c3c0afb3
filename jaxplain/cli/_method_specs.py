"""Methods and metrics as words: ``lrp:composite=epsilon_gamma_box``, ``deletion:steps=10``; commas between several."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from .._convention import Explain
from .._migration import renamed
from .._options import options_of
from .._text import did_you_mean
from ..evaluation import BETTER
from ..evaluation._measures import MEASURES
from . import _network as networks
from ._explain import find_method
from ._network import Network
from ._terminal import UsageError, words


def explainers_of(text: str, network: Network) -> dict[str, Explain]:
    """The explainers that `--methods` names, by their words."""
    if not (specs := words(text)):
        raise UsageError("--methods names no method: see `jaxplain methods`")
    return {spec: explainer_of(spec, network) for spec in specs}


def explainer_of(spec: str, network: Network) -> Explain:
    """One explainer: a method of the network with its options."""
    name, options = name_and_options(spec)
    method = find_method(name, options.get("layer"), "--methods")
    require_options("--methods", spec, method.make, options)
    if "composite" in method.needs:
        options["composite"] = networks.find_composite(options.get("composite", "epsilon_plus"), network)
    try:
        return method.make(network.apply, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--methods {spec}: {error}") from error


def metrics_of(text: str) -> dict[str, Callable[..., Any]]:
    """The metrics that `--metrics` names, by their words."""
    return {spec: metric_of(spec) for spec in words(text)}


def metric_of(spec: str) -> Callable[..., Any]:
    """One metric with its options."""
    name, options = name_and_options(spec)
    if name not in BETTER:
        raise UsageError(f"--metrics {name} is none of {', '.join(BETTER)}{did_you_mean(name, BETTER)}")
    measure = MEASURES[name]
    if measure.needs:
        raise UsageError(
            f"--metrics {name} needs {measure.needs[0]}, so it runs from Python only: jaxplain.metrics.{name}"
        )
    require_options("--metrics", spec, measure.function, options)
    return functools.partial(measure.function, **options)


def name_and_options(spec: str) -> tuple[str, dict[str, Any]]:
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
    return name.strip(), renamed(options)


def require_options(flag: str, spec: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse an option that a function does not have."""
    named = options_of(function)
    for option in options:
        if option not in named:
            choice = f"it has {', '.join(named)}" if named else "it has none"
            raise UsageError(f"{flag} {spec}: there is no option {option}: {choice}{did_you_mean(option, named)}")
