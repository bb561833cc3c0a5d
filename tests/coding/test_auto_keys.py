"""Whitening is on where shards are alike, and off by itself, with a rate to match, where they are not."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import origins
import pytest

from pdcode import problems
from pdcode.__main__ import main
from pdcode.automatic import keys as auto_keys
from pdcode.automatic import rates as auto_rate
from pdcode.config import Config, NetworkTable, kinds
from pdcode.config import load as configfile
from pdcode.problems import Problem
from pdcode.problems.bundled import digits
from pdcode.session import setup
from pdcode.session.setup import prepare
from pdcode.studies import candidate, knobs, learning_rates, search_space
from pdcode.util import progress
from pdcode.virtual.simulation import Simulation

PRESET = ["scheme.preset=default", "code.share=0.125", "stop.updates=20"]


def prepared(*settings: str) -> setup.Components:
    return setup.prepare(configfile.resolve({}, [*PRESET, *settings]))


def labels_sorted(folder: Path, mixed: float = 0.0) -> str:
    """Digits by label, a share of them in random places."""
    samples = digits(NetworkTable(), True)
    order = np.argsort(samples.y, kind="stable")
    random = np.random.default_rng(0)
    places = random.choice(len(order), round(mixed * len(order)), replace=False)
    order[places] = order[random.permutation(places)]
    path = folder / f"sorted-{mixed}.npz"
    np.savez(path, x=np.asarray(samples.x)[order], y=np.asarray(samples.y)[order])
    return f"problem.data={path}"


def found(*settings: str) -> float:
    config = configfile.resolve({}, [*PRESET, "problem.shards=contiguous", *settings])
    return auto_keys.gradient_spread(config, problems.create(config.problem))


@pytest.mark.parametrize("shards", ["shuffled", "replicated", "auto", "contiguous"])
def test_gradients_are_whitened_where_shards_are_alike(shards: str) -> None:
    """Digits are in no order of their labels."""
    components = prepared(f"problem.shards={shards}")
    assert components.config.code.whiten == "norm"
    assert components.config.optimizer.rate == 2.0
    assert components.config.memory.lookahead == 0.2
    assert not components.notes


@pytest.mark.parametrize(
    ("workers", "share", "ahead"),
    [(2, "0.125", 0.2), (8, "0.25", 0.2), (16, "0.125", 0.1), (64, "0.125", 0.025), (16, "0.03125", 0.025)],
)
def test_the_look_ahead_shrinks_with_more_workers_and_smaller_payloads(workers, share, ahead):
    settings = [f"workers.count={workers}", f"code.share={share}"]
    assert prepared(*settings).config.memory.lookahead == ahead
    assert prepared(*settings, "code.whiten=none").config.memory.lookahead == ahead
    assert prepared(*settings, "memory.lookahead=0.15").config.memory.lookahead == 0.15


@pytest.mark.parametrize(
    "settings",
    [
        ["scheme.name=dion"],
        ["scheme.name=demo"],
        ["scheme.name=ef21-muon"],
        ["scheme.name=topk", "memory.kind=worker", "optimizer.kind=sign"],
    ],
)
def test_the_look_ahead_of_steps_with_a_length_is_a_whole_step(settings: list[str]) -> None:
    config = configfile.resolve({}, [*settings, "memory.lookahead=auto", "stop.updates=1"])
    assert setup.prepare(config).config.memory.lookahead == 1


def test_gradients_are_not_whitened_where_labels_are_sorted(tmp_path: Path) -> None:
    components = prepared(labels_sorted(tmp_path), "problem.shards=contiguous", "workers.count=10")
    config = components.config
    assert config.code.whiten == "none"
    assert config.memory.lookahead == 0.0
    assert 0.3 < config.optimizer.rate < 1.5  # a converted one
    said = "\n".join(components.remarks())
    for part in (
        "gradients are not whitened (code.whiten 'auto'): shards differ (problem.shards 'contiguous')",
        f"optimizer.rate 2 for whitened gradients becomes {config.optimizer.rate:g}",
        "memory.lookahead 0.16 becomes 0",
    ):
        assert part in said


def test_shards_smaller_than_half_a_mini_batch_differ() -> None:
    """Digits have 1,438 training rows."""
    few, many = ([f"workers.count={workers}", "problem.batch=32"] for workers in (89, 90))
    assert prepared(*few).config.code.whiten == "norm"
    components = prepared(*many)
    assert components.config.code.whiten == "none"
    assert components.config.memory.lookahead == 0.0
    assert "shards have 15 rows, so each worker's mini-batches of 32" in "\n".join(components.notes)
    assert prepared(*many, "problem.shards=replicated").config.code.whiten == "norm"
    most = prepared("workers.count=1439", "problem.batch=32")  # each has all rows
    assert most.config.code.whiten == "norm"


@pytest.mark.parametrize("centre", ["true", "false", "auto"])
def test_centring_follows_whitening_unless_it_is_given(tmp_path: Path, centre: str) -> None:
    data, key = labels_sorted(tmp_path), f"code.centre={centre}"
    alike = prepared("problem.shards=shuffled", key).config.code
    assert (alike.whiten, alike.centre) == (("gram", False) if centre == "false" else ("norm", True))
    differ = prepared(data, "problem.shards=contiguous", "workers.count=10", key).config.code
    assert (differ.whiten, differ.centre) == ("none", centre == "true")


def test_an_explicit_whitening_is_not_changed(tmp_path: Path) -> None:
    data = labels_sorted(tmp_path)
    components = prepared(data, "problem.shards=contiguous", "workers.count=10", "code.whiten=gram")
    assert components.config.code.whiten == "gram"
    assert components.config.optimizer.rate == 2.0
    assert "code.whiten 'gram' slows the descent here" in "\n".join(components.remarks())
    assert not prepared("code.whiten=gram", "problem.shards=contiguous").notes


def test_gradient_spread_is_about_zero_for_alike_shards_and_grows_with_order(tmp_path: Path) -> None:
    alike = [found(f"problem.split_seed={seed}", labels_sorted(tmp_path, 1.0)) for seed in range(3)]
    assert max(alike) < 0.3
    half, apart = found(labels_sorted(tmp_path, 0.5)), found(labels_sorted(tmp_path))
    assert 1 < half < 0.5 * apart


def test_gradient_spread_is_relative_to_the_workers_batch(tmp_path: Path) -> None:
    small, large = (found(labels_sorted(tmp_path, 0.5), f"problem.batch={batch}") for batch in (8, 64))
    assert large == pytest.approx(8 * small)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["problem.data=diabetes", "problem.standardise=true"], "targets are real numbers"),
        (["problem.batch=0"], "batches are full"),
    ],
)
def test_whitened_steps_are_not_made_where_they_would_not_converge(settings: list[str], why: str) -> None:
    components = prepared(*settings)
    assert components.config.code.whiten == "none"
    assert why in "\n".join(components.remarks())
    assert components.config.memory.lookahead == 0.2


@pytest.mark.parametrize(
    ("settings", "whiten"),
    [
        ([], "norm"),
        (["problem.batch=8"], "norm"),
        (["code.whiten=gram"], "gram"),
        (["problem.batch=0"], "none"),
    ],
)
def test_gradients_of_linear_models_get_one_length(settings: list[str], whiten: str) -> None:
    keys = ["problem.kind=softmax", "scheme.name=uncoded", "update.mode=all", "code.whiten=auto"]
    components = setup.prepare(configfile.resolve({}, ["stop.updates=1", *keys, *settings]))
    assert components.config.code.whiten == whiten


def test_the_converted_rate_is_stable_where_targets_are_large() -> None:
    components = prepared("problem.data=diabetes", "problem.standardise=true", "stop.updates=200")
    problem: Problem = components.problem
    before = problem.loss(components.state.theta)
    _, result = Simulation(components).run()
    assert result.loss < 0.5 * before


def test_workers_have_the_keys_that_rank_0_has_resolved(tmp_path: Path) -> None:
    components = prepared(labels_sorted(tmp_path), "problem.shards=contiguous", "workers.count=10")
    given = configfile.resolve(
        {}, [*PRESET, labels_sorted(tmp_path), "problem.shards=contiguous", "workers.count=10"]
    )
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(components.facts))
    assert given.code.whiten == "auto"
    assert auto_keys.with_resolved(given, facts["resolved"]) == components.config


def test_a_resolved_configuration_is_not_changed() -> None:
    """As a trace holds it, for a replay."""
    config = prepared().config
    assert auto_keys.resolve_auto(config, problems.load_source(config.problem)) == (config, [])
    assert Config.of(msgspec.to_builtins(config)) == config


@pytest.mark.parametrize(
    ("workers", "better"), [(1, 0.375), (2, 0.75), (3, 1.125), (4, 1.5), (6, 2.0), (8, 2.0)]
)
def test_a_rate_that_is_too_long_for_few_workers_is_the_presets_at_most(workers: int, better: float) -> None:
    """A preset's is settled, one that is given is not changed, and noted if it is much too long."""
    count = f"workers.count={workers}"
    assert prepared(count).config.optimizer.rate == better
    given = prepared(count, "optimizer.rate=2.0")
    assert given.config.optimizer.rate == 2.0
    said = f"optimizer.rate 2 is too long for whitened steps of so few workers: try {better:g}"
    assert (said in given.remarks()) == (workers < 4)
    for other in ("update.mode=all", "code.whiten=none", f"optimizer.rate={better}"):
        changed = prepared(count, "optimizer.rate=2.0", other)
        assert not any("too long" in line for line in changed.remarks())
    assert prepared(count, "code.whiten=none").config.optimizer.rate == 2.0
    assert prepared(count, "update.mode=all").config.optimizer.rate == 2.0 * min(1, workers / 8)


PRESETS = [
    (name, preset) for name in kinds.names("schemes") for preset in kinds.find("schemes", name).presets
]


@pytest.mark.every(8)
@pytest.mark.parametrize(("scheme", "preset"), PRESETS)
def test_no_run_complains_of_what_its_preset_has_chosen(scheme: str, preset: str) -> None:
    chosen = [f"scheme.name={scheme}", f"scheme.preset={preset}", "stop.updates=1"]
    if preset == "shards":
        chosen.append("problem.kind=softmax")
    for workers in (5, 7, 16, 64) if scheme == "robust" else (1, 2, 3, 4, 7, 16, 64):
        for other in (
            "seed=1",
            "stragglers={kind='shifted-exponential',mean_s=0.01}",
            "update.mode=all",
            "code.whiten=none",
        ):
            if scheme != "lwpd" and "." in other:
                continue
            config = configfile.resolve({}, [*chosen, f"workers.count={workers}", other])
            remarks = "\n".join(setup.prepare(config).remarks())
            biased = "" if other == "code.whiten=none" and preset.startswith("sharded") else "|biased"
            assert not re.search(f"too long|slow|no effect{biased}", remarks), (workers, other)


def test_a_dry_run_names_the_origin_of_a_settled_rate(tmp_path: Path, capsys: Any) -> None:
    job = tmp_path / "job.toml"
    job.write_text("scheme = {preset = 'default'}\nstop = {updates = 1}\n")
    for workers, rate, origin in ((3, 1.125, ", at most 0.375 · workers.count"), (8, 2.0, "")):
        assert main(["run", str(job), "--dry-run", "-n", str(workers)]) == 0
        out = capsys.readouterr().out
        assert origins.of(out)["optimizer.rate"] == f"preset default{origin}"
        assert f"\nrate = {rate}" in out


def deep(tmp_path: Path, matrices: int) -> list[str]:
    """Settings of a function of so many matrices of one column, without data."""
    file = tmp_path / "deep.py"
    file.write_text(
        "import numpy as np\n"
        f"start = [np.ones((4, 3)) for _ in range({matrices})] + [np.ones(2)]\n"
        "rows = np.ones((2000, 3))\n"
        "def loss(theta, x):\n"
        "    errors = [x @ w.T for w in theta[:-1]]\n"
        "    total = sum(0.5 * (e**2).sum() for e in errors) / len(x)\n"
        "    return total, [*(e.T @ x / len(x) for e in errors), 0 * theta[-1]]\n"
    )
    keys = {"function": "loss", "start": "start", "data": "rows"}
    named = [f"problem.{key}={file}:{name}" for key, name in keys.items()]
    return ["problem.kind=function", *named, "problem.near_zero=true"]


@pytest.mark.parametrize(("matrices", "rate"), [(2, 2.0), (4, 1.24), (11, 0.22)])
def test_a_presets_rate_follows_from_the_matrices_of_any_model(tmp_path, matrices, rate) -> None:
    """A convolutional network of 4 matrices wanted 1, a GPT of 11 a quarter, of rates apart by a factor 2."""
    components = prepared(*deep(tmp_path, matrices))
    assert components.config.optimizer.rate == rate
    assert prepared(*deep(tmp_path, matrices), "optimizer.rate=1.5").config.optimizer.rate == 1.5
    assert f"optimizer.rate is {rate:g} (optimizer.rate 'auto'): 2 of preset" in "\n".join(
        components.remarks()
    )


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        (["scheme.preset=ring", "problem.hidden=[64,64,64,64]", "workers.count=4"], 5.0),
        (["scheme.preset=ring", "optimizer.kind=sgd"], 2.0),
        (["scheme.preset=ring", "optimizer.kind=sgd", "workers.count=4"], 1.0),
        (["scheme.preset=first"], 0.7),
        (["scheme.preset=first", "problem.hidden=[64,64,64,64]", "code.whiten=gram"], 0.301),
        (["scheme.preset=first", "problem.batch=128"], 0.7 * 0.71),
        (["scheme.preset=default"], 2.0),
        (["scheme.preset=default", "workers.count=3"], 1.125),
        (["scheme.preset=starved", "workers.count=2"], 0.75),
        (["scheme.name=uncoded", "update.mode=all", "code.whiten=gram", "workers.count=16"], 2.0),
        (["scheme.name=local"], 1.0),
        (["scheme.name=diloco"], 0.7),
        (["scheme.name=signsgd"], 0.001),
    ],
)
def test_rates_by_rule(settings: list[str], rate: float) -> None:
    common = ["optimizer.rate=auto", "stop.updates=5", "workers.count=16"]
    config = configfile.resolve({}, [*common, *settings])
    assert setup.prepare(config).config.optimizer.rate == rate


@pytest.mark.parametrize("least", [-9, -2.2, 0.1, 3, 5])
def test_the_best_of_rates_is_found(least: float) -> None:
    rate, count = auto_rate.best(lambda rate: abs(np.log2(rate / 0.1) - least) if rate < 9 else np.inf, 0.1)
    assert rate == pytest.approx(0.1 * 2.0 ** round(least))
    assert count <= auto_rate.MOST + 2


TRIED = ["scheme.name=uncoded", "update.mode=all", "workers.count=4", "stop.updates=60"]


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer.kind=adamw"],
        ["optimizer.kind=muon"],
        ["optimizer.momentum=0.9", "optimizer.clip=5"],
        ["problem.data=diabetes", "problem.kind=least-squares", "problem.standardise=true"],
    ],
)
def test_a_trials_rate_is_better_than_ones_far_from_it(settings: list[str]) -> None:
    def loss(*more: str) -> float:
        simulation = Simulation(prepare(configfile.resolve({}, [*TRIED, *settings, *more])))
        with np.errstate(all="ignore"):
            rates.append(simulation.config.optimizer.rate)
            result = simulation.run()[1].loss
        return result if np.isfinite(result) else np.inf

    rates: list[Any] = []
    best = loss("optimizer.rate=auto")
    assert best < min(loss(f"optimizer.rate={rates[0] * factor}") for factor in (1 / 16, 16))


def test_a_rate_of_auto_goes_with_studies() -> None:
    config = configfile.resolve({}, [*TRIED, "optimizer.rate=auto"])
    tried = setup.prepare(config).config.optimizer.rate
    assert learning_rates.rate_of(config) == tried
    assert "rate auto" in candidate.summary(config)
    assert knobs.changed(config, {"optimizer.momentum": 0.5}).optimizer.rate == "auto"
    full = [*TRIED, "code.whiten=auto", "problem.batch=0", "optimizer.rate=auto"]
    unlike = configfile.resolve({}, full)
    made = learning_rates.with_rate(unlike, learning_rates.rate_of(unlike))
    assert setup.prepare(made).config.optimizer == setup.prepare(unlike).config.optimizer
    other = search_space.apply_tables(config, {"memory": {"kind": "worker"}})
    assert other.optimizer.rate == pytest.approx(tried)


def test_momentum_in_async_mode_gives_a_warning() -> None:
    said = "optimizer.momentum 0.9 slows a descent down in update.mode 'async'"
    assert said in "\n".join(prepared("optimizer.momentum=0.9").remarks())
    assert "slows" not in "\n".join(prepared("optimizer.momentum=0.9", "update.mode=first").remarks())
    assert "slows" not in "\n".join(prepared().remarks())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["optimizer.momentum=0.5"], "optimizer.momentum is given, so no preset is chosen"),
        (["update.mode=first"], "update.mode is given, "),
        (["memory.keep=0.5", "wire.dtype=int8"], "memory.keep and wire.dtype are given, "),
        (["optimizer.momentum=0.5", "code.weight=2"], ""),  # it describes a code of its own
        (["optimizer.momentum=0.5", "scheme.preset=default"], ""),
        (["scheme.name=topk", "optimizer.momentum=0.5"], ""),
    ],
)
def test_a_job_that_a_key_takes_off_preset_auto_says_so(settings: list[str], said: str) -> None:
    lines = setup.prepare(configfile.resolve({}, ["stop.updates=20", *settings])).remarks()
    found = [line for line in lines if "so no preset is chosen" in line]
    assert len(found) == bool(said)
    assert all(line.startswith(said) for line in found)


def test_long_trials_of_a_rate_say_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configfile.resolve({}, ["problem.hidden=[8]", "workers.count=2", "stop.updates=5"])
    problem = Problem.from_dataset(config.problem, problems.load_source(config.problem).dataset, 1)
    rates = []
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    for least in (auto_keys.LONG_FLOPS, 0.0):
        monkeypatch.setattr(auto_keys, "LONG_FLOPS", least)
        with progress.shown():
            rates.append(auto_keys.plain_rate(config, problem))
        said = "gradients for optimizer.rate 'auto', whitened" in capsys.readouterr().err
        assert said == (least == 0)
    assert rates[0] == rates[1]
