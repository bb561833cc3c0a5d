"""Delays of recorded runs: from traces and matrices, in their order or drawn from them, and bad files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from tables import delayed

from pdcode import Trace, stragglers
from pdcode.config import StragglersTable
from pdcode.trace.schema import DRAINED, USED
from pdcode.trace.writer import TraceWriter
from pdcode.util.errors import InputError

NAN = float("nan")
MATRIX = np.array([[0.1, 0.2, 0.3], [1.0, NAN, 2.0], [NAN, NAN, NAN]])


def table(path: Path, draw: str = "replay", **keys: object) -> StragglersTable:
    return delayed(kind="trace", path=str(path), draw=draw, **keys)


def csv(path: Path, text: str = "0.1, 0.2, 0.3\n1.0,,2.0\nnan,nan,nan\n") -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def hdf5(path: Path, **datasets: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def test_a_matrix_is_replayed_worker_by_worker(tmp_path: Path) -> None:
    """Tasks that were not recorded are left out; there are more workers and tasks than records."""
    expected = [[0.1, 0.2, 0.3, 0.1, 0.2], [1, 2, 1, 2, 1], [np.inf] * 5]
    for path in csv(tmp_path / "a.csv"), hdf5(tmp_path / "a.h5", delays=MATRIX, names=np.arange(3)):
        table(path).make(0, 5)
        model = table(path).make(1, 5)
        delays = model.delays_s(np.arange(5), np.zeros(5, int), 5)
        np.testing.assert_array_equal(delays, expected + expected[:2])
        np.testing.assert_array_equal(model.delays_s([1, 0], [3, 4], 2), [[2, 1], [0.2, 0.3]])
        assert stragglers.dead_workers(table(path), 5) == [2]
        one = stragglers.WorkerDelays(table(path).make(1, 5), 3)
        assert [one.delay_ns(task, 77) for task in (0, 1, 200)] == [100_000_000, 200_000_000, 300_000_000]


def test_a_matrix_that_is_linked_to_can_be_named(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", deep__delays=MATRIX, other=MATRIX + 1)
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.SoftLink("/deep/delays")
        file["broken"] = h5py.SoftLink("/nowhere")
    for name in ("link", "/link/", "deep/delays"):
        model = table(path, dataset=name).make(1, 1)
        np.testing.assert_array_equal(model.delays_s([0], [0], 3)[0], MATRIX[0])
    for name in ("broken", "/", "x"):
        with pytest.raises(InputError, match=r"stragglers\.dataset: .*a\.h5: '.*' is not a matrix"):
            table(path, dataset=name).make(0, 1)


def test_slow_and_dead_workers_are_added_to_recorded_delays(tmp_path: Path) -> None:
    changed = table(csv(tmp_path / "a.csv"), slow=[0], slowdown=2.0, dead=[1])
    delays = changed.make(1, 2).delays_s([0, 1], [0, 0], 3)
    np.testing.assert_array_equal(delays, [[0.2, 0.4, 0.6], [np.inf] * 3])


def test_the_bootstrap_draws_each_of_a_workers_delays_equally_often(tmp_path: Path) -> None:
    model = table(csv(tmp_path / "a.csv"), "bootstrap").make(1, 6)
    delays = model.delays_s(np.arange(6), np.zeros(6, int), 3000)
    for worker, own in enumerate(([0.1, 0.2, 0.3], [1.0, 2.0])):
        for twin in (worker, worker + 3):
            values, counts = np.unique(delays[twin], return_counts=True)
            np.testing.assert_array_equal(values, own)
            assert np.abs(counts - 3000 / len(own)).max() < 4 * np.sqrt(3000 / len(own))
        assert (delays[worker] != delays[worker + 3]).any()
    again = model.delays_s([4, 0], [17, 5], 20)
    np.testing.assert_array_equal(again, [delays[4, 17:37], delays[0, 5:25]])


def test_base_and_delays_give_back_the_times_of_a_trace(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.5)
    rows = run.arrivals
    base_ns = stragglers.base_ns(run)
    compute = rows["t_compute_ns"] - rows["t_start_ns"]
    assert np.mean(compute < base_ns) <= 0.05 <= np.mean(compute <= base_ns)
    model = table(run.path).make(1, 8)
    for worker in range(8):
        mine = np.flatnonzero((rows["worker"] == worker) & (rows["status"] != DRAINED))
        mine = mine[np.argsort(rows["task"][mine])]
        took = (rows["t_send_ns"] - rows["t_start_ns"])[mine]
        delays = stragglers.delays_ns(model, [worker], [0], len(mine), [base_ns])[0]
        np.testing.assert_allclose(base_ns + delays, np.maximum(took, base_ns), rtol=0, atol=1)


def test_delays_that_the_end_of_a_run_cut_short_count_only_where_there_is_no_other(tmp_path: Path) -> None:
    trace = TraceWriter(
        tmp_path / "a.h5", traces.TEXT, [], {**traces.METADATA, "workers": 3}, traces.members(3)
    )
    times = {"t_start_ns": 0, "t_compute_ns": 1000}
    for worker, task, delay, status in ((0, 0, 7000, USED), (0, 1, 20, DRAINED), (1, 0, 90, DRAINED)):
        keys = {"worker": worker, "task": task, "injected_delay_ns": delay, "status": status}
        trace.arrival(*traces.row(**keys, t_send_ns=1000 + delay, **times))
    trace.arrival(*traces.row(worker=2, injected_delay_ns=-1, status=DRAINED, t_send_ns=5000, **times))
    trace.close(np.zeros(1), {}, traces.members(3), {})
    model = table(trace.path).make(1, 3)
    delays = stragglers.delays_ns(model, [0, 1, 2], [0, 0, 0], 2, [1000] * 3)
    np.testing.assert_array_equal(delays, [[7000] * 2, [90] * 2, [-1] * 2])


def recorded(path: Path, speeds: list[float], table: dict[str, object], stretch: list[float]) -> Trace:
    """Workers that compute so many times 1 ms and a little, and are late by multiples of it and 2 to 3 ms."""
    random = np.random.default_rng(2)
    config = {**traces.CONFIG, "stragglers": table}
    metadata = {**traces.METADATA, "config": config, "workers": len(speeds)}
    trace = TraceWriter(path, traces.TEXT, [], metadata, traces.members(len(speeds)))
    for task in range(40):
        for worker, speed in enumerate(speeds):
            compute = round(1e6 * speed * (1 if task % 10 else 1.3))
            delay = round(stretch[worker] * compute + random.uniform(2e6, 3e6))
            times = {"t_start_ns": 5, "t_compute_ns": 5 + compute, "t_send_ns": 5 + compute + delay}
            trace.arrival(*traces.row(worker=worker, task=task, injected_delay_ns=delay, **times))
    trace.close(np.zeros(1), {}, traces.members(len(speeds)), {})
    return Trace(path)


@pytest.mark.parametrize(
    ("table", "stretch"),
    [
        ({"kind": "none"}, [0, 0, 0]),
        ({"kind": "heterogeneous", "slowdown": 8.0}, [0, 3.5, 7]),
        ({"kind": "heterogeneous", "slowdown": 8.0, "shift_s": 1e-3}, [0, 0, 0]),
        ({"kind": "slow-set", "slow": [1, 2], "slowdown": 3.0}, [0, 2, 2]),
    ],
)
def test_a_slow_worker_is_as_many_times_slower_with_other_work(tmp_path, table, stretch):
    """Slow by its machine or by stragglers that are multiples of compute time: both are factors."""
    speeds = [1, 4, 1.5]
    run = recorded(tmp_path / "slow.h5", speeds, table, stretch)
    base_ns = stragglers.base_ns(run)
    assert base_ns == 1_000_000
    model = delayed(kind="trace", path=str(run.path), draw="replay").make(1, 6)
    everyone, none = np.arange(6), np.zeros(6, int)
    factors = np.array(speeds) * (1 + np.array(stretch))
    np.testing.assert_allclose(model.stretch(everyone), [*(factors - 1)] * 2)
    rows = run.arrivals
    took = np.array([(rows["t_send_ns"] - rows["t_start_ns"])[rows["worker"] == i] for i in range(3)])
    for share in 1.0, 0.125, 8.0:  # the same work, less and more
        work = round(share * base_ns)
        delays = stragglers.delays_ns(model, everyone, none, 40, np.full(6, work))
        expected = took + ((share - 1) * factors * base_ns)[:, None]
        np.testing.assert_allclose(work + delays, [*expected, *expected], rtol=0, atol=1)
    one = stragglers.WorkerDelays(model.table.make(1, 6), 2)
    assert one.delay_ns(3, 2_000_000) == pytest.approx(took[2, 3] + (factors[2] - 2) * base_ns, abs=1)


def test_delays_of_a_run_that_took_them_from_a_file_are_followed_to_it(tmp_path: Path) -> None:
    first = recorded(tmp_path / "first.h5", [1, 1], {"kind": "heterogeneous", "slowdown": 4.0}, [0, 3])
    own = {"kind": "trace", "path": str(first.path), "slow": [1], "slowdown": 2.0}
    second = recorded(tmp_path / "second.h5", [1, 1], own, [0, 6])
    model = table(second.path).make(1, 2)
    np.testing.assert_allclose(model.stretch([0, 1]), [0, 6])
    whole = csv(tmp_path / "whole.csv", "0.004,0.005\n0.006,0.007\n")
    own = {"kind": "trace", "path": str(whole), "times": "task"}
    third = table(recorded(tmp_path / "third.h5", [1, 1], own, [0, 0]).path).make(1, 2)
    np.testing.assert_allclose(third.stretch([0, 1]), [0, 0])
    assert model.delays_s([0, 1], [1, 1], 5).max() < 3.1e-3
    recorded(first.path, [1, 1], {"kind": "trace", "path": str(second.path)}, [0, 0])
    with pytest.raises(InputError, match=r"stragglers\.path: .*first\.h5: took its delays .*replaced since"):
        table(first.path).make(0, 2)
    second.path.unlink()
    with pytest.raises(InputError, match=r"stragglers\.path: .*first\.h5: .*another file: .*no such file"):
        table(first.path).make(0, 2)


def test_a_task_takes_the_time_of_a_whole_task(tmp_path: Path) -> None:
    values = np.random.default_rng(4).uniform(0.1, 0.5, (3, 100))
    values[1, 3] = NAN
    path = hdf5(tmp_path / "a.h5", times=values)
    model = table(path, times="task").make(1, 3)
    for compute in (0.0, 0.05, 0.3):
        compute_ns = round(1e9 * compute)
        late = stragglers.delays_ns(model, range(3), [0] * 3, 99, [compute_ns] * 3)
        for worker, row in enumerate(values):
            took = row[~np.isnan(row)][:99]
            np.testing.assert_allclose(compute + 1e-9 * late[worker], np.maximum(took, compute), rtol=1e-8)
            one = stragglers.WorkerDelays(model.table.make(1, 3), worker)
            assert [one.delay_ns(task, compute_ns) for task in range(99)] == late[worker].tolist()
    slow = table(path, times="task", slow=[2], slowdown=3.0).make(1, 3)
    late = stragglers.delays_ns(slow, range(3), [0] * 3, 99, [10**8] * 3)
    np.testing.assert_allclose(0.1 + 1e-9 * late[2], 3 * values[2, :99], rtol=1e-6)
    nothing = csv(tmp_path / "nothing.csv", "0,0\n0,0\n")
    assert not table(nothing, times="task").make(1, 2).delays_s([0, 1], [0, 0], 3).any()
    with pytest.raises(
        InputError, match=r"stragglers\.times: kind 'pareto' has no such key .value 'task'.; 'trace' has it"
    ):
        delayed(kind="pareto", shift_s=1.0, shape=2.0, times="task")
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.1)
    with pytest.raises(InputError, match=r"stragglers\.times: .*trace\.h5: 'task' is for matrices"):
        table(run.path, times="task").make(0, 8)


def test_a_trace_without_an_end_is_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.2, close=False)
    assert not run.finished
    model = table(run.path).make(1, 8)
    assert np.isfinite(model.delays_s(np.arange(8), np.zeros(8, int), 4)).all()


def test_workers_that_answered_only_when_recalled_are_dead(tmp_path: Path) -> None:
    trace = traces.writer(tmp_path / "trace.h5", 3)
    for worker, task, delay in (0, 0, 1000), (2, 0, -1), (0, 1, 3000):
        took = delay if delay > 0 else 10**9
        trace.arrival(*traces.row(worker=worker, task=task, t_send_ns=took, injected_delay_ns=delay))
    trace.close(np.zeros(1), {}, traces.members(3), {})
    found = table(tmp_path / "trace.h5")
    assert stragglers.dead_workers(found, 3) == [1, 2]
    delays = stragglers.delays_ns(found.make(1, 3), [0, 1, 2], [0, 0, 0], 2, [0, 0, 0])
    np.testing.assert_array_equal(delays, [[1000, 3000], [-1, -1], [-1, -1]])


def test_a_sample_can_be_drawn_from_but_not_replayed(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.3, arrivals="sampled", sample=4)
    model = table(run.path, "bootstrap").make(1, 8)
    assert np.isfinite(model.delays_s([7], [0], 50)).all()
    with pytest.raises(InputError, match=r"stragglers\.draw: .*trace\.h5: 'replay' needs all arrivals"):
        table(run.path).make(0, 8)
    sparse = traces.simulate(tmp_path / "sparse.h5", seconds=0.1, arrivals="sampled", sample=1000)
    with pytest.raises(InputError, match=r"stragglers\.path: .*sparse\.h5: the sample has no arrival of"):
        table(sparse.path, "bootstrap").make(0, 8)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "1,2\n")
    assert table(path).make(1, 1).delays_s([0], [0], 2).tolist() == [[1, 2]]
    csv(path, "3,4,5\n")
    assert table(path).make(1, 1).delays_s([0], [0], 2).tolist() == [[3, 4]]


def test_workers_that_are_replaced_are_not_late_together(tmp_path: Path) -> None:
    """Each has the delays of one in the middle from another place on; two in the middle take turns."""
    rows = ["1,2,3,4,5,6", "2,4,6,8,10,12", *["90,90,90,90,90,90"] * 2]
    model = table(csv(tmp_path / "a.csv", "\n".join(rows)), draw="replay", replaced=[2, 3]).make(0, 4)
    workers = np.array([2, 3])
    drawn = model.delays_s(workers, np.zeros(2, np.int64), 6)
    assert drawn.tolist() == [[3, 4, 5, 6, 1, 2], [10, 12, 2, 4, 6, 8]]
