"""The reader: finished, running and killed files; clocks; errors."""

import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode.trace.clocks import correct_drift
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import ARRIVALS, SCHEMA_VERSION
from pdcode.util.errors import InputError


def test_columns_are_cut_to_the_shortest(tmp_path: Path) -> None:
    traces.simulate(tmp_path / "a.h5", seconds=0.1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        rows = len(file["arrivals/task"])
        file["arrivals/loss"].resize((rows - 5,))
    with pytest.raises(InputError, match=rf"columns of arrivals have {rows - 5} to {rows} rows"):
        TraceReader(tmp_path / "a.h5").arrivals  # noqa: B018
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs.modify("finished", np.False_)  # as of a run that was killed while it wrote
    trace = TraceReader(tmp_path / "a.h5")
    assert trace.arrivals.rows == rows - 5
    assert {len(column) for column in trace.arrivals.values()} == {rows - 5}


def test_a_trace_goes_on_with_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    old = traces.simulate(path, seconds=0.1)
    tasks = old.arrivals["task"]
    traces.simulate(path, seconds=0.2)
    assert len(old.arrivals["t_recv_ns"]) == len(tasks)  # read only now, from a.previous.h5
    traces.simulate(path, seconds=0.2)
    with pytest.raises(InputError, match="replaced or deleted"):
        _ = old.updates


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    traces.writer(tmp_path / "a.h5").close()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(InputError, match=rf"schema version {SCHEMA_VERSION + 1}; .* up to {SCHEMA_VERSION}"):
        TraceReader(tmp_path / "a.h5")


def test_what_is_not_a_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name in ("text.h5", "other.h5"):
        with pytest.raises(InputError, match=f"{name}: not a pdcode trace"):
            TraceReader(tmp_path / name)
    with pytest.raises(InputError, match=r"missing\.h5: no such file"):
        TraceReader(tmp_path / "missing.h5")
    with pytest.raises(InputError, match="not a file"):
        TraceReader(tmp_path)


def test_a_cut_off_file_is_refused_in_one_line(tmp_path: Path) -> None:
    traces.simulate(tmp_path / "a.h5", seconds=0.1)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.h5: the file is truncated"):
        TraceReader(tmp_path / "b.h5")
    (tmp_path / "c.h5").write_bytes(whole[:40])
    with pytest.raises(InputError, match=r"c\.h5: not a pdcode trace, or not readable"):
        TraceReader(tmp_path / "c.h5")


def test_drift_is_taken_out(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=3)
    for worker in range(3):
        for t in (0, 500_000, 1_000_000):
            writer.arrival(*traces.row(worker=worker, t_start_ns=t, t_recv_ns=t))
    start = traces.members(3)
    ends = [
        {"rank": 1, "clock_offset_ns": 0, "clock_error_ns": 5, "t_ns": 1_000_000},
        {"rank": 2, "clock_offset_ns": 100 + 2000, "clock_error_ns": 5, "t_ns": 1_000_000},
        {"rank": 3, "clock_offset_ns": 200 - 8, "clock_error_ns": 5, "t_ns": 1_000_000},  # within the errors
    ]
    assert [member["clock_offset_ns"] for member in start] == [0, 100, 200]
    writer.close(end_offsets=ends)
    trace = TraceReader(tmp_path / "a.h5")
    fast = trace.arrivals["worker"] == 1
    np.testing.assert_array_equal(trace.arrivals["t_start_ns"][fast], [0, 499_000, 998_000])
    np.testing.assert_array_equal(trace.arrivals["t_start_ns"][~fast], [0, 500_000, 1_000_000] * 2)
    np.testing.assert_array_equal(trace.arrivals["t_recv_ns"][fast], [0, 500_000, 1_000_000])
    raw = TraceReader(tmp_path / "a.h5", correct_clocks=False)
    np.testing.assert_array_equal(raw.arrivals["t_start_ns"][fast], [0, 500_000, 1_000_000])


@given(
    st.integers(-(10**6), 10**6),
    st.integers(-(10**5), 10**5),
    st.integers(0, 10**9),
    st.integers(10**6, 10**10),
)
def test_a_constant_drift_leaves_the_true_time(offset: int, change: int, at: int, span: int) -> None:
    true = np.arange(0, at + span, max(1, (at + span) // 7))
    drifted = true + np.rint(change * (true - at) / span).astype(
        np.int64
    )  # on the clock, less the first offset
    clocks = {
        "rank": np.array([1]),
        "clock_offset_ns": np.array([offset]),
        "clock_error_ns": np.array([0]),
        "clock_t_ns": np.array([at]),
        "end_clock_offset_ns": np.array([offset + change]),
        "end_clock_error_ns": np.array([0]),
        "end_clock_t_ns": np.array([-1]),
    }
    corrected = correct_drift(drifted, np.zeros(len(true), np.int64), clocks, last_ns=at + span)
    rate = abs(change) / span
    assert np.abs(corrected - true).max() <= 2 + rate**2 * (at + span)  # first order in the drift


def test_pandas_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.1)
    frame = trace.to_pandas("arrivals")
    assert list(frame) == list(ARRIVALS)
    assert len(frame) == trace.arrivals.rows
    assert frame.attrs["units"]["t_recv_ns"] == "ns"
    assert trace.to_pandas("workers")["host"].tolist() == ["node0"] * 8
    with pytest.raises(InputError, match=r"table: expected one of arrivals.*'arrivals'"):
        trace.to_pandas("arrival")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        trace.to_pandas("arrivals")


def test_unknown_columns_and_representations(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.1)
    with pytest.raises(KeyError):
        _ = trace.arrivals["nothing"]
    assert repr(trace).endswith("finished")
    names = "version, t_ns, n_used, captured, step_norm, digest, waited_for, waited_ns, why"
    assert repr(trace.updates) == f"<updates: {trace.updates.rows} rows of {names}>"
    assert len(trace.updates) == 9


@pytest.mark.parametrize("text", ['{"seed": 1}x', "[1", "3"])
def test_a_damaged_configuration_is_bad_input(tmp_path: Path, text: str) -> None:
    traces.writer(tmp_path / "a.h5").close()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["config_resolved"] = text
    with pytest.raises(InputError, match=r"a\.h5: damaged: config_resolved: "):
        TraceReader(tmp_path / "a.h5").config  # noqa: B018


@pytest.mark.parametrize("table", ["arrivals", "updates", "progress", "faults", "workers"])
def test_a_table_that_is_not_whole_is_bad_input(tmp_path: Path, table: str) -> None:
    path = tmp_path / "a.h5"
    traces.writer(path).close()
    with h5py.File(path) as file:
        later = {"round", "part", "digest", "waited_for", "waited_ns", "why", "averaged", "other_loss"}
        names = [name for name in file[table] if not name.startswith("end_") and name not in later]
    for name in names:
        with h5py.File(path, "r+") as file:
            kept = file[table][name][()]
            del file[table][name]
        with pytest.raises(InputError, match=rf"a\.h5: damaged: {table} has no column {name}"):
            getattr(TraceReader(path), table)
        for other in (
            kept[:, None],
            kept.astype("c16") if kept.dtype.kind not in "SO" else np.arange(len(kept)),
        ):
            with h5py.File(path, "r+") as file:
                file[table][name] = other
            with pytest.raises(InputError, match=rf"a\.h5: damaged: column {name} of {table} is "):
                getattr(TraceReader(path), table)
            with h5py.File(path, "r+") as file:
                del file[table][name]
        with h5py.File(path, "r+") as file:
            file[table][name] = kept
    with h5py.File(path, "r+") as file:
        del file[table]
    with pytest.raises(InputError, match=r"a\.h5: damaged: "):
        getattr(TraceReader(path), table)


def test_flipped_bytes_end_in_one_line(tmp_path: Path) -> None:
    """Whatever of a trace is read: it is there, or the file is said to be damaged."""
    whole = traces.simulate(tmp_path / "whole.h5", seconds=0.05).path.read_bytes()
    random = np.random.default_rng(3)
    damaged = 0
    for number in range(75):
        torn = bytearray(whole)
        for at in random.integers(len(torn), size=20):
            torn[at] ^= int(random.integers(1, 256))
        path = tmp_path / f"torn{number}.h5"
        path.write_bytes(torn)
        with suppress(InputError):
            trace = TraceReader(path)
            for table in ("arrivals", "updates", "progress", "workers", "faults"):
                dict(getattr(trace, table))
            assert trace.config is not None
            assert trace.code is not None
            assert isinstance(trace.counters, dict)
            trace.theta  # noqa: B018
            continue
        damaged += 1
    assert 5 < damaged < 75


@pytest.mark.parametrize("name", ["round", "part"])
def test_a_column_that_older_traces_lack_has_its_default(tmp_path: Path, name: str) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.05)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file[f"arrivals/{name}"]
        file.attrs["schema_version"] = 1
    older = TraceReader(tmp_path / "a.h5").arrivals
    assert older.keys() == trace.arrivals.keys()
    np.testing.assert_array_equal(older[name], np.zeros(trace.arrivals.rows))
    assert older[name].dtype == ARRIVALS[name].dtype


@pytest.mark.parametrize(
    ("place", "key"),
    [("/", "workers"), ("/", "arrivals"), ("/", "config"), ("/", "blocks"), ("code/16", "family"),
     ("checkpoint", "bytes_up")],
)  # fmt: skip
@pytest.mark.parametrize("value", [h5py.Empty("f8"), np.zeros((2, 2)), 1j], ids=str)
def test_an_attribute_of_another_type_is_bad_input(tmp_path, place, key, value):
    path = tmp_path / "a.h5"
    traces.writer(path).close(counters={"bytes_up": 3})
    with h5py.File(path, "r+") as file:
        file[place].attrs[key] = value
    with pytest.raises(InputError, match=rf"a\.h5: damaged: .*{key}"):
        _ = (trace := TraceReader(path)).code_attributes, trace.counters
