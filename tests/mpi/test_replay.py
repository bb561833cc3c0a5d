"""A real asynchronous run, recomputed on one processor from its trace: the same θ to the last bit.

This pins down buffers (a payload that changed under the decoder's hands), late payloads, error feedback, the
weights of unequal shards, keyed batches and rows, and the order of arrivals.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pdcode import Trace, memory, problems
from pdcode.configfile import resolve
from pdcode.rng import Batches
from pdcode.run import prepare


def replay(trace: Trace, overrides: list[str]) -> np.ndarray:
    """θ at the end, by the order of arrivals in the trace alone."""
    config = resolve({}, overrides)
    parts, workers, table = prepare(config), config.workers.count, config.problem
    assert parts.source is not None
    respond, batches, plans = [], [], []
    for worker in range(workers):
        shard = problems.receive(table, parts.source.shard(worker, workers), worker, workers)
        problem = problems.Problem.from_dataset(table, shard, config.code.blocks)
        weight = workers * shard.rows / parts.source.rows
        plans.append(problem.plan(table.batch, config.code.rows_per_task, weight=weight))
        respond.append(memory.create(config.memory.kind, plans[-1]))
        batches.append(Batches(config.seed, worker, shard.rows, table.batch))
    theta, rows = parts.problem.initial(config.seed), trace.arrivals
    thetas, used, damping = {0: theta.copy()}, iter(trace.updates["n_used"]), 0.0
    layers, expected, count = parts.layout.layers, next(used), 0
    for worker, task, version, row, status, staleness in zip(
        *(rows[name] for name in ("worker", "task", "version", "code_row", "status", "staleness")),
        strict=True,
    ):
        words = parts.assignment.codewords(int(row))
        respond[worker](
            thetas[version], batches[worker].draw(int(task)), [words[layer.count] for layer in layers]
        )
        if status != 0:
            continue
        for decoder, layer, view in zip(parts.decoders, layers, plans[worker].views, strict=True):
            decoder.add_sparse(*words[layer.count], view.copy())
        count += 1
        damping += parts.optimizer.damping(staleness)
        if count == expected:
            parts.optimizer.step(theta, layers, parts.decoders, damping / count)
            for decoder in parts.decoders:
                decoder.reset()
            thetas[len(thetas)] = theta.copy()
            count, damping, expected = 0, 0.0, next(used, 0)
    return theta


COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "problem.l2=1e-3", "code.blocks=[8, 1]",
    "code.weight=4", "workers.count=5", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.002",    "stragglers.slow=[4]", "stragglers.slowdown=8", "stop.updates=200",
]  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [
        ["code.rows_per_task=3"],
        ["memory.kind=none", "decoder.kind=least_squares", "update.mode=first", "update.count=3"],
        ["memory.kind=none", "decoder.kind=tracking", "optimizer.kind=adam", "optimizer.staleness=inverse"],
        ["memory.kind=none", "update.mode=first", "update.late=waste", "optimizer.momentum=0.5"],
        ["update.mode=captured", "update.fraction=0.25", "problem.axis=input", "problem.dtype=float64"],
    ],
    ids=lambda how: "-".join(word.rpartition("=")[2] for word in how),
)
def test_theta_is_the_same_to_the_last_bit(run: object, trace_path: Path, how: list[str]) -> None:
    done = run(*COMMON, *how, job="")
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.updates["version"][-1] == 200
    assert trace.arrivals["staleness"].max() > 0
    np.testing.assert_array_equal(replay(trace, [*COMMON, *how]), trace.theta)
