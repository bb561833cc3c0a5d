"""Tuning: what it finds on made-up times, what each candidate spends, when runs end, and what it may vary."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.studies import search_space, tuning
from pdcode.studies.candidate import Candidate
from pdcode.studies.goal import Goal
from pdcode.studies.knobs import changed, knobs
from pdcode.studies.measurement import Measured
from pdcode.studies.trial import Journal, Trial
from pdcode.studies.tuning import Search, Tuning
from pdcode.util.processes import Pool

GOAL = Goal("loss", 0.1, "--target")
BASE = [
    "problem.hidden=[16]", "problem.data=digits", "workers.count=8", "stop.loss=1.0", "stop.seconds=100.0",
]  # fmt: skip


def off(point: tuple[float, ...], best: tuple[float, ...]) -> float:
    """Return the logarithm of the time of settings, over that of the best."""
    return 0.5 * abs(point[0] - best[0]) + sum(
        0.25 * abs(a - b) for a, b in zip(point[1:], best[1:], strict=True)
    )


def made_up(point: tuple[float, ...], best: tuple[float, ...], seed: int, limit_s: float) -> Measured:
    """Return a run: far too high a rate diverges, and a slow run ends before the target."""
    seconds = math.exp(off(point, best)) * (1 + 0.1 * seed)
    if point[0] - best[0] > 3:
        return Measured(loss=math.inf, failed=True)
    if seconds > min(limit_s, 50):
        return Measured(loss=0.1 + 0.01 * seconds, stop_s=min(limit_s, 50))
    return Measured(seconds=seconds, loss=0.1, stop_s=seconds)


@pytest.mark.parametrize(
    ("sizes", "start", "best", "runs", "excess"),
    [
        ((), (), (1.0,), 7, 0.5),
        ((), (), (-9.3,), 12, 0.5),
        ((), (), (0.7,), 12, 0.1),
        ((), (), (6.2,), 12, 0.5),
        ((5, 4), (2, 0), (1.0, 3, 2), 24, 0.1),
        ((5, 5, 4, 4), (2, 3, 1, 0), (-1.0, 4, 0, 3, 2), 32, 0.2),
    ],
)
def test_the_search_finds_rate_and_knobs(sizes, start, best, runs, excess):
    """Seconds are least at `best`; few runs beyond the first of settings that are behind."""
    search, tried = Search(sizes, start, 2, GOAL), []
    for _ in range(2 * runs if not sizes else runs):
        tried.append((search.now, search.seed))
        search.add(made_up(search.now, best, search.seed, search.limit_s))
    assert off(search.best, best) <= excess
    assert len({*tried}) == len(tried)
    assert tried[:2] == [((0.0, *start), 0), ((0.0, *start), 1)]
    confirmed = sum(seed for _, seed in tried)
    assert confirmed < len(tried) / 2  # the others were dropped after a run
    assert not search.at_an_edge or sizes


def test_a_run_ends_when_its_settings_cannot_be_the_best():
    search = Search((), (), 2, GOAL)
    assert search.limit_s == math.inf
    for seconds in (4.0, 9.0):
        search.add(Measured(seconds=seconds, loss=0.1))
    assert search.limit_s == pytest.approx(4.0)
    search.add(Measured(seconds=3.0, loss=0.1))
    assert search.limit_s == pytest.approx(4.0 * 9.0 / 3.0)
    search.add(Measured(loss=0.11, stop_s=12.0))
    assert (search.best, search.seconds) == ((0.0,), [4.0, 9.0])


def candidate(name: str, *changes: str) -> Candidate:
    return Candidate(name, configfile.resolve({}, [*BASE, f"scheme.name={name}", *changes]), held=(*changes,))


def test_all_spend_the_same_and_slow_ones_end_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each run takes a second at rate 0.2, and twice as long with each halving or doubling."""
    spent: dict[str, list[tuple[int, float]]] = {"topk": [], "local": [], "signsgd": []}

    def perform(trial: Trial) -> Measured:
        name, limit = trial.config.scheme.name, trial.config.stop.seconds
        spent[name].append((trial.seed, limit))
        seconds = {"topk": 1.0, "local": 9.0, "signsgd": 1.2}[name] * (1 + trial.seed % 2)
        if name == "topk":
            seconds *= 2 ** abs(math.log2(trial.config.optimizer.rate / 0.2))
        stop_s = min(seconds, limit)
        loss = 1 - 0.9 * stop_s / seconds
        curves = {"t_s": np.array([0, stop_s]), "loss": np.array([1, loss]), "accuracy": np.zeros(2)}
        reached_s = seconds if seconds <= limit else math.inf
        return Measured(seconds=reached_s, stop_s=stop_s, loss=loss, curves=curves)

    monkeypatch.setattr(Trial, "perform", perform)
    made = [candidate(name, "optimizer.rate=0.8") for name in ("topk", "local", "signsgd")]

    def run() -> list[tuning.Entrant]:
        with Pool(1) as pool:
            how = Tuning(9, seeds=2, with_knobs=False, untuned=("signsgd",), slack=1.5)
            return tuning.tune(
                made, GOAL, how, [10, 11], lambda each, seed, _: Trial(each.config, seed, GOAL), pool,
                lambda line: None, Journal(tmp_path / "a.journal"),
            )  # fmt: skip

    found = run()
    assert {name: len(runs) for name, runs in spent.items()} == {"topk": 9, "local": 9, "signsgd": 2}
    assert spent["topk"][0] == (10, 100.0)
    assert spent["local"][0] == (10, pytest.approx(1.5 * 4.0))  # of topk's first
    assert spent["local"][-1][1] < 1.5 * 2.4  # of signsgd's or topk's best
    assert [each.search.key([4.0, 4.0])[0] for each in found] == [0, 1, 0]
    assert found[0].tuned.rate < 0.8
    best, dropped = tuning.select(found, 1.5, [("local",), ("topk", "signsgd")])
    assert {each.candidate.name for each in best} == {"topk", "signsgd", "local"}
    assert not dropped
    assert tuning.select(found, 1.5, [])[1] == ["local"]
    before = {name: [*runs] for name, runs in spent.items()}
    again = run()  # from the journal
    assert spent == before
    assert [each.search.best for each in again] == [each.search.best for each in found]


def test_the_better_part_of_a_group_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eighth of the group becomes better from run to run; the ninth candidate is in no group."""
    made = [replace(candidate("signsgd"), name=str(number)) for number in range(9)]
    spent = dict.fromkeys([each.name for each in made], 0)

    def perform(trial: Trial) -> Measured:
        spent[trial.file] += 1
        seconds = 1.0 + (9.5 - spent[trial.file] if trial.file == "7" else int(trial.file))
        return Measured(seconds=seconds, stop_s=seconds, loss=0.1)

    monkeypatch.setattr(Trial, "perform", perform)

    def ends(remain: int, slack: float, equal: bool = False) -> list[str]:
        monkeypatch.setattr(tuning, "REMAIN", remain)
        spent.update(dict.fromkeys(spent, 0))
        how = Tuning(12, seeds=1, with_knobs=False, slack=slack, equal=equal)
        groups = [[*"01234567"]]
        with Pool(1) as pool:
            found = tuning.tune(
                made, GOAL, how, [1], lambda each, seed, _: Trial(each.config, seed, GOAL, file=each.name),
                pool, lambda line: None, None, groups,
            )  # fmt: skip
        assert [each.budget for each in found] == [*spent.values()]
        return tuning.describe_ends(found, how)

    assert ends(1, 99.0) == [
        "Tuned by 4 runs, as enough of their kind were better: 4, 5, 6 and 7.",
        "Tuned by 6 runs, as enough of their kind were better: 2 and 3.",
    ]
    assert spent == {"0": 12, "1": 12, "2": 6, "3": 6, "4": 4, "5": 4, "6": 4, "7": 4, "8": 12}
    assert ends(7, 99.0) == ["Tuned by 4 runs, as enough of their kind were better: 6."]
    assert not ends(1, math.inf)
    assert not ends(1, 99.0, equal=True)


def names(config: Config) -> dict[str, list[object]]:
    return {knob.keys[0]: [value for value, *_ in knob.values] for knob in knobs(config)}


def test_knobs_are_declared_once_for_plans_and_tuning():
    found = names(candidate("topk", "update.mode=first").config)
    assert found["scheme.options.share"] == [0.0025, 0.004, 0.01, 0.02, 0.05]
    assert found["update.count"] == [4, 6, 7]
    assert found["optimizer.momentum"] == [0.0, 0.6, 0.8, 0.9]
    assert "auto" in found["memory.lookahead"]
    assert "optimizer.momentum" not in names(candidate("dion").config)  # its options have one
    assert names(candidate("heloco").config)["optimizer.momentum"] == [0.6, 0.8, 0.9]  # it needs one
    assert "wire.dtype" not in names(candidate("signsgd").config)
    vectors = "optimizer.vectors"
    kinds = [
        names(candidate("allreduce", f"optimizer.kind={kind}").config) for kind in ("muon", "orthogonal")
    ]
    assert [vectors in each for each in kinds] == [True, False]
    own = names(candidate("powersgd", "scheme.options.rank=6").config)
    assert own["scheme.options.rank"] == [1, 2, 4, 6, 8, 16]
    base, random = configfile.resolve({}, BASE), np.random.default_rng(3)
    drawn = [search_space.draw_knobs(base, search_space.preset("powersgd"), random) for _ in range(20)]
    assert {each["scheme"]["options"]["rank"] for each in drawn} == {1, 2, 4, 8, 16}
    assert len({each["wire"].get("dtype") for each in drawn}) > 1


@pytest.mark.parametrize(
    ("scheme", "changes", "kept", "lost"),
    [
        ("topk", [], "wire.dtype", "memory.lookahead"),
        ("topk", ["code.whiten=auto"], "memory.lookahead", "code.whiten"),
        ("topk", ["scheme.options.share"], "wire.dtype", "scheme.options.share"),
        ("powersgd", ["scheme.options"], "optimizer.momentum", "scheme.options.rank"),
    ],
)
def test_keys_that_a_name_gives_and_arms_are_not_tuned(scheme, changes, kept, lost):
    given = [each for each in changes if "=" in each]
    own = Candidate(
        scheme, candidate(scheme, *given).config, held=tuple(each.partition("=")[0] for each in changes)
    )
    keys = {key for knob in tuning.tunable(own) for key in knob.keys}
    assert kept in keys
    assert lost not in keys
    assert lost.startswith(("code", "memory")) or lost in {
        k for knob in tuning.tunable(own, False) for k in knob.keys
    }
    assert not tuning.tunable(Candidate("yours", own.config))


def test_another_momentum_changes_the_rate_so_that_steps_go_as_far():
    config = candidate("uncoded", "optimizer.rate=1.0").config
    made = changed(config, {"optimizer.momentum": 0.9, "optimizer.nesterov": True})
    assert made.optimizer.rate == pytest.approx(0.1)
    assert changed(
        made, {"optimizer.momentum": 0.0, "optimizer.nesterov": False}
    ).optimizer.rate == pytest.approx(1)
    with pytest.raises(ValueError, match="sparse"):
        changed(config, {"wire.dtype": "sparse"})
