"""One group of Zarr, version 3, written by TensorStore: what is done is what it says is done.

``status`` says of every image whether it is not done (0), done (1), or cannot be explained (2). It is written after all
that belongs to the image, so that a job that is killed at any time leaves nothing that looks done and is not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from ._extra import tensorstore as ts

WAITING, DONE, FAILED, UNREADABLE = 0, 1, 2, 255
NAME_BYTES, PROBLEM_BYTES = 256, 512
FILE_BYTES = 4 << 20  # of maps, uncompressed, in a file; a process has up to three of each device
CHUNK_BYTES = (1 << 31) - 17  # that Blosc compresses at once
FILES = 64  # a store has so many files at least, if it has as many chunks: processes share the work by files
Fields: TypeAlias = "Mapping[str, Field]"
Place: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class Field:
    """What is stored of every image, as an array ``(images, *shape)``.

    Attributes:
      dtype: as Zarr calls it.
      shape: of one image's.
      dimensions: the names of its axes.
      fill: what stands where nothing has been written.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    dimensions: tuple[str, ...] = ()
    fill: Any = "NaN"


COMMON: Fields = {
    "name": Field("uint8", (NAME_BYTES,), ("byte",), 0),
    "label": Field("int32", fill=-1),
    "status": Field("uint8", fill=WAITING),
    "problem": Field("uint8", (PROBLEM_BYTES,), ("character",), 0),
}


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
      kv: where it is.
      arrays: by name.
      chunk: how many images are explained together, and lie together.
      per_file: how many images are in a file; a multiple of ``chunk``.
    """

    kv: Any
    arrays: Mapping[str, Any]
    chunk: int
    per_file: int

    @property
    def images(self) -> int:
        """How many there are."""
        return self.arrays["status"].shape[0]

    def status(self) -> np.ndarray:
        """The status of every image, `UNREADABLE` where it is damaged."""
        with suppress(ValueError):
            return self.arrays["status"].read().result()
        status = np.full(self.images, UNREADABLE, np.uint8)
        for file in range(-(-self.images // self.per_file)):
            with suppress(ValueError):  # a checksum that differs
                status[self.images_of(file)] = self.arrays["status"][self.images_of(file)].read().result()
        return status

    def images_of(self, file: int) -> slice:
        """The images of a file."""
        return slice(file * self.per_file, min((file + 1) * self.per_file, self.images))

    def write(self, begin: int, chunks: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Write what was found of neighbouring chunks, which are in one file, and at last that it is done.

        TensorStore makes the file of the chunks as they are, which nobody may change any more: neither here nor there
        they are copied into one large array, of which allocators would keep the place for each thread that had one.

        Raises:
          OSError: if it cannot be written; the images are done again then.
        """
        lengths = [len(chunk["status"]) for chunk in chunks]
        ends = [begin + end for end in accumulate(lengths)]
        try:
            with ts.Transaction() as file:
                arrays = {name: array.with_transaction(file) for name, array in self.arrays.items() if name != "status"}
                writing = [
                    array[end - length : end].write(chunk[name], can_reference_source_data_indefinitely=True)
                    for chunk, length, end in zip(chunks, lengths, ends, strict=True)
                    for name, array in arrays.items()
                ]
                for one in writing:
                    one.result()
            self.arrays["status"][begin : ends[-1]].write(np.concatenate([c["status"] for c in chunks])).result()
        except ValueError as error:  # whatever goes wrong is one to TensorStore
            raise OSError(
                f"{self.kv.url} cannot be written: {reason(error)}; the same call goes on from there"
            ) from error

    def lost(self, status: np.ndarray, check: bool) -> list[int]:
        """The files of which something that was done is gone, or damaged, for which only ``check`` looks at all."""
        there = {key.decode() for key in self.kv.list().result()}
        files = []
        for file in range(-(-self.images // self.per_file)):
            of_file = status[self.images_of(file)]
            done = np.unique(np.flatnonzero(of_file) // self.chunk) + file * self.per_file // self.chunk
            is_there = not len(done) or there.issuperset(self.keys(file))
            if UNREADABLE in of_file or not is_there or (check and not all(map(self.is_whole, done))):
                files.append(file)
        return files

    def keys(self, file: int) -> list[str]:
        """Where the arrays have what belongs to a file."""
        return [f"{name}/c/{file}" + "/0" * (array.rank - 1) for name, array in self.arrays.items()]

    def discard(self, file: int) -> None:
        """Forget all images of a file, the status first."""
        for key in sorted(self.keys(file), key=lambda key: not key.startswith("status/")):
            self.kv.write(key, None).result()

    def is_whole(self, chunk: int) -> bool:
        """Whether what was written of a chunk can be read, and is there."""
        images = slice(chunk * self.chunk, min((chunk + 1) * self.chunk, self.images))
        try:
            values = {name: array[images].read().result() for name, array in self.arrays.items()}
        except ValueError:  # the checksums differ
            return False
        is_named = values["name"].any(axis=1)
        results = [v.reshape(len(v), -1) for name, v in values.items() if name not in COMMON and v.dtype.kind != "i"]
        is_there = np.array([[not np.isnan(row).all() for row in v.astype(np.float32)] for v in results])
        return bool((is_named & (is_there.any(axis=0) | (values["status"] == FAILED))).all())


def reason(error: Exception) -> str:
    """The middle of TensorStore's sentence, which tells where in its source it was written."""
    return re.split(r" \[(?:source locations|\w+=)", str(error))[0]


def kvstore(where: Place) -> Any:
    """The place of a store: a path, or an address such as ``gs://bucket/maps.zarr``.

    Raises:
      ValueError: for an address that TensorStore does not take.
    """
    text = os.fspath(where)
    if "://" not in text:
        return ts.KvStore.open({"driver": "file", "path": os.path.abspath(text) + "/"}).result()
    try:
        return ts.KvStore.open(text.rstrip("/") + "/").result()
    except ValueError as error:
        raise ValueError(f"{text} is no place for a store: {reason(error)}") from error


def about(kv: Any) -> dict[str, Any] | None:
    """What the store says it is; `None` where there is none.

    Raises:
      ValueError: where something else is, which is not overwritten.
    """
    result = kv.read("zarr.json").result()
    if result.state == "missing":
        if others := [key for key in kv.list().result() if not key.endswith(b"/zarr.json")]:
            raise ValueError(
                f"{kv.url} holds {others[0].decode(errors='replace')}, which is no store: name another place"
            )
        return None
    try:
        found = json.loads(result.value)["attributes"]["jaxplain"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{kv.url} is no store of jaxplain.bulk: name another place") from None
    return found


def create(kv: Any, images: int, batch_size: int, fields: Fields, attributes: Mapping[str, Any]) -> None:
    """Make an empty store; it is one as soon as its ``zarr.json`` is there, which comes last."""
    fields = {**fields, **COMMON}
    per_file = images_per_file(images, batch_size, fields)
    for name, field in fields.items():
        array_of(
            kv,
            name,
            {"create": True, "delete_existing": True, "metadata": metadata(field, images, batch_size, per_file)},
        )
    attributes = {"jaxplain": {**attributes, "arrays": [*fields], "batch_size": batch_size, "per_file": per_file}}
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2)
    kv.write("zarr.json", text.encode()).result()


def require_chunks(batch_size: int, fields: Fields) -> None:
    """Refuse batches of more bytes than a chunk may have."""
    image = max(image_bytes(field) for field in fields.values())
    if batch_size * image > CHUNK_BYTES:
        raise ValueError(
            f"batch_size={batch_size} images of {image:,} bytes are more than a chunk holds: pass "
            f"{CHUNK_BYTES // image} at most"
        )


def open_store(kv: Any, found: Mapping[str, Any]) -> Store:
    """Open the store that ``about`` has found."""
    arrays = {name: array_of(kv, name, {}) for name in found["arrays"]}
    return Store(kv, arrays, found["batch_size"], found["per_file"])


def array_of(kv: Any, name: str, options: Mapping[str, Any]) -> Any:
    """One array of the store."""
    spec = {
        "driver": "zarr3",
        "kvstore": (kv / f"{name}/").spec().to_json(),
        "recheck_cached_data": True,
        "store_data_equal_to_fill_value": True,
    }
    try:
        return ts.open({**spec, **options}).result()
    except ValueError as error:
        raise OSError(f"{kv.url}{name} cannot be opened: {reason(error)}") from error


def images_per_file(images: int, batch_size: int, fields: Fields) -> int:
    """How many images are in a file: as many whole chunks as fit, and few enough for processes to share the files."""
    most = max(image_bytes(field) for field in fields.values())
    chunks = min(FILE_BYTES // (most * batch_size), images // (batch_size * FILES))
    return batch_size * max(1, chunks)


def image_bytes(field: Field) -> int:
    """How many bytes a field takes of one image."""
    return int(np.prod(field.shape)) * item_bytes(field.dtype)


def item_bytes(dtype: str) -> int:
    """How many bytes a number takes."""
    return int("".join(c for c in dtype if c.isdigit())) // 8


def metadata(field: Field, images: int, batch_size: int, per_file: int) -> dict[str, Any]:
    """An array as Zarr describes it: files of several chunks each, compressed, with checksums.

    Blosc sorts the bits of numbers by their place before it compresses them: maps take half the time that zstd alone
    takes, and less room, as neighbours share signs and exponents.
    """
    item = item_bytes(field.dtype)
    blosc = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": item, "blocksize": 0}
    compressed = [
        {"name": "bytes", **({"configuration": {"endian": "little"}} if item > 1 else {})},
        {"name": "blosc", "configuration": blosc},
        {"name": "crc32c"},
    ]
    in_files = {"chunk_shape": [batch_size, *field.shape], "codecs": compressed}
    return {
        "shape": [images, *field.shape],
        "data_type": field.dtype,
        "fill_value": field.fill,
        "dimension_names": ["image", *field.dimensions],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [per_file, *field.shape]}},
        "codecs": [{"name": "sharding_indexed", "configuration": in_files}] if field.shape else compressed,
    }


def text_rows(texts: list[str], width: int) -> np.ndarray:
    """Texts as rows of bytes in UTF-8; of one that is too long the end is kept."""
    rows = np.zeros((len(texts), width), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        raw = text.encode(errors="surrogatepass")[-width:]
        row[: len(raw)] = np.frombuffer(raw, np.uint8)
    return rows
