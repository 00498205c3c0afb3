"""How close is close: what most tests ask of two arrays."""

import jax
import numpy as np


def within(tolerance, scale=0.0):
    """The function `close`, with a tolerance of its own by default."""
    default = tolerance
    return lambda a, b, tolerance=default: close(a, b, tolerance, scale)


def close(a, b, tolerance, scale=0.0):
    """Assert that two arrays, or trees of them, have the same shapes and values.

    The tolerance is relative to the largest value of ``b``, or to ``scale`` if that is larger: a value close to zero
    may be the difference of two large ones, and is wrong by as much as they are.
    """
    for ours, theirs in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if getattr(theirs, "dtype", None) == jax.dtypes.float0:  # the derivative of an integer: it has no values
            continue
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(initial=scale))
