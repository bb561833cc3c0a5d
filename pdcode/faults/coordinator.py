"""Faults of rank 0."""

import os
import signal
from typing import ClassVar

from ..config import Config, FaultEvent
from ..trace.recorder import Recorder
from ..util.errors import Failure, InputError


class AtRank0(FaultEvent):
    """A fault of rank 0."""

    ends: ClassVar[bool] = True

    def check_config(self, config: Config) -> None:
        if self.at_s is None:
            raise InputError(f"faults.events: kind '{self.kind}': at_s: must be given")
        if self is config.faults.failure:
            raise InputError(f"faults.failure: kind '{self.kind}' is not one of workers")

    def execute(self, trace: Recorder, virtual: bool) -> None:
        """Execute the fault on this process, or on the virtual clock."""
        raise NotImplementedError


class KillRank0(AtRank0, tag="kill-rank-0"):
    """SIGKILL of rank 0; a run on the virtual clock fails there, its trace unfinished."""

    def execute(self, trace: Recorder, virtual: bool) -> None:
        if virtual:
            raise Failure(f"rank 0 was killed at {self.at_s:g} s, as [faults] asks")
        os.kill(os.getpid(), signal.SIGKILL)


class FullDisk(AtRank0, tag="full-disk"):
    """The disk of the trace is full from this time on."""

    def execute(self, trace: Recorder, virtual: bool) -> None:
        trace.fill()
