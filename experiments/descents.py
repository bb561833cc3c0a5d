"""Shared functions of the experiments on descents: runs on the virtual clock, tuning and tables.

The unit of time is the shortest task. Tasks take 1 + Exp(1) units, keyed by seed, worker and task; messages
and rank 0's work take no time. Results do not depend on the number of cores or their load.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from pdcode.config import load
from pdcode.util import threads
from pdcode.virtual.simulation import simulate

Tables = dict[str, Any]

CLOCK: Tables = {
    "stragglers": {"kind": "shifted-exponential", "shift_s": 1.0, "mean_s": 1.0},
    "machine": {"flops_per_s": 1e18, "task_s": 0.0, "arrival_s": 0.0, "dispatch_s": 0.0},
    "link": {"bandwidth": 1e18, "latency_s": 0.0},
    "trace": {"progress_s": 2.0},
}


class Outcome(NamedTuple):
    """Result of a descent: updates to the target (infinite if missed), and totals until the end."""

    updates: float
    steps: int
    loss: float
    bytes_up: int
    bytes_down: int


def merged(*tables: Mapping[str, Any]) -> Tables:
    """Merge tables of a configuration; later keys override earlier ones."""
    result: Tables = {}
    for keys in tables:
        for name, value in keys.items():
            result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
    return result


def coded(memory: str, wire: str = "int8", **code: Any) -> Tables:
    """Return the tables for a code with a memory."""
    return {"code": code, "memory": {"kind": memory}, "wire": {"dtype": wire}}


def descend(tables: Tables) -> Outcome:
    """Run a configuration to its stop.loss or stop.updates."""
    with np.errstate(all="ignore"):  # descents may diverge
        done = simulate(load.resolve(merged(CLOCK, tables)))
    updates = done.updates if math.isfinite(done.target_s) else math.inf
    loss = done.loss if math.isfinite(done.loss) else math.inf
    return Outcome(updates, max(1, done.updates), loss, done.bytes_up, done.bytes_down)


def parallel_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Apply a function to items with one process per core, and yield results in the items' order."""
    threads.limit(os.environ)  # one BLAS thread for each process, unless the user sets another number
    if len(items) < 4:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        yield from pool.map(function, items)


def median_result(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Return the medians of updates and of the last loss: less is better."""
    return statistics.median(o.updates for o in outcomes), statistics.median(o.loss for o in outcomes)


def with_rate_and_seed(tables: Tables, rate: float, seed: int) -> Tables:
    """Add a learning rate and a seed to the tables."""
    return merged(tables, {"seed": seed, "optimizer": {"rate": rate}})


def tune(
    schemes: Mapping[str, Tables], rates: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> dict[str, float]:
    """Find each scheme's rate with the fewest updates, by the median over seeds; print a line for each."""
    plan = [(name, rate, seed) for name in schemes for rate in rates[name] for seed in seeds]
    outcomes = parallel_map(
        descend, [with_rate_and_seed(schemes[name], rate, seed) for name, rate, seed in plan]
    )
    best: dict[str, float] = {}
    for name in schemes:
        medians = {rate: median_result([next(outcomes) for _ in seeds]) for rate in rates[name]}
        best[name] = min(medians, key=medians.__getitem__)
        cells = (f"{rate:.3g}: {format_result(*result)}" for rate, result in medians.items())
        print(f"  {name:38} {', '.join(cells)}", flush=True)
    return best


def format_result(updates: float, loss: float) -> str:
    """Format the number of updates, or the final loss in brackets if the target was missed."""
    return f"{updates:.0f}" if math.isfinite(updates) else f"({loss:.3g})"


def table(results: Mapping[str, tuple[float, Sequence[Outcome]]]) -> None:
    """Print rate, updates and bytes of each scheme, relative to the first."""
    titles = zip(("KB up", "1/", "KB down", "MB up"), (9, 7, 9, 9), strict=True)
    print(
        f"\n{'':38}{'rate':>7}{'updates (range)':>20}{'ratio':>7}", *(f"{t:>{w}}" for t, w in titles), sep=""
    )
    first = next(iter(results.values()))[1]
    base, share = median_result(first)[0], statistics.median(o.bytes_up / o.steps for o in first)
    for name, (rate, outcomes) in results.items():
        ends = [min(o.updates for o in outcomes), max(o.updates for o in outcomes)]
        updates = f"{format_result(*median_result(outcomes))} ({'-'.join(f'{end:.0f}' for end in ends)})"
        up, down = (statistics.median(o[i] / o.steps for o in outcomes) for i in (3, 4))
        print(
            f"{name:38}{rate:7.3g}{updates:>20}{median_result(outcomes)[0] / base:7.2f}{up / 1e3:9.2f}"
            f"{share / up:7.1f}{down / 1e3:9.0f}{statistics.median(o.bytes_up for o in outcomes) / 1e6:9.2f}",
            flush=True,
        )


def compare(
    schemes: Mapping[str, Tables],
    rates: Mapping[str, Sequence[float]],
    tuning: Sequence[int],
    seeds: Sequence[int],
) -> None:
    """Tune the schemes on some seeds, and print results on others, also at the first scheme's rate."""
    print(f"Rates tuned on seeds {tuning}, reported on {seeds}. Tuning, median of updates:")
    best = tune(schemes, rates, tuning)
    for title, chosen in (
        ("At tuned rates", best),
        (f"At the rate of: {next(iter(best))}", dict.fromkeys(best, next(iter(best.values())))),
    ):
        print(f"\n{title}", end="")
        outcomes = parallel_map(
            descend, [with_rate_and_seed(schemes[name], chosen[name], s) for name in best for s in seeds]
        )
        table({name: (chosen[name], [next(outcomes) for _ in seeds]) for name in best})
