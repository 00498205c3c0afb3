"""Methods and metrics as words: ``lrp:composite=epsilon_gamma_box``, ``deletion:steps=10``; commas between several."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._convention import Explain
from .._migration import renamed
from .._options import options_of
from .._taxonomy import METHODS, Method
from .._text import as_known, did_you_mean
from ..evaluation import BETTER
from ..evaluation._measures import MEASURES
from . import _network as networks
from ._network import Network
from ._terminal import UsageError, words


@dataclass(frozen=True)
class Spec:
    """A method with its options, as ``NAME:OPTION=VALUE`` names it.

    Attributes:
      method: the method.
      options: option -> value; a composite is a name.
      label: the same in words, which say the composite also where it is the default one.
    """

    method: Method
    options: dict[str, Any]
    label: str

    @property
    def title(self) -> str:
        """The title of a picture: the name, and a line for each option and for the layer that is looked at."""
        lines = [str(value) if name == "composite" else said(name, value) for name, value in self.options.items()]
        if "layer" in self.method.needs and "layer" not in self.options:
            lines.append("layer of the last feature map")
        return "\n".join([self.method.name, *lines])

    def explainer(self, network: Network) -> Explain:
        """The method of the network with these options; what does not fit is a `ValueError` or a `TypeError`."""
        options = dict(self.options)
        if "composite" in options:
            options["composite"] = networks.find_composite(options["composite"], network)
        return self.method.make(network.apply, **options)


def said(name: str, value: Any) -> str:
    """An option in a title."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"layer {text}" if name == "layer" else f"{name}={text}"


def spec_of(text: str, flag: str, layer: str | None = None, composite: str | None = None) -> Spec:
    """One method with its options, if it can be run from here.

    Args:
      text: ``NAME`` or ``NAME:OPTION=VALUE:OPTION=VALUE``.
      flag: where it was written.
      layer: what ``--layer`` says, several with commas between.
      composite: what ``--composite`` says.
    """
    name, options = name_and_options(text)
    method = find_method(name, flag)
    layers = layer.split(",") if layer and "," in layer else layer
    for option, value, remark in (("layer", layers, "looks at no layer"), ("composite", composite, "has no composite")):
        if option not in method.needs and (value is not None or option in options):
            raise UsageError(f"{flag} {method.name} {remark}: leave out {'--' if value is not None else ''}{option}")
        if value is not None and option in options:
            raise UsageError(f"{flag} {text} and --{option} both name a {option}: leave out one of them")
        options |= {} if value is None else {option: value}
    require_options(flag, text, method.make, options)
    label = [method.name, *map(str.strip, text.split(":")[1:])]
    if layer is not None:
        label.append(f"layer={layer}")
    if method.composite:
        label += [] if "composite" in options and composite is None else [f"composite={composite or method.composite}"]
        options["composite"] = networks.known_composite(options.get("composite", method.composite))
    return Spec(method, options, ":".join(label))


def find_method(name: str, flag: str) -> Method:
    """The method of a name, whatever its case and punctuation."""
    known = as_known(name, METHODS)
    if known not in METHODS:
        if "," in name:
            raise UsageError(f"{flag} {name} names several methods: `jaxplain compare --methods {name}` compares them")
        raise UsageError(f"{flag} {name} is none of `jaxplain methods`{did_you_mean(name, METHODS)}")
    method = METHODS[known]
    for need, thing in (("data", "a data set"), ("patterns", "fitted patterns")):
        if need in method.needs:
            raise UsageError(f"{flag} {known} needs {thing}, so it runs from Python only: jaxplain.{known}")
    return method


def specs_of(text: str) -> list[Spec]:
    """The methods that `--methods` names."""
    if not (specs := words(text)):
        raise UsageError("--methods names no method: see `jaxplain methods`")
    return [spec_of(spec, "--methods") for spec in specs]


def explainers_of(specs: list[Spec], network: Network) -> dict[str, Explain]:
    """Their explainers, by label."""
    explainers = {}
    for spec in specs:
        try:
            explainers[spec.label] = spec.explainer(network)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--methods {spec.label}: {error}") from error
    return explainers


def metrics_of(text: str) -> dict[str, Callable[..., Any]]:
    """The metrics that `--metrics` names, by their words."""
    return dict(map(metric_of, words(text)))


def metric_of(spec: str) -> tuple[str, Callable[..., Any]]:
    """One metric, with its options, by its words."""
    name, options = name_and_options(spec)
    name = as_known(name, BETTER)
    if name not in BETTER:
        raise UsageError(f"--metrics {name} is none of {', '.join(BETTER)}{did_you_mean(name, BETTER)}")
    measure = MEASURES[name]
    if measure.needs:
        raise UsageError(
            f"--metrics {name} needs {measure.needs[0]}, so it runs from Python only: jaxplain.metrics.{name}"
        )
    require_options("--metrics", spec, measure.function, options)
    return ":".join([name, *map(str.strip, spec.split(":")[1:])]), functools.partial(measure.function, **options)


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
