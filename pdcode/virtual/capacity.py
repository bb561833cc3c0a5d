"""Capacity of rank 0: its time for one payload of every worker, relative to the time of a task.

A worker's next task starts once rank 0 has handled its payload and sent the task. If one payload of every
worker takes rank 0 longer than a task, workers wait for rank 0, and further workers do not speed up the run.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from ..automatic.link_sizing import common_copies, mean_task_s, task_rates
from ..session.setup import Components
from . import costs
from .schedule import bytes_per_coordinator

MAX_WORKERS = 1 << 24  # workers


@dataclass(frozen=True)
class Load:
    """Load of rank 0, or of each of several coordinators, by one payload of every worker."""

    # Mean time of a task with its delay and the latency of its messages: harmonic, over live workers.
    task_s: float
    # Times as multiples of `task_s`; above 1, workers wait for that resource.
    processor: float
    ingress: float
    egress: float

    @property
    def bottleneck(self) -> tuple[str, float]:
        """The resource with the highest load, and its load."""
        loads = ("processor", self.processor), ("ingress", self.ingress), ("egress", self.egress)
        return max(loads, key=lambda load: load[1])


def load_of(components: Components, workers: int | None = None) -> Load:
    """Return the load by ``[machine]`` and ``[link]``; none where workers add up their payloads.

    Per payload: ``arrival_s + bytes / decode_bandwidth + dispatch_s`` and a fraction of ``update_s``; the
    received bytes of the reply, those that a worker receives where payloads are exchanged; and the sent bytes
    of the task, in which θ, or the relayed payloads, count as often as rank 0 sends them. With several rounds
    an update, the sum over them. `workers` replaces their number, but not the tasks' mean time.
    """
    config = components.config
    n = config.workers.count if workers is None else workers
    machine, link = costs.charged(config, components).machine, config.link
    exchanges = config.downlink.exchanges
    flops = np.sum([components.flops_by_worker(number) for number in range(len(components.layouts))], axis=0)
    compute_s = np.broadcast_to(1e-9 * costs.times_ns(machine, flops), config.workers.count)
    task_s = mean_task_s(task_rates(components.scheme, compute_s)) + 2 * link.latency_s
    if config.reduce.summed:
        return Load(task_s, 0.0, 0.0, 0.0)
    rounds = len(components.layouts)
    processor_s, bytes_in, bytes_out = rounds * machine.update_s / config.update.typical_payloads(n), 0.0, 0.0
    for number, layout in enumerate(components.layouts):
        body = sum(components.state.body_bytes(n, number))
        reply = bytes_per_coordinator(layout.reply_bytes, machine.coordinators)
        processor_s += machine.arrival_s + machine.dispatch_s + reply / (machine.decode_bandwidth or math.inf)
        bytes_in += max(reply, config.downlink.peer_bytes(layout) or 0)
        bytes_out += bytes_per_coordinator(layout.body_offset, machine.coordinators)
        bytes_out += common_copies(config, n) * bytes_per_coordinator(body, machine.coordinators)
    ingress_s, egress_s = bytes_in / link.bandwidth, bytes_out / link.bandwidth
    if link.half_duplex:  # workers that exchange payloads send as many as they receive
        ingress_s = egress_s = ingress_s + (max(ingress_s, egress_s) if exchanges else egress_s)
    return Load(task_s, *(n / task_s * busy_s for busy_s in (processor_s, ingress_s, egress_s)))


def max_workers(components: Components) -> int:
    """Return the largest number of workers, up to `MAX_WORKERS`, for which no load exceeds 1."""
    return bisect_right(range(1, MAX_WORKERS + 1), 1.0, key=lambda n: load_of(components, n).bottleneck[1])
