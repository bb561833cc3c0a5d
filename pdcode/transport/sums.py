"""Sums of payloads over the workers (``[reduce] kind = "allreduce"``), and the workers' reports to rank 0.

The workers add up their payloads among themselves, together with two elements: how many workers ask for the
end of the run, and how many for a checkpoint. Rank 0 does not take part. Each worker then sends it a report,
with the time at which the worker had the sum, and one of n segments of the sum. No worker waits for that.
"""

import struct

from ..kernels import finite
from .base import Arrival
from .layout import HEADER, Layout, buffer
from .messages import Reply

REPORT = struct.Struct("<qq")
"""Fields of a report after the header: time at which the worker had the sum, and a digest of θ, or 0."""
REPORT_BYTES = HEADER.size + REPORT.size


def exchanged_bytes(layout: Layout, workers: int) -> int:
    """Return the bytes that a worker sends, and receives, in a round: 2 (n - 1)/n of the payload.

    No allreduce of long vectors takes less (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations", J. Parallel Distrib. Comput. 2009).
    """
    return round(2 * (workers - 1) / workers * layout.payload_bytes)


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

    @property
    def end_requested(self) -> bool:
        """Whether a worker asks for the end of the run."""
        return bool(self.vector[self._size])

    @end_requested.setter
    def end_requested(self, value: bool) -> None:
        self.vector[self._size] = value

    @property
    def save_requested(self) -> bool:
        """Whether a worker asks all to write a checkpoint once they have the sum."""
        return bool(self.vector[self._size + 1])

    @save_requested.setter
    def save_requested(self, value: bool) -> None:
        self.vector[self._size + 1] = value

    @property
    def is_finite(self) -> bool:
        """Whether the payload is finite."""
        return finite.all_finite(self.vector[: self._size])
