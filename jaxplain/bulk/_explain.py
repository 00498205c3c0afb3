"""The maps of a million images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from .._channels import channel_axis
from .._convention import Array, Explain, Function, network, outputs_of, require_classes, scorer
from .._execution import executable
from .._text import choose
from ._devices import devices_of, shape_of, shape_of_outputs, without_mesh
from ._job import Question, answer, fingerprints
from ._options import Dtype, JobOptions, Running, Target
from ._run import Outcome, filled
from ._source import Examples, Source
from ._store import Field, Place

__all__ = ["explain"]

DTYPES = ("float32", "bfloat16", "float16")
LARGEST, SMALLEST = 65504.0, 2.0**-14  # of float16; below, digits are lost


@without_mesh
def explain(
    explain: Explain,
    source: Source,
    store: Place,
    *,
    args: tuple[Any, ...] = (),
    target: Target = None,
    dtype: Dtype = "float32",
    **options: Unpack[JobOptions],
) -> Outcome:
    """Explain all images of a source, on all devices of all processes, and store the maps.

    The store is a group of Zarr, version 3, that `zarr`, TensorStore and xarray open. It has for every image ``maps``,
    ``target`` (the class), ``score``, ``probability``, ``label``, ``status`` (0 waiting, 1 done, 2 failed), ``name``
    and ``problem``. The last two are bytes: ``group["name"][:].view("S256")``. Attributes tell what it was made with.

    A job that was killed, or told to stop by SIGTERM, goes on by the same call, on any number of processes; what the
    store says is done is not done again. Random numbers depend on ``seed`` and on the place of an image in the source
    alone, as if one call explained all: ``key=jax.random.key(seed)``. Under `jax.distributed` every process makes this
    call with the same arguments.

    Args:
      explain: what a method returns, and transforms of it: ``heatmap(explain)`` stores one number per pixel.
      source: a folder of photographs (also in folders of their own), a pattern such as ``"val/*/*.JPEG"``, a grain data
        source or `MapDataset`, or a list; of images, pairs ``(image, label)``, or dicts with ``"image"`` and, where
        there are, ``"label"`` and ``"name"``. The label of a photograph is the number that its file's name begins with.
      store: a path, or an address such as ``gs://bucket/maps.zarr``.
      args: what comes before the images: variables, state. They are copied to all devices, unless they are sharded over
        all of them already.
      target: `None` for the predicted class, a class, a function ``outputs -> (N,)``, or ``"label"`` for the class that
        an image has in the source.
      dtype: of the stored maps, ``"float32"``, ``"bfloat16"`` (not for the package `zarr`) or ``"float16"``, in which
        an image of which the map is too large or too small for it fails.
      **options: see `JobOptions`, and `BatchOptions` for ``batch_size``, ``preprocess`` and ``seed``.

    Returns:
      How many images are done, and how many failed: an image that cannot be read or explained keeps no others from it.

    Raises:
      ValueError: if the store was made with something else, none of the first 100 images can be read, or an option is
        out of range.
      BlockingIOError: if another job writes to the store.
      OSError: if the store cannot be written.

    Example:
      >>> import jax.numpy as jnp, jaxplain, tempfile, zarr
      >>> from jaxplain import bulk
      >>> images = [jnp.full((2, 2, 1), i / 4) for i in range(5)]
      >>> method = jaxplain.gradient(lambda w, x: w * (x**2).sum(axis=(1, 2)))
      >>> store = tempfile.mkdtemp() + "/maps.zarr"
      >>> bulk.explain(method, images, store, args=(2.0,), batch_size=2)
      Outcome(done=5, failed=0, images=5)
      >>> zarr.open_group(store)["maps"][:, 0, 0, 0].tolist()
      [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    choose(dtype, DTYPES, "dtype")
    chosen, apply = Running.of("bulk.explain", options, "args", "target", "dtype"), network(explain)
    examples, devices = Examples(source, chosen.preprocess), devices_of(chosen.mesh, chosen.batch_size)
    example = examples.probe()
    first = filled([example], [0], example)
    require_target(target, shape_of_outputs(apply, args, first["image"]), examples)
    part = partial(part_of, explain, target, chosen.seed, dtype)
    maps = shape_of(part, args, first)["maps"]
    settings = {"kind": "explain", "target": in_words(target), "seed": chosen.seed, "dtype": dtype}
    question = Question(
        settings | fingerprints(apply, [part], args, examples, first),
        fields_of(maps, first["image"], lambda x: outputs_of(apply, (*args, x)), dtype),
        devices.compute([part], args),
        partial(problem_of, dtype),
        {"method": explain.__qualname__.split(".")[0]},
    )
    return answer(store, examples, example, devices, question, chosen)


def part_of(
    explain: Explain, target: Target, seed: int, dtype: str, args: tuple[Any, ...], batch: Mapping[str, Array]
) -> dict[str, Array]:
    """What is stored of some images, and the largest absolute value of each map."""
    x = batch["image"]
    fold = jax.vmap(lambda index: jax.random.fold_in(jax.random.key(seed), index))
    keys = fold(batch["index"]) if "index" in batch else None
    apply = network(explain)
    outputs = executable(apply, lambda x: outputs_of(apply, (*args, x)))(x)  # in the forms that explainers choose
    asked = asked_of(target, outputs, batch["label"])
    maps = explain(*args, x, target=asked, key=keys)
    none = jnp.full(x.shape[:1], -1, jnp.int32)
    has_classes = not (asked is None or callable(asked))
    classes = jnp.asarray(asked, jnp.int32) if has_classes else none
    each = jax.nn.softmax(outputs.astype(jnp.float32)) if has_classes else jnp.full((len(x), 1), jnp.nan, jnp.float32)
    return {
        "maps": maps.astype(dtype),
        "largest": jnp.abs(maps.astype(jnp.float32)).reshape(len(x), -1).max(axis=1),
        "target": classes,
        "score": scorer(asked, outputs)(outputs).astype(jnp.float32),
        "probability": jnp.take_along_axis(each, jnp.maximum(classes, 0)[:, None], axis=1)[:, 0],
    }


def asked_of(target: Target, outputs: Array, labels: Array) -> Function | Array | None:
    """What an explainer is asked for: the class of each image where there are classes, which are decided once."""
    if callable(target) or outputs.ndim != 2:
        return target  # type: ignore[return-value]
    chosen = labels if is_label(target) else outputs.argmax(axis=1) if target is None else jnp.asarray(target)
    return jnp.broadcast_to(chosen, outputs.shape[:1])


def problem_of(dtype: str, results: Mapping[str, np.ndarray]) -> str:
    """Why a map cannot be stored; empty where it can."""
    largest = float(results["largest"])
    if not np.isfinite(largest):
        return "its map holds NaN or infinite values"
    if dtype == "float16" and (largest > LARGEST or 0 < largest < SMALLEST):
        return f"its map reaches to {largest:.2g}, which float16 does not hold: store float32 or bfloat16"
    return ""


def fields_of(maps: Any, x: Any, apply: Function, dtype: str) -> dict[str, Field]:
    """What is stored beside what all stores have."""
    dimensions = tuple(f"axis{i}" for i in range(1, maps.ndim))
    if maps.ndim == 3:
        dimensions = ("y", "x")
    elif maps.ndim == 4 and maps.shape == x.shape:
        dimensions = ("channel", "y", "x") if channel_axis(apply, x) == 1 else ("y", "x", "channel")
    return {
        "maps": Field(dtype, maps.shape[1:], dimensions),
        "target": Field("int32", fill=-1),
        "score": Field("float32"),
        "probability": Field("float32"),
    }


def is_label(target: Target) -> bool:
    """Whether every image is explained for the class that it has."""
    return isinstance(target, str) and target == "label"


def require_target(target: Target, outputs: Any, examples: Examples) -> None:
    """Refuse a target that does not fit the network; where it is the label, images without one fail."""
    if is_label(target):
        require_classes("target='label'", outputs)
        examples.classes = outputs.shape[1]
    elif isinstance(target, str) or (np.ndim(target) and not callable(target)):  # type: ignore[arg-type]
        raise ValueError(
            f"target={target!r}: pass None for the predicted class, a class for all images, a function "
            "outputs -> (N,), or 'label' for the class that each image of the source has"
        )
    elif target is not None and not callable(target):
        scorer(target, outputs)


def in_words(target: Target) -> Any:
    """A target in a type of JSON; what a function computes is told by the method's checksum."""
    if callable(target):
        return getattr(target, "__name__", type(target).__name__)
    return int(target) if target is not None and not isinstance(target, str) else target  # type: ignore[arg-type]
