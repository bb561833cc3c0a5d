"""Benchmark of the virtual clock's charges: flops of tasks and steps beside their times on this machine.

Both are multiples of the plain gradient of a mini-batch of 784-256-10. A run on the virtual clock times each
task and then such a gradient, each step of rank 0, and each decoding of a payload, by processor time: the
least over the run, as other work on the machine empties the caches. For schemes of several rounds it is the
sum over an update. A task's time is less what the plain task takes beside its gradient: to draw rows, and to
read a θ that is not in the cache.
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
from pdcode.training.setup import Components, prepare, worker_builder
from pdcode.transport.messages import Task
from pdcode.virtual.executor import InProcessExecutor
from pdcode.virtual.simulation import Simulation

TASKS, WORKERS = 120, 2
NETWORK = [
    "problem.kind=mlp", "problem.data=mnist5k", "problem.hidden=[256]", "problem.shards=replicated",
    f"workers.count={WORKERS}", "trace.progress_s=1e6", "problem.evaluate=1000",
]  # fmt: skip
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


def multiples(settings: list[str]) -> list[float]:
    """Return what is charged for a task, its time, those of a step, and the time to decode a payload."""
    config = configfile.resolve({}, [*NETWORK, f"stop.updates={TASKS}", *settings])
    if not config.update.asynchronous:
        config = config.with_keys(stop={"updates": TASKS // WORKERS})
    components = prepare(config)
    components.average_for_owners()
    executor, state = TimedExecutor(components.config, components), components.state
    simulation = Simulation(config, components, executor)
    steps, folds, averages, optimizer = list[float](), list[float](), list[float](), state.optimizer
    state.step, state.fold = timed(state.step, steps), timed(state.fold, folds)  # type: ignore[method-assign]
    optimizer.average = timed(optimizer.average, averages)  # type: ignore[method-assign]
    simulation.run()
    gradient_s, rounds = low(executor.gradient_s), len(components.layouts)
    plain = msgspec.structs.replace(config, code=CodeTable.of({}))
    gradient = flops.gradient_flops(plain, components.problem, components.shard)
    task = sum(components.flops(number) for number in range(rounds)) / gradient
    task_s = sum(map(low, executor.tasks.values()))
    step_s = sum(low(steps[number::rounds]) for number in range(rounds)) + min(averages, default=0.0)
    found = [task_s, step_s, low(folds)]
    task_s, step_s, fold_s = (each / gradient_s for each in found)
    return [task, task_s, components.step_flops / gradient, step_s, fold_s]


def low(times: Sequence[float]) -> float:
    """Return the least time; nan without times."""
    return min(times, default=nan)


def run() -> int:
    """Measure and print the table."""
    print(f"multiples of a gradient of 784-256-10, charged and measured. {processor()}")
    print(f"{'':34}{'a task':^20}{'a step':^20}{'decoding':^10}")
    rest = 0.0
    for name, settings in WORKS.items():
        charged, measured, *others = multiples(settings)
        rest = rest or measured - charged
        cells = [charged, measured - rest, *others]
        print(f"{name:34}{''.join(f'{each:10.3f}' for each in cells)}", flush=True)
    return 0
