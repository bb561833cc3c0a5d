"""Recorded delays in an HDF5 file: a trace of pdcode, or a matrix."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError
from ..trace import opening
from ..trace.reader import Trace
from ..trace.schema import SCHEMA
from . import records, trace
from .base import Reals


def read(path: Path, dataset: str | None, draw: str) -> records.Records:
    """Records of a file.

    Raises
    ------
    InputError
        Naming the key, the file and what is wrong.
    """
    try:
        with opening.read(path) as file:
            if file.attrs.get("schema") != SCHEMA:
                return records.matrix(path, _matrix(path, file, dataset))
        run = Trace(path)
    except InputError as error:
        known = str(error).startswith("stragglers.")
        raise error if known else InputError(f"stragglers.path: {error}") from None
    if dataset is not None:
        raise records.wrong(path, f"'{dataset}' names a matrix, and this is a trace of pdcode", "dataset")
    return recorded(run, draw)


def recorded(run: Trace, draw: str) -> records.Records:
    """Delays of a run's tasks: from start to reply, less `trace.base_ns`, and never less than 0.

    Raises
    ------
    InputError
        If the trace did not keep the arrivals that `draw` needs.
    """
    kept = str(run.attributes.get("arrivals", "all"))
    if kept == "none":
        raise records.wrong(run.path, "has no arrivals: trace.arrivals was 'none'")
    if kept == "sampled" and draw == "replay":
        raise records.wrong(run.path, "'replay' needs all arrivals, and this trace has a sample", "draw")
    rows = run.arrivals
    if not rows.rows:
        raise records.wrong(run.path, "has no arrivals yet")
    members = int(run.attributes.get("workers", 0))
    unseen = np.flatnonzero(np.bincount(rows["worker"], minlength=members) == 0)
    if kept == "sampled" and len(unseen):
        raise records.wrong(run.path, f"the sample has no arrival of worker {unseen[0]}, dead or not")
    answered = rows["injected_delay_ns"] >= 0  # the dead reply when the run is over
    workers = rows["worker"][answered]
    late_ns = (rows["t_send_ns"] - rows["t_start_ns"])[answered] - trace.base_ns(run)
    order = np.lexsort((rows["task"][answered], workers))
    counts = np.bincount(workers, minlength=members).astype(np.int64)
    return records.Records(1e-9 * np.maximum(late_ns[order], 0), counts)


def _matrix(path: Path, file: h5py.File, name: str | None) -> Reals:
    """The matrix of that name, or the only one."""
    found: dict[str, h5py.Dataset] = {}

    def note(where: str, each: h5py.HLObject) -> None:
        if isinstance(each, h5py.Dataset) and each.ndim == 2 and each.dtype.kind in "fiu":
            found[where] = each

    file.visititems(note)
    listed = f"the matrices of this file: {', '.join(sorted(found)) or 'none'}"
    if name is None and len(found) > 1:
        raise records.wrong(path, f"say which one; {listed}", "dataset")
    if name is not None and name.strip("/") not in found:
        raise records.wrong(path, f"'{name}' is not a matrix of numbers; {listed}", "dataset")
    if not found:
        raise records.wrong(path, "has no matrix of numbers, workers × rounds")
    chosen = next(iter(found)) if name is None else name.strip("/")
    return np.asarray(found[chosen][:], np.float64)
