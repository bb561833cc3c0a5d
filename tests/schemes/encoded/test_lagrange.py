"""Lagrange coded computing: the descent of uncoded gradients, in real numbers and modulo a prime."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from descents import Descent, lies
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode.config.load import resolve
from pdcode.encoded.lagrange import Design
from pdcode.schemes import make_scheme
from pdcode.session.setup import prepare
from pdcode.trace.schema import USED
from pdcode.util.errors import Failure, InputError
from pdcode.util.touches import flops_per_touch

DATA = ["problem.kind=least-squares", "problem.data=synthetic", "problem.samples=150", "problem.features=9"]
JOB = [
    "problem.test_fraction=0.1", "problem.batch=0", "problem.dtype=float64", "problem.l2=0.01",
    "code.blocks=1", "optimizer.rate=0.02", "optimizer.momentum=0.5", "stop.updates=8",
    "scheme.name=lagrange",
]  # fmt: skip
FIELD = "scheme.options.arithmetic=field"
BITS = "arithmetic='field',data_bits=15,theta_bits=15"
LOGISTIC = ["problem.kind=logistic", "problem.data=breast-cancer", "problem.standardise=true"]
KINDS = {
    "outputs": [*DATA, "problem.outputs=3"],
    "by input": [*DATA, "problem.outputs=2", "problem.axis=input"],
    "biases": [*DATA, "problem.penalise_bias=true", "problem.l2=0.3"],
    "proximal": [*DATA, "optimizer.proximal={kind='l1', weight=0.05}"],
    "float32": [*DATA, "problem.dtype=float32"],
}
CODES = {
    "real": [],
    "two parts": ["scheme.options.parts=2"],
    "copies": ["scheme.options={parts=6,stragglers=0}", "workers.count=10"],
    "field": [f"scheme.options={{{BITS}}}"],
    "private": [f"scheme.options={{{BITS},colluders=2,stragglers=0}}"],
    "liars": [f"scheme.options={{{BITS},colluders=1,liars=1}}"],
    "copies in a field": [f"scheme.options={{{BITS},parts=6,stragglers=0}}", "workers.count=10"],
}


def descend(*overrides: str, workers: int = 7, times: Sequence[float] = ()) -> Descent:
    data = [] if any(each.startswith("problem.data=") for each in overrides) else DATA
    sets = [*JOB, *data, f"workers.count={workers}", *overrides]
    count = int(next(each for each in reversed(sets) if each.startswith("workers.count")).partition("=")[2])
    made = Descent(sets, times or [1 + i / 7 for i in range(count)])
    made.run()
    return made


def uncoded(*overrides: str) -> list[np.ndarray]:
    return descend(*overrides, "scheme.name=uncoded", "update.mode=all", "memory.kind=none").thetas


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", CODES)
def test_the_descent_is_that_of_uncoded_gradients(kind: str, code: str) -> None:
    """Modulo a prime, up to the rounding of data and θ."""
    modular = "field" in "".join(CODES[code])
    if kind == "float32" and modular:
        return
    times = [3, 1, 1.5, 2, 1.2, 0.7, 1.1, 1.3, 5, 0.9]
    coded = descend(*KINDS[kind], *CODES[code], times=times)
    near = 1e-3 if kind == "float32" else 3e-5 if modular else 1e-9
    np.testing.assert_allclose(coded.thetas, uncoded(*KINDS[kind]), rtol=0, atol=near)


def test_it_steps_at_the_threshold() -> None:
    made = descend("scheme.options.parts=3", workers=9, times=[1, 2, 3, 4, 5, 60, 70, 80, 90])
    used = made.trace.column("worker")[made.trace.column("status") == USED]
    assert set(used) == set(range(5))  # (3 - 1) · 2 + 1
    assert len(used) == 8 * 5
    shares = made.trace.column("captured")[made.trace.column("status") == USED].reshape(8, 5)
    np.testing.assert_allclose(shares, np.tile([0.2, 0.4, 0.6, 0.8, 1], (8, 1)))


@pytest.mark.parametrize("code", [[], [FIELD]])
@pytest.mark.parametrize(
    "how",
    [
        "kind='lie'", "kind='lie', how='scale', value=3.0", "kind='lie', how='constant', value=1.0",
        "kind='lie', how='gaussian', value=10.0", "kind='corrupt', bits=9", "kind='collude'",
    ],
)  # fmt: skip
def test_byzantine_workers_are_flagged_and_change_nothing(code: list[str], how: str) -> None:
    options = ["scheme.options.liars=2", "scheme.options.stragglers=0", "scheme.options.parts=2", *code]
    honest, lied = descend(*options), descend(*options, lies([1, 4], how))
    near = 0 if code else 1e-9
    np.testing.assert_allclose(lied.thetas, honest.thetas, rtol=near, atol=near)
    flagged = lied.coordinator.roster.flagged
    if "corrupt" in how and not code:  # the last bits of a real number are no lie
        assert {worker for worker, count in enumerate(flagged) if count} <= {1, 4}
    elif how == "kind='collude'":  # they know nothing that differs from their own results
        assert flagged == [0] * 7
    else:
        assert flagged == [0, 8, 0, 0, 8, 0, 0]
    assert honest.coordinator.roster.flagged == [0] * 7


def test_too_many_byzantine_workers_end_the_run() -> None:
    made = Descent([*JOB, *DATA, "workers.count=7", "scheme.options.liars=1", FIELD, lies([0, 3])], [1.0] * 7)
    assert made.run() == "update 0 cannot be decoded: more than 1 of 7 results contradict the others"
    assert made.coordinator.stuck


@pytest.mark.parametrize("code", [[], [FIELD, "scheme.options.data_bits=14"]])
def test_a_mini_batch_is_the_same_rows_of_each_part(code: list[str]) -> None:
    """And its gradient is the mean over them, of the rows that all parts have together."""
    made = descend("problem.batch=20", "optimizer.momentum=0", "scheme.options.parts=3", *code)
    whole, rows = made.components.source.whole, 45
    x, y = whole.x.reshape(3, rows, -1), whole.y.reshape(3, rows, -1)
    theta, seen = made.thetas[0], []
    for version, found in enumerate(made.thetas[1:]):
        drawn = pdcode.util.rng.BatchSampler(made.config.seed, 0, rows, 7).draw(version).copy()
        weights, gradient = theta.reshape(1, -1), np.zeros((1, 10))
        for each, targets in zip(x[:, drawn], y[:, drawn], strict=True):
            gradient += (each @ weights.T - targets).T @ each
        gradient = gradient / 21 + 0.01 * weights * (np.arange(10) < 9)
        theta = theta - 0.02 * gradient.ravel()
        np.testing.assert_allclose(found, theta, rtol=0, atol=1e-5 if code else 1e-10)
        seen.append(drawn.tolist())
    assert len({*map(tuple, seen)}) == 8
    assert made.components.task_rows == 7


@pytest.mark.parametrize("sigmoid", [1, 5])
def test_logistic_regression_with_an_approximation(sigmoid: int) -> None:
    more = ["optimizer.rate=0.3", "stop.updates=40", "workers.count=16"]
    made = descend(*LOGISTIC, *more, f"scheme.options={{sigmoid={sigmoid},range=20}}")
    assert made.components.problem.accuracy(made.thetas[-1]) > 0.94
    assert made.components.problem.loss(made.thetas[-1]) < 0.2
    if sigmoid == 1:  # a field holds too little of degree 6
        modular = descend(
            *LOGISTIC, *more, "scheme.options={range=20,arithmetic='field',data_bits=10,theta_bits=12}"
        )
        np.testing.assert_allclose(modular.thetas, made.thetas, rtol=0, atol=5e-3)


def test_rounding_errors_are_within_their_bound() -> None:
    made, seen = Descent([*JOB, *DATA, "workers.count=9"], [1.0 + i / 9 for i in range(9)]), []
    step, problem = made.state.step, made.components.problem
    plain = problem.plan(0)

    def compared(damping: float) -> float | None:
        plain.gradient(made.state.theta.copy(), None)
        norm = step(damping)
        found = made.state.optimizer.whole_gradient
        seen.append((np.abs(found - plain.full_gradient).max(), made.state.error))
        return norm

    made.state.step = compared  # type: ignore[method-assign]
    made.run()
    assert all(0 < error <= bound < 1e-7 for error, bound in seen)


class Weighted:
    """Gradient of errors squared and weighted by the targets: degree 3."""

    def __call__(self, x, y, theta):  # type: ignore[no-untyped-def]
        return ((x @ theta.T - y) * y).T @ x


PLUGIN = """
from pdcode.encoded.lagrange import Lagrange

class Weighted:
    def __call__(self, x, y, theta):
        return ((x @ theta.T - y) * y).T @ x

class Own(Lagrange):
    name, summary = "own", "errors weighted by the targets"
    def polynomial(self):
        return Weighted()
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "own.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.mark.parametrize("code", [[], [FIELD, "scheme.options.theta_bits=10"]])
def test_another_polynomial(code: list[str], plugin: Path) -> None:
    """By a plug-in, of one method; the threshold follows from its degree."""
    own = [f'plugins=["{plugin}"]', "scheme.name=own", "problem.l2=0", "optimizer.momentum=0"]
    made = descend(*own, *code, "scheme.options.parts=2", workers=6)
    assert made.trace.column("status").tolist().count(USED) == 8 * 4
    whole, theta = made.components.source.whole, made.thetas[0]
    for _ in made.thetas[1:]:
        gradient = Weighted()(whole.x, whole.y, theta.reshape(1, -1)) / len(whole.x)
        theta = theta - 0.02 * gradient.ravel()
    np.testing.assert_allclose(made.thetas[-1], theta, rtol=0, atol=1e-3 if code else 1e-10)


def test_secrets_are_drawn_by_the_operating_system_and_change_nothing() -> None:
    job = [*JOB, *DATA, "workers.count=7", FIELD, "scheme.options.colluders=1"]
    components = [prepare(resolve({}, job)) for _ in range(4)]
    for each in components[2:]:
        each.scheme.placement.seed_secrets()
    shares = [each.scheme.placement.worker_data(each.source, 3)["x"] for each in components]
    np.testing.assert_array_equal(shares[0], shares[1])  # by the seed: on all ranks of a simulation
    assert (shares[0] != shares[2]).mean() > 0.99
    assert (shares[2] != shares[3]).mean() > 0.99
    plain, hidden = Descent(job, [1.0] * 7), Descent(job, [1.0] * 7)
    hidden.components.scheme.placement.seed_secrets()
    plain.run()
    hidden.run()
    np.testing.assert_array_equal(plain.thetas, hidden.thetas)


def test_encoded_data_are_independent_of_the_data() -> None:
    """Unlike without random numbers, where it may have a part as it is."""
    job = [*JOB, *DATA, "workers.count=7", FIELD]
    for colluders in (0, 1):
        made = prepare(resolve({}, [*job, f"scheme.options.colluders={colluders}"]))
        share = made.scheme.placement.worker_data(made.source, 2)
        ones = len(np.unique(share["x"][:20, -1]))  # the column of ones
        assert ones == (20 if colluders else 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["scheme.options.parts=4"], "7 workers are too few for parts = 4 at degree 2, stragglers = 1"),
        (["scheme.options.parts=4"], "unchanged: parts = 3, or stragglers = 0"),
        (["scheme.options.parts=5"], "feasible with the others unchanged: parts = 3"),
        (["scheme.options.liars=3"], "liars = 3 and colluders = 0; .*: stragglers = 0, or liars = 2"),
        (["scheme.options={liars=2,colluders=3,arithmetic='field'}"], "colluders = 0"),
        (["scheme.options.stragglers=7"], "stragglers = 7, .*unchanged: stragglers = 6"),
        (["scheme.options.parts=2000000000"], "parts = 2000000000 at .*: parts = 3$"),
        (["scheme.options={stragglers=1000000000000,liars=5}"], "unchanged: nothing"),
        (
            ["scheme.options={colluders=1,arithmetic='real'}"],
            "arithmetic: 'real' .*colluders 1, which would learn",
        ),
        ([FIELD, "problem.dtype=float32"], "problem.dtype: 'float32' .*which has residues of eight bytes"),
        ([FIELD, "scheme.options.prime=7"], "scheme.options.prime: "),
        (["scheme.options.arithmetic=modular"], "scheme.options.arithmetic: "),
        (["problem.kind=softmax", "problem.data=digits"], "problem.kind: 'softmax': scheme 'lagrange' has"),
        ([*LOGISTIC, "scheme.options.sigmoid=2"], "scheme.options.sigmoid: 2 is even"),
        (["scheme.options.sigmoid=3"], "sigmoid: 3 has no effect with problem.kind 'least-squares'"),
        (["scheme.options.theta_bits=3"], "theta_bits: 3 has no effect with scheme.options.arithmetic"),
        (["update.clip=median"], "update.clip: 'median' .*'lagrange', which cannot decode scaled"),
        (["update.mode=all"], "update.mode: 'all'"),
        (["update.late=use"], "update.late: 'use'"),
        (["wire.dtype=int8"], "wire.dtype: 'int8'"),
    ],
)  # fmt: skip
def test_bad_options_are_named(changes: list[str], message: str) -> None:
    data = [] if any("problem.data" in each for each in changes) else DATA
    with pytest.raises(InputError, match=message):
        resolve({}, [*JOB, *data, "workers.count=7", *changes])


def test_sums_that_may_not_fit_are_refused_with_bits_that_do() -> None:
    job = [*JOB, *DATA, "workers.count=7", FIELD, "scheme.options.prime=2^31-1"]
    fits = (
        r"sums may reach 2\^.*12 fractional bits of data.*2\^30; data_bits = (\d+) and theta_bits = (\d+) fit"
    )
    with pytest.raises(InputError, match=fits) as refused:
        prepare(resolve({}, job))
    said = refused.value.args[0].split()
    bits = [int(said[said.index(f"{key}_bits") + 2]) for key in ("data", "theta")]
    for more, good in ((0, True), (1, False)):
        options = [
            f"scheme.options.{key}_bits={number + more}"
            for key, number in zip(("data", "theta"), bits, strict=True)
        ]
        if good:
            prepare(resolve({}, [*job, *options]))
        else:
            with pytest.raises(InputError):
                prepare(resolve({}, [*job, *options]))
    with pytest.raises(InputError, match="fit at the first θ"):
        prepare(resolve({}, [*job, "scheme.options.prime=2^61-1", "scheme.options.data_bits=40"]))


def test_a_theta_that_outgrows_the_field_ends_the_run_with_all_that_was_written(tmp_path: Path) -> None:
    job = [*JOB, *DATA, "workers.count=7", FIELD, "optimizer.rate=5.0", "stop.updates=500"]
    config = resolve({}, [*job, f"trace.path={tmp_path}/trace.h5"])
    with pytest.raises(Failure, match=r"sums may reach 2\^6.*\(update (\d+)\)") as failed:
        pdcode.simulate(msgspec.to_builtins(config), progress=False)
    updates = failed.value.trace.updates.rows
    assert f"(update {updates})" in str(failed.value)
    assert updates > 3


def test_the_dead_are_stragglers_and_too_many_end_the_run(tmp_path: Path) -> None:
    kills = [f"{{worker={worker}, at_s={0.05 + 0.1 * worker}}}" for worker in range(3)]
    job = [*JOB, *DATA, "workers.count=7", "scheme.options={parts=3,stragglers=2}", "stop.updates=1000"]
    job += ["machine.task_s=0.001", f"trace.path={tmp_path}/trace.h5"]
    two = resolve({}, [*job, f"faults.events=[{', '.join(kills[:2])}]"])
    assert pdcode.simulate(msgspec.to_builtins(two), progress=False).updates.rows == 1000
    three = resolve({}, [*job, f"faults.events=[{', '.join(kills)}]"])
    with pytest.raises(Failure, match="cannot be decoded: 4 results, and 5 are needed") as failed:
        pdcode.simulate(msgspec.to_builtins(three), progress=False)
    assert 150 < failed.value.trace.updates.rows < 300


def test_the_others_wait_for_a_worker_that_is_to_come_back(tmp_path: Path) -> None:
    events = "{worker=2, at_s=0.05}, {kind='join', worker=2, at_s=0.15}"
    job = [
        *JOB,
        *DATA,
        "workers.count=7",
        "scheme.options={parts=4,stragglers=0}",
        "workers.spares=1",
    ]
    job += ["stop.updates=300", "machine.task_s=0.001", f"faults.events=[{events}]"]
    config = resolve({}, [*job, f"trace.path={tmp_path}/trace.h5"])
    times = pdcode.simulate(msgspec.to_builtins(config), progress=False).updates["t_ns"]
    assert len(times) == 300
    assert max(np.diff(times)) > 0.09e9


def test_a_worker_that_is_back_counts_once() -> None:
    made = Descent(
        [*JOB, *DATA, "workers.count=7", "scheme.options={parts=2,liars=1,stragglers=0}"], [1.0] * 7
    )
    state, plain = made.state, made.components.problem.plan(0)
    payload, shares = np.ones((1, made.components.problem.size)), []
    for worker in (0, 1, 0, 2, 3, 1, 4):
        arrival = SimpleNamespace(worker=worker, payloads=[payload * (50 if worker == 2 else 1)])
        shares.append(state.fold(arrival))  # type: ignore[arg-type]
    assert shares == [0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 1.0]
    assert state.flagged == [3]
    assert plain.size == payload.size


def test_remarks_describe_the_code() -> None:
    lines = {
        "": ["any 5 of 7 results are enough for 3 parts", "condition number"],
        "scheme.options={liars=2}": ["for 1 part; 2 of them may be wrong"],
        "scheme.options={parts=5,stragglers=0}": ["which are replicated"],
        "scheme.options={arithmetic='field'}": ["sums modulo 2^61 - 1 reach at most 2^"],
    }
    for override, words in lines.items():
        sets = [*JOB, *DATA, "workers.count=7", *([override] if override else [])]
        said = "\n".join(prepare(resolve({}, sets)).remarks())
        assert all(word in said for word in words), said
    for sigmoid, words in (
        (1, "its error is at most 0.17 for |z| ≤ 5, and larger"),
        (3, "≤ 5; outside it falls"),
    ):
        sets = [*JOB, *LOGISTIC, "workers.count=7", f"scheme.options.sigmoid={sigmoid}"]
        said = "\n".join(prepare(resolve({}, sets)).remarks())
        assert words in said


@pytest.mark.parametrize(("batch", "rows"), [(0, 45), (30, 10)])
def test_flops_are_those_of_the_products(batch: int, rows: int) -> None:
    job = [*JOB, *DATA, "workers.count=7", f"problem.batch={batch}", "problem.outputs=4"]
    plain, modular = (prepare(resolve({}, [*job, *more])).flops() for more in ([], [FIELD]))
    products = 2 * 2 * rows * 10 * 4 + rows * 4
    assert plain == products + flops_per_touch(40) * 40
    assert 2 * products < modular < 10 * products


@given(
    *(st.integers(1, most) for most in (12, 8)),
    *(st.integers(0, most) for most in (5, 3, 3)),
    st.integers(1, 5),
)
def test_feasible_numbers_are_the_largest(workers, parts, stragglers, liars, colluders, degree):
    """By the conditions of the paper, as they are written there."""

    def feasible(design: Design) -> bool:
        n, k, s, a, t, d = design
        if t == 0 and n < k * d - 1:
            return s + 2 * a <= n // k - 1
        return (k + t - 1) * d + s + 2 * a + 1 <= n

    design = Design(workers, parts, stragglers, liars, colluders, degree)
    assert (design.spare >= 0) == feasible(design)
    if design.spare < 0:
        said = dict(each.split(" = ") for each in design.feasible())
        for key in ("parts", "stragglers", "liars", "colluders"):
            numbers = range(key == "parts", getattr(design, key))
            possible = [number for number in numbers if feasible(design._replace(**{key: number}))]
            assert ([int(said[key])] if key in said else []) == possible[-1:]


def test_a_scheme_needs_no_data_to_be_checked() -> None:
    config = resolve({}, [*JOB, *DATA, "workers.count=40"])
    scheme = make_scheme(config)
    assert (scheme.design.parts, scheme.design.degree, scheme.design.spare) == (20, 2, 0)
