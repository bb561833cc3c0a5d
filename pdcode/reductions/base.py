"""Base class of reductions; by default rank 0 gets the payloads and adds them up.

A run over MPI asks it for rank 0's fleet and for a worker's link, the virtual clock and replays for a
schedule, and all of them for rank 0's state and for bytes. Modules of MPI and of the virtual clock are
imported where they are used, as a configuration is also read without either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..config.requirements import Needs, one_of

if TYPE_CHECKING:
    from ..coding.replica import Replica
    from ..coding.state import Coded, State
    from ..config import Config
    from ..mpi.fleet import MPIFleet, Ranks
    from ..mpi.link import Entry, MPILink
    from ..problems import Problem
    from ..schemes import Scheme
    from ..session.setup import Components, WorkerFactory
    from ..transport.layout import Layout
    from ..virtual.schedule import CostModelSchedule


class Reduction:
    """Who adds up the payloads of an update: here rank 0.

    Attributes
    ----------
    virtual_only : bool
        Whether it exists on the virtual clock alone.
    workers_step : bool
        Whether every worker steps a θ of its own by the sum of all payloads, and rank 0 follows.
    by_members : bool
        Whether the *members* of an update, the workers of the payloads that rank 0 uses, add these up for it.
    foreign_state : dict
        Needs of a scheme that has a state of its own, in place of `state`.
    """

    virtual_only: ClassVar[bool] = False
    workers_step: ClassVar[bool] = False
    by_members: ClassVar[bool] = False
    foreign_state: ClassVar[Needs] = {"reduce.bits": one_of(None, why="has a state of its own")}

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def reproducible(self) -> bool:
        """Whether the sums of a run over MPI follow from its trace, so that it can be replayed."""
        return True

    @property
    def owners(self) -> int:
        """Number of ranges of elements, each averaged by a worker; 0: there are none."""
        return 0

    @property
    def relays(self) -> bool:
        """Whether tasks have what brings a worker's replica of θ up to date."""
        return self.config.downlink.relays

    # States of rank 0.

    def state(self, state: Coded) -> State:
        """Return rank 0's state, built on a scheme's."""
        from .modular import ModularState

        if self.config.reduce.bits is not None:
            return ModularState(state, self.config)
        return self.config.downlink.state(state, self.config.workers.count)

    def simulated(self, state: State) -> State:
        """Return the state for workers in this process, which only send payloads."""
        return state

    # Workers.

    def replica(
        self, scheme: Scheme, problem: Problem, weights: Sequence[int], state: State | None
    ) -> tuple[Replica, Sequence[Layout]]:
        """Return a worker's copy of θ, and the message layouts, as `DownlinkTable.replica`."""
        from ..coding.replica import ScaledReplica

        if self.config.reduce.bits is not None:
            return ScaledReplica(problem.dtype), scheme.layouts(problem, weights)
        return self.config.downlink.replica(scheme, problem, weights, state)

    # Sizes of messages.

    def reply_bytes(self, layouts: Sequence[Layout]) -> list[int]:
        """Return the bytes of a worker's message to rank 0 in each round."""
        return [layout.reply_bytes for layout in layouts]

    def exchanged_bytes(self, layout: Layout) -> int:
        """Return the bytes that a worker sends, and receives, in a round in which workers add up."""
        from ..transport.sums import exchanged_bytes

        return exchanged_bytes(layout, self.owners or self.config.workers.count)

    def step_bytes(self, layout: Layout) -> tuple[int, int]:
        """Return the bytes that rank 0 receives, and sends, for a step."""
        return 0, 0

    # The virtual clock.

    def schedule(self, components: Components, task_ns: Sequence[np.ndarray]) -> CostModelSchedule:
        """Build the schedule of the virtual clock; `task_ns` are the times of tasks in each round."""
        from ..virtual.schedule import CostModelSchedule

        sizes, exchanged = components.reply_bytes, self.config.downlink.peer_bytes(components.layout)
        return CostModelSchedule(self.config, task_ns, sizes, components.delay_fractions, exchanged)

    # Ranks of MPI.

    def fleet(self, ranks: Ranks, components: Components) -> MPIFleet:
        """Build rank 0's fleet; the components get the state that goes with it."""
        from ..mpi.fleet import MPIFleet

        return MPIFleet(ranks, components.layouts)

    def link(self, entry: Entry, factory: WorkerFactory) -> MPILink:
        """Build a worker's link."""
        return self.config.downlink.link(entry)
