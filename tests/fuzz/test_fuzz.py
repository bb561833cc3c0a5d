"""A short slice of the fuzzing of files; `fuzz_files.py` runs any number of cases."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_files

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "count"), [("virtual", 20), ("codes", 40)])
def test_damaged_files_end_in_one_line(kind: str, count: int) -> None:
    results = list(fuzz_files.fuzz(kind, range(count), seed=0))
    assert len(results) >= count
    assert [result for result in results if result.problem] == []
    refused = sum(": damaged: " in result.text for result in results)
    assert refused > count // 5


@pytest.mark.parametrize("kind", ["configurations", "data"])
def test_damaged_inputs_end_in_one_line(kind: str) -> None:
    results = list(fuzz_files.fuzz(kind, range(60), seed=0))
    assert len(results) == 60
    assert [result for result in results if result.problem] == []
    assert sum(bool(result.text) for result in results) > 30
