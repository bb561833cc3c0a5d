"""Checkpoints as an observer: when to take one, and which workers have to write for it."""

from collections.abc import Callable, Iterator

from ..transport.base import Fleet
from ..transport.events import Event, Interrupted, SaveDue
from ..transport.layout import SAVE, UNDO
from ..util.stateful import Stateful
from .liveness import NEVER_NS
from .roster import Roster
from .update import Update


class Saving(Stateful):
    """Observer that posts that a checkpoint is due: periodically, and when the user asks for the end."""

    state_names = ("due_ns",)

    def __init__(self, fleet: Fleet, roster: Roster, update: Update) -> None:
        self._fleet, self._roster, self._update = fleet, roster, update
        self.save: Callable[[], None] | None = None  # takes a checkpoint, if any are taken; set by `run`
        self.every_ns = self.due_ns = NEVER_NS  # period, and time of the next one
        self._requested_ns = 0  # when a signal asked for a checkpoint that is still to be taken

    def post(self, interrupted: int, longest_wait_ns: Callable[[int], int]) -> Iterator[Event]:
        """Yield that a signal asks for the end, and that a checkpoint is due.

        `interrupted` is the signal of an earlier `Interrupted`, or 0; `longest_wait_ns` returns, given the
        time, how long a signal may wait for a checkpoint.
        """
        fleet, roster, now_ns = self._fleet, self._roster, self._update.now_ns
        signal = 0 if interrupted else fleet.interrupted
        due = self.save is not None and (bool(signal) or now_ns >= self.due_ns)
        if due and not signal:
            unsaved = roster.unsaved.difference(roster.dead, roster.left, roster.overdue)
            if unsaved:
                return  # these workers have not written their parts of the last checkpoint
        if due and not fleet.savable():
            now_ns = fleet.now_ns()
            self._requested_ns = self._requested_ns or now_ns
            if not signal or now_ns < self._requested_ns + longest_wait_ns(now_ns):
                return
            due = False  # workers do not respond
        self._requested_ns = 0
        if signal:
            yield Interrupted(signal)
        if due:
            yield SaveDue()

    def schedule(self) -> None:
        """Set when the next checkpoint is due."""
        self.due_ns = min(NEVER_NS, (self._update.now_ns // self.every_ns + 1) * self.every_ns)

    def take(self) -> None:
        """Take a checkpoint; every worker adds its part before its next task."""
        assert self.save is not None
        roster = self._roster
        self.schedule()
        if not self._fleet.local:
            roster.unsaved = {*roster.living}
            for worker in roster.unsaved:
                flags = roster.flags[worker] & ~(SAVE | UNDO)
                roster.flags[worker] = flags | SAVE | (UNDO if roster.awaited[worker] else 0)
        self.save()
