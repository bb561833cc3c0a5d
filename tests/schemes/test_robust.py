"""Robust aggregation: each rule as its paper defines it, written out; what liars can do; attacks."""

import numpy as np
import pytest
import scipy.optimize
from descents import Descent
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.linalg import norm

from pdcode.config.load import resolve
from pdcode.faults.payloads import Collude
from pdcode.kernels import finite
from pdcode.rivals.robust import MAX_LIARS, RobustAggregate, Rule
from pdcode.util.errors import InputError

RULES = Rule.__args__
ROBUST = [
    "scheme.name=robust", "problem.batch=64", "problem.hidden=[8]", "workers.count=7", "stop.updates=6",
    "optimizer.rate=0.1", "problem.dtype=float64", "problem.shards=replicated",
]  # fmt: skip


def aggregate(vectors: np.ndarray, rule: str, **options: float) -> np.ndarray:
    decoder = RobustAggregate(
        1, (vectors.shape[1],), vectors.dtype, rule=rule, workers=len(vectors), **options
    )
    return given_to(decoder, vectors)


def given_to(decoder: RobustAggregate, vectors: np.ndarray) -> np.ndarray:
    for vector in vectors:
        decoder.add([1.0], vector)
    return decoder.gradient()[0]


def written_out(x: np.ndarray, rule: str, liars: int) -> np.ndarray:
    count = len(x)
    if rule == "median":
        return np.median(x, axis=0)
    if rule == "trimmed":
        cut = min(liars, (count - 1) // 2)
        return np.sort(x, axis=0)[cut : count - cut].mean(axis=0)
    if rule == "clipping":  # from zero
        lengths = norm(x, axis=1)
        return (x * np.minimum(1, np.median(lengths) / lengths)[:, None]).mean(axis=0)
    scores = []
    for i in range(count):
        others = sorted(norm(x[i] - x[j]) ** 2 for j in range(count) if j != i)
        scores.append(sum(others[: max(1, count - liars - 2)]))
    best = np.argsort(scores, kind="stable")
    return x[best[: 1 if rule == "krum" else max(1, count - liars)]].mean(axis=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "geometric"])
@given(count=st.integers(1, 12), length=st.integers(1, 40), liars=st.integers(0, 4), seed=st.integers(0, 999))
def test_a_rule_is_what_it_is_called(rule, dtype, count, length, liars, seed):
    x = np.random.default_rng(seed).normal(size=(count, length)).astype(dtype)
    near = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(aggregate(x, rule, liars=liars), written_out(x, rule, liars), atol=near)


@given(count=st.integers(1, 9), length=st.integers(2, 5), seed=st.integers(0, 999))
def test_the_geometric_median_has_the_least_sum_of_distances(count: int, length: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_cauchy((count, length))

    def far(point: np.ndarray) -> float:
        return float(norm(x - point, axis=1).sum())

    found = far(aggregate(x, "geometric"))
    starts = [x.mean(axis=0), np.median(x, axis=0), *x]
    least = min(scipy.optimize.minimize(far, start, method="Nelder-Mead").fun for start in starts)
    assert found <= least * (1 + 1e-4) + 1e-9


@given(
    kind=st.sampled_from(["apart", "equal", "nearly equal", "in a line", "far from 0", "with outliers"]),
    count=st.integers(1, 16),
    same=st.integers(1, 9),
    length=st.integers(1, 30),
    seed=st.integers(0, 9999),
)
@example(kind="equal", count=13, same=5, length=30, seed=0)  # f + 1 of 13 with f = 4
@example(kind="in a line", count=2, same=1, length=3, seed=0)
@example(kind="with outliers", count=5, same=1, length=3, seed=406)
@example(kind="equal", count=5, same=5, length=1, seed=4)
@example(kind="equal", count=5, same=4, length=1, seed=1)
def test_zero_is_a_subgradient_at_the_geometric_median(kind, count, same, length, seed):
    """Also where it is one of the vectors: the others' unit vectors add up to no more than their number."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, length))
    if "equal" in kind:
        x[:same] = x[0] + (1e-4 * x[:same] if kind == "nearly equal" else 0)
    elif kind == "in a line":
        x = random.integers(-3, 4, count)[:, None] * x[0] + x[-1]
    elif kind == "far from 0":
        x += 100
    elif kind == "with outliers":
        x[: count // 4] *= 1e9
    difference = x - aggregate(x, "geometric")
    far = norm(difference, axis=1)
    apart = far > max(1e-5 * np.quantile(far, 0.75), 1e-8 * np.median(norm(x, axis=1)))
    units = difference[apart] / far[apart, None]
    assert norm(units.sum(axis=0)) <= np.sum(~apart) + 2e-5 * count


def test_clipping_goes_on_from_the_last_aggregate() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 5, 8))
    decoder = RobustAggregate(1, (8,), "float64", rule="clipping", workers=5, radius=0.7)
    before = given_to(decoder, first)
    decoder.reset()
    far = second - before
    expected = before + (far * np.minimum(1, 0.7 / norm(far, axis=1))[:, None]).mean(axis=0)
    np.testing.assert_allclose(given_to(decoder, second), expected, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [1e3, -1e6, 1e12])
def test_liars_cannot_move_it_far(rule: str, value: float) -> None:
    """Three of 15, which do move the mean."""
    honest = 1 + 0.1 * np.random.default_rng(5).normal(size=(12, 50))
    vectors = np.concatenate([np.full((3, 50), value), honest])
    found = aggregate(vectors, rule, liars=3)
    assert norm(found - 1) < (5.5 if rule == "clipping" else 1.0)  # of 7.1, the length of the mean
    assert norm(vectors.mean(axis=0) - 1) > 1000


def breakdown(rule: str, honest: np.ndarray, liars: int, found: np.ndarray) -> float:
    """How far an aggregate is beyond what its rule promises with so many liars; above 0: too far."""
    count, centre = len(honest) + liars, honest.mean(axis=0)
    radius = norm(honest - centre, axis=1).max()
    if rule in ("median", "trimmed"):  # each element is between two honest ones
        return float(np.max(np.maximum(honest.min(axis=0) - found, found - honest.max(axis=0))))
    if rule == "clipping":  # from zero by at most the median length, which is not above all honest ones
        return float(norm(found) - norm(honest, axis=1).max())
    far = {
        "geometric": 2 * (count - liars) / (count - 2 * liars),  # Lopuhaä and Rousseeuw 1991
        "krum": 1 + 2 * np.sqrt(max(1, count - liars - 2)),  # its score is at most that of an honest one
        "multi-krum": 1 + 2 * np.sqrt(max(1, count - liars - 2)),
    }[rule]
    return float(norm(found - centre) - far * radius)


def lies(data: st.DataObject, honest: np.ndarray, number: int) -> np.ndarray:
    """Payloads of liars, all of which a message may hold: any floats, bit flips, equal ones, in a line."""
    bits, (_, length) = 8 * honest.itemsize, honest.shape
    floats = st.floats(width=bits, allow_nan=False, allow_infinity=False)
    kind = data.draw(st.sampled_from(["floats", "flips", "equal", "in a line"]))
    if kind == "flips":
        made = honest[:number].copy()
        whole = made.view(f"u{honest.itemsize}")
        for row in whole:
            for _ in range(data.draw(st.integers(1, 3))):
                place, bit = data.draw(st.integers(0, length - 1)), data.draw(st.integers(0, bits - 1))
                row[place] ^= whole.dtype.type(1) << whole.dtype.type(bit)
    elif kind == "in a line":
        exponent = data.draw(st.integers(-30, 18 if bits == 32 else 140))
        made = honest.mean(axis=0) * (10.0**exponent * np.arange(1, number + 1)[:, None])
    else:
        rows = data.draw(st.lists(floats, min_size=length, max_size=length))
        made = np.tile(rows, (number, 1)) * (1 if kind == "equal" else data.draw(st.sampled_from([1, -1])))
    return made.astype(honest.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
def test_no_lie_that_a_message_can_hold_breaks_a_rule(rule: str, dtype: str, data: st.DataObject) -> None:
    liars = data.draw(st.integers(1, 4))
    count = data.draw(st.integers(2 * liars + 3, 13))
    random = np.random.default_rng(data.draw(st.integers(0, 999)))
    scale = 10.0 ** data.draw(st.integers(-12, 12))
    honest = (scale * (1 + random.normal(size=(count - liars, 6)))).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        lied = [each for each in lies(data, honest, liars) if finite.all_usable(each)]
    if not lied:
        return  # all were refused
    vectors = np.concatenate([lied, honest])[random.permutation(len(lied) + len(honest))]
    found = aggregate(vectors, rule, liars=liars)
    assert breakdown(rule, honest.astype(float), len(lied), found.astype(float)) <= 1e-4 * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fault", ["kind='lie',how='constant',value=1e17", "kind='corrupt',bits=3"])
def test_a_run_with_a_liar_of_huge_numbers_descends(rule: str, fault: str, dtype: str) -> None:
    preset = [*ROBUST, "code.blocks=1", f"scheme.preset={rule}", f"problem.dtype={dtype}"]
    more = [f"faults.events=[{{{fault},worker=3,task=0}}]", "workers.count=11", "stop.updates=20"]
    made = Descent([*preset, *more], [1 + 0.01 * worker for worker in range(11)])
    problem = made.components.problem
    first = problem.loss(made.state.theta)
    made.run()
    assert made.coordinator.version == 20
    assert problem.loss(made.state.theta) < 0.9 * first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["update.mode=async"], "update.mode: 'async' .* 'robust', which compares"),
        (
            ["scheme.options.liars=2"],
            "scheme.options.liars: 2 has no effect with scheme.options.rule 'median'",
        ),
        (
            ["scheme.options.radius=2.0"],
            "scheme.options.radius: 2.0 has no effect with scheme.options.rule 'median'",
        ),
        (
            ["scheme.preset=krum", "scheme.options.liars=3"],
            "liars: rule 'krum' tolerates at most 2 of 7 workers",
        ),
        (
            ["scheme.preset=trimmed", "scheme.options.liars=4"],
            "rule 'trimmed' tolerates at most 3 of 7 workers",
        ),
        (["scheme.options.rule=mean"], "scheme.options.rule"),
    ],
)
def test_bad_options_are_named(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve({}, [*ROBUST, *changes])


@pytest.mark.parametrize("rule", RULES)
def test_presets_are_rules(rule: str) -> None:
    config = resolve({}, [*ROBUST, f"scheme.preset={rule}"])
    assert config.scheme.options.rule == rule
    assert MAX_LIARS.get(rule, lambda workers: 1)(7) >= 1


def sent(event: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """What worker 3 computes, and what all send, in the first update."""
    payloads: list[list[np.ndarray]] = []
    for events in ("[]", f"[{{worker=3, task=0, {event}}}]"):
        made = Descent(
            [*ROBUST, "code.blocks=1", "stop.updates=1", f"faults.events={events}"],
            [1.0 + 0.1 * i for i in range(7)],
        )
        seen: list[np.ndarray] = []
        fold = made.state.fold
        made.state.fold = lambda arrival, fold=fold, seen=seen: (  # type: ignore[method-assign, misc]
            seen.append(np.concatenate([each.ravel() for each in arrival.payloads])), fold(arrival)
        )[1]  # fmt: skip
        made.run()
        payloads.append(seen)
    return payloads[0][3], payloads[1]


def test_gaussian_errors() -> None:
    honest, all_sent = sent("kind='lie', how='gaussian', value=100.0")
    errors = all_sent[3] - honest
    assert 90 < errors.std() < 110
    assert abs(errors.mean()) < 20


def test_who_colludes_sends_about_what_the_others_do() -> None:
    honest, all_sent = sent("kind='collude', how='little', value=1.5, samples=200")
    others = np.array([each for number, each in enumerate(all_sent) if number != 3])
    mean, spread = others.mean(axis=0), others.std(axis=0, ddof=1)
    moved = (mean - all_sent[3])[spread > 1e-9] / spread[spread > 1e-9]
    assert 1.1 < np.median(moved) < 2.1
    assert not np.array_equal(honest, all_sent[3])


def test_the_opposite_of_the_mean() -> None:
    _, all_sent = sent("kind='collude', how='inner-product', value=0.5, samples=200")
    mean = np.mean([each for number, each in enumerate(all_sent) if number != 3], axis=0)
    along = all_sent[3] @ mean / (norm(all_sent[3]) * norm(mean))
    assert along < -0.8
    assert 0.3 < norm(all_sent[3]) / norm(mean) < 0.7


@pytest.mark.parametrize(
    "scheme",
    [
        ["scheme.name=sag", "code.blocks=1", "problem.batch=0"],
        ["scheme.name=local", "code.blocks=1", "scheme.options.steps=2"],
        ["memory.kind=worker", "wire.dtype=int8", "code.blocks=[8,1]"],
    ],
)
def test_gradients_beside_those_of_tasks_change_nothing_at_the_worker(scheme, monkeypatch):
    """A worker that ends up sending what it had computed: the same descent."""
    monkeypatch.setattr(Collude, "corrupt_payload", lambda fault, reply, keys, oracle: (oracle(1), oracle(2)))
    thetas = []
    for events in ("[]", "[{kind='collude', worker=1, task=0}]"):
        job = [*scheme, "workers.count=3", "stop.updates=12", f"faults.events={events}"]
        made = Descent(job, [1.0, 1.3, 0.7])
        made.run()
        thetas.append(made.thetas[-1])
    np.testing.assert_array_equal(*thetas)
