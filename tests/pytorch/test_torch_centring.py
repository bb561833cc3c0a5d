"""Kind "torch": gradients by centred inputs, against the built-in network and layers of shifted inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from interrupted import built, interrupted
from outcomes import refused
from test_factors import CONV, FLAT, IMAGE, LINEAR, LONG, MODULES, Plain, image_layers, problem_of, weighted
from test_kind import named
from torch import Tensor, nn
from torch.nn import functional

import pdcode
from pdcode import problems
from pdcode.config import kinds
from pdcode.config.load import resolve
from pdcode.problems.whitening import Whitening
from pdcode.session import checkpoint
from pdcode.torch.model import TorchModel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("kind", ["none", "norm", "gram"])
@pytest.mark.parametrize("hidden", [12, 300])
def test_gradients_are_those_of_the_built_in_network(
    hidden: int, kind: str, axis: str, tmp_path: Path
) -> None:
    """Full and coded ones, and the means, of the same θ and mini-batches; of the wide layer by factors."""
    table = named("perceptron", "flat")
    kinds.load_plugin(table["data"].rpartition(":")[0])
    x, y = kinds.referenced("data", table["data"])()
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    common = {"axis": axis, "dtype": "float64"}
    rows = {"data": f"{tmp_path}/rows.npz", "standardise": False}
    own = problems.create({"hidden": [hidden], **rows, **common}, 4)
    mine = problems.create({**table, "options": {"hidden": hidden}, "factors": True, **common}, 4)
    theta, random = own.initial(3), np.random.default_rng(0)
    dense = [random.standard_normal((2, layer.count)) for layer in own.layers]
    words = [problems.sparse_codewords(each, own.dtype) for each in dense]
    plans = [each.plan(20, 2, weight=1.5, whiten=[kind, 1, "auto", True]) for each in (own, mine)]
    for count in range(4):
        rows = random.integers(0, 150, 20)
        if count % 2:
            losses = [plan.gradient(theta, rows) for plan in plans]
            found = [plan.full_gradient for plan in plans]
        else:
            losses = [plan.coded_derivative(theta, rows, words) for plan in plans]
            found = [plan.payload for plan in plans]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-11 * np.abs(found[0]).max())
        assert own.state.keys() == mine.state.keys() == {"mean 1", "batches 1"}
        assert mine.state["batches 1"] == own.state["batches 1"] == [count + 1]
        np.testing.assert_allclose(mine.state["mean 1"], own.state["mean 1"], rtol=0, atol=1e-13)


class Shifted(nn.Module):
    """A linear layer or convolution of its rows less their mean, and the bias that makes up for it."""

    def __init__(self, layer: Any, mean: Tensor) -> None:
        super().__init__()
        weight = layer.weight.detach().flatten(1)
        self.layer, self.mean, self.weight = layer, mean, nn.Parameter(weight)
        self.bias = nn.Parameter(layer.bias.detach() + weight @ mean)

    def forward(self, inputs: Tensor) -> Tensor:
        self.rows = inputs
        if isinstance(self.layer, nn.Conv2d):
            one: Any = self.layer
            geometry = one.kernel_size, one.dilation, one.padding, one.stride
            self.rows = functional.unfold(inputs, *geometry).transpose(1, 2)
        found = (self.rows - self.mean) @ self.weight.T + self.bias
        return found if self.rows is inputs else found.transpose(1, 2).reshape(self.layer(inputs).shape)


class Attention(nn.Module):
    """Attention by layers of its own, the last of which gets inputs that are not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.key, self.value, self.query = (LINEAR(8, 8) for _ in range(4))
        self.out = LINEAR(8, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        found = functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.out(found.transpose(0, 1)).transpose(0, 1)


SHIFTED: dict[str, tuple[Any, tuple[int, ...], list[str]]] = {
    "perceptron": (
        lambda: nn.Sequential(LINEAR(8, 40), nn.ReLU(), LINEAR(40, 40), nn.ReLU(), LINEAR(40, 6)), FLAT,
        ["2", "4"],
    ),
    "convolutions": (
        lambda: image_layers(
            CONV(4, 8, 3), nn.ReLU(), CONV(8, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
            nn.ReLU(), CONV(6, 5, 1),
        ),
        IMAGE, ["2", "4"],
    ),
    "normed": (
        lambda: image_layers(CONV(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), CONV(8, 6, 3, padding=1)), IMAGE,
        ["3"],
    ),
    "tokens": (lambda: nn.Sequential(LINEAR(8, 20), nn.ReLU(), LINEAR(20, 7)), LONG, ["2"]),
    "attention": (Attention, LONG, ["key", "value", "query", "out"]),
}  # fmt: skip


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("kind", ["none", "norm", "gram"])
@pytest.mark.parametrize("case", SHIFTED)
def test_gradients_are_those_of_layers_with_shifted_inputs(
    case: str, kind: str, axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By PyTorch at W and b + Wμ, whitened as a layer of such inputs, and brought back to b."""
    make, shape, names = SHIFTED[case]
    problem = problem_of(make, shape, monkeypatch, 4, axis=axis)
    theta, random, mine = problem.initial(3), np.random.default_rng(2), problem.model
    assert isinstance(mine, TorchModel)
    assert {name for name, each in problem.products.items() if each.centred} == {f"{n}.weight" for n in names}
    plan, means = problem.plan(5, whiten=[kind, 2, "auto", True]), dict.fromkeys(names, 0.0)
    numbers = {layer.name.removesuffix(".weight"): layer.layer for layer in problem.layers}
    for count in (1, 2):
        rows = random.integers(0, 12, 5)
        plan.gradient(theta, rows)
        module = make().double()
        for name, view in mine.views(theta).items():
            module.get_parameter(name).data = torch.from_numpy(view.copy())
        for name in names:
            mean = torch.from_numpy(problem.state[f"mean {numbers[name]}"].copy())
            module.set_submodule(name, Shifted(module.get_submodule(name), mean))
        loss = weighted(module, torch.as_tensor(problem.dataset.train[0][rows]))
        loss.backward()  # type: ignore[no-untyped-call]
        expected = np.empty_like(theta)
        for name, view in mine.views(expected).items():
            gradient = module.get_parameter(name).grad
            assert gradient is not None
            view[...] = gradient.reshape(view.shape)
        for layer in problem.layers:
            weights, name = layer.weights(expected), layer.name.removesuffix(".weight")
            if kind != "none":
                scale = (
                    1.0 if layer.inputs else len(weights) ** -0.5
                )  # of vectors the length is that of rank 1
                weights[...] = reference.whiten(np.eye(weights.shape[1]), weights.T, kind, scale, 2)
            if name in names:
                inner: Any = module.get_submodule(name)
                batch = inner.rows.detach().flatten(0, -2).mean(0).numpy()
                means[name] = means[name] + (batch - means[name]) / count
                np.testing.assert_allclose(inner.mean, means[name], rtol=0, atol=1e-13)
                weights[:, -1] -= weights[:, :-1] @ means[name]
        np.testing.assert_allclose(plan.full_gradient, expected, rtol=0, atol=1e-11)


def hidden(function: Any, **layers: nn.Module) -> nn.Module:
    return Plain(lambda m, x: function(m, m.first(x)), first=LINEAR(8, 8), **layers)


CENTRED: dict[str, tuple[Any, tuple[int, ...], set[str]]] = {
    "no bias": (lambda: nn.Sequential(LINEAR(8, 20), LINEAR(20, 6, bias=False)), FLAT, set()),
    "bias is used elsewhere": (lambda: hidden(lambda m, x: m.a(x) * m.a.bias, a=LINEAR(8, 6)), FLAT, set()),
    "bias is added to something else": (
        lambda: hidden(lambda m, x: x @ m.a.weight.t() + (x.sum() + m.a.bias), a=LINEAR(8, 6)), FLAT, set()
    ),
    "inputs by outputs": (
        lambda: hidden(lambda m, x: x @ m.a.weight + m.a.bias, a=LINEAR(8, 8)), FLAT, set()
    ),
    "bias is added later": (
        lambda: hidden(lambda m, x: x @ m.a.weight.t() + m.a.bias, a=LINEAR(8, 6)), FLAT, {"a.weight"}
    ),
    "used twice": (
        lambda: hidden(lambda m, x: m.a(m.a(x).tanh().T.contiguous().T), a=LINEAR(8, 8)), FLAT, {"a.weight"}
    ),
    "tied": (MODULES["tied"][0], MODULES["tied"][1], set()),
    "embedding": (MODULES["embedding"][0], MODULES["embedding"][1], {"1.weight"}),
    "transformer": (
        MODULES["transformer"][0], LONG, {"self_attn.out_proj.weight", "linear1.weight", "linear2.weight"},
    ),
    "groups": (MODULES["groups"][0], IMAGE, {"1.weight"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CENTRED)
def test_layers_behind_parameters_with_a_bias_are_centred(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape, names = CENTRED[case]
    problem = problem_of(make, shape, monkeypatch)
    assert {name for name, each in problem.products.items() if each.centred} == names


def test_centring_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(SHIFTED["convolutions"][0], IMAGE, monkeypatch)
    plain, centred = (problem.gradient_flops(8, Whitening("norm", centred=each)) for each in (False, True))
    assert plain < centred < 2 * plain


def test_a_resumed_run_has_the_means_of_each_worker(tmp_path: Path) -> None:
    """Beside the buffers of the module, which are not lent means."""
    sets = ["workers.count=3", "stop.updates=20", f"trace.path={tmp_path}/t.h5", "code.centre=true"]
    config = resolve({"problem": named("Mixed", "data")}, [*sets, "code.whiten=norm"])
    done = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    states = [worker.model_state for worker in resumed.fleet.executor.local_workers]
    means = [name for name in states[0] if name.startswith("mean ")]
    assert means
    assert len([name for name in states[0] if name.endswith(("_u", "_v"))]) == 2
    for name in means:
        assert len({state[name].tobytes() for state in states}) == 3
    resumed.coordinator.run(resumed.monitor)
    np.testing.assert_array_equal(resumed.coordinator.theta, done.coordinator.theta)


REPLAYED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exchange": (named("Mixed", "data"), {"scheme": {"preset": "default"}, "code": {"whiten": "norm"}}),
    "sum": (named("Convolutions", "data"), {"scheme": {"preset": "ring"}}),
    "no memory": (
        {**named("perceptron", "flat"), "options": {"hidden": 300}},
        {"memory": {"kind": "none"}, "code": {"blocks": 4, "whiten": "gram"}, "optimizer": {"rate": 0.1}},
    ),
    "local": (named("Convolutions", "data"), {"scheme": {"name": "local"}, "code": {"whiten": "norm"}}),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("case", REPLAYED)
def test_a_replay_has_the_same_bits(case: str, tmp_path: Path) -> None:
    problem, tables = REPLAYED[case]
    code = {**tables.get("code", {}), "centre": True}
    config = {"stop": {"updates": 20}, "workers": {"count": 3}, **tables, "problem": problem, "code": code}
    trace = pdcode.simulate(config, output=tmp_path / "f.h5", progress=False)
    assert trace.config["code"]["centre"] is True
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
    assert trace.theta is not None
    assert np.array_equal(trace.replay(progress=False), trace.theta)


NONE: dict[str, tuple[dict[str, Any], str]] = {
    "linear": ({"module": ":module"}, "no linear layer or convolution with a bias is behind parameters"),
    "no factors": (
        {**named("perceptron", "flat"), "factors": False},
        "they are not computed from factors (problem.factors)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_a_line_says_that_nothing_is_centred(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, why = NONE[case]
    monkeypatch.setitem(kinds.OBJECTS, ":module", lambda: LINEAR(64, 10))
    problem = {**named("perceptron", "flat"), **keys}
    config = {"problem": problem, "stop": {"updates": 3}, "code": {"centre": True}}
    trace = pdcode.simulate(config, output=tmp_path / "f.h5")
    assert f"no gradients are by centred inputs (code.centre): {why}" in " ".join(capsys.readouterr())
    assert trace.config["code"]["centre"] is False


def test_functions_are_refused() -> None:
    with refused("code.centre", "'function'", "a network, or kind 'torch'"):
        resolve({"problem": {"kind": "function"}}, ["code.centre=true"])
