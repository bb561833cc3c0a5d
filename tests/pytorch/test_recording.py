"""A recorded script of four ranks, of which one is slow."""

import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import pdcode.torch  # noqa: E402
from pdcode.analysis.diagnosis import diagnose  # noqa: E402
from pdcode.torch import ddp  # noqa: E402
from pdcode.util.errors import InputError  # noqa: E402

STEPS, SLEEP_S = 24, 0.2


class Sleeping(torch.autograd.Function):
    """The identity, whose backward pass takes long."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        time.sleep(SLEEP_S)
        return gradient


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=4)
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    model = DistributedDataParallel(network, bucket_cap_mb=0.01)  # several buckets
    recording = pdcode.torch.record(model, f"{path}.h5")
    coded = ddp.Coded(model)
    model.register_comm_hook(coded, ddp.hook)
    for step in range(STEPS):
        if step % 2:
            with model.no_sync():
                model(torch.randn(8, 64)).square().mean().backward()
        out = model(torch.randn(8, 64))
        (Sleeping.apply(out) if rank == 2 else out).square().mean().backward()
    assert coded.bytes > 0
    recording.close()
    again = DistributedDataParallel(network)
    again.register_comm_hook(coded, ddp.hook)
    with pytest.raises(InputError, match="record it before it gets one"):
        pdcode.torch.record(again, f"{path}.again.h5")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_slow_rank_is_named_by_its_own_work(tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    torch.multiprocessing.spawn(work, (str(path),), 4)
    trace = pdcode.Trace(f"{path}.h5")
    rows = trace.arrivals
    assert trace.finished
    assert trace.attributes["parameters"] == 2 * 65 * 64
    with pytest.raises(InputError, match="a recorded script: the trace has no arithmetic to recompute"):
        trace.replay(progress=False)
    assert (trace.worker_count, rows.rows, trace.updates.rows) == (4, 4 * STEPS, STEPS)
    own_s = 1e-9 * (rows["t_compute_ns"] - rows["t_start_ns"])
    assert own_s[rows["worker"] == 2].min() >= SLEEP_S
    assert (rows["t_recv_ns"] >= rows["t_send_ns"]).all()
    found = diagnose(trace)
    assert found.slow[0].worker == 2
    assert found.slow[0].cause == "computing"
