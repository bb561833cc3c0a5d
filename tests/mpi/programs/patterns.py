"""A program of mpi4py with steps of several calls, of which one rank is slow.

Arguments: how the ranks exchange halos, "manager", or "centres", which rank 0 computes; the slow rank.
"""

import sys
import time

import numpy as np
from mpi4py import MPI

STEPS, TASKS = 40, 180
comm, kind, slow = MPI.COMM_WORLD, sys.argv[1], int(sys.argv[2])
rank, size = comm.rank, comm.size


def work() -> None:
    """Take the time of a step."""
    time.sleep(0.06 if rank == slow else 0.01)


def stencil() -> None:
    """Exchange the borders of a grid with both neighbours, and each tenth time compute a residual."""
    line = comm.Create_cart([size])
    up, down = line.Shift(0, 1)
    field = np.zeros((10, 8))
    for _ in range(comm.bcast(3)):
        comm.Scatter(np.ones((size, 8, 8)) if rank == 0 else None, field[1:-1])
    time.sleep(0.3)
    for step in range(STEPS):
        if kind == "sendrecv":
            for to, source, sent, received in ((down, up, -2, 0), (up, down, 1, -1)):
                line.Sendrecv(field[sent].copy(), to, recvbuf=field[received], source=source)
        else:
            requests = [line.Irecv(field[0], up), line.Irecv(field[-1], down)]
            requests += [line.Isend(field[-2], down), line.Isend(field[1], up)]
            MPI.Request.Waitall(requests)
        work()
        if step % 10 == 9:
            comm.allreduce(float(field.sum()))
    comm.Gather(field[1:-1].copy(), np.ones((size, 8, 8)) if rank == 0 else None)


def manager() -> None:
    """Give the next task to whoever has done one."""
    status, given = MPI.Status(), size - 1
    if rank:
        while comm.recv(source=0):
            work()
            comm.send(rank, 0)
        return
    for worker in range(1, size):
        comm.send(True, worker)
    for _ in range(TASKS):
        comm.recv(source=MPI.ANY_SOURCE, status=status)
        comm.send(given < TASKS, status.source)
        given += 1


def centres() -> None:
    """Get centres of clusters from rank 0, and return sums and counts, as k-means does."""
    centre = np.zeros(5)
    for _ in range(STEPS):
        centre = comm.bcast(centre)
        if rank:
            time.sleep(0.02)
        total, count = comm.reduce(centre), comm.reduce(1)
        if rank == slow:
            centre = total / count
            time.sleep(0.06)


if kind == "manager":
    manager()
elif kind == "centres":
    centres()
else:
    stencil()
