"""How a run on the virtual clock went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config.tables import Config
from . import oracle as genie


@dataclass(frozen=True)
class Result:
    """How a simulated run went; times are those of the virtual clock.

    Attributes
    ----------
    config : Config
    task_ns : int
        Compute time of a task.
    reason : str
        Why it ended.
    failed : bool
        Whether it cannot be called a success.
    updates : int
    seconds : float
        When it was stopped.
    target_s : float
        When the loss or accuracy of ``[stop]`` was measured to be reached; infinite if it was not.
    loss, accuracy : float
        Last measured.
    arrivals, used, wasted, refused : int
        Payloads, until the last had come in, and what became of them.
    bytes_up, bytes_down : int
    length_ns : int
        When the last payload had come in.
    processor_ns, ingress_ns, egress_ns : int
        How long of that rank 0's processor was busy, and its link received and sent.
    update_s : float
        Median time from one update to the next.
    theta : ndarray
        Empty without numerics.
    """

    config: Config
    task_ns: int
    reason: str
    failed: bool
    updates: int
    seconds: float
    target_s: float
    loss: float
    accuracy: float
    arrivals: int
    used: int
    wasted: int
    refused: int
    bytes_up: int
    bytes_down: int
    length_ns: int
    processor_ns: int
    ingress_ns: int
    egress_ns: int
    update_s: float
    theta: np.ndarray

    @cached_property
    def genie_s(self) -> float:
        """Time that `pdcode.virtual.oracle` needs for the payloads that were used; found when asked for,
        as it may take as long as the run."""
        return genie.time_s(self.config, self.task_ns, self.used)

    @property
    def multiple(self) -> float:
        """Time to target, or to the stop, as a multiple of the genie's."""
        return min(self.seconds, self.target_s) / self.genie_s if self.genie_s else math.nan

    @property
    def processor(self) -> float:
        """Share of the time until the stop that rank 0's processor was busy."""
        return self._share(self.processor_ns, self._taken)

    @property
    def ingress(self) -> float:
        """Share of the time until the stop that rank 0's link received."""
        return self._share(self.ingress_ns, self._taken)

    @property
    def egress(self) -> float:
        """Share of the time until the stop that rank 0's link sent."""
        return self._share(self.egress_ns)

    @property
    def _taken(self) -> float:
        """Share of the replies that came before the stop."""
        return (self.used + self.wasted + self.refused) / max(1, self.arrivals)

    def _share(self, busy_ns: int, part: float = 1.0) -> float:
        """Of the time until the stop; tasks may still be leaving then."""
        return min(1.0, part * busy_ns / (1e9 * self.seconds)) if self.seconds else 0.0
