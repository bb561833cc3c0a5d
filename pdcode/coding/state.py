"""State of a scheme at rank 0: the tasks it sends, and the use it makes of the replies.

A scheme is a `State` at rank 0 and, at every worker, a `PayloadEncoder` for each round; the loops of
coordinator and worker use nothing else. If replies are relayed, every worker has a replica of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
from .policies import Policy, Seen

if TYPE_CHECKING:
    from ..codes import Code
    from ..problems.partition import Unit
    from ..transport.base import Arrival
    from .assignments import Assignment


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
        Which payloads are used, when to step, and who waits for that.
    round : int
        Current round of the update.
    wake_ns : int or None
        Time since the run's start at which to ask `ready` again if nothing arrives before; None: never.
    designs : mapping of int to Code
        Codes by block count, for the trace.
    assignment : Assignment or None
        Assignment of codewords to tasks; None without one.
    robust : bool
        Whether the decoder rejects outliers, reported by `flagged`.
    digest : int
        Digest of θ after the last step, for the trace; 0: none was taken.
    default_rule : bool
        Capability: the policy alone decides when to step, and which payloads of this round to use.
    stuck : str
        Why the update under way cannot end without another payload; empty: not known.
    """

    state_names: ClassVar[tuple[str, ...]] = ("theta", "optimizer", "round", "wake_ns", "digest", "stuck")
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {"default_rule": ("ready", "usable")}
    default_rule: ClassVar[bool] = True

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
    stuck = ""

    @abstractmethod
    def order(self, worker: int, task: int) -> Order:
        """Return a worker's next task."""

    @abstractmethod
    def fold(self, arrival: Arrival) -> float:
        """Fold in a reply of this round; return the share of the gradient captured since the last step."""

    @abstractmethod
    def step(self, damping: float) -> float | None:
        """End the round.

        Parameters
        ----------
        damping : float
            Factor of the learning rate.

        Returns
        -------
        float or None
            Euclidean norm of the step of θ; None if the update continues with another round.
        """

    def ready(self, seen: Seen, expected: int) -> bool:
        """Tell whether to step, with `expected` payloads outstanding; a round may have its own rule."""
        return self.policy.ready(seen, expected)

    def usable(self, staleness: int, number: int) -> bool:
        """Tell whether to use a late payload: of another θ, or of round `number` and not of this one."""
        return number == self.round and self.policy.usable(staleness)

    @property
    def steps_every_arrival(self) -> bool:
        """Whether each payload that is used is an update by itself, and no other round follows."""
        plain = self.default_rule and not self.robust
        return plain and len(self.layouts) == 1 and self.policy.eager

    @property
    def single(self) -> fused.SingleUpdate | None:
        """What folds one payload in and steps, as `fold` and `step` do, in fewer calls; None: nothing."""
        return None

    def lost(self, worker: int) -> None:
        """Note that a worker has died; no task is ordered for it any more."""
        return

    @property
    def core(self) -> State:
        """The state without what it knows of workers' replicas: what is kept in a checkpoint of ranks."""
        return self

    def resumed(self) -> None:
        """Go on with a state that was kept, and with workers that have no replica of it."""
        return

    def joined(self, worker: int) -> None:
        """Note that a worker that had died is back, and has nothing of what it was sent."""
        return

    def owed(self, worker: int, sender: int | None = None) -> Sequence[np.ndarray]:
        """Return the payloads that a worker's task needs and other workers send, as their messages.

        With `sender`, only those of that worker.
        """
        return ()

    def remarks(self) -> list[str]:
        """Describe, a line each, what is made of the options where it is not evident; before the run."""
        return []

    @property
    def flagged(self) -> list[int]:
        """Indices, since the last step, of arrivals rejected as outliers."""
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
    bytes, least_bytes : int
        Length of `parts`: the maximum, and the length right after a step.
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
        shares = [unit.length / len(theta) for unit in units]  # of all of θ
        self._folds: list[tuple[Any, float]] = list(zip(decoders, shares, strict=True))
        self._adding = adding(decoders)
        self.senders = decoders[0].senders
        self._body = [theta.view(np.uint8)]
        self._counts = np.zeros(len(decoders), np.int64)
        self._arrays = [
            array.reshape(-1).view(np.uint8) for array in (self._counts, theta, *optimizer.state.values())
        ]
        held = [decoder.accumulator.view(np.uint8) for decoder in decoders]
        self._held = list(zip(decoders, held, strict=True))
        always = sum(len(array) for array in self._arrays)
        self.bytes = always + sum(len(array) for array in held)
        self.least_bytes = always + sum(len(array) for decoder, array in self._held if not decoder.clears)

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
        """Fold payloads into the decoders; return the captured share of the gradient, 0 to 1."""
        captured = 0.0
        if self._adding is not None and self._adding.add(codewords, payloads):
            for (decoder, share), (indices, _) in zip(self._folds, codewords, strict=True):
                decoder.added(indices)
                captured += share * decoder.captured
            return captured
        parts = zip(self._folds, codewords, payloads, strict=True)
        for (decoder, share), (indices, values), payload in parts:
            decoder.add_sparse(indices, values, payload)
            captured += share * decoder.captured
        return captured

    def step(self, damping: float) -> float | None:
        norm = self.optimizer.step(self.theta, self.units, self.decoders, damping, self.share)
        for decoder in self.decoders:
            decoder.reset()
        if self.assignment is not None:
            self.assignment.stepped()
        return norm

    @property
    def single(self) -> fused.SingleUpdate | None:
        if self.assignment is None or not self.assignment.is_stateless or self._adding is None:
            return None
        (layout,) = self.layouts
        scales = plain_scales(self, layout.rows)
        if scales is None:
            return None
        assert isinstance(self.optimizer, SGD)
        shares = [
            share * decoder.captured_of(count)
            for (decoder, share), count in zip(self._folds, layout.rows, strict=True)
        ]
        descents = self.optimizer.descents(self.theta, self.units, self.decoders)
        return fused.SingleUpdate(self._adding, descents, scales, sum(shares))

    @property
    def share(self) -> float:
        """Share of a whole gradient that has arrived since the last step: 1/n by each of n workers' payloads,
        where rank 0 takes their mean, however few they are."""
        senders = self.senders
        return 1.0 if senders == 1 else self.decoders[0].count / (self.layouts[0].rows[0] * senders)

    @property
    def settled(self) -> bool:
        """Whether nothing has arrived since the last step."""
        return not any(decoder.count for decoder in self.decoders)

    @property
    def flagged(self) -> list[int]:
        return sorted({number for decoder in self.decoders for number in decoder.flagged})

    def parts(self) -> list[np.ndarray]:
        """Return the state as uint8 buffers of a task's body, without accumulators known to be zero."""
        self._counts[:] = [decoder.count for decoder in self.decoders]
        return self._arrays + [array for decoder, array in self._held if decoder.count or not decoder.clears]

    def load(self, body: np.ndarray) -> None:
        """Load a state that `parts` returned."""
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


def adding(decoders: Sequence[Decoder]) -> decode.Accumulators | None:
    """Return what adds an arrival to all decoders in one call; None if some do more than add."""
    adders = [each for each in decoders if isinstance(each, AddingDecoder) and each.only_adds]
    return decode.Accumulators([each.target for each in adders]) if len(adders) == len(decoders) else None


def plain_scales(state: Coded, rows: Sequence[int]) -> list[float] | None:
    """Return the decoders' scales where an update by one arrival is no more than
    ``θ -= rate * scale * Σ g_i ⊗ y_i`` in each unit; None elsewhere.

    Parameters
    ----------
    state : Coded
    rows : sequence of int
        Codewords of an arrival, of each unit.
    """
    if not (state.default_update and isinstance(state.optimizer, SGD) and state.optimizer.descends):
        return None
    adjoints = [each for each in state.decoders if isinstance(each, AdjointDecoder) and each.only_scales]
    if len(adjoints) < len(rows):
        return None
    return [decoder.scale_of(count) for decoder, count in zip(adjoints, rows, strict=True)]
