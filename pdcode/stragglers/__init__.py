"""Injected delays of workers, one short file a kind.

They are keyed by (seed, worker, task), so that every scheme meets the same ones, on both clocks.
"""

from .base import Model, delays_ns
from .checks import check, check_end, dead
from .delays import Delays, nap, spin
from .kinds import create
from .trace import base_ns

__all__ = ["Delays", "Model", "base_ns", "check", "check_end", "create", "dead", "delays_ns", "nap", "spin"]
