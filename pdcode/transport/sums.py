"""Sums of payloads over the workers (``[reduce] kind``), and the workers' reports to rank 0.

The workers add up their payloads among themselves, together with two numbers: how many workers ask for the
end of the run, and how many for a checkpoint. Rank 0 does not take part. Each worker then sends it a report,
with the time at which the worker had the sum, and one of n segments of the sum. No worker waits for that.

Rounded payloads are averaged by owners: worker j owns the j-th of n ranges of elements. It gets that segment
of every payload (a reduce-scatter), and sends its mean, which it has rounded again, to all (an allgather).
"""

import struct
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np

from ..kernels import finite
from .base import Arrival
from .layout import HEADER, Layout, buffer
from .messages import Reply, Task
from .modular import REQUESTS, SAVE_SHIFT
from .units import Unit

REPORT = struct.Struct("<qq")
"""Fields of a report after the header: time at which the worker had the sum, and a digest of θ, or 0."""
REPORT_BYTES = HEADER.size + REPORT.size
REQUEST_BYTES = 8  # of a segment of a mean
MEMBERS_BYTES = 8  # of attempt, version, number of members, and each member, in the list of members


def exchanged_bytes(layout: Layout, workers: int) -> int:
    """Return the bytes that a worker sends, and receives, in a round: 2 (n - 1)/n of the payload.

    No allreduce of long vectors takes less (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations", J. Parallel Distrib. Comput. 2009). If payloads are rounded, the bytes of
    the longest segment's owner: its mean to all others, and the rest of its payload.
    """
    if layout.exact or layout.blocks is not None:
        return round(2 * (workers - 1) / workers * layout.payload_bytes)
    sizes = segment_bytes(layout, workers)
    return sum(sizes) + (workers - 2) * max(sizes)


def announcement(layout: Layout) -> Layout:
    """Return the layout of the message by which a worker announces a payload of this layout.

    It has one number in place of the payload: NaN if that is not finite.
    """
    return Layout([Unit(0, 1, 1)], [1], [1], layout.dtype)


class Sum:
    """Payload of a round of an update, in the problem's dtype, or its sum over the n workers.

    `vector` has the payload, the numbers of workers that ask for the end and for a checkpoint, and zeros up
    to a multiple of n; row i of `segments` is the segment of it that worker i sends to rank 0. `reply` is a
    view of the payload, `arrival` the payload as an arrival.
    """

    def __init__(self, layout: Layout, number: int, workers: int) -> None:
        size, item = layout.payload_size, layout.dtype.itemsize
        length = -(-(size + 2) // workers) * workers
        start = layout.reply_bytes - size * item
        message = buffer(start + length * item)[0][: start + length * item]
        self.vector = message[start:].view(layout.dtype)
        self.segments = self.vector.reshape(workers, -1)
        self.reply = Reply(layout, message)
        self.arrival = Arrival(self.reply, number)
        self._size = size

    def request(self, end: bool, save: bool) -> None:
        """Ask for the end of the run, or not, and all workers for a checkpoint once they have the sum."""
        self.vector[self._size : self._size + 2] = end, save

    @property
    def requested(self) -> tuple[bool, bool]:
        """Whether a worker asks for the end, and for a checkpoint."""
        end, save = self.vector[self._size : self._size + 2]
        return bool(end), bool(save)

    @property
    def is_finite(self) -> bool:
        """Whether the payload is usable: finite, and not too large."""
        return finite.all_usable(self.vector[: self._size])

    def assemble(self) -> None:
        """Read the payload from the segments; here it is a view of them."""


class ModularSum:
    """Integers of a round of an update, modulo 2^bits, or their sum over the n workers.

    `vector` has all words; the workers' requests are counts in the first block. The other attributes are as
    for `Sum`.
    """

    def __init__(self, layout: Layout, number: int, workers: int) -> None:
        assert layout.blocks is not None
        self.reply = Reply(layout, buffer(layout.buffer_bytes)[0])
        self.arrival = Arrival(self.reply, number)
        self.vector, self.is_finite = self.reply.words, True
        self.segments = np.array_split(self.vector, workers)
        self._counts = self.vector[layout.blocks.counts :][:1]

    def request(self, end: bool, save: bool) -> None:
        """Ask for the end, or not, and a checkpoint; the rounding of the payload has cleared both counts."""
        self._counts |= np.uint64(end | save << SAVE_SHIFT)

    @property
    def requested(self) -> tuple[bool, bool]:
        """Whether a worker asks for the end, and for a checkpoint."""
        counts = int(self._counts[0])
        return bool(counts & REQUESTS), bool(counts >> SAVE_SHIFT & REQUESTS)

    def assemble(self) -> None:
        """Read the sum from the segments, which are views of it."""
        self.is_finite = self.reply.read()


def tree_neighbours(worker: int, workers: int, fanout: int) -> tuple[int, range]:
    """Return the worker above a worker in the tree, -1 for worker 0, and those below it."""
    first = worker * fanout + 1
    return (worker - 1) // fanout, range(min(first, workers), min(first + fanout, workers))


def owned_fields(layout: Layout, workers: int) -> list[slice]:
    """Return the units of a payload that each worker owns: those with their middle in its n-th of θ."""
    ends = np.cumsum([unit.length for unit in layout.units])
    middles = ends - np.array([unit.length for unit in layout.units]) / 2
    firsts = np.searchsorted(middles * workers, np.arange(workers + 1) * ends[-1]).tolist()
    return [slice(*pair) for pair in pairwise(firsts)]


def owned_places(layout: Layout, workers: int) -> list[slice]:
    """Return the place in a message of the part of the payload that each worker owns."""
    starts = [*(field.offset for field in layout.fields), layout.reply_bytes]
    return [slice(starts[own.start], starts[own.stop]) for own in owned_fields(layout, workers)]


def segment_bytes(layout: Layout, owners: int) -> list[int]:
    """Return the length of each segment of a mean, with its numbers of requests."""
    return [REQUEST_BYTES + place.stop - place.start for place in owned_places(layout, owners)]


def chosen_bytes(layout: Layout, members: int) -> tuple[int, int]:
    """Return the bytes that rank 0 receives, and sends, when it has chosen the members of an update."""
    return sum(segment_bytes(layout, members)), members * MEMBERS_BYTES * (3 + members)


class Mean:
    """Rounded payload of a round, or the mean of all workers' payloads, in segments of an owner each.

    A segment has the numbers of workers that ask for the end and for a checkpoint, two int32, and the owner's
    units as in the message. `segments` are views of `message`; the other attributes are as for `Sum`.
    """

    def __init__(self, layout: Layout, number: int, workers: int) -> None:
        self.reply = reply = Reply(layout, buffer(layout.buffer_bytes)[0])
        self.arrival = Arrival(reply, number)
        ends = np.cumsum([0, *segment_bytes(layout, workers)]).tolist()
        self.message = buffer(ends[-1])[0][: ends[-1]]
        self.segments = [self.message[slice(*pair)] for pair in pairwise(ends)]
        self.sizes, self.offsets = np.diff(ends), np.array(ends[:-1])
        self._copies = [
            (segment[REQUEST_BYTES:], reply.message[place])
            for segment, place in zip(self.segments, owned_places(layout, workers), strict=True)
        ]
        self._requests = [segment[:REQUEST_BYTES].view(np.int32) for segment in self.segments]
        self.is_finite = True

    def request(self, end: bool, save: bool) -> None:
        """Ask for the end, or not, and a checkpoint."""
        for requests in self._requests:
            requests[:] = end, save

    @property
    def requested(self) -> tuple[bool, bool]:
        """Whether a worker asks for the end, and for a checkpoint."""
        end, save = self._requests[0]
        return bool(end), bool(save)

    def divide(self) -> None:
        """Write the payload to the segments."""
        for segment, part in self._copies:
            segment[:] = part

    def assemble(self) -> None:
        """Read the payload from the segments."""
        for segment, part in self._copies:
            part[:] = segment
        self.is_finite = self.reply.read()


Total = Sum | ModularSum | Mean


def total_of(layout: Layout, number: int, workers: int) -> Total:
    """Return the buffer of a payload of round `number`, or of the sum or the mean of all workers' ones."""
    kind = Sum if layout.exact else Mean if layout.blocks is None else ModularSum
    return kind(layout, number, workers)


class Summation(ABC):
    """A round at a worker: its own payload, and the sum or the mean of all.

    Attributes
    ----------
    own, total : Sum, ModularSum or Mean
    comm : mpi4py.MPI.Intracomm
        Communicator of the workers.
    stateful : dict
        Objects whose state this worker saves in checkpoints.
    """

    def __init__(self, layout: Layout, number: int, comm: Any) -> None:
        self.own: Any = total_of(layout, number, comm.size)
        self.total: Any = total_of(layout, number, comm.size)
        self.comm, self.stateful = comm, dict[str, object]()

    @abstractmethod
    def start(self, task: Task) -> None:
        """Begin to add up the payload of a task, which is in `own`."""

    @abstractmethod
    def done(self) -> bool:
        """Return whether the sum is in `total`; otherwise proceed, without waiting for others."""
