"""Injected faults, by kind: of workers, of their tasks and messages, and of rank 0.

The events of a worker are a function of the configuration, the seed and the worker alone: every scheme meets
the same, and so do both clocks. Over MPI they are carried out (`injector`), on the virtual clock the schedule
does what they do to times (`pdcode.virtual.faults`).
"""

from .base import ActiveFaults, Fault, ProcessFault, TaskFault
from .drawing import at_rank_0, check, check_real, draw, joins, of_worker

__all__ = [
    "ActiveFaults",
    "Fault",
    "ProcessFault",
    "TaskFault",
    "at_rank_0",
    "check",
    "check_real",
    "draw",
    "joins",
    "of_worker",
]  # fmt: skip
