"""Growing tables of a trace: rows are packed into a batch in memory and written to the file as columns."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..kernels import records
from . import dimensions, disk, header
from .schema import DIMENSIONS, Column

if TYPE_CHECKING:
    import h5py

CAPACITY = 4096  # rows per batch
SMALL = {"progress": 512, "faults": 64, "segments": 8, "pauses": 512}  # capacity of tables that stay small
CHUNKS = 4  # chunks of a column per batch: 8 KiB of 8-byte values, so that a short run's trace is small
ENTRY = 64  # bytes, at most, of a chunk's entry in HDF5's index
FORMATS = {"i4": "i", "i8": "q", "u1": "B", "f8": "d"}  # numpy's letters -> struct's


class TableWriter(records.Batch):
    """Writer of one table: a batch of packed rows, and the datasets of its columns."""

    __slots__ = "_batch", "_chunk", "_columns", "_datasets", "_guard", "_pack", "_written"

    def __new__(
        cls, file: h5py.File, name: str, columns: Mapping[str, Column], guard: disk.SpaceGuard
    ) -> Self:
        return super().__new__(cls, SMALL.get(name, CAPACITY), _struct(columns).size)

    def __init__(
        self, file: h5py.File, name: str, columns: Mapping[str, Column], guard: disk.SpaceGuard
    ) -> None:
        import h5py

        self._columns, self._guard, self._pack = columns, guard, _struct(columns).pack_into
        self._chunk = SMALL.get(name, CAPACITY) // CHUNKS
        self._batch = np.frombuffer(self.buffer, np.dtype([(key, c.dtype) for key, c in columns.items()]))
        self._written = 0
        group = file.create_group(name, track_order=True)
        self._datasets = []
        # h5py's low-level interface, here and below, takes a quarter of the time of `create_dataset`.
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
        """Write a full batch."""
        with self._guard.writing(self.needed()):
            self.write()

    def extend(self, count: int, columns: Mapping[str, Any]) -> None:
        """Add `count` rows; a column is an array, or a number that is the same in all rows."""
        first, defaults = self.count, {key: column.default for key, column in self._columns.items()}
        if first + count < len(self._batch):
            for key, values in (defaults | dict(columns)).items():
                self._batch[key][first : first + count] = values
            self.advance(count)
            return
        with self._guard.writing(self.needed(count)):
            self.write()
            self._append(count, defaults | dict(columns))

    def needed(self, more: int = 0) -> int:
        """Return the bytes of new chunks that the batch and `more` rows need."""
        rows = self._written + self.count + more
        chunks = -(-rows // self._chunk) - -(-self._written // self._chunk)
        return chunks * (self._chunk * self._batch.itemsize + ENTRY * len(self._datasets))

    def write(self) -> None:
        """Append the batch to the columns; `needed` bytes must be reserved."""
        count = self.count
        self._append(count, self._batch[:count])
        self.clear()

    def _append(self, count: int, columns: Mapping[str, Any] | np.ndarray) -> None:
        """Append columns, by h5py's low-level interface in half the time of slices."""
        import h5py

        if not count:
            return
        memory = h5py.h5s.create_simple((count,))
        for key, dataset in self._datasets:
            values = np.ascontiguousarray(np.broadcast_to(columns[key], count), self._batch.dtype[key])
            dataset.id.set_extent((self._written + count,))
            place = dataset.id.get_space()
            place.select_hyperslab((self._written,), (count,))
            dataset.id.write(memory, place, values)
        self._written += count


def _struct(columns: Mapping[str, Column]) -> struct.Struct:
    """Return the format of a packed row."""
    types = [column.dtype for column in columns.values()]
    return struct.Struct("<" + "".join(f"{t[2:]}s" if t[1] == "S" else FORMATS[t[1:]] for t in types))
