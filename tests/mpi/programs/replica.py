"""`pdcode`, with the same arguments, but a worker whose replica of θ loses a bit at its 20th task."""

from __future__ import annotations

import sys

import numpy as np
from mpi4py import MPI

from pdcode.__main__ import main
from pdcode.coding.replica import Mirror
from pdcode.transport.messages import Task

update = Mirror.update


def flip(mirror: Mirror, task: Task) -> np.ndarray:
    theta = update(mirror, task)
    if task.task == 20 and MPI.COMM_WORLD.rank == 2:
        theta[100:101].view(np.uint32)[0] ^= 1 << 20  # of the lowest one, rounding may leave no trace
    return theta


Mirror.update = flip
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
