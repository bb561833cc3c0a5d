"""Recordings of event cameras, written by their published rules."""

import struct
from collections.abc import Callable

import flatbuffers
import numpy as np
import pyarrow

from pdcode.events import Events

COMPRESSIONS = {"none": 0, "lz4": 1, "zstd": 3}
INFO = """<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="0" path="/outInfo/0/">
<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/outInfo/0/info/">
<attr key="sizeX" type="int">346</attr><attr key="sizeY" type="int">260</attr></node></node>
<node name="1" path="/outInfo/1/"><attr key="typeIdentifier" type="string">IMUS</attr></node>
</node></dv>"""


def made(count: int = 500, seed: int = 0) -> Events:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(10**6, 10**6 + 10**5, count)).astype(np.int64)
    return Events(
        times, random.integers(346, size=count), random.integers(260, size=count), random.random(count) < 0.4
    )


def finished(builder: flatbuffers.Builder, root: int, kind: bytes) -> bytes:
    builder.FinishSizePrefixed(root, kind)
    return bytes(builder.Output())


def compressed(data: bytes, how: str) -> bytes:
    if how == "none":
        return data
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, how) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def packet(events: Events, part: slice) -> bytes:
    """A packet of events: a table with a vector of structs of 16 bytes."""
    builder = flatbuffers.Builder(1024)
    rows = [each[part].tolist() for each in events]
    builder.StartVector(16, len(rows[0]), 8)
    for t, x, y, on in reversed(list(zip(*rows, strict=True))):
        builder.Prep(8, 16)
        builder.Pad(3)
        builder.PrependBool(on)
        builder.PrependInt16(y)
        builder.PrependInt16(x)
        builder.PrependInt64(t)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return finished(builder, builder.EndObject(), b"EVTS")


def aedat4(events: Events, how: str, table: bool = True, second: int = 0) -> bytes:
    """A recording of three packets, one of inertia among them, with or without a table at its end.

    The second packet of events is of the stream `second`.
    """
    builder = flatbuffers.Builder(1024)
    builder.StartVector(4, 0, 4)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    other = finished(builder, builder.EndObject(), b"IMUS")
    third = len(events.x) // 3
    parts = [(0, packet(events, slice(third))), (1, other), (second, packet(events, slice(third, None)))]
    body = b"".join(
        struct.pack("<ii", number, len(data)) + data
        for number, data in ((n, compressed(d, how)) for n, d in parts)
    )
    end = -1
    for _ in range(2):  # the place of the table needs the length of the header
        builder = flatbuffers.Builder(1024)
        info = builder.CreateString(INFO)
        builder.StartObject(3)
        builder.PrependInt32Slot(0, COMPRESSIONS[how], -1)
        builder.PrependInt64Slot(1, end, 0)
        builder.PrependUOffsetTRelativeSlot(2, info, 0)
        start = b"#!AER-DAT4.0\r\n" + finished(builder, builder.EndObject(), b"IOHE")
        end = len(start) + len(body) if table else -1
    return start + body + (b"a table of packets" if table else b"")


def aedat3(events: Events) -> bytes:
    """A packet of others, and two of events; the second has overflown times, and an invalid event."""
    half, valid = len(events.x) // 2, np.ones(len(events.x), np.int64)
    valid[-1] = 0
    address = events.x << 17 | events.y << 2 | events.on << 1 | valid
    body = struct.pack("<hhiiiiii", 3, 1, 36, 4, 0, 1, 1, 1) + bytes(36)
    for overflow, part in ((0, slice(half)), (1, slice(half, None))):
        rows = np.stack([address[part], events.times_us[part] - (overflow << 31)], axis=1).astype("<u4")
        body += (
            struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(rows), len(rows), len(rows)) + rows.tobytes()
        )
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346\r\n#!END-HEADER\r\n" + body


def nmnist(events: Events) -> bytes:
    """Events of 40 bits; all times after one in row 240 are 8,192 µs later."""
    rows, later = b"", 0
    for t, x, y, on in zip(*(each.tolist() for each in events), strict=True):
        while t - later > 60_000:
            rows, later = rows + bytes([0, 240, 0, 0, 0]), later + 8192
        rows += bytes([x, y]) + (t - later | int(on) << 23).to_bytes(3)
    return rows


def evt2(events: Events) -> bytes:
    """Words of 32 bits: upper bits of the time (type 8), OFF (0) and ON (1) events with its lower six."""
    words, high = [], -1
    for t, x, y, on in zip(*(each.tolist() for each in events), strict=True):
        if t >> 6 != high:
            words.append(0x8 << 28 | (high := t >> 6))
        words.append(int(on) << 28 | (t & 63) << 22 | x << 11 | y)
    return b"% evt 2.0\n% geometry 640x480\n% end\n" + np.array(words, "<u4").tobytes()


def evt3(events: Events) -> bytes:
    """Words of 16 bits: upper (type 8) and lower (6) bits of the time, row (0), column with ON (2)."""
    words, high = [], -1
    for t, x, y, on in zip(*(each.tolist() for each in events), strict=True):
        if t >> 12 != high:
            words.append(0x8000 | (high := t >> 12))
        words += [0x6000 | t & 0xFFF, y, 0x2000 | int(on) << 11 | x]
    return b"% evt 3.0\n% geometry 640x480\n% end\n" + np.array(words, "<u2").tobytes()


def dat(events: Events) -> bytes:
    """Type and size of events after the header, then times and words of column, row and polarity."""
    words = np.stack([events.times_us, events.x | events.y << 14 | events.on << 28], axis=1).astype("<u4")
    return b"% Version 2\n% Width 640\n% Height 480\n" + bytes([0x0C, 8]) + words.tobytes()


def es(events: Events) -> bytes:
    """Time since the last event and polarity in a byte, 0xFF adds 127 µs; rows from the bottom."""
    rows, last = b"Event Stream" + bytes([2, 0, 0, 1]) + struct.pack("<HH", 640, 480), 0
    for t, x, y, on in zip(*(each.tolist() for each in events), strict=True):
        full, rest = divmod(t - last, 127)
        rows, last = rows + b"\xff" * full + struct.pack("<BHH", rest << 1 | int(on), x, 479 - y), t
    return rows


def text(first: str, line: str) -> Callable[[Events], bytes]:
    def written(events: Events) -> bytes:
        rows = zip(*(each.tolist() for each in events), strict=True)
        return (
            first + "".join(line.format(t=t, s=t / 1e6, x=x, y=y, p=int(p)) for t, x, y, p in rows)
        ).encode()

    return written


FORMATS = {
    "a.aedat": aedat3,
    "00002.bin": nmnist,
    "evt2.raw": evt2,
    "evt3.raw": evt3,
    "a.dat": dat,
    "a.es": es,
    "rpg.txt": text("", "{s:.9f} {x} {y} {p}\n"),
    "e2vid.txt": text("346 260\n", "{s:.6f} {x} {y} {p}\n"),
    "bare.csv": text("", "{t},{x},{y},{p}\n"),
    "faery.csv": text("t,x@346,y@260,on\n", "{t},{x},{y},{p}\n"),
}


def example(name: str, count: int = 400) -> Events:
    """Events that a format of `FORMATS` can hold."""
    events = made(count)
    if name == "a.aedat":
        events.times_us[count // 2 :] += 1 << 31
    if name == "00002.bin":
        events = Events(events.times_us - 10**6, events.x % 34, events.y % 34, events.on)
    if name == "a.es":
        events.times_us[:] -= events.times_us[0]
    return events
