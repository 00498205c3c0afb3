"""Metrics of explanations: faithfulness, localisation, robustness, complexity, sanity checks, similarity, axioms.

Metrics of maps are functions ``metric(attribution, mask) -> (N,)``. Metrics of networks are made like explainers,
``metric(apply, **options)(*args, attribution=..., target=..., key=...) -> (N,)``, and those that explain again take the
explainer in place of ``apply`` and no attribution. All 37 metrics of Quantus 0.6 are here, by their class names in
snake case, with its definitions; where a definition departs from Quantus, or from the paper, the docstring says so.
"""

from . import quantus
from ._adcc import adcc
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
from ._parameters import parameter_layers
from ._randomisation import efficient_mprt, mprt, random_logit, smooth_mprt
from ._regions import box_iou, iou, max_box_accuracy
from ._relative_stability import relative_input_stability, relative_output_stability, relative_representation_stability
from ._robustness import avg_sensitivity, continuity, local_lipschitz_estimate, max_sensitivity
from ._similarity import auc_judd, kl, nss, pcc, rank_correlation, sim, ssim
from .faithfulness import (
    average_drop,
    average_gain,
    consistency,
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
    road_combined,
    selectivity,
    sensitivity_n,
    sufficiency,
)

__all__ = [
    "adcc",
    "attribution_localisation",
    "auc",
    "auc_judd",
    "average_drop",
    "average_gain",
    "avg_sensitivity",
    "box_iou",
    "completeness",
    "complexity",
    "consistency",
    "continuity",
    "deletion",
    "effective_complexity",
    "efficient_mprt",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "focus",
    "grid_images",
    "grid_pointing_game",
    "increase_in_confidence",
    "infidelity",
    "input_invariance",
    "insertion",
    "iou",
    "irof",
    "kl",
    "ledger",
    "local_lipschitz_estimate",
    "max_box_accuracy",
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
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "road",
    "road_combined",
    "selectivity",
    "sensitivity_n",
    "sim",
    "smooth_mprt",
    "sparseness",
    "ssim",
    "sufficiency",
    "top_k_intersection",
]
