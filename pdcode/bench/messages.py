"""Benchmark of rank 0's cost per arrival, against a bare mpi4py loop.

Rank 0's path is receive, decode, policy, step, trace, reply. One worker rank replies immediately with a
payload of 256 bytes. Both loops are timed in turn, so that drift of the machine's speed affects both.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import codes, decoders
from ..coding import optimizers
from ..coding.assignments import Rotating
from ..coding.policies import Policy
from ..coding.state import Coded
from ..config.tables import OptimizerTable, UpdateTable
from ..problems.partition import Blocks
from ..trace import TraceWriter
from ..training.coordinator import Coordinator
from ..transport.layout import Layout
from .timing import processor

PAIRS, ROUNDS = 7, 20_000
LAYER = Blocks(
    layer=0, axis="output", count=16, rows=16, width=64, offset=0
)  # a block is 256 bytes in float32
DTYPE = np.dtype("float32")


def run() -> int:
    """Measure on ranks 0 and 1, and print on rank 0."""
    from ..mpi.bare import exchange
    from ..mpi.process import job

    with job() as comm, tempfile.TemporaryDirectory() as folder:
        code = codes.design("net", workers=16, blocks=16, weight=4)
        layout = Layout([LAYER], [1], [code.weight], DTYPE)
        bare, whole = [], []
        for _ in range(1 + PAIRS):  # the first pair is a warm-up
            bare.append(exchange(ROUNDS, layout.task_bytes, layout.reply_bytes, comm))
            if comm.rank:
                echo(layout, comm)
            else:
                whole.append(path(layout, code, Path(folder) / "bench.h5", comm))
    if whole:
        report(layout, bare[1:], whole[1:])
    return 0


def path(layout: Layout, code: codes.Code, trace_path: Path, comm: Any) -> float:
    """Run rank 0's side without measurements of loss; return arrivals per second."""
    from ..mpi.fleet import MPIFleet

    fleet = MPIFleet([layout], comm)
    trace = TraceWriter(trace_path, "", [code], {}, [member.row() for member in fleet.members])
    optimizer = optimizers.create(OptimizerTable(rate=0.1), layout.parameters, DTYPE)
    decoder = decoders.create("adjoint", LAYER.count, LAYER.shape, DTYPE, length=LAYER.length)
    theta = np.zeros(layout.parameters, DTYPE)
    state = Coded(theta, [LAYER], [decoder], optimizer, Rotating([LAYER], [1], DTYPE, {16: code}, 0))
    state.layouts, state.policy = [layout], Policy(UpdateTable(), 1)
    coordinator = Coordinator(fleet, state, trace)

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        if trace.due(now_ns):
            trace.flush(now_ns)
        return "enough" if coordinator.version == ROUNDS else ""

    fleet.start()
    coordinator.run(observe)
    elapsed_ns = fleet.now_ns()
    trace.close(theta)
    return 1e9 * coordinator.arrivals / elapsed_ns


def echo(layout: Layout, comm: Any) -> None:
    """Run the worker's side, which replies immediately."""
    from ..mpi.link import MPILink

    link = MPILink(comm)
    link.connect([layout])
    while link.next_task() is not None:
        link.reply(0, 0, 0, 0, 0.0)


def report(layout: Layout, bare: list[float], whole: list[float]) -> None:
    """Print medians, their spread, and the pairwise difference."""
    print(
        f"one worker, task {layout.task_bytes} bytes, reply {layout.reply_bytes} bytes "
        f"(payload {layout.payload_bytes}); {PAIRS} pairs of {ROUNDS} arrivals in turn. {processor()}"
    )
    print(f"{'':34}{'median/s':>12}{'least/s':>12}{'most/s':>12}{'µs each':>10}")
    for name, rates in (("bare mpi4py Waitsome loop", bare), ("rank 0's whole path", whole)):
        middle = statistics.median(rates)
        print(f"{name:34}{middle:12,.0f}{min(rates):12,.0f}{max(rates):12,.0f}{1e6 / middle:10.2f}")
    own = statistics.median(1e6 / b - 1e6 / a for a, b in zip(bare, whole, strict=True))
    print(f"cost of pdcode per arrival, rank 0 and worker together: {own:.2f} µs (median of the differences)")
