"""Rank 0's side of a downlink of payloads: the log of what it has used.

``codewords`` relays to each worker the payloads that rank 0 has used since the worker's last task, and its
steps, by which the worker's `replica` of θ follows. The downlink is then as compressed as the uplink.
Compressed differences from the server are due to Tang et al., "DoubleSqueeze", ICML 2019; relaying the
received codewords is this project's addition.

A log has an entry for each payload used and for each step. A worker whose entries would be longer than the
state itself gets a snapshot: θ, the optimizer's arrays and the decoders' accumulators.

``exchange`` does the same with less of rank 0's link: a worker sends its payload to all others, too, and in
the log a reference stands for it. Workers who have not asked for a task for long, and dead ones, are *muted*:
the others send them nothing, and what they have missed comes from rank 0. Payloads of a worker that has died
may have reached some and not all, so that rank 0 sends them, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

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
"""Entries of each worker after which one that has not asked for a task is muted: four to eight payloads."""
LONGEST = 1 << 30
"""Bytes of the longest log where workers exchange payloads."""


class Entry(NamedTuple):
    """Entry of the log.

    Attributes
    ----------
    whole : ndarray of uint8
    reference : ndarray of uint8
        What stands for it if the payload comes from its worker.
    sender : int
        That worker; -1 for a step.
    muted : ndarray of int64
        To whom the payload does not come from it.
    """

    whole: np.ndarray
    reference: np.ndarray
    sender: int = -1
    excluded: np.ndarray = NO_WORKERS

    def hears(self, worker: int) -> bool:
        """Tell whether a worker has it without rank 0."""
        return worker == self.sender or not len(self.excluded) or worker not in self.excluded


class RelayedState(State):
    """State that relays received codewords to the workers instead of θ.

    Parameters
    ----------
    state : Coded
        Rank 0's state, whose arrivals and steps are logged here.
    workers : int
    check : int
        Period, in tasks of a worker, of the comparison of digests of θ.
    exchanged : bool
        Whether workers send their payloads to each other.
    """

    # `_given` has an effect over MPI alone, where this state is not saved.
    state_names = ("_state", "_first", "_next", "_seen", "_review", "_told", "_dead", "_digest")

    def __init__(self, state: Coded, workers: int, check: int, exchanged: bool = False) -> None:
        self.layouts, self.theta, self.optimizer = state.layouts, state.theta, state.optimizer
        self.designs, self.assignment, self.robust = state.designs, state.assignment, state.robust
        self.policy = state.policy
        layout = self._layout = self.layouts[0]
        self._state, self._check, self._workers = state, check, workers
        self._format = LogFormat(layout)
        self.exchanged = exchanged
        self._kept = PATIENCE * workers if exchanged else 0  # entries of the log, even if it is long
        self._begin()
        self._scratch = np.zeros(layout.header_bytes + layout.codeword_bytes, np.uint8)
        pairs = layout.empty_codewords()
        self._words = None if layout.worker_selected else view_codewords(layout, self._scratch, pairs)

    def _begin(self) -> None:
        """Begin the log."""
        workers = self._workers
        self._log: deque[Entry] = deque()
        self._bytes = 0  # length of the log
        self._first = self._next = 0  # numbers of the oldest entry kept and of the next one
        self._seen = [0] * workers  # entries that each worker has; all draw the same initial θ
        self._muted, self._notice = NO_WORKERS, encode_excluded(NO_WORKERS)
        self._review = 0  # number of log entries at which the excluded workers are determined anew
        self._told = [NO_WORKERS] * workers  # those of whom each worker knows
        self._given: list[list[Entry]] = [[] for _ in range(workers)]  # entries in each worker's task
        self._dead: set[int] = set()
        self._digest: int | None = None  # of the current θ; computed on demand

    def state_dict(self) -> dict[str, Any]:
        log = [[entry.whole.copy(), entry.sender, entry.excluded.copy()] for entry in self._log]
        return {**super().state_dict(), "log": log, "muted": self._muted.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: state[name] for name in self.state_names})
        self._log = deque(self._entry(*state_of(each)) for each in state["log"])
        self._bytes = sum(len(entry.whole) for entry in self._log)
        self._muted = state["muted"].copy()
        self._notice = encode_excluded(self._muted)

    def _entry(self, whole: np.ndarray, sender: int = -1, excluded: np.ndarray = NO_WORKERS) -> Entry:
        """Return an entry of the log: of a worker's payload, or of a step."""
        if sender < 0 or not self.exchanged:
            return Entry(whole, whole, sender, excluded)
        _, number = HEAD.unpack_from(whole.data)
        return Entry(whole, np.frombuffer(HEAD.pack(REFERENCE, number), np.uint8), sender, excluded)

    def fold(self, arrival: Arrival) -> float:
        worker, sizes = arrival.worker, self._format
        entry = np.zeros(sizes.entry_bytes, np.uint8)
        entry.data[: HEAD.size] = entry_head(ARRIVAL, worker, arrival.task)
        at = HEAD.size
        if self._words is not None:
            self._words.write(arrival.codewords, arrival.row)
            entry[at : at + sizes.codeword_bytes] = self._scratch[self._layout.header_bytes :]
            at += sizes.codeword_bytes
        entry[at : at + len(arrival.body)] = arrival.body
        self._append(self._entry(entry, worker, self._told[worker]))
        return self._state.fold(arrival)

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
        """Bytes that rank 0 sends of a payload and the step that follows it."""
        sizes = self._format
        return (HEAD.size if self.exchanged else sizes.entry_bytes) + STEP_HEAD.size

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of what a worker gets instead of a longer log."""
        return self._state.least_bytes

    def _append(self, entry: Entry) -> None:
        self._log.append(entry)
        self._bytes += len(entry.whole)
        self._next += 1
        least = self._state.least_bytes  # of a snapshot
        while self._bytes > least and (len(self._log) > self._kept or self._bytes > LONGEST):
            self._bytes -= len(self._log.popleft().whole)
            self._first += 1

    def order(self, worker: int, task: int) -> Order:
        order = self._state.order(worker, task)
        seen, self._seen[worker] = self._seen[worker], self._next
        flags, checked = 0, 0
        if not task or task % self._check == self._check - 1:
            if self._digest is None:
                self._digest = digest(self._state.theta)
            flags, checked = CHECK, self._digest
        entries = None if seen < self._first else list(islice(self._log, seen - self._first, None))
        whole = partial(self._content, flags, entries)
        if not self.exchanged:
            flags, parts = whole()
            return replace(order, segments=parts, flags=flags, digest=checked)
        flags, parts = self._content(flags, entries, worker)
        self._given[worker] = [] if entries is None or flags & SNAPSHOT else entries
        self._told[worker] = excluded = self._listen()
        parts = [self._notice, *parts]
        return replace(
            order, segments=parts, flags=flags, digest=checked, standalone=whole, excluded=excluded
        )

    def _content(
        self, flags: int, entries: Sequence[Entry] | None, worker: int | None = None
    ) -> tuple[int, Sequence[np.ndarray]]:
        """Return flags and segments of a task: of entries, or of a snapshot, if that is shorter.

        With `worker`, references stand for the payloads that the worker has, or gets from others.
        """
        if entries is not None:
            dead = self._dead
            parts = [
                each.reference
                if worker is not None and each.sender not in dead and each.hears(worker)
                else each.whole
                for each in entries
            ]
            if not self.exchanged or sum(map(len, parts)) <= self._state.least_bytes:
                return flags, parts
        return flags | SNAPSHOT, self._state.parts()

    @property
    def core(self) -> State:
        return self._state.core

    def resumed(self) -> None:
        self._begin()
        self._first = self._next = 1  # a log that nobody has the beginning of

    def lost(self, worker: int) -> None:
        self._dead.add(worker)
        self._given[worker] = []
        self._review = 0
        self._state.lost(worker)

    def joined(self, worker: int) -> None:
        self._dead.discard(worker)
        self._seen[worker] = -1
        self._review = 0
        self._state.joined(worker)

    def owed(self, worker: int, sender: int | None = None) -> Sequence[np.ndarray]:
        return [
            self._format.forwarded(each.whole)
            for each in self._given[worker]
            if each.sender not in (-1, worker) and sender in (None, each.sender) and each.hears(worker)
        ]

    def _listen(self) -> np.ndarray:
        """Return which workers are muted."""
        if self._next >= self._review:
            self._review = self._next + len(self._seen)
            late = self._next - np.array(self._seen) > self._kept
            late[list(self._dead)] = True
            behind = np.flatnonzero(late)
            if not np.array_equal(behind, self._muted):
                self._muted, self._notice = behind, encode_excluded(behind)
        return self._muted
