"""What numbers were computed with: versions and the device."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import version
from typing import Any

import jax


def environment() -> dict[str, Any]:
    """Versions, and the device that JAX computes on by default."""
    library = import_module(__name__.partition(".")[0])
    versions = {"jaxplain": library.__version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy")}}
    device = jax.devices()[0]
    return {
        "versions": {**versions, "python": platform.python_version()},
        "device": f"{device.platform}: {device.device_kind}",
    }
