"""`Trace`: the trace of a finished, running or killed run as numpy arrays."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..util.errors import InputError
from . import opening
from .clocks import straighten
from .schema import ATTRIBUTES, CODE, LISTS, SCHEMA, SCHEMA_VERSION, TABLES, WORKER_CLOCK, WORKERS

if TYPE_CHECKING:
    import h5py
    import pandas

COLUMNS = TABLES | {"workers": WORKERS}
KINDS = {"i": "iu", "u": "iu", "f": "f", "S": "SO", "O": "SO"}  # dtype.kind -> kinds accepted in a file


class RecordedTable(Mapping[str, np.ndarray]):
    """The columns of one table, each read on first access.

    The number of rows is fixed when the table is opened. The file is closed between accesses, and does not
    block the run that writes it.

    Attributes
    ----------
    rows : int
        Length of every column: that of the shortest, as in the file of a running or killed run some columns
        may be a batch ahead of others.
    """

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace, self._name = trace, name
        columns = COLUMNS[name]
        with trace._open() as file:
            found = _columns(file[name])
        for key in columns.keys() - found.keys():
            if columns[key].default is None and not key.startswith("end_"):
                raise InputError(f"{trace.path}: damaged: {name} has no column {key}")
        for key, (shape, dtype) in found.items():
            kind = np.dtype(columns[key].dtype).kind if key in columns else dtype.kind
            if len(shape) != 1 or dtype.kind not in KINDS.get(kind, kind):
                raise InputError(f"{trace.path}: damaged: column {key} of {name} is {dtype} {shape}")
        self.rows = min((shape[0] for shape, _ in found.values()), default=0)
        added = {
            key: column for key, column in columns.items() if key not in found and column.default is not None
        }
        self._keys = (*found, *added)
        self._columns = {
            key: np.full(self.rows, column.default, column.dtype) for key, column in added.items()
        }

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._columns:
            if key not in self._keys:
                raise KeyError(key)
            self._columns[key] = self._trace._read(self._name, key, self.rows)
        return self._columns[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<{self._name}: {self.rows} rows of {', '.join(self._keys)}>"


class Trace:
    """The trace of a run.

    Parameters
    ----------
    path : str or Path
        HDF5 file that `pdcode run` wrote or is writing.
    correct_clocks : bool
        Whether to correct for the drift of the workers' clocks, see Notes.

    Attributes
    ----------
    arrivals, updates, progress, workers, faults : RecordedTable
        Column -> array; `pdcode.trace.schema` describes the columns.
    attributes : dict
        Root attributes: created, creator, hostnames, seed, parameters, gradient_bytes, and others.
    config : dict
        The resolved configuration, with all defaults.
    config_text : str
        The user's TOML file.
    code : dict
        Number of blocks k -> code matrix, float64 (n, k).
    code_attributes : dict
        Number of blocks k -> family, weight, coherence, seed, rotate.
    finished : bool
        Whether the run has ended; False for running and killed runs.
    theta : ndarray or None
        Final parameters of a finished run.
    counters : dict
        Totals counted by rank 0, of a finished run.

    Raises
    ------
    InputError
        If the file is missing, is not a trace, or has a newer schema version than this library.

    Notes
    -----
    A worker's times are moved to rank 0's clock by an offset measured at the start. If the offset was
    measured at the end too, they are corrected for a constant drift: `pdcode.trace.clocks`.

    Everything is read on first access and kept; open a new `Trace` to see newer rows.
    """

    def __init__(self, path: str | os.PathLike[str], correct_clocks: bool = True) -> None:
        self.path = Path(path)
        self._correct = correct_clocks
        with opening.open_for_reading(self.path) as file:
            self.attributes = _attributes(file)
        if self.attributes.get("schema") != SCHEMA:
            raise InputError(f"{self.path}: not a pdcode trace")
        self._check("attribute", self.attributes, ATTRIBUTES)
        lists = [self.attributes.get(key, []) for key in LISTS]
        if not all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists) or not all(
            isinstance(value, int) for each in lists for value in each
        ):
            raise InputError(f"{self.path}: damaged: {', '.join(LISTS)} are {lists}")
        if not 0 <= (workers := self.attributes.get("workers", 0)) < 2**31:
            raise InputError(f"{self.path}: damaged: attribute workers is {workers}")
        if (version := self.attributes.get("schema_version", 0)) > SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: trace of schema version {version}; this pdcode reads up to {SCHEMA_VERSION}"
            )

    def __repr__(self) -> str:
        return f"Trace({str(self.path)!r}): {'finished' if self.finished else 'not finished'}"

    @property
    def finished(self) -> bool:
        return bool(self.attributes.get("finished", False))

    @property
    def config_text(self) -> str:
        return str(self.attributes.get("config", ""))

    @cached_property
    def config(self) -> dict[str, Any]:
        resolved = self.attributes.get("config_resolved")
        try:
            return dict(json.loads(resolved) if resolved else tomllib.loads(self.config_text))
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: damaged: config_resolved: {error}") from None

    @cached_property
    def arrivals(self) -> RecordedTable:
        return RecordedTable(self, "arrivals")

    @cached_property
    def updates(self) -> RecordedTable:
        return RecordedTable(self, "updates")

    @cached_property
    def progress(self) -> RecordedTable:
        return RecordedTable(self, "progress")

    @cached_property
    def workers(self) -> RecordedTable:
        return RecordedTable(self, "workers")

    @cached_property
    def faults(self) -> RecordedTable:
        return RecordedTable(self, "faults")

    @cached_property
    def code(self) -> dict[int, np.ndarray]:
        with self._open() as file:
            return {k: group["matrix"][:] for k, group in code_groups(file)}

    @cached_property
    def code_attributes(self) -> dict[int, dict[str, Any]]:
        with self._open() as file:
            found = {k: _attributes(group) for k, group in code_groups(file)}
        for k, attributes in found.items():
            self._check(f"attribute of the code of {k} blocks", dict.fromkeys(CODE) | attributes, CODE)
        return found

    @cached_property
    def checkpoint(self) -> dict[str, np.ndarray]:
        """Final θ and arrays of the optimizer, by name; empty if the run has not ended."""
        with self._open() as file:
            group = file.get("checkpoint", {})
            if group and len(_columns(group)) < len(group):
                raise ValueError("checkpoint holds something that is no array")
            return {name: group[name][()] for name in group}

    @property
    def theta(self) -> np.ndarray | None:
        return self.checkpoint.get("theta")

    @cached_property
    def counters(self) -> dict[str, Any]:
        with self._open() as file:
            counters = _attributes(file["checkpoint"]) if "checkpoint" in file else {}
        self._check("counter", counters, dict.fromkeys(counters, (int, float)))
        return counters

    def _check(self, what: str, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
        """Refuse values of unexpected types."""
        for key in values.keys() & kinds.keys():
            if not isinstance(values[key], kinds[key]):
                raise InputError(f"{self.path}: damaged: {what} {key} is {values[key]!r}")

    def to_pandas(self, table: str) -> pandas.DataFrame:
        """Return one table as a pandas DataFrame.

        Parameters
        ----------
        table : {"arrivals", "updates", "progress", "workers", "faults"}

        Raises
        ------
        InputError
            If there is no such table, or pandas is not installed.
        """
        if table not in COLUMNS:
            raise InputError(f"table {table!r}: not one of {', '.join(COLUMNS)}")
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise InputError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(dict(getattr(self, table)))

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the file of this trace, also if a new run has renamed it."""
        for path in filter(Path.is_file, (self.path, opening.previous(self.path))):
            with opening.open_for_reading(path) as file:
                if file.attrs.get("run") == self.attributes.get("run"):
                    yield file
                    return
        raise InputError(f"{self.path}: the file was replaced or deleted; open the trace again")

    def _read(self, table: str, key: str, rows: int) -> np.ndarray:
        """Read the first `rows` rows of a column."""
        with self._open() as file:
            column = file[table][key][:rows]
        if column.dtype.kind in "SO":  # text: bytes in the file
            return np.array([text.decode(errors="replace") for text in column], dtype=np.str_)
        if table == "arrivals" and key in WORKER_CLOCK and self._correct and rows:
            last = int(self.arrivals["t_recv_ns"].max())
            return straighten(column, self.arrivals["worker"], self.workers, last)
        return column


def _columns(group: h5py.Group) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the shape and type of each dataset of a group."""
    import h5py

    if not isinstance(group, h5py.Group):
        raise ValueError(f"{group.name} is not a group")
    datasets = {key: data for key in group if isinstance(data := group[key], h5py.Dataset)}
    return {key: (data.shape or (), data.dtype) for key, data in datasets.items()}


def code_groups(file: h5py.File) -> list[tuple[int, h5py.Group]]:
    """Return the numbers of blocks k and groups of ``/code``, by ascending k."""
    import h5py

    groups = file.get("code")
    if not isinstance(groups, h5py.Group) or not all(isinstance(groups[k], h5py.Group) for k in groups):
        raise ValueError("its codes are no groups")
    return sorted((int(k), groups[k]) for k in groups)


def _attributes(place: h5py.HLObject) -> dict[str, Any]:
    """Return the attributes of a group or file as Python types."""
    return {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in place.attrs.items()
    }
