"""Result of a run on the virtual clock."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config import Config
from ..trace.descent import FINE, Descent
from . import oracle


@dataclass(frozen=True)
class Result:
    """Result of a simulated run; times are virtual."""

    config: Config
    task_ns: np.ndarray  # compute time of the tasks of all rounds of an update, int64, shape (1,) or (n,)
    reason: str  # of the end
    code: int  # exit code of the run: 0, 1 if it failed, or 75 if it can be resumed
    updates: int
    seconds: float  # time of the stop
    target_s: float  # time at which a measurement first reached the target of ``[stop]``; infinite: none did
    above_s: float  # time until which it was not reached, less than `target_s` if that is not exact
    loss: float  # last measured value
    accuracy: float
    # Numbers of payloads, those drained after the stop included.
    arrivals: int
    used: int
    wasted: int
    refused: int
    replies: int  # payloads of a worker to an update
    bytes_up: int
    bytes_down: int
    length_ns: int  # arrival time of the last payload
    # Busy time within `length_ns` of rank 0's processor and of its link, receiving and sending.
    processor_ns: int
    ingress_ns: int
    egress_ns: int
    update_s: float  # median time between updates; nan without any
    theta: np.ndarray  # final θ, shape (size,); empty without numerics
    descent: Descent = FINE  # what was wrong with the measured loss

    @property
    def failed(self) -> bool:
        """Whether the run counts as failed."""
        return self.code != 0

    @cached_property
    def oracle_s(self) -> float:
        """Oracle time for the payloads used, in seconds; computed on demand, possibly as slow as the run."""
        return oracle.time_s(self.config, self.task_ns, self.used / self.replies)

    @property
    def multiple(self) -> float:
        """Time of the stop as a multiple of the oracle's."""
        return self.seconds / self.oracle_s if self.oracle_s else math.nan

    @property
    def processor(self) -> float:
        """Utilisation of rank 0's processor until the stop."""
        return self._utilisation(self.processor_ns, self._handled)

    @property
    def ingress(self) -> float:
        """Utilisation of rank 0's link until the stop, receiving."""
        return self._utilisation(self.ingress_ns, self._handled)

    @property
    def egress(self) -> float:
        """Utilisation of rank 0's link until the stop, sending."""
        return self._utilisation(self.egress_ns)

    @property
    def _handled(self) -> float:
        """Fraction of the replies that arrived before the stop."""
        return (self.used + self.wasted + self.refused) / max(1, self.arrivals)

    def _utilisation(self, busy_ns: int, fraction: float = 1.0) -> float:
        """Return a fraction of a busy time relative to the time of the stop; at most 1, as sends may last."""
        return min(1.0, fraction * busy_ns / (1e9 * self.seconds)) if self.seconds else 0.0
