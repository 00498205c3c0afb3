"""Explanations of image classifiers as JAX function transforms."""

from .compose import chunked as chunked
from .compose import contrast as contrast
from .compose import ensemble as ensemble
from .compose import heatmap as heatmap
from .compose import multiply as multiply
from .compose import smooth as smooth
from .compose import smoothgrad as smoothgrad
from .compose import vargrad as vargrad
from .explainer import explainer as explainer
from .explainer import scores as scores
from .gradients import blur_integrated_gradients as blur_integrated_gradients
from .gradients import expected_gradients as expected_gradients
from .gradients import gradient as gradient
from .gradients import guided_integrated_gradients as guided_integrated_gradients
from .gradients import input_x_gradient as input_x_gradient
from .gradients import integrated_gradients as integrated_gradients
from .propagation import composites as composites
from .propagation import contrastive_lrp as contrastive_lrp
from .propagation import deconvnet as deconvnet
from .propagation import deep_shap as deep_shap
from .propagation import deep_taylor as deep_taylor
from .propagation import deeplift as deeplift
from .propagation import excitation_backprop as excitation_backprop
from .propagation import fit_patterns as fit_patterns
from .propagation import guided_backprop as guided_backprop
from .propagation import lrp as lrp
from .propagation import pattern_attribution as pattern_attribution
from .propagation import pattern_net as pattern_net
from .propagation import rules as rules
from .propagation import softmax_gradient_lrp as softmax_gradient_lrp
from .propagation import summary as summary
from .taxonomy import methods as methods

__version__ = "0.1.0"
