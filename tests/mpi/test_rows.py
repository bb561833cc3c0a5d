"""Rows that move among workers over MPI: from rank 0, along a chain, and from worker to worker."""

import pytest
from launches import Run, monitored, monitoring, run_all
from outcomes import assert_replays

from pdcode import Trace
from pdcode.config.load import resolve
from pdcode.session.setup import prepare
from pdcode.shuffling.senders import Packing, deal_of

CODED, CHAIN = "shuffle.kind=coded", "link.broadcast=chain"
EVERY = ["shuffle.every=10", "update.mode=all"]
CASES = {
    "uncoded": [*EVERY, "shuffle.kind=uncoded"],
    "coded": [*EVERY, CODED, "downlink.kind=codewords"],
    "chain": [*EVERY, CODED, CHAIN, "link.segment=5000"],
    "exchange": [*EVERY, "shuffle.kind=exchange"],
    "cached": [*EVERY, CODED, CHAIN, "shuffle.cache=2"],
    # Epochs pass without the slow worker, whose rows others want.
    "slow": [
        "shuffle.kind=exchange", "shuffle.every=3", "update.mode=async", "stop.updates=600",
        "stragglers.kind=slow-set", "stragglers.shift_s=0.001", "stragglers.slow=[1]",
        "stragglers.slowdown=100",
    ],
    "slow in a chain": [
        CODED, CHAIN, "shuffle.every=20", "update.mode=async", "downlink.kind=exchange", "stop.updates=400",
        "stragglers.kind=slow-set", "stragglers.shift_s=0.001", "stragglers.slow=[1]",
        "stragglers.slowdown=100",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("rows"), 4, CASES)


@pytest.mark.parametrize("name", CASES)
def test_runs_are_replayed_to_the_last_bit(runs: dict[str, Run], name: str, capsys) -> None:
    run = runs[name]
    assert run.returncode == 0, run.stderr
    assert Trace(run.path).finished
    assert_replays(run.path, capsys)


def test_rank_0_sends_the_planned_bytes(runs: dict[str, Run]) -> None:
    config = resolve({}, ["problem.data=digits", "workers.count=4", "seed=3", "stop.updates=1", CODED])
    source = prepare(config).source
    assert source is not None
    plans = [deal_of(config, source.rows).plan(epoch, epoch + 1) for epoch in range(5)]
    size = Packing(source.whole.train).bytes
    sums = {name: Trace(runs[name].path).arrivals["bytes_down"].sum() for name in CASES}
    plain = sums["exchange"]  # with a head for each worker and epoch
    assert sums["uncoded"] - plain == size * sum(plan.uncoded for plan in plans)
    assert sums["chain"] - plain == size * sum(plan.load for plan in plans)


def test_the_slow_worker_gets_rows_from_rank_0(runs: dict[str, Run]) -> None:
    rows = Trace(runs["slow"].path).arrivals
    mine = rows["worker"] == 1
    assert mine.sum() >= 2
    assert rows["bytes_down"][mine].max() > 5 * rows["bytes_down"].min()


@pytest.mark.system
def test_a_chain_costs_rank_0_one_broadcast(run, tmp_path) -> None:
    """By the monitoring of Open MPI."""
    sent = {}
    for name, updates in (("few", 9), ("more", 39)):  # three shuffles apart
        own = "workers.count=4", f"stop.updates={updates}"
        done = run(*CASES["chain"], *own, **monitoring(tmp_path))
        assert done.returncode == 0, done.stderr
        sent[name] = sum(size for (source, _), size in monitored(tmp_path).items() if source == 0)
    config = resolve({}, ["problem.data=digits", "workers.count=4", "seed=3", "stop.updates=1", CODED])
    source = prepare(config).source
    assert source is not None
    size = Packing(source.whole.train).bytes
    load = size * sum(deal_of(config, source.rows).plan(epoch, epoch + 1).load for epoch in range(3))
    tasks = 30 * 4 * Trace(tmp_path / "trace.h5").arrivals["bytes_down"].min()
    assert load <= sent["more"] - sent["few"] - tasks <= 1.1 * load
