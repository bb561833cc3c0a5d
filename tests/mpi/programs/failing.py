"""Functions that fail on rank 2, sleep there until a file exists, or raise a signal on rank 0."""

import signal
import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

START, ROWS, BATCH = np.ones(3), np.random.default_rng(0).standard_normal((60, 3)), 4
RANK = MPI.COMM_WORLD.rank
tasks = 0


def function(theta, x):
    return float(theta @ theta) / 2 - x.mean() * theta.sum(), theta - x.mean()


def fails(theta, x):
    global tasks
    tasks += len(x) == BATCH
    if tasks > 20 and RANK == 2:
        tasks = 0
        raise ZeroDivisionError("of this rank")
    return function(theta, x)


def sleeps(theta, x):
    global tasks
    tasks += len(x) == BATCH
    while tasks == 20 and RANK == 2 and not (Path(sys.argv[1]) / "awake").exists():
        time.sleep(0.05)
    return function(theta, x)


def interrupts(theta, x):
    global tasks
    if tasks >= 0 and callable(signal.getsignal(signal.SIGTERM)):
        tasks = -1
        signal.raise_signal(signal.SIGTERM)
    return function(theta, x)
