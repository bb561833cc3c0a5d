"""One bit per parameter: majority votes, error feedback, and the presets of rounded gradients."""

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sides import UNEVEN, Given, assert_learns

from pdcode.coding.memory import MemoryEncoder
from pdcode.config import load as configfile
from pdcode.decoders.majority import MajorityDecoder
from pdcode.session.setup import prepare
from pdcode.transport.layout import Layout, buffer
from pdcode.transport.messages import Reply, Task
from pdcode.transport.units import Unit
from pdcode.util.errors import InputError

SIGNS, UNCODED = ["scheme.name=signsgd"], ["scheme.name=uncoded"]
FOUR = ["code.blocks=1", "workers.count=4"]


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 6), st.integers(1, 20)),
        elements=st.sampled_from([-3, -0.1, 0, 2]),
    )
)  # fmt: skip
def test_the_sign_that_most_have_is_taken(payloads: np.ndarray) -> None:
    decoder = MajorityDecoder(1, payloads.shape[1:], "float64")
    for seen, payload in enumerate(payloads, 1):
        decoder.add([1], payload)
        expected = np.sign(np.sign(payloads[:seen]).sum(axis=0))
        np.testing.assert_array_equal(decoder.gradient()[0], expected)  # which leaves the votes alone
    decoder.solve()
    np.testing.assert_array_equal(decoder.accumulator, expected)
    decoder.reset()
    assert not decoder.gradient().any()


def test_a_step_has_one_length_in_all_coordinates() -> None:
    made = Descent([*SIGNS, *FOUR, "stop.updates=2", "optimizer.rate=0.25"], UNEVEN)
    made.run()
    moved = (made.thetas[0] - made.thetas[1]) / 0.25
    gradients = []
    for worker in made.workers:
        source = worker.encoders[0]._source
        task = Task(made.components.layouts, buffer(made.components.layout.task_bytes)[0])
        source(made.thetas[0], task)  # its first mini-batch
        gradients.append(source.gradient.copy())
    sent = np.array(gradients)
    clear = (sent != 0).all(axis=0)  # a zero is sent by its sign bit
    assert clear.sum() > 100
    np.testing.assert_allclose(moved[clear], np.sign(np.sign(sent).sum(axis=0))[clear], atol=1e-5)


def test_error_feedback_converges_where_signs_do_not() -> None:
    """f(x) = ε|x₁ + x₂| + |x₁ - x₂|: all signs of its gradients are ±(1, -1), which leave x₁ + x₂ as it is
    (a counterexample of Karimireddy et al.). With the memory of what signs lose the sum goes to 0."""
    layout = Layout([Unit(0, 2, 1)], [1], [1], np.dtype("float64"), "sign")
    ends = {}
    for memory in ("none", "worker"):
        source, reply = Given(layout), Reply(layout, buffer(layout.reply_bytes)[0])
        encoder, x = MemoryEncoder(source, reply, memory, [None]), np.ones(2)
        for task in range(4000):
            total, difference = np.sign(x.sum()) or 1, np.sign(x[0] - x[1]) or 1
            encoder.encode(0.1 * total * np.ones(2) + difference * np.array([1.0, -1.0]), source)
            encoder.quantise((1, 0, task))
            x -= 0.01 * reply.payloads[0][0]
        ends[memory] = abs(x.sum())
    assert ends["none"] == pytest.approx(2)
    assert ends["worker"] < 0.1


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        # 4,160 and 650 parameters, a scale for every 1,024, both to multiples of 8
        (SIGNS, (5 * 4 + 520 + 4) + (4 + 82 + 2)),
        ([*UNCODED, "scheme.preset=ef-signsgd"], (5 * 4 + 520 + 4) + (4 + 82 + 2)),
        ([*UNCODED, "scheme.preset=qsgd"], (5 * 4 + 2080 + 4) + (4 + 325 + 7)),
    ],
)
def test_the_bytes_of_a_reply_by_hand(overrides: list[str], size: int) -> None:
    job = ["problem.hidden=[64]", "stop.updates=1"]
    assert prepare(configfile.resolve({}, [*job, *overrides])).layout.payload_bytes == size


@pytest.mark.parametrize(
    "overrides",
    [
        [*SIGNS, "optimizer.rate=0.01"],
        [*SIGNS, "optimizer.rate=0.01", "update.mode=first", "update.late=waste"],
        [*SIGNS, "optimizer.rate=0.01", "downlink.kind=codewords", "downlink.check=1", "wire.dtype=float32"],
        [*SIGNS, "optimizer.rate=0.003", "optimizer.momentum=0.5", "update.mode=async"],
        [*UNCODED, "scheme.preset=ef-signsgd"],
        [*UNCODED, "scheme.preset=ef-signsgd", "update.mode=async", "downlink.kind=codewords"],
        [*UNCODED, "scheme.preset=qsgd"],
    ],
)
def test_it_learns(overrides: list[str]) -> None:
    assert_learns([*FOUR, *overrides])


def test_what_signsgd_cannot_do_is_refused() -> None:
    for key, value in (("memory.kind", "worker"), ("decoder.kind", "tracking"), ("code.blocks", "4")):
        with pytest.raises(InputError, match=rf"{key}: "):
            configfile.resolve({}, [*SIGNS, f"{key}={value}"])
