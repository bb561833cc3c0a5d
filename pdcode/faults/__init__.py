"""Injected faults, by kind: of workers, of their tasks and messages, and of rank 0.

The events of a worker are a function of the configuration, the seed and the worker alone: they are the same
for every scheme and on both clocks. Over MPI wrappers of link, worker and encoders execute them (`link`,
`encoder`); on the virtual clock the schedule applies their effects on times (`pdcode.virtual.faults`).
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
