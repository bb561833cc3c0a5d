"""The critical path across ranks, on traces whose paths are known by hand."""

from pathlib import Path

import numpy as np
import pytest
import traces

from pdcode.analysis import critical_path
from pdcode.analysis.critical_path import OWN, STAGES
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import TIME, UPDATES, WASTED

TIMES = "dispatch", "start", "compute", "send", "recv", "decoded"


def task(worker: int, applied: int, *times: int, injected: int = 0, status: int = 0) -> tuple[float, ...]:
    """A row of arrivals."""
    stamps = {f"t_{event}_ns": time for event, time in zip(TIMES, times, strict=True)}
    return traces.row(
        worker=worker,
        version=max(0, applied),
        applied_version=applied,
        injected_delay_ns=injected,
        status=status,
        **stamps,
    )


BARRIER = [  # worker 1 is the last in the first update, worker 0 in the second
    task(0, 0, 0, 2, 12, 12, 15, 20),
    task(1, 0, 1, 4, 14, 44, 50, 56, injected=25),
    task(1, 1, 62, 64, 74, 74, 88, 89),
    task(0, 1, 61, 63, 83, 83, 90, 95),
]
QUEUE = [  # rank 0 decodes the payload of worker 0 when that of worker 1 arrives
    task(0, 0, 0, 1, 11, 11, 12, 22),
    task(1, 1, 2, 3, 13, 13, 14, 35),
    task(0, 2, 23, 24, 36, 36, 37, 47),
]
LATE = [  # a step after a time-out, without worker 1, whose late payload is wasted
    task(0, 0, 0, 1, 11, 11, 12, 13),
    task(1, -1, 1, 2, 12, 57, 58, 60, status=WASTED),
    task(1, 1, 61, 62, 72, 72, 73, 74),
]
ALLREDUCE = [task(0, 0, 0, 0, 20, 20, 50, 52), task(1, 0, 0, 0, 40, 40, 50, 51)]


@pytest.mark.parametrize(
    ("rows", "steps", "path", "parts"),
    [
        (
            BARRIER, [(1, 60, 0), (2, 97, 0)], [1, 3],
            "1: 3 link down, 10 compute, 25 delay, 5 send, 6 link up, 6 decode; "
            "0: 2 link down, 20 compute, 6 link up, 1 queue, 5 decode; rank 0: 6 step, 1 dispatch",
        ),
        (
            QUEUE[:2], [(1, 23, 0), (2, 36, 0)], [1],
            "1: 1 link down, 10 compute, 10 queue, 12 decode; rank 0: 1 step",
        ),
        (
            QUEUE, [(1, 23, 0), (2, 36, 0), (3, 48, 0)], [0, 2],
            "0: 2 link down, 22 compute, 2 link up, 20 decode; rank 0: 2 step",
        ),
        (
            LATE[:1], [(1, 50, TIME)], [0],
            "0: 1 link down, 10 compute, 1 link up, 1 decode; rank 0: 37 waiting",
        ),
        (
            LATE, [(1, 50, TIME), (2, 75, 0)], [1, 2],
            "1: 2 link down, 20 compute, 45 send, 2 link up, 3 decode; rank 0: 1 step, 1 dispatch",
        ),
        (ALLREDUCE, [(1, 55, 0)], [0], "0: 20 compute, 30 link up, 1 queue, 1 decode; rank 0: 3 step"),
        ([task(0, 0, *[7] * 6)] * 3, [(1, 7, 0), (1, 7, 0)], [0, 1, 2], ""),  # damaged: no time passes
    ],
)  # fmt: skip
def test_path(rows: list[tuple], steps: list[tuple], path: list[int], parts: str) -> None:
    found, text, length = follow(rows, steps)
    assert (found, text) == (path, parts)
    assert length == max(0, steps[-1][1] - rows[path[0]][list(traces.ARRIVALS).index("t_dispatch_ns")])


def test_of_a_reduction_the_last_worker_that_is_ready_decides() -> None:
    text = "1: 40 compute, 10 link up, 1 decode; rank 0: 4 step"
    assert follow(ALLREDUCE, [(1, 55, 0)], shared=True) == ([1], text, 55)
    # Workers have begun the next task when rank 0 decodes their sum.
    later = [task(0, 1, 50, 50, 90, 90, 95, 96), task(1, 1, 50, 50, 60, 60, 95, 97)]
    text = "1: 40 compute, 10 link up; 0: 40 compute, 5 link up, 1 decode; rank 0: 2 step"
    assert follow(ALLREDUCE + later, [(1, 55, 0), (2, 98, 0)], shared=True) == ([1, 2], text, 98)


def follow(rows: list[tuple], steps: list[tuple], **options: bool) -> tuple[list[int], str, int]:
    """Return the path's rows, its parts as text, the worker with the longest time first, and its length."""
    updates = {key: np.zeros(len(steps), column.dtype) for key, column in UPDATES.items()}
    for key, values in zip(("version", "t_ns", "why"), zip(*steps, strict=True), strict=True):
        updates[key] = np.array(values, updates[key].dtype)
    found = critical_path.critical_path(traces.columns(rows), updates, 2, **options)
    assert found is not None
    names = [(worker, str(worker)) for worker in found.workers] + [(2, "rank 0")]
    parts = {
        name: [
            f"{time:.0f} {part}" for part, time in zip(STAGES + OWN, found.spent_ns[row], strict=True) if time
        ]
        for row, name in names
    }
    return (
        found.rows.tolist(),
        "; ".join(f"{name}: {', '.join(each)}" for name, each in parts.items() if each),
        found.length_ns,
    )


def test_path_of_a_run(tmp_path: Path) -> None:
    """Every part of a run's length is on the path; a sample of arrivals has none."""
    trace = traces.simulate(tmp_path / "run.h5", 0.5)
    found = critical_path.of_trace(trace)
    assert found is not None
    assert (
        found.spent_ns.sum()
        == found.length_ns
        == trace.updates["t_ns"][-1] - trace.arrivals["t_dispatch_ns"][found.rows[0]]
    )
    assert found.by_part["delay"] > 0.7 * found.length_ns
    table = critical_path.latencies(trace)
    assert list(table) == ["task", "link down", "compute", "delay", "send", "link up", "queue", "decode"]
    assert (np.diff(np.array([*table.values()]), axis=1) >= 0).all()
    sampled = TraceReader(trace.path)
    sampled.attributes["sample"] = 10
    assert critical_path.of_trace(sampled) is None
    unused = {**trace.arrivals, "applied_version": np.full(trace.arrivals.rows, -1)}
    assert critical_path.critical_path(unused, trace.updates, trace.worker_count) is None
