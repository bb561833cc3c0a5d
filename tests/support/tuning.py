"""Settings that are chosen without a run, where it is not their choice that is tested."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pdcode.studies import tuning
from pdcode.studies.measurement import Measured
from pdcode.studies.trial import Trial


def without_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all settings take as long, so that each candidate's own stay."""

    def results(asked: Iterable[tuple[int, Trial]], *more: Any) -> Iterator[tuple[int, Measured]]:
        for number, _ in asked:
            yield number, Measured(seconds=1.0, loss=0.1)

    monkeypatch.setattr(tuning, "perform_all", results)
