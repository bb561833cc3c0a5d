"""Uncoded full gradients: rank 0 averages those that have arrived, or the workers those of all."""

from __future__ import annotations

from typing import ClassVar

from ..config.tables import Config, Tables
from ..util.errors import InputError
from .base import Scheme


class Uncoded(Scheme):
    """Uncoded full gradients, without memory."""

    name = "uncoded"
    summary = "full gradients; rank 0 averages those that have arrived"
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
    }


class Allreduce(Uncoded):
    """Uncoded full gradients that workers add up by MPI_Allreduce, as PyTorch's DDP and Horovod do."""

    name = "allreduce"
    summary = "full gradients, added up by MPI_Allreduce without a coordinator"
    tables: ClassVar[Tables] = {
        **Uncoded.tables,
        "update": {"mode": "all"},
        "reduce": {"kind": "allreduce"},
    }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        if not config.reduce.summed:
            raise InputError("reduce.kind: 'star': scheme 'allreduce' with a star is scheme 'uncoded'")
