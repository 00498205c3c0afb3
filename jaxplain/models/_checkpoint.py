"""State dicts from PyTorch and safetensors files, read without PyTorch and without running anything in them.

A PyTorch checkpoint is a pickle, and a pickle is a program: the `pickle` module calls whatever functions it names. Here
`pickletools` only lists the program's instructions, and `_unpickle` interprets the few that a state dict needs. It
imports nothing, and the only functions it can call are those in `_BUILDERS`, which note down their arguments.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._files import open_file

__all__ = ["load_checkpoint"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put the state dict
_PREFIX = re.compile(r"(module\.|_orig_mod\.)+")  # what DataParallel and torch.compile put before every name

_TORCH_DTYPES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
}
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the state dict in a PyTorch checkpoint (zip or legacy format) or a safetensors file.

    The format is recognised by the file's content. A state dict wrapped as ``{"state_dict": ...}``,
    ``{"model_state_dict": ...}`` or ``{"model": ...}`` is unwrapped, and the ``module.`` that `DataParallel` puts
    before every name is removed. Reading a file never runs code from it.

    Args:
      path: the file.

    Returns:
      The arrays by name, in the file's order, layout and dtype. They are read-only views of the file's content.

    Raises:
      ValueError: if the file is damaged, is no checkpoint, or asks for more than tensors and dicts.
      OSError: if it cannot be read, or is a folder, a pipe or a device.

    Example:
      >>> import numpy as np, safetensors.numpy, tempfile
      >>> from jaxplain.models import load_checkpoint
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     safetensors.numpy.save_file({"module.fc.bias": np.ones(2)}, file.name)
      ...     load_checkpoint(file.name)
      {'fc.bias': array([1., 1.])}
    """
    with open_file(path) as file:
        try:
            arrays = _read(file)
        except MemoryError:
            raise
        except Exception as error:  # whatever a parser trips over: the file is not what it claims to be
            reason = error if type(error) is ValueError else "it is damaged or cut short"
            remedy = "save the state dict again with torch.save(model.state_dict(), path), or as safetensors"
            raise ValueError(f"cannot read {path}: {reason}; {remedy}") from error
    if all(map(_PREFIX.match, arrays)):
        return {_PREFIX.sub("", name, count=1): array for name, array in arrays.items()}
    return arrays


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


# The three file formats.


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    head = file.read(9)
    file.seek(0)
    if head[8:] == b"{":
        return _read_safetensors(file.read())
    if head[:4] == b"PK\x03\x04":
        return _read_zip(file)
    _require(head[:1] == b"\x80", "it is neither a PyTorch checkpoint nor a safetensors file")
    return _read_legacy(file.read())


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Length of the header; names, dtypes, shapes and offsets in JSON; the arrays, one after the other."""
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:start], object_pairs_hook=_distinct), memoryview(data)[start:]
    header.pop("__metadata__", None)
    arrays, places = {}, [(0, 0, "the beginning")]
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        _require(0 <= begin <= end <= len(body), f"the bytes of {name} lie outside the file")
        dtype = jnp.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        arrays[name] = np.ndarray(entry["shape"], dtype, body[begin:end])
        _require(arrays[name].nbytes == end - begin, f"{name} has other bytes than its shape needs")
        places.append((begin, end, name))
    places = [*sorted(places), (len(body), len(body), "the end of the file")]
    for (_, end, name), (begin, _, following) in itertools.pairwise(places):
        _require(begin >= end, f"the bytes of {name} and {following} overlap")
        _require(begin <= end, f"there are bytes between {name} and {following} that belong to no array")
    return arrays


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict, none of whose names may come twice."""
    _require(len(dict(pairs)) == len(pairs), "its header has a name twice")
    return dict(pairs)


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """A zip archive of one folder: `data.pkl`, which refers to the storages ``data/0``, ``data/1``, ..."""
    with zipfile.ZipFile(file) as archive:
        content = sum(entry.file_size for entry in archive.infolist())
        _require(content <= file.seek(0, os.SEEK_END), "it unpacks to more than its own size, unlike any checkpoint")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        _require(len(pickles) == 1, "it is a zip archive, but not one that torch.save wrote")
        folder = pickles[0].removesuffix("/data.pkl")
        if f"{folder}/byteorder" in archive.namelist():
            _check_byte_order(archive.read(f"{folder}/byteorder") == b"little")
        tree, _ = _unpickle(io.BytesIO(archive.read(pickles[0])))
        return _arrays(tree, lambda key: archive.read(f"{folder}/data/{key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Five pickles (magic number, version, machine, object, storage keys), then each storage after its length."""
    stream = io.BytesIO(data)
    magic, _ = _unpickle(stream)
    _require(magic == _LEGACY_MAGIC, "it is a pickle, but not one that torch.save wrote")
    _unpickle(stream)
    machine, _ = _unpickle(stream)
    _check_byte_order(machine["little_endian"])
    tree, storages = _unpickle(stream)
    keys, _ = _unpickle(stream)
    content, end = {}, stream.tell()
    for key in keys:
        _require(isinstance(key, str), "it has a storage without a name")
        (count,) = struct.unpack_from("<q", data, end)
        begin, end = end + 8, end + 8 + count * storages[key].dtype.itemsize
        _require(begin <= end <= len(data), "it is cut short")
        content[key] = memoryview(data)[begin:end]
    return _arrays(tree, content.__getitem__)


def _check_byte_order(little_endian: bool) -> None:
    _require(little_endian, "a big-endian machine wrote it, which is not supported")


# From the pickled object to arrays.


class _Storage(NamedTuple):
    """The memory that a tensor is a view of: a persistent id in the pickle."""

    key: str
    dtype: np.dtype
    view: tuple[str, int, int] | None  # legacy format only: (key, first element, size) of a part of it


class _Tensor(NamedTuple):
    """The arguments of `torch._utils._rebuild_tensor_v2`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False
    backward_hooks: Any = None
    metadata: Any = None


def _arrays(tree: Any, read: Callable[[str], bytes | memoryview]) -> dict[str, np.ndarray]:
    """The arrays of the state dict that the pickled object is or wraps; `read` gives the bytes of a storage."""
    read = functools.cache(read)
    _require(isinstance(tree, dict), "it holds no state dict")
    for candidate in (*map(tree.get, _WRAPPERS), tree):
        if isinstance(candidate, dict):
            tensors = {name: value for name, value in candidate.items() if isinstance(value, _Tensor)}
            if tensors:
                return {str(name): _array(tensor, read(tensor.storage.key)) for name, tensor in tensors.items()}
    raise ValueError("it holds no state dict")


def _array(tensor: _Tensor, content: bytes | memoryview) -> np.ndarray:
    """The tensor as a view of its storage's bytes."""
    dtype = tensor.storage.dtype
    if tensor.storage.view is not None:
        _, first, size = tensor.storage.view
        content = content[first * dtype.itemsize : (first + size) * dtype.itemsize]
    # NumPy checks the bounds too, but in 64 bits, where a huge stride wraps around to a small one.
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    steps = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    inside = (tensor.offset + steps + 1) * dtype.itemsize <= len(content)
    _require(min(numbers) >= 0 and (inside or 0 in tensor.shape), "a tensor reaches outside its storage")
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.ndarray(tensor.shape, dtype, content, tensor.offset * dtype.itemsize, strides)


# The pickle inside a PyTorch file.


def _dict(pairs: Iterable[tuple[Any, Any]]) -> dict[str | int, Any]:
    """A dict of names: hashing a nested tuple as a key could take exponential time."""
    items = list(pairs)
    _require(all(isinstance(key, str | int) for key, _ in items), "it has a dict whose keys are not names")
    return dict(items)


def _ordered_dict(pairs: list[Any] | None = None) -> dict[str | int, Any]:
    """``OrderedDict(pairs)``, as Python 2 wrote it; empties the list, so that a pickle cannot multiply a long one."""
    items = _dict(pairs or [])
    if pairs:
        pairs.clear()
    return items


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
}


def _find(module: str, name: str) -> Callable[..., Any] | str:
    """What a pickle may name: a builder, or a type of storage, which is only a name here."""
    path = ".".join((module, name))
    if path in _TORCH_DTYPES:
        return path
    _require(path in _BUILDERS, f"its pickle asks for `{path}`, which no state dict needs and which is not run")
    return _BUILDERS[path]


def _storage(kind: str, dtype: str, key: str, location: str, size: int, view: Any = None) -> _Storage:
    known = kind == "storage" and isinstance(key, str) and isinstance(dtype, str)
    _require(known, "its pickle refers to something that is no storage")
    return _Storage(key, jnp.dtype(_TORCH_DTYPES[dtype]), view)


@dataclass
class _Machine:
    """What a pickle's program works on.

    Attributes:
      stack: the objects that are being built.
      marks: where on the stack a list of items begins, the innermost last.
      memo: objects that the program comes back to.
      storages: those that it refers to, by key.
    """

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[Any, Any] = field(default_factory=dict)
    storages: dict[str, _Storage] = field(default_factory=dict)

    def pop(self, count: int) -> list[Any]:
        """Take the topmost objects, the lowest of them first."""
        _require(0 < count <= len(self.stack), "its pickle takes more than it holds")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        """Take all objects above the innermost mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _push(make: Callable[[_Machine, Any], Any]) -> Callable[[_Machine, Any], None]:
    """An instruction that puts on the stack what ``make(machine, value)`` returns."""
    return lambda machine, value: machine.stack.append(make(machine, value))


def _extend(machine: _Machine, items: list[Any]) -> None:
    """Put items into the list on top of the stack."""
    machine.stack[-1].extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    """Put keys and values, in turn, into the dict on top of the stack."""
    machine.stack[-1].update(_dict(zip(items[::2], items[1::2], strict=True)))


def _refer(machine: _Machine, value: Any) -> _Storage:
    """Note the storage that a persistent id names."""
    storage = _storage(*machine.stack.pop())
    machine.storages[storage.key] = storage
    return storage


def _reduce(machine: _Machine, value: Any) -> Any:
    """Call one of the `_BUILDERS`."""
    builder, arguments = machine.pop(2)
    return builder(*arguments)


_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
)
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    # which say how the program is stored
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, value: None),
    # constants
    **dict.fromkeys(_VALUES, _push(lambda machine, value: value)),
    "NONE": _push(lambda machine, value: None),
    "NEWTRUE": _push(lambda machine, value: True),
    "NEWFALSE": _push(lambda machine, value: False),
    # tuples, lists and dicts
    "MARK": lambda machine, value: machine.marks.append(len(machine.stack)),
    "EMPTY_TUPLE": _push(lambda machine, value: ()),
    "TUPLE": _push(lambda machine, value: tuple(machine.pop_to_mark())),
    "TUPLE1": _push(lambda machine, value: tuple(machine.pop(1))),
    "TUPLE2": _push(lambda machine, value: tuple(machine.pop(2))),
    "TUPLE3": _push(lambda machine, value: tuple(machine.pop(3))),
    "EMPTY_LIST": _push(lambda machine, value: []),
    "APPEND": lambda machine, value: machine.stack[-2].append(machine.stack.pop()),
    "APPENDS": lambda machine, value: _extend(machine, machine.pop_to_mark()),
    "EMPTY_DICT": _push(lambda machine, value: {}),
    "SETITEM": lambda machine, value: _set_items(machine, machine.pop(2)),
    "SETITEMS": lambda machine, value: _set_items(machine, machine.pop_to_mark()),
    # objects that the program comes back to
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda machine, value: machine.memo.update({value: machine.stack[-1]})),
    "MEMOIZE": lambda machine, value: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _push(lambda machine, value: machine.memo[value])),
    # tensors
    "GLOBAL": _push(lambda machine, value: _find(*str(value).split(" "))),
    "STACK_GLOBAL": _push(lambda machine, value: _find(*machine.pop(2))),
    "REDUCE": _push(_reduce),
    "BUILD": lambda machine, value: machine.stack.pop(),  # attributes of an OrderedDict: a state dict's _metadata
    "BINPERSID": _push(_refer),
}


def _unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """Interpret one pickle; returns its object and the storages it refers to, by key."""
    machine = _Machine()
    for opcode, value, _ in pickletools.genops(stream):
        known = opcode.name in _INSTRUCTIONS
        _require(known, f"its pickle has the instruction {opcode.name}, which no state dict needs")
        _INSTRUCTIONS[opcode.name](machine, value)
    return machine.stack.pop(), machine.storages
