"""Preset "auto": the candidate with the shortest predicted time, on the virtual clock."""

import math
from typing import Any

import msgspec
import numpy as np
import origins
import pytest
from outcomes import refused

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.automatic.keys import with_resolved
from pdcode.choice.preset import prepare
from pdcode.choice.timing import Timing
from pdcode.coding.policies import best_count
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes import delay_model
from pdcode.schemes.lwpd import LWPD
from pdcode.transport.speeds import Speeds
from pdcode.util.errors import InputError
from pdcode.util.formats import ratio
from pdcode.virtual.simulation import Simulation

TASK_S = 0.01
JOB = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [512], "batch": 32},
    "workers": {"count": 16},
    "machine": {"flops_per_s": 1e18, "task_s": TASK_S, "arrival_s": 1e-6, "dispatch_s": 1e-7},
    "link": {"broadcast": "tree"},
    "stop": {"updates": 30},
}
THETA = 4 * 38410  # bytes
LINKS = {name: ratio * THETA / TASK_S for name, ratio in (("100G", 240), ("1G", 2.4), ("10M", 0.024))}
"""Bandwidths at which θ takes as large a part of a task's time as in `benchmarks.schemes`."""
DELAYS = {
    "none": {"kind": "none"},
    "exponential": {"kind": "shifted-exponential", "mean_s": TASK_S},
    "persistent": {"kind": "slow-set", "slow": [15], "slowdown": 10.0},
    "markov": {"kind": "markov", "extra_s": 9 * TASK_S, "enter": 0.02, "leave": 0.2},
}
AUTO = ["scheme.preset=auto"]
COMPUTING = {**JOB["machine"], "task_s": 0.0, "flops_per_s": 7.4e6 / TASK_S}
"""A machine on which several steps take several times as long: a gradient of `JOB` takes TASK_S."""


def resolved(*settings: str, **tables: dict[str, object]) -> Config:
    return configfile.resolve({**JOB, **tables}, settings)


def begun(config: Config) -> str:
    """The preset with which a run begins."""
    scheme = prepare(config).config.scheme
    return f"{scheme.name}:{scheme.preset}"


def round_s(config: Config, updates: int, runs: int = 1) -> float:
    """The predicted time of an update under the configuration's delays."""
    components = prepare(config)
    models = [delay_model(components.config.with_seed(1000 + run)) for run in range(runs)]
    return Timing(components).round_s(models, updates)


@pytest.mark.parametrize(
    ("link", "hidden", "best"),
    [("100G", 512, "lwpd:sharded-first"), ("1G", 512, "lwpd:default"), ("10M", 512, "topk:whitened")],
)
@pytest.mark.parametrize("delays", DELAYS)
def test_a_run_begins_with_the_same_whatever_the_delays(link, hidden, best, delays) -> None:
    table = {"bandwidth": LINKS[link], "broadcast": "tree"}
    assert begun(resolved(link=table, machine=COMPUTING, stragglers=DELAYS[delays])) == best


@pytest.mark.parametrize(
    ("hidden", "flops_per_s", "local"), [([32], 1e12, True), ([32], 1e8, False), ([32] * 4, 1e12, False)]
)
def test_local_steps_are_taken_where_messages_take_longer_than_tasks(hidden, flops_per_s, local) -> None:
    problem, link = JOB["problem"] | {"hidden": hidden}, {"latency_s": 1e-4}
    machine = {"flops_per_s": flops_per_s, "task_s": 0.0}
    config = resolved(problem=problem, link=link, machine=machine, stop={"updates": 100})
    _, result = Simulation(prepare(config)).run()
    assert (result.config.scheme.name == "local") == local
    assert any(name.startswith("local:") for name in prepare(config).choice.candidates) == (len(hidden) < 3)


@pytest.mark.parametrize(("task_s", "begins"), [(0.1, "small-regression"), (1e-5, "ring-regression")])
def test_a_run_begins_with_what_waits_for_all_where_a_slow_worker_costs_little(task_s, begins) -> None:
    machine = {"flops_per_s": 1e12, "task_s": task_s, "arrival_s": 3e-4}
    problem = {"kind": "least-squares", "data": "diabetes"}
    assert begun(resolved(problem=problem, machine=machine)) == f"lwpd:{begins}"


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("link", "delays", "best"),
    [
        ("100G", "none", {"ring", "sharded", "first", "sharded-first"}),
        ("100G", "exponential", {"default", "first"}),
        ("100G", "persistent", {"default", "first", "sharded-first"}),
        ("1G", "none", {"sharded", "sharded-first"}),
        ("1G", "exponential", {"default"}),
        ("1G", "persistent", {"default", "sharded-first"}),
    ],
)
def test_what_follows_depends_on_the_tasks_of_the_run(link: str, delays: str, best: set[str]) -> None:
    config = resolved(
        link={"bandwidth": LINKS[link], "broadcast": "tree"},
        machine=COMPUTING,
        stragglers=DELAYS[delays],
        problem=JOB["problem"] | {"hidden": [64]},
        stop={"seconds": 0.3},
    )
    _, result = Simulation(prepare(config), shares=True).run()
    assert result.config.scheme.preset in best


@pytest.mark.parametrize("hidden", [32, 128])
def test_a_slow_worker_costs_the_same_told_and_untold(hidden: int) -> None:
    slow = {"events": [{"kind": "slow", "worker": 15, "at_s": 0.0, "factor": 11.0}]}
    tables = {"problem": JOB["problem"] | {"hidden": [hidden]}, "stop": {"loss": 0.5, "seconds": 2.0}}
    told = Simulation(prepare(resolved(stragglers=DELAYS["persistent"], **tables))).run()[1]
    untold = Simulation(prepare(resolved(faults=slow, **tables))).run()[1]
    assert untold.config.scheme.preset == told.config.scheme.preset
    assert untold.seconds == pytest.approx(told.seconds, rel=0.1)


def test_in_slow_spells_first_needs_longer_as_it_rarely_uses_the_shards_of_some_workers() -> None:
    def first_s(shards: str) -> float:
        config = resolved(
            "scheme.preset=first", f"problem.shards={shards}", link=link, stragglers=DELAYS["markov"]
        )
        return round_s(config, 24, 16)

    link = {"broadcast": "tree", "bandwidth": LINKS["100G"]}
    assert first_s("shuffled") > first_s("replicated")


def test_delays_of_days_are_compared() -> None:
    delays = {"kind": "shifted-exponential", "mean_s": 1e6}
    _, result = Simulation(prepare(resolved(stragglers=delays, stop={"updates": 20}))).run()
    assert result.updates == 20


def test_dead_workers_are_not_waited_for() -> None:
    dead = {"kind": "slow-set", "dead": [3]}
    _, result = Simulation(prepare(resolved(stragglers=dead, stop={"updates": 200}))).run()
    assert (result.updates, result.config.update.asynchronous) == (200, True)
    problem = {"kind": "least-squares", "data": "diabetes"}  # of even workers it would begin with a sum
    assert begun(resolved(problem=problem, stragglers=dead)) == "lwpd:small-regression"
    with pytest.raises(InputError, match="may wait for ever"):
        prepare(resolved(*AUTO, "update.mode=all", stragglers=dead))


@pytest.mark.every(3)
@pytest.mark.parametrize("update", [["update.mode=async"], ["update.mode=first", "update.count=6"]])
@pytest.mark.parametrize(
    "shuffle",
    [
        ["shuffle.kind=uncoded"],
        ["shuffle.kind=coded"],
        ["shuffle.kind=coded", "link.broadcast=chain", "link.segment=4096"],
        ["shuffle.kind=coded", "link.broadcast=multicast", "shuffle.cache=2"],
        ["shuffle.kind=exchange"],
    ],
)
def test_predicted_times_have_those_of_rows(shuffle: list[str], update: list[str]) -> None:
    tables = {"problem": JOB["problem"] | {"hidden": [16]}, "stragglers": DELAYS["exponential"]}
    own = ["scheme.name=topk", "workers.count=8", "link.bandwidth=1e6", "stop.updates=320"]
    config = resolved(*own, *update, **tables)
    plain_s, shuffled = round_s(config, 320), [*shuffle, "shuffle.every=16"]
    config = resolved(*own, *update, *shuffled, **tables)
    predicted_s = round_s(config, 320)
    _, result = Simulation(prepare(config)).run()
    measured_s = result.seconds / 320 * (8 if config.update.asynchronous else 1)
    assert predicted_s == pytest.approx(measured_s, rel=0.2)
    assert abs(predicted_s - measured_s) < abs(plain_s - measured_s)


@pytest.mark.parametrize("delays", ["none", "persistent"])
@pytest.mark.parametrize("bandwidth", [1e6, 1e7])
def test_predicted_times_of_means_of_the_first_payloads(bandwidth: float, delays: str) -> None:
    tables = {"problem": JOB["problem"] | {"hidden": [32]}, "stragglers": DELAYS[delays]}
    link = {"bandwidth": bandwidth, "broadcast": "tree"}
    config = resolved("scheme.preset=sharded-first", link=link, **tables)
    _, result = Simulation(prepare(config)).run()
    assert round_s(config, 30) == pytest.approx(result.seconds / 30, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "auto"),
    [
        ([], True),
        (AUTO, True),
        (["code.weight=2"], False),
        (["update.mode=all"], False),
        (["optimizer.rate=0.3"], False),
        (["scheme.preset=ring"], False),
        (["scheme.name=topk"], False),
    ],
)
def test_it_is_the_default_where_nothing_is_given(settings: list[str], auto: bool) -> None:
    config = resolved(*settings)
    assert config.scheme.is_auto == auto
    if auto:
        again = configfile.resolve(configfile.parse(to_toml(config)))
        assert again == config


def test_given_keys_win() -> None:
    config = resolved(*AUTO, "update.mode=all", "optimizer.momentum=0.5")
    components = prepare(config)
    assert set(components.choice.candidates) == {
        "ring", "sharded", "orthogonal-network", "local:four-steps", "local:eight-steps",
    }  # fmt: skip
    assert components.config.optimizer.momentum == 0.5
    assert "against the given keys: default, " in components.notes[0]
    commanded = configfile.resolve({**JOB, "update": {"mode": "all"}}, AUTO)  # in place of the file's tables
    assert len(prepare(commanded).choice.candidates) == 10


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["scheme={name='topk',preset='auto'}"], "has no preset 'auto'"),
        ([*AUTO, "optimizer.rate=fast"], "optimizer.rate"),
        ([*AUTO, "update.mode=all", "downlink.kind=exchange"], "is given, and preset 'default' has 'async'"),
        (["scheme.preset=atuo"], "did you mean 'auto'"),
        (
            ["scheme={name='rennala'}", "update={mode='first',late='waste',count='auto'}"],
            "update.count: 'auto'",
        ),
    ],
)
def test_what_cannot_work_is_refused(settings: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepare(resolved(*settings))


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("problem", "preset"),
    [
        ({"kind": "least-squares", "data": "synthetic"}, "small-regression"),
        ({"kind": "least-squares", "data": "synthetic", "features": 2000}, "small-regression"),
        (
            {"kind": "least-squares", "data": "synthetic", "features": 2000, "outputs": 300},
            "sharded-regression",
        ),
        ({"kind": "mlp", "data": "diabetes", "hidden": [32] * 3}, "whitened-regression"),
        ({"kind": "mlp", "data": "diabetes", "standardise_targets": False}, "deep-regression"),
        ({"kind": "poisson", "data": "diabetes"}, "deep-regression"),
        ({"kind": "logistic", "data": "breast-cancer", "standardise": False}, "small-regression"),
        ({"kind": "mlp", "data": "digits", "batch": 0}, "shards"),
    ],
)
def test_data_and_batches_decide_first(problem: dict[str, object], preset: str) -> None:
    assert begun(resolved(problem=problem)) == f"lwpd:{preset}"


PLUGIN = """
from pdcode.schemes import Scheme


class Mine(Scheme):
    name, summary = "mine", "a plug-in with candidates"
    presets = {"each": {"update": {"mode": "async"}}, "all": {"update": {"mode": "all"}}}
    candidates = {"each": 20.0, "all": 20.0}
"""
NO_BATCHES = """
    @classmethod
    def suits(cls, preset, problem):
        return problem.table.batch > 0
"""


def test_a_scheme_of_a_plug_in_decides_which_of_its_candidates_suit(tmp_path) -> None:
    for number, (more, batch) in enumerate([("", 0), (NO_BATCHES, 32), (NO_BATCHES, 0)]):
        plugin = tmp_path / f"mine{number}.py"
        plugin.write_text(PLUGIN.replace("mine", f"mine{number}") + more)
        tables = {"scheme": {"name": f"mine{number}", "preset": "auto"}, "code": {"family": "uncoded"}}
        problem = {"kind": "softmax", "data": "digits", "batch": batch}
        config = resolved(plugins=[str(plugin)], problem=problem, **tables)
        if more and not batch:
            with pytest.raises(InputError, match="no candidate of 'auto' suits"):
                prepare(config)
        else:
            assert set(prepare(config).choice.candidates) == {"each", "all"}


def test_a_linear_classifier_has_another_candidate() -> None:
    problem = {"kind": "softmax", "data": "digits", "batch": 512}
    machine = {"flops_per_s": 2e6 / TASK_S, "task_s": 0.0}
    for delays, orthogonal in (("none", True), ("persistent", False)):
        config = resolved(problem=problem, machine=machine, stragglers=DELAYS[delays], stop={"seconds": 0.2})
        _, result = Simulation(prepare(config)).run()
        assert (result.config.scheme.preset == "orthogonal") == orthogonal
        assert "small-regression" not in prepare(config).choice.candidates
    few = resolved("scheme.preset=orthogonal", "problem.batch=32", problem=problem, workers={"count": 4})
    assert prepare(few).config.optimizer.rate == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("problem", "workers", "best", "more"),
    [
        ({}, 16, "ring", 1.0),
        ({}, 64, "ring", 64**0.25 / 2),  # a mean of more payloads is better
        ({}, 8, "ring", 8**0.25 / 2),
        ({"kind": "softmax"}, 16, "orthogonal", 1.0),
    ],
)
def test_updates_that_are_needed_follow_means_and_whitening(problem, workers, best, more, monkeypatch):
    monkeypatch.setattr(Timing, "repeated_s", lambda *_: 1.0)
    monkeypatch.setattr("pdcode.choice.preset.HELD", -math.inf)
    tables = {
        "problem": {"data": "digits", "kind": "mlp", "batch": 16} | problem,
        "workers": {"count": workers},
    }
    slow = {"flops_per_s": 1e6, "task_s": 0.0, "arrival_s": 0.0, "dispatch_s": 0.0}
    note = prepare(resolved(**tables, machine=slow)).notes[0]
    assert note.startswith("preset 'default'")
    default = LWPD.candidates["default"] / LWPD.candidates[best] * more
    assert f"{best} {ratio(1 / default)}" in note


def test_measured_speeds_decide_again_and_workers_adopt_the_choice() -> None:
    config = resolved()
    components = prepare(config)
    tasks_s = np.full(16, 0.01)
    slow = components.with_speeds(Speeds(4e4, 4e4, tasks_s))
    assert slow.config.scheme.preset == "eight-steps"
    assert "(by measured speeds)" in slow.notes[0]
    fast = slow.with_speeds(Speeds(1e12, 1e12, tasks_s))
    assert fast.config.scheme.preset == "first"
    samples_s = np.array([np.roll([0.01, 0.01, 0.01, 0.1], worker) for worker in range(16)])
    varying = fast.with_speeds(Speeds(1e12, 1e12, samples_s.mean(axis=1), samples_s))
    for components, least in ((fast, True), (varying, False)):
        found = components.choice
        times_s = {name: found.time_s(name, each.timing.tasks_s) for name, each in found.candidates.items()}
        assert (times_s["ring"] < times_s["default"]) == least
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(slow.facts))
    assert with_resolved(config, facts["resolved"]) == slow.config


def test_a_trace_has_the_choice_and_each_key_its_origin(tmp_path, capsys) -> None:
    job, trace = tmp_path / "job.toml", tmp_path / "t.h5"
    job.write_text(to_toml(JOB))
    words = [str(job), "-o", str(trace), "--set", "trace.checkpoint_s=0.05", "-n", "4"]
    assert main(["simulate", *words]) == 0
    assert "scheme.preset 'auto'" in capsys.readouterr().out
    scheme = Trace(trace).config["scheme"]
    assert scheme["preset"] != "auto"
    assert scheme["given"] is None
    assert main(["replay", str(trace)]) == 0
    assert main(["run", str(job), "--dry-run", "-n", "4"]) == 0
    found = origins.of(capsys.readouterr().out)
    assert found["scheme.preset"] == "auto, by predicted times"
    assert found["optimizer.rate"].startswith("preset ")
    assert found["problem.hidden"] == "file"


@pytest.mark.parametrize(
    ("hidden", "workers", "rate"),
    [([64], 16, 0.7), ([64, 64], 8, 0.7), ([64] * 4, 16, 0.42), ([64] * 6, 16, 0.301), ([64], 4, 0.35)],
)
def test_rates_of_presets_shrink_with_matrices_and_few_workers(
    hidden: list[int], workers: int, rate: float
) -> None:
    tables = {"problem": {"kind": "mlp", "data": "digits", "hidden": hidden}, "workers": {"count": workers}}
    assert resolved("scheme.preset=first", **tables).optimizer.rate == rate
    assert resolved("scheme.preset=first", "optimizer.rate=0.7", **tables).optimizer.rate == 0.7


@pytest.mark.parametrize("preset", ["ring", "sharded"])
@pytest.mark.parametrize(
    ("hidden", "workers", "batch"), [([64], 16, 32), ([64] * 6, 16, 32), ([64], 4, 32), ([64], 16, 256)]
)
def test_presets_that_wait_for_all_have_one_rate_and_bound(
    preset: str, hidden: list[int], workers: int, batch: int
) -> None:
    tables = {
        "problem": {"kind": "mlp", "data": "digits", "hidden": hidden, "batch": batch},
        "workers": {"count": workers},
    }
    optimizer = resolved(f"scheme.preset={preset}", **tables).optimizer
    assert (optimizer.kind, optimizer.rate, optimizer.longest) == ("schedule-free", 5.0, 0.4)
    asked = resolved(f"scheme.preset={preset}", "optimizer.rate=auto", **tables)
    assert prepare(asked).config.optimizer == optimizer


@pytest.mark.parametrize(
    "settings", [["momentum=0.5", "nesterov=true"], ["proximal={kind='l1', weight=0.1}"], ["kind=sgd"]]
)
def test_a_presets_optimizer_gives_way_to_keys_of_gradient_descent(settings: list[str]) -> None:
    optimizer = resolved("scheme.preset=ring", *[f"optimizer.{each}" for each in settings]).optimizer
    assert (optimizer.kind, optimizer.rate) == ("sgd", "auto")  # the preset's rate is of other steps
    assert optimizer.average == (optimizer.proximal is None)


def test_a_presets_optimizer_does_not_give_way_to_other_keys() -> None:
    with refused("optimizer.beta1: kind 'schedule-free' has no such key"):
        resolved("scheme.preset=ring", "optimizer.beta1=0.5")
    penalty = "optimizer.proximal={kind='l1', weight=0.1}"
    assert "orthogonal-network" not in prepare(resolved(*AUTO, penalty)).choice.candidates
    with refused("optimizer.momentum: kind 'adam' has no such key"):
        resolved("scheme.preset=deep-regression", "optimizer.momentum=0.5")


@pytest.mark.parametrize("preset", ["sharded-first", "first"])
def test_presets_of_rounds_have_more_momentum_with_larger_batches(preset: str) -> None:
    def optimizer(batch: int, *settings: str) -> Any:
        tables = {"problem": {"kind": "mlp", "batch": batch}, "workers": {"count": 16}}
        return resolved(f"scheme.preset={preset}", *settings, **tables).optimizer

    usual = optimizer(32)
    assert usual == optimizer(8)
    for batch, still in ((64, 0.5**0.5), (128, 0.5), (512, 0.5)):  # of 1 - β
        large = optimizer(batch)
        assert 1 - large.momentum == pytest.approx((1 - usual.momentum) * still, rel=0.01)
        assert large.rate == pytest.approx(usual.rate * still**0.5, rel=0.01)
        assert optimizer(batch, "optimizer.rate=auto").momentum == large.momentum
    for unchanged in ("workers.count=7", "code.whiten=none"):
        assert optimizer(128, unchanged) == optimizer(32, unchanged)
    assert optimizer(128, "optimizer.rate=0.4").momentum == usual.momentum
    assert optimizer(128, f"optimizer.momentum={usual.momentum}") == usual


def test_a_count_leaves_out_slow_workers() -> None:
    equal = np.full((16, 8), 1e6)
    assert best_count(equal) == 16
    slow = equal.copy()
    slow[3] = 1e7
    assert best_count(slow) == 15
    slow[5, :2] = 1e7  # it has turned slow only now
    assert best_count(slow) == 14
    few = equal[:4].copy()
    few[:2] = 1.6e6
    assert (best_count(few), best_count(few, full_step=8)) == (2, 4)  # as steps of 2 are shorter
    random = np.random.default_rng(0)
    assert 5 <= best_count(1e6 * (1 + random.exponential(size=(16, 8)))) <= 13
    assert best_count(np.empty((0, 8))) == 1


@pytest.mark.system
def test_the_count_follows_a_worker_that_turns_slow_and_recovers(tmp_path) -> None:
    delays = np.zeros((6, 400))
    delays[2, 30:60] = 0.1
    np.savetxt(tmp_path / "delays.csv", delays, delimiter=",")
    job, trace = tmp_path / "job.toml", tmp_path / "t.h5"
    stragglers = {"kind": "trace", "path": "delays.csv", "draw": "replay"}
    stop = {"updates": 500}
    job.write_text(to_toml(JOB | {"stragglers": stragglers, "scheme": {"preset": "first"}, "stop": stop}))
    assert main(["simulate", str(job), "-o", str(trace), "-n", "6"]) == 0
    used = Trace(trace).updates["n_used"]
    assert (used[10:28] == 6).all()
    assert (used[60:200] == 5).mean() > 0.9
    assert (used[-50:] == 6).all()
    assert main(["replay", str(trace)]) == 0
