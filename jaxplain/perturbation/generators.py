"""Similar and adversarial images from two trained generators, one forward pass each (Flax).

Import this module by its name, ``from jaxplain.perturbation import generators``: nothing else here needs Flax.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import optax

from .._channels import channel_axis
from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Target,
    chosen_class,
    explainer,
    outputs_of,
    require_positive,
    split,
)
from .._files import open_file, write_whole
from ._adversarial import boundary_distance, pair_loss
from ._attacks import Bounds, clipper, in_float32

__all__ = ["Generators", "UNet", "load", "save", "similar_adversarial_generators", "train_generators"]


class UNet(nn.Module):
    """A small U-Net that adds a change to its image; before any training the change is zero.

    Attributes:
      features: the channels at the input's resolution; twice as many at each halving.
      depth: how often the resolution is halved.
    """

    features: int = 16
    depth: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Images like ``x``, ``(N, H, W, C)``, of any height and width."""
        conv = lambda v, features, strides=1: nn.relu(nn.Conv(features, (3, 3), strides=strides)(v))
        v, skips = conv(x, self.features), []
        for level in range(1, self.depth + 1):
            skips.append(v)
            v = conv(v, self.features * 2**level, strides=2)
        for skip in reversed(skips):
            v = jax.image.resize(v, (*skip.shape[:3], v.shape[-1]), "linear")
            v = conv(jnp.concatenate([v, skip], axis=-1), skip.shape[-1])
        return x + nn.Conv(x.shape[-1], (3, 3), kernel_init=nn.initializers.zeros)(v)


@dataclass(frozen=True)
class Generators:
    """Two trained generators.

    Attributes:
      similar: the variables of the one whose images the network sees as the input's class.
      adversarial: the variables of the one whose images it does not.
      features: the channels of both, as of `UNet`.
      depth: their depth.
    """

    similar: Any
    adversarial: Any
    features: int = 16
    depth: int = 3

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """The similar and the adversarial image of each image."""
        net = UNet(self.features, self.depth)
        return changed(net, self.similar, x), changed(net, self.adversarial, x)


def changed(net: UNet, variables: Any, x: Array) -> Array:
    """The image that a generator makes of each image."""
    return jnp.asarray(net.apply(variables, x))


def with_channels_last(make: Callable[[Array], Any], x: Array, axis: int) -> Any:
    """What is made of images, their channels at an axis, by a function of images with channels last."""
    return jax.tree.map(lambda made: jnp.moveaxis(made, -1, axis), make(jnp.moveaxis(x, axis, -1)))


def train_generators(
    apply: Apply,
    *context: Any,
    batches: Iterable[Any],
    key: Array,
    confidence: float = 1.0,
    closeness: float = 1.0,
    features: int = 16,
    depth: int = 3,
    bounds: Bounds = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Generators:
    """Train a generator of similar and one of adversarial images for a network.

    They minimise the mean over images of the loss of `jaxplain.perturbation.similar_adversarial`, for the class that
    the network predicts; no labels. The batches are read once, each for one compiled step.

    Args:
      apply: ``apply(*context, x) -> logits (N, K)``, any JAX function.
      context: what comes before the input: variables, state.
      batches: images as the network takes them, all of the same shape; repeat them for several epochs.
      key: a PRNG key, for the first variables.
      confidence: by how much the class's logit is to exceed the others, and to fall behind one.
      closeness: the weight of the distances.
      features: the channels of the generators at the input's resolution.
      depth: how often they halve it.
      bounds: the lowest and the highest value of the input, ``(low, high)``; None does not clip.
      optimizer: an Optax optimiser of the variables; Adam with steps of 0.001 where None.

    Returns:
      The trained `Generators`, which `save` writes to a file.

    Raises:
      ValueError: if there is no batch, an option is out of range, the batches hold no images, or ``apply`` returns no
        logits.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxplain.perturbation import generators
      >>> f = lambda x: x.mean(axis=(1, 2)) @ jnp.eye(2)
      >>> batches = [jax.random.normal(jax.random.key(i), (4, 8, 8, 2)) for i in range(3)]
      >>> pair = generators.train_generators(f, batches=batches, key=jax.random.key(0), features=2, depth=1)
      >>> generators.similar_adversarial_generators(f, pair)(batches[0]).shape
      (4, 8, 8, 2)

    Reference:
      Charachon, Hudelot, Cournède, Ruppli, Ardon: Combining Similarity and Adversarial Learning to Generate Visual
      Explanation. ICPR 2020, arXiv:2012.07332. The network and the weights of the loss are ours.
    """
    require_positive(features=features, depth=depth)
    solver = optax.adam(1e-3) if optimizer is None else optimizer

    net = UNet(features, depth)

    def loss(weights: tuple[Any, Any], context: tuple[Any, ...], x: Array) -> Array:
        f, image = in_float32(lambda x: outputs_of(apply, (*context, x)), x)
        chosen = chosen_class("train_generators", None, f(image))
        clip = clipper(bounds, image)
        make = lambda image: [changed(net, w, image) for w in weights]
        similar, adversarial = map(clip, with_channels_last(make, image, channel_axis(f, image)))
        unit = boundary_distance(f, image, chosen, confidence)
        return pair_loss(f, image, similar, adversarial, chosen, unit, confidence, closeness).mean()

    @jax.jit
    def step(state: Any, context: tuple[Any, ...], x: Array) -> Any:
        weights, memory = state
        updates, memory = solver.update(jax.grad(loss)(weights, context, x), memory, weights)
        return optax.apply_updates(weights, updates), memory

    state = None
    for batch in batches:
        _, x = split((*context, batch))
        if x.ndim != 4:
            raise ValueError(f"train_generators takes batches of images (N, H, W, C), got shape {x.shape}")
        if state is None:
            axis = channel_axis(lambda x: outputs_of(apply, (*context, x)), x)
            weights = tuple(net.init(key, jnp.moveaxis(x[:1], axis, -1)) for key in jax.random.split(key))
            state = weights, solver.init(weights)
        state = step(state, context, x)
    if state is None:
        raise ValueError("train_generators got no batch to train with")
    similar, adversarial = state[0]
    return Generators(similar, adversarial, features, depth)


def similar_adversarial_generators(apply: Apply, generators: Generators, *, bounds: Bounds = None) -> Explain:
    """The difference of the images that two trained generators make, one seen as the input's class and one not.

    ``A = |G_a(x) - G_s(x)|``

    Args:
      apply: the network that the generators were trained for.
      generators: what `train_generators` returns.
      bounds: as in training.

    Returns:
      An explainer of the predicted class; the attribution has the input's shape and unit, and is not negative.

    Raises:
      ValueError: if a target is given, since the generators know of no class but the predicted one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxplain.perturbation import generators
      >>> f, x = lambda x: x.mean(axis=(1, 2)), jnp.ones((1, 4, 4, 2))
      >>> pair = generators.train_generators(f, batches=[x], key=jax.random.key(0), features=2, depth=1)
      >>> generators.similar_adversarial_generators(f, pair)(x).shape
      (1, 4, 4, 2)

    Reference:
      Charachon, Hudelot, Cournède, Ruppli, Ardon: Combining Similarity and Adversarial Learning to Generate Visual
      Explanation. ICPR 2020, arXiv:2012.07332.
    """

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        if target is not None:
            raise ValueError("generators are trained for the predicted class and explain no other: leave target=None")
        similar, adversarial = map(clipper(bounds, x), with_channels_last(generators, x, channel_axis(f, x)))
        return jnp.abs(adversarial - similar).astype(x.dtype)

    return explain


def save(generators: Generators, file: str | os.PathLike[str]) -> None:
    """Write generators to a file, in Flax's MessagePack format.

    Args:
      generators: what `train_generators` returns.
      file: where to.
    """
    write_whole(file, lambda content: content.write(flax.serialization.msgpack_serialize(asdict(generators))))


def load(file: str | os.PathLike[str]) -> Generators:
    """Read generators that `save` has written.

    Args:
      file: where from.
    """
    with open_file(file) as content:
        return Generators(**dict(flax.serialization.msgpack_restore(content.read())))
