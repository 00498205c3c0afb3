"""``jaxplain summary``: the units of a network, their rules, and where relevance goes."""

from __future__ import annotations

import jax.numpy as jnp

from ..propagation import summary as summarize
from . import _network as networks
from ._cache import programs_kept
from ._explain import File, Images, Text, prepared_alone
from ._terminal import STDERR, STDOUT, UsageError


def summary(
    image: Images = (),
    *,
    composite: str = "epsilon_plus",
    model: str = "efficientnet_lite0",
    checkpoint: File = None,
    target: Text = None,
    cache: bool = True,
) -> int:
    """Print the units of a network with their rules, and the ledger of relevance for one image.

    For example: jaxplain summary cat.jpg --composite epsilon_gamma_box

    Args:
      image: A file; without one, a sample photograph.
      composite: One of the library's composites of rules, such as epsilon_gamma_box.
      model: A network of the library, or your own as file.py:function or package.module:function.
      checkpoint: A PyTorch file with the weights of a network of the library.
      target: Number or name of the class to explain, or a word of its name; by default the predicted one.
      cache: Keep compiled programs in your folder for caches, so that the same command takes less time when run again.
    """
    composite = networks.known_composite(composite)
    STDERR.print(f"loading {model} ...")
    network = networks.load(model, checkpoint)
    label = None if target is None else network.find_class(target)
    rules = networks.find_composite(composite, network)
    x = prepared_alone("summary", image, network, label)
    STDERR.print(f"compiling {composite} for {model} ...")
    try:
        with programs_kept(cache):
            STDOUT.print(str(summarize(network.apply, rules)(network.variables, jnp.asarray(x), target=label)))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{model} cannot be summarised: {error}") from error
    return 0
