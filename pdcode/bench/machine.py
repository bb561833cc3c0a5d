"""Calibration of the tables ``[machine]`` and ``[link]`` for this machine, by real runs of two sizes.

Two workers without stragglers send full gradients of a small and of a large network. Two sizes separate the
fixed part of a task's time from the part in its flops, and the latency from the bandwidth.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from ..config import LinkTable, MachineTable
from ..session.setup import prepare
from ..util.progress import track
from ..virtual import calibration
from . import runs

TEXT = """
[scheme]
name = "uncoded"
[problem]
data = "digits"
batch = 32
[update]
mode = "async"
[optimizer]
rate = 0.01
[workers]
count = 2
"""
SIZES = {"small": 8, "large": 2048}  # numbers of hidden units
UPDATES = {"small": 2000, "large": 500}


def run() -> int:
    """Measure, and print the tables for a configuration."""
    tables, remarks = measure()
    for line in remarks:
        print(f"# {line}")
    print(text(tables))
    return 0


def measure() -> tuple[dict[str, MachineTable | LinkTable], list[str]]:
    """Measure; return ``[machine]`` and ``[link]`` by name, and lines on how they were measured."""
    seen, flops, message, replies, computed = [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, hidden in track(SIZES.items(), len(SIZES), "runs over MPI"):
            overrides = [f"problem.hidden=[{hidden}]", f"stop.updates={UPDATES[name]}"]
            config, trace = runs.run_over_mpi(TEXT, overrides, Path(folder) / f"{name}.h5")
            components = prepare(config)
            seen.append(calibration.times(trace, np.inf))
            flops.append(components.flops())
            computed.append(components.coordinator_flops)
            replies.append(components.layout.reply_bytes)
            message.append((components.layout.task_bytes + components.layout.reply_bytes) / 2)
    remarks = [
        f"pdcode bench machine: 2 workers, small and large messages of {message[0]:,.0f} and "
        f"{message[1]:,.0f} bytes",
        processor(),
    ]
    for name, each in zip(SIZES, seen, strict=True):
        arrival, update = 1e6 * each.arrival, 1e6 * each.update
        remarks.append(
            f"{name}: rank 0 takes {arrival:.1f} µs an arrival, {update:.1f} µs from there to the next task"
        )
    machine, link = calibration.fit_two_sizes(seen, flops, message, replies, computed)
    return {"machine": machine, "link": link}, remarks


def text(tables: Mapping[str, MachineTable | LinkTable]) -> str:
    """Format tables as TOML."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        for key, value in msgspec.structs.asdict(table).items():
            if value is None:
                continue
            number = f"{value:.4g}" if isinstance(value, float) else str(value).lower()
            lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {number}")
    return "\n".join(lines)


def processor() -> str:
    """Return the name of the processor, and the core type set for numpy's BLAS."""
    name = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(
                (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name
            )
    except OSError:
        pass
    core = os.environ.get("OPENBLAS_CORETYPE")
    return name + (f"; OPENBLAS_CORETYPE={core}" if core else "")
