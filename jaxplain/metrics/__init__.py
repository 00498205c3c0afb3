"""Metrics of explanations: faithfulness, localisation, robustness, complexity, sanity checks, similarity, axioms.

Metrics of maps are functions ``metric(attribution, mask) -> (N,)``. Metrics of networks are made like explainers,
``metric(apply, **options)(*args, attribution=..., target=..., key=...) -> (N,)``, and those that explain again take the
explainer in place of ``apply`` and no attribution. A metric that Quantus has is its class name in snake case, with its
definition; where that departs from the paper, the docstring says so.
"""

from . import quantus as quantus
from .axioms import completeness as completeness
from .axioms import input_invariance as input_invariance
from .axioms import ledger as ledger
from .axioms import non_sensitivity as non_sensitivity
from .complexity import complexity as complexity
from .complexity import effective_complexity as effective_complexity
from .complexity import sparseness as sparseness
from .faithfulness import average_drop as average_drop
from .faithfulness import deletion as deletion
from .faithfulness import faithfulness_correlation as faithfulness_correlation
from .faithfulness import faithfulness_estimate as faithfulness_estimate
from .faithfulness import increase_in_confidence as increase_in_confidence
from .faithfulness import infidelity as infidelity
from .faithfulness import insertion as insertion
from .faithfulness import irof as irof
from .faithfulness import monotonicity as monotonicity
from .faithfulness import monotonicity_correlation as monotonicity_correlation
from .faithfulness import pixel_flipping as pixel_flipping
from .faithfulness import region_perturbation as region_perturbation
from .faithfulness import road as road
from .faithfulness import selectivity as selectivity
from .faithfulness import sensitivity_n as sensitivity_n
from .faithfulness import sufficiency as sufficiency
from .localisation import attribution_localisation as attribution_localisation
from .localisation import auc as auc
from .localisation import focus as focus
from .localisation import grid_images as grid_images
from .localisation import grid_pointing_game as grid_pointing_game
from .localisation import pointing_game as pointing_game
from .localisation import relevance_mass_accuracy as relevance_mass_accuracy
from .localisation import relevance_rank_accuracy as relevance_rank_accuracy
from .localisation import top_k_intersection as top_k_intersection
from .randomisation import mprt as mprt
from .randomisation import parameter_layers as parameter_layers
from .randomisation import random_logit as random_logit
from .robustness import avg_sensitivity as avg_sensitivity
from .robustness import local_lipschitz_estimate as local_lipschitz_estimate
from .robustness import max_sensitivity as max_sensitivity
from .similarity import auc_judd as auc_judd
from .similarity import kl as kl
from .similarity import nss as nss
from .similarity import pcc as pcc
from .similarity import rank_correlation as rank_correlation
from .similarity import sim as sim
from .similarity import ssim as ssim
