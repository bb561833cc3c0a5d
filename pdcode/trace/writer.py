"""Writing of trace files."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..kernels import headers, records
from ..util.errors import Failure, InputError
from . import contents, disk, header, lock, opening
from .recorder import Recorder
from .rows import TableWriter
from .schema import OPTIONAL, TABLES


class ResumePoint(NamedTuple):
    """Point at which a trace continues: a checkpoint, or a change of the preset."""

    rows: dict[str, int]  # rows of each table until then; later ones are lost; {}: a new trace
    t_ns: int  # time of the run
    version: int  # version of θ
    preset: bool = False  # whether the run goes on with another preset


class TraceWriter(Recorder):
    """Writer of a run's trace.

    During the run the file is in HDF5's SWMR mode (single writer, multiple readers): other processes can read
    it, and after a kill it has all rows up to the last flush. All groups, datasets and attributes are created
    first, because SWMR mode allows no new ones. A full batch is written at once.

    Parameters
    ----------
    path : str or Path
        The file. An existing file is first renamed to ``<stem>.previous.h5``; folders are created.
    metadata : dict
        Root attributes; None are left out. Three keys are special: ``config``, the resolved
        configuration (struct, dict or JSON text), becomes the attribute ``config_resolved``; ``environment``,
        a dict, becomes the attributes of ``/environment``; ``data`` becomes the group of this name.
    workers : sequence of dict
        One per rank: rank, host, clock_offset_ns, clock_error_ns and, if known, t_ns of the measurement.
    flush_s : float
        Time in s after which rows are on disk, if the caller calls `flush` when it is `due`.
    arrivals : {"all", "sampled", "none"}
        Which arrivals are recorded; sampled: every `sample`-th task of each worker.
    resumed : ResumePoint, optional
        Where to continue an existing trace, which this one replaces.
    tables : sequence of {"phases", "shuffles", "evaluations"}
        Tables besides those of every trace.

    Attributes
    ----------
    renamed : str
        Notice for the user that an existing trace was renamed; empty if there was none.
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
        resumed: ResumePoint | None = None,
        tables: Sequence[str] = (),
    ) -> None:
        self.path, self.config_text = Path(path), config_text
        self._flush_ns = int(flush_s * 0.9e9)  # slightly early, so that no row waits longer than flush_s
        self._due = self._flush_ns
        self._measured_ns = 0  # time of the run at the last measurement
        every = {"all": 1, "sampled": sample, "none": 0}[arrivals]
        recording = {"flush_s": flush_s, "arrivals": arrivals, "sample": max(1, every)}
        self._unlock = opening.reserve(self.path).attach(self)
        before: dict[str, EarlierRows] = {}
        if resumed is not None and resumed.rows:
            before = read_earlier_rows(self.path, resumed.rows)
        self.renamed = "" if before else opening.rename_notice(self.path)
        new = self.path.with_name(f"{self.path.name}.new")  # renamed once it is complete
        self._file = file = opening.create_file(new)
        self._guard = disk.SpaceGuard(self.path, file)
        self._identity = os.fstat(file.id.get_vfd_handle())
        codes = list(codes)
        arrays = [array for code in codes for array in header.code_arrays(code).values()]
        arrays += [value for value in metadata.get("data", {}).values() if isinstance(value, np.ndarray)]
        with self._deleted_on_failure(new):
            with self._guard.writing(bytes_needed(arrays, len(workers))):
                header.write_header(file, config_text, {**metadata, **recording}, workers, codes)
                left_out = {*OPTIONAL} - {*tables, *before}
                self._tables = {
                    name: TableWriter(file, name, columns, self._guard)
                    for name, columns in TABLES.items()
                    if name not in left_out
                }
                file.swmr_mode = True
            for table, earlier in before.items():
                self.extend(table, earlier.rows, earlier.columns)
            arrived = before.get("arrivals", EarlierRows(0, 0, {}))
            t_ns, version, preset = (0, 0, False) if resumed is None else resumed[1:]
            begun = t_ns, version, arrived.rows, arrived.lost, time.time_ns(), preset
            self._tables["segments"].append(*begun)
            self._guard.note = self._note
            self.flush(0)
            if not before:
                opening.rename_to_previous(self.path)
            os.replace(new, self.path)
        self._arrivals, self._updates = self._tables["arrivals"], self._tables["updates"]
        self._every = every

    @property
    def batches(self) -> tuple[records.Batch | None, records.Batch | None]:
        return (self._arrivals if self._every == 1 else None), self._updates

    def arrival(self, *values: float) -> None:
        """Record a row of arrivals, or drop it if only others are sampled."""
        if self._records(values[0], values[1]):
            self._arrivals.append(*values)

    def _records(self, worker: float, task: float) -> bool:
        """Return whether to record an arrival; every `sample`-th task of each worker is."""
        every = self._every
        return every == 1 or (every > 1 and task % every == worker % every)

    def arrived(self, reply: headers.Received, *given: float) -> None:
        if self._records(reply.worker, reply.task):
            self._arrivals.put(reply, *given)

    def update(self, *values: float) -> None:
        self._updates.append(*values)

    def progress(self, *values: float) -> None:
        self._tables["progress"].append(*values)
        self._measured_ns = int(values[1])

    def pause(self, begin_ns: int, end_ns: int, what: int) -> None:
        if end_ns > begin_ns:  # not on the virtual clock
            self._tables["pauses"].append(begin_ns, end_ns - begin_ns, what)

    def shuffle(self, *values: int) -> None:
        self._tables["shuffles"].append(*values)

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Record a fault, and flush."""
        self._append_fault(t_ns, worker, task, kind, message)
        self.flush(t_ns)

    def _append_fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        self._tables["faults"].append(t_ns, worker, task, kind.encode()[:32], message.encode()[:256])

    def _note(self, failure: Failure) -> None:
        """Record why nothing can be written any more."""
        reason = str(failure).removeprefix(f"{self.path}: ")
        self._append_fault(self._measured_ns, -1, -1, "stop", reason)
        self._tables["faults"].write()

    def extend(self, table: str, count: int, columns: Mapping[str, Any]) -> None:
        """Add `count` rows to a table, without sampling.

        A column is an array (count,), or a number that is the same in all rows. Columns with a default may be
        missing.
        """
        self._tables[table].extend(count, columns)

    def fill(self) -> None:
        self._guard.full = True

    def due(self, now_ns: int) -> bool:
        return now_ns >= self._due

    def flush(self, now_ns: int) -> None:
        """Write all rows to disk, in about 1 ms."""
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
        """Write the results of a finished run, and close the trace; on a full disk it remains unfinished.

        ``/checkpoint`` gets θ, the other arrays of `state`, and as attributes rank 0's `counters`: arrivals,
        bytes of all messages, times ``spent_<name>_ns`` and others. `end_offsets` are as `workers`, after the
        run.
        """
        results = {"theta": theta, **(state or {})}
        arrays = {name: np.asarray(value) for name, value in results.items() if value is not None}
        size = bytes_needed(arrays.values(), len(end_offsets or ()))
        self.flush(self._due)
        with self._guard.writing(size):
            pass  # reserved for what follows
        path, end = self._current_path(), self._file.id.get_filesize() + size + disk.SLACK
        self._file.close()  # HDF5 cannot leave SWMR mode in an open file
        with opening.open_for_additions(path, end) as file:
            header.write_checkpoint(file, arrays, counters or {})
            if end_offsets:
                header.write_end_offsets(file["workers"], end_offsets)
            file.attrs.modify("finished", np.True_)
        self._identity = path.stat()
        self._unlock()

    def interrupt(self) -> dict[str, int]:
        """Close the file of a run that a further writer will continue; return the number of its rows."""
        self.flush(self._due)
        counts = self.counts
        self._file.close()
        lock.acquire(self.path)  # for the further writer
        self._unlock()
        return counts

    def add_counters(self, counters: Mapping[str, float]) -> None:
        """Add totals to a closed trace; a `Failure` if another run writes a trace of this name."""
        try:
            unlock = lock.acquire(self.path).attach(self)
        except InputError as error:
            raise Failure(f"{self.path}: {', '.join(counters)} cannot be added: {error}") from None
        try:
            path = self._current_path()
            with opening.open_for_additions(path, path.stat().st_size + disk.SLACK) as file:
                file["checkpoint"].attrs.update(counters)
            self._identity = path.stat()
        finally:
            unlock()

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each table on disk, after `flush`."""
        return {name: rows.written for name, rows in self._tables.items()}

    @contextmanager
    def _deleted_on_failure(self, place: Path) -> Iterator[None]:
        """Delete the file if the block, which writes its beginning, fails."""
        try:
            yield
        except BaseException:  # Ctrl-C, too
            if not self._guard.torn:
                self._file.close()
            place.unlink()
            self._unlock()
            raise

    def _current_path(self) -> Path:
        """Return the path of the file, which a later run may have renamed."""
        for path in (self.path, opening.previous(self.path)):
            if path.exists() and os.path.samestat(path.stat(), self._identity):
                return path
        raise Failure(f"{self.path}: the trace was moved or deleted while it was written")


def bytes_needed(arrays: Iterable[np.ndarray], ranks: int) -> int:
    """Return the bytes that arrays, and a row with attributes per rank, need in a file."""
    return sum(array.nbytes for array in arrays) + 256 * ranks


class EarlierRows(NamedTuple):
    """A table's rows until a checkpoint: their number, the number of lost rows after it, and columns."""

    rows: int
    lost: int
    columns: dict[str, np.ndarray]


def read_earlier_rows(path: Path, rows: Mapping[str, int]) -> dict[str, EarlierRows]:
    """Read the first rows of a trace's tables; refuse a trace that has fewer."""
    earlier, where = {}, str(path)
    with opening.open_for_reading(path) as file:
        for name, count in rows.items():
            if name not in TABLES:
                raise InputError(f"{where}: {name} is not a table of a trace")
            group = contents.group(file, name, where)
            present = [key for key in TABLES[name] if key in contents.names(group, where)]
            for key in TABLES[name].keys() - {*present}:
                if TABLES[name][key].default is None:
                    raise contents.damaged(where, f"{name} has no column {key}")
            data = {key: contents.dataset(group, key, where, f"column {key} of {name}") for key in present}
            length = min((each.shape[0] if each.ndim == 1 else -1 for each in data.values()), default=0)
            if length < 0:
                raise contents.damaged(where, f"a column of {name} is not one")
            if length < count:
                raise InputError(f"{where}: {name} has {length} rows, and had {count} at the checkpoint")
            columns = {key: contents.array(each, where, slice(count)) for key, each in data.items()}
            earlier[name] = EarlierRows(count, length - count, columns)
    return earlier
