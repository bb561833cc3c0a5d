"""Benchmark of rank 0's cost per arrival, against a bare mpi4py loop.

Rank 0's path is receive, decode, policy, step, trace, reply. A worker replies immediately with a payload of
256 bytes. First it is a bare loop in rank 0's process, timed by processor time; then it is pdcode's on
another rank, timed by the wall clock. Loops are timed in turn, so that drift of the machine's speed affects
all.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdcode import codes, decoders
from pdcode.bench.machine import processor
from pdcode.coding import optimizers
from pdcode.coding.state import Coded
from pdcode.config import OptimizerTable, UpdateTable
from pdcode.launch import launcher
from pdcode.schemes.common.assignments import Rotating
from pdcode.trace.writer import TraceWriter
from pdcode.training.coordinator import Coordinator
from pdcode.training.fused import make_coordinator
from pdcode.transport.base import Computed
from pdcode.transport.layout import Layout
from pdcode.transport.units import Blocks

if TYPE_CHECKING:
    from pdcode.mpi.fleet import MPIFleet

Pair = tuple[float, float]
"""Arrivals per second of a bare loop, and of rank 0's path."""

PAIRS, ROUNDS = 7, 20_000
LAYER = Blocks(
    layer=0, axis="output", count=16, rows=16, width=64, offset=0
)  # a block is 256 bytes in float32
DTYPE = np.dtype("float32")


def run() -> int:
    """Measure on ranks 0 and 1, which are started unless a launcher has started them, and print on rank 0."""
    if launcher.launched_rank(os.environ) is None:
        command, environment = launcher.command(1, [])
        start = command[: command.index(sys.executable)]
        return subprocess.call([*start, sys.executable, "-m", "benchmarks", "messages"], env=environment)
    from pdcode.mpi.fleet import MPIFleet, Ranks
    from pdcode.mpi.process import job

    from . import bare_mpi, loopback

    with job() as comm, tempfile.TemporaryDirectory() as folder:
        code = codes.design("net", workers=16, blocks=16, weight=4)
        layout = Layout([LAYER], [1], [code.weight], DTYPE)
        alone, ranks, trace = [], [], Path(folder) / "bench.h5"
        for _ in range(1 + PAIRS if not comm.rank else 0):  # the first pair is a warm-up
            rate = loopback.exchange(ROUNDS, layout)
            alone.append(
                (rate, measure_rate(loopback.LoopbackFleet(layout), layout, code, trace, time.process_time))
            )
        comm.Barrier()
        for _ in range(1 + PAIRS):
            rate = bare_mpi.exchange(ROUNDS, layout.task_bytes, layout.reply_bytes, comm)
            if comm.rank:
                echo(layout, comm)
            else:
                fleet = MPIFleet(Ranks(comm), [layout])
                ranks.append((rate, measure_rate(fleet, layout, code, trace, time.perf_counter)))
        if not comm.rank:
            report(layout, alone[1:], ranks[1:])
    return 0


def measure_rate(
    fleet: MPIFleet, layout: Layout, code: codes.Code, trace_path: Path, clock_s: Callable[[], float]
) -> float:
    """Run rank 0's side without measurements of loss; return arrivals per second of a clock."""
    trace = TraceWriter(trace_path, "", [code], {}, [member.row() for member in fleet.members])
    optimizer = optimizers.create(OptimizerTable.of({"rate": 0.1}), layout.parameters, DTYPE)
    decoder = decoders.create("adjoint", LAYER.count, LAYER.shape, DTYPE, length=LAYER.length)
    theta = np.zeros(layout.parameters, DTYPE)
    state = Coded(theta, [LAYER], [decoder], optimizer, Rotating([LAYER], [1], DTYPE, {16: code}, 0))
    state.layouts, state.policy = [layout], UpdateTable.of({}).make(1)
    coordinator = make_coordinator(fleet, state, trace)

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        if trace.due(now_ns):
            trace.flush(now_ns)
        return "enough" if coordinator.version == ROUNDS else ""

    fleet.start()
    start_s = clock_s()
    coordinator.run(observe)
    elapsed_s = clock_s() - start_s
    trace.close(theta)
    return coordinator.roster.arrivals / elapsed_s


def echo(layout: Layout, comm: Any) -> None:
    """Run the worker's side, which replies immediately."""
    from pdcode.mpi.link import Entry, MPILink

    link = MPILink(Entry(comm))
    link.connect([layout])
    while link.next_task() is not None:
        link.reply(Computed(0, 0.0, 0, 0))
    link.leave()


def report(layout: Layout, alone: list[Pair], ranks: list[Pair]) -> None:
    """Print medians, their spread, and the pairwise differences."""
    print(
        f"one worker, task {layout.task_bytes} bytes, reply {layout.reply_bytes} bytes "
        f"(payload {layout.payload_bytes}); {PAIRS} pairs of {ROUNDS} arrivals in turn. {processor()}"
    )
    for pairs, where, measured in (
        (alone, "the worker a bare loop in rank 0's process, per second of its processor", "rank 0"),
        (ranks, "the worker on a rank of its own, per second", "rank 0 and worker together"),
    ):
        print(f"{where}:\n{'':34}{'median':>12}{'least':>12}{'most':>12}{'µs each':>10}")
        names = "bare mpi4py Waitsome loop", "rank 0's whole path"
        for name, rates in zip(names, zip(*pairs, strict=True), strict=True):
            middle = statistics.median(rates)
            print(f"{name:34}{middle:12,.0f}{min(rates):12,.0f}{max(rates):12,.0f}{1e6 / middle:10.2f}")
        own = statistics.median(1e6 / whole - 1e6 / bare for bare, whole in pairs)
        print(f"cost of pdcode per arrival, {measured}: {own:.2f} µs (median of the differences)")
