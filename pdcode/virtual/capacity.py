"""Capacity of rank 0: the time that one payload of every worker takes it, beside that of a task.

A worker's next task begins when rank 0 has taken in its payload and sent the task. Where a payload of every
worker takes rank 0 longer than a worker's task, workers wait for rank 0, and more of them do no more work.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from ..coding.relay import RelayedState
from ..training.link_sizing import copies, mean_s, relayed_bytes, task_rates
from ..training.setup import Components
from ..transport.log import LogFormat
from . import costs
from .schedule import cut

MOST = 1 << 24  # workers


@dataclass(frozen=True)
class Needs:
    """Time that one payload of every worker takes each part of rank 0, or of each of several coordinators.

    Attributes
    ----------
    task_s : float
        Mean time of a task with its delay and the latency of its messages: harmonic, of workers that answer.
    processor, ingress, egress : float
        Times as multiples of `task_s`; above 1, workers wait for that part.
    """

    task_s: float
    processor: float
    ingress: float
    egress: float

    @property
    def most(self) -> tuple[str, float]:
        """The part that is needed for longest, and its multiple."""
        parts = ("processor", self.processor), ("ingress", self.ingress), ("egress", self.egress)
        return max(parts, key=lambda part: part[1])


def needs(components: Components, workers: int | None = None) -> Needs:
    """Return the needs by ``[machine]`` and ``[link]``; none where workers add up their payloads.

    Per payload: ``arrival_s + bytes / decode_bandwidth + dispatch_s`` and a share of ``update_s``; the bytes
    of the reply in, as many as each worker receives where payloads are exchanged; and the bytes of the task
    out, of which θ, or what is relayed in its stead, counts as often as rank 0 sends it. With several rounds
    an update, those of all.

    Parameters
    ----------
    components : Components
    workers : int, optional
        Number of workers; default: that of the configuration, of which the tasks' mean time is in any case.
    """
    config, state = components.config, components.state
    n = config.workers.count if workers is None else workers
    machine, link, exchanges = config.machine, config.link, config.downlink.exchanges
    flops = np.sum([components.flops_by_worker(number) for number in range(len(components.layouts))], axis=0)
    compute_s = np.broadcast_to(1e-9 * costs.times_ns(machine, flops), config.workers.count)
    task_s = mean_s(task_rates(components.scheme, compute_s)) + 2 * link.latency_s
    if config.reduce.summed:
        return Needs(task_s, 0.0, 0.0, 0.0)
    processor_s, bytes_in, bytes_out = machine.update_s / config.update.payloads(n), 0.0, 0.0
    for layout in components.layouts:
        body = layout.task_bytes - layout.body_offset
        if isinstance(state, RelayedState):
            body = relayed_bytes(state, n)
        reply = cut(layout.reply_bytes, machine.coordinators)
        processor_s += machine.arrival_s + machine.dispatch_s + reply / (machine.decode_bandwidth or math.inf)
        bytes_in += max(reply, LogFormat(layout).message_bytes) if exchanges else reply
        bytes_out += cut(layout.body_offset, machine.coordinators)
        bytes_out += copies(config, n) * cut(body, machine.coordinators)
    ingress_s, egress_s = bytes_in / link.bandwidth, bytes_out / link.bandwidth
    if link.half_duplex:  # workers who exchange payloads send as many as they receive
        ingress_s = egress_s = ingress_s + (max(ingress_s, egress_s) if exchanges else egress_s)
    return Needs(task_s, *(n / task_s * each for each in (processor_s, ingress_s, egress_s)))


def serves(components: Components) -> int:
    """Return the most workers, up to `MOST`, who need no part of rank 0 for longer than a task takes."""
    return bisect_right(range(1, MOST + 1), 1.0, key=lambda n: needs(components, n).most[1])
