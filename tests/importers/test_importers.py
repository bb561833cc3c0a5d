"""Imported jobs: what their traces say, and files that are refused."""

from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from pdcode.__main__ import main
from pdcode.analysis.diagnosis import diagnose
from pdcode.trace import TraceReader

DATA = ROOT / "tests/data"


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
    assert trace.attributes["recorder"] == "import, mini-batch times of Alibaba's PAI"
    [slow] = diagnose(trace).slow
    assert (slow.worker, slow.first, slow.pattern, slow.cause) == (2, 20, "onset", "computing")
    assert slow.low < 1.6 < slow.high


TABLE = "step,worker,work_s,wait_s,host\n" + "".join(
    f"{step},{worker},{1 + (worker == 1)},{2 - (worker == 1)},node{worker}\n"
    for step in (3, 5)
    for worker in range(3)
)
LINKS = "worker,step,work_s,link_s\n" + "".join(
    f"{name},{step},1,{2 if name == 'b' else 0.5}\n" for step in range(40) for name in "abc"
)


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE, encoding="utf-8")
    trace = imported(tmp_path, "csv", tmp_path / "a.csv")
    rows = trace.arrivals
    assert [*trace.workers["host"]] == ["node0", "node1", "node2"]
    np.testing.assert_array_equal(rows["t_compute_ns"] - rows["t_start_ns"], np.tile([1, 2, 1], 2) * 10**9)
    np.testing.assert_array_equal(trace.updates["t_ns"], [3 * 10**9, 6 * 10**9])  # with the wait


def test_a_slow_link_of_a_table_is_told_from_work(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LINKS, encoding="utf-8")
    [slow] = diagnose(imported(tmp_path, "csv", tmp_path / "a.csv")).slow
    assert (slow.worker, slow.cause) == (1, "link")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no column worker; it needs worker, step, work_s"),
        ("worker,step,work\n", "no column work_s"),
        ("worker,step,work_s\n", "no row"),
        ("worker,step,work_s\n0,1,2\n1,1\n", "line 3: 2 cells of 3"),
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
