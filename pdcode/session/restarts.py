"""Restarts of a job that a death has ended.

The command that started mpirun starts it again, from the newest checkpoint.
"""

import os
import time

import msgspec

from ..config import Config
from ..trace.reader import TraceReader
from ..util.errors import InputError
from ..util.formats import duration
from ..util.output import print_error
from . import checkpoint

TRIES, SHORT_S = 3, 10.0  # restarts in a row that may die within this time, or without a newer checkpoint
KEY = "PDCODE_RESTART"  # variable of the job that goes on


class Restart(msgspec.Struct):
    """What a job knows that goes on after a death: the time of the run at the death, and a line."""

    died_ns: int
    text: str

    @property
    def encoded(self) -> str:
        """Text for the environment."""
        return msgspec.json.encode(self).decode()


class Restarts:
    """Restarts of a job; if it was `resumed`, they may be from the checkpoint from before it."""

    def __init__(self, config: Config, resumed: bool) -> None:
        self._config = config
        self._from, self._left = self._newest()[0], TRIES if resumed else 0  # run and time of a checkpoint
        self._began_s = time.monotonic()  # the last start
        self._possible = resumed  # whether the job can be resumed

    def _newest(self) -> tuple[tuple[str, int] | None, str]:
        """Return run and time of the newest checkpoint, None without one, and what is wrong with it."""
        try:
            found = checkpoint.find(self._config)
        except InputError as error:
            return None, str(error)
        return (None if found is None else (found.header.run, found.header.t_ns)), ""

    def after(self, who: str, at_ns: int) -> Restart | None:
        """Return the restart after a rank's death at a time since 1970; None if the job ends with it."""
        newest, problem = self._newest()
        if newest is None:
            if problem:
                print_error(problem)
            return None
        if newest != self._from:
            if not self._possible or time.monotonic() - self._began_s > SHORT_S:
                self._left = TRIES
            self._from, self._possible = newest, True
        if not self._left:
            if self._possible:
                print_error(f"{TRIES} restarts in a row came no further; --resume would try again")
            return None
        self._left, self._began_s = self._left - 1, time.monotonic()
        trace, from_ns = TraceReader(self._config.trace.path), newest[1]
        died_ns = int(trace.segments["t_ns"][-1] + at_ns - trace.segments["begun_ns"][-1])
        goes_on = f"the job goes on from its checkpoint at {duration(from_ns)}"
        return Restart(died_ns, f"{who} died at {duration(died_ns)}; {goes_on}")


def of_this_process() -> Restart | None:
    """Return the restart by which this process of rank 0 has begun; None if it is the first one."""
    encoded = os.environ.get(KEY)
    return None if encoded is None else msgspec.json.decode(encoded, type=Restart)
