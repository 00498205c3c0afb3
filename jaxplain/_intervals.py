"""Confidence intervals of means, of Student's t distribution."""

from __future__ import annotations

import math

import numpy as np


def half_width(numbers: np.ndarray) -> float:
    """Half of the 95 % confidence interval of the mean of two numbers or more, ``t s / √n``."""
    from scipy.special import stdtrit  # SciPy comes with JAX

    scale = np.abs(numbers).max() or 1.0  # of which the squares are finite
    t = stdtrit(len(numbers) - 1, 0.975)
    return float(scale * t * (numbers / scale).std(ddof=1) / math.sqrt(len(numbers)))
