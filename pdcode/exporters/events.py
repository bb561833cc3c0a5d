"""Events of a run: what rank 0 and the workers do, in regions, and the messages between them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..analysis.timing import injected_ns
from ..trace.schema import FATES
from ..util.datasets import damaged
from ..util.errors import InputError
from .request import Request

ENTER, LEAVE, SEND, RECEIVE = range(4)
COMPUTE, DELAY, DECODE, TASK = range(4)
REGIONS = "compute", "injected delay", "decode", "task", *(f"task, {fate}" for fate in FATES[1:])
"""Names of regions, with a task for each fate of its payload."""

EVENT = np.dtype(
    [
        ("location", "i4"),  # 0: rank 0; i + 1: worker i
        ("t_ns", "i8"),
        ("kind", "i1"),
        ("region", "i1"),  # of ENTER and LEAVE
        ("peer", "i4"),  # of messages: the other location
        ("bytes", "i8"),
        ("message", "i8"),  # its number, also of a decoding: even ones are payloads, odd ones tasks
    ]
)
COLUMNS = (
    "worker", "t_dispatch_ns", "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "t_decoded_ns",
    "injected_delay_ns", "bytes_up", "bytes_down", "status", "part",
)  # fmt: skip
CHUNK = 10_000


def events(request: Request) -> tuple[np.ndarray, int, str]:
    """Return the events of a run by location and time.

    If they are more than wanted, consecutive payloads of a worker are merged, with the sums of their bytes
    and of their times in regions.

    Returns
    -------
    found : ndarray of EVENT
        Regions are nested, and times not negative: all are shifted if a worker's clock says so.
    merged : int
        Number of consecutive payloads of a worker that have the events of one.
    text : str
        These numbers.
    """
    trace = request.trace
    table, rows = trace.arrivals, trace.arrivals.rows
    if not rows:
        why = " (trace.arrivals is 'none')" * (trace.attributes.get("arrivals") == "none")
        raise InputError(f"{trace.path}: has no arrivals{why}, which --to {request.to} needs")
    order = np.lexsort((table["t_start_ns"], table["worker"]))
    arrival = {key: table[key][order] for key in COLUMNS}
    _ensure_countable(arrival, str(trace.path))
    worker, gap = arrival["worker"], arrival["t_send_ns"] - arrival["t_compute_ns"]
    delay = injected_ns(gap, arrival["injected_delay_ns"])
    each = 12 if delay.any() else 10  # events of a payload
    merged = -(-rows // max(1, request.events // each - trace.worker_count)) if request.events else 1
    begins = np.flatnonzero(np.diff(worker, prepend=-1))
    place = np.arange(rows) - np.repeat(begins, np.diff(begins, append=rows))
    first = np.flatnonzero(place % merged == 0)
    last = np.append(first[1:], rows) - 1

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, first)

    compute = total(np.maximum(arrival["t_compute_ns"] - arrival["t_start_ns"], 0))
    delay, up, down = total(delay), total(arrival["bytes_up"]), total(arrival["bytes_down"])
    decode, received = total(_decoding_ns(arrival)), arrival["t_recv_ns"][last]
    tasked = total(arrival["part"] == 0) > 0  # later parts of a reply answer the same message
    worker, sent = worker[first], arrival["t_dispatch_ns"][first]
    start = arrival["t_start_ns"][first]
    length = np.maximum(arrival["t_send_ns"][last] - start, compute + delay)
    for own in np.split(np.arange(len(first)), np.flatnonzero(np.diff(worker)) + 1):
        start[own] = _apart(start[own], length[own])
    task = TASK + (arrival["status"][first] if merged == 1 else 0)
    number, place = np.arange(len(first)), worker + 1
    at = start + compute
    own = _interleaved(
        (place, start, RECEIVE, 0, 0, down, 2 * number + 1, tasked),
        (place, start, ENTER, task, 0, 0, 0, True),
        (place, start, ENTER, COMPUTE, 0, 0, 0, True),
        (place, at, LEAVE, COMPUTE, 0, 0, 0, True),
        (place, at, ENTER, DELAY, 0, 0, 0, delay > 0),
        (place, at + delay, LEAVE, DELAY, 0, 0, 0, delay > 0),
        (place, start + length, SEND, 0, 0, up, 2 * number, True),
        (place, start + length, LEAVE, task, 0, 0, 0, True),
    )
    order = np.lexsort((received, arrival["t_decoded_ns"][last]))
    up, received, decode, place, number = (each[order] for each in (up, received, decode, place, number))
    begin = _apart(received, decode)
    rank_0 = _interleaved(
        (0, received, RECEIVE, 0, place, up, 2 * number, True),
        (0, begin, ENTER, DECODE, 0, 0, 2 * number, True),
        (0, begin + decode, LEAVE, DECODE, 0, 0, 2 * number, True),
    )
    tasks = _interleaved((0, sent, SEND, 0, worker + 1, down, 2 * np.arange(len(first)) + 1, tasked))
    rank_0 = np.concatenate((rank_0, tasks))
    found = np.concatenate((rank_0[np.argsort(rank_0["t_ns"], kind="stable")], own))
    found["t_ns"] -= min(0, int(found["t_ns"].min()))
    text = f"{len(found):,} events of {rows:,} payloads" + f", merged in groups of {merged:,}" * (merged > 1)
    return found, merged, text


def in_turn(found: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Yield events as tuples of Python's types."""
    for begin in range(0, len(found), CHUNK):
        yield from found[begin : begin + CHUNK].tolist()


def locations(request: Request) -> list[str]:
    """Return the names of the locations."""
    return ["rank 0", *(f"worker {worker}" for worker in range(request.trace.worker_count))]


def _ensure_countable(arrival: dict[str, np.ndarray], where: str) -> None:
    """Refuse times whose differences or sums overflow."""
    start, send, received, decoded = (
        arrival[f"t_{key}_ns"].astype(np.float64) for key in ("start", "send", "recv", "decoded")
    )
    span = max(each.max() for each in (send, decoded)) - min(start.min(), 0.0)
    total = max(np.maximum(send - start, 0).sum(), np.maximum(decoded - received, 0).sum())
    if span > 2**60 or total > 2**62:
        raise damaged(where, f"times of arrivals span {span:.3g} ns, and sum up to {total:.3g} ns")


def _decoding_ns(arrival: dict[str, np.ndarray]) -> np.ndarray:
    """Return the time from each payload's arrival, or the previous decoding if later, to its decoding."""
    order = np.lexsort((arrival["t_recv_ns"], arrival["t_decoded_ns"]))
    decoded, taken = arrival["t_decoded_ns"][order], np.empty(len(order), np.int64)
    before = np.concatenate(([0], decoded[:-1]))
    taken[order] = np.maximum(decoded - np.maximum(arrival["t_recv_ns"][order], before), 0)
    return taken


def _apart(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the least begins, none earlier than given, of intervals that do not overlap."""
    before = np.cumsum(length) - length
    return np.maximum.accumulate(begin - before) + before


def _interleaved(*columns: tuple[Any, ...]) -> np.ndarray:
    """Return events by place and column: each column has the fields of its events, and which there are."""
    count = max(np.size(each) for each in columns[0])
    found = np.zeros((count, len(columns)), EVENT)
    present = np.empty(found.shape, bool)
    for number, (*fields, there) in enumerate(columns):
        for name, values in zip(EVENT.names or (), fields, strict=True):
            found[name][:, number] = values
        present[:, number] = there
    return found[present]
