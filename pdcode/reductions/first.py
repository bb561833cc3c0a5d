"""Sums of the first payloads of an update by their workers, its members, for rank 0.

Replies announce payloads. At a step the members average them, each a range of elements, and send the mean to
rank 0, which relays it to the other workers, see `reductions.first_ranks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..config.requirements import Need, Needs
from ..downlinks import mirrored
from .base import Reduction

if TYPE_CHECKING:
    from ..coding.replica import Replica
    from ..coding.state import Coded, State
    from ..mpi.fleet import MPIFleet, Ranks
    from ..mpi.link import Entry, MPILink
    from ..problems import Problem
    from ..schemes import Scheme
    from ..session.setup import Components, WorkerFactory
    from ..transport.layout import Layout
    from ..virtual.schedule import CostModelSchedule


class First(Reduction):
    """The members of an update average their payloads."""

    by_members = True
    foreign_state: ClassVar[Needs] = {
        "update.mode": Need(lambda mode, config: False, "'all'", "has a state of its own")
    }

    @property
    def owners(self) -> int:
        workers = self.config.workers.count
        return self.config.update.min_payloads(workers) or workers

    @property
    def relays(self) -> bool:
        return True

    def state(self, state: Coded) -> State:
        from .states import FirstState

        return FirstState(state, self.config)

    def replica(
        self, scheme: Scheme, problem: Problem, weights: Sequence[int], state: State | None
    ) -> tuple[Replica, Sequence[Layout]]:
        return mirrored(scheme, problem, weights, state)

    def reply_bytes(self, layouts: Sequence[Layout]) -> list[int]:
        from ..transport.sums import announcement

        return [announcement(layout).reply_bytes for layout in layouts]

    def step_bytes(self, layout: Layout) -> tuple[int, int]:
        from ..transport.sums import chosen_bytes

        return chosen_bytes(layout, self.owners)

    def schedule(self, components: Components, task_ns: Sequence[np.ndarray]) -> CostModelSchedule:
        from ..coding.flops import owner_flops
        from ..transport.sums import segment_bytes
        from ..virtual.schedule import FirstSchedule

        config, (layout,) = self.config, components.layouts
        state: Any = components.state
        owner_s = owner_flops(config, components.problem, layout) / config.machine.flops_per_s
        owned = max(segment_bytes(layout, self.owners)), owner_s
        sizes, fractions = self.reply_bytes(components.layouts), components.delay_fractions
        return FirstSchedule(config, task_ns, sizes, fractions, owned, lambda: state.members)

    def fleet(self, ranks: Ranks, components: Components) -> MPIFleet:
        from .first_ranks import FirstFleet

        state: Any = components.state
        return FirstFleet(ranks, components.layouts, state)

    def link(self, entry: Entry, factory: WorkerFactory) -> MPILink:
        from .first_ranks import FirstLink
        from .owners import Owners

        return FirstLink(entry, partial(Owners, self.config))
