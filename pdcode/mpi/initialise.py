"""MPI_Init without Python's lock, so that threads run while a rank waits for others in it."""

import ctypes

import mpi4py

from . import supervised
from .launch import library_path

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

from mpi4py import MPI  # noqa: E402

if not MPI.Is_initialized():
    if path := library_path():
        provided = ctypes.c_int()
        with supervised.through_launcher():
            ctypes.CDLL(str(path)).MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(provided))
        for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
            comm.Set_errhandler(MPI.ERRORS_RETURN)  # as exceptions
    else:
        MPI.Init_thread()
