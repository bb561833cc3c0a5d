"""Candidates of a plan: which are offered, and that all of them can run."""

import msgspec
import numpy as np
import pytest

from pdcode import problems
from pdcode.config import UpdateTable
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes.lwpd import LWPD
from pdcode.studies import search_space as space
from pdcode.studies.candidate import DRAWN, OWN, identity, summary
from pdcode.studies.learning_rates import base_rate, rate_of
from pdcode.training import setup
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
        for table in ("problem", "workers", "stop", "stragglers", "machine", "link", "seed", "trace"):
            assert getattr(config, table) == getattr(base, table)
        configfile.check_consistency(config)
        setup.prepare(config)
        path = tmp_path / f"{number}.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        assert configfile.load(path)[0] == config


def test_presets_and_uncoded_schemes_are_always_there_and_draws_are_keyed():
    base = configfile.resolve({}, SMALL)
    presets = [f"preset {name}" for name in LWPD.presets if name != "shards" and "-regression" not in name]
    names = {
        OWN,
        *presets,
        "topk whitened",
        *(f"uncoded {name}" for name in ("all", "first", "async", "k-async")),
    }
    few, many = space.candidates(base, 2, seed=7), space.candidates(base, 30, seed=7)
    assert {candidate.name for candidate in few} == names
    assert all(candidate.multiple == 1 for candidate in few)
    assert space.candidates(base, 30, seed=7) == many
    assert space.candidates(base, 36, seed=7)[:30] == many
    other = space.candidates(base, 30, seed=8)
    assert [candidate for candidate in other if candidate.name != DRAWN] == [
        candidate for candidate in many if candidate.name != DRAWN
    ]
    assert other != many
    full = msgspec.structs.replace(base, problem=msgspec.structs.replace(base.problem, batch=0))
    assert "preset shards" in {candidate.name for candidate in space.candidates(full, 2, seed=7)}


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("preset default", "lwpd"), *((f"uncoded {name}", "uncoded") for name in ("all", "first", "k-async"))],
)
def test_a_preset_is_what_pdcode_run_makes_of_it(name, scheme):
    base = configfile.resolve({}, SMALL)
    asked = [f"scheme.name={scheme}", f"scheme.preset={name.split()[1]}"]
    asked = configfile.resolve({}, [SMALL[0], *SMALL[2:], *asked])
    (preset,) = [each for each in space.candidates(base, 2, 7) if each.name == name]
    for table in ("code", "memory", "wire", "downlink", "update"):
        assert getattr(preset.config, table) == getattr(asked, table)
    assert preset.config.optimizer.rate == (1.5 if name == "preset default" else 0.4)  # of four workers


def test_with_preset_auto_rates_are_multiples_of_the_chosen_presets():
    base = configfile.resolve({}, ["problem.kind=softmax", "stop.updates=9", "workers.count=4"])
    assert base.scheme.is_auto
    chosen = space.chosen(base)
    assert not chosen.scheme.is_auto
    rates = [space.apply_tables(base, {}, multiple).optimizer.rate for multiple in (0.5, 2.0)]
    assert rates == pytest.approx([0.5 * rate_of(chosen), 2 * rate_of(chosen)])


def test_step_sizes_are_multiples_of_a_whole_step():
    base = configfile.resolve({}, SMALL)  # asynchronous with memory: an arrival is 1/n of a step
    assert base_rate(base) == 0.4
    rates = {
        (candidate.name, candidate.multiple): candidate.config.optimizer.rate
        for candidate in space.candidates(base, 30, seed=7)
        if candidate.name != DRAWN
    }
    assert rates["uncoded all", 1] == rates["uncoded first", 1] == 0.4
    own = [rates[f"preset {name}", 1] for name in ("default", "starved", "ring", "first")]
    assert own == [1.5, 1.0, 0.7, 0.7]
    assert rates["preset regression", 1] == 0.4  # of a trial
    assert rates["uncoded async", 1] == 0.1  # each arrival is a whole step
    assert rates[OWN, 2] == 0.8
    assert rates[OWN, 0.5] == 0.2
    forgetful = configfile.resolve({}, [*SMALL, "memory.kind=none"])
    assert base_rate(forgetful) == 1.6
    assert space.apply_tables(forgetful, space.preset("uncoded", "all"), 0.5).optimizer.rate == 0.8


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


def test_draws_differ_and_cover_the_space():
    base = configfile.resolve({}, SMALL)
    drawn = [space.draw_tables(base, np.random.default_rng((3, number))) for number in range(300)]
    for table, key, least in (
        ("code", "family", 6), ("memory", "kind", 4), ("wire", "dtype", 4), ("downlink", "kind", 2),
        ("update", "mode", 4), ("update", "late", 3), ("code", "weight", 6), ("code", "share", 5),
        ("code", "rows_per_task", 5), ("decoder", "kind", 2), ("scheme", "name", 2),
    ):  # fmt: skip
        assert len({tables[table].get(key) for tables in drawn}) >= least, (table, key)
    many = [space.draw_tables(base, np.random.default_rng((4, number))) for number in range(2000)]
    assert {tables["scheme"]["name"] for tables in many if "scheme" in tables} >= {*space.drawn_schemes()}
    for name, key in (("topk", "share"), ("frc", "stragglers"), ("local", "steps"), ("powersgd", "rank")):
        schemes = [each["scheme"] for each in many if each["scheme"].get("name") == name]
        assert len({scheme["options"][key] for scheme in schemes}) > 1
    refused = [tables for tables in drawn[:60] if space.make_candidate(base, "drawn", tables, 1.0) is None]
    assert 0 < len(refused) < 40


def test_the_users_own_configuration_must_be_able_to_run():
    base = configfile.resolve({}, [*SMALL, "code.rows_per_task=100"])
    with pytest.raises(InputError, match=r"^job\.toml: code\.rows_per_task"):
        space.candidates(base, 5, 1, "job.toml")


def test_schemes_in_words():
    base = configfile.resolve({}, SMALL)
    words = {each.name: str(each) for each in space.candidates(base, 2, 7)}
    assert words[OWN] == "yours: net k=8/1 w=4 r=1, memory worker, async, rate 0.4"
    assert words["uncoded first"] == "uncoded first: uncoded, first 3, late wasted, rate 0.4"
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
