"""Injected delays of workers.

They are keyed by (seed, worker, task), and therefore the same for every scheme and on both clocks.
"""

from .base import Delayed, DelayModel, Law, check_law, dead_workers, delays_ns
from .bases import base_ns
from .delays import WorkerDelays

__all__ = [
    "DelayModel",
    "Delayed",
    "Law",
    "WorkerDelays",
    "base_ns",
    "check_law",
    "dead_workers",
    "delays_ns",
]
