"""Payloads to rank 0, which adds them up."""

from typing import ClassVar

from ..config.interfaces import ReduceTable
from .base import Reduction


class StarTable(ReduceTable, tag="star"):
    """Rank 0 adds up the payloads, and sends θ to all."""

    makes: ClassVar[type[Reduction]] = Reduction
