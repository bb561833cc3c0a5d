"""The fleet within one process: its clock, its bytes, and that a descent on it is the descent."""

import numpy as np
import pytest
from descents import MS, Descent

from pdcode import problems

EXACT = ["problem.dtype=float64", "memory.kind=none", "workers.count=3"]


def test_arrivals_come_after_the_given_times_and_in_their_order() -> None:
    made = Descent(["workers.count=3", "stop.updates=12"], [3, 1, 2.5])
    assert made.run() == "enough"
    rows = made.trace.arrivals
    times = made.trace.column("t_recv_ns")
    assert (np.diff(times) >= 0).all()
    durations = times - made.trace.column("t_dispatch_ns")
    np.testing.assert_array_equal(durations, np.array([3, 1, 2.5])[made.trace.column("worker")] * MS)
    assert [row["worker"] for row in rows[:4]] == [1, 1, 2, 0]
    assert made.fleet.now_ns() == times[-1]


def test_ties_are_in_the_order_of_dispatch() -> None:
    made = Descent(["workers.count=4", "stop.updates=12", "update.mode=all"], [1] * 4)
    assert made.run() == "enough"
    np.testing.assert_array_equal(made.trace.column("worker"), [0, 1, 2, 3] * 12)


def test_bytes_are_those_of_the_messages() -> None:
    made = Descent(["workers.count=3", "wire.dtype=int8"], [1, 2, 3])
    made.run()
    layout = made.components.layout
    assert set(made.trace.column("bytes_up")) == {layout.reply_bytes}
    assert set(made.trace.column("bytes_down")) == {layout.task_bytes}
    assert made.fleet.bytes_up == made.trace.column("bytes_up").sum()
    assert made.fleet.bytes_down == made.trace.column("bytes_down").sum()


@pytest.mark.parametrize("downlink", ["full", "codewords"])
def test_full_batches_of_all_workers_are_gradient_descent(downlink: str) -> None:
    made = Descent(
        [
            *EXACT, "problem.batch=0", "problem.l2=0.01", "update.mode=all", "code.blocks=1",
            f"downlink.kind={downlink}", "stop.updates=15", "optimizer.rate=0.2",
        ],
        [1, 2, 3],
    )  # fmt: skip
    made.run()
    problem = problems.create({"data": "digits", "hidden": [16], "l2": 0.01, "dtype": "float64", "batch": 0})
    theta = problem.initial(made.config.seed)
    for _ in range(15):
        theta -= 0.2 * problem.gradient(theta)
    np.testing.assert_allclose(made.state.theta, theta, rtol=1e-9, atol=1e-12)


def test_a_run_is_the_same_each_time() -> None:
    overrides = ["workers.count=3", "wire.dtype=int8", "downlink.kind=codewords", "code.rows_per_task=2"]
    first, second = (Descent(overrides, [1, 1.3, 2.2]) for _ in range(2))
    first.run()
    second.run()
    np.testing.assert_array_equal(first.state.theta, second.state.theta)
    assert first.trace.arrivals == second.trace.arrivals


def test_time_passes_while_nothing_arrives() -> None:
    made = Descent(["workers.count=2"], [10_000, 10_000])
    asked = []
    made.coordinator.liveness.disable()  # to look for overdue workers it does not let so much time pass
    reason = made.coordinator.run(
        lambda now_ns, c: asked.append(now_ns) or ("late" if now_ns >= 200 * MS else "")
    )
    assert reason == "late"
    assert len(asked) >= 10
