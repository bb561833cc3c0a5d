"""The interface that records the rows of a run."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar

from ..kernels import headers, records
from ..util.capabilities import Capable
from .schema import ARRIVALS

READ = [None if each.given else attrgetter(each.attribute or name) for name, each in ARRIVALS.items()]
"""How a reply's value of each column of arrivals is read; None: it is given beside the reply."""


class Recorder(Capable):
    """Recorder of a run's rows, in the order of `pdcode.trace.schema`; this base class drops them.

    Attributes
    ----------
    drops_arrivals, drops_updates : bool
        Capabilities: rows of arrivals, of updates, are dropped.
    config_text : str
        The user's TOML file, which a trace records.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "drops_arrivals": ("arrived", "arrival"),
        "drops_updates": ("update",),
    }
    drops_arrivals: ClassVar[bool] = True
    drops_updates: ClassVar[bool] = True
    config_text = ""

    @property
    def batches(self) -> tuple[records.Batch | None, records.Batch | None]:
        """Batches to which compiled code appends rows directly instead of calling `arrived` and `update`."""
        return (
            records.Batch(1, records.ROW_BYTES) if self.drops_arrivals else None,
            records.Batch(1, records.UPDATE_BYTES) if self.drops_updates else None,
        )

    def arrival(self, *values: float) -> None:
        """Record a row of arrivals."""

    def arrived(self, reply: headers.Received, *given: float) -> None:
        """Record a row of arrivals: a reply, and what is given beside it, in the order of the schema."""
        beside = iter(given)
        self.arrival(*(next(beside) if read is None else read(reply) for read in READ))

    def update(self, *values: float) -> None:
        """Record a row of updates."""

    def progress(self, *values: float) -> None:
        """Record a row of progress."""

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Record a row of faults."""

    def pause(self, begin_ns: int, end_ns: int, what: int) -> None:
        """Record what rank 0 did between two times: `EVALUATION` or `CHECKPOINT` of the schema."""

    def shuffle(self, *values: int) -> None:
        """Record a row of shuffles."""

    def extend(self, table: str, count: int, columns: Mapping[str, Any]) -> None:
        """Record `count` rows of a table, with a column (count,), or a number that is the same in all."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each table on disk."""
        return {}

    def fill(self) -> None:
        """Behave as if the disk were full from now on."""

    def due(self, now_ns: int) -> bool:
        """Return whether it is time to `flush`."""
        return False

    def flush(self, now_ns: int) -> None:
        """Write all rows to disk; `now_ns` is the time since the run's start."""
