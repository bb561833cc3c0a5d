"""A run beside the same job that waits for all workers, simulated under its delays."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import traces

import pdcode
from pdcode.__main__ import main
from pdcode.analysis import gain as gains
from pdcode.analysis import waiting

JOB = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [16]},
    "workers": {"count": 4},
    "scheme": {"name": "uncoded"},
    "optimizer": {"rate": 0.3},
    "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [3], "slowdown": 10.0},
    "stop": {"loss": 0.5, "seconds": 60},
    "trace": {"progress_s": 0.005},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pdcode.Trace:
    return simulate(tmp_path_factory.mktemp("run") / "run.h5")


def simulate(path: Path, **settings: object) -> pdcode.Trace:
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    return pdcode.simulate(JOB, output=path, set=changed, progress=False)


def test_waiting_takes_as_long_as_a_simulation_of_it(run: pdcode.Trace, tmp_path: Path) -> None:
    with waiting.gain(run) as found:
        assert found is not None
        assert found.level == 0.5
        assert found.run_s == pytest.approx(run.summary()["target_s"], abs=0.01)
        delays = pdcode.simulate(
            run, output=tmp_path / "all.h5", stragglers=run, set={"update.mode": "all"}, progress=False
        )
        assert found.waiting_s == gains.time_s(delays, 0.5)
        assert found.waiting_s > 3 * found.run_s
        said = r"Loss 0\.5 (after|between) .+; waiting for all 4 workers would take (.+): (.+) times as long"
        words = re.fullmatch(said, str(found))
        assert words is not None
        assert float(words[3]) == pytest.approx(found.waiting_s / found.run_s, rel=0.1)


def test_a_run_that_was_measured_seldom_names_the_least_gain(run: pdcode.Trace, tmp_path: Path) -> None:
    """Its loss fell to 0.5 some time before the end."""
    with waiting.gain(run) as found:
        assert found is not None
        seldom = gains.Gain(simulate(tmp_path / "a.h5", trace__progress_s=100.0), found.waiting, 0.5)
        last_s = 1e-9 * seldom.run.progress["t_ns"][-1]
        assert seldom.factor == f"at least {found.waiting_s / last_s:.2g}"
        assert " between " in str(seldom)


def test_a_job_that_is_far_from_its_end_is_not_simulated_to_it(
    run: pdcode.Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LONGEST", 2)
    with waiting.gain(run) as found:
        assert found is not None
        assert math.isinf(found.waiting_s)
        assert str(found).endswith("would take more than 2 times as long")
    losses = run.plot("gain").axes[0]
    assert "more than 2×" in {text.get_text() for text in losses.texts}
    assert losses.get_xlim()[1] == pytest.approx(1.18 * 2 * found.run_s, rel=0.1)


def test_a_simulation_that_ends_before_the_run_does_tells_nothing(
    run: pdcode.Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = simulate(tmp_path / "short.h5", stop__updates=1)
    assert not gains.Gain(run, short, 0.5).known
    assert gains.Gain(short, run, 0.5).known
    monkeypatch.setattr(waiting, "MOST_FLOPS", 1.0)  # one update
    monkeypatch.setattr(gains.Gain, "known", False)
    with waiting.gain(run) as found:
        assert found is None


def test_runs_without_a_target_are_judged_by_a_round_loss(run: pdcode.Trace, tmp_path: Path) -> None:
    longer = simulate(tmp_path / "a.h5", stop__loss=0.2)
    copy = simulate(tmp_path / "b.h5", stop__loss=1e-9, stop__seconds=longer.summary()["seconds"])
    assert gains.level_of(longer) == 0.2
    assert gains.level_of(copy) in (0.5, 0.2)
    unmeasured = traces.writer(tmp_path / "none.h5")
    unmeasured.close()
    assert gains.level_of(pdcode.Trace(tmp_path / "none.h5")) is None


def test_what_waits_already_or_cannot_be_simulated_has_no_gain(tmp_path: Path) -> None:
    program = traces.script(tmp_path / "program.h5", np.full((3, 2), 0.01), 0.0)
    for trace in (simulate(tmp_path / "all.h5", update__mode="all"), pdcode.Trace(program.path)):
        with waiting.gain(trace) as found:
            assert found is None
        with pytest.raises(pdcode.InputError, match="kind: 'gain': the run waits for all, or"):
            trace.plot("gain")


def test_a_brief_summary_is_a_few_lines_with_one_number(
    run: pdcode.Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "gain.png"
    assert main(["show", str(run.path), "--brief", "--figure", str(picture)]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 20
    with waiting.gain(run) as found:
        assert said.splitlines()[1] == f"  {found}"
    assert said.splitlines()[-1] == f"figure: {picture}"
    assert "Diagnosis" in said
    assert "Run" not in said.splitlines()
    whole = picture.stat().st_size
    assert main(["show", str(run.path), "--quick", "--figure", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "waiting for all" not in said
    assert "Run" in said.splitlines()
    assert picture.stat().st_size != whole


def test_the_figure_names_its_curves_and_says_the_gain(run: pdcode.Trace) -> None:
    figure = run.plot("gain")
    losses, above, below = figure.axes
    with waiting.gain(run) as found:
        assert found is not None
        assert figure.get_suptitle() == str(found)
        named = [text.get_text() for text in losses.texts]
        assert {"as it ran: async", "waiting for all 4 workers, simulated", f"{found.factor}×"} <= {*named}
        assert {found.time(found.run_s), found.time(found.waiting_s)} <= {*named}
        ends = [line.get_xdata()[0] for line in losses.lines if len(line.get_xdata()) == 1]
        assert ends == [found.waiting_s, found.run_s]
    assert re.fullmatch(r"Waiting for all: workers idle \d+ % of the time", below.get_title("left"))
    assert above.get_xlim() == below.get_xlim()
