"""Variables of Linen modules from PyTorch state dicts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from ._checkpoint import load_checkpoint
from ._preprocess import Preprocess

__all__ = ["Pretrained", "load_state_dict"]

_TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


class Pretrained(NamedTuple):
    """A network ready to use: ``logits = module.apply(variables, preprocess(images))``."""

    module: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess


def load_state_dict(template: Any, state_dict: Mapping[str, np.ndarray]) -> Any:
    """Fill a Linen module's variables with the arrays of a PyTorch state dict.

    The rule: a variable's path, joined by dots, is PyTorch's name of it, with `kernel` and `scale` called `weight`, and
    `mean` and `var` called `running_mean` and `running_var`. Kernels turn from ``(out, in, ...)`` to
    ``(..., in, out)``. A dense layer `in_proj` is the one that PyTorch's attention calls `in_proj_weight` and
    `in_proj_bias`.

    Args:
      template: the variables, or their shapes as ``jax.eval_shape(module.init, key, images)`` gives them.
      state_dict: arrays by name, such as `load_checkpoint` reads.

    Returns:
      Variables with the template's structure and dtypes.

    Raises:
      ValueError: if names are missing or left over, or a shape differs.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from jaxplain.models import load_state_dict
      >>> template = {"params": {"fc": {"kernel": jnp.zeros((3, 2))}}}
      >>> load_state_dict(template, {"fc.weight": np.ones((2, 3))})["params"]["fc"]["kernel"].shape
      (3, 2)
    """
    names = jax.tree.leaves(jax.tree.map_with_path(lambda path, _: _torch_name(path), template))
    found = [name for name in state_dict if not name.endswith("num_batches_tracked")]
    for a, b, fault in ((names, found, "lacks"), (found, names, "has, unknown to the module,")):
        if odd := [name for name in a if name not in b]:
            shown = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            raise ValueError(f"the state dict {fault} {shown}: load a checkpoint of this network, or rename its keys")
    arrays = jax.tree.map_with_path(lambda path, like: _convert(path, state_dict[_torch_name(path)], like), template)
    return jax.device_put(arrays)  # jnp.asarray would compile a program for every shape


def _torch_name(path: tuple[Any, ...]) -> str:
    *modules, leaf = (str(entry.key) for entry in path[1:])
    name = ".".join([*modules, _TORCH_NAMES.get(leaf, leaf)])
    return name.replace("in_proj.", "in_proj_")


def _convert(path: tuple[Any, ...], array: np.ndarray, like: Any) -> np.ndarray:
    if path[-1].key == "kernel" and array.ndim > 1:
        array = np.moveaxis(array, (0, 1), (-1, -2))
    if array.shape != like.shape:
        raise ValueError(
            f"{_torch_name(path)} has shape {array.shape} in JAX's layout where the module expects {like.shape}: "
            "load a checkpoint of this network with as many classes"
        )
    return np.array(array, like.dtype, order="C")


def pretrained(
    module: nn.Module,
    preprocess: Preprocess,
    checkpoint: str | os.PathLike[str] | None,
    key: jax.Array | None = None,
    rename: Callable[[str], str] = str,
    gain: float = 1.0,
) -> Pretrained:
    """The module with variables from a checkpoint, or random ones.

    Args:
      module: a Linen module that takes images of the size that `preprocess` makes.
      preprocess: its preprocessing.
      checkpoint: a file that `load_checkpoint` reads; None draws random variables.
      key: the random key of the random variables, ``jax.random.key(0)`` by default.
      rename: maps the checkpoint's names to the module's.
      gain: the variance of random kernels, in terms of LeCun's.

    Returns:
      The module, its variables and its preprocessing.

    Raises:
      ValueError: if the checkpoint cannot be read, or is another network's.
    """
    images = jax.ShapeDtypeStruct((1, preprocess.crop, preprocess.crop, 3), np.float32)
    template = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), images)
    if checkpoint is None:
        return Pretrained(module, _random(template, jax.random.key(0) if key is None else key, gain), preprocess)
    state_dict = {rename(name): array for name, array in load_checkpoint(checkpoint).items()}
    return Pretrained(module, load_state_dict(template, state_dict), preprocess)


def _random(template: Any, key: jax.Array, gain: float) -> Any:
    """Kernels of LeCun's scale or more, and scales of 1; by NumPy, as compiling `module.init` takes long."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def draw(path: tuple[Any, ...], like: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "kernel":
            fan_in = math.prod(like.shape[:-1])
            return generator.standard_normal(like.shape, np.float32) / np.float32((fan_in / gain) ** 0.5)
        if path[-1].key == "pos_embedding":
            return generator.standard_normal(like.shape, np.float32)
        return np.full(like.shape, path[-1].key in ("scale", "var", "layer_scale"), like.dtype)

    return jax.device_put(jax.tree.map_with_path(draw, template))
