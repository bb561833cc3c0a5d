"""Sums of all payloads by all workers; each worker has its own θ.

Payloads in the problem's type are added up by MPI_Iallreduce, integers modulo 2^bits by an operation of ours,
and rounded payloads by owners of ranges of elements (`allreduce_ranks`). An update of the first payloads is
`first.First`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..config.interfaces import SUMMED_NEEDS, ReduceTable
from ..config.requirements import KeyNeeds, Need, none_of, one_of
from .base import Reduction
from .first import First

if TYPE_CHECKING:
    from ..coding.state import State
    from ..config import Config
    from ..mpi.fleet import MPIFleet, Ranks
    from ..mpi.initialise import MPI
    from ..mpi.link import Entry, MPILink
    from ..session.setup import Components, WorkerFactory
    from ..transport.layout import Layout
    from ..virtual.schedule import AllreduceSchedule
    from .allreduce_ranks import Summation


class Allreduce(Reduction):
    """All workers add up their payloads, and step.

    Another way of adding up is a subclass with other `summation` and `sum_s`, and `simulated`, if the bits of
    its sums are not made in the order of arrivals.
    """

    workers_step = True

    @property
    def reproducible(self) -> bool:
        return bool(self.owners) or self.config.reduce.bits is not None

    @property
    def owners(self) -> int:
        config = self.config
        rounded = any(name != config.problem.dtype for name in config.wire.formats)
        return config.workers.count if rounded else 0

    def simulated(self, state: State) -> State:
        from .states import AveragingState

        return AveragingState(state, self.config) if self.owners else state

    def schedule(self, components: Components, task_ns: Sequence[np.ndarray]) -> AllreduceSchedule:
        from ..virtual.schedule import AllreduceSchedule

        layouts, fractions = components.layouts, components.delay_fractions
        sizes = [layout.payload_bytes for layout in layouts]
        sums_ns = [round(1e9 * self.sum_s(components, layout)) for layout in layouts]
        return AllreduceSchedule(self.config, task_ns, sizes, sums_ns, fractions)

    def sum_s(self, components: Components, layout: Layout) -> float:
        """Return the time from the slowest worker's payload until all have the sum, in s.

        Owners of ranges do a reduce-scatter and an allgather, and take time to average.
        """
        from ..coding.flops import owner_flops
        from ..virtual.schedule import allreduce_s

        link, workers = self.config.link, self.config.workers.count
        byte_s = (1 + link.half_duplex) / link.bandwidth
        if not self.owners:
            return allreduce_s(workers, layout.payload_bytes, link.latency_s, byte_s)
        owner_s = owner_flops(self.config, components.problem, layout) / self.config.machine.flops_per_s
        steps = math.ceil(math.log2(workers))
        return 2 * steps * link.latency_s + self.exchanged_bytes(layout) * byte_s + owner_s

    def fleet(self, ranks: Ranks, components: Components) -> MPIFleet:
        from .allreduce_ranks import AllreduceFleet
        from .states import ReducedState

        workers, check = self.config.workers.count, self.config.reduce.check
        components.state = ReducedState(components.state, workers, check)
        return AllreduceFleet(ranks, components.layouts)

    def link(self, entry: Entry, factory: WorkerFactory) -> MPILink:
        from .allreduce_ranks import AllreduceLink

        state = factory.scheme.state(factory.problem)
        return AllreduceLink(entry, state, self.summation, self.config.reduce.check)

    def summation(self, layout: Layout, number: int, comm: MPI.Intracomm) -> Summation:
        """Build a worker's part of the sums of round `number`, with the other workers of `comm`."""
        from . import allreduce_ranks as reduce
        from .owners import Owner

        if layout.exact:
            return reduce.VectorSummation(layout, number, comm)
        if layout.blocks is not None:
            return reduce.ModularSummation(layout, number, comm)
        return reduce.Averaging(layout, number, comm, Owner(self.config, layout, comm.rank))


class SummedTable(ReduceTable):
    """Reductions by workers."""

    summed: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            **SUMMED_NEEDS,
            "update.mode": Need(
                lambda mode, config: mode.complete or mode.name_of() == "first",
                "'all' or 'first'",
                "has workers wait for each other",
                of_kind=True,
            ),
            "update.late": one_of(
                "waste", why="adds up payloads at the same θ", when=lambda config: config.reduction.by_members
            ),
            "wire.dtype": Need(
                lambda name, config: not (config.reduction.owners and isinstance(config.wire.dtype, list)),
                "one format for all layers",
                "cuts layers into ranges of elements",
            ),
            "code.rows_per_task": none_of(
                "auto", needed="a number, or code.share", why="has no link of rank 0 that would determine it"
            ),
            "memory.kind": one_of(
                "none",
                "worker",
                why="has owners round the mean again",
                when=lambda config: config.reduction.owners,
            ),
        },
        **ReduceTable.requires,
    }

    def make(self, config: Config) -> Any:
        return (self.makes if config.update.complete else First)(config)


class AllreduceTable(SummedTable, tag="allreduce"):
    """The workers add up the payloads, and each has its own θ.

    If `wire.dtype` rounds, or with `update.mode = "first"`, each averages a range of elements, and rounds the
    mean again.
    """

    makes: ClassVar[type[Reduction]] = Allreduce
