"""Downlink of θ, in full or as relayed codewords.

``full`` sends θ with each task. ``codewords`` relays the payloads that rank 0 has used since the worker's
last task, and its steps. Every worker keeps a replica of θ, of the decoders and of the optimizer, and repeats
rank 0's operations: the same kernels in the same order give the same bits. A digest of θ is compared
periodically. The downlink is then as compressed as the uplink. Compressed differences from the server are due
to Tang et al., "DoubleSqueeze", ICML 2019; relaying the received codewords is this project's addition.

A log has an entry for each payload used and for each step. A worker whose entries would be longer than the
state itself gets a snapshot: θ, the optimizer's arrays and the decoders' accumulators.

``exchange`` does the same with less of rank 0's link: a worker sends its payload to all others, too, and in
the log a reference stands for it. Workers who have not asked for a task for long, such as dead ones, are
*muted*: the others send them nothing, and what they have missed comes from rank 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from ..kernels import intake, quantise
from ..transport.base import Arrival
from ..transport.layout import CHECK, SNAPSHOT, Pair, aligned, buffer
from ..transport.log import ARRIVAL, HEAD, REFERENCE, STEP, STEP_HEAD, LogFormat, head_of, padded
from ..transport.messages import NOBODY, CodewordView, Order, Reply, Task, view_codewords
from .state import Coded, State, plain_scales

PATIENCE = 8
"""Entries of each worker after which one that has not asked for a task is muted: four to eight payloads."""
LONGEST = 1 << 30
"""Bytes of the longest log where workers exchange payloads."""


class Entry(NamedTuple):
    """Entry of the log.

    Attributes
    ----------
    whole : ndarray of uint8
    reference : ndarray of uint8
        What stands for it if the payload comes from its worker.
    sender : int
        That worker; -1 for a step.
    muted : ndarray of int64
        To whom the payload does not come from it.
    """

    whole: np.ndarray
    reference: np.ndarray
    sender: int = -1
    muted: np.ndarray = NOBODY

    def sent(self, worker: int) -> np.ndarray:
        """Return what rank 0 sends a worker."""
        heard = worker == self.sender or not len(self.muted) or worker not in self.muted
        return self.reference if heard else self.whole


class ReplicaError(RuntimeError):
    """Mismatch between a worker's replica of θ and rank 0's θ."""


def digest(theta: np.ndarray) -> int:
    """Return a 64-bit hash of θ."""
    return int.from_bytes(blake2b(theta.data, digest_size=8).digest(), "little", signed=True)


class RelayedState(State):
    """State that relays received codewords to the workers instead of θ.

    Parameters
    ----------
    state : Coded
        Rank 0's state, whose arrivals and steps are logged here.
    workers : int
    check : int
        Period, in tasks of a worker, of the comparison of digests of θ.
    exchanged : bool
        Whether workers send their payloads to each other.
    """

    def __init__(self, state: Coded, workers: int, check: int, exchanged: bool = False) -> None:
        self.layouts, self.theta, self.optimizer = state.layouts, state.theta, state.optimizer
        self.designs, self.assignment, self.robust = state.designs, state.assignment, state.robust
        self.policy = state.policy
        layout = self._layout = self.layouts[0]
        self._state, self._check = state, check
        self._log: deque[Entry] = deque()
        self._bytes = 0  # length of the log
        self._first = self._next = 0  # numbers of the oldest entry kept and of the next one
        self._seen = [0] * workers  # entries that each worker has; all draw the same initial θ
        self._format = LogFormat(layout)
        self.exchanged = exchanged
        self._kept = PATIENCE * workers if exchanged else 0  # entries of the log, even if it is long
        self._muted, self._notice = NOBODY, notice_of(NOBODY)  # to whom the others send nothing …
        self._review = 0  # … until the log has so many entries
        self._told = [NOBODY] * workers  # those of whom each worker knows
        self._scratch = np.zeros(layout.header_bytes + layout.codeword_bytes, np.uint8)
        pairs = layout.empty_codewords()
        self._words = None if layout.chosen else view_codewords(layout, self._scratch, pairs)
        self._digest: int | None = None  # of the current θ; computed on demand

    def fold(self, arrival: Arrival) -> float:
        worker, sizes = arrival.worker, self._format
        entry = np.zeros(sizes.whole_bytes, np.uint8)
        entry.data[: HEAD.size] = head_of(ARRIVAL, worker, arrival.task)
        at = HEAD.size
        if self._words is not None:
            self._words.write(arrival.codewords, arrival.row)
            entry[at : at + sizes.words_bytes] = self._scratch[self._layout.header_bytes :]
            at += sizes.words_bytes
        entry[at : at + len(arrival.body)] = arrival.body
        reference = entry
        if self.exchanged:
            reference = np.frombuffer(head_of(REFERENCE, worker, arrival.task), np.uint8)
        self._append(Entry(entry, reference, worker, self._told[worker]))
        return self._state.fold(arrival)

    def step(self, damping: float) -> float | None:
        norm = self._state.step(damping)
        entry = np.zeros(STEP_HEAD.size, np.uint8)
        STEP_HEAD.pack_into(entry.data, 0, STEP, damping)
        self._append(Entry(entry, entry))
        self._digest = None
        return norm

    @property
    def flagged(self) -> list[int]:
        return self._state.flagged

    @property
    def entry_bytes(self) -> int:
        """Bytes that rank 0 sends of a payload and the step that follows it."""
        sizes = self._format
        return (HEAD.size if self.exchanged else sizes.whole_bytes) + STEP_HEAD.size

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of what a worker gets instead of a longer log."""
        return self._state.least_bytes

    def _append(self, entry: Entry) -> None:
        self._log.append(entry)
        self._bytes += len(entry.whole)
        self._next += 1
        least = self._state.least_bytes  # of a snapshot
        while self._bytes > least and (len(self._log) > self._kept or self._bytes > LONGEST):
            self._bytes -= len(self._log.popleft().whole)
            self._first += 1

    def order(self, worker: int, task: int) -> Order:
        order = self._state.order(worker, task)
        seen, self._seen[worker] = self._seen[worker], self._next
        flags, checked = 0, 0
        if not task or task % self._check == self._check - 1:
            if self._digest is None:
                self._digest = digest(self._state.theta)
            flags, checked = CHECK, self._digest
        whole = partial(self._content, flags, seen, attrgetter("whole"))
        if not self.exchanged:
            flags, parts = whole()
            return order._replace(parts=parts, flags=flags, digest=checked)
        flags, parts = self._content(flags, seen, lambda entry: entry.sent(worker))
        self._told[worker] = muted = self._listen()
        parts = [self._notice, *parts]
        return order._replace(parts=parts, flags=flags, digest=checked, whole=whole, muted=muted)

    def _content(
        self, flags: int, seen: int, segment: Callable[[Entry], np.ndarray]
    ) -> tuple[int, Sequence[np.ndarray]]:
        """Return flags and segments of a task: of the log from an entry on, or, if shorter, a snapshot."""
        if seen >= self._first:
            parts = [segment(entry) for entry in islice(self._log, seen - self._first, None)]
            if not self.exchanged or sum(map(len, parts)) <= self._state.least_bytes:
                return flags, parts
        return flags | SNAPSHOT, self._state.parts()

    def _listen(self) -> np.ndarray:
        """Return which workers are muted."""
        if self._next >= self._review:
            self._review = self._next + len(self._seen)
            behind = np.flatnonzero(self._next - np.array(self._seen) > self._kept)
            if not np.array_equal(behind, self._muted):
                self._muted, self._notice = behind, notice_of(behind)
        return self._muted


def notice_of(muted: np.ndarray) -> np.ndarray:
    """Return what precedes the log if payloads are exchanged, uint8: the number of muted workers, and who."""
    return np.append(len(muted), muted).astype(np.int64).view(np.uint8)


def notice_bytes(workers: int) -> int:
    """Return the bytes of the longest notice."""
    return 8 + 8 * workers


def read_notice(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the muted workers, int64, and what follows them in a task's body."""
    end = 8 + 8 * int(body[:8].view(np.int64)[0])
    return body[8:end].view(np.int64), body[end:]


class Replica(ABC):
    """A worker's copy of θ."""

    @abstractmethod
    def update(self, task: Task) -> np.ndarray:
        """Return θ for a task, shape (size,)."""


class FullReplica(Replica):
    """Replica that reads θ from each task, without a copy."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._theta: np.ndarray | None = None
        self._body: np.ndarray | None = None

    def update(self, task: Task) -> np.ndarray:
        if self._theta is None or task.body is not self._body:
            self._body, self._theta = task.body, task.body.view(self._dtype)
        return self._theta


class MirroredReplica(Replica):
    """Replica that repeats rank 0's operations on a state of its own.

    Parameters
    ----------
    state : Coded
        Built as rank 0's; its θ may have any value.
    at_once : bool
        Whether to take in an arrival and a step by it in one pass, where that gives the same bits.
    """

    def __init__(self, state: Coded, at_once: bool = True) -> None:
        layout = state.layouts[0]
        self._state = state
        # An entry, codewords and body, lies where the codewords of a task and the body of a reply would end
        # and begin: one copy makes it a message to read.
        words_bytes = 0 if layout.chosen else layout.codeword_bytes
        start = aligned(words_bytes)  # of the reply
        room = buffer(start + layout.reply_bytes)[0]
        body_at = start + layout.header_bytes
        self._entry = room[body_at - words_bytes : start + layout.reply_bytes]
        self._reply = Reply(layout, room[start : start + layout.reply_bytes])
        self._codewords = self._reply.codewords if layout.chosen else layout.empty_codewords()
        order = room[start - words_bytes : body_at]
        self._words = None if layout.chosen else view_codewords(layout, order, self._codewords)
        self._whole = layout.whole
        self._descents = None
        words = self._reply.words if self._words is None else self._words
        if at_once and words is not None:
            self._descents = descents(state, self._reply, words, self._codewords, self._entry)

    def update(self, task: Task) -> np.ndarray:
        body, state = task.body, self._state
        if task.flags & SNAPSHOT:
            state.load(body)
            body = body[:0]
        at, descents = 0, self._descents
        while at < len(body):
            if descents is not None and state.settled:
                at = descents.take(body, at, state.optimizer.rate)
                if at == len(body):
                    break
            kind, damping = STEP_HEAD.unpack_from(body.data, at)
            at += STEP_HEAD.size
            if kind == STEP:
                state.step(damping)
            else:
                at = padded(self._fold(body, at))
        if task.flags & CHECK and digest(state.theta) != task.digest:
            raise ReplicaError(
                f"downlink.kind: the replica of θ differs from rank 0's at version {task.version}"
            )
        return state.theta

    def _fold(self, body: np.ndarray, at: int) -> int:
        """Fold in an arrival as rank 0 did; return the offset at which its entry ends."""
        end = at + len(self._entry)
        self._entry[:] = body[at:end]
        if self._words is not None:
            self._words.read()
        self._reply.read()
        whole = self._whole
        codewords = [
            words if words is whole else (words[0].copy(), words[1])  # a decoder may keep the indices
            for words in self._codewords
        ]
        self._state.add(codewords, self._reply.payloads)
        return end


def descents(
    state: Coded, reply: Reply, words: CodewordView, codewords: list[Pair], entry: np.ndarray
) -> intake.Descents | None:
    """Return what takes in arrivals followed by their steps, in one pass over θ; None if some do more.

    Parameters
    ----------
    state : Coded
    reply : Reply
        View of an arrival, with its payload in `entry`.
    words : CodewordView
        Reads the codewords of `entry` into `codewords`.
    codewords : list of (indices, values)
    entry : ndarray of uint8
        Codewords and payload of an arrival.
    """
    layout, scales = reply.layout, plain_scales(state, reply.layout.rows)
    if scales is None or any(
        part.kind not in quantise.CODED or part.rows != rows
        for part, rows in zip(layout.parts, layout.rows, strict=True)
    ):
        return None
    units = [
        (state.theta[unit.offset : unit.offset + unit.length], scale, wire, part.kind, part.rows)
        for unit, scale, (_, wire, part) in zip(layout.units, scales, reply.fields, strict=True)
    ]
    shapes = [(unit.count, unit.elements) for unit in layout.units]
    return intake.Descents(units, shapes, entry, layout.codeword_bytes, words.read, codewords)
