"""Cost of a task of kind "torch" beside a plain backward pass.

All times are processor times of this thread, of a step each in turn, so that other work on the machine
changes all of them alike. "Backward" is PyTorch's own: forward pass, loss and ``loss.backward()`` into new
gradients. "Gradient" is a task's: parameters as views of θ, keyed random numbers, and the gradient in one
array. Encoding combines 16 blocks by two codewords, and whitening is one step. "Coded by factors" and
"whitened by factors" are whole tasks that do the same from factors, for matrices where these are cheaper.
"""

from collections.abc import Callable
from time import thread_time_ns
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pdcode.config import kinds
from pdcode.problems import Problem, RowSet, as_table, sparse_codewords
from pdcode.problems.dataset import Rows
from pdcode.problems.whitening import WhitenedGradient, Whitening
from pdcode.torch.losses import functional
from pdcode.torch.small import GPT
from pdcode.util.output import print_line
from pdcode.util.progress import track

ROUNDS, BLOCKS, CODEWORDS = 15, 16, 2
STEPS = "backward", "gradient", "encode", "coded by factors", "whiten", "whitened by factors"


class Residual(nn.Module):
    """A block of two convolutions around which its input is added."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.short = nn.Sequential()
        if stride > 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.short = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.short(x))


def resnet(width: int = 64, classes: int = 10) -> nn.Module:
    """ResNet-18 for small images (He et al. 2016, "Deep residual learning for image recognition")."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage, outputs in enumerate(width << number for number in range(4)):
        for stride in (1 + (stage > 0), 1):
            layers.append(Residual(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def perceptron(width: int = 1024, depth: int = 4) -> nn.Module:
    """A perceptron of equal layers."""
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())][:-1])


def images(rows: int, *shape: int) -> Rows:
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, *shape), np.float32)
    return x, random.integers(0, 10, rows)


def tokens(rows: int, length: int) -> Rows:
    found = np.random.default_rng(0).integers(0, 256, (rows, length + 1))
    return found[:, :-1], found[:, 1:]


class Case(NamedTuple):
    """A module with its rows."""

    make: Callable[[], nn.Module]
    rows: Rows


CASES = {
    "MLP 1024 × 4, 128 rows": Case(perceptron, images(128, 1024)),
    "ResNet-18, 16 images of 32²": Case(resnet, images(16, 3, 32, 32)),
    "GPT 256 × 4, 8 × 128 bytes": Case(GPT, tokens(8, 128)),
}


def run() -> int:
    """Measure, and print the table."""
    print_line(f"one thread, float32; multiples of PyTorch's backward pass, medians of {ROUNDS} rounds")
    print_line(f"{'':28}{'axis':8}{'ms':>8}" + "".join(f"{step:>21}" for step in STEPS[1:]))
    rows = [(name, case, axis) for name, case in CASES.items() for axis in ("output", "input")]
    for name, case, axis in track(rows, len(rows), "modules"):
        times = measure(case, axis, ROUNDS)
        ratios = {step: float(np.median(np.divide(times[step], times["backward"]))) for step in times}
        cells = (f"{ratios[step]:21.2f}" for step in STEPS[1:])
        print_line(f"{name:28}{axis:8}{1e-6 * float(np.median(times['backward'])):8.1f}{''.join(cells)}")
    return 0


def measure(case: Case, axis: str, rounds: int) -> dict[str, list[int]]:
    """Return the times of each step [ns], one a round, with blocks along an axis."""
    keys = {"module": ":bench", "data": ":bench", "batch": 0, "factors": True, "axis": axis}
    table = as_table({"kind": "torch", **keys})
    kinds.OBJECTS[":bench"] = case.make
    try:
        rows = RowSet(case.rows, tuple(each[:0] for each in case.rows))
        steps = _steps(Problem.from_dataset(table, rows, BLOCKS), case)
    finally:
        del kinds.OBJECTS[":bench"]
    found: dict[str, list[int]] = {step: [] for step in steps}
    for number in range(rounds + 1):
        for step, perform in steps.items():
            began_ns = thread_time_ns()
            perform()
            if number:  # the first round allocates
                found[step].append(thread_time_ns() - began_ns)
    return found


def _steps(problem: Problem, case: Case) -> dict[str, Callable[[], object]]:
    """Return the steps to be timed."""
    theta, plain, loss = problem.initial(1), case.make(), functional("cross_entropy")
    tensors, whitening = [torch.as_tensor(each) for each in case.rows], Whitening("gram")
    random, key = np.random.default_rng(0), (1, 2, 3, 0)
    plan, coded = (problem.plan(0, CODEWORDS) for _ in range(2))
    whitened = problem.plan(0, whiten=whitening)
    words = [
        sparse_codewords(
            random.choice([-1.0, 1.0], (1 if each.uncoded else CODEWORDS, each.count)), problem.dtype
        )
        for each in problem.layers
    ]

    def backward() -> None:
        plain.zero_grad(set_to_none=True)
        loss(plain, *tensors).backward()

    formed = [WhitenedGradient(each, each.matrix(plan.full_gradient), whitening) for each in problem.layers]
    return {
        "backward": backward,
        "gradient": lambda: plan.gradient(theta, None, key),
        "encode": lambda: plan.encode(words),
        "coded by factors": lambda: coded.coded_derivative(theta, None, words, key),
        "whiten": lambda: [each.run() for each in formed],
        "whitened by factors": lambda: whitened.gradient(theta, None, key),
    }
