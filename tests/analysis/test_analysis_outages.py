"""Workers that were out, where time went, and until when: `show` on runs that did not go smoothly."""

import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import traces

from pdcode.__main__ import main
from pdcode.analysis import description, statistics, tables, timing
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DRAINED, USED
from pdcode.trace.writer import TraceWriter
from pdcode.util import formats

pytestmark = pytest.mark.usefixtures("read_at_once")

MS, S = 1_000_000, 1_000_000_000


def rounds(
    path: Path, count: int = 40, hang: dict[tuple[int, int], int] | None = None, wait: int = 0,
    fault: tuple[int, str, str] | None = None, close: bool = True, injected: bool = True,
    counters: dict[str, float] | None = None, **stop: Any,
) -> TraceReader:  # fmt: skip
    """Write the trace of a run that waits for all of 4 workers, whose tasks take 10 to 13 ms.

    `hang` adds a time in ns to tasks (worker, task), injected or not; a task of -1 never arrives, and the run
    ends `wait` ns after the others. `fault`, of a worker, a kind and a message, comes at the end.
    """
    config = traces.CONFIG | {"stop": stop or {"seconds": 40.0}}
    metadata = {**traces.METADATA, "config": config, "workers": 4}
    writer = TraceWriter(path, traces.TEXT, [traces.code()], metadata, traces.members(4))
    now, lost = 0, False
    for number in range(count):
        ends = []
        for worker in range(4):
            delay = (8 + worker) * MS
            more = (hang or {}).get((worker, number), 0)
            if more < 0:
                lost = True
                continue
            start, compute = now + MS // 2, now + MS
            known = delay + (more if injected and more else 0)
            send = compute + delay + more
            ends.append(send + MS)
            writer.arrival(*traces.row(
                worker=worker, task=number, t_dispatch_ns=now, t_start_ns=start, t_compute_ns=compute,
                t_send_ns=send, t_recv_ns=send + MS, t_decoded_ns=send + MS, injected_delay_ns=known,
                status=USED, bytes_up=100, bytes_down=100,
            ))  # fmt: skip
        now = max(ends)
        if lost:
            now += wait
            break
        writer.update(number + 1, now, 4, 1.0, 0.1, 0, -1, 0, 0)
        writer.progress(number + 1, now, 1.0 / (number + 1), 0.9, 1.0, 0, float("nan"))
    if fault:
        writer.fault(now, fault[0], -1, *fault[1:])
    if close:
        writer.close(counters={"t_stop_ns": now, "version": count} | (counters or {}))
    else:
        writer.flush(now)
        writer._file.close()
    return TraceReader(path)


def shown(trace: TraceReader, capsys: pytest.CaptureFixture[str]) -> str:
    """What `pdcode show` prints, with single blanks."""
    assert main(["show", str(trace.path)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_worker_that_hung_is_named_with_time_and_task(tmp_path, capsys):
    trace = rounds(tmp_path / "a.h5", hang={(2, 20): 20 * S}, injected=False)
    text = shown(trace, capsys)
    begin = trace.arrivals["t_dispatch_ns"][trace.arrivals["task"] == 20][0] / 1e6
    assert f"worker 2 was out for 20.0 s, from {begin:.0f} ms on: its task 20 took " in text
    assert "worker 3 was" not in text


def test_an_injected_delay_is_no_outage(tmp_path: Path) -> None:
    trace = rounds(tmp_path / "a.h5", hang={(2, 20): 20 * S}, injected=True)
    pace = timing.pace(trace.arrivals, 4)
    assert timing.outages(trace, pace, description.stop_ns(trace)) == []


def test_a_worker_that_never_came_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = rounds(tmp_path / "a.h5", hang={(2, 20): -1}, wait=7 * S)
    assert "worker 2 has been out for 7.01 s, from 260 ms on: its task 20 is outstanding" in shown(
        trace, capsys
    )


@pytest.mark.parametrize("kind", ["dead", "left"])
def test_a_worker_that_has_gone_is_not_out(kind: str, tmp_path: Path) -> None:
    trace = rounds(tmp_path / "a.h5", hang={(2, 20): -1}, wait=7 * S, fault=(2, kind, "gone"))
    assert timing.outages(trace, timing.pace(trace.arrivals, 4), description.stop_ns(trace)) == []


def test_all_at_once_are_not_the_workers_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hang = {(worker, 20): 5 * S for worker in range(4)}
    text = shown(rounds(tmp_path / "a.h5", hang=hang, injected=False), capsys)
    assert (
        "all 4 workers were out at once for 5.01 s, from 260 ms on: rank 0 or the network was stalled" in text
    )


def test_several_outages_are_told_longest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hang = {(worker, 5 + 3 * worker): (2 + worker) * S for worker in range(4)}
    text = shown(rounds(tmp_path / "a.h5", hang=hang, injected=False), capsys)
    assert re.findall(r"worker (\d) was out", text) == ["3", "2", "1"]
    assert "1 more outage was shorter" in text


def test_an_ordinary_run_has_no_outage(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=2.0)
    pace = timing.pace(trace.arrivals, 8)
    assert timing.outages(trace, pace, description.stop_ns(trace)) == []


def test_only_what_was_injected_is_called_so(tmp_path: Path) -> None:
    ready, gap = 1000, 400
    rows = [
        traces.row(t_compute_ns=ready, t_send_ns=ready + gap, t_recv_ns=1500, injected_delay_ns=delay)
        for delay in (0, 300, 900, -1)
    ]
    for row, delay in zip(rows, (0, 300, 400, 400), strict=True):
        for sample in (1, 2):
            split = timing.split(traces.columns([row]), 1, 10_000, sample)
            assert (split.delay[0], split.send[0]) == (sample * delay, sample * (gap - delay))


def test_shares_are_of_the_time_until_the_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, path = tmp_path / "job.toml", tmp_path / "a.h5"
    job.write_text(
        '[update]\nmode = "first"\n[workers]\ncount = 40\n[machine]\narrival_s = 1e-4\n'
        '[stragglers]\nkind = "pareto"\nshift_s = 0.002\nshape = 1.1\n[stop]\nupdates = 30\n',
        encoding="utf-8",
    )
    assert main(["simulate", str(job), "-o", str(path)]) == 0
    with h5py.File(path, "r+") as file:
        rows = file["arrivals"]
        assert rows["status"][-1] == DRAINED
        for key in ("t_recv_ns", "t_decoded_ns"):
            rows[key][-1] += 10 * S  # a payload that came long after the stop
    capsys.readouterr()
    trace = TraceReader(path)
    stop, length = trace.counters["t_stop_ns"], trace.arrivals["t_recv_ns"].max()
    text = shown(trace, capsys)
    assert f"Time until the stop, in % of {formats.duration(stop)} " in text
    assert f"; the last payload arrived {formats.duration(length - stop)} later" in text
    busy, idle = (float(re.findall(rf"{word} ([\d.]+)", text)[-1]) for word in ("was busy", "idle"))
    assert busy + idle == pytest.approx(100, abs=0.2)


def test_each_measurement_is_one_milestone() -> None:
    times = {"t_ns": np.array([0.0, 10.0, 20.0, 30.0]), "version": np.array([0, 1, 4, 8])}
    fell, rose = ({**times, "loss": np.array(each)} for each in ([30.0, 0.9, 0.4, 0.3], [1.0, 1.1, 1.2, 1.3]))
    exact, between = (10.0, 10.0), (10.0, 20.0)  # the update before was measured, too, or was not
    assert statistics.milestones(fell) == [(1.0, exact), (0.5, between)]
    assert statistics.milestones(fell, 2.0) == [(2.0, exact), (0.5, between)]
    assert statistics.milestones(rose, 0.5) == []


def test_the_loss_tells_its_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = rounds(tmp_path / "a.h5", counters={"version": 53}, seconds=5.0, loss=0.001)
    text = shown(trace, capsys)
    assert "Measured 40 times, the last after update 40 of 53." in text
    assert "The target 0.001 was not reached." in text


@pytest.mark.parametrize(
    ("fault", "finished", "age_s", "expected"),
    [
        ((-1, "stop", "interrupted"), True, 0, "interrupted after 520 ms of 40.0 s requested"),
        ((-1, "stop", "diverged: x"), True, 0, "failed after 520 ms of 40.0 s requested: diverged"),
        ((-1, "exception", "OSError(5)"), False, 0, "failed after 520 ms of 40.0 s requested: OSError(5)"),
        ((2, "missing", "no answer"), True, 0, "finished after 520 ms; worker 2 stopped answering"),
        (None, True, 300, "finished after 520 ms"),
        (None, False, 0, "running for 520 ms of 40.0 s requested; last written "),
        (None, False, 300, "killed or hanging after 520 ms of 40.0 s requested; nothing was written in"),
    ],
)  # fmt: skip
def test_the_heading_tells_how_the_run_ended(tmp_path, fault, finished, age_s, expected):
    path = rounds(tmp_path / "a.h5", fault=fault, close=finished).path
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    assert description.headline(TraceReader(path)).startswith(f"{path}: {expected}")


def test_faults_of_rank_0_have_no_worker(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    for number in range(7):
        writer.fault(S, -1 if number else 3, -1, "missing" if not number else "stop", f"fault {number}")
    writer.close()
    trace = TraceReader(tmp_path / "a.h5")
    cells = [list(column.cells) for column in tables._faults(trace)[0].columns]  # type: ignore[union-attr]
    assert cells[1][:2] == ["3", "–"]
    assert cells[3][0] == "missing"
    assert tables._faults(trace)[1] == "and 2 more"


def test_drained_payloads_do_not_lengthen_a_run(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    writer.arrival(*traces.row(t_recv_ns=5 * S, t_decoded_ns=5 * S, status=USED))
    writer.arrival(*traces.row(t_recv_ns=50 * S, t_decoded_ns=50 * S, status=DRAINED))
    writer.fault(6 * S, -1, -1, "stop", "interrupted")
    writer.close()
    assert description.stop_ns(TraceReader(tmp_path / "a.h5")) == 6 * S
