"""Sizes and offsets in tasks and replies; `pdcode.transport.messages` describes their content."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..kernels import roster
from ..util.errors import InputError
from ..util.formats import size as bytes_text
from .codewords import Chunks, CodewordFormat, GivenFormat, RoundedFormat, SelectionFormat
from .modular import Blocks
from .units import ALIGNMENT, Unit, payload_layout, per_layer
from .wires import WireFormat, wire_format

HEADER = struct.Struct("<HHIIIqqqqqd")
"""Header: worker, flags, body or payload bytes, task, version, code row, t_start_ns (in a task: digest of θ),
t_compute_ns, t_send_ns (in a task: on rank 0's clock), injected_delay_ns, mini-batch loss."""

MAX_MESSAGE_BYTES = 2**31 - 1  # bytes of a message: MPI counts in C ints

RETURNED: int = roster.RETURNED
STOP, SNAPSHOT, CHECK, CANCEL, DETACHED, SAVE, UNDO = 1, 4, 8, 16, 32, 64, 128
CONTINUE = SNAPSHOT
"""Flags of a task. STOP: end the worker's loop; CONTINUE, with STOP: another set-up follows; RETURNED: the
last payload was dropped; SNAPSHOT: the body is a state; CHECK: compare the header's digest of θ with the
replica's; CANCEL: the run is over, reply to the task in flight at once; DETACHED, with STOP: wait for no
other worker; SAVE: write the memory to a checkpoint, with UNDO as if the last payload had been dropped. STOP
and CANCEL are headers without a body."""

ROUND_SHIFT = 8
"""Shift of the round of the update in a header's flags."""
MAX_ROUNDS = 1 << 16 - ROUND_SHIFT
"""Maximum number of rounds of an update."""

PART_MASK = (1 << ROUND_SHIFT - 1) - 1
"""Mask of the lowest bits of a reply's part number in the flags of its header; the next bit is
`kernels.headers.LEAVING`."""

KEY_BYTES = 8
"""Bytes of the row number that a task has in place of keyed codewords."""

Pair = tuple[np.ndarray, np.ndarray]
Codewords = Sequence[Pair]
"""Pairs (indices, values) per unit, shape (r, w), int32 and the problem's dtype; [1] for an uncoded unit."""


def aligned(size: int) -> int:
    """Round a number of bytes up to the next section boundary."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def buffer(size: int, copies: int = 1) -> np.ndarray:
    """Allocate `copies` zeroed, aligned buffers of `size` bytes, uint8, shape (copies, aligned size)."""
    stride = aligned(size)
    raw = np.zeros(copies * stride + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + copies * stride].reshape(copies, stride)


def uncoded_codeword(dtype: np.dtype) -> Pair:
    """Return the codeword of an uncoded unit: its only block, with value 1; read-only."""
    pair = np.zeros((1, 1), np.int32), np.ones((1, 1), dtype)
    for array in pair:
        array.flags.writeable = False
    return pair


def buffer_sizes(layouts: Sequence[Layout]) -> tuple[int, int]:
    """Return the maximum bytes over all rounds of a task, and of the buffer of its replies."""
    return max(layout.task_bytes for layout in layouts), max(layout.buffer_bytes for layout in layouts)


def ensure_sendable(key: str, task_bytes: int, reply_bytes: int = 0) -> None:
    """Refuse tasks or replies that are too long for MPI, by the `key` that determines their lengths."""
    size, what = max((task_bytes, "task"), (reply_bytes, "reply"))
    if size >= MAX_MESSAGE_BYTES:
        raise InputError(f"{key}: a {what} of {bytes_text(size)} is more than MPI's 2 GiB a message")


class Agreement(NamedTuple):
    """How both ends come to know the codewords of a task: by default rank 0 sends them.

    Attributes
    ----------
    worker_selected : bool
        Whether the worker chooses codewords, and sends them with its reply.
    separate : bool
        Whether units with equally many blocks have separate codewords; else they share them.
    chunks : sequence of Chunks, optional
        For worker-selected codewords of weight 1: the chunks of each unit in which they are selected;
        default: one of all blocks.
    keyed : callable, optional
        ``keyed(row) -> codewords``, known to both ends: a task has the row number instead of codewords.
    """

    worker_selected: bool = False
    separate: bool = False
    chunks: Sequence[Chunks] | None = None
    keyed: Callable[[int], Codewords] | None = None

    def form(self, number: int, blocks: int, rows: int, weight: int, dtype: np.dtype) -> CodewordFormat:
        """Return the format of the codewords of a unit, given its number."""
        if not self.worker_selected:
            return GivenFormat(blocks, rows, weight, dtype)
        if weight > 1:
            return RoundedFormat(blocks, rows, weight, dtype)
        return SelectionFormat(
            blocks, rows, dtype, Chunks(blocks, rows) if self.chunks is None else self.chunks[number]
        )


GIVEN = Agreement()


class PayloadField(NamedTuple):
    """A unit's payload in a reply."""

    offset: int
    bytes: int
    format: WireFormat
    rows: int  # number of rows that have scales of their own


class Layout:
    """Layout of the tasks and replies of one round of an update.

    Parameters
    ----------
    units : sequence of Unit
        Segments of θ whose blocks the codewords combine.
    rows, weights : sequence of int
        Codewords per task, r, and their weight w, of each unit; 1 and 1 for an uncoded unit. A unit of one
        block may have more rows: vectors without codewords.
    dtype : dtype
        Type of θ, gradients and codeword values.
    wire : str or sequence of str
        Wire format of payloads, of all units or of each; empty for `dtype`.
    agreement : Agreement
        How both ends come to know the codewords.
    body_bytes : int, optional
        Maximum length of a task's body in bytes; default: the length of θ.
    messages : int
        Number of messages of this layout, of equal length, in which a worker answers a task: the parts of its
        reply.
    bits : int, optional
        Payloads are integers modulo 2^bits, see `modular`; a task's body has the scales of their groups, too.

    Attributes
    ----------
    task_bytes, reply_bytes : int
        Message lengths; for tasks the maximum.
    payload_bytes, header_bytes, gradient_bytes, codeword_bytes : int
        Length of a reply's payload, of a header, of a full gradient, and of the codewords of a message.
    body_offset : int
        Offset of a task's body.
    wires : list of str
        Wire format of each unit.
    exact : bool
        Whether nothing is rounded: the payload is encoded and decoded in the message.
    fields : list of PayloadField
        Payload of each unit in a reply.
    blocks : Blocks or None
        Division of the payload with `bits`.
    codeword_formats : list of (int, CodewordFormat)
        Offset and format of each section of codewords in a message.
    codeword_sections : list of int
        Section of each unit's codewords; -1 for an uncoded unit.
    uncoded : (indices, values)
        Codeword of an uncoded unit.
    """

    header_bytes = HEADER.size

    def __init__(
        self,
        units: Sequence[Unit],
        rows: Sequence[int],
        weights: Sequence[int],
        dtype: np.dtype,
        wire: str | Sequence[str] = "",
        agreement: Agreement = GIVEN,
        body_bytes: int | None = None,
        messages: int = 1,
        bits: int | None = None,
    ) -> None:
        self.units, self.rows, self.weights = tuple(units), tuple(rows), tuple(weights)
        self.dtype, self.messages = np.dtype(dtype), messages
        self.worker_selected, self.keyed = agreement.worker_selected, agreement.keyed
        self.wires = [name or self.dtype.name for name in per_layer("wire.dtype", wire, len(self.units))]
        self.exact = set(self.wires) == {self.dtype.name} and bits is None
        self.parameters = sum(unit.length for unit in units)
        self.gradient_bytes = self.parameters * self.dtype.itemsize
        self.offsets, self.payload_size = payload_layout(self.units, self.rows, self.dtype)
        self.blocks = None if bits is None else Blocks.of(bits, self.payload_size)
        self.uncoded = uncoded_codeword(self.dtype)
        self.codeword_formats, self.codeword_sections, self.codeword_bytes = self._sections(agreement)
        begun = self.header_bytes + self.codeword_bytes
        self.body_offset = aligned(self.header_bytes if self.worker_selected else begun)
        body = self.gradient_bytes if body_bytes is None else body_bytes
        self.task_bytes = self.body_offset + body + (self.blocks.scale_bytes if self.blocks else 0)
        self.fields, self.reply_bytes = self._payload(begun if self.worker_selected else self.header_bytes)
        self.payload_bytes = self.reply_bytes - self.fields[0].offset

    def _sections(self, agreement: Agreement) -> tuple[list[tuple[int, CodewordFormat]], list[int], int]:
        """Return the sections of codewords in a message, the section of each unit, and their length."""
        formats, section_of, at = list[tuple[int, CodewordFormat]](), list[int](), self.header_bytes
        sections = dict[tuple[int, int], int]()
        for number, (unit, r, w) in enumerate(zip(self.units, self.rows, self.weights, strict=True)):
            key = (unit.count, r)
            if unit.uncoded or agreement.keyed is not None:
                section_of.append(-1)
                continue
            if key not in sections or agreement.worker_selected or agreement.separate:
                sections[key] = len(formats)
                formats.append((at, agreement.form(number, unit.count, r, w, self.dtype)))
                at += formats[-1][1].bytes
            section_of.append(sections[key])
        at += KEY_BYTES if agreement.keyed is not None else 0
        return formats, section_of, at - self.header_bytes

    def _payload(self, at: int) -> tuple[list[PayloadField], int]:
        """Return the fields of a reply's payload, which begins at an offset, and the reply's length."""
        formats = [wire_format(name) for name in self.wires]
        # Rows of a single element share their scales; longer rows have scales of their own.
        rows = [
            1 if unit.elements == 1 else max(1, r)  # a unit of vectors may have no rows
            for unit, r in zip(self.units, self.rows, strict=True)
        ]
        lengths = [r * unit.elements // n for unit, r, n in zip(self.units, self.rows, rows, strict=True)]
        sizes = [each.padded(r, n) for each, r, n in zip(formats, rows, lengths, strict=True)]
        if self.blocks is not None:
            sizes, offsets, end = [0] * len(sizes), [at] * len(sizes), at + self.blocks.bytes
        elif self.exact:
            at = aligned(at)
            offsets = [at + start * self.dtype.itemsize for start in self.offsets]
            end = at + self.payload_size * self.dtype.itemsize
        else:
            *offsets, end = accumulate(sizes, initial=at)
        return [PayloadField(*field) for field in zip(offsets, sizes, formats, rows, strict=True)], end

    def reply_slice(self, part: int) -> slice:
        """Return the place of a part's message in the buffer of a task's replies."""
        start = part * aligned(self.reply_bytes)
        return slice(start, start + self.reply_bytes)

    @property
    def rows_have_scales(self) -> bool:
        """Whether every row of every unit has scales of its own in a compiled format."""
        fields = zip(self.fields, self.rows, strict=True)
        return all(field.format.scales > 0 and field.rows == r for field, r in fields)

    @property
    def buffer_bytes(self) -> int:
        """Length of the buffer of a task's replies."""
        return self.reply_slice(self.messages - 1).stop

    def empty_codewords(self) -> list[Pair]:
        """Allocate arrays for the codewords of each unit; units of the same section share them."""
        pairs = [form.empty() for _, form in self.codeword_formats]
        return [self.uncoded if number < 0 else pairs[number] for number in self.codeword_sections]
