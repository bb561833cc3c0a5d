"""The drift of the workers' clocks against rank 0's, taken out of their times.

The offset o of a worker is its clock minus rank 0's. Its times are on rank 0's clock by o(a), measured at
time a before the run. If the offset was measured again, o(b) at time b, after it, a time t becomes t - (o(b)
- o(a)) (t - a) / (b - a): that puts a clock right which drifts at a constant rate. A change of the offset no
larger than the two measurements' errors together is only noise, and is not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .schema import WORKERS

END = {key for key in WORKERS if key.startswith("end_")}


def straighten(
    times: np.ndarray, worker: np.ndarray, clocks: Mapping[str, np.ndarray], last_ns: int
) -> np.ndarray:
    """Correct times for the drift of the clocks that they were taken from.

    Parameters
    ----------
    times : (q,) int64 array
        Times in ns since the run's start.
    worker : (q,) int array
        The worker that took each; worker i is rank i + 1.
    clocks : mapping
        The table `pdcode.trace.schema.WORKERS`; without its `end_` columns nothing is corrected.
    last_ns : int
        Time of the last offset where the table does not know it.

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
    rate = change / np.maximum(end - start, 1)
    rates, starts = np.zeros(int(worker.max()) + 1), np.zeros(int(worker.max()) + 1)
    known = (clocks["rank"] >= 1) & (clocks["rank"] <= len(rates))  # rank 0 may be listed, and has no drift
    rates[clocks["rank"][known] - 1] = rate[known]
    starts[clocks["rank"][known] - 1] = start[known]
    return times - np.rint(rates[worker] * (times - starts[worker])).astype(times.dtype)
