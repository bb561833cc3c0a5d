"""Sums of payloads over the workers (``[reduce] kind = "allreduce"``), and what rank 0 is told of them.

The workers add up their payloads among themselves, and two elements that say how many of them want to end,
and how many to write a checkpoint. Each then tells rank 0, which is not one of them, when it had the sum, and
sends an n-th of it. Nobody waits for that.
"""

from __future__ import annotations

import struct

from ..kernels import finite
from .base import Arrival
from .layout import HEADER, Layout, buffer
from .messages import Reply

TOLD = struct.Struct("<qq")
"""Of a worker's message to rank 0, after the header: when it had the sum, and a digest of θ, or 0."""
TOLD_BYTES = HEADER.size + TOLD.size


def exchanged_bytes(layout: Layout, workers: int) -> int:
    """Return the bytes that a worker sends, and receives, in a round: 2 (n - 1)/n of the payload.

    No allreduce of long vectors takes less (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations", J. Parallel Distrib. Comput. 2009).
    """
    return round(2 * (workers - 1) / workers * layout.payload_bytes)


class Sum:
    """Payload of a round, or its sum over the workers.

    Parameters
    ----------
    layout : Layout
        The payload must be in the problem's dtype.
    number : int
        Round of the update.
    workers : int
        Number of workers n.

    Attributes
    ----------
    numbers : ndarray
        The payload, the numbers of workers that want to end and to save, and zeros up to a multiple of n.
    parts : ndarray, shape (n, …)
        View of `numbers`, cut into the parts that the workers send to rank 0.
    reply : Reply
        View of the payload.
    arrival : Arrival
        The payload as an arrival.
    """

    def __init__(self, layout: Layout, number: int, workers: int) -> None:
        size, item = layout.payload_size, layout.dtype.itemsize
        length = -(-(size + 2) // workers) * workers
        start = layout.reply_bytes - size * item
        message = buffer(start + length * item)[0][: start + length * item]
        self.numbers = message[start:].view(layout.dtype)
        self.parts = self.numbers.reshape(workers, -1)
        self.reply = Reply(layout, message)
        self.arrival = Arrival(self.reply, number)
        self._size = size

    @property
    def ending(self) -> bool:
        """Whether a worker wants to end."""
        return bool(self.numbers[self._size])

    @ending.setter
    def ending(self, value: bool) -> None:
        self.numbers[self._size] = value

    @property
    def saving(self) -> bool:
        """Whether a worker wants all to write a checkpoint once they have the sum."""
        return bool(self.numbers[self._size + 1])

    @saving.setter
    def saving(self, value: bool) -> None:
        self.numbers[self._size + 1] = value

    @property
    def sound(self) -> bool:
        """Whether the payload is finite."""
        return finite.all_finite(self.numbers[: self._size])
