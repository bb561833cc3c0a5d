"""What travels between rank 0 and a worker: one 64 byte header, then plain arrays at fixed offsets.

A task is ``header | θ | codewords`` and a reply is ``header | payload``. Codewords are sent sparse,
``indices`` then ``values`` for each distinct block count, so a worker needs to know nothing of how rows are
assigned. Every section starts at a multiple of 64 bytes. Both ends make views of their buffers once; a
message is then sent and received without being packed or parsed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .errors import InputError
from .problems.partition import ALIGNMENT, Blocks, payload_layout

HEADER = struct.Struct("<HHIIIqqqqqd")
"""worker, flags, payload bytes, task, version, code row, t_start_ns, t_compute_ns, t_send_ns,
injected_delay_ns, mini-batch loss."""

LARGEST = 2**31 - 1  # bytes of a message: MPI counts in C ints

STOP = 1  # flag of a task that ends the worker's loop


def aligned(size: int) -> int:
    """Round a number of bytes up to the next section boundary."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def buffer(size: int, copies: int = 1) -> np.ndarray:
    """Zeroed, aligned message buffers.

    Parameters
    ----------
    size : int
        Bytes of one message.
    copies : int
        Number of buffers.

    Returns
    -------
    ndarray of uint8, shape (copies, aligned size)
    """
    stride = aligned(size)
    raw = np.zeros(copies * stride + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + copies * stride].reshape(copies, stride)


class Layout:
    """Sizes and offsets of the two kinds of message of a run.

    Parameters
    ----------
    layers : sequence of Blocks
        The partition of each layer.
    weights : dict
        Weight w of the code of each distinct block count k > 1.
    rows : int
        Codewords per task, r.
    dtype : dtype
        Of θ, payloads and codeword values.

    Attributes
    ----------
    task_bytes, reply_bytes : int
        Whole messages.
    payload_bytes, header_bytes, gradient_bytes : int
        Parts of a reply, and θ (or a full gradient) for comparison.
    """

    def __init__(self, layers: Sequence[Blocks], weights: dict[int, int], rows: int, dtype: np.dtype) -> None:
        self.layers, self.rows, self.dtype = tuple(layers), rows, np.dtype(dtype)
        item = self.dtype.itemsize
        self.parameters = sum(layer.length for layer in layers)
        self.offsets, self.payload_size = payload_layout(layers, rows, self.dtype)
        self.header_bytes = HEADER.size
        self.gradient_bytes = self.parameters * item
        self.payload_bytes = self.payload_size * item
        self.reply_bytes = self.header_bytes + self.payload_bytes
        at = self.header_bytes + aligned(self.gradient_bytes)
        self.codes: dict[int, tuple[int, int, int]] = {}  # k -> offset of indices, offset of values, w
        for k, w in weights.items():
            values = at + aligned(4 * rows * w)
            self.codes[k] = (at, values, w)
            at = values + aligned(item * rows * w)
        self.task_bytes = at
        if max(at, self.reply_bytes) >= LARGEST:
            raise InputError(
                f"problem.hidden: messages of {max(at, self.reply_bytes)} bytes exceed MPI's {LARGEST}"
            )

    def theta(self, message: np.ndarray) -> np.ndarray:
        """View of θ, shape (parameters,), in a task."""
        start = self.header_bytes
        return message[start : start + self.gradient_bytes].view(self.dtype)

    def codewords(self, message: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Views of (indices, values), each of shape (r, w), in a task, for each distinct block count."""
        views = {}
        for k, (indices, values, w) in self.codes.items():
            count = self.rows * w
            views[k] = (
                message[indices : indices + 4 * count].view(np.int32).reshape(self.rows, w),
                message[values : values + self.dtype.itemsize * count].view(self.dtype).reshape(self.rows, w),
            )
        return views

    def payload(self, message: np.ndarray) -> np.ndarray:
        """View of the payload of all layers, shape (payload_size,), in a reply."""
        return message[self.header_bytes : self.reply_bytes].view(self.dtype)

    def payload_views(self, message: np.ndarray) -> list[np.ndarray]:
        """View of each layer's payload, shape (r, elements of a block) or (1, …) for a whole layer."""
        payload, views = self.payload(message), []
        for layer, start in zip(self.layers, self.offsets, strict=True):
            rows = 1 if layer.count == 1 else self.rows
            views.append(payload[start : start + rows * layer.elements].reshape(rows, layer.elements))
        return views
