"""Scalars of a run against time."""

import numpy as np

from ..trace.reader import TraceReader

POINTS = 5_000  # of a scalar, at most; the last is always among them


def scalars(trace: TraceReader) -> dict[str, np.ndarray]:
    """Return scalars by name, each an array of rows (time in ns, version, value).

    They are columns of progress and updates, and the payloads and bytes that had been decoded by each update;
    values that were not measured are left out.
    """
    progress, updates, arrivals = trace.progress, trace.updates, trace.arrivals
    found = {
        key: _thinned(table["t_ns"], table["version"], table[key])
        for table, keys in (
            (progress, ("loss", "accuracy", "grad_norm")),
            (updates, ("n_used", "captured", "step_norm", "waited_ns")),
        )
        for key in keys
    }
    if arrivals.rows and updates.rows:
        order = np.argsort(arrivals["t_decoded_ns"], kind="stable")
        count = np.searchsorted(arrivals["t_decoded_ns"][order], updates["t_ns"], "right")
        count[-1] = arrivals.rows  # the last point is the total, with payloads after the stop
        for key in ("bytes_up", "bytes_down"):
            sums = np.concatenate(([0], np.cumsum(arrivals[key][order])))
            found[key] = _thinned(updates["t_ns"], updates["version"], sums[count])
        found["payloads"] = _thinned(updates["t_ns"], updates["version"], count)
    return {key: points for key, points in found.items() if len(points)}


def _thinned(t_ns: np.ndarray, version: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return `POINTS` rows (time, version, value) evenly spaced, or all that are known."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) > POINTS:
        known = known[np.linspace(0, len(known) - 1, POINTS).astype(np.int64)]
    return np.stack((t_ns[known], version[known], values[known]), axis=1).astype(np.float64)
