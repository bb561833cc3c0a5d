"""Ranks pretend to be on machines whose clocks are 5 s apart; rank 0 prints offsets and errors of rank 1.

Rank 2 leaves before.
"""

import time

from mpi4py import MPI

from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import job
from pdcode.transport.layout import Layout
from pdcode.transport.units import Blocks
from pdcode.util import clocks

AHEAD_NS = 5_000_000_000

rank = MPI.COMM_WORLD.rank
clocks.identity = lambda: f"machine {rank}"
clocks.now_ns = lambda: time.perf_counter_ns() + AHEAD_NS * rank
layout = Layout([Blocks(0, "output", 1, 4, 4, 0)], [1], [1], "float32")
with job() as comm:
    if rank == 0:
        fleet = MPIFleet(Ranks(comm), [layout])
        start = fleet.members[0].offset_ns, fleet.members[0].error_ns
        fleet.dismiss(1)
        fleet.shutdown(0)
        fleet.close()
        print(*start, fleet.members[0].offset_ns, fleet.members[0].error_ns)
    else:
        link = MPILink(Entry(comm))
        link.connect([layout])
        assert link.next_task() is None
        link.leave()
