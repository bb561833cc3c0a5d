"""Worker 1 says it has sent worker 0 a message, which it has not, and dies; worker 0 leaves all the same."""

import os
import signal
from collections.abc import Callable

import numpy as np

from pdcode.mpi.exchange import ExchangeLink
from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import PACE, exit_without_finalize, job
from pdcode.transport.layout import Layout
from pdcode.transport.units import Blocks

layout = Layout([Blocks(0, "output", 1, 4, 4, 0)], [1], [1], "float32")


class Link(ExchangeLink):
    def _wait_for(self, done: Callable[[], bool]) -> None:
        super()._wait_for(done)
        if not said:  # worker 0 has the counts
            said.append(comm.workers.Isend(np.zeros(1), 1, PACE))


said = []
with job() as comm:
    if comm.rank == 0:
        fleet = MPIFleet(Ranks(comm), [layout])
        fleet.start()
        fleet.shutdown(0)
        fleet.shutdown(1)
        fleet.close()
        comm.Recv(np.zeros(1), 1, PACE)
    else:
        link = Link(Entry(comm))
        link.connect([layout])
        assert link.next_task() is None
        if link.worker:
            MPILink.leave(link)
            link.close()
            comm.workers.Ialltoall(np.array([1, 0]), np.zeros(2, np.int64)).Wait()
            comm.workers.Recv(np.zeros(1), 0, PACE)
            os.kill(os.getpid(), signal.SIGKILL)
        link.leave()
        print("left", flush=True)
        comm.Send(np.zeros(1), 0, PACE)
signal.raise_signal(signal.SIGINT)  # the job is done, and ends without an error
exit_without_finalize(0)
