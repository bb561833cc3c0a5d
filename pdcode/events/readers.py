"""Readers of recordings: AEDAT 2 and 4, the formats of jAER and DV, and CSV."""

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..util.errors import InputError, ensure_file, short_repr
from ..util.packages import pip_install
from .stream import Events, checked

AEDAT4 = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype({"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "?"],
                  "offsets": [0, 8, 10, 12], "itemsize": 16})  # fmt: skip
COMPRESSIONS = {0: None, 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}
LARGEST = 1 << 30  # bytes of a packet
DAVIS = {"128": (128, 128), "208": (208, 192), "240": (240, 180), "346": (346, 260), "640": (640, 480)}
END = "#End Of ASCII Header"
COLUMNS = ("t", "timestamp"), ("x",), ("y",), ("p", "on", "polarity")


def read_events(path: str | Path) -> Events:
    """Read a recording.

    Parameters
    ----------
    path : str or Path
        File that begins as AEDAT 2 or 4 does, or a CSV file with columns t (or timestamp) [µs], x, y, and p
        (or on, polarity), which is above 0 for ON events.

    Returns
    -------
    Events

    Raises
    ------
    InputError
        If the file is malformed or has no events.
    """
    ensure_file(path)
    data, name = Path(path).read_bytes(), str(path)
    if data.startswith(AEDAT4):
        read: Callable[[str, bytes], Events] = _aedat4
    elif data.startswith(b"#!AER-DAT2"):
        read = _aedat2
    elif data.startswith(b"#!AER-DAT"):
        version = data[9:12].decode(errors="replace")
        raise InputError(f"{name}: AEDAT version {version}; versions 2 and 4 are read")
    else:
        read = _csv
    return checked(name, read(name, data))


def _aedat2(name: str, data: bytes) -> Events:
    """Read events of a DVS128 or a DAVIS, by the chip that the header names."""
    start, lines = 0, []
    while data.startswith(b"#", start):
        end = data.find(b"\n", start) + 1
        if not end:
            raise InputError(f"{name}: its header does not end")
        lines.append(data[start:end].decode(errors="replace"))
        start = end
        if lines[-1].startswith(END):  # the first event may begin with the byte of '#'
            break
    if (len(data) - start) % 8:
        raise InputError(f"{name}: {len(data) - start} bytes of events, which is no multiple of 8")
    address, times = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).T.astype(np.int64)
    header = "".join(lines)
    if chip := re.search(r"davis(?:rgb)?(128|208|240|346|640)", header, re.I):
        width, height = DAVIS[chip[1]]
        kept = (address >> 31 == 0) & (address >> 10 & 1 == 0)  # neither images and inertia, nor triggers
        column, row, on = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1 == 1
    elif re.search(r"dvs128|tmpdiff128", header, re.I):
        width = height = 128
        kept = address >> 15 & 1 == 0  # no triggers
        column, row, on = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1 == 0
    else:
        raise InputError(
            f"{name}: its header (AEChip) names neither a DVS128 nor a DAVIS of {', '.join(DAVIS)} columns, "
            "whose addresses are read"
        )
    # Columns count from the right, and rows from the bottom.
    return Events(times[kept], width - 1 - column[kept], height - 1 - row[kept], on[kept])


def _aedat4(name: str, data: bytes) -> Events:
    """Read the first stream of events."""
    buffer = Table(name, data, len(AEDAT4))
    size = buffer.number("<I", 0)
    header = buffer.part(4, size).root(b"IOHE")
    compression, end = header.field(0, "<i", 0), header.field(1, "<q", -1)
    if compression not in COMPRESSIONS:
        raise InputError(f"{name}: compression {compression} is none of AEDAT 4")
    end = len(data) if end < 0 else end  # of the packets; -1: the recording was cut off
    place, stream, found = len(AEDAT4) + 4 + size, None, []
    whole = Table(name, data)
    while place < end:
        number, length = whole.number("<i", place), whole.number("<i", place + 4)
        packet = Table(name, _decompressed(name, whole.slice(place + 8, length), COMPRESSIONS[compression]))
        place += 8 + length
        packet = packet.part(4, packet.number("<I", 0))
        if packet.slice(4, 4) == b"EVTS" and stream in (None, number):
            stream = number
            found.append(packet.root(b"EVTS").vector(0, EVENT))
    events = np.concatenate(found) if found else np.empty(0, EVENT)
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
            found: bytes = stream.read(LARGEST + 1)
    except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{name}: a packet that is no {compression}: {' '.join(str(error).split())}"
        ) from None
    if len(found) > LARGEST:
        raise InputError(f"{name}: a packet of more than {LARGEST:,} bytes")
    return found


def _csv(name: str, data: bytes) -> Events:
    """Read columns t, x, y and p, found by their names."""
    lines = iter(data.decode(errors="replace").removeprefix("\ufeff").splitlines())
    first = next(lines, "")
    names = [each.strip().strip('"').lower() for each in re.split(r"[,;\t]", first)]
    places = [next((names.index(each) for each in wanted if each in names), -1) for wanted in COLUMNS]
    if -1 in places:
        missing = " or ".join(COLUMNS[places.index(-1)])
        raise InputError(f"{name}: no column {missing} in {short_repr(first)}, the names of the columns")
    rows = list(_rows(name, lines, len(names)))
    columns = np.array(rows, np.float64).reshape(-1, len(names))[:, places].T
    wrong = np.flatnonzero(
        (columns[:3] != np.rint(columns[:3])).any(axis=0) | (abs(columns) > 2**53).any(axis=0)
    )
    if len(wrong):
        raise InputError(f"{name}, event {wrong[0]}: t [µs], x and y must be whole numbers")
    t, x, y = columns[:3].astype(np.int64)
    return Events(t, x, y, columns[3] > 0)


def _rows(name: str, lines: Iterator[str], width: int) -> Iterator[list[float]]:
    """Yield the numbers of each line; truth values are 1 and 0."""
    words = {"true": "1", "false": "0"}
    for number, line in enumerate(lines, 2):
        if line.strip():
            fields = [words.get(each.strip().lower(), each) for each in re.split(r"[,;\t]", line)]
            try:
                row = [float(each) for each in fields]
            except ValueError:
                raise InputError(f"{name}, line {number}: {short_repr(line)} has more than numbers") from None
            if len(row) != width:
                raise InputError(f"{name}, line {number}: {len(row)} values, but {width} columns")
            yield row
