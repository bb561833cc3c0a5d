"""`pdcode`, with the same arguments, but a worker whose replica of θ is damaged from its 20th task on.

It is damaged at every task, as a snapshot of θ may arrive at any time, and mend it.
"""

import sys

import numpy as np
from mpi4py import MPI

from pdcode.__main__ import main
from pdcode.coding.replica import MirroredReplica
from pdcode.transport.messages import Task

update = MirroredReplica.update


def flip(mirror: MirroredReplica, task: Task) -> np.ndarray:
    theta = update(mirror, task)
    if task.task >= 20 and MPI.COMM_WORLD.rank == 2:
        theta[100] = 0.5
    return theta


MirroredReplica.update = flip
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
