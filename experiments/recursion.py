"""What errors through the blocks of codewords alone cost and earn: `problem.recursive`.

Tables: flops and time of a task by weight and depth; the error of the estimate of each layer's gradient; and
descents of digits by 8 workers on the virtual clock, where tasks take the time of their flops, at tuned
rates, to a training loss. All layers but the last have 16 blocks, and the last is uncoded.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported

import numpy as np
from descents import Tables, merged, parallel_map

from pdcode import problems
from pdcode.config import load
from pdcode.virtual.simulation import simulate

K, WIDTH, BATCH, DEPTHS, WEIGHTS = 16, 256, 32, (1, 2, 4), (1, 4, 8)
TARGET = 0.2


def network(
    depth: int, axis: str = "output", recursive: bool = False, width: int = WIDTH
) -> problems.Problem:
    """Return a network for digits."""
    table = {"kind": "mlp", "hidden": [width] * depth, "axis": axis, "recursive": recursive, "batch": BATCH}
    return problems.create(table, [K] * depth + [1])


def words(random: np.random.Generator, depth: int, weight: int) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Draw a codeword for each layer but the last."""
    supports = [random.permutation(K)[:weight] for _ in range(depth)]
    values = np.full((1, weight), weight**-0.5, np.float32)
    return [*((each.astype(np.int32)[None], values) for each in supports), None]


def task(depth: int, weight: int, repeats: int, width: int = WIDTH) -> list[tuple[float, float]]:
    """Return the Mflop of a coded derivative as counted, and the median of its times in µs.

    First by errors of all units, then by blocks; they are timed in turn.
    """
    random, both = np.random.default_rng(0), [network(depth, "output", each, width) for each in (False, True)]
    rows, weights = [1] * (depth + 1), [weight] * depth + [1]
    plans, theta = [problem.plan(BATCH, rows) for problem in both], both[0].initial(0)
    drawn = [(random.integers(0, 1000, BATCH), words(random, depth, weight)) for _ in range(16)]
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for plan, taken in zip(plans, times, strict=True):
            start = time.perf_counter()
            for indices, codewords in drawn:
                plan.coded_derivative(theta, indices, codewords)
            taken.append((time.perf_counter() - start) / len(drawn))
    flops = [problem.coded_flops(BATCH, ("none",), rows, weights) / 1e6 for problem in both]
    return [*zip(flops, (1e6 * statistics.median(taken) for taken in times), strict=True)]


def error(depth: int, weight: int, draws: int) -> list[float]:
    """Return E‖Ĝ - G‖² / ‖G‖² of each hidden layer's gradient by errors through random blocks above it."""
    random = np.random.default_rng(1)
    exact, problem = network(depth), network(depth, "output", True)
    theta, total = problem.initial(0), np.zeros(depth)
    indices = list(range(BATCH))
    gradient = exact.gradient(theta, indices)
    for _ in range(draws):
        chosen = words(random, depth, weight)
        dense = [np.eye(K)[word[0][0]] for word in chosen if word is not None]
        payload = problem.coded_derivative(theta, indices, [*dense, np.ones((1, 1))])
        for number in range(depth):
            true = exact.layers[number].split(gradient)[chosen[number][0][0]]  # type: ignore[index]
            total[number] += ((payload[number] - true) ** 2).sum() / (true**2).sum()
    return (total / draws).tolist()


def tables(depth: int, axis: str, recursive: bool, memory: str, weight: int) -> Tables:
    """Return the tables of a descent; memory "" is the whole gradient, uncoded."""
    built: Tables = {
        "problem": {"kind": "mlp", "hidden": [WIDTH] * depth, "axis": axis, "batch": BATCH},
        "workers": {"count": 8},
        "update": {"mode": "all"},
        "scheme": {"name": "uncoded" if not memory else "lwpd"},
        "stop": {"updates": 600, "loss": TARGET},
        "machine": {"task_s": 0.0},
        "trace": {"progress_s": 0.005},
    }
    if memory:
        code = {"family": "net", "blocks": [K] * depth + [1], "weight": weight}
        built = merged(built, {"code": code, "memory": {"kind": memory}})
    return merged(built, {"problem": {"recursive": True}} if recursive else {})


def descend(made: Tables) -> tuple[float, float, float]:
    """Return the updates, Mflop of a worker and ms of a descent to the target; infinite if missed."""
    with np.errstate(all="ignore"):  # descents may diverge
        done = simulate(load.resolve(made))
    if not math.isfinite(done.target_s):
        return math.inf, math.inf, math.inf
    flops = done.updates * float(done.task_ns.max()) * done.config.machine.flops_per_s / 1e15
    return done.updates, flops, 1e3 * done.target_s


VARIANTS: dict[str, tuple[str, bool, str]] = {
    "uncoded": ("output", False, ""),
    "outputs, none": ("output", False, "none"),
    "inputs, none": ("input", False, "none"),
    "recursive, none": ("output", True, "none"),
    "outputs, coordinator": ("output", False, "coordinator"),
    "recursive, coordinator": ("output", True, "coordinator"),
    "outputs, worker": ("output", False, "worker"),
}


def main(quick: bool) -> None:
    """Print the tables."""
    depths, weights, repeats, draws = (DEPTHS, WEIGHTS, 60, 200) if not quick else ((2,), (4,), 1, 2)
    print("task: depth, width, weight; Mflop whole errors, recursive, ratio; µs, µs, ratio")
    for width in (64, 256, 512) if not quick else (64,):
        for depth in depths:
            for weight in weights:
                (one, first), (two, second) = task(depth, weight, repeats, width)
                line = f"{depth:3}{width:5}{weight:4}{one:9.2f}{two:9.2f}{two / one:6.2f}"
                print(f"{line}{first:9.0f}{second:9.0f}{second / first:6.2f}", flush=True)
    print("\nerror: depth, weight; E|Ĝ-G|²/|G|² by hidden layer, from the inputs")
    for depth in depths:
        for weight in weights:
            cells = " ".join(f"{each:8.2f}" for each in error(depth, weight, draws))
            print(f"{depth:3}{weight:4} {cells}", flush=True)
    print_descents(quick, depths[1:] or depths)


def print_descents(quick: bool, depths: tuple[int, ...]) -> None:
    """Print the descents of networks of these depths, at the best rates of a seed of its own."""
    rates, tuning, seeds = (0.005, 0.02, 0.05, 0.12, 0.3, 0.8), (101,), (1, 2, 3)
    if quick:
        rates, tuning, seeds = (0.1,), (101,), (1,)
    cases = [(d, w, name) for d in depths for w in (4,) for name in VARIANTS]
    extra: Tables = {"stop": {"updates": 2}} if quick else {}

    def plan(case: tuple[int, int, str], rate: float, seed: int) -> Tables:
        depth, weight, name = case
        made = tables(depth, *VARIANTS[name], weight)
        return merged(made, {"seed": seed, "optimizer": {"rate": rate}}, extra)

    trials = [(case, rate, seed) for case in cases for rate in rates for seed in tuning]
    found = dict(zip(trials, parallel_map(descend, [plan(*each) for each in trials]), strict=True))
    best = {c: min(rates, key=lambda rate, c=c: sum(found[c, rate, s][0] for s in tuning)) for c in cases}
    judged = [(case, seed) for case in cases for seed in seeds]
    results = dict(zip(judged, parallel_map(descend, [plan(c, best[c], s) for c, s in judged]), strict=True))
    print(f"\ndescents to loss {TARGET}: depth, weight, rate; median updates, Mflop of a worker, ms (range)")
    for case in cases:
        columns = list(zip(*(results[case, seed] for seed in seeds), strict=True))
        updates, flops, took = map(statistics.median, columns)
        name, ends = (
            f"{case[0]:3}{case[1]:4} {case[2]:24}",
            f"({min(columns[2]):.1f} - {max(columns[2]):.1f})",
        )
        print(f"{name}{best[case]:7.3f}{updates:8.0f}{flops:10.0f}{took:9.1f} {ends}")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
