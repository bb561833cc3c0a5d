"""A run as it is made again: its descent, and in place of the observer what measures and stops it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import numpy as np

from .. import stragglers
from ..config.tables import Config
from ..trace.schema import USED
from ..training.coordinator import Coordinator
from ..training.monitor import LINE_NS, Print
from ..training.session import Descent, counters
from ..training.setup import Parts, employer
from ..virtual import oracle as genie
from ..virtual.fleet import VirtualFleet
from ..virtual.simulation import Simulation, processor_ns, task_time_ns
from .modelled import Remodelled
from .recorded import Recorded
from .script import Scripted, Watched

COUNTED = ("version", "arrivals", "used", "wasted", "refused", "flagged")
"""Counters of every trace that are determined."""


class Ended(Exception):
    """A trace of a run that did not end has no more rows."""


class Again(ABC):
    """Prints a line now and then, and ends where the trace of a run that did not end does.

    Parameters
    ----------
    config : Config
    parts : Parts
        Made of it.
    recorded : Recorded
    say : callable
        Prints a line.

    Attributes
    ----------
    descent : Descent
    """

    descent: Descent

    def __init__(self, config: Config, parts: Parts, recorded: Recorded, say: Print) -> None:
        recorded.begin(config, parts)
        self._config, self._recorded, self._say = config, recorded, say
        self._start_ns = self._line_ns = time.perf_counter_ns()
        self._crew = Watched(parts.layouts, config.workers.count, employer(config, parts), recorded)

    def run(self) -> None:
        """Descend."""
        self.descent.fleet.start()
        self.descent.coordinator.run(self._observe)

    def counted(self) -> dict[str, float]:
        """Totals as the counters of the trace have them, as far as they are determined."""
        counted = counters(self.descent)
        return {key: counted[key] for key in COUNTED}

    def _observe(self, now_ns: int, coordinator: Coordinator) -> str:
        """Reason to stop, or an empty string."""
        recorded = self._recorded
        reason = self._look(now_ns, coordinator)
        if (wall_ns := time.perf_counter_ns()) >= self._line_ns + LINE_NS:
            self._line_ns, took_s = wall_ns, 1e-9 * (wall_ns - self._start_ns)
            self._say(
                f"{took_s:7.1f} s  {recorded.row} of {recorded.arrivals.rows} arrivals and update "
                f"{coordinator.version} are the same  {recorded.row / took_s:7.0f} arrivals/s"
            )
        if recorded.row == recorded.arrivals.rows and not recorded.trace.finished:
            raise Ended
        return reason

    @abstractmethod
    def _look(self, now_ns: int, coordinator: Coordinator) -> str:
        """Measure, if it is time; return the reason to stop, or an empty string."""


class ByTrace(Again):
    """In the order of the trace; measures what was measured, and stops where that or the trace says so.

    Parameters
    ----------
    config : Config
    parts : Parts
    recorded : Recorded
    say : callable
    model : Model, optional
        Of injected delays; if there is none, they are those of the trace.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        recorded: Recorded,
        say: Print,
        model: stragglers.Model | None,
    ) -> None:
        super().__init__(config, parts, recorded, say)
        workers = config.workers.count
        self._script = Scripted(recorded, workers, model)
        recorded.hint = self._script.ledger.lost
        fleet = VirtualFleet(parts.layouts, workers, self._crew, self._script)
        self.descent = Descent(config, parts, fleet, recorded, say)
        self._found: tuple[int, str] | None = None  # the version whose measurement ends the run, and why

    def _look(self, now_ns: int, coordinator: Coordinator) -> str:
        script, version, updates = self._script, coordinator.version, self._config.stop.updates
        reason = f"{version} updates" if updates is not None and version >= updates else ""
        if self._found and version > self._found[0]:
            raise self._recorded.follows([], f"what was to follow, as {self._found[1]} ends the run")
        if self._recorded.measures(version) and (
            found := self.descent.observer.measure(now_ns, version, coordinator.theta)
        ):
            self._found = version, found  # some arrivals early, maybe: the run went on until it looked
        if not script.stopped and script.ledger.over():
            reason = reason or (self._found[1] if self._found else "the trace stops here")
        script.stopped = script.stopped or bool(reason)
        return reason


class ByClock(Again):
    """By the model of a virtual run and its own observer, which goes by the virtual clock.

    What came from outside is taken from the trace: when it was interrupted.

    Parameters
    ----------
    config : Config
    parts : Parts
    recorded : Recorded
    say : callable
    """

    def __init__(self, config: Config, parts: Parts, recorded: Recorded, say: Print) -> None:
        super().__init__(config, parts, recorded, say)
        trace = recorded.trace
        self._task_ns = int(trace.attributes.get("task_ns", task_time_ns(config, parts)))
        task_ns = [self._task_ns, *(task_time_ns(config, parts, n) for n in range(1, len(parts.layouts)))]
        reply_bytes = [layout.reply_bytes for layout in parts.layouts]
        self._schedule = Remodelled(recorded, config, task_ns, reply_bytes)
        recorded.hint = self._schedule.ledger.lost
        self._fleet = Simulation(config, parts, self._crew, self._schedule).fleet
        self.descent = Descent(config, parts, self._fleet, recorded, lambda line: None, self._wall_ns)
        stops = (trace.faults["kind"] == "stop") & ~np.char.startswith(trace.faults["message"], "diverged")
        self._interrupted_ns: int | None = min(trace.faults["t_ns"][stops].tolist(), default=None)

    def _wall_ns(self) -> int:
        """A time that lets the observer see at once that it is interrupted."""
        return LINE_NS if self._fleet.interrupted else 0

    def _look(self, now_ns: int, coordinator: Coordinator) -> str:
        if self._interrupted_ns is not None and now_ns >= self._interrupted_ns:
            seen = coordinator.stopping or self._schedule.ledger.over()
            self._fleet.interrupted = self._fleet.interrupted or bool(seen)
        return self.descent.observer(now_ns, coordinator)

    def counted(self) -> dict[str, float]:
        config, coordinator, schedule = self._config, self.descent.coordinator, self._schedule
        counted = counters(self.descent)
        return super().counted() | {
            **{key: counted[key] for key in ("bytes_up", "bytes_down", "spent_evaluate_ns")},
            "t_stop_ns": round(1e9 * (1e-9 * coordinator.t_stop_ns)),
            "length_ns": schedule.now_ns,
            "processor_ns": processor_ns(config, coordinator.arrivals, coordinator.version),
            "ingress_ns": schedule.ingress_ns,
            "egress_ns": schedule.egress_ns,
            "genie_s": genie.time_s(config, self._task_ns, coordinator.outcomes[USED]),
        }
