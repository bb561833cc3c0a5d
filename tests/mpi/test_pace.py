"""With a preset or code.rows_per_task "auto", a run over MPI measures link and workers before it starts."""

import re

import pytest
from launches import Run, run_all
from outcomes import assert_replays

from pdcode import Trace

AUTO = ["code.rows_per_task=auto", "code.blocks=[16,1]", "stragglers.kind=shifted-exponential"]
CASES = {
    "relayed": [*AUTO, "downlink.kind=codewords", "wire.dtype=int2", "stragglers.mean_s=0.02"],
    "θ with each task": [*AUTO, "stragglers.mean_s=0.02", "stragglers.dead=[2]", "stop.drain_s=0"],
    "whatever [link] says": [*AUTO, "stragglers.mean_s=0.05", "link.bandwidth=1", "problem.batch=1000"],
}


# Of steps at rank 0: beside them preset "ring" is as good for so little work, and its sums do not replay.
SLOW = "stragglers={kind='slow-set',slow=[2],slowdown=30.0}"
PRESET = {"preset": ["scheme.preset=auto", "reduce.kind=star", SLOW]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("pace"), 3, CASES | PRESET, alone=True)  # their speeds count


def test_a_preset_is_chosen_by_measured_speeds(runs: dict[str, Run]) -> None:
    run = runs["preset"]
    assert run.returncode == 0, run.stderr
    said = re.search(
        r"^preset '(?:(topk):)?([\w-]+)' \(scheme.preset 'auto'\) to begin with: .* \(by measured speeds\)$",
        run.stdout,
        re.M,
    )
    assert said
    assert said[2] in ("default", "whitened", "starved")  # none that waits
    trace = Trace(run.path)
    first, *_ = [*(each["config"] for each in trace.earlier_presets), trace.config]
    scheme = first["scheme"]
    assert (scheme["name"], scheme["preset"]) == (said[1] or "lwpd", said[2])


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_it_measured_and_records_a_share(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert run.returncode == 0, run.stderr
    said = re.search(r"^code\.share ([\d.]+) \(code\.rows_per_task 'auto'\): .*measured: ", run.stdout, re.M)
    assert said
    trace = Trace(run.path)
    assert trace.config["code"]["share"] == float(said[1])
    assert trace.config["code"]["rows_per_task"] is None
    assert trace.finished


def test_sizes_follow_the_measurement_not_the_configured_link(runs: dict[str, Run]) -> None:
    trace = Trace(runs["whatever [link] says"].path)
    assert trace.config["code"]["share"] == 1 / 8
    assert list(trace.attributes["rows_per_task"]) == [2, 1]


@pytest.mark.parametrize("name", [*CASES, "preset"])
def test_a_replay_uses_the_number(runs, name, capsys):
    assert_replays(runs[name].path, capsys)
