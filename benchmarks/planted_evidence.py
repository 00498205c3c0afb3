"""Whether maps find evidence that is known: new methods, and the best of the older ones on the same images.

    pip install '.[test]' && python -m benchmarks.planted_evidence FASHION PHOTOGRAPHS

explains three networks on images of which the evidence is known, as it was put there, and writes
`benchmarks/results/planted_evidence.md`:

* *patches*: a vision transformer whose weights are set by hand, `tests/planted.py`, of 4 x 4 tokens. A patch decides
  the class by construction: one in an image of noise, or two of different classes, of which one is asked for.
* *garments*: the vision transformer that `benchmarks.trained` trained on Fashion-MNIST, of 7 x 7 tokens. Two or four
  garments of different classes, 14 x 14 pixels each, in the quarters of an image; the class of one is asked for.
* *photographs*: EfficientNet-Lite0. Four ImageNet photographs of different classes, 112 x 112 pixels each, in the
  quarters of an image. PHOTOGRAPHS is a folder of such whose names begin with the number of their class.

Garments and photographs are those that the network is sure of alone, with a probability of at least 1/2: garments in
their quarter of an empty image. Two things are measured: *found*, whether the largest value of the map lies in the
evidence (the pointing game; of several equal values, which share of them does), and *share*, how much of the positive
part of the map lies there (with four in the image: the grid pointing game). Maps of gradients are taken by their norm
over colours, others are summed.

Intervals are those of Student's t over images, 95 %. Differences are paired: to the older method that has the largest
mean, on the images that both explain. That one was chosen by its success on these images, which flatters it a little.
Methods of random samples evaluate the network 136 to 200 times, and see fewer images. Everything is drawn from seeds,
the same on every run. It can be stopped and goes on where it was: numbers are kept in `--records`.
"""

import argparse
import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

import jaxplain
from benchmarks import trained
from jaxplain import composites, metrics, models, perturbation, rules
from jaxplain._intervals import half_width
from jaxplain.evaluation import Example, Measure, evaluate, open_records
from jaxplain.evaluation._table import by_method, markdown_table
from tests import planted

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "planted_evidence.md"
CELL, HALF, SURE = 112, trained.SIZE // 2, 0.5
MANY, FEW = 48, 24  # images of each kind: for most methods, for those of random samples


def found(attribution, mask):
    """Whether the largest value of a map lies in the evidence; of several equal ones, which share of them does."""
    heat = attribution.sum(axis=-1) if attribution.ndim == 4 else attribution
    largest = heat == heat.max(axis=(1, 2), keepdims=True)
    return (largest & mask).sum(axis=(1, 2)) / largest.sum(axis=(1, 2))


MEASURES = {
    "found": Measure(found, "map", "higher"),
    "share": Measure(partial(metrics.attribution_localisation, positive_attributions=True), "map", "higher"),
}


class Row(NamedTuple):
    """A method with its options: whether it is new, and whether it evaluates the network a hundred times or more."""

    label: str
    make: object
    is_new: bool = False
    is_expensive: bool = False


class Kind(NamedTuple):
    """Images of one kind, and what they are in words."""

    name: str
    about: str
    examples: list


class Network(NamedTuple):
    """A network, ``apply(context, x)``, the methods that explain it and what is explained."""

    name: str
    apply: object
    context: object
    rows: list
    kinds: list


# ------------------------------------------------------------------------------------------------------------- methods


def of_transformers(tokens, size, black, layer):
    """Methods for a transformer of ``tokens x tokens``, which segments and windows are; what is hidden is black."""
    jp, hidden = jaxplain, {"baseline": black}
    grid = {"segments": perturbation.grid_segments((size, size), (tokens, tokens))}
    window = (size // tokens, size // tokens)
    samples = {"samples": 144, **grid, **hidden}
    cams = [] if layer is None else [partial(jp.grad_cam, layer=layer, grid=(tokens, tokens))]
    conv, dense = ("conv", rules.z_plus()), ("dense", rules.epsilon())
    as_it_was = composites.first_match(("norm", rules.pass_through()), conv, dense)
    return [
        Row("gradient", by_norm(jp.gradient)),
        Row("input_x_gradient", jp.input_x_gradient),
        Row("integrated_gradients", partial(jp.integrated_gradients, steps=20, **hidden)),
        Row("lrp, the identity at LayerNorm", lambda f: jp.lrp(f, as_it_was)),
        *(Row("grad_cam", cam) for cam in cams),
        Row("occlusion", partial(jp.occlusion, window=window, stride=window, **hidden)),
        Row("lime", partial(jp.lime, **samples), False, True),
        Row("kernel_shap", partial(jp.kernel_shap, **samples), False, True),
        Row("attention_rollout", jp.attention_rollout, True),
        Row("attention_relevance", jp.attention_relevance, True),
        Row("legrad", jp.legrad, True),
        Row("rfem", jp.rfem, True),
        Row("rfem, class_specific", partial(jp.rfem, class_specific=True), True),
        Row("lrp", jp.lrp, True),
        Row("lrp attn_lrp", lambda f: jp.lrp(f, "attn_lrp"), True),
        Row("lrp cp_lrp", lambda f: jp.lrp(f, "cp_lrp"), True),
        *(Row("concept_relevance", partial(of_strongest_channel, layer=layer), True) for _ in cams),
        *(Row("augment(grad_cam)", lambda f, cam=cam: jp.augment(cam(f)), True) for cam in cams),
        Row("augment(input_x_gradient)", lambda f: jp.augment(jp.input_x_gradient(f)), True),
        Row("xrai", partial(jp.xrai, steps=10, **grid), True, True),
        Row("feature_ablation", partial(jp.feature_ablation, **grid, **hidden), True),
        Row("sobol", partial(jp.sobol, **{**samples, "samples": 8 if tokens == 4 else 4}), True, True),
        Row("hsic", partial(jp.hsic, **samples), True, True),
    ]


def of_convolutions(bounds):
    """The methods for EfficientNet-Lite0; what is hidden is grey, segments and windows are half a cell wide."""
    jp, (low, high) = jaxplain, bounds
    grid = {"segments": perturbation.grid_segments((2 * CELL, 2 * CELL), (4, 4))}
    window = (CELL // 2, CELL // 2)
    return [
        Row("input_x_gradient", jp.input_x_gradient),
        Row("lrp epsilon_plus", jp.lrp),
        Row("lrp epsilon_gamma_box", lambda f: jp.lrp(f, composites.epsilon_gamma_box(low, high))),
        Row("contrastive_lrp", jp.contrastive_lrp),
        Row("grad_cam", jp.grad_cam),
        Row("occlusion", partial(jp.occlusion, window=window, stride=window)),
        Row("lime", partial(jp.lime, samples=136, **grid), False, True),
        Row("kernel_shap", partial(jp.kernel_shap, samples=136, **grid), False, True),
        Row("concept_relevance", partial(of_strongest_channel, layer="_bn1"), True),
        Row("augment(grad_cam)", lambda f: jp.augment(jp.grad_cam(f)), True),
        Row("augment(input_x_gradient)", lambda f: jp.augment(jp.input_x_gradient(f)), True),
        Row("xrai", partial(jp.xrai, steps=10, **grid), True, True),
        Row("feature_ablation", partial(jp.feature_ablation, **grid), True),
        Row("sobol", partial(jp.sobol, samples=8, **grid), True, True),
        Row("hsic", partial(jp.hsic, samples=136, **grid), True, True),
    ]


def by_norm(make):
    """A method whose maps of colours become their norm."""
    return lambda apply: jaxplain.heatmap(make(apply), "norm")


def of_strongest_channel(apply, layer):
    """Concept relevance of one channel: that which the most relevance goes through."""
    at_layer = jaxplain.lrp(apply, layer=layer)

    def explain(*args, target=None, key=None):
        relevance = at_layer(*args, target=target)
        strongest = relevance.reshape(-1, relevance.shape[-1]).sum(axis=0).argmax()  # of one image
        return jaxplain.concept_relevance(apply, layer=layer, channels=strongest)(*args, target=target)

    return explain


# -------------------------------------------------------------------------------------------------------------- images


def of_patches():
    """A network of `tests/planted.py`, and its patches."""
    one = planted.images(MANY, jax.random.key(0), step=planted.PATCH)
    left, right = planted.two_images(MANY, jax.random.key(1))
    is_left = jnp.arange(MANY) % 2 == 0  # which one is asked for
    boxes = jnp.where(is_left[:, None], left.boxes, right.boxes)
    two = planted.Planted(left.images, boxes, jnp.where(is_left, left.labels, right.labels))
    kinds = []
    for name, data in (("one patch", one), ("two patches", two)):
        masks = np.asarray(planted.masks(data.boxes))
        examples = [
            Example(f"{name} {i}", data.images[i : i + 1], int(data.labels[i]), {"mask": masks[i : i + 1]})
            for i in range(MANY)
        ]
        kinds.append(Kind(name, f"{name} of 8 x 8 pixels in noise, 32 x 32; a patch is 6 % of the image", examples))
    rows = of_transformers(4, planted.SIZE, 0.0, None)
    return Network("patches", lambda context, x: planted.transformer(x), jnp.zeros(()), rows, kinds)


def of_garments(folder):
    """The trained transformer, and garments in quarters."""
    graph, state = nnx.split(trained.network("vit"))
    apply = lambda state, x: nnx.merge(graph, state)(x)
    images, labels = (a[:1000] for a in trained.fashion(folder)[1])
    small, black = trained.halved(images), -trained.MEAN / trained.STD
    quarters = np.arange(len(small)) % 4
    alone = np.stack([quartered([garment], [quarter], black) for garment, quarter in zip(small, quarters, strict=True)])
    sure, how = sure_of(apply, state, alone, labels)
    rng = np.random.default_rng(0)
    kinds = []
    for count, name in ((2, "two garments"), (4, "four garments")):
        examples = []
        for i in range(MANY):
            chosen, places = different(sure, labels, count, rng), rng.permutation(4)[:count]
            image = quartered(small[chosen], places, black)[None]
            examples.append(Example(f"{name} {i}", image, int(labels[chosen[0]]), {"mask": cell(places[0], HALF)}))
        kinds.append(Kind(name, f"one of {name} of different classes in quarters of the image; alone, {how}", examples))
    return Network("garments", apply, state, of_transformers(7, trained.SIZE, black, "blocks/3/norm1"), kinds)


def quartered(images, places, background):
    """An image with some in its quarters."""
    side, channels = images[0].shape[0], images[0].shape[-1]
    whole = np.full((2, side, 2, side, channels), background, np.float32)
    for image, place in zip(images, places, strict=True):
        whole[place // 2, :, place % 2] = image
    return whole.reshape(2 * side, 2 * side, channels)


def cell(place, side):
    """A quarter of an image as a mask ``(1, H, W)``."""
    return quartered([np.ones((side, side, 1))], [place], 0)[None, ..., 0] > 0


def different(sure, labels, count, rng):
    """Some images of different classes."""
    kinds = rng.permutation(np.unique(labels[sure]))[:count]
    return [rng.choice(sure[labels[sure] == kind]) for kind in kinds]


def sure_of(apply, context, images, labels):
    """The images that a network is sure of, and how many these are, in words."""
    forward = jax.jit(lambda x: jax.nn.softmax(apply(context, x)))
    chances = np.concatenate([forward(images[i : i + 50]) for i in range(0, len(images), 50)])
    right = chances.argmax(axis=1) == labels
    sure = np.flatnonzero(right & (chances.max(axis=1) >= SURE))
    return sure, f"the network is right on {right.sum()} of {len(right)}, for sure on {len(sure)}"


def of_photographs(folder):
    """EfficientNet-Lite0, and mosaics."""
    module, variables, preprocess = models.efficientnet_lite0()
    small = dataclasses.replace(preprocess, resize=CELL * 8 // 7, crop=CELL)
    files = sorted(path for path in folder.iterdir() if re.match(r"\d+.*\.(jpe?g|png)$", path.name, re.IGNORECASE))
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    images = jnp.concatenate([small(Image.open(file)) for file in files])
    labels = np.array([int(re.match(r"\d+", file.name)[0]) for file in files])
    sure, how = sure_of(module.apply, variables, images, labels)
    grids = metrics.grid_images(images[sure], labels[sure], jax.random.key(0), grids=MANY)
    name = "mosaics of photographs"
    examples = [
        Example(f"{name} {i}", grids.images[i : i + 1], int(grids.labels[i, i % 4]), {"mask": cell(i % 4, CELL)})
        for i in range(MANY)
    ]
    kind = Kind(
        name, f"one of four photographs of different classes in the quarters of the image; alone, {how}", examples
    )
    return Network("photographs", module.apply, variables, of_convolutions(preprocess.bounds), [kind])


# ---------------------------------------------------------------------------------------------- measured and tabulated


def measure(network, records, limit=None):
    """The records of one network: most methods on all images, those of random samples on the first few of each kind."""
    records = open_records(records / f"{network.name}.jsonl", {"network": network.name})
    for is_expensive in (False, True):
        methods = {row.label: row.make(network.apply) for row in network.rows if row.is_expensive == is_expensive}
        most = limit or (FEW if is_expensive else MANY)
        examples = [example for kind in network.kinds for example in kind.examples[:most]]
        new = evaluate(network.apply, methods, MEASURES, examples, records, context=(network.context,))
        for done, record in enumerate(new, 1):
            if done % (10 * len(methods)) == 0:
                print(f"{record['image']}, {done} maps", flush=True)
    return records.done.values()


def section(kind, rows, records):
    """The table of one kind of images: the older methods and the new ones, each by how often it finds the evidence."""
    names = {example.name for example in kind.examples}
    values = by_method(record for record in records if record["image"] in names)
    mean = lambda label, column: float(np.mean(list(values[label][column].values())))
    old, new = ([row.label for row in rows if row.is_new == is_new] for is_new in (False, True))
    best = {column: max(old, key=lambda label: mean(label, column)) for column in MEASURES}
    heading = ["method", "n", *MEASURES, f"found, less {best['found']}", f"share, less {best['share']}"]
    lines = []
    for label in sorted([*old, *new], key=lambda label: [mean(label, column) for column in MEASURES], reverse=True):
        of = values[label]
        cells = [interval(list(of[column].values())) for column in MEASURES]
        cells += [
            "" if label == best[column] else interval(less(of[column], values[best[column]][column])) for column in best
        ]
        lines.append([f"**{label}**" if label in new else label, str(len(of["found"])), *cells])
    return (
        f"## {kind.name.capitalize()}\n\n{kind.about[0].upper()}{kind.about[1:]}.\n\n{markdown_table(heading, lines)}"
    )


def less(a, b):
    """Differences on the images that both have."""
    return [a[image] - b[image] for image in sorted(a.keys() & b.keys())]


def interval(numbers):
    """A mean with its 95 % interval, the half of its width behind it."""
    numbers = np.array(numbers, float)
    return f"{numbers.mean():.2f} ± {half_width(numbers):.2f}"


HEAD = """jaxplain {jaxplain.__version__} with jax {jax.__version__}, float32, on a CPU. New methods are in bold; how it
was measured, and what the columns are: `benchmarks/planted_evidence.py`. Means with 95 % intervals of Student's t over
images; differences are paired, to the older method with the largest mean in that column."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--records", type=Path, default=ROOT / "build" / "planted_evidence", help="what is measured")
    parser.add_argument("--limit", type=int, help="at most so many images of each kind, to try it out")
    options = parser.parse_args()
    options.records.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(options.records.resolve() / "compiled"))
    sections = [HEAD.format(jaxplain=jaxplain, jax=jax)]
    for network in (of_patches(), of_garments(options.fashion), of_photographs(options.photographs)):
        records = measure(network, options.records, options.limit)
        sections += [section(kind, network.rows, records) for kind in network.kinds]
    OUT.write_text("\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main()
