"""How workers come by the newest θ.

``full`` sends θ with each task. ``codewords`` sends what has arrived at rank 0 since the worker's last task,
as it arrived, and when rank 0 stepped: every worker keeps a replica of θ, of the decoders and of the
optimizer, and does what rank 0 did. The same kernels in the same order make the same bits, so replicas never
drift; a digest of θ is compared now and then. That makes the downlink as compressed as the uplink (for the
idea that the server's messages, too, may be compressed differences which both sides apply: Tang et al.,
"DoubleSqueeze", ICML 2019; that the arrived codewords themselves are relayed is this project's reading).

A log has an entry for each arrival that was folded in and one for each step. A worker for whom the entries
would be longer than the state itself is sent that: θ, the optimizer's arrays and what decoders hold.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np

from ..decoders import Decoder
from ..transport.base import Arrival
from ..transport.layout import CHECK, SNAPSHOT, Layout, buffer
from ..transport.messages import Reply, Task, WordsView
from .optimizers import Optimizer

ENTRY = struct.Struct("<qd")
"""Kind of an entry, and the step's damping."""
ARRIVAL, STEP = 0, 1


class ReplicaError(RuntimeError):
    """A worker's θ is not rank 0's."""


def digest(theta: np.ndarray) -> int:
    """64 bits that tell one θ from another."""
    return int.from_bytes(blake2b(theta.data, digest_size=8).digest(), "little", signed=True)


class State:
    """All that decides what θ becomes: θ, the optimizer's arrays, and what the decoders hold.

    Attributes
    ----------
    bytes, least_bytes : int
        Length of `parts`, at the most and while no payload waits for its step.
    """

    def __init__(self, theta: np.ndarray, decoders: Sequence[Decoder], optimizer: Optimizer) -> None:
        self.theta, self.decoders, self.optimizer = theta, decoders, optimizer
        self._counts = np.zeros(len(decoders), np.int64)
        self._arrays = [
            array.reshape(-1).view(np.uint8) for array in (self._counts, theta, *optimizer.state.values())
        ]
        held = [decoder.accumulator.view(np.uint8) for decoder in decoders]
        self._held = list(zip(decoders, held, strict=True))
        always = sum(len(array) for array in self._arrays)
        self.bytes = always + sum(len(array) for array in held)
        self.least_bytes = always + sum(len(array) for decoder, array in self._held if not decoder.clears)

    def parts(self) -> list[np.ndarray]:
        """The state, as the parts of a task's body; an accumulator that must be zero is left out."""
        self._counts[:] = [decoder.count for decoder in self.decoders]
        return self._arrays + [array for decoder, array in self._held if decoder.count or not decoder.clears]

    def load(self, body: np.ndarray) -> None:
        """Take over a state that `parts` made."""
        at = self._copy(body, 0, self._arrays)
        for (decoder, array), count in zip(self._held, self._counts, strict=True):
            decoder.count = int(count)
            if count or not decoder.clears:
                at = self._copy(body, at, [array])
            else:
                array.fill(0)
            if decoder.touched is not None:
                decoder.touched[:] = [np.arange(decoder.blocks, dtype=np.int32)] if count else []

    @staticmethod
    def _copy(body: np.ndarray, at: int, arrays: list[np.ndarray]) -> int:
        for array in arrays:
            array[:] = body[at : at + len(array)]
            at += len(array)
        return at

    def step(self, layout: Layout, damping: float) -> float:
        """Step θ, and begin a new update; return the norm of the step."""
        norm = self.optimizer.step(self.theta, layout.layers, self.decoders, damping)
        for decoder in self.decoders:
            decoder.reset()
        return norm


class Downlink(ABC):
    """Rank 0's side: the body of each task."""

    @abstractmethod
    def arrived(self, arrival: Arrival) -> None:
        """An arrival has been folded in."""

    @abstractmethod
    def stepped(self, damping: float) -> None:
        """θ has been stepped."""

    @abstractmethod
    def body(self, worker: int, task: int) -> tuple[Sequence[np.ndarray], int, int]:
        """Parts of the body of a worker's next task, flags and digest."""


class Full(Downlink):
    """θ with each task."""

    def __init__(self, theta: np.ndarray) -> None:
        self._parts = [theta.view(np.uint8)]

    def arrived(self, arrival: Arrival) -> None:
        pass

    def stepped(self, damping: float) -> None:
        pass

    def body(self, worker: int, task: int) -> tuple[Sequence[np.ndarray], int, int]:
        return self._parts, 0, 0


class Relay(Downlink):
    """Arrived codewords.

    Parameters
    ----------
    layout : Layout
    state : State
        Rank 0's.
    workers : int
    check : int
        Each worker's every so many tasks have a digest of θ.
    """

    def __init__(self, layout: Layout, state: State, workers: int, check: int) -> None:
        self._layout, self._state, self._check = layout, state, check
        self._log: deque[np.ndarray] = deque()
        self._bytes = 0  # of the log
        self._first = self._next = 0  # entries: the oldest that is kept, and the one to come
        self._seen = [-1] * workers  # entries that a worker has; none at first
        self._words_bytes = 0 if layout.chosen else layout.words_bytes
        size = ENTRY.size + self._words_bytes + layout.reply_bytes - layout.header_bytes
        self._scratch = np.zeros(layout.header_bytes + layout.words_bytes, np.uint8)
        self._words = None if layout.chosen else WordsView(layout, self._scratch, layout.empty_words())
        self._size = -(-size // 8) * 8
        self._digest: int | None = None  # of the newest θ, once a worker has been asked for it

    def arrived(self, arrival: Arrival) -> None:
        entry = np.zeros(self._size, np.uint8)
        ENTRY.pack_into(entry.data, 0, ARRIVAL, 0.0)
        at = ENTRY.size
        if self._words is not None:
            self._words.write(arrival.codewords)
            entry[at : at + self._words_bytes] = self._scratch[self._layout.header_bytes :]
            at += self._words_bytes
        entry[at : at + len(arrival.body)] = arrival.body
        self._append(entry)

    def stepped(self, damping: float) -> None:
        entry = np.zeros(ENTRY.size, np.uint8)
        ENTRY.pack_into(entry.data, 0, STEP, damping)
        self._append(entry)
        self._digest = None

    def _append(self, entry: np.ndarray) -> None:
        self._log.append(entry)
        self._bytes += len(entry)
        self._next += 1
        while self._bytes > self._state.least_bytes:  # the state itself is shorter
            self._bytes -= len(self._log.popleft())
            self._first += 1

    def body(self, worker: int, task: int) -> tuple[Sequence[np.ndarray], int, int]:
        seen, self._seen[worker] = self._seen[worker], self._next
        flags, checked = 0, 0
        if task % self._check == self._check - 1:
            if self._digest is None:
                self._digest = digest(self._state.theta)
            flags, checked = CHECK, self._digest
        if seen < self._first:
            return self._state.parts(), flags | SNAPSHOT, checked
        skip = seen - self._first
        return list(islice(self._log, skip, None)), flags, checked


class Replica(ABC):
    """A worker's side."""

    @abstractmethod
    def update(self, task: Task) -> np.ndarray:
        """θ of a task."""


class View(Replica):
    """θ as it lies in the task."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._theta: np.ndarray | None = None
        self._body: np.ndarray | None = None

    def update(self, task: Task) -> np.ndarray:
        if self._theta is None or task.body is not self._body:
            self._body, self._theta = task.body, task.body.view(self._layout.dtype)
        return self._theta


class Mirror(Replica):
    """A state of the worker's own that follows rank 0's.

    Parameters
    ----------
    layout : Layout
    state : State
        As rank 0's was made; its θ need not be the first one.
    """

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout, self._state = layout, state
        message = buffer(layout.reply_bytes)[0]
        self._reply = Reply(layout, message)
        self._words_bytes = 0 if layout.chosen else layout.words_bytes
        self._scratch = np.zeros(layout.header_bytes + layout.words_bytes, np.uint8)
        self._codewords = self._reply.codewords if layout.chosen else layout.empty_words()
        self._words = None if layout.chosen else WordsView(layout, self._scratch, self._codewords)

    def update(self, task: Task) -> np.ndarray:
        body, state = task.body, self._state
        if task.flags & SNAPSHOT:
            state.load(body)
            body = body[:0]
        at = 0
        while at < len(body):
            kind, damping = ENTRY.unpack_from(body.data, at)
            at += ENTRY.size
            if kind == STEP:
                state.step(self._layout, damping)
            else:
                at = -(-self._fold(body, at) // 8) * 8
        if task.flags & CHECK and digest(state.theta) != task.digest:
            raise ReplicaError(
                f"downlink.kind 'codewords': the replica of θ differs from rank 0's at version {task.version}"
            )
        return state.theta

    def _fold(self, body: np.ndarray, at: int) -> int:
        """Fold in an arrival as rank 0 did; return where its entry ends."""
        if self._words is not None:
            self._scratch[self._layout.header_bytes :] = body[at : at + self._words_bytes]
            self._words.read()
            at += self._words_bytes
        reply = self._reply
        reply.body[:] = body[at : at + len(reply.body)]
        reply.read()
        for decoder, words, payload in zip(
            self._state.decoders, self._codewords, reply.payloads, strict=True
        ):
            decoder.add_sparse(words[0].copy(), words[1], payload)  # a decoder may keep the indices
        return at + len(reply.body)
