"""Proximal steps: the operator by its definition, scikit-learn's optima, and every path of a run."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode import problems
from pdcode.coding import optimizers
from pdcode.coding.proximals import Penalty
from pdcode.config import Config, OptimizerTable, Proximal, kinds, load
from pdcode.config.write import to_toml
from pdcode.decoders import create
from pdcode.schemes.common import builders
from pdcode.session.setup import prepare
from pdcode.transport.units import Unit
from pdcode.util.errors import InputError

TABLES = {
    "l1": {"weight": 0.4},
    "elastic-net": {"l1": 0.3, "l2": 0.8},
    "box": {"low": -0.2, "high": 0.5},
    "group-lasso": {"weight": 0.5, "inputs": 2},
}
SQUARES = {
    "kind": "least-squares", "data": "synthetic", "samples": 250, "features": 12, "dtype": "float64",
    "condition": 2.0, "noise": 0.5, "batch": 0,
}  # fmt: skip


def kind_of(name):
    return Proximal.of({"kind": name, **TABLES[name]})


def test_every_kind_is_tried():
    """A projection on a set that is not convex is tried with the problems that need it."""
    assert {*TABLES, "unit-norm"} == set(kinds.KINDS["proximals"])


@pytest.mark.parametrize("name", TABLES)
@given(
    outputs=st.integers(1, 4), inputs=st.integers(1, 7), step=st.floats(0.0, 2.0), turned=st.booleans(),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_the_operator_is_the_minimiser_of_its_definition(name, outputs, inputs, step, turned, seed):
    """x minimises ½‖x - z‖² + step·h(x): strongly convex, so no other point is below by the distance's
    square."""
    random, kind = np.random.default_rng(seed), kind_of(name)
    z = random.normal(size=(outputs, inputs))
    x = z.T.copy().T if turned else z.copy()
    kind.shrink(x, step)

    def objective(point):
        return 0.5 * np.square(point - z).sum() + step * kind.value(point)

    if name == "box":
        assert x.min() >= -0.2
        assert x.max() <= 0.5
    for scale in (1e-4, 0.1, 2.0):
        for _ in range(5):
            other = x + scale * random.normal(size=x.shape) * (random.random(x.shape) < 0.5)
            if name == "box":
                other = other.clip(-0.2, 0.5)
            assert objective(other) >= objective(x) + 0.5 * np.square(other - x).sum() - 1e-12


def test_groups_are_the_weights_of_an_input_scaled_by_the_root_of_their_size():
    kind = kind_of("group-lasso")
    weights = np.array([[3.0, 0.0, 0.1, 0.1, 1.0], [4.0, 0.0, -0.1, 0.1, 1.0]])
    norms, scales = [5.0, 0.2, np.sqrt(2)], [2.0, 2.0, np.sqrt(2)]
    assert kind.value(weights) == pytest.approx(0.5 * np.dot(norms, scales))
    kind.shrink(weights, 1.0)
    np.testing.assert_allclose(weights[:, 0], [3 * 0.8, 4 * 0.8])
    assert not weights[:, 2:4].any()
    one, same = np.random.default_rng(0).normal(size=(2, 1, 6))
    one[:] = same
    Proximal.of({"kind": "group-lasso", "weight": 0.3}).shrink(one, 1.5)
    Proximal.of({"kind": "l1", "weight": 0.3}).shrink(same, 1.5)
    np.testing.assert_allclose(one, same, atol=1e-15)


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("penalise_bias", [False, True])
def test_biases_are_left_out_unless_they_are_penalised(axis, penalise_bias):
    table = {"kind": "mlp", "hidden": [5], "axis": axis, "penalise_bias": penalise_bias, "dtype": "float64"}
    problem = problems.create(table)
    penalty, theta = Penalty(kind_of("l1"), problem), np.ones(problem.size)
    biases = 0 if penalise_bias else 15
    assert penalty.value(theta) == pytest.approx(0.4 * (problem.size - biases))
    penalty.apply(theta, 5.0)
    assert np.count_nonzero(theta) == biases
    assert all((problem.weights(theta, layer)[:, -1] == (not penalise_bias)).all() for layer in (0, 1))


@pytest.mark.parametrize("table", [{"momentum": 0.0}, {"momentum": 0.6}, {"momentum": 0.6, "nesterov": True}])
def test_without_an_effect_the_steps_are_those_without_it(table):
    problem = problems.create(SQUARES)
    penalty = Penalty(Proximal.of({"kind": "l1", "weight": 0.0}), problem)
    thetas, random = [problem.initial(1), problem.initial(1)], np.random.default_rng(0)
    makes = [
        optimizers.create(table, problem.size, "float64"),
        optimizers.create(table, problem.size, "float64", penalty),
    ]
    stacks = [[create("adjoint", 1, (problem.size,), "float64")] for _ in makes]
    for _ in range(5):
        gradient, norms = random.normal(size=problem.size), []
        for theta, optimizer, stack in zip(thetas, makes, stacks, strict=True):
            stack[0].add([1.0], gradient)
            norms.append(optimizer.step(theta, [Unit(0, problem.size, 1)], stack))
            stack[0].reset()
        np.testing.assert_allclose(thetas[1], thetas[0], rtol=1e-13, atol=1e-13)
        assert norms[1] == pytest.approx(norms[0])


def simulated(tmp_path, *settings):
    """Run; return the trace, and the weights and biases of the last θ of a linear model."""
    base = [
        *(f"problem.{key}={value}" for key, value in SQUARES.items()), f"trace.path={tmp_path / 'p.h5'}",
        "workers.count=4", "stop.updates=600", "scheme.name=uncoded", "update.mode=all", "optimizer.rate=0.3",
    ]  # fmt: skip
    trace = pdcode.simulate({}, set=[*base, *settings], progress=False)
    problem = problems.create(trace.config["problem"])
    return trace, problem, problem.weights(trace.theta, 0)


@pytest.mark.parametrize("momentum", ["0.0", "0.5", "0.5/nesterov"])
def test_a_run_ends_at_the_optimum_of_the_lasso_and_measures_its_loss(tmp_path, momentum):
    from sklearn.linear_model import Lasso

    beta, _, nesterov = momentum.partition("/")
    settings = [f"optimizer.momentum={beta}", *(["optimizer.nesterov=true"] if nesterov else [])]
    trace, problem, weights = simulated(
        tmp_path, "optimizer.proximal={kind='l1', weight=0.1}", "stop.loss=0.01", *settings
    )
    data = problem.dataset
    model = Lasso(alpha=0.1, tol=1e-14, max_iter=100_000).fit(data.x[:, :-1], data.y[:, 0])
    np.testing.assert_allclose(weights[0, :-1], model.coef_, atol=1e-12)
    assert weights[0, -1] == pytest.approx(model.intercept_)
    assert 2 < np.count_nonzero(weights[0, :-1] == 0) == np.count_nonzero(model.coef_ == 0)
    penalised = problem.loss(trace.theta) + 0.1 * np.abs(weights[0, :-1]).sum()
    assert trace.progress["loss"][-1] == pytest.approx(penalised)


def test_a_run_ends_at_the_optimum_of_the_elastic_net(tmp_path):
    from sklearn.linear_model import ElasticNet

    _, problem, weights = simulated(tmp_path, "optimizer.proximal={kind='elastic-net', l1=0.06, l2=0.14}")
    data = problem.dataset
    model = ElasticNet(alpha=0.2, l1_ratio=0.3, tol=1e-14, max_iter=100_000)
    model.fit(data.x[:, :-1], data.y[:, 0])
    np.testing.assert_allclose(weights[0, :-1], model.coef_, atol=1e-12)


def test_a_run_ends_at_the_optimum_of_nonnegative_least_squares(tmp_path):
    from scipy.optimize import nnls

    _, problem, weights = simulated(tmp_path, "optimizer.proximal={kind='box', low=0.0}")
    data = problem.dataset
    x, y = data.x[:, :-1], data.y[:, 0]
    expected, _ = nnls(x - x.mean(axis=0), y - y.mean())
    np.testing.assert_allclose(weights[0, :-1], expected, atol=1e-12)


def test_whole_inputs_become_zero(tmp_path):
    _, _, weights = simulated(
        tmp_path, "problem.outputs=3", "optimizer.proximal={kind='group-lasso', weight=0.12}"
    )
    zero = weights[:, :-1] == 0
    assert 0 < np.count_nonzero(zero.all(axis=0)) < 12
    np.testing.assert_array_equal(zero.all(axis=0), zero.any(axis=0))


EXACT = {
    "first": ["update.mode=first", "update.count=3"],
    "async": ["update.mode=async", "optimizer.rate=0.1"],
    "streaming": ["scheme.name=streaming", "code.blocks=2"],
    "cyclic": ["scheme.name=cyclic", "update.mode=first", "update.count=3", "update.late=waste"],
    "dsag": ["scheme.name=dsag", "update.mode=first", "update.count=3", "optimizer.rate=0.2"],
    "ringleader": ["scheme.name=ringleader", "update={mode='captured', fraction=1.0}", "optimizer.rate=0.1"],
    "sgc": ["scheme.name=sgc", "optimizer.rate=0.1"],
    "powersgd": ["scheme.name=powersgd", "update.late=waste", "optimizer.rate=0.2"],
    "differences": ["scheme.name=lwpd", "scheme.preset=shards", "code.blocks=4", "code.rows_per_task=2",
                    "code.weight=2"],
    "error feedback": ["memory.kind=worker", "downlink.kind=codewords"],
    "error feedback, first": ["memory.kind=worker", "update.mode=first", "update.count=2"],
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("name", EXACT)
def test_schemes_that_reach_an_optimum_reach_the_lasso(tmp_path, name):
    """However much of a gradient a step has: with error feedback a payload counts for 1/n."""
    from sklearn.linear_model import Lasso

    shards = [] if name in ("cyclic", "dsag", "sgc", "differences") else ["problem.shards=replicated"]
    _, problem, weights = simulated(
        tmp_path, *shards, *EXACT[name], "optimizer.proximal={kind='l1', weight=0.1}", "stop.updates=1500"
    )
    data = problem.dataset
    model = Lasso(alpha=0.1, tol=1e-14, max_iter=100_000).fit(data.x[:, :-1], data.y[:, 0])
    np.testing.assert_allclose(weights[0, :-1], model.coef_, atol=1e-9)


def test_local_steps_count_the_penalty_by_the_sum_of_their_rates(tmp_path):
    """Rank 0's steps alone know of it: they end near the lasso, the nearer the shorter local steps are."""
    from sklearn.linear_model import Lasso

    distances = []
    for rate, updates in ((0.1, 600), (0.01, 3000)):
        _, problem, weights = simulated(
            tmp_path, "scheme.name=local", "scheme.options.steps=4", f"scheme.options.rate={rate}",
            "optimizer.rate=1.0", "problem.shards=replicated", f"stop.updates={updates}",
            "optimizer.proximal={kind='l1', weight=0.1}",
        )  # fmt: skip
        data = problem.dataset
        model = Lasso(alpha=0.1, tol=1e-14, max_iter=100_000).fit(data.x[:, :-1], data.y[:, 0])
        distances.append(np.abs(weights[0, :-1] - model.coef_).max())
    assert distances[0] < 0.05
    assert distances[1] < 0.2 * distances[0]


NET = ["code.blocks=[8,1]", "code.weight=2"]
PATHS = {
    "plain": ["scheme.name=uncoded", "update.mode=async"],
    "relayed": [*NET, "downlink.kind=codewords", "downlink.check=3"],
    "exchanged": ["scheme.preset=default", "downlink.check=3", "optimizer.rate=0.2"],
    "regression": ["scheme.preset=regression", "downlink.check=3"],
    "heavy ball": [*NET, "downlink.kind=codewords", "downlink.check=3", "optimizer.momentum=0.5"],
    "allreduce": ["scheme.name=allreduce", "reduce.check=3"],
    "local": ["scheme.name=local"],
    "diloco": ["scheme.name=diloco"],
    "signsgd": ["scheme.name=signsgd", "optimizer.rate=0.01"],
    "robust": ["scheme.name=robust"],
}


@pytest.mark.every(4)
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_replayed_to_the_bit(tmp_path, path, kind):
    settings = PATHS[path]
    if kind == "box" and path in ("regression", "diloco"):
        settings = [*settings, "optimizer.nesterov=false"]
    name = tmp_path / "r.h5"
    table = ", ".join(
        f"{key}={value / 10 if key != 'inputs' else value}" for key, value in TABLES[kind].items()
    )
    settings = [
        "problem.hidden=[8]", "problem.batch=8", "problem.samples=300", "problem.data=synthetic",
        "problem.outputs=3", "workers.count=4", "stop.updates=40",
        "stragglers={kind='shifted-exponential', shift_s=0.0, mean_s=0.0003}", *settings,
        f"optimizer.proximal={{kind='{kind}', {table}}}", f"trace.path={name}",
    ]  # fmt: skip
    trace = pdcode.simulate({}, set=settings, progress=False)
    weights = [problems.create(trace.config["problem"]).weights(trace.theta, n)[:, :-1] for n in (0, 1)]
    if kind == "box":
        assert min(map(np.min, weights)) >= -0.02
        assert max(map(np.max, weights)) <= 0.05
    trace.replay(progress=False)


def test_the_first_theta_is_in_the_box():
    config = load.resolve({}, ["optimizer.proximal={kind='box', low=0.0, high=0.1}", "problem.hidden=[4]"])
    problem = problems.create(config.problem)
    theta = builders.initial_theta(config, problem)
    assert theta.min() == 0
    assert theta.max() == pytest.approx(0.1)


def test_the_penalty_is_a_table_of_the_configuration(tmp_path):
    config = load.resolve({}, ["optimizer.proximal.kind=elastic-net", "optimizer.proximal.l1=0.1",
                               "optimizer.proximal.l2=1"])  # fmt: skip
    assert config.optimizer.proximal.describe() == "elastic-net (l1 0.1, l2 1)"
    path = tmp_path / "p.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load.load(path)[0] == config
    assert Config.of(msgspec.to_builtins(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer.proximal={kind='l3'}"], r"optimizer.proximal.kind: expected one of l1, elastic-net"),
        (["optimizer.proximal={kind='l1'}"], r"optimizer.proximal.weight: must be given"),
        (["optimizer.proximal={kind='l1', weight=-1}"], r"optimizer.proximal.weight: expected number >= 0"),
        (["optimizer.proximal={kind='l1', weight=1, low=0}"],
         r"optimizer.proximal.low: kind 'l1' has no such key .*; 'box' has it"),
        (["optimizer.proximal=3"], r"optimizer.proximal: expected table, such as {kind = …} \(got 3\)"),
        (["optimizer.proximal={kind='box'}"], r"optimizer.proximal.low: give a bound"),
        (["optimizer.proximal={kind='box', low=2, high=1}"], r"optimizer.proximal.low: 2 is above .*high, 1"),
        (["optimizer.proximal={kind='l1', weight=1}", "optimizer.kind=adam"],
         r"optimizer.proximal: kind 'adam' has no such key \(value .*'l1'.*\); 'sgd'"),
        (["optimizer.proximal={kind='l1', weight=1}", "code.whiten=gram"],
         r"code.whiten: 'gram' does not go with optimizer.proximal.kind 'l1'"),
        (["optimizer.proximal={kind='box', low=0}", "optimizer.momentum=0.5", "optimizer.nesterov=true"],
         r"optimizer.nesterov: true does not go with optimizer.proximal.kind 'box'"),
        (["optimizer.proximal={kind='l1', weight=1}", "scheme.name=delayed-nesterov"],
         r"optimizer.proximal: 'l1' .*'delayed-nesterov', which has steps of its own"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        prepare(load.resolve({}, [*settings, "stop.updates=1"]))


def test_its_table_checks_itself():
    assert OptimizerTable.of({}).proximal is None
    with pytest.raises(InputError, match=r"optimizer.proximal.kind: expected one of"):
        OptimizerTable.of({"proximal": {"kind": "l0"}})
