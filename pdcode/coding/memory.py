"""What a worker does with the part of its gradient that its codewords leave out.

``none`` forgets it, and where the codewords are given never forms it. ``worker`` keeps it and adds it to the
next gradient: error feedback (Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Stich,
Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018; Karimireddy et al., "Error feedback fixes
SignSGD", ICML 2019), with the projection onto the task's codewords, and the rounding of the payload, as the
compressor. ``difference`` sends codewords of the gradient minus what rank 0 has of it, h, which both sides
add to h: EF21 (Richtárik, Sokolov and Fatkhullin, NeurIPS 2021). As h is the last gradient less what was left
of it, that is error feedback on the changes of the gradient, with rank 0 summing them up. ``coordinator``
leaves it to rank 0: workers are as without memory, and the tracking decoder keeps an estimate.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from ..config.tables import MemoryTable
from ..kernels import decode, encode, finite, specialise
from ..transport.layout import Pair
from ..transport.messages import Reply, Task
from .source import Batch, Source


class NoMemory(MemoryTable, tag="none"):
    """What codewords leave out is forgotten."""


class WorkerMemory(MemoryTable, tag="worker"):
    """Workers add what codewords have left out to their next gradient: error feedback."""

    decoders: ClassVar[tuple[str, ...]] = ("adjoint",)
    keeps: ClassVar[bool] = True


class DifferenceMemory(MemoryTable, tag="difference"):
    """Workers send what their gradients differ by from what rank 0 has of them: EF21."""

    decoder: ClassVar[str] = "summing"
    decoders: ClassVar[tuple[str, ...]] = ("summing", "adjoint")
    keeps: ClassVar[bool] = True


class CoordinatorMemory(MemoryTable, tag="coordinator"):
    """Rank 0 keeps an estimate of the gradient, which arrivals correct."""

    decoder: ClassVar[str] = "tracking"
    decoders: ClassVar[tuple[str, ...]] = ("tracking",)


class CodewordSelector(Protocol):
    """Picks codewords of a unit from what is to be sent of it, as `codes.constructions.matched` does."""

    def select(self, residual: np.ndarray) -> Pair:
        """Codewords for a residual of shape (length,): int32 indices (r, w) and unit-norm values (r, w)."""


class Respond(Protocol):
    """A worker's side of a round: makes the payload of a task in the reply's buffer."""

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        """Leave the payload in the reply; return the mini-batch loss."""

    def quantise(self, keys: tuple[int, int, int]) -> None:
        """Round the payload into the message, and keep what is lost by it; seed, worker and task."""

    def rollback(self) -> None:
        """Take the last payload back: rank 0 has not used it."""


class StatelessEncoder:
    """Coded derivatives by given codewords; nothing is kept."""

    def __init__(self, source: Batch, reply: Reply) -> None:
        self._source, self._reply = source, reply

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        return self._source.coded(theta, task)

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._reply.write(*keys)

    def rollback(self) -> None:
        pass


class MemoryEncoder:
    """From the full gradient: payload y = Q e of what is to be sent, e, of which e - Qᵀy stays.

    Codewords are taken in turn, so that each of them is a projection of what is left, and e never grows by
    encoding whether or not they are orthogonal. A layer that is sent whole is a block with the codeword [1].
    A gradient that is not finite is not let into the memory: a payload of NaN tells rank 0 of it.

    Parameters
    ----------
    source : Source
        Computes the gradient, or what stands for it.
    reply : Reply
        Where payloads, and chosen codewords, are written.
    kind : {"none", "worker", "difference", "coordinator"}
        Whether e starts from nothing, from what stayed, or from that and minus the last gradient.
    selectors : list of CodewordSelector or None
        One a unit; None where codewords are given.
    """

    def __init__(
        self, source: Source, reply: Reply, kind: str, selectors: list[CodewordSelector | None]
    ) -> None:
        self.source, self.reply, self.kind, self.selectors = source, reply, kind, selectors
        dtype, size = source.gradient.dtype, source.gradient.size
        self.residual = np.zeros(size, dtype)
        self._last = np.zeros(size if kind == "difference" else 0, dtype)
        self._sent = np.empty_like(reply.payload)
        self._deflate = specialise(encode.deflate, dtype)
        self._feedback = specialise(encode.feedback_encode, dtype)
        self._scatter = specialise(decode.adjoint_decode, dtype)
        self._units, self._lost = [], []
        layout = reply.layout
        for unit, start, view in zip(layout.units, layout.offsets, reply.payloads, strict=True):
            part = slice(unit.offset, unit.offset + unit.length)
            self._units.append((unit.elements, self.residual[part], source.gradient[part], view))
            self._lost.append(self._sent[start : start + view.size].reshape(view.shape))
        self._words: list[Pair] = [layout.whole] * len(self._units)
        self._committed = False

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        loss, gradient = self.source(theta, task), self.source.gradient
        self._committed = finite.all_finite(gradient)
        if not self._committed:
            for view in self.reply.payloads:
                view.fill(np.nan)
            return loss
        added = self.kind == "worker" and not self.reply.layout.chosen  # in the encoder's own pass
        if self.kind == "difference":
            self.residual -= self._last
            self._last[:] = gradient
        elif self.kind != "worker":
            self.residual.fill(0)
        if not added:
            self.residual += gradient
        # Copies: the next task, which says what became of this payload, is read into the same arrays.
        self._words = [(places.copy(), values.copy()) for places, values in task.codewords]
        if self.reply.layout.chosen:
            for number, (select, (_, residual, _, _)) in enumerate(
                zip(self.selectors, self._units, strict=True)
            ):
                if select is not None:
                    self._words[number] = select.select(residual)
            self.reply.put_codewords(self._words)
            self._words = self.reply.codewords
        for (elements, residual, part, view), words in zip(self._units, self._words, strict=True):
            if added:
                self._feedback(residual, part, *words, elements, view)
            else:
                self._deflate(residual, *words, elements, view)
        return loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        exact = self.reply.layout.exact
        if not exact:
            np.copyto(self._sent, self.reply.payload)
        sound = self.reply.write(*keys)
        if not self._committed:
            return
        if sound and not exact:
            np.subtract(self._sent, self.reply.payload, out=self._sent)
            self._add(self._lost)
        elif not sound:  # beyond the range of the format: rank 0 will refuse the payload
            if exact:
                self.residual.fill(0)
            else:
                self._add(self._lost)
            self._committed = False

    def rollback(self) -> None:
        if self._committed:
            self._add(self.reply.payloads)
        self._committed = False

    def _add(self, payloads: list[np.ndarray]) -> None:
        """Put payloads back into the memory."""
        for (_, residual, _, _), words, payload in zip(self._units, self._words, payloads, strict=True):
            self._scatter(residual, *words, payload, 1.0)
