"""Faithfulness: whether the network uses what the map shows."""

from ._confidence import average_drop, average_gain, increase_in_confidence
from ._deletion_curves import deletion, insertion, monotonicity, pixel_flipping
from ._region_curves import irof, region_perturbation, selectivity
from ._road import road, road_combined
from ._same_maps import consistency, sufficiency
from ._subset_correlations import (
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity_correlation,
    sensitivity_n,
)

__all__ = [
    "average_drop",
    "average_gain",
    "consistency",
    "deletion",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "increase_in_confidence",
    "infidelity",
    "insertion",
    "irof",
    "monotonicity",
    "monotonicity_correlation",
    "pixel_flipping",
    "region_perturbation",
    "road",
    "road_combined",
    "selectivity",
    "sensitivity_n",
    "sufficiency",
]
