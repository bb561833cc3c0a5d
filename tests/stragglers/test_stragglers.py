"""Injected delays: their keys, their slow and dead workers, waiting, tables that are refused."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import delayed

import pdcode
from pdcode import stragglers
from pdcode.coding.policies import check_end
from pdcode.config import MAX_VALUE, StragglersTable
from pdcode.config import load as configfile
from pdcode.schemes import delay_model
from pdcode.stragglers import WorkerDelays
from pdcode.util.errors import InputError

WORKERS = 9
KINDS: dict[str, dict[str, Any]] = {
    "shifted-exponential": {"shift_s": 0.002, "mean_s": 0.003},
    "pareto": {"shift_s": 0.002, "shape": 1.5},
    "bimodal": {"shift_s": 0.001, "extra_s": 0.05, "probability": 0.2},
    "lognormal": {"shift_s": 0.001, "median_s": 0.004, "sigma": 0.8},
    "markov": {"shift_s": 0.001, "extra_s": 0.05, "enter": 0.02, "leave": 0.05},
    "slow-set": {"shift_s": 0.004},
    "heterogeneous": {"shift_s": 0.004, "slowdown": 3.0},
}
TABLES = [delayed(kind=kind, **keys) for kind, keys in KINDS.items()]
# spells that begin and end at once: then most draws change the state
TABLES.append(delayed(kind="markov", extra_s=0.05, enter=0.97, leave=0.95))
by_kind = pytest.mark.parametrize("table", TABLES, ids=[each.kind for each in TABLES])


def with_keys(table: StragglersTable, **keys: Any) -> StragglersTable:
    return StragglersTable.of(msgspec.to_builtins(table) | keys)


@by_kind
@given(st.data())
def test_delays_do_not_depend_on_the_size_of_draws(table: StragglersTable, data: st.DataObject) -> None:
    """Any blocking, any order, going on or not, many workers or one, as a vector or one by one."""
    seed, start = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.sampled_from([0, 1, 700]))
    everyone = np.arange(WORKERS)
    model = table.make(seed, WORKERS)
    expected = model.delays_s(everyone, np.full(WORKERS, start), 40)
    asked = table.make(seed, WORKERS)
    for _ in range(data.draw(st.integers(1, 6))):
        pairs = st.tuples(st.integers(0, WORKERS - 1), st.integers(0, 39))
        workers, tasks = np.array(data.draw(st.lists(pairs, min_size=1, max_size=8))).T
        count = data.draw(st.integers(0, int(40 - tasks.max())))
        given_now = asked.delays_s(workers, start + tasks, count)
        assert given_now.shape == (len(workers), count)
        for worker, task, row in zip(workers, tasks, given_now, strict=True):
            np.testing.assert_array_equal(row, expected[worker, task : task + count])
    worker = data.draw(st.integers(0, WORKERS - 1))
    one = WorkerDelays(table.make(seed, WORKERS), worker)
    order = data.draw(st.permutations(range(40)))
    many = stragglers.delays_ns(model, [worker], [start], 40, [1_000_000])[0]
    assert [one.delay_ns(start + task, 1_000_000) for task in order] == [many[task] for task in order]


@pytest.mark.parametrize("table", [each for each in TABLES if each.kind not in ("slow-set", "heterogeneous")])
def test_seeds_and_workers_have_delays_of_their_own(table: StragglersTable) -> None:
    first, other = (table.make(seed, 2).delays_s([0, 1], [0, 0], 100) for seed in (1, 2))
    assert (first[0] != first[1]).any()
    assert (first != other).any(axis=1).all()


@by_kind
def test_slow_workers_take_a_multiple_and_dead_ones_never_answer(table: StragglersTable) -> None:
    slow = {} if table.kind == "heterogeneous" else {"slow": [2, 3], "slowdown": 10.0}
    changed = with_keys(table, **slow, dead=[3, 5])
    everyone, first = np.arange(WORKERS), np.zeros(WORKERS, int)
    plain = table.make(1, WORKERS).delays_s(everyone, first, 30)
    model = changed.make(1, WORKERS)
    delays = model.delays_s(everyone, first, 30)
    factor = np.ones(WORKERS)
    factor[2:4] = 10.0 if slow else 1.0
    expected = plain * factor[:, None]
    expected[[3, 5]] = np.inf
    np.testing.assert_array_equal(delays, expected)
    in_ns = stragglers.delays_ns(model, everyone, first, 30, np.full(WORKERS, 1000))
    assert (in_ns[[3, 5]] == -1).all()
    assert (np.delete(in_ns, [3, 5], axis=0) >= 0).all()
    assert stragglers.dead_workers(changed, WORKERS) == [3, 5]
    assert WorkerDelays(changed.make(1, WORKERS), 5).delay_ns(0, 1000) == -1


def test_none_on_the_command_line_switches_all_of_it_off() -> None:
    tables = {"stragglers": {"kind": "slow-set", "slow": [0], "slowdown": 9.0, "dead": [1], "shift_s": 1.0}}
    table = configfile.resolve(tables, ["stragglers.kind=none"]).stragglers
    model = table.make(1, 2)
    assert not stragglers.delays_ns(model, [0, 1], [0, 0], 10, [1000, 1000]).any()
    assert stragglers.dead_workers(table, 2) == []
    assert WorkerDelays(table.make(1, 2), 0).delay_ns(3, 1000) == 0


def test_a_slow_set_delays_by_its_shift_or_stretches_the_compute_time() -> None:
    fixed = delayed(kind="slow-set", shift_s=0.004, slow=[1], slowdown=3.0)
    stretched = delayed(kind="slow-set", slow=[1], slowdown=3.0)
    for table, expected in (fixed, [4_000_000, 12_000_000]), (stretched, [0, 2_000_000]):
        assert [
            WorkerDelays(table.make(1, 2), worker).delay_ns(0, 1_000_000) for worker in range(2)
        ] == expected


def test_delays_last_longer_on_the_virtual_clock_only_if_there_are_any() -> None:
    """A sleep does so by itself; a task without a delay does not."""
    law = {"kind": "bimodal", "extra_s": 0.05, "probability": 0.3}
    tables = {"workers": {"count": 3}, "stop": {"updates": 1}, "stragglers": law}
    late, plain = (
        delay_model(configfile.resolve(tables | {"machine": {"oversleep_s": each}})) for each in (2e-4, 0.0)
    )
    workers = np.arange(3), np.zeros(3, int), 40, np.full(3, 1_000)
    usual = stragglers.delays_ns(plain, *workers)
    assert 0 < np.count_nonzero(usual) < usual.size
    np.testing.assert_array_equal(stragglers.delays_ns(late, *workers), usual + 200_000 * (usual > 0))
    for task in range(40):
        assert WorkerDelays(late, 1).delay_ns(task, 1_000) == usual[1, task]


def test_a_trace_of_the_virtual_clock_has_the_delays_of_the_law(tmp_path: Path) -> None:
    job = {
        "problem": {"data": "digits", "hidden": [8]}, "workers": {"count": 3}, "stop": {"updates": 20},
        "stragglers": {"kind": "bimodal", "extra_s": 0.05, "probability": 0.3},
        "scheme": {"name": "uncoded", "preset": "all"},
    }  # fmt: skip
    late, plain = (
        pdcode.simulate(
            job | {"machine": {"oversleep_s": each}}, output=tmp_path / "a.h5", progress=False
        ).arrivals
        for each in (2e-4, 0.0)
    )
    order = [np.lexsort((rows["task"], rows["worker"])) for rows in (late, plain)]
    late, plain = (
        {key: rows[key][at] for key in rows} for rows, at in zip((late, plain), order, strict=True)
    )
    slept = plain["injected_delay_ns"] > 0
    assert slept.any()
    np.testing.assert_array_equal(late["injected_delay_ns"], plain["injected_delay_ns"])
    took = [rows["t_send_ns"] - rows["t_compute_ns"] for rows in (late, plain)]
    np.testing.assert_array_equal(took[0] - took[1], 200_000 * slept)


def test_a_heterogeneous_fleet_is_slower_worker_by_worker() -> None:
    fixed = delayed(kind="heterogeneous", shift_s=0.004, slowdown=3.0)
    stretched = delayed(kind="heterogeneous", slowdown=3.0)
    for table, expected in (fixed, [4, 6, 8, 10, 12]), (stretched, [0, 0.5, 1, 1.5, 2]):
        model = table.make(1, 5)
        delays = stragglers.delays_ns(model, np.arange(5), np.zeros(5, int), 2, np.full(5, 1_000_000))
        np.testing.assert_array_equal(delays, np.array(expected)[:, None].repeat(2, 1) * 1e6)
    assert WorkerDelays(fixed.make(1, 1), 0).delay_ns(0, 0) == 4_000_000


def test_no_delay_is_longer_than_a_clock_holds() -> None:
    table = delayed(kind="pareto", shift_s=1.0, shape=0.01, slow=[0], slowdown=1e9)
    model = table.make(1, 1)
    with np.errstate(all="raise"):
        assert model.delays_s([0], [0], 100).max() == MAX_VALUE
    assert stragglers.delays_ns(model, [0], [0], 100, [0]).max() == 10**18
    one = WorkerDelays(table.make(1, 1), 0)
    assert max(one.delay_ns(task, 0) for task in range(100)) == 10**18


NEEDED = {
    "shifted-exponential": ["mean_s"],
    "pareto": ["shift_s", "shape"],
    "bimodal": ["extra_s", "probability"],
    "lognormal": ["median_s", "sigma"],
    "markov": ["extra_s", "enter", "leave"],
}


@pytest.mark.parametrize("kind", NEEDED)
def test_every_key_that_a_kind_needs_is_asked_for(kind: str) -> None:
    for key in NEEDED[kind]:
        others = {name: value for name, value in KINDS[kind].items() if name != key}
        with pytest.raises(InputError, match=rf"stragglers\.{key}: must be given"):
            delayed(kind, **others)
        with pytest.raises(
            InputError, match=rf"stragglers\.{key}: expected (a time > 0 s|number > 0.*) \(got 0\.0\)"
        ):
            delayed(kind, **others, **{key: 0.0})


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_keys_of_another_kind_are_refused_even_at_their_default(kind: str) -> None:
    own = KINDS.get(kind, {})
    others: dict[str, Any] = {key: 0.0 for keys in KINDS.values() for key in keys}
    others |= {"path": "x.csv", "dataset": "x", "draw": "bootstrap"} | (
        {"slow": []} if kind == "none" else {}
    )
    for key in others.keys() - {*(delayed(kind, **own).__struct_fields__)}:
        with pytest.raises(InputError, match=rf"stragglers\.{key}: (kind '.*' has no such|unknown) key"):
            delayed(kind, **own, **{key: others[key]})


@pytest.mark.parametrize("key", ["slow", "dead"])
def test_workers_that_do_not_exist_are_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"stragglers\.{key}: worker 2 does not exist"):
        configfile.resolve({"stragglers": {"kind": "slow-set", key: [0, 2]}, "workers": {"count": 2}})


@pytest.mark.parametrize(
    ("update", "dead", "waits"),
    [
        ({"mode": "async"}, [0, 1], False),
        ({"mode": "async"}, [0, 1, 2, 3], True),
        ({"mode": "all"}, [3], True),
        ({"mode": "all"}, [], False),
        ({"mode": "first"}, [3], False),  # three quarters of 4 are 3
        ({"mode": "first"}, [2, 3], True),
        ({"mode": "first", "count": 2}, [2, 3], False),
        ({"mode": "captured"}, [3], True),
    ],
)
def test_waiting_for_dead_workers_needs_an_end(update: dict[str, Any], dead: list[int], waits: bool) -> None:
    tables: dict[str, Any] = {
        "update": update,
        "workers": {"count": 4},
        "stragglers": {"kind": "slow-set", "dead": dead},
        "stop": {"updates": 5},
    }
    if waits:
        with pytest.raises(InputError, match=rf"stop\.seconds: .*'{update['mode']}' may wait for ever"):
            check_end(configfile.resolve(tables), dead)
    else:
        check_end(configfile.resolve(tables), dead)
    check_end(configfile.resolve(tables | {"stop": {"seconds": 5.0}}), dead)


@by_kind
def test_a_task_of_several_has_the_sum_of_their_delays(table: StragglersTable) -> None:
    single = table.make(3, WORKERS).delays_s([1, 4], [6, 0], 12)
    merged = table.make(3, WORKERS).merge(3)
    np.testing.assert_allclose(merged.delays_s([1, 4], [2, 0], 4), single.reshape(2, 4, 3).sum(axis=2))
    one = WorkerDelays(table.make(3, WORKERS).merge(3), 1)
    assert one.delay_ns(2, 0) == stragglers.delays_ns(merged, [1], [2], 1, [0])[0, 0]


@by_kind
def test_rounds_and_parts_share_the_delay_of_their_update(table: StragglersTable) -> None:
    shares, model = ((0.25,), (0.45, 0.3)), table.make(3, WORKERS)
    one = WorkerDelays(table.make(3, WORKERS), 2, shares)
    places = [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 0), (2, 0, 0), (2, 1, 1), (7, 1, 0)]
    for task, (version, number, part) in enumerate(places):
        share = shares[number][part]
        whole_ns = 1e9 * model.delays_s([2], [version], 1)[0, 0]
        expected = share * whole_ns + model.stretch([2])[0] * 1000
        delay_ns = one.delay_ns(task, 1000, version, number, part)
        assert delay_ns == pytest.approx(max(0, expected), abs=1)
        assert delay_ns == stragglers.delays_ns(model, [2], [version], 1, [1000], [share])[0, 0]


def test_a_task_on_a_part_of_a_shard_has_as_large_a_part_of_its_delay() -> None:
    exponential = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01"]
    parts = ["scheme.name=sag", "scheme.options.parts=4", *exponential]
    config = configfile.resolve({}, [*parts, "problem.batch=0"])
    whole = config.stragglers.make(config.seed, config.workers.count).delays_s([0, 2], [1, 0], 3)
    np.testing.assert_allclose(delay_model(config).delays_s([0, 2], [1, 0], 3), whole / 4)
    batches = configfile.resolve({}, [*parts, "problem.batch=8"])
    np.testing.assert_allclose(delay_model(batches).delays_s([0, 2], [1, 0], 3), whole)


def test_workers_may_merge_different_numbers_of_delays() -> None:
    table = delayed(kind="shifted-exponential", shift_s=0.001, mean_s=0.002, dead=[2])
    single = table.make(3, 3).delays_s([0, 1, 2], [0, 0, 0], 12)
    merged = table.make(3, 3).merge([1, 3, 2]).delays_s([1, 0, 2], [1, 2, 0], 3)
    np.testing.assert_allclose(merged[0], single[1, 3:12].reshape(3, 3).sum(axis=1))
    np.testing.assert_allclose(merged[1], single[0, 2:5])
    assert np.isinf(merged[2]).all()
