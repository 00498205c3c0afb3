"""A million images: explained on JAX's own distributed runtime, stored as Zarr, resumable, on any number of hosts."""

from ._explain import explain
from ._run import Outcome

__all__ = ["Outcome", "explain"]
