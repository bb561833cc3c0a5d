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

import numpy as np

from ..kernels import finite, quantise
from ..util.rng import WIRE
from .layout import HEADER, RECALL, STOP, Codewords, Layout, Pair, buffer


class WordsView:
    """The codewords of one message.

    Parameters
    ----------
    layout : Layout
    message : ndarray of uint8
    pairs : list of (indices, values)
        One a layer: where `read` puts them.
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
        Each layer in it, shape (r, elements of a block).
    codewords : list of (indices, values)
        One a layer, where workers choose them.
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
            layout.layers, layout.rows, layout.offsets, layout.parts, strict=True
        ):
            flat = self.payload[start : start + r * layer.elements]
            self.payloads.append(flat.reshape(r, layer.elements))
            self._parts.append((flat, message[at : at + size], r))
        self.codewords: list[Pair] = layout.empty_words()
        self._words = WordsView(layout, message, self.codewords) if layout.chosen else None

    def choose(self, codewords: Codewords) -> None:
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

    Attributes
    ----------
    task, version, row, flags, digest : int
        Of the header.
    codewords : list of (indices, values)
        One a layer.
    body : ndarray of uint8
        As long as it is this time.
    """

    def __init__(self, layout: Layout, message: np.ndarray) -> None:
        self.message, self.header, self._at = message, message[: HEADER.size].data, layout.body_at
        self.codewords: list[Pair] = layout.empty_words()
        self._words = None if layout.chosen else WordsView(layout, message, self.codewords)
        self.task = self.version = self.row = self.flags = self.digest = 0
        self._body = message[self._at :]
        self.body = self._body[:0]

    def write(
        self,
        worker: int,
        task: int,
        version: int,
        row: int,
        codewords: Codewords,
        parts: Sequence[np.ndarray],
        flags: int,
        digest: int,
    ) -> int:
        """Fill in; return the bytes of the message."""
        if self._words is not None:
            self._words.write(codewords)
        end = 0
        for part in parts:
            self._body[end : end + len(part)] = part
            end += len(part)
        HEADER.pack_into(self.header, 0, worker, flags, end, task, version, row, digest, 0, 0, 0, 0.0)
        return self._at + end

    def read(self) -> None:
        """Take out what has been received."""
        _, self.flags, size, self.task, self.version, self.row, self.digest, *_ = HEADER.unpack_from(
            self.header
        )
        if len(self.body) != size:
            self.body = self._body[:size]
        if self._words is not None and not self.flags & (STOP | RECALL):
            self._words.read()
