"""What rank 0 measures and prints, and when it stops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from pdcode import problems
from pdcode.config import load as configfile
from pdcode.session.monitor import Monitor, straggler_note
from pdcode.trace.descent import KEPT
from pdcode.training.roster import BUSY, IDLE, Roster

S = 1_000_000_000


class Rows:
    config_text = ""

    def __init__(self) -> None:
        self.measured: list[tuple[Any, ...]] = []
        self.flushed: list[int] = []
        self.faults: list[tuple[object, ...]] = []
        self.pauses: list[tuple[int, ...]] = []

    def progress(self, *values: float) -> None:
        self.measured.append(values)

    def fault(self, *values: object) -> None:
        self.faults.append(values)

    def pause(self, *values: int) -> None:
        self.pauses.append(values)

    def due(self, now_ns: int) -> bool:
        return now_ns >= (self.flushed[-1] if self.flushed else 0) + S

    def flush(self, now_ns: int) -> None:
        self.flushed.append(now_ns)


@pytest.fixture(scope="module")
def problem() -> problems.Problem:
    return problems.create({"kind": "softmax", "data": "digits"})


def state(problem: problems.Problem, version: int = 0, theta: np.ndarray | None = None, **more: Any) -> Any:
    lists = {"busy_ns": [10, 20, 100], "tasks": [2, 2, 1], "replies": [2, 2, 1], "sent_ns": [0, 0, 0]}
    lists |= {name: more.pop(name) for name in ("waited_ns", *lists) if name in more}
    roster = Roster(len(lists["tasks"]))
    for name, values in lists.items():
        setattr(roster, name, values)
    roster.arrivals = version
    for worker, (sent, answered) in enumerate(zip(roster.tasks, roster.replies, strict=True)):
        roster.states[worker] = BUSY if sent > answered else IDLE
    for number, worker in enumerate(more.pop("overdue", [])):
        roster.states[worker] = BUSY
        roster.put_overdue(worker, number)
    patient = more.pop("waits", False)
    theta = problem.initial(1) if theta is None else theta
    return SimpleNamespace(
        stopping="", interrupted=0, stuck=False, version=version,
        theta=theta, points=[theta], roster=roster, update=SimpleNamespace(used=1),
        state=SimpleNamespace(policy=SimpleNamespace(waits_for_overdue=patient), ended=("", False)),
        incidents=SimpleNamespace(notes=more.pop("notes", [])),
        fleet=SimpleNamespace(now_ns=lambda: 0, ending_s=0.0),
        drain_until_ns=0, **more,
    )  # fmt: skip


def monitor(problem: problems.Problem, *overrides: str) -> tuple[Monitor, Rows, list[str]]:
    rows, lines = Rows(), []
    return Monitor(problem, configfile.resolve({}, overrides), rows, lines.append), rows, lines


def test_a_line_a_second_and_measurements_as_often_as_asked(problem: problems.Problem) -> None:
    watch, rows, lines = monitor(problem, "trace.progress_s=0.25")
    for tick in range(401):  # 4 s in steps of 10 ms, a new version each
        assert watch(tick * S // 100, state(problem, tick)) == ""
    assert len(lines) == 5
    assert len(rows.measured) == pytest.approx(17, abs=2)
    assert len(rows.flushed) == 4
    assert "update 400" in lines[-1]
    assert "100 arrivals/s" in lines[-1]
    assert "slowest: worker 2 (13.3×)" in lines[-1]


def test_the_measurements_are_the_problems_own(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem)
    theta = problem.initial(5)
    watch(0, state(problem, 3, theta))
    version, t_ns, loss, accuracy, norm, averaged, other = rows.measured[0]
    assert (version, t_ns, averaged) == (3, 0, 0)
    assert math.isnan(other)  # there is no average
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
def test_reasons_to_stop(problem, override, now_ns, version, reason):
    watch, _, _ = monitor(problem, override)
    said = watch(now_ns, state(problem, version))
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_loss_that_is_no_number_stops_the_run(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem)
    assert watch(0, state(problem, 1, np.full(problem.size, math.nan, np.float32))).startswith("diverged")
    assert watch.failed
    assert len(rows.faults) == 1


def test_a_descent_that_goes_wrong_is_said_once_and_once_more_if_it_becomes_worse(
    problem: problems.Problem,
) -> None:
    watch, rows, lines = monitor(problem)
    directions = np.random.default_rng(0).standard_normal(problem.size).astype(np.float32)
    said = []
    for second, scale in enumerate((0.0, 0.2, 0.0, 0.2, 0.2, 0.2, 3.0, 5.0, 7.0)):
        lines.clear()
        assert watch(second * S, state(problem, second, scale * directions)) == ""
        said.append([line for line in lines if "above" in line])
    assert [len(each) for each in said] == [0, 0, 0, 0, 1, 0, 0, 1, 0]  # of one line by chance, nothing
    assert said[4][0].startswith("    4.0 s  warning: the loss is above its first: ")
    assert said[7][0].startswith("    7.0 s  diverging: the loss is above its first: ")
    assert "above since update 3 (3.00 s)" in said[7][0]
    assert "optimizer.rate is" in said[7][0]
    assert not watch.failed
    assert not rows.faults


def test_a_run_that_ends_far_above_its_first_loss_has_failed(problem: problems.Problem) -> None:
    directions = np.random.default_rng(0).standard_normal(problem.size).astype(np.float32)
    for scale, interrupted, failed in ((5.0, 0, True), (0.2, 0, False), (5.0, 2, True)):
        watch, rows, _ = monitor(problem, "stop.updates=10")
        watch(0, state(problem, 0))
        made = state(problem, 5 if interrupted else 10, scale * directions)
        made.interrupted = interrupted
        assert watch(S, made) == ("interrupted" if interrupted else "10 updates")
        assert watch.failed == failed
        kinds = [fault[3] for fault in rows.faults]
        assert kinds == (["stop"] if interrupted else ["diverged"] * failed)


def test_the_measurements_that_are_remembered_are_few(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem, "trace.progress_updates=1")
    directions = np.random.default_rng(0).standard_normal(problem.size).astype(np.float32)
    for version in range(1000):
        watch(version, state(problem, version, abs(version - 333) / 400 * directions))
    remembered = watch._history.columns
    assert len(remembered["loss"]) <= KEPT
    assert remembered["version"][[0, -1]].tolist() == [0, 999]
    assert remembered["loss"].min() == min(row[2] for row in rows.measured)
    assert watch.descent().what.startswith("the loss is above its first: ")
    again, _, _ = monitor(problem)
    again.load_state_dict(watch.state_dict())
    assert again.descent() == watch.descent()


def test_the_last_theta_of_a_run_is_measured_too(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem, "stop.updates=10", "trace.progress_s=100.0")
    assert watch(0, state(problem, 0)) == ""
    reason = watch(S, state(problem, 10, np.full(problem.size, math.nan, np.float32)))
    assert reason.startswith("diverged")
    assert watch.failed
    assert [row[0] for row in rows.measured] == [0, 10]


def test_loss_is_also_measured_after_a_number_of_updates(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem, "trace.progress_s=100.0", "trace.progress_updates=3", "stop.loss=100.0")
    watch.stop = msgspec.structs.replace(watch.stop, loss=None)
    for version in (0, 1, 2, 3, 5, 6):
        assert watch(version + 1, state(problem, version)) == ""
    assert [row[0] for row in rows.measured] == [0, 3, 6]


def test_the_trace_is_flushed_while_the_last_tasks_are_awaited(problem: problems.Problem) -> None:
    watch, rows, lines = monitor(problem, "stop.seconds=1.0")
    made = state(problem, 5)
    assert watch(S, made) == "1 s"
    made.stopping, made.roster.states, made.drain_until_ns = "1 s", [BUSY, IDLE, BUSY], 5 * S
    for tick in range(101, 500):
        watch(tick * S // 100, made)
    assert len(rows.flushed) >= 4
    said = [line.strip() for line in lines]
    assert said[:2] == [
        "1.2 s  stopped; waiting for workers 0 and 2, 3.8 s at most",
        "2.2 s  stopped; waiting for workers 0 and 2, 2.8 s at most",
    ]
    made.roster.states, lines[:] = [IDLE] * 3, []
    watch(7 * S, made)
    assert not lines  # nobody is waited for
    made.roster.states, made.drain_until_ns = [BUSY, IDLE, BUSY], 2**62
    watch(9 * S, made)
    assert lines == ["    9.0 s  stopped; waiting for workers 0 and 2"]


def test_an_interrupt_stops_the_run_and_flushes_its_trace(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem)
    made = state(problem, 5)
    made.interrupted = 2
    assert watch(S // 10, made) == "interrupted"
    assert rows.flushed
    assert watch.failed


def test_an_interrupt_together_with_the_end_of_a_run_is_no_failure(problem: problems.Problem) -> None:
    watch, _, _ = monitor(problem, "stop.updates=10")
    made = state(problem, 10)
    made.interrupted = 2
    assert watch(S, made) == "10 updates"
    assert not watch.failed


def test_a_worker_that_has_not_answered_yet_counts_by_its_waiting(problem: problems.Problem) -> None:
    made = state(problem, busy_ns=[100, 100, 0], tasks=[10, 10, 1], replies=[10, 9, 0])
    made.t_dispatch_ns = [0, 0, 0]
    ratio = 500 / ((10 + 100 / 9) / 2)
    assert straggler_note(made, 500) == f"  slowest: worker 2 ({ratio:.1f}×)"
    assert not straggler_note(state(problem, busy_ns=[5], tasks=[1], replies=[1], sent_ns=[0]), 9)


def test_workers_that_do_not_answer_are_named(problem: problems.Problem) -> None:
    made = state(problem, overdue=[2, 0], sent_ns=[4 * S, 0, S])
    assert straggler_note(made, 6 * S) == "  no answer from workers 0 and 2 for 5.0 s"
    made.state.policy.waits_for_overdue = True
    assert straggler_note(made, 6 * S) == "  waits for workers 0 and 2 for 5.0 s"
    many = state(problem, busy_ns=[0] * 12, tasks=[1] * 12, replies=[0] * 12, sent_ns=[0] * 12)
    assert straggler_note(many, 2 * S) == "  slowest: worker 0 (1.0×)"  # as they begin: nobody is unusual


def test_a_line_says_for_whom_rank_0_has_waited_since_the_last(problem: problems.Problem) -> None:
    watch, _, lines = monitor(problem)
    for second, waited_s in enumerate(([0, 0, 0], [0, 0.2, 0.25], [0.5, 0.2, 0.25], [0.5, 0.25, 0.25])):
        watch(second * S, state(problem, second, waited_ns=[round(S * each) for each in waited_s]))
    assert "waited 25% of the time for worker 2" in lines[1]
    assert "waited 50% of the time for worker 0" in lines[2]
    assert "waited" not in lines[3]


@pytest.mark.parametrize("workers", [2, 4])
def test_a_run_that_goes_on_with_another_number_of_workers_has_lines(problem, workers):
    """What rank 0 has waited is counted on for the workers that it keeps."""
    watch, _, lines = monitor(problem)
    lists = {name: [1] * workers for name in ("busy_ns", "tasks", "replies", "t_dispatch_ns")}
    watch(S, state(problem, 1, waited_ns=[0, round(0.9 * S), 0]))
    watch(2 * S, state(problem, 2, waited_ns=[0, round(1.8 * S), 0, 0][:workers], **lists))
    assert ["waited 90% of the time for worker 1" in line for line in lines] == [True, True]


def test_what_becomes_of_workers_is_told_once(problem: problems.Problem) -> None:
    watch, _, lines = monitor(problem)
    watch(0, state(problem, 0))
    made = state(problem, 1, notes=["worker 2 has died; 2 continue"])
    watch(S // 2, made)
    watch(2 * S, made)
    assert [line for line in lines if "died" in line] == ["    0.5 s  worker 2 has died; 2 continue"]


def test_a_line_says_when_its_loss_was_measured(problem: problems.Problem) -> None:
    watch, _, lines = monitor(problem, "trace.progress_s=100")
    watch(0, state(problem, 0))
    watch(S, state(problem, 7))
    assert "(at update 0)" not in lines[0]
    assert "update 7 " in lines[1]
    assert "(at update 0)" in lines[1]


def test_costly_measurements_become_rare(problem: problems.Problem) -> None:
    watch, rows, _ = monitor(problem, "trace.progress_s=0.01")
    for tick in range(1001):  # 10 s; each measurement takes 0.1 s
        now_ns = tick * S // 100
        made = state(problem, tick)
        made.fleet.now_ns = iter((now_ns, now_ns + S // 10)).__next__
        watch(now_ns, made)
    assert len(rows.measured) == 6
