"""What is explained: images of any source, prepared for the network one at a time, each failure one sentence."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from PIL import Image

from ..evaluation._fingerprint import checksum, fingerprint
from ..models._reading import ImageError, checksum_of, read

PROBED = 100  # so many images are tried before all are thought to be unreadable
SAMPLED = 4  # of so many images the fingerprint looks at the contents

Preprocess: TypeAlias = Callable[[Sequence[Any]], Any]


class RandomAccess(Protocol):
    """What all sources are made: grain's ``RandomAccessDataSource``, a ``MapDataset``, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Source: TypeAlias = "str | os.PathLike[str] | RandomAccess | Iterable[Any]"


@dataclass(frozen=True)
class Example:
    """One image as the network takes it.

    Attributes:
      name: what tells it from the others.
      image: the input, without the axis of the batch; `None` where the image cannot be explained.
      label: its class, -1 where nobody said.
      truth: what metrics of maps compare them with.
      problem: why the image cannot be explained, the rest of a sentence that begins with the name.
    """

    name: str
    image: np.ndarray | None
    label: int = -1
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    problem: str = ""


class Examples:
    """The images of a source, ready for the network; ``examples[i]`` fails for none.

    Attributes:
      source: with random access, or an iterable that is read from the front.
      preprocess: a list of images -> ``(N, ...)`` floats, or None where the source has what the network takes.
      is_random: whether images can be read in any order.
      shape: of an image that the network takes; another one is a problem.
      classes: how many there are, where labels are asked for; another one is a problem.
    """

    def __init__(self, source: Source, preprocess: Preprocess | None) -> None:
        if isinstance(source, str | os.PathLike):
            source = Photographs(source)
        if not hasattr(source, "__len__"):
            raise TypeError(
                f"source is {type(source).__name__}, which has no length: pass a folder, a pattern such as "
                "'photographs/*.jpg', a grain data source or MapDataset, or a list of images"
            )
        self.source: Any = source if hasattr(source, "__getitem__") else FromTheFront(source)
        self.is_random = self.source is source
        self.preprocess = preprocess
        self.shape: tuple[int, ...] | None = None
        self.classes: int | None = None
        if not len(self.source):
            raise ValueError("source is empty: there is nothing to explain")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        name = name_of(self.source, index)
        try:
            element = as_dict(self.source[index])
            name = str(element.get("name", name))
            return self.prepared(name, element)
        except ImageError as error:
            return Example(name, None, problem=str(error))
        except Exception as error:  # a source is the user's code, or a decoder's, and may raise anything
            reason = (str(error).splitlines() or [""])[0]
            return Example(name, None, problem=f"it cannot be read: {type(error).__name__}: {reason}")

    def prepared(self, name: str, element: Mapping[str, Any]) -> Example:
        """One element of the source as the network takes it."""
        # Fetched, then indexed: of an array of JAX that is a program, which waits for the batch that is explained.
        x = np.asarray(self.preprocess([element["image"]]))[0] if self.preprocess else np.asarray(element["image"])
        if not jax.numpy.issubdtype(x.dtype, jax.numpy.floating):
            raise ImageError(f"its input has dtype {x.dtype} instead of floating point: pass preprocess=")
        if self.shape is not None and x.shape != self.shape:
            raise ImageError(f"its input has shape {x.shape}, that of the first image {self.shape}")
        if not np.isfinite(x).all():
            raise ImageError("its input holds NaN or infinite values")
        label = int(element.get("label", -1))
        if self.classes is not None and not 0 <= label < self.classes:
            what = "it has no label" if label == -1 else f"its class {label} is out of range"
            raise ImageError(f"{what}: the network has classes 0 to {self.classes - 1}")
        truth = {k: np.asarray(v) for k, v in element.items() if k not in ("image", "label", "name")}
        return Example(name, x, label, truth)

    def probe(self) -> Example:
        """The first image that can be read, whose shape is that of all; every process finds the same one.

        Raises:
          ValueError: where none of the first hundred can be read.
        """
        problem = ""
        for index in range(min(PROBED, len(self))):
            example = self[index]
            if example.image is not None:
                self.shape = example.image.shape
                return example
            problem = problem or f"{example.name}: {example.problem}"
        raise ValueError(f"none of the first {min(PROBED, len(self))} images can be read: {problem}")

    def apart(self) -> Examples:
        """The same images for another reader, who does not go back where this one goes on."""
        if self.is_random:
            return self
        other = copy(self)
        other.source = FromTheFront(self.source.iterable)
        return other

    def fingerprints(self) -> dict[str, str]:
        """Checksums of the source and of what preprocessing makes of it, by the contents of a few images and all names.

        They tell another source or preprocessing in all likelihood and not for sure: nobody reads a million images
        before the first is explained.
        """
        spread = np.linspace(0, len(self) - 1, SAMPLED) if self.is_random else np.arange(min(SAMPLED, len(self)))
        some = sorted({int(i) for i in spread})
        contents = self.source.contents if isinstance(self.source, Photographs) else lambda i: pixels(self.source[i])
        raw = [tried(contents, index) for index in some]
        about = self.source.about() if isinstance(self.source, Photographs) else [str(len(self))]
        inputs = [(example.image, example.label) for example in map(self.__getitem__, some)]
        return {"source": checksum(chain(about, [fingerprint(raw)])), "preprocessing": fingerprint(inputs)}


def as_dict(element: Any) -> Mapping[str, Any]:
    """An element of a source as ``{"image", "label", "name"}``: it may be a pair of image and label, or an image."""
    if isinstance(element, Mapping):
        if "image" not in element:
            raise ImageError(f"the source gives a dict with {sorted(map(str, element))}, none of which is 'image'")
        return element
    if isinstance(element, tuple) and len(element) == 2:
        return dict(zip(("image", "label"), element, strict=True))
    return {"image": element}


def name_of(source: Any, index: int) -> str:
    """The name of an image before it is read: of photographs that of the file, else its number."""
    return source.names[index] if isinstance(source, Photographs) else str(index)


def pixels(element: Any) -> Any:
    """An element with its pictures as arrays, of which a checksum can be made."""
    is_picture = lambda leaf: isinstance(leaf, Image.Image)
    return jax.tree.map(lambda leaf: np.asarray(leaf) if is_picture(leaf) else leaf, as_dict(element))


def tried(function: Callable[[int], Any], index: int) -> Any:
    """What a function returns, or how it fails, for a checksum of both."""
    try:
        return function(index)
    except Exception as error:
        return type(error).__name__


class FromTheFront:
    """Random access to an iterable that has none: it is read from the front, and again where one goes back."""

    def __init__(self, iterable: Any) -> None:
        self.iterable = iterable
        self.iterator: Iterator[Any] = iter(())
        self.next = 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.iterable)

    def __getitem__(self, index: int) -> Any:
        with self.lock:
            if index < self.next or not self.next:
                self.iterator, self.next = iter(self.iterable), 0
            while self.next < index:
                next(self.iterator)
                self.next += 1
            self.next += 1
            return next(self.iterator)


class Photographs:
    """The photographs of a folder, its folders included, or of a pattern, in the order of their names.

    The class of a photograph is the number at the beginning of its file's name, unless ``labels`` tells them,
    a name each, and which photographs there are.

    Attributes:
      names: paths within the folder.
    """

    def __init__(self, where: str | os.PathLike[str], labels: Mapping[str, int] | None = None) -> None:
        self.root, self.names = listed(os.fspath(where)) if labels is None else (Path(where), [*labels])
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.names[index]
        return {"image": read(self.root / name), "label": self.label(name), "name": name}

    def label(self, name: str) -> int:
        """The class of a photograph, -1 where its name does not begin with a number."""
        if self.labels is not None:
            return self.labels[name]
        stem = os.path.basename(name)
        digits = stem[: len(stem) - len(stem.lstrip("0123456789"))]
        return int(digits) if digits else -1

    def contents(self, index: int) -> str:
        """A checksum of one file."""
        return checksum_of(self.root / self.names[index])

    def about(self) -> Iterator[str]:
        """Name, size of the file and class of each, one after the other: there may be a million."""
        size = lambda index: os.stat(self.root / self.names[index]).st_size
        for index, name in enumerate(self.names):
            yield f"{name} {tried(size, index)} {self.label(name)}"


def listed(where: str) -> tuple[Path, list[str]]:
    """The folder, and the paths in it of the pictures that are meant.

    Raises:
      ValueError: where there is none.
    """
    endings = tuple(Image.registered_extensions())
    is_picture = lambda name: name.lower().endswith(endings) and not os.path.basename(name).startswith(".")
    if os.path.isdir(where):
        root = Path(where)
        found = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    else:
        root = Path(where.split("*")[0].split("?")[0].split("[")[0] or ".")
        root = root if root.is_dir() else root.parent
        found = [name for name in glob(where, recursive=True) if os.path.isfile(name)]
    names = sorted(os.path.relpath(name, root) for name in found if is_picture(name))
    if not names:
        raise ValueError(
            f"{where} holds no pictures: name a folder of photographs, or a pattern such as 'photos/*.jpg'"
        )
    return root, names
