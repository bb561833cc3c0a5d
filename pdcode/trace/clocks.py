"""Correction of recorded times for the drift of the workers' clocks.

The offset o of a worker is its clock minus rank 0's. Recorded times have been moved to rank 0's clock by
o(a), measured at time a before the run. If o(b) was measured at time b after the run, a time t becomes t -
(o(b) - o(a)) (t - a) / (b - a), which corrects a constant drift. A change of the offset that does not exceed
the sum of both measurements' errors is taken for noise, and not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .schema import WORKERS

END = {key for key in WORKERS if key.startswith("end_")}


def straighten(
    times: np.ndarray, worker: np.ndarray, clocks: Mapping[str, np.ndarray], last_ns: int
) -> np.ndarray:
    """Correct times for the drift of the clocks that stamped them.

    Parameters
    ----------
    times : (q,) int64 array
        Times in ns since the run's start.
    worker : (q,) int array
        The worker that stamped each time; worker i is rank i + 1.
    clocks : mapping
        The columns `pdcode.trace.schema.WORKERS`; without the `end_` columns nothing is corrected.
    last_ns : int
        Time of the second measurement of an offset, if the table lacks it.

    Returns
    -------
    (q,) int64 array
    """
    if not clocks.keys() >= END:
        return times
    change = (clocks["end_clock_offset_ns"] - clocks["clock_offset_ns"]).astype(np.float64)
    change[np.abs(change) <= clocks["clock_error_ns"] + clocks["end_clock_error_ns"]] = 0.0
    start = clocks["clock_t_ns"]
    end = np.where(clocks["end_clock_t_ns"] < 0, last_ns, clocks["end_clock_t_ns"])
    rate = np.clip(change / np.maximum(end - start, 1), -0.5, 0.5)  # no clock drifts more
    rates, starts = np.zeros(int(worker.max()) + 1), np.zeros(int(worker.max()) + 1)
    workers = (clocks["rank"] >= 1) & (clocks["rank"] <= len(rates))  # rank 0 may be listed, and has no drift
    rates[clocks["rank"][workers] - 1] = rate[workers]
    starts[clocks["rank"][workers] - 1] = start[workers]
    return times - np.rint(rates[worker] * (times - starts[worker])).astype(times.dtype)
