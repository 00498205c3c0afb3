"""The networks that are explained, and the images that they are explained on."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from PIL import Image

from benchmarks import patterns, trained
from jaxplain import metrics, models
from jaxplain.evaluation import Example
from jaxplain.features._tap import features_of

SURE = 0.5  # the least probability of the photographs of a mosaic
CELL = 160  # pixels of a photograph in a mosaic


@dataclass(frozen=True)
class Subject:
    """A network with what it is explained on.

    Attributes:
      name: of the network.
      kind: ``"convolutional"`` or ``"transformer"``.
      data: what the images are, in words.
      apply: ``apply(*context, x) -> logits``.
      context: its variables.
      bounds: the least and the largest value of each colour of its inputs.
      grey: the value of a mean image, which deletion leaves.
      photographs: images of which the true class is explained.
      mosaics: images of 2 x 2 photographs of different classes, with the cell that is asked for.
      classes: how many there are.
      any_size: whether the network takes images of any size.
      layers: ``"before"``, in front of the last activation; ``"middle"``, a feature map half-way; for transformers
        ``"last"``, the tokens in front of the last attention.
      stages: layers to randomise, first to last.
      swept: whether all options are measured that `defaults` compares.
    """

    name: str
    kind: str
    data: str
    apply: Callable[..., jax.Array]
    context: tuple[Any, ...]
    bounds: tuple[np.ndarray, np.ndarray]
    photographs: tuple[Example, ...]
    mosaics: tuple[Example, ...]
    classes: int
    any_size: bool
    layers: dict[str, str]
    stages: tuple[str, ...]
    swept: bool = True

    @property
    def mosaics_of_absent_classes(self) -> tuple[Example, ...]:
        """The mosaics, each asked for a class that is not in it, with the cell it was asked for before."""
        random = np.random.default_rng(0)
        absent = lambda e: random.choice(np.setdiff1d(np.arange(self.classes), e.truth["classes"]))
        return tuple(replace(e, target=int(absent(e)), truth={"cell": e.truth["cell"]}) for e in self.mosaics)

    @property
    def disconnected_mosaics(self) -> tuple[Example, ...]:
        """The mosaics for a network that judges every cell by itself, whose outputs are all classes of all cells."""
        score = lambda e: e.truth["cell"] * self.classes + e.target
        return tuple(replace(e, target=score(e)) for e in self.mosaics if self.any_size)


def efficientnet(number: int, folder: Path, counts: tuple[int, int]) -> Subject:
    """An EfficientNet-Lite with its ImageNet weights, on photographs whose names begin with their class."""
    load = (models.efficientnet_lite0, models.efficientnet_lite1, models.efficientnet_lite2)[number]
    module, variables, preprocess = load()
    small = models.Preprocess(preprocess.mean, preprocess.std, CELL * 8 // 7, CELL, preprocess.interpolation)
    last = max(int(name.split(".")[1]) for name in variables["params"] if name.startswith("_blocks."))
    middle = [f"_blocks.{i}" for i in range(last + 1)][-6]  # the last one of 14 x 14 positions is the sixth from behind
    return Subject(
        f"EfficientNet-Lite{number}",
        "convolutional",
        "ImageNet photographs",
        module.apply,
        (variables,),
        preprocess.bounds,
        tuple(itertools.islice(photographs(folder, preprocess), counts[0])),
        tuple(mosaics(module.apply, (variables,), list(photographs(folder, small)), counts[1])),
        1000,
        True,
        {"before": "_bn1", "middle": middle},
        ("_conv_stem", "_blocks.3", middle, f"_blocks.{last}", "_fc"),
        swept=number == 0,
    )


def photographs(folder: Path, preprocess: Callable) -> Iterator[Example]:
    """The photographs of a folder, in an order that mixes the classes."""
    files = sorted(path for path in folder.iterdir() if re.match(r"\d+.*\.(jpe?g|png)$", path.name, re.IGNORECASE))
    if not files:
        raise SystemExit(f"{folder} has no photographs whose names begin with the number of their class")
    for index in np.random.default_rng(0).permutation(len(files)):
        with Image.open(files[index]) as image:
            yield Example(files[index].name, preprocess(image), int(re.match(r"\d+", files[index].name)[0]))


def garments(name: str, folder: Path, counts: tuple[int, int]) -> Subject:
    """One of the small networks that were trained here, on the test images of Fashion-MNIST."""
    graph, state = nnx.split(trained.network(name))
    apply = lambda state, x: nnx.merge(graph, state)(x)
    images, labels = trained.fashion(folder)[1]
    half = trained.halved(images)
    whole = [Example(f"garment {i}", images[i : i + 1], int(labels[i])) for i in range(counts[0])]
    small = [Example(f"garment {i}", half[i : i + 1], int(labels[i])) for i in range(20 * counts[1])]
    blocks = tuple(f"blocks/{i}" for i in range(4))
    layers, stages = {
        "vgg": ({"before": "convs/3", "middle": "convs/2"}, (*(f"convs/{i}" for i in range(4)), "hidden", "head")),
        "resnet": ({"before": "blocks/3/bn2", "middle": "blocks/2"}, ("stem", *blocks, "head")),
        "vit": ({"last": "blocks/3/norm1"}, ("patches", *blocks, "head")),
    }[name]
    low, high = (np.full(1, (value - trained.MEAN) / trained.STD, np.float32) for value in (0, 1))
    return Subject(
        {"vgg": "VGG, small", "resnet": "ResNet, small", "vit": "ViT, small"}[name],
        "transformer" if name == "vit" else "convolutional",
        "Fashion-MNIST",
        apply,
        (state,),
        (low, high),
        tuple(whole),
        tuple(mosaics(apply, (state,), small, counts[1], empty=-trained.MEAN / trained.STD)),
        trained.CLASSES,
        name == "resnet",
        layers,
        stages,
    )


def planted(counts: tuple[int, int]) -> Subject:
    """The small ResNet that was trained on images of which the evidence is known, with the evidence as a mask."""
    graph, state = nnx.split(trained.network("patterns"))
    apply = lambda state, x: nnx.merge(graph, state)(x)
    whole, cells = patterns.images(counts[0], seed=1), patterns.cells(20 * counts[1], seed=3)
    kind = {name: kind for kind, names in patterns.KINDS.items() for name in names}
    photographs = [
        Example(f"{kind[patterns.NAMES[label]]} {grade} {i}", whole.images[i : i + 1], int(label), {"mask": mask[None]})
        for i, (label, grade, mask) in enumerate(zip(whole.labels, whole.grades, whole.masks, strict=True))
    ]
    small = [Example(f"pattern {i}", cells.images[i : i + 1], int(label)) for i, label in enumerate(cells.labels)]
    return Subject(
        "ResNet of patterns",
        "convolutional",
        "patterns planted in noise",
        apply,
        (state,),
        (np.full(1, -patterns.BOUND, np.float32), np.full(1, patterns.BOUND, np.float32)),
        tuple(photographs),
        tuple(mosaics(apply, (state,), small, counts[1], empty=0.0)),
        len(patterns.NAMES),
        True,
        {"before": "blocks/3/bn2", "middle": "blocks/2"},
        ("stem", *(f"blocks/{i}" for i in range(4)), "head"),
    )


def mosaics(apply, context, examples, count, empty=None):
    """Mosaics of images of different classes that the network is sure of by themselves.

    With a value that stands for nothing, ``empty``, a network of one size of images judges each in the first quarter of
    an image that is empty else.
    """
    alone = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1]), (0, x.shape[2]), (0, 0)), constant_values=empty)
    forward = jax.jit(lambda x: jax.nn.softmax(apply(*context, x if empty is None else alone(x))))
    chances = [np.asarray(forward(e.x))[0] for e in examples]
    sure = [e for e, p in zip(examples, chances, strict=True) if p.argmax() == e.target and p.max() >= SURE]
    right = sum(int(p.argmax()) == e.target for e, p in zip(examples, chances, strict=True))
    print(f"{right} of {len(examples)} images of mosaics are classified rightly, {len(sure)} for sure", flush=True)
    images, labels = np.concatenate([e.x for e in sure]), np.array([e.target for e in sure])
    grids = metrics.grid_images(images, labels, jax.random.key(0), grids=count)
    return [
        Example(
            f"mosaic {i}",
            grids.images[i : i + 1],
            int(grids.labels[i, i % 4]),
            {"cell": i % 4, "classes": np.asarray(grids.labels[i])},
        )
        for i in range(count)
    ]


def disconnected(apply: Callable[..., jax.Array], layer: str | None = None) -> Callable[..., jax.Array]:
    """The network of DiFull (Rao, Böhle, Schiele 2022), which judges every cell of a mosaic by itself.

    Its outputs are all classes of the first cell, then those of the second, and so on. The features of a layer are laid
    out as the cells are, in one feature map of that name.

    Args:
      apply: ``apply(*context, x) -> logits (N, classes)``, for images of any size.
      layer: the layer whose features are laid out; None takes the last feature map.
    """

    def judged_by_cell(*args: Any) -> jax.Array:
        *context, x = args
        features, head = features_of(lambda cells: apply(*context, cells), cells_of(x), layer)
        grid = checkpoint_name(mosaic_of(features), CELLS)
        return head(cells_of(grid)).reshape(len(x), -1)

    return judged_by_cell


CELLS = "cells"
"""The name of the features of all cells in `disconnected`."""


def cells_of(mosaics: jax.Array) -> jax.Array:
    """The four cells of mosaics, one after the other: ``(N, 2 H, 2 W, C)`` to ``(4 N, H, W, C)``."""
    n, height, width, channels = mosaics.shape
    cells = mosaics.reshape(n, 2, height // 2, 2, width // 2, channels)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(4 * n, height // 2, width // 2, channels)


def mosaic_of(cells: jax.Array) -> jax.Array:
    """The way back: ``(4 N, H, W, C)`` to ``(N, 2 H, 2 W, C)``."""
    count, height, width, channels = cells.shape
    tiles = cells.reshape(count // 4, 2, 2, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(count // 4, 2 * height, 2 * width, channels)
