"""Delays of recorded runs: from traces and matrices, in their order or drawn from them, and bad files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces

from pdcode import Trace, stragglers
from pdcode.config import Stragglers
from pdcode.errors import InputError

NAN = float("nan")
MATRIX = np.array([[0.1, 0.2, 0.3], [1.0, NAN, 2.0], [NAN, NAN, NAN]])


def table(path: Path, draw: str = "replay", **keys: object) -> Stragglers:
    return Stragglers(kind="trace", path=str(path), draw=draw, **keys)


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
        stragglers.check(table(path), 5)
        model = stragglers.create(table(path), 1, 5)
        delays = model.delays_s(np.arange(5), np.zeros(5, int), 5)
        np.testing.assert_array_equal(delays, expected + expected[:2])
        np.testing.assert_array_equal(model.delays_s([1, 0], [3, 4], 2), [[2, 1], [0.2, 0.3]])
        assert stragglers.dead(table(path), 5) == [2]
        one = stragglers.Delays(table(path), 1, 3, 5)
        assert [one.delay_ns(task, 77) for task in (0, 1, 200)] == [100_000_000, 200_000_000, 300_000_000]


def test_slow_and_dead_workers_are_added_to_what_was_recorded(tmp_path: Path) -> None:
    changed = table(csv(tmp_path / "a.csv"), slow=[0], slowdown=2.0, dead=[1])
    stragglers.check(changed, 2)
    delays = stragglers.create(changed, 1, 2).delays_s([0, 1], [0, 0], 3)
    np.testing.assert_array_equal(delays, [[0.2, 0.4, 0.6], [np.inf] * 3])


def test_the_bootstrap_draws_each_of_a_workers_delays_equally_often(tmp_path: Path) -> None:
    model = stragglers.create(table(csv(tmp_path / "a.csv"), "bootstrap"), 1, 6)
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
    model = stragglers.create(table(run.path), 1, 8)
    for worker in range(8):
        mine = np.flatnonzero(rows["worker"] == worker)
        mine = mine[np.argsort(rows["task"][mine])]
        took = (rows["t_send_ns"] - rows["t_start_ns"])[mine]
        delays = stragglers.delays_ns(model, [worker], [0], len(mine), [base_ns])[0]
        np.testing.assert_array_equal(base_ns + delays, np.maximum(took, base_ns))


def test_a_trace_without_an_end_is_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.2, close=False)
    assert not run.finished
    model = stragglers.create(table(run.path), 1, 8)
    assert np.isfinite(model.delays_s(np.arange(8), np.zeros(8, int), 4)).all()


def test_workers_that_answered_only_when_recalled_are_dead(tmp_path: Path) -> None:
    trace = traces.writer(tmp_path / "trace.h5", 3)
    for worker, task, delay in (0, 0, 1000), (2, 0, -1), (0, 1, 3000):
        took = delay if delay > 0 else 10**9
        trace.arrival(*traces.row(worker=worker, task=task, t_send_ns=took, injected_delay_ns=delay))
    trace.close(np.zeros(1), {}, traces.members(3), {})
    found = table(tmp_path / "trace.h5")
    assert stragglers.dead(found, 3) == [1, 2]
    delays = stragglers.delays_ns(stragglers.create(found, 1, 3), [0, 1, 2], [0, 0, 0], 2, [0, 0, 0])
    np.testing.assert_array_equal(delays, [[1000, 3000], [-1, -1], [-1, -1]])


def test_a_sample_can_be_drawn_from_but_not_replayed(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.3, arrivals="sampled", sample=4)
    model = stragglers.create(table(run.path, "bootstrap"), 1, 8)
    assert np.isfinite(model.delays_s([7], [0], 50)).all()
    with pytest.raises(InputError, match=r"stragglers\.draw: .*trace\.h5: 'replay' needs all arrivals"):
        stragglers.check(table(run.path), 8)
    sparse = traces.simulate(tmp_path / "sparse.h5", seconds=0.1, arrivals="sampled", sample=1000)
    with pytest.raises(InputError, match=r"stragglers\.path: .*sparse\.h5: the sample has no arrival of"):
        stragglers.check(table(sparse.path, "bootstrap"), 8)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "1,2\n")
    assert stragglers.create(table(path), 1, 1).delays_s([0], [0], 2).tolist() == [[1, 2]]
    csv(path, "3,4,5\n")
    assert stragglers.create(table(path), 1, 1).delays_s([0], [0], 2).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3\n", "line 2: 1 columns, where the first row has 2"),
        ("1,2\n3,x\n", "line 2: could not convert string to float: 'x'"),
        ("worker,delay\n1,2\n", "line 1: could not convert"),
        ("1,2\n3,-4\n", "worker 1, round 1: -4 is not a delay"),
        ("1,inf\n", "worker 0, round 1: inf is not a delay"),
        ("1,2e9\n", r"worker 0, round 1: 2e\+09 is not a delay"),
        ("nan,\n", "has no delays"),
        ("", "has no delays"),
    ],
)
def test_bad_tables_of_text(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"stragglers\.path: .*bad\.csv: {words}"):
        stragglers.check(table(csv(tmp_path / "bad.csv", text)), 2)


def test_bad_files(tmp_path: Path) -> None:
    def refused(words: str, path: Path, **keys: object) -> None:
        with pytest.raises(InputError, match=words):
            stragglers.check(table(path, **keys), 2)

    refused(r"stragglers\.path: .*none\.csv: no such file", tmp_path / "none.csv")
    refused(r"stragglers\.path: .*: not a file", tmp_path)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    refused(r"stragglers\.path: .*image\.png: neither HDF5 nor UTF-8 text", tmp_path / "image.png")
    (tmp_path / "torn.h5").write_bytes(hdf5(tmp_path / "whole.h5", a=MATRIX).read_bytes()[:1000])
    refused(r"stragglers\.path: .*torn\.h5: a part of the file is missing", tmp_path / "torn.h5")
    refused(r"stragglers\.dataset: .*a\.csv: 'x' names an HDF5 dataset", csv(tmp_path / "a.csv"), dataset="x")
    refused(r"stragglers\.path: .*empty\.h5: has no matrix", hdf5(tmp_path / "empty.h5", a=np.arange(3.0)))
    two = hdf5(tmp_path / "two.h5", slow=MATRIX, deep__fast=0.1 * MATRIX)
    refused(r"stragglers\.dataset: .*two\.h5: say which one; .*: deep/fast, slow", two)
    refused(r"stragglers\.dataset: .*two\.h5: 'deep' is not a matrix of numbers", two, dataset="deep")
    chosen = stragglers.create(table(two, dataset="/deep/fast"), 1, 1).delays_s([0], [0], 3)
    np.testing.assert_array_equal(chosen[0], 0.1 * MATRIX[0])
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.1)
    refused(r"stragglers\.dataset: .*trace\.h5: 'x' names a matrix", run.path, dataset="x")
    bare = traces.simulate(tmp_path / "bare.h5", seconds=0.1, arrivals="none")
    refused(r"stragglers\.path: .*bare\.h5: has no arrivals: trace\.arrivals was 'none'", bare.path)
    traces.writer(tmp_path / "new.h5").close(np.zeros(1), {}, traces.members(8), {})
    assert Trace(tmp_path / "new.h5").finished
    refused(r"stragglers\.path: .*new\.h5: has no arrivals yet", tmp_path / "new.h5")


def test_only_files_of_that_format_cost_the_import_of_h5py(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv")
    code = f"""
import sys
from pdcode.config import Stragglers
from pdcode.stragglers import Delays
Delays(Stragglers(kind="trace", path={str(path)!r}), 1, 0, 2).delay_ns(0, 0)
assert "h5py" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
