"""``jaxplain layers``: the names of a network's layers as a tree, with kinds, shapes and numbers of parameters."""

from __future__ import annotations

import jax.numpy as jnp

from ..features import layers as list_layers
from . import _network as networks
from ._explain import File, Images, prepared_alone
from ._terminal import STDERR, STDOUT, UsageError


def layers(image: Images = (), *, model: str = "efficientnet_lite0", checkpoint: File = None) -> int:
    """Print the names of a network's layers, for --layer and for composites.

    For example: jaxplain layers --model efficientnet_lite0

    Args:
      image: A file; without one, a sample photograph. Only the shape that the network takes is needed of it.
      model: A network of the library, or your own as file.py:function or package.module:function.
      checkpoint: A PyTorch file with the weights of a network of the library.
    """
    STDERR.print(f"loading {model} ...")
    network = networks.load(model, checkpoint)
    x = prepared_alone("layers", image, network, None)
    try:
        STDOUT.print(str(list_layers(network.apply)(network.variables, jnp.asarray(x))))
    except (ValueError, TypeError) as error:
        raise UsageError(f"the layers of {model} cannot be listed: {error}") from error
    return 0
