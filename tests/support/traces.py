"""Traces of made-up runs, for tests: an asynchronous descent, simulated event by event."""

import heapq
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import ARRIVALS, DRAINED, USED
from pdcode.trace.steps import StepWriter
from pdcode.trace.writer import TraceWriter

TEXT = 'seed = 3\n[problem]\nkind = "mlp"  # a comment that must survive\n'
CONFIG = {
    "seed": 3,
    "problem": {"kind": "mlp", "data": "digits", "hidden": [64], "activation": "relu", "batch": 32},
    "code": {"family": "net", "blocks": [16, 1], "weight": 4, "rows_per_task": 1, "rotate": True},
    "decoder": {"kind": "adjoint", "step": 1.0},
    "memory": {"kind": "worker"},
    "update": {"mode": "async", "late": "use"},
    "optimizer": {"kind": "sgd", "rate": 0.5, "momentum": 0.0, "staleness": "constant"},
    "stragglers": {
        "kind": "shifted-exponential", "shift_s": 0.002, "mean_s": 0.002, "slow": [7], "slowdown": 10.0,
    },
    "stop": {"seconds": 20.0, "loss": 0.07},
}  # fmt: skip
METADATA = {
    "config": CONFIG, "seed": 3, "parameters": 4810, "gradient_bytes": 19240, "payload_bytes": 3840,
    "header_bytes": 64, "setup_bytes_up": 128, "setup_bytes_down": 1_000_000,
    "mpi_library": "Open MPI v5.0.11, package: Open MPI",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
}  # fmt: skip


JOB: dict[str, Any] = {
    "seed": 3,
    "problem": {"kind": "mlp", "data": "digits", "hidden": [16], "standardise": False},
    "workers": {"count": 8},
    "scheme": {"name": "uncoded", "preset": "all"},
    "optimizer": {"rate": 0.5},
    "stragglers": {"kind": "shifted-exponential", "shift_s": 0.005, "mean_s": 0.001},
    "stop": {"loss": 0.5, "seconds": 60},
    "trace": {"progress_s": 0.01},
}
SLOW = {"stragglers.slow": [7], "stragglers.slowdown": 6.0}
"""A job whose worker 7 may be slow."""


def code(k: int = 16, n: int = 32, seed: int = 5) -> SimpleNamespace:
    """Something with the attributes of a code: pairs."""
    row = np.arange(n)
    indices = np.stack((row % k, (row + 1 + row // k) % k), axis=1).astype(np.int32)
    values = np.full((n, 2), np.sqrt(0.5))
    matrix = np.zeros((n, k))
    np.add.at(matrix, (np.arange(n)[:, None], indices), values)
    return SimpleNamespace(
        matrix=matrix,
        blocks=k,
        indices=indices,
        values=values,
        family="net",
        weight=2,
        coherence=0.5,
        seed=seed,
    )


def members(workers: int, hosts: int = 1) -> list[dict[str, Any]]:
    """One dict a rank, as the writer wants them."""
    return [
        {"rank": i + 1, "host": f"node{i % hosts}", "clock_offset_ns": 100 * i, "clock_error_ns": 5}
        for i in range(workers)
    ]


def writer(path: Path, workers: int = 8, **options: Any) -> TraceWriter:
    """A writer with all that it wants to know."""
    return TraceWriter(path, TEXT, [code()], {**METADATA, "workers": workers}, members(workers), **options)


def row(**values: float) -> tuple[float, ...]:
    """A row of arrivals: the named values, 0 in the other columns."""
    assert values.keys() <= ARRIVALS.keys()
    return tuple(values.get(name, 0) for name in ARRIVALS)


def columns(rows: list[tuple[float, ...]]) -> dict[str, np.ndarray]:
    """Rows of arrivals as a table: column -> array."""
    table = np.array(rows, dtype=np.float64).reshape(-1, len(ARRIVALS))
    return {name: table[:, i].astype(column.dtype) for i, (name, column) in enumerate(ARRIVALS.items())}


def simulate(
    path: Path, seconds: float = 2.0, workers: int = 8, slow: tuple[int, ...] = (7,), close: bool = True,
    **options: Any,
) -> TraceReader:  # fmt: skip
    """Write the trace of an asynchronous run in which `slow` workers have ten times the others' delays."""
    random = np.random.default_rng(1)
    trace = writer(path, workers, **options)
    end, version, free, measured = int(seconds * 1e9), 0, 0, 0
    flights: list[tuple[int, int, tuple[int, ...]]] = []  # (arrival, worker, what the worker stamped)
    tasks = [0] * workers

    def dispatch(worker: int, now: int) -> None:
        start = now + int(random.gamma(4, 10e3))
        compute = start + int(random.gamma(20, 25e3))
        delay = int(2e6 + random.exponential(2e6)) * (10 if worker in slow else 1)
        send = compute + delay + int(random.gamma(4, 10e3))
        recv = send + int(random.gamma(4, 15e3))
        heapq.heappush(flights, (recv, worker, (tasks[worker], version, now, start, compute, send, delay)))
        tasks[worker] += 1

    for worker in range(workers):
        dispatch(worker, 1_000_000 + 20_000 * worker)
    while flights:
        recv, worker, (task, at, sent, start, compute, send, delay) = heapq.heappop(flights)
        decoded = max(recv, free) + 15_000
        fresh = decoded < end
        trace.arrival(
            worker, task, at, version if fresh else -1, task, version - at, sent, start, compute, send, recv,
            decoded, delay, 3904, 19304, 0.25, USED if fresh else DRAINED, 2.3 * np.exp(-version / 500), 0,
            0,
        )  # fmt: skip
        free = decoded
        if fresh:
            version, free = version + 1, decoded + 8_000
            trace.update(version, free, 1, 0.25, 0.1, 0, -1, 0, 0)
            while measured <= free:
                loss = 2.3 * np.exp(-version / 400) + 0.06 * np.exp(-version / 9000)
                noise = 1 + 0.03 * random.standard_normal()
                accuracy = 0.98 - 0.9 * np.exp(-version / 500)
                trace.progress(version, measured, loss * noise, accuracy, np.nan, 0, np.nan)
                measured += 100_000_000
            dispatch(worker, free + 5_000)
    if close:
        trace.close(np.arange(5.0), {"velocity": np.zeros(5)}, members(workers), {"arrivals": sum(tasks)})
    else:
        trace.flush(free)
        trace._file.close()
    return TraceReader(path)


def script(
    path: Path, work_s: np.ndarray, reduction_s: float | np.ndarray, hosts: int = 1,
    loading_s: np.ndarray | None = None, size: int = 0,
) -> TraceReader:  # fmt: skip
    """Write the trace of a script whose ranks compute for `work_s`, (steps, ranks), and reduce together.

    It loads for `loading_s` of that, if given, and its passes take the rest; payloads have `size` bytes.
    """
    ends_s = np.cumsum(work_s.max(axis=1) + reduction_s)
    starts_s = np.append(0.0, ends_s[:-1])[:, None]
    times_s = [*np.broadcast_arrays(starts_s, starts_s + work_s, ends_s[:, None])]
    if loading_s is not None:
        times_s += [loading_s, (work_s - loading_s) / 3, (work_s - loading_s) * 2 / 3]
    ranks = work_s.shape[1]
    members = [{"host": f"node{rank * hosts // ranks}"} for rank in range(ranks)]
    trace = StepWriter(path, "a test", members, {"gradient_bytes": size, "payload_bytes": size})
    trace.write(np.rint(1e9 * np.stack(times_s, axis=2)).astype(np.int64))
    trace.close()
    return TraceReader(path)
