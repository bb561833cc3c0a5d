"""A run on three of four ranks: ``part.py CONFIG TRACE``. Rank 0 of MPI is not among them."""

import sys

from mpi4py import MPI

from pdcode.config import load as configfile
from pdcode.mpi import ranks
from pdcode.training.setup import prepare

world = MPI.COMM_WORLD
comm = world.Split(int(world.rank > 0), -world.rank)  # in reverse: rank 3 of MPI is rank 0 of the run
if world.rank:
    config, text = configfile.load(
        sys.argv[1], [f"workers.count={comm.size - 1}", f"trace.path={sys.argv[2]}"]
    )
    if comm.rank == 0:
        code = ranks.coordinate(text, prepare(config), comm)
    else:
        code = ranks.serve(config, comm)
    assert code == 0
print(f"rank {world.rank}: {comm.allreduce(1)} ranks", flush=True)
