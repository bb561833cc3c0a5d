"""Keys that data and workers decide: whether workers whiten their gradients, and how far they look ahead.

A whitened gradient has the same length whatever the worker's loss, until it is small. Where shards differ,
such lengths pull against each other, and the descent stops far from the optimum; where steps are to end at
the optimum of a regression or of full batches, too. There, gradients are left as they are, and the learning
rate, which has no dimension for whitened gradients, is converted.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ..config import CodeTable, Config, MemoryTable, OptimizerTable
from ..problems import Problem, split

TABLES = "code", "memory", "optimizer"  # those with such keys
MOST_SHARDS = 64  # that are compared
MOST_ROWS = 64  # of each half of a shard
SAMPLES = 32  # mini-batches whose gradients' lengths are compared
APART = 1 / 3  # of that where shards differ: what is stable there (both, sorted by label, asynchronous)
MOST_AHEAD = 0.2  # longest look ahead, a share of what is not sent, if an eighth is sent a task …
AHEAD = 1.6  # … and that of n workers, times n (digits, 8 to 64 workers)
EIGHTH = 1 / 8  # of a gradient
STEP = 0.25  # longest good step of a whitened payload that is applied by itself (mnist5k, 1 to 16 workers)
LONGER = 0.5  # best plain step, of the length at the start of the best whitened one (digits, mnist5k)


def resolve_auto(config: Config, problem: Problem) -> tuple[Config, list[str]]:
    """Return the configuration with values for the keys that are "auto", and lines that give the reasons.

    `problem` is rank 0's.
    """
    if config.memory.lookahead == "auto":
        config = _with(config, memory={"lookahead": lookahead(config)})
    whiten = config.code.whiten
    if whiten == "none":
        return config, []
    apart = differing(config, problem)
    if whiten != "auto":
        lines = [f"code.whiten '{whiten}' does harm here, 'auto' would leave it: {apart}"] if apart else []
        return config, lines
    why = apart or reason_against(config, problem)
    if not why:
        return _with(config, code={"whiten": "gram"}), []
    changes: dict[str, dict[str, Any]] = {"code": {"whiten": "none"}}
    lines, rate = [f"gradients are not whitened (code.whiten 'auto'): {why}"], config.optimizer.rate
    if config.optimizer.linear:
        plain = float(f"{rate * plain_rate(config, problem) * (APART if apart else 1):.3g}")
        changes["optimizer"] = {"rate": plain}
        lines.append(
            f"optimizer.rate {rate:g} of whitened gradients becomes {plain:g} for gradients as they are"
        )
    ahead = config.memory.lookahead
    if apart and ahead:  # what others have not sent is something else
        changes["memory"] = {"lookahead": 0.0}
        lines.append(f"memory.lookahead {ahead:g} becomes 0 for the same reason")
    return _with(config, **changes), lines


def better_rate(config: Config) -> float | None:
    """Return a shorter learning rate if few workers take too long whitened steps, of each payload rate/n."""
    whitened = config.code.whiten != "none" and config.optimizer.linear
    alone = config.update.asynchronous and config.memory.kind == "worker"
    most = STEP * config.workers.count
    return most if whitened and alone and config.optimizer.rate > 2 * most else None


def lookahead(config: Config) -> float:
    """Return how far ahead a worker looks, as a share of what its own memory holds.

    What all workers' memories hold in the mean will lead θ on. A worker's own tells the less of it the more
    workers there are, as the noise of their mini-batches and of their shards averages out: the share that is
    best in the mean square falls to one over their number. It is also less where memories hold more.
    """
    share = EIGHTH if config.code.share is None else config.code.share
    ahead = min(MOST_AHEAD, AHEAD / config.workers.count) * min(1.0, share / EIGHTH)
    return float(f"{ahead:.3g}")


def reason_against(config: Config, problem: Problem) -> str:
    """Return why whitening would do harm where shards are alike, or an empty string."""
    if config.optimizer.proximal is not None:
        return "a proximal step (optimizer.proximal) must follow one along the gradient"
    if problem.classes is None:
        return "targets are real numbers, and whitened steps do not shrink before the loss is near 0"
    if not config.problem.batch:
        return "batches are full (problem.batch 0), and whitened steps do not end at the optimum"
    return ""


def differing(config: Config, problem: Problem) -> str:
    """Return in which respect the workers' shards differ, or an empty string if they are alike."""
    how, batch = split.sharding(config.problem), config.problem.batch
    if how == "replicated":
        return ""
    if how == "shuffled":  # alike, if they are not too small for that
        shard = problem.rows // config.workers.count
        return (
            f"shards are of {shard} rows, so that each worker's mini-batches of {batch} (problem.batch) "
            f"have a mean gradient of their own; problem.shards 'replicated' gives all workers all rows"
            if 0 < 2 * shard < batch  # with fewer rows than workers each has all
            else ""
        )
    found = disagreement(config, problem)
    if found <= 1:
        return ""
    return (
        f"shards differ (problem.shards 'contiguous'), the variance of the workers' mean gradients is "
        f"{found:.3g} times that of mini-batches"
    )


def disagreement(config: Config, problem: Problem) -> float:
    """Return the variance of the shards' mean gradients as a multiple of a mini-batch's, at the first θ.

    Both are estimated from two halves of each of at most `MOST_SHARDS` contiguous shards of rank 0's rows,
    without bias by the halves' own noise. It is about 0 for shards drawn at random.
    """
    shards = min(config.workers.count, MOST_SHARDS, problem.rows // 4)
    if shards < 2:
        return 0.0
    theta, halves = problem.initial(config.seed), []
    for shard in range(shards):
        rows = np.arange(shard * problem.rows // shards, (shard + 1) * problem.rows // shards)
        rows = rows[split.evenly_spaced(len(rows), min(len(rows), 2 * MOST_ROWS))]
        pair = rows[: len(rows) // 2 * 2].reshape(-1, 2).T  # alternating rows, for order within a shard
        halves.append([problem.gradient(theta, half).astype(np.float64) for half in pair])
    size = len(pair[0])
    first, second = (np.stack(half) for half in zip(*halves, strict=True))
    inner = first @ second.T
    own = float(np.trace(inner)) / shards
    others = float(inner.sum() - np.trace(inner)) / (shards * (shards - 1))
    noise = 0.5 * size * float(np.square(first - second).sum(axis=1).mean())  # of a sample
    return max(0.0, own - others) * (config.problem.batch or size) / max(noise, 1e-300)


def plain_rate(config: Config, problem: Problem) -> float:
    """Return the learning rate of gradients as they are that stands for 1 of whitened ones.

    Both steps are compared by their lengths, each at a θ from which a run may start; the best plain ones were
    half as long. The seed of the run does not count: its rate would scatter twofold.
    """
    batch, random = min(config.problem.batch or problem.rows, problem.rows), np.random.default_rng(0)
    starts = [problem.initial(seed) for seed in range(SAMPLES)]
    rows = [np.sort(random.choice(problem.rows, batch, replace=False)) for _ in starts]
    lengths = []
    for kind in ("norm" if config.code.whiten == "norm" else "gram", "none"):
        plan, total = problem.plan(batch, whiten=kind), 0.0
        for theta, each in zip(starts, rows, strict=True):
            plan.gradient(theta, each)
            total += float(np.linalg.norm(plan.full_gradient.astype(np.float64)))
        lengths.append(total)
    return LONGER * lengths[0] / lengths[1] if lengths[1] > 0 else 1.0


def with_resolved(config: Config, tables: dict[str, Any]) -> Config:
    """Return a worker's configuration with the tables that rank 0 has resolved."""
    return msgspec.structs.replace(
        config,
        code=CodeTable.of(tables["code"]),
        memory=MemoryTable.of(tables["memory"]),
        optimizer=OptimizerTable.of(tables["optimizer"]),
    )


def _with(config: Config, **tables: dict[str, Any]) -> Config:
    """Return a configuration with other values of some keys."""
    changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in tables.items()}
    return msgspec.structs.replace(config, **changed)
