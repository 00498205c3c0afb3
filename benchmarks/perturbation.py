"""What perturbation and adversarial methods find: on photographs and EfficientNet-Lite0, and on planted evidence.

    pip install '.[test]' && python -m benchmarks.perturbation FOLDER [PART ...]

writes `benchmarks/results/perturbation.md`, over ten photographs evenly spaced in the folder (removal: over all of
them); with names of parts (masks, removal, changes, gate, planted, cost), these parts of it anew. Every method runs
with its default options but for planted evidence, whose images of 32 pixels want smaller windows.
"""

import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

import jaxplain
from jaxplain import models, perturbation
from jaxplain._images import gaussian_blur
from jaxplain.perturbation import _attacks as attacks
from jaxplain.perturbation._adversarial import (
    ascend,
    draw_others,
    layer_features,
    minimise,
    optimise_pair,
    perceptual_loss,
)
from jaxplain.perturbation._extremal import blur_pyramid, smooth_mask
from jaxplain.perturbation._fgvis import gated, lane_of
from tests import planted

OUT = Path(__file__).parent / "results" / "perturbation.md"
MODULE, VARIABLES, PREPROCESS = models.efficientnet_lite0()
APPLY, BOUNDS = MODULE.apply, PREPROCESS.bounds
PHOTOGRAPHS = 10
GREY_LEVEL = 2 / 255  # the network's pixels are from -1 to 1
LBFGS = optax.lbfgs(1.0, linesearch=None)


@jaxplain.accelerate
def network(x):
    return MODULE.apply(VARIABLES, x)


def photographs(folder):
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return {file.stem: PREPROCESS(Image.open(file)) for file in files}


def evenly(images):
    chosen = list(images)[:: max(1, len(images) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    return {name: images[name] for name in chosen}


def table(*rows):
    """Markdown; the first row is the header."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


# ------------------------------------------------------------------------------------------------------ learned masks


@jax.jit
def probabilities(x):
    return jax.nn.softmax(network(x))


def tenth(mask):
    """The tenth of the pixels where a mask is largest, as a mask."""
    ranks = mask.reshape(len(mask), -1).argsort(axis=1).argsort(axis=1).reshape(mask.shape)
    return (ranks >= 0.9 * mask[0].size).astype(mask.dtype)


@jax.jit
def extremal_measures(x, mask, label, key):
    """Of a mask, and of ten drawn at random and enlarged alike: how far from a step, the probability of its tenth."""
    ranked = jnp.sort(mask.ravel())
    step = jnp.arange(ranked.size) >= 0.9 * ranked.size
    perturb = blur_pyramid(x, 8, 20.0)
    kept = lambda mask: jax.nn.softmax(network(perturb(tenth(mask))))[0, label]
    draw = lambda key: smooth_mask(jax.random.uniform(key, (1, 32, 32)), x.shape[1:3], 7, 21.0)
    random = jax.lax.map(lambda key: kept(draw(key)), jax.random.split(key, 10))
    return jnp.abs(ranked - step).mean(), kept(mask), random


@jax.jit
def without(removed, x):
    """The share of the predicted class's probability that is left without a part of the images, and how large it is."""
    before, after = probabilities(x), probabilities((1 - removed) * x + removed * gaussian_blur(x, 10.0))
    label = before.argmax(axis=1)[:, None]
    share = jnp.take_along_axis(after, label, 1) / jnp.take_along_axis(before, label, 1)
    return share[:, 0], removed.mean(axis=(1, 2, 3))


def masks(images):
    """Learned masks: what is left of the class, against how much of the image is taken or kept."""
    explain = {
        "meaningful": jax.jit(perturbation.meaningful_perturbation(APPLY)),
        "extremal": jax.jit(perturbation.extremal_perturbation(APPLY)),
    }
    rows, held = [], np.zeros(3, int)
    for i, (name, x) in enumerate(images.items()):
        maps = {method: e(VARIABLES, x, key=jax.random.key(i)) for method, e in explain.items()}
        before = probabilities(x)[0]
        label = int(before.argmax())
        (left,), (area,) = without(maps["meaningful"][..., None], x)
        off, kept, random = extremal_measures(x, maps["extremal"], label, jax.random.key(i))
        held += np.array([left < 0.05 and area < 0.3, off < 0.05, kept > random.mean()])
        rows.append(
            (
                *(name, f"{before[label]:.2f}", f"{left:.1%}", f"{area:.0%}"),
                *(f"{off:.1%}", f"{kept:.2f}", f"{random.mean():.2f}", f"{int((kept > random).sum())} of 10"),
            )
        )
    header = (
        *("photograph", "p", "meaningful: left of p", "image removed", "extremal: off its step"),
        *("p of its tenth", "of random tenths", "random ones beaten"),
    )
    return f"""Meaningful perturbation: the probability of the predicted class where the map has been blurred away,
relative to the whole image's, and the mean of the map. Below 5 % with less than 30 % removed: **{held[0]} of
{len(images)}**.

Extremal perturbation: the mean distance of the sorted mask from its step function (within 5 %: **{held[1]} of
{len(images)}**), and the probability of the class with the tenth of the pixels kept where the mask is largest, next to
ten smooth masks drawn at random, of the same generator and area (above their mean: **{held[2]} of {len(images)}**).

{table(header, *rows)}"""


def removal(images):
    """Meaningful perturbation over many photographs."""
    explain = jax.jit(perturbation.meaningful_perturbation(APPLY))
    names, left, area = list(images), [], []
    for start in range(0, len(names), PHOTOGRAPHS):
        x = jnp.concatenate([images[name] for name in names[start : start + PHOTOGRAPHS]])
        keys = jax.vmap(jax.random.key)(jnp.arange(start, start + len(x)))
        removed = explain(VARIABLES, x, key=keys)[..., None]
        for found, values in zip((left, area), without(removed, x), strict=True):
            found.extend(np.asarray(values))
    left, area = np.array(left), np.array(area)
    held = (left < 0.05) & (area < 0.3)
    groups = [int(held[i::PHOTOGRAPHS].sum()) for i in range(PHOTOGRAPHS)]
    rows = [(name, f"{left[i]:.1%}", f"{area[i]:.0%}") for i, name in enumerate(names) if not held[i]]
    return f"""All {len(names)} photographs, as above: less than 5 % of p left with less than 30 % of the image removed
in **{held.sum()}**; of p, {np.median(left):.1%} was left (median; at most {left.max():.1%}), of the image
{np.median(area):.0%} was removed (median; at most {area.max():.0%}). Taking every {PHOTOGRAPHS}th photograph from the
first, the second and so on: {", ".join(map(str, groups))}. The others are:

{table(("photograph", "left of p", "image removed"), *rows)}"""


# ------------------------------------------------------------------------------------ changes that reach another class


def clip(x):
    return attacks.clipper(BOUNDS, x)


# A method: (photograph, its class as a one-hot row, key) -> (images, the classes it is after, as rows of 0 and 1).


def fgsm(x, chosen, key):
    return attacks.fgsm(network, epsilon=GREY_LEVEL, bounds=BOUNDS)(x), 1 - chosen


def pgd(x, chosen, key):
    attack = attacks.pgd(network, epsilon=GREY_LEVEL, step=GREY_LEVEL / 4, steps=10, bounds=BOUNDS)
    return attack(x, key=key), 1 - chosen


def deepfool(x, chosen, key):
    return x + attacks.deepfool(network)(x), 1 - chosen


def adversarial_gradient_integration(x, chosen, key):
    goals = jax.nn.one_hot(draw_others(key, chosen[0], 5), chosen.shape[1])  # five paths of the twenty
    ends, _ = ascend(network, x, chosen, goals[:, None], jnp.ones((5, 1), bool), clip(x), 0.05, 20)
    return ends[:, 0], goals


def perceptual_ball(x, chosen, key):
    loss = perceptual_loss(network, layer_features(network, x, 6), x, chosen, 1e2, 2.0)
    return minimise(loss, x, LBFGS, 100), 1 - chosen


def similar_adversarial(x, chosen, key):
    similar, adversarial = optimise_pair(network, x, chosen, clip(x), 1.0, 1.0, LBFGS, 100)
    return jnp.concatenate([similar, adversarial]), jnp.concatenate([chosen, 1 - chosen])


def fgvis_deletion(x, chosen, key):
    return x * (1 - perturbation.fgvis(network)(x)), 1 - chosen


def fgvis_preservation(x, chosen, key):
    return x * perturbation.fgvis(network, game="preservation")(x), chosen


CHANGES = (
    *(fgsm, pgd, deepfool, adversarial_gradient_integration, perceptual_ball),
    *(similar_adversarial, fgvis_deletion, fgvis_preservation),
)


def changes(images):
    """How often the methods reach the class that they are after."""

    def measured(method):
        def measure(x, key):
            chosen = jax.nn.one_hot(network(x).argmax(axis=1), 1000)
            images, wanted = method(x, chosen, key)
            seen = jax.nn.one_hot(network(images).argmax(axis=1), 1000)
            return (seen * wanted).sum(axis=1), jnp.sqrt(((images - x) ** 2).mean(axis=(1, 2, 3)))

        return jax.jit(measure)

    rows = []
    for method in CHANGES:
        measure = measured(method)
        results = [measure(x, jax.random.key(i)) for i, x in enumerate(images.values())]
        reached, distance = (np.concatenate(values) for values in zip(*results, strict=True))
        distances = f"{np.median(distance):.4f}", f"{distance.max():.4f}"
        rows.append((method.__name__, f"{int(reached.sum())} of {reached.size}", *distances))
        print(rows[-1], flush=True)
    return f"""In how many images the network sees what the method is after: another class; for the similar one of a
pair and for preservation, the same class; for adversarial gradient integration, the class of the path. The distance of
these images from the photograph is the root of the mean square over pixels and colours, of pixels from -1 to 1.

{table(("method", "reached", "distance: median", "largest"), *rows)}"""


def gate(images):
    """FGVis's gate at e = x."""

    @jax.jit
    def difference(x):
        probability = lambda rule: lambda e: jax.nn.softmax(lane_of(network, x, rule)(e)).max(axis=1).sum()
        plain, behind = (jax.grad(probability(rule))(x) for rule in (gated(None), gated(0.0)))
        return jnp.abs(behind - plain).max() / jnp.abs(plain).max()

    largest = max(float(difference(x)) for x in images.values())
    return f"""At e = x the gate of FGVis leaves the gradient of the predicted class's probability as it is: the
largest difference is {largest:.0e} of the gradient's largest value."""


# ---------------------------------------------------------------------------------------------------- planted evidence

SEGMENTS = perturbation.grid_segments((planted.SIZE, planted.SIZE), (8, 8))  # of 4 x 4 pixels
PLANTED = {  # name: (method, options for images of 32 pixels and patches of 8, which the defaults are not made for)
    "occlusion": (perturbation.occlusion, {"window": (4, 4), "stride": (2, 2)}),
    "rise": (perturbation.rise, {}),
    "lime": (perturbation.lime, {"segments": SEGMENTS}),
    "kernel_shap": (perturbation.kernel_shap, {"segments": SEGMENTS}),
    "meaningful_perturbation": (
        perturbation.meaningful_perturbation,
        {"factor": 2, "mask_blur": 1.0, "image_blur": 5.0, "jitter": 1},
    ),
    "extremal_perturbation": (
        perturbation.extremal_perturbation,
        {"areas": (0.05,), "step": 2, "sigma": 4.0, "max_blur": 5.0},
    ),
    "fgvis": (perturbation.fgvis, {}),
    "adversarial_gradient_integration": (perturbation.adversarial_gradient_integration, {}),
    "perceptual_ball": (perturbation.perceptual_ball, {"blur": 0.3}),
    "perceptual_ball, gamma=1": (perturbation.perceptual_ball, {"blur": 0.3, "gamma": 1.0}),
    "similar_adversarial": (perturbation.similar_adversarial, {}),
    "deepfool": (perturbation.deepfool, {}),
}


def found(method, options, data):
    """Of which images the maximum of a method's map is in the patch."""
    explain = jax.jit(jaxplain.heatmap(method(planted.network, **options), "norm"))
    return planted.inside(explain(data.images, target=data.labels, key=jax.random.key(1)), data.boxes)


def evidence(images):
    """Planted evidence."""
    data = planted.images(100, jax.random.key(0))
    rows = []
    for name, (method, options) in PLANTED.items():
        share = int(found(method, options, data).sum())
        told = [f"{k} {'8 x 8' if k == 'segments' else v}" for k, v in options.items()]
        rows.append((name.split(",")[0], share, ", ".join(told) or "none"))
        print(rows[-1], flush=True)
    return f"""100 images of noise, 32 x 32, whose class is decided by a patch of 8 x 8 (`tests/planted.py`): in how
many the maximum of the map (over colours: the norm) is inside of the patch.

{table(("method", "of 100", "options other than the defaults"), *rows)}"""


# -------------------------------------------------------------------------------------------------------------- costs

TWICE = {  # method: options for about 512 masks, for about 8192
    "rise": ({"masks": 512}, {"masks": 8192}),
    "lime": ({"samples": 512}, {"samples": 8192}),
    "kernel_shap": ({"samples": 512}, {"samples": 8192}),
    "occlusion": ({"window": (10, 10), "stride": (10, 10)}, {"window": (6, 6), "stride": (2, 3)}),  # 529, 8140
}


def cost(images):
    """Seconds and memory."""
    x = next(iter(images.values()))
    rows = []
    key = jax.random.key(0)

    def compiled(make, options):
        explain = jax.jit(make(APPLY, **options)).lower(VARIABLES, x, key=key).compile()
        return explain, f"{explain.memory_analysis().temp_size_in_bytes / 2**20:.1f}"

    for method in jaxplain.methods():
        if method.family not in ("perturbation", "adversarial"):
            continue
        explain, memory = compiled(method.make, {})
        start = time.process_time()  # others may use the machine, too
        explain(VARIABLES, x, key=key).block_until_ready()
        seconds = time.process_time() - start
        others = [compiled(method.make, options)[1] for options in TWICE.get(method.name, ())] or ["", ""]
        rows.append((method.name, method.cost, f"{seconds:.0f}", memory, *others))
        print(rows[-1], flush=True)
    header = ("method", "passes", "seconds", "MiB", "MiB, 512 masks", "MiB, 8192 masks")
    return f"""One photograph at the default options, compiled before: seconds of processor time, which
two cores share; and the memory that the compiled explanation takes beyond its arguments and results.

{table(header, *rows)}"""


PARTS = {
    "masks": ("Learned masks on photographs", masks),
    "removal": ("Meaningful perturbation on all photographs", removal),
    "changes": ("Reaching another class", changes),
    "gate": ("The gate of FGVis", gate),
    "planted": ("Planted evidence", evidence),
    "cost": ("Seconds and memory", cost),
}


def main(folder, *parts):
    images = photographs(folder)
    text = OUT.read_text() if OUT.exists() else ""
    sections = dict(re.findall(r"^## (.+)\n\n((?:.|\n)+?)\n(?=\n## |\Z)", text, re.MULTILINE))
    for part in parts or PARTS:
        title, measure = PARTS[part]
        sections[title] = measure(images if measure is removal else evenly(images))
        kept = [f"\n## {title}\n\n{sections[title]}\n" for title, _ in PARTS.values() if title in sections]
        head = f"jaxplain {jaxplain.__version__} with jax {jax.__version__}, float32, on a CPU; EfficientNet-Lite0.\n"
        OUT.write_text(head + "".join(kept))


if __name__ == "__main__":
    main(*sys.argv[1:])
