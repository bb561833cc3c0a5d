"""`pdcode bench tasks`: what it times gives the same θ, which it checks itself."""

from __future__ import annotations

import pytest

from pdcode.bench import tasks

pytestmark = pytest.mark.slow


def test_relayed_arrivals_are_timed_beside_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ENTRIES", 4)
    for wire in ("int2", "int8"):
        for times in tasks.relayed(16, 8, wire):
            assert min(times) > 0
