"""Correction of recorded times for the drift of the workers' clocks.

The offset o of a worker is its clock minus rank 0's. The writer has moved times to rank 0's clock by o(a),
which was measured at time a before the run. If o(b) was measured at time b after the run, a time t becomes t
- (o(b) - o(a)) (t - a) / (b - a), which corrects a constant drift. A change of the offset within the sum of
both measurements' errors counts as noise and is not corrected.
"""

from collections.abc import Mapping

import numpy as np

from .schema import WORKERS

END = {key for key in WORKERS if key.startswith("end_")}


def correct_drift(
    times: np.ndarray, worker: np.ndarray, clocks: Mapping[str, np.ndarray], last_ns: int
) -> np.ndarray:
    """Return times (q,), ns since the run's start, corrected for the drift of the clocks of `worker` (q,).

    `clocks` has the columns of `/workers`; without its `end_` columns nothing is corrected. `last_ns`
    replaces a missing time of the measurement after the run.
    """
    if not clocks.keys() >= END:
        return times
    change = (clocks["end_clock_offset_ns"] - clocks["clock_offset_ns"]).astype(np.float64)
    change[np.abs(change) <= clocks["clock_error_ns"] + clocks["end_clock_error_ns"]] = 0.0
    start = clocks["clock_t_ns"]
    end = np.where(clocks["end_clock_t_ns"] < 0, last_ns, clocks["end_clock_t_ns"])
    rate = np.clip(change / np.maximum(end - start, 1), -0.5, 0.5)  # more than any clock drifts
    rates, starts = np.zeros(int(worker.max()) + 1), np.zeros(int(worker.max()) + 1)
    workers = (clocks["rank"] >= 1) & (clocks["rank"] <= len(rates))  # without rank 0, which has no drift
    rates[clocks["rank"][workers] - 1] = rate[workers]
    starts[clocks["rank"][workers] - 1] = start[workers]
    return times - np.rint(rates[worker] * (times - starts[worker])).astype(times.dtype)
