"""Rank 0's count of bytes against Open MPI's own."""

import numpy as np
import pytest
from grids import with_system
from launches import monitored, monitoring

from pdcode import Trace
from pdcode.trace.schema import DRAINED


@pytest.mark.parametrize(
    "how",
    with_system(["downlink.kind=codewords", "wire.dtype=int8", "code.blocks=[8,8]"], system=[([],)]),
    ids=["relay", "full"],
)
def test_bytes_agree_with_the_monitoring_of_open_mpi(run, trace_path, tmp_path, how):
    done = run("stop.updates=1000", *how, **monitoring(tmp_path))
    assert done.returncode == 0, done.stderr
    sent = monitored(tmp_path)
    trace = Trace(trace_path)
    up = sum(size for (_, target), size in sent.items() if target == 0)
    down = sum(size for (source, _), size in sent.items() if source == 0)
    rows = trace.arrivals
    ours_up = rows["bytes_up"].sum() + trace.attributes["setup_bytes_up"]
    ours_down = rows["bytes_down"].sum() + trace.attributes["setup_bytes_down"]
    assert trace.counters["bytes_up"] == ours_up
    notices = 2 + np.count_nonzero(rows["status"] == DRAINED)  # of the end, to all and to those with a task
    assert trace.counters["bytes_down"] == ours_down + notices * trace.attributes["header_bytes"]
    np.testing.assert_allclose(ours_up, up, rtol=0.01)
    np.testing.assert_allclose(ours_down, down, rtol=0.01)
    assert (len(set(rows["bytes_down"])) > 2) == bool(how)  # relayed are as many as have arrived meanwhile
