"""A module of PyTorch over MPI: a transformer after convolutions, dropout, statistics, buffers and means."""

import signal
from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays
from paths import SUPPORT
from test_resume import RESUME, wait_for_checkpoint

from pdcode import Trace

FILE = SUPPORT / "modules.py"
RUN = (
    f'problem={{kind = "torch", batch = 8, axis = "input", module = "{FILE}:Mixed", data = "{FILE}:data"}}',
    "code.blocks=4",
    "code.centre=true",
    "memory.kind=worker",
    "wire.dtype=int2",
    "downlink.kind=exchange",
    "trace.checkpoint_s=0.1",
)


@pytest.mark.system
@pytest.mark.timeout(500)
def test_a_module_goes_on_after_a_signal_and_replays(begin, run, trace_path: Path, capsys) -> None:
    first = begin(*RUN, "stop.updates=1000000", options=RESUME)
    wait_for_checkpoint(first, trace_path, 150)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=200)
    assert (first.returncode, err) == (75, "")
    assert "--resume continues the run" in out
    last = int(Trace(trace_path).updates["version"][-1])
    done = run(*RUN, f"stop.updates={last + 20}", options=RESUME, timeout_s=200)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.segments.rows == 2
    assert np.isfinite(trace.progress["accuracy"]).all()
    assert_replays(trace_path, capsys)
