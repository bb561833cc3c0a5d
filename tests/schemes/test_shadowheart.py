"""Shadowheart SGD: the equilibrium time by its definition, what fits into it, and descents in numpy."""

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from networks import NETWORK, Network
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.rivals.shadowheart import equilibrium_s
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.virtual.simulation import Simulation

JOB = [*NETWORK[:-1], "scheme.name=shadowheart", "scheme.options.noise=3", "scheme.options.share=0.3"]
TIMES = st.lists(st.floats(1e-4, 1e2), min_size=1, max_size=9)


@given(TIMES, st.floats(1e-5, 1e2), st.sampled_from([0.0, 0.5, 99.0]), st.sampled_from([0.0, 0.1, 30.0]))
def test_the_equilibrium_time_is_that_of_the_definition(
    times: list[float], message_s: float, variance: float, noise: float
) -> None:
    def excess(s: float, h: np.ndarray) -> float:
        parts = 2 * message_s * variance + 4 * message_s * h * variance * noise / s + 2 * h * noise
        return s - 1 / np.sum(1 / parts) if parts.all() else s

    found, least = equilibrium_s(np.array([*times, np.inf]), message_s, variance, noise), np.inf
    for number in range(1, len(times) + 1):
        h = np.sort(times)[:number]
        low, high = 1e-12, 1e12
        while high > low * (1 + 1e-12):
            middle = np.sqrt(low * high)
            low, high = (low, middle) if excess(middle, h) > 0 else (middle, high)
        least = min(least, max(h[-1], message_s, low))
    assert found == pytest.approx(least, rel=1e-8)


def test_descents_are_those_in_numpy() -> None:
    """Worker 3 is not waited for. Weights and sums are as the paper has them, not normalised by worker."""
    b, m, k = np.array([3, 2, 1, 0]), 2, 0.3
    options = ["scheme.options.gradients=[3,2,1,0]", f"scheme.options.draws={m}", "update.count=3"]
    made = Descent([*JOB, *options, "wire.dtype=float64", "optimizer.rate=0.1"], [1, 1.3, 1.7, 100])
    assert made.run() == "enough"
    units = made.components.scheme.units(made.components.problem)
    elements = made.components.scheme.assignment(units)
    rows = [[elements.row(worker) for worker in range(4)] for _ in range(20)]
    omega = 1 / k - 1
    w = 1 / (b * omega + omega * 3 + m * 3)

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        total = np.zeros_like(theta)
        for worker in range(3):
            batches = network.batches(worker, task, b[worker])
            own = sum(network.gradient(theta, worker, rows) for rows in batches)
            own *= 4 * len(network.shards[worker]["x"]) / network.rows
            for unit, (places, _) in zip(units, elements.codewords(rows[task][worker]), strict=True):
                part = slice(unit.offset, unit.offset + unit.length)
                for draw in places.reshape(m, -1):
                    assert len({*draw}) == np.ceil(k * unit.length)
                    sent = np.zeros(unit.length)
                    sent[draw] = unit.length / len(draw) * own[part][draw]
                    total[part] += w[worker] * sent
        return theta - 0.1 * total / np.sum((w * m * b)[:3])

    Network(made).run(made, step)


def test_a_task_has_the_gradients_and_messages_that_fit_into_the_time() -> None:
    """A worker takes ten times as long, another never answers; at a slow link there are more gradients."""
    job = [*JOB, "machine.flops_per_s=1e7", "machine.task_s=0", "stop.seconds=60", "stop.updates=50"]
    slow = 'stragglers={kind="slow-set",slow=[2],dead=[3],slowdown=10}'
    options = {}
    for bandwidth in (1e5, 1e9):
        run = Simulation(prepare(configfile.resolve({}, [*job, slow, f"link.bandwidth={bandwidth}"])))
        options[bandwidth] = run.config.scheme.options
        scheme = run.components.scheme
        ((line,),) = [[each for each in run.components.notes if "as fit into" in each]]
        assert f"draws {scheme.draws}" in line
        descent, result = run.run()
        fates = descent.coordinator.roster.fates
        assert result.updates == 50
        assert fates[USED] == 50 * run.config.update.count
        assert fates[USED] + fates[WASTED] + fates[DRAINED] == descent.coordinator.roster.arrivals
    at_once, slowly = options[1e9], options[1e5]
    assert at_once.gradients[3] == slowly.gradients[3] == 0
    assert slowly.gradients[0] == slowly.gradients[1] == pytest.approx(10 * slowly.gradients[2], abs=10)
    assert slowly.gradients[0] > at_once.gradients[0] >= 1
    assert at_once.draws == 4  # the share of 0.3 fits four times into a gradient


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.gradients=[1,2]"], ["scheme.options.gradients", "4 workers"]),
        (["scheme.options.gradients=[1,1,1,1]"], ["scheme.options.gradients", "update.count 3"]),
        (["scheme.options.draws=2"], ["scheme.options.draws", "no effect"]),
        (["memory.kind=worker"], ["memory.kind", "unbiased"]),
        (["problem.batch=0"], ["problem.batch"]),
        (["update.mode=async"], ["update.mode"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, ["workers.count=4", "scheme.name=shadowheart", *overrides])
