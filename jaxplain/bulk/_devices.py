"""The devices of a job: a batch has an equal part on each of them, parameters are where the user put them or on all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import jax
import numpy as np

from .._convention import Apply, outputs_of
from ..evaluation._measures import is_array

AXIS = "data"
P = ParamSpec("P")
T = TypeVar("T")
Batch: TypeAlias = Mapping[str, Any]
Part: TypeAlias = Callable[[tuple[Any, ...], Batch], dict[str, jax.Array]]
Compute: TypeAlias = Callable[[Batch], Mapping[str, jax.Array]]
Merge: TypeAlias = Callable[[list[dict[str, jax.Array]]], dict[str, jax.Array]]


def merged(results: list[dict[str, jax.Array]]) -> dict[str, jax.Array]:
    """The results of all parts, by different names."""
    return {name: values for result in results for name, values in result.items()}


@dataclass(frozen=True)
class Devices:
    """A mesh over the devices of all processes, its axis ``data`` being that of the batch.

    Attributes:
      mesh: may have other axes, over which parameters are sharded.
      size: how many images a device takes at once.
    """

    mesh: jax.sharding.Mesh
    size: int

    @property
    def parts(self) -> int:
        """In how many parts a batch is cut."""
        return self.mesh.shape[AXIS]

    @property
    def own_parts(self) -> list[int]:
        """The parts that this process has to read."""
        images = self.parts * self.size
        mine = self.sharding.addressable_devices_indices_map((images,)).values()
        return sorted({(index[0].start or 0) // self.size for index in mine if index})

    @property
    def sharding(self) -> jax.NamedSharding:
        """That of a batch."""
        return jax.NamedSharding(self.mesh, jax.P(AXIS))

    def batch(self, values: np.ndarray) -> jax.Array:
        """A batch over all devices from the part of it that this process has."""
        return jax.make_array_from_process_local_data(self.sharding, values)

    def own(self, results: jax.Array) -> dict[int, np.ndarray]:
        """Of a result of the whole batch, the parts that this process has to write."""
        shards = [shard for shard in results.addressable_shards if shard.replica_id == 0]
        return {(shard.index[0].start or 0) // self.size: np.asarray(shard.data) for shard in shards}

    def place(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments on all devices, arrays that are there already as they are; `None` in place of what is no array."""
        everywhere = jax.NamedSharding(self.mesh, jax.P())
        devices = set(self.mesh.devices.flat)

        def placed(leaf: Any) -> Any:
            if not is_array(leaf):
                return None
            if isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices:
                return leaf
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(placed(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
            return jax.make_array_from_callback(leaf.shape, everywhere, np.asarray(leaf).__getitem__)

        return jax.tree.map(placed, args)

    def program(self, part: Part, args: tuple[Any, ...]) -> Callable[..., dict[str, jax.Array]]:
        """``part(args, batch)`` of a whole batch, compiled, as a function of the arguments' arrays and the batch.

        Every device runs the program of its part, so that what it computes does not depend on how many devices there
        are. What is no array among ``args`` stays bound.
        """

        def whole(arrays: Any, batch: Batch) -> Any:
            one = lambda arrays, batch: part(with_arrays(args, arrays), batch)
            specs = (jax.P(), jax.P(AXIS))
            options = {"mesh": self.mesh, "axis_names": {AXIS}, "check_vma": False}
            return jax.shard_map(one, in_specs=specs, out_specs=jax.P(AXIS), **options)(arrays, batch)

        return jax.jit(whole, out_shardings=self.sharding)

    def compute(self, parts: Sequence[Part], args: tuple[Any, ...], merge: Merge = merged) -> Compute:
        """The programs of all parts: from this process's part of a batch to results on all devices."""
        programs, arrays = [self.program(part, args) for part in parts], self.place(args)
        merging = jax.jit(merge, out_shardings=self.sharding)

        def compute(batch: Batch) -> Mapping[str, jax.Array]:
            placed = {name: self.batch(values) for name, values in batch.items()}
            return merging([program(arrays, placed) for program in programs])

        return compute


def without_mesh(call: Callable[P, T]) -> Callable[P, T]:
    """``call`` as where no mesh is set: a job has a mesh of its own, and a program of one refuses another."""

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ())):
            return call(*args, **kwargs)

    return wrapped


def devices_of(mesh: jax.sharding.Mesh | None, size: int) -> Devices:
    """The user's mesh, or all devices in a row.

    Raises:
      ValueError: if the mesh has no axis ``data``.
    """
    if mesh is None:
        mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    if AXIS not in mesh.axis_names:
        raise ValueError(f"mesh has the axes {', '.join(mesh.axis_names)}: call that of the batch {AXIS!r}")
    return Devices(mesh, size)


def shape_of(part: Callable[[tuple[Any, ...], Batch], Any], args: tuple[Any, ...], batch: Batch) -> Any:
    """The shapes of ``part(args, batch)``, of which no values are asked: other processes may have them."""
    arrays = jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, args)
    return jax.eval_shape(lambda arrays, batch: part(with_arrays(args, arrays), batch), arrays, batch)


def shape_of_outputs(apply: Apply, args: tuple[Any, ...], x: Any) -> Any:
    """The shapes of a network's outputs for a batch of images."""
    return shape_of(lambda args, batch: outputs_of(apply, (*args, batch["image"])), args, {"image": x})


def with_arrays(args: Any, arrays: Any) -> Any:
    """Arguments with these arrays in place of their own."""
    leaves, tree = jax.tree.flatten(args)
    given = iter(jax.tree.leaves(arrays))
    return tree.unflatten([next(given) if is_array(leaf) else leaf for leaf in leaves])
