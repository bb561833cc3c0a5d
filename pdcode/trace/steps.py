"""Writing of traces of jobs that are not pdcode's: steps of ranks, each with its work and its waiting."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..util.errors import Failure, InputError
from ..util.output import print_error
from .writer import TraceWriter

NEVER = 1 << 62  # ns
CLOSE_S = 10.0  # for which rank 0 waits for others at the end, by default
ROWS, END = b"r", b"e"  # first bytes of messages: rows follow, or the error by which a rank ends
HELD = 8  # steps that are not written before it is known which belong to the start
PHASES = "loading_ns", "forward_ns", "backward_ns"
"""Columns of a trace's table of phases; they are parts of the own work of a step."""
SEEN = 64  # steps by which that is judged, at most
LONG = 2  # usual times by which all ranks exceed theirs in a step of the start


class StepWriter:
    """Writer of a trace of steps at whose end ranks wait for each other; worker i is rank i.

    A rank's work is the time from `t_start_ns` to `t_send_ns`; until `t_recv_ns` the operation takes that all
    ranks wait for, and from then to the next task the rank waits for others. First steps that take all ranks
    longer than later ones, as they compile or fill caches, are not written: they are a part of the start.

    Parameters
    ----------
    path : str or Path
        The file, see `TraceWriter`.
    recorder : str
        What has recorded the job.
    workers : sequence of dict
        One per rank: host and, if its clock is not rank 0's, clock_offset_ns and clock_error_ns.
    attributes : dict
        Other root attributes that are known.
    reduction : {"allreduce", "star"}
        With "star" each rank has a link of its own, from `t_send_ns` to `t_recv_ns`.

    Attributes
    ----------
    peers : list of set of int
        For which ranks each one may wait; empty: each for all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        recorder: str,
        workers: Sequence[Mapping[str, Any]],
        attributes: Mapping[str, Any],
        reduction: str = "allreduce",
    ) -> None:
        self.peers = list[set[int]]()
        self.steps, self._end_ns, self._own = 0, 0, reduction == "star"
        self._held: np.ndarray | None = np.empty((0, len(workers), 3), np.int64)  # until there are `HELD`
        self._tasks = np.zeros(len(workers), np.int64)  # of each rank, where these are counted one by one
        config = {"reduce": {"kind": reduction}, "workers": {"count": len(workers)}}  # others are unknown
        known = {"parameters": 0, "gradient_bytes": 0, "payload_bytes": 0, **attributes}
        metadata = {
            "config": config, "recorder": recorder, "seed": 0, "workers": len(workers), "header_bytes": 0,
            **known,
        }  # fmt: skip
        clocks = {"clock_offset_ns": 0, "clock_error_ns": 0}
        members = [{"rank": 1 + rank, **clocks, **each} for rank, each in enumerate(workers)]
        self._size = int(known["payload_bytes"])
        self._trace = TraceWriter(path, "", [], metadata, members, tables=["phases"])
        self.notice = self._trace.renamed

    def write(self, times_ns: np.ndarray) -> None:
        """Write steps.

        Parameters
        ----------
        times_ns : array_like of int64, shape (steps, n, 3) or (steps, n, 6)
            When each rank began the step, was ready to wait for others, and went on, on rank 0's clock; and,
            if they are known, the durations of `PHASES`. A rank without a row has -1 everywhere.
        """
        times = np.asarray(times_ns, np.int64)
        if self._held is not None:
            self._held = np.concatenate((self._held, times)) if len(self._held) else times
            if len(self._held) >= HELD:
                self._begin()
        else:
            self._write(times)

    def _begin(self) -> None:
        """Write the steps that were held, without those of the start."""
        held, self._held = self._held, None
        if held is not None and len(held):
            self.steps = steps_of_start(held)
            self._write(held[self.steps :])

    def write_tasks(self, rank: np.ndarray, times_ns: np.ndarray) -> None:
        """Write tasks of ranks that do not wait for each other, as the workers of a manager; each is a step.

        Parameters
        ----------
        rank : ndarray of int64, shape (tasks,)
        times_ns : ndarray of int64, shape (tasks, 3)
            As of `write`; until it goes on, a rank waits for its next task.
        """
        self._held = None
        times = np.full((len(rank), len(self._tasks), 3), -1, np.int64)
        times[np.arange(len(rank)), rank] = times_ns[:, [0, 1, 1]]
        self._write(times, alone=True)

    def _write(self, times: np.ndarray, alone: bool = False) -> None:
        there = (times != -1).any(axis=2)
        taken = there.any(axis=1)  # steps with a row
        start, ready, end = np.moveaxis(times[:, :, :3], 2, 0)
        # The last to be ready waits for none: the least time from ready to the end is the operation's.
        least = np.where(there, end - ready, NEVER).min(axis=1, initial=NEVER)
        received = end if self._own else np.maximum(0, ready + np.maximum(0, least)[:, None])
        step, rank = np.nonzero(there)
        number = self.steps + step
        task = (self._tasks + np.cumsum(there, axis=0) - 1)[there] if alone else number
        self._tasks += there.sum(axis=0)
        self._trace.extend(
            "arrivals",
            len(step),
            {
                **dict.fromkeys(("code_row", "staleness", "injected_delay_ns", "status"), 0),
                **dict.fromkeys(("version", "applied_version"), number),
                "task": task,
                **dict.fromkeys(("bytes_up", "bytes_down"), self._size),
                **dict.fromkeys(("t_compute_ns", "t_send_ns"), ready[there]),
                **dict.fromkeys(("t_recv_ns", "t_decoded_ns"), received[there]),
                "worker": rank,
                "t_dispatch_ns": np.maximum(0, start[there]),
                "t_start_ns": start[there],
                "captured": 1.0,
                "loss": np.nan,
            },
        )
        if times.shape[2] > 3:
            own = dict(zip(PHASES, times[there][:, 3:].T, strict=True))
            self._trace.extend("phases", len(step), {"worker": rank, "task": task, **own})
        over = np.where(there, np.maximum(end, received), 0).max(axis=1, initial=self._end_ns)[taken]
        over = np.maximum.accumulate(over)
        late, waited_ns = self._late(
            np.where(there, ready - start, -1)[taken], np.where(there, end - ready, 0)[taken]
        )
        self._trace.extend(
            "updates",
            len(over),
            {
                "version": self.steps + 1 + np.flatnonzero(taken),
                "t_ns": over,
                "n_used": there[taken].sum(axis=1),
                "captured": 1.0,
                "step_norm": 0.0,
                "waited_for": late,
                "waited_ns": waited_ns,
            },
        )
        self._end_ns = int(over[-1]) if len(over) else self._end_ns
        self.steps += len(times)
        if self._trace.due(self._end_ns):
            self._trace.flush(self._end_ns)

    def _late(self, work: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for which rank others waited the longest in each step, and for how long one did.

        A rank waits for another one while that works longer, and not while that itself waits. `work` is each
        rank's own, of its own clock, -1 without a row, and `within` its time in calls, of shape (steps, n).
        """
        if not self.peers:
            longest = np.sort(work, axis=1)[:, -2:]
            return work.argmax(axis=1), np.where(longest[:, 0] < 0, 0, longest[:, -1] - longest[:, 0])
        summed, most = np.zeros_like(work), np.zeros_like(work)
        for rank, peers in enumerate(self.peers):
            for peer in peers:
                waits = np.clip(work[:, peer] - work[:, rank], 0, within[:, rank]) * (work[:, rank] >= 0)
                summed[:, peer] += waits
                most[:, peer] = np.maximum(most[:, peer], waits)
        late = summed.argmax(axis=1)
        waited_ns = np.take_along_axis(most, late[:, None], axis=1)[:, 0]
        return np.where(waited_ns > 0, late, -1), waited_ns

    def fault(self, worker: int, kind: str, message: str, t_ns: int | None = None) -> None:
        """Record a fault: a "missing" or "dead" worker, or an "exception" by which the job failed."""
        self._trace.fault(self._end_ns if t_ns is None else t_ns, worker, -1, kind, message)

    def close(self, end_offsets: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Complete the trace; `end_offsets` are the clocks of all ranks at the end, see `TraceWriter`."""
        self._begin()
        self._trace.close(end_offsets=end_offsets, counters={"t_stop_ns": self._end_ns})


def steps_of_start(times_ns: np.ndarray) -> int:
    """Return how many first steps of `StepWriter.write` take all ranks much longer than later steps."""
    times_ns = times_ns[:SEEN]
    work_ns = np.where((times_ns == -1).all(axis=2), np.nan, times_ns[:, :, 1] - times_ns[:, :, 0])
    first = 0
    while first + 3 < len(work_ns) and np.isfinite(work_ns[first:]).any(axis=0).sum() > 1:
        there = np.isfinite(work_ns[first + 1 :]).any(axis=0)
        if not there.any():
            break
        usual_ns = np.nanmedian(work_ns[first + 1 :, there], axis=0)
        excess_ns = work_ns[first, there] - usual_ns
        if not np.nanmin(np.append(excess_ns, np.inf)) > LONG * np.median(usual_ns):
            break
        first += 1
    return first


def as_if_usual(steps_ns: np.ndarray) -> np.ndarray:
    """Return times of steps in which all ranks wait for all several times.

    A step takes the longest work of each of its parts. A rank is ready after the work that the step would
    take if the others were usual ones: in each part its own, or a usual rank's if that is more. The rank
    for which it is the most has what several late ranks take together.

    Parameters
    ----------
    steps_ns : ndarray of int64, shape (steps, n, 3 + parts)
        Times as of `StepWriter.write`, and each rank's work in each part; 0 in all: there is one part only.

    Returns
    -------
    ndarray of int64, shape (steps, n, 3)
    """
    times, parts = steps_ns[:, :, :3].copy(), steps_ns[:, :, 3:]
    chosen = (times != -1).any(axis=2).all(axis=1) & parts.any(axis=(1, 2))
    parts = parts[chosen]
    usual = np.sort(parts, axis=1)[:, (parts.shape[1] - 1) // 2]
    work = np.maximum(parts, usual[:, None]).sum(axis=2)
    most = work.argmax(axis=1)[:, None]
    np.put_along_axis(work, most, parts.max(axis=1, initial=0).sum(axis=1)[:, None], axis=1)
    times[chosen, :, 1] = np.minimum(times[chosen, :, 0] + work, times[chosen, :, 2])
    return times


class Mail(ABC):
    """Messages of a job's ranks to rank 0, for which no rank waits."""

    rank: int
    ranks: int

    @abstractmethod
    def meet(self) -> list[dict[str, Any]]:
        """Return host, clock_offset_ns and clock_error_ns of all ranks, at rank 0. Collective."""

    @abstractmethod
    def agree(self, text: str) -> str:
        """Return rank 0's text on all ranks. Collective."""

    @abstractmethod
    def clock(self, rank: int) -> dict[str, int]:
        """Compare the clocks of rank 0 and `rank`, which both call this; return the offset at rank 0.

        TimeoutError, or an error of the transport, if the other does not answer.
        """

    @abstractmethod
    def post(self, message: bytes) -> None:
        """Send rank 0 a message."""

    @abstractmethod
    def take(self, rank: int) -> bytes | None:
        """Return the next message of a rank at rank 0, or None if there is none."""


class StepRecording:
    """One rank's part of a recording: rows are brought to rank 0, which writes them. Collective.

    A row is `columns` numbers of int64; `steps_of` makes steps of them. The k-th ones of all ranks belong
    together, unless ranks are `alone`.
    """

    columns = step_columns = 3  # 6 with `PHASES`
    alone = False  # whether ranks do not wait for each other
    peers: Sequence[set[int]] = ()  # see `StepWriter`
    without: Sequence[int] = ()  # ranks that have no steps

    def __init__(self, mail: Mail, path: str, recorder: str, attributes: Mapping[str, Any]) -> None:
        self._mail, self._trace, refused = mail, None, ""
        # At rank 0: rows that are new, and steps that others lack.
        self._new = [np.empty((0, self.columns), np.int64)] * mail.ranks
        self._pending = [np.empty((0, self.step_columns), np.int64)] * mail.ranks
        self._ends = dict[int, str]()  # other ranks that have ended, with their errors
        self._lost = set[int]()  # ranks from which the transport brings no more messages, as of dead ones
        self._failed = False  # whether the trace can no longer be written
        workers = mail.meet()
        if mail.rank == 0:
            self._offsets_ns = np.array([each["clock_offset_ns"] for each in workers])
            try:
                self._trace = StepWriter(path, recorder, workers, attributes)
            except InputError as error:
                refused = str(error)
        if refused := mail.agree(refused):
            raise InputError(refused)
        self._zero_ns = time.perf_counter_ns()

    def steps_of(self, rows: Sequence[np.ndarray], last: bool) -> Sequence[np.ndarray]:
        """Return the steps of each rank (k, step_columns), by its new rows; see `times_of`.

        Rows may be the last ones. Times are on the ranks' own clocks.
        """
        return rows

    def times_of(self, steps: np.ndarray) -> np.ndarray:
        """Return the times for `StepWriter.write` of steps of all ranks (k, n, step_columns)."""
        return steps

    def exchange(self, rows: np.ndarray) -> None:
        """Send rank 0 new rows of this rank (k, columns); at rank 0, write what all ranks have sent."""
        if self._trace is None:
            if len(rows):
                self._mail.post(ROWS + np.asarray(rows, np.int64).tobytes())
            return
        self._add(0, rows)
        living = [rank for rank in range(self._mail.ranks) if rank not in self._lost]
        for rank in living[1:]:
            try:
                while message := self._mail.take(rank):
                    if message[:1] == END:
                        self._ends[rank] = message[1:].decode(errors="replace")
                    else:
                        self._add(rank, np.frombuffer(message, np.int64, offset=1))
            except RuntimeError:  # of the transport
                self._lost.add(rank)
        self._write(living)

    def _add(self, rank: int, rows: np.ndarray) -> None:
        new = np.asarray(rows, np.int64).reshape(-1, self.columns)
        self._new[rank] = np.concatenate((self._new[rank], new))

    def _write(self, living: Sequence[int] = ()) -> None:
        """Write the steps that all `living` ranks have; without any, all, where some ranks have no row."""
        assert self._trace is not None
        made = self.steps_of(self._new, not living)
        self._new = [each[:0] for each in self._new]
        behind = self._zero_ns + self._offsets_ns
        for rank, steps in enumerate(made):
            steps = np.array(steps)
            steps[:, :3] -= np.where(steps[:, :3] == -1, 0, behind[rank])
            self._pending[rank] = np.concatenate((self._pending[rank], steps))
        counts = [*map(len, self._pending)]
        if self.alone:
            tasks = np.concatenate(self._pending)
            order = np.argsort(tasks[:, 2], kind="stable")
            self._pending = [each[:0] for each in self._pending]
            with self._spared():
                self._trace.write_tasks(np.repeat(np.arange(len(counts)), counts)[order], tasks[order])
            return
        some = [counts[rank] for rank in living if rank not in self.without]
        count = min(some) if some else 0 if living else max(counts)
        steps = np.full((count, len(counts), self.step_columns), -1, np.int64)
        for rank, each in enumerate(self._pending):
            steps[: len(each[:count]), rank] = each[:count]
            self._pending[rank] = each[count:]
        self._trace.peers = [*self.peers]
        with self._spared():
            self._trace.write(self.times_of(steps))

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """Spare the job a failure of the trace, as on a full disk."""
        try:
            yield
        except Failure as error:
            if not self._failed:
                print_error(f"{error}; the recording ends, the job goes on")
            self._failed = True

    def close(self, rows: np.ndarray, error: str = "", wait_s: float = CLOSE_S) -> None:
        """Write the last rows and complete the trace; `error` is the one by which this rank ends, if any.

        Rank 0 waits up to `wait_s` for the ends of the others that the transport reaches.
        """
        if self._trace is None:
            self.exchange(rows)
            self._mail.post(END + error.encode())
            self._mail.clock(self._mail.rank)
            return
        others, until_s = set(range(1, self._mail.ranks)), time.monotonic() + wait_s
        self.exchange(rows)
        while self._ends.keys() | self._lost < others and time.monotonic() < until_s:
            time.sleep(1e-3)
            self.exchange(rows[:0])
        self._write()
        failed = [f"rank {rank}: {what}" for rank, what in sorted({0: error, **self._ends}.items()) if what]
        with self._spared():
            for rank in sorted(others - self._ends.keys()):
                self._trace.fault(rank, "missing", "it did not end its recording")
            if failed:
                self._trace.fault(-1, "exception", failed[0])
            self._trace.close(self._end_offsets())

    def _end_offsets(self) -> list[dict[str, int]] | None:
        """Compare the clocks again; None if a rank does not answer."""
        offsets = [{"rank": 1, "clock_offset_ns": 0, "clock_error_ns": 0}]
        try:
            for rank in range(1, self._mail.ranks):
                if rank not in self._ends:
                    return None
                t_ns = time.perf_counter_ns() - self._zero_ns
                offsets.append({"rank": 1 + rank, **self._mail.clock(rank), "t_ns": t_ns})
        except (TimeoutError, RuntimeError):
            return None
        return offsets
