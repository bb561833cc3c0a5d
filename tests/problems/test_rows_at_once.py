"""Rows are computed a mini-batch at a time where all at once would take much memory; results are the same."""

from pathlib import Path

import numpy as np
import pytest

import pdcode
from pdcode import problems
from pdcode.config import kinds
from pdcode.problems import model

TORCH = """
import numpy as np
import torch
from torch import nn

COUNTS = []


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.wide, self.last = nn.Linear(3, 4), nn.Linear(1, 80_000), nn.Linear(80_000, 2)

    def forward(self, x):
        COUNTS.append(len(x))
        return self.last(torch.tanh(self.wide(self.first(x)[..., None]))).mean(1)


def data():
    x = np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)
"""
FUNCTION = """
import numpy as np

COUNTS = []
DATA = np.random.default_rng(0).standard_normal((100, 2))


def start(seed):
    return np.ones(2_000_000)


def loss(theta, x):
    COUNTS.append(len(x))
    return float(np.square(theta).mean() / 2 + x.mean()), theta / len(theta)
"""


def counts(kind: str, text: str, folder: Path, **keys: str) -> tuple[problems.Problem, list[int]]:
    path = folder / "own.py"
    path.write_text(text)
    kinds.load_plugin(str(path))
    names = {key: f"{path}:{value}" for key, value in keys.items()}
    problem = problems.create({**names, "kind": kind, "batch": 8})
    return problem, kinds.referenced("", f"{path}:COUNTS")


def test_modules_with_many_activations(tmp_path: Path) -> None:
    """A row keeps 1.3 MB for the backward pass."""
    problem, seen = counts("torch", TORCH, tmp_path, module="Wide", data="data")
    theta = problem.initial(0)
    for compute in (
        lambda: problem.measure(theta),
        lambda: problem.gradient(theta),
        lambda: problem.plan(8, whiten=("norm",)),
    ):
        seen.clear()
        compute()
        assert max(seen) == 8


def test_functions_of_many_parameters(tmp_path: Path) -> None:
    problem, seen = counts("function", FUNCTION, tmp_path, function="loss", start="start", data="DATA")
    found = problem.measure(problem.initial(0))
    assert max(seen) == 8
    assert found.loss == pytest.approx(0.5 + problem.dataset.train[0].mean(), rel=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "mlp", "least-squares"])
def test_networks_give_the_same_by_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"data": "digits"} if kind != "least-squares" else {"data": "synthetic", "samples": 500}
    table = {"kind": kind, **data, "batch": 32, "dtype": "float64", "l2": 0.01}
    whole, problem = problems.create(table), problems.create(table)
    theta, rows = whole.initial(0) + 0.1, np.arange(0, 300, 2)
    expected = whole.measure(theta), whole.loss(theta), whole.gradient(theta), whole.gradient(theta, rows)
    monkeypatch.setattr(model, "PASS_BYTES", 100)
    found = (
        problem.measure(theta),
        problem.loss(theta),
        problem.gradient(theta),
        problem.gradient(theta, rows),
    )
    for each, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, each, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("flops", [7.62e11, 1e20])
def test_a_row_may_take_any_number_of_operations(flops: float, tmp_path: Path) -> None:
    """The clock of a simulation ends at 1e9 s a task."""
    (tmp_path / "own.py").write_text(FUNCTION.replace("2_000_000", "20"))
    names = {
        key: f"{tmp_path}/own.py:{name}"
        for key, name in (("function", "loss"), ("start", "start"), ("data", "DATA"))
    }
    config = {
        "problem": {"kind": "function", "batch": 8, "flops": flops, **names},
        "workers": {"count": 2},
        "scheme": {"name": "uncoded"},
        "stop": {"updates": 2},
    }
    trace = pdcode.simulate(config, output=tmp_path / "t.h5", progress=False)
    task_s = float(np.min(trace.arrivals["t_compute_ns"] - trace.arrivals["t_start_ns"])) / 1e9
    assert task_s == pytest.approx(min(8 * flops / 5e9, 1e9), rel=1e-3)
