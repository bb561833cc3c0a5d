"""The commands on each scheme that is no code over blocks: previews, runs, replays, views, and plans."""

import re
from pathlib import Path

import numpy as np
import origins
import pytest
from grids import LONG

from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.studies import search_space as space
from pdcode.trace.reader import TraceReader

JOB = """
seed = 3
[problem]
hidden = [16]
batch = 16
evaluate = 100
[workers]
count = 4
[machine]
coordinator_speed = 1e6
[stragglers]
kind = "shifted-exponential"
mean_s = 0.002
[stop]
updates = 20
[trace]
progress_s = 0.01
"""
SCHEMES = {
    "topk": "share = 0.05", "local": "steps = 3", "cyclic": "stragglers = 2", "frc": "stragglers = 1",
    "bernoulli": "shards = 2.5", "expander": "degree = 3", "sag": "parts = 3", "dsag": "parts = 2",
    "ringmaster": "threshold = 3", "ringleader": "gradients = 2", "demo": "largest = 9",
    "robust": 'rule = "geometric"',
    "diloco": "steps = 3", "sparseloco": "steps = 3", "randomk": "share = 0.05",
    "sgc": "stragglers = 2",
    "delayed-nesterov": "steps = 3", "muloco": "steps = 3", "rennala": "gradients = 3",
    "ringmaster-muon": "threshold = 3", "ef21-muon": "share = 0.05",
    "unequal": "shards = 3", "sparse-muloco": "steps = 3", "heloco": "steps = 3", "mindflayer": "trials = 3",
    "shadowheart": "gradients = [2, 1, 1, 0]",
}  # fmt: skip


def write_job(scheme: str, folder: Path) -> Path:
    path = folder / "job.toml"
    table = f'[scheme]\nname = "{scheme}"\n[scheme.options]\n{SCHEMES[scheme]}\n'
    path.write_text(JOB + table, encoding="utf-8")
    return path


@pytest.mark.every(4)
@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_commands(scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, path, other = write_job(scheme, tmp_path), str(tmp_path / "a.h5"), str(tmp_path / "b.h5")

    def say(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    preview = say("run", str(job), "--dry-run")
    promised = [int(text) for text in re.search(r"reply (\d+) bytes.*payload (\d+)", preview).groups()]
    again = tmp_path / "again.toml"  # what is printed is a configuration
    again.write_text(preview, encoding="utf-8")
    assert origins.removed(say("run", str(again), "--dry-run")) == origins.removed(preview)
    say("simulate", str(job), "-o", path)
    trace = TraceReader(path)
    assert set(trace.arrivals["bytes_up"]) == {promised[0]}
    assert trace.attributes["payload_bytes"] == promised[1]
    assert "bit-identical" in say("replay", path)
    key = SCHEMES[scheme].replace(" = ", " ").replace('"', "")
    assert re.search(rf"scheme +{scheme} \(.*{re.escape(key)}", say("show", path))
    say("simulate", str(job), "--timing-only", "-o", other)
    for name in ("t_dispatch_ns", "t_recv_ns", "t_decoded_ns", "worker", "version", "status", "bytes_down"):
        np.testing.assert_array_equal(TraceReader(other).arrivals[name], trace.arrivals[name], name)
    say("simulate", str(job), "--stragglers", path, "-o", other)
    say("simulate", str(job), "--cost", path, "-o", other)
    np.testing.assert_array_equal(TraceReader(other).theta, trace.theta)


@pytest.mark.every(4)
@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("scheme", list(SCHEMES)[:: 1 if LONG else 5])
def test_a_plan_begins_with_the_scheme(scheme: str, tmp_path: Path) -> None:
    job = write_job(scheme, tmp_path)
    search = ["--candidates", "2", "--seeds", "1", "--seconds", "2", "--processes", "1"]
    assert main(["plan", str(job), "--target", "2.3", *search, "-o", str(tmp_path / "plan.toml")]) == 0
    own, *_ = space.candidates(configfile.load(str(job))[0], 2, 7)
    assert f"yours: {scheme}, " in str(own)


@pytest.mark.parametrize("batch", [0, 16])
@pytest.mark.parametrize(("scheme", "key"), [("local", "steps"), ("cyclic", "stragglers")])
def test_a_step_more_or_a_shard_more_costs_one_gradient_more(scheme: str, key: str, batch: int) -> None:
    def flops(*overrides: str) -> float:
        job = [f"problem.batch={batch}", "workers.count=8", "stop.updates=1"]
        return prepare(configfile.resolve({}, [*job, *overrides])).flops()

    cost = [flops(f"scheme.name={scheme}", f"scheme.options.{key}={count}") for count in (1, 2, 5)]
    assert cost[2] - cost[1] == pytest.approx(3 * (cost[1] - cost[0]))
    full = flops("scheme.name=uncoded")
    assert full <= cost[1] - cost[0] <= 1.3 * full
