"""Recorded scripts of four ranks, and an example of which one is slow."""

import atexit
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from paths import ROOT

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from ranks import run_four  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import pdcode.torch  # noqa: E402
from pdcode.torch import ddp, recording  # noqa: E402
from pdcode.util.errors import InputError  # noqa: E402

STEPS, ROWS = 20, 16


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


def built_in(model: Any) -> None:
    model._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)


HOOKS = {"coded": coded, "halved": halved, "low-rank": low_rank, "late": coded, "built-in": built_in}


def gradients(case: str, path: str, recorded: bool) -> Any:
    """Return the gradients of four backward passes, recorded or not."""
    torch.manual_seed(1)
    network = Network()
    # Several buckets; but PowerSGD waits in gloo's only two threads, and the compiler wants a large one.
    size = 25 if case in ("low-rank", "compiled") else 0.01
    unused = case == "unused"
    model: Any = DistributedDataParallel(network, bucket_cap_mb=size, find_unused_parameters=unused)
    register = HOOKS.get(case, lambda _: None)
    if case != "late":
        register(model)
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


class QuietClock:
    """A rank's clock on an idle machine: only sleeps take time, and a reduction ends for all at once."""

    def __init__(self) -> None:
        self.ns, self.noise = recording.clocks.now_ns(), np.random.default_rng(dist.get_rank())

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(1e9 * seconds * self.noise.uniform(1.0, 1.05))

    def hook(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        recording.Recording._enqueue(self.wait)  # just before DDP's own waiting
        return default_hooks.allreduce_hook(dist.group.WORLD, bucket)

    def wait(self) -> None:
        latest = torch.tensor(self.ns)
        dist.all_reduce(latest, dist.ReduceOp.MAX)
        self.ns = int(latest)


CASES = "plain", "coded", "halved", "low-rank", "late", "built-in", "unused", "compiled"


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=4)
    for case in CASES:
        assert torch.equal(gradients(case, f"{path}.{case}.h5", True), gradients(case, "", False)), case
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with pytest.raises(InputError, match="Sequential: expected a DistributedDataParallel"):
        pdcode.torch.record(network)  # type: ignore[arg-type]
    model = DistributedDataParallel(network)
    with pytest.raises(InputError, match="none/of/these"):
        pdcode.torch.record(model, "/dev/null/none/of/these/x.h5")  # on all ranks
    torch.set_default_dtype(torch.float32)
    record, recordings = pdcode.torch.record, []

    def quiet(model: Any, *given: Any) -> None:
        clock = QuietClock()
        model.register_comm_hook(None, clock.hook)
        recording.HostClock.stamp = recording.clocks.now_ns = clock.now_ns  # type: ignore[method-assign]
        example["train"].__globals__["time"] = SimpleNamespace(sleep=clock.sleep, perf_counter=clock.now_ns)
        recordings.append(record(model, *given))

    pdcode.torch.record = lambda *given: recordings.append(record(*given))  # type: ignore[assignment]
    example = runpy.run_path(str(ROOT / "examples" / "ddp" / "slow.py"))
    example["train"]([ROWS] * 4, f"{path}.h5", STEPS)
    recordings.pop().close()
    pdcode.torch.record = quiet  # type: ignore[assignment]
    example["train"]([ROWS] * 4, f"{path}.quiet.h5", STEPS)
    recordings.pop().close()
    phased(f"{path}.phased.h5")
    rows: list[Any] = [advised(f"{path}.quiet.h5") if rank == 0 else None]
    dist.broadcast_object_list(rows)
    example["train"](rows[0], f"{path}.shared.h5", STEPS)
    dist.destroy_process_group()
    atexit._run_exitfuncs()  # complete it; multiprocessing calls none of a forked process


class Rows(torch.utils.data.Dataset):
    """Rows that take rank 1 long to load."""

    def __init__(self, clock: QuietClock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 2 * STEPS

    def __getitem__(self, _: int) -> Any:
        self.clock.sleep(0.02 if dist.get_rank() == 1 else 0.001)
        return torch.ones(64)


def phased(path: str) -> None:
    """Record steps of two backward passes, of which each rank's phases take known times."""
    clock, network = QuietClock(), nn.Linear(64, 1)
    recording.HostClock.stamp = recording.clocks.now_ns = clock.now_ns  # type: ignore[method-assign]
    model = DistributedDataParallel(network)
    model.register_comm_hook(None, clock.hook)
    steps = pdcode.torch.recording.record(model, path)
    for number, x in enumerate(torch.utils.data.DataLoader(Rows(clock))):
        clock.sleep(0.004)  # as to bring rows to a device
        model.require_backward_grad_sync = number % 2 == 1
        out = model(x).mean()
        clock.sleep(0.002)
        out.register_hook(lambda _: clock.sleep(0.003))
        out.backward()
        clock.sleep(0.005 * (number % 2))
    steps.close()


def advised(path: str) -> list[int]:
    """Return the rows that the diagnosis of a recording says to give to each rank."""
    found = pdcode.Trace(path).diagnose()
    assert found.slow[0].worker == 2
    assert found.slow[0].cause == "backward"
    assert found.slow[0].needed <= STEPS
    assert "if worker 2 were as the others" in found.cost
    said = re.search(r"give worker 2 (\S+) of its work and the others (\S+): predicted", found.next)
    assert said, found.next
    return [round(ROWS * float(said[1 + (rank != 2)])) for rank in range(4)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_slow_rank_is_named_and_the_advice_helps(tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    run_four(work, path)
    for case in CASES:
        rows = pdcode.Trace(f"{path}.{case}.h5").arrivals
        first = int(rows["task"].min())  # 1 if the first step, which is long, belongs to the start
        assert (rows.rows, rows["task"].max()) == (4 * (4 - first), 3), case
    trace = pdcode.Trace(f"{path}.phased.h5")
    [slow] = trace.diagnose().slow
    assert (slow.worker, slow.cause) == (1, "loading")
    assert "load in the background" in trace.diagnose().next
    assert "of its work" not in trace.diagnose().next
    mean_ms = [1e-6 * trace.phases[f"{name}_ns"][4:].reshape(-1, 4).mean(axis=0)
               for name in ("loading", "forward", "backward")]  # fmt: skip
    np.testing.assert_allclose(mean_ms, [[2, 40, 2, 2], [4] * 4, [6] * 4], rtol=0.06)
    account = trace.account()
    assert account.spent_ns.sum() == account.length_ns
    assert account.by_part.keys() >= {"loading", "forward", "backward", "between steps"}
    assert account.by_part["between steps"] / account.by_part["loading"] == pytest.approx(13 / 40, rel=0.1)
    own_s = []
    for name in ("", ".quiet", ".shared"):
        trace = pdcode.Trace(f"{path}{name}.h5")
        rows = trace.arrivals
        assert trace.finished
        assert trace.faults.rows == 0
        steps = STEPS - int(rows["task"].min())
        assert (trace.worker_count, rows.rows, trace.updates.rows) == (4, 4 * steps, steps)
        assert rows["task"].max() == STEPS - 1
        assert (rows["t_recv_ns"] >= rows["t_send_ns"]).all()
        own_ns = (rows["t_compute_ns"] - rows["t_start_ns"]).astype(float)
        own_s.append([1e-9 * own_ns[rows["worker"] == rank].min() for rank in range(4)])
    real, quiet, shared = own_s
    assert real[2] >= ROWS * 0.015 > max(real[:2] + real[3:])  # waiting is not work
    assert quiet == pytest.approx([ROWS * each for each in (0.005, 0.005, 0.015, 0.005)], rel=0.06)
    assert shared[2] < quiet[2] / 2
    assert trace.attributes["parameters"] == 65 * 64 + 65 * 10
    with pytest.raises(InputError, match="a recorded script: the trace has no arithmetic to recompute"):
        trace.replay(progress=False)


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
