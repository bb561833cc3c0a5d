"""A worker's copy of θ.

It is received with each task (``full``), or a *replica*: a worker has θ, the decoders and the optimizer, and
repeats the operations of rank 0 that the log in its task lists (see `relay`). The same kernels in the same
order give the same bits. A digest of θ is compared periodically.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..kernels import replica
from ..transport.layout import CHECK, SNAPSHOT, Pair, aligned, buffer
from ..transport.log import STEP, STEP_HEAD, padded
from ..transport.messages import CodewordView, Reply, Task, view_codewords
from ..util.stateful import Stateful
from .state import Coded, State, descent_scales


class ReplicaError(RuntimeError):
    """Mismatch between a worker's replica of θ and rank 0's θ."""


def digest(theta: np.ndarray) -> int:
    """Return a 64-bit hash of θ."""
    from hashlib import blake2b  # imports all of OpenSSL, which most ranks do not need

    return int.from_bytes(blake2b(theta.data, digest_size=8).digest(), "little", signed=True)


class Replica(Stateful, ABC):
    """A worker's copy of θ."""

    def connect(self, replies: Sequence[Reply]) -> None:
        """Set the buffers of the worker's replies, of each round."""

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


class SharedReplica(Replica):
    """Rank 0's own θ, for a worker in its process: what a replica would have when a task is sent."""

    def __init__(self, state: State) -> None:
        self._state = state

    def update(self, task: Task) -> np.ndarray:
        return self._state.theta


class ScaledReplica(Replica):
    """Replica that reads θ and the scales of the next payload from each task, without a copy of θ."""

    _scales: np.ndarray

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype

    def connect(self, replies: Sequence[Reply]) -> None:
        self._scales = replies[0].scales

    def update(self, task: Task) -> np.ndarray:
        split = len(task.body) - self._scales.nbytes
        self._scales[:] = task.body[split:].view(np.float32)
        return task.body[:split].view(self._dtype)


class MirroredReplica(Replica):
    """Replica that repeats rank 0's operations on a state of its own, built as rank 0's, with any θ.

    If `fused`, an arrival and its step are applied in one pass where that gives the same bits.
    """

    state_names = ("_state",)

    def __init__(self, state: Coded, fused: bool = True) -> None:
        layout = state.layouts[0]
        self._state = state
        # The codewords of an entry end, and its payload begins, where the body of a reply begins: the views
        # of a task's codewords and of a reply read an entry after one copy.
        codeword_bytes = 0 if layout.worker_selected else layout.codeword_bytes
        start = aligned(codeword_bytes)  # of the reply
        scratch = buffer(start + layout.reply_bytes)[0]
        body_at = start + layout.header_bytes
        self._entry = scratch[body_at - codeword_bytes : start + layout.reply_bytes]
        self._reply = Reply(layout, scratch[start : start + layout.reply_bytes])
        self._codewords = self._reply.codewords if layout.worker_selected else layout.empty_codewords()
        order = scratch[start - codeword_bytes : body_at]
        self._codeword_view = (
            None if layout.worker_selected else view_codewords(layout, order, self._codewords)
        )
        self._uncoded = layout.uncoded
        self._fused = None
        view = self._reply.codeword_view if self._codeword_view is None else self._codeword_view
        if fused and view is not None:
            self._fused = fused_descents(state, self._reply, view, self._codewords, self._entry)

    def update(self, task: Task) -> np.ndarray:
        body, state = task.body, self._state
        if task.flags & SNAPSHOT:
            state.load_buffers(body)
            body = body[:0]
        at, fused = 0, self._fused
        while at < len(body):
            if fused is not None and state.is_empty:
                at = fused.take(body, at, state.optimizer.rate)
                if at == len(body):
                    break
            kind, damping = STEP_HEAD.unpack_from(body.data, at)
            at += STEP_HEAD.size
            if kind == STEP:
                state.step(damping)
            else:
                at = padded(self._fold(body, at))
        if task.flags & CHECK and digest(state.theta) != task.digest:
            raise ReplicaError(f"the replica of θ differs from rank 0's at version {task.version}")
        return state.theta

    def _fold(self, body: np.ndarray, at: int) -> int:
        """Decode an arrival as rank 0 did; return the offset at which its entry ends."""
        end = at + len(self._entry)
        self._entry[:] = body[at:end]
        if self._codeword_view is not None:
            self._codeword_view.read()
        self._reply.read()
        uncoded = self._uncoded
        codewords = [
            pair if pair is uncoded else (pair[0].copy(), pair[1])  # a decoder may keep the indices
            for pair in self._codewords
        ]
        self._state.add(codewords, self._reply.payloads)
        return end


def fused_descents(
    state: Coded, reply: Reply, view: CodewordView, codewords: list[Pair], entry: np.ndarray
) -> replica.Descents | None:
    """Return the compiled update by arrivals and their steps, in one pass over θ; None if some do more.

    `reply` is the view of an arrival in `entry`, whose `codewords` `view` reads.
    """
    layout, scales = reply.layout, descent_scales(state, reply.layout.rows)
    if scales is None or not layout.rows_have_scales:
        return None
    units = [
        (state.theta[unit.offset : unit.offset + unit.length], scale, wire, field.format.kind, field.rows)
        for unit, scale, (_, wire, field) in zip(layout.units, scales, reply.fields, strict=True)
    ]
    shapes = [(unit.count, unit.elements) for unit in layout.units]
    return replica.Descents(units, shapes, entry, layout.codeword_bytes, view.read, codewords)
