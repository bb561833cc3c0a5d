"""Rank 0's side of a downlink of payloads: the log of the payloads that it has used.

``codewords`` relays to each worker the payloads that rank 0 has used since the worker's last task, and its
steps; the worker's `replica` of θ repeats them. The downlink is then as compressed as the uplink. Compressed
differences from the server are due to Tang et al., "DoubleSqueeze", ICML 2019; relaying the received
codewords is this project's addition.

A log has an entry for each payload used and for each step. A worker whose entries would be longer than the
state itself gets a snapshot: θ, the optimizer's arrays and the decoders' accumulators.

``exchange`` does the same with less traffic on rank 0's link: a worker also sends its payload to all other
workers, and the log has a reference in its place. Dead workers, and workers that have requested no task for
long, are *excluded*: other workers send them nothing, and rank 0 sends them what they have missed. Payloads
of a worker that has died may have reached only some workers, so rank 0 sends them, too.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from msgspec.structs import replace

from ..transport.base import Arrival
from ..transport.layout import CHECK, SNAPSHOT
from ..transport.log import ARRIVAL, HEAD, REFERENCE, STEP, STEP_HEAD, LogFormat, encode_excluded, entry_head
from ..transport.messages import NO_WORKERS, Order, view_codewords
from ..util.stateful import state_of
from .replica import digest
from .state import Coded, State

PATIENCE = 8
"""Entries per worker after which a worker without a new task is excluded: four to eight payloads."""
MAX_LOG_BYTES = 1 << 30
"""Maximum length of the log where workers exchange payloads."""


class Entry(NamedTuple):
    """Entry of the log."""

    content: np.ndarray  # uint8
    reference: np.ndarray  # uint8; replaces the content where the payload comes from its worker
    sender: int = -1  # worker of the payload; -1 for a step
    excluded: np.ndarray = NO_WORKERS  # workers to which the sender has not sent the payload

    def reaches(self, worker: int) -> bool:
        """Return whether a worker has the payload, or gets it from the sender."""
        return worker == self.sender or not len(self.excluded) or worker not in self.excluded


class RelayedState(State):
    """State that relays received codewords instead of θ, and logs the arrivals and steps of `state`.

    A digest of θ is compared every `check` tasks of a worker. If `exchanged`, workers send their payloads to
    each other.
    """

    # `_last_entries` has an effect only over MPI, where this state is not saved.
    state_names: ClassVar[tuple[str, ...]] = (
        "_state", "_first", "_next", "_delivered", "_review_at", "_last_excluded", "_dead", "_digest",
    )  # fmt: skip

    def __init__(self, state: Coded, workers: int, check: int, exchanged: bool = False) -> None:
        self.layouts, self.theta, self.optimizer = state.layouts, state.theta, state.optimizer
        self.designs, self.assignment, self.robust = state.designs, state.assignment, state.robust
        self.policy = state.policy
        layout = self._layout = self.layouts[0]
        self._state, self._check, self._workers = state, check, workers
        self._format = LogFormat(layout)
        self.exchanged = exchanged
        self._min_entries = PATIENCE * workers if exchanged else 0  # length of the log even if it is long
        self._begin()
        self._scratch = np.zeros(layout.header_bytes + layout.codeword_bytes, np.uint8)
        pairs = layout.empty_codewords()
        self._codeword_view = None if layout.worker_selected else view_codewords(layout, self._scratch, pairs)

    def _begin(self) -> None:
        """Begin the log."""
        workers = self._workers
        self._log: deque[Entry] = deque()
        self._bytes = 0  # length of the log
        self._first = self._next = 0  # numbers of the oldest entry and of the next one
        self._delivered = [0] * workers  # number of entries sent to each worker; all draw the same initial θ
        self._excluded, self._excluded_section = NO_WORKERS, encode_excluded(NO_WORKERS)
        self._review_at = 0  # number of log entries at which the excluded workers are determined anew
        self._last_excluded = [NO_WORKERS] * workers  # excluded workers in each worker's last task
        self._last_entries: list[list[Entry]] = [[] for _ in range(workers)]  # entries in it
        self._dead: set[int] = set()
        self._digest: int | None = None  # of the current θ; computed on demand

    def state_dict(self) -> dict[str, Any]:
        log = [[entry.content.copy(), entry.sender, entry.excluded.copy()] for entry in self._log]
        return {**super().state_dict(), "log": log, "excluded": self._excluded.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: state[name] for name in self.state_names})
        self._log = deque(self._entry(*state_of(each)) for each in state["log"])
        self._bytes = sum(len(entry.content) for entry in self._log)
        self._excluded = state["excluded"].copy()
        self._excluded_section = encode_excluded(self._excluded)

    def _entry(self, content: np.ndarray, sender: int = -1, excluded: np.ndarray = NO_WORKERS) -> Entry:
        """Return an entry of the log: of a worker's payload, or of a step."""
        if sender < 0 or not self.exchanged:
            return Entry(content, content, sender, excluded)
        _, number = HEAD.unpack_from(content.data)
        return Entry(content, np.frombuffer(HEAD.pack(REFERENCE, number), np.uint8), sender, excluded)

    def fold(self, arrival: Arrival) -> float:
        self._log_arrival(arrival, self._last_excluded[arrival.worker])
        return self._state.fold(arrival)

    def _log_arrival(self, arrival: Arrival, excluded: np.ndarray) -> None:
        """Append an arrival to the log; `excluded` are the workers that get it from rank 0."""
        worker, sizes = arrival.worker, self._format
        entry = np.zeros(sizes.entry_bytes, np.uint8)
        entry.data[: HEAD.size] = entry_head(ARRIVAL, worker, arrival.task)
        at = HEAD.size
        if self._codeword_view is not None:
            self._codeword_view.write(arrival.codewords, arrival.row)
            entry[at : at + sizes.codeword_bytes] = self._scratch[self._layout.header_bytes :]
            at += sizes.codeword_bytes
        entry[at : at + len(arrival.body)] = arrival.body
        self._append(self._entry(entry, worker, excluded))

    def step(self, damping: float) -> float | None:
        norm = self._state.step(damping)
        entry = np.zeros(STEP_HEAD.size, np.uint8)
        STEP_HEAD.pack_into(entry.data, 0, STEP, damping)
        self._append(self._entry(entry))
        self._digest = None
        return norm

    @property
    def flagged(self) -> list[int]:
        return self._state.flagged

    @property
    def entry_bytes(self) -> int:
        """Bytes that rank 0 sends for a payload and the step that follows it."""
        sizes = self._format
        return (HEAD.size if self.exchanged else sizes.entry_bytes) + STEP_HEAD.size

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of a snapshot right after a step."""
        return self._state.min_snapshot_bytes

    def body_bytes(self, workers: int, number: int = 0) -> tuple[int, int]:
        return 0, min(workers * self.entry_bytes, self.snapshot_bytes)  # about one payload of every worker

    def _append(self, entry: Entry) -> None:
        self._log.append(entry)
        self._bytes += len(entry.content)
        self._next += 1
        while self._bytes > self.snapshot_bytes and (
            len(self._log) > self._min_entries or self._bytes > MAX_LOG_BYTES
        ):
            self._bytes -= len(self._log.popleft().content)
            self._first += 1

    def order(self, worker: int, task: int) -> Order:
        order = self._codewords(worker, task)
        delivered, self._delivered[worker] = self._delivered[worker], self._next
        flags, checked = order.flags, 0
        if not task or task % self._check == self._check - 1:
            if self._digest is None:
                self._digest = digest(self._state.theta)
            flags, checked = flags | CHECK, self._digest
        entries = None if delivered < self._first else list(islice(self._log, delivered - self._first, None))
        standalone = partial(self._segments, flags, entries)
        if not self.exchanged:
            flags, segments = standalone()
            return replace(order, segments=segments, flags=flags, digest=checked)
        flags, segments = self._segments(flags, entries, worker)
        self._last_entries[worker] = [] if entries is None or flags & SNAPSHOT else entries
        self._last_excluded[worker] = excluded = self._update_excluded()
        order = replace(order, segments=[self._excluded_section, *segments], flags=flags, digest=checked)
        return replace(order, standalone=standalone, excluded=excluded)

    def _codewords(self, worker: int, task: int) -> Order:
        """Return a worker's next task, whose codewords are used."""
        return self._state.order(worker, task)

    def _segments(
        self, flags: int, entries: Sequence[Entry] | None, worker: int | None = None
    ) -> tuple[int, Sequence[np.ndarray]]:
        """Return flags and segments of a task: of entries, or of a snapshot, if that is shorter.

        With `worker`, references replace the payloads that the worker has, or gets from others.
        """
        if entries is not None:
            dead = self._dead
            segments = [
                each.reference
                if worker is not None and each.sender not in dead and each.reaches(worker)
                else each.content
                for each in entries
            ]
            if not self.exchanged or sum(map(len, segments)) <= self.snapshot_bytes:
                return flags, segments
        return flags | SNAPSHOT, self._state.buffers()

    @property
    def unrelayed(self) -> State:
        return self._state.unrelayed

    def resumed(self) -> None:
        self._begin()
        self._first = self._next = 1  # no worker has the beginning of this log

    def lost(self, worker: int) -> None:
        self._dead.add(worker)
        self._last_entries[worker] = []
        self._review_at = 0
        self._state.lost(worker)

    def joined(self, worker: int) -> None:
        self._dead.discard(worker)
        self._delivered[worker] = -1
        self._review_at = 0
        self._state.joined(worker)

    def undelivered_payloads(self, worker: int, sender: int | None = None) -> Sequence[np.ndarray]:
        return [
            self._format.forwarded(each.content)
            for each in self._last_entries[worker]
            if each.sender not in (-1, worker) and sender in (None, each.sender) and each.reaches(worker)
        ]

    def _update_excluded(self) -> np.ndarray:
        """Return the excluded workers, determined anew from time to time."""
        if self._next >= self._review_at:
            self._review_at = self._next + len(self._delivered)
            late = self._next - np.array(self._delivered) > self._min_entries
            late[list(self._dead)] = True
            behind = np.flatnonzero(late)
            if not np.array_equal(behind, self._excluded):
                self._excluded, self._excluded_section = behind, encode_excluded(behind)
        return self._excluded
