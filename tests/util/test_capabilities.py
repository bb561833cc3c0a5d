"""Capabilities that an override withdraws, so that no faster path passes it by."""

from typing import Any

import pytest

from pdcode.coding import optimizers, policies, state
from pdcode.decoders.adding import AddingDecoder
from pdcode.decoders.adjoint import AdjointDecoder
from pdcode.schemes.common import assignments
from pdcode.trace.recorder import Recorder

CLASSES = [
    state.Coded, assignments.Rotating, assignments.Assignment, optimizers.SGD, policies.EachPayload,
    AddingDecoder, AdjointDecoder, Recorder,
]  # fmt: skip
COVERED = [
    (base, capability, method)
    for base in CLASSES
    for capability, methods in base.covers.items()
    if getattr(base, capability) is True
    for method in methods
]


@pytest.mark.parametrize(("base", "capability", "method"), COVERED)
def test_an_override_withdraws_a_capability(base: Any, capability: str, method: str) -> None:
    override = {method: lambda self, *arguments: None}
    made = type("Made", (base,), override)
    assert getattr(made, capability) is False
    assert getattr(type("Below", (made,), {}), capability) is False
    mixed = type("Mixed", (type("Mixin", (), override), base), {})
    assert getattr(mixed, capability) is False, "an override may come from another base class"
    assert getattr(type("Sure", (base,), {**override, capability: True}), capability) is True
    assert getattr(type("Other", (base,), {"unrelated": 1}), capability) is True


def test_a_policy_of_its_own_does_not_count_payloads_unless_it_says_so() -> None:
    class Table(policies.FirstTable, tag="of its own"):
        makes = policies.Quorum

    assert policies.FirstTable.by_count
    assert not Table.by_count


def test_every_covered_method_exists() -> None:
    assert all(hasattr(base, method) for base, _, method in COVERED)
