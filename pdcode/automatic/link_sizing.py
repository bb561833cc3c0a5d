"""Keys that follow from the speeds of links and workers, and the loads of the links.

With ``code.rows_per_task = "auto"`` a task sends the largest fraction of a layer's blocks that the links can
carry. Rank 0's carries the replies of n workers, and, if rank 0 relays payloads, about n of them in each
task; both grow with the fraction. If workers exchange payloads, each of their links carries as many. If the
transfers take longer than the workers' tasks, workers wait, and smaller payloads use the links better.
"""

import math
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from .. import stragglers
from ..coding.state import State
from ..config import Config
from ..fitted import FRACTIONS, MAX_LOAD, MAX_RATIO
from ..problems import Problem
from ..schemes import Scheme, delay_model, make_scheme
from ..transport.layout import Layout
from ..transport.speeds import Speeds
from ..util.errors import InputError
from ..util.formats import percent, rate, ratio

TASKS, DRAWS = 64, 1 << 16  # delays that are drawn for each worker, and at most for all
GRADIENTS, SPAN_S = 3, 0.05  # least number of gradients that a worker times, and least time
SAMPLES = 8  # times that it reports


class LinkLoad(msgspec.Struct, frozen=True):
    """Load of rank 0's link, and of the workers' links if they exchange payloads."""

    task_s: float  # harmonic mean time of a worker's task
    # Fraction of the time for which each direction is busy if no worker waits; above 1, workers wait.
    ingress: float
    egress: float
    exchange: float = 0.0  # of the busiest link of a worker

    @property
    def busiest(self) -> float:
        """The largest load."""
        return max(self.ingress, self.egress, self.exchange)


def candidates(config: Config) -> list[Config]:
    """Return the configuration with each of the fractions, the largest first.

    The residual grows as the fraction shrinks. ``memory.lookahead`` is for the largest fraction and
    shrinks in proportion, so that the step ahead keeps its length.
    """
    if config.code.share is not None:
        raise InputError(
            f"code.share: {config.code.share} is another form of code.rows_per_task; give one of them"
        )
    made, ahead = [], config.memory.lookahead
    for share in FRACTIONS:
        memory = {"lookahead": float(f"{ahead * share / FRACTIONS[0]:.3g}")} if ahead else {}
        made.append(config.with_keys(code={"rows_per_task": None, "share": share}, memory=memory))
    return made


def resolve_rows(
    config: Config, problem: Problem, total_rows: int, speeds: Speeds | None = None
) -> tuple[Config, str]:
    """Return the configuration with the fraction that `link_load` allows, and a line of explanation.

    `config` has ``code.rows_per_task = "auto"``; `total_rows` is the number of training rows of all shards;
    `speeds` are measured, by default given by ``[link]`` and ``[machine]``.
    """
    chosen, load, tried = config, LinkLoad(0.0, math.inf, math.inf), []
    for smaller in candidates(config):
        scheme = make_scheme(smaller)
        state = scheme.state(problem.undrawn)
        if all(unit.uncoded for layout in state.layouts for unit in layout.units):
            where = f"code.family '{config.code.family}' and code.blocks {config.code.blocks}"
            preset = scheme.presets.get(config.scheme.preset or "", {})
            if preset.get("code", {}).get("rows_per_task") != "auto":
                raise InputError(
                    f"code.rows_per_task: 'auto' has no effect with {where}, which leave every layer uncoded"
                )
            whole = config.with_keys(code={"rows_per_task": None})
            return whole, f"tasks send whole gradients, as {where} leave every layer uncoded"
        assumed = speeds or configured_speeds(scheme, problem, state.layouts, total_rows)
        smaller_load = link_load(scheme, state, assumed)
        part = f"1/{round(1 / (smaller.code.share or 1))}"
        busy = f"is busy {percent(smaller_load.busiest, 1)} % of the time"
        if smaller_load.busiest > 1:
            busy = f"needs {ratio(smaller_load.busiest)} the tasks' time"
        tried.append(f"with {part} of a gradient the busiest link {busy}")
        if smaller_load.busiest > MAX_RATIO * load.busiest:  # as where workers far behind are sent θ
            break
        chosen, load = smaller, smaller_load
        if load.busiest <= MAX_LOAD:
            break
    link = f"{rate(chosen.link.bandwidth)} by link.bandwidth"
    if speeds is not None:
        link = f"measured: in {rate(speeds.ingress)}, out {rate(speeds.egress)}"
    ahead = chosen.memory.lookahead
    also = f" and memory.lookahead {ahead:g}" if chosen.memory != config.memory else ""
    return chosen, (
        f"code.share {chosen.code.share}{also} (code.rows_per_task 'auto'): {', '.join(tried)} ({link}; "
        f"tasks of {1e3 * load.task_s:.3g} ms)"
    )


def resolve_options(
    scheme: Scheme, problem: Problem, total_rows: int, speeds: Speeds | None = None
) -> tuple[Config, str]:
    """Return the configuration with the scheme's options that depend on speeds, and a line on them.

    Parameters are as for `resolve_rows`.
    """
    assumed = speeds or configured_speeds(scheme, problem, scheme.state(problem.undrawn).layouts, total_rows)
    return scheme.with_speeds(problem, task_rates(scheme, assumed.compute_s), assumed.ingress)


def configured_speeds(scheme: Scheme, problem: Problem, layouts: Sequence[Layout], total_rows: int) -> Speeds:
    """Return the speeds of ``[link]`` and ``[machine]``."""
    machine, link = scheme.config.machine, scheme.config.link
    shard = max(1, total_rows // scheme.workers)
    flops = scheme.work(problem, layouts, 0, shard).by_worker
    compute_s = np.broadcast_to(machine.task_s + flops / machine.flops_per_s, scheme.workers)
    return Speeds(link.bandwidth, link.bandwidth, compute_s)


def link_load(scheme: Scheme, state: State, speeds: Speeds) -> LinkLoad:
    """Return the load of the links without delays: bytes per reply, times replies a second, over bandwidth.

    Of the sent bytes, only those that depend on the fraction count: relayed payloads, not θ.
    """
    layout, rates = state.layouts[0], 1 / np.maximum(speeds.compute_s, 1e-9)
    ingress, egress = rates.sum() * layout.reply_bytes / speeds.ingress, 0.0
    exchange = 0.0
    peer_bytes = scheme.config.downlink.peer_bytes(layout)
    if peer_bytes is not None:  # a worker receives from all others, the fastest sends to all
        most = max(rates.sum(), np.count_nonzero(rates) * rates.max())
        exchange = most * peer_bytes / speeds.ingress
    if scheme.config.reduction.relays:
        body = common_copies(scheme.config, scheme.workers) * sum(state.body_bytes(scheme.workers))
        egress = rates.sum() * (layout.body_offset + body) / speeds.egress
    if scheme.config.link.half_duplex:
        ingress = egress = ingress + egress
        exchange *= 2
    return LinkLoad(mean_task_s(rates), float(ingress), float(egress), float(exchange))


def task_rates(scheme: Scheme, compute_s: np.ndarray) -> np.ndarray:
    """Return each worker's tasks per second if it never waits; 0 if it is dead."""
    n = scheme.workers
    compute_ns = np.maximum(1, np.rint(1e9 * compute_s)).astype(np.int64)
    tasks = max(1, min(TASKS, DRAWS // n))
    model, workers = delay_model(scheme.config), np.arange(n)
    delays_ns = stragglers.delays_ns(model, workers, np.zeros(n, np.int64), tasks, compute_ns)
    rates: np.ndarray = (delays_ns[:, 0] >= 0) * 1e9 / (compute_ns + np.maximum(delays_ns, 0).mean(axis=1))
    return rates


def mean_task_s(rates: np.ndarray) -> float:
    """Return the harmonic mean of the task times of the living workers."""
    return int(np.count_nonzero(rates)) / float(rates.sum()) if rates.any() else math.inf


def common_copies(config: Config, workers: int) -> float:
    """Return the number of copies, per task, of the common part of a task that rank 0 sends."""
    copies = config.link.children
    return min(1.0, copies / workers) if copies and not config.update.asynchronous else 1.0


def message_bytes(config: Config, problem: Problem) -> tuple[int, int]:
    """Return the bytes of a reply and of a task, at the largest fraction if it is to be chosen."""
    scheme = make_scheme(candidates(config)[0] if config.code.rows_per_task == "auto" else config)
    state = scheme.state(problem.undrawn)
    layout = state.layouts[0]
    return layout.reply_bytes, layout.body_offset + sum(state.body_bytes(scheme.workers))


def gradient_times_s(scheme: Scheme, problem: Problem, worker: int) -> np.ndarray:
    """Return `SAMPLES` times in s of a worker's mini-batch gradients: evenly spaced ones of the sorted times.

    The measurement takes long enough for workers that share a core to alternate, as in the run.
    """
    table, seed = scheme.config.problem, scheme.config.seed
    plan = problem.plan(table.batch, whiten=scheme.config.code.whitening)
    theta, batches = problem.initial(seed), problem.batches(seed, worker)
    plan.gradient(theta, batches.draw(0))  # warms up
    ends_s = [time.perf_counter()]
    while ends_s[-1] - ends_s[0] < SPAN_S or len(ends_s) <= GRADIENTS:
        plan.gradient(theta, batches.draw(len(ends_s) - 1))
        ends_s.append(time.perf_counter())
    times_s = np.diff(ends_s)
    samples_s: np.ndarray = np.quantile(times_s, (np.arange(SAMPLES) + 0.5) / SAMPLES)
    return samples_s * (times_s.mean() / samples_s.mean())
