"""AEDAT 4, the format of DV: packets of FlatBuffers, which may be compressed."""

import struct
from typing import Any

import numpy as np

from ...util.errors import InputError
from ...util.packages import pip_install
from ..stream import Events
from .recording import Recording

BEGINNING = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype({"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "?"],
                  "offsets": [0, 8, 10, 12], "itemsize": 16})  # fmt: skip
COMPRESSIONS = {0: None, 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}
LARGEST = 1 << 30  # bytes of a packet
CHUNK = 1 << 20  # bytes to decompress at once


def read(name: str, data: bytes, stream: int | None) -> Events:
    """Read a stream of events, by default the only one."""
    buffer = Table(name, data, len(BEGINNING))
    size = buffer.number("<I", 0)
    header = buffer.part(4, size).root(b"IOHE")
    compression, end = header.field(0, "<i", 0), header.field(1, "<q", -1)
    if compression not in COMPRESSIONS:
        raise InputError(f"{name}: compression {compression} is none of AEDAT 4")
    end = len(data) if end < 0 else end  # of the packets; -1: the recording was cut off
    place, found = len(BEGINNING) + 4 + size, dict[int, list[np.ndarray]]()
    whole = Table(name, data)
    while place < end:
        number, length = whole.number("<i", place), whole.number("<i", place + 4)
        packet = Table(name, _decompressed(name, whole.slice(place + 8, length), COMPRESSIONS[compression]))
        place += 8 + length
        packet = packet.part(4, packet.number("<I", 0))
        if packet.slice(4, 4) == b"EVTS":
            found.setdefault(number, []).append(packet.root(b"EVTS").vector(0, EVENT))
    if stream is None and len(found) > 1:
        raise InputError(f"{name}: has the streams of events {sorted(found)}: choose one by --stream")
    if found and stream not in (None, *found):
        raise InputError(f"{name}: stream {stream} is none of its streams of events, {sorted(found)}")
    parts = found.get(next(iter(found), 0) if stream is None else stream, [])
    events = np.concatenate(parts) if parts else np.empty(0, EVENT)
    x, y = (events[axis].astype(np.int64) for axis in "xy")
    return Events(events["t"].astype(np.int64), x, y, events["on"].astype(bool))


class Table:
    """Bytes of a FlatBuffer, or its table at a place; a place outside of the bytes is refused."""

    def __init__(self, name: str, data: bytes, start: int = 0, place: int = 0) -> None:
        self.name, self.data, self.start, self.place = name, data, start, place

    def slice(self, place: int, size: int) -> bytes:
        """Return a number of bytes at a place."""
        first = self.start + place
        if min(place, size) < 0 or first + size > len(self.data):
            raise InputError(f"{self.name}: damaged or cut off at byte {first} of {len(self.data)}")
        return self.data[first : first + size]

    def number(self, kind: str, place: int) -> Any:
        """Return a number at a place, of a type of `struct`."""
        return struct.unpack(kind, self.slice(place, struct.calcsize(kind)))[0]

    def part(self, place: int, size: int) -> "Table":
        """Return a part as bytes of their own."""
        return Table(self.name, self.slice(place, size))

    def root(self, kind: bytes) -> "Table":
        """Return the root table of a FlatBuffer of this kind."""
        if self.slice(4, 4) != kind:
            raise InputError(f"{self.name}: {self.slice(4, 4)!r} where {kind!r} is expected")
        return Table(self.name, self.data, self.start, self.number("<I", 0))

    def _offset(self, number: int) -> int:
        """Return where a field of the table begins, from the table on; 0 if it is not there."""
        fields = self.place - self.number("<i", self.place)
        entry = 4 + 2 * number
        return int(self.number("<H", fields + entry)) if entry < self.number("<H", fields) else 0

    def field(self, number: int, kind: str, default: Any) -> Any:
        """Return a number in a field, or its default."""
        offset = self._offset(number)
        return self.number(kind, self.place + offset) if offset else default

    def vector(self, number: int, dtype: np.dtype) -> np.ndarray:
        """Return the structs in a field."""
        if not (offset := self._offset(number)):
            return np.empty(0, dtype)
        at = self.place + offset
        at += self.number("<I", at)
        return np.frombuffer(self.slice(at + 4, self.number("<I", at) * dtype.itemsize), dtype)


def _decompressed(name: str, data: bytes, compression: str | None) -> bytes:
    if compression is None:
        return data
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{name}: packets are decompressed by pyarrow: {pip_install('pyarrow')}") from None
    try:
        with pyarrow.input_stream(pyarrow.py_buffer(data), compression=compression) as stream:
            found = bytearray()
            while len(found) <= LARGEST and (
                more := stream.read(CHUNK)
            ):  # all of what is asked for is allocated
                found += more
    except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{name}: a packet that is no {compression}: {' '.join(str(error).split())}"
        ) from None
    if len(found) > LARGEST:
        raise InputError(f"{name}: a packet of more than {LARGEST:,} bytes")
    return bytes(found)


AEDAT4 = Recording("aedat4", "AEDAT 4", lambda data, name: data.startswith(BEGINNING), read, several=True)
