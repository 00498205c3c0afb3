"""What is measured of each map, and on which images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp

from jaxplain import metrics
from jaxplain.evaluation import Measure
from jaxplain.metrics._common import to_heatmap

from .rows import Row, essentials, of_disconnected, rows, without_sampling
from .subjects import Subject

FEW = 24


@dataclass(frozen=True)
class Stage:
    """Metrics on a set of images.

    Attributes:
      examples: ``"photographs"`` or another set of images of a `Subject`.
      count: on how many of them, the first ones; None for all.
      measures: by the name of their column.
      rows: the methods that are measured.
    """

    examples: str
    count: int | None
    measures: dict[str, Measure]
    rows: Callable[[Subject], list[Row]] = rows


def positive_mass_accuracy(attribution, mask):
    """The share of the positive part of a map, its channels summed, that lies in the mask."""
    return metrics.relevance_mass_accuracy(jnp.maximum(to_heatmap(attribution), 0), mask)


def stages(subject: Subject) -> dict[str, Stage]:
    """All stages by name, in the order in which they are measured."""
    ten = {"steps": 10, "chunk": 1}
    tenths = {"percentages": tuple(range(5, 100, 10)), "chunk": 1}
    of_network = lambda metric, better, **options: Measure(partial(metric, **options), "network", better)
    of_explainer = lambda metric, **options: Measure(partial(metric, **options), "explainer", "lower")
    of_map = lambda metric: Measure(metric, "map", "higher")
    maps = {
        "insertion": of_network(metrics.insertion, "higher", **ten),
        "deletion": of_network(metrics.deletion, "lower", **ten),
        "sparseness": of_map(metrics.sparseness),
    }
    if "mask" in subject.photographs[0].truth:
        maps |= {"positive_mass_accuracy": of_map(positive_mass_accuracy)}
        maps |= {"pointing_game": of_map(metrics.pointing_game)}
    variants = {
        "insertion into the mean": of_network(metrics.insertion, "higher", baseline="zero", **ten),
        "insertion of the output": of_network(metrics.insertion, "higher", of="output", **ten),
        "deletion to a blur": of_network(metrics.deletion, "lower", baseline="blur", **ten),
        "deletion of the output": of_network(metrics.deletion, "lower", of="output", **ten),
        "road": of_network(metrics.road, "lower", **tenths),
        "road, least relevant first": of_network(metrics.road, "higher", order="lerf", **tenths),
    }
    sanity = {
        "max_sensitivity": of_explainer(metrics.max_sensitivity, samples=4, radius=0.05),
        "randomised weights": of_explainer(metrics.mprt, layers=subject.stages),
        "randomised class": of_explainer(metrics.random_logit),
    }
    game = of_map(metrics.grid_pointing_game)
    return {
        "maps": Stage("photographs", None, maps),
        "mosaics": Stage("mosaics", None, {"grid_pointing_game": game}),
        "absent": Stage("mosaics_of_absent_classes", FEW, {"grid_pointing_game of an absent class": game}, essentials),
        "difull": Stage("disconnected_mosaics", FEW, {"difull": game}, of_disconnected),
        "variants": Stage("photographs", FEW, variants, essentials),
        "sanity": Stage("photographs", FEW, sanity, without_sampling),
    }
