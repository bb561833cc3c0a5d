"""A descent that goes wrong is said where a user looks: lines, exit codes, traces, and in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pdcode
from pdcode.__main__ import main
from pdcode.analysis.live import Reading, screen
from pdcode.analysis.report import parts

JOB = """
problem = { kind = "least-squares", data = "diabetes", standardise = true, batch = 8 }
scheme = { name = "uncoded" }
workers = { count = 4 }
optimizer = { rate = 0.5 }
update = { mode = "all" }
stop = { updates = 15 } # of finite payloads, at rate 2, too
"""
CAUSE = "usually the learning rate is too high: optimizer.rate is 2; try --set optimizer.rate=0.2"
Said = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Function that runs a command in a folder with the job, and returns its exit code and lines."""
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(JOB, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main([*arguments])
        return code, [line for line in capsys.readouterr().out.splitlines() if line.strip()]

    return run


def simulated(said: Said, *settings: str, name: str = "a.h5") -> tuple[int, list[str]]:
    return said("simulate", "job.toml", "-o", name, *(f"--set={each}" for each in settings))


def test_a_run_that_diverges_ends_with_exit_code_1_and_says_so_in_its_last_line(said: Said) -> None:
    code, lines = simulated(said, "optimizer.rate=2.0")
    assert code == 1
    assert lines[-1].startswith("diverged: the loss ended above its first: ")
    assert "times the first, 1.465e+04; " in lines[-1]
    assert lines[-1].endswith(CAUSE)
    trace = pdcode.Trace("a.h5")
    assert trace.finished
    assert trace.theta is not None
    assert trace.summary()["failure"] == trace.descent.what
    assert trace.faults["kind"].tolist() == ["diverged"]
    assert trace.replay(progress=False).tobytes() == trace.theta.tobytes()


def test_a_healthy_run_says_nothing(said: Said) -> None:
    code, lines = simulated(said)
    assert code == 0
    assert not [line for line in lines if "warning" in line or "diverg" in line]
    assert not pdcode.Trace("a.h5").descent
    assert not [line for line in said("show", "--quick", "a.h5")[1] if "diverg" in line]


def test_a_target_that_is_missed_is_said_and_no_failure(said: Said) -> None:
    code, lines = simulated(said, "stop.loss=1.0")
    assert code == 0
    assert lines[-1].startswith("warning: target missed: loss ")
    assert lines[-1].endswith("give the run longer (stop.updates, stop.seconds)")
    code, lines = simulated(said, "stop.loss=12000", "stop.updates=1000", "trace.progress_updates=1")
    assert (code, [line for line in lines if "missed" in line]) == (0, [])


def test_it_is_the_first_line_of_every_view(said: Said) -> None:
    simulated(said, "optimizer.rate=2.0")
    trace = pdcode.Trace("a.h5")
    line, what = trace.descent.line, trace.descent.what
    shown = said("show", "--quick", "a.h5")[1]
    assert line.startswith(shown[0])
    assert shown[0].startswith("diverged: ")
    assert said("watch", "a.h5")[1][0] == line
    assert str(screen(Reading(trace), None, None)[0]) == line
    found = trace.diagnose(what_if=False)
    assert found.verdict == what
    assert found.next.startswith("--set optimizer.rate=")
    assert CAUSE.startswith(found.why)
    assert str(trace.diagnose()).startswith(f"verdict: {what}\n")
    (part,) = parts([trace], [found])
    assert part.lines[0] == ("verdict", found.verdict)
    assert part.headline.endswith("requested: diverged")
    first = trace._repr_html_().partition("</tr>")[0]
    assert "diverged: the loss ended above its first" in first


def test_runs_side_by_side_name_the_one_that_diverged(said: Said) -> None:
    simulated(said, name="good.h5")
    simulated(said, "optimizer.rate=2.0", name="bad.h5")
    notes = " ".join(said("show", "good.h5", "bad.h5")[1])
    assert "bad: diverged: the loss ended above its first" in notes
    assert "good: " not in notes


def test_a_call_raises_a_failure_with_cause_and_trace(said: Said) -> None:
    with pytest.raises(pdcode.Failure) as raised:
        pdcode.simulate("job.toml", set={"optimizer.rate": 2.0}, progress=False, output="a.h5")
    assert str(raised.value) == raised.value.trace.descent.text
    assert CAUSE in str(raised.value)


def test_a_timing_only_run_has_no_loss(said: Said) -> None:
    assert said("simulate", "job.toml", "-o", "a.h5", "--timing-only", "--set", "optimizer.rate=2.0")[0] == 0
    assert not pdcode.Trace("a.h5").descent


def nan_from(theta: Any, x: Any) -> Any:
    loss = np.mean((x - theta) ** 2)
    return (loss if np.abs(theta).max() < 0.5 else np.nan), 2 * (theta - x.mean(axis=0))


def test_a_model_that_returns_no_number_is_told_from_a_rate_that_is_too_high() -> None:
    config = {"optimizer": {"rate": 0.1}, "scheme": {"name": "uncoded"}, "trace": {"progress_updates": 1}}
    with pytest.raises(pdcode.Failure) as raised:
        pdcode.minimize(nan_from, np.zeros(1), (np.ones((40, 1)),), workers=2, config=config, progress=False)
    assert "diverged: loss is nan at update" in str(raised.value)
    assert "; all parameters are finite, at most 0.5" in str(raised.value)
    assert "probably the model returned it for some rows" in str(raised.value)
    assert str(raised.value).startswith(raised.value.trace.summary()["failure"])


def test_entrants_of_a_comparison_may_diverge(said: Said) -> None:
    Path("bad.toml").write_text(JOB.replace("0.5", "2.0"), encoding="utf-8")
    code, lines = said("compare", "bad.toml", "--schemes=yours,uncoded", "--seeds=1")
    assert code == 0, lines
