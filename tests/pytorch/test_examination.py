"""The examination of a module at the start: what would be another model is refused, the rest is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from outcomes import refused
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pdcode
from pdcode.config import kinds, legacy
from pdcode.config.load import resolve

pytestmark = pytest.mark.slow
RANDOM = torch.Generator().manual_seed(1)
PLAIN: dict[str, Any] = {"scheme": {"name": "uncoded"}, "optimizer": {"rate": 0.1}}
X = torch.randn(60, 6, generator=RANDOM)
Y = torch.randint(3, (60,), generator=RANDOM)
TOKENS = torch.randint(9, (60, 4), generator=RANDOM)


def linear() -> nn.Module:
    return nn.Linear(6, 3)


class Mapped(nn.Module):
    """A layer between two others, by a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(6, 4), function, nn.Linear(4, 3)
        self.between = Applied(function)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.between(self.first(x)))


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.w.dtype) @ self.w).abs()


class Words(nn.Module):
    def __init__(self, **keywords: Any) -> None:
        super().__init__()
        self.embed, self.last = nn.Embedding(9, 5, **keywords), nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Any:
        return self.last(self.embed(tokens).mean(1))


class Writing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        self.layer.weight.data /= self.layer.weight.data.norm()
        return self.layer(x)


def hooked() -> nn.Module:
    made = nn.Linear(6, 3)
    made.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    return made


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


class Ragged(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> Any:
        return X[number, : 2 + number % 2], Y[number]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "complex": ({"model": Complex}, "model: parameter 'w' of Complex is complex64, and θ is real"),
    "lazy": ({"model": lambda: nn.LazyLinear(3)}, "model: parameter 'weight' of LazyLinear has no shape"),
    "device": ({"model": nn.Linear(6, 3, device="meta")}, "model: parameter 'weight' of Linear is on meta;"),
    "hook": ({"model": hooked}, "model: parameter 'weight' of Linear has a hook by register_post_accumulate"),
    "hook of a module": ({"model": hooked()}, "model: parameter 'weight' of Linear has a hook by"),
    "max_norm": (
        {"model": Words(max_norm=9.0), "data": (TOKENS, Y)},
        "model: its forward pass writes parameter 'embed.weight' of Embedding, which only the optimizer may",
    ),
    "writes": ({"model": Writing}, "model: its forward pass writes parameter 'layer.weight' of Linear"),
    "class of a loss": ({"loss": nn.MSELoss}, "loss: MSELoss is a class; give an object of it, MSELoss()"),
    "sum": ({"loss": nn.MSELoss(reduction="sum")}, "loss: MSELoss has reduction 'sum'; 'mean', that over"),
    "sum by a function": (
        {"loss": lambda module, x, y: functional.cross_entropy(module(x), y, reduction="sum")},
        "loss: it is twice as large for the same rows twice (",
    ),
    "loss of outputs": (
        {"loss": lambda outputs, y: functional.cross_entropy(outputs, y)},
        "loss: it is called with module and 2 arrays of rows, and has (outputs, y) (too many positional",
    ),
    "loss of three": ({"loss": nn.TripletMarginLoss()}, "loss: TripletMarginLoss is not one of outputs"),
    "classes": ({"model": nn.Linear(6, 2)}, "model: it has outputs for 2 classes: Target 2 is out of"),
    "no length": ({"data": Endless()}, "data: Endless has no length; give a data set with one, or arrays of"),
    "ragged": ({"data": Ragged()}, "data: RuntimeError: stack expects each tensor to be equal size, but"),
    "device as a key": ({"config": {"problem": {"device": "cuda"}}}, "problem.device: unknown key"),
    "the loss as a key": (
        {"config": {"problem": {"loss": "mse_loss"}}},
        "problem.loss: 'mse_loss' has no effect: the argument loss gives it",
    ),
    "the module as a setting": (
        {"set": ["problem.module=a.py:b"]}, "problem.module: 'a.py:b' has no effect: the argument model gives"
    ),
    "another kind": (
        {"config": {"problem": {"kind": "softmax"}}},
        "problem.kind: 'softmax' has no effect: this call trains kind 'torch'",
    ),
    "key of a network": ({"config": {"problem": {"hidden": [3]}}}, "problem.hidden: kind 'torch' has"),
}  # fmt: skip


def train(tmp_path: Path, progress: bool = False, **given: Any) -> Any:
    tables = {"problem": {"batch": 8}, **PLAIN, "stop": {"updates": 4}}
    config = given.pop("config", {})
    arguments = {"model": linear, "data": (X, Y), **given, "config": tables | config}
    return pdcode.torch.train(**arguments, workers=2, output=tmp_path / "a.h5", progress=progress)


@pytest.mark.parametrize("case", REFUSALS)
def test_what_would_be_another_model_is_refused(case: str, tmp_path: Path) -> None:
    given, message = REFUSALS[case]
    with refused(start=message):
        train(tmp_path, **given)
    assert not (tmp_path / "a.h5").exists()


COUNTED = [0.0]


def counting(x: Tensor) -> Tensor:
    COUNTED[0] += 0.01
    return x + COUNTED[0]


NO_MEAN = "problem.loss: the loss of rows is not the mean over parts of them, as with weights of classes"
DIFFERS = "it is not a function of rows and key, and replays will differ; "
LINES: dict[str, tuple[dict[str, Any], str]] = {
    "numpy": (
        {"model": lambda: Mapped(lambda x: x + np.random.rand())},  # noqa: NPY002
        f"{DIFFERS}'between' (Applied) gives other outputs for the same inputs; random numbers must come",
    ),
    "counter": ({"model": lambda: Mapped(counting)}, f"{DIFFERS}'between' (Applied) gives other outputs"),
    "loss": ({"loss": lambda module, *rows: counting(module(*rows[:-1])).mean()}, f"{DIFFERS}random numbers"),
    "float64": (
        {"model": lambda: nn.Linear(6, 3).double()},
        "problem.module: parameters such as 'weight' of Linear are float64, and are trained and returned in "
        "problem.dtype 'float32'; problem.dtype = 'float64' keeps them",
    ),
    "half": ({"model": nn.Linear(6, 3).half()}, "Linear are float16, and are trained and returned in"),
    "mixed": (
        {"model": nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3).double())},
        "problem.module: parameters such as '1.weight' of Linear are float64, and are",
    ),
    "weights of classes": ({"loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0, 0.0]))}, NO_MEAN),
    "ignored targets": ({"data": (X, torch.where(torch.arange(60) % 5 < 2, -100, Y))}, NO_MEAN),
    "loader": (
        {"data": DataLoader(TensorDataset(X, Y), 20)},
        "problem.data: of the DataLoader the rows are taken; mini-batches have problem.batch = 8 of",
    ),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("case", LINES)
def test_the_rest_is_said_in_a_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, words = LINES[case]
    train(tmp_path, progress=True, **given)
    assert sum(words in line for line in capsys.readouterr().out.splitlines()) == 1


class Parts(Dataset[Any]):
    """Rows as dicts."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, number: int) -> Any:
        return {"inputs": X[number], "labels": Y[number]}


ALIKE: dict[str, dict[str, Any]] = {
    "functional": {"loss": functional.cross_entropy},
    "module": {"loss": nn.CrossEntropyLoss()},
    "weighted": {"loss": nn.CrossEntropyLoss(weight=torch.ones(3, dtype=torch.float64))},
    "function": {"loss": lambda module, x, y: functional.cross_entropy(module(x), y), "config": {
        "problem": {"batch": 8, "near_zero": True}}},
    "loader": {"data": DataLoader(TensorDataset(X, Y), 8, shuffle=True)},
    "dicts": {"data": Parts()},
    "dict": {"data": {"x": X, "y": Y}},
}  # fmt: skip


@pytest.mark.parametrize("case", ALIKE)
def test_losses_and_rows_as_scripts_have_them_are_those_of_names(case: str, tmp_path: Path) -> None:
    expected, _ = train(tmp_path)
    found, _ = train(tmp_path, **ALIKE[case])
    np.testing.assert_array_equal(found.theta, expected.theta)
    assert np.isfinite(found.progress["accuracy"]).all() == (case != "function")


def test_training_and_test_loaders_are_a_pair(tmp_path: Path) -> None:
    loaders = [DataLoader(TensorDataset(X[rows], Y[rows]), 8) for rows in (slice(40), slice(40, 60))]
    trace, _ = train(tmp_path, data=loaders)
    assert trace.attributes["rows"] == 40


def test_a_module_of_float64_stays_so_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    trace, module = train(tmp_path, model=nn.Linear(6, 3).double())
    assert module.weight.dtype == torch.float64
    assert trace.theta.dtype == np.float64
    problem = {"batch": 8, "dtype": "float32"}
    _, module = train(tmp_path, model=nn.Linear(6, 3).double(), config={"problem": problem})
    assert module.weight.dtype == torch.float32


def test_complex_buffers_keep_their_imaginary_parts(tmp_path: Path) -> None:
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("turn", torch.polar(torch.ones(3), torch.arange(3.0)))

        def forward(self, x: Tensor) -> Any:
            turned = torch.view_as_complex(x.reshape(-1, 3, 2)) * self.turn
            return self.layer(torch.view_as_real(turned).flatten(1))

    trace, module = train(tmp_path, model=Rotated)
    assert torch.equal(module.turn, Rotated().turn)
    assert np.array_equal(trace.replay(progress=False), trace.theta)


def test_hooks_of_a_module_that_is_given_have_their_effect(tmp_path: Path) -> None:
    module = nn.Linear(6, 3)
    module.weight.register_hook(torch.zeros_like)
    _, trained = train(tmp_path, model=module)
    assert torch.equal(trained.weight, module.weight)
    assert not torch.equal(trained.bias, module.bias)


class Adapted(nn.Module):
    """A frozen layer, and a buffer that the constructor draws."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.base.requires_grad_(False)
        self.register_buffer("shift", torch.randn(4))

    def forward(self, x: Tensor) -> Any:
        return self.last(torch.relu(self.base(x)) + self.shift)


def test_frozen_weights_and_buffers_are_of_the_seed_of_the_run(tmp_path: Path) -> None:
    torch.manual_seed(3)
    alone = Adapted()
    trace, module = train(tmp_path, model=Adapted, config={"seed": 3})
    assert torch.equal(module.base.weight, alone.base.weight)
    assert torch.equal(module.shift, alone.shift)
    assert trace.progress["loss"][0] == pytest.approx(functional.cross_entropy(alone(X), Y).item(), rel=0.2)
    fixed, module = train(
        tmp_path, model=Adapted, config={"seed": 4, "problem": {"batch": 8, "frozen_seed": 3}}
    )
    assert torch.equal(module.base.weight, alone.base.weight)
    assert np.array_equal(fixed.replay(progress=False), fixed.theta)


def test_frozen_weights_follow_the_seed_in_studies_and_were_of_seed_0_in_older_traces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds, "OBJECTS", {":module": linear, ":rows": (X, Y)})
    config = resolve({"problem": {"kind": "torch", "module": ":module", "data": ":rows"}, "seed": 3})
    again, fixed = config.with_seed(5), config.with_keys(problem={"frozen_seed": 2}).with_seed(5)
    assert [each.problem.frozen_seed for each in (config, again, fixed)] == [3, 5, 2]
    tables = msgspec.to_builtins(config)
    del tables["problem"]["frozen_seed"]
    assert legacy.read(tables).problem.frozen_seed == 0
