"""Make `tests/data/cams.npz`: pytorch-grad-cam's maps and captum's layer and neuron methods on the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/cams.py

Of pytorch-grad-cam it holds what `get_cam_image` and `get_cam_weights` return: maps ``(N, H, W)`` at the layer's own
resolution, before they are clipped, scaled from 0 to 1 and resized, and weights ``(N, K)``. The score is the target's
logit. Activations, gradients and captum's layer maps are ``(N, H, W, K)``, maps of pixels ``(N, H, W, 3)``.

The libraries as they are shipped do more than their formulas say. The numbers are what the formulas say, made by the
libraries' own code, and `{network}/{layer}/deviation/{method}` is how far what is shipped is off, the largest
difference over the largest value, where that is more than 1e-6 (`fem` and `layer_conductance`: see there):

* Grad-CAM++ adds 1e-6 to a denominator of the order of the squared gradient, XGrad-CAM 1e-7 to the sum of the
  activations, Score-CAM 1e-8 to the range of a channel. Their formulas hold in every unit of measurement of the
  activations, gradients in its inverse. A unit of 2^30 or 2^-30 is exact and makes 1e-16 or less of these constants.
  What is shipped is off by up to 4.5 % in Grad-CAM++, 3e-8 in XGrad-CAM.
* Eigen-CAM, Ablation-CAM and FullGrad ask for `numpy.float32`, captum's integrated gradients for `.float()`, others for
  PyTorch's default. They all get float64; as shipped, they are off by 2e-7 at most. An eigen map's sign is LAPACK's.
* Ablation-CAM replaces a channel by 0 only where the layer's minimum is 0, else by the minimum less 1e7, and by ever
  lower values as the channels go on. Here it is always 0, through the library's own argument `ablation_layer`. Where
  a ReLU follows, as behind `chain/bn2`, that makes no difference; in `depthwise/bn3` weights are off by a factor 9e7.
* Score-CAM upsamples with aligned corners, here between the centres of pixels as `jax.image.resize` does. The weights
  differ by 0.3 to 5 % in layers of 4x4, not at all in those of 8x8, where nothing is upsampled. Its scores are logits
  or probabilities, as the target says, and both are here, after the softmax over channels that makes them weights.
* FEM weighs a whole channel by the *share* of its positions above mean + 2 deviations. Fuad et al. 2020 keep those
  positions alone and weigh them by the channel's mean. `fem` is the library's map, to be told from the paper's: both
  divided by their maxima, they differ by 0.64 to 1.

`full_grad` is the sum before its last rescaling, at the input's resolution. Each channel of each term is scaled from 0
to 1 by itself, so a channel of equal values counts nothing; the 1e-7 in that division is overcome by 2^60 times the
logits (shipped, up to 0.3 % off). `full_grad_not_rescaled` only resizes: |x g| of the colours and |b g| of the channels
of every convolution with a bias and every BatchNorm. Biases of dense layers are left out of both; with them, and
without absolute values, the terms add up to the logits but for `full_grad_incompleteness`.

Captum's paths are 50 steps of Gauss-Legendre, from a constant baseline and from one that varies. `layer_conductance`
is no quadrature: at 51 nodes it adds up the gradient at one times the way of the activations to the next, and
leaves out the path's ends. `conductance` is the integral with the nodes' weights, `NeuronConductance` of every neuron
added up over the pixels. `neuron` is ``(row, column, channel)``. These methods are stored for some layers only, for the
size. `guided_grad_cam` cuts Grad-CAM at 0 and resizes it by "bilinear" (captum's default is "nearest").
"""

import contextlib
import functools
import warnings
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pytorch_grad_cam as cams
import torch
from captum import attr
from captum_propagation import baselines, nhwc
from networks import TARGETS, build, images
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from torch import nn

OUT = Path(__file__).parents[2] / "tests" / "data" / "cams.npz"

LAYERS = {
    "chain": ("relu1", "bn2", "relu2"),
    "residual": ("relu1", "relu2"),
    "depthwise": ("bn3", "relu3"),
    "branches": ("concat",),
}
WITH_PATHS = ("chain/relu1", "chain/relu2", "residual/relu2", "depthwise/bn3")

MAPS = {
    "grad_cam": cams.GradCAM,
    "grad_cam_plus_plus": cams.GradCAMPlusPlus,
    "xgrad_cam": cams.XGradCAM,
    "hires_cam": cams.HiResCAM,
    "layer_cam": cams.LayerCAM,
    "grad_cam_elementwise": cams.GradCAMElementWise,
    "eigen_cam": cams.EigenCAM,
    "eigen_grad_cam": cams.EigenGradCAM,
    "fem": cams.FEM,
}
LOGITS = [ClassifierOutputTarget(target) for target in TARGETS]
PROBABILITIES = [ClassifierOutputSoftmaxTarget(target) for target in TARGETS]
HUGE = 2.0**30  # a power of two, so that multiplying by it rounds nothing
UNITS = {"grad_cam_plus_plus": 1 / HUGE, "xgrad_cam": HUGE, "score_cam": HUGE}


class ToZero(AblationLayer):
    """Replaces a channel by zero, whatever the layer's minimum."""

    def __call__(self, x):
        for activations, channel in zip(self.activations, self.indices, strict=False):
            activations[channel] = 0
        return self.activations


@contextlib.contextmanager
def in_float64():
    """Give double precision to code that asks for single precision, by name or by default."""
    torch.set_default_dtype(torch.float64)
    with mock.patch("numpy.float32", np.float64), mock.patch("torch.Tensor.float", torch.Tensor.double):
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def half_pixels():
    """Let ScoreCAM upsample between the centres of pixels."""
    upsample = functools.partial(nn.Upsample, mode="bilinear", align_corners=False)
    return mock.patch("torch.nn.UpsamplingBilinear2d", upsample)


def not_rescaled():
    """Let FullGrad resize its terms without scaling their channels from 0 to 1."""

    def resize(terms, size):
        return nn.functional.interpolate(torch.from_numpy(terms), size, mode="bilinear").numpy()

    return mock.patch("pytorch_grad_cam.fullgrad_cam.scale_accross_batch_and_channels", resize)


def relative_error(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def nhwk(activations):
    return activations.transpose(0, 2, 3, 1)


def network_and_layers(name):
    """A network and its layers by name; the concatenation of `branches` is made a module, which has no state."""
    network = build(name)
    if name != "branches":
        return network, {layer: network.get_submodule(layer) for layer in LAYERS[name]}
    concat = nn.Identity()
    network.pool = nn.Sequential(concat, network.pool)
    return network, {"concat": concat}


def recorded(network, layer, x):
    """The layer's activations and the gradients of the targets' logits, as pytorch-grad-cam sees them."""
    cam = cams.GradCAM(network, [layer])
    cam(x, LOGITS)
    record = cam.activations_and_grads
    return record.activations[0].numpy(), record.gradients[0].numpy()


def cam_numbers(network, layer, x, units, ablation):
    """The raw maps of pytorch-grad-cam, and the channels' weights where a forward pass each makes them."""
    activations, gradients = recorded(network, layer, x)
    numbers = {}
    for name, method in MAPS.items():
        unit = units.get(name, 1.0)
        cam = method(network, [layer])
        numbers[name] = cam.get_cam_image(x, layer, LOGITS, unit * activations, gradients / unit, False)
    cam = cams.AblationCAM(network, [layer], ablation_layer=ablation)
    numbers["ablation_cam"] = cam.get_cam_image(x, layer, LOGITS, activations, None)
    numbers["ablation_cam/weights"] = cam.get_cam_weights(x, layer, LOGITS, activations, None)
    cam, unit = cams.ScoreCAM(network, [layer]), units.get("score_cam", 1.0)
    for key, targets in {"logit": LOGITS, "probability": PROBABILITIES}.items():
        numbers[f"score_cam/{key}_weights"] = cam.get_cam_weights(x, layer, targets, unit * activations, None)
    return numbers


def fuad_fem(activations):
    """FEM of Fuad et al. 2020: the channel's mean at its positions above mean + 2 deviations."""
    mean, deviation = (f(activations, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    return np.where(activations > mean + 2 * deviation, mean, 0).sum(axis=1)


def full_grad(network, x, scale=1.0):
    """FullGrad's map of ``scale`` times the logits, before its last rescaling, and the object that made it."""
    cam = cams.FullGrad(network, [])
    cam.aggregate_multi_layers = lambda maps: maps[:, 0]
    return cam(x, [lambda outputs, target=target: scale * outputs[target] for target in TARGETS]), cam


def incompleteness(network, x):
    """How far all terms of FullGrad are off the logits, both added up over the images."""
    _, cam = full_grad(network, x)
    biases, gradients = map(torch.from_numpy, cam.bias_data), cam.activations_and_grads.gradients
    terms = [(bias[:, None, None] * gradient).sum() for bias, gradient in zip(biases, gradients, strict=True)]
    x = x.clone().requires_grad_()
    score = network(x)[range(len(x)), TARGETS].sum()
    values = [x, *(module.bias for module in network.modules() if isinstance(module, nn.Linear))]
    terms += [(v * g).sum() for v, g in zip(values, torch.autograd.grad(score, values), strict=True)]
    return abs(sum(terms) / score - 1).item()


def grad_cam_numbers(network, layer, x):
    """Captum's Grad-CAMs."""
    cam = attr.LayerGradCam(network, layer).attribute(x, TARGETS, relu_attributions=False)
    guided = attr.GuidedGradCam(network, layer).attribute(x, TARGETS, interpolate_mode="bilinear")
    return {"layer_grad_cam": nhwc(cam)[..., 0], "guided_grad_cam": nhwc(guided)}


def path_numbers(network, layer, x, shape, neuron):
    """Captum's gradient and path methods of a layer of ``shape`` (K, H, W), and those of a neuron."""
    numbers = {
        "layer_gradient_x_activation": nhwc(attr.LayerGradientXActivation(network, layer).attribute(x, TARGETS)),
        "neuron_gradient": nhwc(attr.NeuronGradient(network, layer).attribute(x, neuron)),
    }
    for key, baseline in baselines().items():
        path = {"baselines": baseline.expand_as(x), "n_steps": 50, "method": "gausslegendre"}
        of_layer = {**path, "target": TARGETS}
        flow = attr.NeuronConductance(network, layer).attribute
        flows = [flow(x, each, **of_layer).sum(dim=(1, 2, 3)) for each in np.ndindex(shape)]
        maps = {
            "internal_influence": attr.InternalInfluence(network, layer).attribute(x, **of_layer),
            "layer_integrated_gradients": attr.LayerIntegratedGradients(network, layer).attribute(x, **of_layer),
            "layer_conductance": attr.LayerConductance(network, layer).attribute(x, **of_layer),
            "conductance": torch.stack(flows, dim=1).reshape(len(x), *shape),
            "neuron_conductance": flow(x, neuron, **of_layer),
            "neuron_integrated_gradients": attr.NeuronIntegratedGradients(network, layer).attribute(x, neuron, **path),
        }
        numbers |= {f"{method}/{key}": nhwc(values) for method, values in maps.items()}
        error = relative_error(numbers[f"layer_conductance/{key}"], numbers[f"conductance/{key}"])
        numbers[f"deviation/layer_conductance/{key}"] = error
    return numbers


def numbers_of_network(name, network, x):
    numbers = {f"state/{key}": value.numpy() for key, value in build(name).state_dict().items()}
    numbers["outputs"] = network(x).detach().numpy()
    shipped, _ = full_grad(network, x)
    with in_float64():
        numbers["full_grad"], _ = full_grad(network, x, scale=HUGE**2)
        with not_rescaled():
            numbers["full_grad_not_rescaled"], _ = full_grad(network, x)
    numbers["full_grad_incompleteness"] = incompleteness(network, x)
    numbers["deviation/full_grad"] = relative_error(shipped, numbers["full_grad"])
    return numbers


def numbers_of_layer(network, layer, x, paths):
    activations, gradients = recorded(network, layer, x)
    shipped = cam_numbers(network, layer, x, {}, AblationLayer())
    with in_float64(), half_pixels():
        numbers = cam_numbers(network, layer, x, UNITS, ToZero())
    deviation = {key: relative_error(shipped[key], numbers[key]) for key in numbers}
    scaled = [maps / maps.max(axis=(1, 2), keepdims=True) for maps in (numbers["fem"], fuad_fem(activations))]
    deviation["fem"] = relative_error(*scaled)
    numbers |= {f"deviation/{key}": value for key, value in deviation.items() if value > 1e-6}
    numbers |= {"activations": nhwk(activations), "gradients": nhwk(gradients)}
    x = x.clone().requires_grad_()
    with in_float64():
        numbers |= grad_cam_numbers(network, layer, x)
        if paths:
            shape = activations.shape[1:]
            channel, row, column = np.unravel_index(activations.min(axis=0).argmax(), shape)  # active in every image
            numbers["neuron"] = np.array([row, column, channel])
            numbers |= path_numbers(network, layer, x, shape, (channel, row, column))
    return numbers


@mock.patch("tqdm.tqdm", iter)
def main():
    warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks")
    x = images()
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("grad-cam", "captum", "torch")]),
        "images": nhwc(x),
        "targets": np.array(TARGETS),
        **{f"baseline_{key}": nhwc(baseline) for key, baseline in baselines().items()},
    }
    for name in LAYERS:
        network, layers = network_and_layers(name)
        numbers |= {f"{name}/{key}": value for key, value in numbers_of_network(name, network, x).items()}
        for layer, module in layers.items():
            found = numbers_of_layer(network, module, x, f"{name}/{layer}" in WITH_PATHS)
            numbers |= {f"{name}/{layer}/{key}": value for key, value in found.items()}
    for key, value in numbers.items():
        if "deviation" in key or "incompleteness" in key:
            print(f"{key} {value:.1e}")
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
