"""Nodes that come and go over MPI: workers leave or die as a spot trace says, and spare ranks join."""

import pytest
from outcomes import assert_replays

import pdcode
from pdcode import Trace

NODES = "0,add,a\n0,add,b\n0,add,c\n300,remove,a\n600,remove,b\n700,add,d\n900,add,e\n1200,remove,d\n"
SETTINGS = [
    "stragglers.kind=slow-set", "stragglers.shift_s=0.01", "update.mode=async", "stop.updates=1000000",
    "stop.seconds=1.6", "workers.spares=2", "memory.kind=worker",
]  # fmt: skip
DUE_S = [("gone", 0, 0.3), ("gone", 1, 0.6), ("joined", 0, 0.7), ("joined", 1, 0.9), ("gone", 0, 1.2)]


@pytest.mark.parametrize(("end", "kind"), [("leave", "left"), ("kill", "dead")])
def test_workers_come_and_go_as_on_the_virtual_clock(run, trace_path, end, kind, capsys, tmp_path):
    (tmp_path / "nodes.csv").write_text(NODES, encoding="utf-8")
    nodes = f"faults.spot={tmp_path / 'nodes.csv'}", f"faults.spot_end={end}"
    done = run(*SETTINGS, *nodes, options=("-n", "3"))
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    told = list(zip(*(trace.faults[key].tolist() for key in ("kind", "worker")), strict=True))
    assert told == [(kind if what == "gone" else what, worker) for what, worker, _ in DUE_S]
    late_s = 1e-9 * trace.faults["t_ns"] - [due_s for *_, due_s in DUE_S]
    assert (late_s > 0).all()
    assert late_s.max() < 1.0  # of how soon it is on a loaded machine, no more is promised
    simulated = pdcode.simulate(trace.config, output=tmp_path / "a.h5", progress=False)
    assert list(zip(*(simulated.faults[key].tolist() for key in ("kind", "worker")), strict=True)) == told
    recv_ns, gone_ns, joined_ns = trace.arrivals["t_recv_ns"], *trace.faults["t_ns"][[0, 2]]
    first = recv_ns[trace.arrivals["worker"] == 0]
    assert not ((first > gone_ns) & (first < joined_ns)).any()
    assert (first > joined_ns).any()
    assert_replays(trace.path, capsys)
