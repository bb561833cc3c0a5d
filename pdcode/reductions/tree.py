"""Sums of all payloads, integers modulo 2^bits, by the workers along a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..config.requirements import KeyNeeds, Need
from .allreduce import Allreduce, SummedTable

if TYPE_CHECKING:
    from ..mpi.initialise import MPI
    from ..session.setup import Components
    from ..transport.layout import Layout
    from ..virtual.schedule import AllreduceSchedule
    from .allreduce_ranks import Summation


class Tree(Allreduce):
    """All workers add up their payloads along a tree, and step."""

    def schedule(self, components: Components, task_ns: Sequence[np.ndarray]) -> AllreduceSchedule:
        from ..virtual.schedule import TreeSchedule

        sizes = [layout.payload_bytes for layout in components.layouts]
        return TreeSchedule(self.config, task_ns, sizes, components.delay_fractions)

    def summation(self, layout: Layout, number: int, comm: MPI.Intracomm) -> Summation:
        from .allreduce_ranks import TreeSummation

        return TreeSummation(layout, number, comm, self.config.reduce.fanout)


class TreeTable(SummedTable, tag="tree"):
    """The workers add up the payloads along a tree, which needs `bits`."""

    makes: ClassVar[type[Tree]] = Tree
    requires: ClassVar[KeyNeeds] = {
        **SummedTable.requires,
        "kind": {
            **SummedTable.requires["kind"],
            "reduce.bits": Need(
                lambda bits, config: bits is not None,
                "a number of bits",
                "adds up payloads without decoding them",
            ),
        },
    }
