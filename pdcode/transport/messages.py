"""Messages between rank 0 and a worker: a 64-byte header, then plain arrays at fixed offsets.

A task is ``header | codewords | body``; the body is θ, or the log that updates the worker's replica of θ. A
reply is ``header | codewords | payload``. Codewords are in the task, or in the reply if they are
worker-selected. They are sent explicitly (sparse): the protocol is the same for static, rotating and adaptive
codes. Both ends make views of their buffers once; messages are then sent and received without packing or
parsing. A payload in the problem's dtype is encoded and decoded in place; other formats are rounded into the
message and decoded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..kernels import codewords, headers, modular, payloads
from ..util.stateful import Stateful
from .codewords import GivenFormat
from .layout import (
    CANCEL,
    HEADER,
    KEY_BYTES,
    PART_MASK,
    ROUND_SHIFT,
    STOP,
    Codewords,
    Layout,
    Pair,
    PayloadField,
    buffer,
)

NO_WORKERS = np.zeros(0, np.int64)
COMPANION_FIELD = slice(32, 40)  # t_compute_ns of the header: in a task, the bytes of what accompanies it
BROKEN_MASK = (1 << modular.COUNT - modular.BROKEN) - 1
SENT_NS_FIELD = slice(40, 48)  # t_send_ns of the header: in a task, on rank 0's clock


class Order(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Content of a task, as the state requests it."""

    row: int  # number of the first codeword, which identifies the codewords in a trace
    codewords: Codewords  # one pair per unit; empty if workers select them
    segments: Sequence[np.ndarray]  # segments of the message's body, uint8
    flags: int = 0  # SNAPSHOT or CHECK
    digest: int = 0  # of θ, for CHECK
    round: int = 0  # of the update, from 0
    # Where workers exchange payloads: returns flags and segments of a task for a worker that gets no payloads
    # from others; to be called before the next arrival. None: those above.
    standalone: Callable[[], tuple[int, Sequence[np.ndarray]]] | None = None
    excluded: np.ndarray = NO_WORKERS  # workers to which rank 0 sends the payload, and not its worker


def control_message(worker: int, flag: int, task: int = 0, version: int = 0, sent_ns: int = 0) -> np.ndarray:
    """Return a header without a body, such as STOP or CANCEL, shape (64,), uint8."""
    return np.frombuffer(HEADER.pack(worker, flag, 0, task, version, 0, 0, 0, sent_ns, 0, 0.0), np.uint8)


class CodewordView:
    """View of the codewords of a message; `read` fills `pairs`, one (indices, values) per unit."""

    def __init__(self, layout: Layout, message: np.ndarray, pairs: list[Pair]) -> None:
        self._sections = []
        for number, (at, form) in enumerate(layout.codeword_formats):
            unit = layout.codeword_sections.index(number)
            self._sections.append((form, form.views(message[at : at + form.bytes]), unit, pairs[unit]))
        if (compiled := compiled_view(self._sections)) is not None:
            self.read, self.write = compiled.read, compiled.write  # type: ignore[method-assign]

    def write(self, codewords: Codewords, row: int = 0) -> None:
        """Write the codewords of a task to the message."""
        for form, views, unit, _ in self._sections:
            form.write(views, *codewords[unit])

    def read(self) -> bool:
        """Read the codewords into `pairs`; return whether they are valid."""
        valid = True
        for form, views, _, pair in self._sections:
            valid &= form.read(views, pair)
        return valid


class RowNumberView(CodewordView):
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


def compiled_view(sections: Sequence[tuple[Any, ...]]) -> codewords.CodewordSections | None:
    """Return a compiled view, which reads or writes all codewords in one call; None if workers select them.

    A section is (CodewordFormat, views, unit, (indices, values)).
    """
    if not all(isinstance(form, GivenFormat) for form, *_ in sections):
        return None
    return codewords.CodewordSections([(*views, *pair, unit, form) for form, views, unit, pair in sections])


def view_codewords(layout: Layout, message: np.ndarray, pairs: list[Pair]) -> CodewordView:
    """Return the view of the codewords in a message of this layout."""
    return (CodewordView if layout.keyed is None else RowNumberView)(layout, message, pairs)


class Reply(Stateful):
    """View of a reply in its buffer.

    Parameters
    ----------
    layout : Layout
    replies : ndarray of uint8, shape (≥ buffer_bytes,)
        Buffer of all messages that answer a task.
    part : int
        Number of this message among them.

    Attributes
    ----------
    message : ndarray of uint8, shape (reply_bytes,)
    header : memoryview
    body : ndarray of uint8
        The message after its header.
    parts : list of Reply
        Of the first message: all that answer the task.
    payload : ndarray, shape (payload_size,)
        Payload in the problem's dtype: a view of the message if that is the wire format, else an array.
    payloads : list of ndarray
        View of each unit's payload, shape (r, elements of a block).
    fields : list of (ndarray, ndarray, PayloadField)
        Each unit's payload as a vector, its bytes in the message, and their format.
    words, scales : ndarray of uint64 and float32
        With `Layout.blocks`: all words in the message, and the scale of each group, to be set.
    codewords : list of (indices, values)
        Worker-selected codewords, one pair per unit; else empty.
    codeword_view : CodewordView or None
        View of worker-selected codewords in the message; None if codewords come with the task.
    """

    state_names = ("message", "payload")  # of this part

    def __init__(self, layout: Layout, replies: np.ndarray, part: int = 0) -> None:
        self.layout, self.part = layout, part
        self.message = message = replies[layout.reply_slice(part)]
        self.header = message[: HEADER.size].data
        self.body = message[HEADER.size :]
        later = range(1, 0 if part else layout.messages)
        self.parts = [self, *(Reply(layout, replies, each) for each in later)]
        if layout.exact:
            start = layout.reply_bytes - layout.payload_size * layout.dtype.itemsize
            self.payload = message[start : layout.reply_bytes].view(layout.dtype)
        else:
            self.payload = buffer(layout.payload_size * layout.dtype.itemsize)[0].view(layout.dtype)
            self.payload = self.payload[: layout.payload_size]
        if (blocks := layout.blocks) is not None:
            self.words, self.scales = self.body.view(np.uint64), np.zeros(blocks.groups, np.float32)
        self.payloads: list[np.ndarray] = []
        self.fields: list[tuple[np.ndarray, np.ndarray, PayloadField]] = []
        for layer, r, start, field in zip(
            layout.units, layout.rows, layout.offsets, layout.fields, strict=True
        ):
            flat = self.payload[start : start + r * layer.elements]
            self.payloads.append(flat.reshape(r, layer.elements))
            self.fields.append((flat, message[field.offset : field.offset + field.bytes], field))
        # The kernel that decodes compiled formats checks the elements of all formats.
        self._decoded = [field for field in self.fields if field[2].format.kind < 0]
        self._payload = payloads.Payload(
            [
                (flat, wire, -1 if layout.exact or layout.blocks else field.format.kind, field.rows)
                for flat, wire, field in self.fields
            ]
        )
        self.codewords: list[Pair] = layout.empty_codewords()
        self.codeword_view = CodewordView(layout, message, self.codewords) if layout.worker_selected else None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.codeword_view is not None:
            self.codeword_view.read()

    def write_codewords(self, codewords: Codewords) -> None:
        """Write worker-selected codewords to the message; replace them by their rounded values."""
        assert self.codeword_view is not None
        self.codeword_view.write(codewords)
        self.codeword_view.read()

    def quantise(self, seed: int, worker: int, task: int) -> bool:
        """Round the payload, in the message and as an array; return whether it is finite."""
        if self.layout.exact:
            finite: bool = self._payload.read()
            return finite
        if (blocks := self.layout.blocks) is not None:
            return bool(modular.encode(self.payload, self.scales, blocks.group, self.words, blocks.bits))
        finite, first = True, self.part * len(self.fields)  # each message draws numbers of its own
        for number, (flat, wire, field) in enumerate(self.fields, first):
            finite &= field.format.round(flat, wire, field.rows, (seed, worker, task, number))
        return finite

    def scale(self, factor: float) -> None:
        """Multiply the payload by a factor, in the message and as an array."""
        for flat, wire, field in self.fields:
            if self.layout.exact:
                flat *= flat.dtype.type(factor)
            else:
                field.format.scale(flat, wire, field.rows, factor)

    def write_header(
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
        """Write the header; times are in ns on the worker's clock."""
        HEADER.pack_into(
            self.header, 0, worker, task.round << ROUND_SHIFT | flags | self.part & PART_MASK,
            self.layout.payload_bytes, task.task, task.version, task.row,
            t_start_ns, t_compute_ns, t_send_ns, delay_ns, loss,
        )  # fmt: skip

    @property
    def reader(self) -> payloads.Payload | Callable[[], bool]:
        """The method `read`, or the compiled payload where nothing else has to be read."""
        checked = self.codeword_view is not None or self._decoded or self.layout.blocks is not None
        return self.read if checked else self._payload

    def read(self) -> bool:
        """Read codewords and payload from the message; return whether they are valid and finite.

        With `Layout.blocks` the payload is not read: only the sum of all has a meaning.
        """
        if (blocks := self.layout.blocks) is not None:
            return not int(self.words[blocks.counts]) >> modular.BROKEN & BROKEN_MASK
        valid = self.codeword_view is None or self.codeword_view.read()
        for flat, wire, field in self._decoded:
            field.format.read(flat, wire, field.rows)
        finite: bool = self._payload.read()
        return valid and finite


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
    messages, part : int
        Number of messages that answer the task, and the one that is being computed.
    codewords : list of (indices, values)
        One pair per unit.
    body : ndarray of uint8
        View of the body, at its current length.
    sent_ns : memoryview
        Time of sending, in ns since the start of the run: one number, in the header.
    companion_bytes : memoryview
        Bytes of the message that accompanies the task: one number, in the header; 0: none does.
    companion : ndarray of uint8 or None
        That message, once its receiver has set it.
    """

    companion: np.ndarray | None = None

    def __init__(self, layouts: Sequence[Layout], message: np.ndarray) -> None:
        self.message, self.sent_ns = message, message[SENT_NS_FIELD].data.cast("q")
        self.companion_bytes = message[COMPANION_FIELD].data.cast("q")
        self._rounds: list[tuple[int, list[Pair], CodewordView | None]] = []
        for layout in layouts:
            codewords = layout.empty_codewords()
            view = None if layout.worker_selected else view_codewords(layout, message, codewords)
            self._rounds.append((layout.body_offset, codewords, view))
        self.task = self.version = self.row = self.flags = self.digest = self.round = self.part = 0
        self._messages = [layout.messages for layout in layouts]
        self.codewords = self._rounds[0][1]
        self._place = 0, 0  # offset and length of the body
        self.body = message[:0]

    @property
    def messages(self) -> int:
        return self._messages[self.round]

    def write(self, worker: int, task: int, version: int, order: Order, flags: int) -> int:
        """Write a task; return the length of the message in bytes."""
        start, _, view = self._rounds[order.round]
        if view is not None:
            view.write(order.codewords, order.row)
        flags |= order.flags | order.round << ROUND_SHIFT
        end: int = headers.write_task(
            self.message, start, order.segments, worker, flags, task, version, order.row, order.digest
        )
        return end

    def read(self) -> None:
        """Read the received task."""
        flags, size, self.task, self.version, self.row, self.digest = headers.read_task(self.message)
        self.flags, self.round = flags & (1 << ROUND_SHIFT) - 1, flags >> ROUND_SHIFT
        start, self.codewords, view = self._rounds[self.round]
        if self._place != (start, size):
            self._place, self.body = (start, size), self.message[start : start + size]
        if view is not None and not flags & (STOP | CANCEL):
            view.read()
