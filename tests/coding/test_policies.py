"""When rank 0 steps."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding.policies import Policy
from pdcode.config import UpdateTable
from pdcode.config.load import resolve
from pdcode.session.setup import prepare
from pdcode.util.errors import InputError


def state(used: int, captured: float) -> Any:
    return SimpleNamespace(used=used, captured=captured)


def make(workers: int, **keys: Any) -> Policy:
    policy: Policy = UpdateTable.of(keys).make(workers)
    return policy


def test_async_steps_at_every_arrival() -> None:
    assert make(8, mode="async").ready(state(1, 0.0), 7)


def test_all_waits_for_every_outstanding_payload() -> None:
    ready = make(8, mode="all").ready
    assert not ready(state(7, 1.0), 1)
    assert ready(state(8, 1.0), 0)


def test_first_waits_for_count_payloads() -> None:
    ready = make(8, mode="first", count=5).ready
    assert not ready(state(4, 1.0), 4)
    assert ready(state(5, 0.0), 3)
    by_default = make(8, mode="first").ready
    assert not by_default(state(5, 0.0), 3)
    assert by_default(state(6, 0.0), 2)


def test_a_step_of_few_payloads_is_shorter() -> None:
    table = UpdateTable.of({"mode": "first", "full_step": 8})
    assert [table.step_factor(used, 16) for used in (1, 6, 8, 15)] == [0.125, 0.75, 1.0, 1.0]
    assert [table.step_factor(used, 4) for used in (1, 4)] == [0.25, 1.0]
    assert UpdateTable.of({"mode": "first"}).step_factor(1, 16) == 1.0


def test_an_adaptive_count_ends_the_wait_for_a_worker_that_turns_slow() -> None:
    keys = {"mode": "first", "count": "auto", "late": "waste"}  # 6 of 8 workers at first
    policy, patient = make(8, **keys, full_step=8), make(8, **keys)
    for used, now_ns, wake_ns, ready in (
        (2, 1010, None, False),
        (3, 1020, 1080, False),
        (5, 1030, 1080, False),
        (5, 1080, None, True),
        (2, 2000, None, False),
    ):
        progress = SimpleNamespace(used=used, now_ns=now_ns, stepped_ns=1000)
        assert policy.ready(progress, 8 - used) == ready
        assert policy.wake_ns == wake_ns
        assert not patient.ready(progress, 8 - used)
        assert patient.wake_ns is None


def test_captured_waits_for_a_fraction_of_the_gradient() -> None:
    ready = make(8, mode="captured", fraction=0.75).ready
    assert not ready(state(8, 0.74), 3)
    assert ready(state(2, 0.75), 6)


def test_late_payloads_are_used_or_dropped() -> None:
    assert make(8, late="use").usable(99)
    assert not make(8, late="waste").usable(1)


def test_more_payloads_than_workers_are_refused() -> None:
    with pytest.raises(InputError, match=r"update\.count: 9 .* 8 workers"):
        make(8, mode="first", count=9)


@given(st.sampled_from(["async", "all", "first", "captured"]), st.integers(1, 64), st.floats(0, 1))
def test_no_policy_waits_without_outstanding_payloads(mode: str, count: int, captured: float) -> None:
    assert make(64, mode=mode).ready(state(count, captured), 0)


@pytest.mark.parametrize(("workers", "rows", "reached"), [(4, 1, False), (4, 4, True), (16, 1, True)])
def test_a_captured_fraction_that_is_out_of_reach_is_said(workers: int, rows: int, reached: bool) -> None:
    sets = ["code.blocks=16", f"code.rows_per_task={rows}", "memory.kind=none", f"workers.count={workers}"]
    lines = prepare(resolve({}, [*sets, "stop.updates=1", "update={mode='captured',fraction=1}"])).remarks()
    said = [line for line in lines if line.startswith("update.fraction 1 cannot be reached: ")]
    assert bool(said) != reached
    assert reached or "4 workers capture 0.25 of a gradient" in said[0]
