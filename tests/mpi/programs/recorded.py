"""A program of mpi4py of which rank 2 turns slow, with all kinds of waits; or of which rank 3 dies.

Arguments: "dies", with the path of a trace, where the program itself has it recorded.
"""

import os
import signal
import sys
import threading
import time

import numpy as np
from mpi4py import MPI

STEPS, SLOW = 30, 10
comm = MPI.COMM_WORLD
if sys.argv[1:2] == ["dies"]:
    import pdcode

    comm = pdcode.record(comm, sys.argv[2])
rank, size = comm.rank, comm.size
ring = comm.Create_cart([size], periods=[True])
left, right = ring.Shift(0, 1)
pair, copy = comm.Split(rank // 2), comm.Dup()
kept = copy.Send_init(np.full(2, rank), right), copy.Recv_init(got := np.empty(2, int), left)
assert comm.Split(MPI.UNDEFINED) == MPI.COMM_NULL
comm.Barrier()
MPI.Request.Wait(MPI.Intracomm(pair).Ibarrier())  # of a communicator that is not recorded
for step in range(STEPS):
    time.sleep(0.2 if rank == 2 and step >= SLOW else 0.02)
    sent, received = np.full(3, rank), np.empty(3, int)
    requests = [ring.Irecv(received, left), ring.Isend(sent, right)]
    MPI.Request.Waitall(requests)  # here the neighbour of a slow rank waits
    assert (received == left).all()
    assert pair.allreduce(1) == 2
    total = np.empty(3, int)
    copy.Allreduce(sent, total)
    assert total[0] == 6
    request = comm.isend({"step": step}, right)
    answer = comm.irecv(source=left).wait()
    assert answer == {"step": step}
    request.wait(status=MPI.Status())
    requests = [copy.irecv(source=left, tag=1), copy.irecv(source=left, tag=2)]
    sends = [copy.isend(tag, right, tag) for tag in (1, 2)]
    ready = {MPI.Request.waitany(requests)[0], *MPI.Request.waitsome(requests, statuses=[])[0]}
    MPI.Request.waitall(requests + sends)
    assert ready <= {0, 1}
    requests = [copy.Irecv(received, left), copy.Isend(sent, right)]
    assert {MPI.Request.Waitany(requests), *MPI.Request.Waitsome(requests)} == {0, 1}
    assert (MPI.Request.Testsome(requests), MPI.Request.Testany(requests)[1]) == (None, True)
    for each in kept:
        each.Start()
    MPI.Prequest.Waitall(kept)
    assert got[0] == left
    request = comm.Iallreduce(sent, total)
    while not request.Test():
        pass
    thread = threading.Thread(target=comm.Get_rank)
    thread.start()
    thread.join()
    if sys.argv[1:2] == ["dies"] and step == STEPS - 1 and rank == 3:
        time.sleep(4)  # steps are written two seconds after they were found, at the latest
        os.kill(os.getpid(), signal.SIGKILL)
if rank == 0:
    print(*sys.argv[1:], __name__, len(MPI.COMM_SELF.allgather(1)))
