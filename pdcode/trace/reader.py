"""`TraceReader`: the trace of a finished, running or killed run, as numpy arrays."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import legacy
from ..util.errors import InputError, expected
from . import contents, frames, opening
from .clocks import correct_drift
from .contents import damaged
from .descent import FINE, Descent, judge
from .schema import (
    ATTRIBUTES,
    CODE,
    COUNT,
    COUNTER,
    DATA,
    DIMENSIONS,
    ENDING,
    FATES,
    LAYERS,
    SCHEMA,
    SCHEMA_VERSION,
    TABLES,
    WORKER_CLOCK,
    WORKERS,
    Attribute,
    Column,
)

if TYPE_CHECKING:
    import h5py
    import pandas
    import xarray

SHORT = 1 << 16  # bytes up to which a column is read with its table
COLUMNS = TABLES | {"workers": WORKERS}
ADDED = {"segments": 1, "pauses": 0, "phases": 0, "shuffles": 0, "evaluations": 0}
"""Tables that some traces lack -> rows of 0."""
KINDS = {"i": "iu", "u": "iu", "f": "f", "S": "SO", "O": "SO"}  # dtype.kind -> kinds accepted in a file


class RecordedTable(Mapping[str, np.ndarray]):
    """The columns of one table, each checked on first access.

    The number of rows is fixed when the table is opened. Short columns are read at once, which is quicker
    than opening the file again; others on first access. The file is closed in between, so that it does not
    block the run that writes it.

    Attributes
    ----------
    rows : int
        Length of every column: the shortest one's length, as some columns of a running or killed run may be
        a batch ahead.
    first : int
        Number of earlier rows, which are not read: 0 without a `window` of the trace.
    """

    def __init__(self, trace: TraceReader, name: str) -> None:
        self._trace, self._name = trace, name
        columns, where = COLUMNS[name], str(trace.path)
        self._columns: dict[str, np.ndarray] = {}
        self._short: dict[str, np.ndarray] = {}
        self.first = 0
        with trace._open() as file:
            if name in ADDED and name not in contents.names(file, where):  # a trace of an older version
                self.rows, self._keys = ADDED[name], tuple(columns)
                self._columns = {key: np.zeros(self.rows, each.dtype) for key, each in columns.items()}
                return
            group = contents.group(file, name, where)
            present, lengths = {*contents.names(group, where)}, {}
            for key, column in columns.items():
                what = f"column {key} of {name}"
                if key not in present:
                    if column.default is None and not key.startswith("end_"):
                        raise damaged(where, f"{name} has no column {key}")
                    continue
                data = contents.dataset(group, key, where, what)
                if data.ndim != 1 or data.dtype.kind not in KINDS[np.dtype(column.dtype).kind]:
                    raise damaged(where, f"{what} is {data.dtype} {data.shape}")
                lengths[key] = len(data)
                if data.nbytes <= SHORT:
                    with suppress(InputError):  # raised again when this column is accessed
                        self._short[key] = contents.array(data, where)
            # A resumed run may have put another file in the place of the one whose attributes were read.
            complete = name == "workers" or (trace.finished and bool(file.attrs.get("finished", False)))
        self.rows, most = min(lengths.values()), max(lengths.values())
        if most > self.rows and complete:
            raise damaged(where, f"columns of {name} have {self.rows} to {most} rows")
        if trace.window and name in ("arrivals", "updates"):
            self.first, self.rows = max(0, self.rows - trace.window), min(self.rows, trace.window)
        self._columns = {
            key: np.full(self.rows, column.default, column.dtype)
            for key, column in columns.items()
            if key not in lengths and column.default is not None
        }
        self._keys = (*lengths, *self._columns)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._columns:
            if key not in self._keys:
                raise KeyError(key)
            short = self._short.pop(key, None)
            self._columns[key] = self._trace._read(
                self._name, key, slice(self.first, self.first + self.rows), short
            )
        return self._columns[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<{self._name}: {self.rows} rows of {', '.join(self._keys)}>"


def is_summed(config: Mapping[str, Any]) -> bool:
    """Return whether workers add up their payloads among themselves."""
    table = config.get("reduce") or {}
    return str(table.get("kind", "star")) != "star"


def _table_property(name: str) -> cached_property[RecordedTable]:
    return cached_property(lambda trace: RecordedTable(trace, name))


class TraceReader:
    """The trace of a run.

    Parameters
    ----------
    path : str or Path
        HDF5 file that `pdcode run` wrote or is writing.
    correct_clocks : bool
        Whether to correct for the drift of the workers' clocks, see Notes.
    window : int, optional
        Number of the last rows of arrivals and of updates to read; default: all.

    Attributes
    ----------
    arrivals, updates, progress, workers, faults, segments, pauses, phases, shuffles, evaluations
        `RecordedTable`, column -> array; `pdcode.trace.schema` describes the columns.
    attributes : dict
        Root attributes: created, creator, hostnames, seed, parameters, gradient_bytes, and others.
    config : dict
        The resolved configuration, with all defaults.
    earlier_presets : list of dict
        The configuration and attributes before each change of the preset.
    config_text : str
        The user's TOML file.
    code : dict
        Number of blocks k -> code matrix, float64 (n, k).
    code_attributes : dict
        Number of blocks k -> family, weight, coherence, seed, rotate.
    finished : bool
        Whether the run has ended; False for running and killed runs.
    theta : ndarray or None
        Parameters that a finished run returned: θ after the last update or, with ``optimizer.average``,
        its average, if its training loss was lower; the other ones are ``checkpoint["other_theta"]``.
    counters : dict
        Totals counted by rank 0, of a finished run.

    Raises
    ------
    InputError
        If the file is missing, is not a trace, or has a newer schema version than this library.

    Notes
    -----
    A worker's times are moved to rank 0's clock by an offset measured before the run. If the offset was
    measured after the run too, they are corrected for a constant drift.

    Everything is read on first access and cached; open a new `Trace` to see newer rows.
    """

    def __init__(
        self, path: str | os.PathLike[str], correct_clocks: bool = True, window: int | None = None
    ) -> None:
        self.path, self.window = Path(path), window
        self._correct = correct_clocks
        where = str(self.path)
        with opening.open_for_reading(self.path) as file:
            self.attributes = contents.attributes(file, where)
        if self.attributes.get("schema") != SCHEMA:
            raise InputError(f"{where}: not a pdcode trace")
        contents.check_version(self.attributes, SCHEMA_VERSION, where)
        contents.check_attributes(self.attributes, ATTRIBUTES, where, "attribute")
        layers = [self.attributes.get(key, []) for key in LAYERS]
        if not len(layers[0]) == len(layers[1]) == len(layers[2]):
            raise damaged(where, f"{', '.join(LAYERS)} are {layers}")

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
        where, resolved = str(self.path), self.attributes.get("config_resolved")
        try:
            if resolved:
                config = contents.parse_json(resolved, where, "config_resolved")
            else:
                config = tomllib.loads(self.config_text)
        except tomllib.TOMLDecodeError as error:
            raise damaged(where, f"config: {error}") from None
        try:
            legacy.check(config)
        except InputError as error:
            raise damaged(where, f"config_resolved: {error}") from None
        return dict(config)

    @cached_property
    def earlier_presets(self) -> list[dict[str, Any]]:
        where, name = str(self.path), "earlier_presets"
        if "first_preset" in self.attributes:  # of traces that have one change at most
            name = "first_preset"
        text, changes = self.attributes.get(name), int(self.segments["preset"].sum())
        found = [] if text is None else contents.parse_json(text, where, name)
        found = [found] if isinstance(found, dict) else found
        if not isinstance(found, list) or len(found) != changes:
            raise damaged(where, f"{name} and the column preset of segments contradict each other")
        for each in found:
            if not isinstance(each, dict) or not isinstance(each.get("config"), dict):
                raise damaged(where, f"{name} has no config")
            try:
                legacy.check(each["config"])
            except InputError as error:
                raise damaged(where, f"{name}: {error}") from None
        return found

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the resolved configuration; empty if it is not there, as in a script's trace."""
        return self.config.get(name) or {}

    @cached_property
    def descent(self) -> Descent:
        """Faults of the measured loss: `diverged`, and `text`, which is empty if there is none.

        It follows from the measurements and the configuration, and so is known of traces of older versions.
        """
        if self.is_script or not self.attributes.get("numerics", True):
            return FINE
        kinds, messages = (self.faults[key].tolist() for key in ("kind", "message"))
        ends = [each for each in zip(kinds, messages, strict=True) if each[0] in ENDING]
        ended = self.finished and all(text.startswith("diverged") for _, text in ends)
        theta, text = lambda: self.theta, self.config_text
        found = judge(self.progress, self.config, ended=ended, theta=theta, text=text)
        stopped = [text for kind, text in ends if kind == "stop" and text.startswith("diverged")]
        return found.ended(stopped[0]) if stopped else found

    @property
    def sample(self) -> int:
        """Of so many tasks of a worker, one was recorded."""
        return int(self.attributes.get("sample", 1))

    @property
    def scale(self) -> float:
        """Number of arrivals for which each recorded one stands; `sample` until the run has ended."""
        rows = self.arrivals.rows
        return self.counters.get("arrivals", self.sample * rows) / rows if self.sample > 1 and rows else 1.0

    @cached_property
    def summed(self) -> np.ndarray:
        """Whether workers added up each payload among themselves, bool, shape of `arrivals`."""
        summed = np.full(self.arrivals.rows, is_summed(self.config) and not self.is_unordered)
        changed = self.segments["arrivals"][self.segments["preset"] == 1].tolist()
        for rows, before in reversed([*zip(changed, self.earlier_presets, strict=True)]):
            summed[: max(0, rows - self.arrivals.first)] = is_summed(before["config"])
        return summed

    @property
    def is_script(self) -> bool:
        """Whether this records the times of another program than pdcode, whose arithmetic is unknown."""
        return "problem" not in self.config

    @cached_property
    def is_unordered(self) -> bool:
        """Whether the ranks of another program did not wait for each other, so that each task is a step."""
        usual = np.median(self.updates["n_used"]) if self.is_script and self.updates.rows else 0
        return bool(self.worker_count > 1 and usual == 1)

    @cached_property
    def worker_count(self) -> int:
        """Number of workers n."""
        ranks = np.sort(self.workers["rank"])
        first = int(ranks[0]) if len(ranks) else 1  # rank 0 may be in the table
        if first > 1 or not np.array_equal(ranks, np.arange(first, first + len(ranks))):
            raise damaged(str(self.path), "the ranks of workers are not consecutive")
        count = len(ranks) - (first == 0)
        if self.attributes.get("workers", count) != count:
            stated = self.attributes["workers"]
            raise damaged(str(self.path), f"attribute workers is {stated}, and {count} are listed")
        return count

    @property
    def plugin_digests(self) -> list[str]:
        """Digests of the plug-ins of the configuration, in their order; unknown for older traces."""
        found = self.attributes.get("plugin_digests", [])
        return found if isinstance(found, list) else []

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, platform and variables of the run, see ``/environment``."""
        where = str(self.path)
        with self._open() as file:
            if "environment" not in contents.names(file, where):
                return {}
            return contents.attributes(contents.group(file, "environment", where), where)

    arrivals = _table_property("arrivals")
    updates = _table_property("updates")
    progress = _table_property("progress")
    workers = _table_property("workers")
    faults = _table_property("faults")
    segments = _table_property("segments")
    pauses = _table_property("pauses")
    phases = _table_property("phases")
    shuffles = _table_property("shuffles")
    evaluations = _table_property("evaluations")

    @cached_property
    def code(self) -> dict[int, np.ndarray]:
        where = str(self.path)
        with self._open() as file:
            read = {
                k: contents.array(contents.dataset(group, "matrix", f"{where}: code/{k}"), where)
                for k, group in code_groups(file, where)
                if "matrix" in contents.names(group, where)
            }
        for k, matrix in read.items():
            if matrix.ndim != 2 or matrix.shape[1] != k or matrix.dtype.kind != "f":
                raise damaged(where, f"the matrix of code/{k} is {matrix.dtype} {matrix.shape}")
        return read

    @cached_property
    def code_attributes(self) -> dict[int, dict[str, Any]]:
        where = str(self.path)
        with self._open() as file:
            found = {k: contents.attributes(group, where) for k, group in code_groups(file, where)}
        for k, attributes in found.items():
            what = f"attribute of the code of {k} blocks"
            contents.check_attributes(dict.fromkeys(CODE) | attributes, CODE, where, what)
        return found

    @cached_property
    def data(self) -> dict[str, Any]:
        """Facts of the data that predictions need: `features`, `outputs`, and the datasets of ``/data``.

        Empty for traces of older versions.
        """
        where = str(self.path)
        with self._open() as file:
            if "data" not in contents.names(file, where):
                return {}
            group = contents.group(file, "data", where)
            found, present = contents.attributes(group, where), contents.names(group, where)
            for name in (name for name in DATA if name in present):
                array = contents.array(contents.dataset(group, name, where, f"data/{name}"), where)
                if array.ndim != DATA[name].axes or array.dtype.kind not in DATA[name].kinds:
                    raise damaged(where, f"data/{name} is {array.dtype} {array.shape}")
                if array.dtype.kind in "SO":
                    array = np.array([bytes(text).decode(errors="replace") for text in array], np.str_)
                found[name] = array
        counts = {"features": Attribute(int, 0, COUNT.most), "outputs": COUNT}  # latent inputs: no features
        contents.check_attributes(found, counts, where, "attribute of data")
        return found

    @cached_property
    def checkpoint(self) -> dict[str, np.ndarray]:
        """Final θ and arrays of the optimizer, by name; empty if the run has not ended."""
        where = str(self.path)
        with self._open() as file:
            if "checkpoint" not in contents.names(file, where):
                return {}
            group = contents.group(file, "checkpoint", where)
            found = {name: contents.dataset(group, name, where) for name in contents.names(group, where)}
            arrays = {name: contents.array(data, where) for name, data in found.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "iuf":
                raise damaged(where, f"checkpoint/{name} is {array.dtype} {array.shape}")
        return arrays

    @property
    def theta(self) -> np.ndarray | None:
        return self.checkpoint.get("theta")

    @cached_property
    def counters(self) -> dict[str, Any]:
        where = str(self.path)
        with self._open() as file:
            if "checkpoint" not in contents.names(file, where):
                return {}
            counters = contents.attributes(contents.group(file, "checkpoint", where), where)
        kinds = {key: COUNTER if key.endswith("_s") else Attribute(float) for key in counters}
        contents.check_attributes(counters, kinds, where, "counter")
        if "lost" in counters and (absent := [name for name in FATES if name not in counters]):
            raise damaged(where, f"counter {absent[0]} is missing")
        if "genie_s" in counters:  # its name in older traces
            counters["oracle_s"] = counters.pop("genie_s")
        return counters

    def to_pandas(self, table: str) -> pandas.DataFrame:
        """Return a table as a pandas DataFrame, the units of its columns in ``attrs["units"]``.

        Parameters
        ----------
        table : {"arrivals", "updates", "progress", "workers", "faults", "segments", "pauses", "phases", \
                "shuffles", "evaluations"}

        Raises
        ------
        InputError
            If there is no such table, or pandas is not installed.
        """
        return frames.to_pandas(self._table(table), COLUMNS[table])

    def to_xarray(self, table: str) -> xarray.Dataset:
        """Return a table as an xarray Dataset whose variables have the attrs `units` and `description`.

        Without pdcode: ``xarray.open_dataset(path, engine="h5netcdf", group=table)``, for a running or killed
        run with ``driver_kwds={"swmr": True}``. Clocks are not corrected then.

        Parameters
        ----------
        table : {"arrivals", "updates", "progress", "workers", "faults", "segments", "pauses", "phases", \
                "shuffles", "evaluations"}
            Updates and progress have the coordinate `version`, workers have `rank`.

        Raises
        ------
        InputError
            If there is no such table, or xarray is not installed.
        """
        return frames.to_xarray(self._table(table), COLUMNS[table], DIMENSIONS[table])

    def _table(self, name: str) -> RecordedTable:
        if name not in COLUMNS:
            raise InputError(f"table: {expected(name, COLUMNS)}")
        table: RecordedTable = getattr(self, name)
        return table

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the file of this trace, which a new run may have renamed."""
        for path in filter(Path.is_file, (self.path, opening.previous(self.path))):
            with opening.open_for_reading(path) as file:
                if contents.attribute(file, "run", str(path)) == self.attributes.get("run"):
                    yield file
                    return
        raise InputError(f"{self.path}: the file was replaced or deleted; open the trace again")

    def _read(self, table: str, key: str, rows: slice, column: np.ndarray | None) -> np.ndarray:
        """Check some rows of a column; it is read from the file unless it is given."""
        where, what, schema = str(self.path), f"column {key} of {table}", COLUMNS[table][key]
        if column is None:
            with self._open() as file:
                group = contents.group(file, table, where)
                column = contents.array(contents.dataset(group, key, where, what), where, rows)
        else:
            column = column[rows]
        if column.dtype.kind in "SO":  # text: bytes in the file
            return np.array([bytes(text).decode(errors="replace") for text in column], dtype=np.str_)
        column = _check_bounds(column, schema, what, where)
        if key == "worker" and len(column) and column.max() >= self.worker_count:
            raise damaged(where, f"{what} has {column.max()}, and there are {self.worker_count} workers")
        if table == "arrivals" and key in WORKER_CLOCK and self._correct and len(column):
            last = int(self.arrivals["t_recv_ns"].max())
            return correct_drift(column, self.arrivals["worker"], self.workers, last)
        return column


def _check_bounds(column: np.ndarray, schema: Column, what: str, where: str) -> np.ndarray:
    """Check the bounds of a column, and return it in the type of the schema."""
    if column.dtype.kind in "iu" and len(column):
        for value in int(column.min()), int(column.max()):
            if not schema.least <= value <= min(schema.most, np.iinfo(schema.dtype).max):
                raise damaged(where, f"{what} has {value}")
    return column.astype(schema.dtype, copy=False)


def code_groups(file: h5py.File, where: str) -> list[tuple[int, h5py.Group]]:
    """Return the groups of ``/code`` with their numbers of blocks k, by ascending k."""
    codes = contents.group(file, "code", where)
    names = contents.names(codes, where)
    for name in names:
        if not (name.isascii() and name.isdecimal() and len(name) < 10):
            raise damaged(where, f"code/{name:.60} is not a number of blocks")
    return sorted((int(k), contents.group(codes, k, where)) for k in names)
