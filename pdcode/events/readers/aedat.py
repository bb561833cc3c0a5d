"""AEDAT 2, the format of jAER, and AEDAT 3.1, the format of cAER."""

import re

import numpy as np

from ...util.errors import InputError, short_repr
from ..stream import Events
from .recording import Recording

DAVIS = {"128": (128, 128), "208": (208, 192), "240": (240, 180), "346": (346, 260), "640": (640, 480)}
END = "#End Of ASCII Header"
END_3 = "#!END-HEADER"
# Kind, source, size of an event, place of its time, overflows, capacity, number, number of valid events.
PACKET = np.dtype("<i2, <i2, <i4, <i4, <i4, <i4, <i4, <i4")
POLARITY = 1  # kind of packets


def _header(name: str, data: bytes, last: str) -> tuple[str, int]:
    """Return the lines that begin with #, to the last one, and where they end."""
    start, lines = 0, []
    while data.startswith(b"#", start):
        end = data.find(b"\n", start) + 1
        if not end:
            raise InputError(f"{name}: its header does not end")
        lines.append(data[start:end].decode(errors="replace"))
        start = end
        if lines[-1].startswith(last):  # the first event may begin with the byte of '#'
            break
    return "".join(lines), start


def read_2(name: str, data: bytes) -> Events:
    """Read events of a DVS128 or a DAVIS, by the chip that the header names."""
    header, start = _header(name, data, END)
    if (len(data) - start) % 8:
        raise InputError(f"{name}: {len(data) - start} bytes of events, which is no multiple of 8")
    address, times = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).T.astype(np.int64)
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


def read_3(name: str, data: bytes) -> Events:
    """Read valid polarity events, which count pixels from the top left."""
    header, place = _header(name, data, END_3)
    if (form := re.search(r"^#Format: *(\S+)", header, re.M)) and form[1].upper() != "RAW":
        raise InputError(f"{name}: format {short_repr(form[1])} of AEDAT 3.1; RAW is read")
    found = []
    while place < len(data):
        if place + PACKET.itemsize > len(data):
            raise InputError(f"{name}: damaged or cut off at byte {place} of {len(data)}")
        kind, _, size, _, overflow, _, number, _ = np.frombuffer(data, PACKET, 1, place)[0].tolist()
        place += PACKET.itemsize
        if size <= 0 or number < 0 or place + size * number > len(data):
            raise InputError(f"{name}: damaged or cut off at byte {place} of {len(data)}")
        if kind == POLARITY:
            if size != 8:
                raise InputError(f"{name}: polarity events of {size} bytes at byte {place}; 8 are read")
            words = np.frombuffer(data, "<u4", 2 * number, place).reshape(-1, 2).astype(np.int64)
            found.append(words + np.array([0, overflow << 31]))
        place += size * number
    address, times = np.concatenate([np.empty((0, 2), np.int64), *found]).T
    valid = address & 1 == 1
    address, times = address[valid], times[valid]
    return Events(times, address >> 17, address >> 2 & 0x7FFF, address >> 1 & 1 == 1)


AEDAT2 = Recording("aedat2", "AEDAT 2", lambda data, name: data.startswith(b"#!AER-DAT2"), read_2)
AEDAT3 = Recording("aedat3", "AEDAT 3.1", lambda data, name: data.startswith(b"#!AER-DAT3.1"), read_3)
