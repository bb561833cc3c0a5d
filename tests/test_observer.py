"""What rank 0 measures and prints, and when it stops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pdcode import configfile, problems
from pdcode.observer import Observer, slowest_worker

S = 1_000_000_000


class Rows:
    def __init__(self) -> None:
        self.measured: list[tuple[Any, ...]] = []
        self.flushed: list[int] = []

    def progress(self, *values: float) -> None:
        self.measured.append(values)

    def due(self, now_ns: int) -> bool:
        return now_ns >= (self.flushed[-1] if self.flushed else 0) + S

    def flush(self, now_ns: int) -> None:
        self.flushed.append(now_ns)


@pytest.fixture(scope="module")
def problem() -> problems.Problem:
    return problems.create({"kind": "softmax", "data": "digits"})


def state(problem: problems.Problem, version: int = 0, theta: np.ndarray | None = None, **more: Any) -> Any:
    lists = {"busy_ns": [10, 20, 100], "tasks": [2, 2, 1], "waiting": [0, 1, 2], "t_dispatch_ns": [0, 0, 0]}
    return SimpleNamespace(
        version=version,
        theta=problem.initial(1) if theta is None else theta,
        arrivals=version,
        **(lists | more),
    )


def observer(problem: problems.Problem, *overrides: str) -> tuple[Observer, Rows, list[str]]:
    rows, lines = Rows(), []
    return Observer(problem, configfile.resolve({}, overrides), rows, lines.append), rows, lines


def test_a_line_a_second_and_measurements_as_often_as_asked(problem: problems.Problem) -> None:
    watch, rows, lines = observer(problem, "trace.progress_s=0.25")
    for tick in range(401):  # 4 s in steps of 10 ms, a new version each
        assert watch(tick * S // 100, state(problem, tick)) == ""
    assert len(lines) == 5
    assert len(rows.measured) == pytest.approx(17, abs=2)
    assert len(rows.flushed) == 4
    assert "update 400" in lines[-1]
    assert "100 arrivals/s" in lines[-1]
    assert "slowest: worker 2 (13.3×)" in lines[-1]


def test_the_measurements_are_the_problems_own(problem: problems.Problem) -> None:
    watch, rows, _ = observer(problem)
    theta = problem.initial(5)
    watch(0, state(problem, 3, theta))
    version, t_ns, loss, accuracy, norm = rows.measured[0]
    assert (version, t_ns) == (3, 0)
    assert loss == pytest.approx(problem.loss(theta), rel=1e-6)
    assert accuracy == problem.accuracy(theta)
    assert norm == pytest.approx(np.linalg.norm(problem.gradient(theta)), rel=1e-5)


@pytest.mark.parametrize(
    ("override", "now_ns", "version", "reason"),
    [
        ("stop.updates=10", 0, 10, "10 updates"),
        ("stop.seconds=2.0", 2 * S, 0, "2 s"),
        ("stop.loss=100.0", 0, 0, "≤ 100"),
        ("stop.accuracy=0.0", 0, 0, "≥ 0"),
        ("stop.updates=10", 0, 9, ""),
        ("stop.seconds=2.0", 2 * S - 1, 0, ""),
        ("stop.loss=1e-9", 0, 0, ""),
    ],
)
def test_reasons_to_stop(
    problem: problems.Problem, override: str, now_ns: int, version: int, reason: str
) -> None:
    watch, _, _ = observer(problem, override)
    said = watch(now_ns, state(problem, version))
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_loss_that_is_no_number_stops_the_run(problem: problems.Problem) -> None:
    watch, _, _ = observer(problem)
    assert watch(0, state(problem, 1, np.full(problem.size, math.nan, np.float32))).startswith("diverged")


def test_a_worker_that_has_not_answered_yet_counts_by_its_waiting() -> None:
    made = SimpleNamespace(busy_ns=[100, 100, 0], tasks=[10, 10, 1], waiting=[0], t_dispatch_ns=[0, 0, 0])
    assert slowest_worker(made, 500) == (2, pytest.approx(500 / ((10 + 100 / 9) / 2)))
    assert slowest_worker(SimpleNamespace(busy_ns=[5], tasks=[1], waiting=[0], t_dispatch_ns=[0]), 9) is None
