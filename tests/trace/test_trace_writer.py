"""The writer: what it puts into the file, what it does to files in its way, and what a row costs."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from paths import ROOT, SUPPORT

import pdcode
from pdcode.__main__ import main
from pdcode.config import Config
from pdcode.trace.reader import TraceReader
from pdcode.trace.rows import CAPACITY
from pdcode.trace.schema import ARRIVALS, OPTIONAL, TABLES, WORKERS
from pdcode.trace.writer import TraceWriter
from pdcode.util.errors import Failure, InputError


def test_rows_come_back_in_every_column(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=2)
    rows = [
        traces.row(
            **{name: 10 * i + column for column, name in enumerate(ARRIVALS)} | {"worker": i % 2, "status": i}
        )
        for i in range(3)
    ]
    for row in rows:
        writer.arrival(*row)
    writer.update(1, 20, 3, 0.5, 0.25, 0, -1, 0, 0)
    writer.progress(1, 30, 2.5, float("nan"), 0.125, 0, float("nan"))
    writer.fault(40, 1, 7, "exception", "ValueError: böse")
    writer.close(np.arange(4.0), {"velocity": np.ones(4), "step": 3}, counters={"arrivals": 3})
    trace = TraceReader(tmp_path / "a.h5")
    for place, name in enumerate(ARRIVALS):
        np.testing.assert_array_equal(trace.arrivals[name], [row[place] for row in rows])
        assert trace.arrivals[name].dtype == ARRIVALS[name].dtype
    assert {key: column[0] for key, column in trace.updates.items()} == {
        "version": 1, "t_ns": 20, "n_used": 3, "captured": 0.5, "step_norm": 0.25, "digest": 0,
        "waited_for": -1, "waited_ns": 0, "why": 0,
    }  # fmt: skip
    assert np.isnan(trace.progress["accuracy"][0])
    assert trace.progress["grad_norm"][0] == 0.125
    assert trace.faults["message"][0] == "ValueError: böse"
    assert trace.faults["kind"][0] == "exception"
    assert trace.counters == {"arrivals": 3}
    np.testing.assert_array_equal(trace.theta, np.arange(4.0))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["checkpoint/step"][()] == 3


@pytest.mark.parametrize("count", [0, 1, CAPACITY - 1, CAPACITY, 2 * CAPACITY + 3])
def test_batches_join_without_seam(tmp_path: Path, count: int) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=2)
    for i in range(count):
        writer.arrival(*traces.row(task=i, loss=0.5 * i))
        if i in (7, 11):
            writer.flush(i)
    writer.close()
    arrivals = TraceReader(tmp_path / "a.h5").arrivals
    np.testing.assert_array_equal(arrivals["task"], np.arange(count))
    np.testing.assert_array_equal(arrivals["loss"], 0.5 * np.arange(count))


def test_every_column_has_units_and_a_description(tmp_path: Path) -> None:
    traces.writer(tmp_path / "a.h5", tables=OPTIONAL).close(end_offsets=traces.members(8))
    with h5py.File(tmp_path / "a.h5") as file:
        for name, columns in {**TABLES, "workers": WORKERS}.items():
            for key, column in columns.items():
                assert file[name][key].attrs["units"] == column.units
                assert file[name][key].attrs["description"] == column.description
        assert list(file["arrivals"]) == list(ARRIVALS)


def test_attributes_configuration_and_code(tmp_path: Path) -> None:
    config = Config(seed=9)
    codes = [traces.code(16), traces.code(4, 8, seed=2), traces.code(4, 9)]
    metadata = {"config": config, "seed": 9, "git_commit": None, "environment": {"SITE": "here"}}
    writer = TraceWriter(tmp_path / "a.h5", "seed = 9 # mine\n", codes, metadata, traces.members(4, hosts=2))
    writer.close()
    trace = TraceReader(tmp_path / "a.h5")
    assert trace.config_text == "seed = 9 # mine\n"
    assert trace.config["optimizer"]["kind"] == "sgd"
    assert trace.config["seed"] == trace.attributes["seed"] == 9
    assert trace.attributes["schema"] == "pdcode-trace"
    assert trace.attributes["creator"].startswith("pdcode ")
    assert trace.attributes["hostnames"] == ["node0", "node1"]
    assert "git_commit" not in trace.attributes
    assert list(trace.code) == [4, 16]  # one group a k, the first code of that k
    np.testing.assert_array_equal(trace.code[4], traces.code(4, 8).matrix)
    assert trace.code_attributes[4] == {
        "family": "net", "weight": 2, "coherence": 0.5, "seed": 2, "rotate": config.code.rotate
    }  # fmt: skip
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["environment"].attrs["SITE"] == "here"
        np.testing.assert_array_equal(file["code/4/supports"], traces.code(4, 8).indices)
        np.testing.assert_array_equal(file["code/4/values"], traces.code(4, 8).values)


def test_a_trace_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.h5"
    for task in (1, 2, 3):
        writer = traces.writer(path)
        writer.arrival(*traces.row(task=task))
        writer.close()
    assert TraceReader(path).arrivals["task"].tolist() == [3]
    assert TraceReader(tmp_path / "new" / "a.previous.h5").arrivals["task"].tolist() == [2]
    assert len(list(path.parent.iterdir())) == 2


def test_a_run_that_was_moved_out_of_the_way_closes_its_own_file(tmp_path: Path) -> None:
    first = traces.writer(tmp_path / "a.h5")
    first.arrival(*traces.row(task=1))
    second = traces.writer(tmp_path / "a.h5")
    first.close(np.ones(1))
    assert TraceReader(tmp_path / "a.previous.h5").finished
    assert not TraceReader(tmp_path / "a.h5").finished
    second.close(np.zeros(1))
    assert TraceReader(tmp_path / "a.h5").theta == 0
    assert TraceReader(tmp_path / "a.previous.h5").theta == 1


def test_a_deleted_file_is_reported_at_the_close(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    os.remove(tmp_path / "a.h5")
    with pytest.raises(Failure, match="moved or deleted"):
        writer.close()


def test_without_room_for_a_copy_the_trace_itself_is_finished(tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = traces.writer(tmp_path / "a.h5")
    monkeypatch.setattr("shutil.copy", full)
    writer.close(np.ones(3))
    assert TraceReader(tmp_path / "a.h5").theta.tolist() == [1, 1, 1]


def test_an_unwritable_path_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.h5", tmp_path):
        with pytest.raises(InputError, match=r"trace\.path: cannot write"):
            traces.writer(path)


def test_sampling_takes_every_worker_alike(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=5, arrivals="sampled", sample=10)
    for task in range(100):
        for worker in range(5):
            writer.arrival(*traces.row(worker=worker, task=task))
    writer.close()
    trace = TraceReader(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.bincount(trace.arrivals["worker"]), np.full(5, 10))
    assert trace.attributes["sample"] == 10


def test_no_arrivals_on_request(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", arrivals="none")
    writer.arrival(*traces.row())
    writer.update(1, 1, 1, 1.0, 1.0, 0, -1, 0, 0)
    writer.close()
    trace = TraceReader(tmp_path / "a.h5")
    assert (trace.arrivals.rows, trace.updates.rows) == (0, 1)


def test_due_follows_the_flushes(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", flush_s=0.5)
    assert not writer.due(449_999_999)
    assert writer.due(450_000_000)
    writer.flush(600_000_000)
    assert not writer.due(1_000_000_000)
    assert writer.due(1_050_000_000)
    writer.close()


def test_end_offsets_must_cover_all_ranks(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=3)
    with pytest.raises(ValueError, match="no entry for rank 3"):
        writer.close(end_offsets=traces.members(2))


def test_totals_are_added_to_the_trace_that_they_are_of(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    first = traces.writer(path)
    first.close(counters={"arrivals": 1})
    first.add_counters({"oracle_s": 0.5})
    assert TraceReader(path).counters == {"arrivals": 1, "oracle_s": 0.5}
    second = traces.writer(path)  # moves the first one out of its way
    first.add_counters({"oracle_s": 0.75})
    second.close(counters={"arrivals": 2})
    first.add_counters({"oracle_s": 1.5})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "a.previous.h5"]
    assert TraceReader(path).counters == {"arrivals": 2}
    moved = path.with_name("a.previous.h5")
    assert TraceReader(moved).counters == {"arrivals": 1, "oracle_s": 1.5}
    moved.unlink()
    with pytest.raises(Failure, match=r"a\.h5: the trace was moved or deleted"):
        first.add_counters({"oracle_s": 2.0})


def test_another_process_that_writes_the_name_keeps_its_trace(tmp_path: Path) -> None:
    """Its file takes the name while totals would be added to the one that had it."""
    path = tmp_path / "a.h5"
    first = traces.writer(path)
    first.close()
    program = """
import sys, traces
writer = traces.writer(sys.argv[1])
print(flush=True)
input()
writer.close(counters={"arrivals": 2})
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])}
    words = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        with pytest.raises(Failure, match=r"oracle_s cannot be added: .* is being written by process"):
            first.add_counters({"oracle_s": 0.5})
        other.communicate(b"\n", timeout=200)
    assert other.returncode == 0
    assert TraceReader(path).counters == {"arrivals": 2}


def test_an_interrupt_while_results_are_written_leaves_no_copy(tmp_path, monkeypatch):
    def interrupted(*arguments: object) -> None:
        copy(*arguments)
        raise KeyboardInterrupt

    writer = traces.writer(tmp_path / "a.h5")
    writer.update(1, 1, 1, 1.0, 1.0, 0, -1, 0, 0)
    copy = shutil.copymode
    monkeypatch.setattr(shutil, "copymode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "a.h5.lock"]
    trace = TraceReader(tmp_path / "a.h5")
    assert (trace.updates.rows, trace.finished) == (1, False)


def test_a_file_that_cannot_be_moved_away_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    (tmp_path / "a.previous.h5").mkdir()
    with pytest.raises(
        InputError, match=r"a\.h5', as its trace becomes '.*a\.previous\.h5': the existing file"
    ):
        traces.writer(tmp_path / "a.h5")


def test_a_large_code_is_recorded_without_its_matrix(tmp_path: Path) -> None:
    """Of 50,257 blocks that would be 20 GB."""
    path = tmp_path / "t.h5"
    job = {"problem": {"kind": "mlp", "data": "digits", "hidden": [1500]}, "stop": {"updates": 2}}
    trace = pdcode.simulate(
        {**job, "scheme": {"name": "lwpd", "preset": "default"}}, workers=2, output=path, progress=False
    )
    assert 1500 not in trace.code
    assert pdcode.codes.Code.load_all(path)["/code/1500"].blocks == 1500
    assert main(["replay", str(path)]) == 0
