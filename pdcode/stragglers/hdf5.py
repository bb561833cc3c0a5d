"""Recorded delays in an HDF5 file: a trace of pdcode, or a matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np

from ..config import StragglersTable, legacy
from ..trace import contents, opening
from ..trace.reader import TraceReader
from ..trace.schema import DRAINED, SCHEMA
from ..util.datasets import ensure_files, ensure_written
from ..util.errors import InputError, shorten
from . import bases, records
from .base import Reals

Load = Callable[[Any, tuple[Path, ...]], records.DelayRecords]


def read_records(
    path: Path, dataset: str | None, draw: str, times: str, ancestors: tuple[Path, ...], load: Load
) -> records.DelayRecords:
    """Read the records of an HDF5 file; `load` is `trace.load_records`, and `ancestors` as there."""
    try:
        with opening.open_for_reading(path) as file:
            schema = contents.attributes(file, str(path)).get("schema")
            values = None if schema == SCHEMA else _matrix(path, file, dataset)
        if values is not None:
            return records.from_matrix(path, values, times)
        run = TraceReader(path)
        for key, value in ("dataset", dataset), ("times", times if times != "delay" else None):
            if value is not None:
                raise records.file_error(path, f"'{value}' is for matrices; this is a trace of pdcode", key)
        return records_of_run(run, draw, ancestors, load)
    except InputError as error:
        explained = str(error).startswith("stragglers.")
        raise error if explained else InputError(f"stragglers.path: {error}") from None


def records_of_run(
    run: TraceReader, draw: str, ancestors: tuple[Path, ...], load: Load
) -> records.DelayRecords:
    """Compute the delays of a run's tasks: time from start to reply minus the worker's base, at least 0.

    A worker's base is `bases.per_worker` of the compute times, times 1 + its stretch if the run's own
    stragglers had one: such delays depend on the work, and stay a stretch here. Delays include what the
    worker's link takes longer than the others'.
    """
    kept = str(run.attributes.get("arrivals", "all"))
    if kept == "none":
        raise records.file_error(run.path, "has no arrivals: trace.arrivals was 'none'")
    if kept == "sampled" and draw == "replay":
        raise records.file_error(run.path, "'replay' needs all arrivals, and this trace has a sample", "draw")
    rows = run.arrivals
    if not rows.rows:
        raise records.file_error(run.path, "has no arrivals yet")
    if rows["part"].any():
        raise records.file_error(run.path, "has replies in parts, not the delays of whole tasks")
    count = run.worker_count
    unseen = np.flatnonzero(np.bincount(rows["worker"], minlength=count) == 0)
    if kept == "sampled" and len(unseen):
        raise records.file_error(run.path, f"the sample has no arrival of worker {unseen[0]}, dead or not")
    answered = _answered(rows["worker"], rows["status"], rows["injected_delay_ns"])
    workers = rows["worker"][answered]
    by_worker = np.argsort(rows["worker"], kind="stable")
    own_ns = bases.per_worker(
        (rows["t_compute_ns"] - rows["t_start_ns"])[by_worker],
        np.bincount(rows["worker"], minlength=count).astype(np.int64),
    )
    own_ns *= 1 + _stretch(run, count, ancestors, load)
    ends_ns = rows["t_recv_ns"] - bases.shared_link_ns(run) if run.is_script else rows["t_send_ns"]
    late_ns = (ends_ns - rows["t_start_ns"])[answered] - own_ns[workers]
    if not run.is_script:
        late_ns += bases.slow_link_ns(run)[workers]
    order = np.lexsort((rows["task"][answered], workers))
    counts = np.bincount(workers, minlength=count).astype(np.int64)
    base_ns = bases.base_ns(run)
    stretch = own_ns / base_ns - 1 if base_ns else np.zeros(count)
    return records.DelayRecords(1e-9 * np.maximum(late_ns[order], 0), counts, stretch)


def _answered(worker: np.ndarray, status: np.ndarray, injected_ns: np.ndarray) -> np.ndarray:
    """Return which rows have a delay, bool.

    Dead workers reply at the end of the run and have none. The end may have shortened the delays of drained
    replies; they count only if the worker has no others.
    """
    alive = injected_ns >= 0
    in_time = alive & (status != DRAINED)
    seen = np.bincount(worker[in_time], minlength=int(worker.max()) + 1) > 0
    return in_time | (alive & ~seen[worker])


def _stretch(run: TraceReader, members: int, ancestors: tuple[Path, ...], load: Load) -> Reals:
    """Return the stretch of the run's own stragglers: delay over compute time of each worker."""
    try:
        legacy.load_plugins(run.config, run.plugin_digests)
        table = legacy.read_kind(StragglersTable, run.table("stragglers"))
    except InputError as error:
        raise records.file_error(run.path, f"this pdcode cannot read its configuration: {error}") from None
    slow = [worker for worker in getattr(table, "slow", []) if worker < members]
    if table.kind == "trace" and table.reads is not None:
        ancestors = (*ancestors, run.path.resolve())
        if Path(table.reads).resolve() in ancestors:
            what = f"took its delays from {table.reads}, which was replaced since"
            raise records.file_error(run.path, what)
        try:
            stretch = np.maximum(load(table, ancestors).stretch, 0)  # -1, for total durations, is no stretch
        except InputError as error:
            raise records.file_error(run.path, f"took its delays from another file: {error}") from None
        stretch = stretch[np.arange(members) % len(stretch)]
        stretch[slow] *= getattr(table, "slowdown", 1.0)
        return stretch
    present: dict[str, object] = {"slow": slow, "dead": []}
    present = {key: value for key, value in present.items() if hasattr(table, key)}
    stretch = msgspec.structs.replace(table, **present).make(0, members).stretch(np.arange(members))
    return np.asarray(stretch)


def _matrix(path: Path, file: h5py.File, name: str | None) -> Reals:
    """Read the matrix of this name, or the only one."""
    matrices: dict[str, h5py.Dataset] = {}

    def note(where: str | bytes, each: h5py.HLObject) -> None:
        if isinstance(each, h5py.Dataset) and each.ndim == 2 and each.dtype.kind in "fiu":
            matrices[where if isinstance(where, str) else where.decode(errors="replace")] = each

    if name:
        ensure_files(file, name, f"stragglers.path: {path}: '{name}'")
    with contents.errors_as_damage(str(path)):
        if name and name.strip("/"):
            note(name.strip("/"), file.get(name))  # visititems does not follow links
        file.visititems(note)
    names = ", ".join(repr(found)[1:-1] for found in sorted(matrices))  # damaged ones may hold anything
    listed = f"the matrices of this file: {shorten(names) or 'none'}"
    if name is None and len(matrices) > 1:
        raise records.file_error(path, f"must be given; {listed}", "dataset")
    if name is not None and name.strip("/") not in matrices:
        raise records.file_error(path, f"'{name}' is not a matrix of numbers; {listed}", "dataset")
    if not matrices:
        raise records.file_error(path, "has no matrix of numbers, workers × rounds")
    chosen = next(iter(matrices)) if name is None else name.strip("/")
    matrix = matrices[chosen]
    records.ensure_delays_fit(path, matrix.size)
    ensure_written(matrix, "stragglers.path", f"{path}: '{chosen}'")
    return contents.array(matrix, str(path)).astype(np.float64, copy=False)
