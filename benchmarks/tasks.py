"""Benchmark of small tasks: one of the digits on the virtual clock, and a relayed arrival at a replica.

Tasks are timed by processor time, which other work on the machine hardly affects; "without workers" is the
same run with payloads of zeros, without computation. An arrival and its step are compared with the kernel
that they need, `kernels.fold.decode`, in a call for each unit, and with the general path, which processes the
arrival and the step one after the other.
"""

from __future__ import annotations

import statistics
import time

from pdcode.bench.machine import processor
from pdcode.coding.replica import MirroredReplica
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.kernels import fold
from pdcode.schemes import coded_state
from pdcode.session.setup import prepare
from pdcode.transport.base import Arrival
from pdcode.transport.layout import buffer, buffer_sizes
from pdcode.transport.messages import Order, Reply, Task
from pdcode.virtual.executor import NullExecutor
from pdcode.virtual.simulation import Simulation

from .timing import ratio, time_in_turn

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
UPDATES, ROUNDS, ENTRIES = 5000, 7, 8
RUN = ["update.mode=async", f"stop.updates={UPDATES}", "trace.progress_s=1000", "stragglers.mean_s=0.005"]
RUN.append("stragglers.kind=shifted-exponential")
NETS = {"64-64-10": (64, 64), "784-256-10": (784, 256)}  # inputs, hidden units


def run() -> int:
    """Measure and print both."""
    config = configfile.resolve(configfile.parse(TEXT), RUN)
    rounds = [(task_us(config, False), task_us(config, True)) for _ in range(1 + ROUNDS)][1:]
    print(f"µs of the processor per task, medians of {ROUNDS} runs of {UPDATES} tasks in turn. {processor()}")
    whole, rest = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"a digits task on the virtual clock {whole:8.1f}\nthe same without workers           {rest:8.1f}")
    title = "a relayed arrival and its step at a replica"
    print(f"\n{title:46}{'µs':>8}{'kernels, µs':>13}{'ratio':>8}{'general path, µs':>18}")
    for name, (features, hidden) in NETS.items():
        for wire in ("int8", "int2"):
            whole_s, kernels_s, general_s = time_relayed(features, hidden, wire)
            cells = f"{1e6 * statistics.median(whole_s):8.2f}{1e6 * statistics.median(kernels_s):13.2f}"
            cells += f"{ratio(whole_s, kernels_s):8.2f}{1e6 * statistics.median(general_s):18.2f}"
            print(f"{name + ', ' + wire:46}{cells}", flush=True)
    return 0


def task_us(config: Config, empty: bool) -> float:
    """Measure the processor time of a task, in µs, without the measurements of loss."""
    components = prepare(config)
    executor = NullExecutor(components.layouts) if empty else None
    simulation = Simulation(components, executor)
    start_s = time.process_time()
    descent, result = simulation.run()
    return 1e6 * (time.process_time() - start_s - 1e-9 * descent.monitor.spent_ns) / result.arrivals


def time_relayed(features: int, hidden: int, wire: str) -> list[list[float]]:
    """Measure an arrival and its step, the kernels that they need, and the general path, in s per arrival."""
    data = {"kind": "mlp", "data": "synthetic", "features": features, "outputs": 10, "hidden": [hidden]}
    scheme, units = {"name": "lwpd", "preset": "default"}, {"samples": 1000}
    tables = {"problem": data | units, "scheme": scheme, "stop": {"updates": 1}, "wire": {"dtype": wire}}
    tables["downlink"] = {"kind": "codewords"}
    components = prepare(configfile.resolve(tables))
    state, layout = components.state, components.layout
    reply = Reply(layout, buffer(layout.reply_bytes)[0])
    reply.payload.fill(0.01)
    reply.quantise(0, 0, 0)
    reply.read()
    order = state.order(0, 0)
    assert order is not None
    arrival = Arrival(reply, 0)
    arrival.answers(0, 0, 0, order.row, order.codewords, 0)
    assert state.assignment is not None
    made = components.scheme, components.problem, None, state.assignment.weights
    mirrors = [MirroredReplica(coded_state(*made), at_once) for at_once in (True, False)]
    task = Task(components.layouts, buffer(buffer_sizes(components.layouts)[0])[0])
    task.write(0, 0, 0, order, 0)
    task.read()
    for mirror in mirrors:
        mirror.update(task)  # without entries
    for _ in range(ENTRIES):
        state.fold(arrival)
        state.step(1.0)
    second = state.order(0, 1)
    assert second is not None
    task.write(0, 1, 0, Order(0, order.codewords, second.segments), 0)
    task.read()
    thetas = [mirror.update(task) for mirror in mirrors]
    assert thetas[0].tobytes() == thetas[1].tobytes() == state.theta.tobytes()
    theta = state.theta.copy()
    parts = zip(layout.units, order.codewords, reply.fields, strict=True)
    steps = [
        (theta[unit.offset : unit.offset + unit.length], *words, unit.elements, part.format.kind, packed, 0.1)
        for unit, words, (_, packed, part) in parts
    ]

    def kernels() -> None:
        for _ in range(ENTRIES):
            for each in steps:
                fold.decode(*each)

    works = [lambda: mirrors[0].update(task), kernels, lambda: mirrors[1].update(task)]
    return [[each / ENTRIES for each in times] for times in time_in_turn(works)]
