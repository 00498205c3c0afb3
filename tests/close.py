"""How close is close: what most tests ask of two arrays."""

import functools

import jax
import numpy as np


def within(tolerance, scale=0.0):
    """A function ``close(a, b)``; its tolerance is relative to the largest value of ``b``, or to ``scale`` if larger.

    One value close to zero, which is a difference of large ones, may be wrong by as much as they are.
    """
    return functools.partial(close, tolerance=tolerance, scale=scale)


def close(a, b, tolerance, scale=0.0):
    """Assert that two arrays, or trees of them, have the same shapes and values."""
    for ours, theirs in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if getattr(theirs, "dtype", None) == jax.dtypes.float0:  # the derivative of an integer: it has no values
            continue
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(initial=scale))
