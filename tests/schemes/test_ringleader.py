"""Ringleader ASGD: its two phases written out, its bound on delays, the optimum on shards that differ."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, REFUSED, USED
from pdcode.transport.layout import RETURNED
from pdcode.util import memory
from pdcode.util.errors import InputError

n = 4
LINES = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=23", "problem.features=5",
    "problem.test_fraction=0", "problem.dtype=float64", "problem.batch=0", "problem.noise=1", "code.blocks=1",
    f"workers.count={n}", "optimizer.rate=0.05",
]  # fmt: skip
RINGLEADER = [*LINES, "scheme.name=ringleader"]
TIMES = st.lists(st.floats(0.3, 12), min_size=n, max_size=n)
Gradient = Callable[[int, np.ndarray], np.ndarray]


def gradients(made: Descent) -> Gradient:
    """The gradient of a worker's shard, times its weight in the mean over workers."""
    shards = [made.components.source.shard(worker, n) for worker in range(n)]

    def gradient(worker: int, theta: np.ndarray) -> np.ndarray:
        x, y = shards[worker]["x"], shards[worker]["y"].reshape(-1)
        return n / 23 * x.T @ (x @ theta - y)

    return gradient


def written_out(made: Descent, least: float = 1.0) -> Iterator[tuple[int, np.ndarray, list[list[int]]]]:
    """The steps of the two phases for the trace's order of arrivals, from sums and counts in two tables.

    Yields the worker that brings a step, θ after it, and the versions of the gradients in each entry.
    """
    gradient, theta, version = gradients(made), made.thetas[0].copy(), 0
    tables: list[list[list[tuple[int, np.ndarray]]]] = [[[] for _ in range(n)] for _ in range(2)]
    left: set[int] | None = None  # in phase 2, the workers whose step is to come
    for row in made.trace.arrivals:
        if row["status"] == DRAINED:
            return
        worker = row["worker"]
        found = row["version"], gradient(worker, made.thetas[row["version"]])
        if left is not None and worker not in left:
            tables[1][worker].append(found)
            continue
        tables[0][worker].append(found)
        if left is None:
            counts = [len(entry) for entry in tables[0]]
            if not all(counts) or 1 / np.mean([1 / count for count in counts]) < least - 1e-9:
                continue
            left = set(range(n))
        theta = theta - 0.05 * sum(sum(g for _, g in entry) / len(entry) for entry in tables[0]) / n
        version += 1
        yield worker, theta, [[each for each, _ in entry] for entry in tables[0]]
        left.remove(worker)
        if not left:
            tables, left = [tables[1], [[] for _ in range(n)]], None


@given(TIMES, st.sampled_from([1.0, 1.5, 3.0]))
def test_the_steps_are_those_of_the_two_phases(times: list[float], least: float) -> None:
    made = Descent([*RINGLEADER, "stop.updates=20", f"scheme.options.gradients={least}"], times)
    assert made.run() == "enough"
    steps = list(written_out(made, least))
    assert len(steps) == 20
    for number, (_, theta, versions) in enumerate(steps):
        np.testing.assert_allclose(made.thetas[number + 1], theta, rtol=0, atol=1e-12)
        assert number - min(map(min, versions)) <= 2 * n - 2
    for start in range(0, 20, n):  # a round
        assert sorted(worker for worker, _, _ in steps[start : start + n]) == list(range(n))


@given(TIMES)
def test_no_worker_waits_and_no_gradient_is_dropped(times: list[float]) -> None:
    made = Descent([*RINGLEADER, "stop.updates=9"], times)
    sent: dict[tuple[int, int], tuple[int, int, int]] = {}
    dispatch = made.fleet.dispatch

    def note(worker: int, task: int, version: int, order: object, flags: int = 0) -> int:
        sent[worker, task] = made.fleet.now_ns(), made.coordinator.version, flags & RETURNED
        return dispatch(worker, task, version, order, flags)

    made.fleet.dispatch = note  # type: ignore[method-assign]
    made.run()
    for row in made.trace.arrivals:
        if row["status"] == DRAINED:
            continue
        assert row["status"] == USED
        if (following := sent.get((row["worker"], row["task"] + 1))) is not None:
            assert following == (row["t_recv_ns"], following[1], 0)
    assert all(sent[row["worker"], row["task"]][1] == row["version"] for row in made.trace.arrivals)


def test_it_reaches_the_optimum_where_speed_biases_asynchronous_sgd() -> None:
    times, gaps = [1, 1.1, 1.2, 7], []
    for scheme in (["scheme.name=ringleader"], ["scheme.name=uncoded", "scheme.preset=async"]):
        made = Descent([*LINES, *scheme, "optimizer.rate=0.2", "stop.updates=1500"], times)
        assert made.run() == "enough"
        gradient = gradients(made)
        gaps.append(np.linalg.norm(sum(gradient(worker, made.state.theta) for worker in range(n)) / n))
    assert gaps[0] < 1e-9
    assert gaps[1] > 1e-2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the worker's arithmetic with NaN
@pytest.mark.parametrize("times", [[1, 1.3, 0.7, 6.1], [6.1, 1.3, 0.7, 1]])
@pytest.mark.parametrize("first", [0, 3])
def test_it_goes_on_without_a_worker_that_sends_nan(times: list[float], first: int) -> None:
    faults = [f'faults.events=[{{kind="nan", worker=3, task={first}}}]']
    made = Descent([*RINGLEADER, *faults, "stop.updates=80"], times)
    assert made.loss_ratio() < 0.8
    rows = [row for row in made.trace.arrivals if row["worker"] == 3]
    assert {row["status"] for row in rows[first:]} == {REFUSED}
    stepped = {row["worker"] for row in made.trace.arrivals if row["status"] == USED}
    assert {0, 1, 2} <= stepped


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_descent_of_which_every_gradient_is_refused_ends() -> None:
    made = Descent([*RINGLEADER, "optimizer.rate=1e9", "stop.updates=400"], [1, 1.3, 0.7, 6.1])
    with np.errstate(all="ignore"):
        assert made.run().startswith("diverged: every payload")
    assert made.coordinator.stuck


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["update.mode=all"], r"update\.mode: 'all' has no effect with scheme 'ringleader'"),
        (["code.blocks=4"], r"code\.blocks: 4 has no effect"),
        (["memory.kind=worker"], r"memory\.kind: 'worker' has no effect"),
        (["downlink.kind=codewords"], r"downlink\.kind: 'codewords' has no effect"),
        (["scheme.options.gradients=0.5"], r"scheme\.options\.gradients: .*0\.5"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configfile.resolve({}, ["scheme.name=ringleader", *overrides])


def test_a_table_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configfile.resolve({}, ["scheme.name=ringleader", "workers.count=8", "stop.updates=1"])
    monkeypatch.setattr(memory, "limit_bytes", lambda: 100_000)
    with pytest.raises(InputError, match=r"workers\.count: a gradient of each of 8 workers would need"):
        prepare(config)


def test_a_dead_worker_needs_a_time_limit() -> None:
    config = configfile.resolve(
        {}, ["scheme.name=ringleader", "stop.updates=1", "stragglers={kind='slow-set',dead=[2]}"]
    )
    with pytest.raises(InputError, match=r"stop\.seconds: not given"):
        prepare(config)
