"""Ringmaster ASGD: what is dropped, and its limits, asynchronous SGD and gradients at the newest θ alone."""

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.schemes import make_scheme
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.transport.layout import RETURNED
from pdcode.transport.messages import Task
from pdcode.util.errors import InputError
from pdcode.virtual import timing_only

JOB = ["problem.batch=4", "problem.hidden=[4]", "workers.count=5", "stop.updates=25", "optimizer.rate=0.05"]
NET = 'code={family="net",blocks=4,weight=2,rotate=true}'
TIMES = st.lists(st.floats(0.2, 20), min_size=5, max_size=5)


def run(times: list[float], *overrides: str) -> Descent:
    done = Descent([*JOB, *overrides], times)
    assert done.run() == "enough"
    return done


def threshold(*overrides: str) -> int:
    config = configfile.resolve({}, ["scheme.name=ringmaster", "workers.count=7", *overrides])
    return make_scheme(config).threshold  # type: ignore[attr-defined]


@given(TIMES)
@pytest.mark.parametrize("memory", [[], [NET, "memory.kind=worker", "wire.dtype=int8"]])
def test_without_a_threshold_it_is_asynchronous_sgd_bit_for_bit(memory, times):
    made = run(times, "scheme.name=ringmaster", "scheme.options.threshold=1000000", *memory)
    plain = run(times, "scheme.name=uncoded", "scheme.preset=async", *memory)
    np.testing.assert_array_equal(made.thetas, plain.thetas)
    assert made.trace.arrivals == plain.trace.arrivals


@given(TIMES, st.integers(1, 12))
def test_what_is_used_is_what_is_fresh_enough_and_no_worker_waits(times: list[float], R: int) -> None:
    made = Descent([*JOB, "scheme.name=ringmaster", f"scheme.options.threshold={R}"], times)
    sent: dict[int, list[tuple[int, int, int]]] = {worker: [] for worker in range(5)}
    dispatch = made.fleet.dispatch

    def note(worker: int, task: int, version: int, order: object, flags: int = 0) -> int:
        sent[worker].append((made.fleet.now_ns(), version, flags & RETURNED))
        return dispatch(worker, task, version, order, flags)

    made.fleet.dispatch = note  # type: ignore[method-assign]
    assert made.run() == "enough"
    version = 0
    for row in made.trace.arrivals:
        assert row["staleness"] == version - row["version"]
        if row["status"] == DRAINED:
            continue
        used = row["status"] == USED
        assert used == (row["staleness"] < R)
        assert used or (row["status"], row["applied_version"]) == (WASTED, -1)
        version += used
        if version < 25:  # its next task is there at once, with the newest θ
            following = sent[row["worker"]][row["task"] + 1]
            assert following == (row["t_recv_ns"], version, 0 if used else RETURNED)
    assert [row["n_used"] for row in made.trace.updates] == 25 * [1]


def test_the_threshold_of_one_uses_the_newest_theta_alone() -> None:
    made = run([1, 1.3, 1.7, 2.9, 40], "scheme.name=ringmaster", "scheme.options.threshold=1")
    rows = made.trace.arrivals
    assert all(row["version"] == row["applied_version"] for row in rows if row["status"] == USED)
    assert sum(row["status"] == WASTED for row in rows) > 10


def test_equal_workers_lose_nothing_by_default() -> None:
    made = run([2, 2, 2, 2, 2], "scheme.name=ringmaster")
    assert {row["status"] for row in made.trace.arrivals} == {USED, DRAINED}
    assert max(row["staleness"] for row in made.trace.arrivals) == 4


def test_a_memory_gets_back_what_is_dropped() -> None:
    """What θ has moved by and what the workers keep add up to all gradients."""
    overrides = [NET, "memory.kind=worker", "problem.dtype=float64", "optimizer.rate=1", "stop.updates=12"]
    made = Descent(
        [*JOB, "scheme.name=ringmaster", "scheme.options.threshold=2", *overrides], [1, 1, 1, 1, 7.5]
    )
    total = np.zeros_like(made.state.theta)
    for worker in made.workers:

        def note(task: Task, perform=worker.perform, source=worker.encoders[0].source) -> float:
            loss = perform(task)
            total[:] += source.gradient
            return loss

        worker.perform = note
    assert made.run() == "enough"
    assert (made.trace.column("status") == WASTED).any()
    for worker, dropped in zip(made.workers, made.coordinator.roster.flags, strict=True):
        if dropped:  # as its next task would have told it
            worker.encoders[0].rollback()
    kept = sum(worker.encoders[0].residual for worker in made.workers)
    moved = made.thetas[0] - made.state.theta  # by the mean over 5 workers
    np.testing.assert_allclose(5 * moved + kept, total, atol=1e-10)


def test_the_threshold_is_given_or_the_papers_or_the_number_of_workers() -> None:
    assert threshold() == 7
    assert threshold("scheme.options.threshold=3") == 3
    for sigma2, epsilon, R in ((0, 1, 1), (1, 1, 1), (1.01, 1, 2), (0.5, 0.125, 4)):
        assert threshold(f"scheme.options={{sigma2={sigma2},epsilon={epsilon}}}") == R


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheme.options.threshold=0"], r"scheme\.options\.threshold: .*0"),
        (
            ["scheme.options.sigma2=2"],
            r"scheme\.options\.sigma2: 2.0 has no effect with scheme\.options\.epsilon none",
        ),
        (
            ["scheme.options.epsilon=2"],
            r"scheme\.options\.epsilon: 2.0 has no effect with scheme\.options\.sigma2 none",
        ),
        (
            ["scheme.options={threshold=3,sigma2=2,epsilon=1}"],
            r"scheme\.options\.sigma2: 2.0 has no effect with scheme\.options\.threshold 3",
        ),
        (["update.mode=all"], r"update\.mode: 'all' has no effect with scheme 'ringmaster'"),
        (["update.late=waste"], r"update\.late: 'waste' has no effect with scheme 'ringmaster'"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configfile.resolve({}, ["scheme.name=ringmaster", *overrides])


def test_the_loop_for_times_alone_does_not_know_its_policy() -> None:
    config = configfile.resolve({}, ["scheme.name=ringmaster", "stop.updates=9"])
    assert not timing_only.is_timeable(config)
    with pytest.raises(InputError, match=r"scheme\.name: 'ringmaster' has .* an update policy of its own"):
        timing_only.ensure_timeable(config)
