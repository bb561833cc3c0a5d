"""Audited tasks: a keyed share of each worker's, which rank 0 recomputes.

Rank 0 has the worker's rows, codewords and θ, but not its memory. An audited task is therefore computed from
an empty memory, at θ without look-ahead; what its payload leaves out of the gradient is added to the memory
as it was before. The payload is then a function of θ, the rows and (seed, worker, task) alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..coding.memory import MemoryEncoder, Memoryless
from ..coding.source import Source
from ..config import Config
from ..transport.messages import Task
from ..util.errors import InputError
from ..util.rng import FAULT, uniform
from ..util.stateful import load_state, state_of
from .base import Keys


def is_audited(config: Config, worker: int, task: int) -> bool:
    """Return whether rank 0 recomputes a worker's task."""
    return uniform(config.seed, FAULT, worker, 2**36 + task) < config.faults.audit


def ensure_auditable(config: Config, encoder: Any) -> None:
    """Refuse an encoder whose audited payloads would depend on earlier tasks."""
    inner = encoder
    if isinstance(encoder, MemoryEncoder) and encoder.kind != "difference":
        inner = encoder.source
    if not isinstance(inner, Memoryless | Source) or holds_data(state_of(inner)):
        whose = f"scheme '{config.scheme.name}' with memory.kind '{config.memory.kind}'"
        why = "depend on earlier tasks, so that rank 0 cannot recompute them"
        raise InputError(f"faults.audit: {config.faults.audit:g}: payloads of {whose} {why}")


def holds_data(state: Any) -> bool:
    """Return whether a state has anything in it."""
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list) else None
    return inner is None or any(map(holds_data, inner))


class AuditedEncoder:
    """Wrapper of an encoder: audited tasks are from an empty memory, and `model_state` as at first."""

    def __init__(
        self, inner: Any, config: Config, worker: int, model_state: Mapping[str, np.ndarray]
    ) -> None:
        ensure_auditable(config, inner)
        self.inner, self._config, self._worker = inner, config, worker
        self._parts: dict[str, Any] = {"model": dict(model_state)}
        self._residual = np.zeros(0)
        if isinstance(inner, MemoryEncoder):
            self._residual = inner.residual
            self._parts |= {"residual": inner.residual, "selectors": inner.selectors}
        self._empty = state_of(self._parts)
        self._before: Any = None  # state before an audited task; None: the task is not audited

    def __getattr__(self, name: str) -> Any:  # its state and `rollback`, too
        return getattr(self.inner, name)

    def encode(self, theta: np.ndarray, task: Task) -> float:
        self._before = None
        if is_audited(self._config, self._worker, task.task):
            self._before = state_of(self._parts)
            load_state(self._parts, self._empty)
        loss: float = self.inner.encode(theta, task)
        return loss

    def quantise(self, keys: Keys) -> None:
        self.inner.quantise(keys)
        if self._before is not None:
            left = self._residual.copy()
            load_state(self._parts, self._before)
            self._residual += left
