"""The network to explain: one of the library's, or the user's own, and its classes by number or name."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from .. import models
from .._channels import channel_axis
from .._text import did_you_mean
from ..propagation import composites
from ..propagation._engine import Composite
from ._terminal import ImageError, UsageError

MODELS = ("efficientnet_lite0", "vgg16", "resnet18", "resnet50", "mobilenet_v2", "densenet121")
COMPOSITES = (
    *("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"),
    *("sequential_preset_a", "sequential_preset_a_flat", "sequential_preset_b", "sequential_preset_b_flat"),
)
LONGEST = 1280  # pixels along a side of a photograph as it is shown
SIGNATURE = "(apply, variables, preprocess, class names)"


@dataclass(frozen=True)
class Shown:
    """A photograph as it is shown.

    Attributes:
      pixels: ``(H, W, 3)`` uint8, large photographs made smaller.
      box: ``(4,)``, what the network sees of it: left, top, right, bottom in these pixels.
    """

    pixels: np.ndarray
    box: np.ndarray

    @property
    def share(self) -> float:
        """How much of the photograph the network sees."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) / (self.pixels.shape[0] * self.pixels.shape[1])


@dataclass(frozen=True)
class Network:
    """A classifier as `--model` names it.

    Attributes:
      name: what the user calls it.
      apply: ``apply(variables, images) -> logits``.
      variables: any pytree of arrays.
      preprocess: a list of RGB images -> ``(N, H, W, C)`` or ``(N, C, H, W)`` floats, as the network takes them.
      classes: the names of the classes, or None.
    """

    name: str
    apply: Callable[..., Any]
    variables: Any
    preprocess: Callable[..., Any]
    classes: Sequence[str] | None

    def prepare(self, image: Image.Image) -> tuple[np.ndarray, Shown]:
        """The input made of one image, a batch of one, and the photograph with the part that the input shows."""
        with one_sentence("preprocess fails", ImageError):
            x = np.asarray(self.preprocess([image]))
            if x.ndim != 4 or len(x) != 1:
                raise ValueError(f"it made an input of shape {x.shape} from one image instead of (1, H, W, C)")
            boxes, view = (getattr(self.preprocess, name, None) for name in ("boxes", "view"))
            if view and not boxes:  # which tells what is seen, but not where
                image = Image.fromarray(np.asarray(view([image]))[0])
            box = np.asarray(boxes([image]), float)[0] if boxes else np.array([0.0, 0.0, *image.size])
        factor = min(1, LONGEST / max(image.size))
        width, height = (max(1, round(factor * side)) for side in image.size)
        scale = np.divide((width, height), image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS) if factor < 1 else image)
        return x, Shown(pixels, (box.reshape(2, 2) * scale).ravel())

    def channels(self, x: np.ndarray) -> int:
        """The axis of the input's channels, which the network tells at the first image."""
        if "axis" not in vars(self):
            with one_sentence(f"{self.name} does not take an input of shape {x.shape}"):
                vars(self)["axis"] = channel_axis(lambda x: self.apply(self.variables, x), x)
        return vars(self)["axis"]

    def check(self, x: np.ndarray, label: int | None) -> None:
        """See, without computing anything, that the network classifies and has the class in question."""
        with one_sentence(f"{self.name} does not take an input of shape {x.shape}"):
            logits = jax.eval_shape(self.apply, self.variables, x)
        shape = getattr(logits, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != len(x):
            what = type(logits).__name__ if shape is None else f"shape {shape}"
            raise UsageError(f"{self.name}: apply returns {what} for {len(x)} images instead of logits (N, classes)")
        if self.classes is not None and len(self.classes) != shape[1]:
            raise UsageError(f"{self.name} has {shape[1]} outputs and {len(self.classes)} class names")
        if label is not None and label >= shape[1]:
            raise UsageError(f"--target {label}: {self.name} has the classes 0 to {shape[1] - 1}")

    def class_name(self, index: int) -> str:
        """The name of a class, or its number where it has none."""
        return f"class {index}" if self.classes is None else self.classes[index]

    def find_class(self, text: str) -> int:
        """The number of a class given by its number, its name, or one of its comma-separated names."""
        classes = self.classes or []
        if text.isdecimal():
            return int(text)
        wanted = text.casefold()
        names = [[name.casefold(), *(part.strip().casefold() for part in name.split(","))] for name in classes]
        found = [index for index, synonyms in enumerate(names) if wanted in synonyms]
        if len(found) > 1:
            raise UsageError(f"--target {text} is the name of classes {', '.join(map(str, found))}: give the number")
        if not found:
            known = did_you_mean(wanted, (synonym for synonyms in names for synonym in synonyms[1:]))
            raise UsageError(f"--target {text} is no class of {self.name}{known}")
        return found[0]


def find_composite(name: str, network: Network) -> Composite:
    """The composite that `--composite` names; the bounds of a box are those of the network's preprocessing."""
    if name not in COMPOSITES:
        raise UsageError(f"--composite {name} is none of {', '.join(COMPOSITES)}{did_you_mean(name, COMPOSITES)}")
    if name != "epsilon_gamma_box":
        return getattr(composites, name)()
    bounds = getattr(network.preprocess, "bounds", None)
    if bounds is None:
        raise UsageError(
            f"--composite {name} needs the bounds of the input: give preprocess an attribute bounds = (low, high)"
        )
    return composites.epsilon_gamma_box(*bounds)


def load(name: str, checkpoint: Path | None) -> Network:
    """Load the network that `--model` names."""
    if ":" in name:
        if checkpoint:
            raise UsageError(f"--checkpoint is for the library's networks; {name} loads its own weights")
        return load_own(name)
    if name not in MODELS:
        raise UsageError(
            f"--model {name} is neither package.module:function nor a known network{did_you_mean(name, MODELS)}"
        )
    make = getattr(models, name)
    if checkpoint is None and name != "efficientnet_lite0":
        raise UsageError(f"--model {name} comes without weights: pass --checkpoint FILE with those of torchvision")
    try:
        module, variables, preprocess = make(checkpoint) if checkpoint else make()
        classes = models.imagenet_classes()
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--model {name}: {error}") from error
    return Network(name, module.apply, variables, preprocess, classes)


def load_own(name: str) -> Network:
    """Load a network from ``package.module:function``, looked up in the current folder as well."""
    module_name, _, function_name = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    with one_sentence(f"--model {name}: {module_name} cannot be imported"):
        module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(
            f"--model {name}: {module_name} has no function {function_name}{did_you_mean(function_name, dir(module))}"
        )
    with one_sentence(f"--model {name} failed"):
        made = function()
    if not isinstance(made, tuple) or len(made) != 4 or not callable(made[0]) or not callable(made[2]):
        raise UsageError(f"--model {name} must return {SIGNATURE}, the first and the third of them functions")
    apply, variables, preprocess, classes = made
    return Network(name, apply, variables, preprocess, None if classes is None else [str(c) for c in classes])


@contextmanager
def one_sentence(what: str, kind: type[Exception] = UsageError) -> Iterator[None]:
    """Tell a mistake in the user's own code, and its place, in one sentence."""
    try:
        yield
    except Exception as error:
        file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).splitlines() or [""])[0]
        place = f" ({file}:{line})" if Path(file).exists() else ""
        raise kind(f"{what}: {type(error).__name__}: {reason}{place}") from error
