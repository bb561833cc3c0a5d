"""Facts about MPI: `python -P -m pdcode.mpi.probe` prints one line of JSON per rank."""

import json
import os

import mpi4py

from ..launch import network
from ..launch.launcher import library_path
from .initialise import MPI
from .process import library

if __name__ == "__main__":
    world = MPI.COMM_WORLD
    listeners = network.listeners([os.getpid(), os.getppid()])  # this rank's, and its launcher's
    facts = {
        "rank": world.rank,
        "met": world.allreduce(1),  # ranks that really exchange messages
        "library": library(),
        "path": str(library_path() or ""),
        "mpi4py": mpi4py.__version__,
        "open": [str(each) for each in listeners if each.is_open],
        "pmix": any(name.startswith("PMIX_") for name in os.environ),
    }
    print(json.dumps(facts), flush=True)
