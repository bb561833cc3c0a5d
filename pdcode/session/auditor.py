"""The auditor: rank 0 recomputes a keyed share of tasks, and names workers whose payloads are wrong."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..faults.audit import is_audited
from ..problems import DataSource
from ..training.coordinator import Coordinator
from ..training.roster import Roster
from ..transport.base import Arrival
from ..transport.layout import buffer
from ..transport.messages import Order, Reply, Task
from ..util.formats import counted, duration
from .setup import Components, worker_builder

KEPT = 16  # workers whose rows and buffers rank 0 keeps
DOUBT = "the model is not deterministic, or rank 0's own processor or memory is at fault"


class Auditor:
    """Recomputation of audited tasks, but for those in flight at a checkpoint, from all data, in `source`."""

    roster: Roster  # to be set

    def __init__(self, components: Components, source: DataSource | None) -> None:
        assert source is not None
        config = self._config = components.config
        self.source, (layout,) = source, components.layouts
        build = worker_builder(config, components, shares=True, audits=source)

        def made(worker: int) -> tuple[Any, Reply]:
            reply = Reply(layout, buffer(layout.buffer_bytes)[0])
            return build(worker, [reply]).encoders[0], reply

        self._encoder: Callable[[int], tuple[Any, Reply]] = lru_cache(KEPT)(made)
        self._task = Task([layout], buffer(layout.task_bytes)[0])
        self._received = Reply(layout, buffer(layout.buffer_bytes)[0])
        self.unsure = 0  # tasks whose recomputation has another result the second time
        self.spent_ns = 0
        self._sent: dict[int, tuple[int, np.ndarray]] = {}  # worker -> audited task in flight, and its θ

    def send(self, worker: int, task: int, theta: np.ndarray) -> None:
        """Note that a worker gets a task at θ."""
        if is_audited(self._config, worker, task):
            self._sent[worker] = task, theta.copy()

    def receive(self, reply: Arrival) -> Callable[[], tuple[int, str]] | None:
        """Return the `_examine` of a payload that has not been used yet; None if it is not audited."""
        if reply.worker not in self._sent or self._sent[reply.worker][0] != reply.task:
            return None
        task, theta = self._sent.pop(reply.worker)
        # Codewords may change once the reply has been used.
        self._task.write(reply.worker, task, reply.version, Order(reply.row, reply.codewords, ()), 0)
        self._task.read()
        return partial(self._examine, reply.worker, theta, reply.body.copy())

    def _examine(self, worker: int, theta: np.ndarray, body: np.ndarray) -> tuple[int, str]:
        """Recompute a payload; return the worker (-1: rank 0), and how it is wrong, if for the first time."""
        roster = self.roster
        roster.audited[worker] += 1
        found, task = self._recompute(worker, theta), self._task.task
        if np.array_equal(body, found.body):
            return worker, ""
        distance, own = self._distance(body, found), found.body.copy()
        if 0 < distance <= self._config.faults.audit_tolerance:
            return worker, ""
        if not np.array_equal(own, self._recompute(worker, theta).body):
            self.unsure += 1
            text = f"computes task {task} of worker {worker} otherwise the second time: {DOUBT}"
            return -1, text if self.unsure == 1 else ""
        roster.wrong[worker] += 1
        differ = f"{np.count_nonzero(own != body)} of {len(own)} bytes are not as rank 0 recomputes them"
        text = f"sent a wrong payload with task {task}: {differ}, a difference of {distance:.2g} of its norm"
        return worker, text if roster.wrong[worker] == 1 else ""

    def _recompute(self, worker: int, theta: np.ndarray) -> Reply:
        encoder, reply = self._encoder(worker)
        with np.errstate(all="ignore"):
            encoder.encode(theta, self._task)
            encoder.quantise((self._config.seed, worker, self._task.task))
        return reply

    def _distance(self, body: np.ndarray, found: Reply) -> float:
        """Return the norm of the difference of a payload from the recomputed one, as a share of its norm."""
        sent = self._received
        sent.body[:] = body
        sent.read()
        found.read()
        with np.errstate(all="ignore"):
            change = np.subtract(sent.payload, found.payload, dtype=np.float64)
            return float(np.linalg.norm(change) / (np.linalg.norm(found.payload.astype(np.float64)) or 1.0))

    @property
    def line(self) -> str:
        """The outcome, for the user."""
        roster, audited = self.roster, sum(self.roster.audited)
        spent = f", {duration(self.spent_ns)}" if self.spent_ns else ""
        price = counted(audited + sum(roster.wrong) + self.unsure, "task")
        pairs = zip(roster.wrong, roster.audited, strict=True)
        bad = [f"{wrong} of {of} of worker {worker}" for worker, (wrong, of) in enumerate(pairs) if wrong]
        outcome = f"wrong: {', '.join(bad)}" if bad else "none wrong"
        unsure = f"; {self.unsure} had another result the second time" if self.unsure else ""
        tasks = f"audited {audited:,} of {counted(roster.arrivals, 'task')}"
        return f"{tasks}, at a price of {price} of rank 0{spent}; {outcome}{unsure}"


class AuditingCoordinator(Coordinator):
    """Coordinator with an auditor; the other parameters are as in `Coordinator`.

    A payload is recomputed after its worker has got its next task, so that only others wait.
    """

    def __init__(self, auditor: Auditor, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.auditor, auditor.roster = auditor, self.roster

    def dispatch(self, worker: int) -> None:
        self.auditor.send(worker, self.roster.tasks[worker], self.theta)
        super().dispatch(worker)

    def on_reply(self, reply: Arrival) -> None:
        examine, task = self.auditor.receive(reply), reply.task
        super().on_reply(reply)
        if examine is not None:
            begun_ns = self.fleet.now_ns()
            worker, found = examine()
            self.auditor.spent_ns += self.fleet.now_ns() - begun_ns
            if found:
                member = self.fleet.coordinator if worker < 0 else self.fleet.members[worker]
                self.incidents.audited(begun_ns, worker, task, member, found)
