"""The methods that are measured, each with the options that its label says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain as jp
from jaxplain import composites, rules

from .subjects import CELLS, Subject, disconnected

CONTROLS = ("random map", "Gaussian in the middle")


@dataclass(frozen=True)
class Row:
    """A method with its options.

    Attributes:
      label: by which it is known; records go by it, so that with other options it gets another one.
      method: its name in the taxonomy; controls and recipes have none.
      make: ``make(apply) -> explain``.
      recipe: whether it combines several methods.
    """

    label: str
    method: str
    make: Callable
    recipe: bool = False


def rows(subject: Subject) -> list[Row]:
    """What is measured on a network."""
    return [*essentials(subject), *recipes(subject), *(sweeps(subject) if subject.swept else ())]


def essentials(subject: Subject) -> list[Row]:
    """The methods without recipes, and without options that only `defaults` asks for."""
    return [*controls(), *everywhere(subject), *(attention if subject.kind == "transformer" else features)(subject)]


def without_sampling(subject: Subject) -> list[Row]:
    """The essential methods that do not average over masks, for what explains an image again and again."""
    masks = {method.name for method in jp.methods(mechanism="sampled masks")}
    return [row for row in essentials(subject) if row.method not in masks]


def controls() -> Iterator[Row]:
    """What knows nothing of the network."""
    yield Row("random map", "", random_map)
    yield Row("Gaussian in the middle", "", gaussian)


def everywhere(subject: Subject) -> Iterator[Row]:
    """Methods of all networks."""
    low, high = subject.bounds
    black = low.reshape(1, 1, 1, -1)
    side = subject.photographs[0].x.shape[1]
    window = max(4, side * 3 // 14)  # 48 pixels of 224
    yield named("gradient")
    yield named("input_x_gradient")
    yield named("integrated_gradients", "from black", baseline=black, steps=20, chunk=1)
    yield named("integrated_gradients", "from the mean", steps=20, chunk=1)
    yield named("smoothgrad", "stdev 0.15, 20 samples", samples=20, chunk=1)
    yield named("smoothgrad", "squared, 20 samples", samples=20, statistic="square", chunk=1)
    yield named("deconvnet")
    yield named("guided_backprop")
    yield named("deeplift", "from black", baseline=black)
    yield named("deeplift", "from the mean")
    yield named("full_grad")
    for name in ("epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "sequential_preset_a"):
        yield named("lrp", name, composite=name)
    yield named("lrp", "epsilon_plus without biases", composite=without_biases)
    yield named("lrp", "epsilon_gamma_box", composite=composites.epsilon_gamma_box(low, high))
    yield named("deep_taylor", low=low, high=high)
    yield named("contrastive_lrp", "z_plus")
    yield named("contrastive_lrp", "epsilon_plus_flat", composite=composites.epsilon_plus_flat())
    stride = (window // 2, window // 2)
    yield named("occlusion", f"windows of {window / side:.2f}", window=(window, window), stride=stride, chunk=1)
    yield named("rise", "100 masks", masks=100, chunk=1)


def sweeps(subject: Subject) -> Iterator[Row]:
    """Other options of methods of which `everywhere` has some."""
    white = subject.bounds[1].reshape(1, 1, 1, -1)
    for stdev in (0.05, 0.3):
        yield named("smoothgrad", f"stdev {stdev}, 20 samples", samples=20, stdev=stdev, chunk=1)
    yield named("smoothgrad", "stdev 0.15, 5 samples", samples=5, chunk=1)
    yield named("integrated_gradients", "from white", baseline=white, steps=20, chunk=1)
    yield named("blur_integrated_gradients", steps=20, chunk=1)
    yield named("kernel_shap", "7 x 7 cells, 100 samples", samples=100, chunk=1)
    if subject.kind == "convolutional":
        for name in ("hires_cam", "layer_cam"):
            for layer in ("before", "middle"):
                yield of_layer(name, subject, layer)


def named(method: str, options_in_words: str = "", **options) -> Row:
    """A method of the library with options."""
    label = f"{method}, {options_in_words}" if options_in_words else method
    return Row(label, method, partial(getattr(jp, method), **options))


def of_layer(method: str, subject: Subject, layer: str) -> Row:
    """A class activation map of a layer of the subject."""
    words = {"before": "before the last activation", "middle": "middle"}[layer]
    return named(method, words, layer=subject.layers[layer])


def features(subject: Subject) -> Iterator[Row]:
    """Methods of feature maps."""
    yield of_layer("excitation_backprop", subject, "middle")
    yield named("grad_cam", "last")
    yield of_layer("grad_cam", subject, "before")
    yield of_layer("grad_cam", subject, "middle")
    for name in ("hires_cam", "layer_cam", "grad_cam_plus_plus", "xgrad_cam", "eigen_cam", "fem", "guided_grad_cam"):
        yield named(name, "last")
    for of in ("output", "probability"):
        yield named("score_cam", f"by {of}, 32 channels", top=32, chunk=1, of=of)


def attention(subject: Subject) -> Iterator[Row]:
    """Methods of attention."""
    yield named("lrp", "attn_lrp", composite=composites.attn_lrp())
    yield named("lrp", "cp_lrp", composite=composites.cp_lrp())
    for name in ("attention_rollout", "attention_relevance", "legrad", "rfem"):
        yield named(name)
    yield named("rfem", "of the class", class_specific=True)
    yield named("grad_cam", "last tokens", layer=subject.layers["last"], grid=(7, 7))


def of_disconnected(subject: Subject) -> list[Row]:
    """The methods that are tried on the network that judges cells by themselves, those of features on its features.

    Without full_grad, which needs the batch in front in all layers, and without methods of probabilities, which a
    softmax would tie to all cells.
    """
    chosen = []
    for row in essentials(subject) if subject.any_size else ():
        if row.method == "full_grad" or "by probability" in row.label:
            continue
        layer = row.make.keywords.get("layer") if row.method else None
        if row.method in {m.name for m in jp.methods(needs="layer")}:
            explain = lambda f, row=row, layer=layer: row.make(disconnected(f, layer), layer=CELLS)
        else:
            of_output = {"of": "output"} if row.method == "rise" else {}
            explain = lambda f, row=row, of_output=of_output: row.make(disconnected(f), **of_output)
        chosen.append(replace(row, make=explain))
    return chosen


def recipes(subject: Subject) -> Iterator[Row]:
    """Products and means of methods, fixed before the first of them was measured; each of at most ten passes."""
    low, high = subject.bounds
    box = composites.epsilon_gamma_box(low, high)
    lrp = {
        "epsilon_plus": partial(jp.lrp, composite="epsilon_plus"),
        "epsilon_plus_flat": partial(jp.lrp, composite="epsilon_plus_flat"),
        "epsilon_gamma_box": partial(jp.lrp, composite=box),
        "deep_taylor": partial(jp.deep_taylor, low=low, high=high),
        "contrastive_lrp": jp.contrastive_lrp,
    }
    if subject.kind == "transformer":
        coarse, name = jp.attention_relevance, "attention_relevance"
    else:
        coarse, name = partial(jp.grad_cam, layer=subject.layers["before"]), "grad_cam"
    times = lambda *makes: lambda f: jp.multiply(*(make(f) for make in makes))
    mean = lambda *makes: lambda f: jp.ensemble([jp.heatmap(make(f)) for make in makes], normalize=True)
    for fine, make in lrp.items():
        yield Row(f"{fine} x {name}", "", times(make, coarse), recipe=True)
    three = (lrp["epsilon_plus_flat"], lrp["epsilon_gamma_box"])
    yield Row(f"mean of two lrp, x {name}", "", times(mean(*three), coarse), recipe=True)
    yield Row(f"mean of two lrp and {name}", "", mean(*three, coarse), recipe=True)
    augmented = lambda make: lambda f: jp.augment(make(f))
    for fine in ("epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box"):
        label = f"{fine} x {name}, mirrored"
        yield Row(label, "", augmented(times(lrp[fine], coarse)), recipe=True)
    yield Row("mean of two lrp, mirrored", "", augmented(mean(*three)), recipe=True)


def without_biases(unit):
    """`epsilon_plus` with z+ that gives biases nothing."""
    return (
        rules.z_plus(bias=False) if unit.kind == "conv" else rules.epsilon(bias=False) if unit.kind == "dense" else None
    )


def random_map(apply):
    """A control: independent Gaussian noise."""

    @jp.explainer(apply)
    def explain(f, x, target, key):
        return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:3], jnp.float32))(jnp.broadcast_to(key, x.shape[:1]))

    return explain


def gaussian(apply):
    """A control: the middle of the image, a quarter of its side wide."""

    @jp.explainer(apply)
    def explain(f, x, target, key):
        bell = lambda size: np.exp(-(((np.arange(size) + 0.5) / size - 0.5) ** 2) / (2 * 0.25**2))
        plane = jnp.asarray(np.outer(bell(x.shape[1]), bell(x.shape[2])), jnp.float32)
        return jnp.broadcast_to(plane, x.shape[:3])

    return explain
