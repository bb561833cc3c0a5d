"""Memory kinds and encoders: treatment of the residual, the part of a gradient that codewords leave out.

``none`` drops it; with given codewords the full gradient is never formed. ``worker`` adds it to the next
gradient: error feedback (Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Stich,
Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018; Karimireddy et al., "Error feedback fixes
SignSGD", ICML 2019). The compressor is the projection onto the task's codewords, and rounding. ``difference``
sends codewords of the gradient minus rank 0's estimate h of it, and both sides add the decoded payload to h:
EF21 (Richtárik, Sokolov and Fatkhullin, NeurIPS 2021). h equals the last gradient minus its residual, which
makes this error feedback on gradient differences, summed at rank 0. ``coordinator`` has an estimate at rank
0, in the tracking decoder; workers have no memory.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from msgspec import Meta

from ..config import Candidates, Fraction, MemoryTable
from ..config.requirements import KeyNeeds, Need, Needs, having, one_of
from ..kernels import decode, encode, finite, fold
from ..transport.layout import Pair
from ..transport.messages import Reply, Task
from ..util.rng import WIRE
from ..util.stateful import Stateful
from .ahead import LookAhead
from .source import BatchGradient, Source

ANTICIPATED = Need(
    lambda kind, config: kind.linear or kind.has_length,
    "'sgd', 'sign', 'muon' or 'dion2'",
    "is a share of a step whose length workers know",
    of_kind=True,
)
"""Requirement of look-ahead, for the key ``optimizer.kind``."""


class NoMemory(MemoryTable, tag="none"):
    """No memory: the residual is dropped."""


RESIDUAL_NEEDS: Needs = {
    "optimizer.staleness": one_of("constant", why="would lose what stale payloads are scaled down by"),
    "wire.dtype": having(
        "contraction", "a format that is a contraction", "keeps rounding errors that could grow without bound"
    ),
}
"""Requirements of memories at workers."""


class ResidualMemory(MemoryTable):
    """Memory of a residual at each worker."""

    has_residual: ClassVar[bool] = True

    #: factor c of the look-ahead: a worker evaluates its gradient at θ less c times the step that its
    #: residual e would make: η·e, or with `optimizer.kind` sign and muon one along e of their length;
    #: "auto": by the number of workers
    lookahead: Annotated[float, Meta(ge=0, le=1)] | Literal["auto"] = 0.0

    candidates: ClassVar[Candidates] = {"lookahead": (0.0, 0.2, "auto")}
    requires: ClassVar[KeyNeeds] = {"kind": RESIDUAL_NEEDS, "lookahead": {"optimizer.kind": ANTICIPATED}}


class WorkerMemory(ResidualMemory, tag="worker"):
    """Error feedback: workers add the residual to their next gradient."""

    decoders: ClassVar[tuple[str, ...]] = ("adjoint",)

    keep: Fraction = 1.0  #: factor on a worker's residual e at each task; below 1 it is a momentum


class DifferenceMemory(ResidualMemory, tag="difference"):
    """EF21: workers send the difference of their gradient from rank 0's estimate of it."""

    decoder: ClassVar[str] = "summing"
    decoders: ClassVar[tuple[str, ...]] = ("summing", "adjoint")


class CoordinatorMemory(MemoryTable, tag="coordinator"):
    """Gradient tracking: rank 0 has an estimate of the gradient, which arrivals correct."""

    decoder: ClassVar[str] = "tracking"
    decoders: ClassVar[tuple[str, ...]] = ("tracking",)


class CodewordSelector(Protocol):
    """Selector of a unit's codewords, given the vector to send (see `codes.constructions.matched`)."""

    def select(self, residual: np.ndarray) -> Pair:
        """Return codewords for a residual (length,): int32 indices (r, w) and unit-norm values (r, w)."""


class PayloadEncoder(Stateful, ABC):
    """A worker's side of a round: it computes the payload of a task into the reply's buffer.

    The states of the encoders of all rounds of a worker are saved and loaded together.
    """

    @abstractmethod
    def encode(self, theta: np.ndarray, task: Task) -> float:
        """Compute the payload of a task at θ into the reply; return the mini-batch loss."""

    @abstractmethod
    def quantise(self, keys: tuple[int, int, int]) -> None:
        """Round the payload into the message and keep the rounding error; keys: seed, worker, task."""

    @abstractmethod
    def rollback(self) -> None:
        """Return the last payload, which rank 0 has dropped, to the memory."""


class Memoryless(PayloadEncoder):
    """Encoder without a memory, of a payload in `reply`."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._reply.quantise(*keys)

    def rollback(self) -> None:
        pass


class StatelessEncoder(Memoryless):
    """Encoder of coded derivatives by given codewords, without a memory."""

    def __init__(self, source: BatchGradient, reply: Reply) -> None:
        super().__init__(reply)
        self._source = source

    def encode(self, theta: np.ndarray, task: Task) -> float:
        return self._source.coded(theta, task)


class MemoryEncoder(PayloadEncoder):
    """Encoder of the full gradient: payload y = Q e of the vector e to send, and residual e - Qᵀy.

    Codewords are applied one after another, each as a projection of the remaining residual; encoding never
    increases ‖e‖, even if they are not orthogonal. An uncoded layer is one block with the codeword [1]. A
    gradient that is not finite leaves the memory unchanged; rank 0 gets a payload of NaN.

    Parameters
    ----------
    source : Source
        Computes the gradient, or another vector of its size.
    reply : Reply
        Receives payloads and worker-selected codewords.
    kind : {"none", "worker", "difference", "coordinator"}
        Memory kind; decides what is added to the gradient: nothing, the residual, or the residual minus the
        last gradient.
    selectors : list of CodewordSelector or None
        One per unit; None where codewords are given.
    keep : float
        Factor on the residual at each task.
    ahead : LookAhead, optional
        Point at which the vector is computed; default: θ.
    drops : bool
        Whether the gradient of a payload that rank 0 has dropped is dropped, too.
    """

    state_names = ("source", "selectors", "residual", "_last", "_before", "_codewords", "_committed")

    def __init__(
        self,
        source: Source,
        reply: Reply,
        kind: str,
        selectors: list[CodewordSelector | None],
        keep: float = 1.0,
        ahead: LookAhead | None = None,
        drops: bool = False,
    ) -> None:
        self.source, self.reply, self.kind, self.selectors = source, reply, kind, selectors
        self._keep, self._ahead = keep, ahead
        dtype, size = source.gradient.dtype, source.gradient.size
        self.residual = np.zeros(size, dtype)
        self._last = np.zeros(size if kind == "difference" else 0, dtype)
        self._remembers = kind in ("worker", "difference")
        self._before = np.zeros(size if drops and self._remembers else 0, dtype)  # residual before a task
        self._sent = np.empty_like(reply.payload)
        self._units, self._rounding_errors = [], []
        layout = reply.layout
        for unit, start, view in zip(layout.units, layout.offsets, reply.payloads, strict=True):
            place = slice(unit.offset, unit.offset + unit.length)
            self._units.append((unit.elements, self.residual[place], source.gradient[place], view))
            self._rounding_errors.append(self._sent[start : start + view.size].reshape(view.shape))
        self._adds_gradient = kind == "worker" and not layout.worker_selected  # in the encoder's pass
        # Without a memory and codewords, payloads are the gradient.
        self._copies = not self._remembers and all(unit.uncoded for unit in layout.units)
        self._fused = self._adds_gradient and layout.rows_have_scales  # encodes and rounds in one pass
        self._codewords: list[Pair] = [layout.uncoded] * len(self._units)
        self._committed = False

    def encode(self, theta: np.ndarray, task: Task) -> float:
        if self._ahead is not None:
            whole = self._last if self.kind == "difference" else None
            theta = self._ahead.point(theta, self.residual, task.version, whole)
        loss, gradient = self.source(theta, task), self.source.gradient
        self._before[:] = self.residual[: len(self._before)]
        self._committed = finite.all_finite(gradient)
        if not self._committed:
            for view in self.reply.payloads:
                view.fill(np.nan)
            return loss
        if self._copies:
            for _, _, gradient, view in self._units:
                np.add(gradient, 0, out=view[0])  # no -0, as the code of a gradient added to a residual
            return loss
        if self.kind == "difference":
            self.residual -= self._last
            self._last[:] = gradient
        elif not self._remembers:
            self.residual.fill(0)
        elif self._keep < 1:
            self.residual *= self._keep
        if not self._adds_gradient:
            self.residual += gradient
        # Copies, because the next task, which reports this payload's fate, is read into the same arrays.
        uncoded = self.reply.layout.uncoded
        self._codewords = [
            pair if pair is uncoded else (pair[0].copy(), pair[1].copy()) for pair in task.codewords
        ]
        if self._fused:  # `quantise` encodes, too
            return loss
        if self.reply.layout.worker_selected:
            units = zip(self.selectors, self._units, strict=True)
            for number, (selector, (_, residual, _, _)) in enumerate(units):
                if selector is not None:
                    self._codewords[number] = selector.select(residual)
            self.reply.write_codewords(self._codewords)
            self._codewords = self.reply.codewords
        for (elements, residual, gradient, view), pair in zip(self._units, self._codewords, strict=True):
            added = gradient if self._adds_gradient else None
            encode.feedback_encode(residual, added, *pair, elements, view)
        return loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        if self._fused and self._committed:
            self._committed = self._quantise_fused(*keys)
            return
        if not self._remembers:
            self._committed &= self.reply.quantise(*keys)
            return
        exact = self.reply.layout.exact
        if not exact:
            np.copyto(self._sent, self.reply.payload)
        in_range = self.reply.quantise(*keys)
        if not self._committed:
            return
        if in_range and not exact:
            np.subtract(self._sent, self.reply.payload, out=self._sent)
            self._add(self._rounding_errors)
        elif not in_range:  # out of the format's range: rank 0 will refuse the payload
            if exact:
                self.residual.fill(0)
            else:
                self._add(self._rounding_errors)
            self._committed = False

    def _quantise_fused(self, seed: int, worker: int, task: int) -> bool:
        """Encode and round in one pass; return whether the payload is in the range of its formats."""
        reply, in_range = self.reply, True
        first = reply.part * len(self._units)
        for number, (unit, pair) in enumerate(zip(self._units, self._codewords, strict=True)):
            elements, residual, gradient, view = unit
            _, wire, field = reply.fields[number]
            kind = field.format.kind
            keys = seed, WIRE, worker, task, first + number
            in_range &= fold.encode(residual, gradient, *pair, elements, kind, wire, view, *keys)
        if not in_range:  # rank 0 will refuse the payload; return it to the memory
            self._add([np.where(np.isfinite(view), view, 0) for view in reply.payloads])
        return in_range

    def rollback(self) -> None:
        if self._committed and self._remembers:
            if len(self._before):
                self.residual[:] = self._before
            else:
                self._add(self.reply.payloads)
        self._committed = False

    def _add(self, payloads: list[np.ndarray]) -> None:
        """Add payloads back to the memory."""
        for (_, residual, _, _), pair, payload in zip(self._units, self._codewords, payloads, strict=True):
            decode.adjoint_decode(residual, *pair, payload, 1.0)
