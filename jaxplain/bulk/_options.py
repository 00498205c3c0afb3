"""The options of all that runs in batches, and of jobs: each told once, with its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias, TypedDict

import jax

from .._convention import Function, require_positive
from .._text import did_you_mean, either
from ._source import Preprocess

__all__ = ["BatchOptions", "JobOptions"]

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
Target: TypeAlias = int | Function | Literal["label"] | None
Progress: TypeAlias = Callable[[int, int, int], object]


class BatchOptions(TypedDict, total=False):
    """The options of all that is computed batch by batch.

    Attributes:
      batch_size: images that a device takes at once, 16 by default. In a store they lie together.
      preprocess: a list of images as the source has them -> ``(1, ...)`` floats as the network takes them; by default
        the source has these.
      seed: of the random numbers, 0 by default.
    """

    batch_size: int
    preprocess: Preprocess | None
    seed: int


class JobOptions(BatchOptions, total=False):
    """The options of jobs that fill a store; but for those of `BatchOptions` they change nothing in what it holds.

    Attributes:
      mesh: devices in another order, or with more axes than ``"data"``, which is that of the batch; all devices by
        default.
      threads: read and prepare images ahead, 4 by default.
      processes: so many do so instead, for a ``preprocess`` that keeps Python busy; it must pickle.
      every: seconds after which results are written even if a file is not full, 30 by default: what a job that is
        killed loses.
      over: start over a store that was made with other options, another network or other images.
      check: read what is done before, and do again what is damaged.
      progress: called after each step with how many images are done, how many failed, how many there are.
    """

    mesh: jax.sharding.Mesh | None
    threads: int
    processes: int
    every: float
    over: bool
    check: bool
    progress: Progress | None


@dataclass(frozen=True)
class Batching:
    """What `BatchOptions` say, with defaults."""

    batch_size: int = 16
    preprocess: Preprocess | None = None
    seed: int = 0

    @classmethod
    def of(cls, call: str, options: Mapping[str, Any], *others: str) -> Self:
        """The options of a call, whose name the user knows, and which has ``others`` by the same right.

        Raises:
          TypeError: where there is no option of a name.
          ValueError: where one is out of range.
        """
        known = [*others, *(option.name for option in fields(cls))]
        for name in options:
            if name not in known:
                meant = did_you_mean(name, known) or f": choose {either(known)}"
                raise TypeError(f"{call} has no option {name!r}{meant}")
        return cls(**options)

    def __post_init__(self) -> None:
        require_positive(batch_size=self.batch_size)


@dataclass(frozen=True)
class Running(Batching):
    """What `JobOptions` say, with defaults."""

    mesh: jax.sharding.Mesh | None = None
    threads: int = 4
    processes: int = 0
    every: float = 30.0
    over: bool = False
    check: bool = False
    progress: Progress | None = None
