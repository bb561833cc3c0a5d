"""SAG and DSAG: the recursion of the papers, what is waited for, and the optimum with fixed shards."""

from collections import Counter

import numpy as np
import pytest
from descents import Descent
from outcomes import refused

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.problems import Problem, load_source
from pdcode.problems.split import shard
from pdcode.session.setup import prepare
from pdcode.trace.schema import REFUSED, USED, WASTED
from pdcode.util import memory
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import simulate

BOTH = ["sag", "dsag"]
WHOLE = ["problem.batch=0", "problem.dtype=float64", "code.blocks=1"]
SQUARES = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.features=6", "problem.samples=123",
    "problem.shards=contiguous", "problem.test_fraction=0", "problem.noise=1.0",
]  # fmt: skip


def resolve(scheme: str, *overrides: str) -> Config:
    return configfile.resolve({}, [f"scheme.name={scheme}", "workers.count=4", *WHOLE, *overrides])


@pytest.mark.parametrize("scheme", BOTH)
@pytest.mark.parametrize("l2", [0, 0.01])
def test_one_part_and_all_workers_are_gradient_descent(scheme: str, l2: float) -> None:
    job = ["update.mode=all", "stop.updates=20", "optimizer.rate=0.3", f"problem.l2={l2}"]
    full, ours = simulate(resolve("uncoded", *job)), simulate(resolve(scheme, *job))
    np.testing.assert_allclose(ours.theta, full.theta, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scheme", BOTH)
@pytest.mark.parametrize(
    ("parts", "overrides"),
    [
        (3, []),
        (7, [*SQUARES, "optimizer.rate=0.02", "problem.l2=0.1"]),
        (4, [*SQUARES, "problem.density=0.4", "optimizer.rate=0.02", "problem.shards=shuffled"]),
    ],
)
def test_the_descent_is_that_of_the_papers(scheme: str, parts: int, overrides: list[str]) -> None:
    """Parts of unequal size in turn, and the mean over those known, weighted by their rows."""
    updates, job = 2 * parts + 1, [*overrides, "update.mode=all", f"scheme.options.parts={parts}"]
    config = resolve(scheme, *job, f"stop.updates={updates}")
    source = load_source(config.problem)
    data = source._whole
    assert data is not None
    problem = Problem.from_dataset(config.problem, data, 1)
    theta, table = problem.initial(config.seed), {}
    order = np.arange(data.rows)
    how = "shuffled" if config.problem.shards == "auto" else config.problem.shards
    for update in range(updates):
        for worker in range(4):
            rows = order[shard(data.rows, worker, 4, how)]
            part = rows[shard(len(rows), update % parts, parts, "contiguous")]
            table[worker, update % parts] = len(part) * problem.gradient(theta, part)
        scale = 4 * parts / len(table) / data.rows
        theta = theta - config.optimizer.rate * scale * sum(table.values())
    np.testing.assert_allclose(simulate(config).theta, theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scheme", BOTH)
def test_tasks_take_the_parts_in_turn(scheme: str) -> None:
    made = Descent(
        ["workers.count=3", f"scheme.name={scheme}", "scheme.options.parts=4", "stop.updates=30", *WHOLE],
        [1, 1.3, 5],
    )
    made.run()
    payload = -(-made.state.theta.nbytes // 64) * 64  # ends at a boundary
    assert {row["bytes_up"] for row in made.trace.arrivals} == {64 + payload}
    for row in made.trace.arrivals:
        assert row["code_row"] == 4 * row["worker"] + row["task"] % 4
    known = len({row["code_row"] for row in made.trace.arrivals if row["status"] == USED})
    assert made.trace.updates[-1]["captured"] == known / 12


@pytest.mark.parametrize("scheme", BOTH)
def test_an_update_waits_for_gradients_at_the_newest_theta(scheme: str) -> None:
    """As many as `update.count` says; DSAG uses others besides, without counting them."""
    job = [f"scheme.name={scheme}", "update.count=3", "stop.updates=40", *WHOLE]
    made = Descent(["workers.count=5", *job], [1, 1.7, 2.2, 3.9, 9.5])
    made.run()
    fresh, late = Counter[int](), Counter[int]()
    for row in made.trace.arrivals:
        if row["status"] == USED:
            (late if row["staleness"] else fresh)[row["applied_version"]] += 1
        assert row["status"] != WASTED or scheme == "sag"
    assert [fresh[version] for version in range(40)] == 40 * [3]
    assert late.total() > 10 if scheme == "dsag" else not late
    heard = {row["worker"] for row in made.trace.arrivals if row["status"] == USED}
    assert heard == set(range(5 if scheme == "dsag" else 3))


def test_other_policies_are_those_of_all_schemes() -> None:
    job = ["scheme.name=dsag", "update.mode=captured", "update.fraction=0.6", "stop.updates=40", *WHOLE]
    made = Descent(["workers.count=5", *job], [1, 1.7, 2.2, 3.9, 9.5])
    made.run()
    used = [row["n_used"] for row in made.trace.updates]
    assert used == [3] + 39 * [1]  # three of five parts are known with the third payload, and then always


@pytest.mark.parametrize("parts", [1, 5])
def test_fixed_shards_and_a_slow_worker_do_not_keep_it_from_the_optimum(parts: int) -> None:
    """Linear convergence on strongly convex least squares, also with a worker that is always late; who drops
    what is late stays where the others' data lead."""

    def error(scheme: str, updates: int, *overrides: str) -> float:
        job = [f"scheme.name={scheme}", *WHOLE, *SQUARES, "update.mode=first", "update.count=3", *overrides]
        sets = ["workers.count=4", *job, f"stop.updates={updates}", "optimizer.rate=0.4"]
        made = Descent(sets, [1, 1.2, 1.4, 7])
        made.run()
        optimum = made.components.problem.optimum
        return float(np.linalg.norm(made.state.theta - optimum) / np.linalg.norm(optimum))

    cut = f"scheme.options.parts={parts}"
    errors = [error("dsag", updates, cut) for updates in (200, 400, 800)]
    assert errors[0] < 0.1
    assert errors[1] < min(1e-5, 0.01 * errors[0])
    assert errors[2] < 1e-11
    assert error("sag", 400, cut) > 0.01
    assert error("uncoded", 400, "update.late=waste") > 0.01


def test_delays_that_change_leave_sag_its_optimum() -> None:
    """Every worker is in time now and then."""
    late = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01", "update.count=3"]
    job = [*SQUARES, *late, "scheme.options.parts=3", "optimizer.rate=0.4", "stop.updates=800"]
    for scheme in BOTH:
        config = resolve(scheme, *job)
        done, optimum = simulate(config), prepare(config).problem.optimum
        assert optimum is not None
        assert (done.wasted > 100) == (scheme == "sag")
        np.testing.assert_allclose(done.theta, optimum, rtol=0, atol=1e-10)


def test_mini_batches_of_parts_learn() -> None:
    job = ["problem.batch=16", "scheme.options.parts=3", "optimizer.rate=0.3", "stop.updates=150"]
    for scheme in BOTH:
        done = simulate(resolve(scheme, *job, "problem.dtype=float32", "wire.dtype=int8"))
        assert done.loss < 0.5


def test_a_payload_that_is_not_finite_leaves_the_table_alone() -> None:
    job = ["scheme.name=dsag", 'faults.events=[{kind="nan", worker=1, task=3}]', "stop.updates=25", *WHOLE]
    made = Descent(["workers.count=4", *job], [1, 1, 1, 1])
    made.run()
    assert sum(row["status"] == REFUSED for row in made.trace.arrivals) > 3
    assert made.trace.updates[-1]["captured"] == 1
    assert np.isfinite(made.state.theta).all()


def test_a_part_costs_its_share() -> None:
    def flops(*overrides: str) -> float:
        return prepare(resolve("sag", *overrides, "problem.hidden=[64]", "stop.updates=1")).flops()

    whole = flops()
    assert flops("scheme.options.parts=10") == pytest.approx(whole / 10, rel=0.2)  # sums over θ remain
    batch = flops("problem.batch=16")
    assert flops("problem.batch=16", "scheme.options.parts=10") == batch
    assert batch == pytest.approx(
        prepare(resolve("uncoded", "problem.batch=16", "stop.updates=1", "problem.hidden=[64]")).flops(),
        rel=0.4,
    )


@pytest.mark.parametrize(
    ("scheme", "override", "words"),
    [
        ("sag", "update.late=use", ["update.late: 'use'", "needs 'waste'"]),
        ("dsag", "update.late=waste", ["update.late: 'waste'", "needs 'use'"]),
        ("sag", "scheme.options.parts=0", ["scheme.options.parts", "(got 0)"]),
        ("dsag", "scheme.options.parts=360", ["scheme.options.parts: 360", "359 rows of a shard"]),
        ("sag", "downlink.kind=codewords", ["downlink.kind: 'codewords'", "'sag'"]),
        ("sag", "code.blocks=4", ["code.blocks: 4 has no effect"]),
        ("dsag", "memory.kind=difference", ["memory.kind: 'difference' has no effect"]),
        ("sag", "decoder.kind=summing", ["decoder.kind: 'summing' has no effect"]),
    ],
)
def test_what_cannot_work_is_refused(scheme: str, override: str, words: list[str]) -> None:
    with refused(*words):
        prepare(resolve(scheme, "stop.updates=3", override))


def test_a_table_too_large_for_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("sag", "scheme.options.parts=300", "stop.updates=3")
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1 << 20)
    with pytest.raises(InputError, match=r"scheme\.options\.parts: 1200 gradients would need"):
        prepare(config)
