"""Operations of training in pipelines, as ByteDance's straggler analysis publishes them.

Lin et al., "Understanding stragglers in large model training using what-if analysis", OSDI 2025. Their
what-if is repeated: steps are replayed by the dependences of their operations, once with the recorded
durations, and once with each operation as long as the mean of its kind, or the median where it communicates.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..util.errors import Failure, InputError, ensure_file, shorten
from ..util.memory import ensure_fits
from ..util.packages import pip_install
from .job import Importer, Job, in_turn, only

AXES = "stage", "seq_id", "dp_rank", "step"
TIMES = "start_ts", "duration"
COLUMNS = [*AXES, "optype", *TIMES]
MOST = 1e11
COMPUTE = "forward-compute", "backward-compute"
Times = Mapping[str, np.ndarray]
Order = list[list[tuple[str, int]]]


class _Other(Exception):
    """The operations are unknown to `transfers` and `replay`; the message says which differ."""


def read(paths: Sequence[str]) -> Job:
    """Read the operations of a job; its workers are the stages of each data-parallel rank."""
    path = only(paths, "the operations of a job, such as trace-AR.parquet")
    columns, kinds = _columns(path)
    stages, _, ranks, steps = (np.unique(columns[axis], return_inverse=True) for axis in AXES)
    shape = len(steps[0]), len(ranks[0]), len(stages[0])
    ensure_fits(path, f"{' × '.join(map(str, shape))} steps, ranks and stages", 200 * math.prod(shape))
    own = np.isin(kinds, COMPUTE)
    if not own.any():
        raise InputError(f"{path}: optype: no {' or '.join(COMPUTE)}")
    work = np.zeros(shape)
    np.add.at(work, (steps[1][own], ranks[1][own], stages[1][own]), columns["duration"][own])
    begin_s, end_s = np.full(shape[0], np.inf), np.zeros(shape[0])
    np.minimum.at(begin_s, steps[1], columns["start_ts"])
    np.maximum.at(end_s, steps[1], columns["start_ts"] + columns["duration"])
    length_s = end_s - begin_s
    names = [f"rank {rank} stage {stage}" for rank in ranks[0] for stage in stages[0]]
    job = in_turn(path, names, "ByteDance", work.reshape(len(work), -1), None, length_s)
    job.notes.append(f"recorded: {length_s.mean():.2f} s a step")
    try:
        actual, order = transfers(*(_times(columns, kinds, name) for name in ("start_ts", "duration")))
        ideal = {kind: usual(kind, each) for kind, each in actual.items()}
        measured_s, ideal_s = (replay(each, order).mean() for each in (actual, ideal))
        job.notes.append(f"replayed by the dependences of operations: {measured_s:.2f} s a step")
        job.notes.append(f"ideal: {ideal_s:.2f} s a step, if each operation took the usual time of its kind")
    except _Other as other:
        job.notes.append(f"the ideal is not known: {other}")
    return job


def _columns(path: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Read the columns that are needed, and the kinds of the operations."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Failure(f"{path}: needs the package pyarrow: {pip_install('pyarrow')}") from None
    ensure_file(path)
    try:
        with parquet.ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise InputError(f"{path}: no column {missing[0]}; it needs {', '.join(COLUMNS)}")
            ensure_fits(path, f"{file.metadata.num_rows:,} operations", 300 * file.metadata.num_rows)
            table = file.read(COLUMNS)
        kinds = np.asarray(table["optype"].cast(pyarrow.string()).to_pylist(), str)
        types = dict.fromkeys(AXES, "int64") | dict.fromkeys(TIMES, "float64")
        columns = {name: table[name].cast(kind).to_numpy() for name, kind in types.items()}
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: {shorten(str(error))}") from None
    if not len(kinds):
        raise InputError(f"{path}: no row")
    for name, values in columns.items():
        if len(bad := np.flatnonzero(~((values >= 0) & (values <= MOST)))):
            raise InputError(f"{path}, row {bad[0]}, {name}: {values[bad[0]]} is not from 0 to {MOST:g}")
    return columns, kinds


def _times(columns: Times, kinds: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Return a column by kind of operation: arrays of shape (stages, operations, ranks, steps)."""
    found = {}
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        axes = [columns[axis][rows] for axis in AXES]
        shape = [len(np.unique(axis)) for axis in axes]
        if np.prod(shape) != len(rows) or len(np.unique(np.stack(axes), axis=1).T) != len(rows):
            raise _Other(f"{kind}: not the same operations on all stages and ranks, and in all steps")
        found[str(kind)] = columns[name][rows[np.lexsort(axes[::-1])]].reshape(shape)
    return found


def transfers(start: Times, duration: Times) -> tuple[dict[str, np.ndarray], Order]:
    """Return how long operations take without waiting for others.

    Parameters
    ----------
    start, duration : dict of str to ndarray of float64, shape (stages, operations, ranks, steps)
        In s, by kind of operation.

    Returns
    -------
    times : dict of str to ndarray of float64
        Of computing as recorded; of communication from the start of the last that takes part.
    order : list of list of (str, int)
        Operations of computing of each stage in their order: kind and number.
    """
    if missing := [kind for kind in COMPUTE if kind not in start]:
        raise _Other(f"no {missing[0]}")
    forward, backward = (start[kind] for kind in COMPUTE)
    stages, count, ranks, steps = forward.shape
    known = {
        *COMPUTE, "forward-send", "forward-recv", "backward-send", "backward-recv", "params-all-gather", "gc",
        "layernorm-grads-all-reduce", "embedding-grads-all-reduce", "grads-reduce-scatter",
        "optimizer-clip-main-grad", "optimizer",
    }  # fmt: skip
    if other := start.keys() - known:
        raise _Other(f"operations {', '.join(sorted(other))}")
    for kind, each in start.items():
        expected = (stages, each.shape[1], ranks, steps)
        if kind.endswith(("send", "recv")):
            expected = (stages - 1, count, ranks, steps)
        elif kind in COMPUTE:
            expected = forward.shape
        elif kind == "embedding-grads-all-reduce":
            expected = (min(2, stages), 1, ranks, steps)
        if each.shape != expected:
            raise _Other(f"{kind}: operations {each.shape}, expected {expected}")
    none = np.zeros((stages, 1, ranks, steps))
    end = {kind: start[kind] + duration[kind] for kind in start}

    def moved(kind: str, axes: tuple[int, ...]) -> np.ndarray:
        if kind not in start:
            return none
        return np.maximum(0, end[kind] - start[kind].max(axis=axes, keepdims=True))

    found = {kind: duration.get(kind, none) for kind in (*COMPUTE, "layernorm-grads-all-reduce", "optimizer")}
    found["params-all-gather"] = moved("params-all-gather", (2,))
    if (shared := "embedding-grads-all-reduce") in start:
        found[shared] = moved(shared, (0,))
    found["grads-reduce-scatter"] = moved("grads-reduce-scatter", (2,))
    found["optimizer-clip-main-grad"] = moved("optimizer-clip-main-grad", (0, 2))
    for way in ("forward", "backward"):
        if stages > 1:
            if not {f"{way}-send", f"{way}-recv"} <= start.keys():
                raise _Other(f"no {way}-send or {way}-recv")
            later = np.maximum(start[f"{way}-send"], start[f"{way}-recv"])
            found[f"{way}-recv"] = np.maximum(0, end[f"{way}-recv"] - later)
    order = []
    for stage in range(stages):
        both = np.concatenate((forward[stage, :, 0, 0], backward[stage, :, 0, 0]))
        count = len(forward[stage])
        order.append(
            [(COMPUTE[each // count], int(each % count)) for each in np.argsort(both, kind="stable")]
        )
    return found, order


def usual(kind: str, times: np.ndarray) -> np.ndarray:
    """Return times as long as the mean of their kind, or the median of communication."""
    computes = kind in COMPUTE or kind == "optimizer"
    return np.full_like(times, times.mean() if computes else np.median(times))


def replay(times: Times, order: Order) -> np.ndarray:
    """Replay steps: an operation begins when the operations that it needs have ended.

    Parameters
    ----------
    times, order
        See `transfers`.

    Returns
    -------
    ndarray of float64, shape (steps,)
        Duration of each step in s.
    """
    stages, done = len(order), dict[tuple[str, int, int], Any]()
    clock = list(times["params-all-gather"].sum(axis=1))  # (ranks, steps) of each stage
    places = [0] * stages
    while any(place < len(each) for place, each in zip(places, order, strict=True)):
        before = sum(places)
        for stage, operations in enumerate(order):
            for kind, number in operations[places[stage] :]:
                way = 1 if kind == COMPUTE[0] else -1
                peer, at = stage - way, clock[stage]
                if 0 <= peer < stages:
                    if (kind, peer, number) not in done:
                        break
                    received = times[kind.replace("compute", "recv")][min(peer, stage), number]
                    at = np.maximum(at, done[kind, peer, number] + received)
                clock[stage] = done[kind, stage, number] = at + times[kind][stage, number]
                places[stage] += 1
        if sum(places) == before:
            raise _Other("operations that wait for each other")
    now = np.stack(clock) + times["layernorm-grads-all-reduce"].sum(axis=1)
    if (shared := times.get("embedding-grads-all-reduce")) is not None:
        now[[0, -1]] = now[[0, -1]].max(axis=0) + shared[[0, -1], 0]
    for each in np.moveaxis(times["grads-reduce-scatter"], 1, 0):
        now = now.max(axis=1, keepdims=True) + each
    now = now.max(axis=(0, 1), keepdims=True) + times["optimizer-clip-main-grad"].sum(axis=1)
    ends: np.ndarray = (now + times["optimizer"].sum(axis=1)).max(axis=(0, 1))
    return ends


BYTEDANCE = Importer("bytedance", "operations of ByteDance's straggler analysis: Parquet", read)
