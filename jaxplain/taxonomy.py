"""Every method: its family, what it needs, one line, its source, and the function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from . import compose, gradients
from .explainer import Explain

Family = Literal["linearisation", "structure", "adversarial", "perturbation"]
Need = Literal["key", "layer", "baseline", "data"]


@dataclass(frozen=True)
class Method:
    """One explanation method.

    Attributes:
      name: its public name in `jaxplain`.
      family: the family of the survey it is described in (Ayyar, Benois-Pineau, Zemmari 2021); authors place some
        methods differently.
      needs: what its user provides: a random ``"key"``, a ``"layer"``, a ``"baseline"`` (defaults to 0), ``"data"``.
      summary: what it computes, in one line.
      reference: authors and year; the docstring has the rest.
      make: the public function, ``make(apply, **options) -> explain``.
    """

    name: str
    family: Family
    needs: tuple[Need, ...]
    summary: str
    reference: str
    make: Callable[..., Explain]


def _method(
    make: Callable[..., Explain], family: Family, needs: tuple[Need, ...], summary: str, reference: str
) -> Method:
    return Method(make.__name__, family, needs, summary, reference, make)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        _method(gradients.gradient, "linearisation", (), "the gradient of the score", "Simonyan et al. 2014"),
        _method(gradients.input_x_gradient, "linearisation", (), "input times gradient", "Shrikumar et al. 2016"),
        _method(
            gradients.integrated_gradients,
            "linearisation",
            ("baseline",),
            "gradients along the line from a baseline",
            "Sundararajan et al. 2017",
        ),
        _method(
            gradients.expected_gradients,
            "linearisation",
            ("key", "data"),
            "integrated gradients over baselines drawn from data",
            "Erion et al. 2021",
        ),
        _method(
            gradients.blur_integrated_gradients,
            "linearisation",
            (),
            "gradients along the path that blurs the image",
            "Xu et al. 2020",
        ),
        _method(
            gradients.guided_integrated_gradients,
            "linearisation",
            ("baseline",),
            "gradients along a path of small gradients",
            "Kapishnikov et al. 2021",
        ),
        _method(
            compose.smoothgrad,
            "linearisation",
            ("key",),
            "the mean gradient under noise",
            "Smilkov et al. 2017",
        ),
        _method(
            compose.vargrad,
            "linearisation",
            ("key",),
            "the variance of the gradient under noise",
            "Adebayo et al. 2018",
        ),
    )
}


def methods() -> list[Method]:
    """Every method of the library.

    Returns:
      `Method` records, in the order of the families.

    Example:
      >>> import jaxplain
      >>> [m.name for m in jaxplain.methods() if "data" in m.needs]
      ['expected_gradients']
    """
    return list(METHODS.values())
