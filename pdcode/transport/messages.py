"""Messages between rank 0 and a worker: a 64-byte header, then plain arrays at fixed offsets.

A task is ``header | codewords | body``; the body is θ, or the log that updates the worker's replica of θ. A
reply is ``header | codewords | payload``. Codewords are in the task, or in the reply if they are
worker-selected. They are sent explicitly (sparse): the protocol is the same for static, rotating and adaptive
codes. Both ends make views of their buffers once, and messages are then sent and received without packing or
parsing. A payload in the problem's dtype is encoded and decoded in place; other formats are rounded into the
message and read out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..kernels import codewords, headers, payloads
from ..util.stateful import Stateful
from .codewords import GivenFormat
from .layout import CANCEL, HEADER, KEY_BYTES, PART, ROUND, STOP, Codewords, Layout, Pair, Part, buffer

NOBODY = np.zeros(0, np.int64)
SENT = slice(40, 48)  # t_send_ns of the header: in a task, when rank 0 has sent it


class Order(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Content of a task, as the state requests it.

    Attributes
    ----------
    row : int
        Number of the first codeword, which identifies the codewords in a trace.
    codewords : sequence of (indices, values)
        One pair per unit; empty if workers select them.
    parts : sequence of ndarray of uint8
        Segments of the message's body.
    flags, digest : int
        Header fields: SNAPSHOT or CHECK, and the digest of θ for CHECK.
    round : int
        Round of the update, from 0.
    whole : callable, optional
        Returns, until the next arrival, flags and segments for a worker that gets no payloads from others;
        None: those of the task.
    muted : ndarray of int64
        Workers who do not get the payload from its worker, but from rank 0.
    """

    row: int
    codewords: Codewords
    parts: Sequence[np.ndarray]
    flags: int = 0
    digest: int = 0
    round: int = 0
    whole: Callable[[], tuple[int, Sequence[np.ndarray]]] | None = None
    muted: np.ndarray = NOBODY


def notice(worker: int, flag: int, task: int = 0, version: int = 0, sent_ns: int = 0) -> np.ndarray:
    """Return a header without a body, shape (64,), uint8, such as STOP or CANCEL."""
    return np.frombuffer(HEADER.pack(worker, flag, 0, task, version, 0, 0, 0, sent_ns, 0, 0.0), np.uint8)


class CodewordView:
    """View of the codewords of one message.

    Parameters
    ----------
    layout : Layout
    message : ndarray of uint8
    pairs : list of (indices, values)
        Arrays that `read` fills, one pair per unit.
    """

    def __init__(self, layout: Layout, message: np.ndarray, pairs: list[Pair]) -> None:
        self._sections = []
        for number, (at, words) in enumerate(layout.words):
            layer = layout.section.index(number)
            views = words.views(message[at : at + words.bytes])
            self._sections.append((words, views, layer, pairs[layer]))
        if (given := at_once(self._sections)) is not None:
            self.read, self.write = given.read, given.write  # type: ignore[method-assign]

    def write(self, codewords: Codewords, row: int = 0) -> None:
        """Write the codewords of a task to the message."""
        for words, views, layer, _ in self._sections:
            indices, values = codewords[layer]
            words.write(views, indices, values)

    def read(self) -> bool:
        """Read the codewords into `pairs`; return whether they are valid."""
        sound = True
        for words, views, _, pair in self._sections:
            sound &= words.read(views, pair)
        return sound


class KeyView(CodewordView):
    """View of the row number from which both ends compute the codewords of a message."""

    def __init__(self, layout: Layout, message: np.ndarray, pairs: list[Pair]) -> None:
        assert layout.keyed is not None
        self._keyed, self._pairs = layout.keyed, pairs
        self._row = message[HEADER.size : HEADER.size + KEY_BYTES].view(np.int64)

    def write(self, codewords: Codewords, row: int = 0) -> None:
        self._row[0] = row

    def read(self) -> bool:
        self._pairs[:] = self._keyed(int(self._row[0]))
        return True


def at_once(sections: Sequence[tuple[Any, ...]]) -> codewords.CodewordSections | None:
    """Return what reads, or writes, all codewords of rank 0 in one call; None if some are of workers.

    Parameters
    ----------
    sections : sequence of (CodewordFormat, views, unit, (indices, values))
    """
    if not all(isinstance(words, GivenFormat) for words, *_ in sections):
        return None
    arrays = [(*views, *pair, unit, words) for words, views, unit, pair in sections]
    return codewords.CodewordSections(arrays)


def view_codewords(layout: Layout, message: np.ndarray, pairs: list[Pair]) -> CodewordView:
    """Return the view of the codewords that a message of this layout has."""
    return (CodewordView if layout.keyed is None else KeyView)(layout, message, pairs)


class Reply(Stateful):
    """View of a reply in its buffer.

    Parameters
    ----------
    layout : Layout
    replies : ndarray of uint8, shape (≥ buffer_bytes,)
        Buffer of all replies to a task.
    part : int
        Which of them this is.

    Attributes
    ----------
    message : ndarray of uint8, shape (reply_bytes,)
    header : memoryview
    body : ndarray of uint8
        The message after its header.
    parts : list of Reply
        All replies to the task; of the first one only.
    payload : ndarray, shape (payload_size,)
        Payload in the problem's dtype: a view of the message if that is the wire format, else an own array.
    payloads : list of ndarray
        View of each unit's payload, shape (r, elements of a block).
    fields : list of (ndarray, ndarray, Part)
        Each unit's payload as a vector, its bytes in the message, and their format.
    codewords : list of (indices, values)
        Worker-selected codewords, one pair per unit; else empty.
    words : CodewordView or None
        View of worker-selected codewords in the message; None: they were given.
    """

    state_names = ("message", "payload")  # of this part

    def __init__(self, layout: Layout, replies: np.ndarray, part: int = 0) -> None:
        self.layout, self.part = layout, part
        self.message = message = replies[layout.message(part)]
        self.header = message[: HEADER.size].data
        self.body = message[HEADER.size :]
        later = range(1, 0 if part else layout.replies)
        self.parts = [self, *(Reply(layout, replies, each) for each in later)]
        if layout.exact:
            start = layout.reply_bytes - layout.payload_size * layout.dtype.itemsize
            self.payload = message[start : layout.reply_bytes].view(layout.dtype)
        else:
            self.payload = buffer(layout.payload_size * layout.dtype.itemsize)[0].view(layout.dtype)
            self.payload = self.payload[: layout.payload_size]
        self.payloads: list[np.ndarray] = []
        self.fields: list[tuple[np.ndarray, np.ndarray, Part]] = []
        for layer, r, start, field in zip(
            layout.units, layout.rows, layout.offsets, layout.parts, strict=True
        ):
            flat = self.payload[start : start + r * layer.elements]
            self.payloads.append(flat.reshape(r, layer.elements))
            self.fields.append((flat, message[field.at : field.at + field.bytes], field))
        # Of formats in Python, the kernel that decodes the others checks what they have decoded.
        self._decoded = [field for field in self.fields if field[2].format.kind < 0]
        self._payload = payloads.Payload(
            [
                (flat, wire, -1 if layout.exact else part.format.kind, part.rows)
                for flat, wire, part in self.fields
            ]
        )
        self.codewords: list[Pair] = layout.empty_codewords()
        self.words = CodewordView(layout, message, self.codewords) if layout.chosen else None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.words is not None:
            self.words.read()

    def put_codewords(self, codewords: Codewords) -> None:
        """Write worker-selected codewords to the message; `codewords` then has their rounded values."""
        assert self.words is not None
        self.words.write(codewords)
        self.words.read()

    def write(self, seed: int, worker: int, task: int) -> bool:
        """Round the payload into the message, and to the values that rank 0 will read; return whether it is
        finite."""
        if self.layout.exact:
            finite: bool = self._payload.read()
            return finite
        sound, first = True, self.part * len(self.fields)  # units of a part draw numbers of their own
        for number, (flat, wire, part) in enumerate(self.fields, first):
            sound &= part.format.round(flat, wire, part.rows, (seed, worker, task, number))
        return sound

    def scale(self, factor: float) -> None:
        """Multiply the payload, as it lies in the message and as it was read."""
        for flat, wire, part in self.fields:
            if self.layout.exact:
                flat *= flat.dtype.type(factor)
            else:
                part.format.scale(flat, wire, part.rows, factor)

    def wire(self, number: int) -> np.ndarray:
        """Return the bytes of a unit's payload in the message."""
        return self.fields[number][1]

    def seal(
        self,
        worker: int,
        task: Task,
        t_start_ns: int = 0,
        t_compute_ns: int = 0,
        t_send_ns: int = 0,
        delay_ns: int = 0,
        loss: float = 0.0,
        flags: int = 0,
    ) -> None:
        """Write the header: worker, task, times on the worker's clock in ns, and flags."""
        HEADER.pack_into(
            self.header, 0, worker, task.round << ROUND | flags | self.part & PART, self.layout.payload_bytes,
            task.task, task.version, task.row, t_start_ns, t_compute_ns, t_send_ns, delay_ns, loss,
        )  # fmt: skip

    @property
    def reader(self) -> payloads.Payload | Callable[[], bool]:
        """What `read` does: the payload, where that is all, else a function."""
        return self.read if self.words is not None or self._decoded else self._payload

    def read(self) -> bool:
        """Read codewords and payload from the message; return whether they are valid and finite."""
        sound = self.words is None or self.words.read()
        for flat, wire, part in self._decoded:
            part.format.read(flat, wire, part.rows)
        finite: bool = self._payload.read()
        return sound and finite


class Task:
    """View of a task in its buffer, written by rank 0 and read by a worker.

    Parameters
    ----------
    layouts : sequence of Layout
        Message layout of each round of an update.
    message : ndarray of uint8
        The buffer, as long as the longest task.

    Attributes
    ----------
    task, version, row, flags, digest, round : int
        Header fields.
    replies, part : int
        Number of replies, and which of them is being computed.
    codewords : list of (indices, values)
        One pair per unit.
    body : ndarray of uint8
        View of the body, at its current length.
    sent_ns : memoryview
        When rank 0 has sent it, in ns since the start of the run: one number, in the header.
    """

    def __init__(self, layouts: Sequence[Layout], message: np.ndarray) -> None:
        self.message, self.sent_ns = message, message[SENT].data.cast("q")
        self._rounds: list[tuple[int, list[Pair], CodewordView | None]] = []
        for layout in layouts:
            codewords = layout.empty_codewords()
            words = None if layout.chosen else view_codewords(layout, message, codewords)
            self._rounds.append((layout.body_at, codewords, words))
        self.task = self.version = self.row = self.flags = self.digest = self.round = self.part = 0
        self._replies = [layout.replies for layout in layouts]
        self.codewords = self._rounds[0][1]
        self._place = 0, 0  # offset and length of the body
        self.body = message[:0]

    @property
    def replies(self) -> int:
        return self._replies[self.round]

    def write(self, worker: int, task: int, version: int, order: Order, flags: int) -> int:
        """Write a task; return the length of the message in bytes."""
        start, _, words = self._rounds[order.round]
        if words is not None:
            words.write(order.codewords, order.row)
        flags |= order.flags | order.round << ROUND
        end: int = headers.write_task(
            self.message, start, order.parts, worker, flags, task, version, order.row, order.digest
        )
        return end

    def read(self) -> None:
        """Read the received task."""
        flags, size, self.task, self.version, self.row, self.digest = headers.read_task(self.message)
        self.flags, self.round = flags & (1 << ROUND) - 1, flags >> ROUND
        start, self.codewords, words = self._rounds[self.round]
        if self._place != (start, size):
            self._place, self.body = (start, size), self.message[start : start + size]
        if words is not None and not flags & (STOP | CANCEL):
            words.read()
