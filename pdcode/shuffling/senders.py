"""Reshuffling: the rows of every worker in each epoch, their sender at rank 0, and their receiver.

An epoch is a number of updates. The permutation of its rows is keyed by the seed and the epoch, and known to
all ranks. A worker gets the rows of an epoch with, or after, its first task of the epoch: workers need not
wait for each other, and in the meantime a row may be at two workers or at none. Rank 0 has all rows, and
notes the epoch of each worker. A worker that was in the epoch before decodes what is sent to all. Any other
one, such as a slow worker that had no task in it, or one that has replaced another, gets its rows uncoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from math import comb
from threading import Lock, RLock
from typing import Any
from zlib import crc32

import numpy as np

from ..config import Config
from ..problems import DataSource
from ..problems.dataset import Rows as Arrays
from ..problems.matrix import Csr
from ..problems.split import shard, sharding
from ..transport.companions import Companion, Freight, Recipient
from ..util.errors import InputError
from ..util.rng import SHUFFLE, generator
from .plans import CachePlan, Caches, CyclePlan, ShufflePlan
from .rows import Kind, Missing, Opening, message, read

KEPT = 4  # epochs whose rows are remembered
MOST_PARTS = 20_000  # of all batches: a worker solves for the parts of its next batch within seconds


class Deal(ABC):
    """The units, rows or parts of batches, that every worker has in each epoch; the same at all ranks."""

    def __init__(self, seed: int, rows: int, workers: int, how: str) -> None:
        self.seed, self.workers = seed, workers
        self.start = np.zeros(rows, np.int64)  # the first worker of each row
        for worker in range(workers):
            self.start[shard(rows, worker, workers, how)] = worker
        self._known: dict[int, Any] = {}  # by epoch
        self._plans: dict[tuple[int, int], ShufflePlan | None] = {}
        self._lock = RLock()  # of both: a thread that moves rows looks up epochs while its worker does

    @abstractmethod
    def held(self, epoch: int, worker: int) -> np.ndarray:
        """Return the numbers of a worker's units, ascending."""

    @abstractmethod
    def owners(self, epoch: int) -> np.ndarray:
        """Return the worker of each row."""

    @abstractmethod
    def _plan(self, old: int, new: int) -> ShufflePlan | None:
        """Build the plan of `plan`."""

    def exchanged(self, old: int, new: int, worker: int) -> np.ndarray:
        """Return the rows that other workers have and a worker wants, by their worker, then number."""
        owners = self.owners(old)
        rows = np.flatnonzero((self.owners(new) == worker) & (owners != worker))
        return rows[np.argsort(owners[rows], kind="stable")]

    def plan(self, old: int, new: int) -> ShufflePlan | None:
        """Return the plan that leads from one epoch to another; None if there is none."""
        with self._lock:
            if (old, new) not in self._plans:
                if len(self._plans) >= KEPT:
                    del self._plans[next(iter(self._plans))]
                self._plans[old, new] = self._plan(old, new)
            return self._plans[old, new]

    def _keep(self, epoch: int, value: Any) -> Any:
        if len(self._known) >= KEPT:
            del self._known[min(self._known)]
        self._known[epoch] = value
        return value


class RowDeal(Deal):
    """Permutations of all rows; every worker has as many as at first."""

    def owners(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch in self._known:
                return self._known[epoch]
            order = generator(self.seed, SHUFFLE, epoch).permutation(self.start) if epoch else self.start
            return self._keep(epoch, order)

    def held(self, epoch: int, worker: int) -> np.ndarray:
        return np.flatnonzero(self.owners(epoch) == worker)

    def _plan(self, old: int, new: int) -> ShufflePlan | None:
        return CyclePlan(self.owners(old), self.owners(new), self.workers)


class BatchDeal(Deal):
    """Permutations of the first shards, which workers have cached."""

    def __init__(self, seed: int, rows: int, workers: int, how: str, size: int) -> None:
        super().__init__(seed, rows, workers, how)
        self._first = Caches(workers, size)
        self.parts = self._first.parts

    def _sources(self, epoch: int) -> list[int]:
        order: list[int] = generator(self.seed, SHUFFLE, epoch).permutation(self.workers).tolist()
        return order

    def caches(self, epoch: int) -> Caches:
        """Return the caches in an epoch."""
        with self._lock:
            before = max((each for each in self._known if each <= epoch), default=0)
            caches: Caches = self._known.get(before, self._first)
            for each in range(before + 1, epoch + 1):
                caches = self._keep(each, caches.shuffled(self._sources(each)))
            return caches

    def held(self, epoch: int, worker: int) -> np.ndarray:
        return np.array(self.caches(epoch).held(worker))

    def owners(self, epoch: int) -> np.ndarray:
        return np.argsort(self.caches(epoch).batches)[self.start]

    def part_bytes(self, row_bytes: int) -> int:
        """Return the bytes of a part of a batch; shorter batches are padded."""
        return -(-int(np.bincount(self.start).max()) * row_bytes // self.parts)

    def _plan(self, old: int, new: int) -> ShufflePlan | None:
        return CachePlan(self.caches(old), self._sources(new)) if new == old + 1 else None


@lru_cache(maxsize=2)  # all virtual workers share one
def deal(seed: int, rows: int, workers: int, how: str, cache: int) -> Deal:
    """Build the deal of a number of training rows."""
    common = seed, rows, workers, how
    return RowDeal(*common) if cache == 1 else BatchDeal(*common, cache)


def deal_of(config: Config, rows: int) -> Deal:
    """Return the deal of a configuration."""
    table = config.problem
    return deal(config.seed, rows, config.workers.count, sharding(table), config.shuffle.cache)


class Packing:
    """Rows as bytes."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.widths = [each[:1].nbytes for each in arrays]
        self.bytes = sum(self.widths)

    def pack(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return rows, uint8, shape (n, bytes)."""
        parts = (np.ascontiguousarray(each[rows]) for each in self.arrays)
        return np.concatenate(
            [
                each.reshape(-1).view(np.uint8).reshape(len(each), width)
                for each, width in zip(parts, self.widths, strict=True)
            ],
            axis=1,
        )

    def unpack(self, packed: np.ndarray) -> None:
        """Replace all rows."""
        at = 0
        for array, width in zip(self.arrays, self.widths, strict=True):
            part = np.ascontiguousarray(packed[:, at : at + width])
            array[:] = part.view(array.dtype).reshape(array.shape)
            at += width


class Shuffler(Companion):
    """Sender of rows at rank 0, each worker's to itself.

    Parameters
    ----------
    config : Config
    arrays : tuple of ndarray
        All training rows.
    """

    state_names = ("epoch", "_previous", "_epochs", "_tasks", "_openings", "_members", "_dead")
    state_types = (("_members", list[int]), ("_dead", list[int]))
    opens = False  # whether epochs begin with what does not come with tasks

    def __init__(self, config: Config, arrays: Arrays) -> None:
        self._every = config.shuffle.every
        self._deal, self._packing = deal_of(config, len(arrays[0])), Packing(arrays)
        workers = config.workers.count
        self.epoch = self._previous = 0
        # Epoch of each worker's last task; -1: nothing is known of its rows.
        self._epochs = [0 if isinstance(self._deal, RowDeal) else -1] * workers
        self._tasks = [0] * workers
        self._openings = [0] * workers  # with each worker as a member
        self._members, self._dead = list[int](), list[int]()
        self._had = [0] * workers  # epoch of whose rows each worker had all when it last replied
        self._digested = np.empty(0, np.uint8), 0  # what was sent last, and its digest
        self._recent: list[Opening] = []  # those for which a worker may wait

    def fetch(self, units: np.ndarray) -> np.ndarray:
        """Return units, uint8, shape (n, bytes)."""
        deal = self._deal
        if not isinstance(deal, BatchDeal):
            return self._packing.pack(units)
        size = deal.part_bytes(self._packing.bytes)
        parts = np.zeros((len(units), size), np.uint8)
        batches = units // deal.parts
        for batch in np.unique(batches):
            whole = np.zeros(deal.parts * size, np.uint8)
            content = self._packing.pack(np.flatnonzero(deal.start == batch)).reshape(-1)
            whole[: len(content)] = content
            mine = batches == batch
            parts[mine] = whole.reshape(deal.parts, size)[units[mine] % deal.parts]
        return parts

    def freight(self, worker: int, version: int) -> Freight | None:
        self._tasks[worker] += 1
        self._had[worker] = max(self._had[worker], self._epochs[worker])
        opening = self._open(version // self._every) if version // self._every > self.epoch else None
        base, epoch = self._epochs[worker], self.epoch
        if base == epoch:
            return None
        self._epochs[worker] = epoch
        known = 0 <= base == self._previous and worker in self._members
        plan = self._deal.plan(base, epoch) if known else None
        kind, place, content, here = self._content(worker, base, plan)
        head = kind, base, epoch, self._openings[worker]
        sent = message(*head, here)
        size = len(sent) + (0 if opening is None or opening.content is None else opening.content.size)
        others = content.size - here.size if kind == Kind.EXCHANGED else 0
        if content is not self._digested[0]:  # else a broadcast, to the next worker
            self._digested = content, crc32(content.data)
        self.record(worker, version, base, epoch, kind, len(content), size, others, self._digested[1])
        return Freight(message(*head, content), sent, size, place, others, opening)

    def _content(
        self, worker: int, base: int, plan: ShufflePlan | None
    ) -> tuple[Kind, int, np.ndarray, np.ndarray]:
        """Return the rows for a worker of an epoch: their kind, the workers before it, all, and from rank 0.

        `plan` leads from its epoch to this one; None: it gets its rows uncoded.
        """
        rows = self.fetch(self._lacks(worker, base))
        return Kind.ROWS, 0, rows, rows

    def _lacks(self, worker: int, base: int) -> np.ndarray:
        """Return the units of a worker that it did not have in an epoch."""
        held = self._deal.held(self.epoch, worker)
        return held if base < 0 else np.setdiff1d(held, self._deal.held(base, worker))

    def _open(self, epoch: int) -> Opening | None:
        """Begin an epoch."""
        self._previous, self.epoch = self.epoch, epoch
        members = [
            worker
            for worker, each in enumerate(self._epochs)
            if each == self._previous and worker not in self._dead
        ]
        self._members = sorted(members, key=lambda worker: -self._tasks[worker])
        if not self.opens or not members or self._deal.plan(self._previous, epoch) is None:
            return None
        for worker in members:
            self._openings[worker] += 1
        opening = Opening(self._previous, epoch, self._members, self._broadcast())
        self._recent = [each for each in self._recent if self._waiting(each)] + [opening]
        return opening

    def _waiting(self, opening: Opening) -> list[int]:
        """Return the members of an opening that may still wait for it."""
        return [
            worker
            for worker in opening.members
            if worker not in self._dead and self._had[worker] < opening.epoch
        ]

    def _broadcast(self) -> np.ndarray | None:
        """Return what all members of an epoch get from rank 0; None: they send rows to each other."""
        return None

    def lost(self, worker: int) -> None:
        self._dead = sorted({*self._dead, worker})

    def joined(self, worker: int) -> None:
        self._dead = [each for each in self._dead if each != worker]
        self._epochs[worker], self._openings[worker], self._had[worker] = -1, 0, self.epoch

    def restart(self) -> None:
        workers = len(self._epochs)
        self._epochs, self._openings, self._dead = [-1] * workers, [0] * workers, []
        self._had, self._recent = [self.epoch] * workers, []

    def openings(self, worker: int) -> int:
        """Return the number of openings with a worker as a member."""
        return self._openings[worker]

    def missing(self, lost: int) -> Missing:
        """Return what workers may wait for since one is lost."""
        broadcasts, parts = list[Opening](), list[tuple[int, int, int, np.ndarray]]()
        for opening in (each for each in self._recent if lost in each.members):
            members, waiting = opening.members, self._waiting(opening)
            after = [each for each in members[members.index(lost) + 1 :] if each in waiting]
            if opening.content is not None and after:
                broadcasts.append(opening._replace(members=after))
            for worker in waiting if opening.content is None else ():
                parts += self._parts(opening, worker, [lost])
        return Missing(broadcasts, parts)

    def awaited(self, worker: int) -> Missing:
        """Return all that a worker may wait for."""
        recent = [each for each in self._recent if worker in self._waiting(each)]
        broadcasts = [each._replace(members=[worker]) for each in recent if each.content is not None]
        parts = [self._parts(each, worker, each.members) for each in recent if each.content is None]
        return Missing(broadcasts, [*chain.from_iterable(parts)])

    def _parts(
        self, opening: Opening, worker: int, senders: Sequence[int]
    ) -> list[tuple[int, int, int, np.ndarray]]:
        """Return a worker's rows of an opening from each of other workers, as in `Missing`."""
        units = self._deal.exchanged(opening.base, opening.epoch, worker)
        owners = self._deal.owners(opening.base)[units]
        wanted = [(each, units[owners == each]) for each in senders]
        found = [(each, self.fetch(rows).reshape(-1)) for each, rows in wanted if len(rows)]
        return [(worker, opening.epoch, each, rows) for each, rows in found]


class CodedShuffler(Shuffler):
    """Sender of XORs of rows: those that a worker needs, or all of them as a broadcast to all workers."""

    def __init__(self, config: Config, arrays: Arrays) -> None:
        super().__init__(config, arrays)
        self.opens = config.link.broadcast in ("chain", "multicast")
        self._encoded: tuple[int, np.ndarray] = (0, np.empty(0, np.uint8))  # XORs of an epoch

    def _content(
        self, worker: int, base: int, plan: ShufflePlan | None
    ) -> tuple[Kind, int, np.ndarray, np.ndarray]:
        if plan is None:
            return super()._content(worker, base, plan)
        if self.opens:
            return Kind.BROADCAST, self._members.index(worker), self._xors(), self._xors()[:0]
        xors = self._xors()[plan.needed(worker)]
        return Kind.XORS, 0, xors, xors

    def _broadcast(self) -> np.ndarray:
        return self._xors().reshape(-1)

    def _xors(self) -> np.ndarray:
        """Return the XORs of this epoch, uint8, shape (load, bytes)."""
        if self._encoded[0] != self.epoch:
            plan = self._deal.plan(self._previous, self.epoch)
            assert plan is not None
            self._encoded = self.epoch, plan.encode(self.fetch)
        return self._encoded[1]


class ExchangeShuffler(Shuffler):
    """Sender of the rows that workers do not send each other."""

    opens = True

    def _content(
        self, worker: int, base: int, plan: ShufflePlan | None
    ) -> tuple[Kind, int, np.ndarray, np.ndarray]:
        if plan is None:
            return super()._content(worker, base, plan)
        units = self._deal.exchanged(base, self.epoch, worker)
        content = self.fetch(units)
        here = content[~np.isin(self._deal.owners(base)[units], self._members)]
        return Kind.EXCHANGED, 0, content, here


class Shard(Recipient):
    """Rows of a worker, which change from epoch to epoch.

    Parameters
    ----------
    config : Config
    worker : int
    rows : int
        Training rows of all workers together.
    arrays : tuple of ndarray
        The worker's rows; changed in place.
    """

    def __init__(self, config: Config, worker: int, rows: int, arrays: Arrays) -> None:
        self.worker, self.deal, self.epoch = worker, deal_of(config, rows), 0
        self._packing = Packing(arrays)
        self._parts: np.ndarray | None = None  # of batches, the cached ones too
        self.lock = Lock()  # of a thread that sends rows to other workers

    @property
    def units(self) -> np.ndarray:
        """The worker's units, in the order of their numbers, uint8, shape (n, bytes)."""
        return self._packing.pack(slice(None)) if self._parts is None else self._parts

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self._packing.bytes

    def fetch(self, units: np.ndarray) -> np.ndarray:
        """Return some of the worker's units, uint8, shape (n, bytes)."""
        held = self.deal.held(self.epoch, self.worker)
        places = np.searchsorted(held, units)
        return self._packing.pack(places) if self._parts is None else self._parts[places]

    def take(self, message: np.ndarray) -> None:
        """Proceed to another epoch."""
        kind, base, epoch, _, content = read(message)
        deal, worker = self.deal, self.worker
        after = deal.held(epoch, worker)
        before = deal.held(base, worker) if base >= 0 else after[:0]
        size = deal.part_bytes(self.row_bytes) if isinstance(deal, BatchDeal) else self.row_bytes
        got = content.reshape(-1, size)
        if kind == Kind.ROWS:
            new = np.setdiff1d(after, before)
        elif kind == Kind.EXCHANGED:
            new = deal.exchanged(base, epoch, worker)
        else:
            plan = deal.plan(base, epoch)
            assert plan is not None
            new, sent = plan.received(worker), got[plan.needed(worker)] if kind == Kind.BROADCAST else got
            got = plan.decode(worker, self.fetch, sent)
        kept = np.intersect1d(before, after)
        have = self.fetch(kept) if len(kept) else got[:0]
        order = np.argsort(np.concatenate([kept, new]))
        with self.lock:
            self._set(np.concatenate([have, got])[order], epoch)

    def _set(self, units: np.ndarray, epoch: int) -> None:
        """Replace the units."""
        deal, self.epoch = self.deal, epoch
        if not isinstance(deal, BatchDeal):
            self._packing.unpack(units)
            return
        self._parts = units
        batch = deal.caches(epoch).batches[self.worker]
        mine = units[deal.held(epoch, self.worker) // deal.parts == batch].reshape(-1)
        count, size = int(np.count_nonzero(deal.start == batch)), self.row_bytes
        rows = mine[: count * size].reshape(count, size)
        # A batch has at most one row more or fewer than the first one.
        self._packing.unpack(rows[np.arange(len(self._packing.arrays[0])) % count])

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "units": self.units.copy(), "parts": self._parts is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["parts"] or self._parts is not None or not isinstance(self.deal, BatchDeal):
            self._set(state["units"].copy(), state["epoch"])


def check_rows(config: Config, source: DataSource) -> None:
    """Refuse rows that cannot move: sparse ones, too few, or batches of too many parts to be cached."""
    workers, cached = config.workers.count, config.shuffle.cache
    if cached > 1 and (parts := workers * comb(workers - 1, cached - 1)) > MOST_PARTS:
        raise InputError(
            f"shuffle.cache: {cached} of {workers} batches cuts them into {parts:.6g} parts; at most "
            f"{MOST_PARTS} are supported"
        )
    if any(isinstance(each, Csr) for each in source.dataset.train):
        raise InputError(
            f"shuffle.kind: '{config.shuffle.kind}' moves rows of one length, and those of "
            f"{config.problem.data!r} are sparse"
        )
    if source.rows < workers:
        raise InputError(
            f"shuffle.kind: '{config.shuffle.kind}' needs a row for each of {workers} workers, "
            f"and problem.data has {source.rows}"
        )
