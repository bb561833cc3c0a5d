"""The process group ``pdcode:gloo``: injected delays that repeat, the time of the link, and refusals."""

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import environment

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from pdcode.config import load as configfile  # noqa: E402
from pdcode.stragglers import WorkerDelays  # noqa: E402
from pdcode.torch import gloo  # noqa: E402
from pdcode.util.errors import InputError  # noqa: E402

JOB = """
seed = 5
[stragglers]
kind = "shifted-exponential"
shift_s = 0.002
mean_s = 0.004
slow = [1]
slowdown = 4.0
[link]
bandwidth = 1e6
[[faults.events]]
kind = "raise"
worker = 1
task = 5
"""

SCRIPT = """
# An ordinary script: every rank writes its time and what it has received.
import json, os, time
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from sizes import ROWS  # beside the script

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8))
model = DistributedDataParallel(network, bucket_cap_mb=0.01)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
start_s, largest = time.monotonic(), torch.tensor([float(dist.get_rank())])
objects = [None] * dist.get_world_size()
for step in range(4):
    optimizer.zero_grad()
    model(torch.randn(ROWS, 64)).square().mean().backward()
    optimizer.step()
dist.all_reduce(largest, dist.ReduceOp.MAX)
dist.all_gather_object(objects, dist.get_rank())
half = dist.new_group([0])
if dist.get_rank() == 0:
    dist.all_reduce(torch.ones(1), group=half, async_op=True).wait()
from pdcode.torch import gloo
with open(f"{os.environ['RESULT']}.{dist.get_rank()}", "w") as file:
    took_s = time.monotonic() - start_s
    json.dump([took_s, largest.item(), objects, gloo.injections[0].steps.delays_ns], file)
dist.barrier()
optimizer.step()  # rank 1 begins a task with a fault
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(900)
def test_an_unchanged_script_has_the_delays_and_the_fault_of_the_file(tmp_path: Path) -> None:
    """That an end without a fault is one of the script is what the example in test_hook.py shows."""
    job, scripts = tmp_path / "job.toml", tmp_path / "scripts"
    job.write_text(JOB, encoding="utf-8")
    scripts.mkdir()
    (scripts / "script.py").write_text(SCRIPT, encoding="utf-8")
    (scripts / "sizes.py").write_text("ROWS = 8", encoding="utf-8")
    words = "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pdcode.torch.gloo"
    variables = {"RESULT": str(tmp_path / "rank"), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", *words, str(job), str(scripts / "script.py")],
        env=environment() | variables, cwd=tmp_path, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode != 0
    assert "worker 1 raises at task 5, as [faults] asks" in done.stderr
    config, _ = configfile.load(job, ["workers.count=2"])
    for rank in range(2):
        result = Path(f"{tmp_path / 'rank'}.{rank}").read_text(encoding="utf-8")
        took_s, largest, objects, delays_ns = json.loads(result)
        model = WorkerDelays(config.stragglers.make(5, 2), rank)
        # one delay each step, whatever the number of buckets, and one before the reductions at the end
        assert delays_ns == [model.delay_ns(task, 0) for task in range(5)]
        assert (largest, objects) == (1.0, [0, 1])
        gradient_bytes = 4 * (64 * 64 + 64 + 64 * 8 + 8)
        assert took_s >= 4 * gradient_bytes / 1e6


@pytest.fixture
def injected(tmp_path: Path) -> Iterator[Any]:
    made = []

    def inject(job: str, rank: int = 0, ranks: int = 4) -> gloo.Injection:
        (tmp_path / "job.toml").write_text(job, encoding="utf-8")
        made.append(gloo.Injection(str(tmp_path / "job.toml"), rank, ranks))
        return made[-1]

    yield inject
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("name", "share"),
    [("allreduce", 1.5), ("allgather", 0.75), ("reduce_scatter", 0.75), ("broadcast", 1.0), ("send", 1.0)],
)
def test_operations_follow_each_other_on_the_link(injected: Any, name: str, share: float) -> None:
    injection = injected("[link]\nbandwidth = 1e6\nlatency_s = 0.0\n")
    before_ns = injection.steps.now_ns()
    first_ns = injection.end_ns(name, 10**9)
    assert first_ns >= before_ns + share * 10**12
    assert injection.end_ns(name, 10**9) - first_ns == share * 10**12


def test_works_that_are_only_polled_are_dropped() -> None:
    steps, done = gloo.Steps(0), types.SimpleNamespace(is_completed=lambda: True)
    early, late = (gloo.LateWork(done, steps, end_ns) for end_ns in (0, 10**18))
    assert early.is_completed()
    assert not late.is_completed()
    assert gloo.LateWork._pending & {early, late} == {late}
    gloo.LateWork._pending.discard(late)


def test_a_task_is_slowed_and_delayed_once(injected: Any) -> None:
    faults = "".join(
        f'[[faults.events]]\nkind = "{kind}"\nworker = 0\ntask = 1\n{keys}\n'
        for kind, keys in (("delay", "delay_s = 0.05"), ("slow", "factor = 3.0"))
    )
    injection = injected(
        '[stragglers]\nkind = "shifted-exponential"\nshift_s = 0.02\nmean_s = 1e-9\n' + faults
    )
    parameter = torch.nn.Parameter(torch.ones(1))
    times_s = []
    for _ in range(2):
        injection.steps.wait(10**7, False)  # computes
        begin_ns = injection.steps.now_ns()
        injection.reply()
        times_s.append(1e-9 * (injection.steps.now_ns() - begin_ns))
        injection.reply()  # the second bucket
        torch.optim.SGD([parameter]).step()
    assert injection.steps.delays_ns == pytest.approx([20_000_000] * 2, abs=1000)
    assert times_s[0] >= 0.02
    assert times_s[1] >= 0.02 + 0.05 + 2 * 0.01


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (
            '[stragglers]\nkind = "shifted-exponential"\nmean_s = 1.0\nslow = [4]\n',
            r"job\.toml: stragglers\.slow: worker 4",
        ),
        (
            '[[faults.events]]\nkind = "lie"\nworker = 1\ntask = 0\n',
            r"job\.toml: .*kind 'lie': not one of process",
        ),
        ("[link]\nbandwith = 1.0\n", r"job\.toml: .*did you mean 'bandwidth'"),
    ],
)
def test_what_a_process_group_cannot_do_is_refused(injected: Any, job: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        injected(job)


def test_a_bad_file_is_one_line_before_the_script_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(
        "[stragglers]\nkind = 'shifted-exponential'\nmean_s = 1.0\nslow = [2]\n", encoding="utf-8"
    )
    for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SystemExit) as ended:
        gloo.main([str(tmp_path / "job.toml"), "none.py"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "job.toml: stragglers.slow: worker 2" in line
    (tmp_path / "job.toml").write_text("seed = 1\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        gloo.main([str(tmp_path / "job.toml"), str(tmp_path / "none.py")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"pdcode: {tmp_path / 'none.py'}: no such file\n"


def test_a_file_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gloo.VARIABLE, raising=False)
    with pytest.raises(InputError, match="PDCODE_JOB: not set"):
        dist.init_process_group("pdcode:gloo", store=dist.HashStore(), rank=0, world_size=1)
    assert not dist.is_initialized()
    assert os.environ.get(gloo.VARIABLE) is None
