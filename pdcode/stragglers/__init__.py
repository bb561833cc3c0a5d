"""Injected delays of workers.

They are keyed by (seed, worker, task), and therefore the same for every scheme and on both clocks.
"""

from .base import Delayed, Law, Model, dead, delays_ns
from .bases import base_ns
from .delays import Delays

__all__ = ["Delayed", "Delays", "Law", "Model", "base_ns", "dead", "delays_ns"]
