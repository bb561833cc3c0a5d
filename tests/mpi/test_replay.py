"""Real asynchronous runs, recomputed in one process from their traces: bit-identical.

This pins down buffers (a payload that changed under the decoder's hands), late payloads, memories and what
was given back to them, rounding, the weights of unequal shards, keyed batches and rows, codes that
follow what has arrived, replicas, and the order of arrivals.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from paths import SUPPORT
from shell import environment

from pdcode import Trace

COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "problem.l2=1e-3", "code.blocks=[8, 1]",
    "code.weight=4", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.002", "stragglers.slow=[4]", "stragglers.slowdown=8",
]  # fmt: skip
FEW = ["workers.count=5", "stop.updates=200"]
MANY = ["workers.count=8", "stop.updates=1000", "stragglers.shift_s=0.0005", "wire.dtype=int8"]
EF_WASTE = ["update.mode=first", "update.late=waste", "optimizer.momentum=0.5", "wire.dtype=float16"]
NONE, FIRST = "memory.kind=none", ["update.mode=first", "update.count=3"]


def scheme(name: str) -> list[str]:
    """Overrides that choose a scheme, with nothing left of the code and the memory above."""
    plugins = [f'plugins=["{SUPPORT / "clipped.py"}"]'] if name == "clipped" else []
    return [*plugins, f"scheme.name={name}", 'code={family="uncoded",blocks=1,rotate=false}']


CASES = {
    "worker-int8": [*MANY, "memory.kind=worker", "code.rows_per_task=3"],
    "tracking-int8": [*MANY, "memory.kind=coordinator", "decoder.kind=tracking", "code.rows_per_task=3"],
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
    "topk": [*scheme("topk"), "scheme.options.share=0.1", "wire.dtype=bfloat16", "downlink.kind=codewords"],
    "local": [*scheme("local"), "scheme.options.steps=3", "wire.dtype=int8", *FIRST],
    "cyclic": [*scheme("cyclic"), "scheme.options.stragglers=2", "stragglers.dead=[1]", "stop.seconds=50"],
    "rounds": [*scheme("clipped"), *FIRST, "update.late=waste"],
    "relay": [
        "downlink.kind=codewords", "downlink.check=5", "wire.dtype=int8", "code.blocks=units",
        "code.share=0.25", "faults.nan_worker=1", "faults.nan_task=20",
    ],
}  # fmt: skip


def replay(path: Path) -> tuple[int, str]:
    """The command in a process of its own, with the one BLAS thread that ranks have."""
    command = [sys.executable, "-m", "pdcode", "replay", str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("how", CASES)
def test_theta_is_the_same_to_the_last_bit(run: object, trace_path: Path, how: str) -> None:
    size = [] if MANY[0] in CASES[how] else FEW
    done = run(*COMMON, *size, *CASES[how], job="")
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    updates = 200 if size else 1000
    assert trace.updates["version"][-1] == updates <= trace.arrivals.rows
    assert trace.arrivals["staleness"].max() > 0
    code, out = replay(trace_path)
    assert code == 0, out
    assert f"{trace.arrivals.rows} arrivals, {updates} updates and {trace.progress.rows} rows" in out
    if size:
        return
    with h5py.File(trace_path, "r+") as file:
        file["arrivals/applied_version"][500] -= 1
    code, out = replay(trace_path)
    assert code == 1
    assert "arrivals row 500: applied_version: recorded " in out


@pytest.mark.parametrize("mode", ["first", "all", "captured"])
def test_a_run_that_came_to_its_target_is_the_same(run: object, trace_path: Path, mode: str) -> None:
    """Rank 0 looks at the loss now and then, so some arrivals of the next update are in by then."""
    done = run(
        *COMMON, *FEW, NONE, f"update.mode={mode}", "stop.loss=1.9", "stop.updates=5000", "stop.seconds=30.0",
        "trace.progress_s=0.05", job="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "stopped: loss" in done.stdout
    code, out = replay(trace_path)
    assert code == 0, out
