"""A million images: explained on JAX's own distributed runtime, stored as Zarr, resumable, on any number of hosts."""

from ._batch_function import BatchFunction, batch_function
from ._evaluate import evaluate, summarize
from ._explain import explain
from ._options import BatchOptions, JobOptions
from ._run import Outcome

__all__ = [
    "BatchFunction",
    "BatchOptions",
    "JobOptions",
    "Outcome",
    "batch_function",
    "evaluate",
    "explain",
    "summarize",
]
