"""Candidates of a plan: which are offered, and that all of them can run."""

from typing import ClassVar

import msgspec
import numpy as np
import pytest

from pdcode import problems
from pdcode.config import UpdateTable, kinds
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes.lwpd import LWPD
from pdcode.schemes.uncoded import Uncoded
from pdcode.session import setup
from pdcode.studies import portfolio
from pdcode.studies import search_space as space
from pdcode.studies.candidate import DRAWN, OWN, identity, summary
from pdcode.studies.learning_rates import base_rate, rate_of
from pdcode.util.errors import InputError

SMALL = ["problem.hidden=[16]", "code.blocks=[8,1]", "workers.count=4", "stop.loss=0.3", "optimizer.rate=0.4"]
PROBLEMS = {
    "mlp": SMALL,
    "two hidden layers": [*SMALL, "problem.hidden=[16,8]", "code.blocks=[8,8,1]"],
    "softmax, full batch": [
        "problem.kind=softmax", "problem.batch=0", "problem.dtype=float64", "scheme.preset=shards",
        "stop.updates=9",
    ],
    "logistic": [
        "problem.kind=logistic", "problem.data=breast-cancer", "code.blocks=8", "decoder.kind=least_squares",
        "memory.kind=none", "update.mode=first", "optimizer.staleness=inverse", "stop.updates=9",
    ],
    "poisson": [
        "problem.kind=poisson", "problem.data=synthetic", "problem.outputs=3", "code.blocks=4",
        "stop.updates=9",
    ],
    "lasso": [
        "problem.kind=least-squares", "problem.data=synthetic", "code.blocks=4", "stop.updates=9",
        "optimizer.proximal={kind='l1', weight=0.1}",
    ],
    "least squares": [
        "problem.kind=least-squares", "problem.data=synthetic", "code.blocks=4", "stop.loss=0.1"
    ],
}  # fmt: skip


@pytest.mark.every(4)
@pytest.mark.parametrize("name", PROBLEMS)
def test_all_that_is_offered_can_run_and_comes_back_from_its_file(name, tmp_path):
    base = configfile.resolve({}, PROBLEMS[name])
    found = space.candidates(base, 20, seed=7)
    assert len(found) == 20
    assert found[0].is_own
    assert found[0].config == base
    assert not any(candidate.is_own for candidate in found[1:])
    assert len({msgspec.json.encode(candidate.config) for candidate in found}) == 20
    for number, candidate in enumerate(found):
        config = candidate.config
        for table in ("workers", "stop", "stragglers", "machine", "link", "seed", "trace"):
            assert getattr(config, table) == getattr(base, table)
        scales = ("standardise", "standardise_targets")  # by a preset, or resolved
        scaled = {key: getattr(config.problem, key) for key in scales}
        assert config.problem == msgspec.structs.replace(base.problem, **scaled)
        configfile.check_consistency(config)
        setup.prepare(config)
        path = tmp_path / f"{number}.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        assert configfile.load(path)[0] == config


def test_the_portfolio_is_offered_and_draws_are_keyed():
    base = configfile.resolve({}, SMALL)
    whole = space.candidates(base, None, seed=7)
    names = [candidate.name for candidate in whole]
    labels = portfolio.labels().values()
    assert names[0] == OWN
    assert names[1:] == [label for label in labels if label in names]  # in its order
    assert {
        *(f"preset {name}" for name in LWPD.presets), "whitened top-k", "top-k", "first-q", "Adam first-q",
        "whitened MindFlayer", "local steps", "compressed all-reduce", "Muon", "PowerSGD", "Rennala",
    } <= {*names}  # fmt: skip
    assert all(candidate.multiple == 1 for candidate in whole)
    assert space.candidates(base, 12, seed=7) == whole[:12]
    many = space.candidates(base, len(whole) + 6, seed=7)
    assert many[: len(whole)] == whole
    drawn = many[len(whole) :]
    assert all(candidate.name.startswith(f"{DRAWN} ") for candidate in drawn)
    assert space.candidates(base, len(whole) + 3, seed=7)[len(whole) :] == drawn[:3]
    assert space.candidates(base, len(whole) + 6, seed=8)[len(whole) :] != drawn


def test_the_portfolio_does_not_depend_on_the_users_optimizer():
    base = configfile.resolve({}, [*SMALL, "scheme.name=allreduce", "optimizer={kind='adam', rate=0.003}"])
    found = {each.name: each.config.optimizer for each in space.of_portfolio(base)}
    assert [*found] == [*portfolio.labels().values()]
    assert (found["all-reduce"].kind, found["Adam"].kind) == ("sgd", "adam")
    assert 0.01 < found["all-reduce"].rate < 1.0


def test_a_plugins_scheme_joins_by_its_own_declaration(monkeypatch):
    class Mine(Uncoded):
        name = "mine"
        entrants: ClassVar = {"my scheme": ":async/wire.dtype=float16"}

    monkeypatch.setitem(kinds.KINDS["schemes"], "mine", Mine)
    assert portfolio.labels()["mine:async/wire.dtype=float16"] == "my scheme"
    assert "my scheme" in portfolio.rivals()["plain"]
    base = configfile.resolve({}, SMALL)
    (mine,) = (each for each in space.of_portfolio(base) if each.name == "my scheme")
    assert (mine.config.scheme.name, mine.config.wire.dtype) == ("mine", "float16")


def test_neighbours_have_other_rates_and_options_of_the_scheme():
    base = configfile.resolve({}, SMALL)
    by_name = {candidate.name: candidate for candidate in space.of_portfolio(base)}
    topk = by_name["top-k"]
    near = list(space.neighbours(topk, 2.0))
    assert [each.title for each in near] == [
        "top-k, rate ×0.5", "top-k, rate ×2", "top-k, share 0.004", "top-k, share 0.02",
    ]  # fmt: skip
    assert [each.rate for each in near[:2]] == pytest.approx([0.5 * topk.rate, 2 * topk.rate])
    assert [each.config.scheme.options.share for each in near[2:]] == [0.004, 0.02]
    trials = [each.config.scheme.options.trials for each in space.neighbours(by_name["MindFlayer"], 2.0)]
    assert trials == [2, 2, 1, 4]
    again = next(space.neighbours(near[3], 2**0.5))
    assert again.title == "top-k, share 0.02, rate ×0.707"
    own = space.Candidate(OWN, base)
    assert [each.title for each in space.neighbours(own, 2.0)] == ["yours, rate ×0.5", "yours, rate ×2"]


def test_a_penalty_is_part_of_the_problem_and_stays():
    base = configfile.resolve({}, PROBLEMS["lasso"])
    for candidate in space.candidates(base, 20, seed=7):
        assert candidate.config.optimizer.proximal == base.optimizer.proximal, candidate.name


@pytest.mark.parametrize("name", ["default", "ring", "first"])
def test_a_preset_is_what_pdcode_run_makes_of_it(name):
    base = configfile.resolve({}, SMALL)
    asked = configfile.resolve({}, [SMALL[0], *SMALL[2:4], "scheme.name=lwpd", f"scheme.preset={name}"])
    (preset,) = [each for each in space.of_portfolio(base) if each.name == f"preset {name}"]
    for table in ("code", "memory", "wire", "downlink", "update", "optimizer"):
        assert getattr(preset.config, table) == getattr(asked, table)


def test_with_preset_auto_rates_are_multiples_of_the_chosen_presets():
    base = configfile.resolve({}, ["problem.kind=softmax", "stop.updates=9", "workers.count=4"])
    assert base.scheme.is_auto
    chosen = space.chosen(base)
    assert not chosen.scheme.is_auto
    own = space.Candidate(OWN, base)
    rates = [each.config.optimizer.rate for each in space.at_rates(own, (0.5, 2.0))]
    assert rates == pytest.approx([0.5 * rate_of(chosen), 2 * rate_of(chosen)])
    assert {each.name for each in space.of_portfolio(base)} >= {"preset default", "first-q"}


def test_step_sizes_are_multiples_of_a_whole_step():
    base = configfile.resolve({}, SMALL)  # asynchronous with memory: an arrival is 1/n of a step
    assert base_rate(base) == 0.4
    rates = {each.name: each.rate for each in space.of_portfolio(base)}
    assert rates["all-reduce"] == rates["first-q"] == pytest.approx(0.04)  # with momentum 0.9
    assert rates["asynchronous"] == 0.1  # each arrival is a whole step
    assert rates["Adam"] == 0.01  # its own
    forgetful = configfile.resolve({}, [*SMALL, "memory.kind=none"])
    assert base_rate(forgetful) == 1.6
    assert space.apply_tables(forgetful, space.preset("uncoded", "all")).optimizer.rate == 1.6
    averaged = configfile.resolve({}, [*SMALL, "memory.kind=none", "optimizer.kind=schedule-free"])
    assert base_rate(averaged) == 0.8  # the mean of equal steps' points is half-way


def test_a_rate_of_whitened_gradients_is_converted_by_the_length_of_steps():
    """The plain gradients' step is half as long as the whitened one where runs may start."""
    base = configfile.resolve({}, [*SMALL, "code.whiten=gram", "memory.kind=none", "update.mode=all"])
    config = space.apply_tables(base, space.preset("uncoded", "all"))
    problem = problems.create(base.problem)
    lengths = []
    for kind in ("gram", "none"):
        plan = problem.plan(32, whiten=[kind])
        found = []
        for seed in range(40):
            plan.gradient(
                problem.initial(seed), np.random.default_rng(seed).choice(problem.rows, 32, replace=False)
            )
            found.append(np.linalg.norm(plan.full_gradient))
        lengths.append(np.mean(found))
    assert config.code.whiten == "none"
    assert config.optimizer.rate == pytest.approx(0.4 * 0.5 * lengths[0] / lengths[1], rel=0.1)
    assert base_rate(base) == pytest.approx(config.optimizer.rate, rel=1e-3)


def test_draws_differ_and_cover_the_space(monkeypatch):
    base = configfile.resolve({}, SMALL)
    drawn = [space.draw_tables(base, np.random.default_rng((3, number))) for number in range(300)]
    for table, key, least in (
        ("code", "family", 6), ("memory", "kind", 4), ("wire", "dtype", 4), ("downlink", "kind", 2),
        ("update", "mode", 4), ("update", "late", 3), ("code", "weight", 6), ("code", "share", 5),
        ("code", "rows_per_task", 5), ("decoder", "kind", 2), ("scheme", "name", 2),
    ):  # fmt: skip
        assert len({tables[table].get(key) for tables in drawn}) >= least, (table, key)
    refused = [tables for tables in drawn[:60] if space.make_candidate(base, "drawn", tables) is None]
    assert 0 < len(refused) < 40
    for name, key in (("topk", "share"), ("frc", "stragglers"), ("local", "steps"), ("powersgd", "rank")):
        tables = space.preset(name)
        values = set()
        for number in range(8):
            drawn_knobs = space.draw_knobs(base, tables, np.random.default_rng((4, number)))
            values.add(drawn_knobs["scheme"]["options"][key])
        assert len(values) > 1
    monkeypatch.setattr(space, "draw_knobs", lambda base, tables, random: tables)  # which takes long
    many = [space.draw_tables(base, np.random.default_rng((4, number))) for number in range(1300)]
    assert {tables["scheme"]["name"] for tables in many if "scheme" in tables} >= {*space.drawn_schemes()}


def test_the_users_own_configuration_must_be_able_to_run():
    base = configfile.resolve({}, [*SMALL, "code.rows_per_task=100"])
    with pytest.raises(InputError, match=r"^job\.toml: code\.rows_per_task"):
        space.candidates(base, 5, 1, "job.toml")


def test_schemes_in_words():
    base = configfile.resolve({}, SMALL)
    words = {each.name: str(each) for each in space.candidates(base, None, 7)}
    assert words[OWN] == "yours: net k=8/1 w=4 r=1, memory worker, async, rate 0.4"
    assert words["first-q"] == "first-q: uncoded, float16, first 3, late wasted, rate 0.04"
    captured = UpdateTable.of({"mode": "captured", "fraction": 0.5, "late": "waste"})
    text = summary(msgspec.structs.replace(base, update=captured))
    assert "captured 0.5, late wasted" in text


def test_what_is_the_same_is_offered_once():
    base = configfile.resolve({}, [*SMALL, "workers.count=3"])
    for one, other in (
        ("update={mode='first'}", "update={mode='first', count=2}"),
        ("decoder={}", "decoder={kind='adjoint'}"),
        ("wire={}", "wire={dtype='float32'}"),
    ):
        made = [configfile.resolve({}, [*SMALL, "workers.count=3", tables]) for tables in (one, other)]
        assert identity(made[0]) == identity(made[1])
    assert identity(base) != identity(configfile.resolve({}, [*SMALL, "workers.count=4"]))
