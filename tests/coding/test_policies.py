"""When rank 0 steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding import policies
from pdcode.config import UpdateTable
from pdcode.util.errors import InputError


def state(used: int, captured: float) -> Any:
    return SimpleNamespace(used=used, captured=captured)


def test_async_steps_at_every_arrival() -> None:
    assert policies.Policy(UpdateTable(mode="async"), 8).ready(state(1, 0.0), 7)


def test_all_waits_for_everything_that_is_out() -> None:
    ready = policies.Policy(UpdateTable(mode="all"), 8).ready
    assert not ready(state(7, 1.0), 1)
    assert ready(state(8, 1.0), 0)


def test_first_waits_for_so_many() -> None:
    ready = policies.Policy(UpdateTable(mode="first", count=5), 8).ready
    assert not ready(state(4, 1.0), 4)
    assert ready(state(5, 0.0), 3)
    by_default = policies.Policy(UpdateTable(mode="first"), 8).ready
    assert not by_default(state(5, 0.0), 3)
    assert by_default(state(6, 0.0), 2)


def test_captured_waits_for_a_share_of_the_gradient() -> None:
    ready = policies.Policy(UpdateTable(mode="captured", fraction=0.75), 8).ready
    assert not ready(state(8, 0.74), 3)
    assert ready(state(2, 0.75), 6)


def test_late_payloads_are_used_or_dropped() -> None:
    assert policies.Policy(UpdateTable(late="use"), 8).usable(99)
    assert not policies.Policy(UpdateTable(late="waste"), 8).usable(1)


def test_more_payloads_than_workers_are_refused() -> None:
    with pytest.raises(InputError, match=r"update\.count: 9 .* 8 workers"):
        policies.Policy(UpdateTable(mode="first", count=9), 8)


@given(st.sampled_from(["async", "all", "first", "captured"]), st.integers(1, 64), st.floats(0, 1))
def test_no_policy_waits_when_nothing_is_out(mode: str, count: int, captured: float) -> None:
    assert policies.Policy(UpdateTable(mode=mode), 64).ready(state(count, captured), 0)
