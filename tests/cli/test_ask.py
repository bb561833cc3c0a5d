"""`pdcode ask` and `pdcode check`: answers beside runs that are made so, and exit codes for pipelines."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from traces import JOB, SLOW

import pdcode
from pdcode.__main__ import main
from pdcode.config.write import to_toml


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pdcode.Trace:
    path = tmp_path_factory.mktemp("ask") / "run.h5"
    return pdcode.simulate(JOB, output=path, set=SLOW, progress=False)


def reached_s(path: Path, settings: dict[str, Any]) -> float:
    made = pdcode.simulate(JOB, output=path, set={**SLOW, **settings}, progress=False)
    return float(made.summary()["target_s"])


@pytest.mark.parametrize(
    "settings",
    [
        {"link.bandwidth": 5e5},
        {"update.mode": "first", "update.count": 6},
        {"machine.arrival_s": 0.01},
        {"wire.dtype": "float16", "link.bandwidth": 5e5},
    ],
)
def test_answers_are_the_times_of_runs_that_are_made_so(
    settings: dict[str, Any], recorded: pdcode.Trace, tmp_path: Path
) -> None:
    answer = recorded.ask(settings)
    assert answer.low_s <= answer.predicted_s <= answer.high_s
    true_s = reached_s(tmp_path / "run.h5", settings)
    assert 0.97 * answer.low_s < true_s < 1.03 * answer.high_s
    assert answer.predicted_s == pytest.approx(true_s, rel=0.25)
    assert f"in place of {answer.recorded_s:.2f} s" in repr(answer)


def test_workers_are_left_out_replaced_and_added(recorded: pdcode.Trace, tmp_path: Path) -> None:
    usual = {"stragglers.slow": [], "stragglers.slowdown": 1.0}
    usual_s = reached_s(tmp_path / "usual.h5", usual)
    assert recorded.ask(replaced=[7]).predicted_s == pytest.approx(usual_s, rel=0.1)
    fewer_s = reached_s(tmp_path / "fewer.h5", {**usual, "workers.count": 7})
    without = recorded.ask(without=[7])
    assert without.low_s < fewer_s < without.high_s
    assert str(without).startswith("without worker 7: loss 0.5 after ")
    twice = recorded.ask(["workers.count=16"])  # with two slow ones
    more = {"workers.count": 16, "stragglers.slow": [7, 15]}
    assert twice.predicted_s == pytest.approx(reached_s(tmp_path / "more.h5", more), rel=0.25)


def test_a_screen_says_what_costs_what_would_help_and_the_curves(
    recorded: pdcode.Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(recorded.path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("critical: worker 7 is ")
    assert re.search(r"^  \d\d % \(\d\d – \d\d\) of the time: workers$", said, re.M)
    assert re.search(r"^What would help:\n  .*pdcode run JOB.toml .*: predicted", said, re.M)
    assert re.search(r"^loss 0.5, over workers \(simulated to the loss, 4 seeds\):$", said, re.M)
    assert re.search(r"^ +16 █.* m?s \(.* – .* m?s\)$", said, re.M)
    assert re.search(r"^loss 0.5, over link .*:$", said, re.M)
    assert len(re.findall(r"^ +.* now █", said, re.M)) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--set", "problem.hidden=[64]"],
            "--set problem.hidden: .*run.h5 does not answer this key; it answers",
        ),
        (["--set", "stragglers.kind=none"], "--set stragglers.kind: .* does not answer this key"),
        (["--set", "seed=4"], "--set seed: .* does not answer this key"),
        (["--set", "link.bandwith=1e6"], "link.bandwith: unknown key.*did you mean"),
        (["--without", "8"], "--without 8: the run has workers 0 to 7"),
        (["--without", "0,1,2,3,4,5,6"], "--without: leaves fewer than two of 8 workers"),
        (["--replaced", "x"], "--replaced x: expected numbers from 0 "),
    ],
)
def test_what_a_recording_cannot_answer_is_refused(
    arguments: list[str], error: str, recorded: pdcode.Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(recorded.path), *arguments]) == 2
    assert re.search(error, capsys.readouterr().err)


def test_a_run_that_cannot_be_predicted_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "none.h5")
    pdcode.simulate(JOB, output=path, set={"trace.arrivals": "none"}, progress=False)
    assert main(["ask", path, "--set", "workers.count=4"]) == 2
    assert "the virtual clock does not predict this run: no arrival is recorded" in capsys.readouterr().err
    assert main(["ask", path]) == 0
    assert "Not known under changes: " in capsys.readouterr().out
    assert main(["check", path, "--cost", "5%"]) == 1


def test_a_recording_of_another_program_answers_for_its_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_s = 0.1 * np.exp(0.3 * np.random.default_rng(1).standard_normal((80, 4)))
    trace = pdcode.Trace(traces.script(tmp_path / "ddp.h5", work_s, 0.02).path)
    eight = trace.ask({"workers.count": 8})
    other_s = 0.1 * np.exp(0.3 * np.random.default_rng(2).standard_normal((80, 8)))
    assert eight.low_s < eight.predicted_s < eight.high_s
    assert eight.predicted_s == pytest.approx((other_s.max(axis=1) + 0.02).sum(), rel=0.1)
    assert "for as many steps, each worker with its work" in str(eight)
    assert main(["ask", str(trace.path)]) == 0
    assert "over workers" in capsys.readouterr().out
    assert main(["ask", str(trace.path), "--set", "link.bandwidth=1e6"]) == 2
    refused = "does not answer this key; it answers workers.count, as a recording does not have its re"
    assert refused in capsys.readouterr().err


def test_a_recording_of_another_program_answers_for_workers_and_for_its_reductions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ring of four sends three halves of the bytes: 50 ms for 1 MB are 30 MB/s."""
    work_s = 0.1 * np.exp(0.1 * np.random.default_rng(1).standard_normal((80, 4)))
    usual_s = (work_s.max(axis=1) + 0.05).sum()
    work_s[:, 2] *= 2
    path = tmp_path / "ddp.h5"
    trace = pdcode.Trace(traces.script(path, work_s, 0.05, size=1_000_000).path)
    replaced, without = trace.ask(replaced=[2]), trace.ask(without=[2])
    assert replaced.low_s < replaced.predicted_s < replaced.high_s
    assert replaced.predicted_s == pytest.approx(usual_s, rel=0.03)
    three_s = (np.delete(work_s, 2, axis=1).max(axis=1) + 0.05).sum()
    assert without.predicted_s == pytest.approx(three_s, rel=0.03)
    slower = trace.ask({"link.bandwidth": 1e7})
    assert slower.predicted_s == pytest.approx((work_s.max(axis=1) + 0.15).sum(), rel=0.01)
    assert "as if the reductions' time were all transfer, 1.00 MB of each worker at 30 MB/s" in str(slower)
    assert main(["ask", str(path)]) == 0
    assert "over link" in capsys.readouterr().out
    assert main(["ask", str(path), "--set", "link.latency_s=1e-3"]) == 2
    assert "does not have how much of its reductions' time is latency" in capsys.readouterr().err
    assert main(["ask", str(path), "--set", "link.half_duplex=true"]) == 2
    assert "does not have which of its reductions' messages share a link" in capsys.readouterr().err
    assert main(["ask", str(path), "--set", "link.bandwidth=quick"]) == 2
    assert "link.bandwidth" in capsys.readouterr().err


@pytest.mark.system
def test_a_run_is_checked_against_limits(
    recorded: pdcode.Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def checked(*arguments: str, path: Path = recorded.path) -> tuple[int, str]:
        code = main(["check", str(path), *arguments])
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 1
        return code, out

    code, line = checked("--slow", "1.2", "--cost", "5%")
    assert code == 1
    assert re.search(r"worker 7 is 5.\d+ times as slow .*; slow workers: 7\d.\d % of the time$", line.strip())
    assert checked("--cost", "0.05")[0] == 1
    code, line = checked("--slow", "10", "--cost", "90 %")
    assert code == 0
    assert "no worker is slow by more than 10.0×, no cause costs more than 90.0 % of the time" in line
    (tmp_path / "job.toml").write_text(to_toml({**JOB, "stop": {"updates": 3}}), encoding="utf-8")
    assert main(["simulate", str(tmp_path / "job.toml"), "-o", str(tmp_path / "short.h5")]) == 0
    capsys.readouterr()
    code, line = checked("--slow", "1.2", path=tmp_path / "short.h5")
    assert (code, "not judged: 3 tasks of a worker at most" in line) == (1, True)
    for wrong in ([], ["--slow", "0.5"], ["--cost", "5x"], ["--cost", "120%"]):
        assert main(["check", str(recorded.path), *wrong]) == 2
