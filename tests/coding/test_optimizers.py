"""Optimizers against numpy twins, over every decoder."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.coding import optimizers
from pdcode.config import OptimizerTable, kinds
from pdcode.config.load import resolve
from pdcode.problems.partition import partition
from pdcode.transport.units import Blocks
from pdcode.util.errors import InputError

KINDS = sorted(kinds.KINDS["decoders"])
TABLES = [
    {"kind": "sgd", "rate": 0.3},
    {"kind": "sgd", "rate": 0.3, "momentum": 0.9},
    {"kind": "sgd", "rate": 0.3, "momentum": 0.9, "nesterov": True},
    {"kind": "adam", "rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6},
    {"kind": "sign", "rate": 0.01},
    {"kind": "muon", "rate": 0.01},  # of a θ without matrices
    {"kind": "schedule-free", "rate": 0.3, "inner": 0.8},
]


def layer(number, count, rows, width, offset):
    """A stand-in for a layer's Blocks."""
    size = -(-rows // count)
    return SimpleNamespace(
        layer=number, count=count, rows=rows, width=width, offset=offset, elements=size * width,
        length=rows * width, shape=(size, width),
    )  # fmt: skip


LAYERS = [layer(0, 8, 21, 3, 0), layer(1, 1, 4, 5, 63)]  # coded, with a short last block; whole
SIZE = 83


class Twin:
    """The optimizers in numpy, float64."""

    def __init__(self, table, size):
        self.table = OptimizerTable.of(table)
        self.first, self.second, self.t = np.zeros(size), np.zeros(size), 0
        self.points: list[np.ndarray] = []
        self.weights: list[float] = []

    def step(self, theta, gradient, damping):
        table, rate = self.table, self.table.rate * damping
        if table.kind == "sgd":
            self.first = table.momentum * self.first + gradient
            move = rate * (gradient + table.momentum * self.first if table.nesterov else self.first)
        elif table.kind == "muon":
            self.first = table.momentum * self.first + gradient
            move = rate * (gradient + table.momentum * self.first)
        elif table.kind == "sign":
            move = rate * np.sign(gradient)
        elif table.kind == "schedule-free":
            self.points.append((self.points[-1] if self.points else theta) - rate * gradient)
            self.weights.append(rate**2)
            mean = np.average(self.points, axis=0, weights=self.weights)
            move = theta - (1 - table.inner) * self.points[-1] - table.inner * mean
        else:
            self.t += 1
            self.first = table.beta1 * self.first + (1 - table.beta1) * gradient
            self.second = table.beta2 * self.second + (1 - table.beta2) * gradient**2
            first, second = self.first / (1 - table.beta1**self.t), self.second / (1 - table.beta2**self.t)
            move = rate * first / (np.sqrt(second) + table.epsilon)
        theta -= move
        return np.linalg.norm(move)


def fill(stack, rng, arrivals, dtype, code):
    """Random arrivals for both layers; returns the flat gradient that the decoders then hold."""
    for _ in range(arrivals):
        indices, values = code.rows(int(rng.integers(len(code))), 2)
        stack[0].add_sparse(indices, values.astype(dtype), rng.normal(size=(2, 9)).astype(dtype))
        one = np.ones((1, 1), dtype)
        stack[1].add_sparse(np.zeros((1, 1), np.int32), one, rng.normal(size=(1, 20)).astype(dtype))
    parts = [d.gradient().reshape(-1)[: part.length] for d, part in zip(stack, LAYERS, strict=True)]
    return np.concatenate(parts).astype(np.float64)


@given(
    st.sampled_from(TABLES),
    st.sampled_from(KINDS),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 99),
)
def test_equals_the_numpy_twin(table, kind, dtype, seed):
    rng = np.random.default_rng(seed)
    code = codes.design("net", 16, 8, 2, seed)
    stack = [decoders.create(kind, p.count, p.shape, dtype, length=p.length) for p in LAYERS]
    theta = rng.normal(size=SIZE).astype(dtype)
    expected = theta.astype(np.float64)
    optimizer, twin = optimizers.create(table, SIZE, dtype), Twin(table, SIZE)
    tolerance = {"rtol": 2e-4, "atol": 2e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    for _ in range(5):
        gradient = fill(stack, rng, int(rng.integers(1, 12)), dtype, code)
        damping = float(rng.uniform(0.2, 1))
        norm = twin.step(expected, gradient, damping)
        assert optimizer.step(theta, LAYERS, stack, damping) == pytest.approx(norm, rel=1e-3)
        np.testing.assert_allclose(theta, expected, **tolerance)
        for decoder in stack:
            decoder.reset()
            assert decoder.count == 0
            if kind == "adjoint":
                assert not decoder.accumulator.any()


@pytest.mark.parametrize("arrivals", [1, 2, 3, 40])
def test_blocks_and_whole_layer_give_the_same(arrivals):
    """One arrival, distinct arrivals, and so many that the step passes over everything."""
    rng = np.random.default_rng(arrivals)
    code = codes.design("net", 32, 32, 2)
    part = layer(0, 32, 64, 2, 0)
    decoder = decoders.create("adjoint", 32, part.shape, "float64")
    theta, sent = np.zeros(128), []
    optimizer = optimizers.create({"rate": 0.25}, 128, "float64")
    for start in range(arrivals):
        sent.append(rng.normal(size=(1, 4)))
        indices, values = code.rows(start % 4)  # duplicates
        decoder.add_sparse(indices, values, sent[-1])
    gradient = decoder.gradient().reshape(-1)
    norm = optimizer.step(theta, [part], [decoder])
    np.testing.assert_allclose(theta, -0.25 * gradient, atol=1e-14)
    assert norm == pytest.approx(np.linalg.norm(theta))
    assert not decoder.accumulator.any()
    assert not decoder.touched


def test_reset_after_a_step_does_not_touch_the_accumulator():
    decoder = decoders.create("adjoint", 8, (9,), "float64", length=63)
    optimizer = optimizers.create({}, SIZE, "float64")
    theta, parts = np.zeros(SIZE), [LAYERS[0]]
    stack = [decoder]
    decoder.add(np.eye(8)[2], np.ones(9))
    optimizer.step(theta, parts, stack)
    decoder.accumulator[0] = 7.0  # a mark that only a full clear would remove
    decoder.reset()
    assert decoder.accumulator[0] == 7.0
    assert np.count_nonzero(decoder.accumulator) == 1
    decoder.add(np.eye(8)[2], np.ones(9))
    decoder.reset()  # without a step
    assert not decoder.accumulator.any()


def test_padding_never_reaches_theta_and_is_forgotten():
    """Payloads that are not zero where the last block is short."""
    decoder = decoders.create("adjoint", 8, (9,), "float64", length=63)
    optimizer = optimizers.create({"rate": 1.0}, SIZE, "float64")
    theta, stack = np.zeros(SIZE), [decoder]
    for _ in range(3):
        decoder.add(np.ones(8), np.ones(9))
        optimizer.step(theta, [LAYERS[0]], stack)
        decoder.reset()
        assert not decoder.accumulator.any()
    assert (theta[:63] == -24).all()
    assert not theta[63:].any()


@pytest.mark.parametrize("table", TABLES)
def test_checkpoint(table):
    def advance(optimizer, theta, rng, steps):
        decoder = decoders.create("least_squares", 1, (4,), "float64")
        stack, parts = [decoder], [layer(0, 1, 2, 2, 0)]
        for _ in range(steps):
            decoder.add([1], rng.normal(size=4))
            optimizer.step(theta, parts, stack)
            decoder.reset()

    first, theta = optimizers.create(table, 4, "float64"), np.zeros(4)
    advance(first, theta, np.random.default_rng(0), 3)
    state = first.state_dict()
    second, copy = optimizers.create(table, 4, "float64"), theta.copy()
    second.load_state_dict(state)
    advance(first, theta, np.random.default_rng(1), 3)
    advance(second, copy, np.random.default_rng(1), 3)
    np.testing.assert_array_equal(theta, copy)
    if first.state:
        with pytest.raises(InputError, match="in place of"):
            second.load_state_dict({"state": {}})


CLIPPED = {"rate": 0.1, "momentum": 0.9, "clip": 0.5}
REFERENCES = {
    "adamw": {"kind": "adamw", "rate": 0.05, "weight_decay": 0.3, "vector_decay": 0.02, "epsilon": 1e-6},
    "adam, clipped": {"kind": "adam", "rate": 0.05, "beta1": 0.8, "clip": 0.4, "warmup": 6},
    "heavy ball": CLIPPED | {"schedule": "linear", "updates": 15, "final": 0.1},
    "nesterov": CLIPPED | {"nesterov": True, "schedule": "cosine", "updates": 20, "warmup": 5},
    "decaying": {"rate": 0.1, "weight_decay": 0.5, "vector_decay": 0.1, "schedule": "cosine", "updates": 30},
}


def torch_optimizer(torch, table, matrices, vectors):
    """PyTorch's optimizer and schedule of a table."""
    groups = [
        {"params": matrices, "weight_decay": table.weight_decay},
        {"params": vectors, "weight_decay": table.vector_decay},
    ]
    if table.kind == "sgd":
        more = {"momentum": table.momentum, "nesterov": table.nesterov}
        optimizer = torch.optim.SGD(groups, lr=table.rate, **more)
    else:
        more = {"betas": (table.beta1, table.beta2), "eps": table.epsilon}
        optimizer = torch.optim.AdamW(groups, lr=table.rate, **more)
    schedulers, left, lr = torch.optim.lr_scheduler, (table.updates or 0) - table.warmup, table.rate
    main = {
        "constant": lambda: schedulers.ConstantLR(optimizer, 1.0),
        "linear": lambda: schedulers.LinearLR(optimizer, 1.0, table.final, total_iters=left),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, left, eta_min=table.final * lr),
    }[table.schedule]()
    if table.warmup:
        first = schedulers.LinearLR(optimizer, 1 / (table.warmup + 1), 1.0, total_iters=table.warmup)
        main = schedulers.SequentialLR(optimizer, [first, main], [table.warmup])
    return optimizer, main


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("case", REFERENCES)
def test_equals_pytorch(case, axis):
    """θ of a network's gradients after 20 updates, with PyTorch's clipping."""
    torch = pytest.importorskip("torch")
    table, layers = OptimizerTable.of(REFERENCES[case]), partition([(4, 3), (2, 4)], axis)
    rng = np.random.default_rng(5)
    theta = rng.normal(size=layers[-1].offset + layers[-1].length)
    x, y = (torch.from_numpy(rng.normal(size=(8, width))) for width in (3, 2))
    weights, biases = (
        [torch.tensor(part(each, theta), requires_grad=True) for each in layers]
        for part in (Blocks.unbiased, Blocks.biases)
    )
    reference, scheduler = torch_optimizer(torch, table, weights, biases)
    ours = table.make(len(theta), theta.dtype, None, 1.0, layers)
    stack = [decoders.create("summing", 1, each.shape, "float64") for each in layers]
    for update in range(20):
        reference.zero_grad()
        outputs = torch.tanh(x @ weights[0].T + biases[0]) @ weights[1].T + biases[1]
        (outputs - y).square().sum(1).mean().backward()
        flat = np.empty_like(theta)
        for each, weight, bias in zip(layers, weights, biases, strict=True):
            each.unbiased(flat)[:], each.biases(flat)[:] = weight.grad.numpy(), bias.grad.numpy()
        if table.clip is not None:
            norm = torch.nn.utils.clip_grad_norm_([*weights, *biases], table.clip)
            assert update > 5 or norm > table.clip
        reference.step()
        scheduler.step()
        for each, decoder in zip(layers, stack, strict=True):
            decoder.accumulator[:] = flat[each.offset : each.offset + each.length]
        ours.step(theta, layers, stack, table.factor(update))
        for each, weight, bias in zip(layers, weights, biases, strict=True):
            # PyTorch's clipping adds 1e-6 to the norm.
            exact = {"rtol": 0, "atol": 1e-12 if table.clip is None else 1e-5}
            np.testing.assert_allclose(each.unbiased(theta), weight.detach().numpy(), **exact)
            np.testing.assert_allclose(each.biases(theta), bias.detach().numpy(), **exact)


def test_decay_and_clipping_count_fractions_of_a_gradient():
    layers = partition([(4, 3)])
    optimizer = OptimizerTable.of({"rate": 0.1, "weight_decay": 0.5, "clip": 2.0}).make(
        16, "f8", layers=layers
    )
    theta, stack = np.ones(16), [decoders.create("summing", 1, (4, 4), "float64")]
    stack[0].accumulator[:] = 1.0  # of norm 4
    assert optimizer.step(theta, layers, stack, 0.5, fraction=0.25) == pytest.approx(0.05 * 0.5)
    np.testing.assert_allclose(layers[0].unbiased(theta), 1 - 0.05 * 0.25 * 0.5 - 0.05 * 0.125)
    np.testing.assert_allclose(layers[0].biases(theta), 1 - 0.05 * 0.125)


def schedule_free(theta, layers, gradients, **keys):
    """θ and its average after steps by the gradients of whole vectors."""
    table = OptimizerTable.of({"kind": "schedule-free", "rate": 0.5, **keys})
    made, average = table.make(len(theta), theta.dtype, None, 1.0, layers), theta.copy()
    for update, gradient in enumerate(gradients, 1):
        made.whole_gradient[:] = gradient
        made.step_whole(theta)
        made.average(average, theta, update)
    return theta, average


def test_the_average_of_schedule_free_descent_is_the_mean_of_its_steps():
    theta, average = schedule_free(np.zeros(16), partition([(4, 3)]), [np.ones(16)] * 3, inner=0.75)
    np.testing.assert_allclose(average, -1.0)  # of -0.5, -1 and -1.5
    np.testing.assert_allclose(theta, -0.25 * 1.5 - 0.75)


def test_schedule_free_descent_bounds_gradients_by_layer():
    layers = partition([(8, 1), (2, 8)])  # 16 and 18 elements; a worker's gradient of the first is 2 long
    gradient = np.concatenate([np.full(16, 1.0), np.full(18, 0.01)])
    _, average = schedule_free(np.zeros(34), layers, [gradient], longest=0.3)
    assert np.linalg.norm(average[:16]) == pytest.approx(0.5 * 0.3 * 2)
    np.testing.assert_allclose(average[16:], -0.5 * 0.01)


def test_schedule_free_descent_bounds_layers_in_parts():
    layers, table = partition([(8, 1), (2, 8)]), {"kind": "schedule-free", "longest": 0.3, "clip": 2.0}
    gradient = np.random.default_rng(1).normal(size=34)
    moved = []
    for cuts in ([0, 34], [0, 16, 34], [0, 5, 20, 34]):
        parts = [layer(0, 1, stop - start, 1, start) for start, stop in itertools.pairwise(cuts)]
        stack = [decoders.create("summing", 1, part.shape, "float64") for part in parts]
        for part, decoder in zip(parts, stack, strict=True):
            decoder.accumulator[:] = gradient[part.offset : part.offset + part.length]
        theta = np.zeros(34)
        OptimizerTable.of(table).make(34, theta.dtype, None, 1.0, layers).step(theta, parts, stack)
        moved.append(theta)
    np.testing.assert_allclose(moved, moved[:1] * 3)
    assert moved[0].any()


def test_schedule_free_descent_decays_its_base():
    theta, _ = schedule_free(np.ones(16), partition([(4, 3)]), [np.zeros(16)], weight_decay=0.5)
    np.testing.assert_allclose(partition([(4, 3)])[0].unbiased(theta), 0.75)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["schedule=cosine", "updates=5", "warmup=5"],
            "optimizer.warmup: 5, and the schedule ends at update",
        ),
        (["schedule=linear"], "optimizer.updates: must be given with optimizer.schedule 'linear'"),
        (["final=0.5"], "optimizer.final: 0.5 has no effect with optimizer.schedule 'constant'"),
        (["kind=sign", "clip=1"], "optimizer.clip: 1.0 has no effect with optimizer.kind 'sign'"),
        (["weight_decay=-1"], "optimizer.weight_decay: expected number >= 0.0"),
    ],
)
def test_keys_without_effect_are_refused(keys, message):
    with pytest.raises(InputError, match=re.escape(message)):
        resolve({"stop": {"seconds": 1.0}}, [f"optimizer.{key}" for key in keys])


def test_staleness():
    assert optimizers.create({}, 1, "float32").damping(5) == 1
    inverse = optimizers.create({"staleness": "inverse"}, 1, "float32")
    assert [inverse.damping(s) for s in (0, 1, 3)] == [1, 0.5, 0.25]


def test_bad_input():
    for table, message in [
        (
            {"kind": "newton"},
            "optimizer.kind: expected one of sgd, adam, adamw, .*, schedule-free .got 'newton'",
        ),
        ({"rate": -1.0}, "optimizer.rate: expected number > 0.0"),
        ({"schedule": "step"}, "optimizer.schedule: expected one of constant, linear, cosine"),
        ({"clip": 0}, "optimizer.clip: expected"),
        ({"rate": "fast"}, "optimizer.rate: expected one of any number, auto .got 'fast'"),
        ({"speed": 1}, "optimizer.speed: unknown key"),
    ]:
        with pytest.raises(InputError, match=message):
            optimizers.create(table, 4, "float32")
    optimizer = optimizers.create({}, SIZE, "float32")
    stack = [decoders.create("adjoint", 8, (9,), length=63), decoders.create("adjoint", 1, (21,))]
    with pytest.raises(InputError, match=r"theta: float64 \(83,\) is not float32 \(83,\)"):
        optimizer.step(np.zeros(SIZE), LAYERS, stack)
    with pytest.raises(InputError, match="decoder 1: 1 blocks of 21 elements, 21 in all, not 1 of 20, 20 in"):
        optimizer.step(np.zeros(SIZE, np.float32), LAYERS, stack)


def test_another_theta_or_other_decoders_are_detected():
    optimizer = optimizers.create({"rate": 1.0}, 2, "float64")
    parts = [layer(0, 1, 1, 2, 0)]
    for _ in range(2):
        stack, theta = [decoders.create("adjoint", 1, (2,), "float64")], np.zeros(2)
        stack[0].add([1], [1, 2])
        optimizer.step(theta, parts, stack)
        np.testing.assert_array_equal(theta, [-1, -2])
