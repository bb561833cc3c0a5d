"""Writing of trace files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..kernels import intake
from ..util.errors import Failure, InputError
from . import contents, header, lock, opening, room
from .recorder import Recorder
from .rows import Rows
from .schema import TABLES


class Continued(NamedTuple):
    """What a trace goes on with.

    Attributes
    ----------
    rows : dict of str to int
        Rows of each table that stay, later ones being lost; empty for a new trace.
    t_ns, version : int
        Time of the run and version of θ at which it goes on.
    """

    rows: dict[str, int]
    t_ns: int
    version: int


class TraceWriter(Recorder):
    """Writer of a run's trace.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is first renamed to ``<stem>.previous.h5``; folders are created.
    config_text : str
        The user's TOML file, stored verbatim.
    codes : iterable of Code
        The codes of the run: one group ``/code/<k>`` for each number of blocks k.
    metadata : dict
        Root attributes: seed, parameters, gradient_bytes, payload_bytes, header_bytes, git_commit,
        mpi_library, … . Two keys are special: ``config``, the resolved configuration (struct, dict or JSON
        text), becomes the attribute ``config_resolved``; ``environment``, a dict, becomes the attributes of
        ``/environment``. ``None`` values are left out.
    workers : sequence of dict
        One entry per rank: rank, host, clock_offset_ns, clock_error_ns and, if known, t_ns, the time of
        measurement.
    flush_s : float
        Time in s after which rows are on disk, if `flush` is called when it is `due`.
    arrivals : {"all", "sampled", "none"}
        Which arrivals to record; sampled: every `sample`-th task of each worker.
    continued : Continued, optional
        Rows of the trace that is there, with which this one begins and which it replaces.

    Attributes
    ----------
    renamed : str
        What became of a trace that was there, for the user; else empty.

    Raises
    ------
    InputError
        If the file cannot be created, or another run writes it.

    Notes
    -----
    During the run the file is in HDF5's SWMR mode (single writer, multiple readers): other processes can read
    it, and after a kill it holds everything up to the last flush. All groups, datasets and attributes are
    created first, because SWMR mode allows no new ones. A full batch is written at once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config_text: str,
        codes: Iterable[header.CodeLike],
        metadata: Mapping[str, Any],
        workers: Sequence[Mapping[str, Any]],
        flush_s: float = 1.0,
        arrivals: str = "all",
        sample: int = 100,
        continued: Continued | None = None,
    ) -> None:
        self.path = Path(path)
        self._flush_ns = int(flush_s * 0.9e9)  # slightly early, so that older rows are certainly on disk
        self._due = self._flush_ns
        kept = {"flush_s": flush_s, "arrivals": arrivals, "sample": sample if arrivals == "sampled" else 1}
        self._unlock = opening.reserve(self.path).use(self)
        before: dict[str, First] = {}
        if continued is not None and continued.rows:
            before = rows_of(self.path, continued.rows)
        self.renamed = "" if before else opening.renaming(self.path)
        new = self.path.with_name(f"{self.path.name}.new")  # it takes its name once it is whole
        self._file = file = opening.create_file(new)
        self._guard = room.Guard(self.path, file)
        self._identity = os.fstat(file.id.get_vfd_handle())
        codes = list(codes)
        arrays = [array for code in codes for array in (code.matrix, code.indices, code.values)]
        with self._begun(new):
            with self._guard.writing(needed(arrays, len(workers))):
                header.write_header(file, config_text, {**metadata, **kept}, workers, codes)
                self._tables = {
                    name: Rows(file, name, columns, self._guard) for name, columns in TABLES.items()
                }
                file.swmr_mode = True
            for table, first in before.items():
                self.extend(table, first.rows, first.arrays)
            own = before.get("arrivals", First(0, 0, {}))
            t_ns, version = (0, 0) if continued is None else continued[1:]
            self._tables["segments"].append(t_ns, version, own.rows, own.later, time.time_ns())
            self.flush(0)
            if not before:
                opening.keep(self.path)
            os.replace(new, self.path)
        self._arrivals, self._updates = self._tables["arrivals"], self._tables["updates"]
        self._every = {"all": 1, "sampled": sample, "none": 0}[arrivals]

    @property
    def batches(self) -> tuple[intake.Batch | None, intake.Batch | None]:
        return (self._arrivals if self._every == 1 else None), self._updates

    def arrival(self, *values: float) -> None:
        """Record a row of arrivals; samples count each worker's own tasks, so that no worker is favoured."""
        worker, task, every = values[0], values[1], self._every
        if every == 1 or (every and task % every == worker % every):
            self._tables["arrivals"].append(*values)

    def arrived(
        self,
        reply: intake.Received,
        applied: int,
        staleness: int,
        t_dispatch_ns: int,
        t_decoded_ns: int,
        captured: float,
        status: int,
    ) -> None:
        every = self._every
        if every == 1 or (every and reply.task % every == reply.worker % every):
            self._arrivals.put(reply, applied, staleness, t_dispatch_ns, t_decoded_ns, captured, status)

    def update(self, *values: float) -> None:
        self._updates.append(*values)

    def progress(self, *values: float) -> None:
        self._tables["progress"].append(*values)

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Record a fault, and write it to disk at once."""
        self._tables["faults"].append(t_ns, worker, task, kind.encode()[:32], message.encode()[:256])
        self.flush(t_ns)

    def extend(self, table: str, count: int, columns: Mapping[str, Any]) -> None:
        """Add many rows at a time, without sampling.

        Parameters
        ----------
        table : {"arrivals", "updates", "progress"}
            Name of the table.
        count : int
            Number of rows.
        columns : dict
            Column -> array (count,), or a number that is the same in all rows. Columns with a default may be
            missing.
        """
        self._tables[table].extend(count, columns)

    def fill(self) -> None:
        self._guard.full = True

    def due(self, now_ns: int) -> bool:
        """Return whether it is time to `flush`."""
        return now_ns >= self._due

    def flush(self, now_ns: int) -> None:
        """Write all rows to disk (about 1 ms); `now_ns` is the time since the run's start."""
        tables = self._tables.values()
        with self._guard.writing(sum(rows.needed() for rows in tables)):
            for rows in tables:
                rows.write()
        self._due = now_ns + self._flush_ns

    def close(
        self,
        theta: np.ndarray | None = None,
        state: Mapping[str, Any] | None = None,
        end_offsets: Sequence[Mapping[str, Any]] | None = None,
        counters: Mapping[str, float] | None = None,
    ) -> None:
        """Write the results of a finished run, and close the trace.

        Parameters
        ----------
        theta : (N,) array, optional
            Final parameters: ``/checkpoint/theta``.
        state : dict of arrays or numbers, optional
            Optimizer state: ``/checkpoint/<name>``.
        end_offsets : sequence of dict, optional
            Clock offsets at the end: rank, clock_offset_ns, clock_error_ns and, if known, t_ns.
        counters : dict of numbers, optional
            Totals counted by rank 0, stored as attributes of ``/checkpoint``: such as arrivals, bytes_up and
            bytes_down (all messages, set-up included), and times spent by rank 0, ``spent_<name>_ns``.

        Raises
        ------
        Failure
            If the disk is full; the trace then counts as unfinished.
        """
        self.flush(self._due)
        home = self._home()
        self._guard.close()  # HDF5 cannot leave SWMR mode in an open file
        kept = {"theta": theta, **(state or {})}
        arrays = {name: np.asarray(value) for name, value in kept.items() if value is not None}
        with opening.amended(home, needed(arrays.values(), len(end_offsets or ()))) as file:
            header.write_checkpoint(file, arrays, counters or {})
            if end_offsets:
                header.write_end_offsets(file["workers"], end_offsets)
            file.attrs.modify("finished", np.True_)
        self._identity = home.stat()
        self._unlock()

    def count(self, counters: Mapping[str, float]) -> None:
        """Add totals to a closed trace.

        Raises
        ------
        Failure
            If the totals cannot be written, or another run writes a trace of this name.
        """
        try:
            unlock = lock.take(self.path).use(self)
        except InputError as error:
            raise Failure(f"{self.path}: {', '.join(counters)} cannot be added: {error}") from None
        try:
            home = self._home()
            with opening.amended(home, 0) as file:
                file["checkpoint"].attrs.update(counters)
            self._identity = home.stat()
        finally:
            unlock()

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each table on disk, after `flush`."""
        return {name: rows.written for name, rows in self._tables.items()}

    @contextmanager
    def _begun(self, place: Path) -> Iterator[None]:
        """Delete the file if the block, which writes its beginning, fails."""
        try:
            yield
        except BaseException:  # Ctrl-C, too
            if not self._guard.torn:
                self._file.close()
            place.unlink()
            self._unlock()
            raise

    def _home(self) -> Path:
        """Return the file's current path: a later run may have renamed it."""
        for path in (self.path, opening.previous(self.path)):
            if path.exists() and os.path.samestat(path.stat(), self._identity):
                return path
        raise Failure(f"{self.path}: the trace was moved or deleted while it was written")


def needed(arrays: Iterable[np.ndarray], ranks: int) -> int:
    """Return the bytes needed for arrays, a row per rank, and attributes."""
    return sum(array.nbytes for array in arrays) + 256 * ranks


class First(NamedTuple):
    """The first rows of a table: their number, that of the later ones, and their columns."""

    rows: int
    later: int
    arrays: dict[str, np.ndarray]


def rows_of(path: Path, rows: Mapping[str, int]) -> dict[str, First]:
    """Read the first rows of a trace's tables.

    Raises
    ------
    InputError
        If the trace has fewer, or is damaged.
    """
    found, where = {}, str(path)
    with opening.open_for_reading(path) as file:
        for name, count in rows.items():
            if name not in TABLES:
                raise InputError(f"{where}: {name} is not a table of a trace")
            group = contents.group(file, name, where)
            present = [key for key in TABLES[name] if key in contents.names(group, where)]
            columns = {key: contents.dataset(group, key, where, f"column {key} of {name}") for key in present}
            there = min((each.shape[0] for each in columns.values()), default=0)
            if there < count:
                raise InputError(f"{where}: {name} has {there} rows, and had {count} at the checkpoint")
            arrays = {key: contents.array(each, where, count) for key, each in columns.items()}
            found[name] = First(count, there - count, arrays)
    return found
