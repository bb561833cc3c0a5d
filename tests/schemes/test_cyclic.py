"""Cyclic gradient codes: exact for every pattern of s stragglers; whole runs go where full gradients go."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest

from pdcode.config import load as configfile
from pdcode.config.tables import Config
from pdcode.decoders.target import Target
from pdcode.schemes import Scheme, make_scheme
from pdcode.training.setup import WorkerFactory, prepare
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import simulate

JOB = ["problem.batch=0", "problem.dtype=float64", "optimizer.rate=0.3", "stop.updates=12"]
SHARED = ["code.blocks=1", "update.mode=all"]  # of uncoded


def resolve(*overrides: str, scheme: str = "cyclic") -> Config:
    return configfile.resolve({"problem": {"hidden": [8]}}, [f"scheme.name={scheme}", *overrides])


def make(n: int, s: int, *overrides: str) -> Scheme:
    return make_scheme(resolve(f"workers.count={n}", f"scheme.options.stragglers={s}", *overrides))


def decode(target: Target, matrix: np.ndarray, payloads: np.ndarray, workers: list[int]) -> np.ndarray:
    """What rank 0 makes of the payloads of some workers."""
    target.reset()
    for worker in workers:
        places = np.flatnonzero(matrix[worker]).astype(np.int32)
        values = matrix[worker, places].astype(target.dtype)
        target.add_sparse(places[None], values[None], payloads[worker][None])
    return target.gradient()[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize("n", range(1, 9))
def test_every_pattern_of_s_missing_workers_is_exact(n: int, dtype: str, tolerance: float) -> None:
    """Relative to the sum of absolute weights of the payloads times the largest payload."""
    random = np.random.default_rng(n)
    gradients = random.standard_normal((n, 5)).astype(dtype)
    wanted = gradients.sum(axis=0, dtype=np.float64)
    for s in range(n):
        scheme = make(n, s, f"problem.dtype={dtype}", f"seed={7 * n + s}")
        matrix = scheme.matrix()
        assert [scheme.shards_of(i) for i in range(n)] == [
            sorted((i + j) % n for j in range(s + 1)) for i in range(n)
        ]
        matrix = matrix.astype(dtype)
        payloads = (matrix @ gradients).astype(dtype)
        target = Target(1, (5,), dtype, target=scheme.target())
        for missing in combinations(range(n), s):
            rest = random.permutation([worker for worker in range(n) if worker not in missing])
            found = decode(target, matrix, payloads, list(rest))
            assert target.decodable
            weights = np.abs(target.coefficients()).sum()
            assert weights < 2e4  # what rounding grows by
            np.testing.assert_allclose(
                found, wanted, rtol=0, atol=tolerance * weights * np.abs(payloads).max()
            )
        for missing in combinations(range(n), s + 1):
            decode(target, matrix, payloads, [worker for worker in range(n) if worker not in missing])
            assert not target.decodable
            assert target.captured < 1


@pytest.mark.parametrize("dead", [[], [0], [1, 5], [2, 3], [6]])
def test_fewer_missing_than_s_are_exact_too(dead: list[int]) -> None:
    matrix = make(7, 2, "problem.dtype=float64").matrix()
    target = Target(1, (1,), "float64", target=np.ones(7))
    payloads = matrix.sum(axis=1, keepdims=True)  # all gradients 1
    found = decode(target, matrix, payloads, [worker for worker in range(7) if worker not in dead])
    assert target.decodable
    assert found == pytest.approx(7)


@pytest.mark.parametrize(("n", "s"), [(20, 5), (32, 4), (60, 3)])
def test_many_workers_in_float32_can_do_without_any_s(n: int, s: int) -> None:
    """Rank 0 has the codewords as they were rounded to float32, and still knows when it has enough."""
    matrix, random = make(n, s).matrix().astype(np.float32), np.random.default_rng(n)
    target = Target(1, (1,), target=np.ones(n))
    for _ in range(20):
        decode(target, matrix, matrix.sum(axis=1, keepdims=True), list(random.permutation(n)[s:]))
        assert target.decodable


@pytest.mark.parametrize(
    "overrides",
    [
        ["workers.count=5", "scheme.options.stragglers=2"],
        ["workers.count=5", "scheme.options.stragglers=2", "update.mode=all"],
        [
            "workers.count=6", "scheme.options.stragglers=1", "stragglers.kind=pareto",
            "stragglers.shift_s=0.001", "stragglers.shape=1.2",
        ],
        [
            "workers.count=7", "scheme.options.stragglers=3", "stragglers.kind=shifted-exponential",
            "stragglers.mean_s=0.01", "stragglers.slow=[0,3]", "stragglers.slowdown=20", "problem.l2=0.01",
        ],
        [
            "workers.count=4", "scheme.options.stragglers=1", "stragglers.kind=bimodal",
            "stragglers.probability=0.3", "stragglers.extra_s=0.02", "problem.kind=least-squares",
            "problem.data=synthetic", "problem.samples=113", "problem.density=0.4", "optimizer.rate=0.02",
        ],
        ["workers.count=3", "scheme.options.stragglers=2", "optimizer.kind=adam", "optimizer.rate=0.01"],
        ["workers.count=3", "scheme.options.stragglers=0"],
        [  # fewer rows than workers: each has all of them
            "workers.count=5", "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=4",
            "problem.features=2", "optimizer.rate=0.02",
        ],
    ],
)  # fmt: skip
def test_a_run_under_stragglers_goes_where_full_gradients_go(overrides: list[str]) -> None:
    coded = simulate(resolve(*JOB, *overrides))
    own = [each for each in overrides if not each.startswith(("scheme.", "update."))]
    full = simulate(resolve(*JOB, *SHARED, *own, scheme="uncoded"))
    assert coded.updates == full.updates == 12
    np.testing.assert_allclose(coded.theta, full.theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_many_dead_workers_as_s_cost_nothing(dtype: str) -> None:
    dead = ["workers.count=6", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001"]
    job = [*JOB, *dead, f"problem.dtype={dtype}"]
    ended = ["scheme.options.stragglers=2", "stragglers.dead=[1,4]", "stop.seconds=10"]
    coded = simulate(resolve(*job, *ended))
    full = simulate(resolve(*job, *SHARED, scheme="uncoded"))
    assert coded.updates == 12
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(coded.theta, full.theta, rtol=tolerance, atol=tolerance)
    one_more = simulate(resolve(*job, *ended, "stragglers.dead=[1,2,4]", "stop.seconds=0.3"))
    assert one_more.updates == 0
    assert one_more.seconds == pytest.approx(0.3)


def test_workers_with_a_shard_in_common_have_the_same_mini_batch_of_it() -> None:
    """So mini-batches are decoded to the mean over shards, whoever is late."""
    job = [*JOB, "problem.batch=4", "workers.count=5", "scheme.options.stragglers=2"]
    quick = simulate(resolve(*job))
    slow = ["stragglers.kind=pareto", "stragglers.shift_s=0.003", "stragglers.shape=1.2"]
    late = simulate(resolve(*job, *slow))
    assert late.wasted > 0
    np.testing.assert_allclose(late.theta, quick.theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("standardise", ["true", "false"])
def test_workers_read_their_shards_of_a_file_themselves(tmp_path: Path, standardise: str) -> None:
    path, random = tmp_path / "data.h5", np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = random.standard_normal((103, 6)), random.standard_normal(103)
    job = [
        *JOB, "workers.count=5", "problem.kind=least-squares", f"problem.data={path}",
        f"problem.standardise={standardise}", "optimizer.rate=0.05",
    ]  # fmt: skip
    config = resolve(*job, "scheme.options.stragglers=2")
    components = prepare(config)
    assert components.source.sliced
    for worker in range(5):
        arrays = components.scheme.share(components.source, worker)
        assert all(array.size <= 7 for array in arrays.values())  # statistics only
        factory = WorkerFactory(components.scheme, worker, arrays, components.facts)
        assert sorted(factory.problem.shards) == components.scheme.shards_of(worker)
    full = simulate(resolve(*job, *SHARED, scheme="uncoded"))
    np.testing.assert_allclose(simulate(config).theta, full.theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.stragglers=4"], ["scheme.options.stragglers: 4", "4 workers"]),
        (["scheme.options.stragglers=-1"], ["scheme.options.stragglers", "-1"]),
        (["scheme.options.stragglers=0.5"], ["scheme.options.stragglers", "0.5"]),
        (["scheme.options.late=1"], ["scheme.options.late: unknown key (value 1)", "stragglers"]),
        (["scheme.options=[1]"], ["scheme.options", "[1]"]),
        (["scheme.preset=fast"], ["scheme.preset", "'fast'"]),
        (["wire.dtype=int8"], ["wire.dtype: 'int8'"]),
        (["downlink.kind=codewords"], ["downlink.kind: 'codewords'"]),
        (["update.late=use"], ["update.late: 'use'", "'waste'"]),
        (["problem.shards=replicated"], ["problem.shards: 'replicated'"]),
        (["code.blocks=4"], ["code.blocks: 4 has no effect"]),
        (["code.family=matched"], ["code.family: 'matched' has no effect"]),
        (["memory.kind=worker"], ["memory.kind: 'worker' has no effect"]),
        (["decoder.kind=mmse"], ["decoder.kind: 'mmse' has no effect"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        prepare(resolve("workers.count=4", "stop.updates=3", *overrides))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_of_a_table_without_effect_the_key_that_is_given_is_named() -> None:
    with pytest.raises(InputError, match=r"code\.weight: 4 has no effect with scheme 'cyclic'"):
        configfile.resolve({"scheme": {"name": "cyclic"}, "code": {"weight": 4}})
