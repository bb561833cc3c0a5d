"""A real asynchronous run, recomputed in one process from its trace: the same θ to the last bit.

This pins down buffers (a payload that changed under the decoder's hands), late payloads, memories and what
was given back to them, rounding, the weights of unequal shards, keyed batches and rows, codes that
follow what has arrived, replicas, and the order of arrivals.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from descents import Descent

from pdcode import Trace


def replay(trace: Trace, overrides: list[str]) -> Descent:
    """The run whose arrivals come in the order of the trace."""
    rows = trace.arrivals
    order = {pair: place for place, pair in enumerate(zip(rows["worker"], rows["task"], strict=True), 1)}
    made = Descent(overrides, lambda worker, task: order[worker, task] - made.fleet.now_ns())
    assert made.run() == "enough"
    return made


COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "problem.l2=1e-3", "code.blocks=[8, 1]",
    "code.weight=4", "workers.count=5", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.002", "stragglers.slow=[4]", "stragglers.slowdown=8", "stop.updates=200",
]  # fmt: skip
EF_WASTE = ["update.mode=first", "update.late=waste", "optimizer.momentum=0.5", "wire.dtype=float16"]
NONE, FIRST = "memory.kind=none", ["update.mode=first", "update.count=3"]
CASES = {
    "int8": ["code.rows_per_task=3", "wire.dtype=int8"],
    "least-squares": [NONE, "decoder.kind=least_squares", *FIRST],
    "tracking-adam": [NONE, "decoder.kind=tracking", "optimizer.kind=adam", "optimizer.staleness=inverse"],
    "waste": EF_WASTE,
    "captured-float64": [
        "update.mode=captured", "update.fraction=0.25", "problem.axis=input", "problem.dtype=float64",
    ],
    "energy-coordinator": [
        "memory.kind=coordinator", "code.family=energy", "code.blocks=[8,8]", "code.rows_per_task=2",
    ],
    "difference": [
        "memory.kind=difference", "problem.batch=0", "wire.dtype=bfloat16", *FIRST, "update.late=waste",
    ],
    "matched": ["code.family=matched", "code.rows_per_task=[2,1]", "wire.dtype=int8", *FIRST],
    "relay": [
        "downlink.kind=codewords", "downlink.check=5", "wire.dtype=int8", "code.blocks=units",
        "code.share=0.25", "faults.nan_worker=1", "faults.nan_task=20",
    ],
}  # fmt: skip


@pytest.mark.parametrize("how", CASES)
def test_theta_is_the_same_to_the_last_bit(run: object, trace_path: Path, how: str) -> None:
    done = run(*COMMON, *CASES[how], job="")
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.updates["version"][-1] == 200
    assert trace.arrivals["staleness"].max() > 0
    made = replay(trace, [*COMMON, *CASES[how]])
    for name in (
        "worker",
        "task",
        "version",
        "applied_version",
        "code_row",
        "staleness",
        "status",
        "bytes_down",
    ):
        np.testing.assert_array_equal(made.trace.column(name), trace.arrivals[name], err_msg=name)
    np.testing.assert_array_equal(made.state.theta, trace.theta)
