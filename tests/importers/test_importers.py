"""Imported jobs: what their traces say, and files that are refused."""

import gzip
import json
import os
import pickle
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pyarrow
import pytest
from foreign import DATA
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyarrow import parquet

from pdcode.__main__ import main
from pdcode.analysis.account import account
from pdcode.analysis.diagnosis import diagnose
from pdcode.importers import kineto
from pdcode.importers.job import in_turn
from pdcode.trace.reader import TraceReader


def imported(tmp_path: Path, kind: str, *files: Path | str) -> TraceReader:
    assert main(["import", kind, *(str(DATA / each) for each in files), "-o", str(tmp_path / "job.h5")]) == 0
    return TraceReader(tmp_path / "job.h5")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["import", *words, "-o", "/nowhere"]) == 2
    return capsys.readouterr().err


def test_the_worker_that_turns_slow_in_a_job_of_pai(tmp_path: Path) -> None:
    trace = imported(tmp_path, "pai", "pai.csv")
    assert (trace.worker_count, trace.arrivals.rows, trace.updates.rows) == (4, 160, 40)
    assert trace.finished
    assert trace.attributes["recorder"] == "Alibaba's PAI"
    (tmp_path / "more.csv").write_text(f"{(DATA / 'pai.csv').read_text()}160,3,25,401,500\n")
    assert imported(tmp_path, "pai", tmp_path / "more.csv").updates.rows == 40  # one of four was sampled
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.first, slow.pattern, slow.cause) == (2, 20, "onset", "computing")
    assert slow.low < 1.6 < slow.high


def own_s(trace: TraceReader) -> np.ndarray:
    """Return the own work of each worker at each step, (steps, workers)."""
    rows = trace.arrivals
    found = np.full((int(rows["task"].max()) + 1, trace.worker_count), np.nan)
    found[rows["task"], rows["worker"]] = 1e-9 * (rows["t_send_ns"] - rows["t_start_ns"])
    return found


def test_the_slow_rank_of_a_profiled_script(tmp_path: Path) -> None:
    # Of a script of DDP over gloo, on three ranks, of which rank 1 sleeps 0.1 s in each backward pass from
    # step 22 on: its collectives and outermost operators, on clocks that are 1 ms apart.
    trace = imported(tmp_path, "kineto", *(f"kineto.{rank}.json.gz" for rank in (2, 0, 1)))
    assert (trace.worker_count, trace.updates.rows) == (3, 40)
    assert [*trace.workers["host"]] == ["node0", "node1", "node2"]
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.first, slow.pattern, slow.cause) == (1, 20, "onset", "computing")
    works_s = own_s(trace)
    assert (works_s[20:, 1] > 0.1).all()
    assert np.median(works_s[20:, [0, 2]]) < 0.02


@pytest.mark.parametrize("phase", ["loading", "forward", "backward", "between steps"])
def test_the_slow_phase_of_a_profiled_script(phase: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{rank}.json" for rank in range(3)]
    for rank, path in enumerate(files):
        path.write_text(json.dumps(foreign.phased(rank, phase)))
    trace = imported(tmp_path, "kineto", *files)
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.cause) == (1, phase)
    spent = account(trace)
    assert spent is not None
    assert spent.spent_ns.sum() == spent.length_ns
    assert "compute" not in spent.by_part
    usual = dict(zip(foreign.PHASES, (20, 10, 30, 5), strict=True)) | {phase: 100}
    found = {name: 1e-3 * spent.by_part[name] / 30 for name in usual}
    assert found == pytest.approx(usual, rel=0.01)


def test_a_rank_that_is_slow_in_all_phases_is_slow_in_computing(tmp_path: Path) -> None:
    files = [tmp_path / f"{rank}.json" for rank in range(3)]
    for rank, path in enumerate(files):
        path.write_text(json.dumps(foreign.phased(rank, "all")))
    [slow] = diagnose(imported(tmp_path, "kineto", *files)).slow
    assert (slow.worker, slow.cause) == (1, "computing")
    assert slow.causes["backward"] == pytest.approx(30 / 65, rel=0.05)


@pytest.mark.parametrize("gap", [range(0), range(10, 13)], ids=["one-cycle", "two-cycles"])
def test_profiles_are_aligned_by_sequence_numbers(
    gap: range, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{rank}.json" for rank in range(3)]
    for rank, path in enumerate(files):
        path.write_text(json.dumps(foreign.profile(rank, first=2 * rank, clock_us=1e9 * rank, gap=gap)))
    trace = imported(tmp_path, "kineto", *files)
    steps = 26 - len(gap)
    assert f"{steps} steps, aligned by the sequence numbers of group 0" in capsys.readouterr().out
    expected = np.full((steps, 3), 100e-6)
    expected[11 - len(gap) :, 2] = 200e-6  # step 15 is the 11th that all have
    np.testing.assert_allclose(own_s(trace), expected, atol=1e-8)
    assert trace.attributes["gradient_bytes"] == 2 * 50 * 4
    np.testing.assert_allclose(np.diff(trace.updates["t_ns"][:5]), 120_000, atol=10)


def test_profiles_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, whole = tmp_path / "a.json", foreign.profile(0, 0, 0.0)
    others = [DATA / f"kineto.{rank}.json.gz" for rank in range(3)]

    def error(**changes: Any) -> str:
        path.write_text(json.dumps(whole | changes))
        return refused(capsys, "kineto", str(path))

    assert "a.json: a profile of rank 1 of 3 is missing" in error()
    assert "no distributedInfo" in error(distributedInfo=None)
    assert "- at `$.distributedInfo.rank`" in error(distributedInfo={"rank": "x", "world_size": 3})
    assert "- at `$.traceEvents[0].ts`" in error(traceEvents=[{"ts": "x"}])
    assert "call the profiler's step()" in error(traceEvents=whole["traceEvents"][2:6])
    assert "no collective operation" in error(
        traceEvents=[each for each in whole["traceEvents"] if "annotation" in each["cat"]]
    )
    assert "several are of the same rank" in refused(capsys, "kineto", *map(str, [*others, others[0]]))
    path.write_text("{")
    assert "a.json: Input data was truncated" in refused(capsys, "kineto", str(path))


def test_the_slow_rank_of_dumps_of_the_flight_recorder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"flight.{rank}.json.gz" for rank in range(3)]  # of the script of the profiles
    trace = imported(tmp_path, "flight-recorder", *names)
    assert "a step is 2 collectives of group 0" in capsys.readouterr().out
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.first, slow.pattern, slow.cause) == (1, 20, "onset", "computing")
    assert (own_s(trace)[21:, 1] > 0.1).all()

    for protocol in (2, 4):  # the same dumps as pickles; rank 2 has not begun the last collective
        for rank, name in enumerate(names):
            dump = json.loads(gzip.decompress((DATA / name).read_bytes()))
            del dump["entries"][len(dump["entries"]) - (rank == 2) :]
            (tmp_path / f"dump_{rank}").write_bytes(pickle.dumps(dump, protocol))
        again = imported(tmp_path, "flight-recorder", *(tmp_path / f"dump_{rank}" for rank in range(3)))
        assert again.updates.rows == trace.updates.rows - 1
        np.testing.assert_array_equal(own_s(again), own_s(trace)[:-1])
        assert again.faults["worker"].tolist() == [2]
        assert b"has not begun collective 92" in again.faults["message"][0].encode()


def test_durations_of_the_flight_recorder_are_the_time_of_the_link(tmp_path: Path) -> None:
    for rank in range(3):
        dump = json.loads(gzip.decompress((DATA / f"flight.{rank}.json.gz").read_bytes()))
        for each in dump["entries"]:
            each["duration_ms"] = 1.5 + rank
        (tmp_path / f"dump_{rank}").write_text(json.dumps(dump))
    rows = imported(tmp_path, "flight-recorder", *(tmp_path / f"dump_{rank}" for rank in range(3))).arrivals
    link_ns = (rows["t_recv_ns"] - rows["t_send_ns"]).reshape(-1, 3)
    np.testing.assert_array_equal(link_ns, 1_500_000)  # of the rank that waits least


class Call:
    """An object that a pickle would make by a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (99,)


@pytest.mark.parametrize(
    ("dump", "error"),
    [
        ({"entries": [Call()]}, "neither JSON nor a pickle of plain data: opcode"),
        ({"entries": [3]}, "Expected `object`, got `int` - at `$.entries[0]`"),
        ({"entries": []}, "entries: no collective operation"),
        ({"pg_config": {}}, "missing required field `entries`"),
        (b"}", "neither JSON nor a pickle of plain data"),
        (b"{", "Input data was truncated"),
        (b"\x80\x02]q\x00h\x00a.", "Expected `object`, got `array`"),  # a list that holds itself
        (b"\x80\x02N\x85R.", "opcode REDUCE"),
        (b"](](" + b"N" * 999 + b"eq\x00" + b"h\x00" * 999 + b"e.", "parts are repeated too often"),
    ],
)
def test_dumps_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dump: Any, error: str
) -> None:
    (path := tmp_path / "dump_0").write_bytes(dump if isinstance(dump, bytes) else pickle.dumps(dump))
    assert error in refused(capsys, "flight-recorder", str(path))


def test_the_what_if_of_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = foreign.operations()
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    trace = imported(tmp_path, "bytedance", tmp_path / "a.parquet")
    said = capsys.readouterr().out
    length_s = max(map(sum, zip(columns["start_ts"], columns["duration"], strict=True)))
    mean = 7 / 6  # of one of six workers that is twice as slow
    assert f"recorded: {length_s:.2f} s a step\n" in said
    assert f"replayed by the dependences of operations: {length_s:.2f} s a step\n" in said
    assert f"ideal: {(8 + 3 - 1) * 3 * mean:.2f} s a step" in said  # of a full pipeline, filled and drained
    assert [*trace.workers["host"]][3] == "rank 1 stage 0"
    np.testing.assert_allclose(own_s(trace), [[24, 24, 24, 48, 24, 24]] * 2)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"stage": None}, "no column stage; it needs stage, seq_id, dp_rank, step, optype"),
        ({"duration": [-1.0]}, "row 0, duration: -1.0 is not from 0"),
        ({"optype": ["gc"]}, "optype: no forward-compute or backward-compute"),
        ({"step": ["x"]}, "Failed to parse string: 'x'"),
        ({}, ""),
    ],
)
def test_operations_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], error: str
) -> None:
    row = {"dp_rank": [0], "stage": [0], "step": [1], "optype": ["forward-compute"], "seq_id": [0]}
    columns = row | {"start_ts": [0.0], "duration": [1.0]} | changes
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({key: each for key, each in columns.items() if each}), path)
    if error:
        assert error in refused(capsys, "bytedance", str(path))
    else:
        imported(tmp_path, "bytedance", path)
        assert "the ideal is not known: no backward-compute" in capsys.readouterr().out


@pytest.mark.parametrize(("strategy", "clock"), [("ddp", "cpu_ms"), ("fsdp", "gpu_ms")])
def test_the_slow_rank_of_a_session_of_traceml(tmp_path: Path, strategy: str, clock: str) -> None:
    def events(step: int, rank: int) -> dict[str, Any]:
        late = 10.0 if step >= 12 else 0.0  # for which all others wait in their backward passes
        if strategy == "fsdp":  # rank 2 loads slowly, the others wait in their forward passes
            return foreign.phases(20 + late * (rank != 2), 40, 1 + late * (rank == 2), clock)
        return foreign.phases(20 + late * (rank == 2), 40 + late * (rank != 2))

    trace = imported(tmp_path, "traceml", foreign.session(tmp_path / "telemetry", events, strategy=strategy))
    expected = np.full((30, 4), 64e-3)
    expected[12:, 2] += 10e-3
    np.testing.assert_allclose(own_s(trace), expected, atol=2e-9)
    assert [*trace.workers["host"]] == ["node0", "node1", "node2", "node3"]
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.first) == (2, 12)


@pytest.mark.filterwarnings("error")
def test_the_log_of_a_session_that_was_killed(tmp_path: Path) -> None:
    path = foreign.session(tmp_path / "open", lambda step, _: foreign.phases(20, 40) if step else {})
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("UPDATE step_time_samples SET step = step + 100 WHERE step = 129")
        database.execute("DELETE FROM step_time_samples WHERE step = 128")
        database.commit()
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", tmp_path / f"telemetry{end}")
    assert imported(tmp_path, "traceml", tmp_path / "telemetry").updates.rows == 28  # without the first, too


def test_sessions_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(events: Any, columns: str = "") -> str:
        (tmp_path / "t").unlink(missing_ok=True)
        return refused(capsys, "traceml", foreign.session(tmp_path / "t", lambda step, rank: events, columns))

    assert "no _traceml_internal:backward_time with cpu_ms" in error({})
    assert "t, step_time_samples, id 1, events_json: Expected `object`, got `int`" in error("7")
    assert "id 1, _traceml_internal:forward_time, cpu_ms: -1 is not from 0" in error(foreign.phases(-1, 2))
    assert "no column step" in error({}, "id INTEGER, global_rank INTEGER, events_json TEXT")
    assert "step_time_samples: no row" in error({}, "id, global_rank, step, events_json")
    with closing(sqlite3.connect(tmp_path / "other")) as database, database:
        database.execute("CREATE VIEW step_time_samples AS SELECT 1")
    assert "no table step_time_samples" in refused(capsys, "traceml", str(tmp_path / "other"))
    (tmp_path / "final_summary.json").write_text("{}")
    said = refused(capsys, "traceml", str(tmp_path / "final_summary.json"))
    assert "a final summary has averages only; expected a session's file telemetry" in said


@pytest.mark.parametrize("text", [foreign.BAMBOO, foreign.SKYPILOT], ids=["bamboo", "skypilot"])
def test_instances_that_come_and_go(tmp_path: Path, text: str) -> None:
    (tmp_path / "spot").write_text(text)
    trace = imported(tmp_path, "spot", tmp_path / "spot")
    gone = 0 if text == foreign.BAMBOO else 1  # SkyPilot counts them only
    there = np.array([[1, 1, 0]] * 2 + [[gone, 1 - gone, 0]] * 3 + [[1, 1, 0], [1, 1, 1]], bool)
    np.testing.assert_array_equal(np.isfinite(own_s(trace)), there)
    np.testing.assert_allclose(own_s(trace)[there], 60)
    seconds, kinds, workers = (trace.faults[key].tolist() for key in ("t_ns", "kind", "worker"))
    assert [each // 10**9 for each in seconds] == [120, 300, 360]
    assert kinds == ["left", "joined", "joined"]
    assert workers == [gone, gone, 2]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0,add\n", "a, line 1: expected ms,add|remove,node"),
        ("", "a: no node"),
        ('{"data": [1]}', "missing required field `metadata`"),
        (
            '{"metadata": {"gap_seconds": 0}, "data": [1]}',
            "Expected `float` >= 0.001 - at `$.metadata.gap_seconds`",
        ),
        ('{"metadata": {"gap_seconds": 1}, "data": [1, -1]}', "at `$.data[1]`"),
        ('{"metadata": {"gap_seconds": 1}, "data": [0, 0]}', "no instance at any time"),
        ('{"metadata": {"gap_seconds": 1e9}, "data": [1, 1]}', "more than 1e+09 s"),
    ],
)
def test_spot_traces_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    (tmp_path / "a").write_text(text)
    assert error in refused(capsys, "spot", str(tmp_path / "a"))


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=12)


@given(spans=SPANS, times=st.lists(st.integers(-5, 80), min_size=1, max_size=5))
def test_time_that_spans_cover(spans: list[tuple[int, int]], times: list[int]) -> None:
    ticks = {tick for begin, length in spans for tick in range(begin, begin + length)}
    given = np.array([(begin, begin + length) for begin, length in spans], float).reshape(-1, 2)
    expected = [sum(tick < time for tick in ticks) for time in times]
    np.testing.assert_array_equal(kineto.covered(given, np.array(times, float)), expected)


@given(
    work=arrays(float, (5, 3), elements=st.one_of(st.just(np.nan), st.floats(0, 1e3))),
    least=st.floats(0, 1e3),
    shared=st.booleans(),
)
def test_steps_follow_one_another(work: np.ndarray, least: float, shared: bool) -> None:
    if np.isnan(work).all():
        return
    made = in_turn("a", "abc", "a test", work, None if shared else work / 2, least).times
    here = (made != -1).all(axis=2)
    kept = work[~np.isnan(work).all(axis=1)]
    np.testing.assert_array_equal(here, ~np.isnan(kept))
    start, ready, end = np.moveaxis(1e-9 * made, 2, 0)
    np.testing.assert_allclose((ready - start)[here], kept[here], atol=1e-8)
    longest = np.fmax.reduce(kept * (1.0 if shared else 1.5), axis=1)
    ends_s = np.cumsum(np.maximum(longest, least))
    assert (start[here] <= ready[here]).all()
    assert (ready[here] <= end[here]).all()
    for step in range(1, len(made)):
        np.testing.assert_allclose(start[step][here[step]], ends_s[step - 1], atol=1e-8)


TABLE = "step,worker,work_s,wait_s,host\n" + "".join(
    f"{step},{worker},{1 + (worker == 1)},{2 - (worker == 1)},node{worker}\n"
    for step in (3, 5)
    for worker in range(3)
)


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE, encoding="utf-8")
    trace = imported(tmp_path, "csv", tmp_path / "a.csv")
    rows = trace.arrivals
    assert [*trace.workers["host"]] == ["node0", "node1", "node2"]
    np.testing.assert_array_equal(rows["t_compute_ns"] - rows["t_start_ns"], np.tile([1, 2, 1], 2) * 10**9)
    np.testing.assert_array_equal(trace.updates["t_ns"], [3 * 10**9, 6 * 10**9])  # with the wait


def test_names_beside_hosts_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{worker},1,1,node{worker}\n" for worker in "cab")
    (tmp_path / "a.csv").write_text(f"worker,step,work_s,host\n{rows}", encoding="utf-8")
    trace = imported(tmp_path, "csv", tmp_path / "a.csv")
    assert [*trace.workers["host"]] == ["nodea", "nodeb", "nodec"]
    assert "workers, by number from 0: a, b, c\n" in capsys.readouterr().out


def test_a_slow_link_of_a_table_is_told_from_work(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(foreign.LINKS, encoding="utf-8")
    [slow] = diagnose(imported(tmp_path, "csv", tmp_path / "a.csv")).slow
    assert (slow.worker, slow.cause) == (1, "link")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no column worker; it needs worker, step, work_s"),
        ("worker,step,work\n", "no column work_s"),
        ("worker,step,work_s\n", "no row"),
        ("worker,step,work_s\n0,1,2\n1,1\n", "line 3: 2 cells of 3"),
        ("worker,step,work_s,work_s\n0,1,2,3\n", "two columns 'work_s'"),
        ("worker,step,work_s,line\n0,1,-1,7\n", "line 2, work_s: -1 is not from 0"),
        ("worker,step,work_s\n0,1,x\n", "line 2, work_s: expected a number (got 'x')"),
        ("worker,step,work_s\n0,1.5,1\n", "line 2, step: expected a number (got '1.5')"),
        ("worker,step,work_s\n0,1,-1\n", "line 2, work_s: -1 is not from 0"),
        ("worker,step,work_s\n0,1,nan\n", "line 2, work_s: nan is not from 0"),
        ("worker,step,work_s\n0,1,1\n\n0,1,2\n", "line 4: a second row of worker 0 at step 1"),
        ("worker,step,work_s\n0,0,9e8\n0,1,9e8\n", "more than 1e+09 s together"),
    ],
)
def test_tables_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    said = refused(capsys, "csv", str(tmp_path / "a.csv"))
    assert said.startswith(f"pdcode: {tmp_path}/a.csv")
    assert error in said


def test_files_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8bnot")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    assert "a damaged gzip file" in refused(capsys, "csv", str(tmp_path / "a.gz"))
    assert "not UTF-8 text" in refused(capsys, "csv", str(tmp_path / "b"))
    assert "no such file" in refused(capsys, "pai", str(tmp_path / "none"))
    assert "expected one file" in refused(capsys, "pai", str(DATA / "pai.csv"), str(DATA / "pai.csv"))
    error = refused(capsys, "flight-recorder", str(DATA / "flight.0.json.gz"))
    assert "the dump of rank 1 of group 0 is missing" in error
    assert "ends in the rank's number" in refused(capsys, "flight-recorder", str(tmp_path / "dump"))
