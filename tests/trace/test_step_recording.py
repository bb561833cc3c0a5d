"""Recordings of jobs when a rank does not end, and when the disk is full; the job goes on."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdcode import Trace
from pdcode.trace import steps
from pdcode.util.errors import InputError

ROWS = np.array([[0, 50, 60], [60, 130, 140]]) * 10**6


class Silent(steps.Mail):
    """Messages of three ranks: rank 1 has failed, and rank 2 has sent one row, and has not ended."""

    rank, ranks = 0, 3

    def __init__(self) -> None:
        ended = [steps.ROWS + ROWS.tobytes(), steps.END + b"ValueError()"]
        self.sent: dict[int, list[Any]] = {1: ended, 2: [steps.ROWS + ROWS[:1].tobytes()]}

    def meet(self) -> list[dict[str, Any]]:
        return [{"host": "a", "clock_offset_ns": offset, "clock_error_ns": 0} for offset in (0, 0, 10**6)]

    def agree(self, text: str) -> str:
        return text

    def clock(self, rank: int) -> dict[str, int]:
        raise NotImplementedError

    def post(self, message: bytes) -> None:
        raise NotImplementedError

    def take(self, rank: int) -> bytes | None:
        message = self.sent[rank].pop(0) if self.sent[rank] else None
        if isinstance(message, RuntimeError):
            raise message
        return message


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(steps.time, "perf_counter_ns", lambda: 0)
    return steps.StepRecording(Silent(), str(tmp_path / "job.h5"), "a test", {})


def test_ranks_that_do_not_end_are_missing(recording: Any, tmp_path: Path) -> None:
    recording.close(ROWS, wait_s=0.0)
    trace = Trace(tmp_path / "job.h5")
    assert trace.finished
    assert trace.arrivals["worker"].tolist() == [0, 1, 2, 0, 1]
    assert trace.arrivals["t_start_ns"].tolist() == [0, 0, -(10**6), 60 * 10**6, 60 * 10**6]
    assert trace.updates["n_used"].tolist() == [3, 2]
    faults = trace.faults
    assert list(zip(faults["worker"].tolist(), faults["kind"].tolist(), strict=True)) == [
        (2, "missing"),
        (-1, "exception"),
    ]
    assert faults["message"][1] == "rank 1: ValueError()"


LAST = steps.ROWS + ROWS[1:].tobytes(), steps.END


@pytest.mark.parametrize(
    ("wait_s", "later", "whole"),
    [
        (0.0, [None, *LAST], False),
        (math.inf, [None, None, *LAST], True),
        (math.inf, [None, None, RuntimeError("rank 2 has died"), *LAST], False),
    ],
    ids=["too-late", "waited-for", "dead"],
)
def test_rank_0_waits_for_late_ranks_that_live(
    wait_s: float, later: list[Any], whole: bool, recording: Any, tmp_path: Path
) -> None:
    recording._mail.sent[2] += later
    recording.close(ROWS, wait_s=wait_s)
    trace = Trace(tmp_path / "job.h5")
    assert trace.finished
    assert trace.arrivals["worker"].tolist() == [0, 1, 2, 0, 1] + [2] * whole
    assert ("missing" in trace.faults["kind"]) != whole


def test_messages_of_ranks_after_a_dead_one_are_written(recording: Any, tmp_path: Path) -> None:
    recording._mail.sent = {1: [RuntimeError("rank 1 has died")], 2: [steps.ROWS + ROWS[:1].tobytes()]}
    recording.exchange(ROWS[:1])
    recording.exchange(ROWS[1:])
    assert len(recording._pending[2]) == 0  # written with those that live
    recording._mail.sent[2] += LAST
    recording.close(ROWS[:0], wait_s=math.inf)
    trace = Trace(tmp_path / "job.h5")
    assert trace.arrivals["worker"].tolist() == [0, 2, 0, 2]
    assert trace.faults["worker"].tolist() == [1]


def test_a_full_disk_ends_the_recording_alone(
    recording: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording._trace._trace.fill()
    recording.exchange(ROWS)
    recording.exchange(ROWS)
    recording.close(ROWS, wait_s=0.0)
    path = tmp_path / "job.h5"
    what = f"{path}: cannot write the trace: No space left on device; the recording ends, the job goes on"
    assert capsys.readouterr().err == f"pdcode: {what}\n"
    assert not Trace(path).finished


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/null"):
        steps.StepRecording(Silent(), "/dev/null/job.h5", "a test", {})
