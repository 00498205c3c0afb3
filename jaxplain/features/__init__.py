"""Methods that look at a layer: class activation maps, feature explanation, attributions to and of neurons."""

from .cam import cam as cam
from .cam import eigen_cam as eigen_cam
from .cam import eigen_grad_cam as eigen_grad_cam
from .cam import grad_cam as grad_cam
from .cam import grad_cam_elementwise as grad_cam_elementwise
from .cam import grad_cam_plus_plus as grad_cam_plus_plus
from .cam import guided_grad_cam as guided_grad_cam
from .cam import hires_cam as hires_cam
from .cam import layer_cam as layer_cam
from .cam import xgrad_cam as xgrad_cam
from .fem import fem as fem
from .fem import multilayer_fem as multilayer_fem
from .full_grad import full_grad as full_grad
from .masks import ablation_cam as ablation_cam
from .masks import score_cam as score_cam
from .neurons import conductance as conductance
from .neurons import internal_influence as internal_influence
from .neurons import layer_attribution as layer_attribution
from .neurons import neuron_attribution as neuron_attribution
from .tap import layers as layers
from .tap import tap as tap
