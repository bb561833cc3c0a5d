"""Workers that are stopped while a run goes on (SIGSTOP): named, not waited for, and welcome again."""

import signal

import pytest
from outcomes import assert_replays

from pdcode import Trace
from pdcode.trace.schema import USED

SLOW = "stragglers.kind=slow-set", "stragglers.shift_s=0.03"
MODES = {
    "async": ("update.mode=async", "downlink.kind=exchange"),
    "quorum": ("update.mode=quorum", "update.count=3", "update.late=waste"),
    "rows": ("update.mode=async", "shuffle.kind=coded", "shuffle.every=20", "link.broadcast=chain"),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_worker_is_named_and_used_again(mode, begin, trace_path, capsys):
    ends = "stop.seconds=100", "stop.updates=1000000"
    job, stopped = begin(*SLOW, *MODES[mode], *ends, workers=3), False
    lines, overdue_at, back_at, ended = [], 0, 0, False
    for line in job.lines():
        lines.append(line)
        if not stopped and " update " in line and " update 0 " not in line:
            stopped = True
            job.send_signal(signal.SIGSTOP, rank=2)
        elif overdue_at and sum(" update " in line for line in lines[overdue_at:]) == 2:
            job.send_signal(signal.SIGCONT, rank=2)  # after more than the step that naming it let go
        elif back_at and not ended and sum(" update " in line for line in lines[back_at:]) == 4:
            job.send_signal(signal.SIGINT)
            ended = True
        if "worker 1 is overdue" in line:
            overdue_at = len(lines)
        elif "worker 1 is back" in line and overdue_at:
            back_at = len(lines)
    _, err = job.communicate()
    assert (job.returncode, err) == (1, "")
    assert back_at
    trace = Trace(trace_path)
    faults, rows = trace.faults, trace.arrivals
    mine = [kind for kind, worker in zip(faults["kind"], faults["worker"], strict=True) if worker == 1]
    assert mine[:2] == ["overdue", "returned"]
    named_ns, back_ns = (int(faults["t_ns"][faults["kind"] == kind][0]) for kind in mine[:2])
    steps = trace.updates["t_ns"]
    assert ((named_ns < steps) & (steps < back_ns)).sum() > 1, "the others continue"
    after = (rows["worker"] == 1) & (rows["t_recv_ns"] > back_ns)
    assert (rows["status"][after] == USED).any()
    assert_replays(trace_path, capsys)
