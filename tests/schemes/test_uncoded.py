"""Presets of the scheme without a code: what each update is made of, for any task times."""

from collections import Counter
from collections.abc import Callable

from descents import MS, Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.trace.schema import USED, WASTED

JOB = ["problem.batch=4", "problem.hidden=[4]", "workers.count=5", "stop.updates=12", "optimizer.rate=0.05"]
Times = list[float] | Callable[[int, int], int]
TIMES = st.lists(st.floats(0.5, 9), min_size=5, max_size=5)


def run(preset: str, times: Times) -> Descent:
    done = Descent(["scheme.name=uncoded", f"scheme.preset={preset}", *JOB], times)
    assert done.run() == "enough"
    return done


def updates(done: Descent) -> list[list[dict[str, int]]]:
    """The arrivals that each update has used, in order."""
    found: list[list[dict[str, int]]] = [[] for _ in range(13)]
    for row in done.trace.arrivals:
        if row["status"] == USED:
            found[row["applied_version"]].append(row)
    return found[:12]


@given(TIMES)
def test_all_is_synchronous(times: list[float]) -> None:
    for rows in updates(run("all", times)):
        assert sorted(row["worker"] for row in rows) == [0, 1, 2, 3, 4]
        assert all(row["staleness"] == 0 for row in rows)


@given(TIMES)
def test_first_takes_three_quarters_at_the_newest_theta_and_drops_the_others(times: list[float]) -> None:
    done = run("first", times)
    for rows in updates(done):
        assert len({row["worker"] for row in rows}) == 3
        assert all(row["staleness"] == 0 for row in rows)
    assert all(row["staleness"] > 0 for row in done.trace.arrivals if row["status"] == WASTED)


@given(TIMES)
def test_async_steps_at_every_gradient(times: list[float]) -> None:
    assert all(len(rows) == 1 for rows in updates(run("async", times)))


@given(TIMES)
def test_k_async_has_two_gradients_of_a_worker_at_most_the_first_of_them_stale(times: list[float]) -> None:
    for rows in updates(run("k-async", times)):
        assert len(rows) == 3
        for worker, count in Counter(row["worker"] for row in rows).items():
            stale = [row["staleness"] > 0 for row in rows if row["worker"] == worker]
            assert stale in ([False], [True], [True, False]), count


def test_a_late_worker_that_is_fast_then_gives_an_update_two() -> None:
    done = run("k-async", lambda worker, task: MS * (5 if worker else 6 if task == 0 else 1))
    assert [(row["worker"], row["staleness"]) for row in updates(done)[1]] == [(4, 1), (0, 1), (0, 0)]


def test_a_key_that_is_given_wins_over_the_preset() -> None:
    tables = {"scheme": {"name": "uncoded", "preset": "k-async"}, "update": {"count": 2}}
    update = configfile.resolve(tables).update
    assert (update.mode, update.count, update.late) == ("first", 2, "use")
