"""Explanations of image classifiers as JAX function transforms."""

__version__ = "0.1.0"
