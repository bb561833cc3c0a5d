"""The examples in docstrings are true; that of `pdcode.run` is tried in tests/mpi."""

import doctest
from pathlib import Path
from typing import Any

import pytest

import pdcode


@pytest.mark.parametrize("target", [pdcode.simulate, pdcode.codes.design])
def test_examples(target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(target)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
