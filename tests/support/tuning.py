"""Learning rates that are chosen without a run, where it is not their choice that is tested."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import pytest

from pdcode.studies import measurement as cells
from pdcode.studies import rate_tuning as tuning


def without_runs(monkeypatch: pytest.MonkeyPatch, seeds: int = 1) -> None:
    """Have the entrant's own rate found the best of three, each judged by `seeds` runs."""

    def results(asked: Iterable[tuple[int, cells.Cell]], pool: object) -> Iterator[tuple]:
        for number, cell in asked:
            power = tuning.FIRST[number // seeds % len(tuning.FIRST)]
            figures = vars(cells.nothing(cell.config)) | {"failed": False, "loss": abs(power)}
            assert math.isinf(figures["seconds"])  # so that the loss counts
            yield number, (cells.Measured(**figures), {})

    monkeypatch.setattr(tuning, "results", results)
