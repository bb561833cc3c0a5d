"""Multiplexed sequential gradient coding: the straggler model, what it tolerates, and whole descents."""

from collections import Counter

import numpy as np
import pytest
from descents import MS, Descent
from hypothesis import assume, given
from hypothesis import strategies as st
from outcomes import refused
from patterns import JOB, resolve

from pdcode.problems import load_source
from pdcode.rivals.sequential.multiplexed_state import BurstModel, MiniTasks
from pdcode.session.setup import prepare
from pdcode.trace.schema import USED, WASTED
from pdcode.virtual.simulation import simulate

Pattern = list[frozenset[int]]
RUN = ["scheme.name=sgc", "code.blocks=1", "problem.batch=0", "problem.dtype=float64", "optimizer.rate=0.1"]


def options(most: int, burst: int, window: int, margin: float = 1.0) -> list[str]:
    given = {"stragglers": most, "burst": burst, "window": window, "margin": margin}
    return [f"scheme.options.{key}={value}" for key, value in given.items()]


def patterns(workers: int) -> st.SearchStrategy[Pattern]:
    return st.lists(st.frozensets(st.integers(0, workers - 1), max_size=3), max_size=14)


def conforms(pattern: Pattern, burst: int, window: int, most: int) -> bool:
    """The model as the paper defines it, on every window of a whole pattern."""
    for start in range(max(1, len(pattern) - window + 1)):
        seen: dict[int, list[int]] = {}
        for number, late in enumerate(pattern[start : start + window]):
            for worker in late:
                seen.setdefault(worker, []).append(number)
        if len(seen) > most or any(rounds[-1] - rounds[0] >= burst for rounds in seen.values()):
            return False
    return True


@given(patterns(4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_the_model_allows_what_conforms_and_nothing_else(pattern, burst, more, most):
    window = burst + more
    model, allowed = BurstModel(burst, window, most), True
    for late in pattern:
        allowed = allowed and model.allows(late)
        model.add(late)
    assert allowed == conforms(pattern, burst, window, most)


@given(patterns(5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_every_job_is_complete_in_time_if_the_stragglers_conform(pattern, burst, more, most):
    """The paper's theorem: all own chunks, and each code's results of all workers but λ. A straggler's task
    may also be one that it was never sent."""
    n, own = 5, burst + more - 1
    model, kept = BurstModel(burst, own + 1, most), []
    for late in pattern:  # what does not conform is waited for
        kept.append(late if model.allows(late) else frozenset[int]())
        model.add(kept[-1])
    assume(any(kept))
    tasks, found = [MiniTasks(own, burst) for _ in range(n)], Counter[tuple[int, int]]()
    delay = own + burst - 1
    for number in range(len(kept) + delay):
        late = kept[number] if number < len(kept) else frozenset[int]()
        for worker in range(n):
            if worker in late:
                continue
            given = tasks[worker].of(number)
            assert [job for job, _ in given] == [number - slot for slot in range(len(given))]
            tasks[worker].done(given)
            found.update(given)
        if (job := number - delay) >= 0:
            assert [found[job, chunk] for chunk in range(own)] == own * [n]
            codes = [found[job, own + code] for code in range(burst)]
            assert most == n or min(codes) >= n - most


def delayed(made: Descent, delay: int) -> list[np.ndarray]:
    """Gradient descent on all rows, by the gradients of some updates ago."""
    config, problem = made.config, made.components.problem
    rows = np.arange(load_source(config.problem).rows)
    thetas, gradients = [problem.initial(config.seed)], []
    for update in range(made.config.stop.updates or 0):
        gradients.append(problem.gradient(thetas[-1], rows))
        step = config.optimizer.rate * gradients[update - delay] if update >= delay else 0.0
        thetas.append(thetas[-1] - step)
    return thetas


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("n", "most", "burst", "window"),
    [(4, 1, 1, 2), (4, 2, 1, 2), (6, 2, 2, 3), (5, 1, 1, 4), (4, 4, 2, 3), (3, 0, 1, 2), (6, 5, 1, 2)],
)
@pytest.mark.parametrize("l2", [0, 0.01])
def test_gradients_are_exact_whoever_is_late(n: int, most: int, burst: int, window: int, l2: float) -> None:
    random = np.random.default_rng(n)
    times = np.where(random.random((n, 400)) < 0.25, 9, 1) * random.uniform(1, 1.3, (n, 400))
    job = [*RUN, *options(most, burst, window, 0.5), f"workers.count={n}", f"problem.l2={l2}"]
    made = Descent([*job, "stop.updates=40"], lambda worker, task: round(MS * times[worker, task]))
    made.run()
    for ours, wanted in zip(made.thetas, delayed(made, window - 2 + burst), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-9)
    late = [row for row in made.trace.arrivals if row["status"] == WASTED]
    assert len(late) > 5 if most else not late
    whole = [row["captured"] for row in made.trace.updates[window - 2 + burst :]]
    np.testing.assert_allclose(whole, 1)


def test_mini_batches_are_those_of_their_job() -> None:
    """Workers that share a shard, and a repeat, draw the same rows: the descent does not depend on delays."""
    job = [*JOB, "problem.batch=4", *options(2, 1, 3), "workers.count=5", "optimizer.rate=0.05"]
    late = ["stragglers.kind=pareto", "stragglers.shift_s=0.003", "stragglers.shape=1.2"]
    quick, slow = (simulate(resolve("sgc", *job, *more)) for more in ([], late))
    assert slow.wasted > 0
    np.testing.assert_allclose(slow.theta, quick.theta, rtol=1e-9, atol=1e-9)


def test_a_round_ends_a_margin_after_its_fastest_worker() -> None:
    """And later where the stragglers do not conform: with B = 1 nobody may be late in two of two rounds."""
    job = [*RUN, *options(1, 1, 2, 0.5), "workers.count=3", "stop.updates=4"]
    durations = {(2, 0): 3.25, (2, 1): 5.0}
    made = Descent(job, lambda worker, task: round(MS * durations.get((worker, task), 1 + 0.25 * worker)))
    made.run()
    # Worker 2 is late in round 0, comes at 3.25, and in round 1 rank 0 waits for it to come again, at 8.25.
    assert [row["t_ns"] / MS for row in made.trace.updates] == [1.5, 8.25, 9.75, 11.25]
    assert [row["n_used"] for row in made.trace.updates] == [2, 3, 3, 3]


def test_who_has_missed_a_round_is_sent_its_theta_and_no_older_one_than_needed() -> None:
    job = [*RUN, *options(1, 2, 3, 1.0), "workers.count=3", "stop.updates=30"]
    made = Descent(job, lambda worker, task: round(MS * (6.5 if worker == 1 and task % 2 else 1)))
    made.run()
    theta = made.state.theta.nbytes
    assert {row["bytes_up"] for row in made.trace.arrivals} == {64 + 4 * -(-theta // 64) * 64}
    versions: dict[int, int] = {}
    for row in sorted(made.trace.arrivals, key=lambda row: (row["worker"], row["task"])):
        news = row["version"] - versions.get(row["worker"], -1)
        assert row["bytes_down"] == 64 + min(4, news) * theta
        versions[row["worker"]] = row["version"]
    assert {row["bytes_down"] for row in made.trace.arrivals} > {64 + theta}


@pytest.mark.parametrize(("n", "most", "burst", "window"), [(8, 2, 1, 2), (8, 3, 2, 4), (6, 6, 1, 3)])
def test_the_load_is_that_of_the_paper(n: int, most: int, burst: int, window: int) -> None:
    """Of all data; with λ = n without the repeats, which are made only if something is lost."""
    jobs = window - 1 + burst
    load = (most + 1) * jobs / (n * (burst + (window - 1) * (most + 1))) if most < n else 1 / n
    data = ["problem.batch=0", "problem.data=synthetic", "problem.samples=30000", "stop.updates=1"]
    ours = prepare(resolve("sgc", *data, *options(most, burst, window), f"workers.count={n}")).flops()
    whole = prepare(resolve("uncoded", *data, "workers.count=1")).flops()
    assert ours / whole == pytest.approx(load, rel=0.03)


def test_a_payload_that_is_not_finite_ends_no_run() -> None:
    job = [*RUN, *options(1, 1, 2), "workers.count=4", 'faults.events=[{kind="nan", worker=1, task=3}]']
    made = Descent([*job, "stop.updates=12"], [1, 1, 1, 1])
    made.run()
    assert len(made.trace.updates) == 12
    assert np.isfinite(made.state.theta).all()
    assert made.trace.updates[-1]["captured"] < 1
    assert {row["status"] for row in made.trace.arrivals if row["worker"] != 1} <= {USED, 2}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (options(5, 1, 2), ["scheme.options.stragglers: 5", "4 workers"]),
        (options(1, 2, 2), ["scheme.options.burst: 2", "2 rounds"]),
        (options(1, 0, 2), ["scheme.options.burst", "(got 0)"]),
        (options(1, 1, 2, -1), ["scheme.options.margin", "-1"]),
        (options(3, 1, 99), ["workers.count: 4", "1572 shards", "1438 training rows"]),
        (["update.mode=first"], ["update.mode: 'first' has no effect with scheme 'sgc'"]),
        (["wire.dtype=float16"], ["wire.dtype: 'float16'"]),
        (["downlink.kind=codewords"], ["downlink.kind: 'codewords'"]),
        (["stragglers={kind='slow-set',dead=[1]}"], ["stop.seconds", "dead: 1"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        prepare(resolve("sgc", "workers.count=4", "stop.updates=3", *overrides))
