"""Time splits, task times and slow workers, on traces whose numbers are known."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode.analysis import timing
from pdcode.util.formats import percents

PARTS = [field.name for field in fields(timing.Split) if field.name != "dead"]
NOTHING = {"t_ns": np.zeros(0, np.int64)}


def task(
    worker: int, dispatch: int, start: int, compute: int, send: int, recv: int, decoded: int = 0
) -> tuple:
    """A row of arrivals from its times."""
    return traces.row(
        worker=worker, t_dispatch_ns=dispatch, t_start_ns=start, t_compute_ns=compute, t_send_ns=send,
        t_recv_ns=recv, t_decoded_ns=decoded or recv, injected_delay_ns=max(0, send - compute),
    )  # fmt: skip


def parts(
    rows: list[tuple], length: int, workers: int = 1, worker: int = 0, sample: int = 1
) -> tuple[float, ...]:
    """One worker's compute, delay, send, flight, decode, idle and quiet."""
    split = timing.split(traces.columns(rows), workers, length, sample)
    return tuple(float(getattr(split, name)[worker]) for name in PARTS)


def test_split_of_two_tasks() -> None:
    rows = [task(0, 10, 15, 35, 75, 80), task(0, 90, 92, 100, 110, 115)]
    assert parts(rows, 150) == (20 + 8, 40 + 10, 0, 5 + 5 + 2 + 5, 0, 10 + 10, 35)


def test_decoding_is_neither_idle_nor_quiet() -> None:
    rows = [task(0, 10, 15, 35, 75, 80, 84), task(0, 90, 92, 100, 110, 115, 122)]
    assert parts(rows, 150) == (20 + 8, 40 + 10, 0, 5 + 5 + 2 + 5, 4 + 7, 10 + 6, 28)
    assert parts(rows, 118)[4] == 4 + 3  # the run ends before the last decoding


def test_decoding_while_the_worker_is_busy_is_not_counted() -> None:
    rows = [task(0, 0, 0, 50, 100, 110, 125), task(0, 20, 103, 110, 120, 125, 130)]
    assert parts(rows, 130) == (57, 60, 0, 3 + 5, 5, 0, 0)


def test_a_task_sent_ahead_is_no_flight_while_the_worker_is_busy() -> None:
    rows = [task(0, 0, 0, 50, 100, 110), task(0, 20, 103, 110, 120, 125)]
    assert parts(rows, 125) == (57, 60, 0, 3 + 5, 0, 0, 0)


def test_order_of_rows_does_not_matter_and_workers_are_apart() -> None:
    rows = [task(1, 0, 5, 6, 7, 9), task(0, 90, 92, 100, 110, 115), task(0, 10, 15, 35, 75, 80)]
    assert parts(rows, 150, workers=3)[0] == 28
    assert parts(rows, 150, workers=3, worker=1) == (1, 1, 0, 7, 0, 0, 141)
    assert parts(rows, 150, workers=3, worker=2) == (0, 0, 0, 0, 0, 0, 150)


def test_split_of_a_sample_is_scaled() -> None:
    rows = [task(0, 10, 15, 35, 75, 80, 82)]
    assert parts(rows, 1000, sample=10) == (200, 400, 0, 100, 20, 280, 0)
    full = parts(rows, 360, sample=10)
    assert sum(full) == pytest.approx(360)
    assert full[1] == pytest.approx(200)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[tuple], int, int]:
    """Rows of up to 4 workers with any times at all, and the run's length."""
    workers = draw(st.integers(1, 4))
    times = st.integers(-50, 1200)
    rows = draw(st.lists(st.tuples(st.integers(0, workers - 1), *[times] * 6), max_size=20))
    return [task(*row) for row in rows], workers, draw(st.integers(1, 1000))


@given(runs())
def test_every_split_sums_to_the_length_of_the_run(run: tuple[list[tuple], int, int]) -> None:
    rows, workers, length = run
    for sample in (1, 7):
        for died_ns in (None, 0, length // 3, 2 * length):
            faults = {"kind": np.array(["dead", "refused"]), "worker": np.zeros(2, int)}
            faults["t_ns"] = np.array([died_ns or 0, 0])
            told = () if died_ns is None else (faults,)
            split = timing.split(traces.columns(rows), workers, length, sample, *told)
            values = np.array([getattr(split, field.name) for field in fields(timing.Split)])
            assert (values >= 0).all()
            np.testing.assert_allclose(values.sum(axis=0), length)
            assert (split.dead[1:] == 0).all()
            for worker in range(workers):
                shown = percents([float(each) for each in values[:, worker]], length)
                assert sum(round(10 * float(each)) for each in shown) == 1000
            if died_ns == 0 and 0 not in {row[0] for row in rows}:
                assert split.dead[0] == length


def test_rank_0_serves_arrivals_one_by_one() -> None:
    arrivals = traces.columns(
        [task(0, 0, 0, 0, 0, 10, 14), task(1, 0, 0, 0, 0, 10, 20), task(2, 0, 0, 0, 0, 40, 43)]
    )
    updates = {"t_ns": np.array([16, 50])}
    # decoded 10-14, stepped -16, decoded 16-20 (received at 10), decoded 40-43, stepped -50
    assert timing.coordinator(arrivals, updates, {}, 100) == {"decode": 4 + 4 + 3, "step": 2 + 7, "idle": 80}


def test_a_step_without_a_decoding_before_it_is_not_guessed() -> None:
    arrivals = traces.columns([task(0, 0, 0, 0, 0, 10, 14)])
    updates = {"t_ns": np.array([5, 16, 30])}
    assert timing.coordinator(arrivals, updates, {}, 50) == {"decode": 4, "step": 2, "idle": 44}


def test_what_rank_0_measured_counts() -> None:
    arrivals = traces.columns([task(0, 0, 0, 0, 0, 10, 14)])
    counters = {"spent_evaluate_ns": 20, "spent_decode_ns": 3, "bytes_up": 9}
    assert timing.coordinator(arrivals, NOTHING, counters, 100) == {
        "decode": 3, "step": 0, "evaluate": 20, "idle": 77
    }  # fmt: skip
    assert timing.coordinator(arrivals, NOTHING, {}, 100, scale=5) == {"decode": 20, "idle": 80}


@given(runs())
def test_rank_0_sums_to_the_length_of_the_run(run: tuple[list[tuple], int, int]) -> None:
    rows, _, _ = run
    arrivals = traces.columns([row for row in rows if min(row[6:12]) >= 0])
    updates = {"t_ns": np.arange(0, 1200, 97)}
    length = timing.length_ns([arrivals, updates])
    assert sum(timing.coordinator(arrivals, updates, {}, length).values()) == pytest.approx(length)


def test_length_is_the_last_event() -> None:
    arrivals = traces.columns([task(0, 0, 0, 0, 0, 10, 14)])
    assert timing.length_ns([arrivals, {"t_ns": np.array([3, 20])}]) == 20
    assert timing.length_ns([arrivals, NOTHING]) == 14
    assert timing.length_ns([NOTHING]) == 0


def test_task_times_do_not_blame_waiting_twice() -> None:
    rows = [task(0, 0, 1, 50, 100, 110), task(0, 20, 103, 110, 120, 125), task(0, 130, 131, 132, 133, 140)]
    arrivals = traces.columns(rows)
    assert timing.task_times(arrivals, np.arange(3)).tolist() == [110, 25, 10]
    assert timing.task_times(arrivals, np.arange(0)).tolist() == []


def fleet(times: list[list[int]]) -> timing.Pace:
    """The pace of workers whose tasks take these times."""
    rows = []
    for worker, tasks in enumerate(times):
        ends = np.cumsum(tasks)
        rows += [task(worker, end - t, end - t, end, end, end) for t, end in zip(tasks, ends, strict=True)]
    return timing.pace(traces.columns(rows), len(times))


def test_the_slow_worker_and_by_how_much() -> None:
    pace = fleet([[10] * 100, [11] * 100, [12] * 100, [110] * 10])
    np.testing.assert_array_equal(pace.median, [10, 11, 12, 110])
    np.testing.assert_allclose(pace.ratio, [10 / 12, 11 / 12, 12 / 11, 10])
    assert pace.slow() == [3]
    assert pace.silent() == []


def test_several_slow_workers_come_slowest_first() -> None:
    assert fleet([[10] * 50, [30] * 50, [10] * 50, [50] * 50, [10] * 50]).slow() == [3, 1]


def test_one_late_arrival_makes_no_slow_worker() -> None:
    assert fleet([[10] * 50, [10] * 50, [40]]).slow() == []
    assert fleet([[10] * 50, [10] * 50, [100]]).slow() == [2]  # but a very late one does


def test_equal_workers_are_not_slow() -> None:
    random = np.random.default_rng(0)
    times = [[int(t) + 1 for t in random.exponential(1000, 200)] for _ in range(16)]
    assert fleet(times).slow() == []


def test_few_workers() -> None:
    alone = fleet([[10, 10]])
    assert np.isnan(alone.ratio).all()
    assert alone.slow() == []
    half = fleet([[10, 10], []])
    assert half.silent() == [1]
    assert np.isnan(half.ratio).all()
    assert fleet([[], []]).slow() == []


@given(st.lists(st.one_of(st.floats(0.1, 100), st.just(float("nan"))), min_size=1, max_size=12))
def test_ratio_is_to_the_median_of_the_others(values: list[float]) -> None:
    ratio = timing._ratio_to_others(np.array(values))
    for i, value in enumerate(values):
        others = [other for j, other in enumerate(values) if j != i and not np.isnan(other)]
        expected = value / np.median(others) if others else float("nan")
        np.testing.assert_allclose(ratio[i], expected)


def test_simulated_run(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=2.0)
    pace = timing.pace(trace.arrivals, 8)
    assert pace.slow() == [7]
    assert 6 < pace.ratio[7] < 13
    length = timing.length_ns([trace.arrivals, trace.updates])
    split = timing.split(trace.arrivals, 8, length)
    injected = [trace.arrivals["injected_delay_ns"][trace.arrivals["worker"] == i].sum() for i in range(8)]
    np.testing.assert_allclose(split.delay, injected, rtol=0.02)  # and 40 µs to send each
    for worker in range(8):  # a task is sent after the decoding, so every one counts
        mine = trace.arrivals["worker"] == worker
        decoding = trace.arrivals["t_decoded_ns"][mine] - trace.arrivals["t_recv_ns"][mine]
        assert split.decode[worker] == decoding.sum()
