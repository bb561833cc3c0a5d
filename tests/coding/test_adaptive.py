"""Codes that rank 0 fits to what it has seen: their state, their rows, and that workers get the same."""

from types import SimpleNamespace

import numpy as np
import pytest
from descents import Descent
from reference import dense

from pdcode.schemes.common.adaptive import Energy
from pdcode.transport.units import Blocks

F8 = np.dtype("float64")
LAYERS = [
    Blocks(0, "output", 16, 32, 5, 0),
    Blocks(1, "output", 16, 16, 3, 160),
    Blocks(2, "output", 1, 2, 3, 208),
]
ENERGIES = [np.arange(1.0, 17) ** -2, np.arange(16.0, 0, -1) ** -2]


def arrive(made: Energy, row: int, random: np.random.Generator) -> None:
    """The payload of a gradient whose blocks have the layers' energies."""
    words, payloads = made.codewords(row), []
    for layer, pair, energies in zip(LAYERS, words, [*ENERGIES, np.ones(1)], strict=True):
        blocks = np.sqrt(energies[:, None]) * random.normal(size=(layer.count, layer.elements))
        payloads.append(dense(*pair, layer.count) @ blocks)
    made.arrived(SimpleNamespace(codewords=words, payloads=payloads))


def energy(each_update: bool = False, weights: tuple[int, ...] = (4, 4, 1)) -> Energy:
    return Energy(LAYERS, [2, 2, 1], F8, weights, seed=3, decay=0.9, each_update=each_update)


def test_energy_codes_follow_the_energies_of_their_own_layer() -> None:
    made, random = energy(), np.random.default_rng(0)
    for _ in range(400):
        arrive(made, made.row(0), random)
    for number, energies in enumerate(ENERGIES):
        shares = np.zeros(16)
        for _ in range(64):
            shares += (dense(*made.codewords(made.row(0))[number], 16) ** 2).sum(axis=0)
        loud, quiet = energies.argmax(), energies.argmin()
        assert shares[loud] > 5 * shares[quiet]
        assert shares[quiet] > 0  # each block is its own row's


def test_energy_codewords_are_unit_vectors_and_each_block_has_a_row_in_every_turn() -> None:
    made, random = energy(), np.random.default_rng(1)
    for _ in range(5):
        words = np.vstack([dense(*made.codewords(made.row(0))[0], 16) for _ in range(8)])
        np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-12)
        assert (np.abs(words).max(axis=0) > 0).all()
        assert ((words != 0).sum(axis=1) == 4).all()
        arrive(made, made.row(0), random)
        made._next = -(-made._next // 16) * 16


def test_the_same_arrivals_lead_to_the_same_codewords_to_the_last_bit() -> None:
    first, second = energy(each_update=True), energy(each_update=True)
    for made in (first, second):
        random = np.random.default_rng(2)
        for _ in range(30):
            row = made.row(0)
            made.codewords(row)
            arrive(made, row, random)
            made.stepped()
    for mine, theirs in zip(first.codewords(first.row(0)), second.codewords(second.row(0)), strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])


@pytest.mark.parametrize("mode", ["async", "all"])
def test_layers_with_equally_many_blocks_have_their_own_codewords_at_the_workers_too(mode: str) -> None:
    """With EF and the plain sum nothing is lost, unless a worker encodes by other codewords than rank 0
    decodes by."""
    made = Descent(
        [
            "code.family=energy", "code.blocks=[8,8,1]", "code.rows_per_task=2", "problem.hidden=[16,16]",
            f"update.mode={mode}", "workers.count=3", "problem.dtype=float64", "stop.updates=12",
        ],
        [1, 2, 3],
    )  # fmt: skip
    folded = [np.zeros(made.components.problem.size) for _ in range(3)]
    gradients = [np.zeros(made.components.problem.size) for _ in range(3)]
    arrived = made.state.assignment.arrived

    def watch(arrival: object) -> None:
        for layer, pair, payload in zip(
            made.components.layout.units, arrival.codewords, arrival.payloads, strict=True
        ):
            part = slice(layer.offset, layer.offset + layer.length)
            decoded = (dense(*pair, layer.count).T @ payload).reshape(-1)[: layer.length]
            folded[arrival.worker][part] += decoded
        arrived(arrival)

    made.state.assignment.arrived = watch
    for worker in made.workers:
        plan = worker.encoders[0].source._plan
        whole = plan.gradient

        def gradient(*arguments: object, worker=worker, plan=plan, whole=whole) -> float:
            loss = whole(*arguments)
            gradients[worker.worker] += plan.full_gradient
            return loss

        plan.gradient = gradient
    assert made.run() == "enough"
    drained = {row["worker"] for row in made.trace.arrivals if row["status"] == 2}
    for worker in set(range(3)) - drained:
        kept = made.workers[worker].encoders[0].residual
        np.testing.assert_allclose(folded[worker] + kept, gradients[worker], atol=1e-12)
    assert len(drained) < 3
    words = [pair[1] for pair in made.state.assignment.codewords(made.state.assignment.row(0))]
    assert words[0].shape == words[1].shape
    assert (words[0] != words[1]).any()
