"""Where codewords of several blocks earn something: every setting beside blocks in turn, at equal bytes.

A 784-64-10 network on MNIST, 16 workers, tasks of 1 + Exp(1) units of time. The hidden layer has 64 blocks. A
task sends 8 combinations of them: single blocks (weight 1), or rows of a net of weight 4 or 16. The file
is also a plug-in: it has formats, faults and a scheme that pdcode lacks because nobody needs them.
"""

import sys
from math import exp, log
from statistics import fmean
from typing import Any

import numpy as np
from descents import CLOCK, Tables, merged, parallel_map
from rich.console import Console
from rich.table import Table

from pdcode.coding.memory import MemoryEncoder, PayloadEncoder
from pdcode.coding.source import Source
from pdcode.config import Fraction, Positive
from pdcode.config import Table as KeyTable
from pdcode.config.load import resolve
from pdcode.faults.base import GradientOracle, Keys, TaskFault
from pdcode.problems import Problem
from pdcode.schemes.lwpd import LWPD
from pdcode.transport.messages import Reply, Task
from pdcode.transport.wires import WireFormat
from pdcode.util.rng import FAULT, generator, uniform
from pdcode.virtual.simulation import simulate

WORKERS, BLOCKS, WEIGHTS = 16, 64, (1, 4, 16)
LIARS = 3


# ------------------------------------------------------------------ what the product lacks


class PayloadScale(WireFormat):
    """Format with one scale for all rows of a layer; the rounded numbers travel in single precision."""

    contraction = True

    def size(self, rows: int, elements: int) -> int:
        return 4 * rows * elements

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Return the elements, shape (rows, elements), after rounding."""
        raise NotImplementedError

    def encode(self, payload: np.ndarray, message: np.ndarray, random: np.random.Generator) -> None:
        message.view(np.float32)[:] = self.rounded(payload).reshape(-1)

    def decode(self, message: np.ndarray, payload: np.ndarray) -> None:
        payload.reshape(-1)[:] = message.view(np.float32)


class SignOfPayload(PayloadScale):
    """± the mean magnitude of the payload."""

    name = "sign-payload"

    def rounded(self, x: np.ndarray) -> np.ndarray:
        return np.copysign(np.abs(x).mean(), x)


class Int2OfPayload(PayloadScale):
    """± one of two mean magnitudes of the payload."""

    name = "int2-payload"

    def rounded(self, x: np.ndarray) -> np.ndarray:
        size = np.abs(x)
        large = size > 0.9816 * np.sqrt(np.mean(size * size))
        means = [float(size[part].mean()) if part.any() else 0.0 for part in (~large, large)]
        return np.copysign(np.where(large, means[1], means[0]), x)


class TernaryOfPayload(PayloadScale):
    """0, or ± the mean of the magnitudes above 0.7 of the mean magnitude."""

    name = "ternary-payload"

    def rounded(self, x: np.ndarray) -> np.ndarray:
        return ternary(x, 0.7 * float(np.abs(x).mean()))


class SparseOfPayload(PayloadScale):
    """0, or ± the mean of the largest 3 % of the magnitudes."""

    name = "sparse-payload"

    def rounded(self, x: np.ndarray) -> np.ndarray:
        return ternary(x, float(np.quantile(np.abs(x), 0.97)))


def ternary(x: np.ndarray, threshold: float) -> np.ndarray:
    """Return 0 for magnitudes up to a threshold, ± the mean of the others."""
    size = np.abs(x)
    above = size > threshold
    return np.where(above, np.copysign(size[above].mean() if above.any() else 0.0, x), 0.0)


class Vanish(TaskFault, tag="vanish"):
    """Payloads are lost without notice: rank 0 gets zeros, and the worker's memory does not have them."""

    numeric = True  # see `FaultEvent`
    share: Fraction = 0.3  #: share of the payloads, drawn by (seed, worker, task)

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        seed, worker, task = keys
        if uniform(seed, FAULT, worker, 2**35 + task) < self.share:
            reply.payload.fill(0)
            reply.quantise(*keys)


class Scaled(Source):
    """A source whose rows of the hidden layer are scaled by exp(N(0, 1)), the same at all workers."""

    def __init__(self, inner: Source, problem: Problem, seed: int) -> None:
        self._inner, layer = inner, problem.layers[0]
        self.gradient = inner.gradient
        self._rows = inner.gradient[layer.offset : layer.offset + layer.length].reshape(layer.outputs, -1)
        self._factors = np.exp(generator(seed, FAULT, 1).standard_normal(layer.outputs))[:, None]

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        loss = self._inner(theta, task)
        self._rows *= self._factors.astype(self._rows.dtype)
        return loss


class Forgetful(MemoryEncoder):
    """An encoder that loses its residual at every `period`-th task."""

    period = 0

    def encode(self, theta: np.ndarray, task: Task) -> float:
        if self.period and task.task % self.period == self.period - 1:
            self.residual.fill(0)
        return super().encode(theta, task)


class Handicapped(LWPD):
    """`lwpd` with rows of unequal scale, or with memories that are lost."""

    name, summary, presets = "handicapped", "lwpd with rows of unequal scale or lost memories", {}

    class Options(KeyTable):
        """Keys of ``[scheme] options``."""

        scaled: bool = False  #: whether rows of the hidden layer are scaled by exp(N(0, 1))
        forget: Positive | None = None  #: number of tasks after which a worker loses its memory; none: never

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        source = super().source(problem, worker, rows, reply)
        return Scaled(source, problem, self.config.seed) if self.options.scaled else source

    def encoders(self, *arguments: Any) -> list[PayloadEncoder]:
        found = list(super().encoders(*arguments))
        for each in found:
            if self.options.forget and isinstance(each, MemoryEncoder):
                each.__class__, each.period = Forgetful, self.options.forget  # type: ignore[attr-defined]
        return found


# ------------------------------------------------------------------ settings

BASE: Tables = {
    "plugins": [__file__],
    "problem": {"kind": "mlp", "data": "mnist5k", "hidden": [BLOCKS], "batch": 32, "evaluate": 1000},
    "workers": {"count": WORKERS},
    "stop": {"loss": 0.1, "updates": 3000},
    "memory": {"kind": "worker"},
    "wire": {"dtype": "int2"},
    "update": {"mode": "async"},
    "optimizer": {"rate": 2.0},
    "code": {"whiten": "gram"},
}
NO_MEMORY: Tables = {"memory": {"kind": "none"}}
PLAIN: Tables = {"code": {"whiten": "none"}}
UNEQUAL: Tables = {"scheme": {"name": "handicapped", "options": {"scaled": True}}}


def wire(name: str) -> Tables:
    """Return the tables of a wire format."""
    return {"wire": {"dtype": name}}


def rate(value: float) -> Tables:
    """Return the tables of a learning rate."""
    return {"optimizer": {"rate": value}}


def forget(tasks: int) -> Tables:
    """Return the tables of memories lost every few tasks."""
    return {"scheme": {"name": "handicapped", "options": {"forget": tasks}}}


LOST: Tables = {
    "faults": {"events": [{"kind": "vanish", "worker": worker, "task": 0} for worker in range(WORKERS)]}
}
FIXED: Tables = {"code": {"rotate": False, "rows": BLOCKS}}
AHEAD: Tables = {"memory": {"lookahead": 0.1}}
ASYNCHRONOUS: dict[str, Tables] = {
    "int2, scales of rows": {},
    "int2, scales of rows, look-ahead: as the presets": AHEAD,
    "sign, scales of rows": wire("sign"),
    "int2, one scale": wire("int2-payload"),
    "sign, one scale": wire("sign-payload"),
    "1.58 bit, one scale": wire("ternary-payload"),
    "3 % ternary, one scale": wire("sparse-payload"),
    "rows of unequal scale, int2, scales of rows": UNEQUAL,
    "rows of unequal scale, int2, one scale": merged(UNEQUAL, wire("int2-payload")),
    "rows of unequal scale, sign, scales of rows": merged(UNEQUAL, wire("sign")),
    "rows of unequal scale, sign, one scale": merged(UNEQUAL, wire("sign-payload")),
    "30 % lost without notice": LOST,
    "30 % lost, no memory, rate 0.05": merged(LOST, NO_MEMORY, rate(0.05)),
    "memory lost every 20 tasks": forget(20),
    "memory lost every 8 tasks": forget(8),
    "no memory, rate 0.1": merged(NO_MEMORY, rate(0.1)),
    "no memory, rate 0.05": merged(NO_MEMORY, rate(0.05)),
    "plain gradients, rate 1": merged(PLAIN, rate(1.0)),
    "plain gradients, rate 2": merged(PLAIN, rate(2.0)),
    "plain gradients, rate 1, rows fixed": merged(PLAIN, rate(1.0), FIXED),
    "sign, scales of rows, look-ahead": merged(wire("sign"), AHEAD),
    "sign, one scale, look-ahead": merged(wire("sign-payload"), AHEAD),
}  # fmt: skip


def of_weight(weight: int, rows: int | None = None) -> Tables:
    """Return the tables of a code of a weight, with 8 codewords a task."""
    code = {"blocks": [BLOCKS, 1], "rows_per_task": 8, **({} if rows is None else {"rows": rows})}
    family = {"family": "uncoded"} if weight == 1 else {"family": "net", "weight": weight}
    return {"code": {**code, **family}}


def chosen(tables: Tables) -> dict[str, Tables]:
    """Return blocks in turn, and codewords that workers choose, as many."""
    code = {"blocks": [BLOCKS, 1], "rows_per_task": 8}
    matched = {
        f"matched {weight}": merged(tables, {"code": {**code, "family": "matched", "weight": weight}})
        for weight in (1, 16, 64)
    }
    return {"in turn": merged(tables, of_weight(1)), **matched}


CHOSEN = {
    "plain, rate 1": chosen(merged(PLAIN, rate(1.0))),
    "whitened": chosen({}),
    "whitened, look-ahead": chosen(AHEAD),
}
FIRST: Tables = {"update": {"mode": "first", "count": 12, "late": "waste"}}


def redundant(weight: int, fraction: float) -> Tables:
    """Return the tables of twice as many codewords as blocks, of one mini-batch at all workers.

    Rank 0 steps when it knows a fraction of its gradient.
    """
    shards = {"problem": {**BASE["problem"], "shards": "common"}}
    update = {"update": {"mode": "captured", "fraction": fraction, "late": "waste"}}
    exact: Tables = {"wire": {"dtype": "float32"}, "decoder": {"kind": "least_squares"}}
    random = {"code": {"family": "random", "options": {"balanced": True}}} if weight > 1 else {}
    return merged(of_weight(weight, WORKERS * 8), random, NO_MEMORY, NESTEROV, exact, shards, update)


NESTEROV: Tables = {
    "optimizer": {"rate": 0.1, "momentum": 0.8, "nesterov": True},
    "stop": {"loss": 0.1, "updates": 600},
}
REDUNDANT: dict[str, dict[str, Tables]] = {
    f"one mini-batch for all, {fraction:.0%} known": {
        f"weight {weight}": redundant(weight, fraction) for weight in WEIGHTS
    }
    for fraction in (1.0,)
}
FULL: Tables = {"scheme": {"name": "uncoded"}, "memory": {"kind": "none"}, "wire": {"dtype": "float32"}}
REDUNDANT["mini-batches of each worker"] = {
    "blocks in turn": merged(of_weight(1), {"memory": {"kind": "worker", "lookahead": 0.1}}),
    "first 12, whole": merged(FULL, NESTEROV, {"update": {"mode": "first", "count": 12, "late": "waste"}}),
    "all, whole": merged(FULL, NESTEROV, {"update": {"mode": "all"}}),
}
"""Payloads of the mini-batches of each worker as references: residual, and whole gradients."""

LIES: Tables = {
    "faults": {
        "events": [
            {"kind": "lie", "how": "scale", "value": -10.0, "worker": worker, "task": 0}
            for worker in range(WORKERS - LIARS, WORKERS)
        ]
    },
    "update": {"mode": "all"},
    "stop": {"loss": 0.15, "updates": 500},
}


def with_liars(family: Tables, decoder: Tables) -> Tables:
    """Return the tables of an update by 16 payloads of a tenth of a common mini-batch's gradient."""
    shards = {"problem": {**BASE["problem"], "shards": "common"}}
    code = {"code": {"blocks": 10, "rows_per_task": 1, "rotate": False, **family}}
    return merged(NO_MEMORY, LIES, shards, {"wire": {"dtype": "float32"}, "decoder": decoder}, code)


GAUSSIAN: Tables = {"family": "random", "weight": 10, "options": {"entries": "gaussian"}}
EXPOSED: dict[str, Tables] = {
    f"whole, {rule}": merged(
        NO_MEMORY,
        LIES,
        {"scheme": {"name": "robust", "options": {"rule": rule, **knows}}, "wire": {"dtype": "int8"}},
    )
    for rule, knows in (("median", {}), ("trimmed", {"liars": LIARS}), ("geometric", {}))
} | {
    "single blocks": with_liars({"family": "uncoded"}, {"kind": "least_squares"}),
    "codewords": with_liars(GAUSSIAN, {"kind": "residual", "faults": LIARS}),
}
"""Whole gradients of mini-batches of each worker, or a tenth of a common one; the last identify liars."""
LIARS_RATES = 0.3, 1.0

UNEQUAL_BLOCKS: dict[str, Tables] = {
    "single blocks": of_weight(1),
    "weight 4": of_weight(4),
    "energy, weight 4": {
        "code": {"family": "energy", "weight": 4, "blocks": [BLOCKS, 1], "rows_per_task": 8},
        "decoder": {"kind": "mmse"},
    },
}
"""Without memories: blocks of unequal energy, known to rank 0."""


# ------------------------------------------------------------------ tables


def measure(tables: Tables) -> tuple[float, float, float]:
    """Return updates and time to the target, both infinite if it is missed, and the last loss."""
    with np.errstate(all="ignore"):
        done = simulate(resolve(merged(CLOCK, tables)))
    reached = np.isfinite(done.target_s)
    return done.updates if reached else np.inf, done.target_s if reached else np.inf, float(done.loss)


Runs = list[tuple[float, float, float]]


def show(
    title: str,
    rows: dict[str, dict[str, Tables]],
    seeds: tuple[int, ...] = (3002, 3003),
    by_time: bool = False,
) -> None:
    """Run the settings, and print a row for each: the first entry, then the others with their ratio to it."""
    if QUICK:
        rows, seeds = {name: dict(list(rows[name].items())[:2]) for name in list(rows)[-2:]}, seeds[:1]
    plan = [
        merged(BASE, tables, {"seed": seed}, QUICK)
        for row in rows.values()
        for tables in row.values()
        for seed in seeds
    ]
    found = parallel_map(measure, plan)
    table = Table(title=f"{title}; seeds {seeds}", title_justify="left")
    width = max(len(row) for row in rows.values())
    for name in ("setting", *[""] * width, "verdict"):
        table.add_column(name)
    for setting, row in rows.items():
        runs = {name: [next(found) for _ in seeds] for name in row}
        first, *others = runs.values()
        cells = [f"{name}: {cell(each, first, by_time)}" for name, each in runs.items()]
        table.add_row(setting, *cells, *[""] * (width - len(cells)), verdict(first, others, by_time))
    Console(width=230).print(table)


def value(run: tuple[float, float, float], by_time: bool) -> float:
    """Return what a run is judged by."""
    return run[1] if by_time else run[0]


def cell(runs: Runs, first: Runs, by_time: bool) -> str:
    """Format updates or times by seed, the loss in brackets where the target was missed, and the ratio."""
    texts = [
        f"({run[2]:.2g})"
        if np.isinf(run[0])
        else f"{run[1]:.0f} in {run[0]:.0f}"
        if by_time
        else f"{run[0]:.0f}"
        for run in runs
    ]
    ratio = mean_ratio(runs, first, by_time)
    return " ".join(texts) + ("" if runs is first or ratio is None else f" = {ratio:.2f}")


def mean_ratio(runs: Runs, first: Runs, by_time: bool) -> float | None:
    """Return the geometric mean of the ratio to the first entry, seed by seed; None if a run missed."""
    pairs = [(value(a, by_time), value(b, by_time)) for a, b in zip(runs, first, strict=True)]
    return exp(fmean(log(a / b) for a, b in pairs)) if np.isfinite(pairs).all() else None


def verdict(first: Runs, others: list[Runs], by_time: bool) -> str:
    """Return whether one of the others is better or worse than the first with all seeds, by 5 % in all."""
    better = worse = False
    for runs in others:
        pairs = [(value(a, by_time), value(b, by_time)) for a, b in zip(runs, first, strict=True)]
        ratio = mean_ratio(runs, first, by_time)
        better |= all(a < b for a, b in pairs) and (ratio is None or ratio < 0.95)
        worse |= all(a > b for a, b in pairs) and (ratio is None or ratio > 1.05)
    return {(1, 0): "codes win", (0, 1): "codes lose", (1, 1): "by weight"}.get((better, worse), "as good")


QUICK: Tables = {}


def main(quick: bool) -> None:
    """Print the tables."""
    if quick:
        QUICK.update({"problem": {**BASE["problem"], "data": "digits"}, "stop": {"loss": 0.1, "updates": 2}})
    codes = {f"weight {weight}": of_weight(weight) for weight in WEIGHTS}
    asynchronous = {
        name: {weight: merged(tables, code) for weight, code in codes.items()}
        for name, tables in ASYNCHRONOUS.items()
    }
    unequal = {
        f"rate {step}": {
            name: merged(UNEQUAL, NO_MEMORY, FIRST, rate(step), tables)
            for name, tables in UNEQUAL_BLOCKS.items()
        }
        for step in (0.3, 1.0)
    }
    exposed = {
        f"rate {step}": {name: merged(tables, rate(step)) for name, tables in EXPOSED.items()}
        for step in LIARS_RATES
    }
    show("Updates to loss 0.1, asynchronous", asynchronous)
    show("Workers that choose: updates to loss 0.1, asynchronous", CHOSEN)
    show("Rows of unequal scale, no memory, first 12 of 16: updates to loss 0.1", unequal)
    show("Redundant codewords: units of time to loss 0.1, in updates", REDUNDANT, by_time=True)
    show(f"{LIARS} of {WORKERS} send -10 times their payload: updates to loss 0.15", exposed)


if __name__ == "__main__":
    main("--quick" in sys.argv)
