"""The benchmark `tasks`: what it times gives the same θ, which it checks itself."""

from importlib import import_module

import pytest

from benchmarks import tasks
from benchmarks.__main__ import NAMES

pytestmark = pytest.mark.slow


def test_relayed_arrivals_are_timed_beside_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ENTRIES", 4)
    for wire in ("int2", "int8"):
        for times in tasks.time_relayed(16, 8, wire):
            assert min(times) > 0


@pytest.mark.parametrize("name", NAMES)
def test_all_benchmarks_can_be_imported(name: str) -> None:
    assert callable(import_module(f"benchmarks.{name}").run)
