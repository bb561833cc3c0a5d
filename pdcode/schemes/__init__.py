"""Schemes: the algorithms of rank 0 and the workers, one file each."""

from .base import CodewordRule, Scheme, TaskSize, Work, coded_state, delay_model, make_scheme
from .placement import Placement

__all__ = [
    "CodewordRule", "Placement", "Scheme", "TaskSize", "Work", "coded_state", "delay_model", "make_scheme",
]  # fmt: skip
