"""Worker 0 is recalled twice: its first reply is on its way by then, its second one is held back."""

import numpy as np

from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import job
from pdcode.transport.base import Computed
from pdcode.transport.layout import Layout
from pdcode.transport.messages import Order
from pdcode.transport.units import Blocks

layout = Layout([Blocks(0, "output", 1, 4, 4, 0)], [1], [1], "float32")
with job() as comm:
    if comm.rank == 0:
        fleet = MPIFleet(Ranks(comm), [layout])
        fleet.start()
        for task in range(2):
            theta = np.full(16, 7 + task, np.float32).view(np.uint8)
            fleet.dispatch(0, task, 3, Order(0, [layout.uncoded], [theta]))
            if task:
                assert not fleet.events(100_000_000)
            fleet.cancel([0], 0)
            while not (arrivals := fleet.events(1_000_000_000)):
                pass
            print(
                arrivals[0].task, arrivals[0].version, arrivals[0].injected_delay_ns, *arrivals[0].payloads[0]
            )
        fleet.shutdown(0)
        fleet.close()
    else:
        link = MPILink(Entry(comm))
        (reply,) = link.connect([layout])
        for delay_ns in (0, -1):
            task = link.next_task()
            reply.payload[:] = task.body.view(np.float32)
            if delay_ns:
                delay_ns = link.wait(delay_ns, spin=False)
            link.reply(Computed(0, 0.0, 0, 0, delay_ns))
        assert link.next_task() is None
        link.leave()
