"""``jaxplain recommend``: which method for which need, by what the library's leaderboard measured."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from ..evaluation import recommend as advise
from ._explain import Text
from ._methods import Count
from ._terminal import STDOUT, UsageError, words

Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]


def recommend(
    *,
    goal: str = "faithfulness,localisation",
    family: Text = None,
    mechanism: Text = None,
    needs: Text = None,
    without: Text = None,
    resolution: Text = None,
    max_cost: Count = None,
    max_seconds: Number = None,
    class_discriminative: bool = False,
    complete: bool = False,
    network: str = "convolutional",
    top: int = 5,
) -> int:
    """Rank methods by what was measured of them, and say what that was.

    For example: jaxplain recommend --goal localisation --without layer --max-cost 10

    Args:
      goal: What counts, commas between: faithfulness, localisation, robustness, complexity, speed.
      family: Only those of linearisation, structure, adversarial or perturbation.
      mechanism: Only those by gradient, modified gradient, path integral, relevance rules, weighted features, feature
        statistics, optimisation, sampled masks or attention; several with commas between.
      needs: Only those that need gradient, layer, baseline, segments, data, composite, patterns, key; several with
        commas between.
      without: Only those that need none of these.
      resolution: Only maps of every colour, pixel, layer position or region; several with commas between.
      max_cost: Only those with at most so many passes.
      max_seconds: Only those that took at most so long for an image.
      class_discriminative: Only those whose maps of different classes differ.
      complete: Only those whose maps sum to a score or a difference of scores.
      network: A kind of network, convolutional or transformer, or one that was measured, such as vgg, resnet or vit.
      top: How many are printed.
    """
    if top < 1:
        raise UsageError("--top is at least 1")
    conditions: dict[str, Any] = {"family": family, "needs": words(needs), "without": words(without)}
    conditions |= {
        "mechanism": words(mechanism),
        "resolution": words(resolution) or None,
        "max_cost": max_cost,
        "max_seconds": max_seconds,
    }
    conditions |= {"class_discriminative": class_discriminative or None, "complete": complete, "network": network}
    try:
        advice = advise(words(goal), **conditions)
    except ValueError as error:
        raise UsageError(str(error)) from error
    STDOUT.print(advice.top(top))
    return 0
