"""Backpropagation with other rules: one engine, and the methods that are nothing but their rules."""

from . import composites as composites
from . import rules as rules
from .deeplift import deep_shap as deep_shap
from .deeplift import deeplift as deeplift
from .engine import replay as replay
from .excitation import contrastive_lrp as contrastive_lrp
from .excitation import excitation_backprop as excitation_backprop
from .ledger import summary as summary
from .lrp import deconvnet as deconvnet
from .lrp import deep_taylor as deep_taylor
from .lrp import guided_backprop as guided_backprop
from .lrp import lrp as lrp
from .lrp import softmax_gradient_lrp as softmax_gradient_lrp
from .patterns import fit_patterns as fit_patterns
from .patterns import pattern_attribution as pattern_attribution
from .patterns import pattern_net as pattern_net
