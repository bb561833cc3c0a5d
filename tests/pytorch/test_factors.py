"""Kind "torch": factors of gradients that are read off the graph, and the full gradient where they cannot."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from outcomes import refused
from paths import SUPPORT
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import pdcode
from pdcode import problems
from pdcode.config import Config, ProblemTable, kinds, legacy
from pdcode.config import load as configfile
from pdcode.problems.partition import arrange
from pdcode.problems.whitening import Whitening
from pdcode.session import setup
from pdcode.torch import graph, model

pytestmark = pytest.mark.slow


class Plain(nn.Module):
    """A function of an input and of layers by name."""

    def __init__(self, function: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def tied() -> nn.Module:
    both = Plain(lambda m, x: m.b(m.a(x)), a=nn.Embedding(20, 6), b=nn.Linear(6, 20, bias=False))
    both.b.weight = both.a.weight
    return both


def with_penalty(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + m.a.weight.square().sum() + m.a.bias.sum()


def used_twice(m: Any, x: Tensor) -> Tensor:
    first = m.a(x)
    return m.a(first.relu()) * m.a.bias


def image_layers(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten())


def attention(m: Any, x: Tensor) -> Tensor:
    return m.a(x, x, x, need_weights=False)[0]


FLAT, LONG, IMAGE, TOKENS = (12, 8), (12, 5, 8), (12, 4, 9, 9), (12, 7)
LINEAR, CONV = nn.Linear, nn.Conv2d
# Module, shape of the rows, and how many of its matrices are used in ways that are recognised.
MODULES: dict[str, tuple[Any, tuple[int, ...], int, int]] = {
    "linear": (lambda: LINEAR(8, 20), FLAT, 1, 1),
    "without bias": (lambda: nn.Sequential(LINEAR(8, 20, bias=False), nn.Tanh(), LINEAR(20, 6)), FLAT, 2, 2),
    "three axes": (lambda: nn.Sequential(LINEAR(8, 20), nn.Tanh(), LINEAR(20, 6, bias=False)), LONG, 2, 2),
    "three axes, turned": (lambda: Plain(lambda m, x: m.a(x.transpose(1, 0)), a=LINEAR(8, 20)), LONG, 1, 1),
    "inputs by outputs": (
        lambda: Plain(lambda m, x: x @ m.a.weight + torch.addmm(m.a.bias, x, m.a.weight), a=LINEAR(8, 8)),
        FLAT, 1, 1,
    ),
    "normed, dropout": (
        lambda: nn.Sequential(
            LINEAR(8, 20), nn.BatchNorm1d(20), nn.Dropout(0.3), nn.ReLU(True), LINEAR(20, 6)
        ),
        FLAT, 2, 2,
    ),
    "in place": (
        lambda: nn.Sequential(CONV(4, 20, 3), nn.ReLU(True), CONV(20, 5, 1), nn.ReLU(True), nn.Flatten()),
        IMAGE, 2, 2,
    ),
    "convolution": (lambda: image_layers(CONV(4, 20, 3), CONV(20, 5, 2, bias=False)), IMAGE, 2, 2),
    "stride, padding": (
        lambda: image_layers(CONV(4, 20, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))), IMAGE, 1, 1
    ),
    "circular": (lambda: image_layers(CONV(4, 20, 3, padding=1, padding_mode="circular")), IMAGE, 1, 1),
    "groups": (lambda: image_layers(CONV(4, 20, 3, groups=2), CONV(20, 4, 3)), IMAGE, 2, 1),
    "transposed": (lambda: image_layers(nn.ConvTranspose2d(4, 20, 3), CONV(20, 4, 3)), IMAGE, 2, 1),
    "one axis": (lambda: image_layers(nn.Conv1d(5, 20, 3, padding="same")), LONG, 1, 1),
    "embedding": (lambda: nn.Sequential(nn.Embedding(20, 6, padding_idx=3), LINEAR(6, 4)), TOKENS, 2, 2),
    "sparse embedding": (lambda: nn.Embedding(20, 6, sparse=True), TOKENS, 1, 0),
    "tied": (tied, TOKENS, 1, 0),
    "used twice": (lambda: Plain(used_twice, a=LINEAR(8, 8)), FLAT, 1, 1),
    "penalty": (lambda: Plain(with_penalty, a=LINEAR(8, 20)), FLAT, 1, 0),
    "recurrent": (lambda: Plain(lambda m, x: m.a(x)[0], a=nn.GRU(8, 6, batch_first=True)), LONG, 2, 2),
    "attention": (lambda: Plain(attention, a=nn.MultiheadAttention(8, 2, batch_first=True)), LONG, 2, 2),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 20, 0.1, batch_first=True), LONG, 4, 4),
    "normalised": (lambda: nn.utils.parametrizations.weight_norm(LINEAR(8, 20)), FLAT, 2, 0),
    "einsum": (
        lambda: Plain(lambda m, x: torch.einsum("bi,oi->bo", x, m.a.weight), a=LINEAR(8, 20)), FLAT, 1, 0
    ),
}  # fmt: skip


def weighted(module: nn.Module, x: Tensor) -> Tensor:
    found = module(x)
    weights = torch.linspace(0.5, 2, found[0].numel(), dtype=found.dtype).reshape(found[0].shape)
    return (found * weights).square().mean()


def problem_of(
    make: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, blocks: Any = "units", **keys: Any
) -> problems.Problem:
    random = np.random.default_rng(1)
    rows = random.integers(0, 20, shape) if shape == TOKENS else random.standard_normal(shape)
    objects = {":module": make, ":data": (rows,), ":loss": weighted}
    for name, each in objects.items():
        monkeypatch.setitem(kinds.OBJECTS, name, each)
    names = {"module": ":module", "data": ":data", "loss": ":loss", "dtype": "float64"}
    table = {"kind": "torch", "batch": 0, "factors": True, **names, **keys}
    return problems.Problem.from_dataset(table, problems.RowSet((rows,), (rows[:0],)), blocks)


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("case", MODULES)
def test_factors_give_the_full_gradient(case: str, axis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 to 1e-12, combined by codewords; what is not recognised is in the gradient."""
    make, shape, matrices, known = MODULES[case]
    problem = problem_of(make, shape, monkeypatch, axis=axis)
    mine, random = problem.model, np.random.default_rng(2)
    assert isinstance(mine, model.TorchModel)
    assert sum(len(each) > 1 for each in mine.shapes.values()) == matrices
    names = {*mine.products(problem.dataset.train)}
    assert len(names) == known
    assert mine.why_not_factored(problem.dataset.train) == ("" if known else NOT_KNOWN)
    theta, batch, key = problem.initial(3), tuple(each[2:11] for each in problem.dataset.train), (1, 2, 3, 0)
    gradient, out = np.empty_like(theta), np.full_like(theta, np.nan)
    loss = mine.gradient(theta, batch, gradient, key, mine.state())
    found, factors = mine.factored(theta, batch, out, key, mine.state(), names)
    assert found == loss
    assert factors.keys() == names
    cut = [
        (k, layer) for k in (3, 4) for layer in arrange(mine.shapes, k, axis)[0]
    ]  # last blocks may be short
    for k, layer in cut:
        if layer.name not in names:
            np.testing.assert_allclose(layer.matrix(out), layer.matrix(gradient), rtol=0, atol=1e-12)
            continue
        assert layer.axis == axis
        words, payload = random.standard_normal((2, k)), np.zeros((2 * layer.size, layer.width))
        for each in factors[layer.name]:
            each.add_coded(layer, np.tile(np.arange(k, dtype=np.int32), (2, 1)), words, payload)
        expected = np.einsum("rk,kbm->rbm", words, layer.split(gradient)).reshape(payload.shape)
        np.testing.assert_allclose(payload, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))
        assert np.abs(expected).max() > 0


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(*_: Any) -> Any:
        return None


def hooked(large: bool) -> nn.Module:
    side = 2048 if large else 20
    layers = {"a": LINEAR(8, side), "b": LINEAR(8, side), "c": LINEAR(8, side)}
    layers["a"].weight.register_hook(lambda gradient: 3 * gradient)

    def function(m: Any, x: Tensor) -> Any:
        b = m.b(x)
        b.register_hook(lambda gradient: 3 * gradient)
        b.grad_fn.register_prehook(lambda gradients: tuple(3 * each for each in gradients))
        return m.a(x) * b + NoGradient.apply(m.c(x))

    return Plain(function, **layers)


@pytest.mark.parametrize(("large", "axis"), [(False, "output"), (True, "output"), (True, "input")])
def test_hooks_count_and_errors_may_be_none(large: bool, axis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(lambda: hooked(large), FLAT, monkeypatch, axis=axis)
    mine, theta = problem.model, problem.initial(3)
    assert isinstance(mine, model.TorchModel)
    assert mine.products(problem.dataset.train).keys() == {"b.weight", "c.weight"}
    out = np.empty_like(theta)
    mine.gradient(theta, problem.dataset.train, out, None)
    weighted(mine.module, torch.as_tensor(problem.dataset.train[0])).backward()  # type: ignore[no-untyped-call]
    for name, view in mine.views(out).items():
        expected = mine.module.get_parameter(name).grad
        np.testing.assert_allclose(view, 0 if expected is None else expected, rtol=0, atol=1e-12)


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "perceptron": (lambda: nn.Sequential(LINEAR(8, 64), nn.Tanh(), LINEAR(64, 48, bias=False)), FLAT),
    "attention": (
        lambda: Plain(
            lambda m, x: attention(m, m.b(x)),
            a=nn.MultiheadAttention(96, 2, batch_first=True),
            b=LINEAR(8, 96),
        ),
        LONG,
    ),
    "convolutions": (lambda: image_layers(CONV(4, 32, 3), nn.Tanh(), CONV(32, 32, 3, bias=False)), IMAGE),
    "embedding": MODULES["embedding"][:2],
}


@pytest.mark.parametrize("whiten", [Whitening(), Whitening("gram"), Whitening("gram", 3), Whitening("norm")])
@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("case", MODELS)
def test_plans_with_factors_and_without_are_equal(
    case: str, axis: str, whiten: Whitening, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of(*MODELS[case], monkeypatch, 4, axis=axis)
    random, theta = np.random.default_rng(0), problem.initial(3)
    plans = []
    for products in (problem.products, {}):
        monkeypatch.setattr(problem, "products", products)
        plans.append(problem.plan(3, 2, weight=0.7, whiten=whiten))
    words: list[Any] = [
        problems.sparse_codewords(random.standard_normal((2, each.count)), np.dtype("float64"))
        for each in problem.layers
    ]
    asked = names_asked(problem, monkeypatch)
    for rows in ([0, 3, 5], [1, 4, 7]):
        facts = theta, np.array(rows)
        losses = [plan.coded_derivative(*facts, words, (1, 2, 3, 0)) for plan in plans]
        assert losses[0] == losses[1]
        np.testing.assert_allclose(plans[0].payload, plans[1].payload, rtol=0, atol=1e-9)
        if whiten.kind == "none" or case in ("perceptron", "attention"):
            assert asked  # they are cheaper for one of the matrices
        for plan in plans:
            plan.gradient(*facts, (1, 2, 3, 0))
        np.testing.assert_allclose(plans[0].full_gradient, plans[1].full_gradient, rtol=0, atol=1e-9)


def names_asked(problem: problems.Problem, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the names of matrices that the model is asked factors for."""
    asked: list[str] = []
    original = problem.model.factored

    def factored(*arguments: Any) -> Any:
        asked.extend(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(problem.model, "factored", factored)
    return asked


SCHEMES: dict[str, dict[str, Any]] = {
    "whitened": {"scheme": {"name": "lwpd", "preset": "default"}},
    "coded": {"memory": {"kind": "none"}, "code": {"blocks": 4}, "optimizer": {"rate": 0.01}},
    "streamed": {"scheme": {"name": "streaming"}, "code": {"whiten": "none"}, "optimizer": {"rate": 0.01}},
    "local": {"scheme": {"name": "local"}, "code": {"whiten": "gram"}},
    "whitened, coded": {
        "memory": {"kind": "none"}, "code": {"blocks": 4, "whiten": "gram"}, "optimizer": {"rate": 0.1}
    },
    "along inputs": {
        "memory": {"kind": "none"}, "code": {"blocks": 4}, "optimizer": {"rate": 0.01},
        "problem": {"axis": "input"},
    },
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("case", SCHEMES)
def test_a_run_by_factors_is_shorter_and_replays(case: str, tmp_path: Any) -> None:
    """Beside one by full gradients, whose θ is the same but for rounding."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 8)), random.integers(0, 64, 60)

    def wide() -> nn.Module:
        return nn.Sequential(LINEAR(8, 96), nn.Tanh(), LINEAR(96, 64))

    found = []
    for factors in (False, "auto"):
        keys = SCHEMES[case].get("problem", {})
        problem: Any = {"batch": 4, "dtype": "float64", "factors": factors, **keys}
        machine = {"flops_per_s": 1e8, "task_s": 0.0}
        config = {**SCHEMES[case], "problem": problem, "stop": {"updates": 20}, "machine": machine}
        trace, _ = pdcode.torch.train(
            wide, rows, workers=2, config=config, output=tmp_path / f"{factors}.h5", progress=False
        )
        found.append(trace)
    full, by_factors = found
    assert by_factors.config["problem"]["factors"] is True
    assert np.array_equal(by_factors.replay(progress=False), by_factors.theta)
    assert by_factors.updates["t_ns"][-1] < full.updates["t_ns"][-1]
    if full.config["update"]["mode"] != "async":  # the order of arrivals is the same
        np.testing.assert_allclose(by_factors.theta, full.theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("module", "settings", "steps"),
    [
        ("Convolutions", [], 3),
        ("Convolutions", ["code.steps=2"], 2),
        ("Convolutions", ["code.whiten=norm"], 1),
        ("Convolutions", ["problem.batch=1"], 1),  # too many operations
        ("Convolutions", ["problem.batch=0"], 1),  # not whitened
        ("perceptron", [], 1),
    ],
)
def test_layers_of_several_rows_a_sample_have_further_steps(module, settings, steps) -> None:
    data, file = "flat" if module == "perceptron" else "data", SUPPORT / "modules.py"
    problem = f"problem={{kind='torch', batch=32, module='{file}:{module}', data='{file}:{data}'}}"
    config = configfile.resolve({}, [problem, "scheme.preset=ring", "stop.updates=1", *settings])
    components = setup.prepare(config)
    assert components.config.code.steps == steps
    assert Config.of(msgspec.to_builtins(components.config)) == components.config


def test_recorded_runs_without_the_key_had_full_gradients() -> None:
    table = {"kind": "torch", "module": "m.py:M", "data": "m.py:data"}
    assert problems.as_table(table).factors == "auto"  # type: ignore[attr-defined]
    assert legacy.read_kind(ProblemTable, table).factors is False  # type: ignore[attr-defined]


NOT_KNOWN = "no use of a matrix is recognised"


def doubled(self: graph.Linear, errors: Tensor, bias: bool) -> Any:
    return ORIGINAL(self, 2 * errors, bias)


ORIGINAL = graph.Linear.factors


def checkpointed(m: Any, x: Tensor) -> Any:
    return m.b(checkpoint(lambda y: m.a(y).tanh(), x, use_reentrant=False))


FALLBACKS: dict[str, tuple[Any, str]] = {
    "wrong": (lambda patch: patch.setattr(graph.Linear, "factors", doubled), "by its factors differs by"),
    "names": (lambda patch: patch.setattr(graph, "_saved", lambda node, name: None), NOT_KNOWN),
    "checkpoints": (lambda patch: None, "inputs of layers are not saved, but computed again"),
    "zeros": (lambda patch: None, "a pass of rows of zeros: ValueError: nothing"),
}


def not_zero(m: Any, x: Tensor) -> Any:
    if not x.any():
        raise ValueError("nothing")
    return m.b(m.a(x))


@pytest.mark.every(2)
@pytest.mark.parametrize("case", FALLBACKS)
def test_what_is_wrong_or_unknown_takes_the_full_gradient(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """A line says why, and a replay takes it, too; a run that wants factors is refused."""
    function = {"checkpoints": checkpointed, "zeros": not_zero}.get(case, lambda m, x: m.b(m.a(x)))
    patch, why = FALLBACKS[case]
    patch(monkeypatch)
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 8)).astype(np.float32), random.integers(0, 5, 60)

    def module() -> nn.Module:
        return Plain(function, a=LINEAR(8, 30), b=LINEAR(30, 5))

    config = {"stop": {"updates": 4}, "problem": {"batch": 8}}
    found = {}
    for factors in ("auto", False):
        tables: Any = {**config, "problem": {"batch": 8, "factors": factors}}
        trace, _ = pdcode.torch.train(
            module, rows, workers=2, config=tables, output=tmp_path / f"{factors}.h5", progress=False
        )
        found[factors] = trace
    assert found["auto"].config["problem"]["factors"] is False
    assert np.array_equal(found["auto"].theta, found[False].theta)
    assert np.array_equal(found["auto"].replay(progress=False), found["auto"].theta)
    with refused(
        f"problem.factors: true, but {why}" if case != "wrong" else "problem.factors: true, but the"
    ):
        tables = {**config, "problem": {"batch": 8, "factors": True}}
        pdcode.torch.train(module, rows, workers=2, config=tables, output=tmp_path / "t.h5", progress=False)
