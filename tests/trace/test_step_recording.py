"""Recordings of jobs when a rank does not end, and when the disk is full; the job goes on."""

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
        self.sent = {1: [steps.ROWS + ROWS.tobytes(), steps.END + b"ValueError()"], 2: [ROWS[:1].tobytes()]}
        self.sent[2] = [steps.ROWS + self.sent[2][0]]

    def meet(self) -> list[dict[str, Any]]:
        return [{"host": "a", "clock_offset_ns": offset, "clock_error_ns": 0} for offset in (0, 0, 10**6)]

    def agree(self, text: str) -> str:
        return text

    def clock(self, rank: int) -> dict[str, int]:
        raise NotImplementedError

    def post(self, message: bytes) -> None:
        raise NotImplementedError

    def take(self, rank: int) -> bytes | None:
        return self.sent[rank].pop(0) if self.sent[rank] else None


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(steps, "CLOSE_S", 0.0)
    monkeypatch.setattr(steps.time, "perf_counter_ns", lambda: 0)
    return steps.StepRecording(Silent(), str(tmp_path / "job.h5"), "a test", {})


def test_ranks_that_do_not_end_are_missing(recording: Any, tmp_path: Path) -> None:
    recording.close(ROWS)
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


def test_a_full_disk_ends_the_recording_alone(
    recording: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording._trace._trace.fill()
    recording.exchange(ROWS)
    recording.exchange(ROWS)
    recording.close(ROWS)
    path = tmp_path / "job.h5"
    what = f"{path}: cannot write the trace: No space left on device; the recording ends, the job goes on"
    assert capsys.readouterr().err == f"pdcode: {what}\n"
    assert not Trace(path).finished


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/null"):
        steps.StepRecording(Silent(), "/dev/null/job.h5", "a test", {})
