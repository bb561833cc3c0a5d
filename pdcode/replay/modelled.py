"""Replies when the model of a virtual run says, whatever its trace says."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.tables import Config
from ..virtual.schedule import NEVER_NS, Modelled, Sent
from .recorded import Recorded
from .script import Ledger


class Remodelled(Modelled):
    """The model of ``[machine]``, ``[link]`` and ``[stragglers]``, beside a trace.

    Parameters
    ----------
    recorded : Recorded
    config : Config
    task_ns : int
        Compute time of a task.
    reply_bytes : int
        Of each reply.

    Attributes
    ----------
    ledger : Ledger
    """

    def __init__(
        self, recorded: Recorded, config: Config, task_ns: Sequence[int], reply_bytes: Sequence[int]
    ) -> None:
        super().__init__(config, task_ns, reply_bytes)
        self.ledger = Ledger(recorded, config.workers.count)
        self._recorded = recorded

    def send(self, orders: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        self.ledger.sent(orders)
        super().send(orders, body_bytes, own_bytes, number)

    def next(self, limit_ns: int) -> int:
        worker = super().next(limit_ns)
        recorded = self._recorded
        if worker < 0:
            if limit_ns >= NEVER_NS:
                raise recorded.differs([], "No reply will ever arrive then.")
            return worker
        if recorded.row == recorded.arrivals.rows:
            raise recorded.differs([])
        self.ledger.came(worker)
        return worker
