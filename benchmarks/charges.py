"""Benchmark of the virtual clock's charges: flops of tasks and of rank 0 beside their times on this machine.

All are multiples of the plain gradient of a mini-batch. A run on the virtual clock times each task and then
such a gradient; and rank 0's steps with averages of θ, its reading and adding up of each payload, and the
copies of θ into tasks. Times are of the processor, the lower quartile over the run, as other work on the
machine empties the caches. For schemes of several rounds a task is a whole update. From the time of a task
the time of the plain task without its gradient is subtracted: it draws rows, and reads a θ that is not in the
cache: at 10,000 parameters the other calls of Python that a task has stay, which are not charged. The work
of all owners of ranges is in the time of a step, as is reading the sums of workers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import msgspec
import numpy as np

from pdcode.bench.machine import processor
from pdcode.coding import flops
from pdcode.config import CodeTable, Config
from pdcode.config import load as configfile
from pdcode.session.setup import Components, prepare, worker_builder
from pdcode.transport.messages import Task
from pdcode.virtual.executor import InProcessExecutor
from pdcode.virtual.simulation import Simulation

TASKS, WORKERS = 120, 2
LARGE, FEW = 5e6, 40  # parameters from which there are so many tasks
JOB = [
    "problem.kind=mlp", "problem.shards=replicated", f"workers.count={WORKERS}", "trace.progress_s=1e6",
    "problem.evaluate=1000",
]  # fmt: skip
NETWORKS = {
    "784-256-10": ["problem.data=mnist5k", "problem.hidden=[256]"],
    "64-128-10": ["problem.data=digits", "problem.hidden=[128]"],
    "784-1024-512-10": ["problem.data=mnist5k", "problem.hidden=[1024,512]"],
    "784-3000-2000-10": ["problem.data=mnist5k", "problem.hidden=[3000,2000]"],
}
"""Name -> settings; the first setting is for `WORKS`, the others are for `PRESETS`."""
ALL = "update.mode=all"
WORKS = {
    "uncoded, a step of SGD": ["scheme.name=uncoded", ALL],
    "… Nesterov's momentum": ["scheme.name=uncoded", ALL, "optimizer={momentum=0.9,nesterov=true}"],
    "… and the average of θ": ["scheme.name=uncoded", ALL, "optimizer.average=true"],
    "… Adam": ["scheme.name=uncoded", ALL, "optimizer.kind=adam"],
    "… signs": ["scheme.name=uncoded", ALL, "optimizer.kind=sign"],
    "… schedule-free": ["scheme.name=uncoded", ALL, "optimizer={kind='schedule-free',longest=0.4}"],
    "… Muon": ["scheme.name=uncoded", ALL, "optimizer.kind=muon"],
    "… in float16": ["scheme.name=uncoded", ALL, "wire.dtype=float16"],
    "… in int8": ["scheme.name=uncoded", ALL, "wire.dtype=int8"],
    "… in int8, error feedback": ["scheme.name=uncoded", ALL, "wire.dtype=int8", "memory.kind=worker"],
    "… in int2, error feedback": ["scheme.name=uncoded", ALL, "wire.dtype=int2", "memory.kind=worker"],
    "… in 4 bits (qsgd)": ["scheme.name=uncoded", "scheme.preset=qsgd", ALL],
    "… whitened": ["scheme.name=uncoded", ALL, "code.whiten=gram"],
    "… whitened, 128 samples": ["scheme.name=uncoded", ALL, "code.whiten=gram", "problem.batch=128"],
    "… whitened, 512 samples": ["scheme.name=uncoded", ALL, "code.whiten=gram", "problem.batch=512"],
    "… whitened, in 3 steps": ["scheme.name=uncoded", ALL, "code.whiten=gram", "code.steps=3"],
    "lwpd:default": ["scheme.preset=default"],
    "… codewords of weight 4": ["scheme.preset=default", "code.family=auto", "code.weight=4"],
    "… relayed by rank 0": ["scheme.preset=default", "downlink.kind=codewords"],
    "lwpd, no memory": ["memory.kind=none", "code.share=0.125", ALL],
    "lwpd:sharded": ["scheme.preset=sharded"],
    "topk": ["scheme.name=topk", ALL],
    "topk:whitened": ["scheme.name=topk", "scheme.preset=whitened"],
    "randomk": ["scheme.name=randomk", ALL],
    "ef21-muon": ["scheme.name=ef21-muon"],
    "powersgd, rank 2": ["scheme.name=powersgd", "scheme.options.rank=2"],
    "powersgd, rank 8": ["scheme.name=powersgd", "scheme.options.rank=8"],
    "dion, rank 8": ["scheme.name=dion", "scheme.options.rank=8"],
    "demo": ["scheme.name=demo", ALL],
    "local, 4 steps": ["scheme.name=local", "scheme.options.steps=4"],
    "diloco, 4 steps": ["scheme.name=diloco", "scheme.options.steps=4"],
    "muloco, 4 steps": ["scheme.name=muloco", "scheme.options.steps=4"],
    "sparseloco, 4 steps": ["scheme.name=sparseloco", "scheme.options.steps=4", ALL],
}
"""Name -> settings."""
ONE_EIGHTH, ONE = "code.share=0.125", "update.count=1"
PRESETS = {
    "uncoded": ["scheme.name=uncoded", ALL],
    "uncoded, float16": WORKS["… in float16"],
    "uncoded, int4, error feedback": ["scheme.name=uncoded", ALL, "wire.dtype=int4", "memory.kind=worker"],
    "lwpd:default": ["scheme.preset=default", ONE_EIGHTH],
    "lwpd:starved": ["scheme.preset=starved"],
    "lwpd:first": ["scheme.preset=first", ONE],
    "lwpd:ring": ["scheme.preset=ring"],
    "lwpd:sharded": ["scheme.preset=sharded"],
    "lwpd:sharded-first": ["scheme.preset=sharded-first", ONE],
    "topk": ["scheme.name=topk", ALL],
    "topk:whitened": ["scheme.name=topk", "scheme.preset=whitened"],
}
"""Name -> settings."""


class TimedExecutor(InProcessExecutor):
    """Executor that times each task as a multiple of the gradient that follows it; by round."""

    def __init__(self, config: Config, components: Components) -> None:
        super().__init__(components.layouts, WORKERS, worker_builder(config, components))
        problem = components.problem
        batch = config.problem.batch
        self._plan, self._rows = problem.plan(batch), np.arange(batch)
        self._theta = problem.initial(1)
        self.tasks = defaultdict[int, list[float]](list)
        self.gradient_s: list[float] = []

    def perform(self, worker: int, task: Task, number: int) -> None:
        start_s = time.process_time()
        super().perform(worker, task, number)
        task_s = time.process_time() - start_s
        start_s = time.process_time()
        self._plan.gradient(self._theta, self._rows)
        self.gradient_s.append(time.process_time() - start_s)
        self.tasks[number].append(task_s)


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Return a function that also appends the processor time of each call to a list."""

    def call(*arguments: Any) -> Any:
        start_s = time.process_time()
        result = function(*arguments)
        seconds.append(time.process_time() - start_s)
        return result

    return call


def multiples(settings: Sequence[str]) -> list[float]:
    """Return what is charged, and what is measured, for a task, a step, an arrival and a dispatch in turn."""
    config = configfile.resolve({}, [*JOB, f"stop.updates={TASKS}", *settings])
    components = prepare(config)
    updates = FEW if components.problem.size > LARGE else TASKS
    if not config.update.asynchronous:
        updates //= WORKERS
    components = prepare(config.with_keys(stop={"updates": updates}))
    components.simulate()
    config, state, rounds = components.config, components.state, len(components.layouts)
    executor = TimedExecutor(config, components)
    simulation = Simulation(components, executor)
    steps, folds, averages, reads, copies = (list[float]() for _ in range(5))
    state.step, state.fold = timed(state.step, steps), timed(state.fold, folds)  # type: ignore[method-assign]
    optimizer, fleet = state.optimizer, simulation.fleet
    optimizer.average = timed(optimizer.average, averages)  # type: ignore[method-assign]
    fleet._task.write = timed(fleet._task.write, copies)  # type: ignore[method-assign]
    for reply in (reply for replies in fleet._replies for rounds_ in replies for reply in rounds_.parts):
        reply.read = timed(reply.read, reads)  # type: ignore[method-assign]
    simulation.run()
    plain = msgspec.structs.replace(config, code=CodeTable.of({}))
    gradient, gradient_s = (
        flops.gradient_flops(plain, components.problem, components.shard),
        low(executor.gradient_s),
    )
    task_s = sum(map(low, executor.tasks.values()))
    step_s = sum(low(steps[number::rounds]) for number in range(rounds))
    if not config.reduction.workers_step:  # else no other step waits for the average
        step_s += low(averages, 0.0) / (WORKERS if config.update.asynchronous else 1)
    read_s, fold_s, copy_s = low(reads), low(folds), low(copies)
    step, sums = components.step_flops, config.reduce.summed
    if sums:
        step_s += read_s + (low(folds[WORKERS - 1 :: WORKERS]) if config.reduction.workers_step else 0.0)
        read_s = fold_s = copy_s = nan
    if config.reduction.owners:
        step += config.reduction.owners * flops.owner_flops(config, components.problem, components.layout)
        step_s += (config.reduction.owners - 1) * low(reads)
    arrival, dispatch = (nan, nan) if sums else (components.arrival_flops, components.dispatch_flops)
    task = sum(components.flops(number) for number in range(rounds))
    charged = [each / gradient for each in (task, step, arrival, dispatch)]
    measured = [each / gradient_s for each in (task_s, step_s, read_s + fold_s, copy_s)]
    return [each for pair in zip(charged, measured, strict=True) for each in pair]


def low(times: Sequence[float], without: float = nan) -> float:
    """Return the lower quartile of the times after the first ones; `without` any."""
    return float(np.percentile(times[WORKERS:], 25)) if len(times) > WORKERS else without


def run() -> int:
    """Measure and print the tables."""
    print(f"multiples of a gradient of 32 samples, charged and measured. {processor()}")
    for place, (network, settings) in enumerate(NETWORKS.items()):
        columns = "a task", "a step", "an arrival", "a dispatch"
        print(f"\n{network:34}{''.join(f'{each:^18}' for each in columns)}")
        rest = 0.0
        for name, own in {**({} if place else WORKS), **PRESETS}.items():
            cells = multiples([*settings, *own])
            rest = rest or cells[1] - cells[0]
            cells[1] -= rest
            print(f"{name:34}{''.join(f'{each:9.2f}' for each in cells)}", flush=True)
    return 0
