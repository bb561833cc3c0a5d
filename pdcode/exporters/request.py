"""A format, what it is asked to write, and what it says about the times."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from ..config.kinds import Record
from ..trace.reader import TraceReader
from ..util.formats import duration


class Request(NamedTuple):
    """What to write."""

    trace: TraceReader
    path: Path
    to: str
    table: str
    events: int  # at most, or the events of one group of payloads a worker; 0: any number

    @property
    def name(self) -> str:
        """Name of the trace's file, valid UTF-8."""
        return os.fsencode(self.trace.path.name).decode(errors="replace")

    @property
    def note(self) -> str:
        """What a reader of the file must know: its source, and how exact the times are."""
        trace, sample = self.trace, self.trace.sample
        only = f", with one payload of {sample} recorded" if sample > 1 else ""
        return (
            f"pdcode export of {self.name}{only}; times of workers are on rank 0's clock, with errors "
            f"of at most {duration(float(clock_error_ns(trace).max(initial=0)))}"
        )


@dataclass(frozen=True, eq=False)
class Format(Record):
    """A format in which `pdcode export` writes a run."""

    group: ClassVar[str] = "exporters"

    name: str
    description: str  # in a line
    write: Callable[[Request], str]  # writes the file, or into the folder; returns a description of it
    suffix: str = ""  # of files, or of a folder, that are of this format unless another is given
    library: str = ""  # that it needs, and imports in `write`
    takes: str = ""  # argument of `Trace.export` that it has: events, table
    folder: bool = False
    replaces: bytes = b"\0"  # begin of its files, which it replaces; by default none


def clock_error_ns(trace: TraceReader) -> np.ndarray:
    """Return bounds on the errors of workers' times on rank 0's clock, int64, shape (workers,)."""
    clocks, columns = trace.workers, ("clock_error_ns", "end_clock_error_ns")
    known = [clocks[key] for key in columns if key in clocks]
    return np.asarray(np.max(known, axis=0)[np.argsort(clocks["rank"])][-trace.worker_count or None :])
