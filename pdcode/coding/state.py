"""State of a scheme at rank 0: its tasks, and the use of the replies.

A scheme is a `State` at rank 0 and, at every worker, a `PayloadEncoder` for each round; the loops of
coordinator and worker use nothing else. If replies are relayed, every worker has a replica of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..decoders import Decoder
from ..decoders.adding import AddingDecoder
from ..decoders.adjoint import AdjointDecoder
from ..kernels import decode, fused
from ..transport.layout import Codewords, Layout
from ..transport.messages import Order
from ..util.capabilities import Capable
from ..util.stateful import Stateful
from .optimizers import SGD, Optimizer
from .policies import Policy, Progress

if TYPE_CHECKING:
    from ..codes import Code
    from ..schemes.common.assignments import Assignment
    from ..transport.base import Arrival
    from ..transport.units import Unit


class State(Stateful, Capable, ABC):
    """θ, and the rule by which a scheme updates it.

    Attributes
    ----------
    theta : ndarray, shape (size,)
        Changed in place.
    optimizer : Optimizer
        Its `damping` scales steps by stale payloads.
    layouts : sequence of Layout
        Message layout of each round of an update; most schemes have one round.
    policy : Policy
        Rule of which payloads are used, when to step, and which workers wait for the step.
    round : int
        Current round of the update.
    wake_ns : int or None
        Time since the run's start at which to evaluate `ready` if nothing arrives before; None: never.
    designs : mapping of int to Code
        Codes by block count, for the trace.
    assignment : Assignment or None
        Assignment of codewords to tasks; None without one.
    robust : bool
        Whether the decoder rejects outliers, reported by `flagged`.
    digest : int
        Digest of θ after the last step, for the trace; 0: not computed.
    default_rule : bool
        Capability: the policy alone decides when to step, and which payloads of this round to use.
    omitted : collection of (int, int)
        Worker and task of payloads that the last step has left out, as their workers did not respond.
    recorded : collection of (int, int)
        The same of all steps of a recorded run; to be set.
    wrapped : (int, int)
        Groups of elements whose last sum was beyond ``reduce.bits``: mended, and lost.
    tables : tuple of str
        Tables of a trace, of those that only some have, to which the state adds rows.
    record : callable
        ``record(table, count, columns)`` adds rows to one of them; to be set.
    stuck : str
        Reason why the current update cannot end without another payload; empty: not known.
    """

    state_names: ClassVar[tuple[str, ...]] = ("theta", "optimizer", "round", "wake_ns", "digest", "stuck")
    state_types: ClassVar[tuple[tuple[str, Any], ...]] = (("wake_ns", int | None),)
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {"default_rule": ("ready", "usable")}
    default_rule: ClassVar[bool] = True
    resizes: ClassVar[bool] = False  # as of `Coded`

    theta: np.ndarray
    optimizer: Optimizer
    layouts: Sequence[Layout]
    policy: Policy
    round = 0
    wake_ns: int | None = None
    designs: Mapping[int, Code] = {}
    assignment: Assignment | None = None
    robust = False
    digest = 0
    tables: ClassVar[tuple[str, ...]] = ()
    record: Callable[[str, int, Mapping[str, Any]], None]
    stuck = ""
    omitted: Collection[tuple[int, int]] = ()
    recorded: Collection[tuple[int, int]] = ()
    wrapped: tuple[int, int] = (0, 0)

    @abstractmethod
    def order(self, worker: int, task: int) -> Order | None:
        """Return a worker's next task; None: there is none now, see `has_tasks`."""

    @abstractmethod
    def fold(self, arrival: Arrival) -> float:
        """Decode a reply of this round; return the fraction of the gradient captured since the last step."""

    def drained(self, arrival: Arrival) -> None:
        """Note a reply that came after the end of the run, and changes nothing."""
        return

    @abstractmethod
    def step(self, damping: float) -> float | None:
        """End the round, with a factor of the learning rate.

        Return the Euclidean norm of the step of θ, or None if the update continues with another round.
        """

    def ready(self, progress: Progress, expected: int) -> bool:
        """Return whether to step, with `expected` payloads outstanding; a round may have its own rule."""
        return self.policy.ready(progress, expected)

    @property
    def results(self) -> dict[str, np.ndarray]:
        """Arrays for the trace's ``/checkpoint``, beside θ and the optimizer's arrays."""
        return {}

    def usable(self, staleness: int, number: int) -> bool:
        """Return whether to use a late payload, `staleness` versions old and of round `number`."""
        return number == self.round and self.policy.usable(staleness)

    def has_tasks(self, now_ns: int) -> bool:
        """Return whether workers for which there was no task, or that wait for a step, can have one now."""
        return False

    @property
    def steps_every_arrival(self) -> bool:
        """Whether each used payload is an update by itself, without another round."""
        one_round = self.default_rule and not self.robust and len(self.layouts) == 1
        return one_round and self.policy.steps_every_arrival

    @property
    def fused_update(self) -> fused.SingleUpdate | None:
        """Compiled equivalent of `fold` and `step` for one payload; None if there is none."""
        return None

    @property
    def ended(self) -> tuple[str, bool]:
        """Reason why the run is over, or an empty string, and whether it has failed."""
        return "", False

    def lost(self, worker: int) -> None:
        """Note the death of a worker; it gets no further task."""
        return

    def body_bytes(self, workers: int, number: int = 0) -> tuple[int, int]:
        """Return the mean bytes of a task's body in round `number`: those common to all workers, and others.

        `workers` may be another number of workers than the run's.
        """
        layout = self.layouts[number]
        return layout.task_bytes - layout.body_offset, 0

    @property
    def unrelayed(self) -> State:
        """The state without records of the workers' replicas, as saved where workers are ranks."""
        return self

    def resumed(self) -> None:
        """Continue from a loaded state, with workers that have no replica of it."""
        return

    def continue_at(self, version: int) -> None:
        """Continue a run at a version of θ, which has been set."""
        return

    def joined(self, worker: int) -> None:
        """Note the return of a worker that had died; it has received nothing."""
        return

    def undelivered_payloads(self, worker: int, sender: int | None = None) -> Sequence[np.ndarray]:
        """Return the payloads that a worker's task needs and other workers send it, as messages.

        With `sender`, only the payloads of that worker.
        """
        return ()

    def remarks(self) -> list[str]:
        """Return lines that explain, before the run, effects of the options that are not evident."""
        return []

    @property
    def flagged(self) -> list[int]:
        """Indices of the arrivals since the last step that were rejected as outliers."""
        return []


class Coded(State):
    """State with codewords over units of θ, a decoder for each unit, and an optimizer.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    units : sequence of Unit
        Segments of θ whose blocks the codewords combine.
    decoders : sequence of Decoder
        One per unit.
    optimizer : Optimizer
    assignment : Assignment, optional
        Assignment of codewords to tasks; a replica has none.

    Attributes
    ----------
    senders : int
        Number of payloads that make up a gradient.
    max_snapshot_bytes, min_snapshot_bytes : int
        Length of `buffers`: the maximum, and the length right after a step.
    default_update : bool
        Capability: an update adds payloads to the decoders, and is a step of the optimizer.
    resizes : bool
        Capability: θ and the optimizer are all that a run with another number of workers needs.
    """

    state_names = (*State.state_names, "assignment", "decoders")
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **State.covers,
        "default_update": ("fold", "add", "step"),
        "resizes": ("__init__", "order", "fold", "add", "step", "ready", "usable"),
    }
    default_update: ClassVar[bool] = True
    resizes: ClassVar[bool] = True

    def __init__(
        self,
        theta: np.ndarray,
        units: Sequence[Unit],
        decoders: Sequence[Decoder],
        optimizer: Optimizer,
        assignment: Assignment | None = None,
    ) -> None:
        self.theta, self.units, self.decoders, self.optimizer = theta, units, decoders, optimizer
        self.assignment = assignment
        self.designs = {} if assignment is None else assignment.designs
        self.robust = any(decoder.robust for decoder in decoders)
        fractions = [unit.length / len(theta) for unit in units]
        self._decoder_fractions: list[tuple[Any, float]] = list(zip(decoders, fractions, strict=True))
        self._accumulators = fused_accumulators(decoders)
        self.senders = decoders[0].senders
        self._body = [theta.view(np.uint8)]
        self._counts = np.zeros(len(decoders), np.int64)
        self._arrays = [
            array.reshape(-1).view(np.uint8) for array in (self._counts, theta, *optimizer.state.values())
        ]
        held = [decoder.accumulator.view(np.uint8) for decoder in decoders]
        self._sums = list(zip(decoders, held, strict=True))
        always = sum(len(array) for array in self._arrays)
        self.max_snapshot_bytes = always + sum(len(array) for array in held)
        self.min_snapshot_bytes = always + sum(
            len(array) for decoder, array in self._sums if not decoder.clears
        )

    def order(self, worker: int, task: int) -> Order:
        assert self.assignment is not None
        row = self.assignment.row(worker)
        return Order(row, self.assignment.codewords(row), self._body)

    def fold(self, arrival: Arrival) -> float:
        captured = self.add(arrival.codewords, arrival.payloads)
        if self.assignment is not None:
            self.assignment.arrived(arrival)
        return captured

    def add(self, codewords: Codewords, payloads: Sequence[np.ndarray]) -> float:
        """Add payloads to the decoders; return the captured fraction of the gradient, 0 to 1."""
        captured = 0.0
        if self._accumulators is not None and self._accumulators.add(codewords, payloads):
            for (decoder, fraction), (indices, _) in zip(self._decoder_fractions, codewords, strict=True):
                decoder.added(indices)
                captured += fraction * decoder.captured
            return captured
        units = zip(self._decoder_fractions, codewords, payloads, strict=True)
        for (decoder, fraction), (indices, values), payload in units:
            decoder.add_sparse(indices, values, payload)
            captured += fraction * decoder.captured
        return captured

    def step(self, damping: float) -> float | None:
        norm = self.optimizer.step(self.theta, self.units, self.decoders, damping, self.gradient_fraction)
        for decoder in self.decoders:
            decoder.reset()
        if self.assignment is not None:
            self.assignment.stepped()
        return norm

    @property
    def fused_update(self) -> fused.SingleUpdate | None:
        if self.assignment is None or not self.assignment.is_stateless or self._accumulators is None:
            return None
        (layout,) = self.layouts
        scales = descent_scales(self, layout.rows)
        if scales is None:
            return None
        assert isinstance(self.optimizer, SGD)
        captured = [
            fraction * decoder.captured_of(count)
            for (decoder, fraction), count in zip(self._decoder_fractions, layout.rows, strict=True)
        ]
        descents = self.optimizer.descents(self.theta, self.units, self.decoders)
        return fused.SingleUpdate(self._accumulators, descents, scales, sum(captured))

    @property
    def gradient_fraction(self) -> float:
        """Fraction of a gradient since the last step: 1/n for each payload where rank 0 takes a mean of n."""
        senders = self.senders
        return 1.0 if senders == 1 else self.decoders[0].count / (self.layouts[0].rows[0] * senders)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived since the last step."""
        return not any(decoder.count for decoder in self.decoders)

    @property
    def flagged(self) -> list[int]:
        return sorted({number for decoder in self.decoders for number in decoder.flagged})

    def buffers(self) -> list[np.ndarray]:
        """Return the state as uint8 buffers of a task's body, without accumulators known to be zero."""
        self._counts[:] = [decoder.count for decoder in self.decoders]
        return self._arrays + [array for decoder, array in self._sums if decoder.count or not decoder.clears]

    def load_buffers(self, body: np.ndarray) -> None:
        """Load a state from the concatenation of `buffers`."""
        at = self._copy(body, 0, self._arrays)
        for (decoder, array), count in zip(self._sums, self._counts, strict=True):
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


def fused_accumulators(decoders: Sequence[Decoder]) -> decode.Accumulators | None:
    """Return a compiled sum of an arrival to all accumulators; None if a decoder does more than add."""
    adders = [each for each in decoders if isinstance(each, AddingDecoder) and each.only_adds]
    return decode.Accumulators([each.target for each in adders]) if len(adders) == len(decoders) else None


def descent_scales(state: Coded, rows: Sequence[int]) -> list[float] | None:
    """Return each decoder's scale, or None unless an arrival's update is ``θ -= rate * scale * Σ g_i ⊗ y_i``.

    `rows` are the codewords of an arrival, of each unit.
    """
    optimizer = state.optimizer
    if not (state.default_update and isinstance(optimizer, SGD) and optimizer.descends):
        return None
    if optimizer.adjusts:
        return None
    adjoints = [each for each in state.decoders if isinstance(each, AdjointDecoder) and each.only_scales]
    if len(adjoints) < len(rows):
        return None
    return [decoder.scale_of(count) for decoder, count in zip(adjoints, rows, strict=True)]
