"""Rank 0's state where workers add up their payloads, and what cannot be added up."""

import numpy as np
import pytest
from outcomes import refused
from paths import SUPPORT

from pdcode.coding.replica import ReplicaError, digest
from pdcode.coding.state import State
from pdcode.config import load as configfile
from pdcode.reductions.states import ReducedState
from pdcode.session.setup import prepare
from pdcode.transport.layout import RETURNED
from pdcode.transport.sums import Sum

BITS = ["scheme.name=uncoded", "reduce.bits=8", "memory.kind=worker", "update.mode=all"]
JOB = ["problem.hidden=[8]", "workers.count=3", "stop.updates=1", "scheme.name=allreduce"]


def made(check: int) -> tuple[ReducedState, Sum]:
    components = prepare(configfile.resolve({}, JOB))
    return ReducedState(components.state, 3, check), Sum(components.layout, 0, 3)


def test_the_state_steps_by_the_sum_of_all_workers() -> None:
    state, total = made(2)
    before = state.theta.copy()
    for payload in total.reply.payloads:
        payload[:] = 3.0
    orders = [state.order(worker, 0).codewords for worker in range(3)]
    assert orders[0] is orders[1] is orders[2]
    total.arrival.codewords = orders[0]
    for worker in range(3):
        total.arrival.worker = worker
        captured = state.fold(total.arrival)
        assert captured == (1.0 if worker == 2 else 0.0)
    assert state.step(1.0) == pytest.approx(0.1 * np.sqrt(len(before)), rel=1e-5)
    np.testing.assert_allclose(state.theta, before - 0.1, atol=1e-6)  # the mean of 3 is 1
    assert state.digest == 0  # due at every second update
    assert state.order(0, 1).codewords is not orders[0]


def test_a_worker_with_another_theta_is_named() -> None:
    state, total = made(1)
    assert state.digest == digest(state.theta)
    arrival = total.arrival
    arrival.worker, arrival.version, arrival.codewords = 1, 0, state.order(1, 0).codewords
    arrival.digest = state.digest
    state.fold(arrival)
    arrival.digest += 1
    with pytest.raises(ReplicaError, match=r"reduce\.kind: worker 1's θ .* at version 0"):
        state.fold(arrival)


def test_a_payload_that_is_left_out_counts_in_no_step_and_returns_to_its_worker() -> None:
    """A worker that dies while the members of an update average their payloads, with ``full_step``."""
    first = ["reduce.kind=allreduce", "update.mode=first", "update.late=waste", "update.full_step=3"]

    def stepped(senders: list[int], damping: float, *omitted: tuple[int, int]) -> State:
        components = prepare(configfile.resolve({}, [*JOB, "scheme.name=uncoded", *first]))
        state, total = components.state, Sum(components.layout, 0, 3)
        state.recorded = omitted
        for payload in total.reply.payloads:
            payload[:] = 3.0
        for worker in senders:
            total.arrival.worker, total.arrival.codewords = worker, state.order(worker, 0).codewords
            state.fold(total.arrival)
        state.step(damping)
        return state

    without = stepped([0, 1], 2 / 3, (1, 0))
    np.testing.assert_array_equal(without.theta, stepped([0], 1 / 3).theta)
    assert [without.order(worker, 1).flags & RETURNED for worker in range(3)] == [0, RETURNED, 0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["update.mode=async"], ["update.mode: 'async'", "needs 'all' or 'first'"]),
        (["update.mode=first", "update.late=use"], ["update.late: 'use'", "needs 'waste'"]),
        (
            ["scheme.name=uncoded", "update.mode=first", "update.full_step=4", "memory.kind=worker"],
            ["update.full_step: 4 has no effect", "memory.kind 'worker'"],
        ),
        (["update.mode=quorum", "update.late=waste"], ["update.mode: 'quorum'", "needs 'all' or 'first'"]),
        (
            ["scheme.name=powersgd", "reduce.kind=allreduce", "update.mode=first", "update.late=waste"],
            ["update.mode: 'first'", "needs 'all'"],
        ),
        (
            ["scheme.name=powersgd", "reduce.kind=allreduce", "wire.dtype=int8"],
            ["wire.dtype: 'int8'", "leave it out", "several rounds"],
        ),
        (["downlink.kind=codewords"], ["downlink.kind: 'codewords'"]),
        (["decoder.kind=least_squares"], ["decoder.kind: 'least_squares'", "only the sum of the payloads"]),
        (["memory.kind=coordinator"], ["decoder.kind: 'tracking'"]),
        (["reduce.kind=star"], ["reduce.kind: 'star'", "scheme 'uncoded'"]),
        (["reduce.kind=ring"], ["reduce.kind", "'ring'"]),
        (
            ["scheme.name=cyclic", "reduce.kind=allreduce", "update.mode=all"],
            ["reduce.kind: 'allreduce'", "scheme 'cyclic'"],
        ),
        (
            ["scheme.name=topk", "reduce.kind=allreduce", "update.mode=all", "wire.dtype=float32"],
            ["scheme 'topk'", "choose"],
        ),
        (["scheme.name=demo", "reduce.kind=allreduce"], ["scheme 'demo'", "choose"]),
        (
            ["scheme.name=randomk", "reduce.kind=allreduce", "update.mode=all", "wire.dtype=float32"],
            ["code.blocks", "1 sends"],
        ),
        (["scheme.name=uncoded", "reduce.fanout=3"], ["reduce.fanout: 3 has no effect"]),
        (
            ["scheme.name=uncoded", "reduce.kind=tree", "update.mode=all"],
            ["reduce.bits: none", "'tree'", "a number of bits"],
        ),
        ([*BITS, "memory.kind=none"], ["memory.kind: 'none'", "reduce.bits 8", "needs 'worker'"]),
        ([*BITS, "reduce.bits=17"], ["reduce.bits", "16"]),
        ([*BITS, "reduce.bits=4", "workers.count=17"], ["workers.count: 17", "reduce.bits 4", "log₂ n bits"]),
        ([*BITS, "wire.dtype=int8"], ["wire.dtype: 'int8'", "leave it out"]),
        ([*BITS, "update.mode=first"], ["update.mode: 'first'", "needs 'all'"]),
        ([*BITS, "update.clip=median"], ["update.clip: 'median'"]),
        ([*BITS, "scheme.name=topk", "wire.dtype=float32"], ["reduce.bits: 8", "choose codewords"]),
        ([*BITS, "scheme.name=powersgd"], ["reduce.bits: 8", "a state of its own"]),
        (
            ["scheme.name=uncoded", "reduce.check=3"],
            ["reduce.check: 3 has no effect with reduce.kind 'star'"],
        ),
    ],
)
def test_configurations_without_sums_are_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        prepare(configfile.resolve({}, [*JOB, *overrides]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["scheme.name=uncoded", "memory.kind=difference"],
        ["scheme.name=uncoded", "optimizer.kind=adam", "wire.dtype=float32"],
        ["scheme.name=local", "wire.dtype=qsgd"],
        ["scheme.name=powersgd"],
        ["scheme.name=lwpd", "code.blocks=1"],
        ["scheme.name=lwpd"],
        [*BITS, "scheme.name=local", "problem.dtype=float64"],
        [*BITS, "scheme.name=lwpd", "code.rotate=false"],
        [f'plugins=["{SUPPORT / "clipped.py"}"]', "scheme.name=clipped"],
    ],
)
def test_configurations_with_sums_are_accepted(overrides: list[str]) -> None:
    prepare(configfile.resolve({}, [*JOB, *overrides, "reduce.kind=allreduce", "update.mode=all"]))
