"""Downlinks: θ itself with each task, or the payloads from which workers compute it.

A downlink makes rank 0's state, a worker's copy of θ, and over MPI its link. Modules of MPI are imported
where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from .config.interfaces import DownlinkTable
from .config.requirements import KeyNeeds, having

if TYPE_CHECKING:
    from .coding.replica import Replica
    from .coding.state import Coded, State
    from .mpi.link import Entry, MPILink
    from .problems import Problem
    from .schemes import Scheme
    from .transport.layout import Layout


class Full(DownlinkTable, tag="full"):
    """θ itself."""

    def state(self, state: Coded, workers: int) -> State:
        return state

    def replica(
        self, scheme: Scheme, problem: Problem, weights: Sequence[int], state: State | None
    ) -> tuple[Replica, Sequence[Layout]]:
        from .coding.replica import FullReplica

        return FullReplica(problem.dtype), scheme.layouts(problem, weights)

    def link(self, entry: Entry) -> MPILink:
        from .mpi.link import MPILink

        return MPILink(entry)


class Codewords(Full, tag="codewords"):
    """The payloads from which workers compute θ, sent by rank 0."""

    relays: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "decoder.kind": having(
                "relays",
                "a decoder whose state can be sent to a late worker, such as 'adjoint'",
                "has every worker decode",
            )
        }
    }

    def state(self, state: Coded, workers: int) -> State:
        from .coding.relay import RelayedState

        return RelayedState(state, workers, self.check, self.exchanges)

    def replica(
        self, scheme: Scheme, problem: Problem, weights: Sequence[int], state: State | None
    ) -> tuple[Replica, Sequence[Layout]]:
        return mirrored(scheme, problem, weights, state)


class Exchange(Codewords, tag="exchange"):
    """The same payloads, sent by workers to each other while rank 0 sends the order of their use."""

    exchanges: ClassVar[bool] = True

    def peer_bytes(self, layout: Layout) -> int | None:
        from .transport.log import LogFormat

        return LogFormat(layout).message_bytes

    def link(self, entry: Entry) -> MPILink:
        from .mpi.exchange import ExchangeLink

        return ExchangeLink(entry)


def mirrored(
    scheme: Scheme, problem: Problem, weights: Sequence[int], state: State | None
) -> tuple[Replica, Sequence[Layout]]:
    """Return a replica of θ, and the message layouts, as `DownlinkTable.replica`."""
    from .coding.replica import MirroredReplica, SharedReplica
    from .schemes import coded_state

    if state is not None:
        return SharedReplica(state), state.layouts
    own = coded_state(scheme, problem, weights=weights)
    return MirroredReplica(own), own.layouts
