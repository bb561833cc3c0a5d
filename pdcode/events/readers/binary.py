"""Binary formats: N-MNIST, and by the package `faery` those of Prophesee and Event Stream."""

from collections.abc import Callable

import numpy as np

from ...util.errors import InputError
from ...util.packages import pip_install
from ..stream import Events
from .recording import Recording

OVERFLOW_ROW, OVERFLOW_US = 240, 1 << 13  # row of the events that lengthen all later times, and by how much


def read_nmnist(name: str, data: bytes) -> Events:
    """Read events of 40 bits: column, row, polarity, and 23 bits of the time [µs]."""
    if len(data) % 5:
        raise InputError(f"{name}: {len(data)} bytes, which is no multiple of the 5 of an event of N-MNIST")
    x, y, *rest = np.frombuffer(data, np.uint8).reshape(-1, 5).T.astype(np.int64)
    overflow = y == OVERFLOW_ROW
    times = ((rest[0] & 127) << 16 | rest[1] << 8 | rest[2]) + OVERFLOW_US * np.cumsum(overflow)
    return Events(times[~overflow], x[~overflow], y[~overflow], (rest[0] >> 7 == 1)[~overflow])


def read_by_faery(name: str, data: bytes) -> Events:
    """Read a format that faery knows by the file's suffix and header."""
    try:
        import faery
    except ImportError:
        raise InputError(f"{name}: is read by faery: {pip_install('faery')}") from None
    try:
        found = faery.events_stream_from_file(name).to_array()
    except Exception as error:  # noqa: BLE001 - it raises bare ones, too
        raise InputError(f"{name}: faery cannot read it: {' '.join(str(error).split())}") from None
    t, x, y = (found[axis].astype(np.int64) for axis in "txy")
    return Events(t, x, y, found["on"].astype(bool))


def _suffixed(*suffixes: str) -> Callable[[bytes, str], bool]:
    return lambda data, name: name.lower().endswith(suffixes)


NMNIST = Recording("nmnist", "N-MNIST", _suffixed(".bin"), read_nmnist)
PROPHESEE = Recording("prophesee", "Prophesee", _suffixed(".raw", ".dat"), read_by_faery)
EVENT_STREAM = Recording("event-stream", "Event Stream", _suffixed(".es"), read_by_faery)
