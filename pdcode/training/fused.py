"""Coordinator for replies that are complete updates, each handled by one compiled call."""

from typing import Any

from ..coding.clipping import Clip
from ..coding.state import State
from ..kernels import fused
from ..trace.recorder import Recorder
from ..trace.schema import ENOUGH, USED
from ..transport.base import Arrival, Fleet
from .coordinator import Coordinator


class FusedCoordinator(Coordinator):
    """Coordinator of a state that `steps_every_arrival`; other replies take the general path.

    Parameters are as in `Coordinator`.
    """

    def __init__(self, fleet: Fleet, state: State, trace: Recorder, *options: Any, **named: Any) -> None:
        super().__init__(fleet, state, trace, *options, **named)
        self._fused = fused.FusedReply(self, state.fused_update, USED, ENOUGH)

    def on_reply(self, reply: Arrival) -> None:
        if self.stopping or self.held_until_ns or not self._fused.handle(reply):
            super().on_reply(reply)


def make_coordinator(
    fleet: Fleet, state: State, trace: Recorder, clip: Clip | None = None, **options: Any
) -> Coordinator:
    """Build the coordinator of a state; the parameters are as in `Coordinator`."""
    fits = state.steps_every_arrival and clip is None
    return (FusedCoordinator if fits else Coordinator)(fleet, state, trace, clip=clip, **options)
