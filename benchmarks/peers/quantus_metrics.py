"""Make `tests/data/quantus_metrics.npz`: Quantus' metrics on two of the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/quantus_metrics.py

Everything that would be random is fixed and stored: the sets of pixels, the noise, the re-initialised weights. Images
have one channel where a metric removes features, because Quantus removes the colours of a pixel one by one; the network
gets them as three, `COLOURS` times the grey value. It sees float32, in which the images are exact, and computes in
float64. Quantus divides all attributions that it is given by the largest; that is switched off where it matters.

`deviations` checks what the docstrings say of Quantus, and `classes` are all of its metrics. NumPy 2.4 has no `trapz`,
which Quantus 0.6 calls.
"""

import itertools
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from networks import build
from torch import nn

vars(np)["trapz"] = np.trapezoid
import quantus  # noqa: E402
from quantus.functions import discretise_func  # noqa: E402
from quantus.functions.perturb_func import noisy_linear_imputation  # noqa: E402
from quantus.helpers.utils import get_superpixel_segments  # noqa: E402

OUT = Path(__file__).parents[2] / "tests" / "data" / "quantus_metrics.npz"
COLOURS = (1.0, -0.5, 0.75)
TARGETS = np.array([2, 1, 0, 3])
BASELINE = 0.25
PERCENTAGES = [5, 20, 50, 80, 95]
CLASSES = [metric.__name__ for family in quantus.AVAILABLE_METRICS.values() for metric in family.values()]
QUIET = {"disable_warnings": True, "display_progressbar": False, "return_aggregate": False}


LAYERS = {"smooth": ("conv1", "conv2", "fc1"), "residual": ("relu1", "relu2", "head")}


class Double(nn.Module):
    """A network in float64 behind the float32 that Quantus gives it."""

    def __init__(self, network, grey):
        super().__init__()
        self.network, self.grey = network, grey

    def forward(self, x):
        x = x.double()
        return self.network(x * torch.tensor(COLOURS, dtype=x.dtype).reshape(1, 3, 1, 1) if self.grey else x)


def gradient(model, inputs, targets, **_):
    x = torch.tensor(inputs, dtype=next(model.parameters()).dtype, requires_grad=True)
    scores = model(x)[torch.arange(len(x)), torch.as_tensor(targets)]
    return torch.autograd.grad(scores.sum(), x)[0].numpy()


def heat(model, inputs, targets, **_):
    return gradient(model, inputs, targets).sum(axis=1, keepdims=True)


def evaluate(metric, model, x, a=None, batch_size=1, **kwargs):
    scores = metric(
        model=model, x_batch=x, y_batch=TARGETS, a_batch=a, channel_first=True, batch_size=batch_size, **kwargs
    )
    return scores if isinstance(scores, dict) else np.asarray(scores, float)


def faithfulness(model, x, a):
    """Metrics that remove pixels, on images of one channel."""
    options = QUIET | {"normalise": False, "perturb_baseline": BASELINE}
    for features in (1, 4):
        metric = quantus.PixelFlipping(features_in_step=features, abs=False, **options)
        yield f"pixel_flipping/{features}/curve", evaluate(metric, model, x, a)
        metric = quantus.PixelFlipping(features_in_step=features, abs=False, return_auc_per_sample=True, **options)
        yield f"pixel_flipping/{features}/area", evaluate(metric, model, x, a)
        metric = quantus.FaithfulnessEstimate(features_in_step=features, abs=False, **options)
        yield f"faithfulness_estimate/{features}", evaluate(metric, model, x, a)
        metric = quantus.MonotonicityCorrelation(features_in_step=features, nr_samples=1, abs=True, **options)
        yield f"monotonicity_correlation/{features}", evaluate(metric, model, x, a)
    for size in (2, 3):
        for order in ("morf", "lerf"):
            metric = quantus.RegionPerturbation(
                patch_size=size, order=order, regions_evaluation=7, abs=False, **options
            )
            yield f"region_perturbation/{size}/{order}", evaluate(metric, model, x, a)
        metric = quantus.Selectivity(patch_size=size, abs=False, **options)
        yield f"selectivity/{size}", evaluate(metric, model, x, a)
    metric = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=1, abs=False, **options)
    yield "infidelity", evaluate(metric, model, x, a)
    metric = quantus.NonSensitivity(abs=True, eps=1e-2, **options)
    yield "non_sensitivity", evaluate(metric, model, x, a / np.abs(a).max(axis=(1, 2, 3), keepdims=True))
    yield "sufficiency", evaluate(quantus.Sufficiency(abs=True, normalise=True, **QUIET), model, x, a, batch_size=4)

    metric = quantus.IROF(segmentation_method="slic", abs=False, **options)
    yield "irof", evaluate(metric, model, x, a)
    yield "irof_segments", np.stack([get_superpixel_segments(image.transpose(1, 2, 0), "slic") for image in x])

    metric = quantus.ROAD(percentages=PERCENTAGES, noise=0.0, abs=False, normalise=False, **QUIET)
    scores = metric(model=model, x_batch=x, y_batch=TARGETS, a_batch=a, channel_first=True, batch_size=len(x))
    yield "road", np.array([scores[p] for p in PERCENTAGES])
    order = np.argsort(-a.reshape(len(a), -1), axis=1)
    imputed = [
        [noisy_linear_imputation(v, o[: 64 * p // 100], noise=0.0) for p in PERCENTAGES]
        for v, o in zip(x, order, strict=True)
    ]
    yield "imputed", np.array(imputed)[:, :, 0]


def correlation(model, x, a):
    """Faithfulness correlation, with the sets of pixels that were drawn."""
    choice, sets = np.random.choice, []

    def recorded(*args, **kwargs):
        sets.append(choice(*args, **kwargs))
        return sets[-1]

    np.random.choice = recorded
    scores = []
    for i in range(len(x)):  # the same sets for every example
        np.random.seed(0)  # noqa: NPY002 (Quantus draws from the global generator)
        metric = quantus.FaithfulnessCorrelation(
            nr_runs=20, subset_size=9, abs=False, normalise=False, perturb_baseline=BASELINE, **QUIET
        )
        part = metric(model, x[i : i + 1], TARGETS[i : i + 1], a[i : i + 1], channel_first=True)
        scores += np.ravel(part).tolist()
    np.random.choice = choice
    masks = np.zeros((20, 64), bool)
    for mask, members in zip(masks, sets, strict=False):
        mask[members] = True
    yield "faithfulness_correlation", np.array(scores)
    yield "faithfulness_correlation_masks", masks.reshape(20, 8, 8)


def robustness(model, x):
    """Metrics that explain again, with the noise that was added."""
    noise = np.random.default_rng(3).uniform(-0.2, 0.2, (5, *x.shape[1:]))
    metrics = {
        "max_sensitivity": quantus.MaxSensitivity,
        "avg_sensitivity": quantus.AvgSensitivity,
        "local_lipschitz_estimate": quantus.LocalLipschitzEstimate,
    }
    yield "noise", noise.transpose(0, 2, 3, 1)
    for name, metric in metrics.items():
        samples = iter(noise)
        perturb = lambda arr, samples=samples, **_: arr + next(samples).reshape(1, -1)
        scores = metric(nr_samples=len(noise), abs=False, normalise=False, perturb_func=perturb, **QUIET)
        yield name, evaluate(scores, model, x, explain_func=gradient, batch_size=len(x))
    for name, absolute in (("absolute", True), ("signed", False)):
        metric = quantus.Continuity(nr_steps=5, abs=absolute, normalise=False, **QUIET)
        yield f"continuity/{name}", evaluate(metric, model, x, explain_func=gradient, batch_size=len(x))


def stability(model, x, neighbours, layers):
    """Relative stability of input times gradient near the input and where predictions change."""

    def times_input(model, inputs, targets, **_):
        return gradient(model, inputs, targets) * inputs

    for name in ("RelativeInputStability", "RelativeOutputStability", "RelativeRepresentationStability"):
        chosen = {"layer_names": [f"network.{layer}" for layer in layers]} if "Representation" in name else {}
        for (distance, points), changes in itertools.product(neighbours.items(), (True, False)):
            sample = iter(points)
            options = {"nr_samples": len(points), "return_nan_when_prediction_changes": changes}
            perturb = lambda arr, sample=sample, **_: next(sample).reshape(arr.shape).astype(float)
            metric = getattr(quantus, name)(perturb_func=perturb, **options, **chosen, **QUIET)
            values = evaluate(metric, model, x, explain_func=times_input, batch_size=len(x))
            yield f"{name}/{distance}/{'nan' if changes else 'keep'}", values


def consistency(model, x, a):
    """Images some of which have the same map, up to a factor; by default, whatever their maps are."""
    classes = np.zeros(len(x), int)  # which it asks for and does not use

    def measure(a, **options):
        metric = quantus.Consistency(**options, **QUIET)
        return np.array(metric(model, x, classes, a_batch=a, channel_first=True, batch_size=len(x)))

    a = a[np.arange(len(x)) % len(a)] * np.arange(1, len(x) + 1).reshape(-1, 1, 1, 1)
    for rule in ("top_n_sign", "sign", "rank"):
        options = {"abs": False, "normalise": False, "discretise_func": getattr(discretise_func, rule)}
        yield f"consistency/{rule}", measure(a, **options)
    yield "consistency/default", np.array([measure(a), measure(-a[::-1]), measure(a**2 + 1)])


def randomisation(model, x):
    """Random logit with the classes drawn, parameter randomisation with the weights drawn."""
    classes = []

    def recorded(model, inputs, targets, **_):
        classes.append(np.array(targets))
        return heat(model, inputs, targets)

    metric = quantus.RandomLogit(num_classes=4, abs=False, normalise=False, **QUIET)
    yield "random_logit", evaluate(metric, model, x, explain_func=recorded, batch_size=len(x))
    yield "random_logit_classes", classes[-1]

    for order in ("top_down", "bottom_up", "independent"):
        states = []

        def recording(model, inputs, targets, states=states, **_):
            states.append({key: value.numpy().copy() for key, value in model.state_dict().items()})
            return heat(model, inputs, targets)

        metric = quantus.MPRT(layer_order=order, abs=True, normalise=False, **QUIET)
        scores = evaluate(metric, model, x, explain_func=recording, batch_size=len(x))
        layers = [name for name in scores if name != "original"]
        yield f"mprt/{order}", np.array([scores[name] for name in layers]).T
        yield f"mprt_layers/{order}", np.array([name.removeprefix("network.") for name in layers])
        if order == "bottom_up":
            yield from ((f"mprt_{key.replace('network.', 'state/')}", value) for key, value in states[-1].items())

    metric = quantus.EfficientMPRT(**QUIET)  # with the weights that `states` ends with
    yield "efficient_mprt", evaluate(metric, model, x, explain_func=heat, batch_size=len(x))
    noise = np.random.default_rng(4).normal(size=(2, *x.shape)).astype(np.float32)
    yield "smooth_mprt_noise", noise.transpose(0, 1, 3, 4, 2)
    drawn = itertools.cycle(noise.astype(float))
    with mock.patch("numpy.random.randn", side_effect=lambda *shape: next(drawn)):
        metric = quantus.SmoothMPRT(nr_samples=len(noise) + 1, **QUIET)
        scores = evaluate(metric, model, x, explain_func=heat, batch_size=len(x))
    yield "smooth_mprt", np.array([scores[name] for name in scores if name != "original"]).T


def deviations(model, x, a):
    """Where Quantus 0.6 departs from the papers, so that jaxplain departs from Quantus."""
    colour = x.repeat(3, axis=1)
    metric = quantus.Monotonicity(abs=False, normalise=False, perturb_baseline=BASELINE, **QUIET)
    answers = [evaluate(metric, model, x, b) for b in (a, -a, np.random.default_rng(9).normal(size=a.shape))]
    yield f"monotonicity of the map, its negative, a random one: {np.array(answers).tolist()}", np.all(answers)
    for steps in (17, 18):
        moved = []
        recorded = lambda model, inputs, targets, moved=moved, **_: moved.append(inputs.copy()) or np.abs(inputs) + 2
        metric = quantus.Continuity(nr_steps=steps, abs=False, normalise=False, **QUIET)
        try:
            evaluate(metric, model, x, explain_func=recorded, batch_size=len(x))
            black = all((image == x.min(axis=(1, 2, 3), keepdims=True)).all() for image in moved[-steps:])
            yield f"continuity in {steps} steps of images with 17 translations: all are black", black
        except IndexError as error:
            yield f"continuity in {steps} steps of images with 17 translations fails: {error}", True
    noise = quantus.RelativeInputStability(**QUIET).perturb_func(arr=np.zeros((1, 9)), indices=np.arange(9)[None])
    yield f"neighbours of relative stability are brighter: {noise.min()} to {noise.max()}", noise.min() > 0
    for padding in (0, 1):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        metric = quantus.InputInvariance(abs=False, normalise=False, **QUIET)
        invariant = evaluate(metric, network.eval(), colour, explain_func=gradient, batch_size=len(x))
        yield f"input invariance of the gradient with padding {padding}: {invariant}", True
    try:
        quantus.ROAD(abs=False, normalise=False, **QUIET)(Double(model.network, grey=False).eval(), colour, TARGETS, a)
        yield "ROAD of colour images", False
    except IndexError as error:
        yield f"ROAD of colour images fails: {error}", True


def maps(x, a, masks):
    """Metrics of maps alone."""
    s = masks[:, None]
    options = QUIET | {"normalise": True}
    for name in ("PointingGame", "RelevanceMassAccuracy", "RelevanceRankAccuracy", "AUC"):
        yield name, evaluate(getattr(quantus, name)(abs=False, **options), None, x, a, s_batch=s)
    yield "TopKIntersection", evaluate(quantus.TopKIntersection(k=10, abs=False, **options), None, x, a, s_batch=s)
    metric = quantus.TopKIntersection(k=10, concept_influence=True, abs=False, **options)
    yield "TopKIntersection/concept", evaluate(metric, None, x, a, s_batch=s)
    metric = quantus.AttributionLocalisation(abs=True, **options)
    yield "AttributionLocalisation", evaluate(metric, None, x, a, s_batch=s)
    metric = quantus.AttributionLocalisation(positive_attributions=True, abs=False, **options)
    yield "AttributionLocalisation/positive", evaluate(metric, None, x, a, s_batch=s)
    positions = np.array([(1, 1, 0, 0), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)])
    yield "focus_positions", positions
    yield "Focus", evaluate(quantus.Focus(abs=False, **options), nn.Identity().eval(), x, a, custom_batch=positions)
    for name in ("Sparseness", "Complexity", "EffectiveComplexity"):
        yield name, evaluate(getattr(quantus, name)(abs=True, **options), None, x, a)


def main():
    rng = np.random.default_rng(0)
    colour = rng.normal(size=(4, 3, 8, 8)).astype(np.float32).astype(float)
    grey = rng.normal(size=(4, 1, 8, 8)).astype(np.float32).astype(float)
    masks = np.zeros((4, 8, 8), bool)
    for mask, (top, left, height, width) in zip(masks, rng.integers(1, 5, (4, 4)), strict=True):
        mask[top : top + height, left : left + width] = True
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("quantus", "torch", "numpy")]),
        "images": colour.transpose(0, 2, 3, 1),
        "grey": grey.transpose(0, 2, 3, 1),
        "colours": np.array(COLOURS),
        "targets": TARGETS,
        "masks": masks,
        "baseline": np.array(BASELINE),
        "percentages": np.array(PERCENTAGES),
        "classes": np.array(sorted(CLASSES)),
    }
    box = np.random.default_rng(5).uniform(-1, 1, (3, *colour.shape))
    near = {f"within_{r}": (colour + r * box).astype(np.float32) for r in (0.1, 3)}
    numbers |= {f"neighbours_{distance}": points.transpose(0, 1, 3, 4, 2) for distance, points in near.items()}
    attribution = rng.normal(size=(4, 1, 8, 8))
    attribution[2:] = attribution[2:].round(1)  # with ties
    numbers["maps"] = attribution[:, 0]
    for key, value in maps(grey, attribution, masks):
        numbers[f"of_maps_{key.replace('/', '_')}"] = value
    for name in ("residual", "smooth"):
        network = build(name)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        on_grey, on_colour = (Double(network, grey=grey).eval() for grey in (True, False))
        a = heat(on_grey, grey, TARGETS) * grey
        numbers[f"{name}/attribution"] = a[:, 0]
        results = [*faithfulness(on_grey, grey, a), *correlation(on_grey, grey, a), *robustness(on_colour, colour)]
        results += stability(on_colour, colour, near, LAYERS[name])
        results += consistency(on_colour, np.concatenate(near["within_3"]), a)
        if name == "smooth":  # no BatchNorm, whose statistics Quantus re-initialises as well
            results += randomisation(on_colour, colour)
        numbers |= {f"{name}/{key}": value for key, value in results}
        for claim, holds in deviations(on_grey, grey, a):
            print(name, claim, holds)
    np.savez_compressed(OUT, **numbers)
    print(f"{OUT.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
