"""The configuration of the best scheme, and where it is written."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from pdcode.choice.preset import prepare_ranks
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.studies import plan_file
from pdcode.studies.candidate import OWN, Candidate
from pdcode.studies.goal import Goal
from pdcode.studies.measurement import Measured
from pdcode.studies.ranking import rank
from pdcode.studies.search import Environment, SearchResult
from pdcode.util.errors import InputError

SMALL = ["problem.hidden=[16]", "workers.count=4", "stop.updates=100", "stop.seconds=9.0"]


def best_of(
    user: Config, planned: Config | None = None, goal: Goal | None = None, limit_s: float | None = None,
    trace: str | None = None,
) -> Config:  # fmt: skip
    """Make the plan of a search that found one configuration, which took 1 s and 70 updates."""
    planned = planned or user
    rows = rank([Candidate(OWN, planned)], [[Measured(seconds=1.0, stop_s=1.0, loss=0.2, updates=70)]], None)
    recorded = SimpleNamespace(path=Path(trace)) if trace else None
    environment = Environment(user, planned, goal or Goal("loss", 0.2), "job.toml", recorded)
    return plan_file.best_config(SearchResult(rows, [], 1, (1,)), environment, limit_s)


def test_the_plan_ends_at_its_target_alone_and_runs_where_the_user_runs():
    sets = [*SMALL, 'trace.path="results/a.h5"']
    user = configfile.resolve({}, sets)
    moved = configfile.resolve({}, [*sets, "link.bandwidth=1e6", "stragglers.kind=slow-set"])
    config = best_of(user, moved, Goal("accuracy", 0.9))
    assert (config.stop.updates, config.stop.seconds) == (560, 9.0)
    assert (config.stop.loss, config.stop.accuracy) == (None, 0.9)
    assert (config.link, config.stragglers) == (user.link, user.stragglers)
    assert [best_of(user, limit_s=limit).stop.seconds for limit in (3.0, 30.0)] == [9.0, 30.0]
    preset = configfile.resolve({}, [*SMALL, "scheme.preset=default"])
    assert best_of(preset).scheme.preset is None  # all that it fills in is written out


def test_its_trace_replaces_no_other_and_measures_often_enough():
    user = configfile.resolve({}, [*SMALL, 'trace.path="results/a.h5"'])
    assert best_of(user).trace.path == "results/a.plan.h5"
    assert best_of(user, trace="results/a.plan.h5").trace.path == "results/a.plan.plan.h5"
    assert best_of(user).trace.progress_s is None  # a run measures more often near its target
    coarse = configfile.resolve({}, [*SMALL, "trace.progress_s=1.0"])
    assert best_of(coarse).trace.progress_s == 0.02
    fine = msgspec.structs.replace(user, trace=msgspec.structs.replace(user.trace, progress_s=0.001))
    assert best_of(fine).trace.progress_s == 0.001


def test_rows_that_all_workers_had_are_asked_for_by_name(tmp_path):
    sets = [
        "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=10", "code.blocks=4",
        "workers.count=9", "stop.updates=5",
    ]  # fmt: skip
    for shards in ("auto", "replicated"):
        user = configfile.resolve({}, [*sets, f"problem.shards={shards}"])
        config = best_of(user)
        assert config.problem == msgspec.structs.replace(user.problem, shards="replicated")
        plan_file.write_plan(tmp_path / "plan.toml", config, ["one\ntwo", "three"])
        again, text = configfile.load(tmp_path / "plan.toml")
        assert text.startswith("# one two\n# three\nseed = 1\n")
        assert prepare_ranks(again, "plan.toml").source.total_rows(9) == 9 * 8
    enough = configfile.resolve({}, [*sets, "workers.count=8"])
    assert best_of(enough).problem == enough.problem


def test_where_the_plan_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "job.toml"
    config.write_text("", encoding="utf-8")
    assert plan_file.output_path("job.toml", None) == Path("results/job.plan.toml")
    assert not Path("results/job.plan.toml").exists()
    for same in ("job.toml", str(config), f"../{tmp_path.name}/job.toml"):
        with pytest.raises(InputError, match="would overwrite the configuration"):
            plan_file.output_path("job.toml", same)
    for place in ("results", "job.toml/plan.toml"):
        with pytest.raises(InputError, match=f"{place}: cannot write there"):
            plan_file.output_path("job.toml", place)
    older = Path("results/old.toml")
    older.write_text("# Written by `pdcode plan job.toml`", encoding="utf-8")
    assert plan_file.output_path("job.toml", str(older)) == older
    assert older.read_text(encoding="utf-8") == "# Written by `pdcode plan job.toml`"
    for content in ("seed = 1\n", "\x89HDF"):
        older.write_text(content, encoding="utf-8")
        for place in (str(older), "/dev/null"):
            with pytest.raises(InputError, match="the existing file is not a plan of pdcode"):
                plan_file.output_path("job.toml", place)
