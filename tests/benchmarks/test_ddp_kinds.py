"""θ of DDP is that of pdcode's allreduce for all kinds of problem and optimizer, by PyTorch itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import ddp
from pdcode.studies.named_candidates import named_candidates

pytestmark = pytest.mark.slow

COMMON = ["workers.count=3", "problem.batch=16", "problem.l2=0.01", "update.mode=all", "stop.updates=9"]
DOUBLE = "problem.dtype=float64"
CASES = {
    "mlp, gelu": ["problem.data=digits", "problem.hidden=[12, 7]", "problem.activation=gelu", DOUBLE],
    "mlp, tanh, float32": [
        "problem.data=digits", "problem.hidden=[12]", "problem.activation=tanh", "problem.axis=input",
        "problem.penalise_bias=true",
    ],
    "mlp, regression": ["problem.data=diabetes", "problem.hidden=[5]", DOUBLE],
    "softmax, momentum": ["problem.kind=softmax", "problem.data=digits", "optimizer.momentum=0.9", DOUBLE],
    "softmax, Nesterov": [
        "problem.kind=softmax", "problem.data=digits", "optimizer.momentum=0.9", "optimizer.nesterov=true",
        DOUBLE,
    ],
    "Muon, a penalty": ["problem.data=digits", "problem.hidden=[12]", "optimizer.kind=muon", DOUBLE],
    "Adam, a penalty of biases, too": [
        "problem.kind=softmax", "problem.data=digits", "problem.penalise_bias=true", "optimizer.kind=adam",
        DOUBLE,
    ],
    "logistic": ["problem.kind=logistic", "problem.data=breast-cancer", DOUBLE],
    "least squares": ["problem.kind=least-squares", "problem.data=diabetes", "optimizer.rate=0.05", DOUBLE],
    "all rows": ["problem.kind=softmax", "problem.data=digits", "problem.batch=0", DOUBLE],
}  # fmt: skip


@pytest.fixture(scope="module")
def ranks() -> Iterator[ddp.DDPRanks]:
    with ddp.DDPRanks(3) as started:
        yield started


def test_theta_is_that_of_allreduce(ranks: ddp.DDPRanks) -> None:
    for name, settings in CASES.items():
        made = named_candidates({}, [*COMMON, *settings], Path(), "ddp", ddp.ALIASES)
        ddp.check(made)
        (line,) = ddp.self_check(made, ranks)  # raises where θ differs
        assert line.startswith("After 5 updates θ of ddp equals θ of allreduce"), name


def test_the_hook_of_pdcode_trains_with_few_bytes(ranks: ddp.DDPRanks) -> None:
    settings = [*COMMON, "problem.data=digits", "problem.hidden=[64]", "stop.updates=30"]
    made = named_candidates({}, settings, Path(), "ddp:coded/optimizer.rate=0.2", ddp.ALIASES)
    ddp.check(made)
    assert [*ddp.self_check(made, ranks)] == []
    run = ddp.train(made[0].config, ranks, "coded")
    assert run.updates == 30
    assert run.points[-1, 2] < run.points[0, 2] / 2
    assert 0 < run.gathered < 4 * run.problem.size / 30
