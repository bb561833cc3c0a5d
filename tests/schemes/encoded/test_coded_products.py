"""Coded products, `mds` and `byzantine`: the same θ as without a code, whoever is late or lies."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest
from descents import Descent, lies

import pdcode
from pdcode.config.load import resolve
from pdcode.encoded.mds import generator
from pdcode.util.errors import Failure, InputError

DATA = ["problem.kind=least-squares", "problem.data=synthetic", "problem.samples=150", "problem.features=9"]
JOB = [
    "problem.test_fraction=0.1", "problem.batch=0", "problem.dtype=float64", "problem.l2=0.01",
    "code.blocks=1", "optimizer.rate=0.02", "optimizer.momentum=0.5", "stop.updates=8",
]  # fmt: skip
KINDS = {
    "least-squares": [*DATA, "problem.outputs=3"],
    "logistic": ["problem.kind=logistic", "problem.data=breast-cancer", "problem.standardise=true"],
    "softmax": ["problem.kind=softmax", "problem.data=digits", "problem.axis=input", "optimizer.rate=0.001"],
    "poisson": [*DATA, "problem.kind=poisson", "optimizer.rate=0.001"],
    "biases": [*DATA, "problem.penalise_bias=true", "problem.l2=0.3"],
}
SCHEMES = {
    "systematic": ["scheme.name=mds"],
    "chebyshev": ["scheme.name=mds", "scheme.options.generator=chebyshev", "scheme.options.blocks=3"],
    "orthonormal": ["scheme.name=mds", "scheme.options.generator=orthonormal", "scheme.options.blocks=4"],
    "byzantine": ["scheme.name=byzantine", "scheme.options.liars=2"],
    "erasures": ["scheme.name=byzantine", "scheme.options.stragglers=2"],
}


def descend(*overrides: str, workers: int = 7, times: Sequence[float] = ()) -> Descent:
    data = [] if any(each.startswith("problem.data=") for each in overrides) else DATA
    made = Descent(
        [*JOB, *data, f"workers.count={workers}", *overrides], times or [1 + i / 7 for i in range(workers)]
    )
    made.run()
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_descent_is_that_of_uncoded_gradients(kind: str, scheme: str) -> None:
    plain = descend(*KINDS[kind], "update.mode=all", "memory.kind=none")
    coded = descend(*KINDS[kind], *SCHEMES[scheme], times=[3, 1, 1.5, 2, 1.2, 0.7, 1.1])
    np.testing.assert_allclose(coded.thetas, plain.thetas, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["systematic", "chebyshev", "orthonormal"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 1), (6, 4), (9, 9), (10, 5)])
def test_any_k_workers_are_enough(kind: str, n: int, k: int) -> None:
    words = generator(kind, n, k, 1)
    for rows in combinations(range(n), k):
        assert np.linalg.cond(words[list(rows)]) < 1e5
    if kind == "systematic":
        assert (np.sort(words, axis=1)[:, -1] == 1).sum() >= k


@pytest.mark.parametrize("kind", ["orthonormal", "systematic"])
def test_a_hundred_workers_decode_as_well(kind: str) -> None:
    plain = descend("update.mode=all", "memory.kind=none", workers=100).thetas
    for blocks in (50, 75):
        options = [f"scheme.options={{blocks={blocks},generator='{kind}'}}", "stop.updates=3"]
        coded = descend("scheme.name=mds", *options, workers=100, times=list(np.linspace(1, 2, 100))).thetas
        np.testing.assert_allclose(coded, plain[:4], rtol=1e-8, atol=1e-10)


def test_the_condition_number_is_a_remark() -> None:
    made = Descent([*JOB, *DATA, "scheme.name=mds", "workers.count=7"], [1.0] * 7)
    (line,) = [each for each in made.components.remarks() if "condition number" in each]
    assert line.startswith("any 5 of 7 results are enough for 5 blocks; condition number ")


@pytest.mark.parametrize("scheme", ["mds", "byzantine"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_descent_that_diverges_is_reported(scheme: str, dtype: str) -> None:
    changes = [f"scheme.name={scheme}", f"problem.dtype={dtype}", "optimizer.rate=1e9", "stop.updates=1000"]
    reason = Descent([*JOB, *DATA, "workers.count=7", *changes], [1.0] * 7).run()
    assert "were refused" in reason or reason.startswith(("diverged", "loss"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_that_vanish_contradict_nothing(dtype: str) -> None:
    """Six rows are told apart perfectly."""
    job = [
        "problem.kind=logistic", "problem.data=breast-cancer", "problem.standardise=true",
        "problem.test_fraction=0.99", f"problem.dtype={dtype}", "problem.l2=0", "optimizer.rate=1000",
        "scheme.name=byzantine", "stop.updates=20",
    ]  # fmt: skip
    assert descend(*job).coordinator.version == 20


def test_each_round_ends_at_the_kth_result() -> None:
    made = descend("scheme.name=mds", "scheme.options.blocks=5", times=[1, 2, 3, 4, 5, 60, 70])
    used = made.trace.column("worker")[made.trace.column("status") == 0]
    assert set(used) == set(range(5))
    assert len(used) == 8 * 2 * 5
    assert made.coordinator.version == 8


def test_proximal_descent_is_the_same_with_byzantine_workers() -> None:
    options = ["scheme.name=byzantine", "scheme.options.liars=3", "optimizer.momentum=0", "stop.updates=200"]
    for proximal in ("{kind='l1',weight=0.02}", "{kind='box',low=-0.1,high=0.3}"):
        job = [*options, f"optimizer.proximal={proximal}"]
        plain, lied = descend(*job).thetas, descend(*job, lies([0, 1, 4])).thetas
        np.testing.assert_allclose(lied, plain, rtol=1e-8, atol=1e-10)
        assert (plain[-1] == 0).any() or plain[-1].max() == 0.3


@pytest.mark.parametrize("liars", range(1, 8))
def test_byzantine_workers_are_flagged_and_change_nothing(liars: int) -> None:
    """Each set of one of 15; of more, some."""
    plain = descend("scheme.name=byzantine", f"scheme.options.liars={liars}", workers=15).thetas
    random = np.random.default_rng(liars)
    sets = [[each] for each in range(15)] if liars == 1 else []
    sets += [sorted(random.choice(15, liars, replace=False).tolist()) for _ in range(4)]
    for wrong in sets:
        made = descend(
            "scheme.name=byzantine",
            f"scheme.options.liars={liars}",
            lies(wrong),
            "stop.updates=3",
            workers=15,
        )
        np.testing.assert_allclose(made.thetas, plain[:4], rtol=1e-8, atol=1e-10)
        assert np.flatnonzero(made.coordinator.roster.flagged).tolist() == wrong
        assert {made.coordinator.roster.flagged[worker] for worker in wrong} == {6}  # in each round


ATTACKS = [
    "kind='lie', how='sign'", "kind='lie', how='scale', value=1e6", "kind='lie', how='constant', value=5.0",
    "kind='collude', how='little', value=1.5", "kind='collude', how='inner-product', value=0.5",
    "kind='corrupt', bits=3", "kind='nan'",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_borne(attack: str) -> None:
    options = ["scheme.name=byzantine", "scheme.options.liars=3", "problem.outputs=2"]
    plain = descend(*options).thetas
    np.testing.assert_allclose(
        descend(*options, lies([1, 4, 6], attack)).thetas, plain, rtol=1e-8, atol=1e-10
    )


def test_too_many_byzantine_workers_end_the_run_with_a_reason() -> None:
    made = Descent([*JOB, *DATA, "scheme.name=byzantine", "workers.count=7", lies([1, 2])], [1.0] * 7)
    reason = made.run()
    assert reason == "round 0 of update 0 cannot be decoded: more than 1 of 7 results contradict the others"
    assert made.coordinator.version == 0


@pytest.mark.parametrize("scheme", ["mds", "byzantine"])
def test_mini_batches_are_rows_of_the_data(scheme: str) -> None:
    """The same for both codes with equally many blocks, and about the full gradient in the mean."""
    options = {"mds": ["scheme.options.blocks=5"], "byzantine": []}[scheme]
    made = descend(
        f"scheme.name={scheme}", *options, "problem.batch=20", "optimizer.momentum=0", "stop.updates=300"
    )
    full = descend("scheme.name=mds", "optimizer.momentum=0", "stop.updates=300")
    assert np.linalg.norm(made.thetas[-1] - full.thetas[-1]) < 0.1 * np.linalg.norm(full.thetas[-1])
    up = made.trace.column("bytes_up")
    assert up[0] == 64 + 64  # 4 groups of 5 rows, a number of 8 bytes each, aligned


def test_both_codes_draw_the_same_mini_batches() -> None:
    both = [
        descend(*scheme, "problem.batch=20").thetas
        for scheme in (["scheme.name=mds", "scheme.options.blocks=5"], ["scheme.name=byzantine"])
    ]
    np.testing.assert_allclose(*both, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scheme", ["mds", "byzantine"])
def test_rows_that_come_later_are_encoded_as_they_come(scheme: str) -> None:
    """One step with all rows after another is the one that numpy makes with as many rows as there are."""
    late = ["scheme.options.start=0.3", "scheme.options.arriving=11", "optimizer.momentum=0"]
    times = [1, 2.5, 3.7, 1.1, 1.3, 9, 1.4]
    made = descend(
        f"scheme.name={scheme}", *late, lies([2]) if scheme == "byzantine" else "seed=1", times=times
    )
    whole = made.components.source.whole
    theta, k = made.thetas[0], 5
    for version, found in enumerate(made.thetas[1:]):
        groups = min(27, max(1, -(-round(0.3 * 135) // k)) + version * 3)
        x, y = whole.x[: groups * k], whole.y[: groups * k]
        weights = theta.reshape(1, -1)
        gradient = (x @ weights.T - y).T @ x / len(x) + 0.01 * weights * (np.arange(10) < 9)
        theta = theta - 0.02 * gradient.ravel()
        np.testing.assert_allclose(found, theta, rtol=1e-9, atol=1e-11)
    assert len(set(made.trace.column("bytes_down"))) > 3


@pytest.mark.parametrize("scheme", ["mds", "byzantine"])
def test_coordinate_descent_changes_some_weights_in_turn(scheme: str) -> None:
    made = descend(
        f"scheme.name={scheme}", "scheme.options.coordinates=4", "optimizer.momentum=0", "problem.outputs=2"
    )
    whole, theta = made.components.source.whole, made.thetas[0].copy()
    width = {"mds": 5, "byzantine": 5}[scheme]
    for version, found in enumerate(made.thetas[1:]):
        weights = theta.reshape(2, 10)
        gradient = (whole.x @ weights.T - whole.y).T @ whole.x / len(whole.x) + 0.01 * weights * (
            np.arange(10) < 9
        )
        some = (np.arange(10) // width) == version % 2
        theta = theta - 0.02 * (gradient * some).ravel()
        np.testing.assert_allclose(found, theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["scheme.name=mds", "scheme.options.blocks=8"],
            "scheme.options.blocks: 8 are more than the 7 workers",
        ),
        (
            ["scheme.name=byzantine", "scheme.options.liars=4"],
            "liars: 4, .* with 7 there may be at most 3 liars",
        ),
        (["scheme.name=byzantine", "scheme.options.stragglers=6"], "with 7 there may be at most 0 liars"),
        (
            ["scheme.name=mds", "problem.kind=mlp"],
            "problem.kind: 'mlp' .*'mds', which codes the data of linear models",
        ),
        (["scheme.name=mds", "update.mode=all"], "update.mode: 'all'"),
        (["scheme.name=mds", "update.fraction=0.5"], "update.fraction: 0.5 .*'mds', which steps once"),
        (["scheme.name=mds", "update.late=use"], "update.late: 'use'"),
        (["scheme.name=mds", "update.clip=median"], "update.clip: 'median'"),
        (["scheme.name=mds", "optimizer.staleness=inverse"], "optimizer.staleness: 'inverse'"),
        (["scheme.name=mds", "wire.dtype=int8"], "wire.dtype: 'int8'"),
        (["scheme.name=mds", "downlink.kind=codewords"], "downlink.kind: 'codewords' has no effect"),
        (["scheme.name=mds", "memory.kind=worker"], "memory.kind: 'worker' has no effect"),
        (["scheme.name=mds", "problem.shards=replicated"], "problem.shards: 'replicated'"),
        (["scheme.name=mds", "scheme.options.start=0.5"], "scheme.options.arriving: 0 does not go with"),
        (["scheme.name=mds", "scheme.options.arriving=5"], "scheme.options.arriving: 5 does not go with"),
        (["scheme.name=mds", "scheme.options.coordinates=2"], "scheme.options.coordinates"),
        (
            [
                "scheme.name=mds",
                "scheme.options.coordinates=2",
                "optimizer.momentum=0",
                "optimizer.proximal={kind='l1',weight=1.0}",
            ],
            "optimizer.proximal: 'l1' .*coordinates 2, which changes some weights only",
        ),
        (
            ["scheme.name=mds", "scheme.options.coordinates=2", "optimizer.momentum=0", "problem.batch=8"],
            "problem.batch: 8 .*coordinates 2, which keeps",
        ),
    ],
)
def test_bad_options_are_named(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve({}, [*JOB, *DATA, "workers.count=7", *changes])


@pytest.mark.parametrize("scheme", ["mds", "byzantine", "lagrange"])
def test_a_worker_that_rejoins_counts_once(scheme: str) -> None:
    job = [*JOB, *DATA, "workers.count=7", f"scheme.name={scheme}"]
    thetas = []
    for twice in (False, True):
        made = Descent(job, [1 + i / 7 for i in range(7)])
        fold = made.state.fold
        if twice:
            made.state.fold = lambda arrival, fold=fold: (fold(arrival), fold(arrival))[1]  # type: ignore[method-assign, misc]
        made.run()
        thetas.append(made.thetas)
    np.testing.assert_array_equal(*thetas)


def test_the_dead_are_stragglers_and_too_many_end_the_run(tmp_path: Path) -> None:
    """Two of seven may die; at the third death the reason is said."""
    kills = [f"{{worker={worker}, at_s={0.05 + 0.1 * worker}}}" for worker in range(3)]
    job = [*JOB, *DATA, "workers.count=7", "scheme.name=mds", "scheme.options.blocks=5", "stop.updates=1000"]
    job += ["machine.task_s=0.001", f"trace.path={tmp_path}/trace.h5"]
    two = resolve({}, [*job, f"faults.events=[{', '.join(kills[:2])}]"])
    assert pdcode.simulate(msgspec.to_builtins(two), progress=False).updates.rows == 1000
    three = resolve({}, [*job, f"faults.events=[{', '.join(kills)}]"])
    with pytest.raises(Failure, match="cannot be decoded: 4 results, and 5 are needed") as failed:
        pdcode.simulate(msgspec.to_builtins(three), progress=False)
    assert 100 < failed.value.trace.updates.rows < 200
