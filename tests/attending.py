"""Methods that need attention, on networks that have none: pixels read each other in front of them."""

import functools

import jax
import jax.numpy as jnp


def attending(apply, channels=-1):
    """A network whose pixels read each other first, if only a little: its classes stay what they are."""

    def attended(*args):
        *context, x = args
        pixels = jnp.moveaxis(x, channels, -1)
        tokens = pixels.reshape(x.shape[0], -1, pixels.shape[-1])
        tokens += 0.01 * jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens
        return apply(*context, jnp.moveaxis(tokens.reshape(pixels.shape), -1, channels))

    return attended


def maker(method, **options):
    """``apply -> explain`` of a method of the taxonomy, for networks without attention as well."""
    make = functools.partial(method.make, **options)
    return (lambda apply: make(attending(apply))) if "attention" in method.needs else make
