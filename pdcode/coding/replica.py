"""A worker's copy of θ.

It is what the task brings (``full``), or a *replica*: a worker keeps θ, the decoders and the optimizer, and
repeats the operations of rank 0 that the task's log tells (see `relay`): the same kernels in the same order
give the same bits. A digest of θ is compared periodically.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ..kernels import replica
from ..transport.layout import CHECK, SNAPSHOT, Pair, aligned, buffer
from ..transport.log import STEP, STEP_HEAD, padded
from ..transport.messages import CodewordView, Reply, Task, view_codewords
from ..util.stateful import Stateful
from .state import Coded, plain_scales


class ReplicaError(RuntimeError):
    """Mismatch between a worker's replica of θ and rank 0's θ."""


def digest(theta: np.ndarray) -> int:
    """Return a 64-bit hash of θ."""
    from hashlib import blake2b  # with all of OpenSSL, which most ranks do not need

    return int.from_bytes(blake2b(theta.data, digest_size=8).digest(), "little", signed=True)


class Replica(Stateful, ABC):
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

    state_names = ("_state",)

    def __init__(self, state: Coded, at_once: bool = True) -> None:
        layout = state.layouts[0]
        self._state = state
        # An entry, codewords and body, lies where the codewords of a task and the body of a reply would end
        # and begin: one copy makes it a message to read.
        words_bytes = 0 if layout.worker_selected else layout.codeword_bytes
        start = aligned(words_bytes)  # of the reply
        room = buffer(start + layout.reply_bytes)[0]
        body_at = start + layout.header_bytes
        self._entry = room[body_at - words_bytes : start + layout.reply_bytes]
        self._reply = Reply(layout, room[start : start + layout.reply_bytes])
        self._codewords = self._reply.codewords if layout.worker_selected else layout.empty_codewords()
        order = room[start - words_bytes : body_at]
        self._words = None if layout.worker_selected else view_codewords(layout, order, self._codewords)
        self._whole = layout.uncoded
        self._descents = None
        words = self._reply.codeword_view if self._words is None else self._words
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
) -> replica.Descents | None:
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
        not part.format.scales or part.rows != rows
        for part, rows in zip(layout.fields, layout.rows, strict=True)
    ):
        return None
    units = [
        (state.theta[unit.offset : unit.offset + unit.length], scale, wire, part.format.kind, part.rows)
        for unit, scale, (_, wire, part) in zip(layout.units, scales, reply.fields, strict=True)
    ]
    shapes = [(unit.count, unit.elements) for unit in layout.units]
    return replica.Descents(units, shapes, entry, layout.codeword_bytes, words.read, codewords)
