"""Confidence intervals of means, of Student's t distribution."""

from __future__ import annotations

import functools
import math

import numpy as np


def half_width(numbers: np.ndarray) -> float:
    """Half of the 95 % confidence interval of the mean of two numbers or more, ``t s / √n``."""
    scale = np.abs(numbers).max() or 1.0  # of which the squares are finite
    return float(scale * student_t(0.975, len(numbers) - 1) * (numbers / scale).std(ddof=1) / math.sqrt(len(numbers)))


@functools.cache
def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution, for probabilities of at least 1/2.

    With ``t = √ν tan θ`` the distribution is a finite sum of powers of cos θ (Abramowitz, Stegun 1964, 26.7.3 and
    26.7.4), of which bisection finds the root.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def within(theta: float, freedom: int) -> float:
    """The probability that ``|t| < √ν tan θ``."""
    odd, square = freedom % 2, math.cos(theta) ** 2
    term, total = (math.cos(theta) if odd else 1.0), 0.0
    for i in range(freedom // 2):
        total += term
        term *= square * (2 * i + 1 + odd) / (2 * i + 2 + odd)
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
