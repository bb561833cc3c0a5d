"""Small programs of mpi4py of usual shapes, for `real`: `shapes.py SHAPE STEPS [SHARE,…]`.

A rank's work of a step is mostly sleep, so that four ranks do with fewer processors; shares of the ranks
multiply it.
"""

import sys
import time
from typing import Any

import numpy as np
from mpi4py import MPI

WORK_S, JITTER_S, REST_S = 0.03, 0.001, 0.001
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
random = np.random.default_rng(rank)
shape, steps = sys.argv[1], int(sys.argv[2])
share = float(sys.argv[3].split(",")[rank]) if sys.argv[3:] else 1.0


def work() -> None:
    """Take the time of a rank's part of a step."""
    time.sleep(share * (WORK_S + random.exponential(JITTER_S)))


def stencil() -> None:
    """Relax a grid by rows: halos of both neighbours, and the largest change of all."""
    field, largest = random.random((12, 32)), np.zeros(1)
    for _ in range(steps):
        requests = [comm.Irecv(field[0], (rank - 1) % size), comm.Irecv(field[-1], (rank + 1) % size)]
        requests += [
            comm.Isend(field[-2].copy(), (rank + 1) % size), comm.Isend(field[1].copy(), (rank - 1) % size),
        ]  # fmt: skip
        MPI.Request.Waitall(requests)
        new = (field[:-2] + field[2:] + np.roll(field[1:-1], 1, 1) + np.roll(field[1:-1], -1, 1)) / 4
        change = np.abs(new - field[1:-1]).max(keepdims=True).ravel()
        field[1:-1] = new
        work()
        comm.Allreduce(change, largest, MPI.MAX)


def kmeans() -> None:
    """Find clusters: rank 0 sends centres, the others return sums and counts."""
    rows, centres = random.standard_normal((300, 4)), random.standard_normal((5, 4))
    for _ in range(steps):
        centres = comm.bcast(centres)
        nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        sums = np.stack([rows[nearest == each].sum(axis=0) for each in range(len(centres))])
        work()
        total: Any = comm.reduce(sums)
        count: Any = comm.reduce(np.bincount(nearest, minlength=len(centres)))
        if rank == 0:
            centres = total / np.maximum(count, 1)[:, None]
            time.sleep(REST_S)


def gradients() -> None:
    """Descend by least squares: the gradients of all ranks are added up."""
    rows, theta, total = random.standard_normal((200, 50)), np.zeros(50), np.zeros(50)
    labels = rows @ np.ones(50)
    for _ in range(steps):
        gradient = rows.T @ (rows @ theta - labels)
        work()
        comm.Allreduce(gradient, total)
        theta -= 1e-4 * total


{"stencil": stencil, "k-means": kmeans, "gradients": gradients}[shape]()
