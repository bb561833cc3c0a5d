"""Codes over data shards, all alike: exactness, what arrivals add, whole runs, rounding, and refusals."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused
from patterns import JOB, Rank0, make, resolve, subsets

from pdcode.session.setup import WorkerFactory, prepare
from pdcode.virtual.simulation import simulate

SHARED = ["code.blocks=1", "update.mode=all"]  # of uncoded
EXACT = {"cyclic": [3, 0], "frc": [2, 1]}  # s of five and of six workers
ALL = ["cyclic", "frc", "bernoulli", "expander"]
EDGES = ["scheme.options.worker=edge"]


def stragglers(s: int) -> str:
    return f"scheme.options.stragglers={s}"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("scheme", ["cyclic", "frc"])
def test_every_pattern_of_s_missing_workers_is_exact(scheme, n, dtype, tolerance):
    """Relative to the sum of absolute weights of the payloads times the largest payload."""
    random = np.random.default_rng(n)
    gradients = random.standard_normal((n, 5)).astype(dtype)
    wanted = gradients.sum(axis=0, dtype=np.float64)
    for s in range(n):
        if scheme == "frc" and n % (s + 1):
            continue
        made = make(scheme, n, stragglers(s), f"problem.dtype={dtype}", f"seed={7 * n + s}")
        assert all(len(made.placement.shards_of(i)) == s + 1 for i in range(n))
        rank0 = Rank0(made.matrix, gradients, dtype)
        for arrived in subsets(n, range(n - s, n + 1)):
            found = rank0.decode(random.permutation(arrived))
            assert rank0.target.decodable
            weights = np.abs(rank0.target.coefficients()).sum()
            assert weights < 2e4  # what rounding grows by
            most = tolerance * weights * np.abs(rank0.payloads).max()
            np.testing.assert_allclose(found, wanted, rtol=0, atol=most)
            if dtype == "float64":
                assert np.linalg.norm(found - wanted) <= 1e-9 * np.linalg.norm(wanted)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("scheme", "n", "s"),
    [("cyclic", 20, 5), ("cyclic", 32, 4), ("cyclic", 60, 3), ("frc", 60, 5), ("frc", 128, 7)],
)
def test_many_workers_can_do_without_any_s(scheme: str, n: int, s: int, dtype: str) -> None:
    """Rank 0 has the codewords as they were rounded to float32, and still knows when it has enough."""
    random = np.random.default_rng(n)
    gradients = random.standard_normal((n, 3)).astype(dtype)
    rank0 = Rank0(make(scheme, n, stragglers(s)).matrix, gradients, dtype)
    for _ in range(20):
        found = rank0.decode(random.permutation(n)[s:])
        assert rank0.target.decodable
        weights = np.abs(rank0.target.coefficients()).sum()
        most = {"float64": 1e-9, "float32": 1e-5}[dtype] * max(1.0, 1e-3 * weights) * n
        np.testing.assert_allclose(found, gradients.sum(axis=0), rtol=0, atol=most)


@given(
    st.sampled_from([*ALL, "edges"]), st.sampled_from([6, 9, 12]), st.integers(0, 99), st.randoms(), st.data()
)
def test_the_error_falls_with_every_arrival(scheme, n, seed, random, data):
    """Optimal decoding: the nearest that a combination of what has arrived comes to the sum over shards."""
    options = EDGES if scheme == "edges" else [stragglers(2)] if scheme in EXACT else []
    matrix = make("expander" if scheme == "edges" else scheme, n, f"seed={seed}", *options).matrix
    rank0, order = Rank0(matrix), data.draw(st.permutations(range(n)))
    before = shards = matrix.shape[1]
    for count in range(1, n + 1):
        weights = rank0.decode(order[:count])
        error = float(((weights - 1) ** 2).sum())
        assert error <= before + 1e-9
        assert 1 - rank0.target.captured == pytest.approx(error / shards, abs=1e-9)
        best = np.linalg.lstsq(matrix[order[:count]].T, np.ones(shards), rcond=None)[0]
        assert error == pytest.approx(((best @ matrix[order[:count]] - 1) ** 2).sum(), abs=1e-9)
        before = error


@pytest.mark.parametrize("last", [(1, 4), (4, 1)])
def test_decoding_stays_exact_after_rows_that_are_nearly_dependent(last):
    """Rows 0, 2, 3 and 5 have a singular value of 1e-3, and the next row makes the rank clear."""
    rank0 = Rank0(make("cyclic", 6, "seed=58", stragglers(2)).matrix)
    for count in (5, 6):
        np.testing.assert_allclose(rank0.decode((0, 2, 3, 5, *last)[:count]), 1, rtol=0, atol=1e-9)


PARETO = ["stragglers.kind=pareto", "stragglers.shift_s=0.001", "stragglers.shape=1.2"]
SLOW = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01", "stragglers.slow=[0,3]"]
BIMODAL = ["stragglers.kind=bimodal", "stragglers.probability=0.3", "stragglers.extra_s=0.02"]
SYNTHETIC = ["problem.kind=least-squares", "problem.data=synthetic", "optimizer.rate=0.02"]
ADAM = ["optimizer.kind=adam", "optimizer.rate=0.01"]


@pytest.mark.parametrize(
    ("scheme", "overrides"),
    [
        ("cyclic", [stragglers(2), "workers.count=5"]),
        ("cyclic", [stragglers(2), "workers.count=5", "update.mode=all"]),
        ("cyclic", [stragglers(1), "workers.count=6", *PARETO]),
        ("cyclic", [stragglers(3), "workers.count=7", *SLOW, "stragglers.slowdown=20", "problem.l2=0.01"]),
        ("cyclic", [stragglers(1), "workers.count=4", *BIMODAL, *SYNTHETIC, "problem.density=0.4"]),
        ("cyclic", [stragglers(2), "workers.count=3", *ADAM]),
        ("cyclic", [stragglers(0), "workers.count=3"]),
        # fewer rows than workers: each has all of them
        ("cyclic", ["workers.count=5", *SYNTHETIC, "problem.samples=4", "problem.features=2"]),
        ("frc", [stragglers(1), "workers.count=6", *PARETO]),
        ("frc", [stragglers(2), "workers.count=6", *SLOW, "stragglers.slowdown=20", "problem.l2=0.01"]),
        ("frc", [stragglers(1), "workers.count=4", *BIMODAL, *SYNTHETIC, "problem.density=0.4", *ADAM]),
        ("expander", ["workers.count=6", "update.mode=all", "problem.l2=0.01"]),
        ("expander", [*EDGES, "workers.count=9", "update.mode=all"]),
        # six shards of seven rows, for nine workers: each shard has one or two
        ("expander", [*EDGES, "workers.count=9", "update.mode=all", *SYNTHETIC, "problem.samples=9"]),
    ],
)
def test_a_run_under_stragglers_goes_where_full_gradients_go(scheme: str, overrides: list[str]) -> None:
    """Approximate codes do, too, where rank 0 waits for all."""
    coded = simulate(resolve(scheme, *JOB, *overrides))
    own = [each for each in overrides if not each.startswith(("scheme.", "update."))]
    full = simulate(resolve("uncoded", *JOB, *SHARED, *own))
    assert coded.updates == full.updates == 12
    np.testing.assert_allclose(coded.theta, full.theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scheme", ["cyclic", "frc"])
def test_as_many_dead_workers_as_s_cost_nothing(scheme: str, dtype: str) -> None:
    dead = ["workers.count=6", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001"]
    job = [*JOB, *dead, f"problem.dtype={dtype}"]
    ended = [stragglers(2), "stragglers.dead=[2,4]", "stop.seconds=10"]
    coded = simulate(resolve(scheme, *job, *ended))
    full = simulate(resolve("uncoded", *job, *SHARED))
    assert coded.updates == 12
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(coded.theta, full.theta, rtol=tolerance, atol=tolerance)
    one_more = simulate(resolve(scheme, *job, *ended, "stragglers.dead=[0,2,4]", "stop.seconds=0.3"))
    assert one_more.updates == 0
    assert one_more.seconds == pytest.approx(0.3)


def test_approximate_codes_learn_without_the_late_and_the_dead() -> None:
    job = ["workers.count=9", *SLOW, "stragglers.dead=[5]", "stop.updates=60", "problem.dtype=float64"]
    full = simulate(resolve("uncoded", *job, *SHARED, "stragglers.dead=[]", "optimizer.rate=0.3"))
    for scheme, options in ("bernoulli", []), ("expander", ["scheme.options.degree=4"]), ("expander", EDGES):
        done = simulate(resolve(scheme, *job, *options, "stop.seconds=9", "optimizer.rate=0.3"))
        assert done.updates == 60
        assert done.wasted > 0
        assert done.seconds < full.seconds
        assert done.loss < 1.4 * full.loss < 1.1


@pytest.mark.parametrize("scheme", ["cyclic", "frc"])
def test_workers_with_a_shard_in_common_have_the_same_mini_batch_of_it(scheme: str) -> None:
    """So mini-batches are decoded to the mean over shards, whoever is late."""
    job = [*JOB, "problem.batch=4", "workers.count=6", stragglers(2)]
    quick = simulate(resolve(scheme, *job))
    slow = ["stragglers.kind=pareto", "stragglers.shift_s=0.003", "stragglers.shape=1.2"]
    late = simulate(resolve(scheme, *job, *slow))
    assert late.wasted > 0
    np.testing.assert_allclose(late.theta, quick.theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("scheme", "options"), [("cyclic", [stragglers(2)]), ("expander", [*EDGES, "update.mode=all"])]
)
@pytest.mark.parametrize("standardise", ["true", "false"])
def test_workers_read_their_shards_of_a_file_themselves(tmp_path, standardise, scheme, options):
    path, random = tmp_path / "data.h5", np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = random.standard_normal((103, 6)), random.standard_normal(103)
    job = [
        *JOB, "workers.count=6", "problem.kind=least-squares", f"problem.data={path}",
        f"problem.standardise={standardise}", "optimizer.rate=0.05",
    ]  # fmt: skip
    config = resolve(scheme, *job, *options)
    components = prepare(config)
    assert components.source is not None
    assert components.source.sliced
    for worker in range(6):
        arrays = components.scheme.placement.worker_data(components.source, worker)
        assert all(array.size <= 7 for array in arrays.values())  # statistics only
        factory = WorkerFactory(components.scheme, worker, arrays, components.facts)
        assert sorted(factory.problem.shards) == components.scheme.placement.shards_of(worker)
    full = simulate(resolve("uncoded", *job, *SHARED))
    np.testing.assert_allclose(simulate(config).theta, full.theta, rtol=1e-9, atol=1e-9)


def test_the_work_of_a_task_is_that_of_its_shards() -> None:
    """Nine workers: nine shards, or at a 3-regular graph's edges six that are larger."""

    def flops(scheme: str, *options: str) -> float:
        job = ["workers.count=9", "problem.batch=0", "problem.data=synthetic", "problem.samples=4500"]
        return prepare(resolve(scheme, *job, *options, "stop.updates=1")).flops()

    full = flops("uncoded")
    two = flops("cyclic", stragglers(1)) - full
    assert full == pytest.approx(two, rel=0.05)
    assert flops("frc", stragglers(2)) == pytest.approx(full + 2 * two, rel=0.05)
    assert flops("expander", "scheme.options.degree=4") == pytest.approx(4 * full, rel=0.05)
    assert flops("expander", *EDGES) == pytest.approx(3 * full, rel=0.05)
    shards = np.count_nonzero(make("bernoulli", 9).matrix)
    assert flops("bernoulli") == pytest.approx(shards / 9 * full, rel=0.05)


@pytest.mark.parametrize(
    ("scheme", "n", "options"),
    [
        ("frc", 8, [stragglers(3)]),
        ("expander", 9, EDGES),
        ("expander", 9, []),
        ("bernoulli", 9, []),
        ("bernoulli", 9, ["scheme.options.shards=5"]),
    ],
)
def test_codes_that_do_not_amplify_may_round(scheme: str, n: int, options: list[str]) -> None:
    made = make(scheme, n, *options)
    assert "wire.dtype" not in made.requires
    rank0 = Rank0(made.matrix)
    worst = max(rank0.amplification(arrived) for arrived in subsets(n, range(1, n + 1)))
    assert worst < (1 + 1e-9 if scheme == "frc" else 8)
    job = [f"workers.count={n}", *options, "optimizer.rate=0.3", "stop.updates=60"]
    exact, rounded = (simulate(resolve(scheme, *job, f"wire.dtype={wire}")) for wire in ("float32", "int8"))
    assert rounded.bytes_up < 0.3 * exact.bytes_up
    assert exact.loss < 1.1
    assert rounded.loss < 1.05 * exact.loss


def test_a_cyclic_code_amplifies() -> None:
    made = make("cyclic", 8, stragglers(3))
    rank0 = Rank0(made.matrix)
    assert max(rank0.amplification(arrived) for arrived in subsets(8, [5])) > 40
    assert "wire.dtype" in made.requires


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("scheme.options.late=1", ["scheme.options.late: unknown key (value 1)"]),
        ("scheme.options=[1]", ["scheme.options", "[1]"]),
        ("scheme.preset=fast", ["scheme.preset", "'fast'"]),
        ("downlink.kind=codewords", ["downlink.kind: 'codewords'"]),
        ("update.late=use", ["update.late: 'use'", "'waste'"]),
        ("problem.shards=replicated", ["problem.shards: 'replicated'"]),
        ("code.blocks=4", ["code.blocks: 4 has no effect"]),
        ("code.family=matched", ["code.family: 'matched' has no effect"]),
        ("memory.kind=worker", ["memory.kind: 'worker' has no effect"]),
        ("decoder.kind=mmse", ["decoder.kind: 'mmse' has no effect"]),
    ],
)
def test_what_cannot_work_is_refused(scheme: str, override: str, words: list[str]) -> None:
    assert_refused(scheme, [override], words)


@pytest.mark.parametrize(
    ("scheme", "overrides", "words"),
    [
        ("cyclic", [stragglers(4)], ["scheme.options.stragglers: 4", "4 workers"]),
        ("frc", [stragglers(4)], ["scheme.options.stragglers: 4", "4 workers"]),
        ("cyclic", [stragglers(-1)], ["scheme.options.stragglers", "-1"]),
        ("cyclic", ["scheme.options.stragglers=0.5"], ["scheme.options.stragglers", "0.5"]),
        ("cyclic", ["wire.dtype=int8"], ["wire.dtype: 'int8'"]),
        ("frc", [stragglers(2)], ["scheme.options.stragglers: 2: 4 workers are no groups of 3"]),
        ("bernoulli", ["scheme.options.shards=5"], ["scheme.options.shards: 5", "4 shards"]),
        ("bernoulli", ["scheme.options.shards=0.5"], ["scheme.options.shards", "0.5"]),
        ("expander", ["scheme.options.degree=4"], ["scheme.options.degree: 4", "4 vertices"]),
        ("expander", ["scheme.options.degree=1"], ["scheme.options.degree: 1", "4 vertices"]),
        ("expander", ["scheme.options.degree=3", "workers.count=5"], ["degree: 3", "5 vertices"]),
        ("expander", [*EDGES, "scheme.options.degree=3"], ["scheme.options.degree: 3", "4 edges"]),
        ("expander", ["workers.count=2"], ["scheme.options.degree: None", "2 vertices"]),
        ("expander", ["scheme.options.worker=face"], ["scheme.options.worker", "vertex, edge", "'face'"]),
    ],
)
def test_what_a_code_cannot_do_is_refused(scheme: str, overrides: list[str], words: list[str]) -> None:
    assert_refused(scheme, overrides, words)


def assert_refused(scheme: str, overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        prepare(resolve(scheme, "workers.count=4", "stop.updates=3", *overrides))
