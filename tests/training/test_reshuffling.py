"""Rows that move among workers: each has the right ones in every epoch, in whatever way they came."""

from threading import Thread
from typing import Any

import numpy as np
import pytest
from descents import Descent
from interrupted import built, interrupted
from sklearn.datasets import load_digits

from pdcode import compare, simulate
from pdcode.config import Config
from pdcode.config.load import resolve
from pdcode.session import checkpoint
from pdcode.session.setup import prepare
from pdcode.shuffling.rows import Missing
from pdcode.shuffling.senders import Packing, Shard, deal, deal_of
from pdcode.training.worker import Worker
from pdcode.util.errors import InputError

KINDS = {
    "uncoded": ["shuffle.kind=uncoded"],
    "coded": ["shuffle.kind=coded"],
    "chain": ["shuffle.kind=coded", "link.broadcast=chain"],
    "multicast": ["shuffle.kind=coded", "link.broadcast=multicast"],
    "exchange": ["shuffle.kind=exchange"],
    "cached": ["shuffle.kind=coded", "shuffle.cache=3"],
    "cached multicast": ["shuffle.kind=coded", "shuffle.cache=2", "link.broadcast=multicast"],
}
EVERY = ["shuffle.every=6", "workers.count=5", "stop.updates=80"]
TIMES_MS = [1, 1.2, 1.5, 2, 11]  # the last worker has no task in most epochs


def assert_has_its_rows(worker: Worker, config: Config, arrays: Any) -> None:
    """A worker's rows are those of its epoch."""
    shard = worker.recipient
    assert isinstance(shard, Shard)
    deal = deal_of(config, len(arrays[0]))
    rows = np.flatnonzero(deal.owners(shard.epoch) == worker.worker)
    mine = Packing(shard._packing.arrays).pack(slice(None))
    if config.shuffle.cache > 1:
        rows = rows[np.arange(len(mine)) % len(rows)]
    np.testing.assert_array_equal(mine, Packing(arrays).pack(rows))


@pytest.mark.every(2)
@pytest.mark.parametrize("scheme", ["lwpd", "topk"])
@pytest.mark.parametrize("shards", ["shuffled", "contiguous"])
def test_all_kinds_give_workers_the_same_rows_and_the_same_theta(shards: str, scheme: str) -> None:
    thetas = {}
    own = {"lwpd": ["downlink.kind=codewords"], "topk": ["code.blocks=1", "memory.kind=worker"]}[scheme]
    for name, kind in KINDS.items():
        run = Descent([*EVERY, *kind, f"problem.shards={shards}", f"scheme.name={scheme}", *own], TIMES_MS)
        assert run.run() == "enough"
        source = run.components.source
        assert source is not None
        epochs = [worker.recipient.epoch for worker in run.workers if isinstance(worker.recipient, Shard)]
        assert max(epochs) >= 12 > epochs[-1] > 0
        for worker in run.workers:
            assert_has_its_rows(worker, run.config, source.whole.train)
        thetas[name] = run.state.theta.tobytes()
    assert len({thetas[name] for name in KINDS if "cached" not in name}) == 1
    assert thetas["cached"] == thetas["cached multicast"]


@pytest.mark.parametrize("name", [name for name in KINDS if "cached" not in name])
def test_a_single_worker_keeps_its_rows(name: str) -> None:
    run = Descent(["shuffle.every=2", "workers.count=1", "stop.updates=7", *KINDS[name]], [1])
    assert run.run() == "enough"
    (worker,), source = run.workers, run.components.source
    assert source is not None
    assert isinstance(worker.recipient, Shard)
    assert worker.recipient.epoch == 3
    assert_has_its_rows(worker, run.config, source.whole.train)


@pytest.mark.parametrize("cache", [1, 2])
def test_a_second_thread_waits_while_an_epoch_is_looked_up(cache: int) -> None:
    """Its own look-ups would drop the epoch that the first thread has just found."""
    found = deal(7, 40, 4, "shuffled", cache)
    expected = found.owners(2).copy()

    class Interrupted(dict[int, Any]):
        def _look_up(self) -> None:
            if not started:
                started.append(Thread(target=lambda: [found.owners(epoch) for epoch in range(3, 12)]))
                started[0].start()
                started[0].join(0.2)

        def __contains__(self, epoch: object) -> bool:
            there = super().__contains__(epoch)
            self._look_up()
            return there

        def get(self, epoch: int, default: Any = None) -> Any:
            self._look_up()
            return super().get(epoch, default)

    started = list[Thread]()
    found._known = Interrupted(found._known)
    np.testing.assert_array_equal(found.owners(2), expected)
    assert started
    started[0].join()


@pytest.mark.parametrize("kind", ["chain", "exchange"])
def test_a_worker_gets_what_it_waits_for_however_late_a_death_is_known(kind: str) -> None:
    own = ["problem.data=digits", "workers.count=4", "shuffle.every=1", "stop.updates=9"]
    config = resolve({}, [*own, *KINDS[kind]])
    sender = config.shuffle.companion(config, prepare(config).source)
    for version in (0, 1):
        for worker in range(4):
            sender.freight(worker, version)
    for version in range(2, 9):  # workers 0 and 3 do not reply
        for worker in (1, 2):
            sender.freight(worker, version)

    def told(missing: Missing) -> set[tuple[int, int]]:
        broadcasts = {(each.epoch, worker) for each in missing.broadcasts for worker in each.members}
        return broadcasts | {(epoch, worker) for worker, epoch, _, _ in missing.rows}

    sender.lost(0)
    assert told(sender.missing(0)) == told(sender.awaited(3)) == {(1, 3), (2, 3)}
    sender.freight(3, 8)
    assert told(sender.missing(0)) == {(2, 3)}
    sender.freight(3, 8)
    sender.freight(1, 9)
    assert [each.epoch for each in sender._recent] == [8, 9]


def test_bytes_are_those_of_the_plan() -> None:
    """Of five workers that are all in every epoch."""
    moved = {}
    for name, kind in [("none", []), *KINDS.items()]:
        every = ["shuffle.every=6"] if kind else []
        overrides = ["workers.count=5", "stop.updates=13", "update.mode=all", *every, *kind]
        run = Descent(overrides, [1] * 5)
        run.run()
        moved[name] = run.fleet.bytes_down
        config, source = run.config, run.components.source
    assert source is not None
    deal = deal_of(resolve({}, ["workers.count=5", "shuffle.kind=coded"]), source.rows)
    plans = [deal.plan(0, 1), deal.plan(1, 2)]
    size, heads = Packing(source.whole.train).bytes, 2 * 5 * 32
    rows = {name: moved[name] - moved["none"] - heads for name in KINDS}
    assert rows["uncoded"] == size * sum(plan.uncoded for plan in plans)
    assert rows["chain"] == rows["multicast"] == size * sum(plan.load for plan in plans)
    assert rows["coded"] == size * sum(len(plan.needed(w)) for plan in plans for w in range(5))
    assert rows["exchange"] == 0
    assert rows["multicast"] < 0.6 * rows["uncoded"] < rows["coded"]
    assert config.workers.count == 5


JOB = ["problem.hidden=[8]", "code.blocks=[4, 1]", "code.weight=2", "workers.count=4", "stop.updates=40"]


@pytest.mark.parametrize("kind", ["chain", "exchange", "cached"])
def test_a_resumed_run_equals_an_uninterrupted_one(kind: str, tmp_path: Any) -> None:
    path = tmp_path / "t.h5"
    config = resolve({}, [*JOB, "shuffle.every=4", *KINDS[kind], f"trace.path={path}"])
    whole = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    resumed.coordinator.resumed = True
    resumed.coordinator.run(resumed.monitor)
    assert (resumed.components.state.theta == whole.components.state.theta).all()
    assert resumed.fleet.bytes_down == whole.fleet.bytes_down
    for worker in resumed.fleet.executor.local_workers:
        assert_has_its_rows(worker, resumed.components.config, resumed.components.source.whole.train)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["problem.shards=replicated"], "problem.shards: 'replicated' does not go with shuffle.kind 'coded'"),
        (["scheme.name=cyclic", "code.blocks=1"], "scheme.name: 'cyclic' does not go with .* a shard each"),
        (["scheme.name=allreduce"], "reduce.kind: 'allreduce' does not go with shuffle.kind 'coded'"),
        (["shuffle.cache=4"], "workers.count: 4 does not go with shuffle.cache 4"),
        (["shuffle.cache=9", "workers.count=30"], "shuffle.cache: 9 of 30 batches .* at most 20000"),
        (["problem.data=synthetic", "problem.density=0.1"], "shuffle.kind: 'coded' moves rows of one length"),
        (["workers.count=2000"], "shuffle.kind: 'coded' needs a row for each of 2000 workers"),
    ],
)
def test_what_cannot_move_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        built(resolve({}, ["workers.count=4", "stop.updates=1", "shuffle.kind=coded", *overrides]))


def test_reshuffling_replaces_the_rows_of_a_worker_that_is_always_late(tmp_path, monkeypatch):
    """Shards of few classes each, of which a slow worker's are not learnt."""
    monkeypatch.chdir(tmp_path)
    data = load_digits()
    order = np.argsort(data.target, kind="stable")
    config = {
        "problem": {"kind": "mlp", "hidden": [64], "shards": "contiguous"},
        "scheme": {"name": "uncoded"},
        "optimizer": {"rate": 0.3},
        "update": {"mode": "first", "count": 6, "late": "waste"},
        "workers": {"count": 8},
        "stragglers": {"kind": "slow-set", "shift_s": 0.01, "slow": [0], "slowdown": 10.0},
        "stop": {"seconds": 6.0},
    }
    rows = data.data[order] / 16, data.target[order]
    losses = [
        simulate({**config, "shuffle": shuffle}, data=rows, progress=False).progress["loss"][-1]
        for shuffle in ({}, {"kind": "coded", "every": 60})
    ]
    assert losses[1] < 0.1 * losses[0]


@pytest.mark.slow
def test_schemes_are_compared(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the one whose preset is chosen by predicted times."""
    monkeypatch.chdir(tmp_path)
    config = {
        "problem": {"data": "digits", "hidden": [8], "shards": "contiguous"},
        "workers": {"count": 4},
        "stop": {"updates": 12, "loss": 0.1},
        "shuffle": {"kind": "exchange", "every": 4},
    }
    names = ["lwpd", "powersgd", "streaming"]
    found = compare(config, names, seeds=1, processes=1, output="a.h5", progress=False)
    assert found.names == names
