"""Rules by which other tools name slow workers, each in a few lines of our own from its description.

A rule takes the times of each worker's tasks, from the start to sending, and returns the workers it names.
The tools watch jobs in which each step waits for all: where a rule speaks of steps, step i is the i-th task
of every worker, under any policy. No tool is run, and what a description leaves open is our reading, which
the docstring says. Guard (Liu et al., MLSys 2026, arXiv:2605.17879) is missing: only its abstract and notes
of its readers could be had. By these it compares a node with others of its job over several windows, and
acts from about 10 % on, but no statistic and no window is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import gammaln

Rule = Callable[[Sequence[np.ndarray]], set[int]]

FACTOR = 1.5  # of the plain rules
REPORT = 20  # tasks between two reports of NVRx
APART = 10  # steps, at least, between two changes


def _steps(times: Sequence[np.ndarray]) -> np.ndarray:
    """Return the times of the tasks that every worker has, (steps, workers)."""
    least = min(map(len, times))
    return np.stack([each[:least] for each in times], axis=1)


def _where(named: np.ndarray) -> set[int]:
    return {*np.flatnonzero(named).tolist()}


def exceeds(level: Callable[[np.ndarray], float]) -> Rule:
    """Return the plain rule of monitors: a level of a worker over `FACTOR` times the others' median level."""

    def rule(times: Sequence[np.ndarray]) -> set[int]:
        levels = np.array([*map(level, times)])
        others = [np.median(np.delete(levels, worker)) for worker in range(len(levels))]
        return _where(levels > FACTOR * np.array(others))

    return rule


def traceml(times: Sequence[np.ndarray]) -> set[int]:
    """Name at most one worker, as the rank straggler of TraceML 0.3.6 (github.com/traceopt-ai/traceml).

    By its `DIAGNOSIS.md` the rank that waits least in the backward pass, on average, is slow if the (upper)
    median rank waits longer by 10 % of the step. Our reading: all work lies before the wait, which ends
    with the step's longest work; the window is the run, of which a summary takes 10,000 rows.
    """
    steps = _steps(times)
    took = steps.max(axis=1, keepdims=True)
    waited = (took - steps).mean(axis=0)
    ranked = np.argsort(waited, kind="stable")
    cost = waited[ranked[len(ranked) // 2]] - waited[ranked[0]]
    return {int(ranked[0])} if cost >= 0.1 * took.mean() else set()


def relative_score(times: Sequence[np.ndarray]) -> set[int]:
    """Name workers by the relative score of NVIDIA's nvidia-resiliency-ext 0.6 (`straggler`, "NVRx").

    A rank is a straggler whose score, the least median time of all ranks over its own, is below .75. Our
    reading: one section, a task; one report, at the run's end.
    """
    medians = np.array([np.median(each) for each in times])
    return _where(medians.min() < 0.75 * medians)


def individual_score(times: Sequence[np.ndarray]) -> set[int]:
    """Name workers by the individual score of NVRx: the rank's least median so far over that of a report.

    Our reading: a report after `REPORT` tasks (users choose when); a worker is named that any report names.
    """

    def named(own: np.ndarray) -> bool:
        medians = np.median(own[: len(own) // REPORT * REPORT].reshape(-1, REPORT), axis=1)
        return bool((np.minimum.accumulate(medians) < 0.75 * medians).any())

    return _where(np.array([*map(named, times)]))


def greyhound(times: Sequence[np.ndarray]) -> set[int]:
    """Name workers as Greyhound (Wu et al., USENIX ATC 2025, sections 4.2 and 4.3; FALCON, arXiv:2410.12588).

    Changes of the iteration time are found by Bayesian online change-point detection, with probability over
    .9, and count if the mean time changes by 10 %; then groups over 10 % above the median are degraded. Our
    reading: a change may become likely some steps after it; normal times, 100 steps between changes, and 10
    at least as in the published code; a group is a worker, judged by its mean until the next change; a
    benchmark of degraded workers, which follows there, agrees. Workers slow from the start are for tests
    before the job.
    """
    steps = _steps(times)
    took = steps.max(axis=1)
    marks, named = [0, *_changes(took), len(took)], set()
    for begin, change, end in zip(marks, marks[1:], marks[2:], strict=False):
        if took[change:end].mean() > 1.1 * took[begin:change].mean():
            means = steps[change:end].mean(axis=0)
            named |= _where(means > 1.1 * np.median(means))
    return named


def _changes(values: np.ndarray) -> list[int]:
    """Return where values change, by Adams and MacKay's recursion (arXiv:0710.3742) for normal values."""
    values = (values - values.mean()) / (values.std() or 1.0)
    prior = np.array([[0.0], [1.0], [1.0], [1.0]])  # mean, weight, shape and rate, of normal-gamma
    state, run, found = prior, np.ones(1), [0]
    for at, value in enumerate(values):
        mean, weight, shape, rate = state
        wide = 2 * rate * (weight + 1) / weight
        logs = gammaln(shape + 0.5) - gammaln(shape) - 0.5 * np.log(math.pi * wide)
        run = run * np.exp(logs - (shape + 0.5) * np.log1p((value - mean) ** 2 / wide))
        run = np.append(0.01 * run.sum(), 0.99 * run) / run.sum()  # of each length, the next value not seen
        moved = rate + weight * (value - mean) ** 2 / (2 * (weight + 1))
        moved = np.stack(((weight * mean + value) / (weight + 1), weight + 1, shape + 0.5, moved))
        state = np.concatenate((prior, moved), axis=1)
        begun = at + 1 - int(run.argmax())
        if run.max() > 0.9 and begun >= found[-1] + APART:
            found.append(begun)
    return found[1:]


def what_if(times: Sequence[np.ndarray]) -> set[int]:
    """Name workers as "Understanding Stragglers in Large Model Training" (Lin et al., OSDI 2025).

    A job straggles if its time is 1.1 times that with all operations at their mean (S, section 5); workers
    are to blame, those 3 % that alone delay it most (S_w), if without them more than half of the excess is
    gone (M_W, section 5.1). Our reading: an operation is a task, and of few workers 3 % are one.
    """
    steps = _steps(times)
    usual = steps.mean()
    took, ideal = steps.max(axis=1).sum(), usual * len(steps)
    alone = np.maximum(steps, usual).sum(axis=0)
    blamed = np.argsort(-alone, kind="stable")[: math.ceil(0.03 * len(alone))]
    steps[:, blamed] = usual
    gone = took - steps.max(axis=1).sum()
    return {*blamed.tolist()} if took >= 1.1 * ideal and gone > 0.5 * (took - ideal) else set()


RULES: dict[str, Rule] = {
    "median": exceeds(lambda times: float(np.median(times))),
    "mean": exceeds(lambda times: float(np.mean(times))),
    "TraceML": traceml,
    "NVRx, relative": relative_score,
    "NVRx, individual": individual_score,
    "Greyhound": greyhound,
    "ByteDance": what_if,
}
