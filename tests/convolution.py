"""A convolution of images with their channels last, as plain functions of tests write it."""

from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride=1, padding="SAME", **options):
    """The convolution of images ``(N, H, W, C)`` with a kernel ``(H, W, C / groups, outputs)``."""
    groups = x.shape[-1] // kernel.shape[2]
    options = {"dimension_numbers": NHWC, "feature_group_count": groups} | options
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, **options)
