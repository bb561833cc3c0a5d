"""Nodes that come and go over MPI: workers leave or die as a spot trace says, and spare ranks join."""

import os
import signal

import numpy as np
import pytest
from grids import with_system
from outcomes import assert_replays
from test_faults import ranks_of

import pdcode
from pdcode import Trace

NODES = "0,add,a\n0,add,b\n0,add,c\n300,remove,a\n600,remove,b\n700,add,d\n900,add,e\n3000,remove,d\n"
SETTINGS = [
    "stragglers.kind=slow-set", "stragglers.shift_s=0.01", "update.mode=async", "stop.updates=1000000",
    "stop.seconds=100", "workers.spares=2", "memory.kind=worker",
]  # fmt: skip
DUE_S = [("gone", 0, 0.3), ("gone", 1, 0.6), ("joined", 0, 0.7), ("joined", 1, 0.9), ("gone", 0, 3.0)]


@pytest.mark.parametrize(("end", "kind"), with_system(("leave", "left"), system=[("kill", "dead")]))
def test_workers_come_and_go_as_on_the_virtual_clock(start, trace_path, end, kind, capsys, tmp_path):
    (tmp_path / "nodes.csv").write_text(NODES, encoding="utf-8")
    nodes = f"faults.spot={tmp_path / 'nodes.csv'}", f"faults.spot_end={end}"
    process, gone = start(*SETTINGS, *nodes, options=("-n", "3")), 0
    for line in process.stdout:
        gone += f"worker 0 has {'died' if end == 'kill' else 'left'}" in line
        if gone == 2 and " update " in line:
            os.kill(ranks_of(trace_path)[0], signal.SIGINT)
            gone += 1
    assert (process.wait(), process.stderr.read()) == (1, "")
    trace = Trace(trace_path)
    own = "stop.seconds=3.4"
    simulated = pdcode.simulate(trace.config, set=[own], output=tmp_path / "a.h5", progress=False)
    for worker in (0, 1):
        due = [(kind if what == "gone" else what, due_s) for what, each, due_s in DUE_S if each == worker]
        for run in (trace, simulated):
            faults = run.faults
            mine = (faults["worker"] == worker) & np.isin(faults["kind"], (kind, "joined"))
            assert faults["kind"][mine].tolist() == [what for what, _ in due]
            assert (faults["t_ns"][mine] >= [round(1e9 * due_s) for _, due_s in due]).all()
    of_0 = (trace.faults["worker"] == 0) & np.isin(trace.faults["kind"], (kind, "joined"))
    recv_ns, gone_ns, joined_ns = trace.arrivals["t_recv_ns"], *trace.faults["t_ns"][of_0][:2]
    first = recv_ns[trace.arrivals["worker"] == 0]
    assert not ((first > gone_ns) & (first < joined_ns)).any()
    assert (first > joined_ns).any()
    assert_replays(trace.path, capsys)
