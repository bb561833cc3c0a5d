"""Benchmark of the virtual clock without numerics: arrivals/s against SimPy and a bare heapq loop.

In the model, workers have exponential service times, drawn by key; tasks and replies of 1,000 bytes pass rank
0's link one after another, at a load of 80 %. SimPy runs the same asynchronous model on the same, precomputed
delays and must end at the same nanosecond. The bare loop has no link.
"""

from __future__ import annotations

import heapq
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pdcode import stragglers
from pdcode.bench.machine import processor
from pdcode.config import (
    Config,
    LinkTable,
    MachineTable,
    StopTable,
    StragglersTable,
    TraceTable,
    UpdateTable,
    WorkersTable,
)
from pdcode.util.errors import InputError
from pdcode.virtual.timing_only import TimingOnly

SIZES = (100, 1_000, 10_000, 100_000)
ARRIVALS, EACH, ROUNDS = 3_000_000, 100, 3  # arrivals of pdcode's loop: total, and least number per worker
HEAPQ, SIMPY = 10, 50  # factors by which heapq and SimPy have fewer arrivals
BYTES, BANDWIDTH, LATENCY_S, TASK_S, LOAD = 1000, 1e9, 2e-5, 1e-4, 0.8
MANY, UPDATES = 100_000, 100
MANY_WORKERS = """
seed = 1
[problem]
data = "digits"
[workers]
count = 100000
[stragglers]
kind = "shifted-exponential"
mean_s = 0.1
[trace]
arrivals = "none"
"""


def run() -> int:
    """Measure, and print the tables."""
    simpy = load_simpy()
    print(f"virtual clock without numerics, exponential delays drawn by key, CPU time. {processor()}")
    print(
        f"{'workers':>9}{'async/s':>12}{'ns':>7}{'÷ log n':>9}{'first/s':>12}{'ns':>7}{'÷ log n':>9}"
        f"{'heapq/s':>12}{'SimPy/s':>10}{'async ÷ SimPy':>15}"
    )
    base: list[float] = []
    pdcode_rate(SIZES[0], UpdateTable.of({}), ARRIVALS)  # warm-up
    for workers in SIZES:
        arrivals = max(ARRIVALS, EACH * workers)
        modes = [UpdateTable.of({"mode": mode}) for mode in ("async", "first")]
        measured = [[pdcode_rate(workers, update, arrivals) for update in modes] for _ in range(ROUNDS)]
        rates = [statistics.median(column) for column in zip(*measured, strict=True)]
        bare = heapq_rate(workers, arrivals // HEAPQ)
        other = simpy_rate(simpy, workers, arrivals // SIMPY)
        costs = [1e9 / rate for rate in rates]
        base = base or [cost / math.log(workers) for cost in costs]
        growth = [cost / math.log(workers) / first for cost, first in zip(costs, base, strict=True)]
        cells = "".join(
            f"{rate:12,.0f}{cost:7.1f}{by_log:9.2f}"
            for rate, cost, by_log in zip(rates, costs, growth, strict=True)
        )
        print(f"{workers:9,}{cells}{bare:12,.0f}{other:10,.0f}{rates[0] / other:15.0f}", flush=True)
    print("÷ log n: ns per arrival over the logarithm of n, relative to the first line")
    print(f"\npdcode simulate --timing-only, the whole command, {MANY:,} workers × {UPDATES} rounds:")
    for name, updates in (("all", UPDATES), ("first", UPDATES), ("async", MANY * UPDATES)):
        seconds, peak = time_command(name, updates)
        print(f"{name:>9}: {seconds:5.1f} s, {peak / 2**20:6.0f} MiB at its peak", flush=True)
    return 0


def load_simpy() -> Any:
    """Import SimPy; if it is not installed, an `InputError` names the command to install it."""
    try:
        import simpy
    except ModuleNotFoundError:
        raise InputError("benchmark events: needs simpy; `make .venv/extra-bench` installs it") from None
    return simpy


def model_config(workers: int, update: UpdateTable, updates: int) -> Config:
    """Return the configuration of the model."""
    mean_s = workers * BYTES / BANDWIDTH / LOAD
    return Config(
        workers=WorkersTable(count=workers),
        update=update,
        stragglers=StragglersTable.of({"kind": "shifted-exponential", "mean_s": mean_s}),
        machine=MachineTable(arrival_s=0, dispatch_s=0),
        link=LinkTable(bandwidth=BANDWIDTH, latency_s=LATENCY_S, broadcast="star"),
        stop=StopTable(updates=updates),
        trace=TraceTable(arrivals="none"),
    )


def pdcode_rate(workers: int, update: UpdateTable, arrivals: int) -> float:
    """Measure pdcode's arrivals per second, with the drawing of delays."""
    per_update = update.min_payloads(workers) or workers
    loop = TimingOnly(
        model_config(workers, update, arrivals // per_update), round(1e9 * TASK_S), BYTES, 0, BYTES
    )
    start_s = time.process_time()
    result = loop.run()
    return result.arrivals / (time.process_time() - start_s)


def delays(workers: int, arrivals: int) -> list[list[int]]:
    """Draw delays in ns of each worker's tasks, enough for the number of arrivals."""
    config = model_config(workers, UpdateTable.of({}), 1)
    drawn = config.stragglers.make(config.seed, workers)
    count = 2 * arrivals // workers + 64  # the fastest worker has more tasks than the mean
    zeros = np.zeros(workers, np.int64)
    rows: list[list[int]] = stragglers.delays_ns(drawn, np.arange(workers), zeros, count, zeros).tolist()
    return rows


def heapq_rate(workers: int, arrivals: int) -> float:
    """Measure the arrivals per second of a loop that only pops an event and pushes another."""
    ahead = list(itertools.islice(itertools.chain.from_iterable(delays(workers, arrivals)), arrivals))
    heap = [(delay, number, number) for number, delay in enumerate(ahead[:workers])]
    heapq.heapify(heap)
    start_s = time.process_time()
    for number, delay in enumerate(ahead):
        now, _, worker = heapq.heappop(heap)
        heapq.heappush(heap, (now + delay, number, worker))
    return arrivals / (time.process_time() - start_s)


def simpy_rate(simpy: Any, workers: int, arrivals: int) -> float:
    """Measure the arrivals per second of SimPy, asynchronous; it must end at pdcode's nanosecond."""
    environment = simpy.Environment()
    up, down = simpy.Resource(environment), simpy.Resource(environment)
    on_link, task = (round(1e9 * seconds) for seconds in (BYTES / BANDWIDTH, 2 * LATENCY_S + TASK_S))
    enough, count = environment.event(), 0

    def worker(mine: list[int]) -> Iterator[Any]:
        nonlocal count
        for delay in mine:
            with down.request() as turn:
                yield turn
                yield environment.timeout(on_link)
            yield environment.timeout(task + delay)
            with up.request() as turn:
                yield turn
                yield environment.timeout(on_link)
            count += 1
            if count == arrivals:
                enough.succeed(environment.now)

    for mine in delays(workers, arrivals):
        environment.process(worker(mine))
    start_s = time.process_time()
    end_ns = environment.run(enough)
    rate = arrivals / (time.process_time() - start_s)
    loop = TimingOnly(
        model_config(workers, UpdateTable.of({}), arrivals), round(1e9 * TASK_S), BYTES, 0, BYTES
    )
    loop.run()
    if loop.rounds.stopped_ns != end_ns:
        raise RuntimeError(f"SimPy's run ends at {end_ns} ns, ours at {loop.rounds.stopped_ns} ns")
    return rate


def time_command(mode: str, updates: int) -> tuple[float, int]:
    """Measure the time of the whole command in s, and its peak memory in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.toml"
        path.write_text(MANY_WORKERS, encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pdcode", "simulate", str(path), "--timing-only"]
        command += ["-o", str(Path(folder) / "many.h5"), "--set", f"update.mode={mode}"]
        command += ["--set", f"stop.updates={updates}"]
        start_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - start_s, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, 1024 * usage.ru_maxrss
