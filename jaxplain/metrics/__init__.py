"""Metrics of explanations: faithfulness, localisation, robustness, complexity, sanity checks, similarity, axioms.

Metrics of maps are functions ``metric(attribution, mask) -> (N,)``. Metrics of networks are made like explainers,
``metric(apply, **options)(*args, attribution=..., target=..., key=...) -> (N,)``, and those that explain again take the
explainer in place of ``apply`` and no attribution. A metric that Quantus has too is its class name in snake case, with
its definition; where that departs from the paper, the docstring says so. Quantus has some that are not here.
"""

from . import quantus
from ._axioms import completeness, input_invariance, ledger, non_sensitivity
from ._complexity import complexity, effective_complexity, sparseness
from ._localisation import (
    attribution_localisation,
    auc,
    focus,
    grid_images,
    grid_pointing_game,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
)
from ._randomisation import mprt, parameter_layers, random_logit
from ._robustness import avg_sensitivity, local_lipschitz_estimate, max_sensitivity
from ._similarity import auc_judd, kl, nss, pcc, rank_correlation, sim, ssim
from .faithfulness import (
    average_drop,
    deletion,
    faithfulness_correlation,
    faithfulness_estimate,
    increase_in_confidence,
    infidelity,
    insertion,
    irof,
    monotonicity,
    monotonicity_correlation,
    pixel_flipping,
    region_perturbation,
    road,
    selectivity,
    sensitivity_n,
    sufficiency,
)

__all__ = [
    "attribution_localisation",
    "auc",
    "auc_judd",
    "average_drop",
    "avg_sensitivity",
    "completeness",
    "complexity",
    "deletion",
    "effective_complexity",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "focus",
    "grid_images",
    "grid_pointing_game",
    "increase_in_confidence",
    "infidelity",
    "input_invariance",
    "insertion",
    "irof",
    "kl",
    "ledger",
    "local_lipschitz_estimate",
    "max_sensitivity",
    "monotonicity",
    "monotonicity_correlation",
    "mprt",
    "non_sensitivity",
    "nss",
    "parameter_layers",
    "pcc",
    "pixel_flipping",
    "pointing_game",
    "quantus",
    "random_logit",
    "rank_correlation",
    "region_perturbation",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "road",
    "selectivity",
    "sensitivity_n",
    "sim",
    "sparseness",
    "ssim",
    "sufficiency",
    "top_k_intersection",
]
