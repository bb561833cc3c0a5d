"""Recorded scripts of four ranks, of which one is slow."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import pdcode.torch  # noqa: E402
from pdcode.torch import ddp, recording  # noqa: E402
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


class Network(nn.Module):
    """A network of which ranks leave out a part in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(64, 64) for _ in range(3))
        self.leaves_out = False

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return self.last(x if self.leaves_out else self.second(x))


def coded(model: Any) -> None:
    model.register_comm_hook(ddp.Coded(model), ddp.hook)


def halved(model: Any) -> None:
    model.register_comm_hook(None, default_hooks.fp16_compress_hook)


def low_rank(model: Any) -> None:
    state = powerSGD_hook.PowerSGDState(None, start_powerSGD_iter=2, min_compression_rate=1)
    model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)


def gradients(case: str, path: str, recorded: bool) -> Any:
    """Return the gradients of four backward passes, recorded or not."""
    torch.manual_seed(1)
    network = Network()
    # Several buckets; but PowerSGD waits in gloo's only two threads, and the compiler wants a large one.
    size = 25 if case in ("low-rank", "compiled") else 0.01
    unused = case == "unused"
    model: Any = DistributedDataParallel(network, bucket_cap_mb=size, find_unused_parameters=unused)
    register = {"coded": coded, "halved": halved, "low-rank": low_rank, "late": coded}.get(
        case, lambda _: None
    )
    if case != "late":
        register(model)
    if case == "renewed":
        halved(model)
        model(torch.ones(8, 64)).sum().backward()  # buckets are built anew after it
        model.zero_grad()
    compiled = case == "compiled" and dist.get_rank() == 0  # on one rank, as it takes seconds
    used = torch.compile(model, backend="aot_eager") if compiled else model
    steps = pdcode.torch.record(used, path) if recorded else None
    if case == "late":
        register(model)
    found = []
    for step in range(4):
        x = torch.randn(8, 64, generator=torch.Generator().manual_seed(step + 10 * dist.get_rank()))
        network.leaves_out = case == "unused" and step % 4 == dist.get_rank()
        if step % 2:
            with model.no_sync():
                used(x + 1).square().mean().backward()
        used(x).square().mean().backward()
        found.append(torch.cat([each.grad.flatten() for each in network.parameters()]))
        model.zero_grad()
    if steps is not None:
        steps.close()
    return torch.stack(found)


CASES = "plain", "coded", "halved", "low-rank", "late", "renewed", "unused", "compiled"


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=4)
    for case in CASES:
        found, plain = gradients(case, f"{path}.{case}.h5", True), gradients(case, "", False)
        # Sums of float16 depend on the buckets, which a hook that has been there for a step had built anew.
        assert torch.allclose(found, plain, 0, 1e-3 if case == "renewed" else 0), case
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with pytest.raises(InputError, match="Sequential: expected a DistributedDataParallel"):
        pdcode.torch.record(network)  # type: ignore[arg-type]
    model = DistributedDataParallel(network)
    with pytest.raises(InputError, match="none/of/these"):
        pdcode.torch.record(model, "/dev/null/none/of/these/x.h5")  # on all ranks
    model = DistributedDataParallel(network)
    pdcode.torch.record(model, f"{path}.h5")  # the only line; the end of the process closes it
    for _ in range(STEPS):
        out = model(torch.randn(8, 64))
        (Sleeping.apply(out) if rank == 2 else out).square().mean().backward()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_slow_rank_is_named_by_its_own_work(tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    torch.multiprocessing.spawn(work, (str(path),), 4)
    for case in CASES:
        assert pdcode.Trace(f"{path}.{case}.h5").arrivals.rows == 4 * 4, case
    trace = pdcode.Trace(f"{path}.h5")
    rows = trace.arrivals
    assert trace.attributes["parameters"] == 2 * 65 * 64
    with pytest.raises(InputError, match="a recorded script: the trace has no arithmetic to recompute"):
        trace.replay(progress=False)
    assert (trace.worker_count, rows.rows, trace.updates.rows) == (4, 4 * STEPS, STEPS)
    own_s = 1e-9 * (rows["t_compute_ns"] - rows["t_start_ns"])
    assert own_s[rows["worker"] == 2].min() >= SLEEP_S
    assert (rows["t_recv_ns"] >= rows["t_send_ns"]).all()
    found = trace.diagnose()
    assert found.slow[0].worker == 2
    assert found.slow[0].cause == "computing"
    assert found.slow[0].needed <= 20
    assert "if worker 2 were as the others" in found.cost
    assert "give worker 2" in found.next
    assert trace.finished
    assert trace.faults.rows == 0


def test_times_of_a_device_are_those_of_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook enqueues work that takes 30 ms; nothing is known before it is done."""
    device = SimpleNamespace(enqueued_ms=5.0, done_ms=5.0)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.ms = device.enqueued_ms

        def query(self) -> bool:
            return self.ms <= device.done_ms

        def synchronize(self) -> None:
            assert self.query()

        def elapsed_time(self, end: "Event") -> float:
            return float(np.float32(end.ms - self.ms))

    monkeypatch.setattr(recording.clocks, "now_ns", lambda: 1_000)
    clock = recording.DeviceClock(SimpleNamespace(Event=Event))
    device.enqueued_ms += 30
    ready = clock.stamp()
    device.enqueued_ms += 2
    reduced = clock.stamp()
    assert not clock.has_happened(reduced)
    device.done_ms = device.enqueued_ms
    assert clock.has_happened(reduced)
    assert [clock.read(ready), clock.read(reduced)] == [30_001_000, 32_001_000]
