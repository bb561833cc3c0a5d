"""What travels between rank 0 and a worker: one 64 byte header, then plain arrays at fixed offsets.

A task is ``header | codewords | body``: the body is θ, or what brings the worker's replica of θ up to date. A
reply is ``header | codewords | payload``. Codewords are in the task, except where workers choose them: then
they are in the reply. They are sent sparse, so a worker needs to know nothing of how rows are assigned, and a
static, a rotating and an adaptive code are the same protocol. Both ends make views of their buffers once; a
message is then sent and received without being packed or parsed, and a payload in the problem's dtype is
encoded and decoded where it lies. Payloads of other formats are rounded into the message and read out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..kernels import finite, quantise
from ..util.rng import WIRE
from .layout import CANCEL, HEADER, ROUND, STOP, Codewords, Layout, Pair, buffer


class Order(NamedTuple):
    """What rank 0 asks of a worker with a task.

    Attributes
    ----------
    row : int
        Number of the first codeword, by which a trace tells codewords.
    codewords : sequence of (indices, values)
        One a unit; empty where workers choose them.
    parts : sequence of ndarray of uint8
        The body of the message, in parts.
    flags, digest : int
        Of the header: SNAPSHOT or CHECK, and the digest that goes with it.
    round : int
        Round of the update, from 0.
    """

    row: int
    codewords: Codewords
    parts: Sequence[np.ndarray]
    flags: int = 0
    digest: int = 0
    round: int = 0


def notice(worker: int, flag: int) -> np.ndarray:
    """A header alone, as bytes: word to a worker that the run is over, STOP or RECALL."""
    return np.frombuffer(HEADER.pack(worker, flag, 0, 0, 0, 0, 0, 0, 0, 0, 0.0), np.uint8)


class CodewordView:
    """The codewords of one message.

    Parameters
    ----------
    layout : Layout
    message : ndarray of uint8
    pairs : list of (indices, values)
        One a unit: where `read` puts them.
    """

    def __init__(self, layout: Layout, message: np.ndarray, pairs: list[Pair]) -> None:
        self._sections = []
        for number, (at, words) in enumerate(layout.words):
            layer = layout.section.index(number)
            views = words.views(message[at : at + words.bytes])
            self._sections.append((words, views, layer, pairs[layer]))

    def write(self, codewords: Codewords) -> None:
        """Put the codewords of a task into the message."""
        for words, views, layer, _ in self._sections:
            words.write(views, *codewords[layer])

    def read(self) -> bool:
        """Take them out; return whether they are codewords."""
        sound = True
        for words, views, _, pair in self._sections:
            sound &= words.read(views, pair)
        return sound


class Reply:
    """Views of a reply in its buffer.

    Parameters
    ----------
    layout : Layout
    message : ndarray of uint8, shape (≥ reply_bytes,)

    Attributes
    ----------
    header : memoryview
    body : ndarray of uint8
        All after the header.
    payload : ndarray, shape (payload_size,)
        In the problem's dtype: a view of the message if it travels so, else beside it.
    payloads : list of ndarray
        Each unit in it, shape (r, elements of a block).
    codewords : list of (indices, values)
        One a unit, where workers choose them.
    """

    def __init__(self, layout: Layout, message: np.ndarray) -> None:
        self.layout = layout
        self.header = message[: HEADER.size].data
        self.body = message[HEADER.size : layout.reply_bytes]
        if layout.exact:
            start = layout.reply_bytes - layout.payload_size * layout.dtype.itemsize
            self.payload = message[start : layout.reply_bytes].view(layout.dtype)
        else:
            self.payload = buffer(layout.payload_size * layout.dtype.itemsize)[0].view(layout.dtype)
            self.payload = self.payload[: layout.payload_size]
        self.payloads: list[np.ndarray] = []
        self._parts: list[tuple[np.ndarray, np.ndarray, int]] = []  # payload of a layer, its bytes, r
        for layer, r, start, (at, size) in zip(
            layout.units, layout.rows, layout.offsets, layout.parts, strict=True
        ):
            flat = self.payload[start : start + r * layer.elements]
            self.payloads.append(flat.reshape(r, layer.elements))
            self._parts.append((flat, message[at : at + size], r))
        self.codewords: list[Pair] = layout.empty_codewords()
        self._words = CodewordView(layout, message, self.codewords) if layout.chosen else None

    def put_codewords(self, codewords: Codewords) -> None:
        """Put codewords that the worker chose into the message; `codewords` are then the rounded ones."""
        assert self._words is not None
        self._words.write(codewords)
        self._words.read()

    def write(self, seed: int, worker: int, task: int) -> bool:
        """Round the payload into the message; it then is what rank 0 will read. Return whether it is
        finite."""
        sound = True
        for part, (flat, wire, r) in enumerate(self._parts):
            if self.layout.exact:
                sound &= finite.all_finite(flat)
            else:
                sound &= quantise.encode(
                    self.layout.format, flat, wire, r, seed, WIRE, worker, task, part, flat
                )
        return sound

    def seal(
        self,
        worker: int,
        task: Task,
        t_start_ns: int = 0,
        t_compute_ns: int = 0,
        t_send_ns: int = 0,
        delay_ns: int = 0,
        loss: float = 0.0,
    ) -> None:
        """Fill the header in: whose reply it is, to which task, and times on the worker's clock."""
        HEADER.pack_into(
            self.header, 0, worker, task.round << ROUND, self.layout.payload_bytes, task.task, task.version,
            task.row, t_start_ns, t_compute_ns, t_send_ns, delay_ns, loss,
        )  # fmt: skip

    def read(self) -> bool:
        """Take codewords and payload out of the message; return whether all is finite."""
        sound = self._words is None or self._words.read()
        for flat, wire, r in self._parts:
            if self.layout.exact:
                sound &= finite.all_finite(flat)
            else:
                sound &= quantise.decode(self.layout.format, wire, flat, r)
        return sound


class Task:
    """A task in its buffer, as rank 0 writes it and a worker reads it.

    Parameters
    ----------
    layouts : sequence of Layout
        Of the messages of each round of an update.
    message : ndarray of uint8
        The buffer, as long as the longest task.

    Attributes
    ----------
    task, version, row, flags, digest, round : int
        Of the header.
    codewords : list of (indices, values)
        One a unit.
    body : ndarray of uint8
        As long as it is this time.
    """

    def __init__(self, layouts: Sequence[Layout], message: np.ndarray) -> None:
        self.message, self.header = message, message[: HEADER.size].data
        self._rounds: list[tuple[int, list[Pair], CodewordView | None]] = []
        for layout in layouts:
            codewords = layout.empty_codewords()
            words = None if layout.chosen else CodewordView(layout, message, codewords)
            self._rounds.append((layout.body_at, codewords, words))
        self.task = self.version = self.row = self.flags = self.digest = self.round = 0
        self.codewords = self._rounds[0][1]
        self._place = 0, 0  # start and length of the body
        self.body = message[:0]

    def write(self, worker: int, task: int, version: int, order: Order, flags: int) -> int:
        """Fill in; return the bytes of the message."""
        row, codewords, parts, own_flags, digest, number = order
        start, _, words = self._rounds[number]
        if words is not None:
            words.write(codewords)
        end = start
        for part in parts:
            self.message[end : end + len(part)] = part
            end += len(part)
        flags |= own_flags | number << ROUND
        HEADER.pack_into(self.header, 0, worker, flags, end - start, task, version, row, digest, 0, 0, 0, 0.0)
        return end

    def read(self) -> None:
        """Take out what has been received."""
        _, flags, size, self.task, self.version, self.row, self.digest, *_ = HEADER.unpack_from(self.header)
        self.flags, self.round = flags & (1 << ROUND) - 1, flags >> ROUND
        start, self.codewords, words = self._rounds[self.round]
        if self._place != (start, size):
            self._place, self.body = (start, size), self.message[start : start + size]
        if words is not None and not flags & (STOP | CANCEL):
            words.read()
