"""Comparison of real runs with predictions on the virtual clock: time per update, and time to a loss.

Eight workers on this machine with injected sleeps, three schemes under two straggler models. A separate run
with another seed calibrates the costs of the machine and its messages. Predictions do not use the runs that
they predict. Delays are keyed, and thus equal on both clocks.
"""

import itertools
import os
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from ..config import LinkTable, MachineTable
from ..trace.reader import TraceReader
from ..training.setup import prepare
from ..util.progress import track, work
from ..virtual.calibration import fit
from ..virtual.simulation import simulate
from . import runs
from .machine import processor

TEXT = """
seed = 1
[problem]
kind = "mlp"
data = "digits"
hidden = [64]
batch = 32
l2 = 1e-4
[code]
family = "net"
blocks = [16, 1]
weight = 4
rows_per_task = 2
[memory]
kind = "worker"
[optimizer]
rate = 0.35
[workers]
count = 8
[stop]
loss = 0.1
seconds = 60.0
[trace]
progress_s = 0.03
"""
SCHEMES = {
    "all": ["update.mode=all"],
    "first 6": ["update.mode=first", "update.count=6"],
    "async": ["update.mode=async"],
}
MODELS = {
    "shifted-exponential": [
        "stragglers.kind=shifted-exponential", "stragglers.shift_s=0.02", "stragglers.mean_s=0.01",
    ],
    "pareto": ["stragglers.kind=pareto", "stragglers.shift_s=0.02", "stragglers.shape=3.0"],
}  # fmt: skip
MAX_ERROR = 0.1  # largest relative error of a prediction
CALIBRATION = ["seed=2", "stop.updates=100", *SCHEMES["first 6"], *MODELS["shifted-exponential"]]


def run(*settings: str) -> int:
    """Measure, predict and print the table; `settings` override keys.

    Return exit code 1 if a prediction is off by more than `MAX_ERROR`.
    """
    began_s, worst = time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        with work("calibration", None):
            config, trace = runs.run_over_mpi(
                TEXT, [*CALIBRATION, *settings], Path(folder) / "calibration.h5"
            )
        components = prepare(config)
        machine, link = fit(trace, components.flops())
        print(f"8 workers with injected sleeps; {len(os.sched_getaffinity(0))} cores. {processor()}")
        print(
            f"costs from a run of {CALIBRATION[1].partition('=')[2]} updates: {format_costs(machine, link)}"
        )
        print(f"{'':28}{'median time of an update, ms':^32}{'time to loss 0.1, s':^32}")
        columns = 2 * f"{'real':>11}{'predicted':>11}{'ratio':>10}"
        print(f"{'delays':20}{'steps at':8}{columns}{'× oracle':>10}", flush=True)
        cases = list(itertools.product(MODELS.items(), SCHEMES.items()))
        for (model, delays), (scheme, updates) in track(cases, len(cases), "runs over MPI"):
            config, trace = runs.run_over_mpi(
                TEXT, [*updates, *delays, *settings], Path(folder) / f"{scheme}-{model}.h5"
            )
            predicted = simulate(msgspec.structs.replace(config, machine=machine, link=link))
            pairs = [
                (1e3 * update_s(trace), 1e3 * predicted.update_s),
                (target_s(trace, config.stop.loss or 0.0), predicted.target_s),
            ]
            cells = [f"{real:11.3f}{guess:11.3f}{guess / real:10.3f}" for real, guess in pairs]
            print(f"{model:20}{scheme:8}{''.join(cells)}{predicted.multiple:10.2f}", flush=True)
            worst = max(worst, *(abs(guess / real - 1) for real, guess in pairs))
    print(f"largest error {100 * worst:.1f} %; all of it took {time.perf_counter() - began_s:.0f} s")
    print("× oracle: predicted time to the loss over that of an oracle that balances the same work perfectly")
    return 0 if worst <= MAX_ERROR else 1


def format_costs(*tables: MachineTable | LinkTable) -> str:
    """Format tables of costs in one line."""
    pairs = [pair for table in tables for pair in msgspec.structs.asdict(table).items()]
    return ", ".join(f"{key} {value:.4g}" for key, value in pairs if isinstance(value, float))


def update_s(trace: TraceReader) -> float:
    """Return the median time of an update in s."""
    return 1e-9 * float(np.median(np.diff(trace.updates["t_ns"], prepend=0)))


def target_s(trace: TraceReader, loss: float) -> float:
    """Return the time in s of the first measurement at or below a loss."""
    reached = trace.progress["loss"] <= loss
    return 1e-9 * float(trace.progress["t_ns"][reached][0]) if reached.any() else np.inf
