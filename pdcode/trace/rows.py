"""Batches of rows: packed in memory, written to the file as columns."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..kernels import intake
from . import dimensions, header, room
from .schema import DIMENSIONS, Column

if TYPE_CHECKING:
    import h5py

CAPACITY = 4096  # rows per batch
FEW = {"progress": 512, "faults": 64, "segments": 8}  # the same for tables that stay small
CHUNKS = 4  # chunks of the file per batch; 8 KiB of an 8-byte column, so that a short run's trace is small
ENTRY = 64  # maximum size of a chunk's entry in HDF5's index, bytes
FORMATS = {"i4": "i", "i8": "q", "u1": "B", "f8": "d"}  # numpy's letters -> struct's


class Rows(intake.Batch):
    """Writer of one table: a batch of packed rows, and the datasets for its columns."""

    __slots__ = "_batch", "_chunk", "_columns", "_datasets", "_guard", "_pack", "_written"

    def __new__(cls, file: h5py.File, name: str, columns: Mapping[str, Column], guard: room.Guard) -> Self:
        return super().__new__(cls, FEW.get(name, CAPACITY), _struct(columns).size)

    def __init__(self, file: h5py.File, name: str, columns: Mapping[str, Column], guard: room.Guard) -> None:
        import h5py

        self._columns, self._guard, self._pack = columns, guard, _struct(columns).pack_into
        self._chunk = FEW.get(name, CAPACITY) // CHUNKS
        self._batch = np.frombuffer(self.buffer, np.dtype([(key, c.dtype) for key, c in columns.items()]))
        self._written = 0
        group = file.create_group(name, track_order=True)
        self._datasets = []
        # By h5py's low-level interface, as below: a quarter of the cost of `create_dataset`.
        space = h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((self._chunk,))
        layout.set_obj_track_times(False)
        for key, column in columns.items():
            kind = h5py.h5t.py_create(np.dtype(column.dtype), logical=True)
            dataset = h5py.Dataset(h5py.h5d.create(group.id, key.encode(), kind, space, layout))
            header.describe_column(dataset, column)
            self._datasets.append((key, dataset))
        axis = DIMENSIONS[name]
        dimension = dimensions.make(group if axis in columns else file, axis)
        for _, dataset in self._datasets:
            dimensions.attach(dataset, dimension)

    def append(self, *values: float | bytes) -> None:
        """Add one row, its values in the order of the schema."""
        self.pack(self._pack, values)

    @property
    def written(self) -> int:
        """Number of rows in the file."""
        return self._written

    def spill(self) -> None:
        with self._guard.writing(self.needed()):
            self.write()

    def extend(self, count: int, columns: Mapping[str, Any]) -> None:
        """Add `count` rows; a column is an array, or a number that is the same in all rows."""
        defaults = {key: column.default for key, column in self._columns.items()}
        with self._guard.writing(self.needed(count)):
            self.write()
            self._put(count, defaults | dict(columns))

    def needed(self, more: int = 0) -> int:
        """Return the file space in bytes of the chunks that the batch and `more` rows begin."""
        rows = self._written + self.count + more
        chunks = -(-rows // self._chunk) - -(-self._written // self._chunk)
        return chunks * (self._chunk * self._batch.itemsize + ENTRY * len(self._datasets))

    def write(self) -> None:
        """Append the batch to the file's columns; space for `needed` bytes must be reserved."""
        count = self.count
        self._put(count, self._batch[:count])
        self.clear()

    def _put(self, count: int, columns: Mapping[str, Any] | np.ndarray) -> None:
        """Write columns by h5py's low-level interface, at half the cost of slices."""
        import h5py

        if not count:
            return
        memory = h5py.h5s.create_simple((count,))
        for key, dataset in self._datasets:
            values = np.ascontiguousarray(np.broadcast_to(columns[key], count), self._batch.dtype[key])
            dataset.id.set_extent((self._written + count,))
            where = dataset.id.get_space()
            where.select_hyperslab((self._written,), (count,))
            dataset.id.write(memory, where, values)
        self._written += count


def _struct(columns: Mapping[str, Column]) -> struct.Struct:
    """Return the format of a row."""
    return struct.Struct("<" + "".join(_format(column.dtype) for column in columns.values()))


def _format(dtype: str) -> str:
    """Return the struct format of a column."""
    return f"{dtype[2:]}s" if dtype[1] == "S" else FORMATS[dtype[1:]]
